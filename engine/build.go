package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// How an index or an aggregate comes to be on a table that has documents, while
// commits go on.
//
//  1. The commit that declares it begins a new catalog. The committer accepts
//     no attempt that was executed under an older one, so every later change of
//     a document also changes its entries: Table.change.
//  2. The builder fills it from the rows, in chunks. A chunk is an ordinary
//     transaction: it has read the rows it covers, so when one of them changes
//     before it commits, it is executed again. After it, each row that it covers
//     has the entry of its newest version, and by 1 that stays so. A row that
//     changes before its chunk comes may already have its entry; putting it again
//     changes nothing.
//  3. An index is ready then. An aggregate has been filled as a hidden index until
//     now, because blocks can be written well only in the order of entries. The
//     builder pours it into the tree, again in chunks, which the committer makes
//     as it writes a group (pour.go): the tree has exactly the entries below a
//     cursor, and changes of entries at or above it are left to the hidden index.
//  4. A ranking follows when its aggregate is ready, from group to group.
//  5. A last commit begins a catalog in which it is ready.
//
// How far it has come is written with every chunk, so that a crash costs a chunk.

// phase is what a build is at.
type phase uint8

const (
	phaseFill phase = iota // entries are put for rows before the cursor
	phasePour              // the tree has the entries, or the ranking the groups, before the cursor
	phaseDone              // everything is there
)

// progress is how far a build has come. It is immutable.
type progress struct {
	phase       phase
	done, total int64 // rows, entries or groups of all phases
	cursor      []byte
}

const progressVersion = 1

func (p progress) begun() bool { return p.phase != phaseFill || p.cursor != nil }

// append appends a progress as it is stored: version (1), phase (1), done and
// total (8 each, big-endian), cursor.
func (p progress) append(dst []byte) []byte {
	dst = append(dst, progressVersion, byte(p.phase))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.done))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.total))
	return append(dst, p.cursor...)
}

const progressHeader = 1 + 1 + 8 + 8

func decodeProgress(b []byte) (progress, error) {
	switch {
	case len(b) > 0 && b[0] > progressVersion:
		return progress{}, fmt.Errorf("%w: progress of a build in version %d, this program reads %d", ErrNewerFormat, b[0], progressVersion)
	case len(b) < progressHeader || b[0] == 0 || b[1] > byte(phaseDone):
		return progress{}, fmt.Errorf("%w: progress of a build of %d bytes", ErrCorrupt, len(b))
	}
	p := progress{phase: phase(b[1]), done: int64(binary.BigEndian.Uint64(b[2:])), total: int64(binary.BigEndian.Uint64(b[10:]))}
	if len(b) > progressHeader {
		p.cursor = slices.Clone(b[progressHeader:])
	}
	return p, nil
}

// buildKey returns the key of the progress of a part.
func buildKey(id uint32) []byte {
	return binary.BigEndian.AppendUint32(metaKey(metaBuild), id)
}

// isProgress reports whether a key is that of a progress. It follows from rows
// and is no part of change records.
func isProgress(key []byte) bool {
	return len(key) == 1+len(metaBuild)+4 && key[0] == keys.PrefixMeta && string(key[1:1+len(metaBuild)]) == metaBuild
}

func readBuilds(snap *store.Snapshot) (map[uint32]progress, error) {
	out := map[uint32]progress{}
	return out, eachMeta(snap, metaBuild, func(name string, val []byte) error {
		id := name[len(metaBuild):]
		if len(id) != 4 {
			return fmt.Errorf("%w: progress of a build under %q", ErrCorrupt, name)
		}
		p, err := decodeProgress(val)
		out[binary.BigEndian.Uint32([]byte(id))] = p
		return err
	})
}

// Build is an index, an aggregate or the ranking of an aggregate on its way.
type Build struct {
	Table, Index string
	Ranking      bool
	// Done and Total are steps, for the sake of their ratio: rows, and for an
	// aggregate entries too. Total is 0 while it is not known.
	Done, Total int64
	// Err is set when it cannot be built from the documents there are; then it
	// is tried again when the database is opened the next time.
	Err error
}

