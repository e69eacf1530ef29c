package enginetest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// History runs transactions on a database and remembers what they read and
// wrote. It is made by NewHistory and safe for concurrent use.
type History struct {
	db     *engine.DB
	schema engine.Schema
	ran    ran

	mu struct {
		sync.Mutex
		done []transaction
	}
}

// transaction is one that ended, with what its last execution did.
type transaction struct {
	at    engine.Timestamp
	wrote bool // its writes count at that time
	// refused says that it failed when it should have committed, for what its
	// operations found then.
	refused bool
	live    bool // it is what a screen shows
	name    string
	ops     []op
}

// NewHistory returns an empty history of an empty database.
func NewHistory(db *engine.DB, schema engine.Schema) *History {
	return &History{db: db, schema: schema}
}

// Rebase goes on with another database that has the same contents, such as the
// same one opened again.
func (h *History) Rebase(db *engine.DB) { h.db = db }

// Len returns the number of transactions remembered.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.mu.done)
}

// Mutate runs f as one mutation. A failed function's reads are remembered as
// well: they must have been of one state of the database too.
func (h *History) Mutate(ctx context.Context, call engine.Call, f func(*Tx) ([]byte, error)) (engine.Receipt, error) {
	var last *Tx
	var failed error
	r, err := h.db.Mutate(ctx, call, func(tx *engine.Tx) (result []byte, err error) {
		last = &Tx{Tx: tx, schema: h.schema}
		result, failed = f(last)
		return result, failed
	})
	// A replayed outcome has no execution of its own, an error without a
	// timestamp no state it rests on.
	if last != nil && !r.Replayed && r.At != 0 {
		h.add(transaction{at: r.At, wrote: r.Wrote, refused: failed == nil && refusal(err), name: call.Name, ops: last.ops})
	}
	return r, err
}

// refusal reports whether an error is one of operations.
func refusal(err error) bool {
	var bound *engine.BoundError
	var op *engine.OpError
	return errors.As(err, &bound) || errors.As(err, &op)
}

// Query runs f as one query.
func (h *History) Query(ctx context.Context, name string, f func(*Tx) error) error {
	var last *Tx
	at, err := h.db.Query(ctx, name, func(tx *engine.Tx) error {
		last = &Tx{Tx: tx, schema: h.schema}
		return f(last)
	})
	if last != nil && at != 0 {
		h.add(transaction{at: at, name: name, ops: last.ops})
	}
	return err
}

// Cut forgets the transactions at or after a timestamp, as a crash does that
// loses the newest commits. What is remembered before may no longer be followed
// by one of the same database that was lost.
func (h *History) Cut(from engine.Timestamp) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.done = slices.DeleteFunc(h.mu.done, func(t transaction) bool { return t.at >= from })
}

func (h *History) add(t transaction) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.done = append(h.mu.done, t)
}

// Check replays what is remembered in the order of its timestamps. It returns
// nil, or the first read that a serial execution would not have given. No
// transaction of the history may be running.
func (h *History) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	slices.SortStableFunc(h.mu.done, func(a, b transaction) int {
		switch {
		case a.at != b.at:
			if a.at < b.at {
				return -1
			}
			return 1
		case a.wrote != b.wrote: // who only reads at a time sees what was written at it
			if a.wrote {
				return -1
			}
			return 1
		}
		return 0
	})
	m := newModel(h.schema)
	for i, t := range h.mu.done {
		if i > 0 && t.wrote && h.mu.done[i-1].wrote && t.at == h.mu.done[i-1].at {
			return fmt.Errorf("transactions %q and %q committed at the same time, %d", h.mu.done[i-1].name, t.name, t.at)
		}
		if err := m.replay(t); err != nil {
			return fmt.Errorf("transaction %q at %d (number %d of %d): %w", t.name, t.at, i+1, len(h.mu.done), err)
		}
	}
	return nil
}

// Tx is an engine.Tx that remembers. It is not safe for use by several
// goroutines, and what the embedded one offers beyond its methods is not
// checked.
type Tx struct {
	*engine.Tx
	schema engine.Schema
	ops    []op
	scans  int
	now    time.Time // what Now has returned
}

