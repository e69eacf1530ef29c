package yjs

// commitAll commits the queued transactions. Observers may add more, which
// follow in order.
func (d *Doc) commitAll() {
	for i := 0; i < len(d.queue); i++ {
		d.queue[i].commit()
	}
	clear(d.queue)
	d.queue = d.queue[:0]
}

// commit calls the observers, joins what can be joined and sends the update.
// The order of the steps is that of npm yjs, so that the same changes give the
// same bytes.
func (tx *Transaction) commit() {
	d := tx.doc
	tx.deleted.normalize()
	for i := range tx.grown {
		tx.grown[i].after = d.store.state(tx.grown[i].client)
	}
	tx.closed = true
	tx.observe()
	if d.hooks != nil {
		d.hooks.after.call(tx)
	}
	if tx.cleanFormats {
		tx.cleanupFormats()
	}
	if d.settings.GC {
		tx.collect(&tx.deleted, nil)
	}
	tx.joinDeleted(&tx.deleted)
	for i := range tx.grown {
		tx.joinGrown(tx.grown[i])
	}
	tx.joinSplit()
	if !tx.Local && d.own >= 0 {
		if g := tx.growth(d.own); g != nil && g.after != g.before {
			// Another peer uses our id. Whatever we insert from now on must not
			// clash with it.
			d.SetClientID(newClientID())
		}
	}
	if d.hooks != nil {
		tx.emit(&d.hooks.updates, V1)
		tx.emit(&d.hooks.updatesV2, V2)
	}
	tx.commitSubdocs()
}

// empty reports whether the transaction changed nothing peers need to know.
func (tx *Transaction) empty() bool {
	if !tx.deleted.Empty() {
		return false
	}
	for _, g := range tx.grown {
		if g.after != g.before {
			return false
		}
	}
	return true
}

func (tx *Transaction) emit(to *handlers[Update], v Version) {
	if to.empty() || tx.empty() {
		return
	}
	tx.deleted.normalize()
	to.call(Update{Version: v, Bytes: tx.encode(v), Origin: tx.Origin, Transaction: tx})
}

// encode returns the transaction as an update.
func (tx *Transaction) encode(v Version) []byte {
	e := &encoder{}
	e.init(v, 0)
	tx.doc.encodeItems(e, func(client int) (uint64, bool) {
		g := tx.growth(client)
		if g == nil {
			return 0, false
		}
		return g.before, true
	}, tx.growingClients())
	out, err := e.finish(&tx.deleted)
	if err != nil {
		panic(broken(err.Error()))
	}
	return out
}

func (tx *Transaction) growingClients() []int {
	out := make([]int, 0, len(tx.grown))
	for _, g := range tx.grown {
		out = append(out, g.client)
	}
	return out
}

// joinLeft joins the item at pos of a client with the ones before it, as far
// as they go together, and returns how many were taken away.
func (tx *Transaction) joinLeft(client, pos int) int {
	c := &tx.doc.store.clients[client]
	right := c.items[pos]
	i := pos
	for ; i > 0; i-- {
		left := c.items[i-1]
		if !joinable(left, right) {
			break
		}
		right = left
	}
	n := pos - i
	if n > 0 {
		c.items = append(c.items[:pos+1-n], c.items[pos+1:]...)
	}
	return n
}

// joiningPass joins many items of one client from right to left and closes the
// holes once, at the end: taking away one item at a time would move the rest of
// the sequence each time.
type joiningPass struct {
	items []*item
	next  int // what is left of here, inclusive, has not been looked at
	done  int // what is right of here, inclusive, is final
}

// step joins leftwards from the item at next as far as it goes together.
func (p *joiningPass) step() {
	right := p.items[p.next]
	for p.next > 0 && joinable(p.items[p.next-1], right) {
		p.next--
		right = p.items[p.next]
	}
	p.next--
	p.done--
	p.items[p.done] = right
}

// keep passes the items right of index i without joining them.
func (p *joiningPass) keep(i int) {
	n := p.next - i
	if n <= 0 {
		return
	}
	copy(p.items[p.done-n:p.done], p.items[i+1:p.next+1])
	p.next, p.done = i, p.done-n
}

// close returns the items that are left.
func (p *joiningPass) close() []*item {
	if p.next+1 == p.done {
		return p.items
	}
	n := p.next + 1 + copy(p.items[p.next+1:], p.items[p.done:])
	clear(p.items[n:])
	return p.items[:n]
}

// joinable joins two neighbours of a client's sequence if they go together.
func joinable(left, right *item) bool {
	if (left.flags^right.flags)&flagDeleted != 0 || !left.mergeWith(right) {
		return false
	}
	if right.hasSub() && !right.isGC() && right.parent.keys.get(right.sub) == right {
		right.parent.keys.set(left)
	}
	return true
}

// manyRanges is where it pays to go through a sequence once instead of looking
// up each range.
const manyRanges = 8

// joinDeletedRanges is joinDeleted for many ranges of one client.
func (tx *Transaction) joinDeletedRanges(client int, ranges []Range) {
	c := &tx.doc.store.clients[client]
	p := joiningPass{items: c.items, next: len(c.items) - 1, done: len(c.items)}
	for k := len(ranges) - 1; k >= 0; k-- {
		r := ranges[k]
		// The items up to next are as they were, so they can be searched.
		left := clientItems{items: p.items[:p.next+1]}
		if len(left.items) == 0 {
			break
		}
		i := left.index(min(r.End()-1, left.state()-1)) + 1
		if i <= p.next {
			p.keep(i)
		} else if p.done < len(p.items) {
			// The item after the range is final already: look at it again.
			p.next++
			p.items[p.next] = p.items[p.done]
			p.done++
		}
		for p.next > 0 && p.items[p.next].clock() >= r.Clock {
			p.step()
		}
	}
	c.items = p.close()
}

// joinDeleted joins the items of a set with their neighbours.
func (tx *Transaction) joinDeleted(ds *DeleteSet) {
	s := &tx.doc.store
	for _, dc := range ds.clients {
		client := s.lookup(dc.client)
		if len(dc.ranges) > manyRanges {
			tx.joinDeletedRanges(client, dc.ranges)
			continue
		}
		for k := len(dc.ranges) - 1; k >= 0; k-- {
			r := dc.ranges[k]
			c := &s.clients[client]
			i := min(len(c.items)-1, 1+c.index(r.End()-1))
			for i > 0 && c.items[i].clock() >= r.Clock {
				i -= 1 + tx.joinLeft(client, i)
			}
		}
	}
}

// joinGrown joins the new items of a client.
func (tx *Transaction) joinGrown(g growth) {
	if g.after == g.before {
		return
	}
	c := &tx.doc.store.clients[g.client]
	first := max(c.index(g.before), 1)
	p := joiningPass{items: c.items, next: len(c.items) - 1, done: len(c.items)}
	for p.next >= first {
		p.step()
	}
	c.items = p.close()
}

// joinSplit joins again what was split and need not have been.
func (tx *Transaction) joinSplit() {
	s := &tx.doc.store
	for k := len(tx.mergeItems) - 1; k >= 0; k-- {
		id := tx.mergeItems[k].id
		client := id.client()
		i := s.clients[client].index(id.clock())
		if i+1 < len(s.clients[client].items) && tx.joinLeft(client, i+1) > 1 {
			continue
		}
		if i > 0 {
			tx.joinLeft(client, i)
		}
	}
}
