package engine

import (
	"fmt"
	"sort"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Rank returns how many documents of a range come before the one with that id,
// in the order of the aggregate, or in reverse. ok is false when there is no
// such document, or not in the range. The transaction's own changes are
// included. It costs O(log n).
//
// The transaction depends on the part of the range before the document, and on
// the document.
func (tx *Tx) Rank(a *Aggregate, r Range, id value.ID, desc bool) (rank int64, ok bool, err error) {
	rg, err := a.bytes(r)
	if err != nil || rg.Empty() {
		return 0, false, err
	}
	if err := tx.enter(); err != nil {
		return 0, false, err
	}
	defer tx.leave()
	if a, err = tx.aggregateLocked(a); err != nil {
		return 0, false, err
	}
	d, ok, err := tx.getLocked(a.table, id)
	if err != nil || !ok {
		return 0, false, err
	}
	key := a.key(d)
	if !rg.Contains(key) {
		return 0, false, nil
	}
	if desc {
		rg.Start = keys.Next(key)
	} else {
		rg.End = key
	}
	if rg.Empty() {
		return 0, true, nil
	}
	tx.mu.reads.AddRange(rg)
	if err := tx.intervalsLocked(); err != nil {
		return 0, false, err
	}
	rank, err = tx.countLocked(a, rg)
	return rank, err == nil, err
}

// DocumentAt returns the document at an offset in a range of an aggregate,
// counted from 0 at its beginning, or from its end. ok is false when the range
// has fewer documents. The transaction's own changes are included. It costs
// O(log n).
//
// The transaction depends on the part of the range up to the document, and on
// the document.
func (tx *Tx) DocumentAt(a *Aggregate, r Range, offset int64, desc bool) (d Document, ok bool, err error) {
	rg, err := a.bytes(r)
	if err != nil || rg.Empty() || offset < 0 {
		return Document{}, false, err
	}
	if err := tx.enter(); err != nil {
		return Document{}, false, err
	}
	defer tx.leave()
	if a, err = tx.aggregateLocked(a); err != nil {
		return Document{}, false, err
	}
	key, ok, err := tx.entryAtLocked(a, rg, offset, desc)
	if err != nil {
		return Document{}, false, tx.failLocked(fmt.Errorf("read %s of %s by offset: %w", a.Name, a.table.Name, err))
	}
	switch {
	case !ok:
		tx.mu.reads.AddRange(rg)
	case desc:
		tx.mu.reads.AddRange(keys.Range{Start: key, End: rg.End})
	default:
		tx.mu.reads.AddRange(keys.Range{Start: rg.Start, End: keys.Next(key)})
	}
	if err := tx.intervalsLocked(); err != nil || !ok {
		return Document{}, false, err
	}
	id := value.ID{Table: a.table.Number, Key: [keys.DocumentKeySize]byte(key[len(key)-keys.DocumentKeySize:])}
	d, ok, err = tx.getLocked(a.table, id)
	if err == nil && !ok {
		err = tx.failLocked(fmt.Errorf("%w: aggregate %s of %s counts %s, which is missing", ErrCorrupt, a.Name, a.table.Name, id))
	}
	return d, ok && err == nil, err
}

// entryAtLocked returns the key of the entry at an offset in a range.
func (tx *Tx) entryAtLocked(a *Aggregate, rg keys.Range, offset int64, desc bool) (key []byte, ok bool, err error) {
	count, err := tx.countLocked(a, rg)
	if err != nil || offset >= count {
		return nil, false, err
	}
	if desc {
		offset = count - 1 - offset
	}
	tree, reader := tx.state.trees[a.slot], tx.reader()
	start, _ := treeRange(rg)
	base, err := tree.Rank(reader, start)
	if err != nil {
		return nil, false, err
	}
	// The entries that came and went cut the tree's entries into stretches. before
	// is how many entries of the range precede such a change; it never falls, so
	// the last change that has at most offset entries before it is found by halving.
	var changes []txn.KeyedEntry
	sums := []int64{0} // sums[i] is the sum of the deltas of the changes before i
	for _, c := range tx.mu.view.Entries(rg) {
		if c.Delta != 0 {
			changes = append(changes, c)
			sums = append(sums, sums[len(sums)-1]+int64(c.Delta))
		}
	}
	before := func(i int) int64 {
		var n int64
		if err == nil {
			n, err = tree.Rank(reader, []byte(changes[i].Key[entryPrefix:]))
		}
		return n - base + sums[i]
	}
	i := sort.Search(len(changes), func(i int) bool { return before(i) > offset })
	if i > 0 && changes[i-1].Delta > 0 && before(i-1) == offset {
		return []byte(changes[i-1].Key), err == nil, err
	}
	if err != nil {
		return nil, false, err
	}
	entry, ok, err := tree.At(reader, base+offset-sums[i])
	if err != nil {
		return nil, false, err
	}
	if !ok || len(entry) < keys.DocumentKeySize {
		return nil, false, fmt.Errorf("%w: no entry at offset %d", ErrCorrupt, offset)
	}
	return append(keys.AppendEntry(nil, a.id), entry...), true, nil
}
