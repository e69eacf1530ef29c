package value

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// The limits on every value that comes from outside.
const (
	FieldsMax         = 1024 // fields of one object
	ElementsMax       = 8192 // elements of one array
	FieldNameBytesMax = 1024 // bytes of one field name
)

// SyntaxError reports input that is not Convex JSON, or is past one of its limits.
type SyntaxError struct {
	Offset int    // the byte at which the problem begins
	Reason string // what is wrong there, for a person
}

// Error returns the reason and the offset.
func (e *SyntaxError) Error() string {
	return fmt.Sprintf("not a Convex value: %s at byte %d", e.Reason, e.Offset)
}

// ParseJSON parses the whole of data as Convex's encoded JSON. Errors are *SyntaxError.
//
// JSON numbers are floats. An object with a key that starts with $ must be one of the special forms
// {"$integer": base64 of 8 bytes}, {"$float": the same, of a float that JSON has no number for} and
// {"$bytes": base64}. Other keys are printable ASCII; as in JavaScript, of two equal keys the last wins.
// Nesting is limited to DepthMax, objects to FieldsMax keys (equal ones count) and arrays to ElementsMax.
// Strings must be valid UTF-8 and may not escape half of a surrogate pair.
//
// The value shares no memory with data. All its strings share one copy of data.
func ParseJSON(data []byte) (Value, error) {
	p := parser{b: bytes.Clone(data)}
	return p.whole()
}

// ParsePatchJSON parses an object as ParseJSON does, and also lets its own fields (not those of objects
// within it) be {"$undefined": null}: a patch deletes these. It returns their names, sorted.
func ParsePatchJSON(data []byte) (fields Value, unset []string, err error) {
	p := parser{b: bytes.Clone(data), patch: true}
	fields, err = p.whole()
	if err != nil {
		return Value{}, nil, err
	}
	if fields.kind != KindObject {
		return Value{}, nil, &SyntaxError{Offset: 0, Reason: "a patch must be an object"}
	}
	return fields, p.unset, nil
}

// parser reads b in one pass. It owns b: strings of the result point into it, and a string with escapes is
// unescaped in place, which never makes it longer.
type parser struct {
	b   []byte
	off int
	// elems and fields hold the parts of the arrays and objects that are still open, the innermost
	// last, so that each is allocated once, in its final size.
	elems  []Value
	fields []Field

	patch bool     // allow {"$undefined":null} as a field of the outermost object
	unset []string // the names of those fields
}

func (p *parser) fail(offset int, reason string) error {
	return &SyntaxError{Offset: offset, Reason: reason}
}

func (p *parser) whole() (Value, error) {
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	if p.space(); p.off < len(p.b) {
		return Value{}, p.fail(p.off, "more after the value")
	}
	return v, nil
}

func (p *parser) space() {
	for p.off < len(p.b) {
		switch p.b[p.off] {
		case ' ', '\t', '\n', '\r':
			p.off++
		default:
			return
		}
	}
}

// peek skips white space and returns the next byte, or 0 at the end of the input.
func (p *parser) peek() byte {
	p.space()
	if p.off < len(p.b) {
		return p.b[p.off]
	}
	return 0
}

// unexpected describes what is at off in place of what was expected.
func (p *parser) unexpected(expected string) error {
	if p.off >= len(p.b) {
		return p.fail(p.off, "input ends where "+expected+" was expected")
	}
	return p.fail(p.off, expected+" expected")
}

func (p *parser) value(depth int) (Value, error) {
	switch c := p.peek(); c {
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	case '"':
		s, err := p.text()
		if err != nil {
			return Value{}, err
		}
		return validString(s), nil
	case 't':
		return Bool(true), p.literal("true")
	case 'f':
		return Bool(false), p.literal("false")
	case 'n':
		return Null(), p.literal("null")
	default:
		if c == '-' || isDigit(c) {
			return p.number()
		}
		return Value{}, p.unexpected("a value")
	}
}

