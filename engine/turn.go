package engine

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
)

// turnMax is how long the committer waits for a function that it executes in
// its turn. One that takes longer was taken for a quick one; it goes on to be
// executed in parallel, with a reservation.
const turnMax = 20 * time.Millisecond

// errTurnOver ends an execution that took too long for the committer's turn.
var errTurnOver = errors.New("the execution took too long for the committer's turn")

// turn is one execution in the committer's turn.
type turn struct {
	m     *mutation
	tx    *Tx
	state *atomic.Int32 // turnRuns, and then what happened first
	done  chan turnDone
	over  chan struct{} // closed when its time is over
}

const (
	turnRuns int32 = iota
	turnReturned
	turnGivenUp
)

type turnDone struct {
	result []byte
	replay *Receipt
	err    error
}

// turn executes a mutation on the open group's overlay, where nothing can come
// between its reads and its writes.
func (c *committer) turn(m *mutation) {
	if err := c.db.refused(m.Name); err != nil {
		c.end(m, verdict{err: err})
		return
	}
	s := c.db.states.beginAttempt()
	// Not the executor: when it hangs, the state is free all the same, since the
	// Tx that reads it is dead.
	defer c.db.states.endAttempt(s)
	start := c.db.o.Clock.Now()
	tx := c.db.newTx(s, c.m.Overlay(), true, transactionTime(start))
	tx.name = m.Name
	t := turn{m: m, tx: tx, state: new(atomic.Int32), done: make(chan turnDone, 1), over: make(chan struct{})}
	late := make(chan struct{})
	stop := c.db.o.Clock.AfterFunc(min(turnMax, c.db.o.FunctionTimeMax), func() { close(late) })
	defer stop()
	stopOver := c.db.o.Clock.AfterFunc(c.db.o.FunctionTimeMax, func() { close(t.over) })
	c.turns <- t
	var d turnDone
	select {
	case d = <-t.done:
		stopOver()
	case <-late:
		if !t.state.CompareAndSwap(turnRuns, turnGivenUp) {
			d = <-t.done // it has just returned, and its goroutine takes the next turn
			stopOver()
			break
		}
		// The goroutine cannot be stopped. Its Tx fails from here on, so that it
		// can touch nothing, and another one takes the next turns.
		tx.end(errTurnOver)
		c.m.Release(m)
		go c.executeTurns()
		c.db.pipeline.Go(func() {
			defer stopOver()
			c.leave(t)
		})
		return
	}
	m.attempt.Cost = m.cost.ran(c.db.o.Clock.Now().Sub(start))
	m.result, m.ops, m.catalog = d.result, tx.unresolved(), s.catalog
	if d.replay != nil || d.err != nil || tx.mu.own.Empty() && len(m.ops) == 0 {
		// It rests on everything accepted so far.
		c.end(m, verdict{at: Timestamp(c.m.Last()), replay: d.replay, err: d.err})
		return
	}
	m.attempt = commit.Attempt{Snapshot: c.m.Last(), Reads: &tx.mu.reads, Writes: tx.mu.own, Cost: m.attempt.Cost, Owner: m, Label: &m.cost.name}
	c.judge(m) // it has lost to nobody, but may write what is reserved
}

// end answers a call of which nothing is accepted. What it had reserved ends with
// it: it was reserved if it lost before, and is quick now.
func (c *committer) end(m *mutation, v verdict) {
	c.m.Release(m)
	m.verdict <- v
}

// leave waits for a function that overran its turn. When it returns it is
// executed again in parallel; when it does not, it is a stray.
func (c *committer) leave(t turn) {
	select {
	case <-t.done:
		t.m.cost.ran(c.db.o.FunctionTimeMax)
		t.m.slow = true
		t.m.verdict <- verdict{again: true}
	case <-t.over:
		t.tx.end(ErrTimeout)
		c.db.stray(t.m.Name)
		t.m.verdict <- verdict{err: ErrTimeout}
	}
}

// executeTurns runs functions for the committer until it ends, or until the
// committer gave up waiting for it. The committer starts it.
func (c *committer) executeTurns() {
	for t := range c.turns {
		result, replay, err := c.db.execute(t.m, t.tx)
		inTime := t.state.CompareAndSwap(turnRuns, turnReturned)
		t.done <- turnDone{result, replay, err}
		if !inTime {
			return // another goroutine has taken over
		}
	}
}
