package value

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// ErrCorrupt is what the decoders of stored bytes return, wrapped with the reason and the offset, for input
// that no encoder writes.
var ErrCorrupt = errors.New("corrupt value")

// DepthMax is the greatest nesting of arrays and objects that the decoders and the parser accept: a scalar
// has depth 0, an array of scalars 1.
const DepthMax = 64

func corrupt(offset int, reason string) error {
	return fmt.Errorf("%w: %s at byte %d", ErrCorrupt, reason, offset)
}

// The tags of the ordered encoding. They are on disk for ever: a new kind of value takes a number between
// two of them. Neither 0x00 nor 0xFF may become a tag: the first ends arrays and objects and has to sort
// below what may follow in their place, and the second lets prefix + 0xFF bound all keys with a prefix.
const (
	orderedEnd       = 0x00
	orderedUndefined = 0x10
	orderedNull      = 0x20
	orderedInt64     = 0x30
	orderedFloat64   = 0x40
	orderedFalse     = 0x50
	orderedTrue      = 0x58
	orderedString    = 0x60
	orderedBytes     = 0x70
	orderedArray     = 0x80
	orderedObject    = 0x90
)

// Within strings and bytes 0x00 is written as 00 FF, and 00 01 ends the content. Of two strings where one is
// a prefix of the other, the shorter has 00 01 where the longer has either 00 FF or a byte of at least 01,
// and 00 01 sorts below both.
const (
	escapeByte       = 0x00
	escapedZero      = 0xFF
	escapeTerminator = 0x01
)

// AppendOrdered appends the ordered encoding of v to dst. Comparing encodings with bytes.Compare gives the
// order of Compare, no encoding is a prefix of another, and so encodings that follow each other in a key
// compare field by field.
func AppendOrdered(dst []byte, v Value) []byte {
	switch v.kind {
	case KindNull:
		return append(dst, orderedNull)
	case KindInt64:
		return binary.BigEndian.AppendUint64(append(dst, orderedInt64), v.bits^1<<63)
	case KindFloat64:
		return binary.BigEndian.AppendUint64(append(dst, orderedFloat64), orderedFloat(v.bits))
	case KindBool:
		if v.bits != 0 {
			return append(dst, orderedTrue)
		}
		return append(dst, orderedFalse)
	case KindString:
		return appendEscaped(append(dst, orderedString), v.text())
	case KindBytes:
		return appendEscaped(append(dst, orderedBytes), aliasString(v.raw()))
	case KindArray:
		dst = append(dst, orderedArray)
		for _, e := range v.elems() {
			dst = AppendOrdered(dst, e)
		}
		return append(dst, orderedEnd)
	case KindObject:
		dst = append(dst, orderedObject)
		for _, f := range v.fields() {
			dst = appendEscaped(append(dst, orderedString), f.Name)
			dst = AppendOrdered(dst, f.Value)
		}
		return append(dst, orderedEnd)
	default:
		return append(dst, orderedUndefined)
	}
}

func appendEscaped(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, escapeByte)
		if i < 0 {
			dst = append(dst, s...)
			return append(dst, escapeByte, escapeTerminator)
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, escapeByte, escapedZero)
		s = s[i+1:]
	}
}

// DecodeOrdered decodes the value at the start of b and returns what follows it. The value shares no memory
// with b. It accepts exactly what AppendOrdered writes, nested up to DepthMax; anything else is ErrCorrupt.
func DecodeOrdered(b []byte) (v Value, rest []byte, err error) {
	d := orderedDecoder{b: b}
	v, err = d.value(0)
	if err != nil {
		return Value{}, nil, err
	}
	return v, b[d.off:], nil
}

// DecodeOrderedShared is DecodeOrdered for a b that never changes again: strings and bytes of the value that
// are in b as they are share its memory, and keep all of it.
func DecodeOrderedShared(b []byte) (v Value, rest []byte, err error) {
	d := orderedDecoder{b: b, shared: true}
	v, err = d.value(0)
	if err != nil {
		return Value{}, nil, err
	}
	return v, b[d.off:], nil
}

type orderedDecoder struct {
	b      []byte
	off    int
	shared bool // content may be a part of b
}

