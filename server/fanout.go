package server

import (
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine"
)

// urgentInRow is how many urgent connections are served before one of the
// others gets its turn.
const urgentInRow = 8

// fanout decides which connection is served next. Connections that may have
// something to send wait in a queue, each at most once, and a fixed number of
// workers serve them one step at a time; a connection is never served by two at
// once. Idle connections cost nothing here.
//
// # Ticks
//
// Time is cut into ticks. A connection that has already been sent a Transition
// in this tick and has another one is put off to the next, in which the queue
// is served from its front. When serving everybody takes longer than a tick, a
// connection that is put in again stands behind all others, so the time between
// two of its Transitions stretches to what serving everybody takes.
//
// # Order
//
// Connections whose client waits for an answer are urgent: of nine turns they
// get eight, so that an answer does not wait behind ten thousand viewers, and
// the viewers do not starve.
type fanout struct {
	clock engine.Clock
	tick  time.Duration
	work  sync.WaitGroup // the workers

	mu struct {
		sync.Mutex
		ready          *sync.Cond
		urgent, normal ring
		inRow          int
		// later waits for the next tick; stop is set while its timer runs.
		later []*conn
		stop  func()
		ended bool
	}
}

// turn says where a connection is on its way through the fanout. The zero
// value is that of an idle one.
type turn struct {
	at     place
	urgent bool
	// again asks for another step after the one that is running.
	again bool
}

type place uint8

const (
	idle place = iota
	queued
	running
	putOff // to the next tick
	removed
)

func newFanout(clock engine.Clock, tick time.Duration, workers int, step func(*conn, *composer) (later bool)) *fanout {
	f := &fanout{clock: clock, tick: tick}
	f.mu.ready = sync.NewCond(&f.mu.Mutex)
	for range workers {
		f.work.Go(func() { f.serve(step) })
	}
	return f
}

// tickNow returns the number of the tick.
func (f *fanout) tickNow() int64 { return f.clock.Now().UnixNano() / int64(f.tick) }

// mark has a connection served. It is quick and never waits for anything but
// the queue itself, so it may be called with any other lock held.
func (f *fanout) mark(c *conn, urgent bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.markLocked(c, urgent)
}

func (f *fanout) markLocked(c *conn, urgent bool) {
	switch c.turn.at {
	case running:
		c.turn.again = true
		c.turn.urgent = c.turn.urgent || urgent
		return
	case removed:
		return
	case idle:
	case queued, putOff:
		// A connection that becomes urgent stands in two places, and is passed
		// over at the second.
		if !urgent || c.turn.urgent {
			return
		}
	}
	if f.mu.ended {
		return
	}
	c.turn.at, c.turn.urgent = queued, urgent
	if urgent {
		f.mu.urgent.push(c)
	} else {
		f.mu.normal.push(c)
	}
	f.mu.ready.Signal()
}

// remove takes a connection out for good. A step that is running goes on.
func (f *fanout) remove(c *conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.turn.at = removed
}

// serve is a worker.
func (f *fanout) serve(step func(*conn, *composer) bool) {
	var w composer
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		c := f.nextLocked()
		if c == nil {
			if f.mu.ended {
				return
			}
			f.mu.ready.Wait()
			continue
		}
		if c.turn.at != queued {
			continue // it stood in two places, or is gone
		}
		c.turn = turn{at: running}
		f.mu.Unlock()
		later := step(c, &w)
		f.mu.Lock()
		if c.turn.at != running {
			continue
		}
		again, urgent := c.turn.again, c.turn.urgent
		c.turn = turn{}
		switch {
		case again:
			f.markLocked(c, urgent)
		case later && !f.mu.ended:
			c.turn.at = putOff
			f.mu.later = append(f.mu.later, c)
			f.armLocked()
		}
	}
}

func (f *fanout) nextLocked() *conn {
	if f.mu.inRow < urgentInRow || f.mu.normal.len() == 0 {
		if c := f.mu.urgent.pop(); c != nil {
			f.mu.inRow++
			return c
		}
	}
	f.mu.inRow = 0
	return f.mu.normal.pop()
}

// armLocked makes the timer of the next tick run.
func (f *fanout) armLocked() {
	if f.mu.stop != nil {
		return
	}
	now := f.clock.Now()
	wait := f.tick - time.Duration(now.UnixNano())%f.tick
	f.mu.stop = f.clock.AfterFunc(wait, f.nextTick)
}

func (f *fanout) nextTick() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.stop = nil
	later := f.mu.later
	f.mu.later = nil
	for _, c := range later {
		if c.turn.at == putOff {
			c.turn.at = idle
			f.markLocked(c, false)
		}
	}
}

// end stops the workers after what is queued has been served, and waits.
func (f *fanout) end() {
	f.mu.Lock()
	f.mu.ended = true
	if f.mu.stop != nil {
		f.mu.stop()
		f.mu.stop = nil
	}
	f.mu.ready.Broadcast()
	f.mu.Unlock()
	f.work.Wait()
}

// ring is a queue of connections. Its memory follows the number of entries.
type ring struct {
	items []*conn
	head  int
	n     int
}

func (r *ring) len() int { return r.n }

func (r *ring) push(c *conn) {
	if r.n == len(r.items) {
		grown := make([]*conn, max(16, 2*r.n))
		for i := range r.n {
			grown[i] = r.items[(r.head+i)%len(r.items)]
		}
		r.items, r.head = grown, 0
	}
	r.items[(r.head+r.n)%len(r.items)] = c
	r.n++
}

// pop returns nil when the ring is empty.
func (r *ring) pop() *conn {
	if r.n == 0 {
		return nil
	}
	c := r.items[r.head]
	r.items[r.head] = nil
	r.head = (r.head + 1) % len(r.items)
	r.n--
	return c
}
