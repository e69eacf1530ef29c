package halcyon

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// A run that a cron had scheduled when the program ended runs after a start with a clock that was set back, once, and the cron goes on.
func TestScheduledRunOfACronGoesOnByAnEarlierClock(t *testing.T) {
	fs, began := vfs.NewMem(), time.UnixMilli(1_700_000_000_000).UTC()
	runs := make(chan CronRun, 10)
	open := func(now time.Time) (*App, *enginetest.Clock) {
		m := NewModule("m")
		m.Internal.Mutation("tick", func(*Tx) error { return nil })
		m.Cron("now and then", Every(time.Minute), "tick")
		app, err := NewApp(m)
		if err != nil {
			t.Fatal(err)
		}
		clock := enginetest.NewClock(now)
		if err := app.Open("data", &Options{Engine: engine.Options{FS: fs, Clock: clock}, OnCron: func(r CronRun) { runs <- r }}); err != nil {
			t.Fatal(err)
		}
		return app, clock
	}
	app, _ := open(began)
	// It is not started: what is scheduled stays so.
	if _, err := app.running.Load().stepCron(t.Context(), app.crons[0]); err != nil {
		t.Fatal(err)
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	back := began.Add(-24 * time.Hour)
	app, clock := open(back)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i, due := range []time.Time{back, back.Add(time.Minute), back.Add(2 * time.Minute)} {
		if i > 0 {
			for {
				if at, ok := clock.Next(); ok && at.Equal(due) {
					break
				}
				clock.Advance(0)
			}
			clock.Advance(time.Minute)
		}
		select {
		case r := <-runs:
			if !r.Due.Equal(due) || r.Err != nil || r.Missed != 0 {
				t.Errorf("run %d is %+v, want one due at %v", i, r, due)
			}
		case <-time.After(time.Minute):
			t.Fatalf("run %d did not come within a minute", i)
		}
	}
	if len(runs) != 0 {
		t.Errorf("%d runs too many", len(runs))
	}
}
