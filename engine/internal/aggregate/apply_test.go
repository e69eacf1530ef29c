package aggregate

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func number(n int) []byte { return binary.BigEndian.AppendUint32(nil, uint32(n)) }

// stretch returns changes with the keys shape(from) to shape(to-1).
func stretch(delta int8, from, to int, shape func(int) []byte) []Change {
	var out []Change
	for n := from; n < to; n++ {
		out = append(out, Change{Key: shape(n), Delta: delta})
	}
	return out
}

func keysOf(changes []Change) [][]byte {
	var out [][]byte
	for _, c := range changes {
		out = append(out, c.Key)
	}
	return out
}

// TestBulk builds a tree of some height in one Apply and takes it down in one.
func TestBulk(t *testing.T) {
	v := newVersions()
	all := stretch(1, 0, 100_000, number)
	tree := mustApply(t, Tree{Agg: 1}, v, nil, 10, all)
	if err := verify(tree, v, 10, keysOf(all)); err != nil {
		t.Fatal(err)
	}
	if tree.Height != 3 {
		t.Errorf("height of %d entries is %d, want 3", len(all), tree.Height)
	}
	full := tree
	tree = mustApply(t, tree, v, nil, 20, stretch(-1, 1, 100_000, number))
	if err := verify(tree, v, 20, [][]byte{number(0)}); err != nil {
		t.Fatal(err)
	}
	if tree.Height != 1 || len(v.live(20)) != 1 {
		t.Errorf("one entry left: height %d and %d blocks, want 1 and 1", tree.Height, len(v.live(20)))
	}
	tree = mustApply(t, tree, v, nil, 30, stretch(-1, 0, 1, number))
	if want := (Tree{Agg: 1, NextNode: full.NextNode}); tree != want || len(v.live(30)) != 0 {
		t.Errorf("nothing left: got %+v and %d blocks, want %+v and none", tree, len(v.live(30)), want)
	}
	tree = mustApply(t, tree, v, nil, 40, stretch(1, 0, 1, number))
	if tree.Root.Node != full.NextNode {
		t.Errorf("node id %d is used again, want %d", tree.Root.Node, full.NextNode)
	}
	if err := verify(full, v, 10, keysOf(all)); err != nil {
		t.Errorf("the first version afterwards: %v", err)
	}
}

