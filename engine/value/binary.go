package value

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"unicode/utf8"
)

// The tags of the record encoding, version 1.
const (
	binaryUndefined = 0x00
	binaryNull      = 0x01
	binaryFalse     = 0x02
	binaryTrue      = 0x03
	binaryInt64     = 0x04 // zigzag uvarint
	binaryFloat64   = 0x05 // 8 bytes, little endian; not for what binaryWhole can hold
	binaryWhole     = 0x06 // a float64 that is a whole number up to 2^53 and not -0: zigzag uvarint
	binaryString    = 0x07 // uvarint length, bytes
	binaryBytes     = 0x08 // uvarint length, bytes
	binaryArray     = 0x09 // uvarint count; unless 0: uvarint length of the body, body
	binaryObject    = 0x0A // the same; a body is (uvarint length of the name, name, value)...
)

// wholeMax bounds the floats written as whole numbers: every integer up to it is exact in a float64.
const wholeMax = 1 << 53

// AppendBinary appends the record encoding of v, version 1, to dst. The encoding of a value is unique, so
// values are equal exactly when their encodings are; it does not sort.
func AppendBinary(dst []byte, v Value) []byte {
	switch v.kind {
	case KindNull:
		return append(dst, binaryNull)
	case KindInt64:
		return binary.AppendUvarint(append(dst, binaryInt64), zigzag(int64(v.bits)))
	case KindFloat64:
		if i, ok := whole(v.bits); ok {
			return binary.AppendUvarint(append(dst, binaryWhole), zigzag(i))
		}
		return binary.LittleEndian.AppendUint64(append(dst, binaryFloat64), v.bits)
	case KindBool:
		return append(dst, binaryFalse+byte(v.bits))
	case KindString:
		dst = binary.AppendUvarint(append(dst, binaryString), v.bits)
		return append(dst, v.text()...)
	case KindBytes:
		dst = binary.AppendUvarint(append(dst, binaryBytes), v.bits)
		return append(dst, v.raw()...)
	case KindArray:
		dst = binary.AppendUvarint(append(dst, binaryArray), v.bits)
		if v.bits == 0 {
			return dst
		}
		dst = append(dst, 0)
		body := len(dst)
		for _, e := range v.elems() {
			dst = AppendBinary(dst, e)
		}
		return insertLength(dst, body)
	case KindObject:
		dst = binary.AppendUvarint(append(dst, binaryObject), v.bits)
		if v.bits == 0 {
			return dst
		}
		dst = append(dst, 0)
		body := len(dst)
		for _, f := range v.fields() {
			dst = binary.AppendUvarint(dst, uint64(len(f.Name)))
			dst = append(dst, f.Name...)
			dst = AppendBinary(dst, f.Value)
		}
		return insertLength(dst, body)
	default:
		return append(dst, binaryUndefined)
	}
}

// insertLength writes the length of the body that starts at offset body into the byte reserved before it.
// A body of 128 bytes or more moves up to make room: one copy a level is cheaper than measuring first.
func insertLength(dst []byte, body int) []byte {
	n := len(dst) - body
	if extra := uvarintLen(uint64(n)) - 1; extra > 0 {
		dst = append(dst, make([]byte, extra)...)
		copy(dst[body+extra:], dst[body:body+n])
	}
	binary.PutUvarint(dst[body-1:], uint64(n))
	return dst
}

// uvarintLen returns the number of bytes of u as a uvarint.
func uvarintLen(u uint64) int { return (bits.Len64(u|1) + 6) / 7 }

func zigzag(i int64) uint64   { return uint64(i)<<1 ^ uint64(i>>63) }
func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// whole returns the float with the given bits as an integer when binaryWhole can hold it.
func whole(bits uint64) (int64, bool) {
	f := math.Float64frombits(bits)
	if !(math.Abs(f) <= wholeMax) || bits == 1<<63 {
		return 0, false
	}
	i := int64(f)
	return i, float64(i) == f
}

