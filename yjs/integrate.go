package yjs

// integrate links an item into its type at the place every peer will agree on,
// adds it to the store and lets its content take effect. The first offset units
// are in the store already. Without a parent the item can't be placed any more
// and only its clocks are kept.
func (tx *Transaction) integrate(it *item, offset uint64) {
	s := &tx.doc.store
	if offset > 0 {
		it.data = it.splitContent(offset)
		it.id += ref(offset)
		it.length -= uint32(offset)
		if !it.isGC() {
			it.left = tx.cleanEnd(it.id - 1)
			it.origin = it.left.lastID()
			if it.left.isGC() {
				it.parent = nil
			}
		}
	}
	if it.isGC() {
		tx.addItem(it)
		return
	}
	if it.parent == nil {
		tx.addItem(&item{id: it.id, length: it.length, kind: kindGC, flags: flagDeleted})
		return
	}
	if it.left == nil && (it.right == nil || it.right.left != nil) || it.left != nil && it.left.right != it.right {
		it.left = s.resolveConflict(it)
	}
	tx.link(it)
	if !it.hasSub() && it.visible() {
		it.parent.size += int(it.length)
	}
	tx.addItem(it)
	tx.integrateContent(it)
	tx.touch(it.parent, it)
	if it.parent.dead() || it.hasSub() && it.right != nil {
		tx.delete(it)
	}
}

// resolveConflict finds the left neighbour of an item whose neighbours at the
// time it was made are not neighbours any more. Items inserted at the same
// place go by their client, lower to the left, and none comes between another
// and what was inserted after it.
func (s *store) resolveConflict(it *item) *item {
	left := it.left
	var o *item
	switch {
	case left != nil:
		o = left.right
	case it.hasSub():
		o = it.parent.keys.leftmost(it.sub)
	default:
		o = it.parent.start
	}
	client := s.clients[it.id.client()].client
	var passed passedItems
	for ; o != nil && o != it.right; o = o.right {
		passed.add(o)
		if it.origin == o.origin {
			if s.clients[o.id.client()].client < client {
				left = o
				passed.settle()
			} else if it.rightOrigin == o.rightOrigin {
				break
			}
			continue
		}
		if o.origin == noRef {
			break
		}
		seen, conflicting := passed.has(s.find(o.origin))
		if !seen {
			break
		}
		if !conflicting {
			left = o
			passed.settle()
		}
	}
	return left
}

// passedItems are the items a conflict resolution has passed: all of them, and
// those since it last settled.
type passedItems struct {
	few     [12]*item
	n       int
	settled int
	many    map[*item]int
}

func (p *passedItems) add(it *item) {
	if p.n < len(p.few) {
		p.few[p.n] = it
	} else {
		if p.many == nil {
			p.many = make(map[*item]int, 4*len(p.few))
			for i, e := range p.few {
				p.many[e] = i
			}
		}
		p.many[it] = p.n
	}
	p.n++
}

func (p *passedItems) settle() { p.settled = p.n }

func (p *passedItems) has(it *item) (seen, conflicting bool) {
	if p.many != nil {
		i, ok := p.many[it]
		return ok, ok && i >= p.settled
	}
	for i := p.n - 1; i >= 0; i-- {
		if p.few[i] == it {
			return true, i >= p.settled
		}
	}
	return false, false
}

// link puts an item right of its left neighbour.
func (tx *Transaction) link(it *item) {
	b := it.parent
	switch {
	case it.left != nil:
		it.right = it.left.right
		it.left.right = it
	case it.hasSub():
		it.right = b.keys.leftmost(it.sub)
	default:
		it.right = b.start
		b.start = it
	}
	if it.right != nil {
		it.right.left = it
	} else if it.hasSub() {
		b.keys.set(it)
		if it.left != nil {
			tx.delete(it.left)
		}
	}
}

func (tx *Transaction) integrateContent(it *item) {
	switch it.kind {
	case kindDeleted:
		tx.deleted.Add(tx.doc.store.clients[it.id.client()].client, it.clock(), uint64(it.length))
		it.flags |= flagDeleted
	case kindFormat:
		it.parent.formatted = true
		it.parent.markers = nil
	case kindType:
		b := it.branch()
		b.item, b.doc = it, tx.doc
		if b.observers != nil {
			tx.doc.watched = true
		}
		if b.prelim != nil {
			p := b.prelim
			b.prelim = nil
			p.apply(tx, b)
		}
	case kindDoc:
		tx.subdocInserted(it)
	}
}

