package stats_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// noon is when tests begin.
var noon = time.Date(2026, time.March, 14, 12, 0, 0, 0, time.UTC)

// world is the module on a database in memory, at a time that the test moves.
type world struct {
	keys  string // see dir
	t     testing.TB
	app   *halcyon.App
	clock *fakeClock
	files vfs.FS
	crons chan halcyon.CronRun // the last run of the cleanup

	mu struct {
		sync.Mutex
		conflicts map[string]int
	}
}

func newWorld(t testing.TB, options stats.Options, others ...*halcyon.Module) *world {
	t.Helper()
	return mount(t, append(others, stats.Module(options))...)
}

func mount(t testing.TB, modules ...*halcyon.Module) *world {
	t.Helper()
	w := &world{t: t, clock: newFakeClock(noon), files: vfs.NewMem(), crons: make(chan halcyon.CronRun, 1)}
	var err error
	if w.app, err = halcyon.NewApp(append(modules, settling())...); err != nil {
		t.Fatal(err)
	}
	w.mu.conflicts = make(map[string]int)
	w.openApp()
	return w
}

// reopen is the program started anew on the same data, with other settings.
func (w *world) reopen(options stats.Options, others ...*halcyon.Module) {
	w.t.Helper()
	if err := w.app.Close(); err != nil {
		w.t.Fatal(err)
	}
	var err error
	if w.app, err = halcyon.NewApp(append(others, stats.Module(options), settling())...); err != nil {
		w.t.Fatal(err)
	}
	w.openApp()
}

func (w *world) openApp() {
	w.t.Helper()
	app, t := w.app, w.t
	options := &halcyon.Options{
		Engine: engine.Options{FS: w.files, Clock: w.clock, Seed: 1, Events: engine.Events{Conflict: w.met}},
		OnCron: func(run halcyon.CronRun) {
			if run.Name == "stats/cleanup stale sessions" {
				w.crons <- run
			} else if run.Err != nil {
				t.Errorf("cron %s: %v", run.Name, run.Err)
			}
		},
	}
	if err := app.Open("data", options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
}

// rollUp runs a batch, and returns how many rows it took.
func (w *world) rollUp() int {
	w.t.Helper()
	w.clock.advance(time.Millisecond) // a run leaves what is stored in its millisecond to the next
	n, _ := w.do("stats:rollUp", nil).AsFloat64()
	return int(n)
}

type settled struct {
	At time.Time `json:"at"`
}

var settles = halcyon.NewTable[settled]("settles")

// settling is a module with a mutation that writes something.
func settling() *halcyon.Module {
	m := halcyon.NewModule("settling", settles)
	m.Mutation("settle", func(tx *halcyon.Tx) error {
		_, err := settles.Insert(tx, settled{tx.Now()})
		return err
	})
	return m
}

// settle returns when everything that was answered is on the disk, also what the
// intake is told before it is: this is behind it.
func (w *world) settle() {
	w.t.Helper()
	w.do("settling:settle", nil)
}

// inMemory are options for a database that is gone with the test.
func inMemory() *halcyon.Options {
	return &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute}}
}

// object is the arguments of a call.
type object map[string]any

func (o object) value(t testing.TB) value.Value {
	t.Helper()
	v, err := halcyon.Encode(map[string]any(o))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// try calls a mutation.
func (w *world) try(path string, args object) (halcyon.Outcome, error) {
	return w.app.Mutation(context.Background(), halcyon.Request{Path: path, Args: args.value(w.t), Admin: true})
}

// do calls a mutation that has to succeed.
func (w *world) do(path string, args object) value.Value {
	w.t.Helper()
	outcome, err := w.try(path, args)
	if err != nil || outcome.Failure != nil {
		w.t.Fatalf("%s(%.300v): %v, %v", path, args, outcome.Failure, err)
	}
	return outcome.Value
}

// refused calls a mutation that has to fail and returns the code of its error.
func (w *world) refused(path string, args object) string {
	w.t.Helper()
	outcome, err := w.try(path, args)
	if err != nil || outcome.Failure == nil {
		w.t.Fatalf("%s: %s, %v; want a failure", path, show(outcome.Value), err)
	}
	code, _ := outcome.Failure.Data.Get("code").AsString()
	return code
}

// query calls a query.
func (w *world) query(path string, args object) (halcyon.Outcome, error) {
	return w.app.Query(context.Background(), halcyon.Request{Path: path, Args: args.value(w.t)})
}

// ask calls a query that has to succeed.
func (w *world) ask(path string, args object) value.Value {
	w.t.Helper()
	outcome, err := w.app.Query(context.Background(), halcyon.Request{Path: path, Args: args.value(w.t), Admin: true})
	if err != nil || outcome.Failure != nil {
		w.t.Fatalf("%s(%v): %v, %v", path, args, outcome.Failure, err)
	}
	return outcome.Value
}

// overview is the result of getStats as a client reads it.
type overview struct {
	ActiveVisitors int
	ActiveByPath   []struct {
		Path  string
		Count int
	}
	TotalPageViews, UniqueVisitors int
	PublishedPosts, PublishedPages int
	TrackingSince                  *float64
	TotalPaths                     int
	PageStats                      []page
	VisitorLocations               []struct {
		Latitude, Longitude float64
		City, Country       *string
		Count               *int
	}
}

type page struct {
	Path, Title, PageType string
	Views                 int
}

// stats asks getStats.
func (w *world) stats() overview {
	w.t.Helper()
	return readOverview(w.t, value.AppendJSON(nil, w.ask("stats:getStats", nil)))
}

func readOverview(t testing.TB, text []byte) overview {
	t.Helper()
	var read overview
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatalf("read %s: %v", text, err)
	}
	return read
}

