package aggregate

import (
	"bytes"
	"fmt"
	"slices"
)

// Apply makes the version of t at the given timestamp. Changes are sorted by key
// and unique. put receives each node that is new or different exactly once, drop
// each node that no longer exists; both only after everything that can fail has
// succeeded, so on an error nothing has happened. A block is intact only until
// put returns. Changes and their keys are not kept.
//
// The timestamp must be greater than that of any earlier Apply of the aggregate,
// and must not be used for another Apply, also if this one is given up after it
// has returned. The caller stores the new root record with the blocks, in one batch.
//
// Removing a key that is absent or giving it another weight, or inserting one that is present, means that
// rows and aggregate disagree, and is ErrCorrupt.
func (t Tree) Apply(r *Reader, at Timestamp, changes []Change, put func(node uint64, block []byte), drop func(node uint64)) (Tree, error) {
	if err := t.checkChanges(at, changes); err != nil {
		return Tree{}, err
	}
	if len(changes) == 0 {
		return t, nil
	}
	a := applier{tree: t, reader: r, at: at, next: max(t.NextNode, 1), put: put}
	root, err := a.change(changes)
	if err != nil {
		return Tree{}, err
	}
	// A root that was cut needs a level above it, also several after a bulk load.
	slots, err := a.settle(root.level, []slot{{draft: root}})
	for level := root.level + 1; err == nil && len(slots) > 1; level++ {
		slots, err = a.settle(level, []slot{{draft: newBranch(level, slots)}})
	}
	if err != nil {
		return Tree{}, err
	}
	out := Tree{Agg: t.Agg, Weighted: t.Weighted}
	if len(slots) == 1 {
		top := slots[0]
		height := top.draft.level + 1
		// A root with a single child hands its place to the child.
		for top.draft != nil && top.draft.level > 0 && len(top.draft.kids) == 1 {
			a.discard(top.draft)
			top, height = top.draft.kids[0], height-1
		}
		out.Height = height
		a.buf = make([]byte, 0, blockBytesTypical)
		written := a.write(&top)
		out.Root, out.Entries = written.ref, written.count
	}
	out.NextNode = a.next
	for _, ref := range a.replaced {
		r.Cache.retire(t.Agg, ref)
	}
	for _, id := range a.dropped {
		drop(id)
	}
	return out, nil
}

func (t Tree) checkChanges(at Timestamp, changes []Change) error {
	if at <= t.Root.At {
		return fmt.Errorf("aggregate %d: timestamp %d is not above %d: %w", t.Agg, at, t.Root.At, ErrInvalidChanges)
	}
	size := 0
	for i, c := range changes {
		if c.Delta < -1 || c.Delta > 1 || c.Delta == 0 && !t.Weighted {
			return fmt.Errorf("aggregate %d: change %d has delta %d: %w", t.Agg, i, c.Delta, ErrInvalidChanges)
		}
		if !t.Weighted && !c.Weight.None() {
			return fmt.Errorf("aggregate %d: change %d has a weight, the tree has none: %w", t.Agg, i, ErrInvalidChanges)
		}
		if len(c.Key) > KeyBytesMax {
			return fmt.Errorf("aggregate %d: key of %d bytes, at most %d are allowed: %w", t.Agg, len(c.Key), KeyBytesMax, ErrInvalidChanges)
		}
		if i > 0 && bytes.Compare(changes[i-1].Key, c.Key) >= 0 {
			return fmt.Errorf("aggregate %d: change %d is not above the one before it: %w", t.Agg, i, ErrInvalidChanges)
		}
		size += len(c.Key)
	}
	if size > ChangesBytesMax {
		return fmt.Errorf("aggregate %d: keys of %d bytes in one Apply, at most %d are allowed: %w", t.Agg, size, ChangesBytesMax, ErrInvalidChanges)
	}
	return nil
}

// applier is the state of one Apply. It first drafts the new tree in memory,
// which may fail, and then writes the drafts, which may not.
type applier struct {
	tree   Tree
	reader *Reader
	at     Timestamp
	next   uint64
	put    func(node uint64, block []byte)

	replaced []Ref    // versions that are not part of the new tree
	dropped  []uint64 // nodes that are not
	buf      []byte   // for encoding, reused for every node
}

// draft is a node being made. Until it is settled it may be empty or weigh too
// little or too much.
type draft struct {
	id    uint64 // of the node it replaces; 0 is a node that did not exist
	level int
	// keys are the entries of a leaf, or the separators between kids. They may
	// be shared with cached nodes and are never changed in place.
	keys    keyList
	weights []Weight // of a leaf's entries in a weighted tree; treated as keys are
	weight  int
	// base and patches are a branch in which only the content of some children
	// changed, which is the usual case. Any other branch lists its kids.
	base    *node
	patches []patch
	kids    []slot
	// appended tells that a leaf grew at its end only: more will likely come there.
	appended bool
}

