package engine

import (
	"fmt"
	"sync"
	"sync/atomic"
)

// straysMax is how many runs of one function may hang before the function is
// refused.
const straysMax = 3

// strays counts the runs that went on past their time limit, by function.
type strays struct {
	total atomic.Uint64
	mu    struct {
		sync.Mutex
		byName map[string]int
	}
}

// stray counts a run that cannot be stopped.
func (db *DB) stray(name string) {
	db.strays.mu.Lock()
	if db.strays.mu.byName == nil {
		db.strays.mu.byName = map[string]int{}
	}
	db.strays.mu.byName[name]++
	runs := db.strays.mu.byName[name]
	db.strays.mu.Unlock()
	db.strays.total.Add(1)
	if db.events.Stray != nil {
		db.events.Stray(StrayEvent{Function: name, Runs: runs})
	}
}

// refused returns ErrFunctionStuck for a function that hangs too often.
func (db *DB) refused(name string) error {
	if db.strays.total.Load() < straysMax {
		return nil
	}
	db.strays.mu.Lock()
	defer db.strays.mu.Unlock()
	if db.strays.mu.byName[name] < straysMax {
		return nil
	}
	return fmt.Errorf("%s: %w", name, ErrFunctionStuck)
}

// guard watches a function that runs in its caller's goroutine. One that goes
// on for twice its time does not look at its Tx and may never return: it is
// given up, so that what it holds is there for others.
type guard struct {
	stop func()
	mu   struct {
		sync.Mutex
		returned, stray bool
	}
}

// guard begins to watch an execution. When it gives it up it ends the Tx, counts
// the stray and calls free, which gives back what the execution holds.
func (db *DB) guard(name string, tx *Tx, free func()) *guard {
	g := &guard{}
	g.stop = db.o.Clock.AfterFunc(2*db.o.FunctionTimeMax, func() {
		g.mu.Lock()
		g.mu.stray = !g.mu.returned
		stray := g.mu.stray
		g.mu.Unlock()
		if stray {
			tx.end(ErrTimeout)
			db.stray(name)
			free()
		}
	})
	return g
}

// end ends the watch and reports whether the execution was given up. Then its
// caller holds nothing any more and must not touch the database.
func (g *guard) end() (stray bool) {
	g.stop()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.returned = true
	return g.mu.stray
}
