package aggregate

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"testing"
)

// versions is a store that keeps every version of every block, and so can show
// any snapshot, as a store with snapshots does.
type versions struct {
	mu struct {
		sync.RWMutex
		blocks map[uint64][]version
	}
}

type version struct {
	at    Timestamp
	block []byte // nil is a removal
}

func newVersions() *versions {
	v := &versions{}
	v.mu.blocks = make(map[uint64][]version)
	return v
}

func (v *versions) set(id uint64, at Timestamp, block []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.blocks[id] = append(v.mu.blocks[id], version{at, block})
}

func (v *versions) at(at Timestamp) snapshot { return snapshot{v, at} }

// live returns the ids of the blocks that exist at a snapshot.
func (v *versions) live(at Timestamp) []uint64 {
	v.mu.RLock()
	ids := slices.Sorted(maps.Keys(v.mu.blocks))
	v.mu.RUnlock()
	return slices.DeleteFunc(ids, func(id uint64) bool {
		_, ok, _ := v.at(at).Block(0, id)
		return !ok
	})
}

type snapshot struct {
	versions *versions
	at       Timestamp
}

var _ Blocks = snapshot{}

func (s snapshot) Block(_ uint32, id uint64) ([]byte, bool, error) {
	s.versions.mu.RLock()
	defer s.versions.mu.RUnlock()
	all := s.versions.mu.blocks[id]
	i := sort.Search(len(all), func(i int) bool { return all[i].at > s.at })
	if i == 0 || all[i-1].block == nil {
		return nil, false, nil
	}
	// The caller may rely on the bytes only until the next call.
	return bytes.Clone(all[i-1].block), true, nil
}

// all returns the blocks of the snapshot.
func (s snapshot) all() mapBlocks {
	out := mapBlocks{}
	for _, id := range s.versions.live(s.at) {
		out[id], _, _ = s.Block(0, id)
	}
	return out
}

// mapBlocks is a store that keeps only the newest version of each block.
type mapBlocks map[uint64][]byte

var _ Blocks = mapBlocks{}

func (m mapBlocks) Block(_ uint32, id uint64) ([]byte, bool, error) {
	b, ok := m[id]
	return b, ok, nil
}

func (m mapBlocks) put(id uint64, block []byte) { m[id] = append(m[id][:0], block...) }
func (m mapBlocks) drop(id uint64)              { delete(m, id) }

// apply applies changes to t, stores the result, and verifies what Apply promises
// about put and drop. It returns the ids written.
func apply(t Tree, v *versions, cache *Cache, at Timestamp, changes []Change) (Tree, []uint64, error) {
	before := v.live(at)
	written, dropped := map[uint64]bool{}, map[uint64]bool{}
	var broken error
	out, err := t.Apply(&Reader{Cache: cache, Blocks: v.at(t.Root.At)}, at, changes,
		func(id uint64, block []byte) {
			if written[id] || dropped[id] || id == 0 {
				broken = fmt.Errorf("node %d is put twice, or dropped too, or reserved", id)
			}
			written[id] = true
			v.set(id, at, bytes.Clone(block))
			clear(block) // a block is intact only until put returns
		},
		func(id uint64) {
			if written[id] || dropped[id] || !slices.Contains(before, id) {
				broken = fmt.Errorf("node %d is dropped twice, or put too, or did not exist", id)
			}
			dropped[id] = true
			v.set(id, at, nil)
		})
	if err == nil {
		err = broken
	}
	return out, slices.Sorted(maps.Keys(written)), err
}

func mustApply(t testing.TB, tree Tree, v *versions, cache *Cache, at Timestamp, changes []Change) Tree {
	t.Helper()
	out, _, err := apply(tree, v, cache, at, changes)
	if err != nil {
		t.Fatalf("apply %d changes at %d: %v", len(changes), at, err)
	}
	return out
}

// verify checks the whole tree against a sorted list of its entries.
func verify(tree Tree, v *versions, at Timestamp, want [][]byte) error {
	reader := &Reader{Blocks: v.at(at)}
	seen, err := tree.check(reader)
	if err != nil {
		return err
	}
	if live := v.live(at); !slices.Equal(live, slices.Sorted(maps.Keys(seen))) {
		return fmt.Errorf("blocks in the store: %v, nodes of the tree: %v", live, slices.Sorted(maps.Keys(seen)))
	}
	if tree.Entries != int64(len(want)) {
		return fmt.Errorf("tree has %d entries, want %d", tree.Entries, len(want))
	}
	got, err := collect(tree, reader)
	if err != nil {
		return err
	}
	if !slices.EqualFunc(got, want, bytes.Equal) {
		return errors.New("entries differ from the model's")
	}
	encoded := tree.AppendBinary(nil)
	if back, err := DecodeTree(encoded); err != nil || back != tree {
		return fmt.Errorf("root record %x reads back as %+v, %v, want %+v", encoded, back, err, tree)
	}
	return nil
}

// collect returns all entries in order.
func collect(tree Tree, r *Reader) ([][]byte, error) {
	if tree.Height == 0 {
		return nil, nil
	}
	var out [][]byte
	var walk func(n *node) error
	walk = func(n *node) error {
		for i := range n.kids {
			kid, err := tree.child(r, n, i)
			if err != nil {
				return err
			}
			if err := walk(kid); err != nil {
				return err
			}
		}
		if n.leaf() {
			for i := range n.keys.len() {
				out = append(out, n.keys.key(i))
			}
		}
		return nil
	}
	n, err := tree.root(r)
	if err != nil {
		return nil, err
	}
	return out, walk(n)
}

// between returns how many of the sorted keys lie in [from, to).
func between(keys [][]byte, from, to []byte) int64 {
	lo, hi := 0, len(keys)
	if from != nil {
		lo, _ = slices.BinarySearchFunc(keys, from, bytes.Compare)
	}
	if to != nil {
		hi, _ = slices.BinarySearchFunc(keys, to, bytes.Compare)
	}
	return int64(max(hi-lo, 0))
}