// patch replaces child i of a draft's base.
type patch struct {
	i    int
	slot slot
}

// slot is a child in a draft: as stored, or a draft itself.
type slot struct {
	// sep is the separator to the child before. It is set only in lists of
	// children whose shape is changing; elsewhere the keys of the draft say it.
	sep   []byte
	ref   Ref
	count int64
	sum   summary // in a weighted tree
	draft *draft
}

func (s *slot) empty() bool {
	return s.draft != nil && s.draft.keys.len() == 0 && len(s.draft.kids) == 0
}
func (s *slot) underfull() bool { return s.draft != nil && s.draft.weight < weightMin }
func (s *slot) overfull() bool  { return s.draft != nil && s.draft.weight > weightMax }
func (s *slot) settled() bool   { return !s.empty() && !s.underfull() && !s.overfull() }

// change drafts the root with all changes made.
func (a *applier) change(changes []Change) (*draft, error) {
	if a.tree.Height == 0 {
		return a.changeLeaf(0, &node{}, changes)
	}
	n, err := a.tree.root(a.reader)
	if err != nil {
		return nil, err
	}
	return a.changeNode(a.tree.Root, n, changes)
}

func (a *applier) changeNode(ref Ref, n *node, changes []Change) (*draft, error) {
	a.replaced = append(a.replaced, ref)
	if n.leaf() {
		return a.changeLeaf(ref.Node, n, changes)
	}
	d := &draft{id: ref.Node, level: n.level, keys: n.keys, base: n}
	settled := true
	for i := 0; len(changes) > 0; {
		i = n.route(changes[0].Key, i)
		end := len(changes)
		if i < n.keys.len() {
			end = countBelow(changes, &n.keys, i)
		}
		kid, err := a.tree.child(a.reader, n, i)
		if err != nil {
			return nil, err
		}
		p := patch{i: i}
		if p.slot.draft, err = a.changeNode(n.kids[i].ref, kid, changes[:end]); err != nil {
			return nil, err
		}
		d.patches = append(d.patches, p)
		settled = settled && p.slot.settled()
		changes = changes[end:]
	}
	if settled {
		// No child was split or merged, so the separators stay and with them the weight.
		d.weight = listWeight(d.level, &d.keys)
		return d, nil
	}
	kids, err := a.settle(d.level-1, d.separated(nil))
	if err != nil {
		return nil, err
	}
	d.setKids(kids)
	return d, nil
}

// countBelow returns how many changes, at least one, lie below key i.
//
// REQUIRES: the first change does.
func countBelow(changes []Change, keys *keyList, i int) int {
	below := func(j int) bool { return keys.above(i, changes[j].Key) }
	// Mostly few changes go to one child, so gallop.
	lo, hi := 0, 1
	for hi < len(changes) && below(hi) {
		lo, hi = hi, 2*hi
	}
	hi = min(hi, len(changes))
	for lo+1 < hi {
		if mid := int(uint(lo+hi) >> 1); below(mid) {
			lo = mid
		} else {
			hi = mid
		}
	}
	return hi
}

// changeLeaf merges the entries of a leaf with changes.
func (a *applier) changeLeaf(id uint64, n *node, changes []Change) (*draft, error) {
	old := &n.keys
	size, inserts, prefix := 0, 0, []byte(nil)
	for _, c := range changes {
		if c.Delta <= 0 {
			continue
		}
		switch {
		case inserts > 0:
			prefix = prefix[:commonPrefix(prefix, c.Key)]
		case old.len() > 0:
			prefix = old.prefix[:commonPrefix(old.prefix, c.Key)]
		default:
			prefix = bytes.Clone(c.Key)
		}
		inserts++
		size += len(c.Key)
	}
	if inserts == 0 {
		prefix = old.prefix
	}
	d := &draft{id: id, keys: keyList{prefix: prefix}, appended: old.len() > 0}
	d.keys.grow(old.len()+inserts, len(old.tails)+(len(old.prefix)-len(prefix))*old.len()+size-inserts*len(prefix))
	if a.tree.Weighted {
		d.weights = make([]Weight, 0, old.len()+inserts)
	}
	keep := func(from, to int) {
		d.keys.pushRange(old, from, to)
		if a.tree.Weighted {
			d.weights = append(d.weights, n.weights[from:to]...)
		}
	}
	from := 0
	for _, c := range changes {
		pos, found := n.search(c.Key, from)
		keep(from, pos)
		from = pos
		switch {
		case c.Delta > 0 && found:
			return nil, corruptf(a.tree.Agg, Ref{Node: id, At: a.at}, "inserted entry %x is already there", clip(c.Key))
		case c.Delta <= 0 && !found:
			return nil, corruptf(a.tree.Agg, Ref{Node: id, At: a.at}, "removed or changed entry %x is not there", clip(c.Key))
		case c.Delta > 0:
			d.appended = d.appended && pos == old.len()
			d.keys.push(c.Key)
			if a.tree.Weighted {
				d.weights = append(d.weights, c.Weight)
			}
		default:
			d.appended = false
			if c.Delta == 0 {
				keep(pos, pos+1)
				d.weights[len(d.weights)-1] = c.Weight
			}
			from++
		}
	}
	keep(from, old.len())
	d.weight = listWeight(0, &d.keys)
	return d, nil
}