// The sizes of builds.
const (
	// fillRows and pourEntries are how many rows or entries one chunk covers. A
	// chunk delays the commits beside it by about a millisecond.
	fillRows = 256
	// fillRowsBesides is fillRows while others commit: a chunk is a step of the
	// committer that they wait for, and takes a processor between two of them.
	fillRowsBesides = 64
	pourEntries     = 512
	rankGroups      = 64
	// builtAtOpenRows is up to how many rows Open waits for the builds of a table.
	builtAtOpenRows = 10_000
	// buildRetry is how long the builder waits after a failure that may pass.
	buildRetry = time.Second
)

// builder builds what the catalog says is building, one part after the other.
// DB.Open starts it, and it ends when the database closes.
type builder struct {
	db   *DB
	wake chan struct{}
	// accepted is how many transactions had committed before the last chunk.
	accepted uint64
	mu       struct {
		sync.Mutex
		failed  map[uint32]error
		changed chan struct{} // closed when a part is ready or has failed
	}
}

func newBuilder(db *DB) *builder {
	b := &builder{db: db, wake: make(chan struct{}, 1)}
	b.mu.failed, b.mu.changed = map[uint32]error{}, make(chan struct{})
	return b
}

// look makes the builder look for something to build.
func (b *builder) look() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// built is a part to build, in one catalog.
type built struct {
	id    uint32
	meta  string
	table *Table
	index *Index
	agg   *Aggregate
	// ranking says that it is the ranking of agg, which is ready by then.
	ranking bool
}

// building returns the parts that can be built now, in order.
func (c *catalog) building() (out []built) {
	for _, number := range slices.Sorted(maps.Keys(c.byNumber)) {
		t := c.byNumber[number]
		for _, ix := range t.indexes {
			if ix.status == statusBuilding {
				out = append(out, built{id: ix.id, meta: ix.meta, table: t, index: ix})
			}
		}
		for _, a := range t.aggregates {
			if a.status == statusBuilding {
				out = append(out, built{id: a.id, meta: a.meta, table: t, agg: a})
			}
			if a.ranking != nil && a.ranking.status == statusBuilding {
				out = append(out, built{id: a.ranking.id, meta: a.ranking.meta, table: t, agg: a, ranking: true})
			}
		}
	}
	return out
}

func (b built) name() string {
	if b.index != nil {
		return b.index.Name
	}
	return b.agg.Name
}

// run builds until the database closes.
func (b *builder) run() {
	for {
		for {
			parts := b.db.catalog().building()
			if len(parts) == 0 {
				break
			}
			if err := b.build(parts[0].id); err != nil {
				if errors.Is(err, ErrClosed) || errors.Is(err, ErrFailed) {
					return
				}
				b.tell(parts[0], err, true)
				if !b.pause(buildRetry) {
					return
				}
			}
		}
		select {
		case <-b.wake:
		case <-b.db.closing:
			return
		}
	}
}

// pause reports false when the database closes.
func (b *builder) pause(d time.Duration) bool {
	passed := make(chan struct{})
	stop := b.db.o.Clock.AfterFunc(d, func() { close(passed) })
	defer stop()
	select {
	case <-passed:
		return true
	case <-b.db.closing:
		return false
	}
}

// errUnbuildable marks what no retry can help.
type errUnbuildable struct{ cause error }

func (e *errUnbuildable) Error() string { return e.cause.Error() }
func (e *errUnbuildable) Unwrap() error { return e.cause }

// build takes one part as far as it goes: until it is ready, has failed, or is
// no longer in the catalog.
func (b *builder) build(id uint32) error {
	rows := fillRows
	for {
		if b.db.o.buildHook != nil {
			b.db.o.buildHook()
		}
		part, p, ok := b.find(id)
		if !ok {
			return nil
		}
		var err error
		switch {
		case part.ranking && part.agg.status == statusFailed:
			return b.end(part, errors.New("its aggregate could not be built"))
		case !p.begun() && p.total == 0:
			err = b.begin(part)
			b.besides() // from here on
		case p.phase == phaseDone:
			return b.end(part, nil)
		case p.phase == phaseFill:
			n := rows
			if b.besides() {
				n = min(rows, fillRowsBesides)
			}
			if err = b.fill(part, n); errors.Is(err, ErrTimeout) && rows > 1 {
				rows /= 2
				continue
			}
		default:
			err = b.pour(part)
		}
		var bad *errUnbuildable
		if errors.As(err, &bad) {
			return b.end(part, bad.cause)
		}
		if err != nil {
			return err
		}
	}
}

