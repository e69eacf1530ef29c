package stats_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

func TestHeartbeat(t *testing.T) {
	const (
		ms    = time.Millisecond
		sec   = time.Second
		berne = "Berne"
	)
	type step struct {
		at   time.Duration // after the first
		args object        // beside sessionId and currentPath "/a"
		want object        // what the row says besides
		seen time.Duration // what its lastSeen is, after the first
	}
	tests := []struct {
		name  string
		steps []step
	}{
		{"unchanged, 1 ms inside the window: skipped", []step{{0, nil, nil, 0}, {20*sec - ms, nil, nil, 0}}},
		{"unchanged, at the end of the window: applied", []step{{0, nil, nil, 0}, {20 * sec, nil, nil, 20 * sec}}},
		{"a skipped beat does not prolong the window", []step{
			{0, nil, nil, 0}, {15 * sec, nil, nil, 0}, {20 * sec, nil, nil, 20 * sec}}},
		{"another path inside the window: applied", []step{
			{0, nil, nil, 0}, {5 * sec, object{"currentPath": "/b"}, object{"currentPath": "/b"}, 5 * sec}}},
		{"another path and back in one millisecond", []step{
			{0, nil, nil, 0},
			{0, object{"currentPath": "/b"}, object{"currentPath": "/b"}, 0},
			{0, nil, nil, 0}}},
		{"a place inside the window: applied", []step{
			{0, nil, nil, 0}, {sec, object{"city": berne}, object{"city": berne}, sec}}},
		{"the same place again: skipped", []step{
			{0, object{"city": berne}, object{"city": berne}, 0}, {sec, object{"city": berne}, object{"city": berne}, 0}}},
		{"no place: the known one stays", []step{
			{0, object{"city": berne, "latitude": 46.9}, object{"city": berne, "latitude": 46.9}, 0},
			{30 * sec, nil, object{"city": berne, "latitude": 46.9}, 30 * sec}}},
		{"a part of a place: the others stay", []step{
			{0, object{"city": berne, "country": "CH"}, object{"city": berne, "country": "CH"}, 0},
			{sec, object{"city": "Basle"}, object{"city": "Basle", "country": "CH"}, sec}}},
		{"0 is a coordinate", []step{
			{0, object{"latitude": 0.0, "longitude": 0.0}, object{"latitude": 0.0, "longitude": 0.0}, 0}}},
		{"0 replaces a coordinate", []step{
			{0, object{"latitude": 5.0}, object{"latitude": 5.0}, 0},
			{sec, object{"latitude": 0.0}, object{"latitude": 0.0}, sec}}},
		{"the ends of the earth", []step{
			{0, object{"latitude": -90.0, "longitude": 180.0}, object{"latitude": -90.0, "longitude": 180.0}, 0}}},
		{"beyond the ends of the earth", []step{
			{0, object{"latitude": 90.1, "longitude": -180.1}, nil, 0}}},
		{"no numbers", []step{
			{0, object{"latitude": math.NaN(), "longitude": math.Inf(1)}, nil, 0}}},
		{"a bad place does not undo a good one", []step{
			{0, object{"latitude": 1.0}, object{"latitude": 1.0}, 0},
			{sec, object{"latitude": math.NaN(), "city": ""}, object{"latitude": 1.0}, 0}}},
		{"the path is cleaned before it is compared", []step{
			{0, nil, nil, 0}, {sec, object{"currentPath": "/a?x#y"}, nil, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, stats.Options{}, probe())
			passed := time.Duration(0)
			for i, step := range tt.steps {
				w.clock.advance(step.at - passed)
				passed = step.at
				args := object{"sessionId": "ada", "currentPath": "/a"}
				for name, arg := range step.args {
					args[name] = arg
				}
				w.do("stats:heartbeat", args)

				want := map[string]any{"site": "", "sessionId": "ada", "currentPath": "/a", "lastSeen": float64(noon.Add(step.seen).UnixMilli())}
				for name, field := range step.want {
					want[name] = field
				}
				rows := w.sessions()
				for _, row := range rows {
					delete(row, "_id")
				}
				if diff := cmp.Diff([]map[string]any{want}, rows); diff != "" {
					t.Fatalf("rows after beat %d (-want +got):\n%s", i, diff)
				}
			}
		})
	}
}

