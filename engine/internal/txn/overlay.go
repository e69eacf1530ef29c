package txn

import (
	"fmt"

	"github.com/tidwall/btree"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
)

// Write is one change to a stored key.
type Write struct {
	Value   []byte // nil for an index entry, which has no value
	Deleted bool
	Touched bool // an index entry that stays while its document changes: read sets see it, the store does not
	// Stamped says that bytes StampOffset.. of Value are a commit timestamp,
	// filled in when the order of commits is known.
	Stamped bool
}

// StampOffset and StampSize say where a stamped value carries its commit
// timestamp, big-endian.
const (
	StampOffset = 1
	StampSize   = 8
)

// Overlay is a set of changes on top of something older. The zero value is
// empty and usable. It is not safe for concurrent use.
type Overlay struct {
	writes  btree.Map[string, Write]
	entries btree.Map[string, int8]
	gen     uint64 // changes with every modification, so that iterators notice
}

// Set puts a value. The overlay keeps the slice.
func (o *Overlay) Set(key []byte, w Write) {
	o.writes.Set(string(key), w)
	o.gen++
}

// Delete removes a key.
func (o *Overlay) Delete(key []byte) { o.Set(key, Write{Deleted: true}) }

// Touch says that the entry under key stays as it is while the document it
// points to changes. A change to the entry itself is kept.
func (o *Overlay) Touch(key []byte) {
	if _, changed := o.writes.Get(string(key)); !changed {
		o.Set(key, Write{Touched: true})
	}
}

// Get returns the change to key, if there is one.
func (o *Overlay) Get(key []byte) (Write, bool) { return o.writes.Get(string(key)) }

// Entry adds delta (+1 or -1) to the presence of an aggregate's entry. An
// entry removed and put back, or put and removed, leaves no change. It panics
// when an entry would be present or absent twice: the caller derives entries
// from documents, so that is a broken invariant.
func (o *Overlay) Entry(key []byte, delta int8) {
	k := string(key)
	have, _ := o.entries.Get(k)
	switch sum := have + delta; sum {
	case 0:
		o.entries.Delete(k)
	case 1, -1:
		o.entries.Set(k, sum)
	default:
		panic(fmt.Sprintf("broken invariant: aggregate entry %x counted %d times", key, sum))
	}
	o.gen++
}

// Empty reports whether the overlay changes nothing.
func (o *Overlay) Empty() bool { return o.writes.Len() == 0 && o.entries.Len() == 0 }

// Len returns the number of changed keys and entries.
func (o *Overlay) Len() int { return o.writes.Len() + o.entries.Len() }

// EachWrite calls f for every changed key in order until f returns false.
func (o *Overlay) EachWrite(f func(key string, w Write) bool) { o.writes.Scan(f) }

// EachEntry calls f for every changed aggregate entry in r, in order, until f
// returns false.
func (o *Overlay) EachEntry(r keys.Range, f func(key string, delta int8) bool) {
	end := string(r.End)
	o.entries.Ascend(string(r.Start), func(k string, d int8) bool {
		if r.End != nil && k >= end {
			return false
		}
		return f(k, d)
	})
}

// CountEntries returns the sum of the deltas of the entries in r.
func (o *Overlay) CountEntries(r keys.Range) (n int64) {
	o.EachEntry(r, func(_ string, d int8) bool {
		n += int64(d)
		return true
	})
	return n
}

// Merge puts the changes of top over those of o. Both may share slices then.
func (o *Overlay) Merge(top *Overlay) {
	top.writes.Scan(func(k string, w Write) bool {
		if w.Touched {
			if _, changed := o.writes.Get(k); changed {
				return true
			}
		}
		o.writes.Set(k, w)
		return true
	})
	top.entries.Scan(func(k string, d int8) bool {
		o.Entry([]byte(k), d)
		return true
	})
	o.gen++
}
