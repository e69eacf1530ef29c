package yjs

// textPos is a place between two items of a text and the attributes in force
// there.
type textPos struct {
	left, right *item
	index       int
	attrs       attrMap
}

// forward moves over the item to the right.
func (p *textPos) forward() {
	if it := p.right; !it.deleted() {
		if it.kind == kindFormat {
			p.attrs.apply(it.format())
		} else {
			p.index += int(it.length)
		}
	}
	p.left, p.right = p.right, p.right.right
}

// advance moves over n visible units, splitting the item they end in.
func (p *textPos) advance(tx *Transaction, n int) {
	for p.right != nil && n > 0 {
		if it := p.right; it.kind != kindFormat && !it.deleted() {
			if n < int(it.length) {
				tx.cleanStart(it.id + ref(n))
			}
			n -= int(it.length)
		}
		p.forward()
	}
}

// textPosition finds a place in a text. With the cache the attributes are not
// known, but then the text has none.
func (tx *Transaction) textPosition(b *branch, index int, cache bool) *textPos {
	if cache {
		if m := b.findMarker(index); m != nil {
			p := &textPos{left: m.item.left, right: m.item, index: m.index}
			p.advance(tx, index-m.index)
			return p
		}
	}
	p := &textPos{right: b.start}
	p.advance(tx, index)
	return p
}

// put inserts content at the place and moves behind it.
func (p *textPos) put(tx *Transaction, b *branch, c content) {
	p.right = tx.insert(p.left, p.right, b, c)
	p.forward()
}

// skipRedundant moves over deleted items and marks that say what is wanted
// anyway.
func (p *textPos) skipRedundant(want attrMap) {
	for p.right != nil {
		it := p.right
		if !it.deleted() && (it.kind != kindFormat || !want.get(it.format().key).equal(it.format().value)) {
			return
		}
		p.forward()
	}
}

// openFormats inserts the marks that make the wanted attributes hold and
// returns what is to be restored after them.
func (p *textPos) openFormats(tx *Transaction, b *branch, want attrMap) (restore attrMap) {
	for _, e := range want {
		current := p.attrs.get(e.key)
		if !current.equal(e.value) {
			restore.set(e.key, current)
			p.put(tx, b, formatContent(e.key, e.value))
		}
	}
	return restore
}

// closeFormats inserts the marks that restore attributes, unless they follow
// anyway.
func (p *textPos) closeFormats(tx *Transaction, b *branch, restore attrMap) {
	for p.right != nil {
		it := p.right
		if !it.deleted() {
			if it.kind != kindFormat {
				break
			}
			f := it.format()
			// A name that is not restored is undefined, which no value equals.
			if !restore.has(f.key) || !restore.get(f.key).equal(f.value) {
				break
			}
			restore.remove(f.key)
		}
		p.forward()
	}
	for _, e := range restore {
		p.put(tx, b, formatContent(e.key, e.value))
	}
}

// insertText inserts text or an embed with exactly the given attributes.
func (tx *Transaction) insertText(b *branch, p *textPos, c content, want attrMap) {
	for _, e := range p.attrs {
		if !want.has(e.key) {
			want = append(want[:len(want):len(want)], attrEntry{e.key, nil})
		}
	}
	want = want.canonical()
	p.skipRedundant(want)
	restore := p.openFormats(tx, b, want)
	if b.cached() {
		b.moveMarkers(p.index, int(c.length))
	}
	index := p.index
	p.right = tx.insert(p.left, p.right, b, c)
	p.index = index
	p.forward()
	p.closeFormats(tx, b, restore)
}

// formatText sets attributes on the n units that follow. Where the text ends
// before, newlines are added.
func (tx *Transaction) formatText(b *branch, p *textPos, n int, want attrMap) {
	p.skipRedundant(want)
	restore := p.openFormats(tx, b, want)
loop:
	for p.right != nil && (n > 0 || len(restore) > 0 && (p.right.deleted() || p.right.kind == kindFormat)) {
		it := p.right
		switch {
		case it.deleted():
		case it.kind == kindFormat:
			f := it.format()
			if !want.has(f.key) {
				p.attrs.set(f.key, f.value)
				break
			}
			if want.get(f.key).equal(f.value) {
				restore.remove(f.key)
			} else {
				if n == 0 {
					break loop
				}
				restore.set(f.key, f.value)
			}
			tx.delete(it)
		default:
			if n < int(it.length) {
				tx.cleanStart(it.id + ref(n))
			}
			n -= int(it.length)
		}
		p.forward()
	}
	if n > 0 {
		newlines := make([]byte, n)
		for i := range newlines {
			newlines[i] = '\n'
		}
		p.put(tx, b, content{kind: kindString, data: bytesPayload(newlines), length: uint32(n)})
	}
	p.closeFormats(tx, b, restore)
}

