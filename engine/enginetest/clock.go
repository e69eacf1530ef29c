package enginetest

import (
	"slices"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine"
)

// timers are a time and what is to be called later, by time, that of one time in
// the order it was set.
type timers struct {
	mu struct {
		sync.Mutex
		now time.Time
		set []*timer
	}
}

type timer struct {
	at time.Time
	f  func()
}

// Now returns the time the clock stands at.
func (c *timers) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.now
}

// Next returns when the next timer falls due; ok is false when none is set.
func (c *timers) Next() (at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.set) == 0 {
		return time.Time{}, false
	}
	return c.mu.set[0].at, true
}

// add sets a timer.
func (c *timers) add(d time.Duration, f func()) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{at: c.mu.now.Add(d), f: f}
	i := len(c.mu.set)
	for i > 0 && c.mu.set[i-1].at.After(t.at) {
		i--
	}
	c.mu.set = slices.Insert(c.mu.set, i, t)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if i := slices.Index(c.mu.set, t); i >= 0 {
			c.mu.set = slices.Delete(c.mu.set, i, i+1)
		}
	}
}

// takeLocked takes the next timer out if it is due at a time.
func (c *timers) takeLocked(at time.Time) (*timer, bool) {
	if len(c.mu.set) == 0 || c.mu.set[0].at.After(at) {
		return nil, false
	}
	t := c.mu.set[0]
	c.mu.set = slices.Delete(c.mu.set, 0, 1)
	return t, true
}

// Clock is a clock that moves when it is told to, and then calls what falls due.
// It is made by NewClock and safe for concurrent use.
type Clock struct {
	timers
	advancing sync.Mutex // held by the Advance in progress
}

var _ engine.Clock = (*Clock)(nil)

// NewClock returns a clock that stands at a time.
func NewClock(now time.Time) *Clock {
	c := &Clock{}
	c.mu.now = now
	return c
}

// AfterFunc has an Advance call f once it reaches d from now, unless stop is
// called before. What is due at once is called in a goroutine of its own.
func (c *Clock) AfterFunc(d time.Duration, f func()) (stop func()) {
	if d <= 0 {
		go f()
		return func() {}
	}
	return c.add(d, f)
}

// Advance moves the clock on by d and calls what falls due on the way, one
// after the other at its own time, also what is set by these calls. Calls of
// Advance wait for one another.
func (c *Clock) Advance(d time.Duration) {
	c.advancing.Lock()
	defer c.advancing.Unlock()
	c.mu.Lock()
	end := c.mu.now.Add(d)
	for t, ok := c.takeLocked(end); ok; t, ok = c.takeLocked(end) {
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

// SteppedClock is a clock of which also the timers go off only when they are told
// to, which may be late. It is made by NewSteppedClock and safe for concurrent use.
type SteppedClock struct{ timers }

var _ engine.Clock = (*SteppedClock)(nil)

// NewSteppedClock returns a clock that stands at a time.
func NewSteppedClock(now time.Time) *SteppedClock {
	c := &SteppedClock{}
	c.mu.now = now
	return c
}

// AfterFunc has a Fire call f at d from now or later, unless stop is called before.
func (c *SteppedClock) AfterFunc(d time.Duration, f func()) (stop func()) { return c.add(max(d, 0), f) }

// Advance moves the clock on by d and calls nothing.
func (c *SteppedClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = c.mu.now.Add(d)
}

// Wait returns how long it is until the next timer, not above 0 when one is due;
// ok is false when none is set.
func (c *SteppedClock) Wait() (d time.Duration, ok bool) {
	at, ok := c.Next()
	if !ok {
		return 0, false
	}
	return at.Sub(c.Now()), true
}

// Fire calls the first timer if it is due.
func (c *SteppedClock) Fire() {
	c.mu.Lock()
	t, ok := c.takeLocked(c.mu.now)
	c.mu.Unlock()
	if ok {
		t.f()
	}
}

// Reset forgets all timers, as the end of a process does.
func (c *SteppedClock) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.set = nil
}
