package aggregate

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// highTree returns a tree of at least four levels and its entries.
func highTree(t *testing.T, v *versions) (Tree, [][]byte) {
	t.Helper()
	changes := stretch(1, 0, 4000, func(n int) []byte { return keyShapes["heavy separators"](uint32(n)) })
	sortChanges(changes)
	tree := mustApply(t, Tree{Agg: 1}, v, nil, 10, changes)
	if tree.Height < 4 {
		t.Fatalf("height is %d, want at least 4", tree.Height)
	}
	return tree, keysOf(changes)
}

// TestReadsAtEveryEntry reads at each entry and just above it, so across every
// border between two nodes of any level.
func TestReadsAtEveryEntry(t *testing.T) {
	v := newVersions()
	tree, entries := highTree(t, v)
	r := &Reader{Cache: NewCache(64 << 20), Blocks: v.at(10)}
	for i, entry := range entries {
		above := append(bytes.Clone(entry), 0)
		for _, tt := range []struct {
			key  []byte
			rank int
		}{{entry, i}, {above, i + 1}} {
			if got, err := tree.Rank(r, tt.key); err != nil || got != int64(tt.rank) {
				t.Fatalf("rank %x: got %d, %v, want %d", tt.key, got, err, tt.rank)
			}
			got, ok, err := tree.Seek(r, tt.key)
			if err != nil || ok != (tt.rank < len(entries)) || ok && !bytes.Equal(got, entries[tt.rank]) {
				t.Fatalf("seek %x: got %x, %v, %v, want entry %d", tt.key, got, ok, err, tt.rank)
			}
		}
		if got, err := tree.Count(r, entry, above); err != nil || got != 1 {
			t.Fatalf("count of entry %d alone: got %d, %v", i, got, err)
		}
		want := entries[i:min(len(entries), i+i%300)]
		if i%300 == 0 {
			want = entries[i:] // to the end
		}
		if got, err := ascend(tree, r, entry, len(want)); err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
			t.Fatalf("ascend from entry %d: got %d entries, %v, want %d in order", i, len(got), err, len(want))
		}
		if got, ok, err := tree.At(r, int64(i)); err != nil || !ok || !bytes.Equal(got, entry) {
			t.Fatalf("at %d: got %x, %v, %v, want %x", i, got, ok, err, entry)
		}
	}
	for _, offset := range []int64{-1, tree.Entries} {
		if key, ok, err := tree.At(r, offset); key != nil || ok || err != nil {
			t.Errorf("at %d: got %x, %v, %v, want nothing", offset, key, ok, err)
		}
	}
}

// ascend returns the first n entries >= from, or all when there are not so many.
func ascend(tree Tree, r *Reader, from []byte, n int) (got [][]byte, err error) {
	err = tree.Ascend(r, from, func(entry []byte) bool {
		if len(got) == n {
			return false
		}
		got = append(got, bytes.Clone(entry))
		return true
	})
	return got, err
}

func TestAscendOfNothing(t *testing.T) {
	v := newVersions()
	for name, from := range map[string][]byte{"all": nil, "from a key": {1}} {
		if got, err := ascend(Tree{Agg: 1}, &Reader{Blocks: v.at(10)}, from, 1); got != nil || err != nil {
			t.Errorf("an empty tree, %s: got %x, %v", name, got, err)
		}
	}
	tree, entries := highTree(t, v)
	r := &Reader{Blocks: v.at(10)}
	if got, err := ascend(tree, r, nil, len(entries)+1); err != nil || !slices.EqualFunc(got, entries, bytes.Equal) {
		t.Errorf("all: got %d entries, %v, want %d in order", len(got), err, len(entries))
	}
	if got, err := ascend(tree, r, append(bytes.Clone(entries[len(entries)-1]), 0), 1); got != nil || err != nil {
		t.Errorf("after the last entry: got %x, %v, want nothing", got, err)
	}
}

// counting counts the blocks read.
type counting struct {
	Blocks
	reads int
}

func (c *counting) Block(agg uint32, id uint64) ([]byte, bool, error) {
	c.reads++
	return c.Blocks.Block(agg, id)
}

// TestReadCost bounds the nodes that a read touches.
func TestReadCost(t *testing.T) {
	v := newVersions()
	tree, entries := highTree(t, v)
	for i := 0; i < len(entries); i += 7 {
		for j := i; j < len(entries); j += 501 {
			c := &counting{Blocks: v.at(10)}
			if _, err := tree.Count(&Reader{Blocks: c}, entries[i], entries[j]); err != nil {
				t.Fatal(err)
			}
			if c.reads > 2*tree.Height-1 {
				t.Fatalf("count from entry %d to %d read %d blocks of a tree of height %d", i, j, c.reads, tree.Height)
			}
		}
	}
	c := &counting{Blocks: v.at(10)}
	n, err := tree.Count(&Reader{Blocks: c}, nil, nil)
	if err != nil || n != int64(len(entries)) || c.reads != 0 {
		t.Errorf("count of all: got %d, %v with %d reads, want %d with none", n, err, c.reads, len(entries))
	}
	for _, bounds := range [][2][]byte{{nil, {}}, {{1}, {1}}, {{2}, {1}}} {
		if n, err := tree.Count(&Reader{Blocks: c}, bounds[0], bounds[1]); n != 0 || err != nil {
			t.Errorf("count of the empty range %x: got %d, %v", bounds, n, err)
		}
	}
}

// TestReadFaults takes away one block at a time: a read gives the right answer or
// the store's error.
func TestReadFaults(t *testing.T) {
	v := newVersions()
	tree, entries := highTree(t, v)
	nodes, err := tree.check(&Reader{Blocks: v.at(10)})
	if err != nil {
		t.Fatal(err)
	}
	for id := range nodes {
		r := &Reader{Blocks: faulty{v.at(10), map[uint64]func([]byte) ([]byte, bool, error){
			id: func([]byte) ([]byte, bool, error) { return nil, false, errDisk },
		}}}
		failed := false
		verdict := func(what string, i int, right bool, err error) {
			failed = failed || err != nil
			if err == nil && !right || err != nil && !errors.Is(err, errDisk) {
				t.Errorf("%s at entry %d without node %d: right is %v, error %v", what, i, id, right, err)
			}
		}
		for i := 0; i < len(entries); i += 31 {
			above := append(bytes.Clone(entries[i]), 0)
			n, err := tree.Count(r, entries[i], nil)
			verdict("count to the end", i, n == int64(len(entries)-i), err)
			n, err = tree.Count(r, entries[i/2], above)
			verdict("count", i, n == int64(i-i/2+1), err)
			key, ok, err := tree.Seek(r, above)
			verdict("seek", i, ok == (i+1 < len(entries)) && (!ok || bytes.Equal(key, entries[i+1])), err)
			key, ok, err = tree.At(r, int64(i))
			verdict("at", i, ok && bytes.Equal(key, entries[i]), err)
			some, err := ascend(tree, r, entries[i], 40)
			verdict("ascend", i, slices.EqualFunc(some, entries[i:min(len(entries), i+40)], bytes.Equal), err)
		}
		if !failed {
			t.Errorf("no read needed node %d", id)
		}
	}
}
