package txn

import (
	"errors"

	"github.com/tidwall/btree"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
)

// View reads through overlays, the newest first, down to a snapshot. It does
// not record what is read.
type View struct {
	Layers []*Overlay
	Base   *store.Snapshot
}

// Get returns the value under key. The slice must not be modified.
func (v *View) Get(key []byte) (val []byte, ok bool, err error) {
	if w, changed := v.Changed(key); changed {
		return w.Value, !w.Deleted, nil
	}
	return v.Base.Get(key)
}

// Changed returns the newest change to key that is not in the snapshot.
func (v *View) Changed(key []byte) (Write, bool) {
	for _, o := range v.Layers {
		if w, changed := o.Get(key); changed {
			return w, true
		}
	}
	return Write{}, false
}

// Iterate returns an iterator over the keys of r in one direction, standing
// before the first. The caller closes it. Changes made to the overlays while
// it is open are seen at keys it has not reached.
func (v *View) Iterate(r keys.Range, reverse bool) (*Iterator, error) {
	base, err := v.Base.Iterate(r.Start, r.End)
	if err != nil {
		return nil, err
	}
	it := &Iterator{r: r, end: string(r.End), reverse: reverse, base: base}
	for _, o := range v.Layers {
		it.layers = append(it.layers, layer{o: o})
	}
	return it, nil
}

// Iterator merges the layers of a View. Key and Value are valid until the next
// move.
type Iterator struct {
	r       keys.Range
	end     string
	reverse bool
	layers  []layer
	base    *store.Iterator
	started bool
	baseOK  bool
	key     []byte
	val     []byte
}

type layer struct {
	o   *Overlay
	it  btree.MapIter[string, Write]
	gen uint64
	ok  bool
}

// Next moves to the next key in the iterator's direction.
func (i *Iterator) Next() bool {
	for {
		i.move()
		if !i.baseOK && !i.anyLayer() {
			return false
		}
		w, fromLayer := i.pick()
		if !fromLayer {
			i.key = append(i.key[:0], i.base.Key()...)
			i.val = i.base.Value()
			return true
		}
		if !w.Deleted {
			i.val = w.Value
			return true
		}
	}
}

// move brings the base and every layer past the key last returned.
func (i *Iterator) move() {
	if !i.started {
		i.started = true
		if i.reverse {
			i.baseOK = i.base.Last()
		} else {
			i.baseOK = i.base.First()
		}
		for n := range i.layers {
			i.seek(&i.layers[n], i.boundary())
		}
		return
	}
	if i.baseOK && string(i.base.Key()) == string(i.key) {
		if i.reverse {
			i.baseOK = i.base.Prev()
		} else {
			i.baseOK = i.base.Next()
		}
	}
	for n := range i.layers {
		l := &i.layers[n]
		switch {
		case l.gen != l.o.gen:
			i.seek(l, string(i.key))
		case l.ok && l.it.Key() == string(i.key):
			if i.reverse {
				l.ok = l.it.Prev() && i.inside(l.it.Key())
			} else {
				l.ok = l.it.Next() && i.inside(l.it.Key())
			}
		}
	}
}

func (i *Iterator) boundary() string {
	if i.reverse {
		return i.end
	}
	return string(i.r.Start)
}

// seek positions a layer strictly after from, or at the boundary itself at the start.
func (i *Iterator) seek(l *layer, from string) {
	l.gen, l.it = l.o.gen, l.o.writes.Iter()
	if i.reverse {
		// Strictly before from; an empty from at the start is an open end.
		if from == "" && i.r.End == nil {
			l.ok = l.it.Last()
		} else if l.ok = l.it.Seek(from); l.ok {
			l.ok = l.it.Prev()
		} else {
			l.ok = l.it.Last()
		}
	} else {
		l.ok = l.it.Seek(from)
		if l.ok && len(i.key) > 0 && l.it.Key() == string(i.key) {
			l.ok = l.it.Next()
		}
	}
	l.ok = l.ok && i.inside(l.it.Key())
}

func (i *Iterator) inside(k string) bool {
	return k >= string(i.r.Start) && (i.r.End == nil || k < i.end)
}

func (i *Iterator) anyLayer() bool {
	for n := range i.layers {
		if i.layers[n].ok {
			return true
		}
	}
	return false
}

// pick chooses the key that comes first; of equal keys the topmost layer wins.
// It sets i.key when a layer wins. REQUIRES: the base or a layer stands on a key.
func (i *Iterator) pick() (Write, bool) {
	best := -1
	for n := range i.layers {
		l := &i.layers[n]
		if !l.ok {
			continue
		}
		if best < 0 || i.before(l.it.Key(), i.layers[best].it.Key()) {
			best = n
		}
	}
	if best < 0 {
		return Write{}, false
	}
	k := i.layers[best].it.Key()
	if i.baseOK && i.before(string(i.base.Key()), k) {
		return Write{}, false
	}
	i.key = append(i.key[:0], k...)
	return i.layers[best].it.Value(), true
}

func (i *Iterator) before(a, b string) bool {
	if i.reverse {
		return a > b
	}
	return a < b
}

// Key returns the key the iterator stands on.
func (i *Iterator) Key() []byte { return i.key }

// Value returns the value under that key.
func (i *Iterator) Value() []byte { return i.val }

// InternalSteps returns how many keys the store went over so far.
func (i *Iterator) InternalSteps() int { return i.base.InternalSteps() }

// Close frees the iterator and returns what stopped it early, if anything did.
func (i *Iterator) Close() error { return errors.Join(i.base.Err(), i.base.Close()) }
