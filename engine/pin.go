package engine

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// pinKept is how long a pinned state is kept.
	pinKept = 30 * time.Second
	// pinEvery is the least time between two pins: those in between get the
	// timestamp of the earlier one. So at most 300 states are kept.
	pinEvery = 100 * time.Millisecond
)

// pins keeps states for those who were given their timestamps.
type pins struct {
	mu struct {
		sync.Mutex
		list   []pin // oldest first
		closed bool
		stop   func() // ends the timer; nil when none runs
	}
}

// pin is a state with a reference.
type pin struct {
	state *state
	at    time.Time // of the clock, when it was pinned
}

// Pin returns the timestamp of a durable state, the newest one or one that was the
// newest at most 100 ms ago, which QueryAt can read for the next 30 s. What it keeps
// for that is what was overwritten since. Error: ErrClosed.
func (db *DB) Pin() (Timestamp, error) {
	if err := db.enter(); err != nil {
		return 0, err
	}
	defer db.exit()
	now := db.o.Clock.Now()
	p := &db.pins
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.mu.list); n > 0 {
		newest := &p.mu.list[n-1]
		if since := now.Sub(newest.at); since >= 0 && since < pinEvery {
			return newest.state.at, nil
		}
		if newest.state.at == db.states.durableAt() {
			newest.at = now // it is kept for longer
			return newest.state.at, nil
		}
	}
	s := db.states.acquireDurable()
	p.mu.list = append(p.mu.list, pin{s, now})
	if p.mu.stop == nil {
		p.mu.stop = db.o.Clock.AfterFunc(pinKept, db.unpin)
	}
	return s.at, nil
}

// QueryAt is Query on the state of a timestamp that Pin has returned. Queries at the
// same timestamp see the same, and the time that they see is that timestamp's.
// Error: ErrOutOfRetention when the state is no longer kept, or was never pinned.
func (db *DB) QueryAt(ctx context.Context, name string, at Timestamp, fn func(*Tx) error) error {
	_, err := db.query(ctx, name, func() (*state, time.Time, error) {
		s := db.pins.retain(db, at)
		if s == nil {
			return nil, time.Time{}, fmt.Errorf("query at %d: %w", at, ErrOutOfRetention)
		}
		return s, s.at.Time().UTC(), nil
	}, fn)
	return err
}

// retain returns a pinned state with a reference, and nil when there is none of
// that timestamp.
func (p *pins) retain(db *DB, at Timestamp) *state {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pinned := range p.mu.list {
		if pinned.state.at == at {
			db.states.retain(pinned.state)
			return pinned.state
		}
	}
	return nil
}

// unpin lets go of states that were kept for long enough. The timer calls it.
func (db *DB) unpin() {
	now := db.o.Clock.Now()
	p := &db.pins
	p.mu.Lock()
	n := 0
	for n < len(p.mu.list) && !p.mu.list[n].at.Add(pinKept).After(now) {
		n++
	}
	over := append([]pin(nil), p.mu.list[:n]...)
	p.mu.list = append(p.mu.list[:0], p.mu.list[n:]...)
	p.mu.stop = nil
	if len(p.mu.list) > 0 && !p.mu.closed {
		p.mu.stop = db.o.Clock.AfterFunc(max(p.mu.list[0].at.Add(pinKept).Sub(now), time.Millisecond), db.unpin)
	}
	p.mu.Unlock()
	for _, pinned := range over {
		db.states.release(pinned.state)
	}
}

// close lets go of all states. REQUIRES: no call is in progress.
func (p *pins) close(db *DB) {
	p.mu.Lock()
	over, stop := p.mu.list, p.mu.stop
	p.mu.list, p.mu.stop, p.mu.closed = nil, nil, true
	p.mu.Unlock()
	if stop != nil {
		stop()
	}
	for _, pinned := range over {
		db.states.release(pinned.state)
	}
}
