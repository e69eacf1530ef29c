package lib0

import (
	"encoding/base64"
	"math"
	"strconv"
	"unicode/utf8"
)

// ParseJSON reads exactly one JSON text into the values ReadAny makes. It
// takes what JavaScript's JSON.parse takes; half a surrogate pair becomes
// U+FFFD.
func ParseJSON(s string) (any, error) {
	switch s {
	case "null":
		return nil, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	p := jsonParser{r: NewReader(s)}
	p.space()
	v := p.value(MaxDepth)
	p.space()
	if p.r.Len() > 0 {
		p.r.Fail("text after the JSON value")
	}
	return v, p.r.err
}

// ValidJSON reports whether ParseJSON would succeed.
func ValidJSON(s string) error {
	_, err := ParseJSON(s)
	return err
}

type jsonParser struct{ r Reader }

func (p *jsonParser) peek() byte {
	if p.r.pos < len(p.r.s) {
		return p.r.s[p.r.pos]
	}
	return 0
}

func (p *jsonParser) space() {
	for p.r.pos < len(p.r.s) {
		switch p.r.s[p.r.pos] {
		case ' ', '\t', '\n', '\r':
			p.r.pos++
		default:
			return
		}
	}
}

func (p *jsonParser) word(w string, v any) any {
	if p.r.Len() < len(w) || p.r.s[p.r.pos:p.r.pos+len(w)] != w {
		p.r.Fail("invalid JSON")
		return nil
	}
	p.r.pos += len(w)
	return v
}

func (p *jsonParser) value(depth int) any {
	if depth == 0 {
		p.r.failWith(ErrTooDeep, "JSON")
		return nil
	}
	switch c := p.peek(); c {
	case 'n':
		return p.word("null", nil)
	case 't':
		return p.word("true", true)
	case 'f':
		return p.word("false", false)
	case '"':
		return p.str()
	case '[':
		p.r.pos++
		a := []any{}
		p.space()
		if p.peek() == ']' {
			p.r.pos++
			return a
		}
		for p.r.err == nil {
			p.space()
			a = append(a, p.value(depth-1))
			p.space()
			switch p.r.Byte() {
			case ',':
				continue
			case ']':
				return a
			}
			p.r.Fail("invalid JSON array")
		}
		return nil
	case '{':
		p.r.pos++
		o := Object{}
		p.space()
		if p.peek() == '}' {
			p.r.pos++
			return o
		}
		for p.r.err == nil {
			p.space()
			if p.peek() != '"' {
				break
			}
			k := p.str()
			p.space()
			if p.r.Byte() != ':' {
				break
			}
			p.space()
			o = append(o, Member{k, p.value(depth - 1)})
			p.space()
			switch p.r.Byte() {
			case ',':
				continue
			case '}':
				return o.Canonical()
			}
			break
		}
		p.r.Fail("invalid JSON object")
		return nil
	default:
		return p.number()
	}
}

func (p *jsonParser) digits() int {
	n := 0
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.r.pos++
		n++
	}
	return n
}

func (p *jsonParser) number() any {
	start := p.r.pos
	if p.peek() == '-' {
		p.r.pos++
	}
	ok := true
	if p.peek() == '0' {
		p.r.pos++
	} else {
		ok = p.digits() > 0
	}
	if ok && p.peek() == '.' {
		p.r.pos++
		ok = p.digits() > 0
	}
	if c := p.peek(); ok && (c == 'e' || c == 'E') {
		p.r.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.r.pos++
		}
		ok = p.digits() > 0
	}
	if !ok {
		p.r.Fail("invalid JSON")
		return nil
	}
	// Out of range gives an infinity, as in JavaScript.
	f, _ := strconv.ParseFloat(p.r.s[start:p.r.pos], 64)
	return f
}

func (p *jsonParser) str() string {
	p.r.pos++
	s := p.r.s
	start := p.r.pos
	for i := start; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			p.r.pos = i + 1
			if !utf8.ValidString(s[start:i]) {
				p.r.Fail("invalid UTF-8")
				return ""
			}
			return s[start:i]
		case c < ' ':
			p.r.Fail("control character in a JSON string")
			return ""
		case c == '\\':
			return p.escaped(start, i)
		}
	}
	p.r.Fail("unterminated JSON string")
	return ""
}

