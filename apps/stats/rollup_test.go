package stats_test

import (
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
