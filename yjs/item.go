package yjs

import (
	"math"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// ref is an ID within one document: the index of the client in the document's
// store and the clock, in one word.
type ref uint64

const (
	clockBits  = 40
	noRef      = ref(math.MaxUint64)
	clientsMax = 1<<(64-clockBits) - 1
)

func makeRef(client int, clock uint64) ref { return ref(uint64(client)<<clockBits | clock) }

func (r ref) client() int { return int(r >> clockBits) }

func (r ref) clock() uint64 { return uint64(r) & clockMax }

type itemFlags uint8

const (
	flagDeleted itemFlags = 1 << iota
	flagKeep              // not to be collected: the undo manager needs it
	flagSub               // sub is set
	flagMarked            // a position marker points here
	flagRedone            // the store knows a later copy of it
)

// item is one struct of a document: a run of units one client inserted, or a
// collected run (kindGC), of which only id and length are left. Items of one
// shared type form a doubly linked list; those of one map key another.
type item struct {
	id          ref
	origin      ref // last unit of the left neighbour when it was made
	rightOrigin ref // first unit of the right neighbour when it was made
	left, right *item
	parent      *branch
	sub         string // the map key, with flagSub
	// data is the content: UTF-8 of a String; values in the any format of Any
	// and Embed; V1 strings of JSON; the bytes of Binary; a *branch for Type, a
	// *format for Format, a *subdoc for Doc.
	data   payload
	length uint32
	kind   kind
	flags  itemFlags
}

func (it *item) clock() uint64   { return it.id.clock() }
func (it *item) end() uint64     { return it.id.clock() + uint64(it.length) }
func (it *item) lastID() ref     { return it.id + ref(it.length-1) }
func (it *item) deleted() bool   { return it.flags&flagDeleted != 0 }
func (it *item) keep() bool      { return it.flags&flagKeep != 0 }
func (it *item) hasSub() bool    { return it.flags&flagSub != 0 }
func (it *item) isGC() bool      { return it.kind == kindGC }
func (it *item) countable() bool { return it.kind != kindDeleted && it.kind != kindFormat }

// visible reports whether the item counts for the length of its type.
func (it *item) visible() bool { return !it.deleted() && it.countable() }

func lastIDOf(it *item) ref {
	if it == nil {
		return noRef
	}
	return it.lastID()
}

func idOf(it *item) ref {
	if it == nil {
		return noRef
	}
	return it.id
}

// format is the content of a Format item: from here on, key has this value.
type format struct {
	key   string
	value *attr
}

// attr is the value of a text attribute; nil stands for null. Two attributes
// that come from the same item share the pointer, which is the identity that
// JavaScript's === compares objects by.
type attr struct {
	raw   string // in the any format
	value any
}

var nullAttr = "\x7e"

func newAttr(raw string) *attr {
	if raw == nullAttr {
		return nil
	}
	r := lib0.NewReader(raw)
	return &attr{raw: raw, value: r.ReadAny()}
}

func makeAttr(v any) (*attr, error) {
	if v == nil {
		return nil, nil
	}
	raw, err := appendJSONAny(v)
	if err != nil {
		return nil, err
	}
	return newAttr(string(raw)), nil
}

func (a *attr) bytes() string {
	if a == nil {
		return nullAttr
	}
	return a.raw
}

func (a *attr) get() any {
	if a == nil {
		return nil
	}
	return a.value
}

// same is JavaScript's ===.
func (a *attr) same(b *attr) bool {
	if a == b {
		return true
	}
	return a != nil && b != nil && sameValue(a.value, b.value)
}

func sameValue(a, b any) bool {
	switch a.(type) {
	case []any, []byte, Object:
		return false
	}
	switch b.(type) {
	case []any, []byte, Object:
		return false
	}
	return a == b
}

// equal is how yjs compares attributes: === or objects with members that are.
func (a *attr) equal(b *attr) bool {
	if a.same(b) {
		return true
	}
	if a == nil || b == nil {
		return false
	}
	switch x := a.value.(type) {
	case Object:
		y, ok := b.value.(Object)
		if !ok || len(x) != len(y) {
			return false
		}
		for _, m := range x {
			v, ok := y.Get(m.Key)
			if !ok || !sameValue(m.Value, v) {
				return false
			}
		}
		return true
	case []any:
		y, ok := b.value.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !sameValue(x[i], y[i]) {
				return false
			}
		}
		return true
	case []byte:
		y, ok := b.value.([]byte)
		return ok && string(x) == string(y)
	}
	return false
}

