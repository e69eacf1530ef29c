package aggregate

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// TestCacheBound fills caches of several sizes with more than fits.
func TestCacheBound(t *testing.T) {
	one := &node{at: 1, keys: keys("a", "b", "c")}
	one.prepare()
	for _, size := range []int{-1, 0, one.size() - 1, one.size(), 10 * one.size(), 8 << 20} {
		c := NewCache(size)
		const nodes = 60_000
		for id := range uint64(nodes) {
			c.add(1, id+1, &node{at: 1, keys: keys("a", "b", "c")})
			if s := c.Stats(); id%1000 == 0 && s.Bytes > max(size, 0) {
				t.Fatalf("cache of %d bytes holds %d", size, s.Bytes)
			}
		}
		s := c.Stats()
		if s.Bytes > max(size, 0) || s.Bytes != s.Nodes*one.size() || s.Nodes+int(s.Evictions) != nodes && size >= one.size() {
			t.Errorf("cache of %d bytes, nodes of %d: %+v", size, one.size(), s)
		}
		if fits := size / one.size(); size > 0 && s.Nodes < min(nodes, fits*9/10) {
			t.Errorf("cache of %d bytes holds %d nodes, %d fit", size, s.Nodes, fits)
		}
	}
}

// TestCacheKeepsWhatIsRead reads some nodes again and again while others pass by.
func TestCacheKeepsWhatIsRead(t *testing.T) {
	one := &node{at: 1, keys: keys("a", "b", "c")}
	one.prepare()
	c := NewCache(50 * one.size())
	for id := range uint64(10) {
		c.add(1, id+1, &node{at: 1, keys: keys("a", "b", "c")})
	}
	for id := range uint64(1000) {
		for hot := range uint64(10) {
			if c.find(1, Ref{hot + 1, 1}).read() == nil {
				t.Fatalf("node %d was evicted after %d others", hot+1, id)
			}
		}
		c.add(1, id+100, &node{at: 1, keys: keys("a", "b", "c")})
	}
	if c.find(2, Ref{1, 1}).read() != nil || c.find(1, Ref{1, 2}).read() != nil {
		t.Error("a node is found under another aggregate or timestamp")
	}
	// Retired versions go although they were read.
	for hot := range uint64(10) {
		c.retire(1, Ref{hot + 1, 1})
	}
	for id := range uint64(100) {
		c.add(1, id+5000, &node{at: 1, keys: keys("a", "b", "c")})
	}
	for hot := range uint64(10) {
		if c.find(1, Ref{hot + 1, 1}).read() != nil {
			t.Errorf("retired node %d is still there", hot+1)
		}
	}
}

// TestCacheServesApplied reads a tree that Apply has just made from the cache alone.
func TestCacheServesApplied(t *testing.T) {
	v, cache := newVersions(), NewCache(64<<20)
	all := stretch(1, 0, 20_000, number)
	tree := mustApply(t, Tree{Agg: 1}, v, cache, 1, all)
	nothing := &Reader{Cache: cache, Blocks: newVersions().at(1)}
	for i := 0; i < len(all); i += 37 {
		if n, err := tree.Rank(nothing, number(i)); err != nil || n != int64(i) {
			t.Fatalf("rank of %d: got %d, %v", i, n, err)
		}
	}
	// What Apply put into the cache must be what a reader of the block gets.
	seen, err := tree.check(&Reader{Blocks: v.at(1)})
	if err != nil {
		t.Fatal(err)
	}
	for id, at := range seen {
		block, _, _ := v.at(1).Block(1, id)
		if n := cache.find(1, Ref{id, at}).read(); n == nil || !bytes.Equal(appendBlock(nil, 1, id, n), block) {
			t.Fatalf("node %d in the cache differs from its block", id)
		}
	}
}

// TestApplyRetires expects that the versions which Apply replaces are the first
// to leave the cache.
func TestApplyRetires(t *testing.T) {
	v, cache := newVersions(), NewCache(64<<20)
	tree := mustApply(t, Tree{Agg: 1}, v, cache, 1, stretch(1, 0, 1000, number))
	r := &Reader{Cache: cache, Blocks: v.at(1)}
	used := func(ref Ref) bool {
		k := cacheKey{1, ref.Node, ref.At}
		s := cache.shard(k)
		return s.mu.slots[s.mu.index[k]].used.Load()
	}
	if _, err := tree.Rank(r, number(5)); err != nil {
		t.Fatal(err)
	}
	if !used(tree.Root) {
		t.Fatal("the root was read and is not marked as used")
	}
	mustApply(t, tree, v, cache, 2, stretch(-1, 5, 6, number))
	if used(tree.Root) {
		t.Error("the replaced root is still marked as used")
	}
	if _, err := tree.Rank(r, number(5)); err != nil || !used(tree.Root) {
		t.Errorf("an old snapshot reads the root again: used is %v, error %v", used(tree.Root), err)
	}
}