// deleteText deletes the n units that follow, and the marks that become
// useless by it.
func (tx *Transaction) deleteText(b *branch, p *textPos, n int) {
	want := n
	before := append(attrMap(nil), p.attrs...)
	start := p.right
	for n > 0 && p.right != nil {
		if it := p.right; !it.deleted() && (it.kind == kindType || it.kind == kindEmbed || it.kind == kindString) {
			if n < int(it.length) {
				tx.cleanStart(it.id + ref(n))
			}
			n -= int(it.length)
			tx.delete(it)
		}
		p.forward()
	}
	if start != nil {
		tx.cleanGap(start, p.right, before, &p.attrs)
	}
	if b.cached() {
		b.moveMarkers(p.index, n-want)
	}
}

// cleanGap deletes, in a stretch without visible content, the marks that have
// no effect on what follows. startAttrs are in force before the stretch;
// currAttrs at curr, and are kept true to what is deleted before it.
func (tx *Transaction) cleanGap(start, curr *item, startAttrs attrMap, currAttrs *attrMap) (removed int) {
	var last map[string]*format
	end := start
	for end != nil && !end.visible() {
		if !end.deleted() && end.kind == kindFormat {
			if last == nil {
				last = map[string]*format{}
			}
			f := end.format()
			last[f.key] = f
		}
		end = end.right
	}
	reached := false
	for it := start; it != end; it = it.right {
		if it == curr {
			reached = true
		}
		if it.deleted() || it.kind != kindFormat {
			continue
		}
		f := it.format()
		before := startAttrs.get(f.key)
		if last[f.key] != f || before.same(f.value) {
			tx.delete(it)
			removed++
			if !reached && currAttrs.get(f.key).same(f.value) && !before.same(f.value) {
				if before == nil {
					currAttrs.remove(f.key)
				} else {
					currAttrs.set(f.key, before)
				}
			}
		}
		if !reached && !it.deleted() {
			currAttrs.apply(f)
		}
	}
	return removed
}

// cleanGapAround deletes, in the stretch without visible content around an
// item, all but the last mark of each name.
func (tx *Transaction) cleanGapAround(it *item) {
	for it != nil && it.right != nil && !it.right.visible() {
		it = it.right
	}
	seen := map[string]struct{}{}
	for it != nil && !it.visible() {
		if !it.deleted() && it.kind == kindFormat {
			key := it.format().key
			if _, dup := seen[key]; dup {
				tx.delete(it)
			} else {
				seen[key] = struct{}{}
			}
		}
		it = it.left
	}
}

// cleanFormatting deletes the marks of a text that have no effect.
func (tx *Transaction) cleanFormatting(b *branch) (removed int) {
	start := b.start
	var startAttrs, attrs attrMap
	for end := b.start; end != nil; end = end.right {
		if end.deleted() {
			continue
		}
		if end.kind == kindFormat {
			attrs.apply(end.format())
			continue
		}
		removed += tx.cleanGap(start, end, startAttrs, &attrs)
		startAttrs = append(attrMap(nil), attrs...)
		start = end
	}
	return removed
}

// cleanupFormats is what npm yjs does after changes from a peer: marks the
// changes made useless are deleted, in a transaction of its own.
func (tx *Transaction) cleanupFormats() {
	d := tx.doc
	var full []*branch
	isFull := map[*branch]struct{}{}
	add := func(b *branch) {
		if _, ok := isFull[b]; !ok {
			isFull[b] = struct{}{}
			full = append(full, b)
		}
	}
	for _, g := range tx.grown {
		if g.after == g.before {
			continue
		}
		c := &d.store.clients[g.client]
		for _, it := range c.items[c.index(g.before):] {
			if it.clock() >= g.after {
				break
			}
			if !it.deleted() && it.kind == kindFormat {
				add(it.parent)
			}
		}
	}
	d.transact(nil, true, func(t *Transaction) {
		tx.deletedItems(&tx.deleted, func(it *item) {
			if it.isGC() || !it.parent.formatted {
				return
			}
			if _, ok := isFull[it.parent]; ok {
				return
			}
			if it.kind == kindFormat {
				add(it.parent)
			} else {
				t.cleanGapAround(it)
			}
		})
		for _, b := range full {
			t.cleanFormatting(b)
		}
	})
}
