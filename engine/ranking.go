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
// changes are included. When the aggregate is ranked it costs O(n log n),
// otherwise a walk over all groups.
func (tx *Tx) Top(a *Aggregate, n int) ([]GroupCount, error) {
	if n <= 0 {
		return nil, nil
	}
	if a.ranking == nil {
		return tx.topOfAll(a, n)
	}
	if err := tx.enter(); err != nil {
		return nil, err
	}
	defer tx.leave()
	a, err := tx.rankingLocked(a)
	if err != nil {
		return nil, err
	}
	ranks, err := tx.topLocked(a, n)
	if err != nil {
		return nil, tx.failLocked(fmt.Errorf("top of %s of %s: %w", a.Name, a.table.Name, err))
	}
	all := keys.Prefixed(keys.AppendEntry(nil, a.ranking.id))
	switch {
	case tx.write:
		all = keys.Prefixed(keys.AppendEntry(nil, a.id))
	case len(ranks) == n:
		last := ranks[n-1]
		all.End = keys.Next(append(keys.AppendEntry(nil, a.ranking.id), rankKey(last.count, last.group)...))
	}
	tx.mu.reads.AddRange(all)
	if err := tx.intervalsLocked(); err != nil {
		return nil, err
	}
	out := make([]GroupCount, len(ranks))
	values := make([]value.Value, 0, len(ranks)*a.groups)
	for i, r := range ranks {
		first := len(values)
		for rest := r.group; len(rest) > 0; {
			var v value.Value
			if v, rest, err = value.DecodeOrderedShared(rest); err != nil {
				return nil, tx.failLocked(fmt.Errorf("%w: ranking of %s of %s: %w", ErrCorrupt, a.Name, a.table.Name, err))
			}
			values = append(values, v)
		}
		out[i] = GroupCount{Group: values[first:len(values):len(values)], Count: r.count}
	}
	return out, nil
}

// groupSizeUsual is for how many bytes of a group there is room at first.
const groupSizeUsual = 32

// topLocked merges the ranking with the groups that the transaction changes. The
// ranks are the caller's, and their groups share memory.
func (tx *Tx) topLocked(a *Aggregate, n int) ([]rank, error) {
	changed, err := tx.regroupedLocked(a)
	if err != nil {
		return nil, err
	}
	changes := make(map[string]bool, len(changed))
	var own []rank // as the transaction sees them
	for _, c := range changed {
		changes[string(c.group)] = true
		if c.now > 0 {
			own = append(own, rank{c.now, c.group})
		}
	}
	slices.SortFunc(own, rank.compare)
	tree := tx.state.trees[a.ranking.slot]
	out := make([]rank, 0, min(int64(n), tree.Entries+int64(len(own))))
	groups := make([]byte, 0, groupSizeUsual*cap(out)) // of all ranks, one after the other
	var broken error
	err = tree.Ascend(tx.reader(), nil, func(entry []byte) bool {
		if len(out) == n {
			return false
		}
		r, err := decodeRank(entry)
		if err != nil {
			broken = err
			return false
		}
		if len(changes) > 0 && changes[string(r.group)] {
			return true
		}
		for len(own) > 0 && len(out) < n && own[0].compare(r) < 0 {
			out, own = append(out, own[0]), own[1:]
		}
		if len(out) == n {
			return false
		}
		groups = append(groups, r.group...)
		r.group = groups[len(groups)-len(r.group) : len(groups) : len(groups)]
		out = append(out, r)
		return true
	})
	if err = errors.Join(err, broken); err != nil {
		return nil, err
	}
	return append(out, own[:min(len(own), n-len(out))]...), nil
}

// regroupedLocked returns the groups whose counts the layers above the state
// change.
func (tx *Tx) regroupedLocked(a *Aggregate) ([]regrouped, error) {
	entries := tx.mu.view.Entries(keys.Prefixed(keys.AppendEntry(nil, a.id)))
	return a.regroup(tx.state.trees[a.slot], tx.reader(), len(entries), func(i int) ([]byte, int8) {
		return []byte(entries[i].Key[entryPrefix:]), entries[i].Delta
	})
}

// topOfAll is Top for an aggregate that is not ranked.
func (tx *Tx) topOfAll(a *Aggregate, n int) ([]GroupCount, error) {
	var top []GroupCount
	for g, err := range tx.Groups(a) {
		if err != nil {
			return nil, err
		}
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
	return top, nil
}

// CountGroups returns the number of groups of an aggregate that have documents,
// the transaction's own changes included. When the aggregate is ranked it costs
// O(1), otherwise a walk over all groups.
func (tx *Tx) CountGroups(a *Aggregate) (n int64, err error) {
	if a.ranking == nil {
		for _, err := range tx.Groups(a) {
			if err != nil {
				return 0, err
			}
			n++
		}
		return n, nil
	}
	if err := tx.enter(); err != nil {
		return 0, err
	}
	defer tx.leave()
	if a, err = tx.rankingLocked(a); err != nil {
		return 0, err
	}
	if tx.write {
		tx.mu.reads.AddRange(keys.Prefixed(keys.AppendEntry(nil, a.id)))
	} else {
		tx.mu.reads.AddPoint(a.ranking.sizeKey())
	}
	if err := tx.intervalsLocked(); err != nil {
		return 0, err
	}
	changed, err := tx.regroupedLocked(a)
	if err != nil {
		return 0, tx.failLocked(err)
	}
	n = tx.state.trees[a.ranking.slot].Entries
	for _, c := range changed {
		switch {
		case c.was == 0:
			n++
		case c.now == 0:
			n--
		}
	}
	return n, nil
}