type opKind uint8

const (
	opGet opKind = iota
	opScanStart
	opScanNext
	opScanEnd
	opCount
	opGroups
	opTotal
	opRank
	opAt
	opTop
	opCountGroups
	opInsert
	opReplace
	opPatch
	opDelete
	opApply
	opNest
	opUnnest
	opWake
)

// op is one thing a transaction did, with what it got for it.
type op struct {
	kind   opKind
	table  string
	part   string // index or aggregate
	id     value.ID
	fields value.Value
	unset  []string
	ops    []engine.Op
	rg     engine.Range
	desc   bool
	scan   int

	arg    int // a limit or an offset
	doc    engine.Document
	ok     bool
	n      int64
	groups []engine.GroupCount
	total  engine.Total
	until  engine.Timestamp // the answer changes at that time
}

func (tx *Tx) did(o op) { tx.ops = append(tx.ops, o) }

// Now is engine.Tx.Now.
func (tx *Tx) Now() time.Time {
	tx.now = tx.Tx.Now()
	return tx.now
}

// WakeAt is engine.Tx.WakeAt, for a function that has asked Now before.
func (tx *Tx) WakeAt(t time.Time) {
	tx.Tx.WakeAt(t)
	tx.Expect(t)
}

// Expect has the history expect that a live query is answered anew at t, if
// that is after what Now has returned: what a screen shows at or after that
// time is wrong, whatever it is. WakeAt includes it.
func (tx *Tx) Expect(t time.Time) {
	if t.After(tx.now) {
		tx.did(op{kind: opWake, until: engine.Timestamp(t.Add(time.Microsecond - 1).UnixMicro())})
	}
}

// Get is engine.Tx.Get.
func (tx *Tx) Get(t *engine.Table, id value.ID) (engine.Document, bool, error) {
	d, ok, err := tx.Tx.Get(t, id)
	if err == nil {
		tx.did(op{kind: opGet, table: t.Name, id: id, doc: d, ok: ok})
	}
	return d, ok, err
}

// Scan is engine.Tx.Scan over an index of a table.
func (tx *Tx) Scan(t *engine.Table, index string, r engine.Range, desc bool) iter.Seq2[engine.Document, error] {
	return func(yield func(engine.Document, error) bool) {
		tx.scans++
		scan := tx.scans
		tx.did(op{kind: opScanStart, table: t.Name, part: index, rg: r, desc: desc, scan: scan})
		for d, err := range tx.Tx.Scan(t.Index(index), r, desc) {
			if err != nil {
				yield(d, err)
				return
			}
			tx.did(op{kind: opScanNext, scan: scan, doc: d})
			if !yield(d, nil) {
				return
			}
		}
		tx.did(op{kind: opScanEnd, scan: scan})
	}
}

// Count is engine.Tx.Count over an aggregate of a table.
func (tx *Tx) Count(t *engine.Table, aggregate string, r engine.Range) (int64, error) {
	n, err := tx.Tx.Count(t.Aggregate(aggregate), r)
	if err == nil {
		tx.did(op{kind: opCount, table: t.Name, part: aggregate, rg: r, n: n})
	}
	return n, err
}

