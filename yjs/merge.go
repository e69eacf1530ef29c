package yjs

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// errUnsorted sends a merge back to sort the clients of its inputs.
var errUnsorted = errors.New("clients of an update are not in descending order")

// Merge returns one update that holds everything the given ones hold. What is
// missing between them is written as gaps, which a receiver keeps pending; a
// client never starts with a gap. Merging never integrates anything, so nothing
// is dropped because something it depends on is not there yet. Without updates
// the result is the empty update; a single update is checked and written anew.
//
// Neighbours that one insertion might have made are joined: the characters
// somebody typed one by one become one struct, as they do in a document that
// has integrated them. Nothing is forgotten by that: every clock, every origin
// and all deleted content is still there, and a document that loads the result
// is the same, to the byte, as one that loads the updates. KeepSplit turns it
// off.
//
// With KeepSplit and FirstWins the result is what npm yjs makes of two or more
// updates, byte for byte.
func (c Codec) Merge(updates ...[]byte) ([]byte, error) {
	out, err := c.mergeRich(updates)
	if errors.Is(err, errUnsorted) {
		sorted := make([][]byte, len(updates))
		for i, u := range updates {
			if sorted[i], err = c.sortClients(u); err != nil {
				return nil, fmt.Errorf("merge updates: update %d: %w", i, err)
			}
		}
		out, err = c.mergeRich(sorted)
	}
	if err != nil {
		return nil, fmt.Errorf("merge updates: %w", err)
	}
	return out, nil
}

// sortClients rewrites an update with its clients in descending order.
func (c Codec) sortClients(update []byte) ([]byte, error) {
	var d decoder
	d.init(view(update), c.version(), c.Limits)
	var blocks []block
	var b block
	for d.next(&b) {
		blocks = append(blocks, b)
	}
	var deleted DeleteSet
	if _, _, err := d.finish(&deleted); err != nil {
		return nil, err
	}
	slices.SortStableFunc(blocks, func(a, b block) int { return cmp.Compare(b.client, a.client) })
	e := newEncoder(c.version(), len(update))
	for i := range blocks {
		e.write(&blocks[i], 0)
	}
	return e.finish(&deleted)
}

// source is one update being merged: its next struct and its turn among
// sources whose next structs start at the same place.
type source struct {
	d    decoder
	cur  block
	ok   bool
	poor bool // whether it held anything without content
	turn int
	rich *DeleteSet // where other updates hold more, by richKey
	rest []block    // what is left of a struct that was carved
}

// advance moves to the next struct that is not a gap.
func (s *source) advance() {
	for {
		if len(s.rest) > 0 {
			s.cur, s.rest = s.rest[0], s.rest[1:]
			s.ok = true
			return
		}
		s.ok = s.d.next(&s.cur)
		if !s.ok {
			return
		}
		if s.cur.kind <= kindDeleted {
			s.poor = true
			if s.rich != nil && s.carve() {
				continue
			}
		}
		if s.cur.kind != kindSkip {
			return
		}
	}
}

// carve takes out of a struct without content what another update knows more
// about. It reports whether the current struct has been replaced by s.rest.
func (s *source) carve() bool {
	rank := s.cur.rank()
	i := s.rich.find(richKey(s.cur.client, rank))
	if i < 0 {
		return false
	}
	ranges := s.rich.clients[i].ranges
	k, _ := findRange(ranges, s.cur.clock)
	if k == len(ranges) || ranges[k].Clock >= s.cur.end() {
		return false
	}
	left := s.cur
	for ; k < len(ranges) && ranges[k].Clock < left.end(); k++ {
		r := ranges[k]
		if left.clock < r.Clock {
			piece := left
			piece.keepFront(r.Clock - left.clock)
			s.rest = append(s.rest, piece)
		}
		if r.End() >= left.end() {
			return true
		}
		if n := r.End() - left.clock; n > 0 {
			left.dropFront(n)
		}
	}
	s.rest = append(s.rest, left)
	return true
}

// richKey files, for each rank of poor content, what is richer.
func richKey(client uint64, rank int) uint64 { return client<<2 | uint64(rank) }

// before orders sources by what is to be written first.
func (s *source) before(o *source) bool {
	if s.cur.client != o.cur.client {
		return s.cur.client > o.cur.client
	}
	if s.cur.clock != o.cur.clock {
		return s.cur.clock < o.cur.clock
	}
	return s.turn < o.turn
}

// sourceHeap is a binary heap of the sources that have something left.
type sourceHeap []*source

func (h sourceHeap) down(i int) {
	s := h[i]
	for {
		child := 2*i + 1
		if child >= len(h) {
			break
		}
		if child+1 < len(h) && h[child+1].before(h[child]) {
			child++
		}
		if !h[child].before(s) {
			break
		}
		h[i] = h[child]
		i = child
	}
	h[i] = s
}

