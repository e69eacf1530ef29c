package txn

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestReadSetPoints compares the points of a read set with a map, below and above
// the number from which it has an index, and after Reset.
func TestReadSetPoints(t *testing.T) {
	var r ReadSet
	for _, n := range []int{0, 1, pointsUnindexed, pointsUnindexed + 1, 5 * pointsUnindexed, 3, 200} {
		r.Reset()
		want := map[string]bool{}
		rnd := rand.New(rand.NewPCG(1, uint64(n)))
		key := make([]byte, 0, 8)
		for range 3 * n {
			key = fmt.Append(key[:0], rnd.IntN(max(1, n)))
			r.AddPoint(key)
			want[string(key)] = true
			if r.Len() != len(want) {
				t.Fatalf("%d draws: %d points, want %d", n, r.Len(), len(want))
			}
		}
		sorted := slices.Sorted(maps.Keys(want))
		var got []string
		for _, k := range r.Points() {
			got = append(got, string(k))
		}
		if !slices.Equal(got, sorted) {
			t.Errorf("%d draws: points %q, want %q", n, got, sorted)
		}
		seen := map[string]int{}
		r.EachPoint(func(k string) bool { seen[k]++; return true })
		for _, k := range append(sorted, "not there") {
			if in := want[k]; r.Contains(k) != in || seen[k] > 1 || (seen[k] == 1) != in {
				t.Errorf("%d draws: contains %q: %v, seen %d times, want %v", n, k, r.Contains(k), seen[k], in)
			}
		}
	}
}

// BenchmarkAddPoint is the cost of a point in transactions of a few and of many.
func BenchmarkAddPoint(b *testing.B) {
	for _, n := range []int{2, pointsUnindexed, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			keys := make([][]byte, n)
			for i := range keys {
				keys[i] = fmt.Appendf(nil, "r0001%016d", i)
			}
			b.ReportAllocs()
			for b.Loop() {
				var r ReadSet
				for _, k := range keys {
					r.AddPoint(k)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/point")
		})
	}
}