// DecodeBinary decodes a value from the whole of b. The value shares no memory with b. It accepts exactly
// what AppendBinary writes, nested up to DepthMax; anything else is ErrCorrupt. Memory is bounded by a small
// multiple of len(b) whatever the counts in b claim.
func DecodeBinary(b []byte) (Value, error) {
	if len(b) > 0 && b[0] >= binaryString {
		b = bytes.Clone(b) // the strings of the value share this copy
	}
	d := binaryDecoder{b: b, budget: len(b)}
	v, err := d.value(len(b), 0)
	if err != nil {
		return Value{}, err
	}
	if d.off != len(b) {
		return Value{}, corrupt(d.off, "bytes after the value")
	}
	return v, nil
}

// binaryDecoder decodes from b, which the values alias.
type binaryDecoder struct {
	b   []byte
	off int
	// budget bounds what claimed counts may allocate. Each element has a byte of its own and each field
	// two, so the counts of a whole well-formed input sum up to no more than its length.
	budget int
}

// value decodes the value at off, which must end by end.
func (d *binaryDecoder) value(end, depth int) (Value, error) {
	if d.off >= end {
		return Value{}, corrupt(d.off, "value cut short")
	}
	at := d.off
	tag := d.b[d.off]
	d.off++
	switch tag {
	case binaryUndefined:
		return Value{}, nil
	case binaryNull:
		return Null(), nil
	case binaryFalse, binaryTrue:
		return Bool(tag == binaryTrue), nil
	case binaryInt64, binaryWhole:
		u, err := d.uvarint(end)
		if err != nil {
			return Value{}, err
		}
		i := unzigzag(u)
		if tag == binaryInt64 {
			return Int64(i), nil
		}
		if i < -wholeMax || i > wholeMax {
			return Value{}, corrupt(at, "whole float out of range")
		}
		return Float64(float64(i)), nil
	case binaryFloat64:
		if end-d.off < 8 {
			return Value{}, corrupt(d.off, "number cut short")
		}
		u := binary.LittleEndian.Uint64(d.b[d.off:])
		d.off += 8
		if _, ok := whole(u); ok {
			return Value{}, corrupt(at, "whole float in the long form")
		}
		return Value{kind: KindFloat64, bits: u}, nil
	case binaryString:
		s, err := d.text(end)
		if err != nil {
			return Value{}, err
		}
		return validString(s), nil
	case binaryBytes:
		content, err := d.content(end)
		if err != nil {
			return Value{}, err
		}
		return Bytes(content), nil
	case binaryArray:
		return d.array(end, depth)
	case binaryObject:
		return d.object(end, depth)
	default:
		return Value{}, corrupt(at, "unknown tag")
	}
}

// header reads the count of an array or object and the end of its body.
func (d *binaryDecoder) header(end, depth, sizeMin int) (count, bodyEnd int, err error) {
	at := d.off
	if depth == DepthMax {
		return 0, 0, corrupt(at, "nested too deeply")
	}
	n, err := d.uvarint(end)
	if err != nil || n == 0 {
		return 0, d.off, err
	}
	size, err := d.uvarint(end)
	if err != nil {
		return 0, 0, err
	}
	if size > uint64(end-d.off) {
		return 0, 0, corrupt(at, "array or object longer than the input")
	}
	if n > uint64(d.budget/sizeMin) {
		return 0, 0, corrupt(at, "more elements than the input can hold")
	}
	d.budget -= int(n) * sizeMin
	return int(n), d.off + int(size), nil
}

func (d *binaryDecoder) array(end, depth int) (Value, error) {
	count, bodyEnd, err := d.header(end, depth, 1)
	if err != nil || count == 0 {
		return Value{kind: KindArray}, err
	}
	elems := make([]Value, count)
	for i := range elems {
		if elems[i], err = d.value(bodyEnd, depth+1); err != nil {
			return Value{}, err
		}
	}
	if d.off != bodyEnd {
		return Value{}, corrupt(d.off, "bytes after the last element")
	}
	return Array(elems...), nil
}