// TestOneChangeWritesOnePath bounds the write amplification: a change that moves
// no border rewrites one node a level.
func TestOneChangeWritesOnePath(t *testing.T) {
	v := newVersions()
	tree := mustApply(t, Tree{Agg: 1}, v, nil, 1, stretch(1, 0, 100_000, func(n int) []byte { return number(2 * n) }))
	rnd := rand.New(rand.NewPCG(3, 4))
	extra := 0
	for i := range 500 {
		_, written, err := apply(tree, v, nil, Timestamp(i+2), []Change{{Key: number(2*rnd.IntN(100_000) + 1), Delta: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if len(written) < tree.Height {
			t.Fatalf("change %d wrote %d nodes of a tree of height %d", i, len(written), tree.Height)
		}
		extra += len(written) - tree.Height
		// Forget the version, so that each change meets the same tree.
		for _, id := range written {
			v.mu.blocks[id] = v.mu.blocks[id][:len(v.mu.blocks[id])-1]
		}
	}
	if extra > 0 {
		t.Errorf("500 changes that split nothing wrote %d nodes beside their paths", extra)
	}
}

// TestAppendFill appends in order of key, as creation times do, and expects
// fuller leaves than halves.
func TestAppendFill(t *testing.T) {
	v := newVersions()
	tree := Tree{Agg: 1}
	const entries = 20_000
	for i := 0; i < entries; i += 5 {
		tree = mustApply(t, tree, v, nil, Timestamp(i+1), stretch(1, i, i+5, number))
	}
	seen, err := tree.check(&Reader{Blocks: v.at(entries)})
	if err != nil {
		t.Fatal(err)
	}
	if fill := float64(entries) / float64(len(seen)); fill < 80 {
		t.Errorf("%.1f entries a node, want at least 80 of %d", fill, itemsMax)
	}
}

// TestRemoveStretches clears stretches that leave a branch with a single light
// child, or none, between branches that are whole.
func TestRemoveStretches(t *testing.T) {
	v := newVersions()
	tree, entries := highTree(t, v)
	for length := 100; length < 2000; length = length*3/2 + 1 {
		for from := 1; from+length < len(entries); from += 61 {
			var removals []Change
			for _, key := range entries[from : from+length] {
				removals = append(removals, Change{Key: key, Delta: -1})
			}
			blocks := v.at(10).all()
			got, err := tree.Apply(&Reader{Blocks: v.at(10)}, 20, removals, blocks.put, blocks.drop)
			if err == nil {
				err = got.Check(&Reader{Blocks: blocks})
			}
			if err != nil || got.Entries != int64(len(entries)-length) {
				t.Fatalf("removing entries %d to %d: %v, %d are left", from, from+length, err, got.Entries)
			}
		}
	}
}

// TestAppendRandomSizes appends keys of very different lengths in order, so that
// the uneven cut of an appended leaf meets all borders of weight.
func TestAppendRandomSizes(t *testing.T) {
	for seed := range uint64(10) {
		rnd := rand.New(rand.NewPCG(8, seed))
		blocks := mapBlocks{}
		r, tree := &Reader{Blocks: blocks}, Tree{Agg: 1}
		for i := range 300 {
			key := append(number(i), make([]byte, []int{0, 30, 200, 350, 490, 600}[rnd.IntN(6)])...)
			var err error
			if tree, err = tree.Apply(r, Timestamp(i+1), []Change{{Key: key, Delta: 1}}, blocks.put, blocks.drop); err == nil {
				err = tree.Check(r)
			}
			if err != nil {
				t.Fatalf("seed %d, after %d keys: %v", seed, i+1, err)
			}
		}
	}
}

func TestApplyRejects(t *testing.T) {
	v := newVersions()
	base := stretch(1, 0, 1000, func(n int) []byte { return number(2 * n) })
	tree := mustApply(t, Tree{Agg: 1}, v, nil, 10, base)
	var nested []Change
	buf := bytes.Repeat([]byte{'n'}, KeyBytesMax)
	for n, size := 1, 0; size <= ChangesBytesMax; n, size = n+1, size+n {
		nested = append(nested, Change{Key: buf[:n], Delta: 1})
	}
	tests := []struct {
		name    string
		at      Timestamp
		changes []Change
		want    error
	}{
		{"same timestamp", 10, []Change{{Key: number(1), Delta: 1}}, ErrInvalidChanges},
		{"older timestamp", 9, nil, ErrInvalidChanges},
		{"no delta", 11, []Change{{Key: number(1), Delta: 0}}, ErrInvalidChanges},
		{"delta of two", 11, []Change{{Key: number(1), Delta: 2}}, ErrInvalidChanges},
		{"not sorted", 11, []Change{{Key: number(3), Delta: 1}, {Key: number(1), Delta: 1}}, ErrInvalidChanges},
		{"not unique", 11, []Change{{Key: number(1), Delta: 1}, {Key: number(1), Delta: -1}}, ErrInvalidChanges},
		{"key too long", 11, []Change{{Key: bytes.Repeat([]byte{1}, KeyBytesMax+1), Delta: 1}}, ErrInvalidChanges},
		{"too much at once", 11, nested, ErrInvalidChanges},
		{"insert of a present key", 11, []Change{{Key: number(1), Delta: 1}, {Key: number(1000), Delta: 1}}, ErrCorrupt},
		{"removal of an absent key", 11, []Change{{Key: number(1), Delta: 1}, {Key: number(1001), Delta: -1}}, ErrCorrupt},
		{"removal below all", 11, []Change{{Key: nil, Delta: -1}}, ErrCorrupt},
		{"removal above all", 11, []Change{{Key: number(5000), Delta: -1}}, ErrCorrupt},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			called := 0
			_, err := tree.Apply(&Reader{Blocks: v.at(10)}, tt.at, tt.changes,
				func(uint64, []byte) { called++ }, func(uint64) { called++ })
			if !errors.Is(err, tt.want) || called != 0 {
				t.Errorf("got %v and %d nodes written or dropped, want %v and none", err, called, tt.want)
			}
		})
	}
	if _, err := (Tree{Agg: 1}).Apply(&Reader{Blocks: v.at(0)}, 1, []Change{{Key: number(1), Delta: -1}}, nil, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("removal from an empty tree: got %v, want ErrCorrupt", err)
	}
	atLimit := []Change{{Key: bytes.Repeat([]byte{0}, KeyBytesMax), Delta: 1}}
	if _, _, err := apply(tree, v, nil, 11, atLimit); err != nil {
		t.Errorf("key of %d bytes: %v", KeyBytesMax, err)
	}
	if _, _, err := apply(Tree{Agg: 2}, newVersions(), nil, 11, nested[:len(nested)-1]); err != nil {
		t.Errorf("all but the last of the changes that are too much: %v", err)
	}
}

// faulty wraps a store and spoils single blocks.
type faulty struct {
	Blocks
	spoil map[uint64]func(block []byte) ([]byte, bool, error)
}

func (f faulty) Block(agg uint32, id uint64) ([]byte, bool, error) {
	block, ok, err := f.Blocks.Block(agg, id)
	if spoil := f.spoil[id]; spoil != nil {
		return spoil(block)
	}
	return block, ok, err
}

var errDisk = errors.New("disk on fire")

// TestFaults spoils each node of a tree in turn, in each way, and expects every
// operation that meets it to fail with the right class.
func TestFaults(t *testing.T) {
	v := newVersions()
	all := stretch(1, 0, 2000, func(n int) []byte { return number(2 * n) })
	tree := mustApply(t, Tree{Agg: 1}, v, nil, 10, all[:1900])
	oldTree := tree
	tree = mustApply(t, tree, v, nil, 20, all[1900:])
	changed := stretch(1, 0, 2000, func(n int) []byte { return number(2*n + 1) })
	nodes, err := tree.check(&Reader{Blocks: v.at(20)})
	if err != nil {
		t.Fatal(err)
	}
	other := v.at(20)
	tests := []struct {
		name   string
		spoil  func(id uint64) func(block []byte) ([]byte, bool, error)
		want   error
		reason string
	}{
		{"flipped bit", func(uint64) func([]byte) ([]byte, bool, error) {
			return func(b []byte) ([]byte, bool, error) { b[len(b)/2] ^= 1; return b, true, nil }
		}, ErrCorrupt, "checksum"},
		{"missing", func(uint64) func([]byte) ([]byte, bool, error) {
			return func([]byte) ([]byte, bool, error) { return nil, false, nil }
		}, ErrCorrupt, "missing"},
		{"empty", func(uint64) func([]byte) ([]byte, bool, error) {
			return func([]byte) ([]byte, bool, error) { return nil, true, nil }
		}, ErrCorrupt, "too short"},
		{"read error", func(uint64) func([]byte) ([]byte, bool, error) {
			return func([]byte) ([]byte, bool, error) { return nil, false, errDisk }
		}, errDisk, "read node"},
		{"another node's block", func(id uint64) func([]byte) ([]byte, bool, error) {
			return func([]byte) ([]byte, bool, error) {
				for n := range nodes {
					if n != id {
						return other.Block(1, n)
					}
				}
				return nil, false, nil
			}
		}, ErrCorrupt, "checksum"},
		{"another timestamp", func(id uint64) func([]byte) ([]byte, bool, error) {
			return func(b []byte) ([]byte, bool, error) {
				n, err := decodeBlock(1, id, b)
				if err != nil {
					return nil, false, err
				}
				n.at++
				return appendBlock(nil, 1, id, n), true, nil
			}
		}, ErrCorrupt, "timestamp"},
		{"another level", func(id uint64) func([]byte) ([]byte, bool, error) {
			return func(b []byte) ([]byte, bool, error) {
				n, err := decodeBlock(1, id, b)
				if err != nil {
					return nil, false, err
				}
				if n.leaf() {
					n.level, n.kids = 1, make([]child, n.keys.len()+1)
					for i := range n.kids {
						n.kids[i] = child{Ref{1, n.at}, int64(i + 1)}
					}
				} else {
					n.level++
				}
				return appendBlock(nil, 1, id, n), true, nil
			}
		}, ErrCorrupt, "level"},
		{"another count", func(id uint64) func([]byte) ([]byte, bool, error) {
			return func(b []byte) ([]byte, bool, error) {
				n, err := decodeBlock(1, id, b)
				if err != nil {
					return nil, false, err
				}
				if n.leaf() {
					n.keys = n.keys.slice(0, n.keys.len()-1)
				} else {
					n.kids[len(n.kids)-1].end++
				}
				return appendBlock(nil, 1, id, n), true, nil
			}
		}, ErrCorrupt, "entries"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for id := range nodes {
				blocks := faulty{v.at(20), map[uint64]func([]byte) ([]byte, bool, error){id: tt.spoil(id)}}
				expect := func(what string, err error) {
					t.Helper()
					if !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.reason) {
						t.Errorf("%s with node %d spoiled: got %v, want %v saying %q", what, id, err, tt.want, tt.reason)
					}
				}
				cache := NewCache(1 << 20)
				expect("check", tree.Check(&Reader{Cache: cache, Blocks: blocks}))
				_, err := tree.Apply(&Reader{Cache: cache, Blocks: blocks}, 30, changed,
					func(uint64, []byte) { t.Error("put after a fault") }, func(uint64) { t.Error("drop after a fault") })
				expect("apply", err)
				// Some of these must meet the node.
				var reads error
				for i := range tree.Entries {
					r := &Reader{Blocks: blocks}
					if i%16 > 0 {
						continue
					}
					_, err1 := tree.Count(r, number(int(i)), number(int(i)+3))
					_, _, err2 := tree.Seek(r, number(2*int(i)))
					_, _, err3 := tree.At(r, i)
					if err := errors.Join(err1, err2, err3); err != nil {
						reads = err
						break
					}
				}
				expect("reads", reads)
			}
		})
	}
	t.Run("snapshot newer than the tree", func(t *testing.T) {
		if _, err := oldTree.Rank(&Reader{Blocks: v.at(20)}, number(3999)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
	t.Run("snapshot older than the tree", func(t *testing.T) {
		if _, err := tree.Rank(&Reader{Blocks: v.at(10)}, number(3999)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("got %v, want ErrCorrupt", err)
		}
	})
}

// TestFaultsInSiblings removes a stretch of entries, so that nodes join with
// siblings which hold none of them, with one node spoiled at a time.
func TestFaultsInSiblings(t *testing.T) {
	v := newVersions()
	tree, entries := highTree(t, v)
	nodes, err := tree.check(&Reader{Blocks: v.at(10)})
	if err != nil {
		t.Fatal(err)
	}
	for _, cut := range []struct{ from, to int }{{0, 600}, {30, 90}, {1200, 2500}, {3300, 4000}} {
		var removals []Change
		for _, key := range entries[cut.from:cut.to] {
			removals = append(removals, Change{Key: key, Delta: -1})
		}
		failed := 0
		for id := range nodes {
			blocks := faulty{v.at(10), map[uint64]func([]byte) ([]byte, bool, error){
				id: func([]byte) ([]byte, bool, error) { return nil, false, errDisk },
			}}
			called := 0
			_, err := tree.Apply(&Reader{Blocks: blocks}, 20, removals, func(uint64, []byte) { called++ }, func(uint64) { called++ })
			switch {
			case errors.Is(err, errDisk) && called == 0:
				failed++
			case err != nil || called == 0:
				t.Errorf("removing %v without node %d: %v and %d nodes written or dropped", cut, id, err, called)
			}
		}
		if failed == 0 || failed == len(nodes) {
			t.Errorf("removing %v failed without any of %d of %d nodes", cut, failed, len(nodes))
		}
	}
}

// TestCheckFinds breaks rules that a single block cannot show.
func TestCheckFinds(t *testing.T) {
	many := func(first, n int) keyList {
		return newKeyList(keysOf(stretch(1, first, first+n, number)))
	}
	build := func(edit func(nodes map[uint64]*node, t *Tree)) (Tree, Blocks) {
		nodes := map[uint64]*node{
			1: {at: 5, keys: many(0, 40)},
			2: {at: 7, keys: many(100, 50)},
			3: {at: 7, level: 1, keys: newKeyList([][]byte{number(100)}), kids: []child{{Ref{1, 5}, 40}, {Ref{2, 7}, 90}}},
		}
		t := Tree{Agg: 1, Root: Ref{3, 7}, Height: 2, NextNode: 4, Entries: 90}
		edit(nodes, &t)
		blocks := mapBlocks{}
		for id, n := range nodes {
			blocks[id] = appendBlock(nil, 1, id, n)
		}
		return t, blocks
	}
	// light returns separators enough for a branch, and kidsOf leaves between them.
	light := func(first int) keyList {
		var seps [][]byte
		for i := range 35 {
			seps = append(seps, number((first+i)*1000))
		}
		return newKeyList(seps)
	}
	kidsOf := func(nodes map[uint64]*node, first int, seps keyList) []child {
		var kids []child
		for i := range seps.len() + 1 {
			id := uint64(first*10 + i)
			nodes[id] = &node{at: 7, keys: many((first+i-1)*1000, 40)}
			kids = append(kids, child{Ref{id, 7}, int64(40 * (i + 1))})
		}
		return kids
	}
	tests := []struct {
		name, reason string
		edit         func(nodes map[uint64]*node, t *Tree)
	}{
		{"sound", "", func(map[uint64]*node, *Tree) {}},
		{"entry below its leaf", "range", func(n map[uint64]*node, _ *Tree) { n[2].keys = many(99, 50) }},
		{"entry above its leaf", "range", func(n map[uint64]*node, _ *Tree) { n[1].keys = many(61, 40) }},
		{"light leaf", "weighs", func(n map[uint64]*node, t *Tree) {
			n[1].keys = many(0, 20)
			n[3].kids[0].end, n[3].kids[1].end, t.Entries = 20, 70, 70
		}},
		{"wrong total", "entries", func(_ map[uint64]*node, t *Tree) { t.Entries = 91 }},
		{"node beyond the next", "next", func(_ map[uint64]*node, t *Tree) { t.NextNode = 3 }},
		{"node used twice", "twice", func(n map[uint64]*node, t *Tree) {
			n[3].kids[1] = child{Ref{1, 5}, 80}
			t.Entries = 80
		}},
		{"separator at the lower bound", "separator", func(n map[uint64]*node, t *Tree) {
			// Nodes 3 and 4 are branches below node 5; the first child of 4 has no room.
			left, right := light(10), light(50)
			n[3].keys, n[3].kids = left, kidsOf(n, 10, left)
			n[4] = &node{at: 7, level: 1, keys: right, kids: kidsOf(n, 50, right)}
			n[5] = &node{at: 7, level: 2, keys: newKeyList([][]byte{right.key(0)}), kids: []child{
				{Ref{3, 7}, n[3].total()}, {Ref{4, 7}, n[3].total() + n[4].total()}}}
			*t = Tree{Agg: 1, Root: Ref{5, 7}, Height: 3, NextNode: 1000, Entries: n[5].total()}
		}},
		{"wrong height", "level", func(_ map[uint64]*node, t *Tree) { t.Height = 3 }},
		{"empty with a root", "empty", func(_ map[uint64]*node, t *Tree) { t.Height = 0 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tree, blocks := build(tt.edit)
			err := tree.Check(&Reader{Blocks: blocks})
			if tt.reason == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("got %v, want ErrCorrupt saying %q", err, tt.reason)
			}
			var detail *CorruptionError
			if !errors.As(err, &detail) || detail.Agg != 1 {
				t.Errorf("got %v, want a CorruptionError of aggregate 1", err)
			}
		})
	}
}

func ExampleTree() {
	blocks := mapBlocks{} // the engine's store stands here
	reader := &Reader{Cache: NewCache(1 << 20), Blocks: blocks}
	tree, err := Tree{Agg: 1}.Apply(reader, 1, []Change{
		{Key: []byte("news/1"), Delta: 1},
		{Key: []byte("news/2"), Delta: 1},
		{Key: []byte("sport/1"), Delta: 1},
	}, blocks.put, blocks.drop)
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := tree.Count(reader, []byte("news/"), []byte("news0"))
	fmt.Println(n, err)
	key, ok, err := tree.Seek(reader, []byte("news0"))
	fmt.Printf("%s %v %v\n", key, ok, err)
	// Output:
	// 2 <nil>
	// sport/1 true <nil>
}
