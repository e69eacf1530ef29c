package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
)

// ClientID names one client over all its connections.
type ClientID [16]byte

// Call describes a mutation to the engine.
type Call struct {
	// Name is the function's, for diagnostics.
	Name string
	// Once makes the mutation happen at most once for a Client and Request
	// number: a repeated call returns the outcome of the first. The last 1,024
	// successes of a client are kept, for a day; an older request gets
	// ErrTooOld and is not executed. Only mutations that wrote something are
	// remembered: repeating one that changed nothing is harmless.
	Once    bool
	Client  ClientID
	Request uint32
	// Admitted says that the call was accepted before: it does not get
	// ErrOverloaded for WaitMax, only for WaitingMax.
	Admitted bool
	// Relaxed says that the function may lose its last 20 ms in a crash: it may
	// wait that long for other mutations to go to the disk with.
	Relaxed bool
	// Early has Mutate return as soon as a Relaxed function's place in the order
	// is known, before its effects are durable. Queries see them when they are.
	Early bool
	// OnCommit is called when the mutation is durable, before any live query
	// can see its effect. It must be quick and must not call the database. It is
	// not called for a mutation that wrote nothing.
	OnCommit func(Receipt)

	step *buildStep // of the builder's transactions
	// sweep says that it removes what is no longer kept, also from a full disk.
	sweep bool
}

// Receipt is the outcome of a mutation.
type Receipt struct {
	// At is the timestamp of the commit. Of a mutation that wrote nothing it is
	// that of the snapshot it read; of a replayed one, the original's.
	At Timestamp
	// Result is what the function returned.
	Result []byte
	// Wrote says that the mutation has changed something: At is its own then.
	Wrote bool
	// Replayed says that the request had been executed before.
	Replayed bool
}

// mutation is one call of Mutate on its way. Its fields belong to the calling
// goroutine, and to the committer between a submission and its verdict.
type mutation struct {
	Call
	fn       func(*Tx) ([]byte, error)
	cost     *cost // of the function
	attempt  commit.Attempt
	ops      []rowOps // of the attempt, to be done when it commits
	catalog  *catalog // under which it was executed
	result   []byte
	parallel bool        // the attempt was executed in parallel and is not judged yet
	slow     bool        // not for the committer's turn, whatever the function usually takes
	reserved bool        // what the last attempt read is kept from being written
	stray    bool        // given up: nothing of the database is held any more
	lost     int         // times that an attempt was not free, counted by the committer
	gone     atomic.Bool // nobody waits for the outcome any more
	verdict  chan verdict
}

// verdict is the committer's answer to a submitted attempt.
type verdict struct {
	again    bool // execute it again in parallel
	reserved bool // what it read is kept from being written meanwhile
	at       Timestamp
	wrote    bool // and at has not to be waited for: it is durable, or the call is Early
	// replay is the outcome of an earlier execution, found in turn.
	replay *Receipt
	err    error
}

// acked reports whether the caller is answered when its attempt is accepted.
func (m *mutation) acked() bool { return m.Relaxed && m.Early }

// refuse answers an attempt that had been accepted.
func (m *mutation) refuse(err error) {
	if !m.acked() {
		m.verdict <- verdict{err: err}
	}
}

// Mutate executes fn as one serializable transaction and returns when what the
// outcome rests on is durable, for errors too; of a Call that is Relaxed and
// Early it does not wait for that.
//
// It fails with fn's own error, or alone with ErrTimeout, ErrOverloaded,
// ErrTooOld, ErrFunctionStuck, ErrDiskFull or a *LimitError; never because another
// transaction wrote. When ctx ends first the outcome is unknown: the mutation
// may commit.
func (db *DB) Mutate(ctx context.Context, call Call, fn func(*Tx) ([]byte, error)) (Receipt, error) {
	if err := db.enter(); err != nil {
		return Receipt{}, err
	}
	if err := db.mutations.enter(call.Admitted || call.step != nil || call.sweep); err != nil {
		db.exit()
		return Receipt{}, err
	}
	defer db.mutations.leave()
	m := &mutation{Call: call, fn: fn, cost: db.costs.of(call.Name), verdict: make(chan verdict, 1)}
	defer func() {
		if !m.stray {
			db.release(m, m.reserved)
			db.exit()
		}
	}()
	if err := db.refused(m.Name); err != nil {
		return Receipt{}, err
	}
	for tries := 1; ; tries++ {
		run := db.attempt
		// On a full disk each is executed first, to see whether it writes.
		if tries == 1 && m.cost.straight(db.turnCost()) && !db.disk.full.Load() {
			run = db.straight
		}
		r, done, err := run(ctx, m, tries)
		if done || err != nil {
			return r, err
		}
	}
}

