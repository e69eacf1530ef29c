package live

import (
	"bytes"
	"slices"
	"sort"
)

// Range is the keys from Start, included, to End, excluded. An empty End is the end of the key space.
type Range struct{ Start, End []byte }

// ReadSet is what a run has read: encoded keys, also of things that were not there, and ranges of encoded keys.
type ReadSet struct {
	Points [][]byte
	Ranges []Range
}

// bucketLen is the length of the key prefix that ranges are bucketed by: the kind of key and its table or index.
const bucketLen = 5

// compareEnds orders range ends; the end of the key space, which is empty, is the highest.
func compareEnds(a, b []byte) int {
	switch {
	case len(a) == 0 && len(b) == 0:
		return 0
	case len(a) == 0:
		return 1
	case len(b) == 0:
		return -1
	}
	return bytes.Compare(a, b)
}

// before reports whether key is before the end of a range.
func before(key, end []byte) bool { return len(end) == 0 || bytes.Compare(key, end) < 0 }

// normalize sorts a read set in place, drops what is in it twice, and joins ranges that overlap, or that touch in one
// bucket, so that its ranges are disjoint. Ranges of two buckets that touch stay two: the joined one would be in none.
func (s *ReadSet) normalize() {
	if !slices.IsSortedFunc(s.Points, bytes.Compare) {
		slices.SortFunc(s.Points, bytes.Compare)
	}
	s.Points = slices.CompactFunc(s.Points, bytes.Equal)

	s.Ranges = slices.DeleteFunc(s.Ranges, func(r Range) bool { return !before(r.Start, r.End) })
	slices.SortFunc(s.Ranges, func(a, b Range) int { return bytes.Compare(a.Start, b.Start) })
	n := 0
	for _, r := range s.Ranges {
		if n > 0 {
			last := &s.Ranges[n-1]
			c := compareEnds(r.Start, last.End)
			if len(r.Start) == 0 {
				c = -1 // An empty start is the lowest key, not the end of the key space.
			}
			if c < 0 || c == 0 && sameBucket(last.Start, r.Start) {
				if compareEnds(r.End, last.End) > 0 {
					last.End = r.End
				}
				continue
			}
		}
		s.Ranges[n] = r
		n++
	}
	clear(s.Ranges[n:])
	s.Ranges = s.Ranges[:n]
}

func sameBucket(a, b []byte) bool {
	return len(a) >= bucketLen && len(b) >= bucketLen && bytes.Equal(a[:bucketLen], b[:bucketLen])
}

// contains reports whether key is in a normalized read set.
func (s *ReadSet) contains(key []byte) bool {
	if _, found := slices.BinarySearchFunc(s.Points, key, bytes.Compare); found {
		return true
	}
	i := sort.Search(len(s.Ranges), func(i int) bool { return bytes.Compare(s.Ranges[i].Start, key) > 0 })
	return i > 0 && before(key, s.Ranges[i-1].End)
}

// equal reports whether two normalized read sets are the same.
func (s *ReadSet) equal(t *ReadSet) bool {
	return slices.EqualFunc(s.Points, t.Points, bytes.Equal) &&
		slices.EqualFunc(s.Ranges, t.Ranges, func(a, b Range) bool {
			return bytes.Equal(a.Start, b.Start) && bytes.Equal(a.End, b.End)
		})
}
