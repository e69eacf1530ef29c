package value

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
)

// The names that mark the special forms of Convex JSON.
const (
	specialInteger   = "$integer"
	specialFloat     = "$float"
	specialBytes     = "$bytes"
	specialUndefined = "$undefined"
)

// AppendJSON appends v as Convex's encoded JSON: fields sorted by name, no spaces, numbers as JavaScript
// prints them. Integers, bytes and the floats that JSON lacks (-0, NaN, infinities) take their $ forms.
// Undefined, which JSON lacks too and functions return for "nothing", becomes null.
func AppendJSON(dst []byte, v Value) []byte { return appendJSON(dst, v, false) }

// AppendCleanJSON appends v as Convex's clean JSON, which loses types: an integer becomes a string of its
// decimal digits, bytes a string of base64, NaN and the infinities the strings "NaN", "Infinity" and
// "-Infinity"; -0 is the number -0.
func AppendCleanJSON(dst []byte, v Value) []byte { return appendJSON(dst, v, true) }

func appendJSON(dst []byte, v Value, clean bool) []byte {
	switch v.kind {
	case KindInt64:
		if clean {
			dst = strconv.AppendInt(append(dst, '"'), int64(v.bits), 10)
			return append(dst, '"')
		}
		return appendSpecial64(dst, specialInteger, v.bits)
	case KindFloat64:
		f := math.Float64frombits(v.bits)
		if isPlainFloat(f) {
			return appendNumber(dst, f)
		}
		if !clean {
			return appendSpecial64(dst, specialFloat, v.bits)
		}
		switch {
		case f == 0:
			return append(dst, "-0"...)
		case math.IsNaN(f):
			return append(dst, `"NaN"`...)
		case f > 0:
			return append(dst, `"Infinity"`...)
		default:
			return append(dst, `"-Infinity"`...)
		}
	case KindBool:
		return strconv.AppendBool(dst, v.bits != 0)
	case KindString:
		return appendQuoted(dst, v.text())
	case KindBytes:
		if clean {
			return appendBase64(dst, v.raw())
		}
		dst = append(dst, `{"`+specialBytes+`":`...)
		return append(appendBase64(dst, v.raw()), '}')
	case KindArray:
		dst = append(dst, '[')
		for i, e := range v.elems() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSON(dst, e, clean)
		}
		return append(dst, ']')
	case KindObject:
		dst = append(dst, '{')
		for i, f := range v.fields() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendQuoted(dst, f.Name)
			dst = appendJSON(append(dst, ':'), f.Value, clean)
		}
		return append(dst, '}')
	default:
		return append(dst, "null"...)
	}
}

// isPlainFloat reports whether f is written as a JSON number: it is finite and not -0.
func isPlainFloat(f float64) bool {
	return math.Abs(f) <= math.MaxFloat64 && (f != 0 || !math.Signbit(f))
}

func appendSpecial64(dst []byte, name string, bits uint64) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], bits)
	dst = append(dst, `{"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return append(appendBase64(dst, b[:]), '}')
}

// appendBase64 appends b in quotes, in standard base64 with padding.
func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}

// appendNumber appends f as JavaScript's Number.prototype.toString does: the fewest digits that read back as
// f, in positional notation from 1e-6 up to but not including 1e21. REQUIRES: isPlainFloat(f).
func appendNumber(dst []byte, f float64) []byte {
	if i, ok := whole(math.Float64bits(f)); ok {
		return strconv.AppendInt(dst, i, 10)
	}
	if a := math.Abs(f); 1e-6 <= a && a < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go pads an exponent to two digits, JavaScript does not: e-07 is e-7. No exponent above 9 is padded.
	if n := len(dst); dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') {
		dst = slices.Delete(dst, n-2, n-1)
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendQuoted appends s as JSON.stringify does: quotes, backslashes and control characters are escaped and
// nothing else. REQUIRES: s is valid UTF-8.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, `\b`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, `\u00`...)
			dst = append(dst, hexDigits[c>>4], hexDigits[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
