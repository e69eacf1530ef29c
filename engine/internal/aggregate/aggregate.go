package aggregate

import (
	"errors"
	"fmt"
	"sync/atomic"
)

// Timestamp is a commit timestamp: microseconds since the Unix epoch, in commit
// order. It is the version of a node.
type Timestamp = uint64

// Limits of what a tree accepts.
const (
	// KeyBytesMax is the longest entry key, well above the engine's own limit
	// on index keys.
	KeyBytesMax = 16 << 10
	// ChangesBytesMax bounds the sum of the key lengths of one Apply. A longer
	// load is several Applies.
	ChangesBytesMax = 64 << 20
)

var (
	// ErrCorrupt marks every error that says stored data, or the caller's idea
	// of it, is wrong: a damaged or missing block, a block of another version,
	// a removed key that was not there. It is never worth a retry.
	ErrCorrupt = errors.New("corrupt aggregate")
	// ErrNewerFormat says that a block or root record is intact but was written
	// by a later version of this program.
	ErrNewerFormat = errors.New("aggregate format is newer than this program")
	// ErrInvalidChanges says that the arguments of Apply break its rules. It is
	// a mistake of the caller; nothing was written.
	ErrInvalidChanges = errors.New("invalid aggregate changes")
)

// CorruptionError tells which node of which aggregate is wrong, and how. It
// matches ErrCorrupt.
type CorruptionError struct {
	Agg    uint32
	Node   uint64 // 0 is the root record or the tree as a whole
	At     Timestamp
	Reason string
}

// Error implements error.
func (e *CorruptionError) Error() string {
	return fmt.Sprintf("%v: aggregate %d, node %d at %d: %s", ErrCorrupt, e.Agg, e.Node, e.At, e.Reason)
}

// Unwrap makes errors.Is(err, ErrCorrupt) true.
func (e *CorruptionError) Unwrap() error { return ErrCorrupt }

func corruptf(agg uint32, ref Ref, format string, args ...any) error {
	return &CorruptionError{Agg: agg, Node: ref.Node, At: ref.At, Reason: fmt.Sprintf(format, args...)}
}

// Blocks reads node blocks as of one snapshot.
//
// The snapshot must contain every block of the trees read through it, also those
// of groups that are applied but not yet durable: the cache may drop any node at
// any time. Block returns ok=false when there is no such block. The returned
// slice needs to stay intact only until the next call; this package copies what
// it keeps and never changes it.
type Blocks interface {
	Block(agg uint32, node uint64) (block []byte, ok bool, err error)
}

// Ref names one version of one node. The zero Ref names nothing.
type Ref struct {
	Node uint64
	At   Timestamp
}

// Tree is one version of one aggregate: an immutable value that may be copied
// and used by many goroutines. A Tree with only Agg set is empty.
type Tree struct {
	Agg uint32
	// Root is zero when the tree is empty.
	Root Ref
	// Height is the number of levels: 0 when empty, 1 when the root is a leaf.
	Height int
	// NextNode is the id of the next new node. Ids start at 1 (0 is free for
	// the caller's root record) and are never used again.
	NextNode uint64
	// Entries is the number of entries in the whole tree.
	Entries int64
	// Weighted says that entries carry numbers, of which the tree knows sums,
	// minima and maxima. It is the same in all versions of a tree.
	Weighted bool
}

// Change is the insertion (Delta +1) or removal (Delta -1) of one entry or, in
// a weighted tree, another weight for one that stays (Delta 0).
type Change struct {
	Key    []byte
	Delta  int8
	Weight Weight // of an entry that is inserted or stays
}

// Reader reads trees as of one snapshot. It may be used by many goroutines when
// its Blocks may be.
type Reader struct {
	// Cache is shared by all readers of one store; nil means no cache.
	Cache  *Cache
	Blocks Blocks
}

// load returns the wanted version of a node and verifies what its parent says
// about it. link is the parent's pointer to it, or nil.
func (r *Reader) load(t *Tree, ref Ref, level int, entries int64, link *atomic.Pointer[cached]) (*node, error) {
	if link != nil {
		if n := link.Load().read(); n != nil {
			return n, nil // verified when it was linked
		}
	}
	agg := t.Agg
	found := r.Cache.find(agg, ref)
	n := found.read()
	if n == nil {
		var err error
		if n, err = r.block(agg, ref); err != nil {
			return nil, err
		}
		found = r.Cache.add(agg, ref.Node, n)
	}
	if n.level != level {
		return nil, corruptf(agg, ref, "node is of level %d, its parent says %d", n.level, level)
	}
	if n.weighted != t.Weighted {
		return nil, corruptf(agg, ref, "node has weights: %v, its tree: %v", n.weighted, t.Weighted)
	}
	if n.total() != entries {
		return nil, corruptf(agg, ref, "node holds %d entries, its parent says %d", n.total(), entries)
	}
	if link != nil && found != nil {
		link.Store(found)
	}
	return n, nil
}

// block reads a version of a node from its block.
func (r *Reader) block(agg uint32, ref Ref) (*node, error) {
	block, ok, err := r.Blocks.Block(agg, ref.Node)
	if err != nil {
		return nil, fmt.Errorf("read node %d of aggregate %d: %w", ref.Node, agg, err)
	}
	if !ok {
		return nil, corruptf(agg, ref, "block is missing")
	}
	n, err := decodeBlock(agg, ref.Node, block)
	if err != nil {
		return nil, err
	}
	if n.at != ref.At {
		return nil, corruptf(agg, ref, "block is of timestamp %d", n.at)
	}
	return n, nil
}

// root loads the root of a tree that is not empty.
func (t Tree) root(r *Reader) (*node, error) {
	return r.load(&t, t.Root, t.Height-1, t.Entries, nil)
}

// child loads child i of a branch of this tree.
func (t Tree) child(r *Reader, n *node, i int) (*node, error) {
	var link *atomic.Pointer[cached]
	if n.links != nil {
		link = &n.links[i]
	}
	return r.load(&t, n.kids[i].ref, n.level-1, n.kids[i].end-n.start(i), link)
}
