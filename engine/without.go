package engine

import (
	"bytes"
	"fmt"
	"strings"

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
	found, err := tx.entriesLocked(a, rg, n)
	if err != nil {
		return nil, tx.failLocked(fmt.Errorf("list %s of %s: %w", a.Name, a.table.Name, err))
	}
	if found.more {
		rg.End = keys.Next(append(keys.AppendEntry(nil, a.id), found.last...))
	}
	tx.mu.reads.AddRange(rg)
	docs := make([]Document, 0, len(found.documents))
	for _, key := range found.documents {
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

// listed is what entriesLocked has found.
type listed struct {
	documents [][keys.DocumentKeySize]byte
	last      []byte // the last entry
	more      bool   // there may be more of them
}

// entriesLocked lists the first n entries of a range: those of the state, less those
// that the layers above it remove, and those that they add.
func (tx *Tx) entriesLocked(a *Aggregate, rg keys.Range, n int) (found listed, err error) {
	short := false
	add := func(entry []byte) bool {
		if len(entry) < keys.DocumentKeySize {
			short = true
			return false
		}
		found.documents = append(found.documents, [keys.DocumentKeySize]byte(entry[len(entry)-keys.DocumentKeySize:]))
		if found.more = len(found.documents) == n; found.more {
			found.last = bytes.Clone(entry)
		}
		return !found.more
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
		if found.more || err != nil || c.Delta > 0 && !add([]byte(c.Key[entryPrefix:])) {
			break
		}
	}
	if short && err == nil {
		err = fmt.Errorf("%w: an entry names no document", ErrCorrupt)
	}
	return found, err
}
