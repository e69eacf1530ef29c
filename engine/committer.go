package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// committer drives the commit machine: the one goroutine that decides the
// order of commits. DB.Open starts it, DB.Close stops it.
type committer struct {
	db      *DB
	m       *commit.Machine
	durable chan Timestamp // one for each group the publisher has finished
	sealed  chan sealed    // to the publisher, in order
	turns   chan turn      // to the goroutine that executes in turn
	term    Term           // in which this process leads the log
	head    LogPosition    // the log's newest, as this leader knows it
	failed  error
	// revision is what the group being sealed does to the catalog, mostly nothing.
	revision *revision
}

// sealed is a group on its way to the disk.
type sealed struct {
	group   commit.Group
	pending LogAppend // nil when there was nothing to write
	state   *state
}

// turn is one execution in the committer's turn.
type turn struct {
	m    *mutation
	tx   *Tx
	done chan turnDone
}

type turnDone struct {
	result []byte
	replay *Receipt
	err    error
}

func newCommitter(db *DB, last uint64, term Term, head LogPosition) *committer {
	return &committer{
		db: db, m: commit.New(db.o.commit, last), term: term, head: head,
		durable: make(chan Timestamp, 8), sealed: make(chan sealed, 8),
		turns: make(chan turn),
	}
}

func (c *committer) now() uint64 { return micros(c.db.o.Clock.Now()) }

// run takes submissions until the database closes and everything accepted is
// with the publisher.
func (c *committer) run() {
	defer close(c.sealed)
	defer close(c.turns)
	moveTime := false
	for {
		// Sealing as soon as nothing waits keeps latency low; while the disk is
		// behind, submissions gather in the open group.
		if c.m.CanSeal() && (c.m.Pending() > 0 || moveTime) {
			c.drain() // one that asks for time gets this group's
			c.seal()
			moveTime = false
			continue
		}
		submissions := c.db.submissions
		if c.m.Full() {
			submissions = nil
		}
		select {
		case m := <-submissions:
			c.submit(m)
		case r := <-c.db.reshapings:
			c.reshape(r)
		case <-c.db.moveTime:
			moveTime = true
		case <-c.durable:
			c.m.Durable(uint64(c.db.states.oldest()))
		case <-c.db.closing:
			c.finish()
			return
		}
	}
}

// drain submits what waits, up to a full group.
func (c *committer) drain() {
	for !c.m.Full() {
		select {
		case m := <-c.db.submissions:
			c.submit(m)
		case <-c.db.moveTime:
		default:
			return
		}
	}
}

// finish commits what was submitted before the end.
func (c *committer) finish() {
	for {
		c.drain()
		if c.m.Pending() == 0 {
			return
		}
		for !c.m.CanSeal() {
			<-c.durable
			c.m.Durable(uint64(c.db.states.oldest()))
		}
		c.seal()
	}
}

func (c *committer) submit(m *mutation) {
	if c.failed != nil {
		m.verdict <- verdict{err: c.failed}
		return
	}
	if m.catalog != c.db.catalog() {
		m.verdict <- verdict{retry: true} // it lacks entries of what is new
		return
	}
	switch v, _ := c.m.Submit(&m.attempt, c.now()); v {
	case commit.Retry:
		m.verdict <- verdict{retry: true}
	case commit.Turn:
		c.turn(m)
	case commit.Accepted:
		// Answered by the publisher.
	}
}

// turn executes a mutation again on the open group's overlay, where nothing
// can come between its reads and its writes.
func (c *committer) turn(m *mutation) {
	if err := c.db.refused(m.Name); err != nil {
		m.verdict <- verdict{err: err}
		return
	}
	s := c.db.states.beginAttempt()
	// Not the executor: when it hangs, the state is free all the same, since the
	// Tx that reads it is dead.
	defer c.db.states.endAttempt(s)
	tx := c.db.newTx(s, c.m.Overlay(), true, transactionTime(c.db.o.Clock.Now()))
	t := turn{m: m, tx: tx, done: make(chan turnDone, 1)}
	late := make(chan struct{})
	stop := c.db.o.Clock.AfterFunc(c.db.o.FunctionTimeMax, func() { close(late) })
	defer stop()
	c.turns <- t
	var d turnDone
	select {
	case d = <-t.done:
	case <-late:
		// The goroutine cannot be stopped. Its Tx fails from here on, so that it
		// can touch nothing, and another one takes the next turns.
		tx.end(ErrTimeout)
		c.db.stray(m.Name)
		go c.executeTurns()
		m.verdict <- verdict{err: ErrTimeout, at: Timestamp(c.m.Last())}
		return
	}
	m.result = d.result
	if d.replay != nil || d.err != nil || tx.mu.own.Empty() {
		// It rests on everything accepted so far.
		m.verdict <- verdict{at: Timestamp(c.m.Last()), replay: d.replay, err: d.err}
		return
	}
	m.attempt = commit.Attempt{Snapshot: c.m.Last(), Reads: &tx.mu.reads, Writes: tx.mu.own, Owner: m}
	c.m.Accept(&m.attempt, c.now())
}

// executeTurns runs functions for the committer until it ends, or until the
// committer gave up waiting for it. The committer starts it.
func (c *committer) executeTurns() {
	for t := range c.turns {
		result, replay, err := c.db.execute(t.m, t.tx)
		t.done <- turnDone{result, replay, err}
	}
}