// besides reports whether others have committed since it was last asked, once.
func (b *builder) besides() bool {
	accepted := b.db.Stats().Commits
	before := b.accepted
	b.accepted = accepted
	return accepted > before+1 // one is the builder's own
}

// find returns a part that is building and how far it is, as applied.
func (b *builder) find(id uint32) (built, progress, bool) {
	s := b.db.states.beginAttempt()
	defer b.db.states.endAttempt(s)
	for _, part := range s.catalog.building() {
		if part.id == id {
			return part, s.builds[id], true
		}
	}
	return built{}, progress{}, false
}

// mutate runs a step of a build as a transaction.
func (b *builder) mutate(step *buildStep, f func(tx *Tx) error) error {
	_, err := b.db.Mutate(context.Background(), Call{Name: "build of an index", step: step}, func(tx *Tx) ([]byte, error) { return nil, f(tx) })
	return err
}

// begin counts what there is to do.
func (b *builder) begin(part built) error {
	s := b.db.states.acquireDurable()
	defer b.db.states.release(s)
	var p progress
	switch {
	case part.ranking:
		p.phase = phasePour
		p.total = 1 + s.trees[part.agg.slot].Entries
	default:
		n, err := countRows(s.snap, part.table.Number, -1, b.db.closing)
		if err != nil {
			return err
		}
		if p.total = 1 + n; part.agg != nil {
			p.total = 1 + 2*n
		}
	}
	return b.mutate(&buildStep{}, func(tx *Tx) error { return tx.setProgress(part.id, p) })
}

// countRows returns the number of rows of a table, or one more than max when
// there are more and max is not negative.
func countRows(snap *store.Snapshot, table uint32, max int64, closing <-chan struct{}) (n int64, err error) {
	r := keys.Prefixed(keys.AppendRows(nil, table))
	it, err := snap.Iterate(r.Start, r.End)
	if err != nil {
		return 0, err
	}
	for ok := it.First(); ok && (max < 0 || n <= max); ok = it.Next() {
		if n++; n%4096 == 0 {
			select {
			case <-closing:
				return 0, errors.Join(ErrClosed, it.Close())
			default:
			}
		}
	}
	return n, errors.Join(it.Err(), it.Close())
}

// fill puts the entries of the next rows.
func (b *builder) fill(part built, rows int) error {
	return b.mutate(&buildStep{}, func(tx *Tx) error { return tx.fill(part.id, rows) })
}

// pour has the committer move the next entries into the tree.
func (b *builder) pour(part built) error {
	n := pourEntries
	if part.ranking {
		n = rankGroups
	}
	return b.mutate(&buildStep{id: part.id, pour: n}, func(tx *Tx) error {
		// What is written here only makes it a transaction that writes; the
		// committer says how far it came.
		return tx.setProgress(part.id, tx.state.builds[part.id])
	})
}

// end makes a part ready, or failed for a reason.
func (b *builder) end(part built, cause error) error {
	if err := b.db.enter(); err != nil {
		return err
	}
	defer b.db.exit()
	status := statusReady
	if cause != nil {
		status = statusFailed
	}
	err := b.db.reshape(context.Background(), func(base *state) (*revision, error) {
		entry, ok, err := base.snap.Get([]byte(part.meta))
		if err != nil || !ok {
			return nil, err // it has been dropped
		}
		stored, err := decodePart(entry)
		if err != nil || stored.id != part.id {
			return nil, err
		}
		if cause == nil && base.builds[part.id].phase != phaseDone {
			return nil, nil
		}
		stored.status = status
		rev := &revision{catalog: base.catalog.with(part.id, status), writes: new(txn.Overlay), builds: maps.Clone(base.builds)}
		rev.writes.Set([]byte(part.meta), txn.Write{Value: stored.append(nil)})
		rev.writes.Delete(buildKey(part.id))
		delete(rev.builds, part.id)
		switch {
		case cause != nil:
			rev.drops = partRanges(part.id)
		case part.agg != nil:
			rev.drops = []keys.Range{keys.Prefixed(keys.AppendIndex(nil, part.id))} // the hidden index
		}
		return rev, nil
	})
	if err != nil {
		return err
	}
	b.tell(part, cause, false)
	b.mu.Lock()
	defer b.mu.Unlock()
	if cause != nil {
		b.mu.failed[part.id] = fmt.Errorf("build %s of %s: %w: %w", part.name(), part.table.Name, ErrBuildFailed, cause)
	}
	close(b.mu.changed)
	b.mu.changed = make(chan struct{})
	return nil
}

