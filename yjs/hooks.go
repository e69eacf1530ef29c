package yjs

import "slices"

// handlers is a list of callbacks.
type handlers[T any] struct{ list []*handler[T] }

type handler[T any] struct{ f func(T) }

func (h *handlers[T]) empty() bool { return len(h.list) == 0 }

// add returns a function that removes f again; calling it twice is harmless.
func (h *handlers[T]) add(f func(T)) (cancel func()) {
	e := &handler[T]{f}
	// Callers iterate over the list they found, so it is never changed in place.
	h.list = append(slices.Clone(h.list), e)
	return func() {
		if i := slices.Index(h.list, e); i >= 0 {
			h.list = slices.Concat(h.list[:i], h.list[i+1:])
		}
	}
}

func (h *handlers[T]) call(v T) {
	for _, e := range h.list {
		e.f(v)
	}
}

// hooks are the callbacks of a document.
type hooks struct {
	after     handlers[*Transaction]
	updates   handlers[Update]
	updatesV2 handlers[Update]
	subdocs   handlers[SubdocsEvent]
	destroy   handlers[*Doc]
}

func (d *Doc) hook() *hooks {
	if d.hooks == nil {
		d.hooks = &hooks{}
	}
	return d.hooks
}

// Update is what a transaction changed, encoded for peers.
type Update struct {
	Version Version
	// Bytes is the update; it belongs to the receiver, but is shared between
	// all of them.
	Bytes []byte
	// Origin is what the caller of Transact or Apply gave.
	Origin any
	// Transaction is the transaction the update is of.
	Transaction *Transaction
}

// OnUpdate calls f with the V1 update of each transaction that changed
// something, in order.
func (d *Doc) OnUpdate(f func(Update)) (cancel func()) { return d.hook().updates.add(f) }

// OnUpdateV2 is OnUpdate for V2.
func (d *Doc) OnUpdateV2(f func(Update)) (cancel func()) { return d.hook().updatesV2.add(f) }

// OnTransaction calls f after each transaction, when the observers have been
// called and before the update is sent.
func (d *Doc) OnTransaction(f func(*Transaction)) (cancel func()) { return d.hook().after.add(f) }

// OnDestroy calls f when the document is destroyed.
func (d *Doc) OnDestroy(f func(*Doc)) (cancel func()) { return d.hook().destroy.add(f) }
