package aggregate

import (
	"bytes"
	"fmt"
	"slices"
)

// How many items of a level are held before half of them are written. Half of
// either weighs more than two full nodes, so that what is written and what is
// left can both be cut into nodes of a proper weight: rule 1 of weightMax.
const (
	builderEntries = 1024
	builderKids    = 512
)

// Builder makes a tree from entries that come in order. It costs a tenth of
// Apply, writes each node once, in the order of their ids, and keeps a few
// hundred KiB whatever the size of the tree. The zero Builder is not usable; see
// NewBuilder. It is not safe for concurrent use.
type Builder struct {
	a       applier
	err     error // of put
	keys    []byte
	ends    []int
	weights []Weight
	before  []byte   // the last entry of those that are written
	levels  [][]slot // levels[i] are the written nodes of level i that have no parent yet
	above   []bool   // above[i] says that some of level i have
}

// NewBuilder returns a builder of a version of an empty tree, whose nodes are
// written at a timestamp; what Apply says of timestamps holds here. put receives
// every node once, in the order of their ids; its block is intact until put
// returns. The first error of put ends the build.
func NewBuilder(empty Tree, at Timestamp, put func(node uint64, block []byte) error) *Builder {
	b := &Builder{a: applier{tree: empty, reader: &Reader{}, at: at, next: max(empty.NextNode, 1)}}
	b.a.buf = make([]byte, 0, blockBytesTypical)
	b.a.put = func(node uint64, block []byte) {
		if b.err == nil {
			b.err = put(node, block)
		}
	}
	return b
}

// Add adds an entry, which must be above the one added before. The key is
// copied. w is none in a tree without weights.
func (b *Builder) Add(key []byte, w Weight) error {
	switch {
	case b.err != nil:
		return b.err
	case len(key) > KeyBytesMax:
		return fmt.Errorf("aggregate %d: key of %d bytes, at most %d are allowed: %w", b.a.tree.Agg, len(key), KeyBytesMax, ErrInvalidChanges)
	case bytes.Compare(b.last(), key) >= 0 && (len(b.ends) > 0 || b.before != nil):
		return fmt.Errorf("aggregate %d: entry %x is not above the one before it: %w", b.a.tree.Agg, clip(key), ErrInvalidChanges)
	case !b.a.tree.Weighted && !w.None():
		return fmt.Errorf("aggregate %d: entry %x has a weight, the tree has none: %w", b.a.tree.Agg, clip(key), ErrInvalidChanges)
	}
	b.keys = append(b.keys, key...)
	b.ends = append(b.ends, len(b.keys))
	if b.a.tree.Weighted {
		b.weights = append(b.weights, w)
	}
	if len(b.ends) >= builderEntries {
		b.writeEntries(builderEntries / 2)
	}
	return b.err
}

// last returns the entry added last, nil when there is none.
func (b *Builder) last() []byte {
	n := len(b.ends)
	switch n {
	case 0:
		return b.before
	case 1:
		return b.keys[:b.ends[0]]
	}
	return b.keys[b.ends[n-2]:b.ends[n-1]]
}

// writeEntries writes the first n entries as leaves.
func (b *Builder) writeEntries(n int) {
	keys := make([][]byte, n)
	from := 0
	for i, end := range b.ends[:n] {
		keys[i], from = b.keys[from:end], end
	}
	d := &draft{keys: newKeyList(keys)}
	d.weight = listWeight(0, &d.keys)
	s := slot{draft: d}
	if b.a.tree.Weighted {
		d.weights = slices.Clone(b.weights[:n])
		b.weights = slices.Delete(b.weights, 0, n)
	}
	if b.before != nil {
		s.sep = bytes.Clone(keys[0][:commonPrefix(b.before, keys[0])+1])
	}
	b.before = append(b.before[:0:0], keys[n-1]...)
	b.keys = append(b.keys[:0], b.keys[from:]...)
	b.ends = b.ends[:copy(b.ends, b.ends[n:])]
	for i := range b.ends {
		b.ends[i] -= from
	}
	b.write(s)
}

// writeKids gives the first n nodes of a level parents.
func (b *Builder) writeKids(level, n int) {
	kids := slices.Clone(b.levels[level][:n])
	b.levels[level] = slices.Delete(b.levels[level], 0, n)
	b.above[level] = true
	b.write(slot{sep: kids[0].sep, draft: newBranch(level+1, kids)})
}

// write writes a draft as one node or several.
func (b *Builder) write(s slot) {
	pieces := []slot{s}
	if s.overfull() {
		pieces = s.cut(nil)
	}
	level := s.draft.level
	if level == len(b.levels) {
		b.levels, b.above = append(b.levels, nil), append(b.above, false)
	}
	for i := range pieces {
		written := b.a.write(&pieces[i])
		written.sep = pieces[i].sep
		b.levels[level] = append(b.levels[level], written)
	}
	if len(b.levels[level]) >= builderKids {
		b.writeKids(level, builderKids/2)
	}
}

// Finish returns the tree of all entries. The builder must not be used any more.
func (b *Builder) Finish() (Tree, error) {
	out := Tree{Agg: b.a.tree.Agg, Weighted: b.a.tree.Weighted}
	if len(b.ends) > 0 {
		b.writeEntries(len(b.ends))
	}
	for level := 0; level < len(b.levels); level++ {
		if nodes := b.levels[level]; len(nodes) > 1 || b.above[level] {
			b.writeKids(level, len(nodes))
			continue
		}
		root := b.levels[level][0]
		out.Root, out.Entries, out.Height = root.ref, root.count, level+1
	}
	out.NextNode = b.a.next
	return out, b.err
}
