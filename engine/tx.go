package engine

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// wakeDefault is when a query that looked at the time without saying when its
// answer changes is run again.
const wakeDefault = 5 * time.Second

// Tx is one execution of a function. It is valid until the function returns,
// and safe for use by several goroutines until then.
type Tx struct {
	db       *DB
	state    *state
	name     string // of the function, empty for a query
	now      time.Time
	deadline time.Time // of the clock
	write    bool
	inTurn   bool // it runs in the committer's turn

	mu struct {
		sync.Mutex
		err        error // set: every further call fails with it
		view       txn.View
		own        *txn.Overlay   // where changes go: the innermost of Nested's, or the transaction's
		nested     []*txn.Overlay // those that enclose own, the transaction's first
		pending    []pending      // operations not in the overlays, the transaction's first
		reads      txn.ReadSet
		rand       *rand.Rand
		created    float64 // creation time of the last document inserted
		readDocs   int
		readBytes  int
		wroteDocs  int
		wroteBytes int
		looked     bool // at the time
		wakeAt     time.Time
		cursors    []*cursor // scans in progress
		key        []byte    // scratch
	}
}

// newTx starts an execution on a state, on top of group where the committer
// runs it in its turn. The caller holds the state until the Tx is ended.
func (db *DB) newTx(s *state, group *txn.Overlay, write bool, now time.Time) *Tx {
	tx := &Tx{db: db, state: s, now: now, write: write, deadline: db.o.Clock.Now().Add(db.o.FunctionTimeMax)}
	m := &tx.mu
	m.view.Base = s.snap
	if write {
		m.own = new(txn.Overlay)
		m.view.Layers = append(m.view.Layers, m.own)
	}
	if group != nil {
		tx.inTurn = true
		m.view.Layers = append(m.view.Layers, group)
	}
	return tx
}

// end makes every later call fail with err, and returns what made the
// execution fail earlier, if anything did. It returns when no call is running.
// Scans that are still open end here: what they have consumed is read.
func (tx *Tx) end(err error) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	for len(tx.mu.cursors) > 0 {
		// An error makes the execution fail.
		_ = tx.closeLocked(tx.mu.cursors[len(tx.mu.cursors)-1])
	}
	before := tx.mu.err
	tx.mu.err = err
	return before
}

// enter locks the Tx for one call. The caller must leave unless it fails.
func (tx *Tx) enter() error { return tx.enterChecked(true) }

// enterChecked is enter; without the clock, a call that would be too late is let
// in unless an earlier one was noticed to be.
func (tx *Tx) enterChecked(clock bool) error {
	tx.mu.Lock()
	if clock && tx.mu.err == nil && tx.db.o.Clock.Now().After(tx.deadline) {
		tx.mu.err = ErrTimeout
	}
	if err := tx.mu.err; err != nil {
		tx.mu.Unlock()
		return err
	}
	return nil
}

func (tx *Tx) enterWrite() error {
	if !tx.write {
		return ErrReadOnly
	}
	return tx.enter()
}

func (tx *Tx) leave() { tx.mu.Unlock() }

// failLocked makes the whole execution fail: a function that ignores a broken
// limit, or a read that did not work, must not commit. The first reason stays.
func (tx *Tx) failLocked(err error) error {
	if tx.mu.err == nil {
		tx.mu.err = err
	}
	return err
}

// TimeLeft returns how long this execution may still take before its calls fail
// with ErrTimeout. What a function makes of it differs from one execution to the
// next.
func (tx *Tx) TimeLeft() time.Duration { return tx.deadline.Sub(tx.db.o.Clock.Now()) }

// RangesLeft returns how many more documents and ranges this execution may read
// one by one before its calls fail with a LimitError.
func (tx *Tx) RangesLeft() int {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return intervalsMax - tx.mu.reads.Len()
}

// HalfSpent reports whether half of the time of this execution is gone, or half of
// what it may read or write. A function that may do a part of what it was asked for
// ends then, after its first document: one that takes its whole time on a slow
// machine would fail again and again.
func (tx *Tx) HalfSpent() bool {
	if 2*tx.TimeLeft() < tx.db.o.FunctionTimeMax {
		return true
	}
	tx.mu.Lock()
	defer tx.mu.Unlock()
	m := &tx.mu
	return 2*m.reads.Len() > intervalsMax || 2*m.readDocs > documentsReadMax || 2*m.readBytes > bytesReadMax ||
		2*m.wroteDocs > documentsWrittenMax || 2*m.wroteBytes > bytesWrittenMax
}

// Now returns the time of this execution: fixed, in microseconds. A query that
// looks at it should say with WakeAt when its answer changes; without that it
// is run again every 5 seconds.
func (tx *Tx) Now() time.Time {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.mu.looked = true
	return tx.now
}

// WakeAt says that a query's answer changes at t if nothing is written before:
// the earliest of several calls counts, a time that is not after Now is
// ignored. It has no effect in a mutation.
func (tx *Tx) WakeAt(t time.Time) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if !t.After(tx.now) {
		return
	}
	if tx.mu.wakeAt.IsZero() || t.Before(tx.mu.wakeAt) {
		tx.mu.wakeAt = t
	}
}

