package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// DB is an open database. All methods are safe for concurrent use.
type DB struct {
	o     Options
	store *store.Store
	log   CommitLog
	// logCtx ends, with a cause, when Close gives up a log that does not answer.
	logCtx     context.Context
	leaveLog   context.CancelCauseFunc
	unanswered atomic.Bool             // it did not answer until then
	newest     atomic.Pointer[catalog] // that is applied
	names      *dictionaries
	blocks     *aggregate.Cache
	rows       *rowCache
	clients    *clientCache
	states     states
	pins       pins
	places     *places
	queries    admission
	mutations  admission
	disk       *diskWatch
	events     Events
	scans      struct{ steps, internal atomic.Uint64 }
	seed       uint64        // of this opening
	seeds      atomic.Uint64 // number of executions that drew randomness; with seed, the seed of each one's
	hub        *hub
	cursors    *cursorSeal
	loads      chan struct{} // holds one while a table is loaded

	// checkpoints is held while a copy of the store is made, and while a load
	// becomes visible in steps.
	checkpoints sync.Mutex

	submissions chan *mutation
	reshapings  chan *reshaping
	builder     *builder
	releases    chan *mutation // calls that ended and may have something reserved
	moveTime    chan struct{}  // asks for an empty group, for time alone
	leaving     chan struct{}  // closed by Close before it waits for calls
	closing     chan struct{}
	failed      chan struct{}
	failOnce    sync.Once
	committer   *committer
	pipeline    sync.WaitGroup // committer, publisher, turns that are not stray, sweeper
	strays      strays
	costs       costs
	held        atomic.Int64                 // attempts that wait for a reservation to end
	stats       atomic.Pointer[commit.Stats] // as of the newest group

	calls struct {
		sync.Mutex
		closed bool
		n      int
		idle   chan struct{} // made by Close, closed when n is 0
	}
}

