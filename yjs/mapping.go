package yjs

import (
	"fmt"
	"iter"
	"slices"
)

// Map holds values by key. Of concurrent changes of a key one wins, the same
// for everybody.
type Map struct{ b *branch }

// NewMap returns a detached map with the given members.
func NewMap(members ...Member) (Map, error) {
	m := Map{newBranch(KindMap, "")}
	for _, e := range members {
		if err := m.Set(e.Key, e.Value); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (m Map) base() *branch { return m.b }

// Kind returns KindMap, or KindXMLHook for the map of a hook.
func (m Map) Kind() TypeKind {
	if m.b.kind == KindXMLHook {
		return KindXMLHook
	}
	return KindMap
}

// Parent returns the type that holds this one.
func (m Map) Parent() Type { return m.b.parentType() }

// Deleted reports whether the map has been deleted.
func (m Map) Deleted() bool { return m.b.dead() }

// Len is the number of keys.
func (m Map) Len() int {
	n := 0
	for _, it := range m.b.keys.items {
		if !it.deleted() {
			n++
		}
	}
	return n
}

// Set sets a key.
func (m Map) Set(key string, v any) error { return setAttribute(m.b, key, v) }

func setAttribute(b *branch, key string, v any) error {
	key = clean(key)
	var err error
	if b.detached() {
		err = placeDetached([]any{v}, func() {
			p := b.prelimOf()
			if i := slices.IndexFunc(p.keys, func(e Member) bool { return e.Key == key }); i >= 0 {
				p.keys[i].Value = v
				return
			}
			p.keys = append(p.keys, Member{Key: key, Value: v})
		})
	} else {
		err = place([]any{v}, func() error {
			return b.change(func(tx *Transaction) error { return tx.setKey(b, key, v) })
		})
	}
	if err != nil {
		return fmt.Errorf("set %q: %w", key, err)
	}
	return nil
}

// Delete removes a key.
func (m Map) Delete(key string) error { return removeAttribute(m.b, key) }

func removeAttribute(b *branch, key string) error {
	if b.detached() {
		if p := b.prelim; p != nil {
			p.keys = slices.DeleteFunc(p.keys, func(e Member) bool { return e.Key == key })
		}
		return nil
	}
	err := b.change(func(tx *Transaction) error {
		tx.deleteKey(b, key)
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete %q: %w", key, err)
	}
	return nil
}

// Clear removes all keys.
func (m Map) Clear() error {
	if m.b.detached() {
		m.b.prelim = nil
		return nil
	}
	return m.b.change(func(tx *Transaction) error {
		for _, it := range m.b.keys.items {
			tx.delete(it)
		}
		return nil
	})
}

// Get returns the value of a key.
func (m Map) Get(key string) (v any, ok bool) { return m.b.key(key) }

// Has reports whether a key is set.
func (m Map) Has(key string) bool {
	it := m.b.keys.get(key)
	return it != nil && !it.deleted()
}

// All iterates over the keys in the order in which they came into the map.
func (m Map) All() iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for _, it := range slices.Clone(m.b.keys.items) {
			if !it.deleted() && !yield(it.sub, it.lastValue()) {
				return
			}
		}
	}
}

// Keys returns the keys in sorted order.
func (m Map) Keys() []string {
	keys := m.b.liveKeys()
	slices.Sort(keys)
	return keys
}

func (b *branch) liveKeys() []string {
	var keys []string
	for _, it := range b.keys.items {
		if !it.deleted() {
			keys = append(keys, it.sub)
		}
	}
	return keys
}

// AppendJSON appends the map as a JSON object with sorted keys.
func (m Map) AppendJSON(dst []byte) []byte { return m.b.appendMapJSON(dst) }

// Observe calls f after each transaction that changed a key of the map.
func (m Map) Observe(f func(*Event)) (cancel func()) { return m.b.observe(f) }

// ObserveDeep calls f after each transaction that changed the map or anything
// in it.
func (m Map) ObserveDeep(f func([]*Event)) (cancel func()) { return m.b.observeDeep(f) }
