package stats_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
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
		w.clock.advance(time.Millisecond) // see rollUp
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
	if diff := gocmp.Diff([]chunk{{Status: "complete"}}, w.backfill()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, cursor := range []string{"", "x", "1.2", "-1.0.x", "-1.0.0.0.x", "0.0.4.0.x", "0.0.0.2.x", "1.1.0.0.no cursor", "1.1.2.0.no cursor"} {
		outcome, err := w.try("stats:backfillAggregatesChunk", object{"cursor": cursor, "totalProcessed": 0, "seenSessionIds": []any{}})
		if err != nil || outcome.Failure == nil {
			t.Errorf("the cursor %q is taken: %v", cursor, err)
		}
	}
}

// TestFaultC: the original forgot all but 10,000 visitors between two chunks and
// counted those it had forgotten again.
func TestFaultC_BackfillCountsEveryVisitorOnce(t *testing.T) {
	visitors, views := 11_000, 13_000
	if underRace { // which makes each look at the store as long as a thousand; that none is forgotten is seen without it
		visitors, views = 1_100, 1_300
	}
	w := newWorld(t, stats.Options{})
	w.importRows(views, func(i int) (string, string, time.Time) {
		return fmt.Sprintf("v%d", i%visitors), fmt.Sprintf("/%d", i%7), noon.Add(time.Duration(i-views) * time.Second)
	})
	for range 2 { // again makes no difference
		if got := show(w.do("stats:backfillAggregates", nil)); got != `{"message":"Backfill started. Check logs for progress."}` {
			t.Errorf("%s, want the original's text", got)
		}
		chunks := w.backfill()
		for i, c := range chunks[:len(chunks)-1] { // after all views come their sums
			if c.Status != "in_progress" || c.Processed != min(500*(i+1), views) {
				t.Errorf("chunk %d: %+v, want 500 more", i, c)
			}
		}
		want := chunk{Status: "complete", Processed: views, UniqueSessions: visitors}
		if diff := gocmp.Diff(want, chunks[len(chunks)-1]); diff != "" {
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
	if diff := gocmp.Diff(want, show(w.ask("stats:getBreakdown", all))); diff != "" {
		t.Errorf("after the backfill (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(wantStats, w.stats()); diff != "" {
		t.Errorf("getStats after the backfill (-want +got):\n%s", diff)
	}
}

// TestBackfillFindsWhatBalances: sums that are wrong one by one and right in total.
func TestBackfillFindsWhatBalances(t *testing.T) {
	type rollup = stats.Rollup
	where := func(path string, day int) func(*rollup) bool {
		return func(r *rollup) bool { return r.Path == path && r.Country == "" && r.Kind == 0 && r.Day == day }
	}
	firstDay := int(noon.Unix() / 86400)
	add := func(n int) func(*rollup) {
		return func(r *rollup) {
			r.Views += n
			r.Slots[0].Views += n
			for i := range r.Values {
				if d := r.Values[i].Dimension; d == "pageType" || d == "visitor" {
					r.Values[i].Views += n
				}
			}
		}
	}
	type change struct {
		of   func(*rollup) bool
		what func(*rollup)
	}
	allPaths := func(r *rollup) bool { return r.Kind == 1 && r.Day == firstDay && r.Path == "" }
	tests := map[string][]change{
		"a view of one page is one of another": {{where("/0", firstDay), add(1)}, {where("/1", firstDay), add(-1)}},
		"a view of one day is one of another":  {{where("/0", firstDay), add(1)}, {where("/0", firstDay+1), add(-1)}},
		"a page is missing":                    {{where("/2", firstDay), nil}},
		"a day of the site is that of another": {{where("", firstDay), add(2)}, {where("", firstDay+1), add(-2)}},
		"the site has more than its pages":     {{where("", firstDay), add(1)}},
		"paths of a day are each other's": {{allPaths, func(r *rollup) {
			r.Values[0].Views, r.Values[1].Views = r.Values[0].Views+1, r.Values[1].Views-1
		}}},
		"a path of a day is missing": {{allPaths, func(r *rollup) { r.Values = r.Values[1:] }}},
		"hours have more than the day": {{where("/0", firstDay), func(r *rollup) {
			r.Slots[0].Views++
		}}},
		"page types have less than the day": {{where("/0", firstDay), func(r *rollup) {
			for i := range r.Values {
				if r.Values[i].Dimension == "pageType" {
					r.Values[i].Views--
				}
			}
		}}},
		"nothing is wrong": nil,
	}
	for name, changes := range tests {
		t.Run(name, func(t *testing.T) {
			damage := halcyon.NewModule("damage")
			damage.Mutation("rollups", func(tx *halcyon.Tx) error {
				for _, c := range changes {
					found := false
					for row, err := range stats.Rollups.All().Each(tx) {
						if err != nil {
							return err
						}
						if !c.of(&row) {
							continue
						}
						found = true
						if c.what == nil {
							if err := stats.Rollups.Delete(tx, row.ID); err != nil {
								return err
							}
							continue
						}
						c.what(&row)
						if err := stats.Rollups.Replace(tx, row.ID, row); err != nil {
							return err
						}
					}
					if !found {
						return errors.New("there is nothing to damage")
					}
				}
				return nil
			})
			w := newWorld(t, stats.Options{}, probe(), damage)
			for range 2 {
				for i := range 60 {
					w.view(visitorID(i), fmt.Sprint("/", i%(3+i%2)))
				}
				w.clock.advance(24 * time.Hour)
			}
			for w.rollUp() > 0 {
			}
			w.view("late", "/0") // is not in the sums yet
			sums := func() string {
				rows := read[[]rollup](w, "probe:rollups", nil)
				for i := range rows {
					rows[i].ID = ""
				}
				slices.SortFunc(rows, func(x, y rollup) int {
					return cmp.Or(strings.Compare(x.Path, y.Path), x.Kind-y.Kind, x.Day-y.Day)
				})
				return fmt.Sprintf("%+v", rows)
			}
			want := sums()
			w.do("damage:rollups", nil)
			damaged := sums() != want
			if damaged == (changes == nil) {
				t.Fatalf("the sums are damaged: %v", damaged)
			}
			w.backfill()
			cleared := sums() == "[]" // they are made again by what is scheduled
			if cleared == (changes == nil) {
				t.Fatalf("the sums are taken away to be made again: %v", cleared)
			}
			for w.rollUp() > 0 {
			}
			all := object{"dimension": "path", "from": millis(noon)}
			if got := read[breakdown](w, "stats:getBreakdown", all); got.Views != 121 || got.Pending != 0 {
				t.Errorf("%d views and %d pending afterwards, want 121", got.Views, got.Pending)
			}
			if after := w.backfill(); after[len(after)-1].Status != "complete" || sums() == "[]" {
				t.Errorf("made again, the sums are wrong still: %+v", after)
			}
		})
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