// wake returns when the query must run again, or zero.
func (tx *Tx) wake() uint64 {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	switch {
	case !tx.mu.wakeAt.IsZero():
		// Rounded up, so that the answer has changed when the query runs again.
		return micros(tx.mu.wakeAt.Add(time.Microsecond - 1))
	case tx.mu.looked:
		return micros(tx.now.Add(wakeDefault))
	}
	return 0
}

// Rand returns this execution's source of randomness. It is not safe for use
// by several goroutines.
func (tx *Tx) Rand() *rand.Rand {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return tx.randLocked()
}

func (tx *Tx) randLocked() *rand.Rand {
	if tx.mu.rand == nil {
		tx.mu.rand = rand.New(rand.NewPCG(tx.db.seed, tx.db.seeds.Add(1)))
	}
	return tx.mu.rand
}

// At returns the timestamp of the snapshot this execution reads.
func (tx *Tx) At() Timestamp { return tx.state.at }

// Get returns the document with that id.
func (tx *Tx) Get(t *Table, id value.ID) (Document, bool, error) {
	if err := tx.enter(); err != nil {
		return Document{}, false, err
	}
	defer tx.leave()
	return tx.getLocked(t, id)
}

func (tx *Tx) getLocked(t *Table, id value.ID) (Document, bool, error) {
	if _, err := tx.tableLocked(t); err != nil {
		return Document{}, false, err
	}
	if id.Table != t.Number {
		return Document{}, false, nil // an id of another table names nothing here
	}
	key := keys.AppendRow(tx.mu.key[:0], t.Number, id.Key)
	tx.mu.key = key
	if err := tx.settleLocked(key); err != nil {
		return Document{}, false, err
	}
	tx.mu.reads.AddPoint(key)
	if err := tx.intervalsLocked(); err != nil {
		return Document{}, false, err
	}
	d, ok, err := tx.rowLocked(t, id, key)
	if err != nil {
		return Document{}, false, tx.failLocked(err)
	}
	return d, ok, nil
}

// rowLocked reads a row without recording the read.
func (tx *Tx) rowLocked(t *Table, id value.ID, key []byte) (d Document, ok bool, err error) {
	if w, changed := tx.mu.view.Changed(key); changed {
		if w.Deleted {
			return Document{}, false, nil
		}
		if err := tx.readLocked(len(w.Value)); err != nil {
			return Document{}, false, err
		}
		return ownRow(t.names, id, w.Value), true, nil
	}
	at := tx.state.at
	if d, size, ok := tx.db.rows.get(id, at); ok {
		err := tx.readLocked(size)
		return d, err == nil, err
	}
	b, ok, err := tx.state.snap.Get(key)
	if err != nil || !ok {
		return Document{}, false, err
	}
	if err := tx.readLocked(len(b)); err != nil {
		return Document{}, false, err
	}
	if d, err = keepRow(t.names, id, b); err != nil {
		return Document{}, false, err
	}
	tx.db.rows.put(d, b, at)
	return d, true, nil
}

// readLocked counts a row of that size against the limits.
func (tx *Tx) readLocked(size int) error {
	tx.mu.readDocs++
	tx.mu.readBytes += size
	switch {
	case tx.mu.readDocs > documentsReadMax:
		return tx.failLocked(&LimitError{Limit: "documents read", Max: documentsReadMax})
	case tx.mu.readBytes > bytesReadMax:
		return tx.failLocked(&LimitError{Limit: "bytes read", Max: bytesReadMax})
	}
	return nil
}

func (tx *Tx) intervalsLocked() error {
	if tx.mu.reads.Len() > intervalsMax {
		return tx.failLocked(&LimitError{Limit: "documents and ranges read one by one", Max: intervalsMax})
	}
	return nil
}

// Insert adds a document and returns its new id. fields is an object without
// _id and _creationTime.
func (tx *Tx) Insert(t *Table, fields value.Value) (value.ID, error) {
	if err := tx.enterWrite(); err != nil {
		return value.ID{}, err
	}
	defer tx.leave()
	if err := value.CheckDocument(fields); err != nil {
		return value.ID{}, fmt.Errorf("insert into %s: %w", t.Name, err)
	}
	id := value.NewID(t.Number, tx.now, tx.randLocked().Uint64())
	d := Document{ID: id, CreationTime: tx.creationTimeLocked(), Fields: fields}
	return id, tx.writeLocked(t, id, nil, &d)
}

// InsertAs adds a document under the id that it has, as an import does, and its
// creation time, where 0 stands for a new one. Errors: ErrDocumentExists,
// ErrBadDocumentID.
func (tx *Tx) InsertAs(t *Table, d Document) error {
	if err := tx.enterWrite(); err != nil {
		return err
	}
	defer tx.leave()
	if err := value.CheckDocument(d.Fields); err != nil {
		return fmt.Errorf("insert into %s: %w", t.Name, err)
	}
	if d.ID.Table != t.Number || math.IsNaN(d.CreationTime) || math.IsInf(d.CreationTime, 0) {
		return fmt.Errorf("insert %s into %s: %w", d.ID, t.Name, ErrBadDocumentID)
	}
	switch _, exists, err := tx.getLocked(t, d.ID); {
	case err != nil:
		return err
	case exists:
		return fmt.Errorf("insert %s into %s: %w", d.ID, t.Name, ErrDocumentExists)
	}
	if d.CreationTime == 0 {
		d.CreationTime = tx.creationTimeLocked()
	}
	return tx.writeLocked(t, d.ID, nil, &d)
}