func (p *parser) literal(word string) error {
	if !bytes.HasPrefix(p.b[p.off:], []byte(word)) {
		return p.unexpected("a value")
	}
	p.off += len(word)
	return nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// digits skips digits and returns how many there were.
func (p *parser) digits() int {
	start := p.off
	for p.off < len(p.b) && isDigit(p.b[p.off]) {
		p.off++
	}
	return p.off - start
}

func (p *parser) number() (Value, error) {
	start := p.off
	negative := p.b[p.off] == '-'
	if negative {
		p.off++
	}
	first := p.off
	n := p.digits()
	if n == 0 {
		return Value{}, p.unexpected("a digit")
	}
	if n > 1 && p.b[first] == '0' {
		return Value{}, p.fail(first, "number with a leading zero")
	}
	whole := true
	if p.off < len(p.b) && p.b[p.off] == '.' {
		whole = false
		p.off++
		if p.digits() == 0 {
			return Value{}, p.unexpected("a digit")
		}
	}
	if p.off < len(p.b) && p.b[p.off]|0x20 == 'e' {
		whole = false
		p.off++
		if p.off < len(p.b) && (p.b[p.off] == '+' || p.b[p.off] == '-') {
			p.off++
		}
		if p.digits() == 0 {
			return Value{}, p.unexpected("a digit")
		}
	}
	if whole && n <= 15 { // exact in a float64
		var i int64
		for _, c := range p.b[first:p.off] {
			i = i*10 + int64(c-'0')
		}
		f := float64(i)
		if negative {
			f = -f // of 0 too: -0
		}
		return Float64(f), nil
	}
	f, err := strconv.ParseFloat(aliasString(p.b[start:p.off]), 64)
	if err != nil {
		return Value{}, p.fail(start, "number out of range")
	}
	return Float64(f), nil
}

// text parses a string, which starts at off.
func (p *parser) text() (string, error) {
	open := p.off
	p.off++
	start := p.off
	ascii := true
	for p.off < len(p.b) {
		switch c := p.b[p.off]; {
		case c == '"':
			content := p.b[start:p.off]
			p.off++
			if !ascii && !utf8.Valid(content) {
				return "", p.fail(open, "string is not valid UTF-8")
			}
			return aliasString(content), nil
		case c == '\\':
			return p.escaped(open)
		case c < ' ':
			return "", p.fail(p.off, "control character in a string")
		default:
			ascii = ascii && c < utf8.RuneSelf
			p.off++
		}
	}
	return "", p.fail(open, "string without an end")
}

// escaped finishes text from the first backslash, moving the rest of the string down over its escapes.
func (p *parser) escaped(open int) (string, error) {
	start, end := open+1, p.off // the unescaped string so far
	for p.off < len(p.b) {
		c := p.b[p.off]
		switch {
		case c == '"':
			p.off++
			if !utf8.Valid(p.b[start:end]) {
				return "", p.fail(open, "string is not valid UTF-8")
			}
			return aliasString(p.b[start:end]), nil
		case c < ' ':
			return "", p.fail(p.off, "control character in a string")
		case c != '\\':
			p.b[end] = c
			end++
			p.off++
			continue
		}
		if p.off+1 >= len(p.b) {
			break
		}
		at := p.off
		c = p.b[p.off+1]
		p.off += 2
		switch c {
		case '"', '\\', '/':
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, ok := p.unicode(at)
			if !ok {
				return "", p.fail(at, "bad \\u escape or half of a surrogate pair")
			}
			end += utf8.EncodeRune(p.b[end:], r)
			continue
		default:
			return "", p.fail(at, "unknown escape")
		}
		p.b[end] = c
		end++
	}
	return "", p.fail(open, "string without an end")
}

// unicode reads the \u escape at offset at, and with it the one that follows when it is a surrogate.
func (p *parser) unicode(at int) (rune, bool) {
	r, ok := p.hex4(at)
	if !ok {
		return 0, false
	}
	p.off = at + 6
	if !utf16.IsSurrogate(r) {
		return r, true
	}
	low, ok := p.hex4(at + 6)
	p.off = at + 12
	r = utf16.DecodeRune(r, low)
	return r, ok && r != utf8.RuneError
}

// hex4 reads \uXXXX at offset at.
func (p *parser) hex4(at int) (rune, bool) {
	if len(p.b)-at < 6 || p.b[at] != '\\' || p.b[at+1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range p.b[at+2 : at+6] {
		r <<= 4
		switch {
		case isDigit(c):
			r |= rune(c - '0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r |= rune(c|0x20-'a') + 10
		default:
			return 0, false
		}
	}
	return r, true
}

func (p *parser) array(depth int) (Value, error) {
	open := p.off
	if depth == DepthMax {
		return Value{}, p.fail(open, "nested too deeply")
	}
	p.off++
	if p.peek() == ']' {
		p.off++
		return Array(), nil
	}
	if p.elems == nil {
		p.elems = make([]Value, 0, 8)
	}
	base := len(p.elems)
	for {
		if len(p.elems)-base == ElementsMax {
			return Value{}, p.fail(open, "array with more than 8192 elements")
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		p.elems = append(p.elems, v)
		switch p.peek() {
		case ',':
			p.off++
		case ']':
			p.off++
			elems := make([]Value, len(p.elems)-base)
			copy(elems, p.elems[base:])
			p.elems = p.elems[:base]
			return Array(elems...), nil
		default:
			return Value{}, p.unexpected("a comma or ]")
		}
	}
}

func (p *parser) object(depth int) (Value, error) {
	open := p.off
	p.off++
	if p.peek() == '}' {
		if depth == DepthMax {
			return Value{}, p.fail(open, "nested too deeply")
		}
		p.off++
		return Object(), nil
	}
	if p.fields == nil {
		p.fields = make([]Field, 0, 8)
	}
	base := len(p.fields)
	for {
		if p.peek() != '"' {
			return Value{}, p.unexpected("a field name")
		}
		at := p.off
		name, err := p.text()
		if err != nil {
			return Value{}, err
		}
		if reason := nameFault(name); reason != "" {
			if len(p.fields) == base && reason == nameSpecial {
				return p.special(name, at, p.patch && depth == 1)
			}
			return Value{}, p.fail(at, reason)
		}
		if depth == DepthMax { // not sooner: a special form is no nesting
			return Value{}, p.fail(open, "nested too deeply")
		}
		if len(p.fields)-base == FieldsMax {
			return Value{}, p.fail(open, "object with more than 1024 fields")
		}
		if p.peek() != ':' {
			return Value{}, p.unexpected("a colon")
		}
		p.off++
		v, err := p.value(depth + 1)
		if err != nil {
			return Value{}, err
		}
		p.fields = append(p.fields, Field{Name: name, Value: v})
		switch p.peek() {
		case ',':
			p.off++
		case '}':
			p.off++
			return p.finishObject(base, depth), nil
		default:
			return Value{}, p.unexpected("a comma or }")
		}
	}
}

// finishObject returns the object at depth whose fields start at base. Of the outermost object of a patch it
// notes the undefined ones.
func (p *parser) finishObject(base, depth int) Value {
	if depth > 0 {
		fields := make([]Field, len(p.fields)-base)
		copy(fields, p.fields[base:])
		p.fields = p.fields[:base]
		return normalObject(fields)
	}
	fields := p.fields // nothing else is open
	p.fields = nil
	for _, f := range fields {
		if f.Value.kind == KindUndefined { // only ever in a patch
			p.unset = append(p.unset, f.Name)
		}
	}
	v := normalObject(fields)
	slices.Sort(p.unset)
	p.unset = slices.DeleteFunc(slices.Compact(p.unset), func(name string) bool {
		return !v.Get(name).IsUndefined() // set again further on
	})
	return v
}

const nameSpecial = "field names may not start with $"

// nameFault returns what keeps name from being a field name, or "".
func nameFault(name string) string {
	if len(name) > FieldNameBytesMax {
		return "field name longer than 1024 bytes"
	}
	if name != "" && name[0] == '$' {
		return nameSpecial
	}
	for i := range len(name) {
		if name[i] < ' ' || name[i] > '~' {
			return "field name with a character that is not printable ASCII"
		}
	}
	return ""
}

// strictBase64 refuses encodings with stray bits in the last character.
var strictBase64 = base64.StdEncoding.Strict()

// special parses the rest of a special form, after its key, which is at offset at.
func (p *parser) special(key string, at int, undefined bool) (Value, error) {
	if key != specialInteger && key != specialFloat && key != specialBytes && (key != specialUndefined || !undefined) {
		return Value{}, p.fail(at, nameSpecial)
	}
	if p.peek() != ':' {
		return Value{}, p.unexpected("a colon")
	}
	p.off++
	var v Value
	c := p.peek()
	at = p.off
	if key == specialUndefined {
		if c != 'n' {
			return Value{}, p.unexpected("null")
		}
		if err := p.literal("null"); err != nil {
			return Value{}, err
		}
	} else {
		if c != '"' {
			return Value{}, p.unexpected("a string of base64")
		}
		encoded, err := p.text()
		if err != nil {
			return Value{}, err
		}
		var reason string
		if v, reason = decodeSpecial(key, encoded); reason != "" {
			return Value{}, p.fail(at, reason)
		}
	}
	if p.peek() != '}' {
		return Value{}, p.unexpected("} after the only field of a special form")
	}
	p.off++
	return v, nil
}

// decodeSpecial returns the value of a special form, or what is wrong with it.
func decodeSpecial(key, encoded string) (v Value, reason string) {
	b, err := strictBase64.DecodeString(encoded)
	if err != nil || strings.ContainsAny(encoded, "\r\n") { // the decoder skips line ends
		return Value{}, key + " is not base64"
	}
	if key == specialBytes {
		return Bytes(b), ""
	}
	if len(b) != 8 {
		return Value{}, key + " is not 8 bytes"
	}
	bits := binary.LittleEndian.Uint64(b)
	if key == specialInteger {
		return Int64(int64(bits)), ""
	}
	f := math.Float64frombits(bits)
	if isPlainFloat(f) {
		return Value{}, key + " of a number that JSON can write"
	}
	return Float64(f), ""
}
