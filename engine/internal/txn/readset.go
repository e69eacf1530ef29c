package txn

import (
	"bytes"
	"slices"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
)

// ReadSet is the keys and ranges that a function's answer depends on. The zero
// value is empty and usable. It is not safe for concurrent use.
type ReadSet struct {
	points []string
	// index has the points when there are many. Most functions read a few, for
	// which it would cost more than it saves.
	index  map[string]struct{}
	ranges []keys.Range
}

// pointsUnindexed is how many points are looked through one by one.
const pointsUnindexed = 12

// AddPoint records a read of one key, whether or not it exists. The key is copied.
func (r *ReadSet) AddPoint(key []byte) {
	if r.index != nil {
		if _, ok := r.index[string(key)]; ok {
			return
		}
	} else {
		for _, p := range r.points {
			if p == string(key) {
				return
			}
		}
	}
	p := string(key)
	r.points = append(r.points, p)
	switch {
	case r.index != nil:
		r.index[p] = struct{}{}
	case len(r.points) > pointsUnindexed:
		r.index = make(map[string]struct{}, 4*pointsUnindexed)
		for _, p := range r.points {
			r.index[p] = struct{}{}
		}
	}
}

// AddRange records a read of every key in a range, present or not. The range's
// slices are kept. A range that continues the one added last extends it, so
// that a page read in steps stays one interval.
func (r *ReadSet) AddRange(rg keys.Range) {
	if rg.Empty() {
		return
	}
	if n := len(r.ranges); n > 0 {
		last := &r.ranges[n-1]
		if bytes.Equal(last.Start, rg.Start) && bytes.Equal(last.End, rg.End) {
			return
		}
		if last.End != nil && bytes.Equal(last.End, rg.Start) {
			last.End = rg.End
			return
		}
	}
	r.ranges = append(r.ranges, rg)
}

// Len returns the number of points and ranges together.
func (r *ReadSet) Len() int { return len(r.points) + len(r.ranges) }

// Ranges returns the ranges, not to be modified.
func (r *ReadSet) Ranges() []keys.Range { return r.ranges }

// Points returns the keys read by themselves, sorted, in a new slice.
func (r *ReadSet) Points() [][]byte {
	out := make([][]byte, 0, len(r.points))
	for _, k := range r.points {
		out = append(out, []byte(k))
	}
	slices.SortFunc(out, bytes.Compare)
	return out
}

// EachPoint calls f for every key read by itself until f returns false.
func (r *ReadSet) EachPoint(f func(key string) bool) {
	for _, k := range r.points {
		if !f(k) {
			return
		}
	}
}

// Contains reports whether a key was read, by itself or as part of a range.
func (r *ReadSet) Contains(key string) bool {
	if r.index != nil {
		if _, ok := r.index[key]; ok {
			return true
		}
	} else if slices.Contains(r.points, key) {
		return true
	}
	return slices.ContainsFunc(r.ranges, func(rg keys.Range) bool {
		return key >= string(rg.Start) && (rg.End == nil || key < string(rg.End))
	})
}

// Reset empties the set and keeps its memory.
func (r *ReadSet) Reset() {
	clear(r.points)
	r.points, r.index = r.points[:0], nil
	r.ranges = r.ranges[:0]
}
