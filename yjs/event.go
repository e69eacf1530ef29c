package yjs

import (
	"slices"
)

// observers are the callbacks of a shared type.
type observers struct {
	shallow handlers[*Event]
	deep    handlers[[]*Event]
}

func (b *branch) observe(f func(*Event)) (cancel func()) {
	if b.observers == nil {
		b.observers = &observers{}
	}
	if b.doc != nil {
		b.doc.watched = true
	}
	return b.observers.shallow.add(f)
}

func (b *branch) observeDeep(f func([]*Event)) (cancel func()) {
	if b.observers == nil {
		b.observers = &observers{}
	}
	if b.doc != nil {
		b.doc.watched = true
	}
	return b.observers.deep.add(f)
}

// Event describes what a transaction changed in one shared type. What it says
// is worked out from the document when it is asked for, so it is only valid in
// the observer it was passed to.
type Event struct {
	// Target is the type that changed.
	Target Type
	// Transaction is the transaction that changed it.
	Transaction *Transaction

	current *branch // the type that is being told
	list    bool
	keys    []string
}

// KeyChange is what happened to a map key or an attribute.
type KeyChange struct {
	Action KeyAction
	// Old is the value before, for KeyUpdated and KeyDeleted.
	Old any
}

// KeyAction is a kind of KeyChange.
type KeyAction string

// The actions, by the names npm yjs gives them.
const (
	KeyAdded   KeyAction = "add"
	KeyUpdated KeyAction = "update"
	KeyDeleted KeyAction = "delete"
)

// ListChanged reports whether the list part changed: the elements of an array,
// the characters of a text, the children of an element.
func (e *Event) ListChanged() bool { return e.list }

// KeysChanged returns the map keys or attributes that were touched. One that
// was set and deleted again is among them.
func (e *Event) KeysChanged() []string { return slices.Clone(e.keys) }

// Path leads from the observed type to the target: a string for each map key
// and an int for each index on the way.
func (e *Event) Path() []any { return pathTo(e.current, e.Target.base()) }

func pathTo(from, to *branch) []any {
	path := []any{}
	for to.item != nil && to != from {
		it := to.item
		if it.hasSub() {
			path = append(path, it.sub)
		} else {
			path = append(path, it.indexBefore())
		}
		to = it.parent
	}
	slices.Reverse(path)
	return path
}

// indexBefore is the number of visible units left of the item.
func (it *item) indexBefore() int {
	n := 0
	for l := it.left; l != nil; l = l.left {
		if l.visible() {
			n += int(l.length)
		}
	}
	return n
}

// Keys returns what happened to each map key or attribute.
func (e *Event) Keys() map[string]KeyChange {
	tx, b := e.Transaction, e.Target.base()
	out := map[string]KeyChange{}
	for _, key := range e.keys {
		it := b.keys.get(key)
		if it == nil {
			continue
		}
		if !tx.adds(it) {
			if tx.deletes(it) {
				out[key] = KeyChange{KeyDeleted, it.lastOrNil()}
			}
			continue
		}
		prev := it.left
		for prev != nil && tx.adds(prev) {
			prev = prev.left
		}
		replaced := prev != nil && tx.deletes(prev)
		switch {
		case tx.deletes(it) && replaced:
			out[key] = KeyChange{KeyDeleted, prev.lastOrNil()}
		case tx.deletes(it):
		case replaced:
			out[key] = KeyChange{KeyUpdated, prev.lastOrNil()}
		default:
			out[key] = KeyChange{KeyAdded, nil}
		}
	}
	return out
}

func (it *item) lastOrNil() any {
	if !it.countable() {
		return nil
	}
	return it.lastValue()
}

// Delta returns what happened to the list. For text, inserts are strings and
// embeds; for other types each insert is a []any of values.
func (e *Event) Delta() Delta {
	b := e.Target.base()
	if b.textual() {
		return e.Transaction.textDelta(b)
	}
	if !e.list {
		return nil
	}
	var d Delta
	for it := b.start; it != nil; it = it.right {
		added := e.Transaction.adds(it)
		n := len(d)
		switch {
		case it.deleted():
			if added || !e.Transaction.deletes(it) {
				continue
			}
			if n == 0 || d[n-1].Delete == 0 {
				d = append(d, Op{})
			}
			d[len(d)-1].Delete += int(it.length)
		case added:
			var have []any
			if n > 0 && d[n-1].Insert != nil {
				have = d[n-1].Insert.([]any)
			} else {
				d = append(d, Op{})
			}
			d[len(d)-1].Insert = append(have, it.values()...)
		default:
			if n == 0 || d[n-1].Retain == 0 {
				d = append(d, Op{})
			}
			d[len(d)-1].Retain += int(it.length)
		}
	}
	if n := len(d); n > 0 && d[n-1].Retain > 0 {
		d = d[:n-1]
	}
	return d
}

// textChange builds the delta of a change of a text.
type textChange struct {
	ops     Delta
	action  byte // 'i', 'r', 'd' or 0
	text    []byte
	count   int
	current attrMap // in force now
	old     attrMap // in force before the change
	changed attrMap // to be set on what is retained
}

