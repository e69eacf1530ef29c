package aggregate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// keyShapes are families of keys that stress different parts of the tree. Each
// maps a number to a key, injectively but not always in order.
var keyShapes = map[string]func(n uint32) []byte{
	"short": func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) },
	// A group of a few bytes, then an order field, a time and an id.
	"entries": func(n uint32) []byte {
		key := fmt.Appendf(nil, "group-%02d\x00", n%7)
		key = binary.BigEndian.AppendUint64(key, uint64(n)*1_000_003)
		return binary.BigEndian.AppendUint64(key, uint64(n)*0x9e3779b97f4a7c15)
	},
	// Lengths from 0 up, each key a prefix of longer ones.
	"nested": func(n uint32) []byte {
		return append(bytes.Repeat([]byte{'a'}, int(n%900)), bytes.Repeat([]byte{'b'}, int(n/900))...)
	},
	// Long keys that differ only at the end: heavy in memory, light in a block.
	"long prefix": func(n uint32) []byte {
		return binary.BigEndian.AppendUint32(bytes.Repeat([]byte{0xff}, 4090), n)
	},
	// Long keys that differ at the start: few to a leaf.
	"heavy": func(n uint32) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n*0x9e3779b1), bytes.Repeat([]byte{0}, 4090)...)
	},
	// Runs of keys with a long prefix of their own: leaves are cut inside a run,
	// so separators are long and unlike each other, and the trees are high.
	"heavy separators": func(n uint32) []byte {
		key := binary.BigEndian.AppendUint32(nil, (n/32)*0x9e3779b1)
		return append(append(key, bytes.Repeat([]byte{0}, 600)...), byte(n%32))
	},
	// Light and heavy keys mixed, and separators of all lengths.
	"mixed": func(n uint32) []byte {
		key := binary.BigEndian.AppendUint32(nil, (n/3)*0x9e3779b1)
		switch n % 3 {
		case 1:
			key = append(key, 0)
		case 2:
			key = append(key, bytes.Repeat([]byte{1}, 300+int(n%1000))...)
		}
		return key
	},
	"empty and edges": func(n uint32) []byte {
		switch n {
		case 0:
			return nil
		case 1:
			return []byte{0}
		case 2:
			return bytes.Repeat([]byte{0xff}, KeyBytesMax)
		}
		return binary.BigEndian.AppendUint32(bytes.Repeat([]byte{0}, int(n%3)), n)
	},
}

// epoch is one version that the test keeps.
type epoch struct {
	tree Tree
	at   Timestamp
	keys [][]byte
}

// TestModel applies random batches and compares the versions, new and old, with
// sorted slices.
func TestModel(t *testing.T) {
	for name, shape := range keyShapes {
		t.Run(name, func(t *testing.T) {
			numbers := []uint32{20, 400, 4000}
			if len(shape(0)) > 1000 {
				numbers = []uint32{20, 200, 600} // long keys make high trees of few
			}
			rapid.Check(t, func(rt *rapid.T) { checkModel(rt, rapid.SampledFrom(numbers).Draw(rt, "universe"), shape) })
		})
	}
}

func checkModel(rt *rapid.T, universe uint32, shape func(uint32) []byte) {
	v := newVersions()
	caches := []*Cache{nil, NewCache(100 << 10), NewCache(64 << 20)}
	number := rapid.Uint32Range(0, universe)
	epochs := []epoch{{tree: Tree{Agg: 7}}}
	for step := range rapid.IntRange(1, 12).Draw(rt, "steps") {
		last := epochs[len(epochs)-1]
		at := last.at + rapid.Uint64Range(1, 1<<40).Draw(rt, "pause")
		changes, keys := drawChanges(rt, last.keys, universe, shape)
		cache := rapid.SampledFrom(caches).Draw(rt, "cache")
		tree, written, err := apply(last.tree, v, cache, at, changes)
		if err != nil {
			rt.Fatalf("step %d: %v", step, err)
		}
		if len(changes) == 0 && (len(written) > 0 || tree != last.tree) {
			rt.Fatalf("no changes made %+v of %+v", tree, last.tree)
		}
		if err := verify(tree, v, at, keys); err != nil {
			rt.Fatalf("step %d: %v", step, err)
		}
		epochs = append(epochs, epoch{tree, at, keys})
		for range 5 {
			e := rapid.SampledFrom(epochs).Draw(rt, "epoch")
			reader := &Reader{Cache: rapid.SampledFrom(caches).Draw(rt, "cache"), Blocks: v.at(e.at)}
			checkReads(rt, e, reader, number, shape)
		}
	}
	for _, e := range epochs {
		if err := e.tree.Check(&Reader{Blocks: v.at(e.at)}); err != nil {
			rt.Fatalf("version %d afterwards: %v", e.at, err)
		}
	}
}