// clip shortens a key for an error message.
func clip(key []byte) []byte { return key[:min(len(key), 64)] }

// list turns a branch with a base into one that lists its kids.
func (d *draft) list() {
	if d.base == nil {
		return
	}
	d.kids = make([]slot, len(d.base.kids))
	for i := range d.kids {
		d.kids[i] = slot{ref: d.base.kids[i].ref, count: d.base.kids[i].end - d.base.start(i)}
		if d.base.weighted {
			d.kids[i].sum = d.base.sums[i]
		}
	}
	for _, p := range d.patches {
		d.kids[p.i] = p.slot
	}
	d.base, d.patches = nil, nil
}

// separated returns the kids with their separators filled in; first is that of
// the first kid.
func (d *draft) separated(first []byte) []slot {
	d.list()
	size := 0
	for i := range d.keys.len() {
		size += d.keys.size(i)
	}
	arena := make([]byte, 0, size)
	d.kids[0].sep = first
	for i := range d.keys.len() {
		begin := len(arena)
		arena = d.keys.appendHead(arena, i, d.keys.size(i))
		d.kids[i+1].sep = arena[begin:]
	}
	return d.kids
}

// setKids gives a branch its children and weighs it.
func (d *draft) setKids(kids []slot) {
	d.kids, d.keys, d.weight = kids, keyList{}, 0
	if len(kids) == 0 {
		return
	}
	seps := make([][]byte, len(kids)-1)
	for i := range seps {
		seps[i] = kids[i+1].sep
	}
	d.keys = newKeyList(seps)
	d.weight = listWeight(d.level, &d.keys)
}

func newBranch(level int, kids []slot) *draft {
	d := &draft{level: level}
	d.setKids(kids)
	return d
}

// settle takes all children of one branch, of that level and with separators, and returns them
// with the empty ones removed, the light ones joined with a neighbour and the
// heavy ones cut. Only an only child may stay light: then its parent is lighter
// still, and either is joined in turn, which settles its children again, or is
// the root and hands its place down.
func (a *applier) settle(level int, kids []slot) ([]slot, error) {
	out := make([]slot, 0, len(kids)+2)
	for i := 0; i < len(kids); i++ {
		s := kids[i]
		if s.empty() {
			a.discard(s.draft)
			continue
		}
		for s.underfull() {
			for i+1 < len(kids) && kids[i+1].empty() {
				i++
				a.discard(kids[i].draft)
			}
			last := len(out) - 1
			hasLeft, hasRight := last >= 0, i+1 < len(kids)
			if !hasLeft && !hasRight {
				break
			}
			// Rather join with a node that is written anyway.
			var err error
			if hasLeft && (out[last].draft != nil || !hasRight || kids[i+1].draft == nil) {
				s, err = a.join(level, out[last], s)
				out = out[:last]
			} else {
				i++
				s, err = a.join(level, s, kids[i])
			}
			if err != nil {
				return nil, err
			}
		}
		if s.overfull() {
			out = s.cut(out)
		} else {
			out = append(out, s)
		}
	}
	return out, nil
}

// join makes one draft of two neighbours.
func (a *applier) join(level int, left, right slot) (slot, error) {
	l, err := a.open(level, left)
	if err != nil {
		return slot{}, err
	}
	r, err := a.open(level, right)
	if err != nil {
		return slot{}, err
	}
	d := &draft{id: l.id, level: level}
	if d.id == 0 {
		d.id = r.id
	} else {
		a.discard(r)
	}
	if d.level == 0 {
		d.keys, d.weights = joinKeys(&l.keys, &r.keys), slices.Concat(l.weights, r.weights)
		d.weight = listWeight(0, &d.keys)
	} else {
		kids := append(l.separated(nil), r.separated(right.sep)...)
		if kids, err = a.settle(level-1, kids); err != nil {
			return slot{}, err
		}
		d.setKids(kids)
	}
	return slot{sep: left.sep, draft: d}, nil
}