// seal closes the open group, makes it visible to mutations and hands it to
// the publisher.
func (c *committer) seal() {
	g := c.m.Seal(c.now())
	stats := c.m.Stats()
	c.db.stats.Store(&stats)
	if err := c.db.failure(); err != nil {
		c.fail(g, err)
		return
	}
	base := c.db.states.newestApplied()
	next := &state{at: Timestamp(g.At), catalog: base.catalog, builds: base.builds, trees: base.trees}
	var pending LogAppend
	if len(g.Attempts) == 0 && g.Lease == 0 {
		base.snap.Retain()
		next.snap = base.snap
	} else {
		b := c.db.store.NewBatch()
		r, err := c.fill(b, &g, base, next)
		if err == nil {
			pending, err = c.append(r, &localBatch{store: c.db.store, b: b})
		}
		if err != nil {
			c.fail(g, err)
			return
		}
		next.snap = c.db.store.NewSnapshot()
	}
	c.db.states.apply(next)
	c.db.newest.Store(next.catalog)
	c.sealed <- sealed{g, pending, next}
}

// append puts a group into the log and into the store. The embedded log does
// both at once; with any other, what is in the store is in the log before, so
// the committer waits for it, and meanwhile the next group collects.
func (c *committer) append(r LogRecord, local *localBatch) (LogAppend, error) {
	ctx := context.Background() // a sealed group must not be given up
	p, err := c.db.log.Append(ctx, r, local)
	if local.applied {
		c.head = r.Position
		return p, err
	}
	if err == nil {
		err = p.Wait(ctx)
	}
	if errors.Is(err, ErrUnknownOutcome) {
		err = SettleAppend(ctx, c.db.log, r, c.db.o.Clock)
	}
	if err != nil {
		return nil, fmt.Errorf("append to the commit log: %w", err)
	}
	c.head = r.Position
	if err := local.Set(metaKey(metaApplied), appendPosition(nil, c.head)); err != nil {
		return nil, err
	}
	return local.Apply()
}

// fail refuses a group that could not be written, and everything after it.
func (c *committer) fail(g commit.Group, err error) {
	if c.failed = err; !errors.Is(err, ErrFailed) {
		c.failed = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	for _, a := range g.Attempts {
		a.Owner.(*mutation).verdict <- verdict{err: c.failed}
	}
	c.m.Durable(uint64(c.db.states.oldest()))
	c.db.fail(c.failed)
}

// fill writes a group into a batch: rows and index entries, blocks of
// aggregates, the lease. It returns the change record.
func (c *committer) fill(b *store.Batch, g *commit.Group, base, next *state) (LogRecord, error) {
	err := c.revise(b, c.revision, base, next)
	if err != nil {
		return LogRecord{}, err
	}
	record := newRecord(g)
	if g.Lease != 0 {
		lease := binary.BigEndian.AppendUint64(nil, g.Lease)
		record.set(metaKey(metaClock), lease)
		if err := b.Set(metaKey(metaClock), lease); err != nil {
			return LogRecord{}, err
		}
	}
	g.Writes.EachWrite(func(k string, w txn.Write) bool {
		key := []byte(k)
		switch {
		case w.Touched:
			return true
		case w.Deleted:
			err = b.Delete(key)
		default:
			err = b.Set(key, w.Value)
		}
		if key[0] == keys.PrefixMeta {
			// The catalog is each store's own, as its numbers are.
			if isProgress(key) {
				err = c.progressed(next, key, w)
			}
			return err == nil
		}
		record.add(key, w)
		switch key[0] {
		case keys.PrefixRow:
			c.db.rows.written(rowID(key), next.at)
		case keys.PrefixRequest:
			if client, request, e := keys.RequestOf(key); e == nil && !w.Deleted {
				c.db.clients.committed(client, request, next.at)
			}
		}
		return err == nil
	})
	if err != nil {
		return LogRecord{}, err
	}
	if err := c.db.applyAggregates(b, base, next, g); err != nil {
		return LogRecord{}, err
	}
	return record.finish(c.term, c.head, Timestamp(g.At)), nil
}

func (db *DB) applyTree(b *store.Batch, base *state, t aggregate.Tree, at uint64, changes []aggregate.Change) (aggregate.Tree, error) {
	var failed error
	put := func(node uint64, block []byte) {
		if err := b.Set(keys.AppendBlock(nil, t.Agg, node), block); err != nil {
			failed = err
		}
	}
	drop := func(node uint64) {
		if err := b.Delete(keys.AppendBlock(nil, t.Agg, node)); err != nil {
			failed = err
		}
	}
	fresh, err := t.Apply(&aggregate.Reader{Cache: db.blocks, Blocks: base}, at, changes, put, drop)
	if err != nil {
		return t, err
	}
	put(0, fresh.AppendBinary(nil))
	return fresh, failed
}

// publish waits for each group to be durable and shows it to the outside, in
// order: first the state, then the answers to its callers, then the live
// queries. After a group that could not be made durable it shows nothing more,
// also what needed no writing: the durable state stays where it is, for ever.
// DB.Open starts it; it ends when the committer has.
func (c *committer) publish() {
	failed := false
	for s := range c.sealed {
		if s.pending != nil {
			if err := s.pending.Wait(context.Background()); err != nil {
				failed = true
				c.db.fail(fmt.Errorf("%w: %w", ErrFailed, err))
			}
		}
		if failed {
			for _, a := range s.group.Attempts {
				a.Owner.(*mutation).verdict <- verdict{err: ErrFailed}
			}
			c.durable <- s.state.at
			continue
		}
		c.db.states.publish(s.state)
		for _, a := range s.group.Attempts {
			m := a.Owner.(*mutation)
			at := Timestamp(a.At)
			if m.OnCommit != nil {
				m.OnCommit(Receipt{At: at, Result: m.result})
			}
			m.verdict <- verdict{at: at, wrote: true}
		}
		c.db.hub.committed(s.state, s.group.Touched())
		c.durable <- s.state.at
	}
}
