package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/value"
)

// An aggregate counts all documents of its table, and a function may know of a few
// that are not to count, as of visitors who have left and whose rows are still to
// be cleared away. Documents finds them by the order of an aggregate, and Count,
// Groups, Top and CountGroups leave them out.

// changedGroup is a group whose count a transaction sees otherwise than it is in
// the state: by its own changes, and without documents that are not to count.
type changedGroup struct {
	group  string // its values as they are in entries
	delta  int64
	was    int64 // the count in the state, once it is known
	ranked bool  // was is known from the ranking
}

type changedGroups struct {
	all []changedGroup
	at  map[string]int // places in all
}

func (c *changedGroups) add(group []byte, delta int64) {
	i, ok := c.at[string(group)]
	if !ok {
		i = len(c.all)
		c.all = append(c.all, changedGroup{group: string(group)})
		if c.at == nil {
			c.at = make(map[string]int)
		}
		c.at[c.all[i].group] = i
	}
	c.all[i].delta += delta
}

// find returns the group if its count is another one.
func (c *changedGroups) find(group []byte) *changedGroup {
	if len(c.all) == 0 {
		return nil
	}
	if i, ok := c.at[string(group)]; ok && c.all[i].delta != 0 {
		return &c.all[i]
	}
	return nil
}

// changedGroupsLocked returns the groups that the layers above the state change,
// and those of documents that are not to count.
func (tx *Tx) changedGroupsLocked(a *Aggregate, without []Document) (changes changedGroups, err error) {
	if len(without) > 0 {
		changes = changedGroups{make([]changedGroup, 0, len(without)), make(map[string]int, len(without))}
	}
	for _, c := range tx.mu.view.Entries(keys.Prefixed(keys.AppendEntry(nil, a.id))) {
		group, err := a.groupOf([]byte(c.Key[entryPrefix:]))
		if err != nil {
			return changes, err
		}
		changes.add(group, int64(c.Delta))
	}
	for _, d := range without {
		tx.mu.key = a.appendGroup(tx.mu.key[:0], d)
		changes.add(tx.mu.key, -1)
	}
	return changes, nil
}

// appendGroup appends what names the group of a document in its entry.
func (a *Aggregate) appendGroup(dst []byte, d Document) []byte {
	for _, f := range a.fields[:a.groups] {
		dst = value.AppendOrdered(dst, d.Fields.Path(f))
	}
	return dst
}

// Documents returns the first documents of a range of an aggregate in its order, at
// most n, the transaction's own changes included. It costs O(log n) and the reading
// of each. Where documents move all the time, as in the order of when something was
// seen last, it costs less than the scan of an index: that goes over what the store
// still has of the places they have left.
//
// The transaction depends on the part of the range that was gone through, and on
// each document.
func (tx *Tx) Documents(a *Aggregate, r Range, n int) ([]Document, error) {
	rg, err := a.bytes(r)
	if err != nil || rg.Empty() || n <= 0 {
		return nil, err
	}
	if err := tx.enter(); err != nil {
		return nil, err
	}
	defer tx.leave()
	if a, err = tx.aggregateLocked(a); err != nil {
		return nil, err
	}
	var found [][keys.DocumentKeySize]byte
	short := false
	last, more, err := tx.eachEntryLocked(a, rg, n, func(entry []byte) {
		if short = short || len(entry) < keys.DocumentKeySize; !short {
			found = append(found, [keys.DocumentKeySize]byte(entry[len(entry)-keys.DocumentKeySize:]))
		}
	})
	if short && err == nil {
		err = fmt.Errorf("%w: an entry names no document", ErrCorrupt)
	}
	if err != nil {
		return nil, tx.failLocked(fmt.Errorf("list %s of %s: %w", a.Name, a.table.Name, err))
	}
	tx.mu.reads.AddRange(a.readUpTo(rg, last, more))
	docs := make([]Document, 0, len(found))
	for _, key := range found {
		id := value.ID{Table: a.table.Number, Key: key}
		d, ok, err := tx.getLocked(a.table, id)
		if err == nil && !ok {
			err = tx.failLocked(fmt.Errorf("%w: aggregate %s of %s counts %s, which is missing", ErrCorrupt, a.Name, a.table.Name, id))
		}
		if err != nil {
			return nil, err
		}
		docs = append(docs, d)
	}
	return docs, tx.intervalsLocked()
}

