package txn

import (
	"fmt"

	"github.com/tidwall/btree"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
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

// Entry is the change to one entry of an aggregate: it comes (Delta +1), goes
// (-1), or stays with another weight (0).
type Entry struct {
	Delta int8
	// Was is the weight of an entry that was there, Is of one that is there
	// now. Both are none in an aggregate without weights.
	Was, Is aggregate.Weight
}

// then returns the change of e and then of next. ok is false when that is none.
func (e Entry) then(key string, next Entry) (both Entry, ok bool) {
	both = Entry{Delta: e.Delta + next.Delta, Was: e.Was, Is: next.Is}
	present := e.Delta >= 0
	if present == (next.Delta > 0) {
		panic(fmt.Sprintf("broken invariant: aggregate entry %x is present: %v, and changes by %d", key, present, next.Delta))
	}
	switch {
	case both.Delta != 0:
		return both, true
	case e.Delta > 0:
		return both, false // it came and went
	}
	return both, both.Was != both.Is
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
	entries btree.Map[string, Entry]
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

// Entry puts a change of an aggregate's entry on top of what was changed before.
// An entry removed and put back as it was, or put and removed, leaves no change.
// It panics when an entry would be present or absent twice: the caller derives
// entries from documents, so that is a broken invariant.
func (o *Overlay) Entry(key []byte, e Entry) {
	k := string(key)
	if have, changed := o.entries.Get(k); changed {
		both, ok := have.then(k, e)
		if e = both; !ok {
			o.entries.Delete(k)
			o.gen++
			return
		}
	}
	o.entries.Set(k, e)
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
func (o *Overlay) EachEntry(r keys.Range, f func(key string, e Entry) bool) {
	end := string(r.End)
	o.entries.Ascend(string(r.Start), func(k string, e Entry) bool {
		if r.End != nil && k >= end {
			return false
		}
		return f(k, e)
	})
}

// Any reports whether f says so of a changed key, entries of aggregates
// included.
func (o *Overlay) Any(f func(key string) bool) (found bool) {
	o.writes.Scan(func(k string, _ Write) bool {
		found = f(k)
		return !found
	})
	if !found {
		o.entries.Scan(func(k string, _ Entry) bool {
			found = f(k)
			return !found
		})
	}
	return found
}

// CountEntries returns the sum of the deltas of the entries in r.
func (o *Overlay) CountEntries(r keys.Range) (n int64) {
	o.EachEntry(r, func(_ string, e Entry) bool {
		n += int64(e.Delta)
		return true
	})
	return n
}

// KeyedEntry is the change to the entry under a key.
type KeyedEntry struct {
	Key string
	Entry
}

// Entries returns the changes that all layers together make to the entries of
// r, in order.
func (v *View) Entries(r keys.Range) []KeyedEntry {
	var all *Overlay // the lower layers merged
	for i := len(v.Layers) - 1; i >= 0; i-- {
		o := v.Layers[i]
		if o.entries.Len() == 0 {
			continue
		}
		if all == nil {
			all = o
			continue
		}
		merged := new(Overlay)
		for _, part := range []*Overlay{all, o} {
			part.EachEntry(r, func(k string, e Entry) bool {
				merged.Entry([]byte(k), e)
				return true
			})
		}
		all = merged
	}
	var out []KeyedEntry
	if all != nil {
		all.EachEntry(r, func(k string, e Entry) bool {
			out = append(out, KeyedEntry{k, e})
			return true
		})
	}
	return out
}

// Clone returns an overlay with the same changes. The two share slices.
func (o *Overlay) Clone() *Overlay {
	return &Overlay{writes: *o.writes.Copy(), entries: *o.entries.Copy()}
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
	top.entries.Scan(func(k string, e Entry) bool {
		o.Entry([]byte(k), e)
		return true
	})
	o.gen++
}
