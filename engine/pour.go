package engine

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// buildStep marks a transaction of the builder. With pour it asks the committer
// to move that many entries of a part into its tree.
type buildStep struct {
	id   uint32
	pour int
}

// pours returns how many entries of which parts a group asks to be moved.
func pours(g *commit.Group) map[uint32]int {
	var out map[uint32]int
	for _, a := range g.Attempts {
		if step := a.Owner.(*mutation).step; step != nil && step.pour > 0 {
			if out == nil {
				out = map[uint32]int{}
			}
			out[step.id] = step.pour
		}
	}
	return out
}

// setBuild makes p the progress of a part in a state that is being made, which
// may share its map with the one before.
func (s *state) setBuild(id uint32, p progress) {
	s.builds = maps.Clone(s.builds)
	s.builds[id] = p
}

// applyAggregates writes the blocks that a group changes and puts the trees
// after it into next.
func (db *DB) applyAggregates(b *store.Batch, base, next *state, g *commit.Group) error {
	work := &treeWork{db: db, b: b, base: base, next: next, g: g, pours: pours(g)}
	for _, a := range next.catalog.aggregates {
		if a.status == statusFailed {
			continue
		}
		if err := work.aggregate(a); err != nil {
			return fmt.Errorf("aggregate %s of %s: %w", a.Name, a.table.Name, err)
		}
	}
	return nil
}

// treeWork makes the trees of a group of commits.
type treeWork struct {
	db         *DB
	b          *store.Batch
	base, next *state
	g          *commit.Group
	pours      map[uint32]int
	own        bool // next.trees is no longer that of base
}

func (w *treeWork) set(slot int, t aggregate.Tree) {
	if !w.own {
		w.next.trees, w.own = slices.Clone(w.next.trees), true
	}
	w.next.trees[slot] = t
}

// progress puts how far a build came into the batch, over what its transaction
// has written there.
func (w *treeWork) progress(id uint32, p progress) error {
	w.next.setBuild(id, p)
	return w.b.Set(buildKey(id), p.append(nil))
}

func (w *treeWork) aggregate(a *Aggregate) error {
	var changes []aggregate.Change
	w.g.Writes.EachEntry(keys.Prefixed(keys.AppendEntry(nil, a.id)), func(k string, e txn.Entry) bool {
		changes = append(changes, aggregate.Change{Key: []byte(k[entryPrefix:]), Delta: e.Delta, Weight: e.Is})
		return true
	})
	before := w.next.trees[a.slot]
	if a.status == statusBuilding {
		var err error
		if changes, err = w.poured(a, changes); err != nil {
			return err
		}
	}
	if len(changes) > 0 {
		t, err := w.db.applyTree(w.b, w.base, before, w.g.At, changes)
		if err != nil {
			return err
		}
		w.set(a.slot, t)
	}
	if a.ranking == nil || a.ranking.status == statusFailed || a.status != statusReady {
		return nil
	}
	if err := w.ranking(a, before, changes); err != nil {
		return fmt.Errorf("ranking: %w", err)
	}
	return nil
}

// poured returns the changes of the tree of an aggregate that is being built:
// those of the group's that are below the cursor and, when the builder asks for
// it, the next entries of the hidden index.
//
// The tree has exactly the entries below the cursor that the rows of base call
// for, and the hidden index has all of them, both as of base. So after the group
// the tree must have what it had, plus those from the cursor to the next one,
// with the changes that the group itself makes below the next cursor.
func (w *treeWork) poured(a *Aggregate, changes []aggregate.Change) ([]aggregate.Change, error) {
	p := w.base.builds[a.id]
	switch p.phase {
	case phaseFill:
		return nil, nil
	case phaseDone:
		return changes, nil
	}
	below, _ := slices.BinarySearchFunc(changes, p.cursor, func(c aggregate.Change, cursor []byte) int { return bytes.Compare(c.Key, cursor) })
	n := w.pours[a.id]
	if n == 0 {
		return changes[:below], nil
	}
	added, next, err := hiddenEntries(w.base.snap, a, p.cursor, n)
	if err != nil {
		return nil, err
	}
	end := len(changes)
	if next != nil {
		end, _ = slices.BinarySearchFunc(changes, next, func(c aggregate.Change, cursor []byte) int { return bytes.Compare(c.Key, cursor) })
	}
	p.done, p.cursor = p.done+int64(len(added)), next
	if next == nil {
		p.phase = phaseDone
	}
	out := append(changes[:below:below], overrides(added, changes[below:end])...)
	return out, w.progress(a.id, p)
}

// overrides returns the insertion of entries as later changes of them make it:
// those that go are not inserted, those that change are inserted as they are then.
// Both are in order.
func overrides(added, changes []aggregate.Change) []aggregate.Change {
	out := make([]aggregate.Change, 0, len(added)+len(changes))
	for len(added) > 0 || len(changes) > 0 {
		order := 0
		switch {
		case len(added) == 0:
			order = 1
		case len(changes) == 0:
			order = -1
		default:
			order = bytes.Compare(added[0].Key, changes[0].Key)
		}
		switch {
		case order < 0:
			out, added = append(out, added[0]), added[1:]
		case order > 0:
			out, changes = append(out, changes[0]), changes[1:]
		default:
			if changes[0].Delta == 0 {
				out = append(out, aggregate.Change{Key: added[0].Key, Delta: 1, Weight: changes[0].Weight})
			}
			added, changes = added[1:], changes[1:]
		}
	}
	return out
}

