package yjs

import (
	"cmp"
	"iter"
	"slices"
	"sort"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// Range is a run of clocks of one client.
type Range struct {
	Clock uint64
	Len   uint64
}

// End is the first clock after the range.
func (r Range) End() uint64 { return r.Clock + r.Len }

type clientRanges struct {
	client uint64
	ranges []Range
}

// DeleteSet is a set of IDs kept as ranges, used for what has been deleted.
// The zero value is an empty set.
type DeleteSet struct {
	clients []clientRanges
	last    int            // index of the client added to last
	index   map[uint64]int // by client, once there are many
	dirty   bool           // whether ranges may be unsorted or touch
}

// manyClients is where a linear search gives way to a map.
const manyClients = 8

func (s *DeleteSet) find(client uint64) int {
	if s.last < len(s.clients) && s.clients[s.last].client == client {
		return s.last
	}
	if s.index != nil {
		if i, ok := s.index[client]; ok {
			return i
		}
		return -1
	}
	for i := range s.clients {
		if s.clients[i].client == client {
			return i
		}
	}
	return -1
}

func (s *DeleteSet) entry(client uint64) *clientRanges {
	i := s.find(client)
	if i < 0 {
		i = len(s.clients)
		s.clients = append(s.clients, clientRanges{client: client})
		if s.index != nil {
			s.index[client] = i
		} else if i >= manyClients {
			s.reindex()
		}
	}
	s.last = i
	return &s.clients[i]
}

func (s *DeleteSet) reindex() {
	s.last, s.index = 0, nil
	if len(s.clients) > manyClients {
		s.index = make(map[uint64]int, len(s.clients))
		for i, c := range s.clients {
			s.index[c.client] = i
		}
	}
}

// Add puts n clocks of a client, starting at clock, into the set.
func (s *DeleteSet) Add(client, clock, n uint64) {
	e := s.entry(client)
	if k := len(e.ranges); k > 0 {
		switch end := e.ranges[k-1].End(); {
		case end == clock:
			e.ranges[k-1].Len += n
			return
		case end > clock:
			s.dirty = true
		}
	}
	e.ranges = append(e.ranges, Range{clock, n})
}

// normalize sorts the ranges of each client and joins those that touch. The
// clients stay in the order they came in.
func (s *DeleteSet) normalize() {
	if !s.dirty {
		return
	}
	for i := range s.clients {
		s.clients[i].ranges = joinRanges(s.clients[i].ranges)
	}
	s.dirty = false
}

// sorted returns the clients in descending order.
func (s *DeleteSet) sorted() []clientRanges {
	s.normalize()
	down := func(a, b clientRanges) int { return cmp.Compare(b.client, a.client) }
	if slices.IsSortedFunc(s.clients, down) {
		return s.clients
	}
	c := slices.Clone(s.clients)
	slices.SortFunc(c, down)
	return c
}

func joinRanges(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int { return cmp.Compare(a.Clock, b.Clock) })
	out := ranges[:0]
	for _, r := range ranges {
		if n := len(out); n > 0 && out[n-1].End() >= r.Clock {
			out[n-1].Len = max(out[n-1].End(), r.End()) - out[n-1].Clock
			continue
		}
		out = append(out, r)
	}
	return out
}

// Merge puts all of other into s.
func (s *DeleteSet) Merge(other *DeleteSet) {
	for _, c := range other.clients {
		e := s.entry(c.client)
		if n := len(e.ranges); n > 0 && len(c.ranges) > 0 && e.ranges[n-1].End() >= c.ranges[0].Clock {
			s.dirty = true
		}
		e.ranges = append(e.ranges, c.ranges...)
	}
	s.dirty = s.dirty || other.dirty
}

// Empty reports whether nothing is in the set.
func (s *DeleteSet) Empty() bool { return len(s.clients) == 0 }

// Contains reports whether id is in the set.
func (s *DeleteSet) Contains(id ID) bool {
	if s.dirty {
		s.normalize()
	}
	i := s.find(id.Client)
	if i < 0 {
		return false
	}
	_, ok := findRange(s.clients[i].ranges, id.Clock)
	return ok
}

// findRange returns the index of the range that holds clock, or where it would
// be inserted.
func findRange(ranges []Range, clock uint64) (int, bool) {
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i].End() > clock })
	return i, i < len(ranges) && ranges[i].Clock <= clock
}

// covers reports whether all of the range is in the set, which is normalized.
func (s *DeleteSet) covers(client uint64, r Range) bool {
	i := s.find(client)
	if i < 0 {
		return false
	}
	ranges := s.clients[i].ranges
	k, ok := findRange(ranges, r.Clock)
	return ok && ranges[k].End() >= r.End()
}

