package value

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Kind is the type of a Value. The constants are in the order in which values of different kinds sort.
type Kind uint8

// The kinds of values, in sort order.
const (
	KindUndefined Kind = iota
	KindNull
	KindInt64
	KindFloat64
	KindBool
	KindString
	KindBytes
	KindArray
	KindObject
)

var kindNames = [...]string{
	KindUndefined: "undefined",
	KindNull:      "null",
	KindInt64:     "int64",
	KindFloat64:   "float64",
	KindBool:      "bool",
	KindString:    "string",
	KindBytes:     "bytes",
	KindArray:     "array",
	KindObject:    "object",
}

// String returns the name of the kind, such as "int64".
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Value is one immutable value. The zero Value is undefined.
//
// The representation keeps every value at three words without boxing: bits holds a scalar or, for the kinds
// that have content, its length, and ref points at the first byte or element of that content. ref is nil
// exactly when the content is empty or the kind has none. An object may also be kept in its encoding: then
// bits is encodedObject, and ref points at the tuple. Only this file and the encoders of scalars touch the two.
type Value struct {
	_    [0]func() // forbids ==, which would compare addresses
	ref  unsafe.Pointer
	bits uint64
	kind Kind
}

// Field is one named value of an object.
type Field struct {
	Name  string
	Value Value
}

// Null returns the null value.
func Null() Value { return Value{kind: KindNull} }

// Int64 returns an integer value.
func Int64(i int64) Value { return Value{kind: KindInt64, bits: uint64(i)} }

// Float64 returns a float value. The sign of zero and the payload of a NaN are kept.
func Float64(f float64) Value { return Value{kind: KindFloat64, bits: math.Float64bits(f)} }

// Bool returns a boolean value.
func Bool(b bool) Value {
	v := Value{kind: KindBool}
	if b {
		v.bits = 1
	}
	return v
}

// String returns a string value. Bytes of s that are not valid UTF-8 are replaced with U+FFFD.
func String(s string) Value { return validString(wellFormed(s)) }

// validString returns a string value of s. REQUIRES: s is valid UTF-8.
func validString(s string) Value {
	if s == "" {
		return Value{kind: KindString}
	}
	return Value{kind: KindString, ref: unsafe.Pointer(unsafe.StringData(s)), bits: uint64(len(s))}
}

// Bytes returns a bytes value. It takes ownership of b.
func Bytes(b []byte) Value {
	if len(b) == 0 {
		return Value{kind: KindBytes}
	}
	return Value{kind: KindBytes, ref: unsafe.Pointer(unsafe.SliceData(b)), bits: uint64(len(b))}
}

// Array returns an array value. It takes ownership of the slice.
func Array(elems ...Value) Value {
	if len(elems) == 0 {
		return Value{kind: KindArray}
	}
	return Value{kind: KindArray, ref: unsafe.Pointer(unsafe.SliceData(elems)), bits: uint64(len(elems))}
}

// Object returns an object value with the fields sorted by name. Undefined fields are dropped; of several
// fields with one name the last wins, and when that one is undefined the name is dropped. It takes ownership
// of the slice and reorders it.
func Object(fields ...Field) Value {
	for i := range fields {
		fields[i].Name = wellFormed(fields[i].Name)
	}
	return normalObject(fields)
}

// TrustObject is Object for fields that are in order. It takes ownership of the slice. REQUIRES: names are valid
// UTF-8 and strictly ascending, and no field is undefined.
func TrustObject(fields []Field) Value { return sortedObject(fields) }