// open returns the draft of a child, made from its stored version if need be.
func (a *applier) open(level int, s slot) (*draft, error) {
	if s.draft != nil {
		return s.draft, nil
	}
	n, err := a.reader.load(&a.tree, s.ref, level, s.count, nil)
	if err != nil {
		return nil, err
	}
	a.replaced = append(a.replaced, s.ref)
	d := &draft{id: s.ref.Node, level: level, keys: n.keys, weights: n.weights}
	if level > 0 {
		d.base = n
	}
	return d, nil
}

// cut splits a heavy draft into pieces of nearly equal weight and appends them.
// The first piece keeps the id.
func (s slot) cut(out []slot) []slot {
	d := s.draft
	items := d.keys.len()
	if d.level > 0 {
		d.list()
		items = len(d.kids)
	}
	// sums[i] is the weight of the items before i.
	sums := make([]int, items+1)
	for i := range items {
		w := weightItemMin
		switch {
		case d.level == 0:
			w = itemWeight(0, &d.keys, i)
		case i > 0:
			w = itemWeight(d.level, &d.keys, i-1)
		}
		sums[i+1] = sums[i] + w
	}
	total := sums[items]
	const room = weightMax * 3 / 4
	pieces := (total + room - 1) / room
	begin := 0
	for p := 1; p <= pieces; p++ {
		end := items
		if p < pieces {
			goal := total * p / pieces
			if pieces == 2 && d.appended {
				// Leave the room where it will be used.
				goal = min(room, total-weightMin-weightItemMax/2)
			}
			end = nearest(sums, begin+1, goal)
		}
		out = append(out, s.piece(begin, end))
		begin = end
	}
	return out
}

// nearest returns the index from lo on whose sum is closest to goal.
func nearest(sums []int, lo, goal int) int {
	i := lo
	for i < len(sums)-1 && sums[i] < goal {
		i++
	}
	if i > lo && goal-sums[i-1] < sums[i]-goal {
		i--
	}
	return i
}

// piece returns items begin to end of s as a child of its own.
func (s slot) piece(begin, end int) slot {
	d := s.draft
	out := slot{sep: s.sep, draft: &draft{level: d.level}}
	if begin == 0 {
		out.draft.id = d.id
	}
	if d.level == 0 {
		out.draft.keys = d.keys.slice(begin, end)
		if d.weights != nil {
			out.draft.weights = slices.Clone(d.weights[begin:end])
		}
		if begin > 0 {
			// The shortest separator: as much of the first entry as tells it
			// from the last one before it.
			n := int(d.keys.shared[begin]) + 1
			out.sep = d.keys.appendHead(make([]byte, 0, n), begin, n)
		}
	} else {
		out.draft.kids = d.kids[begin:end:end]
		out.draft.keys = d.keys.slice(begin, end-1)
		if begin > 0 {
			out.sep = d.kids[begin].sep
		}
	}
	out.draft.weight = listWeight(d.level, &out.draft.keys)
	return out
}

// discard says that a draft's node will not be part of the new tree.
func (a *applier) discard(d *draft) {
	if d.id != 0 {
		a.dropped = append(a.dropped, d.id)
	}
}

// write stores a draft after its children and returns it as stored.
func (a *applier) write(s *slot) slot {
	d := s.draft
	if d == nil {
		return *s
	}
	if d.id == 0 {
		d.id = a.next
		a.next++
	}
	n := &node{at: a.at, level: d.level, keys: d.keys, weighted: a.tree.Weighted, weights: d.weights}
	if d.base != nil {
		n.kids, n.sums = slices.Clone(d.base.kids), slices.Clone(d.base.sums)
		shift := int64(0)
		for j := range d.patches {
			p := &d.patches[j]
			kid := a.write(&p.slot)
			begin, end := p.i, len(n.kids)
			if j+1 < len(d.patches) {
				end = d.patches[j+1].i
			}
			shift += kid.count - (d.base.kids[begin].end - d.base.start(begin))
			n.kids[begin].ref = kid.ref
			if n.weighted {
				n.sums[begin] = kid.sum
			}
			for k := begin; k < end; k++ {
				n.kids[k].end += shift
			}
		}
	} else if d.level > 0 {
		n.kids = make([]child, len(d.kids))
		if n.weighted {
			n.sums = make([]summary, len(d.kids))
		}
		end := int64(0)
		for i := range d.kids {
			kid := a.write(&d.kids[i])
			end += kid.count
			n.kids[i] = child{ref: kid.ref, end: end}
			if n.weighted {
				n.sums[i] = kid.sum
			}
		}
	}
	a.buf = appendBlock(a.buf[:0], a.tree.Agg, d.id, n)
	a.put(d.id, a.buf)
	a.reader.Cache.add(a.tree.Agg, d.id, n)
	return slot{ref: Ref{Node: d.id, At: a.at}, count: n.total(), sum: n.summary()}
}
