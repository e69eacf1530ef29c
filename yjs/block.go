package yjs

import "github.com/halcyon-db/halcyon/yjs/internal/lib0"

// kind is the content reference of a struct as it is on the wire.
type kind uint8

const (
	kindGC      kind = 0
	kindDeleted kind = 1
	kindJSON    kind = 2
	kindBinary  kind = 3
	kindString  kind = 4
	kindEmbed   kind = 5
	kindFormat  kind = 6
	kindType    kind = 7
	kindAny     kind = 8
	kindDoc     kind = 9
	kindSkip    kind = 10
)

// Bits of the info byte above the kind.
const (
	infoKind   = 0x1f
	infoSub    = 0x20
	infoRight  = 0x40
	infoOrigin = 0x80
)

type parentKind uint8

const (
	parentInherited parentKind = iota // from the origin or right origin
	parentRoot
	parentItem
)

// block is a struct of an update as the byte layer sees it: a run of one
// client's clocks with its content still encoded. Strings share the update.
type block struct {
	client uint64
	clock  uint64
	length uint64

	kind       kind
	info       uint8 // the high bits; infoSub only where sub was read
	parentKind parentKind
	typeRef    TypeKind
	json       bool // value is JSON text (read from V1), not an any

	origin ID
	right  ID
	parent ID
	root   string
	sub    string

	// text is the content of a String, the guid of a Doc, the key of a Format,
	// the name of a Type that has one.
	text string
	// value is the content of Any (its values one after the other), JSON (V1
	// strings one after the other), Binary, Embed, Format and Doc (options).
	value string
	// body is all of the struct after its info byte as V1 has it, or empty.
	body string
}

func (b *block) end() uint64 { return b.clock + b.length }

// rank orders what two updates may hold for the same clocks by how much of the
// history it keeps.
func (b *block) rank() int {
	switch b.kind {
	case kindSkip:
		return 0
	case kindGC:
		return 1
	case kindDeleted:
		return 2
	}
	return 3
}

// dropFront removes the first n units, which become the origin of the rest.
func (b *block) dropFront(n uint64) {
	b.body = ""
	if b.kind != kindGC && b.kind != kindSkip {
		b.origin = ID{b.client, b.clock + n - 1}
		b.info |= infoOrigin
	}
	b.dropContent(n)
	b.clock += n
	b.length -= n
}

func (b *block) dropContent(n uint64) {
	switch b.kind {
	case kindString:
		_, b.text = lib0.Cut(b.text, b.length, n)
	case kindAny, kindJSON:
		r := lib0.NewReader(b.value)
		skipValues(&r, b.kind, n)
		b.value = r.Rest()
	}
}

// keepFront cuts a struct without content to its first n units.
func (b *block) keepFront(n uint64) {
	b.body = ""
	b.length = n
}

func skipValues(r *lib0.Reader, k kind, n uint64) {
	for ; n > 0 && r.Err() == nil; n-- {
		if k == kindAny {
			r.SkipAny()
		} else {
			_ = r.Bytes()
		}
	}
}

// anyValue returns the value of an Embed or Format in the any format.
func (b *block) anyValue() (string, error) {
	if !b.json {
		return b.value, nil
	}
	v, err := lib0.ParseJSON(b.value)
	if err != nil {
		return "", err
	}
	raw, err := lib0.AppendAny(nil, v)
	return view(raw), err
}

// jsonValue returns the value of an Embed or Format as JSON text.
func (b *block) jsonValue() string {
	if b.json {
		return b.value
	}
	r := lib0.NewReader(b.value)
	return view(lib0.AppendJSON(nil, r.ReadAny(), lib0.BytesAsObject))
}
