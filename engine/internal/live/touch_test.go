package live

import (
	"bytes"
	"fmt"
	"math/bits"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// drawKey draws from few keys, of which many have the same first five bytes, and some are at the edges of a bucket.
func drawKey(t *rapid.T, label string) []byte {
	bucket := rapid.SampledFrom([]string{"r0001", "r0002", "r000\xff", "r\xff\xff\xff\xff", "\xff\xff\xff\xff\xff"})
	switch rapid.IntRange(0, 9).Draw(t, label+" kind") {
	case 0:
		return []byte(rapid.SampledFrom([]string{"", "q", "r", "r000", "r001", "s", "\xff\xff"}).Draw(t, label))
	case 1:
		return []byte(bucket.Draw(t, label))
	}
	suffix := rapid.StringMatching(`[a-e]{1,2}`).Draw(t, label+" suffix")
	return []byte(bucket.Draw(t, label) + suffix)
}

func drawReadSet(t *rapid.T) (s ReadSet) {
	for range rapid.IntRange(0, 3).Draw(t, "points") {
		s.Points = append(s.Points, drawKey(t, "point"))
	}
	for range rapid.IntRange(0, 4).Draw(t, "ranges") {
		r := Range{Start: drawKey(t, "start"), End: drawKey(t, "end")}
		if len(r.End) > 0 && bytes.Compare(r.Start, r.End) > 0 && rapid.IntRange(0, 5).Draw(t, "swap") > 0 {
			r.Start, r.End = r.End, r.Start
		}
		s.Ranges = append(s.Ranges, r)
	}
	return s
}

// naiveContains is what a read set that may be in disorder means.
func naiveContains(s ReadSet, key []byte) bool {
	for _, p := range s.Points {
		if bytes.Equal(p, key) {
			return true
		}
	}
	for _, r := range s.Ranges {
		if bytes.Compare(r.Start, key) <= 0 && (len(r.End) == 0 || bytes.Compare(key, r.End) < 0) {
			return true
		}
	}
	return false
}

func cloneReadSet(s ReadSet) ReadSet {
	return ReadSet{Points: slices.Clone(s.Points), Ranges: slices.Clone(s.Ranges)}
}

func TestNormalize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		drawn := drawReadSet(t)
		s := cloneReadSet(drawn)
		s.normalize()
		for i, p := range s.Points {
			if i > 0 && bytes.Compare(s.Points[i-1], p) >= 0 {
				t.Fatalf("%q: points %q are not sorted and distinct", drawn, s.Points)
			}
		}
		for i, r := range s.Ranges {
			if !before(r.Start, r.End) {
				t.Fatalf("%q: range %q is empty", drawn, r)
			}
			if i > 0 && (len(s.Ranges[i-1].End) == 0 || bytes.Compare(s.Ranges[i-1].End, r.Start) > 0) {
				t.Fatalf("%q: ranges %q are not sorted and disjoint", drawn, s.Ranges)
			}
			if i > 0 && bytes.Equal(s.Ranges[i-1].End, r.Start) && sameBucket(s.Ranges[i-1].Start, r.Start) {
				t.Fatalf("%q: ranges %q could be one", drawn, s.Ranges)
			}
		}
		// Nothing that was in a bucket has become wide.
		wide := func(s ReadSet) bool {
			return slices.ContainsFunc(s.Ranges, func(r Range) bool { return before(r.Start, r.End) && !inBucket(r) })
		}
		if wide(s) && !wide(drawn) {
			t.Fatalf("%q: ranges %q have left their buckets", drawn, s.Ranges)
		}
		key := drawKey(t, "key")
		if got, want := s.contains(key), naiveContains(drawn, key); got != want {
			t.Fatalf("%q contains %q: got %v, want %v", drawn, key, got, want)
		}
		again := cloneReadSet(s)
		again.normalize()
		if !s.equal(&again) {
			t.Fatalf("%q: normalized once %q, twice %q", drawn, s, again)
		}
	})
}