// incoming is an item of an update that has not been integrated. Its
// neighbours are known by their IDs only, and its parent by an ID, by the
// branch of a root, or through its neighbours.
type incoming struct {
	it     *item // nil for a gap
	id     ref
	length uint64
	parent ref
	at     int // its index among the items of its client
}

// incomingClient are the items of one client in an update and how far they
// have been taken.
type incomingClient struct {
	client int
	items  []incoming
	next   int
	parked bool
}

// incomingUpdate integrates the items of an update in an order that respects
// what they depend on, and collects what can't be integrated yet.
type incomingUpdate struct {
	tx      *Transaction
	clients []incomingClient // by ascending client id
	byIndex map[int]int      // store index to clients index, when there are many
	stack   []incoming
	rest    []incomingClient
	took    bool // whether anything was integrated
}

func (u *incomingUpdate) of(client int) *incomingClient {
	if u.byIndex != nil {
		if i, ok := u.byIndex[client]; ok {
			return &u.clients[i]
		}
		return nil
	}
	for i := range u.clients {
		if u.clients[i].client == client {
			return &u.clients[i]
		}
	}
	return nil
}

// run integrates everything it can.
func (u *incomingUpdate) run() {
	at := len(u.clients) - 1
	for {
		var head incoming
		if n := len(u.stack); n > 0 {
			head = u.stack[n-1]
			u.stack = u.stack[:n-1]
		} else {
			for at >= 0 && u.clients[at].next >= len(u.clients[at].items) {
				at--
			}
			if at < 0 {
				return
			}
			head = u.clients[at].items[u.clients[at].next]
			u.clients[at].next++
		}
		u.take(head)
	}
}

// take integrates an item after the ones it depends on, or parks it.
func (u *incomingUpdate) take(head incoming) {
	s := &u.tx.doc.store
	for head.it != nil {
		state := s.state(head.id.client())
		if head.id.clock() > state {
			u.stack = append(u.stack, head)
			u.park()
			return
		}
		missing := u.missing(&head)
		if missing < 0 {
			if state < head.id.clock()+head.length {
				u.resolve(&head)
				u.tx.integrate(head.it, state-head.id.clock())
				u.took = true
			}
			return
		}
		u.stack = append(u.stack, head)
		dep := u.of(missing)
		if dep == nil || dep.parked || dep.next >= len(dep.items) {
			u.park()
			return
		}
		head = dep.items[dep.next]
		dep.next++
	}
}

// missing returns the client of something the item refers to that is not in
// the store, or -1.
func (u *incomingUpdate) missing(in *incoming) int {
	s := &u.tx.doc.store
	own := in.id.client()
	for _, r := range [...]ref{in.it.origin, in.it.rightOrigin, in.parent} {
		if r != noRef && r.client() != own && !s.has(r) {
			return r.client()
		}
	}
	return -1
}

// park sets aside what is on the stack together with everything that follows
// it in the same clients' sequences.
func (u *incomingUpdate) park() {
	for _, head := range u.stack {
		c := u.of(head.id.client())
		if c == nil || c.parked {
			continue
		}
		u.rest = append(u.rest, incomingClient{client: c.client, items: c.items[head.at:]})
		c.parked = true
		c.next = len(c.items)
	}
	u.stack = u.stack[:0]
}

// resolve finds the neighbours and the parent of an item from their IDs.
func (u *incomingUpdate) resolve(in *incoming) {
	it := in.it
	if it.isGC() {
		return
	}
	tx := u.tx
	if it.origin != noRef {
		it.left = tx.cleanEnd(it.origin)
		it.origin = it.left.lastID()
	}
	if it.rightOrigin != noRef {
		it.right = tx.cleanStart(it.rightOrigin)
		it.rightOrigin = it.right.id
	}
	switch {
	case it.left != nil && it.left.isGC() || it.right != nil && it.right.isGC():
		it.parent = nil
	case in.parent != noRef:
		it.parent = tx.doc.store.find(in.parent).branch()
	case it.parent != nil:
	case it.left != nil:
		it.inherit(it.left)
	case it.right != nil:
		it.inherit(it.right)
	}
}

func (it *item) inherit(from *item) {
	it.parent, it.sub = from.parent, from.sub
	it.flags |= from.flags & flagSub
}
