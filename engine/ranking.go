package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/value"
)

// ranking is the second tree of a ranked aggregate: its groups by count, the
// largest first. An entry is the complement of the count (8 bytes, big endian)
// and the group's values as they are in the entries of the aggregate.
//
// It follows from the aggregate, and a transaction does not know the count its
// group will have when the commits beside it are done. So the committer makes its
// changes for a whole group of commits, and marks their keys as touched: a query
// that read the top of the ranking runs again when something there changes, and
// not at every commit. Mutations are validated by the aggregate's own entries.
type ranking struct {
	id     uint32
	meta   string // the key of its catalog entry
	status partStatus
	slot   int // its place in a state's trees
}

func (r *ranking) empty() aggregate.Tree { return aggregate.Tree{Agg: r.id} }

// rankKey returns the ranking's entry for a group with a count.
func rankKey(count int64, group []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(group)), ^uint64(count)), group...)
}

// sizeKey returns the key that is touched when the number of groups changes. No
// group has a count of 0, so it is after all entries.
func (r *ranking) sizeKey() []byte {
	return append(keys.AppendEntry(nil, r.id), rankKey(0, nil)...)
}

// rank is an entry of a ranking.
type rank struct {
	count int64
	group []byte
}

func decodeRank(entry []byte) (rank, error) {
	if len(entry) < 8 {
		return rank{}, fmt.Errorf("%w: entry %x of a ranking", ErrCorrupt, entry)
	}
	return rank{int64(^binary.BigEndian.Uint64(entry)), entry[8:]}, nil
}

// compare orders ranks as their entries are.
func (r rank) compare(o rank) int {
	return cmp.Or(cmp.Compare(o.count, r.count), bytes.Compare(r.group, o.group))
}

// groupOf returns the part of an entry that names its group.
func (a *Aggregate) groupOf(entry []byte) ([]byte, error) {
	rest := entry
	for range a.groups {
		var err error
		if _, rest, err = value.DecodeOrdered(rest); err != nil {
			return nil, fmt.Errorf("%w: aggregate %s of %s: %w", ErrCorrupt, a.Name, a.table.Name, err)
		}
	}
	return entry[:len(entry)-len(rest)], nil
}

// regrouped is how the count of a group changes.
type regrouped struct {
	group    []byte
	was, now int64
}

// regroup finds the groups whose counts changes make different. Entries are
// without their prefix, in order; delta returns entry i. tree is from before.
func (a *Aggregate) regroup(tree aggregate.Tree, r *aggregate.Reader, n int, entry func(i int) (key []byte, delta int8)) ([]regrouped, error) {
	var out []regrouped
	for i := 0; i < n; {
		key, _ := entry(i)
		group, err := a.groupOf(key)
		if err != nil {
			return nil, err
		}
		sum := int64(0)
		for ; i < n; i++ {
			key, delta := entry(i)
			// The values of a group are self-delimiting: what begins with them is in it.
			if !bytes.HasPrefix(key, group) {
				break
			}
			sum += int64(delta)
		}
		if sum == 0 {
			continue
		}
		was, err := tree.Count(r, group, keys.Successor(group))
		if err != nil {
			return nil, err
		}
		if was+sum < 0 {
			return nil, fmt.Errorf("%w: aggregate %s of %s: a group of %d loses %d", ErrCorrupt, a.Name, a.table.Name, was, -sum)
		}
		out = append(out, regrouped{group, was, was + sum})
	}
	return out, nil
}

// Top returns the n groups of an aggregate with the most documents, those first,
// and groups of equal counts in the order of their values. The transaction's own
// changes are included; documents in without, which it has read, do not count. When
// the aggregate is ranked it costs O(n log n), otherwise a walk over all groups.
func (tx *Tx) Top(a *Aggregate, n int, without ...Document) ([]GroupCount, error) {
	if n <= 0 {
		return nil, nil
	}
	top, _, err := tx.top(a, n, false, without)
	return top, err
}

// TopAndGroups returns what Top does, and what CountGroups does. It costs less than
// both.
func (tx *Tx) TopAndGroups(a *Aggregate, n int, without ...Document) (top []GroupCount, groups int64, err error) {
	return tx.top(a, max(n, 0), true, without)
}

// CountGroups returns the number of groups of an aggregate that have documents,
// the transaction's own changes included and the documents in without, which it
// has read, left out. When the aggregate is ranked it costs O(1), and O(log n) for
// each group of without; otherwise a walk over all groups.
func (tx *Tx) CountGroups(a *Aggregate, without ...Document) (int64, error) {
	_, groups, err := tx.top(a, 0, true, without)
	return groups, err
}

