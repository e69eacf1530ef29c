package aggregate

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/bits"
	"slices"
)

// keyList is a strictly ascending list of keys in a few flat arrays, so that a
// cached node costs the garbage collector nothing and copying a run of keys is
// a memory copy.
//
// Every key is prefix followed by its tail. The prefix is common to all keys but
// need not be the longest that is.
type keyList struct {
	prefix []byte
	tails  []byte
	ends   []uint32 // ends[i] is where the tail of key i ends in tails
	shared []uint16 // shared[i] is how many bytes key i has in common with key i-1; shared[0] is 0
}

func (l *keyList) len() int { return len(l.ends) }

func (l *keyList) start(i int) int {
	if i == 0 {
		return 0
	}
	return int(l.ends[i-1])
}

func (l *keyList) tail(i int) []byte { return l.tails[l.start(i):l.ends[i]] }

// size returns the length of key i.
func (l *keyList) size(i int) int { return len(l.prefix) + int(l.ends[i]) - l.start(i) }

// key returns a fresh copy of key i.
func (l *keyList) key(i int) []byte { return l.appendHead(nil, i, l.size(i)) }

// appendHead appends the first n bytes of key i.
func (l *keyList) appendHead(dst []byte, i, n int) []byte {
	if n <= len(l.prefix) {
		return append(dst, l.prefix[:n]...)
	}
	dst = append(dst, l.prefix...)
	return append(dst, l.tail(i)[:n-len(l.prefix)]...)
}

// headSize is how many bytes of a tail are its head.
const headSize = 8

// head returns the first bytes of a tail as a number, filled up with zeros: of
// two tails with different heads, the one with the smaller head comes first.
func head(tail []byte) uint64 {
	if len(tail) >= headSize {
		return binary.BigEndian.Uint64(tail)
	}
	var b [headSize]byte
	copy(b[:], tail)
	return binary.BigEndian.Uint64(b[:])
}

// heads returns the head of each key's tail.
func (l *keyList) heads() []uint64 {
	heads := make([]uint64, l.len())
	for i := range heads {
		heads[i] = head(l.tail(i))
	}
	return heads
}

// search returns the position of the first key >= key among those from lo on,
// and whether it is equal. With heads, which lie close together, tails are
// compared only where these do not decide.
func (l *keyList) search(key []byte, lo int, heads []uint64) (pos int, found bool) {
	tail, ok := bytes.CutPrefix(key, l.prefix)
	if !ok {
		if bytes.Compare(key, l.prefix) < 0 {
			return lo, false
		}
		return l.len(), false
	}
	hi := l.len()
	if heads != nil {
		h := head(tail)
		lo += lowerBound(heads[lo:], h)
		if lo == hi || heads[lo] != h {
			return lo, false
		}
		if h < math.MaxUint64 {
			hi = lo + lowerBound(heads[lo:], h+1)
		}
	}
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		switch c := bytes.Compare(l.tail(mid), tail); {
		case c < 0:
			lo = mid + 1
		case c > 0:
			hi = mid
		default:
			return mid, true
		}
	}
	return lo, false
}

// lowerBound returns the position of the first of the ascending numbers that is
// not below h.
func lowerBound(numbers []uint64, h uint64) int {
	lo, hi := 0, len(numbers)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if numbers[mid] < h {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// above reports whether key i is greater than key.
func (l *keyList) above(i int, key []byte) bool {
	tail, ok := bytes.CutPrefix(key, l.prefix)
	if !ok {
		return bytes.Compare(key, l.prefix) < 0
	}
	return bytes.Compare(l.tail(i), tail) > 0
}

// grow makes room for n more keys of b bytes in total.
func (l *keyList) grow(n, b int) {
	l.tails = slices.Grow(l.tails, b)
	l.ends = slices.Grow(l.ends, n)
	l.shared = slices.Grow(l.shared, n)
}

// push appends a copy of key.
//
// REQUIRES: key begins with l.prefix and is greater than the last key.
func (l *keyList) push(key []byte) {
	l.tails = append(l.tails, key[len(l.prefix):]...)
	l.ends = append(l.ends, uint32(len(l.tails)))
	l.shared = append(l.shared, 0)
	l.link(l.len() - 1)
}

// pushRange appends keys lo to hi of src.
//
// REQUIRES: l.prefix is a prefix of src.prefix, and the keys follow the last one.
func (l *keyList) pushRange(src *keyList, lo, hi int) {
	if lo >= hi {
		return
	}
	first := l.len()
	if len(l.prefix) == len(src.prefix) {
		shift := uint32(len(l.tails)) - uint32(src.start(lo))
		l.tails = append(l.tails, src.tails[src.start(lo):src.ends[hi-1]]...)
		for _, end := range src.ends[lo:hi] {
			l.ends = append(l.ends, end+shift)
		}
	} else {
		for i := lo; i < hi; i++ {
			l.tails = append(l.tails, src.prefix[len(l.prefix):]...)
			l.tails = append(l.tails, src.tail(i)...)
			l.ends = append(l.ends, uint32(len(l.tails)))
		}
	}
	l.shared = append(l.shared, src.shared[lo:hi]...)
	l.link(first)
}

// link sets shared[i] from keys i-1 and i.
func (l *keyList) link(i int) {
	if i == 0 {
		l.shared[0] = 0
		return
	}
	l.shared[i] = uint16(len(l.prefix) + commonPrefix(l.tail(i-1), l.tail(i)))
}

// slice returns keys lo to hi as a list of its own, with the longest prefix.
func (l *keyList) slice(lo, hi int) keyList {
	if lo >= hi {
		return keyList{}
	}
	// The least of the neighbours' common prefixes is common to all of a sorted list.
	p := l.size(lo)
	for _, s := range l.shared[lo+1 : hi] {
		p = min(p, int(s))
	}
	out := keyList{prefix: l.appendHead(make([]byte, 0, p), lo, p)}
	cut := p - len(l.prefix)
	out.grow(hi-lo, int(l.ends[hi-1])-l.start(lo)-cut*(hi-lo))
	for i := lo; i < hi; i++ {
		out.tails = append(out.tails, l.tail(i)[cut:]...)
		out.ends = append(out.ends, uint32(len(out.tails)))
	}
	out.shared = append(out.shared, l.shared[lo:hi]...)
	out.shared[0] = 0
	return out
}

// newKeyList copies sorted unique keys into a list.
func newKeyList(keys [][]byte) keyList {
	if len(keys) == 0 {
		return keyList{}
	}
	first, last := keys[0], keys[len(keys)-1]
	l := keyList{prefix: bytes.Clone(first[:commonPrefix(first, last)])}
	size := 0
	for _, k := range keys {
		size += len(k) - len(l.prefix)
	}
	l.grow(len(keys), size)
	for _, k := range keys {
		l.push(k)
	}
	return l
}

// joinKeys returns the keys of a and then those of b.
//
// REQUIRES: every key of b is greater than every key of a.
func joinKeys(a, b *keyList) keyList {
	p := commonPrefix(a.prefix, b.prefix)
	out := keyList{prefix: a.prefix[:p]}
	grown := (len(a.prefix)-p)*a.len() + (len(b.prefix)-p)*b.len()
	out.grow(a.len()+b.len(), len(a.tails)+len(b.tails)+grown)
	out.pushRange(a, 0, a.len())
	out.pushRange(b, 0, b.len())
	return out
}

// commonPrefix returns how many leading bytes a and b have in common.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	i := 0
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
