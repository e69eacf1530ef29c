package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// pending are operations that a transaction, or one nested in it, has not done
// on its own overlay, by row.
type pending map[string]*rowOps

// rowOps are the operations on one row.
type rowOps struct {
	table *Table
	id    value.ID
	ops   []Op // in their order
	// stamps are the fields that get the time of the commit and are undefined in
	// the overlay. No operation is on one of them.
	stamps []string
	// settled says that what the enclosing transactions have pending of the row is
	// in this one's overlay and in stamps.
	settled bool
}

// Apply does operations on a document without reading it: they are done on what
// it is when the transaction commits, in the order of commits. Calls that do
// nothing but Apply never repeat each other, however many write to one
// document.
//
// What only the commit can tell makes the whole transaction fail then: an
// *OpError for a document that is not there or a field of another type, a
// *BoundError, or a document grown past its limits. Once the transaction reads the document,
// or looks into an index or aggregate of its table, the operations before that
// are done at once, and the transaction depends on what it read like any other.
//
// An operation on a field of a unique index is refused.
func (tx *Tx) Apply(t *Table, id value.ID, ops ...Op) error {
	if err := tx.enterWrite(); err != nil {
		return err
	}
	defer tx.leave()
	now, err := tx.tableLocked(t)
	if err != nil {
		return err
	}
	for _, o := range ops {
		reason := o.check()
		if ix := now.uniqueOn(o.Field); reason == "" && ix != nil {
			reason = fmt.Sprintf("it is a field of the unique index %s: read the document and patch it", ix.Name)
		}
		if reason != "" {
			return &OpError{Table: t.Name, ID: id, Op: o.Kind, Field: o.Field, Reason: reason}
		}
	}
	if id.Table != t.Number {
		return fmt.Errorf("update %s in %s: %w", id, t.Name, ErrNoDocument)
	}
	key := keys.AppendRow(make([]byte, 0, 32), t.Number, id.Key)
	own := false
	for _, o := range tx.mu.view.Layers[:len(tx.mu.nested)+1] { // its own, the innermost first
		if w, changed := o.Get(key); changed {
			if own = true; w.Deleted {
				return fmt.Errorf("update %s in %s: %w", id, t.Name, ErrNoDocument)
			}
			break
		}
	}
	size := 0
	for _, o := range ops {
		size += len(o.Field) + value.Size(o.Value)
	}
	if err := tx.wroteLocked(size); err != nil {
		return err
	}
	before := tx.opsLocked(string(key))
	for _, o := range ops {
		if before.stamped(o.Field) && o.Kind != OpCommitTime {
			return &OpError{Table: t.Name, ID: id, Op: o.Kind, Field: o.Field, Reason: "the transaction sets it to the time of its commit"}
		}
		before.ops = append(before.ops, o)
	}
	level := tx.pendingLocked()
	r := level[string(key)]
	if r == nil {
		r = &rowOps{table: now, id: id}
		level[string(key)] = r
	}
	r.ops = append(r.ops, ops...)
	// A scan in progress has to see the change, and the row has been read anyway
	// when this transaction has changed it.
	if own || slices.ContainsFunc(tx.mu.cursors, func(c *cursor) bool { return c.table == t.Number }) {
		return tx.settleLocked(key)
	}
	return nil
}

// uniqueOn returns the unique index that has a field, or a field inside of it.
func (t *Table) uniqueOn(field string) *Index {
	for _, ix := range t.indexes {
		if ix.unique && ix.status != statusFailed && slices.ContainsFunc(ix.fields, func(f string) bool {
			return f == field || strings.HasPrefix(f, field+".")
		}) {
			return ix
		}
	}
	return nil
}

// pendingLocked returns what the innermost transaction has pending, to add to.
func (tx *Tx) pendingLocked() pending {
	depth := len(tx.mu.nested)
	for len(tx.mu.pending) <= depth {
		tx.mu.pending = append(tx.mu.pending, nil)
	}
	if tx.mu.pending[depth] == nil {
		tx.mu.pending[depth] = pending{}
	}
	return tx.mu.pending[depth]
}

// stamped reports whether a field gets the time of the commit.
func (r *rowOps) stamped(field string) bool {
	return slices.Contains(r.stamps, field) ||
		slices.ContainsFunc(r.ops, func(o Op) bool { return o.Kind == OpCommitTime && o.Field == field })
}

// opsLocked returns what is pending of a row, the enclosing transactions' first.
func (tx *Tx) opsLocked(key string) (all rowOps) {
	for i := len(tx.mu.pending) - 1; i >= 0; i-- {
		r := tx.mu.pending[i][key]
		if r == nil {
			continue
		}
		all.table, all.id = r.table, r.id
		all.ops = slices.Concat(r.ops, all.ops)
		all.stamps = slices.Concat(r.stamps, all.stamps)
		if r.settled {
			break
		}
	}
	return all
}