// splitContent cuts the content at a unit and returns the right part.
func (it *item) splitContent(at uint64) payload {
	text := it.text()
	var left, right []byte
	switch it.kind {
	case kindString:
		i, pair := lib0.Offset(text, uint64(it.length), at)
		left, right = text[:i:i], text[i:]
		if pair {
			right = append([]byte(lib0.Replacement), right[4:]...)
			left = append(left, lib0.Replacement...)
		}
	case kindAny, kindJSON:
		r := lib0.NewReader(view(text))
		skipValues(&r, it.kind, at)
		i := r.Pos()
		left, right = text[:i:i], text[i:]
	default:
		return payload{}
	}
	it.data = bytesPayload(left)
	return bytesPayload(right)
}

// mergeable reports whether the content of two items of this kind can become
// one.
func (k kind) mergeable() bool {
	return k == kindString || k == kindAny || k == kindJSON || k == kindDeleted
}

// mergeWith appends the item that follows r in its client's sequence, when both
// are what one item was split into, or might have been.
func (it *item) mergeWith(r *item) bool {
	if it.kind != r.kind || uint64(it.length)+uint64(r.length) > math.MaxUint32 ||
		uint64(it.data.size)+uint64(r.data.size) > math.MaxUint32 {
		return false
	}
	if it.kind == kindGC {
		it.length += r.length
		return true
	}
	if !it.kind.mergeable() || r.origin != it.lastID() || it.right != r || it.rightOrigin != r.rightOrigin ||
		it.id+ref(it.length) != r.id || (it.flags^r.flags)&flagDeleted != 0 || (it.flags|r.flags)&flagRedone != 0 {
		return false
	}
	for _, m := range it.parent.markers {
		if m.item == r {
			m.item = it
			if it.visible() {
				m.index -= int(it.length)
			}
		}
	}
	it.flags |= r.flags & flagKeep
	if r.data.size > 0 {
		it.data = bytesPayload(append(it.text(), r.text()...))
	}
	it.right = r.right
	if it.right != nil {
		it.right.left = it
	}
	it.length += r.length
	return true
}

// values returns the content as Go values; shared types and subdocuments as
// their handles. Text is one string.
func (it *item) values() []any {
	switch it.kind {
	case kindString:
		return []any{string(it.text())}
	case kindBinary:
		return []any{append([]byte(nil), it.text()...)}
	case kindAny, kindJSON:
		out := make([]any, 0, min(int(it.length), len(it.text())))
		r := lib0.NewReader(view(it.text()))
		for range it.length {
			out = append(out, readValue(&r, it.kind))
		}
		return out
	}
	if v, ok := it.single(); ok {
		return []any{v}
	}
	return nil
}

// single returns the content of an item that holds one value.
func (it *item) single() (any, bool) {
	switch it.kind {
	case kindBinary:
		return append([]byte(nil), it.text()...), true
	case kindEmbed:
		r := lib0.NewReader(string(it.text()))
		return r.ReadAny(), true
	case kindType:
		return it.branch().handle(), true
	case kindDoc:
		return it.subdoc().doc, true
	}
	return nil, false
}

// valueAt returns the value at an offset in the item.
func (it *item) valueAt(at uint64) any {
	switch it.kind {
	case kindAny, kindJSON:
		r := lib0.NewReader(view(it.text()))
		skipValues(&r, it.kind, at)
		return readValue(&r, it.kind)
	case kindString:
		i, pair := lib0.Offset(it.text(), uint64(it.length), at)
		if pair || it.text()[i] >= 0xf0 {
			return lib0.Replacement
		}
		j, _ := lib0.Offset(it.text(), uint64(it.length), at+1)
		return string(it.text()[i:j])
	}
	if v, ok := it.single(); ok {
		return v
	}
	return Undefined{} // a format as the value of a map's key, which nobody but an attacker writes
}

// lastValue is what a map key is set to.
func (it *item) lastValue() any { return it.valueAt(uint64(it.length) - 1) }

// readValue reads one value of Any or JSON content into memory of its own.
func readValue(r *lib0.Reader, k kind) any {
	if k == kindAny {
		return detach(r.ReadAny())
	}
	s := r.Bytes()
	if s == "undefined" {
		return Undefined{}
	}
	v, _ := lib0.ParseJSON(s)
	return detach(v)
}

// detach copies what shares memory with a document.
func detach(v any) any {
	switch v := v.(type) {
	case string:
		return string([]byte(v))
	case []any:
		for i := range v {
			v[i] = detach(v[i])
		}
	case Object:
		for i := range v {
			v[i].Key = string([]byte(v[i].Key))
			v[i].Value = detach(v[i].Value)
		}
	}
	return v
}
