package aggregate

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// built is the blocks of one build.
type built map[uint64][]byte

func (b built) Block(_ uint32, node uint64) ([]byte, bool, error) {
	block, ok := b[node]
	return block, ok, nil
}

// TestBuilder: a tree that is built from entries in order passes every check a
// tree has to pass, holds these entries with their numbers, and takes changes.
func TestBuilder(t *testing.T) {
	for _, weighted := range []bool{false, true} {
		for _, shape := range []struct {
			name string
			key  func(r *rand.Rand, i int) string
		}{
			{"dense", func(_ *rand.Rand, i int) string { return fmt.Sprintf("%08d", i) }},
			{"grouped", func(r *rand.Rand, i int) string {
				return fmt.Sprintf("/a/page/of/the/site/%03d\x00%x", i%97, r.Uint64())
			}},
			{"long", func(r *rand.Rand, i int) string {
				return fmt.Sprintf("%0*d", 1+r.IntN(3000), i)
			}},
		} {
			for _, n := range []int{0, 1, 2, 100, 511, 1023, 1024, 1025, 1536, 30_000} {
				if shape.name == "long" && n > 2000 {
					n = 3000
				}
				t.Run(fmt.Sprintf("%s/weighted=%v/%d", shape.name, weighted, n), func(t *testing.T) {
					r := rand.New(rand.NewPCG(1, uint64(n)))
					seen := map[string]bool{}
					for i := range n {
						seen[shape.key(r, i)] = true
					}
					var keys []string
					for k := range seen {
						keys = append(keys, k)
					}
					slices.Sort(keys)
					blocks, last := built{}, uint64(0)
					b := NewBuilder(Tree{Agg: 7, Weighted: weighted, NextNode: 40}, 5, func(node uint64, block []byte) error {
						if node <= last {
							t.Errorf("node %d comes after node %d", node, last)
						}
						last = node
						blocks[node] = slices.Clone(block)
						return nil
					})
					var want Total
					for i, k := range keys {
						w := Weight{}
						if weighted && i%5 > 0 {
							w = IntWeight(int64(i))
						}
						want.Add(w)
						if err := b.Add([]byte(k), w); err != nil {
							t.Fatal(err)
						}
					}
					tree, err := b.Finish()
					if err != nil {
						t.Fatal(err)
					}
					if tree.Entries != int64(len(keys)) || tree.NextNode < 40 {
						t.Fatalf("tree %+v of %d entries", tree, len(keys))
					}
					reader := &Reader{Blocks: blocks}
					nodes, err := tree.check(reader)
					if err != nil {
						t.Fatal(err)
					}
					if len(nodes) != len(blocks) {
						t.Errorf("%d blocks were written, the tree has %d nodes", len(blocks), len(nodes))
					}
					for _, i := range []int{0, len(keys) / 3, len(keys) - 1} {
						if i < 0 || i >= len(keys) {
							continue
						}
						if got, ok, err := tree.At(reader, int64(i)); err != nil || !ok || string(got) != keys[i] {
							t.Fatalf("entry %d is %q, %v, %v; want %q", i, got, ok, err, keys[i])
						}
					}
					if weighted {
						var got Total
						if err := tree.Total(reader, nil, nil, &got); err != nil {
							t.Fatal(err)
						}
						gotSum, err := got.Sum()
						wantSum, wantErr := want.Sum()
						if gotSum != wantSum || err != nil || wantErr != nil || got.Min() != want.Min() || got.Max() != want.Max() {
							t.Errorf("numbers add up to %v, %v, want %v, %v", gotSum, err, wantSum, wantErr)
						}
					}
					if len(keys) == 0 {
						return
					}
					put := func(node uint64, block []byte) { blocks[node] = slices.Clone(block) }
					drop := func(node uint64) { delete(blocks, node) }
					for i := 0; i < len(keys); i += 1 + len(keys)/50 {
						at := tree.Root.At + 1
						if tree, err = tree.Apply(reader, at, []Change{{Key: []byte(keys[i]), Delta: -1}}, put, drop); err != nil {
							t.Fatal(err)
						}
						if err := tree.Check(reader); err != nil {
							t.Fatal(err)
						}
					}
				})
			}
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	put := func(uint64, []byte) error { return nil }
	for _, c := range []struct {
		name  string
		first string
		key   []byte
		w     Weight
	}{
		{"an entry twice", "b", []byte("b"), Weight{}},
		{"an entry out of order", "b", []byte("a"), Weight{}},
		{"a long key", "b", make([]byte, KeyBytesMax+1), Weight{}},
		{"a weight", "b", []byte("c"), IntWeight(1)},
	} {
		b := NewBuilder(Tree{Agg: 1}, 1, put)
		if err := b.Add([]byte(c.first), Weight{}); err != nil {
			t.Fatal(err)
		}
		if err := b.Add(c.key, c.w); !errors.Is(err, ErrInvalidChanges) {
			t.Errorf("%s: %v, want ErrInvalidChanges", c.name, err)
		}
	}
	full := errors.New("full")
	b := NewBuilder(Tree{Agg: 1}, 1, func(uint64, []byte) error { return full })
	if err := b.Add([]byte("a"), Weight{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Finish(); !errors.Is(err, full) {
		t.Errorf("a build whose blocks cannot be written: %v", err)
	}
}