func (h sourceHeap) heapify() {
	for i := len(h)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
}

// mergeRich merges and, where two updates hold the same clocks and some content
// is gone, merges again with the poorer of them cut out.
func (c Codec) mergeRich(updates [][]byte) ([]byte, error) {
	out, conflict, err := c.merge(updates, nil)
	if err != nil || !conflict || c.FirstWins {
		return out, err
	}
	rich, err := c.findRich(updates)
	if err != nil {
		return nil, err
	}
	out, _, err = c.merge(updates, rich)
	return out, err
}

func (c Codec) merge(updates [][]byte, rich *DeleteSet) (out []byte, conflict bool, err error) {
	sources := make([]source, len(updates))
	size := 0
	for i, u := range updates {
		s := &sources[i]
		s.turn, s.rich = i, rich
		s.d.init(view(u), c.version(), c.Limits)
		size += len(u)
	}
	heap := make(sourceHeap, 0, len(sources))
	for i := range sources {
		if sources[i].advance(); sources[i].ok {
			heap = append(heap, &sources[i])
		}
	}
	m := merger{joiner: joiner{e: newEncoder(c.version(), size), off: c.KeepSplit, runMax: c.Limits.withDefaults(0).Run}}
	overlap := m.mergeSources(heap)
	m.flush()
	var deleted DeleteSet
	unsorted, poor := false, false
	for i := range sources {
		if _, _, err := sources[i].d.finish(&deleted); err != nil {
			return nil, false, fmt.Errorf("update %d: %w", i, err)
		}
		unsorted = unsorted || sources[i].d.unsorted
		poor = poor || sources[i].poor
	}
	if unsorted {
		return nil, false, errUnsorted
	}
	out, err = m.e.finish(&deleted)
	return out, overlap && poor, err
}

// merger writes what several sources hold.
type merger struct {
	joiner
	out  block // read and not yet passed on
	have bool
}

// mergeSources writes what the sources hold. The order in which it takes
// structs and the places where it cuts them are those of npm yjs, which sorts
// its readers anew, stably, for each struct: the reader just advanced stays in
// front of those it ties with, hence the falling turns.
func (m *merger) mergeSources(heap sourceHeap) (overlap bool) {
	heap.heapify()
	turn := 0
	for len(heap) > 0 {
		s := heap[0]
		client := s.cur.client
		if m.mergeNext(s) {
			overlap = true
		}
		for s.ok && m.have && s.cur.client == client && s.cur.clock == m.out.end() {
			m.add(&m.out)
			m.out = s.cur
			s.advance()
		}
		if !s.ok {
			n := len(heap) - 1
			heap[0] = heap[n]
			heap = heap[:n]
		} else {
			turn--
			s.turn = turn
		}
		if len(heap) > 1 {
			heap.down(0)
		}
	}
	if m.have {
		m.add(&m.out)
	}
	return overlap
}

// mergeNext brings the first struct of s together with the one waiting to be
// written. It reports whether they overlap.
func (m *merger) mergeNext(s *source) (overlap bool) {
	out := &m.out
	if !m.have {
		*out, m.have = s.cur, true
		s.advance()
		return false
	}
	client := s.cur.client
	for s.ok && s.cur.client >= out.client && s.cur.end() <= out.end() {
		s.advance()
		overlap = true
	}
	if !s.ok || s.cur.client != client || overlap && s.cur.clock > out.end() {
		return overlap // another source may come first now
	}
	switch {
	case client != out.client:
		m.add(out)
		*out = s.cur
		s.advance()
	case out.end() < s.cur.clock:
		m.add(out)
		gap := block{client: client, clock: out.end(), kind: kindSkip}
		gap.length = s.cur.clock - gap.clock
		*out = gap
	default:
		next := s.cur
		if n := out.end() - next.clock; n > 0 {
			next.dropFront(n)
			overlap = true
		}
		if out.kind == kindGC && next.kind == kindGC {
			out.length += next.length
			out.body = ""
			return overlap
		}
		m.add(out)
		*out = next
		s.advance()
	}
	return overlap
}

// findRich collects where updates hold content, for each rank of poorer content.
func (c Codec) findRich(updates [][]byte) (*DeleteSet, error) {
	rich := &DeleteSet{}
	for i, u := range updates {
		var d decoder
		d.init(view(u), c.version(), c.Limits)
		var b block
		for d.next(&b) {
			switch b.rank() {
			case 3:
				rich.Add(richKey(b.client, 1), b.clock, b.length)
				rich.Add(richKey(b.client, 2), b.clock, b.length)
			case 2:
				rich.Add(richKey(b.client, 1), b.clock, b.length)
			}
		}
		if d.err != nil {
			return nil, fmt.Errorf("update %d: %w", i, d.err)
		}
	}
	rich.normalize()
	return rich, nil
}