// TestConcurrentReaders reads old and new versions through one small cache while
// new versions are made.
func TestConcurrentReaders(t *testing.T) {
	v, cache := newVersions(), NewCache(256<<10)
	rnd := rand.New(rand.NewPCG(5, 6))
	var published struct {
		sync.Mutex
		epochs []epoch
	}
	publish := func(e epoch) {
		published.Lock()
		defer published.Unlock()
		published.epochs = append(published.epochs, e)
	}
	first := stretch(1, 0, 5000, func(n int) []byte { return number(10 * n) })
	tree := mustApply(t, Tree{Agg: 1}, v, cache, 1, first)
	publish(epoch{tree, 1, keysOf(first)})

	done := make(chan struct{})
	errs := make(chan error, 4)
	var wait sync.WaitGroup
	for i := range cap(errs) {
		wait.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(i)))
			for {
				select {
				case <-done:
					return
				default:
				}
				published.Lock()
				e := published.epochs[rnd.IntN(len(published.epochs))]
				published.Unlock()
				from, to := number(rnd.IntN(50_000)), number(rnd.IntN(50_000))
				got, err := e.tree.Count(&Reader{Cache: cache, Blocks: v.at(e.at)}, from, to)
				if err == nil && got != between(e.keys, from, to) {
					err = errors.New("count differs from the model's")
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	last := published.epochs[0]
	for step := range 60 {
		at := Timestamp(step + 2)
		var changes []Change
		for i, key := range last.keys {
			switch rnd.IntN(20) {
			case 0:
				changes = append(changes, Change{Key: key, Delta: -1})
			case 1:
				if next := append(bytes.Clone(key), byte(step)); i+1 == len(last.keys) || bytes.Compare(next, last.keys[i+1]) < 0 {
					changes = append(changes, Change{Key: next, Delta: 1})
				}
			}
		}
		last = epoch{mustApply(t, last.tree, v, cache, at, changes), at, after(last.keys, changes)}
		publish(last)
	}
	close(done)
	wait.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if err := verify(last.tree, v, last.at, last.keys); err != nil {
		t.Error(err)
	}
}

// TestLinksOutliveEvictions reads a tree through the links of its branches while
// a cache too small for it evicts what they lead to.
func TestLinksOutliveEvictions(t *testing.T) {
	v := newVersions()
	tree := mustApply(t, Tree{Agg: 1}, v, nil, 1, stretch(1, 0, 20_000, number))
	cache := NewCache(64 << 10)
	r := &Reader{Cache: cache, Blocks: v.at(1)}
	rnd := rand.New(rand.NewPCG(3, 4))
	for i := range 20_000 {
		n := rnd.IntN(100) // stays
		if i%3 == 0 {
			n = rnd.IntN(20_000)
		}
		if got, err := tree.Rank(r, number(n)); err != nil || got != int64(n) {
			t.Fatalf("rank of %d: got %d, %v", n, got, err)
		}
		if s := cache.Stats(); s.Bytes > 64<<10 {
			t.Fatalf("the cache holds %d bytes", s.Bytes)
		}
	}
	if s := cache.Stats(); s.Evictions == 0 || s.Misses > 30_000 {
		t.Errorf("the test is to evict and to find: %+v", s)
	}
	// With room for all, the links alone lead down: nothing is looked up below the root.
	cache = NewCache(64 << 20)
	r = &Reader{Cache: cache, Blocks: v.at(1)}
	for range 2 {
		for i := range 20_000 {
			if _, err := tree.Rank(r, number(i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	root, err := tree.root(r)
	if err != nil {
		t.Fatal(err)
	}
	for i := range root.links {
		if n := root.links[i].Load().read(); n == nil || n != cache.find(1, root.kids[i].ref).read() {
			t.Fatalf("child %d of the root is not linked", i)
		}
	}
}

// TestSearchWithHeads compares a search with heads with one without, among keys
// that share them, end inside them, and have zeros there.
func TestSearchWithHeads(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	random := func() []byte {
		k := []byte("common")
		for range rnd.IntN(12) {
			k = append(k, []byte{0, 1, 0x7f, 0xff}[rnd.IntN(4)])
		}
		return k
	}
	for range 300 {
		sorted := make([][]byte, rnd.IntN(100))
		for i := range sorted {
			sorted[i] = random()
		}
		slices.SortFunc(sorted, bytes.Compare)
		l := newKeyList(slices.CompactFunc(sorted, bytes.Equal))
		heads := l.heads()
		for range 300 {
			key := random()
			if rnd.IntN(10) == 0 {
				key = key[:rnd.IntN(len(key)+1)]
			}
			lo := rnd.IntN(l.len() + 1)
			pos, found := l.search(key, lo, heads)
			if wantPos, wantFound := l.search(key, lo, nil); pos != wantPos || found != wantFound {
				t.Fatalf("search %x from %d in %x: got %d, %v, want %d, %v", key, lo, sorted, pos, found, wantPos, wantFound)
			}
		}
	}
}