func TestNormalizeJoins(t *testing.T) {
	for _, c := range []struct {
		name     string
		in, want []string // starts and ends
	}{
		{"touching in a bucket", []string{"r0001c", "r0001d", "r0001b", "r0001c"}, []string{"r0001b", "r0001d"}},
		{"touching at the end of a bucket", []string{"r0001c", "r0002", "r0002", "r0002d"},
			[]string{"r0001c", "r0002", "r0002", "r0002d"}},
		{"overlapping over two buckets", []string{"r0001c", "r0002b", "r0002", "r0002d"}, []string{"r0001c", "r0002d"}},
		{"one inside another", []string{"r0001b", "r0001e", "r0001c", "r0001d"}, []string{"r0001b", "r0001e"}},
		{"open end", []string{"r0001b", "", "r0001c", "r0001d"}, []string{"r0001b", ""}},
		{"open start", []string{"", "r", "", "q"}, []string{"", "r"}},
		{"apart", []string{"r0001d", "r0001e", "r0001b", "r0001c"}, []string{"r0001b", "r0001c", "r0001d", "r0001e"}},
		{"empty", []string{"r0001d", "r0001d", "r0001d", "r0001c"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s ReadSet
			for pair := range slices.Chunk(c.in, 2) {
				s.Ranges = append(s.Ranges, Range{Start: []byte(pair[0]), End: []byte(pair[1])})
			}
			s.normalize()
			var got []string
			for _, r := range s.Ranges {
				got = append(got, string(r.Start), string(r.End))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ranges of %q (-want +got):\n%s", c.in, diff)
			}
		})
	}
}

func TestReadSetEqual(t *testing.T) {
	base := func() *ReadSet {
		return &ReadSet{Points: [][]byte{[]byte("p")}, Ranges: []Range{{Start: []byte("a"), End: []byte("b")}}}
	}
	for name, change := range map[string]func(*ReadSet){
		"point":      func(s *ReadSet) { s.Points[0] = []byte("q") },
		"more":       func(s *ReadSet) { s.Points = append(s.Points, []byte("q")) },
		"no points":  func(s *ReadSet) { s.Points = nil },
		"start":      func(s *ReadSet) { s.Ranges[0].Start = nil },
		"end":        func(s *ReadSet) { s.Ranges[0].End = []byte("c") },
		"open end":   func(s *ReadSet) { s.Ranges[0].End = nil },
		"no ranges":  func(s *ReadSet) { s.Ranges = nil },
		"two ranges": func(s *ReadSet) { s.Ranges = append(s.Ranges, s.Ranges[0]) },
	} {
		s := base()
		change(s)
		if s.equal(base()) || base().equal(s) {
			t.Errorf("%s: %q equals %q", name, *s, *base())
		}
	}
	if !base().equal(base()) {
		t.Errorf("%q does not equal itself", *base())
	}
}

func TestInBucket(t *testing.T) {
	for _, c := range []struct {
		start, end string
		want       bool
	}{
		{"r0001", "r0002", true},
		{"r0001", "r0001x", true},
		{"r0001a", "r0002", true},
		{"r0001a", "r0002\x00", false},
		{"r0001a", "r0002a", false},
		{"r0001a", "", false},
		{"r000", "r0001", false},
		{"", "", false},
		{"r000\xff", "r001", true},
		{"r000\xff", "r001\x00", false},
		{"r000\xffa", "r000\xffb", true},
		{"\xff\xff\xff\xff\xff", "", true},
		{"\xff\xff\xff\xff\xffa", "\xff\xff\xff\xff\xffb", true},
	} {
		if got := inBucket(Range{Start: []byte(c.start), End: []byte(c.end)}); got != c.want {
			t.Errorf("[%q, %q): got %v, want %v", c.start, c.end, got, c.want)
		}
	}
}

func TestTouchIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := newTouchIndex()
		queries := make([]query, 8)
		for i := range queries {
			queries[i].id = QueryID(i)
		}
		want := make([]ReadSet, len(queries))
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			i := rapid.IntRange(0, len(queries)-1).Draw(t, "query")
			if rapid.IntRange(0, 3).Draw(t, "leave") == 0 {
				x.uninstall(&queries[i])
				want[i] = ReadSet{}
			} else {
				drawn := drawReadSet(t)
				want[i] = cloneReadSet(drawn)
				drawn.normalize()
				x.install(&queries[i], drawn)
			}
			checkTouchIndex(t, &x)
			key := drawKey(t, "key")
			got := make([]bool, len(queries))
			for _, q := range x.appendHits(nil, key) {
				got[q.id] = true
			}
			for i := range queries {
				if w := naiveContains(want[i], key); got[i] != w {
					t.Fatalf("query %d reads %q, key %q: got %v, want %v", i, want[i], key, got[i], w)
				}
			}
		}
		for i := range queries {
			x.uninstall(&queries[i])
			checkTouchIndex(t, &x)
		}
		if len(x.points)+len(x.buckets)+x.pointCount+x.rangeCount > 0 || x.wide.root != nil {
			t.Fatalf("left over: %d points, %d buckets, wide %v", len(x.points), len(x.buckets), x.wide.root)
		}
	})
}

