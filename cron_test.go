package halcyon_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// fakeClock moves only when told to.
type fakeClock struct {
	mu     sync.Mutex
	armed  *sync.Cond
	now    time.Time
	timers map[*fakeTimer]struct{}
}

type fakeTimer struct {
	at time.Time
	f  func()
}

func newFakeClock(now time.Time) *fakeClock {
	c := &fakeClock{now: now, timers: map[*fakeTimer]struct{}{}}
	c.armed = sync.NewCond(&c.mu)
	return c
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) AfterFunc(d time.Duration, f func()) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &fakeTimer{c.now.Add(d), f}
	c.timers[t] = struct{}{}
	c.armed.Broadcast()
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, t)
	}
}

// set moves the clock and fires the timers that are due.
func (c *fakeClock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
	for t := range c.timers {
		if !t.at.After(now) {
			delete(c.timers, t)
			go t.f()
		}
	}
}

// awaitTimer returns when somebody waits for that moment.
func (c *fakeClock) awaitTimer(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for t := range c.timers {
			if t.at.Equal(at) {
				return
			}
		}
		c.armed.Wait()
	}
}

var _ engine.Clock = (*fakeClock)(nil)

// cronWorld is an app with one cron that increments a counter, and can be told to fail.
type cronWorld struct {
	t        *testing.T
	fs       vfs.FS
	clock    *fakeClock
	schedule halcyon.Schedule
	log      logBuffer
	runs     chan halcyon.CronRun
	fail     error // returned by the next run, after its write

	app *halcyon.App
}

func newCronWorld(t *testing.T, schedule halcyon.Schedule) *cronWorld {
	w := &cronWorld{t: t, fs: vfs.NewMem(), clock: newFakeClock(t0), schedule: schedule, runs: make(chan halcyon.CronRun, 10)}
	t.Cleanup(func() { w.close() })
	return w
}

func (w *cronWorld) open() {
	w.t.Helper()
	m, counters := counterModule()
	m.Internal.Mutation("tick", func(tx *halcyon.Tx) error {
		c, ok, err := counters.By("by_name").Eq("ticks").First(tx)
		if err != nil {
			return err
		}
		if !ok {
			_, err = counters.Insert(tx, Counter{Name: "ticks", N: 1})
		} else {
			err = counters.Patch(tx, c.ID, halcyon.Fields{"n": c.N + 1})
		}
		return errors.Join(err, w.fail)
	})
	m.Cron("tick now and then", w.schedule, "tick")
	var err error
	if w.app, err = halcyon.NewApp(m); err != nil {
		w.t.Fatal(err)
	}
	opts := halcyon.Options{
		Engine: engine.Options{FS: w.fs, Clock: w.clock}, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
		OnCron: func(r halcyon.CronRun) { r.Took = 0; w.runs <- r },
	}
	if err := errors.Join(w.app.Open("data", &opts), w.app.Start(w.t.Context())); err != nil {
		w.t.Fatal(err)
	}
	w.clock.awaitTimer(w.clock.Now().Add(time.Hour)) // the sweep of what has ended
}

func (w *cronWorld) close() {
	if err := w.app.Close(); err != nil {
		w.t.Error(err)
	}
}

// run checks the next run of the cron, and the number of runs that took effect.
func (w *cronWorld) run(due, next time.Time, missed int, failed error, ticks int) {
	w.t.Helper()
	var got halcyon.CronRun
	select {
	case got = <-w.runs:
	case <-time.After(time.Minute):
		w.t.Fatalf("no run within a minute; log:\n%s", w.log.String())
	}
	if !errors.Is(got.Err, failed) {
		w.t.Errorf("the run failed with %v, want %v", got.Err, failed)
	}
	got.Err = nil
	want := halcyon.CronRun{Name: "counters/tick now and then", Function: "counters:tick", Due: due, Next: next, Missed: missed}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("run (-want +got):\n%s", diff)
	}
	var n int
	if err := w.app.Run(w.t.Context(), "counters:get", nameArgs{"ticks"}, &n); err != nil || n != ticks {
		w.t.Errorf("%d runs took effect, %v; want %d", n, err, ticks)
	}
}

