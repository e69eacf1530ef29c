package lib0

import (
	"fmt"
	"math"
	"slices"
	"strconv"
)

// MaxDepth is how deep a value may be nested.
const MaxDepth = 100

// Tags of the any format.
const (
	tagUndefined = 127
	tagNull      = 126
	tagInt       = 125
	tagFloat32   = 124
	tagFloat64   = 123
	tagBigInt    = 122
	tagFalse     = 121
	tagTrue      = 120
	tagString    = 119
	tagObject    = 118
	tagArray     = 117
	tagBytes     = 116
)

// Undefined is JavaScript's undefined, which Yjs keeps apart from null.
type Undefined struct{}

// BigInt is a JavaScript BigInt of at most 64 bits.
type BigInt int64

// Member is one entry of an Object.
type Member struct {
	Key   string
	Value any
}

// Object is a JavaScript object: its members in order.
type Object []Member

// Get returns the value stored under key.
func (o Object) Get(key string) (v any, ok bool) {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].Key == key {
			return o[i].Value, true
		}
	}
	return nil, false
}

// arrayIndex reports whether JavaScript orders the property name as a number.
func arrayIndex(key string) (uint64, bool) {
	if key == "" || len(key) > 10 || key[0] == '0' && len(key) > 1 {
		return 0, false
	}
	n, err := strconv.ParseUint(key, 10, 64)
	return n, err == nil && n < 1<<32-1
}

// Canonical returns o as a JavaScript engine would keep it: the last of equal
// keys, at the place of the first, and array-like keys first in numeric order.
func (o Object) Canonical() Object {
	ordered := true
	var last uint64
	plain := false
	for i, m := range o {
		n, isIndex := arrayIndex(m.Key)
		if isIndex && (plain || i > 0 && n <= last) {
			ordered = false
		}
		if isIndex {
			last = n
		} else {
			plain = true
		}
	}
	unique := true
	if len(o) <= 8 {
		for i := range o {
			for j := range i {
				unique = unique && o[i].Key != o[j].Key
			}
		}
	} else {
		seen := make(map[string]struct{}, len(o))
		for _, m := range o {
			seen[m.Key] = struct{}{}
		}
		unique = len(seen) == len(o)
	}
	if ordered && unique {
		return o
	}
	out := make(Object, 0, len(o))
	at := make(map[string]int, len(o))
	for _, m := range o {
		if i, ok := at[m.Key]; ok {
			out[i].Value = m.Value
			continue
		}
		at[m.Key] = len(out)
		out = append(out, m)
	}
	slices.SortStableFunc(out, func(a, b Member) int {
		x, ax := arrayIndex(a.Key)
		y, by := arrayIndex(b.Key)
		switch {
		case ax && by && x < y, ax && !by:
			return -1
		case ax && by && x > y, by && !ax:
			return 1
		}
		return 0
	})
	return out
}

// UnsupportedError is returned for a Go value that has no counterpart in
// JavaScript.
type UnsupportedError struct{ Value any }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("a %T cannot be stored in a shared type", e.Value)
}

// AppendAny appends v in the any format, choosing the representation npm's
// lib0 chooses. It takes nil, bool, every integer and float type, string,
// []byte, []any, []string, map[string]any, Object, Undefined and BigInt.
func AppendAny(dst []byte, v any) ([]byte, error) { return appendAny(dst, v, MaxDepth) }

func appendAny(dst []byte, v any, depth int) ([]byte, error) {
	if depth == 0 {
		return nil, ErrTooDeep
	}
	switch v := v.(type) {
	case nil:
		return append(dst, tagNull), nil
	case Undefined:
		return append(dst, tagUndefined), nil
	case bool:
		if v {
			return append(dst, tagTrue), nil
		}
		return append(dst, tagFalse), nil
	case string:
		return AppendString(append(dst, tagString), v), nil
	case float64:
		return appendNumber(dst, v), nil
	case float32:
		return appendNumber(dst, float64(v)), nil
	case int:
		return appendNumber(dst, float64(v)), nil
	case int8:
		return appendNumber(dst, float64(v)), nil
	case int16:
		return appendNumber(dst, float64(v)), nil
	case int32:
		return appendNumber(dst, float64(v)), nil
	case int64:
		return appendNumber(dst, float64(v)), nil
	case uint:
		return appendNumber(dst, float64(v)), nil
	case uint8:
		return appendNumber(dst, float64(v)), nil
	case uint16:
		return appendNumber(dst, float64(v)), nil
	case uint32:
		return appendNumber(dst, float64(v)), nil
	case uint64:
		return appendNumber(dst, float64(v)), nil
	case BigInt:
		return appendUint64(append(dst, tagBigInt), uint64(v)), nil
	case []byte:
		return AppendString(append(dst, tagBytes), v), nil
	case []any:
		dst = AppendUint(append(dst, tagArray), uint64(len(v)))
		var err error
		for _, e := range v {
			if dst, err = appendAny(dst, e, depth-1); err != nil {
				return nil, err
			}
		}
		return dst, nil
	case []string:
		dst = AppendUint(append(dst, tagArray), uint64(len(v)))
		for _, e := range v {
			dst = AppendString(append(dst, tagString), e)
		}
		return dst, nil
	case map[string]any:
		return appendAny(dst, FromMap(v), depth)
	case Object:
		v = v.Canonical()
		dst = AppendUint(append(dst, tagObject), uint64(len(v)))
		var err error
		for _, m := range v {
			dst = AppendString(dst, m.Key)
			if dst, err = appendAny(dst, m.Value, depth-1); err != nil {
				return nil, err
			}
		}
		return dst, nil
	}
	return nil, &UnsupportedError{Value: v}
}