// settleLocked does what is pending of a row on the transaction's overlay, which
// makes it a row that the transaction has read.
func (tx *Tx) settleLocked(key []byte) error {
	if len(tx.mu.pending) == 0 {
		return nil
	}
	r := tx.opsLocked(string(key))
	if len(r.ops) == 0 {
		return nil
	}
	tx.mu.reads.AddPoint(key)
	if err := tx.intervalsLocked(); err != nil {
		return err
	}
	old, ok, err := tx.rowLocked(r.table, r.id, key)
	if err == nil && !ok {
		err = r.missing()
	}
	if err != nil {
		return tx.failLocked(err)
	}
	if err := r.change(tx.mu.own, old, 0); err != nil {
		return tx.failLocked(err)
	}
	for _, o := range r.ops {
		if o.Kind == OpCommitTime && !slices.Contains(r.stamps, o.Field) {
			r.stamps = append(r.stamps, o.Field)
		}
	}
	r.ops, r.settled = nil, true
	tx.pendingLocked()[string(key)] = &r
	return nil
}

func (r *rowOps) missing() error {
	return &OpError{Table: r.table.Name, ID: r.id, Op: r.ops[0].Kind, Field: r.ops[0].Field, Reason: ErrNoDocument.Error(), cause: ErrNoDocument}
}

// change puts what the operations make of a document into an overlay. Commit
// times are at, and left out where that is 0.
func (r *rowOps) change(o *txn.Overlay, old Document, at Timestamp) error {
	fields, changed, err := apply(r.table, r.id, old.Fields, r.ops, at)
	if err != nil || !changed {
		return err
	}
	fresh := Document{ID: r.id, CreationTime: old.CreationTime, Fields: fields}
	return r.table.change(o, r.id, &old, &fresh)
}

// overwriteLocked forgets the commit times of the fields of a row that drop says
// so of: they are about to be written otherwise. REQUIRES: the row is settled.
func (tx *Tx) overwriteLocked(key []byte, drop func(field string) bool) {
	if len(tx.mu.pending) == 0 {
		return
	}
	if r := tx.opsLocked(string(key)); len(r.stamps) > 0 {
		r.stamps, r.settled = slices.DeleteFunc(r.stamps, drop), true
		tx.pendingLocked()[string(key)] = &r
	}
}

// settleTableLocked settles all rows of a table.
func (tx *Tx) settleTableLocked(table uint32) error {
	if len(tx.mu.pending) == 0 {
		return nil
	}
	var rows map[string]bool // made when needed: most of what is pending may be settled already, but for its stamps
	for _, level := range tx.mu.pending {
		for key, r := range level {
			if r.id.Table != table || len(r.ops) == 0 {
				continue
			}
			if rows == nil {
				rows = map[string]bool{}
			}
			rows[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if err := tx.settleLocked([]byte(key)); err != nil {
			return err
		}
	}
	return nil
}

// mergePendingLocked makes what a nested transaction has pending part of the one
// around it, or drops it.
func (tx *Tx) mergePendingLocked(depth int, keep bool) {
	if len(tx.mu.pending) <= depth+1 {
		return
	}
	inner := tx.mu.pending[depth+1]
	tx.mu.pending = tx.mu.pending[:depth+1]
	if !keep || inner == nil {
		return
	}
	outer := tx.pendingLocked()
	for key, r := range inner {
		if have := outer[key]; have != nil && !r.settled {
			have.ops = append(have.ops, r.ops...)
			continue
		}
		outer[key] = r
	}
}

// unresolved returns what is pending when a transaction's function has returned,
// in the order of the rows.
func (tx *Tx) unresolved() (out []rowOps) {
	if len(tx.mu.pending) == 0 {
		return nil
	}
	level := tx.mu.pending[0]
	for _, key := range slices.Sorted(maps.Keys(level)) {
		r := *level[key]
		for _, f := range r.stamps {
			r.ops = append(r.ops, CommitTime(f))
		}
		if r.stamps = nil; len(r.ops) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// warm brings the rows of operations into the cache, so that the committer need
// not wait for the disk. An error comes back when it reads them itself.
func (tx *Tx) warm(rows []rowOps) {
	for _, r := range rows {
		if r.settled {
			continue // it is in the overlay, and if it is new nowhere else
		}
		if _, _, ok := tx.db.rows.get(r.id, tx.state.at); ok {
			continue
		}
		b, ok, err := tx.state.snap.Get(keys.AppendRow(nil, r.id.Table, r.id.Key))
		if err != nil || !ok {
			continue
		}
		if d, err := keepRow(r.table.names, r.id, b); err == nil {
			tx.db.rows.put(d, b, tx.state.at)
		}
	}
}
