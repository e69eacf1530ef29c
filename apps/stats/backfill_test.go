package stats_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/apps/stats"
)

type chunk struct {
	Status                    string
	Processed, UniqueSessions int
	Cursor                    *string
}

// backfill runs the chunks one after the other, as the scheduler would.
func (w *world) backfill() (chunks []chunk) {
	w.t.Helper()
	args := object{"cursor": nil, "totalProcessed": 0, "seenSessionIds": []any{}}
	for {
		c := decode[chunk](w, w.do("stats:backfillAggregatesChunk", args))
		chunks = append(chunks, c)
		if c.Cursor == nil {
			return chunks
		}
		args = object{"cursor": *c.Cursor, "totalProcessed": c.Processed, "seenSessionIds": []any{"x"}}
	}
}

func TestBackfillOfNothing(t *testing.T) {
	w := newWorld(t, stats.Options{})
	if got := show(w.do("stats:backfillAggregates", nil)); got != `{"message":"No pageViews to backfill"}` {
		t.Errorf("%s, want the original's text", got)
	}
	if diff := cmp.Diff([]chunk{{Status: "complete"}}, w.backfill()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, cursor := range []string{"", "x", "1.2", "-1.0.x", "1.1.no cursor"} {
		outcome, err := w.try("stats:backfillAggregatesChunk", object{"cursor": cursor, "totalProcessed": 0, "seenSessionIds": []any{}})
		if err != nil || outcome.Failure == nil {
			t.Errorf("the cursor %q is taken: %v", cursor, err)
		}
	}
}

// TestFaultC: the original forgot all but 10,000 visitors between two chunks and
// counted those it had forgotten again.
func TestFaultC_BackfillCountsEveryVisitorOnce(t *testing.T) {
	const visitors, views = 11_000, 13_000
	w := newWorld(t, stats.Options{})
	w.importRows(views, func(i int) (string, string, time.Time) {
		return fmt.Sprintf("v%d", i%visitors), fmt.Sprintf("/%d", i%7), noon.Add(time.Duration(i-views) * time.Second)
	})
	for range 2 { // again makes no difference
		if got := show(w.do("stats:backfillAggregates", nil)); got != `{"message":"Backfill started. Check logs for progress."}` {
			t.Errorf("%s, want the original's text", got)
		}
		chunks := w.backfill()
		for i, c := range chunks[:len(chunks)-1] { // the last finds nothing more
			if c.Status != "in_progress" || c.Processed != 500*(i+1) {
				t.Errorf("chunk %d: %+v, want 500 more", i, c)
			}
		}
		want := chunk{Status: "complete", Processed: views, UniqueSessions: visitors}
		if diff := cmp.Diff(want, chunks[len(chunks)-1]); diff != "" || len(chunks) != views/500+1 {
			t.Errorf("the last of %d chunks (-want +got):\n%s", len(chunks), diff)
		}
		if got := w.stats(); got.UniqueVisitors != visitors || got.TotalPageViews != views {
			t.Errorf("%d visitors, %d views; want %d, %d", got.UniqueVisitors, got.TotalPageViews, visitors, views)
		}
	}
}

// TestFaultB: the original showed the greater of two counts, so that nobody saw
// when one of them was wrong.
func TestFaultB_BackfillFindsAndCorrectsDrift(t *testing.T) {
	w := newWorld(t, stats.Options{}, probe())
	for day := range 4 {
		for i := range 30 {
			w.view(visitorID(i%(10+day)), fmt.Sprintf("/%d", i%(3+day)))
		}
		w.clock.advance(24 * time.Hour)
	}
	w.do("stats:rollUp", nil)
	all := object{"dimension": "path", "from": millis(noon)}
	want, wantStats := show(w.ask("stats:getBreakdown", all)), w.stats()
	w.do("probe:damage", nil)
	w.clock.advance(time.Millisecond)
	if show(w.ask("stats:getBreakdown", all)) == want {
		t.Fatal("the damage does not show")
	}
	w.backfill()
	for w.rollUp() > 0 {
	}
	if diff := cmp.Diff(want, show(w.ask("stats:getBreakdown", all))); diff != "" {
		t.Errorf("after the backfill (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(wantStats, w.stats()); diff != "" {
		t.Errorf("getStats after the backfill (-want +got):\n%s", diff)
	}
}

// TestRollupsAreMadeAgainForAnotherTimeZone, a batch at a time, while the numbers
// that are shown are whole or say what is missing.
func TestRollupsAreMadeAgainForAnotherTimeZone(t *testing.T) {
	const views, imported = 200, 1000
	w := newWorld(t, stats.Options{}, probe())
	zone := time.FixedZone("UTC+5:45", 5*3600+45*60)
	l := &ledger{zone: zone}
	for i := range views {
		w.view(visitorID(i%9), fmt.Sprintf("/%d", i))
		l.add(told{visitor: visitorID(i % 9), path: fmt.Sprintf("/%d", i), at: w.clock.Now()})
		w.clock.advance(37 * time.Minute)
	}
	// One commit that is more than what is left of a batch.
	w.importRows(imported, func(i int) (string, string, time.Time) {
		l.views = append(l.views, told{visitor: fmt.Sprint("log-", i), path: "/log", at: noon.Add(50 * time.Hour)})
		return fmt.Sprint("log-", i), "/log", noon.Add(50 * time.Hour)
	})
	slices.SortStableFunc(l.views, func(x, y told) int { return x.at.Compare(y.at) })
	from, to := noon.Add(30*time.Hour), noon.Add(60*time.Hour)
	for _, settings := range []stats.Options{{TimeZone: zone}, {}, {TimeZone: zone}} {
		for ended := false; !ended; {
			ended = w.rollUp() == 0
			got := read[breakdown](w, "stats:getBreakdown", object{"dimension": "path", "from": millis(noon)})
			if total := got.Views + got.Pending; total != views+imported {
				t.Fatalf("%d views and %d pending, want %d", got.Views, got.Pending, views+imported)
			}
		}
		w.reopen(settings, probe())
	}
	for w.rollUp() > 0 {
	}
	checkBreakdown(t, w, l, object{"dimension": "pageType", "from": millis(from), "to": millis(to)}, stats.Filter{}, from, to)
}
