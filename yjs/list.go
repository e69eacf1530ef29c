package yjs

import (
	"fmt"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// content is what a new item is made of.
type content struct {
	data   payload
	length uint32
	kind   kind
}

func stringContent(s string) content {
	return content{kind: kindString, data: bytesPayload(frozen(s)), length: uint32(lib0.Units(s))}
}

func typeContent(b *branch) content {
	return content{kind: kindType, data: branchPayload(b), length: 1}
}

// makeContent turns a value into content. Shared types have been claimed.
func makeContent(v any) (content, error) {
	switch v := v.(type) {
	case []byte:
		return content{kind: kindBinary, data: bytesPayload(append([]byte(nil), v...)), length: 1}, nil
	case Type:
		return typeContent(v.base()), nil
	case *Doc:
		sub, err := v.asSubdoc()
		if err != nil {
			return content{}, err
		}
		return content{kind: kindDoc, data: subdocPayload(sub), length: 1}, nil
	}
	raw, err := lib0.AppendAny(nil, v)
	if err != nil {
		return content{}, err
	}
	return content{kind: kindAny, data: bytesPayload(raw), length: 1}, nil
}

// makeContents turns values into content, plain ones that follow each other
// into one.
func makeContents(values []any) ([]content, error) {
	var out []content
	for _, v := range values {
		c, err := makeContent(v)
		if err != nil {
			return nil, err
		}
		if n := len(out); c.kind == kindAny && n > 0 && out[n-1].kind == kindAny {
			out[n-1].data = bytesPayload(append(out[n-1].data.bytes(), c.data.bytes()...))
			out[n-1].length++
			continue
		}
		out = append(out, c)
	}
	return out, nil
}

// insertAfter inserts contents right of an item, or at the start.
func (tx *Transaction) insertAfter(b *branch, left *item, contents []content) {
	right := b.start
	if left != nil {
		right = left.right
	}
	for _, c := range contents {
		left = tx.insert(left, right, b, c)
	}
}

func rangeError(index, size int) error {
	return fmt.Errorf("%w: %d of %d", ErrRange, index, size)
}

// insertList inserts values into a list.
func (tx *Transaction) insertList(b *branch, index int, values []any) error {
	if index < 0 || index > b.size {
		return rangeError(index, b.size)
	}
	contents, err := makeContents(values)
	if err != nil || len(values) == 0 {
		return err
	}
	if index == 0 {
		if b.cached() {
			b.moveMarkers(0, len(values))
		}
		tx.insertAfter(b, nil, contents)
		return nil
	}
	it, at := b.start, index
	if m := b.findMarker(index); m != nil {
		it = m.item
		at -= m.index
		if at == 0 {
			// The insertion goes to the end of the visible item before.
			it = it.left
			for it != nil && it.deleted() {
				it = it.left
			}
			if it != nil && it.visible() {
				at += int(it.length)
			}
		}
	}
	for ; it != nil; it = it.right {
		if !it.visible() {
			continue
		}
		if at <= int(it.length) {
			if at < int(it.length) {
				tx.cleanStart(it.id + ref(at))
			}
			break
		}
		at -= int(it.length)
	}
	if b.cached() {
		b.moveMarkers(index, len(values))
	}
	tx.insertAfter(b, it, contents)
	return nil
}

// pushList appends values to a list, after everything in it, deleted or not.
func (tx *Transaction) pushList(b *branch, values []any) error {
	contents, err := makeContents(values)
	if err != nil {
		return err
	}
	it, at := b.start, 0
	for _, m := range b.markers {
		if m.index > at {
			it, at = m.item, m.index
		}
	}
	for it != nil && it.right != nil {
		it = it.right
	}
	tx.insertAfter(b, it, contents)
	return nil
}

// deleteList deletes n visible units of a list.
func (tx *Transaction) deleteList(b *branch, index, n int) error {
	if index < 0 || n < 0 || n > b.size-index {
		return rangeError(index+n, b.size)
	}
	if n == 0 {
		return nil
	}
	it, at := b.start, index
	if m := b.findMarker(index); m != nil {
		it = m.item
		at -= m.index
	}
	for ; it != nil && at > 0; it = it.right {
		if !it.visible() {
			continue
		}
		if at < int(it.length) {
			tx.cleanStart(it.id + ref(at))
		}
		at -= int(it.length)
	}
	left := n
	for ; left > 0 && it != nil; it = it.right {
		if it.deleted() {
			continue
		}
		if left < int(it.length) {
			tx.cleanStart(it.id + ref(left))
		}
		tx.delete(it)
		left -= int(it.length)
	}
	if b.cached() {
		b.moveMarkers(index, -n)
	}
	return nil
}

// at returns the value at an index of a list.
func (b *branch) at(index int) (any, bool) {
	if index < 0 || index >= b.size {
		return nil, false
	}
	it := b.start
	if m := b.findMarker(index); m != nil {
		it = m.item
		index -= m.index
	}
	for ; it != nil; it = it.right {
		if !it.visible() {
			continue
		}
		if index < int(it.length) {
			return it.valueAt(uint64(index)), true
		}
		index -= int(it.length)
	}
	return nil, false
}

// each calls f for the values of a list until it returns false.
func (b *branch) each(f func(any) bool) {
	for it := b.start; it != nil; it = it.right {
		if !it.visible() {
			continue
		}
		if it.kind == kindString {
			if !eachUnit(it.text(), func(s string) bool { return f(s) }) {
				return
			}
			continue
		}
		for _, v := range it.values() {
			if !f(v) {
				return
			}
		}
	}
}

// eachUnit calls f for the UTF-16 code units of a text until it returns false;
// for each half of a surrogate pair with U+FFFD.
func eachUnit(text []byte, f func(string) bool) bool {
	for _, r := range string(text) {
		s := string(r)
		if r > 0xffff {
			s = lib0.Replacement
			if !f(s) {
				return false
			}
		}
		if !f(s) {
			return false
		}
	}
	return true
}

// setKey sets a map key.
func (tx *Transaction) setKey(b *branch, key string, v any) error {
	c, err := makeContent(v)
	if err != nil {
		return err
	}
	tx.insertKey(b.keys.get(key), b, key, c)
	return nil
}

func (tx *Transaction) deleteKey(b *branch, key string) {
	if it := b.keys.get(key); it != nil {
		tx.delete(it)
	}
}

// key returns what a map key is set to.
func (b *branch) key(key string) (any, bool) {
	it := b.keys.get(key)
	if it == nil || it.deleted() {
		return nil, false
	}
	return it.lastValue(), true
}
