package yjs

import (
	"slices"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// encodeColumns is the writing side of columns.
type encodeColumns struct {
	keyClock   lib0.DiffRuns
	client     lib0.UintRuns
	leftClock  lib0.DiffRuns
	rightClock lib0.DiffRuns
	info       lib0.ByteRuns
	strings    lib0.Strings
	parentInfo lib0.ByteRuns
	typeRef    lib0.UintRuns
	length     lib0.UintRuns
	keys       uint64
}

// encoder writes structs grouped by client and then a delete set. The number
// of clients and of structs come first on the wire and are only known at the
// end, so what goes before them is kept apart.
type encoder struct {
	cols    *encodeColumns // nil for V1
	done    []byte         // closed client blocks
	blocks  uint64
	cur     []byte // the structs of the open client block, behind room for a head
	head    int    // how much room
	client  uint64
	start   uint64 // clock of the open block
	written uint64
	err     error
}

func newEncoder(v Version, size int) *encoder {
	e := &encoder{}
	e.init(v, size)
	return e
}

func (e *encoder) init(v Version, size int) {
	if v == V2 {
		e.cols = &encodeColumns{}
	} else if size > 0 {
		e.cur = make([]byte, 0, size)
	}
}

// open begins the block of a client unless it is open already.
func (e *encoder) open(client, clock uint64) {
	if e.written > 0 && e.client == client {
		return
	}
	e.flush()
	e.client, e.start = client, clock
	if e.cols != nil {
		e.cols.client.Write(client)
	}
}

func (e *encoder) flush() {
	if e.written == 0 {
		return
	}
	e.blocks++
	e.done = lib0.AppendUint(e.done, e.written)
	if e.cols == nil {
		e.done = lib0.AppendUint(e.done, e.client)
	}
	e.done = lib0.AppendUint(e.done, e.start)
	e.done = append(e.done, e.cur[e.head:]...)
	e.cur, e.written = e.cur[:e.head], 0
}

// headRoom is what the counts, the client and the clock before the structs of a
// first block take at most.
const headRoom = 40

// reserve makes room for structs, and for a head before those of a first block,
// so that they need not be moved when there is no second one. REQUIRES: V1.
func (e *encoder) reserve(size int) {
	if len(e.cur) > 0 || e.blocks > 0 {
		e.cur = slices.Grow(e.cur, size)
		return
	}
	e.head = headRoom
	e.cur = append(slices.Grow([]byte(nil), headRoom+size), make([]byte, headRoom)...)
}

// write appends a struct without its first offset units. A gap in front of all
// structs of a client says nothing, and npm yjs keeps for ever pending what
// follows one, so none is written.
func (e *encoder) write(b *block, offset uint64) {
	if b.kind == kindSkip && (e.written == 0 || e.client != b.client) {
		return
	}
	e.open(b.client, b.clock+offset)
	e.written++
	if offset == 0 && e.cols == nil && b.body != "" {
		e.cur = append(e.cur, uint8(b.kind)|b.info)
		e.cur = append(e.cur, b.body...)
		return
	}
	info := b.info
	if offset > 0 && b.kind != kindGC && b.kind != kindSkip {
		info |= infoOrigin
	}
	e.writeInfo(uint8(b.kind) | info)
	switch b.kind {
	case kindGC:
		e.writeLen(b.length - offset)
		return
	case kindSkip:
		e.cur = lib0.AppendUint(e.cur, b.length-offset)
		return
	}
	if info&infoOrigin != 0 {
		origin := b.origin
		if offset > 0 {
			origin = ID{b.client, b.clock + offset - 1}
		}
		e.writeLeft(origin)
	}
	if info&infoRight != 0 {
		e.writeRight(b.right)
	}
	if info&(infoOrigin|infoRight) == 0 {
		if b.parentKind == parentRoot {
			e.writeParentInfo(1)
			e.writeString(b.root)
		} else {
			e.writeParentInfo(0)
			e.writeLeft(b.parent)
		}
		if info&infoSub != 0 {
			e.writeString(b.sub)
		}
	}
	if offset > 0 {
		part := *b
		part.dropContent(offset)
		part.length -= offset
		b = &part
	}
	e.writeContent(b)
}

func (e *encoder) writeContent(b *block) {
	switch b.kind {
	case kindDeleted:
		e.writeLen(b.length)
	case kindString:
		if e.cols == nil {
			e.cur = lib0.AppendString(e.cur, b.text)
		} else {
			e.cols.strings.WriteUnits(b.text, b.length)
		}
	case kindAny:
		e.writeLen(b.length)
		e.cur = append(e.cur, b.value...)
	case kindJSON:
		e.writeLen(b.length)
		if e.cols == nil {
			e.cur = append(e.cur, b.value...)
			return
		}
		r := lib0.NewReader(b.value)
		for range b.length {
			e.cols.strings.Write(r.Bytes())
		}
	case kindBinary:
		e.cur = lib0.AppendString(e.cur, b.value)
	case kindEmbed:
		e.writeValue(b)
	case kindFormat:
		e.writeKey(b.text)
		e.writeValue(b)
	case kindType:
		if e.cols == nil {
			e.cur = lib0.AppendUint(e.cur, uint64(b.typeRef))
		} else {
			e.cols.typeRef.Write(uint64(b.typeRef))
		}
		if b.typeRef.named() {
			e.writeKey(b.text)
		}
	case kindDoc:
		e.writeString(b.text)
		e.cur = append(e.cur, b.value...)
	}
}

// writeValue writes an embed or the value of a format: JSON text in V1, an any
// in V2.
func (e *encoder) writeValue(b *block) {
	if e.cols == nil {
		e.cur = lib0.AppendString(e.cur, b.jsonValue())
		return
	}
	raw, err := b.anyValue()
	if err != nil && e.err == nil {
		e.err = err
	}
	e.cur = append(e.cur, raw...)
}

// finish closes the update with a delete set.
func (e *encoder) finish(deleted *DeleteSet) ([]byte, error) {
	return e.finishRaw("", deleted)
}

// finishRaw is finish with the delete set already encoded for V1.
func (e *encoder) finishRaw(raw string, deleted *DeleteSet) ([]byte, error) {
	if e.err != nil {
		return nil, e.err
	}
	if e.cols == nil {
		return e.finishV1(raw, deleted), nil
	}
	e.flush()
	var head [10]byte
	count := lib0.AppendUint(head[:0], e.blocks)
	c := e.cols
	out := make([]byte, 0, len(e.done)+256)
	out = append(out, 0)
	for _, column := range [...][]byte{c.keyClock.Bytes(), c.client.Bytes(), c.leftClock.Bytes(), c.rightClock.Bytes(),
		c.info.Bytes(), c.strings.Bytes(), c.parentInfo.Bytes(), c.typeRef.Bytes(), c.length.Bytes()} {
		out = lib0.AppendString(out, column)
	}
	out = append(out, count...)
	out = append(out, e.done...)
	return deleted.appendTo(out, V2), nil
}

func (e *encoder) finishV1(raw string, deleted *DeleteSet) []byte {
	if e.head > 0 && e.blocks == 0 && e.written > 0 && raw != "" {
		var room [headRoom]byte
		head := lib0.AppendUint(lib0.AppendUint(lib0.AppendUint(lib0.AppendUint(room[:0], 1), e.written), e.client), e.start)
		start := e.head - len(head)
		copy(e.cur[start:], head)
		return append(e.cur[start:], raw...)
	}
	size := 40 + len(e.done) + len(e.cur) + len(raw)
	if raw == "" {
		for i := range deleted.clients {
			size += 16 + 6*len(deleted.clients[i].ranges)
		}
	}
	blocks := e.blocks
	if e.written > 0 {
		blocks++
	}
	out := lib0.AppendUint(make([]byte, 0, size), blocks)
	out = append(out, e.done...)
	if e.written > 0 {
		// The last block goes straight into the result.
		out = lib0.AppendUint(out, e.written)
		out = lib0.AppendUint(out, e.client)
		out = lib0.AppendUint(out, e.start)
		out = append(out, e.cur[e.head:]...)
	}
	if raw != "" {
		return append(out, raw...)
	}
	return deleted.appendTo(out, V1)
}

func (e *encoder) writeInfo(info uint8) {
	if e.cols == nil {
		e.cur = append(e.cur, info)
		return
	}
	e.cols.info.Write(info)
}

func (e *encoder) writeLen(n uint64) {
	if e.cols == nil {
		e.cur = lib0.AppendUint(e.cur, n)
		return
	}
	e.cols.length.Write(n)
}

func (e *encoder) writeLeft(id ID) {
	if e.cols == nil {
		e.cur = lib0.AppendUint(lib0.AppendUint(e.cur, id.Client), id.Clock)
		return
	}
	e.cols.client.Write(id.Client)
	e.cols.leftClock.Write(id.Clock)
}

func (e *encoder) writeRight(id ID) {
	if e.cols == nil {
		e.cur = lib0.AppendUint(lib0.AppendUint(e.cur, id.Client), id.Clock)
		return
	}
	e.cols.client.Write(id.Client)
	e.cols.rightClock.Write(id.Clock)
}

func (e *encoder) writeParentInfo(v uint8) {
	if e.cols == nil {
		e.cur = append(e.cur, v)
		return
	}
	e.cols.parentInfo.Write(v)
}

func (e *encoder) writeString(s string) {
	if e.cols == nil {
		e.cur = lib0.AppendString(e.cur, s)
		return
	}
	e.cols.strings.Write(s)
}

// writeKey writes a key anew each time, as yjs 13 does.
func (e *encoder) writeKey(s string) {
	if e.cols == nil {
		e.cur = lib0.AppendString(e.cur, s)
		return
	}
	e.cols.keyClock.Write(e.cols.keys)
	e.cols.keys++
	e.cols.strings.Write(s)
}
