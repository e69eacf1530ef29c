package sim

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// gates are where the goroutines of one process stop until they are let go. The
// zero value is closed: everybody stops.
type gates struct {
	mu struct {
		sync.Mutex
		open    bool // nobody stops
		dead    bool // the process is gone: whoever comes through must end
		waiting map[string]chan struct{}
		broken  error // what writes to the log fail with
	}
}

// pass stops until the gate is opened. It reports whether the process lives.
func (g *gates) pass(name string) (alive bool) {
	g.mu.Lock()
	if g.mu.open {
		defer g.mu.Unlock()
		return !g.mu.dead
	}
	if g.mu.waiting == nil {
		g.mu.waiting = map[string]chan struct{}{}
	}
	for g.mu.waiting[name] != nil {
		name += "'"
	}
	ch := make(chan struct{})
	g.mu.waiting[name] = ch
	g.mu.Unlock()
	<-ch
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.mu.dead
}

// names returns the gates somebody waits at, in an order of their own.
func (g *gates) names() (out []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name := range g.mu.waiting {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// waits reports whether somebody waits at the gate.
func (g *gates) waits(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.waiting[name] != nil
}

// letGo lets one go on.
func (g *gates) letGo(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.mu.waiting[name])
	delete(g.mu.waiting, name)
}

// set opens the gates for all, or closes them for those that come later.
func (g *gates) set(open, dead bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.open, g.mu.dead = open, dead
	if !open {
		return
	}
	for name, ch := range g.mu.waiting {
		close(ch)
		delete(g.mu.waiting, name)
	}
}

// breakLog makes writes to the log fail from now on; nil mends it.
func (g *gates) breakLog(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.broken = err
}

func (g *gates) logError() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.broken
}

// The gates of the log.
const (
	gateWrite = "log write"
	gateSync  = "log sync"
)

// inject implements errorfs.Injector: writes to the log stop at gates, and fail
// when the log is broken.
func (g *gates) inject(op errorfs.Op) error {
	if !strings.HasSuffix(op.Path, ".log") {
		return nil
	}
	switch op.Kind {
	case errorfs.OpFileWrite:
		g.pass(gateWrite)
	case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
		g.pass(gateSync)
	default:
		return nil
	}
	return g.logError()
}

// call is the context of one call: the database asks Err before it begins an
// execution, and Done before it submits one, so that these are gates as well.
type call struct {
	context.Context
	gates *gates
	name  string
	asked bool // Done, since Err
}

func (c *call) Err() error {
	c.asked = false
	if !c.gates.pass(c.name + " begins") {
		return context.Canceled
	}
	return nil
}

func (c *call) Done() <-chan struct{} {
	if !c.asked {
		c.asked = true
		c.gates.pass(c.name + " submits")
	}
	return nil
}

// clock is a clock whose timers go off when the driver says so, which may be
// late.
type clock struct {
	mu struct {
		sync.Mutex
		now    time.Time
		timers []*timer // by time, those of one time in the order they were set
	}
}

type timer struct {
	at time.Time
	f  func()
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.now
}

func (c *clock) AfterFunc(d time.Duration, f func()) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &timer{at: c.mu.now.Add(max(d, 0)), f: f}
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

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.now = c.mu.now.Add(d)
}

// next returns how long it is until the next timer, not above 0 when one is due.
func (c *clock) next() (wait time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.timers) == 0 {
		return 0, false
	}
	return c.mu.timers[0].at.Sub(c.mu.now), true
}

// fire calls the first timer if it is due.
func (c *clock) fire() {
	c.mu.Lock()
	if len(c.mu.timers) == 0 || c.mu.timers[0].at.After(c.mu.now) {
		c.mu.Unlock()
		return
	}
	t := c.mu.timers[0]
	c.mu.timers = slices.Delete(c.mu.timers, 0, 1)
	c.mu.Unlock()
	t.f()
}

// reset forgets all timers, as the end of a process does.
func (c *clock) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.timers = nil
}