func (b *builder) tell(part built, err error, retry bool) {
	if b.db.events.Build != nil {
		b.db.events.Build(BuildEvent{Table: part.table.Name, Index: part.name(), Err: err, Retry: retry})
	}
}

// Building returns the indexes and aggregates that are being built or could not
// be, as of the newest durable state.
func (db *DB) Building() []Build {
	if db.enter() != nil {
		return nil
	}
	defer db.exit()
	s := db.states.acquireDurable()
	defer db.states.release(s)
	return db.builder.list(s)
}

func (b *builder) list(s *state) (out []Build) {
	add := func(id uint32, status partStatus, build Build) {
		switch status {
		case statusBuilding:
			p := s.builds[id]
			build.Done, build.Total = p.done, p.total
		case statusFailed:
			b.mu.Lock()
			defer b.mu.Unlock()
			if build.Err = b.mu.failed[id]; build.Err == nil {
				build.Err = ErrBuildFailed
			}
		default:
			return
		}
		out = append(out, build)
	}
	for _, number := range slices.Sorted(maps.Keys(s.catalog.byNumber)) {
		t := s.catalog.byNumber[number]
		for _, ix := range t.indexes {
			add(ix.id, ix.status, Build{Table: t.Name, Index: ix.Name})
		}
		for _, a := range t.aggregates {
			add(a.id, a.status, Build{Table: t.Name, Index: a.Name})
			if a.ranking != nil {
				add(a.ranking.id, a.ranking.status, Build{Table: t.Name, Index: a.Name, Ranking: true})
			}
		}
	}
	return out
}

// WaitBuilt waits until nothing is being built. It fails with the reasons of what
// could not be built: these are ErrBuildFailed.
func (db *DB) WaitBuilt(ctx context.Context) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.exit()
	return db.waitBuilt(ctx, func(Build) bool { return true })
}

