package protocol

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// nestingMax bounds how deep arrays and objects may be nested in a message. A
// value may have 64 levels; the rest is room for the message around it.
const nestingMax = 80

// ErrSyntax marks every error of a message that is not JSON, or not the JSON
// that was expected at that place. Errors carry the offset in their text.
var ErrSyntax = errors.New("malformed message")

// scanner walks over one JSON text. It allocates nothing but decoded strings
// and never trusts a length: there is none in JSON.
type scanner struct {
	data []byte
	pos  int
	// depth is the number of arrays and objects that are open at pos.
	depth int
}

func (s *scanner) fail(format string, args ...any) error {
	return fmt.Errorf("%w at byte %d: %s", ErrSyntax, s.pos, fmt.Sprintf(format, args...))
}

func (s *scanner) space() {
	for s.pos < len(s.data) {
		switch s.data[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek returns the first byte of the next token, or 0 at the end of the text.
func (s *scanner) peek() byte {
	s.space()
	if s.pos < len(s.data) {
		return s.data[s.pos]
	}
	return 0
}

func (s *scanner) expect(c byte) error {
	if s.peek() != c {
		return s.fail("expected %q", c)
	}
	s.pos++
	return nil
}

// end reports an error unless only white space is left.
func (s *scanner) end() error {
	s.space()
	if s.pos != len(s.data) {
		return s.fail("unexpected text after the end of the value")
	}
	return nil
}

func (s *scanner) open(c byte) error {
	if err := s.expect(c); err != nil {
		return err
	}
	s.depth++
	if s.depth > nestingMax {
		return s.fail("nested deeper than %d levels", nestingMax)
	}
	return nil
}

// object reads an object and calls field for each of its keys, with the
// scanner before the value. field must read exactly that value.
func (s *scanner) object(field func(key string) error) error {
	if err := s.open('{'); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n == 0 && s.peek() == '}' {
			break
		}
		key, err := s.string()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
		if s.peek() != ',' {
			break
		}
		s.pos++
	}
	s.depth--
	return s.expect('}')
}

// array reads an array and calls element with the scanner before each element.
func (s *scanner) array(element func() error) error {
	if err := s.open('['); err != nil {
		return err
	}
	for n := 0; ; n++ {
		if n == 0 && s.peek() == ']' {
			break
		}
		if err := element(); err != nil {
			return err
		}
		if s.peek() != ',' {
			break
		}
		s.pos++
	}
	s.depth--
	return s.expect(']')
}

// raw reads any value and returns its text, a part of the scanned slice.
func (s *scanner) raw() ([]byte, error) {
	s.space()
	start := s.pos
	if err := s.skip(); err != nil {
		return nil, err
	}
	return s.data[start:s.pos:s.pos], nil
}

func (s *scanner) skip() error {
	switch c := s.peek(); c {
	case '{':
		if err := s.open('{'); err != nil {
			return err
		}
		for n := 0; ; n++ {
			if n == 0 && s.peek() == '}' {
				break
			}
			if err := s.skipString(); err != nil {
				return err
			}
			if err := s.expect(':'); err != nil {
				return err
			}
			if err := s.skip(); err != nil {
				return err
			}
			if s.peek() != ',' {
				break
			}
			s.pos++
		}
		s.depth--
		return s.expect('}')
	case '[':
		return s.array(s.skip)
	case '"':
		return s.skipString()
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		_, err := s.number()
		return err
	}
}

func (s *scanner) literal(word string) error {
	s.space()
	if len(s.data)-s.pos < len(word) || string(s.data[s.pos:s.pos+len(word)]) != word {
		return s.fail("expected %s", word)
	}
	s.pos += len(word)
	return nil
}

// null reads the value null if it is next and reports whether it was.
func (s *scanner) null() bool {
	return s.peek() == 'n' && s.literal("null") == nil
}

// number reads a number and returns its text.
func (s *scanner) number() ([]byte, error) {
	s.space()
	start := s.pos
	digits := func() bool {
		from := s.pos
		for s.pos < len(s.data) && s.data[s.pos] >= '0' && s.data[s.pos] <= '9' {
			s.pos++
		}
		return s.pos > from
	}
	at := func(c byte) bool { return s.pos < len(s.data) && s.data[s.pos] == c }
	if at('-') {
		s.pos++
	}
	switch {
	case at('0'):
		s.pos++
	case !digits():
		return nil, s.fail("expected a value")
	}
	if at('.') {
		s.pos++
		if !digits() {
			return nil, s.fail("expected digits after the decimal point")
		}
	}
	if at('e') || at('E') {
		s.pos++
		if at('+') || at('-') {
			s.pos++
		}
		if !digits() {
			return nil, s.fail("expected digits of the exponent")
		}
	}
	return s.data[start:s.pos], nil
}

func (s *scanner) uint32() (uint32, error) {
	text, err := s.number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil {
		return 0, s.fail("%.20s is not an unsigned 32-bit integer", text)
	}
	return uint32(n), nil
}

func (s *scanner) float64() (float64, error) {
	text, err := s.number()
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(string(text), 64)
	if err != nil {
		return 0, s.fail("%.20s is out of range", text)
	}
	return f, nil
}

func (s *scanner) bool() (bool, error) {
	if s.peek() == 't' {
		return true, s.literal("true")
	}
	return false, s.literal("false")
}

// skipString passes over a string and checks its grammar.
func (s *scanner) skipString() error {
	if err := s.expect('"'); err != nil {
		return err
	}
	for s.pos < len(s.data) {
		switch c := s.data[s.pos]; {
		case c == '"':
			s.pos++
			return nil
		case c == '\\':
			if err := s.skipEscape(); err != nil {
				return err
			}
		case c < ' ':
			return s.fail("control character in a string")
		default:
			s.pos++
		}
	}
	return s.fail("string without an end")
}

func (s *scanner) skipEscape() error {
	if s.pos+1 >= len(s.data) {
		return s.fail("string without an end")
	}
	switch s.data[s.pos+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.pos += 2
		return nil
	case 'u':
		if _, ok := hex4(s.data[s.pos+2:]); ok {
			s.pos += 6
			return nil
		}
	}
	return s.fail("unknown escape in a string")
}

// string reads a string. Text that is not UTF-8 and halves of surrogate pairs
// are errors: no name in the protocol has a use for them.
func (s *scanner) string() (string, error) {
	s.space()
	start := s.pos
	if err := s.skipString(); err != nil {
		return "", err
	}
	text := s.data[start+1 : s.pos-1]
	plain := true
	for _, c := range text {
		if c == '\\' {
			plain = false
			break
		}
	}
	if plain {
		if !utf8.Valid(text) {
			return "", s.fail("string is not UTF-8")
		}
		return string(text), nil
	}
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		if text[i] != '\\' {
			out = append(out, text[i])
			i++
			continue
		}
		c := text[i+1]
		i += 2
		switch c {
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
			r, _ := hex4(text[i:])
			i += 4
			if utf16.IsSurrogate(r) {
				var low rune
				if len(text)-i >= 6 && text[i] == '\\' && text[i+1] == 'u' {
					low, _ = hex4(text[i+2:])
				}
				if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
					return "", s.fail("half a surrogate pair in a string")
				}
				i += 6
			}
			out = utf8.AppendRune(out, r)
			continue
		}
		out = append(out, c)
	}
	if !utf8.Valid(out) {
		return "", s.fail("string is not UTF-8")
	}
	return string(out), nil
}

// hex4 reads the four hexadecimal digits of a \u escape.
func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
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
		r = r<<4 | rune(c)
	}
	return r, true
}

const hexDigits = "0123456789abcdef"

// AppendString appends text as a JSON string to dst. Bytes that are not UTF-8
// become U+FFFD, so the result is always valid.
func AppendString(dst []byte, text string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(text[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(dst, text[start:i]...)
				dst = append(dst, "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, text[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}
