package aggregate

import (
	"bytes"
	"fmt"
)

// Count returns the number of entries k with from <= k < to. A nil bound is
// open: nothing lies below a nil from or above a nil to. It reads at most two
// nodes a level.
func (t Tree) Count(r *Reader, from, to []byte) (int64, error) {
	if t.Height == 0 || from != nil && to != nil && bytes.Compare(from, to) >= 0 {
		return 0, nil
	}
	if from == nil && to == nil {
		return t.Entries, nil
	}
	n, err := t.root(r)
	if err != nil {
		return 0, err
	}
	// Both ends are in the same child down to where their ways part.
	for {
		lo, hi := 0, len(n.kids)-1
		if n.leaf() {
			hi = n.keys.len()
			if from != nil {
				lo, _ = n.search(from, 0)
			}
			if to != nil {
				hi, _ = n.search(to, lo)
			}
			return int64(hi - lo), nil
		}
		if from != nil {
			lo = n.route(from, 0)
		}
		if to != nil {
			hi = n.route(to, lo)
		}
		if lo != hi {
			above, err := t.below(r, n, hi, to)
			if err != nil {
				return 0, err
			}
			under, err := t.below(r, n, lo, from)
			if err != nil {
				return 0, err
			}
			if to == nil {
				above = n.total()
			}
			if from == nil {
				under = 0
			}
			return above - under, nil
		}
		if n, err = t.child(r, n, lo); err != nil {
			return 0, err
		}
	}
}

// below returns how many entries at and below n are less than key, which lies in
// child i. A nil key costs nothing and gives 0.
func (t Tree) below(r *Reader, n *node, i int, key []byte) (int64, error) {
	if key == nil {
		return 0, nil
	}
	rank := n.start(i)
	for {
		var err error
		if n, err = t.child(r, n, i); err != nil {
			return 0, err
		}
		if n.leaf() {
			pos, _ := n.search(key, 0)
			return rank + int64(pos), nil
		}
		i = n.route(key, 0)
		rank += n.start(i)
	}
}

// Total adds the entries k with from <= k < to to a total, in the order of the
// tree; bounds are as in Count. The tree is weighted. It reads at most two
// nodes a level.
func (t Tree) Total(r *Reader, from, to []byte, into *Total) error {
	if !t.Weighted {
		return fmt.Errorf("aggregate %d: the tree has no weights to add up: %w", t.Agg, ErrInvalidChanges)
	}
	if t.Height == 0 || from != nil && to != nil && bytes.Compare(from, to) >= 0 {
		return nil
	}
	n, err := t.root(r)
	if err != nil {
		return err
	}
	return t.addRange(r, n, from, to, into)
}

func (t Tree) addRange(r *Reader, n *node, from, to []byte, into *Total) error {
	if n.leaf() {
		lo, hi := 0, n.keys.len()
		if from != nil {
			lo, _ = n.search(from, 0)
		}
		if to != nil {
			hi, _ = n.search(to, lo)
		}
		n.addEntries(into, lo, hi)
		return nil
	}
	// Children lo to hi lie wholly in the range, but for those at its ends.
	lo, hi := 0, len(n.kids)
	if from != nil {
		lo = n.route(from, 0)
	}
	if to != nil {
		hi = n.route(to, lo)
	}
	if from != nil {
		end := to
		if hi > lo {
			end = nil
		}
		if err := t.addChild(r, n, lo, from, end, into); err != nil || hi == lo {
			return err
		}
		lo++
	}
	n.addKids(into, lo, hi)
	if to == nil {
		return nil
	}
	return t.addChild(r, n, hi, nil, to, into)
}

func (t Tree) addChild(r *Reader, n *node, i int, from, to []byte, into *Total) error {
	kid, err := t.child(r, n, i)
	if err != nil {
		return err
	}
	return t.addRange(r, kid, from, to, into)
}

// Rank returns the number of entries less than key.
func (t Tree) Rank(r *Reader, key []byte) (int64, error) {
	if key == nil {
		return 0, nil
	}
	return t.Count(r, nil, key)
}

// At returns a copy of the entry at the offset, counted from 0 in key order.
// ok is false when there is none.
func (t Tree) At(r *Reader, offset int64) (key []byte, ok bool, err error) {
	if offset < 0 || offset >= t.Entries {
		return nil, false, nil
	}
	n, err := t.root(r)
	if err != nil {
		return nil, false, err
	}
	for !n.leaf() {
		lo, hi := 0, len(n.kids)-1
		for lo < hi {
			mid := int(uint(lo+hi) >> 1)
			if n.kids[mid].end <= offset {
				lo = mid + 1
			} else {
				hi = mid
			}
		}
		offset -= n.start(lo)
		if n, err = t.child(r, n, lo); err != nil {
			return nil, false, err
		}
	}
	return n.keys.key(int(offset)), true, nil
}

// Ascend calls f with the entries >= from in their order until it returns false. An
// entry is valid for the call. Going on to the next entry costs next to nothing, so
// it is how to read many; all nodes come through one Reader.
func (t Tree) Ascend(r *Reader, from []byte, f func(entry []byte) bool) error {
	if t.Height == 0 {
		return nil
	}
	n, err := t.root(r)
	if err != nil {
		return err
	}
	_, err = t.ascend(r, n, from, make([]byte, 0, 128), f)
	return err
}

// ascend is Ascend below a node. buf is for the entries.
func (t Tree) ascend(r *Reader, n *node, from, buf []byte, f func(entry []byte) bool) (more bool, err error) {
	i := 0
	if n.leaf() {
		if from != nil {
			i, _ = n.search(from, 0)
		}
		for ; i < n.keys.len(); i++ {
			buf = n.keys.appendHead(buf[:0], i, n.keys.size(i))
			if !f(buf) {
				return false, nil
			}
		}
		return true, nil
	}
	if from != nil {
		i = n.route(from, 0)
	}
	for more = true; i < len(n.kids) && more; i++ {
		kid, err := t.child(r, n, i)
		if err != nil {
			return false, err
		}
		if more, err = t.ascend(r, kid, from, buf, f); err != nil {
			return false, err
		}
		from = nil // all of the next child is after it
	}
	return more, nil
}

// Seek returns a copy of the first entry >= from; ok is false when there is none.
func (t Tree) Seek(r *Reader, from []byte) (key []byte, ok bool, err error) {
	if t.Height == 0 {
		return nil, false, nil
	}
	n, err := t.root(r)
	if err != nil {
		return nil, false, err
	}
	// A leaf may hold nothing from the key on although the key lies in its
	// range. The entry is then the first one of the subtree to the right of
	// the path, where the path last had one.
	var right *node
	var rightChild int
	for !n.leaf() {
		i := n.route(from, 0)
		if i+1 < len(n.kids) {
			right, rightChild = n, i+1
		}
		if n, err = t.child(r, n, i); err != nil {
			return nil, false, err
		}
	}
	pos, _ := n.search(from, 0)
	if pos < n.keys.len() {
		return n.keys.key(pos), true, nil
	}
	if right == nil {
		return nil, false, nil
	}
	if n, err = t.child(r, right, rightChild); err != nil {
		return nil, false, err
	}
	for !n.leaf() {
		if n, err = t.child(r, n, 0); err != nil {
			return nil, false, err
		}
	}
	return n.keys.key(0), true, nil
}