// waitBuilt is WaitBuilt for some of the parts.
func (db *DB) waitBuilt(ctx context.Context, which func(Build) bool) error {
	for {
		db.builder.mu.Lock()
		changed := db.builder.mu.changed
		db.builder.mu.Unlock()
		s := db.states.acquireDurable()
		list := db.builder.list(s)
		db.states.release(s)
		var failed []error
		wait := false
		for _, build := range list {
			if build.Err != nil {
				failed = append(failed, build.Err)
			} else if which(build) {
				wait = true
			}
		}
		if !wait {
			return errors.Join(failed...)
		}
		select {
		case <-changed:
		case <-db.failed:
			return ErrFailed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// smallTables returns the tables with parts to build that have few rows.
func (db *DB) smallTables(s *state) (map[string]bool, error) {
	small := map[string]bool{}
	for _, part := range s.catalog.building() {
		if _, known := small[part.table.Name]; known {
			continue
		}
		n, err := countRows(s.snap, part.table.Number, db.o.builtAtOpen, nil)
		if err != nil {
			return nil, err
		}
		small[part.table.Name] = n <= db.o.builtAtOpen
	}
	return small, nil
}

// setProgress writes how far a build is.
func (tx *Tx) setProgress(id uint32, p progress) error {
	if err := tx.enterWrite(); err != nil {
		return err
	}
	defer tx.leave()
	tx.mu.own.Set(buildKey(id), txn.Write{Value: p.append(nil)})
	return nil
}

// fill puts the entries of up to n rows from the cursor of a build on.
func (tx *Tx) fill(id uint32, n int) error {
	if err := tx.enterWrite(); err != nil {
		return err
	}
	defer tx.leave()
	c := tx.state.catalog
	ix, a := c.indexes[id], c.byID[id]
	if ix == nil && a == nil {
		return nil // dropped
	}
	// In the committer's turn the open group may have come further; there is one
	// builder, so it has not.
	p := tx.state.builds[id]
	if p.phase != phaseFill {
		return nil
	}
	var table *Table
	if ix != nil {
		table = ix.table
	} else {
		table = a.table
	}
	rg := keys.Prefixed(keys.AppendRows(nil, table.Number))
	if p.cursor != nil {
		rg.Start = p.cursor
	}
	next, rows, err := tx.fillRows(ix, a, table, rg, n)
	if err != nil {
		return tx.failLocked(err)
	}
	if next != nil {
		rg.End = next
	}
	tx.mu.reads.AddRange(rg)
	p.done += int64(rows)
	p.cursor = next
	if next == nil {
		if p.phase = phaseDone; a != nil {
			p.phase = phasePour
		}
	}
	tx.mu.own.Set(buildKey(id), txn.Write{Value: p.append(nil)})
	return nil
}

// fillRows puts the entries of up to n rows and returns where to go on, nil at
// the end.
func (tx *Tx) fillRows(ix *Index, a *Aggregate, t *Table, rg keys.Range, n int) (next []byte, rows int, err error) {
	it, err := tx.mu.view.Iterate(rg, false)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for it.Next() {
		if rows == n {
			return slices.Clone(it.Key()), rows, nil
		}
		rows++
		doc, err := keys.Document(it.Key())
		if err != nil {
			return nil, 0, fmt.Errorf("%w: a row of %s: %w", ErrCorrupt, t.Name, err)
		}
		d, err := decodeRow(t.names, value.ID{Table: t.Number, Key: doc}, it.Value())
		if err != nil {
			return nil, 0, err
		}
		if ix != nil {
			k := ix.key(d)
			if err := keyFits(d, ix.Name, k); err != nil {
				return nil, 0, &errUnbuildable{err}
			}
			if ix.unique {
				if err := tx.claimLocked(ix, d); err != nil {
					var taken *UniqueError
					if errors.As(err, &taken) {
						err = &errUnbuildable{fmt.Errorf("document %s: %w", d.ID, err)}
					}
					return nil, 0, err
				}
			}
			tx.mu.own.Set(k, txn.Write{})
			continue
		}
		k := a.key(d)
		if err := keyFits(d, a.Name, k); err != nil {
			return nil, 0, &errUnbuildable{err}
		}
		tx.mu.own.Set(a.hiddenKey(k), txn.Write{Value: appendWeight(nil, a.weight(d))})
	}
	return nil, rows, nil
}

// keyFits reports a document that was stored before the index or aggregate
// there was, and is too long for it.
func keyFits(d Document, name string, key []byte) error {
	if len(key) <= indexKeySizeMax {
		return nil
	}
	return fmt.Errorf("document %s: %w", d.ID, &LimitError{Limit: "bytes in a key of " + name, Max: indexKeySizeMax})
}

// hiddenKey returns the key of an entry in the hidden index of an aggregate that
// is being built: the same under the prefix of indexes.
func (a *Aggregate) hiddenKey(entry []byte) []byte {
	return append(keys.AppendIndex(make([]byte, 0, len(entry)), a.id), entry[entryPrefix:]...)
}

// hide makes the change of an entry in the hidden index.
func (a *Aggregate) hide(o *txn.Overlay, was, is []byte, w aggregate.Weight) {
	if was != nil && string(was) != string(is) {
		o.Delete(a.hiddenKey(was))
	}
	if is != nil {
		o.Set(a.hiddenKey(is), txn.Write{Value: appendWeight(nil, w)})
	}
}

// appendWeight appends what an entry in a hidden index carries: nothing, or kind
// (1 int64, 2 float64) and eight bytes.
func appendWeight(dst []byte, w aggregate.Weight) []byte {
	if i, ok := w.Int(); ok {
		return binary.BigEndian.AppendUint64(append(dst, 1), uint64(i))
	}
	if f, ok := w.Float(); ok {
		return binary.BigEndian.AppendUint64(append(dst, 2), math.Float64bits(f))
	}
	return dst
}

func decodeWeight(b []byte) (aggregate.Weight, error) {
	switch {
	case len(b) == 0:
		return aggregate.Weight{}, nil
	case len(b) == 9 && b[0] == 1:
		return aggregate.IntWeight(int64(binary.BigEndian.Uint64(b[1:]))), nil
	case len(b) == 9 && b[0] == 2:
		return aggregate.FloatWeight(math.Float64frombits(binary.BigEndian.Uint64(b[1:]))), nil
	}
	return aggregate.Weight{}, fmt.Errorf("%w: an entry with a value of %d bytes", ErrCorrupt, len(b))
}
