package live

import "bytes"

// intervals is a set of ranges that finds those which contain a key: a treap by start and end in which every node knows
// the highest end below it. Each distinct range is one node, however many queries share it.
type intervals struct{ root *interval }

type interval struct {
	posting
	Range
	maxEnd      []byte // the highest end in this subtree
	priority    uint64
	left, right *interval
}

func (n *interval) compare(r Range) int {
	if c := bytes.Compare(n.Start, r.Start); c != 0 {
		return c
	}
	return compareEnds(n.End, r.End)
}

// appendHits appends the queries of the ranges that contain key.
func (t *intervals) appendHits(hits []*query, key []byte) []*query {
	return t.root.appendHits(hits, key)
}

func (n *interval) appendHits(hits []*query, key []byte) []*query {
	for n != nil && before(key, n.maxEnd) {
		hits = n.left.appendHits(hits, key)
		if bytes.Compare(n.Start, key) > 0 {
			break // All to the right start even later.
		}
		if before(key, n.End) {
			hits = n.appendTo(hits)
		}
		n = n.right
	}
	return hits
}

// insert adds e to the posting of r.
func (t *intervals) insert(r Range, e *entry, priority uint64) {
	t.root = t.root.insert(r, e, priority)
}

func (n *interval) insert(r Range, e *entry, priority uint64) *interval {
	if n == nil {
		n = &interval{Range: r, maxEnd: r.End, priority: priority}
		n.add(e)
		return n
	}
	switch c := n.compare(r); {
	case c == 0:
		n.add(e)
		return n
	case c > 0:
		n.left = n.left.insert(r, e, priority)
		if n.left.priority > n.priority {
			return n.rotateRight()
		}
	default:
		n.right = n.right.insert(r, e, priority)
		if n.right.priority > n.priority {
			return n.rotateLeft()
		}
	}
	n.update()
	return n
}

// remove takes e out of the posting of r. REQUIRES: it is in.
func (t *intervals) remove(r Range, e *entry) { t.root = t.root.remove(r, e) }

func (n *interval) remove(r Range, e *entry) *interval {
	if n == nil {
		broken("range %x..%x is not in the touch index", r.Start, r.End)
	}
	switch c := n.compare(r); {
	case c == 0:
		if !n.posting.remove(e) {
			return n
		}
		return merge(n.left, n.right)
	case c > 0:
		n.left = n.left.remove(r, e)
	default:
		n.right = n.right.remove(r, e)
	}
	n.update()
	return n
}

// merge joins two trees. REQUIRES: everything in a is before everything in b.
func merge(a, b *interval) *interval {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		a.right = merge(a.right, b)
		a.update()
		return a
	}
	b.left = merge(a, b.left)
	b.update()
	return b
}

func (n *interval) rotateRight() *interval {
	l := n.left
	n.left, l.right = l.right, n
	n.update()
	l.update()
	return l
}

func (n *interval) rotateLeft() *interval {
	r := n.right
	n.right, r.left = r.left, n
	n.update()
	r.update()
	return r
}

// update sets maxEnd from the node and its children.
func (n *interval) update() {
	n.maxEnd = n.End
	for _, c := range [...]*interval{n.left, n.right} {
		if c != nil && compareEnds(c.maxEnd, n.maxEnd) > 0 {
			n.maxEnd = c.maxEnd
		}
	}
}
