package stats_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/apps/stats"
)

// On a slow machine a batch of views has no time in one transaction, also when it is
// tried again. All views are added up all the same, by smaller ones.
func TestRollUpComesToItsEndOnASlowMachine(t *testing.T) {
	const views = 3000
	add := map[string]func(w *world){
		"stored": func(w *world) {
			w.importRows(views, func(i int) (string, string, time.Time) {
				return fmt.Sprint("v", i%700), fmt.Sprint("/", i%9), noon.Add(time.Duration(i-views) * time.Minute)
			})
		},
		"loaded": func(w *world) {
			for i := range 3 {
				w.do("probe:addViews", object{"count": views / 3, "paths": 9, "from": noon.Add(time.Duration(i-3) * 24 * time.Hour)})
			}
		},
	}
	for name, add := range add {
		t.Run(name, func(t *testing.T) {
			answers := func(w *world) map[string]string {
				t.Helper()
				return map[string]string{
					"days":     show(w.ask("stats:getSeries", object{"unit": "day"})),
					"paths":    show(w.ask("stats:getBreakdown", object{"dimension": "path"})),
					"channels": show(w.ask("stats:getBreakdown", object{"dimension": "channel"})),
				}
			}
			fast := newWorld(t, stats.Options{}, probe())
			add(fast)
			for fast.rollUp() > 0 {
			}
			want := answers(fast)

			slow := newWorld(t, stats.Options{}, probe())
			add(slow)
			// Each look at the clock takes this long, and every read and write looks at it.
			slow.clock.slow(2 * time.Millisecond)
			batches, taken := 0, 0
			for n := slow.rollUp(); n > 0; n = slow.rollUp() {
				batches++
				taken += n
			}
			slow.clock.slow(0)
			if taken != views {
				t.Errorf("%d rows are taken in %d batches, want %d", taken, batches, views)
			}
			if diff := cmp.Diff(want, answers(slow)); diff != "" {
				t.Errorf("(-fast +slow):\n%s", diff)
			}
		})
	}
}

// A query that has no time for all the views that are not added up yet answers without
// them, and says so.
func TestSeriesAnswerOnASlowMachine(t *testing.T) {
	const views = 3000
	w := newWorld(t, stats.Options{})
	w.importRows(views, func(i int) (string, string, time.Time) {
		return fmt.Sprint("v", i%700), fmt.Sprint("/", i%9), noon.Add(time.Duration(i-views) * time.Minute)
	})
	ask := func() (pending, counted int) {
		t.Helper()
		var series struct {
			Pending int
			Points  []struct{ Views int }
		}
		if err := json.Unmarshal([]byte(show(w.ask("stats:getSeries", object{"unit": "day"}))), &series); err != nil {
			t.Fatal(err)
		}
		for _, point := range series.Points {
			counted += point.Views
		}
		return series.Pending, counted
	}
	if pending, counted := ask(); pending != 0 || counted != views {
		t.Errorf("%d views are pending and %d counted, want 0 and %d", pending, counted, views)
	}
	w.clock.slow(20 * time.Millisecond)
	pending, counted := ask()
	w.clock.slow(0)
	if pending != views || counted != 0 {
		t.Errorf("slowly, %d views are pending and %d counted, want %d and 0", pending, counted, views)
	}
}

// TestViewsAreAddedUpByAClockThatWasSetBack: after a start with an earlier clock commits go
// on from where they were, and no view was added up until the clock had come there.
func TestViewsAreAddedUpByAClockThatWasSetBack(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.clock.advance(time.Hour)
	w.view("ada", "/")
	for w.rollUp() > 0 {
	}
	w.clock.advance(-time.Hour)
	w.reopen(stats.Options{})
	w.view("bob", "/")
	w.view("eve", "/")
	if n := w.rollUp(); n != 2 {
		t.Errorf("%d views are added up, want both", n)
	}
	if n := w.rollUp(); n != 0 {
		t.Errorf("%d views are added up again", n)
	}
}