// Covers reports whether everything of other is in s.
func (s *DeleteSet) Covers(other *DeleteSet) bool {
	s.normalize()
	for client, ranges := range other.All() {
		for _, r := range ranges {
			if !s.covers(client, r) {
				return false
			}
		}
	}
	return true
}

// Equal reports whether both sets hold the same.
func (s *DeleteSet) Equal(other *DeleteSet) bool {
	return slices.EqualFunc(s.sorted(), other.sorted(), func(a, b clientRanges) bool {
		return a.client == b.client && slices.Equal(a.ranges, b.ranges)
	})
}

// All iterates over the clients in descending order with their ranges in
// ascending order. The ranges are not to be modified.
func (s *DeleteSet) All() iter.Seq2[uint64, []Range] {
	clients := s.sorted()
	return func(yield func(uint64, []Range) bool) {
		for _, c := range clients {
			if len(c.ranges) > 0 && !yield(c.client, c.ranges) {
				return
			}
		}
	}
}

// Clone returns a copy.
func (s *DeleteSet) Clone() *DeleteSet {
	c := &DeleteSet{dirty: s.dirty, clients: slices.Clone(s.clients)}
	for i := range c.clients {
		c.clients[i].ranges = slices.Clone(c.clients[i].ranges)
	}
	c.reindex()
	return c
}

// appendTo appends the set in the coding of the version.
func (s *DeleteSet) appendTo(dst []byte, v Version) []byte {
	n := 0
	for i := range s.clients {
		if len(s.clients[i].ranges) > 0 {
			n++
		}
	}
	dst = lib0.AppendUint(dst, uint64(n))
	for client, ranges := range s.All() {
		dst = lib0.AppendUint(dst, client)
		dst = lib0.AppendUint(dst, uint64(len(ranges)))
		if v == V1 {
			for _, r := range ranges {
				dst = lib0.AppendUint(dst, r.Clock)
				dst = lib0.AppendUint(dst, r.Len)
			}
			continue
		}
		at := uint64(0)
		for _, r := range ranges {
			dst = lib0.AppendUint(dst, r.Clock-at)
			dst = lib0.AppendUint(dst, r.Len-1)
			at = r.End()
		}
	}
	return dst
}

// readDeleteSet reads a set. canonical is false when a V1 set is not in the
// form appendTo writes.
func readDeleteSet(r *lib0.Reader, v Version, s *DeleteSet) (canonical bool) {
	n := r.Uint()
	if n > uint64(r.Len()/2) {
		r.Fail("more clients than bytes")
		return false
	}
	canonical = true
	prev := uint64(lib0.MaxUint + 1)
	for ; n > 0 && r.Err() == nil; n-- {
		client := r.Uint()
		count := r.Uint()
		if count > uint64(r.Len()/2) {
			r.Fail("more ranges than bytes")
			return false
		}
		if client >= prev || count == 0 {
			canonical = false
		}
		prev = client
		if count == 0 {
			continue
		}
		if !readRanges(r, v, s.entry(client), count) {
			canonical = false
			s.dirty = true
		}
	}
	return canonical
}

// passCanonical passes a V1 set without keeping it. It reports whether the set
// is in the form appendTo writes; where it is not, the reader may have stopped
// anywhere.
func passCanonical(r *lib0.Reader) bool {
	n := r.Uint()
	prev := uint64(lib0.MaxUint + 1)
	for ; n > 0; n-- {
		client, count := r.Uint(), r.Uint()
		if client >= prev || count == 0 || count > uint64(r.Len()/2) {
			return false
		}
		prev = client
		end := uint64(0)
		for i := range count {
			clock, length := r.Uint(), r.Uint()
			if length == 0 || length > lib0.MaxUint || clock > lib0.MaxUint-length || i > 0 && clock <= end {
				return false
			}
			end = clock + length
		}
	}
	return r.Err() == nil
}

func readRanges(r *lib0.Reader, v Version, e *clientRanges, count uint64) (sorted bool) {
	sorted = len(e.ranges) == 0
	at := uint64(0)
	if e.ranges == nil {
		e.ranges = make([]Range, 0, count) // count is backed by two bytes each
	}
	for ; count > 0; count-- {
		clock, length := r.Uint(), r.Uint()
		if v == V2 {
			clock += at
			length++
		}
		if r.Err() != nil {
			return false
		}
		if length == 0 || length > lib0.MaxUint || clock > lib0.MaxUint-length {
			r.Fail("empty or endless deleted range")
			return false
		}
		if n := len(e.ranges); n > 0 && clock <= e.ranges[n-1].End() {
			sorted = false
		}
		at = clock + length
		e.ranges = append(e.ranges, Range{clock, length})
	}
	return sorted
}
