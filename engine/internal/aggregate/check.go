package aggregate

import "bytes"

// Check reads the whole tree from its blocks, past the cache, and verifies
// everything that makes it one: each block, the order of keys and their place
// between the separators, counts, sums, levels, versions, weights, and that no node is
// used twice. The first fault is returned as ErrCorrupt. It costs the size of
// the tree.
func (t Tree) Check(r *Reader) error {
	_, err := t.check(r)
	return err
}

// check returns the nodes of the tree and their versions.
func (t Tree) check(r *Reader) (map[uint64]Timestamp, error) {
	if t.Height == 0 {
		if t.Root != (Ref{}) || t.Entries != 0 {
			return nil, corruptf(t.Agg, t.Root, "an empty tree has a root or entries")
		}
		return nil, nil
	}
	c := checker{tree: t, reader: &Reader{Blocks: r.Blocks}, seen: make(map[uint64]Timestamp)}
	n, err := t.root(c.reader)
	if err != nil {
		return nil, err
	}
	if err := c.node(t.Root, n, nil, nil, true); err != nil {
		return nil, err
	}
	return c.seen, nil
}

type checker struct {
	tree   Tree
	reader *Reader
	seen   map[uint64]Timestamp
}

// node verifies the subtree of n, all keys of which lie in [from, to); nil is open.
func (c *checker) node(ref Ref, n *node, from, to []byte, root bool) error {
	fail := func(format string, args ...any) error { return corruptf(c.tree.Agg, ref, format, args...) }
	if _, ok := c.seen[ref.Node]; ok {
		return fail("node is used twice")
	}
	c.seen[ref.Node] = ref.At
	if ref.Node == 0 || ref.Node >= c.tree.NextNode {
		return fail("node id is not below the next one, %d", c.tree.NextNode)
	}
	if w := n.weight(); w > weightMax || w < weightMin && !root {
		return fail("node weighs %d, want %d to %d", w, weightMin, weightMax)
	}
	// That keys ascend and children are no newer than their parent, decodeBlock
	// has seen already.
	if last := n.keys.len() - 1; last >= 0 {
		if from != nil && bytes.Compare(n.keys.key(0), from) < 0 || to != nil && bytes.Compare(n.keys.key(last), to) >= 0 {
			return fail("keys lie outside of the node's range")
		}
		// A separator equal to the lower bound would leave the child before it no room.
		if !n.leaf() && from != nil && bytes.Equal(n.keys.key(0), from) {
			return fail("the first separator is the node's lower bound")
		}
	}
	for i, kid := range n.kids {
		sub, err := c.tree.child(c.reader, n, i)
		if err != nil {
			return err
		}
		if n.weighted {
			if sum := sub.summary(); !sum.equal(&n.sums[i]) {
				return corruptf(c.tree.Agg, kid.ref, "numbers add up to %+v, the node's parent says %+v", sum, n.sums[i])
			}
		}
		lo, hi := from, to
		if i > 0 {
			lo = n.keys.key(i - 1)
		}
		if i < n.keys.len() {
			hi = n.keys.key(i)
		}
		if err := c.node(kid.ref, sub, lo, hi, false); err != nil {
			return err
		}
	}
	return nil
}
