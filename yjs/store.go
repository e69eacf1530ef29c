package yjs

import (
	"slices"
)

// clientItems is the sequence of one client: its items, contiguous from clock
// zero.
type clientItems struct {
	client uint64
	items  []*item
}

func (c *clientItems) state() uint64 {
	if n := len(c.items); n > 0 {
		return c.items[n-1].end()
	}
	return 0
}

// index returns the index of the item that holds clock, which is below the
// state of the client.
func (c *clientItems) index(clock uint64) int {
	lo, hi := 0, len(c.items)-1
	last := c.items[hi]
	if last.clock() <= clock {
		return hi
	}
	// Clocks are spread evenly enough that a proportional guess is close.
	mid := int(float64(clock) / float64(last.end()) * float64(hi))
	for lo <= hi {
		it := c.items[mid]
		switch {
		case clock < it.clock():
			hi = mid - 1
		case clock >= it.end():
			lo = mid + 1
		default:
			return mid
		}
		mid = (lo + hi) / 2
	}
	panic(broken("clock not in the store"))
}

// store keeps all items of a document by client.
type store struct {
	clients  []clientItems
	byClient map[uint64]int // once there are many clients
	redone   map[ref]ref    // items made again by the undo manager
}

// lookup returns the index of a client, or -1.
func (s *store) lookup(client uint64) int {
	if s.byClient != nil {
		if i, ok := s.byClient[client]; ok {
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

// intern returns the index of a client, making room for it if it is new.
func (s *store) intern(client uint64) int {
	if i := s.lookup(client); i >= 0 {
		return i
	}
	i := len(s.clients)
	s.clients = append(s.clients, clientItems{client: client})
	if s.byClient != nil {
		s.byClient[client] = i
	} else if i >= manyClients {
		s.byClient = make(map[uint64]int, 2*i)
		for k := range s.clients {
			s.byClient[s.clients[k].client] = k
		}
	}
	return i
}

func (s *store) state(client int) uint64 { return s.clients[client].state() }

// has reports whether the unit r is in the store.
func (s *store) has(r ref) bool { return r.clock() < s.state(r.client()) }

func (s *store) id(r ref) ID { return ID{s.clients[r.client()].client, r.clock()} }

func (s *store) find(r ref) *item {
	c := &s.clients[r.client()]
	return c.items[c.index(r.clock())]
}

func (s *store) add(it *item) {
	c := &s.clients[it.id.client()]
	c.items = append(c.items, it)
}

func (s *store) stateVector() StateVector {
	sv := make(StateVector, len(s.clients))
	for i := range s.clients {
		if n := s.clients[i].state(); n > 0 {
			sv[s.clients[i].client] = n
		}
	}
	return sv
}

// deleteSet returns everything that is deleted.
func (s *store) deleteSet() *DeleteSet {
	ds := &DeleteSet{}
	for i := range s.clients {
		c := &s.clients[i]
		for _, it := range c.items {
			if it.deleted() {
				ds.Add(c.client, it.clock(), uint64(it.length))
			}
		}
	}
	return ds
}

// follow finds the item that holds r now, after any redoing.
func (s *store) follow(r ref) (it *item, diff uint64) {
	for {
		it = s.find(r)
		diff = r.clock() - it.clock()
		next, ok := s.redoneOf(it)
		if !ok {
			return it, diff
		}
		r = next + ref(diff)
	}
}

func (s *store) redoneOf(it *item) (ref, bool) {
	if it.flags&flagRedone == 0 {
		return noRef, false
	}
	r, ok := s.redone[it.id]
	return r, ok
}

func (s *store) setRedone(it *item, by ref) {
	if s.redone == nil {
		s.redone = map[ref]ref{}
	}
	s.redone[it.id] = by
	it.flags |= flagRedone
}

// cleanStart returns the item that starts with the unit r, splitting one that
// holds it further in. Collected items are not split.
func (tx *Transaction) cleanStart(r ref) *item {
	c := &tx.doc.store.clients[r.client()]
	return c.items[tx.cleanIndex(r.client(), c.index(r.clock()), r.clock())]
}

// cleanIndex makes the item at index i of a client start at clock, which it
// holds, and returns the index of the item that does.
func (tx *Transaction) cleanIndex(client, i int, clock uint64) int {
	c := &tx.doc.store.clients[client]
	it := c.items[i]
	if it.clock() < clock && !it.isGC() {
		c.items = slices.Insert(c.items, i+1, tx.split(it, clock-it.clock()))
		return i + 1
	}
	return i
}

// cleanEnd returns the item that ends with the unit r, splitting one that goes
// on. Collected items are not split.
func (tx *Transaction) cleanEnd(r ref) *item {
	c := &tx.doc.store.clients[r.client()]
	i := c.index(r.clock())
	it := c.items[i]
	if r != it.lastID() && !it.isGC() {
		c.items = slices.Insert(c.items, i+1, tx.split(it, r.clock()-it.clock()+1))
	}
	return it
}

// split cuts an item after n units and returns the new right part, which the
// caller puts into the store.
func (tx *Transaction) split(it *item, n uint64) *item {
	r := &item{
		id:          it.id + ref(n),
		origin:      it.id + ref(n-1),
		rightOrigin: it.rightOrigin,
		left:        it,
		right:       it.right,
		parent:      it.parent,
		sub:         it.sub,
		kind:        it.kind,
		flags:       it.flags & (flagDeleted | flagKeep | flagSub),
		data:        it.splitContent(n),
		length:      it.length - uint32(n),
	}
	if redone, ok := tx.doc.store.redoneOf(it); ok {
		tx.doc.store.setRedone(r, redone+ref(n))
	}
	it.right = r
	if r.right != nil {
		r.right.left = r
	}
	it.length = uint32(n)
	tx.mergeItems = append(tx.mergeItems, r)
	if r.hasSub() && r.right == nil {
		r.parent.keys.set(r)
	}
	return r
}

// itemRange calls f for the items of a client between two clocks, splitting
// those at the ends. f may delete items and change the document elsewhere.
func (tx *Transaction) itemRange(client int, clock, n uint64, f func(*item)) {
	if n == 0 {
		return
	}
	end := clock + n
	s := &tx.doc.store
	i := tx.cleanIndex(client, s.clients[client].index(clock), clock)
	for {
		it := s.clients[client].items[i]
		i++
		if end < it.end() {
			c := &s.clients[client]
			tx.cleanIndex(client, c.index(end), end)
		}
		f(it)
		c := &s.clients[client]
		if i >= len(c.items) || c.items[i].clock() >= end {
			return
		}
	}
}

// deletedItems calls f for every item of a set that is in the store.
func (tx *Transaction) deletedItems(ds *DeleteSet, f func(*item)) {
	s := &tx.doc.store
	for _, c := range ds.clients {
		client := s.lookup(c.client)
		if client < 0 {
			continue
		}
		for _, r := range c.ranges {
			state := s.state(client)
			if r.Clock >= state {
				break
			}
			tx.itemRange(client, r.Clock, min(r.Len, state-r.Clock), f)
		}
	}
}