func TestHeartbeatNeverGoesBackward(t *testing.T) {
	w := newWorld(t, stats.Options{}, probe())
	w.beat("ada", "/a")
	w.clock.advance(-time.Hour)
	w.beat("ada", "/b")
	rows := w.sessions()
	if len(rows) != 1 || rows[0]["currentPath"] != "/b" || rows[0]["lastSeen"] != float64(noon.UnixMilli()) {
		t.Errorf("rows %v, want one on /b, last seen at noon", rows)
	}
}

func TestIgnoreClientPlace(t *testing.T) {
	w := newWorld(t, stats.Options{IgnoreClientPlace: true})
	w.do("stats:heartbeat", object{"sessionId": "ada", "currentPath": "/", "city": "Berne", "latitude": 46.9, "longitude": 7.4})
	if got := w.stats(); got.ActiveVisitors != 1 || len(got.VisitorLocations) != 0 {
		t.Errorf("%d visitors at %v, want 1 nowhere", got.ActiveVisitors, got.VisitorLocations)
	}
}

func TestVisitorsLeaveAfterTheTimeout(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.beat("ada", "/a")
	for _, step := range []struct {
		advance time.Duration
		want    int
	}{{2*time.Minute - time.Millisecond, 1}, {time.Millisecond, 0}} {
		w.clock.advance(step.advance)
		if got := w.stats().ActiveVisitors; got != step.want {
			t.Errorf("at %v: %d active, want %d", w.clock.Now().Sub(noon), got, step.want)
		}
	}
}

// TestBeatsInStep is every tab of every visitor beating together, twice each as React's
// StrictMode has it, while all of them change pages. Nobody's call fails and every
// number is exact.
func TestBeatsInStep(t *testing.T) {
	const connections = 3 * 2
	visitors := 1000
	if underRace {
		visitors = 100
	}
	w := newWorld(t, stats.Options{}, probe())
	w.beat(visitorID(0), "/0") // the first of a site makes the row of the site, which the others then only read
	rounds := 3
	for round := range rounds {
		path := func(visitor int) string { return fmt.Sprintf("/%d", (visitor+round)%7) }
		atOnce(visitors*connections, func(i int) {
			visitor := i % visitors
			outcome, err := w.try("stats:heartbeat", object{"sessionId": visitorID(visitor), "currentPath": path(visitor)})
			if err != nil || outcome.Failure != nil {
				t.Errorf("round %d, beat of visitor %d: %v, %v", round, visitor, outcome.Failure, err)
			}
			outcome, err = w.try("stats:recordPageView", object{"sessionId": visitorID(visitor), "path": path(visitor), "pageType": "page"})
			if err != nil || outcome.Failure != nil {
				t.Errorf("round %d, view of visitor %d: %v, %v", round, visitor, outcome.Failure, err)
			}
		})
		onPath := make(map[string]int)
		for visitor := range visitors {
			onPath[path(visitor)]++
		}
		got := w.stats()
		if got.ActiveVisitors != visitors || got.UniqueVisitors != visitors || got.TotalPageViews != visitors*(round+1) {
			t.Errorf("round %d: %d active, %d visitors, %d views; want %d, %d, %d", round,
				got.ActiveVisitors, got.UniqueVisitors, got.TotalPageViews, visitors, visitors, visitors*(round+1))
		}
		for _, at := range got.ActiveByPath {
			if at.Count != onPath[at.Path] {
				t.Errorf("round %d: %d on %s, want %d", round, at.Count, at.Path, onPath[at.Path])
			}
			delete(onPath, at.Path)
		}
		if len(onPath) > 0 {
			t.Errorf("round %d: not listed: %v", round, onPath)
		}
		w.clock.advance(30 * time.Second)
	}
	for met := range w.conflicts() {
		// Tabs of one visitor meet over the visitor's own rows, and nothing else.
		if !strings.Contains(met, "by_session") && !strings.HasSuffix(met, " ") { // the row itself
			t.Errorf("executions met over what all visitors share: %s", met)
		}
	}
	if rows := w.sessions(); len(rows) != visitors {
		t.Errorf("%d rows, want %d", len(rows), visitors)
	}
}