// hiddenEntries returns up to n entries of the hidden index from a cursor on, as
// insertions, and where to go on, nil at the end.
func hiddenEntries(snap *store.Snapshot, a *Aggregate, cursor []byte, n int) (out []aggregate.Change, next []byte, err error) {
	r := keys.Prefixed(keys.AppendIndex(nil, a.id))
	it, err := snap.Iterate(append(keys.AppendIndex(nil, a.id), cursor...), r.End)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, it.Err(), it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		entry := slices.Clone(it.Key()[entryPrefix:])
		if len(out) == n {
			return out, entry, nil
		}
		weight, err := decodeWeight(it.Value())
		if err != nil {
			return nil, nil, err
		}
		out = append(out, aggregate.Change{Key: entry, Delta: 1, Weight: weight})
	}
	return out, nil, nil
}

// ranking writes the blocks of an aggregate's ranking that a group of commits
// changes, and touches the keys in it that are different then. entries are the
// changes of the aggregate, whose tree was before.
func (w *treeWork) ranking(a *Aggregate, before aggregate.Tree, entries []aggregate.Change) error {
	reader := &aggregate.Reader{Cache: w.db.blocks, Blocks: w.base}
	changed, err := a.regroup(before, reader, len(entries), func(i int) ([]byte, int8) { return entries[i].Key, entries[i].Delta })
	if err != nil {
		return err
	}
	if a.ranking.status == statusBuilding {
		if changed, err = w.ranked(a, before, reader, changed); err != nil {
			return err
		}
	}
	if len(changed) == 0 {
		return nil
	}
	var changes []aggregate.Change
	for _, c := range changed {
		if c.was > 0 {
			changes = append(changes, aggregate.Change{Key: rankKey(c.was, c.group), Delta: -1})
		}
		if c.now > 0 {
			changes = append(changes, aggregate.Change{Key: rankKey(c.now, c.group), Delta: +1})
		}
	}
	if len(changes) == 0 {
		return nil // groups that came and went while they were not ranked yet
	}
	slices.SortFunc(changes, func(x, y aggregate.Change) int { return bytes.Compare(x.Key, y.Key) })
	tree := w.next.trees[a.ranking.slot]
	fresh, err := w.db.applyTree(w.b, w.base, tree, w.g.At, changes)
	if err != nil {
		return err
	}
	w.set(a.ranking.slot, fresh)
	prefix := keys.AppendEntry(nil, a.ranking.id)
	for _, c := range changes {
		w.g.Writes.Touch(append(prefix[:len(prefix):len(prefix)], c.Key...))
	}
	if fresh.Entries != tree.Entries {
		w.g.Writes.Touch(a.ranking.sizeKey())
	}
	return nil
}

// ranked is poured for a ranking: it has the groups below the cursor.
func (w *treeWork) ranked(a *Aggregate, tree aggregate.Tree, reader *aggregate.Reader, changed []regrouped) ([]regrouped, error) {
	p := w.base.builds[a.ranking.id]
	switch p.phase {
	case phaseFill:
		return nil, nil
	case phaseDone:
		return changed, nil
	}
	at := func(cursor []byte) int {
		i, _ := slices.BinarySearchFunc(changed, cursor, func(c regrouped, cursor []byte) int { return bytes.Compare(c.group, cursor) })
		return i
	}
	below := at(p.cursor)
	n := w.pours[a.ranking.id]
	if n == 0 {
		return changed[:below], nil
	}
	out := slices.Clone(changed[:below])
	added, next, err := a.groupsFrom(tree, reader, p.cursor, n)
	if err != nil {
		return nil, err
	}
	end := len(changed)
	if next != nil {
		end = at(next)
	}
	for _, c := range changed[below:end] {
		// Its count before is of no account: it was not ranked.
		out = append(out, regrouped{group: c.group, now: c.now})
	}
	for _, g := range added {
		p.done += g.now
		if _, ok := slices.BinarySearchFunc(changed[below:end], g, func(x, y regrouped) int { return bytes.Compare(x.group, y.group) }); !ok {
			out = append(out, g)
		}
	}
	if p.cursor = next; next == nil {
		p.phase = phaseDone
	}
	slices.SortFunc(out, func(x, y regrouped) int { return cmp.Or(bytes.Compare(x.group, y.group), cmp.Compare(x.now, y.now)) })
	return out, w.progress(a.ranking.id, p)
}

// groupsFrom returns up to n groups from a cursor on, in the order of their
// values, with their counts, and where to go on, nil at the end.
func (a *Aggregate) groupsFrom(tree aggregate.Tree, r *aggregate.Reader, cursor []byte, n int) (out []regrouped, next []byte, err error) {
	next = cursor
	for len(out) < n {
		entry, ok, err := tree.Seek(r, next)
		if err != nil || !ok {
			return out, nil, err
		}
		group, err := a.groupOf(entry)
		if err != nil {
			return nil, nil, err
		}
		next = keys.Successor(group)
		count, err := tree.Count(r, group, next)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, regrouped{group: group, now: count})
		if next == nil {
			break
		}
	}
	return out, next, nil
}
