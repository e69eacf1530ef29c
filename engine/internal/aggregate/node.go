package aggregate

import "sync/atomic"

// The weight of a node decides when it is split and when it is merged. It is a
// sum over the node's entries or children of roughly the bytes each one takes in
// the block, held between weightItemMin and weightItemMax, so that one number
// bounds the items of a node (128), its bytes for ordinary keys (4 KiB), and the
// fan-out for extreme ones (at least 8 items fit whatever their keys).
//
// A node other than the root weighs between weightMin and weightMax. Why that
// can always be kept, with C = weightMax and M = weightItemMax = C/8:
//
//  1. A list of weight W > C is cut into k = ceil(W / (3C/4)) pieces, at the
//     item boundaries nearest to multiples of W/k, which lies in [C/2, 3C/4].
//     Two cuts move a piece by at most M in all. The first key of a piece
//     is no longer front coded, and a branch hands its first separator
//     up: at most M more or M less.
//  2. So a piece weighs at most 3C/4 + 2M = C and at least C/2 - 2M = C/4.
//  3. A node below C/4 is joined with a neighbour until the result is not below
//     it, and what is above C is cut by rule 1.
//  4. Removing a key never makes the rest heavier: what its successor no
//     longer shares, the key itself had stored.
const (
	weightMax     = 4096
	weightMin     = weightMax / 4
	weightItemMin = 32
	weightItemMax = weightMax / 8

	itemsMax = weightMax / weightItemMin

	// What an item takes beside its key: two lengths, and for a child its id,
	// version and summary.
	leafItemExtra   = 2
	branchItemExtra = 16
)

// node is one version of a node. It is immutable once it is in the cache or in
// a reader's hands.
type node struct {
	at    Timestamp
	level int // 0 is a leaf
	// keys are the entries of a leaf. Of a branch they are separators:
	// keys[i] is greater than every entry of child i and at most the first
	// entry of child i+1.
	keys keyList
	kids []child
	// weighted says that entries carry numbers. Then weights are those of a
	// leaf's entries, and sums what a branch knows about those below each child.
	weighted bool
	weights  []Weight
	sums     []summary

	// heads and links are there once the node is on its way into a cache, see
	// prepare. links[i] is where child i was last found there.
	heads []uint64
	links []atomic.Pointer[cached]
}

// prepare adds to a node what makes reading it often fast. No other goroutine
// has it yet.
func (n *node) prepare() {
	n.heads = n.keys.heads()
	if !n.leaf() {
		n.links = make([]atomic.Pointer[cached], len(n.kids))
	}
}

// search is keyList.search among the node's keys.
func (n *node) search(key []byte, lo int) (pos int, found bool) {
	return n.keys.search(key, lo, n.heads)
}

// child is a branch's knowledge of one child.
type child struct {
	ref Ref
	end int64 // entries in this child and all children before it
}

func (n *node) leaf() bool { return n.level == 0 }

// total returns the number of entries at and below the node.
func (n *node) total() int64 {
	if n.leaf() {
		return int64(n.keys.len())
	}
	return n.kids[len(n.kids)-1].end
}

// addTo adds all entries at and below the node.
func (n *node) addTo(t *Total) {
	if n.leaf() {
		n.addEntries(t, 0, n.keys.len())
	} else {
		n.addKids(t, 0, len(n.kids))
	}
}

// addEntries adds entries lo to hi of a leaf.
func (n *node) addEntries(t *Total, lo, hi int) {
	for _, w := range n.weights[lo:hi] {
		t.Add(w)
	}
}

// addKids adds all entries below children lo to hi.
func (n *node) addKids(t *Total, lo, hi int) {
	for i := lo; i < hi; i++ {
		t.merge(n.kids[i].end-n.start(i), &n.sums[i])
	}
}

// summary returns what the node's parent keeps about it.
func (n *node) summary() summary {
	if !n.weighted {
		return summary{}
	}
	var t Total
	n.addTo(&t)
	return t.summary()
}

// start returns the number of entries before child i.
func (n *node) start(i int) int64 {
	if i == 0 {
		return 0
	}
	return n.kids[i-1].end
}

// route returns the child in whose range key lies.
func (n *node) route(key []byte, from int) int {
	i, found := n.search(key, from)
	if found {
		i++
	}
	return i
}

func (n *node) weight() int { return listWeight(n.level, &n.keys) }

// size returns the memory the node occupies, for the cache.
func (n *node) size() int {
	const fixed = 256 // the struct, allocation slack and the cache's own records
	size := fixed + len(n.keys.prefix) + cap(n.keys.tails) + 4*cap(n.keys.ends) + 2*cap(n.keys.shared) + 24*cap(n.kids)
	size += 8*cap(n.heads) + 8*cap(n.links)
	size += 16*cap(n.weights) + 72*cap(n.sums)
	for i := range n.sums {
		size += len(n.sums[i].sum)
	}
	return size
}

// listWeight returns the weight of a leaf with these entries or of a branch with
// these separators.
func listWeight(level int, keys *keyList) int {
	w := 0
	if level > 0 {
		w = weightItemMin // the first child has no separator
	}
	for i := range keys.len() {
		w += itemWeight(level, keys, i)
	}
	return w
}

func itemWeight(level int, keys *keyList, i int) int {
	extra := leafItemExtra
	if level > 0 {
		extra = branchItemExtra
	}
	return min(max(keys.size(i)-int(keys.shared[i])+extra, weightItemMin), weightItemMax)
}
