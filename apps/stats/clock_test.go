package stats_test

import (
	"slices"
	"sync"
	"time"
)

// fakeClock is a clock that moves only when told to.
type fakeClock struct {
	armed chan struct{} // holds a token when a timer was set

	mu struct {
		sync.Mutex
		now    time.Time
		pace   time.Duration // see slow
		timers []*fakeTimer
	}
}

type fakeTimer struct {
	at time.Time
	f  func()
}

func newFakeClock(now time.Time) *fakeClock {
	c := &fakeClock{armed: make(chan struct{}, 1)}
	c.mu.now = now
	return c
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = c.mu.now.Add(c.mu.pace)
	return c.mu.now
}

// slow has the clock move on by so much each time it is looked at, and start no
// timer by it.
func (c *fakeClock) slow(pace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.pace = pace
}

// relaxedWait is how long the engine lets a relaxed function wait for others to
// go to the disk with. On this clock that is no time at all: whoever calls one
// waits for it to be durable.
const relaxedWait = 20 * time.Millisecond

func (c *fakeClock) AfterFunc(d time.Duration, f func()) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d <= 0 || d == relaxedWait {
		go f()
		return func() {}
	}
	timer := &fakeTimer{c.mu.now.Add(d), f}
	c.mu.timers = append(c.mu.timers, timer)
	select {
	case c.armed <- struct{}{}:
	default:
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mu.timers = slices.DeleteFunc(c.mu.timers, func(other *fakeTimer) bool { return other == timer })
	}
}

// advance moves the clock on and starts what is due.
func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = c.mu.now.Add(d)
	c.mu.timers = slices.DeleteFunc(c.mu.timers, func(timer *fakeTimer) bool {
		due := !timer.at.After(c.mu.now)
		if due {
			go timer.f()
		}
		return due
	})
}

// comeTo moves the clock from timer to timer until one is set for that time.
func (c *fakeClock) comeTo(at time.Time) {
	for {
		c.mu.Lock()
		set, first := false, at
		for _, timer := range c.mu.timers {
			set = set || timer.at.Equal(at)
			if timer.at.After(c.mu.now) && timer.at.Before(first) {
				first = timer.at
			}
		}
		ahead := first.Sub(c.mu.now)
		c.mu.Unlock()
		switch {
		case set:
			return
		case first.Before(at):
			c.advance(ahead)
		default:
			<-c.armed
		}
	}
}
