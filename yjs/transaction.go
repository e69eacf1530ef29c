package yjs

import "slices"

// Transaction is a group of changes that are seen, sent and undone together.
type Transaction struct {
	doc *Doc
	// Origin is what the caller of Transact or Apply gave.
	Origin any
	// Local is false for changes that came by Apply.
	Local bool

	deleted    DeleteSet
	grown      []growth
	grownRoom  [1]growth
	changeRoom [1]change
	grownBy    map[int]int // by client, once there are many
	changed    []change
	changedBy  map[*branch]int // once there are many
	mergeItems []*item
	bubbled    []bubble // events by the types they pass, in order
	closed     bool     // afterState has been taken

	subdocsAdded, subdocsRemoved, subdocsLoaded []*Doc
	cleanFormats                                bool
	snapshots                                   map[*Snapshot]struct{}
}

// growth is how far the sequence of a client grew.
type growth struct {
	client        int
	before, after uint64
}

// change is what changed directly in a type.
type change struct {
	branch *branch // nil when the type has been deleted since
	list   bool
	keys   []string
	seen   map[string]struct{} // the keys, once there are many
}

// Doc returns the document.
func (tx *Transaction) Doc() *Doc { return tx.doc }

// Deleted returns what the transaction deleted. It is not to be modified.
func (tx *Transaction) Deleted() *DeleteSet { return &tx.deleted }

// Inserted returns what the transaction inserted.
func (tx *Transaction) Inserted() *DeleteSet {
	ds := &DeleteSet{}
	for _, g := range tx.grown {
		if after := tx.after(g); after > g.before {
			ds.Add(tx.doc.store.clients[g.client].client, g.before, after-g.before)
		}
	}
	return ds
}

func (tx *Transaction) after(g growth) uint64 {
	if tx.closed {
		return g.after
	}
	return tx.doc.store.state(g.client)
}

func (tx *Transaction) growth(client int) *growth {
	if tx.grownBy != nil {
		if i, ok := tx.grownBy[client]; ok {
			return &tx.grown[i]
		}
		return nil
	}
	for i := range tx.grown {
		if tx.grown[i].client == client {
			return &tx.grown[i]
		}
	}
	return nil
}

// grow notes the state of a client before its sequence grows.
func (tx *Transaction) grow(client int) {
	if n := len(tx.grown); n > 0 && tx.grown[n-1].client == client || tx.growth(client) != nil {
		return
	}
	state := tx.doc.store.state(client)
	tx.grown = append(tx.grown, growth{client: client, before: state, after: state})
	if tx.grownBy != nil {
		tx.grownBy[client] = len(tx.grown) - 1
	} else if len(tx.grown) > manyClients {
		tx.grownBy = make(map[int]int, 2*len(tx.grown))
		for i, g := range tx.grown {
			tx.grownBy[g.client] = i
		}
	}
}

// before is the state of a client when the transaction began.
func (tx *Transaction) before(client int) uint64 {
	if g := tx.growth(client); g != nil {
		return g.before
	}
	return tx.doc.store.state(client)
}

// adds reports whether the transaction inserted the item.
func (tx *Transaction) adds(it *item) bool { return it.clock() >= tx.before(it.id.client()) }

// deletes reports whether the transaction deleted the item.
func (tx *Transaction) deletes(it *item) bool {
	return it.deleted() && !tx.deleted.Empty() && tx.deleted.Contains(tx.doc.store.id(it.id))
}

// addItem puts an item into the store.
func (tx *Transaction) addItem(it *item) {
	client := it.id.client()
	for _, open := range tx.doc.queue {
		open.grow(client)
	}
	tx.doc.store.add(it)
}

// touch notes that the list of a type changed, or one of its keys. Types made
// or deleted in this transaction are left out: what holds them changed.
func (tx *Transaction) touch(b *branch, it *item) {
	if h := b.item; h != nil && (h.deleted() || h.clock() >= tx.before(h.id.client())) {
		return
	}
	c := tx.change(b)
	if !it.hasSub() {
		c.list = true
		return
	}
	if !tx.doc.watched {
		return // nobody will ask
	}
	if c.seen == nil && len(c.keys) > manyKeys {
		c.seen = make(map[string]struct{}, 2*len(c.keys))
		for _, k := range c.keys {
			c.seen[k] = struct{}{}
		}
	}
	if c.seen != nil {
		if _, dup := c.seen[it.sub]; dup {
			return
		}
		c.seen[it.sub] = struct{}{}
	} else if slices.Contains(c.keys, it.sub) {
		return
	}
	c.keys = append(c.keys, it.sub)
}

