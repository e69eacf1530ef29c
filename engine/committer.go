package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
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
	// loading is the load that wants to know whether its table is written to.
	loading *load

	urgent   int         // attempts in the open group that wait for the disk
	reserved []*mutation // to be executed again once everything accepted is applied
	expire   alarm       // of the next reservation
	flush    alarm       // of relaxed attempts in the open group
}

// sealed is a group on its way to the disk.
type sealed struct {
	group   commit.Group
	pending LogAppend // nil when there was nothing to write
	state   *state
	loaded  bool // a table was loaded: what was written is more than group says
}

func newCommitter(db *DB, last uint64, term Term, head LogPosition) *committer {
	return &committer{
		db: db, m: commit.New(db.o.commit, last), term: term, head: head,
		durable: make(chan Timestamp, 8), sealed: make(chan sealed, 8),
		turns: make(chan turn), expire: newAlarm(), flush: newAlarm(),
	}
}

func (c *committer) now() uint64 { return micros(c.db.o.Clock.Now()) }

// run takes submissions until the database closes and everything accepted is
// with the publisher.
func (c *committer) run() {
	defer close(c.sealed)
	defer close(c.turns)
	defer c.expire.stop()
	defer c.flush.stop()
	moveTime := false
	for {
		c.wake()
		// Sealing as soon as somebody waits for it keeps latency low; while the
		// disk is behind, submissions gather in the open group.
		if c.m.CanSeal() && (moveTime || c.urgent > 0 || c.m.Full() || len(c.reserved) > 0) {
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
		case m := <-c.db.releases:
			c.m.Release(m)
		case <-c.expire.rings:
			c.expire.rang()
			c.m.Expire(c.now())
		case <-c.flush.rings:
			c.flush.rang()
			moveTime = true
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

// wake judges again what no reservation holds back any more, and sets the
// alarm for the next one to end.
func (c *committer) wake() {
	for !c.m.Full() {
		a := c.m.Woken()
		if a == nil {
			break
		}
		c.judge(a.Owner.(*mutation))
	}
	c.db.held.Store(int64(c.m.Parked()))
	if at, ok := c.m.NextExpiry(); !ok {
		c.expire.stop()
	} else {
		c.expire.set(c.db.o.Clock, at, c.now())
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
		c.m.Expire(math.MaxUint64)
		c.wake()
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
	switch {
	case c.failed != nil:
		c.end(m, verdict{err: c.failed})
	case m.attempt.Writes == nil:
		c.turn(m)
	default:
		c.judge(m)
	}
}

// judge accepts an attempt, executes it in turn, or says what is to become of it.
func (c *committer) judge(m *mutation) {
	if c.failed != nil {
		c.end(m, verdict{err: c.failed})
		return
	}
	if m.gone.Load() {
		c.m.Release(m)
		return
	}
	if m.catalog != c.db.catalog() {
		c.m.Release(m)
		m.verdict <- verdict{again: true} // it lacks entries of what is new
		return
	}
	v := c.m.Judge(&m.attempt, c.now())
	if m.parallel && v != commit.Parked {
		m.parallel = false
		m.cost.judged(v != commit.Free)
	}
	if v != commit.Free {
		c.met(m, v)
	}
	switch v {
	case commit.Free:
		c.accept(m)
	case commit.Turn:
		c.turn(m)
	case commit.Reserved:
		// It has to be executed on a state that has all that was accepted.
		if c.m.Pending() > 0 {
			c.reserved = append(c.reserved, m)
			return
		}
		m.verdict <- verdict{again: true, reserved: true}
	case commit.Parked:
		// It comes back with wake.
	}
}

// accept puts an attempt into the open group. The publisher answers its caller,
// unless that does not want to wait for the disk.
func (c *committer) accept(m *mutation) {
	a, now := m.attempt, c.now()
	if len(m.ops) > 0 {
		var err error
		a.Writes, err = c.resolve(m, Timestamp(c.m.Next(now)))
		switch {
		case err != nil || a.Writes.Empty():
			c.end(m, verdict{at: Timestamp(c.m.Last()), err: err})
			return
		case c.m.Park(&m.attempt, a.Writes):
			c.met(m, commit.Parked)
			return
		}
	}
	at := Timestamp(c.m.Accept(&a, now))
	if !m.Relaxed {
		c.urgent++
		return
	}
	c.flush.set(c.db.o.Clock, c.now()+relaxedMax, c.now())
	if m.Early {
		m.verdict <- verdict{at: at, wrote: true}
	}
}

// relaxedMax is how long relaxed attempts may wait for others to go to the disk
// with, in microseconds.
const relaxedMax = 20_000

// seal closes the open group, makes it visible to mutations and hands it to
// the publisher.
func (c *committer) seal() {
	g := c.m.Seal(c.now())
	c.urgent = 0
	c.flush.stop()
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
			c.db.disk.wrote(b.Len() + len(r.b))
			pending, err = c.append(r, &localBatch{store: c.db.store, b: b})
		}
		if err != nil {
			c.fail(g, err)
			return
		}
		next.snap = c.db.store.NewSnapshot()
	}
	loaded := c.revision != nil && c.revision.load != nil
	if loaded {
		c.db.rows.loaded.Store(uint64(next.at))
	}
	c.db.states.apply(next)
	c.db.newest.Store(next.catalog)
	c.sealed <- sealed{g, pending, next, loaded}
	for i, m := range c.reserved {
		m.verdict <- verdict{again: true, reserved: true}
		c.reserved[i] = nil
	}
	c.reserved = c.reserved[:0]
}

// append puts a group into the log and into the store. The embedded log does
// both at once; with any other, what is in the store is in the log before, so
// the committer waits for it, and meanwhile the next group collects.
func (c *committer) append(r LogRecord, local *localBatch) (LogAppend, error) {
	ctx := c.db.logCtx // a sealed group is not given up before the end
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
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
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
		a.Owner.(*mutation).refuse(c.failed)
	}
	for _, m := range c.reserved {
		m.refuse(c.failed)
	}
	c.reserved = nil
	c.m.Expire(math.MaxUint64) // who is parked is refused as well
	c.m.Durable(uint64(c.db.states.oldest()))
	c.db.fail(c.failed)
}

// fill writes a group into a batch: rows and index entries, blocks of
// aggregates, the lease, the field names that are new. It returns the change
// record.
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
	if len(g.Attempts) > 0 {
		if err := c.db.names.flush(func(key, name []byte) error {
			record.set(key, name)
			return b.Set(key, name)
		}); err != nil {
			return LogRecord{}, err
		}
	}
	if c.revision != nil && c.revision.load != nil {
		record.set(loadedKey(c.revision.load.number), c.revision.load.effect)
	}
	var names *value.Names // of table; rows of one table follow each other
	var table uint32
	var key []byte // who keeps it below copies it
	g.Writes.EachWrite(func(k string, w txn.Write) bool {
		key = append(key[:0], k...)
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
			id := rowID(key)
			if c.loading != nil && c.loading.number == id.Table {
				c.loading.disturbed = true
			}
			if names == nil || id.Table != table {
				names, table = c.db.names.of(id.Table), id.Table
			}
			c.db.rows.written(id, names, w.Value, next.at)
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
				a.Owner.(*mutation).refuse(ErrFailed)
			}
			c.durable <- s.state.at
			continue
		}
		c.db.states.publish(s.state)
		for _, a := range s.group.Attempts {
			m := a.Owner.(*mutation)
			at := Timestamp(a.At)
			if m.OnCommit != nil {
				m.OnCommit(Receipt{At: at, Result: m.result, Wrote: true})
			}
			if !m.acked() {
				m.verdict <- verdict{at: at, wrote: true}
			}
		}
		if s.loaded {
			c.db.hub.replaced(s.state)
		} else {
			c.db.hub.committed(s.state, s.group.Touched())
		}
		c.durable <- s.state.at
	}
}