// release tells the committer that a call has ended, if it has something
// reserved.
func (db *DB) release(m *mutation, reserved bool) {
	if !reserved {
		return
	}
	select {
	case db.releases <- m:
	case <-db.closing:
	}
}

// attempt executes the mutation once in parallel with others and submits it.
func (db *DB) attempt(ctx context.Context, m *mutation, tries int) (r Receipt, done bool, err error) {
	// One that holds back others does not wait for a place; there are few of them.
	if !m.reserved {
		if err := db.places.acquire(ctx, tries > 1); err != nil {
			return r, false, err
		}
	}
	s := db.states.beginAttempt()
	defer func() {
		if !m.stray {
			db.states.endAttempt(s)
		}
	}()
	start := db.o.Clock.Now()
	tx := db.newTx(s, nil, true, transactionTime(start))
	tx.name = m.Name
	result, replay, err := db.executeInPlace(m, tx)
	if m.stray {
		return r, true, ErrTimeout
	}
	m.result = result
	cost := m.cost.ran(db.o.Clock.Now().Sub(start))
	if m.slow {
		cost = max(cost, db.turnCost())
	}

	m.ops = tx.unresolved()
	if replay != nil || err != nil || tx.mu.own.Empty() && len(m.ops) == 0 {
		// Nothing to commit: the outcome stands on the snapshot it read.
		r := Receipt{At: s.at, Result: m.result}
		if replay != nil {
			r = *replay
		}
		if m.acked() {
			return r, true, err
		}
		if e := db.wait(ctx, max(s.at, r.At)); e != nil {
			return r, false, e
		}
		return r, true, err
	}
	if !m.sweep {
		if err := db.disk.refuse(start); err != nil {
			return r, false, err
		}
	}
	tx.warm(m.ops)
	m.catalog = s.catalog
	m.attempt = commit.Attempt{
		Snapshot: uint64(s.at), Reads: &tx.mu.reads, Writes: tx.mu.own, Cost: cost, Owner: m, Label: &m.cost.name,
	}
	m.parallel = true
	return db.submit(ctx, m)
}

// straight submits a mutation to be executed in the committer's turn at once.
func (db *DB) straight(ctx context.Context, m *mutation, _ int) (Receipt, bool, error) {
	if err := db.places.wait(); err != nil {
		return Receipt{}, false, err
	}
	defer db.places.waited()
	m.attempt = commit.Attempt{Owner: m}
	return db.submit(ctx, m)
}

// submit gives an attempt to the committer and waits for what becomes of it.
func (db *DB) submit(ctx context.Context, m *mutation) (r Receipt, done bool, err error) {
	select {
	case db.submissions <- m:
	case <-ctx.Done():
		return r, false, ctx.Err()
	}
	select {
	case v := <-m.verdict:
		m.reserved = v.reserved
		if v.again {
			return r, false, nil
		}
		r = Receipt{At: v.at, Result: m.result, Wrote: v.wrote}
		if v.replay != nil {
			r = *v.replay
		}
		if !v.wrote && v.at != 0 && !m.acked() {
			if e := db.wait(ctx, v.at); e != nil {
				return r, false, e
			}
		}
		return r, true, v.err
	case <-ctx.Done():
		m.gone.Store(true)
		db.release(m, true) // it may have something reserved by now
		return r, false, ctx.Err()
	}
}

// executeInPlace is execute for who has taken a place. It gives the place back
// also when the function ends its goroutine, as a failing test does, or never
// returns.
func (db *DB) executeInPlace(m *mutation, tx *Tx) (result []byte, replay *Receipt, err error) {
	reserved := m.reserved
	leave := func() {
		if !reserved {
			db.places.release()
		}
	}
	g := db.guard(m.Name, tx, func() {
		leave()
		db.states.endAttempt(tx.state)
		db.release(m, reserved)
		db.exit()
	})
	defer func() {
		if m.stray = g.end(); !m.stray {
			leave()
		}
	}()
	return db.execute(m, tx)
}