func (c *textChange) begin(action byte) {
	if c.action != action {
		c.flush()
		c.action = action
	}
}

func (c *textChange) flush() {
	switch {
	case c.action == 'i' && len(c.text) > 0:
		c.ops = append(c.ops, Op{Insert: string(c.text), Attributes: c.current.public()})
	case c.action == 'r' && c.count > 0:
		c.ops = append(c.ops, Op{Retain: c.count, Attributes: c.changed.public()})
	case c.action == 'd' && c.count > 0:
		c.ops = append(c.ops, Op{Delete: c.count})
	}
	c.action, c.text, c.count = 0, nil, 0
}

func (c *textChange) flushRetain() {
	if c.action == 'r' {
		c.flush()
	}
}

func (tx *Transaction) textDelta(b *branch) Delta {
	c := &textChange{}
	for it := b.start; it != nil; it = it.right {
		added, gone := tx.adds(it), tx.deletes(it)
		switch it.kind {
		case kindFormat:
			c.format(it, added, gone)
			continue
		case kindDeleted:
			// Collected already; whether it was countable is not known, and it
			// was only counted when it was.
			continue
		}
		switch {
		case added && gone, !added && !gone && it.deleted():
		case added && it.kind == kindString:
			c.begin('i')
			c.text = append(c.text, it.text()...)
		case added:
			c.flush()
			v, _ := it.single()
			c.ops = append(c.ops, Op{Insert: v, Attributes: c.current.public()})
		case gone:
			c.begin('d')
			c.count += int(it.length)
		default:
			c.begin('r')
			c.count += int(it.length)
		}
	}
	c.flush()
	for n := len(c.ops); n > 0 && c.ops[n-1].Retain > 0 && c.ops[n-1].Attributes == nil; n-- {
		c.ops = c.ops[:n-1]
	}
	return c.ops
}

// format lets a mark take effect on the change. Marks that turn out redundant
// are left in place: telling what happened does not change the document.
func (c *textChange) format(it *item, added, gone bool) {
	f := it.format()
	switch {
	case added && gone:
	case added:
		if !c.current.get(f.key).equal(f.value) {
			c.flushRetain()
			if f.value.equal(c.old.get(f.key)) {
				c.changed.remove(f.key)
			} else {
				c.changed.set(f.key, f.value)
			}
		}
	case gone:
		c.old.set(f.key, f.value)
		if cur := c.current.get(f.key); !cur.equal(f.value) {
			c.flushRetain()
			c.changed.set(f.key, cur)
		}
	case !it.deleted():
		c.old.set(f.key, f.value)
		if c.changed.has(f.key) && !c.changed.get(f.key).equal(f.value) {
			c.flushRetain()
			if f.value == nil {
				c.changed.remove(f.key)
			} else {
				c.changed.set(f.key, f.value)
			}
		}
	}
	if !it.deleted() {
		if c.action == 'i' {
			c.flush()
		}
		c.current.apply(f)
	}
}

// bubble are the events that pass a type.
type bubble struct {
	branch *branch
	events []*Event
}

// observe tells the observers of the types the transaction changed, and then
// those that asked for changes within.
func (tx *Transaction) observe() {
	for i := range tx.changed {
		c := tx.changed[i]
		if c.branch == nil || c.branch.dead() {
			continue
		}
		tx.observeChange(c)
	}
	for i := range tx.bubbled {
		p := &tx.bubbled[i]
		if p.branch.dead() {
			continue
		}
		events := slices.DeleteFunc(p.events, func(e *Event) bool { return e.Target.base().dead() })
		for _, e := range events {
			e.current = p.branch
		}
		slices.SortStableFunc(events, func(x, y *Event) int { return len(x.Path()) - len(y.Path()) })
		if len(events) > 0 {
			p.branch.observers.deep.call(events)
		}
	}
}

func (tx *Transaction) observeChange(c change) {
	b := c.branch
	if !tx.Local && len(b.markers) > 0 {
		b.dropMarkers()
	}
	var e *Event
	event := func() *Event {
		if e == nil {
			e = &Event{Target: b.handle(), Transaction: tx, current: b, list: c.list, keys: c.keys}
		}
		return e
	}
	for p := b; p != nil; p = p.parent() {
		if p.observers != nil && !p.observers.deep.empty() {
			tx.bubble(p, event())
		}
	}
	if b.observers != nil && !b.observers.shallow.empty() {
		b.observers.shallow.call(event())
	}
	if !tx.Local && b.formatted && b.textual() && tx.doc.settings.CleanFormats {
		tx.cleanFormats = true
	}
}

func (tx *Transaction) bubble(b *branch, e *Event) {
	for i := range tx.bubbled {
		if tx.bubbled[i].branch == b {
			tx.bubbled[i].events = append(tx.bubbled[i].events, e)
			return
		}
	}
	tx.bubbled = append(tx.bubbled, bubble{b, []*Event{e}})
}

// changedWithin reports whether the transaction changed the type or anything in
// it.
func (tx *Transaction) changedWithin(b *branch) bool {
	for _, c := range tx.changed {
		for p := c.branch; p != nil; p = p.parent() {
			if p == b {
				return true
			}
		}
	}
	return false
}
