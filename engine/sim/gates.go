package sim

import (
	"context"
	"slices"
	"strings"
	"sync"

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
