package yjs

import (
	"fmt"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// Delta describes content or a change of it, in the format of the Quill editor.
type Delta []Op

// Op is one step of a Delta: exactly one of Insert, Retain and Delete is set.
type Op struct {
	// Insert is text, an embedded value, a shared type or a document; in a
	// change of an array it is a []any of the inserted values.
	Insert     any
	Retain     int
	Delete     int
	Attributes Attributes
}

// AppendJSON appends the delta as JSON with sorted attribute names.
func (d Delta) AppendJSON(dst []byte) []byte {
	dst = append(dst, '[')
	for i, op := range d {
		if i > 0 {
			dst = append(dst, ',')
		}
		switch {
		case op.Insert != nil:
			dst = appendValueJSON(append(dst, `{"insert":`...), op.Insert)
		case op.Delete > 0:
			dst = lib0.AppendJSONNumber(append(dst, `{"delete":`...), float64(op.Delete))
		default:
			dst = lib0.AppendJSONNumber(append(dst, `{"retain":`...), float64(op.Retain))
		}
		if op.Attributes != nil {
			dst = appendValueJSON(append(dst, `,"attributes":`...), lib0.FromMap(op.Attributes))
		}
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// MarshalJSON implements json.Marshaler.
func (d Delta) MarshalJSON() ([]byte, error) { return d.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (d *Delta) UnmarshalJSON(data []byte) error {
	v, err := lib0.ParseJSON(string(data))
	if err != nil {
		return fmt.Errorf("parse delta: %w", err)
	}
	ops, ok := v.([]any)
	if !ok {
		return fmt.Errorf("parse delta: %w: not an array", ErrMalformed)
	}
	*d = (*d)[:0]
	for _, v := range ops {
		o, ok := v.(Object)
		if !ok {
			return fmt.Errorf("parse delta: %w: an operation is not an object", ErrMalformed)
		}
		var op Op
		for _, m := range o {
			n, _ := m.Value.(float64)
			switch m.Key {
			case "insert":
				op.Insert = m.Value
			case "retain":
				op.Retain = int(n)
			case "delete":
				op.Delete = int(n)
			case "attributes":
				attrs, _ := m.Value.(Object)
				op.Attributes = Attributes{}
				for _, a := range attrs {
					op.Attributes[a.Key] = a.Value
				}
			}
		}
		*d = append(*d, op)
	}
	return nil
}

// Delta returns the content with its formatting.
func (t Text) Delta() Delta { return t.b.delta(nil) }

// deltaBuilder gathers text with equal attributes.
type deltaBuilder struct {
	ops   Delta
	text  []byte
	attrs attrMap
}

func (d *deltaBuilder) flush() {
	if len(d.text) > 0 {
		d.ops = append(d.ops, Op{Insert: string(d.text), Attributes: d.attrs.public()})
		d.text = d.text[:0]
	}
}

// delta reads a text as it is, or as it was at a snapshot, whose ends have
// been split.
func (b *branch) delta(at *Snapshot) Delta {
	var d deltaBuilder
	for it := b.start; it != nil; it = it.right {
		if !b.doc.visibleAt(it, at) {
			continue
		}
		switch it.kind {
		case kindString:
			d.text = append(d.text, it.text()...)
		case kindType, kindEmbed, kindDoc:
			d.flush()
			v, _ := it.single()
			d.ops = append(d.ops, Op{Insert: v, Attributes: d.attrs.public()})
		case kindFormat:
			d.flush()
			d.attrs.apply(it.format())
		}
	}
	d.flush()
	return d.ops
}
