package server

import (
	"log/slog"
	"sync"
	"time"
)

// sweeper looks at every connection now and then: it has pings sent, and drops
// those whose client is gone. One timer for all costs less than several for each
// of ten thousand connections, and is exact enough for seconds.
type sweeper struct {
	server   *Server
	interval time.Duration

	mu struct {
		// A sweep holds the lock, so that end waits for it.
		sync.Mutex
		stop    func()
		ended   bool
		told    time.Time     // of refused calls
		refused int64         // how many had been told of then
		behind  time.Duration // of the wall clock, when that was last told
	}
}

// begin starts the sweeps. They are frequent enough for a ping to be at most a
// fifteenth of its time early.
func (w *sweeper) begin(s *Server) {
	w.server = s
	w.interval = max(min(s.o.PingAfter, s.o.ProbeAfter, s.o.SilenceMax)/15, time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.stop = s.o.Clock.AfterFunc(w.interval, w.sweep)
}

func (w *sweeper) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.ended = true
	w.mu.stop()
}

func (w *sweeper) sweep() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.ended {
		return
	}
	now := w.server.o.Clock.Now()
	for _, c := range w.server.connections() {
		c.sweep(now, w.interval)
	}
	for _, c := range w.server.moduleConns() {
		c.sweep(now, w.interval)
	}
	w.server.sweepLeaving()
	w.tellRefusedLocked(now)
	w.tellSteppedLocked()
	w.mu.stop = w.server.o.Clock.AfterFunc(w.interval, w.sweep)
}

// refusedEvery is how often the log tells of calls that were refused.
const refusedEvery = 10 * time.Second

// tellRefusedLocked tells the operator of calls that were refused for being too
// many.
func (w *sweeper) tellRefusedLocked(now time.Time) {
	if now.Sub(w.mu.told) < refusedEvery {
		return
	}
	all := w.server.refused.Load()
	if n := all - w.mu.refused; n > 0 {
		w.mu.told, w.mu.refused = now, all
		w.server.log.Warn("calls were refused because more come than can be answered in time", slog.Int64("calls", n))
	}
}

// steppedMin is how far the wall clock must have moved from the process's own for the operator to be told. Clocks that are kept by small steps
// drift apart by seconds a month.
const steppedMin = time.Minute

// tellSteppedLocked tells the operator that the wall clock was set, or that the machine was suspended: the process goes on by the time that it had.
func (w *sweeper) tellSteppedLocked() {
	clock, ok := w.server.o.Clock.(systemClock)
	if !ok {
		return
	}
	behind := clock.behind()
	if step := behind - w.mu.behind; step > -steppedMin && step < steppedMin {
		return
	}
	w.mu.behind = behind
	w.server.log.Warn("the clock of the machine was set, or the machine was suspended; this process goes on by the time it had until it is started again",
		slog.String("behind", behind.Round(time.Second).String()))
}

// sweep does what time asks for on one connection. next is when it will be
// called again.
func (c *conn) sweep(now time.Time, next time.Duration) {
	if c.stopped.Load() {
		return // its socket has a deadline
	}
	if c.lapsed(now) {
		c.lapse()
		return
	}
	o := &c.server.o
	since := func(nanos int64) time.Duration { return time.Duration(now.UnixNano() - nanos) }
	if at := c.messageAt.Load(); at != 0 && since(at) > o.BodyTimeout {
		c.closeNow(closePolicy, reasonSlow)
		return
	}
	silent := since(c.seenAt.Load())
	if silent > o.SilenceMax {
		c.closeNow(closePolicy, reasonSilent)
		return
	}
	ping := since(c.sentAt.Load())+next >= o.PingAfter
	probe := silent+next >= o.ProbeAfter && since(c.probedAt.Load())+next >= o.ProbeAfter
	if probe {
		c.probedAt.Store(now.UnixNano())
	}
	if ping || probe {
		c.out.Lock()
		c.out.ping = c.out.ping || ping
		c.out.probe = c.out.probe || probe
		c.out.Unlock()
	}
	if ping || probe || c.replaying.Load() {
		c.wake(false)
	}
}