// execute runs the function in tx, preceded by the lookup of its request. A
// replayed outcome comes back instead of running it.
func (db *DB) execute(m *mutation, tx *Tx) (result []byte, replay *Receipt, err error) {
	result, err = tx.call(func(tx *Tx) (result []byte, err error) {
		if m.Once {
			if replay, err = tx.replay(m.Client, m.Request); replay != nil || err != nil {
				return nil, err
			}
		}
		if result, err = m.fn(tx); err != nil {
			return result, err
		}
		if m.Once {
			err = tx.remember(m.Client, m.Request, result)
		}
		return result, err
	})
	return result, replay, err
}

// wait returns when the durable state has reached at.
func (db *DB) wait(ctx context.Context, at Timestamp) error {
	reached := db.states.reached(at)
	if reached == nil {
		return nil
	}
	select {
	case <-reached:
		return nil
	case <-db.failed:
		return ErrFailed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Query executes fn on the newest durable snapshot and returns its timestamp. The
// name is for events.
func (db *DB) Query(ctx context.Context, name string, fn func(*Tx) error) (Timestamp, error) {
	return db.query(ctx, name, func() (*state, time.Time, error) {
		s := db.states.acquireDurable()
		return s, db.queryTime(s), nil
	}, fn)
}

// query executes fn on the state that acquire returns with a reference and with
// the time that fn sees.
func (db *DB) query(ctx context.Context, name string, acquire func() (*state, time.Time, error), fn func(*Tx) error) (Timestamp, error) {
	if err := db.enter(); err != nil {
		return 0, err
	}
	if err := db.queries.enter(false); err != nil {
		db.exit()
		return 0, err
	}
	defer db.queries.leave()
	if err := db.places.acquire(ctx, false); err != nil {
		db.exit()
		return 0, err
	}
	s, now, err := acquire()
	if err != nil {
		db.places.release()
		db.exit()
		return 0, err
	}
	free := func() {
		db.places.release()
		db.states.release(s)
		db.exit()
	}
	tx := db.newTx(s, nil, false, now)
	tx.name = name
	g := db.guard(name, tx, free)
	defer func() {
		if !g.end() {
			free()
		}
	}()
	_, err = tx.call(func(tx *Tx) ([]byte, error) { return nil, fn(tx) })
	return s.at, err
}

// transactionTime is what a transaction that starts now sees as the time.
func transactionTime(now time.Time) time.Time { return now.UTC().Truncate(time.Microsecond) }

// queryTime is the time a query on s sees: never before the newest commit it
// can see, and moving on when nothing commits. Timestamps run ahead of the
// clock for at most a lease after a crash, and by a microsecond a commit while
// the clock stands still.
func (db *DB) queryTime(s *state) time.Time {
	now := transactionTime(db.o.Clock.Now())
	if t := s.at.Time().UTC(); t.After(now) {
		return t
	}
	return now
}

// places bounds how many functions execute at once and how many wait for it.
type places struct {
	running chan struct{}
	waiting chan struct{}
}

func newPlaces(running, waiting int) *places {
	return &places{make(chan struct{}, running), make(chan struct{}, waiting)}
}

// acquire takes a place. A call that was admitted before waits however many do.
func (p *places) acquire(ctx context.Context, admitted bool) error {
	// A call that nobody waits for any more is not started.
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.running <- struct{}{}:
		return nil
	default:
	}
	if !admitted {
		if err := p.wait(); err != nil {
			return err
		}
		defer p.waited()
	}
	select {
	case p.running <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *places) release() { <-p.running }

// wait counts a call among those that wait, until waited.
func (p *places) wait() error {
	select {
	case p.waiting <- struct{}{}:
		return nil
	default:
		return ErrOverloaded
	}
}

func (p *places) waited() { <-p.waiting }

func newPanicError(v any) error {
	if err, ok := v.(error); ok && errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("the function panicked: %w", err)
	}
	return &PanicError{Value: v, Stack: debug.Stack()}
}