// screen is an open statistics page.
type screen struct {
	w      *world
	set    *halcyon.QuerySet
	notice chan struct{}
}

func (w *world) open() *screen {
	w.t.Helper()
	s := &screen{w: w, notice: make(chan struct{}, 1)}
	s.set = w.app.NewQuerySet(
		func(outcome halcyon.Outcome) []byte { return value.AppendJSON(nil, outcome.Value) },
		func() {
			select {
			case s.notice <- struct{}{}:
			default:
			}
		})
	w.t.Cleanup(s.set.Close)
	s.set.Add(1, "stats:getStats", value.Object(), nil)
	return s
}

// next returns what the screen shows next, and when it became true.
func (s *screen) next() (overview, engine.Timestamp) {
	s.w.t.Helper()
	return s.wait(nil)
}

// nextTick is next for a query that has just run: screens are not redrawn more
// than once a tick, so the clock moves on while the screen waits for one.
func (s *screen) nextTick() overview {
	s.w.t.Helper()
	shown, _ := s.wait(s.w.clock.armed)
	return shown
}

func (s *screen) wait(armed <-chan struct{}) (overview, engine.Timestamp) {
	s.w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		if round, ok := s.set.Poll(0); ok && len(round.Changes) == 1 {
			return readOverview(s.w.t, round.Changes[0].Body), round.At
		}
		select {
		case <-s.notice:
		case <-armed:
			s.w.clock.advance(50 * time.Millisecond)
		case <-ctx.Done():
			s.w.t.Fatal("nothing new came to the screen")
		}
	}
}

// still reports whether the screen has nothing new to show.
func (s *screen) still() bool {
	round, ok := s.set.Poll(0)
	return !ok || len(round.Changes) == 0
}

// TestFaultG: the original's active count moved only when somebody wrote.
func TestFaultG_VisitorsLeaveOpenScreensOnTheMomentWithoutAWrite(t *testing.T) {
	w := newWorld(t, stats.Options{}, probe())
	w.beat("ada", "/a")
	w.clock.advance(30 * time.Second)
	w.beat("bob", "/b")
	screen := w.open()
	if got, _ := screen.next(); got.ActiveVisitors != 2 {
		t.Fatalf("%d active, want 2", got.ActiveVisitors)
	}
	before := w.sessions()
	leave := func(at time.Time, want int) {
		t.Helper()
		w.clock.advance(at.Add(-time.Millisecond).Sub(w.clock.Now()))
		if !screen.still() {
			t.Errorf("the screen moved before %v", at)
		}
		w.clock.advance(time.Millisecond)
		got, when := screen.next()
		if got.ActiveVisitors != want {
			t.Errorf("at %v: %d active, want %d", at, got.ActiveVisitors, want)
		}
		if late := when.Time().Sub(at); late < 0 || late > time.Millisecond {
			t.Errorf("the screen moved at %v, %v after the moment", when.Time(), late)
		}
	}
	leave(noon.Add(2*time.Minute), 1)
	leave(noon.Add(2*time.Minute+30*time.Second), 0)
	if diff := cmp.Diff(before, w.sessions()); diff != "" {
		t.Errorf("rows changed while visitors left (-before +after):\n%s", diff)
	}
	w.clock.advance(time.Hour)
	if !screen.still() {
		t.Error("an empty screen moved by itself")
	}
	w.beat("ada", "/a")
	if got, _ := screen.next(); got.ActiveVisitors != 1 {
		t.Errorf("%d active after coming back, want 1", got.ActiveVisitors)
	}
}

// TestFaultG_NowIsAccepted: newer clients send the time to make the answer move.
func TestFaultG_ClientsMaySendTheirTime(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.beat("ada", "/a")
	for _, now := range []any{nil, 0.0, float64(noon.UnixMilli()), 9e15, math.NaN()} {
		args := object{}
		if now != nil {
			args["now"] = now
		}
		text := value.AppendJSON(nil, w.ask("stats:getStats", args))
		if got := readOverview(t, text); got.ActiveVisitors != 1 {
			t.Errorf("getStats(%v): %d active, want 1", args, got.ActiveVisitors)
		}
	}
}