// Groups is engine.Tx.Groups over an aggregate of a table, all of them.
func (tx *Tx) Groups(t *engine.Table, aggregate string) ([]engine.GroupCount, error) {
	var groups []engine.GroupCount
	for g, err := range tx.Tx.Groups(t.Aggregate(aggregate)) {
		if err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	tx.did(op{kind: opGroups, table: t.Name, part: aggregate, groups: groups})
	return groups, nil
}

// Total is engine.Tx.Total over an aggregate of a table.
func (tx *Tx) Total(t *engine.Table, aggregate string, r engine.Range) (engine.Total, error) {
	total, err := tx.Tx.Total(t.Aggregate(aggregate), r)
	if err == nil {
		tx.did(op{kind: opTotal, table: t.Name, part: aggregate, rg: r, total: total})
	}
	return total, err
}

// Rank is engine.Tx.Rank over an aggregate of a table.
func (tx *Tx) Rank(t *engine.Table, aggregate string, r engine.Range, id value.ID, desc bool) (int64, bool, error) {
	n, ok, err := tx.Tx.Rank(t.Aggregate(aggregate), r, id, desc)
	if err == nil {
		tx.did(op{kind: opRank, table: t.Name, part: aggregate, rg: r, id: id, desc: desc, n: n, ok: ok})
	}
	return n, ok, err
}

// DocumentAt is engine.Tx.DocumentAt over an aggregate of a table.
func (tx *Tx) DocumentAt(t *engine.Table, aggregate string, r engine.Range, offset int, desc bool) (engine.Document, bool, error) {
	d, ok, err := tx.Tx.DocumentAt(t.Aggregate(aggregate), r, int64(offset), desc)
	if err == nil {
		tx.did(op{kind: opAt, table: t.Name, part: aggregate, rg: r, arg: offset, desc: desc, doc: d, ok: ok})
	}
	return d, ok, err
}

// Top is engine.Tx.Top over an aggregate of a table.
func (tx *Tx) Top(t *engine.Table, aggregate string, n int) ([]engine.GroupCount, error) {
	groups, err := tx.Tx.Top(t.Aggregate(aggregate), n)
	if err == nil {
		tx.did(op{kind: opTop, table: t.Name, part: aggregate, arg: n, groups: groups})
	}
	return groups, err
}

// CountGroups is engine.Tx.CountGroups over an aggregate of a table.
func (tx *Tx) CountGroups(t *engine.Table, aggregate string) (int64, error) {
	n, err := tx.Tx.CountGroups(t.Aggregate(aggregate))
	if err == nil {
		tx.did(op{kind: opCountGroups, table: t.Name, part: aggregate, n: n})
	}
	return n, err
}

// Insert is engine.Tx.Insert, followed by a Get that learns the creation time.
func (tx *Tx) Insert(t *engine.Table, fields value.Value) (value.ID, error) {
	id, err := tx.Tx.Insert(t, fields)
	if err != nil {
		return id, err
	}
	d, ok, err := tx.Tx.Get(t, id)
	if err != nil {
		return id, err
	}
	tx.did(op{kind: opInsert, table: t.Name, id: id, fields: fields, doc: d, ok: ok})
	return id, nil
}

// Replace is engine.Tx.Replace.
func (tx *Tx) Replace(t *engine.Table, id value.ID, fields value.Value) error {
	return tx.write(op{kind: opReplace, table: t.Name, id: id, fields: fields}, tx.Tx.Replace(t, id, fields))
}

// Patch is engine.Tx.Patch.
func (tx *Tx) Patch(t *engine.Table, id value.ID, fields value.Value, unset ...string) error {
	return tx.write(op{kind: opPatch, table: t.Name, id: id, fields: fields, unset: unset}, tx.Tx.Patch(t, id, fields, unset...))
}

// Delete is engine.Tx.Delete.
func (tx *Tx) Delete(t *engine.Table, id value.ID) error {
	return tx.write(op{kind: opDelete, table: t.Name, id: id}, tx.Tx.Delete(t, id))
}

// Apply is engine.Tx.Apply.
func (tx *Tx) Apply(t *engine.Table, id value.ID, ops ...engine.Op) error {
	err := tx.Tx.Apply(t, id, ops...)
	if err == nil {
		tx.did(op{kind: opApply, table: t.Name, id: id, ops: ops})
	}
	return err
}

// Nested is engine.Tx.Nested.
func (tx *Tx) Nested(f func() error) error {
	return tx.Tx.Nested(func() error {
		tx.did(op{kind: opNest})
		err := f()
		tx.did(op{kind: opUnnest, ok: err == nil})
		return err
	})
}

func (tx *Tx) write(o op, err error) error {
	o.ok = err == nil
	// An *engine.OpError is of operations before, and ends the execution.
	if err == nil || errors.Is(err, engine.ErrNoDocument) && !refusal(err) {
		tx.did(o)
	}
	return err
}