func (d *binaryDecoder) object(end, depth int) (Value, error) {
	count, bodyEnd, err := d.header(end, depth, 2)
	if err != nil || count == 0 {
		return Value{kind: KindObject}, err
	}
	fields := make([]Field, count)
	for i := range fields {
		at := d.off
		name, err := d.text(bodyEnd)
		if err != nil {
			return Value{}, err
		}
		if i > 0 && fields[i-1].Name >= name {
			return Value{}, corrupt(at, "field names out of order")
		}
		at = d.off
		v, err := d.value(bodyEnd, depth+1)
		if err != nil {
			return Value{}, err
		}
		if v.kind == KindUndefined {
			return Value{}, corrupt(at, "undefined field")
		}
		fields[i] = Field{Name: name, Value: v}
	}
	if d.off != bodyEnd {
		return Value{}, corrupt(d.off, "bytes after the last field")
	}
	return sortedObject(fields), nil
}

// uvarint reads an unsigned integer in its shortest form.
func (d *binaryDecoder) uvarint(end int) (uint64, error) {
	if d.off < end && d.b[d.off] < 0x80 {
		d.off++
		return uint64(d.b[d.off-1]), nil
	}
	u, n := binary.Uvarint(d.b[d.off:end])
	if n <= 0 {
		return 0, corrupt(d.off, "bad length or number")
	}
	if d.b[d.off+n-1] == 0 {
		return 0, corrupt(d.off, "length or number is not in its shortest form")
	}
	d.off += n
	return u, nil
}

// content reads a length and that many bytes.
func (d *binaryDecoder) content(end int) ([]byte, error) {
	at := d.off
	n, err := d.uvarint(end)
	if err != nil {
		return nil, err
	}
	if n > uint64(end-d.off) {
		return nil, corrupt(at, "string or bytes longer than the input")
	}
	content := d.b[d.off : d.off+int(n) : d.off+int(n)]
	d.off += int(n)
	return content, nil
}

func (d *binaryDecoder) text(end int) (string, error) {
	at := d.off
	content, err := d.content(end)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(content) {
		return "", corrupt(at, "string is not UTF-8")
	}
	return aliasString(content), nil
}

// Lookup returns the named field of the object encoded in b, and false when it has none or b is not an
// object, without decoding the fields before it or reading those after it. The value shares no memory with
// b. Only what it passes over is checked: b may be corrupt elsewhere without an error.
func Lookup(b []byte, name string) (Value, bool, error) {
	if len(b) == 0 {
		return Value{}, false, corrupt(0, "value cut short")
	}
	if b[0] != binaryObject {
		return Value{}, false, nil
	}
	d := binaryDecoder{b: b, off: 1, budget: len(b)}
	count, end, err := d.header(len(b), 0, 2)
	if err != nil {
		return Value{}, false, err
	}
	for range count {
		field, err := d.content(end)
		if err != nil {
			return Value{}, false, err
		}
		if string(field) > name {
			break // names ascend
		}
		at := d.off
		if err := d.skip(end); err != nil {
			return Value{}, false, err
		}
		if string(field) == name {
			v, err := DecodeBinary(b[at:d.off])
			return v, err == nil, err
		}
	}
	return Value{}, false, nil
}

// skip moves past the value at off by its lengths alone.
func (d *binaryDecoder) skip(end int) error {
	if d.off >= end {
		return corrupt(d.off, "value cut short")
	}
	at := d.off
	tag := d.b[d.off]
	d.off++
	var err error
	switch tag {
	case binaryUndefined, binaryNull, binaryFalse, binaryTrue:
	case binaryInt64, binaryWhole:
		_, err = d.uvarint(end)
	case binaryFloat64:
		if end-d.off < 8 {
			return corrupt(d.off, "number cut short")
		}
		d.off += 8
	case binaryString, binaryBytes:
		_, err = d.content(end)
	case binaryArray, binaryObject:
		var n uint64
		if n, err = d.uvarint(end); err == nil && n > 0 {
			_, err = d.content(end)
		}
	default:
		err = corrupt(at, "unknown tag")
	}
	return err
}
