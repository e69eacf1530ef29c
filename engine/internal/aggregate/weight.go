package aggregate

import (
	"cmp"
	"encoding/binary"
	"errors"
	"math"
)

// ErrSumRange says that a sum of int64s is not in their range.
var ErrSumRange = errors.New("the sum of int64 numbers is beyond their range")

// Weight is the number that an entry of a weighted tree carries: an int64, a
// float64 or, the zero Weight, none. It is comparable.
type Weight struct {
	kind weightKind
	bits uint64
}

type weightKind uint8

// In the order of values: every int64 is less than every float64.
const (
	weightNone weightKind = iota
	weightInt
	weightFloat
	weightWhole // in blocks only: a float64 that is an integer
)

// IntWeight returns v as a Weight.
func IntWeight(v int64) Weight { return Weight{weightInt, uint64(v)} }

// FloatWeight returns f as a Weight.
func FloatWeight(f float64) Weight { return Weight{weightFloat, math.Float64bits(f)} }

// None reports whether there is no number.
func (w Weight) None() bool { return w.kind == weightNone }

// Int returns the number if it is an int64.
func (w Weight) Int() (int64, bool) { return int64(w.bits), w.kind == weightInt }

// Float returns the number if it is a float64.
func (w Weight) Float() (float64, bool) {
	return math.Float64frombits(w.bits), w.kind == weightFloat
}

// Compare orders numbers as values are: an int64 before every float64, and
// float64s in the total order of IEEE 754, so that NaN has a place.
func (w Weight) Compare(o Weight) int {
	if w.kind != o.kind {
		return cmp.Compare(w.kind, o.kind)
	}
	if w.kind == weightInt {
		return cmp.Compare(int64(w.bits), int64(o.bits))
	}
	return cmp.Compare(w.total(), o.total())
}

// total maps the bits of a float64 to an integer of the same order.
func (w Weight) total() uint64 {
	if w.bits>>63 != 0 {
		return ^w.bits
	}
	return w.bits | 1<<63
}

// wholeMax is the largest integer up to which float64s are stored as integers.
const wholeMax = 1 << 53

// append appends the weight as blocks have it.
func (w Weight) append(dst []byte) []byte {
	switch w.kind {
	case weightInt:
		return binary.AppendVarint(append(dst, byte(weightInt)), int64(w.bits))
	case weightFloat:
		if v, ok := w.whole(); ok {
			return binary.AppendVarint(append(dst, byte(weightWhole)), v)
		}
		return binary.BigEndian.AppendUint64(append(dst, byte(weightFloat)), w.bits)
	}
	return append(dst, byte(weightNone))
}

// whole returns a float64 as an integer, if it is a small one and not -0.
func (w Weight) whole() (int64, bool) {
	f := math.Float64frombits(w.bits)
	if !(f >= -wholeMax && f <= wholeMax) {
		return 0, false
	}
	v := int64(f)
	return v, math.Float64bits(float64(v)) == w.bits
}

// weight reads a Weight, in the form that append gives it.
func (s *scanner) weight() Weight {
	kind := s.bytes(1)
	if s.bad {
		return Weight{}
	}
	switch weightKind(kind[0]) {
	case weightNone:
		return Weight{}
	case weightInt:
		return IntWeight(s.varint())
	case weightWhole:
		v := s.varint()
		if v >= -wholeMax && v <= wholeMax {
			return FloatWeight(float64(v))
		}
	case weightFloat:
		if b := s.bytes(8); !s.bad {
			w := Weight{weightFloat, binary.BigEndian.Uint64(b)}
			if _, whole := w.whole(); !whole {
				return w
			}
		}
	}
	s.bad = true
	return Weight{}
}

// varint reads a signed number in its shortest form.
func (s *scanner) varint() int64 {
	u := s.uvarint(math.MaxUint64)
	return int64(u>>1) ^ -int64(u&1)
}

// Total adds up entries. The zero value is the total of none.
type Total struct {
	// Count is the number of entries, Numbers of those that carry a number.
	Count, Numbers int64

	has      byte
	sum      exactSum
	min, max Weight
}

// What numbers a total has, beside finite ones, which are in its sum.
const (
	hasFloat = 1 << iota
	hasNaN
	hasInf
	hasNegInf

	hasAll = hasFloat | hasNaN | hasInf | hasNegInf
)

