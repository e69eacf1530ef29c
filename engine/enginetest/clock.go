package enginetest

import (
	"slices"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine"
)

// Clock is a clock that moves when it is told to. It is made by NewClock and
// safe for concurrent use.
type Clock struct {
	mu struct {
		sync.Mutex
		now    time.Time
		timers []*timer // by time, those of one time in the order they were set
	}
	advancing sync.Mutex // held by the Advance in progress
}

type timer struct {
	at time.Time
	f  func()
}

var _ engine.Clock = (*Clock)(nil)

// NewClock returns a clock that stands at a time.
func NewClock(now time.Time) *Clock {
	c := &Clock{}
	c.mu.now = now
	return c
}

// Now returns the time the clock stands at.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.now
}

// AfterFunc has an Advance call f once it reaches d from now, unless stop is
// called before. What is due at once is called in a goroutine of its own.
func (c *Clock) AfterFunc(d time.Duration, f func()) (stop func()) {
	if d <= 0 {
		go f()
		return func() {}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{at: c.mu.now.Add(d), f: f}
	i := len(c.mu.timers)
	for i > 0 && c.mu.timers[i-1].at.After(t.at) {
		i--
	}
	c.mu.timers = slices.Insert(c.mu.timers, i, t)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if i := slices.Index(c.mu.timers, t); i >= 0 {
			c.mu.timers = slices.Delete(c.mu.timers, i, i+1)
		}
	}
}

// Advance moves the clock on by d and calls what falls due on the way, one
// after the other at its own time, also what is set by these calls. Calls of
// Advance wait for one another.
func (c *Clock) Advance(d time.Duration) {
	c.advancing.Lock()
	defer c.advancing.Unlock()
	c.mu.Lock()
	end := c.mu.now.Add(d)
	for len(c.mu.timers) > 0 && !c.mu.timers[0].at.After(end) {
		t := c.mu.timers[0]
		c.mu.timers = slices.Delete(c.mu.timers, 0, 1)
		if t.at.After(c.mu.now) {
			c.mu.now = t.at
		}
		c.mu.Unlock()
		t.f()
		c.mu.Lock()
	}
	c.mu.now = end
	c.mu.Unlock()
}

// Next returns when the next timer falls due; ok is false when none is set.
func (c *Clock) Next() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.timers) == 0 {
		return time.Time{}, false
	}
	return c.mu.timers[0].at, true
}