// FromMap returns the members of m ordered by key.
func FromMap(m map[string]any) Object {
	o := make(Object, 0, len(m))
	for k, v := range m {
		o = append(o, Member{k, v})
	}
	slices.SortFunc(o, func(a, b Member) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return o
}

func appendNumber(dst []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) <= math.MaxInt32 {
		return AppendInt(append(dst, tagInt), math.Signbit(f), uint64(math.Abs(f)))
	}
	if g := float32(f); float64(g) == f {
		return appendUint32(append(dst, tagFloat32), math.Float32bits(g))
	}
	if f != f {
		return appendUint64(append(dst, tagFloat64), 0x7ff8000000000000)
	}
	return appendUint64(append(dst, tagFloat64), math.Float64bits(f))
}

// ReadAny reads a value in the any format: nil, Undefined, bool, float64,
// BigInt, string, []byte, []any or Object. Strings share the input.
func (r *Reader) ReadAny() any { return r.readAny(MaxDepth) }

func (r *Reader) readAny(depth int) any {
	if depth == 0 {
		r.failWith(ErrTooDeep, "any")
		return nil
	}
	switch tag := r.Byte(); tag {
	case tagUndefined:
		return Undefined{}
	case tagNull:
		return nil
	case tagInt:
		neg, m := r.Int()
		f := float64(m)
		if neg {
			f = -f
			if m == 0 {
				f = math.Copysign(0, -1)
			}
		}
		return f
	case tagFloat32:
		return float64(math.Float32frombits(r.uint32()))
	case tagFloat64:
		return math.Float64frombits(r.uint64())
	case tagBigInt:
		return BigInt(r.uint64())
	case tagFalse:
		return false
	case tagTrue:
		return true
	case tagString:
		return r.String()
	case tagObject:
		n := r.Uint()
		if n > uint64(r.Len()/2) {
			r.Fail("object larger than the input")
			return nil
		}
		o := Object{}
		for range n {
			k := r.String()
			v := r.readAny(depth - 1)
			if r.err != nil {
				return nil
			}
			o = append(o, Member{k, v})
		}
		return o.Canonical()
	case tagArray:
		n := r.Uint()
		if n > uint64(r.Len()) {
			r.Fail("array larger than the input")
			return nil
		}
		a := []any{}
		for range n {
			v := r.readAny(depth - 1)
			if r.err != nil {
				return nil
			}
			a = append(a, v)
		}
		return a
	case tagBytes:
		return []byte(r.Bytes())
	default:
		if r.err == nil {
			r.pos--
			r.Fail("unknown value tag " + strconv.Itoa(int(tag)))
		}
		return nil
	}
}

// AtUndefined reports whether the next value is undefined.
func (r *Reader) AtUndefined() bool { return r.pos < len(r.s) && r.s[r.pos] == tagUndefined }

// SkipAny moves past a value in the any format, checking all of it.
func (r *Reader) SkipAny() { r.skipAny(MaxDepth, true) }

// SkipJSON is SkipAny for a value that has a text as JSON: not undefined, and
// without a BigInt in it.
func (r *Reader) SkipJSON() {
	if r.AtUndefined() {
		r.Fail("undefined is no JSON")
		return
	}
	r.skipAny(MaxDepth, false)
}

func (r *Reader) skipAny(depth int, bigInts bool) {
	if depth == 0 {
		r.failWith(ErrTooDeep, "any")
		return
	}
	switch tag := r.Byte(); tag {
	case tagUndefined, tagNull, tagFalse, tagTrue:
	case tagInt:
		r.Int()
	case tagFloat32:
		r.fixed(4)
	case tagBigInt:
		if r.fixed(8); !bigInts && r.err == nil {
			r.Fail("a BigInt is no JSON")
		}
	case tagFloat64:
		r.fixed(8)
	case tagString:
		_ = r.String()
	case tagBytes:
		r.Bytes()
	case tagObject:
		n := r.Uint()
		if n > uint64(r.Len()/2) {
			r.Fail("object larger than the input")
		}
		for ; n > 0 && r.err == nil; n-- {
			_ = r.String()
			r.skipAny(depth-1, bigInts)
		}
	case tagArray:
		n := r.Uint()
		if n > uint64(r.Len()) {
			r.Fail("array larger than the input")
		}
		for ; n > 0 && r.err == nil; n-- {
			r.skipAny(depth-1, bigInts)
		}
	default:
		if r.err == nil {
			r.pos--
			r.Fail("unknown value tag " + strconv.Itoa(int(tag)))
		}
	}
}