// creationTimeLocked returns milliseconds since the epoch, beginning at the
// transaction's time and larger at each call.
func (tx *Tx) creationTimeLocked() float64 {
	ms := float64(tx.now.UnixMicro()) / 1000
	if tx.mu.created >= ms {
		ms = math.Nextafter(tx.mu.created, math.Inf(1))
	}
	tx.mu.created = ms
	return ms
}

// Replace puts fields in place of a document's. Error: ErrNoDocument.
func (tx *Tx) Replace(t *Table, id value.ID, fields value.Value) error {
	return tx.update(t, id, func(value.Value) value.Value { return fields }, func(string) bool { return true })
}

// Patch sets some fields of a document, whole values by name, and removes
// those named in unset. Error: ErrNoDocument.
func (tx *Tx) Patch(t *Table, id value.ID, fields value.Value, unset ...string) error {
	patched := func(old value.Value) value.Value {
		if fields.Kind() != value.KindObject {
			return fields // update refuses what is no document
		}
		return value.Patched(old, fields, unset...)
	}
	return tx.update(t, id, patched, func(field string) bool {
		return !fields.Get(field).IsUndefined() || slices.Contains(unset, field)
	})
}

// update replaces the fields of a document by what f makes of them; sets says
// which of them are set or removed.
func (tx *Tx) update(t *Table, id value.ID, f func(old value.Value) value.Value, sets func(field string) bool) error {
	if err := tx.enterWrite(); err != nil {
		return err
	}
	defer tx.leave()
	old, ok, err := tx.getLocked(t, id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("update %s in %s: %w", id, t.Name, ErrNoDocument)
	}
	fresh := Document{ID: id, CreationTime: old.CreationTime, Fields: f(old.Fields)}
	if err := value.CheckDocument(fresh.Fields); err != nil {
		return fmt.Errorf("update %s in %s: %w", id, t.Name, err)
	}
	if err := tx.writeLocked(t, id, &old, &fresh); err != nil {
		return err
	}
	tx.overwriteLocked(keys.AppendRow(nil, t.Number, id.Key), sets)
	return nil
}

// Delete removes a document. Error: ErrNoDocument.
func (tx *Tx) Delete(t *Table, id value.ID) error {
	if err := tx.enterWrite(); err != nil {
		return err
	}
	defer tx.leave()
	old, ok, err := tx.getLocked(t, id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("delete %s from %s: %w", id, t.Name, ErrNoDocument)
	}
	if err := tx.writeLocked(t, id, &old, nil); err != nil {
		return err
	}
	tx.overwriteLocked(keys.AppendRow(nil, t.Number, id.Key), func(string) bool { return true })
	return nil
}

// wroteLocked counts a document of that size against the limits.
func (tx *Tx) wroteLocked(size int) error {
	tx.mu.wroteDocs++
	tx.mu.wroteBytes += size
	switch {
	case tx.mu.wroteDocs > documentsWrittenMax:
		return tx.failLocked(&LimitError{Limit: "documents written", Max: documentsWrittenMax})
	case tx.mu.wroteBytes > bytesWrittenMax:
		return tx.failLocked(&LimitError{Limit: "bytes written", Max: bytesWrittenMax})
	}
	return nil
}

func (tx *Tx) writeLocked(t *Table, id value.ID, old, fresh *Document) error {
	t, err := tx.tableLocked(t)
	if err != nil {
		return err
	}
	size := 0
	if fresh != nil {
		size = value.Size(fresh.Fields)
	}
	if err := tx.wroteLocked(size); err != nil {
		return err
	}
	for _, ix := range t.indexes {
		if fresh == nil || !ix.unique || ix.status == statusFailed || old != nil && string(ix.key(*old)) == string(ix.key(*fresh)) {
			continue
		}
		if err := tx.claimLocked(ix, *fresh); err != nil {
			return err
		}
	}
	if err := t.change(tx.mu.own, id, old, fresh); err != nil {
		// Part of the change may be in the overlay.
		return tx.failLocked(err)
	}
	return nil
}

// call runs f as the whole execution, turning a panic into an error.
func (tx *Tx) call(f func(*Tx) ([]byte, error)) (result []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = newPanicError(r)
		}
		if before := tx.end(ErrTxDone); before != nil && (err == nil || !errors.Is(err, before)) {
			err = before
		}
		now := tx.db.o.Clock.Now()
		if err == nil && now.After(tx.deadline) {
			err = ErrTimeout
		}
		tx.told(tx.db.o.FunctionTimeMax + now.Sub(tx.deadline))
	}()
	return f(tx)
}
