package yjs

// collect forgets the content of deleted items of a set, unless keep says
// otherwise.
func (tx *Transaction) collect(ds *DeleteSet, keep func(*item) bool) {
	s := &tx.doc.store
	for _, dc := range ds.clients {
		client := s.lookup(dc.client)
		for k := len(dc.ranges) - 1; k >= 0; k-- {
			r := dc.ranges[k]
			c := &s.clients[client]
			for i := c.index(r.Clock); i < len(c.items) && c.items[i].clock() < r.End(); i++ {
				it := c.items[i]
				if !it.isGC() && it.deleted() && !it.keep() && (keep == nil || !keep(it)) {
					it.collect()
				}
			}
		}
	}
}

// collect forgets the content of a deleted item. What was in a shared type can
// never be reached again and is forgotten entirely.
func (it *item) collect() {
	if it.kind == kindType {
		it.branch().collectContents()
	}
	it.data, it.kind = payload{}, kindDeleted
}

// collectContents turns everything in a type, however deep, into runs of
// clocks.
func (b *branch) collectContents() {
	var all []*item
	stack := []*branch{b}
	for len(stack) > 0 {
		b := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		n := len(all)
		for it := b.start; it != nil; it = it.right {
			all = append(all, it)
		}
		for _, it := range b.keys.items {
			for ; it != nil; it = it.left {
				all = append(all, it)
			}
		}
		for _, it := range all[n:] {
			if it.kind == kindType {
				stack = append(stack, it.branch())
			}
		}
		b.start, b.keys, b.markers = nil, keyTable{}, nil
	}
	for _, it := range all {
		*it = item{id: it.id, length: it.length, kind: kindGC, flags: flagDeleted}
	}
}