// top is Top, and CountGroups where counted is set.
func (tx *Tx) top(a *Aggregate, n int, counted bool, without []Document) ([]GroupCount, int64, error) {
	if a.ranking == nil {
		return tx.topOfAll(a, n, without)
	}
	if err := tx.enter(); err != nil {
		return nil, 0, err
	}
	defer tx.leave()
	a, err := tx.rankingLocked(a)
	if err != nil {
		return nil, 0, err
	}
	ranks, groups, err := tx.topLocked(a, n, counted, without)
	if err != nil {
		return nil, 0, tx.failLocked(fmt.Errorf("top of %s of %s: %w", a.Name, a.table.Name, err))
	}
	if err := tx.intervalsLocked(); err != nil {
		return nil, 0, err
	}
	out := make([]GroupCount, len(ranks))
	values := make([]value.Value, 0, len(ranks)*a.groups)
	for i, r := range ranks {
		first := len(values)
		for rest := r.group; len(rest) > 0; {
			var v value.Value
			if v, rest, err = value.DecodeOrderedShared(rest); err != nil {
				return nil, 0, tx.failLocked(fmt.Errorf("%w: ranking of %s of %s: %w", ErrCorrupt, a.Name, a.table.Name, err))
			}
			values = append(values, v)
		}
		out[i] = GroupCount{Group: values[first:len(values):len(values)], Count: r.count}
	}
	return out, groups, nil
}

// groupSizeUsual is for how many bytes of a group there is room at first.
const groupSizeUsual = 32

// topLocked merges the ranking with the groups whose counts the transaction sees
// otherwise, and adds what it looked at to what was read. The ranks are the
// caller's, and their groups share memory.
func (tx *Tx) topLocked(a *Aggregate, n int, counted bool, without []Document) (top []rank, groups int64, err error) {
	changes, err := tx.changedGroupsLocked(a, without)
	if err != nil {
		return nil, 0, err
	}
	kept, err := tx.keptLocked(a, n, &changes)
	if err != nil {
		return nil, 0, err
	}
	all := keys.Prefixed(keys.AppendEntry(nil, a.id))
	switch {
	case tx.write:
		tx.mu.reads.AddRange(all)
	case n > 0:
		read := keys.Prefixed(keys.AppendEntry(nil, a.ranking.id))
		if len(kept) == n {
			last := kept[n-1]
			read.End = keys.Next(append(keys.AppendEntry(nil, a.ranking.id), rankKey(last.count, last.group)...))
		}
		tx.mu.reads.AddRange(read)
	}
	if counted && !tx.write {
		tx.mu.reads.AddPoint(a.ranking.sizeKey())
	}
	groups = tx.state.trees[a.ranking.slot].Entries
	var own []rank // of changed groups
	for i := range changes.all {
		c := &changes.all[i]
		switch {
		case c.delta == 0:
			continue
		case c.ranked:
		case c.delta < 0 && !counted:
			continue // it is behind the last of kept, and falls
		default:
			// A query has a group here that is behind the last of kept.
			tx.mu.reads.AddRange(all)
			group := []byte(c.group)
			if c.was, err = tx.state.trees[a.slot].Count(tx.reader(), group, keys.Successor(group)); err != nil {
				return nil, 0, err
			}
		}
		now := c.was + c.delta
		switch {
		case now < 0:
			return nil, 0, fmt.Errorf("%w: a group of %d documents loses %d", ErrCorrupt, c.was, -c.delta)
		case now == 0:
			groups--
		case c.was == 0:
			groups++
		}
		if now > 0 {
			own = append(own, rank{now, []byte(c.group)})
		}
	}
	if len(own) == 0 {
		return kept, groups, nil
	}
	slices.SortFunc(own, rank.compare)
	return mergeRanks(kept, own, n), groups, nil
}

// keptLocked returns the first n ranks of groups whose counts are as they are in
// the state, and notes the counts of the changed ones among them.
func (tx *Tx) keptLocked(a *Aggregate, n int, changes *changedGroups) ([]rank, error) {
	if n == 0 {
		return nil, nil
	}
	tree := tx.state.trees[a.ranking.slot]
	kept := make([]rank, 0, min(int64(n), tree.Entries))
	memory := make([]byte, 0, groupSizeUsual*cap(kept)) // of all groups, one after the other
	var broken error
	err := tree.Ascend(tx.reader(), nil, func(entry []byte) bool {
		r, err := decodeRank(entry)
		if err != nil {
			broken = err
			return false
		}
		if c := changes.find(r.group); c != nil {
			c.was, c.ranked = r.count, true
			return true
		}
		memory = append(memory, r.group...)
		r.group = memory[len(memory)-len(r.group) : len(memory) : len(memory)]
		kept = append(kept, r)
		return len(kept) < n
	})
	return kept, errors.Join(err, broken)
}

// mergeRanks returns the first n of both.
func mergeRanks(x, y []rank, n int) []rank {
	out := make([]rank, 0, min(n, len(x)+len(y)))
	for len(out) < n && len(x)+len(y) > 0 {
		if len(y) == 0 || len(x) > 0 && x[0].compare(y[0]) < 0 {
			out, x = append(out, x[0]), x[1:]
		} else {
			out, y = append(out, y[0]), y[1:]
		}
	}
	return out
}

// topOfAll is top for an aggregate that is not ranked.
func (tx *Tx) topOfAll(a *Aggregate, n int, without []Document) (top []GroupCount, groups int64, err error) {
	for g, err := range tx.GroupsWithout(a, without) {
		if err != nil {
			return nil, 0, err
		}
		groups++
		// Groups come in the order of their values, so among equals the new one is last.
		at, _ := slices.BinarySearchFunc(top, g, func(x, y GroupCount) int {
			return cmp.Or(cmp.Compare(y.Count, x.Count), -1)
		})
		if at == n {
			continue
		}
		if len(top) == n {
			top = top[:n-1]
		}
		top = slices.Insert(top, at, g)
	}
	return top, groups, nil
}