// checkTouchIndex checks the shape of all trees.
func checkTouchIndex(t *rapid.T, x *touchIndex) {
	checkIntervals(t, x.wide.root)
	for prefix, b := range x.buckets {
		if b.root == nil {
			t.Fatalf("bucket %q is empty", prefix)
		}
		for _, n := range checkIntervals(t, b.root) {
			if !bytes.Equal(n.Start[:bucketLen], prefix[:]) {
				t.Fatalf("bucket %q has range %q", prefix, n.Range)
			}
		}
	}
}

// checkIntervals checks order, priorities and ends of a tree, and returns its nodes in order.
func checkIntervals(t *rapid.T, n *interval) []*interval {
	if n == nil {
		return nil
	}
	nodes := slices.Concat(checkIntervals(t, n.left), []*interval{n}, checkIntervals(t, n.right))
	maxEnd := n.End
	for i, c := range nodes {
		if i > 0 && nodes[i-1].compare(c.Range) >= 0 {
			t.Fatalf("range %q is not before %q", nodes[i-1].Range, c.Range)
		}
		if c.priority > n.priority {
			t.Fatalf("range %q is below %q", c.Range, n.Range)
		}
		if compareEnds(c.End, maxEnd) > 0 {
			maxEnd = c.End
		}
		if c.first == nil {
			t.Fatalf("range %q belongs to nobody", c.Range)
		}
	}
	if compareEnds(n.maxEnd, maxEnd) != 0 {
		t.Fatalf("range %q: highest end %q, want %q", n.Range, n.maxEnd, maxEnd)
	}
	return nodes
}

// TestIntervalsDepth inserts sorted ranges, the worst case for a tree that does not balance itself.
func TestIntervalsDepth(t *testing.T) {
	const n = 10_000
	x := newTouchIndex()
	queries := make([]query, n)
	for i := range queries {
		x.install(&queries[i], ReadSet{Ranges: []Range{{
			Start: fmt.Appendf(nil, "r0001%06d", i), End: fmt.Appendf(nil, "r0001%06d", i+2),
		}}})
	}
	var depth func(n *interval) int
	depth = func(n *interval) int {
		if n == nil {
			return 0
		}
		return 1 + max(depth(n.left), depth(n.right))
	}
	root := x.buckets[[bucketLen]byte([]byte("r0001"))].root
	if got, limit := depth(root), 4*bits.Len(n); got > limit {
		t.Errorf("depth of %d ranges: got %d, want at most %d", n, got, limit)
	}
	var got []int
	for _, q := range x.appendHits(nil, []byte("r0001005000x")) {
		for i := range queries {
			if q == &queries[i] {
				got = append(got, i)
			}
		}
	}
	if diff := cmp.Diff([]int{4999, 5000}, got); diff != "" {
		t.Errorf("queries that read the key (-want +got):\n%s", diff)
	}
	// Half of it gone, in an order of its own.
	for i := range queries {
		if j := i * 7919 % n; j%2 == 0 {
			x.uninstall(&queries[j])
		}
	}
	root = x.buckets[[bucketLen]byte([]byte("r0001"))].root
	if got, limit := depth(root), 4*bits.Len(n); got > limit {
		t.Errorf("depth of %d ranges: got %d, want at most %d", n/2, got, limit)
	}
	if x.rangeCount != n/2 {
		t.Errorf("ranges: got %d, want %d", x.rangeCount, n/2)
	}
}

// TestInstallAgain asserts that a run that reads what the one before has read costs the index nothing.
func TestInstallAgain(t *testing.T) {
	x := newTouchIndex()
	reads := ReadSet{Points: [][]byte{[]byte("p")}, Ranges: []Range{{Start: []byte("r0001a"), End: []byte("r0001b")}}}
	var q query
	x.install(&q, reads)
	if n := testing.AllocsPerRun(10, func() { x.install(&q, reads) }); n != 0 {
		t.Errorf("allocations: got %v, want 0", n)
	}
}
