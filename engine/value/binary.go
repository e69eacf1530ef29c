package value

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
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
		dst, body := BeginContent(dst, KindArray)
		elems := v.elems()
		for _, e := range elems {
			dst = AppendBinary(dst, e)
		}
		return EndContent(dst, body, len(elems))
	case KindObject:
		dst, body := BeginContent(dst, KindObject)
		fields := v.fields()
		for _, f := range fields {
			dst = AppendBinary(AppendName(dst, f.Name), f.Value)
		}
		return EndContent(dst, body, len(fields))
	default:
		return append(dst, binaryUndefined)
	}
}

// BeginContent begins the record encoding of an array or object, for who appends the content without having
// the value. Append the elements with AppendBinary, or for each field, by ascending names, AppendName and then
// its value, which must not be undefined. Hand body to EndContent.
func BeginContent(dst []byte, kind Kind) (_ []byte, body int) {
	tag := byte(binaryArray)
	if kind == KindObject {
		tag = binaryObject
	}
	dst = append(dst, tag, 0, 0) // room for the count and the length of a small one
	return dst, len(dst)
}

// AppendName appends the name of a field inside of an object. REQUIRES: it is valid UTF-8.
func AppendName(dst []byte, name string) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(name)))
	return append(dst, name...)
}

// EndContent ends what BeginContent began. A body that needs more room before it than there is moves up: one
// copy a level is cheaper than measuring first.
func EndContent(dst []byte, body, count int) []byte {
	if count == 0 {
		return dst[:body-1]
	}
	n := len(dst) - body
	countLen := uvarintLen(uint64(count))
	if extra := countLen + uvarintLen(uint64(n)) - 2; extra > 0 {
		dst = append(dst, make([]byte, extra)...)
		copy(dst[body+extra:], dst[body:body+n])
	}
	binary.PutUvarint(dst[body-2:], uint64(count))
	binary.PutUvarint(dst[body-2+countLen:], uint64(n))
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
	c := binaryChecker{b: b}
	if err := c.value(len(b), 0); err != nil {
		return Value{}, err
	}
	if c.off != len(b) {
		return Value{}, corrupt(c.off, "bytes after the value")
	}
	if b[0] >= binaryString {
		b = bytes.Clone(b) // the strings of the value share this copy
	}
	v, _ := decodeAt(b, 0)
	return v, nil
}

// The functions below read what a binaryChecker has accepted, or an encoder of this package has written: they
// check nothing, and values that they return alias b.

// uvarintAt reads the uvarint at off and returns the offset after it.
func uvarintAt(b []byte, off int) (uint64, int) {
	if b[off] < 0x80 {
		return uint64(b[off]), off + 1
	}
	u, n := binary.Uvarint(b[off:])
	return u, off + n
}

// contentAt reads the length at off and the offset of the content after it.
func contentAt(b []byte, off int) (n, start int) {
	u, start := uvarintAt(b, off)
	return int(u), start
}

// bodyAt reads the header of the array or object whose tag is at off: how many elements or fields it has, and
// from where to where they are.
func bodyAt(b []byte, off int) (count, start, end int) {
	count, start = contentAt(b, off+1)
	if count == 0 {
		return 0, start, start
	}
	n, start := contentAt(b, start)
	return count, start, start + n
}

// nameAt reads the name of a field at off.
func nameAt(b []byte, off int) (string, int) {
	n, start := contentAt(b, off)
	return aliasString(b[start : start+n]), start + n
}

// skipAt returns the offset after the value at off.
func skipAt(b []byte, off int) int {
	switch b[off] {
	case binaryInt64, binaryWhole:
		for off++; b[off] >= 0x80; off++ {
		}
		return off + 1
	case binaryFloat64:
		return off + 9
	case binaryString, binaryBytes:
		n, start := contentAt(b, off+1)
		return start + n
	case binaryArray, binaryObject:
		_, _, end := bodyAt(b, off)
		return end
	default:
		return off + 1
	}
}

// kindAt returns the kind of the value at off.
func kindAt(b []byte, off int) Kind { return binaryKinds[b[off]] }

var binaryKinds = [...]Kind{
	binaryUndefined: KindUndefined,
	binaryNull:      KindNull,
	binaryFalse:     KindBool,
	binaryTrue:      KindBool,
	binaryInt64:     KindInt64,
	binaryFloat64:   KindFloat64,
	binaryWhole:     KindFloat64,
	binaryString:    KindString,
	binaryBytes:     KindBytes,
	binaryArray:     KindArray,
	binaryObject:    KindObject,
}

// decodeAt decodes the value at off and returns the offset after it.
func decodeAt(b []byte, off int) (Value, int) {
	switch tag := b[off]; tag {
	case binaryNull:
		return Null(), off + 1
	case binaryFalse, binaryTrue:
		return Bool(tag == binaryTrue), off + 1
	case binaryInt64:
		u, next := uvarintAt(b, off+1)
		return Int64(unzigzag(u)), next
	case binaryWhole:
		u, next := uvarintAt(b, off+1)
		return Float64(float64(unzigzag(u))), next
	case binaryFloat64:
		return Value{kind: KindFloat64, bits: binary.LittleEndian.Uint64(b[off+1:])}, off + 9
	case binaryString:
		s, next := nameAt(b, off+1)
		return validString(s), next
	case binaryBytes:
		n, start := contentAt(b, off+1)
		return Bytes(b[start : start+n : start+n]), start + n
	case binaryArray:
		count, off, _ := bodyAt(b, off)
		elems := make([]Value, count)
		for i := range elems {
			elems[i], off = decodeAt(b, off)
		}
		return Array(elems...), off
	case binaryObject:
		count, off, _ := bodyAt(b, off)
		fields := make([]Field, count)
		for i := range fields {
			fields[i].Name, off = nameAt(b, off)
			fields[i].Value, off = decodeAt(b, off)
		}
		return sortedObject(fields), off
	default:
		return Value{}, off + 1
	}
}