func (p *jsonParser) escaped(start, i int) string {
	s := p.r.s
	buf := append(make([]byte, 0, i-start+16), s[start:i]...)
	for i < len(s) {
		c := s[i]
		i++
		switch {
		case c == '"':
			p.r.pos = i
			if !utf8.Valid(buf) {
				p.r.Fail("invalid UTF-8")
				return ""
			}
			return string(buf)
		case c < ' ':
			p.r.Fail("control character in a JSON string")
			return ""
		case c != '\\':
			buf = append(buf, c)
			continue
		}
		if i == len(s) {
			break
		}
		c = s[i]
		i++
		switch c {
		case '"', '\\', '/':
			buf = append(buf, c)
		case 'b':
			buf = append(buf, '\b')
		case 'f':
			buf = append(buf, '\f')
		case 'n':
			buf = append(buf, '\n')
		case 'r':
			buf = append(buf, '\r')
		case 't':
			buf = append(buf, '\t')
		case 'u':
			u, ok := hex4(s, i)
			if !ok {
				p.r.Fail("invalid escape in a JSON string")
				return ""
			}
			i += 4
			if u >= 0xd800 && u < 0xdc00 && i+1 < len(s) && s[i] == '\\' && s[i+1] == 'u' {
				if low, ok := hex4(s, i+2); ok && low >= 0xdc00 && low < 0xe000 {
					u = 0x10000 + (u-0xd800)<<10 + (low - 0xdc00)
					i += 6
				}
			}
			buf = utf8.AppendRune(buf, u)
		default:
			p.r.Fail("invalid escape in a JSON string")
			return ""
		}
	}
	p.r.Fail("unterminated JSON string")
	return ""
}

func hex4(s string, i int) (rune, bool) {
	if i+4 > len(s) {
		return 0, false
	}
	var u rune
	for _, c := range []byte(s[i : i+4]) {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		u = u<<4 | rune(c)
	}
	return u, true
}

// BytesForm says how AppendJSON writes binary data.
type BytesForm uint8

// The forms of binary data in JSON.
const (
	// BytesAsObject is what JSON.stringify makes of a Uint8Array.
	BytesAsObject BytesForm = iota
	// BytesAsBase64 is a string in standard base64.
	BytesAsBase64
)

// AppendJSON appends v as JSON.stringify prints it: undefined members are
// dropped, undefined elements, NaN and infinities are null. A BigInt, which
// JSON.stringify refuses, is a string of digits. Members keep their order.
func AppendJSON(dst []byte, v any, form BytesForm) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(dst, v)
	case float64:
		return AppendJSONNumber(dst, v)
	case string:
		return AppendJSONString(dst, v)
	case BigInt:
		dst = append(dst, '"')
		dst = strconv.AppendInt(dst, int64(v), 10)
		return append(dst, '"')
	case []byte:
		if form == BytesAsBase64 {
			dst = append(dst, '"')
			dst = base64.StdEncoding.AppendEncode(dst, v)
			return append(dst, '"')
		}
		dst = append(dst, '{')
		for i, b := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, '"')
			dst = strconv.AppendInt(dst, int64(i), 10)
			dst = append(dst, '"', ':')
			dst = strconv.AppendInt(dst, int64(b), 10)
		}
		return append(dst, '}')
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSON(dst, e, form)
		}
		return append(dst, ']')
	case Object:
		dst = append(dst, '{')
		first := true
		for _, m := range v {
			if _, skip := m.Value.(Undefined); skip {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = AppendJSONString(dst, m.Key)
			dst = append(dst, ':')
			dst = AppendJSON(dst, m.Value, form)
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

// AppendAnyJSON reads a value in the any format and appends it as AppendJSON
// does, mostly without making the value.
func (r *Reader) AppendAnyJSON(dst []byte, form BytesForm) []byte {
	return r.appendAnyJSON(dst, form, MaxDepth)
}

func (r *Reader) appendAnyJSON(dst []byte, form BytesForm, depth int) []byte {
	start := r.pos
	if depth == 0 {
		r.failWith(ErrTooDeep, "any")
		return dst
	}
	switch r.Byte() {
	case tagNull, tagUndefined:
		return append(dst, "null"...)
	case tagTrue:
		return append(dst, "true"...)
	case tagFalse:
		return append(dst, "false"...)
	case tagInt:
		neg, m := r.Int()
		if neg && m != 0 {
			dst = append(dst, '-')
		}
		return strconv.AppendUint(dst, m, 10)
	case tagFloat32:
		return AppendJSONNumber(dst, float64(math.Float32frombits(r.uint32())))
	case tagFloat64:
		return AppendJSONNumber(dst, math.Float64frombits(r.uint64()))
	case tagString:
		return AppendJSONString(dst, r.String())
	case tagArray:
		n := r.Uint()
		dst = append(dst, '[')
		for i := uint64(0); i < n && r.err == nil; i++ {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = r.appendAnyJSON(dst, form, depth-1)
		}
		return append(dst, ']')
	}
	// Members may be undefined, repeated or out of order.
	r.pos = start
	return AppendJSON(dst, r.readAny(depth), form)
}

// AppendJSONNumber appends f as JavaScript prints it.
func AppendJSONNumber(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if f == 0 {
		return append(dst, '0')
	}
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go pads the exponent to two digits, JavaScript does not.
	if n := len(dst); dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}

// AppendJSONString appends valid UTF-8 as a JSON string, escaping what
// JSON.stringify escapes.
func AppendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
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
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