func after(minutes int) time.Time { return t0.Add(time.Duration(minutes) * time.Minute) }

func TestCronRunsOnSchedule(t *testing.T) {
	w := newCronWorld(t, halcyon.Every(5*time.Minute))
	w.open()
	w.run(after(0), after(5), 0, nil, 1)
	for i := 1; i <= 3; i++ {
		w.clock.awaitTimer(after(5 * i))
		w.clock.set(after(5*i - 1))
		w.clock.set(after(5 * i))
		w.run(after(5*i), after(5*i+5), 0, nil, i+1)
	}
	if len(w.runs) != 0 {
		t.Errorf("%d runs too many", len(w.runs))
	}
}

func TestCronKeepsItsTimeAcrossARestart(t *testing.T) {
	w := newCronWorld(t, halcyon.Every(5*time.Minute))
	w.open()
	w.run(after(0), after(5), 0, nil, 1)
	for minute := 1; minute < 5; minute++ {
		w.close()
		w.clock.set(after(minute))
		w.open()
		w.clock.awaitTimer(after(5)) // and so has not run
	}
	w.clock.set(after(5))
	w.run(after(5), after(10), 0, nil, 2)

	w.close()
	w.clock.set(after(27))
	w.open()
	w.run(after(10), after(30), 3, nil, 3)
	w.clock.awaitTimer(after(30))
	if log := w.log.take(); !strings.Contains(log, "missed=3") {
		t.Errorf("the skipped runs are not in the log:\n%s", log)
	}
	w.close()
	w.schedule = halcyon.Every(time.Minute) // 28 by the last run
	w.open()
	w.clock.awaitTimer(after(28))
	w.clock.set(after(28))
	w.run(after(28), after(29), 0, nil, 4)
	if len(w.runs) != 0 {
		t.Errorf("%d runs too many", len(w.runs))
	}
}

func TestFailedCronIsUndoneAndGoesOn(t *testing.T) {
	w := newCronWorld(t, halcyon.Every(time.Minute))
	w.fail = errors.New("no luck")
	w.open()
	w.run(after(0), after(1), 0, w.fail, 0)
	if log := w.log.take(); !strings.Contains(log, "function=counters:tick") || !strings.Contains(log, "no luck") {
		t.Errorf("the failure is not in the log:\n%s", log)
	}
	w.close()
	w.fail = nil
	w.open()
	w.clock.awaitTimer(after(1)) // a failed run is not repeated by a restart
	w.clock.set(after(1))
	w.run(after(1), after(2), 0, nil, 1)
}

func TestSchedules(t *testing.T) {
	day := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	tests := []struct {
		name          string
		schedule      halcyon.Schedule
		start         time.Time
		first, second time.Time
	}{
		{"daily, later today", halcyon.Daily(4, 30), day.Add(time.Hour), day.Add(4*time.Hour + 30*time.Minute), day.Add(28*time.Hour + 30*time.Minute)},
		{"daily, tomorrow", halcyon.Daily(0, 30), day.Add(time.Hour), day.Add(24*time.Hour + 30*time.Minute), day.Add(48*time.Hour + 30*time.Minute)},
		{"daily, now", halcyon.Daily(1, 0), day.Add(time.Hour), day.Add(time.Hour), day.Add(25 * time.Hour)},
		{"weekly, this week", halcyon.Weekly(time.Sunday, 3, 0), day.Add(time.Hour), day.Add(3 * time.Hour), day.Add(7*24*time.Hour + 3*time.Hour)},
		{"weekly, next week", halcyon.Weekly(time.Saturday, 2, 0), day.Add(time.Hour), day.AddDate(0, 0, 6).Add(2 * time.Hour), day.AddDate(0, 0, 13).Add(2 * time.Hour)},
		{"monthly", halcyon.Monthly(15, 2, 5), day.Add(time.Hour), day.AddDate(0, 0, 14).Add(125 * time.Minute), day.AddDate(0, 1, 14).Add(125 * time.Minute)},
		{"monthly, where there is that day", halcyon.Monthly(31, 0, 0), day.AddDate(0, 1, 0), day.AddDate(0, 2, 30), day.AddDate(0, 4, 30)},
		{"cron expression", halcyon.CronExpr("*/15 9-17 * * MON-FRI"), day.Add(time.Hour), day.Add(33 * time.Hour), day.Add(33*time.Hour + 15*time.Minute)},
		{"cron expression, 29 February", halcyon.CronExpr("0 0 29 2 *"), day, time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC), time.Date(2032, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"hourly", halcyon.Hourly(15), day.Add(20 * time.Minute), day.Add(75 * time.Minute), day.Add(135 * time.Minute)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newCronWorld(t, tt.schedule)
			w.clock.set(tt.start)
			w.open()
			if tt.first.After(tt.start) {
				w.clock.awaitTimer(tt.first)
				w.clock.set(tt.first)
			}
			w.run(tt.first, tt.second, 0, nil, 1)
		})
	}
}