// drawChanges draws a batch, and returns it with the keys after it.
func drawChanges(rt *rapid.T, keys [][]byte, universe uint32, shape func(uint32) []byte) ([]Change, [][]byte) {
	number := rapid.Uint32Range(0, universe)
	has := make(map[string]bool, len(keys))
	for _, k := range keys {
		has[string(k)] = true
	}
	var changes []Change
	flip := func(key []byte) {
		delta := int8(1)
		if has[string(key)] {
			delta = -1
		}
		changes = append(changes, Change{Key: key, Delta: delta})
	}
	switch rapid.IntRange(0, 5).Draw(rt, "kind") {
	case 0: // a few anywhere
		for _, n := range rapid.SliceOfNDistinct(number, 0, 6, rapid.ID).Draw(rt, "numbers") {
			flip(shape(n))
		}
	case 1, 2: // fill a stretch
		from := number.Draw(rt, "from")
		for n := range rapid.Uint32Range(1, min(universe, 1500)).Draw(rt, "length") {
			if key := shape(from + n); !has[string(key)] {
				flip(key)
			}
		}
	case 3: // clear a stretch
		lo := rapid.IntRange(0, len(keys)).Draw(rt, "lo")
		hi := rapid.IntRange(lo, len(keys)).Draw(rt, "hi")
		for _, key := range keys[lo:hi] {
			flip(key)
		}
	case 4: // thin out
		step := rapid.IntRange(1, 9).Draw(rt, "step")
		for i, key := range keys {
			if i%step != 0 || step == 1 {
				flip(key)
			}
		}
	case 5: // all but a few
		keep := rapid.IntRange(0, 3).Draw(rt, "keep")
		for i := keep; i < len(keys); i++ {
			flip(keys[i])
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return bytes.Compare(a.Key, b.Key) })
	changes = slices.CompactFunc(changes, func(a, b Change) bool { return bytes.Equal(a.Key, b.Key) })
	return changes, after(keys, changes)
}

// after returns the sorted keys with the changes made.
func after(keys [][]byte, changes []Change) [][]byte {
	var out [][]byte
	for len(keys) > 0 || len(changes) > 0 {
		switch {
		case len(changes) == 0 || len(keys) > 0 && bytes.Compare(keys[0], changes[0].Key) < 0:
			out, keys = append(out, keys[0]), keys[1:]
		case changes[0].Delta > 0:
			out, changes = append(out, changes[0].Key), changes[1:]
		default:
			keys, changes = keys[1:], changes[1:]
		}
	}
	return out
}

func checkReads(rt *rapid.T, e epoch, r *Reader, number *rapid.Generator[uint32], shape func(uint32) []byte) {
	bound := func(label string) []byte {
		key := shape(number.Draw(rt, label))
		switch rapid.IntRange(0, 5).Draw(rt, "bound kind") {
		case 0:
			return nil
		case 1:
			return append(bytes.Clone(key), 0)
		case 2:
			return key[:len(key)/2]
		case 3:
			if len(e.keys) > 0 {
				return rapid.SampledFrom(e.keys).Draw(rt, "entry")
			}
		}
		return key
	}
	from, to := bound("from"), bound("to")
	if got, err := e.tree.Count(r, from, to); err != nil || got != between(e.keys, from, to) {
		rt.Fatalf("count [%x, %x) at %d: got %d, %v, want %d", from, to, e.at, got, err, between(e.keys, from, to))
	}
	rank := between(e.keys, nil, append([]byte{}, from...))
	if got, err := e.tree.Rank(r, from); err != nil || got != rank {
		rt.Fatalf("rank %x: got %d, %v, want %d", from, got, err, rank)
	}
	var want []byte
	wantOK := rank < int64(len(e.keys))
	if wantOK {
		want = e.keys[rank]
	}
	if got, ok, err := e.tree.Seek(r, from); err != nil || ok != wantOK || !bytes.Equal(got, want) {
		rt.Fatalf("seek %x: got %x, %v, %v, want %x, %v", from, got, ok, err, want, wantOK)
	}
	if got, ok, err := e.tree.At(r, rank); err != nil || ok != wantOK || !bytes.Equal(got, want) {
		rt.Fatalf("at %d: got %x, %v, %v, want %x, %v", rank, got, ok, err, want, wantOK)
	}
}
