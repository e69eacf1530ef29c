package aggregate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// benchKey is an entry as the engine makes them: group, order field, creation
// time and id, 58 bytes.
func benchKey(n uint64) []byte {
	key := fmt.Appendf(nil, "\x05/blog/post-%04d\x00\x01", n%1000)
	key = append(key, 3)
	key = binary.BigEndian.AppendUint64(key, 0xc000000000000000+n*37)
	key = append(key, 3)
	key = binary.BigEndian.AppendUint64(key, 0xc000000000000000+n*37)
	id := [16]byte{}
	binary.BigEndian.PutUint64(id[:], n*37<<8)
	binary.BigEndian.PutUint64(id[8:], n*0x9e3779b97f4a7c15)
	return append(key, id[:]...)
}

// benchTree grows a tree of n entries as a site would: in order of time, in
// batches, so in many places at once.
func benchTree(b *testing.B, n int, cacheBytes int) (Tree, *Reader) {
	r := &Reader{Cache: NewCache(cacheBytes), Blocks: mapBlocks{}}
	t := Tree{Agg: 1}
	const batch = 20_000
	for from := 0; from < n; from += batch {
		var changes []Change
		for i := from; i < min(n, from+batch); i++ {
			changes = append(changes, Change{Key: benchKey(uint64(i)), Delta: 1})
		}
		sortChanges(changes)
		var err error
		if t, err = t.Apply(r, t.Root.At+1000, changes, r.Blocks.(mapBlocks).put, r.Blocks.(mapBlocks).drop); err != nil {
			b.Fatal(err)
		}
	}
	return t, r
}

func BenchmarkCount(b *testing.B) {
	for _, n := range []int{1_000, 1_000_000, 10_000_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			t, r := benchTree(b, n, 1<<30)
			rnd := rand.New(rand.NewPCG(1, 2))
			type bounds struct{ from, to []byte }
			var ranges []bounds
			for range 1024 {
				a, z := benchKey(rnd.Uint64N(uint64(n))), benchKey(rnd.Uint64N(uint64(n)))
				if bytes.Compare(a, z) > 0 {
					a, z = z, a
				}
				ranges = append(ranges, bounds{a, z})
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, err := t.Count(r, ranges[i%len(ranges)].from, ranges[i%len(ranges)].to); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}

// BenchmarkCountCold reads every node from its block: what a count costs when
// nothing is in the cache, without the store's own part.
func BenchmarkCountCold(b *testing.B) {
	t, r := benchTree(b, 1_000_000, 1<<30)
	r = &Reader{Blocks: r.Blocks}
	from, to := benchKey(5), benchKey(500_005)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.Count(r, from, to); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeek(b *testing.B) {
	t, r := benchTree(b, 1_000_000, 1<<30)
	from := benchKey(500_005)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := t.Seek(r, from); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkApply(b *testing.B) {
	const entries = 1_000_000
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("changes=%d", n), func(b *testing.B) {
			t, r := benchTree(b, entries, 1<<30)
			blocks := r.Blocks.(mapBlocks)
			written, writtenBytes := 0, 0
			put := func(id uint64, block []byte) {
				written++
				writtenBytes += len(block)
				blocks.put(id, block)
			}
			// Batches are inserted in one round and removed in the next.
			batches := make([][]Change, max(2, 1000/n))
			next := uint64(entries)
			for i := range batches {
				batches[i] = make([]Change, n)
				for j := range batches[i] {
					batches[i][j] = Change{Key: benchKey(next), Delta: 1}
					next += 7919 // another group each time
				}
				sortChanges(batches[i])
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				batch := batches[i%len(batches)]
				var err error
				if t, err = t.Apply(r, t.Root.At+1000, batch, put, blocks.drop); err != nil {
					b.Fatal(err)
				}
				for j := range batch {
					batch[j].Delta = -batch[j].Delta
				}
				i++
			}
			b.ReportMetric(float64(written)/float64(b.N), "nodes/op")
			b.ReportMetric(float64(writtenBytes)/float64(b.N), "written-B/op")
		})
	}
}

func sortChanges(changes []Change) {
	slices.SortFunc(changes, func(a, b Change) int { return bytes.Compare(a.Key, b.Key) })
}

// BenchmarkTotal adds up random ranges of a weighted tree.
func BenchmarkTotal(b *testing.B) {
	const entries = 1_000_000
	weights := map[string]func(n uint64) Weight{
		"int64":  func(n uint64) Weight { return IntWeight(int64(n % 1000)) },
		"prices": func(n uint64) Weight { return FloatWeight(float64(n%100_000) / 100) },
	}
	for name, weight := range weights {
		b.Run(name, func(b *testing.B) {
			blocks := mapBlocks{}
			r := &Reader{Cache: NewCache(1 << 30), Blocks: blocks}
			changes := make([]Change, entries)
			for i := range changes {
				changes[i] = Change{Key: benchKey(uint64(i)), Delta: 1, Weight: weight(uint64(i))}
			}
			sortChanges(changes)
			t, err := Tree{Agg: 1, Weighted: true}.Apply(r, 1, changes, blocks.put, blocks.drop)
			if err != nil {
				b.Fatal(err)
			}
			rnd := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				i, j := rnd.IntN(entries), rnd.IntN(entries)
				var total Total
				if err := t.Total(r, changes[min(i, j)].Key, changes[max(i, j)].Key, &total); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