// readUpTo returns the part of a range up to the last entry that was read, or all of
// it when there are no more.
func (a *Aggregate) readUpTo(rg keys.Range, last []byte, more bool) keys.Range {
	if more {
		rg.End = keys.Next(append(keys.AppendEntry(nil, a.id), last...))
	}
	return rg
}

// eachEntryLocked calls visit with the first n entries of a range, without their
// prefix: those of the state, less those that the layers above it remove, and those
// that they add. An entry is valid for the call. It returns the last one when there may be more.
func (tx *Tx) eachEntryLocked(a *Aggregate, rg keys.Range, n int, visit func(entry []byte)) (last []byte, more bool, err error) {
	add := func(entry []byte) bool {
		visit(entry)
		if n--; n == 0 {
			last, more = bytes.Clone(entry), true
		}
		return !more
	}
	from, to := treeRange(rg)
	changes := tx.mu.view.Entries(rg)
	err = tx.state.trees[a.slot].Ascend(tx.reader(), from, func(entry []byte) bool {
		if to != nil && bytes.Compare(entry, to) >= 0 {
			return false
		}
		for len(changes) > 0 {
			c := changes[0]
			order := strings.Compare(c.Key[entryPrefix:], string(entry))
			if order > 0 {
				break
			}
			changes = changes[1:]
			if order == 0 && c.Delta < 0 {
				return true
			}
			if order < 0 && c.Delta > 0 && !add([]byte(c.Key[entryPrefix:])) {
				return false
			}
		}
		return add(entry)
	})
	for _, c := range changes {
		if more || err != nil || c.Delta > 0 && !add([]byte(c.Key[entryPrefix:])) {
			break
		}
	}
	return last, more, err
}

// Version names what an aggregate holds. Two that are equal hold the same documents
// in the same groups, so what was computed from it may be kept by it.
type Version struct {
	db        *DB
	aggregate uint32
	root      aggregate.Ref
}

// Version returns the version of an aggregate. ok is false in a mutation, whose own
// changes have none. It costs O(1), and the transaction depends on all of the
// aggregate.
func (tx *Tx) Version(a *Aggregate) (v Version, ok bool, err error) {
	if tx.write {
		return Version{}, false, nil
	}
	if err := tx.enter(); err != nil {
		return Version{}, false, err
	}
	defer tx.leave()
	if a, err = tx.aggregateLocked(a); err != nil {
		return Version{}, false, err
	}
	tx.mu.reads.AddRange(keys.Prefixed(keys.AppendEntry(nil, a.id)))
	if err := tx.intervalsLocked(); err != nil {
		return Version{}, false, err
	}
	return Version{db: tx.db, aggregate: a.id, root: tx.state.trees[a.slot].Root}, true, nil
}

// Identity returns what tells the first n documents of a range of an aggregate, with
// the values of its fields, from any others. It reads no document. The transaction
// depends on the part of the range that was gone through.
func (tx *Tx) Identity(a *Aggregate, r Range, n int) (string, error) {
	rg, err := a.bytes(r)
	if err != nil || rg.Empty() || n <= 0 {
		return "", err
	}
	if err := tx.enter(); err != nil {
		return "", err
	}
	defer tx.leave()
	if a, err = tx.aggregateLocked(a); err != nil {
		return "", err
	}
	var identity []byte
	last, more, err := tx.eachEntryLocked(a, rg, n, func(entry []byte) {
		identity = append(binary.AppendUvarint(identity, uint64(len(entry))), entry...)
	})
	if err != nil {
		return "", tx.failLocked(fmt.Errorf("list %s of %s: %w", a.Name, a.table.Name, err))
	}
	tx.mu.reads.AddRange(a.readUpTo(rg, last, more))
	return string(identity), tx.intervalsLocked()
}