// TestFaultH: the original skipped a change of page inside the window.
func TestFaultH_AChangeOfPageShowsAtOnce(t *testing.T) {
	w := newWorld(t, stats.Options{})
	for i := range 5 {
		path := fmt.Sprintf("/%d", i)
		w.beat("ada", path)
		if got := w.stats().ActiveByPath; len(got) != 1 || got[0].Path != path {
			t.Errorf("on %v, want %s", got, path)
		}
		w.clock.advance(time.Second)
	}
}

// TestFaultR: a second row of one visitor made every later beat of the original fail.
func TestFaultR_TwoRowsOfOneVisitorAreHealed(t *testing.T) {
	w := newWorld(t, stats.Options{}, probe())
	for i, path := range []string{"/old", "/newer", "/new"} {
		w.do("probe:addSession", object{"sessionId": "ada", "path": path, "lastSeen": noon.Add(time.Duration(i) * time.Second)})
	}
	w.clock.advance(10 * time.Second)
	for range 3 { // each beat takes away at most one
		w.beat("ada", "/new")
	}
	if rows := w.sessions(); len(rows) != 1 || rows[0]["currentPath"] != "/new" {
		t.Errorf("rows %v, want one on /new", rows)
	}
	if got := w.stats().ActiveVisitors; got != 1 {
		t.Errorf("%d active, want 1", got)
	}
}

// TestFaultK: the original deleted all at once, or too few to keep up.
func TestFaultK_CleanupDeletesEverybodyWhoLeft(t *testing.T) {
	const left, here = 1234, 17
	w := newWorld(t, stats.Options{}, probe())
	for i := range left {
		w.do("probe:addSession", object{"sessionId": visitorID(i), "path": "/", "lastSeen": noon})
	}
	w.clock.advance(2 * time.Minute)
	for i := range here {
		w.beat(fmt.Sprintf("here-%d", i), "/")
	}
	clean := func() float64 {
		n, _ := w.do("stats:cleanupStaleSessions", nil).AsFloat64()
		return n
	}
	if got := clean(); got != 0 {
		t.Errorf("deleted %v rows that are exactly 2 minutes old, want 0", got) // lastSeen < now - 2 min
	}
	w.clock.advance(time.Millisecond)
	var got []float64
	for n := clean(); n > 0; n = clean() {
		got = append(got, n)
	}
	if diff := cmp.Diff([]float64{500, 500, 234}, got); diff != "" {
		t.Errorf("deleted by run (-want +got):\n%s", diff)
	}
	if rows := w.sessions(); len(rows) != here {
		t.Errorf("%d rows left, want %d", len(rows), here)
	}
}

func TestFaultK_TheCronDeletesEverybodyWhoLeft(t *testing.T) {
	w := newWorld(t, stats.Options{CleanupBatch: 100}, probe())
	leave := func(n int) {
		for i := range n {
			w.do("probe:addSession", object{"sessionId": visitorID(i), "path": "/", "lastSeen": w.clock.Now().Add(-3 * time.Minute)})
		}
	}
	leave(1234)
	w.beat("here", "/")
	if err := w.app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, left := range []int{434, 0, 0} { // eight batches a run
		run := <-w.crons
		if run.Name != "stats/cleanup stale sessions" || run.Err != nil || run.Next.Sub(w.clock.Now()) != 5*time.Minute {
			t.Errorf("run %+v, want one that runs again in 5 minutes", run)
		}
		if rows := w.sessions(); len(rows) != left+1 {
			t.Errorf("%d rows, want %d and the one who is here", len(rows), left)
		}
		w.clock.advance(4 * time.Minute)
		w.beat("here", "/")
		w.clock.comeTo(run.Next) // a sweep may be planned before
		w.clock.advance(run.Next.Sub(w.clock.Now()))
	}
	<-w.crons
}