// Open opens the database in dir, creating it when there is none, and brings
// its indexes and aggregates in line with the schema. Those that are new or
// changed are built in the background, see Building; Open waits for those of
// tables with up to 10,000 documents.
//
// dir may be InMemory. Errors: an *OptionsError, ErrLocked when another process
// has the folder open, ErrNewerFormat and ErrOlderFormat, ErrCorrupt,
// ErrNotDatabase when the folder holds something else, ErrPermission, and what is
// wrong with the schema.
func Open(dir string, schema Schema, opts *Options) (*DB, error) {
	db := &DB{
		o:           opts.withDefaults(),
		submissions: make(chan *mutation, 1024),
		reshapings:  make(chan *reshaping),
		loads:       make(chan struct{}, 1),
		releases:    make(chan *mutation, 64),
		moveTime:    make(chan struct{}, 1),
		leaving:     make(chan struct{}),
		closing:     make(chan struct{}),
		failed:      make(chan struct{}),
	}
	err := db.o.check()
	if err == nil && dir == "" {
		err = errors.New("no folder is named; InMemory is a database without one")
	}
	if dir == InMemory {
		if db.o.FS != nil {
			err = errors.Join(err, &OptionsError{Field: "FS", Reason: "a database in memory has its own"})
		}
		db.o.FS = vfs.NewMem()
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	db.logCtx, db.leaveLog = context.WithCancelCause(context.Background())
	db.events = LogEvents(db.o.Logger).With(db.o.Events)
	db.store, err = store.Open(dir, store.Options{
		OnFlush: db.events.Flush, OnCorruption: db.events.Corruption,
		FS: db.o.FS, CacheBytes: db.o.CacheBytes, BallastBytes: db.o.BallastBytes, Logger: db.o.Logger,
		Fatal: func(err error) { db.fail(fmt.Errorf("%w: %w", ErrFailed, err)) },
	})
	if err != nil {
		return nil, err
	}
	db.disk = newDiskWatch(db)
	db.blocks = aggregate.NewCache(db.o.AggregateCacheBytes)
	db.rows = newRowCache(db.o.RowCacheBytes)
	db.clients = newClientCache()
	db.places = newPlaces(db.o.RunningMax, db.o.WaitingMax)
	db.queries = admission{clock: db.o.Clock, waitMax: db.o.WaitMax}
	db.mutations = admission{clock: db.o.Clock, waitMax: db.o.WaitMax}
	db.cursors, err = db.loadCursorSeal(opts != nil && opts.Seed != 0)
	if err == nil {
		err = db.start(schema)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", dir, err), db.store.Close())
	}
	return db, nil
}

func (db *DB) start(schema Schema) error {
	if err := db.revise(schema); err != nil {
		return err
	}
	term, head, err := db.lead(context.Background())
	if err != nil {
		return err
	}
	snap := db.store.NewSnapshot()
	s := &state{snap: snap, catalog: db.catalog()}
	last, err := readClock(snap)
	if err == nil {
		last = max(last, uint64(head.At))
		s.at = Timestamp(last)
		s.trees, err = s.catalog.readTrees(snap)
	}
	if err == nil {
		s.builds, err = readBuilds(snap)
	}
	if err != nil {
		snap.Release()
		return err
	}
	// A fixed seed must not draw again what it drew before this opening, ids
	// among it. The constant is that of Fibonacci hashing.
	db.seed = db.o.Seed ^ last*0x9e3779b97f4a7c15
	db.states.reset(s)
	db.hub = newHub(db, s)
	db.committer = newCommitter(db, last, term, head)
	db.pipeline.Go(db.committer.run)
	db.pipeline.Go(db.committer.publish)
	go db.committer.executeTurns() // ends with the committer, or is a stray
	db.pipeline.Go(db.sweep)
	db.builder = newBuilder(db)
	small, err := db.smallTables(s)
	if err == nil {
		db.pipeline.Go(db.builder.run)
		// The first state gets a timestamp of the present.
		db.moveTime <- struct{}{}
		err = db.awaitState(s.at + 1)
	}
	// On a full disk nothing is built before there is room again.
	if err == nil && db.disk.refuse(db.o.Clock.Now()) == nil {
		// What could not be built is known by the log, and to who uses it.
		err = db.waitBuilt(context.Background(), func(b Build) bool { return small[b.Table] })
	}
	if err != nil && !errors.Is(err, ErrBuildFailed) {
		db.stop()
		return err
	}
	return nil
}

// revise brings the stored catalog in line with a schema while nothing runs.
func (db *DB) revise(schema Schema) (err error) {
	undone, err := undoLoad(db.store)
	if err != nil {
		return fmt.Errorf("remove what a load left: %w", err)
	}
	if undone {
		db.o.Logger.Warn("a load was cut short, its table is empty")
	}
	snap := db.store.NewSnapshot()
	defer snap.Release()
	if db.names, err = readDictionaries(snap); err != nil {
		return fmt.Errorf("read the field names: %w", err)
	}
	rev, err := revise(snap, db.names, schema)
	if err != nil {
		return err
	}
	b := db.store.NewBatch()
	for _, r := range rev.drops {
		err = errors.Join(err, b.DeleteRange(r.Start, r.End))
	}
	rev.writes.EachWrite(func(k string, w txn.Write) bool {
		if w.Deleted {
			err = errors.Join(err, b.Delete([]byte(k)))
		} else {
			err = errors.Join(err, b.Set([]byte(k), w.Value))
		}
		return true
	})
	if err == nil && !b.Empty() {
		err = db.store.ApplyDurably(b)
	}
	db.newest.Store(rev.catalog)
	return err
}

// stop ends everything that runs and drops the newest states; what was accepted
// is committed first. REQUIRES: no call is running.
func (db *DB) stop() {
	db.hub.close()
	close(db.closing)
	db.pipeline.Wait()
	db.hub.end()
	db.pins.close(db)
	db.states.close()
}

// awaitState waits until a state at or after at is durable. The caller reads
// at from its own state: by now a newer one may be the durable one.
func (db *DB) awaitState(at Timestamp) error {
	reached := db.states.reached(at)
	if reached == nil {
		return nil
	}
	select {
	case <-reached:
		return nil
	case <-db.failed:
		return ErrFailed
	}
}

// readClock returns the largest timestamp that may ever have been handed out.
func readClock(s *store.Snapshot) (uint64, error) {
	b, ok, err := s.Get(metaKey(metaClock))
	switch {
	case err != nil:
		return 0, err
	case !ok:
		return 0, nil
	case len(b) != 8:
		return 0, fmt.Errorf("%w: clock has %d bytes", ErrCorrupt, len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// readTrees returns the trees as they are stored.
func (c *catalog) readTrees(s *store.Snapshot) ([]aggregate.Tree, error) {
	trees := c.emptyTrees()
	for _, a := range c.aggregates {
		var err error
		if trees[a.slot], err = readTree(s, a.empty()); err == nil && a.ranking != nil {
			trees[a.ranking.slot], err = readTree(s, a.ranking.empty())
		}
		if err != nil {
			return nil, fmt.Errorf("aggregate %s of %s: %w", a.Name, a.table.Name, err)
		}
	}
	return trees, nil
}

// readTree returns the stored tree of an aggregate, or the empty one.
func readTree(s *store.Snapshot, empty aggregate.Tree) (aggregate.Tree, error) {
	b, ok, err := s.Get(keys.AppendBlock(nil, empty.Agg, 0))
	if err != nil || !ok {
		return empty, err
	}
	t, err := aggregate.DecodeTree(b)
	switch {
	case errors.Is(err, aggregate.ErrNewerFormat):
		return empty, fmt.Errorf("%w: %w", ErrNewerFormat, err)
	case err != nil:
		return empty, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if t.Agg != empty.Agg || t.Weighted != empty.Weighted {
		return empty, fmt.Errorf("%w: root record of aggregate %d, weighted %v, in the place of that of %d", ErrCorrupt, t.Agg, t.Weighted, empty.Agg)
	}
	return t, nil
}

// Close waits for running calls, commits what they submitted, ends live
// queries and closes the store. Calls that begin later fail with ErrClosed.
//
// For a commit log that does not answer it waits five seconds. Then calls that
// wait for it fail, and so does Close, with ErrUnknownOutcome: what they did may
// be in the log, and if so it is there when the database is opened again.
func (db *DB) Close() error {
	db.calls.Lock()
	if db.calls.closed {
		db.calls.Unlock()
		return ErrClosed
	}
	db.calls.closed = true
	close(db.leaving)
	idle := make(chan struct{})
	if db.calls.n == 0 {
		close(idle)
	} else {
		db.calls.idle = idle
	}
	db.calls.Unlock()
	// A log of its own answers at once, or has failed.
	stop := db.o.Clock.AfterFunc(logCloseMax, func() { db.leaveLog(errUnanswered) })
	<-idle
	db.stop()
	stop()
	db.leaveLog(ErrClosed)
	b := db.store.NewBatch()
	err := b.Set(metaKey(metaClock), binary.BigEndian.AppendUint64(nil, db.committer.m.Last()))
	if err == nil && db.failure() == nil {
		err = db.store.ApplyDurably(b)
	}
	if db.unanswered.Load() {
		err = errors.Join(err, errUnanswered)
	}
	return errors.Join(err, db.store.Close())
}

// logCloseMax is how long Close waits for a commit log that does not answer.
const logCloseMax = 5 * time.Second

// errUnanswered says that Close gave up waiting for the log.
var errUnanswered = fmt.Errorf("close without an answer of the log: %w", ErrUnknownOutcome)

// enter counts a call in, exit out.
func (db *DB) enter() error {
	db.calls.Lock()
	defer db.calls.Unlock()
	if db.calls.closed {
		return ErrClosed
	}
	db.calls.n++
	return nil
}

func (db *DB) exit() {
	db.calls.Lock()
	defer db.calls.Unlock()
	if db.calls.n--; db.calls.n == 0 && db.calls.idle != nil {
		close(db.calls.idle)
		db.calls.idle = nil
	}
}

// fail marks the database as failed: nothing is acknowledged any more.
func (db *DB) fail(err error) {
	db.failOnce.Do(func() {
		db.o.Logger.Error("storage failed, nothing more can be acknowledged", "error", err)
		close(db.failed)
		if errors.Is(err, errUnanswered) {
			db.unanswered.Store(true)
			return // nothing has failed here, and the end has come anyway
		}
		db.o.Fatal(err)
	})
}

func (db *DB) failure() error {
	select {
	case <-db.failed:
		return ErrFailed
	default:
		return nil
	}
}

// Durable returns the newest durable timestamp.
func (db *DB) Durable() Timestamp { return db.states.durableAt() }

// Stats counts what the database did since it was opened.
type Stats struct {
	Commits   uint64 // transactions that wrote something
	Conflicts uint64 // executions that lost to another transaction and were repeated
	Turns     uint64 // of these, how many were repeated in the committer's turn
	Parked    uint64 // times that one waited for a slower one which had lost
	Held      int64  // those that wait so now
	Groups    uint64 // batches written, those that only moved time included
	// ScanSteps are entries that scans returned, ScanInternalSteps the keys that the
	// store went over for them: many more means old versions of hot documents.
	ScanSteps, ScanInternalSteps uint64

	Strays uint64 // executions that went on past their time limit, whom nothing can stop
}

// Stats returns the counts as of the newest group of commits.
func (db *DB) Stats() Stats {
	s := Stats{
		Strays: db.strays.total.Load(), Held: db.held.Load(),
		ScanSteps: db.scans.steps.Load(), ScanInternalSteps: db.scans.internal.Load(),
	}
	if c := db.stats.Load(); c != nil {
		s.Commits, s.Conflicts, s.Turns, s.Parked, s.Groups = c.Accepted, c.Conflicts, c.Turns, c.Parked, c.Groups
	}
	return s
}

// advance asks for a state with a timestamp of its own though nothing was
// written. It does not wait.
func (db *DB) advance() {
	select {
	case db.moveTime <- struct{}{}:
	default: // asked for already
	}
}