func (d *orderedDecoder) value(depth int) (Value, error) {
	if d.off >= len(d.b) {
		return Value{}, corrupt(d.off, "value cut short")
	}
	at := d.off
	tag := d.b[d.off]
	d.off++
	switch tag {
	case orderedUndefined:
		return Value{}, nil
	case orderedNull:
		return Null(), nil
	case orderedFalse:
		return Bool(false), nil
	case orderedTrue:
		return Bool(true), nil
	case orderedInt64, orderedFloat64:
		if len(d.b)-d.off < 8 {
			return Value{}, corrupt(d.off, "number cut short")
		}
		u := binary.BigEndian.Uint64(d.b[d.off:])
		d.off += 8
		if tag == orderedInt64 {
			return Value{kind: KindInt64, bits: u ^ 1<<63}, nil
		}
		return Value{kind: KindFloat64, bits: floatFromOrdered(u)}, nil
	case orderedString:
		s, err := d.text()
		if err != nil {
			return Value{}, err
		}
		return validString(s), nil
	case orderedBytes:
		content, err := d.unescape()
		if err != nil {
			return Value{}, err
		}
		return Bytes(content), nil
	case orderedArray:
		if depth == DepthMax {
			return Value{}, corrupt(at, "nested too deeply")
		}
		return d.array(depth + 1)
	case orderedObject:
		if depth == DepthMax {
			return Value{}, corrupt(at, "nested too deeply")
		}
		return d.object(depth + 1)
	default:
		return Value{}, corrupt(at, "unknown tag")
	}
}

// end consumes the terminator of an array or object when it is next.
func (d *orderedDecoder) end() (bool, error) {
	if d.off >= len(d.b) {
		return false, corrupt(d.off, "array or object cut short")
	}
	if d.b[d.off] != orderedEnd {
		return false, nil
	}
	d.off++
	return true, nil
}

func (d *orderedDecoder) array(depth int) (Value, error) {
	var elems []Value
	for {
		done, err := d.end()
		if err != nil {
			return Value{}, err
		}
		if done {
			return Array(elems...), nil
		}
		e, err := d.value(depth)
		if err != nil {
			return Value{}, err
		}
		elems = append(elems, e)
	}
}

func (d *orderedDecoder) object(depth int) (Value, error) {
	var fields []Field
	for {
		done, err := d.end()
		if err != nil {
			return Value{}, err
		}
		if done {
			return sortedObject(fields), nil
		}
		at := d.off
		if d.b[d.off] != orderedString {
			return Value{}, corrupt(at, "field name expected")
		}
		d.off++
		name, err := d.text()
		if err != nil {
			return Value{}, err
		}
		if n := len(fields); n > 0 && fields[n-1].Name >= name {
			return Value{}, corrupt(at, "field names out of order")
		}
		at = d.off
		v, err := d.value(depth)
		if err != nil {
			return Value{}, err
		}
		if v.kind == KindUndefined {
			return Value{}, corrupt(at, "undefined field")
		}
		fields = append(fields, Field{Name: name, Value: v})
	}
}

func (d *orderedDecoder) text() (string, error) {
	at := d.off
	content, err := d.unescape()
	if err != nil {
		return "", err
	}
	if !utf8.Valid(content) {
		return "", corrupt(at, "string is not UTF-8")
	}
	return aliasString(content), nil
}

// unescape returns the content up to the terminator, which it consumes: a copy, unless d.shared.
func (d *orderedDecoder) unescape() ([]byte, error) {
	var content []byte
	for {
		i := bytes.IndexByte(d.b[d.off:], escapeByte)
		if i < 0 || d.off+i+1 >= len(d.b) {
			return nil, corrupt(len(d.b), "string or bytes cut short")
		}
		part := d.b[d.off : d.off+i : d.off+i]
		d.off += i + 2
		if d.shared && content == nil && d.b[d.off-1] == escapeTerminator {
			return part, nil
		}
		content = append(content, part...)
		switch d.b[d.off-1] {
		case escapeTerminator:
			return content, nil
		case escapedZero:
			content = append(content, 0)
		default:
			return nil, corrupt(d.off-1, "unknown escape")
		}
	}
}
