package aggregate

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// exactSum is a sum of int64s and finite float64s without any rounding: a
// two's complement number in units of 2^-1074, the smallest float64. So it does
// not depend on the order of what was added, nor on how a tree groups it: a sum
// that is read again after unrelated changes is the same to the last bit. The
// zero value is zero.
//
// The largest float64 is below 2^2098 units. With 2^63 of them, and as much
// again for the merges of one read, the words do not overflow.
type exactSum struct {
	words [sumWords]uint64
}

const (
	sumWords = 35
	sumOne   = 1074 // the bit that counts 1

	// packedBytesMax bounds the magnitude of a packed sum, below 2^2168 units.
	packedBytesMax = 271
)

// addBits adds m shifted left by pos, or subtracts it.
func (s *exactSum) addBits(negative bool, m uint64, pos int) {
	w, shift := pos/64, uint(pos%64)
	lo, hi := m<<shift, uint64(0)
	if shift > 0 {
		hi = m >> (64 - shift)
	}
	c := s.addWord(negative, w, lo, 0)
	c = s.addWord(negative, w+1, hi, c)
	s.carry(negative, w+2, c)
}

func (s *exactSum) addWord(negative bool, w int, m, carry uint64) uint64 {
	if negative {
		s.words[w], carry = bits.Sub64(s.words[w], m, carry)
	} else {
		s.words[w], carry = bits.Add64(s.words[w], m, carry)
	}
	return carry
}

func (s *exactSum) carry(negative bool, w int, c uint64) {
	for ; c != 0 && w < sumWords; w++ {
		c = s.addWord(negative, w, 0, c)
	}
}

func (s *exactSum) addInt(v int64) {
	s.addBits(v < 0, magnitude(v), sumOne)
}

func magnitude(v int64) uint64 {
	if v < 0 {
		return -uint64(v)
	}
	return uint64(v)
}

// addFloat adds a finite number.
func (s *exactSum) addFloat(f float64) {
	b := math.Float64bits(f)
	m, e := b&(1<<52-1), int(b>>52&0x7ff)
	if e == 0 {
		e = 1 // subnormal: no hidden bit
	} else {
		m |= 1 << 52
	}
	s.addBits(b>>63 != 0, m, e-1)
}

// absolute returns the absolute value and whether the sum is negative.
func (s *exactSum) absolute() (m [sumWords]uint64, negative bool) {
	if s.words[sumWords-1]>>63 == 0 {
		return s.words, false
	}
	c := uint64(0)
	for w := range m {
		m[w], c = bits.Sub64(0, s.words[w], c)
	}
	return m, true
}

// float returns the float64 nearest to the sum, the even one of two, and an
// infinity when it is out of range. A zero is positive.
func (s *exactSum) float() float64 {
	m, negative := s.absolute()
	top := sumWords - 1
	for top >= 0 && m[top] == 0 {
		top--
	}
	if top < 0 {
		return 0
	}
	size := top*64 + bits.Len64(m[top]) // in bits
	var f float64
	if size <= 53 {
		f = math.Ldexp(float64(m[0]), -sumOne)
	} else {
		// The 64 bits from the highest down, the last one set too when anything
		// below them is.
		head := m[top] << (64*(top+1) - size)
		if rest := uint(size - 64*top); rest < 64 && top > 0 {
			head |= m[top-1] >> rest
			if m[top-1]<<(64-rest) != 0 {
				head |= 1
			}
			top--
		}
		for w := range top {
			if m[w] != 0 {
				head |= 1
			}
		}
		mant, rest := head>>11, head<<53
		if rest > 1<<63 || rest == 1<<63 && mant&1 != 0 {
			mant++
		}
		// There are at least 54 bits, so the result is normal and not rounded again.
		f = math.Ldexp(float64(mant), size-53-sumOne)
	}
	if negative {
		f = -f
	}
	return f
}

// int returns the sum of int64s; ok is false when it is not in their range.
func (s *exactSum) int() (v int64, ok bool) {
	const w, shift = sumOne / 64, sumOne % 64
	v = int64(s.words[w]>>shift | s.words[w+1]<<(64-shift))
	sign := uint64(v >> 63)
	ok = uint64(int64(s.words[w+1])>>shift) == sign
	for _, word := range s.words[w+2:] {
		ok = ok && word == sign
	}
	return v, ok
}

// A packed sum is, in a block and in memory: uvarint, the number of bytes of
// the magnitude times two, plus one when it is negative; then, unless that is
// 0, uvarint, the number of zero bytes below them; then the bytes, the lowest
// first, of which the first and the last are not zero. Whole numbers below a
// million take up to six bytes.

// pack appends the packed sum.
func (s *exactSum) pack(dst []byte) []byte {
	m, negative := s.absolute()
	lo, hi := 0, sumWords-1
	for lo < sumWords && m[lo] == 0 {
		lo++
	}
	if lo == sumWords {
		return append(dst, 0)
	}
	for m[hi] == 0 {
		hi--
	}
	zeros := 8*lo + bits.TrailingZeros64(m[lo])/8
	size := 8*hi + (bits.Len64(m[hi])+7)/8 - zeros
	head := uint64(size) << 1
	if negative {
		head |= 1
	}
	dst = binary.AppendUvarint(dst, head)
	dst = binary.AppendUvarint(dst, uint64(zeros))
	for i := zeros; i < zeros+size; i++ {
		dst = append(dst, byte(m[i/8]>>(i%8*8)))
	}
	return dst
}

// addPacked adds a packed sum, which is well formed.
func (s *exactSum) addPacked(b []byte) {
	head, n := binary.Uvarint(b)
	if head == 0 {
		return
	}
	zeros, k := binary.Uvarint(b[n:])
	b = b[n+k:]
	negative := head&1 != 0
	w, skip, c := int(zeros/8), int(zeros%8), uint64(0)
	for len(b) > 0 {
		part := min(8-skip, len(b))
		m := uint64(0)
		for i := part - 1; i >= 0; i-- {
			m = m<<8 | uint64(b[i])
		}
		c = s.addWord(negative, w, m<<(8*skip), c)
		w, skip, b = w+1, 0, b[part:]
	}
	s.carry(negative, w, c)
}

// packed reads a packed sum and returns it as it is.
func (s *scanner) packed() []byte {
	from := s.rest
	size := s.uvarint(2*packedBytesMax+1) >> 1
	if size > 0 {
		zeros := s.uvarint(packedBytesMax)
		m := s.bytes(size)
		if zeros+size > packedBytesMax || s.bad || m[0] == 0 || m[size-1] == 0 {
			s.bad = true
			return nil
		}
	} else if !s.bad && from[0] != 0 {
		s.bad = true // a zero has no sign
	}
	return from[:len(from)-len(s.rest)]
}
