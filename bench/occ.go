package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
)

// How the statistics that Halcyon began with are written, without what was done
// later against their conflicts: a heartbeat finds the visitor's row and writes it, a
// view looks for the last one of the path and is inserted. Their database executes a
// function on a snapshot, and at the commit finds out whether what it read is still
// so; if not, it executes it again, up to four times, after 100 ms to 2 s, and then
// tells the caller an error.
//
// Here the same is done on Halcyon's engine by hand, since the engine has no call
// that fails because another wrote: a query reads, and a mutation writes if what it
// finds is what was read.

const (
	occRetries    = 4
	occBackoff    = 100 * time.Millisecond
	occBackoffMax = 2 * time.Second
)

// occSession is the row of a visitor. Version tells one state of it from all others.
type occSession struct {
	ID          halcyon.ID[occSession] `halcyon:"id"`
	SessionID   string                 `json:"sessionId"`
	CurrentPath string                 `json:"currentPath"`
	LastSeen    time.Time              `json:"lastSeen"`
	Version     int                    `json:"version"`
}

type occView struct {
	Path      string    `json:"path"`
	SessionID string    `json:"sessionId"`
	Timestamp time.Time `json:"timestamp"`
}

var (
	occSessions = halcyon.NewTable[occSession]("activeSessions").Index("by_sessionId", "sessionId").Index("by_lastSeen", "lastSeen")
	occViews    = halcyon.NewTable[occView]("pageViews").Index("by_timestamp", "timestamp").Index("by_session_path", "sessionId", "path", "timestamp")
)

type occArgs struct {
	SessionID string `json:"sessionId"`
	Path      string `json:"path"`
	Read      int    `json:"read"` // what the snapshot said: the version of the row, or how many views there are
}

func occModule() *halcyon.Module {
	m := halcyon.NewModule("naive", occSessions, occViews)
	version := func(tx *halcyon.Tx, args occArgs) (occSession, bool, error) {
		return occSessions.By("by_sessionId").Eq(args.SessionID).First(tx)
	}
	count := func(tx *halcyon.Tx, args occArgs) (int, error) {
		views, err := occViews.By("by_session_path").Eq(args.SessionID, args.Path).Gt(tx.Now().Add(-30*time.Minute)).Take(tx, 2)
		return len(views), err
	}
	m.Query("readBeat", func(tx *halcyon.Tx, args occArgs) (int, error) {
		row, _, err := version(tx, args)
		tx.WakeAt(tx.Now().Add(time.Hour))
		return row.Version, err
	})
	m.Mutation("commitBeat", func(tx *halcyon.Tx, args occArgs) (bool, error) {
		row, there, err := version(tx, args)
		if err != nil || row.Version != args.Read {
			return false, err
		}
		row.SessionID, row.CurrentPath, row.LastSeen = args.SessionID, args.Path, tx.Now()
		row.Version++
		if there {
			return true, occSessions.Replace(tx, row.ID, row)
		}
		_, err = occSessions.Insert(tx, row)
		return true, err
	})
	m.Query("readView", func(tx *halcyon.Tx, args occArgs) (int, error) {
		tx.WakeAt(tx.Now().Add(time.Hour))
		return count(tx, args)
	})
	m.Mutation("commitView", func(tx *halcyon.Tx, args occArgs) (bool, error) {
		n, err := count(tx, args)
		if err != nil || n != args.Read {
			return false, err
		}
		if n > 0 {
			return true, nil
		}
		_, err = occViews.Insert(tx, occView{Path: args.Path, SessionID: args.SessionID, Timestamp: tx.Now()})
		return true, err
	})
	return m
}

// errOCC is what the caller is told after the last retry.
var errOCC = errors.New("documents changed while this mutation was being run and on every subsequent retry")

// occCall runs a function as described above.
func occCall(app *halcyon.App, read, commit string, args occArgs, tally *tally) error {
	backoff := occBackoff
	for try := 0; ; try++ {
		if err := app.Run(context.Background(), read, args, &args.Read); err != nil {
			return err
		}
		var committed bool
		if err := app.Run(context.Background(), commit, args, &committed); err != nil || committed {
			return err
		}
		tally.conflict()
		if try == occRetries {
			return errOCC
		}
		wait(backoff)
		backoff = min(2*backoff, occBackoffMax)
	}
}

// wait waits for half of a backoff to the whole of it.
func wait(backoff time.Duration) { time.Sleep(backoff/2 + rand.N(backoff/2)) }