func show(v value.Value) string { return string(value.AppendJSON(nil, v)) }

// view records a page view.
func (w *world) view(visitor, path string) {
	w.t.Helper()
	w.do("stats:recordPageView", object{"path": path, "pageType": "page", "sessionId": visitor})
}

// beat sends a heartbeat.
func (w *world) beat(visitor, path string) {
	w.t.Helper()
	w.do("stats:heartbeat", object{"sessionId": visitor, "currentPath": path})
}

// sessions returns the rows of activeSessions, newest last.
func (w *world) sessions() []map[string]any {
	w.t.Helper()
	var rows []map[string]any
	if err := json.Unmarshal(value.AppendJSON(nil, w.ask("probe:sessions", nil)), &rows); err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// probe is a module that sees the tables of stats from outside, to look at rows
// and to make rows that its functions would not.
func probe() *halcyon.Module {
	m := halcyon.NewModule("probe")
	m.Query("sessions", func(tx *halcyon.Tx) ([]stats.ActiveSession, error) {
		return stats.ActiveSessions.All().Take(tx, 10_000)
	})
	m.Query("visitors", func(tx *halcyon.Tx) ([]stats.Visitor, error) {
		return stats.Visitors.All().Take(tx, 10_000)
	})
	m.Query("rollups", func(tx *halcyon.Tx) ([]stats.Rollup, error) {
		return stats.Rollups.All().Take(tx, 10_000)
	})
	m.Query("spansOf", func(tx *halcyon.Tx, args struct {
		Site string `json:"site"`
	}) (rows []int, err error) {
		spans, err := stats.Spans.By("by_scope").Eq(args.Site).Take(tx, 10_000)
		if err != nil {
			return nil, err
		}
		stale, err := stats.Stales.By("by_scope").Eq(args.Site).Take(tx, 10_000)
		return []int{len(spans), len(stale)}, err
	})
	m.Query("secrets", func(tx *halcyon.Tx) ([]stats.Secret, error) {
		return stats.Secrets.All().Take(tx, 10)
	})
	m.Query("views", func(tx *halcyon.Tx) ([]stats.PageView, error) {
		return stats.PageViews.By("by_timestamp").Take(tx, 10_000)
	})
	m.Mutation("addSession", func(tx *halcyon.Tx, args struct {
		SessionID string    `json:"sessionId"`
		Path      string    `json:"path"`
		LastSeen  time.Time `json:"lastSeen"`
	}) error {
		if _, known, err := stats.Sites.By("by_name").Eq("").First(tx); err != nil {
			return err
		} else if !known {
			if _, err := stats.Sites.Insert(tx, stats.Site{FirstSeen: args.LastSeen}); err != nil {
				return err
			}
		}
		_, err := stats.ActiveSessions.Insert(tx, stats.ActiveSession{
			SessionID: args.SessionID, CurrentPath: args.Path, LastSeen: args.LastSeen,
		})
		return err
	})
	m.Mutation("damage", func(tx *halcyon.Tx) error {
		for view, err := range stats.PageViews.All().Each(tx) {
			if err != nil {
				return err
			}
			fields := halcyon.Fields{"before": view.Timestamp.Add(-time.Hour), "beforeHere": view.Timestamp.Add(-time.Minute)}
			if err := stats.PageViews.Patch(tx, view.ID, fields); err != nil {
				return err
			}
		}
		for visitor, err := range stats.Visitors.All().Each(tx) {
			if err != nil {
				return err
			}
			if err := stats.Visitors.Delete(tx, visitor.ID); err != nil {
				return err
			}
		}
		return damageRollups(tx)
	})
	m.Mutation("damageRollups", damageRollups)
	m.Mutation("addViews", func(tx *halcyon.Tx, args struct {
		Count int       `json:"count"`
		Paths int       `json:"paths"`
		From  time.Time `json:"from"`
	}) error {
		for i := range args.Count {
			view := stats.PageView{Path: fmt.Sprintf("/%d", i%args.Paths), PageType: "page", SessionID: "v", Timestamp: args.From}
			if _, err := stats.PageViews.Insert(tx, view); err != nil {
				return err
			}
		}
		return nil
	})
	return m
}

// damageRollups makes the sums of rows wrong. Those of folded views can't be counted
// again.
func damageRollups(tx *halcyon.Tx) error {
	for rollup, err := range stats.Rollups.All().Each(tx) {
		if err != nil {
			return err
		}
		if rollup.Kind > 1 {
			continue
		}
		if err := stats.Rollups.Patch(tx, rollup.ID, halcyon.Fields{"views": rollup.Views + 1}); err != nil {
			return err
		}
	}
	return nil
}

// atOnce runs f for 0 to n-1 together and returns when all are done.
func atOnce(n int, f func(i int)) {
	var group sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		group.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	group.Wait()
}

func visitorID(i int) string { return fmt.Sprintf("visitor-%04d", i) }