// normalObject is Object for names known to be valid UTF-8.
func normalObject(fields []Field) Value {
	normal := true
	for i := range fields {
		if fields[i].Value.kind == KindUndefined || i > 0 && fields[i-1].Name >= fields[i].Name {
			normal = false
			break
		}
	}
	if normal {
		return sortedObject(fields)
	}
	slices.SortStableFunc(fields, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	kept := fields[:0]
	for i, f := range fields {
		if i+1 < len(fields) && fields[i+1].Name == f.Name || f.Value.kind == KindUndefined {
			continue
		}
		kept = append(kept, f)
	}
	clear(fields[len(kept):])
	return sortedObject(kept)
}

// sortedObject returns an object of fields. REQUIRES: names are valid UTF-8 and strictly ascending, and no
// field is undefined.
func sortedObject(fields []Field) Value {
	if len(fields) == 0 {
		return Value{kind: KindObject}
	}
	return Value{kind: KindObject, ref: unsafe.Pointer(unsafe.SliceData(fields)), bits: uint64(len(fields))}
}

// wellFormed replaces each run of invalid bytes in s with U+FFFD.
func wellFormed(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// Kind returns the type of the value.
func (v Value) Kind() Kind { return v.kind }

// IsUndefined reports whether the value is undefined.
func (v Value) IsUndefined() bool { return v.kind == KindUndefined }

// IsNull reports whether the value is null.
func (v Value) IsNull() bool { return v.kind == KindNull }

// AsInt64 returns the integer, and false when the value is not one.
func (v Value) AsInt64() (int64, bool) {
	if v.kind != KindInt64 {
		return 0, false
	}
	return int64(v.bits), true
}

// AsFloat64 returns the float, and false when the value is not one.
func (v Value) AsFloat64() (float64, bool) {
	if v.kind != KindFloat64 {
		return 0, false
	}
	return math.Float64frombits(v.bits), true
}

// AsBool returns the boolean, and false when the value is not one.
func (v Value) AsBool() (b, ok bool) {
	return v.kind == KindBool && v.bits != 0, v.kind == KindBool
}

// AsString returns the string, and false when the value is not one.
func (v Value) AsString() (string, bool) {
	if v.kind != KindString {
		return "", false
	}
	return v.text(), true
}

// AsBytes returns the bytes, and false when the value is not bytes. The slice shares memory with the value
// and must not be modified.
func (v Value) AsBytes() ([]byte, bool) {
	if v.kind != KindBytes {
		return nil, false
	}
	return v.raw(), true
}

// Len returns the number of elements of an array, and 0 for any other value.
func (v Value) Len() int {
	if v.kind != KindArray {
		return 0
	}
	return int(v.bits)
}

// Index returns element i of an array. It panics when i is not below Len.
func (v Value) Index(i int) Value {
	if v.kind != KindArray {
		panic("value: Index of a value that is not an array")
	}
	return v.elems()[i]
}

// Fields returns the fields of an object, sorted by name, and nil for any other value. The slice shares
// memory with the value and must not be modified. That of a tuple is decoded anew by each call.
func (v Value) Fields() []Field {
	if v.kind != KindObject {
		return nil
	}
	return v.fields()
}

// Get returns the named field of an object. It is undefined when there is none, and when the value is not an
// object.
func (v Value) Get(name string) Value {
	if v.kind != KindObject {
		return Value{}
	}
	if t := v.tuple(); t != nil {
		return t.path(name, "", false)
	}
	fields := v.fields()
	i, ok := slices.BinarySearchFunc(fields, name, func(f Field, name string) int {
		return strings.Compare(f.Name, name)
	})
	if !ok {
		return Value{}
	}
	return fields[i].Value
}

// Path returns the value at a path of field names joined by dots, such as "location.city". It is undefined
// when any of them is missing. A field whose name contains a dot cannot be reached.
func (v Value) Path(dotted string) Value {
	for {
		name, rest, more := strings.Cut(dotted, ".")
		if v.kind == KindObject && more {
			if t := v.tuple(); t != nil {
				return t.path(name, rest, true)
			}
		}
		v = v.Get(name)
		if !more {
			return v
		}
		dotted = rest
	}
}

// text returns the content of a string. REQUIRES: the kind is KindString.
func (v Value) text() string { return unsafe.String((*byte)(v.ref), int(v.bits)) }

// raw returns the content of bytes. REQUIRES: the kind is KindBytes.
func (v Value) raw() []byte { return unsafe.Slice((*byte)(v.ref), int(v.bits)) }

// elems returns the content of an array. REQUIRES: the kind is KindArray.
func (v Value) elems() []Value { return unsafe.Slice((*Value)(v.ref), int(v.bits)) }

// fields returns the content of an object. REQUIRES: the kind is KindObject.
func (v Value) fields() []Field {
	if t := v.tuple(); t != nil {
		return t.fields()
	}
	return unsafe.Slice((*Field)(v.ref), int(v.bits))
}

// encodedObject is the bits of an object that is kept in its encoding, more than any number of fields.
const encodedObject = 1 << 63

// tupleObject returns an object that is kept as t.
func tupleObject(t *tuple) Value {
	return Value{kind: KindObject, ref: unsafe.Pointer(t), bits: encodedObject}
}

// tuple returns the encoding that an object is kept in, or nil. REQUIRES: the kind is KindObject.
func (v Value) tuple() *tuple {
	if v.bits != encodedObject {
		return nil
	}
	return (*tuple)(v.ref)
}

// aliasString returns a string that shares memory with b. REQUIRES: b is never modified afterwards.
func aliasString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Compare returns -1, 0 or +1 as a sorts before, equal to or after b in the order of indexes. Values of
// different kinds sort by kind. Integers sort by number; floats by the total order of IEEE 754 (-NaN, -Inf,
// ..., -0, +0, ..., +Inf, NaN); false before true; strings and bytes bytewise; arrays element by element and
// objects as lists of (name, value), a proper prefix first.
func Compare(a, b Value) int {
	if a.kind != b.kind {
		return cmp.Compare(a.kind, b.kind)
	}
	switch a.kind {
	case KindInt64:
		return cmp.Compare(int64(a.bits), int64(b.bits))
	case KindFloat64:
		return cmp.Compare(orderedFloat(a.bits), orderedFloat(b.bits))
	case KindBool:
		return cmp.Compare(a.bits, b.bits)
	case KindString:
		return strings.Compare(a.text(), b.text())
	case KindBytes:
		return strings.Compare(aliasString(a.raw()), aliasString(b.raw()))
	case KindArray:
		return slices.CompareFunc(a.elems(), b.elems(), Compare)
	case KindObject:
		return slices.CompareFunc(a.fields(), b.fields(), func(f, g Field) int {
			if c := strings.Compare(f.Name, g.Name); c != 0 {
				return c
			}
			return Compare(f.Value, g.Value)
		})
	default: // undefined and null have one value each
		return 0
	}
}

// Equal reports whether a and b are the same value: Compare returns 0. The floats 0 and -0 are different,
// and a NaN equals itself when the bits do.
func Equal(a, b Value) bool {
	if a.kind != b.kind {
		return false
	}
	if a.kind == KindObject {
		s, t := a.tuple(), b.tuple()
		if s != nil && t != nil && s.names == t.names && string(s.b) == string(t.b) {
			return true
		}
		return slices.EqualFunc(a.fields(), b.fields(), func(f, g Field) bool {
			return f.Name == g.Name && Equal(f.Value, g.Value)
		})
	}
	if a.bits != b.bits {
		return false // bits are the number, or the length of the content
	}
	switch a.kind {
	case KindString:
		return a.text() == b.text()
	case KindBytes:
		return aliasString(a.raw()) == aliasString(b.raw())
	case KindArray:
		return slices.EqualFunc(a.elems(), b.elems(), Equal)
	default:
		return true
	}
}

// Equal reports whether v and w are the same value. It is what go-cmp calls.
func (v Value) Equal(w Value) bool { return Equal(v, w) }

// String returns the value as Convex JSON, or "undefined". It is for messages and logs.
func (v Value) String() string {
	if v.kind == KindUndefined {
		return "undefined"
	}
	return string(AppendJSON(nil, v))
}

// MarshalJSON returns the value as Convex JSON. Undefined becomes null.
func (v Value) MarshalJSON() ([]byte, error) { return AppendJSON(nil, v), nil }

// orderedFloat maps the bits of a float to an integer that sorts in the total order of IEEE 754: a
// negative number has all its bits flipped, any other only its sign.
func orderedFloat(bits uint64) uint64 {
	if bits>>63 != 0 {
		return ^bits
	}
	return bits | 1<<63
}

// floatFromOrdered is the inverse of orderedFloat.
func floatFromOrdered(u uint64) uint64 {
	if u>>63 != 0 {
		return u &^ (1 << 63)
	}
	return ^u
}