// Add adds one entry.
func (t *Total) Add(w Weight) {
	t.Count++
	switch w.kind {
	case weightNone:
		return
	case weightInt:
		t.sum.addInt(int64(w.bits))
	default:
		t.has |= hasFloat
		switch f := math.Float64frombits(w.bits); {
		case f != f:
			t.has |= hasNaN
		case math.IsInf(f, 1):
			t.has |= hasInf
		case math.IsInf(f, -1):
			t.has |= hasNegInf
		default:
			t.sum.addFloat(f)
		}
	}
	t.Numbers++
	t.extend(w, w)
}

func (t *Total) extend(lo, hi Weight) {
	if t.min.None() || lo.Compare(t.min) < 0 {
		t.min = lo
	}
	if t.max.None() || hi.Compare(t.max) > 0 {
		t.max = hi
	}
}

// Remove takes off an entry that was added, exactly, and reports whether it
// could: not when the entry may be the least or the greatest, or when its number
// is not finite. Then the total is as it was.
func (t *Total) Remove(w Weight) bool {
	if w.None() {
		t.Count--
		return true
	}
	// Strictly between the two it is also not the only float64: those are above
	// all int64s.
	if w.Compare(t.min) <= 0 || w.Compare(t.max) >= 0 {
		return false
	}
	switch f := math.Float64frombits(w.bits); {
	case w.kind == weightInt:
		t.sum.addBits(int64(w.bits) >= 0, magnitude(int64(w.bits)), sumOne)
	case math.IsInf(f, 0) || f != f:
		return false
	default:
		t.sum.addFloat(-f)
	}
	t.Count--
	t.Numbers--
	return true
}

// Min returns the least number, and Max the greatest, in the order of Compare;
// none when there is no number.
func (t *Total) Min() Weight { return t.min }

// Max is described at Min.
func (t *Total) Max() Weight { return t.max }

// Sum returns the sum: none without numbers, an int64 when all numbers are,
// and otherwise the float64 nearest to the true sum, whatever the order. The
// error is ErrSumRange.
func (t *Total) Sum() (Weight, error) {
	switch {
	case t.Numbers == 0:
		return Weight{}, nil
	case t.has == 0:
		v, ok := t.sum.int()
		if !ok {
			return Weight{}, ErrSumRange
		}
		return IntWeight(v), nil
	case t.has&hasNaN != 0 || t.has&hasInf != 0 && t.has&hasNegInf != 0:
		return FloatWeight(math.NaN()), nil
	case t.has&hasInf != 0:
		return FloatWeight(math.Inf(1)), nil
	case t.has&hasNegInf != 0:
		return FloatWeight(math.Inf(-1)), nil
	}
	return FloatWeight(t.sum.float()), nil
}

// summary is what a branch knows about the weights below a child. It is
// immutable.
type summary struct {
	numbers  int64
	has      byte
	sum      []byte // packed; nil without numbers
	min, max Weight
}

// summary returns the total as a branch keeps it.
func (t *Total) summary() summary {
	s := summary{numbers: t.Numbers, has: t.has, min: t.min, max: t.max}
	if s.numbers > 0 {
		s.sum = t.sum.pack(nil)
	}
	return s
}

// merge adds count entries that a summary is about.
func (t *Total) merge(count int64, s *summary) {
	t.Count += count
	if s.numbers == 0 {
		return
	}
	t.Numbers += s.numbers
	t.has |= s.has
	t.sum.addPacked(s.sum)
	t.extend(s.min, s.max)
}

func (s *summary) equal(o *summary) bool {
	return s.numbers == o.numbers && s.has == o.has && string(s.sum) == string(o.sum) && s.min == o.min && s.max == o.max
}

// append appends the summary as blocks have it.
func (s *summary) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(s.numbers))
	if s.numbers == 0 {
		return dst
	}
	dst = append(append(dst, s.has), s.sum...)
	return s.max.append(s.min.append(dst))
}

// summary reads the summary of a child with count entries. What it returns
// refers to the block.
func (s *scanner) summary(count int64) summary {
	out := summary{numbers: int64(s.uvarint(uint64(count)))}
	if out.numbers == 0 {
		return out
	}
	if has := s.bytes(1); !s.bad {
		out.has = has[0]
	}
	out.sum, out.min, out.max = s.packed(), s.weight(), s.weight()
	switch {
	case out.has > hasAll || out.has > hasFloat && out.has&hasFloat == 0:
		s.bad = true
	case out.min.None() || out.max.None() || out.min.Compare(out.max) > 0:
		s.bad = true
	case out.has&hasFloat != 0 != (out.max.kind == weightFloat):
		s.bad = true // float64s are above int64s
	}
	return out
}
