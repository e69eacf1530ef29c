package yjs

import (
	"fmt"
	"maps"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// Snapshot names a state of a document: what had been inserted and what of it
// deleted. It holds no content; that comes from a document that has seen the
// state and has not collected its garbage.
type Snapshot struct {
	State   StateVector
	Deleted *DeleteSet
}

// Snapshot returns the current state.
func (d *Doc) Snapshot() *Snapshot { return &Snapshot{State: d.State(), Deleted: d.Deleted()} }

// Encode returns the snapshot as bytes.
func (s *Snapshot) Encode(v Version) []byte { return s.State.appendTo(s.Deleted.appendTo(nil, v)) }

// DecodeSnapshot reads a snapshot.
func DecodeSnapshot(b []byte, v Version) (*Snapshot, error) {
	r := lib0.NewReader(view(b))
	s := &Snapshot{Deleted: &DeleteSet{}}
	readDeleteSet(&r, v, s.Deleted)
	s.Deleted.normalize()
	s.State = readStateVector(&r)
	if r.Err() == nil && r.Len() > 0 {
		r.Fail("bytes after the snapshot")
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("decode snapshot: %w", err)
	}
	return s, nil
}

// Equal reports whether both name the same state.
func (s *Snapshot) Equal(o *Snapshot) bool {
	return maps.Equal(s.State, o.State) && s.Deleted.Equal(o.Deleted)
}

// Contains reports whether an update brings nothing that s does not have. It is
// how a server tells that a reader's answer to its sync request is harmless.
func (s *Snapshot) Contains(update []byte, v Version) (bool, error) {
	c := Codec{Version: v}
	var d decoder
	d.init(view(update), c.version(), c.Limits)
	contained := true
	var b block
	for d.next(&b) {
		contained = contained && s.State[b.client] >= b.end()
	}
	var deleted DeleteSet
	if _, _, err := d.finish(&deleted); err != nil {
		return false, fmt.Errorf("compare update with snapshot: %w", err)
	}
	return contained && s.Deleted.Covers(&deleted), nil
}

// visibleAt reports whether an item was there at a snapshot; nil means now.
func (d *Doc) visibleAt(it *item, s *Snapshot) bool {
	if s == nil {
		return !it.deleted()
	}
	id := d.store.id(it.id)
	return s.State[id.Client] > id.Clock && !s.Deleted.Contains(id)
}

// splitAt makes items start and end where a snapshot needs it.
func (tx *Transaction) splitAt(s *Snapshot) {
	if _, done := tx.snapshots[s]; done || s == nil {
		return
	}
	if tx.snapshots == nil {
		tx.snapshots = map[*Snapshot]struct{}{}
	}
	tx.snapshots[s] = struct{}{}
	st := &tx.doc.store
	for client, clock := range s.State {
		if i := st.lookup(client); i >= 0 && clock < st.state(i) {
			tx.cleanStart(makeRef(i, clock))
		}
	}
	s.Deleted.normalize()
	tx.deletedItems(s.Deleted, func(*item) {})
}

// Restore returns a new document that is as this one was at a snapshot. The
// document must not collect its garbage.
func (d *Doc) Restore(s *Snapshot, opts *Options) (*Doc, error) {
	if d.settings.GC {
		return nil, fmt.Errorf("restore snapshot: %w", ErrCollected)
	}
	e := &encoder{}
	var err error
	d.edit(func(tx *Transaction) {
		st := &d.store
		clients := make([]int, 0, len(s.State))
		for client, clock := range s.State {
			i := st.lookup(client)
			if clock == 0 {
				continue
			}
			if i < 0 || clock > st.state(i) {
				err = fmt.Errorf("restore snapshot: %w: it is ahead of the document", ErrRange)
				return
			}
			if clock < st.state(i) {
				tx.cleanStart(makeRef(i, clock))
			}
			clients = append(clients, i)
		}
		e.init(V1, 0)
		d.encodeUpTo(e, s.State, clients)
	})
	if err != nil {
		return nil, err
	}
	update, err := e.finish(s.Deleted)
	if err != nil {
		return nil, fmt.Errorf("restore snapshot: %w", err)
	}
	restored := NewDoc(opts)
	if err := restored.Apply(update, "snapshot"); err != nil {
		return nil, fmt.Errorf("restore snapshot: %w", err)
	}
	return restored, nil
}

// encodeUpTo writes the items of clients below the clocks of a state.
func (d *Doc) encodeUpTo(e *encoder, sv StateVector, clients []int) {
	var b block
	for _, i := range clients {
		c := &d.store.clients[i]
		for _, it := range c.items {
			if it.clock() >= sv[c.client] {
				break
			}
			d.block(it, &b)
			e.write(&b, 0)
		}
	}
}

// DeltaAt returns the content of the text at a snapshot.
func (t Text) DeltaAt(s *Snapshot) Delta {
	var d Delta
	t.b.doc.edit(func(tx *Transaction) {
		tx.splitAt(s)
		d = t.b.delta(s)
	})
	return d
}

// DeltaBetween returns the text as it was at either snapshot, with what has
// been added and removed since from marked by an attribute named ychange, an
// object whose type is "added" or "removed".
func (t Text) DeltaBetween(from, to *Snapshot) Delta {
	var d deltaBuilder
	doc := t.b.doc
	doc.edit(func(tx *Transaction) {
		tx.splitAt(from)
		tx.splitAt(to)
		added := &attr{value: Object{{Key: "type", Value: "added"}}}
		removed := &attr{value: Object{{Key: "type", Value: "removed"}}}
		for it := t.b.start; it != nil; it = it.right {
			before, after := doc.visibleAt(it, from), doc.visibleAt(it, to)
			if !before && !after {
				continue
			}
			switch it.kind {
			case kindString:
				mark := d.attrs.get("ychange")
				want := mark
				switch {
				case !after:
					want = removed
				case !before:
					want = added
				default:
					want = nil
				}
				if want != mark {
					d.flush()
					if want == nil {
						d.attrs.remove("ychange")
					} else {
						d.attrs.set("ychange", want)
					}
				}
				d.text = append(d.text, it.text()...)
			case kindType, kindEmbed, kindDoc:
				d.flush()
				v, _ := it.single()
				d.ops = append(d.ops, Op{Insert: v, Attributes: d.attrs.public()})
			case kindFormat:
				if after {
					d.flush()
					d.attrs.apply(it.format())
				}
			}
		}
		d.flush()
	})
	return d.ops
}

// ValuesAt returns the elements of the array at a snapshot.
func (a Array) ValuesAt(s *Snapshot) []any {
	var out []any
	a.b.doc.edit(func(tx *Transaction) {
		tx.splitAt(s)
		for it := a.b.start; it != nil; it = it.right {
			if it.countable() && a.b.doc.visibleAt(it, s) {
				out = append(out, it.values()...)
			}
		}
	})
	return out
}

// GetAt returns the value of a key at a snapshot.
func (m Map) GetAt(s *Snapshot, key string) (v any, ok bool) {
	doc := m.b.doc
	it := m.b.keys.get(key)
	for it != nil {
		id := doc.store.id(it.id)
		if id.Clock < s.State[id.Client] {
			break
		}
		it = it.left
	}
	if it == nil || !it.countable() || !doc.visibleAt(it, s) {
		return nil, false
	}
	return it.lastValue(), true
}