func (tx *Transaction) findChange(b *branch) int {
	if tx.changedBy != nil {
		if i, ok := tx.changedBy[b]; ok {
			return i
		}
		return -1
	}
	for i := len(tx.changed) - 1; i >= 0; i-- {
		if tx.changed[i].branch == b {
			return i
		}
	}
	return -1
}

func (tx *Transaction) change(b *branch) *change {
	i := tx.findChange(b)
	if i < 0 {
		i = len(tx.changed)
		tx.changed = append(tx.changed, change{branch: b})
		if tx.changedBy != nil {
			tx.changedBy[b] = i
		} else if i > manyClients {
			tx.changedBy = make(map[*branch]int, 2*i)
			for k := range tx.changed {
				if c := tx.changed[k].branch; c != nil {
					tx.changedBy[c] = k
				}
			}
		}
	}
	return &tx.changed[i]
}

func (tx *Transaction) forget(b *branch) {
	if i := tx.findChange(b); i >= 0 {
		tx.changed[i].branch = nil
		delete(tx.changedBy, b)
	}
}

// insert makes a new item of the document's own client between two neighbours.
func (tx *Transaction) insert(left, right *item, parent *branch, c content) *item {
	client := tx.doc.ownClient()
	it := &item{
		id:          makeRef(client, tx.doc.store.state(client)),
		origin:      lastIDOf(left),
		rightOrigin: idOf(right),
		left:        left,
		right:       right,
		parent:      parent,
		data:        c.data,
		length:      c.length,
		kind:        c.kind,
	}
	tx.integrate(it, 0)
	return it
}

// insertKey makes a new item that sets a map key.
func (tx *Transaction) insertKey(left *item, parent *branch, key string, c content) *item {
	client := tx.doc.ownClient()
	it := &item{
		id:          makeRef(client, tx.doc.store.state(client)),
		origin:      lastIDOf(left),
		rightOrigin: noRef,
		left:        left,
		parent:      parent,
		sub:         key,
		data:        c.data,
		length:      c.length,
		kind:        c.kind,
		flags:       flagSub,
	}
	tx.integrate(it, 0)
	return it
}

// delete marks an item as deleted, and everything in it when it holds a type.
func (tx *Transaction) delete(it *item) {
	if it.deleted() {
		return
	}
	tx.deleteOne(it)
	if it.kind == kindType {
		tx.deleteContents(it.branch())
	}
}

func (tx *Transaction) deleteOne(it *item) {
	if it.countable() && !it.hasSub() {
		it.parent.size -= int(it.length)
	}
	it.flags |= flagDeleted
	tx.deleted.Add(tx.doc.store.clients[it.id.client()].client, it.clock(), uint64(it.length))
	tx.touch(it.parent, it)
	if it.kind == kindDoc {
		tx.subdocDeleted(it.subdoc().doc)
	}
}

// deleteContents deletes what is in a type, however deep. It keeps its own
// stack: a peer decides how deep types are nested.
func (tx *Transaction) deleteContents(b *branch) {
	type frame struct {
		b    *branch
		next *item
		key  int
	}
	stack := []frame{{b: b, next: b.start}}
	for len(stack) > 0 {
		f := &stack[len(stack)-1]
		it := f.next
		switch {
		case it != nil:
			f.next = it.right
		case f.key < len(f.b.keys.items):
			it = f.b.keys.items[f.key]
			f.key++
		default:
			tx.forget(f.b)
			stack = stack[:len(stack)-1]
			continue
		}
		if it.deleted() {
			if it.clock() < tx.before(it.id.client()) {
				// Its neighbours may be deleted as well now, so that it can be
				// joined with them.
				tx.mergeItems = append(tx.mergeItems, it)
			}
			continue
		}
		tx.deleteOne(it)
		if it.kind == kindType {
			stack = append(stack, frame{b: it.branch(), next: it.branch().start})
		}
	}
}
