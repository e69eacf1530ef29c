package lib0

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// MaxUint is the largest integer lib0 can carry: JavaScript's largest safe
// integer.
const MaxUint = 1<<53 - 1

// ErrMalformed marks input that is not valid lib0.
var ErrMalformed = errors.New("malformed input")

// ErrTooDeep marks a value nested beyond the allowed depth.
var ErrTooDeep = errors.New("value nested too deep")

// Reader reads lib0 primitives from a string. The zero Reader is at the end of
// an empty input.
type Reader struct {
	s   string
	pos int
	err error
}

// NewReader returns a Reader over s.
func NewReader(s string) Reader { return Reader{s: s} }

// Err is the first failure, or nil.
func (r *Reader) Err() error { return r.err }

// Pos is the offset of the next byte.
func (r *Reader) Pos() int { return r.pos }

// Seek moves to an offset taken from Pos earlier.
func (r *Reader) Seek(pos int) { r.pos = pos }

// Len is the number of bytes left; zero after a failure.
func (r *Reader) Len() int { return len(r.s) - r.pos }

// Input is all of the input.
func (r *Reader) Input() string { return r.s }

// Since returns the input between an earlier Pos and the current one.
func (r *Reader) Since(pos int) string {
	if pos > r.pos {
		return ""
	}
	return r.s[pos:r.pos]
}

// Rest returns everything that is left and moves to the end.
func (r *Reader) Rest() string {
	s := r.s[r.pos:]
	r.pos = len(r.s)
	return s
}

// Fail records a failure at the current position unless there is one already.
// Every later read answers zero.
func (r *Reader) Fail(reason string) { r.failWith(ErrMalformed, reason) }

// FailWith is Fail with another class of error than ErrMalformed.
func (r *Reader) FailWith(class error, reason string) { r.failWith(class, reason) }

func (r *Reader) failWith(class error, reason string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s at byte %d", class, reason, r.pos)
	}
	r.pos = len(r.s)
}

// Byte reads one byte.
func (r *Reader) Byte() byte {
	if r.pos < len(r.s) {
		b := r.s[r.pos]
		r.pos++
		return b
	}
	r.Fail("unexpected end")
	return 0
}

// Uint reads a variable-length unsigned integer of at most 53 bits.
func (r *Reader) Uint() uint64 {
	if r.pos < len(r.s) {
		if b := r.s[r.pos]; b < 0x80 {
			r.pos++
			return uint64(b)
		}
	}
	return r.uintSlow()
}

// ShortUint reads an integer of at most 7 bytes from the 8 bytes of w, least
// significant first; n is 0 for a longer one. It does not branch on the length:
// lengths are mixed, and guessing them wrong takes longer than all of the rest.
func ShortUint(w uint64) (v uint64, n int) {
	last := uint(bits.TrailingZeros64(^w & 0x8080808080808080))
	if last > 55 {
		return 0, 0
	}
	w &= 1<<last - 1 // the top bit of the last byte is zero
	w = w&0x007f007f007f007f | w&0x7f007f007f007f00>>1
	w = w&0x00003fff00003fff | w&0x3fff00003fff0000>>2
	w = w&0x000000000fffffff | w&0x0fffffff00000000>>4
	return w, int(last>>3) + 1
}

func (r *Reader) uintSlow() uint64 {
	s := r.s
	if len(s)-r.pos >= 8 {
		w := uint64(s[r.pos]) | uint64(s[r.pos+1])<<8 | uint64(s[r.pos+2])<<16 | uint64(s[r.pos+3])<<24 |
			uint64(s[r.pos+4])<<32 | uint64(s[r.pos+5])<<40 | uint64(s[r.pos+6])<<48 | uint64(s[r.pos+7])<<56
		if v, n := ShortUint(w); n > 0 {
			r.pos += n
			return v
		}
	}
	var v uint64
	for i, shift := r.pos, uint(0); i < len(s); i, shift = i+1, shift+7 {
		b := s[i]
		if shift == 49 && b > 0x0f || shift > 49 {
			r.Fail("integer beyond 53 bits")
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			r.pos = i + 1
			return v
		}
	}
	r.Fail("unexpected end of an integer")
	return 0
}

// Int reads a variable-length signed integer. It is stored as sign and
// magnitude, so minus zero exists and is told apart by neg.
func (r *Reader) Int() (neg bool, magnitude uint64) {
	if r.pos >= len(r.s) {
		r.Fail("unexpected end")
		return false, 0
	}
	b := r.s[r.pos]
	neg = b&0x40 != 0
	v := uint64(b & 0x3f)
	if b < 0x80 {
		r.pos++
		return neg, v
	}
	for i, shift := r.pos+1, uint(6); i < len(r.s); i, shift = i+1, shift+7 {
		b = r.s[i]
		if shift == 48 && b > 0x1f || shift > 48 {
			r.Fail("integer beyond 53 bits")
			return false, 0
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			r.pos = i + 1
			return neg, v
		}
	}
	r.Fail("unexpected end of an integer")
	return false, 0
}

// Bytes reads a length and that many bytes.
func (r *Reader) Bytes() string {
	n := r.Uint()
	if n > uint64(len(r.s)-r.pos) {
		r.Fail("length beyond the input")
		return ""
	}
	s := r.s[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return s
}

// String reads a length and that many bytes of UTF-8. A string that is not
// valid UTF-8 fails: JavaScript peers refuse to read it.
func (r *Reader) String() string {
	s := r.Bytes()
	if !utf8.ValidString(s) {
		r.Fail("invalid UTF-8")
		return ""
	}
	return s
}

// Text reads a string together with its length in UTF-16 code units.
func (r *Reader) Text() (s string, units uint64) {
	s = r.Bytes()
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			n, ok := countUnits(s, i)
			if !ok {
				r.Fail("invalid UTF-8")
				return "", 0
			}
			return s, n
		}
	}
	return s, uint64(len(s))
}

// Measure returns the length of a string in UTF-16 code units; ok is false
// where it is not valid UTF-8.
func Measure(s string) (units uint64, ok bool) { return countUnits(s, 0) }

// countUnits counts the UTF-16 code units of s, of which the first ascii bytes
// are known to be ASCII.
func countUnits(s string, ascii int) (units uint64, ok bool) {
	units = uint64(ascii)
	for i := ascii; i < len(s); {
		if s[i] < utf8.RuneSelf {
			units++
			i++
			continue
		}
		c, size := utf8.DecodeRuneInString(s[i:])
		if c == utf8.RuneError && size == 1 {
			return 0, false
		}
		if size == 4 {
			units++
		}
		units++
		i += size
	}
	return units, true
}

func (r *Reader) fixed(n int) string {
	if len(r.s)-r.pos < n {
		r.Fail("unexpected end")
		return ""
	}
	s := r.s[r.pos : r.pos+n]
	r.pos += n
	return s
}

func (r *Reader) uint32() uint32 {
	s := r.fixed(4)
	if s == "" {
		return 0
	}
	return binary.BigEndian.Uint32([]byte(s))
}

func (r *Reader) uint64() uint64 {
	s := r.fixed(8)
	if s == "" {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(s))
}