// tally is what came of the calls of one side.
type tally struct {
	mu        sync.Mutex
	took      []time.Duration
	conflicts int
	failed    int
	busy      int   // calls that were repeated because the machine was
	err       error // the first of another kind
}

func (t *tally) conflict() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conflicts++
}

// call makes a call, and again when the machine was too busy for it, after the
// time that a conflict waits.
func (t *tally) call(f func() error) {
	start := time.Now()
	err := f()
	for backoff := occBackoff; busy(err); backoff = min(2*backoff, occBackoffMax) {
		t.mu.Lock()
		t.busy++
		t.mu.Unlock()
		wait(backoff)
		err = f()
	}
	took := time.Since(start)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.took = append(t.took, took)
	if errors.Is(err, errOCC) {
		t.failed++
	} else if err != nil && t.err == nil {
		t.err = err
	}
}

// busy reports whether a call failed alone, for want of time, and may be repeated.
func busy(err error) bool {
	var code halcyon.Code
	if failure, ok := errors.AsType[*halcyon.Failure](err); ok {
		code = failure.Code
	} else if refused, ok := errors.AsType[*halcyon.RequestError](err); ok {
		code = refused.Code
	}
	return code == halcyon.CodeTimeout || code == halcyon.CodeOverloaded
}

const (
	beatVisitors = 1000
	beatTabs     = 3
	beatEach     = 2 // each tab's effects run twice, as in React's StrictMode
)

// beatInStep has every tab of every visitor change pages at one moment, and send a
// heartbeat and a view, twice each.
func beatInStep(round int, beat, view func(visitor, path string) error, t *tally) {
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range beatVisitors * beatTabs * beatEach {
		group.Go(func() {
			visitor, path := visitorName(i%beatVisitors), pathName(100*round+i/beatVisitors%beatTabs)
			<-start
			t.call(func() error { return beat(visitor, path) })
			t.call(func() error { return view(visitor, path) })
		})
	}
	close(start)
	group.Wait()
}

// contention measures tabs that beat in step, on the module of statistics and beside
// it on the algorithm it was made to replace, in turn.
func contention(s settings) error {
	w, err := s.openStatistics(stats.Options{}, occModule())
	if err != nil {
		return err
	}
	defer w.close()
	mutation := func(path string, args any) error { return w.app.Run(context.Background(), path, args, nil) }
	type heartbeat struct {
		SessionID string `json:"sessionId"`
		Path      string `json:"currentPath"`
	}
	type pageView struct {
		SessionID string `json:"sessionId"`
		Path      string `json:"path"`
		PageType  string `json:"pageType"`
	}
	ours, theirs := new(tally), new(tally)
	for round := range s.rounds {
		beatInStep(round, func(visitor, path string) error { return mutation("stats:heartbeat", heartbeat{visitor, path}) },
			func(visitor, path string) error {
				return mutation("stats:recordPageView", pageView{visitor, path, "page"})
			}, ours)
		beatInStep(round, func(visitor, path string) error {
			return occCall(w.app, "naive:readBeat", "naive:commitBeat", occArgs{SessionID: visitor, Path: path}, theirs)
		}, func(visitor, path string) error {
			return occCall(w.app, "naive:readView", "naive:commitView", occArgs{SessionID: visitor, Path: path}, theirs)
		}, theirs)
		if err := errors.Join(ours.err, theirs.err); err != nil {
			return err
		}
	}
	for _, side := range []struct {
		name string
		t    *tally
	}{{"Halcyon", ours}, {"read, modify, write; four retries", theirs}} {
		sortDurations(side.t.took)
		fmt.Printf("%-36s %7d calls, %d failed (%.2f %%), %d conflicts to retry, %d times busy, %.1f ms p50, %.1f ms p99\n",
			side.name, len(side.t.took), side.t.failed, 100*float64(side.t.failed)/float64(len(side.t.took)), side.t.conflicts, side.t.busy,
			percentile(side.t.took, 0.5), percentile(side.t.took, 0.99))
	}
	v, err := w.query("stats:getStats")
	if err != nil {
		return err
	}
	active, _ := v.Get("activeVisitors").AsFloat64()
	views, _ := v.Get("totalPageViews").AsFloat64()
	want := beatVisitors * beatTabs * s.rounds
	fmt.Printf("%-36s %7.0f visitors and %.0f views are counted\n", "  Halcyon", active, views)
	if int(active) != beatVisitors || int(views) != want {
		return fmt.Errorf("there were %d visitors and %d views", beatVisitors, want)
	}
	return nil
}