func TestScheduleDeclarations(t *testing.T) {
	tests := []struct {
		schedule halcyon.Schedule
		want     string
	}{
		{halcyon.Schedule{}, "it has no schedule"},
		{halcyon.Every(time.Millisecond), "an interval is at least 1s"},
		{halcyon.Hourly(60), "a minute is from 0 to 59"},
		{halcyon.Daily(24, 0), "an hour is from 0 to 23"},
		{halcyon.Weekly(7, 0, 0), "a day of the week"},
		{halcyon.Monthly(32, 0, 0), "a day of the month"},
		{halcyon.CronExpr("* * * *"), "no cron expression of five fields"},
		{halcyon.CronExpr("61 * * * *"), "no cron expression of five fields"},
		{halcyon.CronExpr("0 0 30 2 *"), "never comes"},
		{halcyon.CronExpr("0  0 1 1 *"), ""},
	}
	for _, tt := range tests {
		m := halcyon.NewModule("m")
		m.Internal.Mutation("f", func(*halcyon.Tx) error { return nil })
		m.Cron("c", tt.schedule, "f")
		switch _, err := halcyon.NewApp(m); {
		case tt.want == "" && err != nil:
			t.Errorf("%v: %v", tt.schedule, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%v: error %v, want %q in it", tt.schedule, err, tt.want)
		}
	}
}

// A cron whose last run has not ended skips its turn and tells of it with its next run; one whose run was interrupted by the end of the
// program tells of that and goes on.
func TestCronNeverRunsTwiceAtOnce(t *testing.T) {
	w := newScheduleWorld(t, vfs.NewMem())
	runs, begun, let := make(chan halcyon.CronRun, 10), make(chan struct{}, 10), make(chan struct{})
	w.options = func(o *halcyon.Options) { o.OnCron = func(r halcyon.CronRun) { r.Took = 0; runs <- r } }
	w.module = func(m *halcyon.Module, _ *halcyon.Table[Counter]) {
		m.Internal.Action("long", func(c *halcyon.Ctx) error {
			begun <- struct{}{}
			select {
			case <-let:
				return nil
			case <-c.Done():
				return context.Cause(c)
			}
		})
		m.Cron("long one", halcyon.Every(time.Minute), "long")
	}
	next := func() halcyon.CronRun {
		t.Helper()
		select {
		case r := <-runs:
			return r
		case <-time.After(time.Minute):
			t.Fatalf("no run within a minute; log:\n%s", w.log.String())
			return halcyon.CronRun{}
		}
	}
	run := func(due, next, missed int) halcyon.CronRun {
		return halcyon.CronRun{Name: "counters/long one", Function: "counters:long", Due: after(due), Next: after(next), Missed: missed}
	}
	w.open()
	<-begun
	for minute := 1; minute <= 3; minute++ {
		w.clock.awaitTimer(after(minute))
		w.clock.set(after(minute))
	}
	w.clock.awaitTimer(after(4)) // the turns of the minutes before were taken
	if len(begun) != 0 {
		t.Error("it runs twice at once")
	}
	if log := w.log.take(); strings.Count(log, "the one before has not ended") != 3 {
		t.Errorf("not told of each skipped run:\n%s", log)
	}
	let <- struct{}{}
	if diff := cmp.Diff(run(0, 1, 0), next()); diff != "" {
		t.Errorf("first run (-want +got):\n%s", diff)
	}
	w.eventually("the first run to have ended", func() bool { return cmp.Equal(w.states(), []string{"counters.js:long success"}) })
	w.clock.set(after(4))
	<-begun
	w.close()
	w.clock.set(after(5))
	w.open()
	interrupted := next()
	if interrupted.Err == nil || interrupted.Err.Error() != "interrupted" {
		t.Errorf("the run at the end of the program failed with %v", interrupted.Err)
	}
	interrupted.Err = nil
	if diff := cmp.Diff(run(4, 5, 3), interrupted); diff != "" {
		t.Errorf("second run (-want +got):\n%s", diff)
	}
	<-begun
	let <- struct{}{}
	if diff := cmp.Diff(run(5, 6, 0), next()); diff != "" {
		t.Errorf("third run (-want +got):\n%s", diff)
	}
}

// A clock that was set back between two starts does not keep a cron from running for as long, and does not make it run twice.
func TestCronGoesOnByAnEarlierClock(t *testing.T) {
	hour := t0.Truncate(time.Hour)
	day := t0.Truncate(24 * time.Hour)
	for _, tt := range []struct {
		name     string
		schedule halcyon.Schedule
		ran      time.Time // at the first start, or after it
		due      time.Time // then
		back     time.Time // the clock at the second start
		next     time.Time // due by then
	}{
		{"every, by a day", halcyon.Every(5 * time.Minute), t0, after(5), after(-24 * 60), after(-24*60 + 5)},
		{"every, by a second", halcyon.Every(5 * time.Minute), t0, after(5), t0.Add(-time.Second), t0.Add(5*time.Minute - time.Second)},
		{"every, not behind the last run", halcyon.Every(5 * time.Minute), t0, after(5), after(2), after(5)},
		{"hourly, by a day", halcyon.Hourly(0), hour.Add(time.Hour), hour.Add(2 * time.Hour), hour.Add(-23*time.Hour - time.Minute), hour.Add(-22 * time.Hour)},
		{"hourly, by two seconds", halcyon.Hourly(0), hour.Add(time.Hour), hour.Add(2 * time.Hour), hour.Add(time.Hour - 2*time.Second), hour.Add(2 * time.Hour)},
		{"daily, by a month", halcyon.Daily(0, 0), day.Add(24 * time.Hour), day.Add(48 * time.Hour), day.Add(-30*24*time.Hour + time.Hour), day.Add(-28 * 24 * time.Hour)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newCronWorld(t, tt.schedule)
			w.open()
			if tt.ran.After(t0) {
				w.clock.awaitTimer(tt.ran)
				w.clock.set(tt.ran)
			}
			w.run(tt.ran, tt.due, 0, nil, 1)
			w.close()
			w.clock.set(tt.back)
			w.open()
			w.clock.awaitTimer(tt.next) // and so has not run
			if told := strings.Contains(w.log.take(), "the clock was set back"); told == tt.next.Equal(tt.due) {
				t.Errorf("that the clock was set back is told: %v", told)
			}
			w.clock.set(tt.next)
			var got halcyon.CronRun
			select {
			case got = <-w.runs:
			case <-time.After(time.Minute):
				t.Fatalf("no run within a minute; log:\n%s", w.log.String())
			}
			if !got.Due.Equal(tt.next) || got.Missed != 0 || got.Err != nil {
				t.Errorf("the run by the earlier clock is %+v, want one due at %v", got, tt.next)
			}

			// And by the right one again.
			w.clock.awaitTimer(got.Next)
			w.close()
			w.clock.set(tt.due)
			w.open()
			if tt.due.Before(got.Next) {
				w.clock.awaitTimer(got.Next)
				return
			}
			select {
			case got = <-w.runs:
			case <-time.After(time.Minute):
				t.Fatalf("no run within a minute; log:\n%s", w.log.String())
			}
			if !got.Next.After(tt.due) {
				t.Errorf("the run by the right clock is %+v", got)
			}
			w.clock.awaitTimer(got.Next)
			if len(w.runs) != 0 {
				t.Errorf("%d runs too many", len(w.runs))
			}
		})
	}
}
