package live

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"
)

// benchMachine returns a machine with n queries that each have one result. reads says what query i has read.
func benchMachine(b *testing.B, n int, reads func(i int) ReadSet) *Machine {
	b.Helper()
	m := New(Options{Newest: 1})
	m.Open(1)
	for i := range n {
		// A set polled with n slots n times would take n squared: the runs are reported without rounds.
		m.Watch(1, uint32(i), fmt.Sprintf("q%d", i), 1)
	}
	_, _, effects := m.Poll(1, 0, 1)
	starts := append([]Effect(nil), effects...)
	m.Close(1)
	for i, e := range starts {
		m.Open(SetID(2 + i))
		m.Watch(SetID(2+i), 0, e.Key, 1)
		m.Ran(e.Run, []byte("x"), reads(i), 0, 10, 1)
	}
	return m
}

// BenchmarkCommitted is the cost of a group of 16 keys that touches nothing, or the result of one query with each key,
// among many.
func BenchmarkCommitted(b *testing.B) {
	key := func(i int) []byte { return fmt.Appendf(nil, "x0001%08d", i) }
	kinds := []struct {
		name  string
		reads func(i int) ReadSet
	}{
		{"points", func(i int) ReadSet { return ReadSet{Points: [][]byte{key(2 * i)}} }},
		{"ranges", func(i int) ReadSet { return ReadSet{Ranges: []Range{{Start: key(2 * i), End: key(2*i + 1)}}} }},
	}
	for _, kind := range kinds {
		for _, n := range []int{10_000, 100_000} {
			b.Run(fmt.Sprintf("%s/queries=%d/untouched", kind.name, n), func(b *testing.B) {
				m := benchMachine(b, n, kind.reads)
				keys := make([][]byte, 16)
				for i := range keys {
					keys[i] = key(2*(i*n/17) + 1)
				}
				at := m.newest
				b.ReportAllocs()
				for b.Loop() {
					at++
					if effects := m.Committed(at, keys, at); len(effects) > 0 {
						b.Fatal(effects)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(keys)), "ns/key")
			})
		}
	}
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("ranges/queries=%d/touched", n), func(b *testing.B) {
			m := benchMachine(b, n, kinds[1].reads)
			keys := make([][]byte, 16)
			at := m.newest
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for j := range keys {
					keys[j] = key(2 * ((i*len(keys) + j*n/16) % n))
				}
				at += 1_000_000
				effects := m.Committed(at, append([][]byte(nil), keys...), at)
				if len(effects) == 0 {
					b.Fatal("nothing touched")
				}
				// Each is run again and yields the same.
				for _, e := range append([]Effect(nil), effects...) {
					var q int
					fmt.Sscanf(e.Key, "q%d", &q)
					m.Ran(e.Run, []byte("x"), kinds[1].reads(q), 0, 10, at)
				}
			}
		})
	}
}

// BenchmarkFanOut is one change of one query that 10,000 sets watch: the commit, the run and a poll of each.
func BenchmarkFanOut(b *testing.B) {
	for _, sets := range []int{1, 10_000} {
		b.Run(fmt.Sprintf("sets=%d", sets), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			m := New(Options{Newest: 1})
			now := uint64(1)
			reads := func() ReadSet { return ReadSet{Points: [][]byte{[]byte("row/a")}} }
			for i := range sets {
				m.Open(SetID(i))
				m.Watch(SetID(i), 0, "q", now)
			}
			_, _, effects := m.Poll(0, 0, now)
			m.Ran(effects[0].Run, []byte("0"), reads(), 0, 10, now)
			for i := range sets {
				m.Poll(SetID(i), 0, now)
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			bytesPerSet := float64(after.HeapAlloc-before.HeapAlloc) / float64(sets)
			keys := [][]byte{[]byte("row/a")}
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				now += 1_000_000
				effects := m.Committed(now, keys, now)
				effects = m.Ran(effects[0].Run, fmt.Appendf(nil, "%d", n+1), reads(), 0, 10, now)
				if len(effects) != sets {
					b.Fatalf("%d effects", len(effects))
				}
				for i := range sets {
					if _, ok, _ := m.Poll(SetID(i), 0, now); !ok {
						b.Fatal("no round")
					}
				}
			}
			b.ReportMetric(bytesPerSet, "heap-B/set")
		})
	}
}

// BenchmarkTouchIndex installs 100,000 queries, each of which has read one key or one range of its own, and tells what
// the index and the read sets in it occupy.
func BenchmarkTouchIndex(b *testing.B) {
	// Keys as the engine makes them: kind, table and id of a row.
	key := func(i int) []byte {
		return binary.BigEndian.AppendUint64(append(make([]byte, 0, 21), "r\x00\x00\x27\x11........"...), uint64(i))
	}
	const n = 100_000
	kinds := []struct {
		name  string
		reads func(i int) ReadSet
	}{
		{"points", func(i int) ReadSet { return ReadSet{Points: [][]byte{key(i)}} }},
		{"ranges", func(i int) ReadSet { return ReadSet{Ranges: []Range{{Start: key(2 * i), End: key(2*i + 1)}}} }},
	}
	for _, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			queries := make([]query, n)
			b.ReportAllocs()
			for b.Loop() {
				x := newTouchIndex()
				before := heapAlloc()
				for i := range queries {
					x.install(&queries[i], kind.reads(i))
				}
				b.ReportMetric((heapAlloc()-before)/n, "heap-B/query")
				for i := range queries {
					x.uninstall(&queries[i])
				}
			}
		})
	}
}

func heapAlloc() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
