package yjs

import "slices"

// branch is what every shared type is made of: a list and a map, of which a
// type uses one or both. The public types are views of it.
type branch struct {
	doc   *Doc
	item  *item // what holds the type; nil for a root and while detached
	start *item // first item of the list
	keys  keyTable
	size  int    // visible units of the list
	name  string // of a root, or the node name of an XML element or hook
	kind  TypeKind
	// formatted is set once a text has held a Format item. From then on the
	// position cache is off: a position needs the attributes before it.
	formatted bool
	held      bool // whether something holds it or will
	markers   []*marker
	observers *observers
	prelim    *prelim // content given before the type is part of a document
}

func newBranch(kind TypeKind, name string) *branch { return &branch{kind: kind, name: name} }

// detached reports whether the type is not part of a document yet.
func (b *branch) detached() bool { return b.doc == nil }

// dead reports whether the type has been deleted.
func (b *branch) dead() bool { return b.item != nil && b.item.deleted() }

func (b *branch) parent() *branch {
	if b.item == nil {
		return nil
	}
	return b.item.parent
}

// textual reports whether the list is rich text.
func (b *branch) textual() bool { return b.kind == KindText || b.kind == KindXMLText }

// cached reports whether positions of the list are cached.
func (b *branch) cached() bool {
	return b.kind == KindArray || b.textual() && !b.formatted
}

// keyTable holds the newest item of each map key in the order the keys came
// in. The zero value is empty.
type keyTable struct {
	items []*item
	index map[string]int // once there are many
}

const manyKeys = 12

func (t *keyTable) find(key string) int {
	if t.index != nil {
		if i, ok := t.index[key]; ok {
			return i
		}
		return -1
	}
	for i, it := range t.items {
		if it.sub == key {
			return i
		}
	}
	return -1
}

func (t *keyTable) get(key string) *item {
	if i := t.find(key); i >= 0 {
		return t.items[i]
	}
	return nil
}

// set makes it the newest item of its key.
func (t *keyTable) set(it *item) {
	if i := t.find(it.sub); i >= 0 {
		t.items[i] = it
		return
	}
	if n := len(t.items); n == cap(t.items) && n < 16 {
		// Most maps have two or three keys, or about eight.
		t.items = slices.Grow(t.items, max(2, 3*n))
	}
	t.items = append(t.items, it)
	if t.index != nil {
		t.index[it.sub] = len(t.items) - 1
	} else if len(t.items) > manyKeys {
		t.index = make(map[string]int, 2*len(t.items))
		for i, it := range t.items {
			t.index[it.sub] = i
		}
	}
}

// leftmost returns the first item of a key's list.
func (t *keyTable) leftmost(key string) *item {
	it := t.get(key)
	for it != nil && it.left != nil {
		it = it.left
	}
	return it
}

// within reports whether the type, or one that holds it, is b.
func (it *item) within(b *branch) bool {
	for it != nil {
		if it.parent == b {
			return true
		}
		it = it.parent.item
	}
	return false
}
