package stats_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
	_ "time/tzdata" // of the test's own, whatever the machine has

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
)

// buildSpans runs at most so many batches, and returns how many did something.
func (w *world) buildSpans(most int) (batches int) {
	w.t.Helper()
	for batches < most {
		if n, _ := w.do("stats:buildSpans", nil).AsFloat64(); n == 0 {
			break
		}
		batches++
	}
	return batches
}

// TestSpansAreThoseOfAllViews compares breakdowns and series of long ranges to those
// that are found by looking at every view, whatever happens meanwhile: views told late,
// visitors forgotten, sums made again for another time zone or by a backfill, and spans
// made at any moment.
func TestSpansAreThoseOfAllViews(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	var zones []*time.Location
	for _, name := range []string{"UTC", "America/New_York", "Asia/Kathmandu"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, zone)
	}
	rows := halcyon.NewModule("rows")
	rows.Mutation("loseRollups", func(tx *halcyon.Tx, args struct {
		Before int `json:"before"`
	}) error {
		for row, err := range stats.Rollups.All().Each(tx) {
			if err != nil {
				return err
			}
			if row.Path == "" && row.Day < args.Before {
				if err := stats.Rollups.Delete(tx, row.ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
	rows.Query("levels", func(tx *halcyon.Tx) ([]int, error) {
		levels := make([]int, 4)
		for row, err := range stats.Spans.All().Each(tx) {
			if err != nil {
				return levels, err
			}
			levels[row.Level]++
		}
		return levels, nil
	})
	options := stats.Options{ViewRetention: -1}
	w := newWorld(t, options, rows)
	l := &ledger{zone: time.UTC}
	check := func(n int) {
		t.Helper()
		for range n {
			f := stats.Filter{Site: pick("", "a.org", "b.org"), Path: pick("", "", "", "/1"), Country: pick("", "", "CH", "IN")}
			to := w.clock.Now().Add(-time.Duration(random.Int64N(int64(60 * day))))
			from := to.Add(-1 - time.Duration(random.Int64N(int64(100*day)))).Add(-time.Millisecond)
			args := object{"dimension": pick("path", "path", "country", "referrer", "browser", "site", "pageType"), "from": millis(from), "to": millis(to)}
			addFilter(args, f)
			checkBreakdown(t, w, l, args, f, from, to)
			delete(args, "dimension")
			args["unit"], args["timeZone"] = "day", pick("UTC", "Asia/Kolkata", l.zone.String(), l.zone.String())
			checkSeries(t, w, l, args, f, from, to)
		}
	}
	for step := range 340 {
		w.clock.advance(time.Duration(random.Int64N(int64(20 * time.Hour))))
		v := told{
			site: pick("a.org", "a.org", "b.org"), path: fmt.Sprint("/", random.IntN(30)), visitor: visitorID(random.IntN(25)),
			country: pick("", "CH", "CH", "IN"), referrer: pick("", "example.org"), browser: pick("Chrome", "Firefox"), at: w.clock.Now(),
		}
		if random.IntN(10) == 0 {
			v.visitor = ""
		}
		w.tell(v)
		l.add(v)
		switch random.IntN(12) {
		case 0:
			w.rollUp()
		case 1:
			w.buildSpans(1)
		case 2:
			for w.rollUp() > 0 {
			}
			w.buildSpans(1 << 20)
		case 3: // a view that is told late
			at := w.clock.Now().Add(-time.Duration(random.Int64N(int64(90 * day)))).Truncate(time.Millisecond)
			late := told{path: fmt.Sprint("/", random.IntN(30)), visitor: visitorID(random.IntN(25)), at: at}
			w.do("stats:importViews", object{"views": []any{map[string]any{
				"path": late.path, "sessionId": late.visitor, "timestamp": millis(late.at)}}})
			l.add(late)
		case 4:
			if id := visitorID(random.IntN(200)); slices.ContainsFunc(l.views, func(v told) bool { return v.visitor == id }) {
				w.do("stats:forgetVisitor", object{"sessionId": id})
				l.views = slices.DeleteFunc(l.views, func(v told) bool { return v.visitor == id })
			}
		case 5:
			if random.IntN(4) == 0 {
				w.backfill()
				for w.rollUp() > 0 { // if sums are made again
				}
			}
		case 6:
			if random.IntN(6) == 0 {
				options.TimeZone = zones[random.IntN(len(zones))]
				l.zone = options.TimeZone
				w.reopen(options, rows)
				for w.rollUp() > 0 {
				}
			}
		}
		if step%25 == 24 {
			check(4)
		}
		if t.Failed() {
			t.Fatalf("after step %d", step)
		}
	}
	for w.rollUp() > 0 {
	}
	w.buildSpans(1 << 20)
	check(40)
	if levels := decode[[]int](w, w.ask("rows:levels", nil)); slices.Contains(levels, 0) {
		t.Errorf("%v spans of 1, 4, 16 and 64 days", levels)
	}
	// What spans have is read from nothing else.
	today := int(w.clock.Now().In(l.zone).Sub(time.Date(1970, 1, 1, 0, 0, 0, 0, l.zone)) / day)
	w.do("rows:loseRollups", object{"before": today - 1})
	to := w.clock.Now()
	from := to.Add(-150 * day)
	checkBreakdown(t, w, l, object{"dimension": "path", "from": millis(from), "to": millis(to)}, stats.Filter{}, from, to)
	checkSeries(t, w, l, object{"unit": "day", "timeZone": l.zone.String(), "from": millis(from), "to": millis(to)}, stats.Filter{}, from, to)
}

// bigSite is a module that writes the sums of days of a site with many pages.
func bigSite() *halcyon.Module {
	m := halcyon.NewModule("big")
	m.Mutation("day", func(tx *halcyon.Tx, args struct {
		Day   int  `json:"day"`
		First int  `json:"first"` // of the numbers of its paths
		Paths int  `json:"paths"`
		Stale bool `json:"stale"`
	}) error {
		if _, known, err := stats.Sites.By("by_name").First(tx); err != nil {
			return err
		} else if !known {
			if _, err := stats.Sites.Insert(tx, stats.Site{Name: "a.org"}); err != nil {
				return err
			}
		}
		total := stats.Rollup{Site: "a.org", Day: args.Day}
		for from := 0; from < args.Paths; from += 1000 {
			row := stats.Rollup{Site: "a.org", Kind: 1, Day: args.Day, Part: from / 1000}
			for i := from; i < min(from+1000, args.Paths); i++ {
				views := 1 + 20_000/(i+1)
				row.Values = append(row.Values, stats.ValueSum{
					Dimension: "path", Value: fmt.Sprintf("/section/article-%d", args.First+i), Views: views, Firsts: []int{0, views/2 + 1, 1, views / 4}})
				total.Views += views
			}
			if _, err := stats.Rollups.Insert(tx, row); err != nil {
				return err
			}
		}
		total.Firsts = []int{0, total.Views}
		if _, err := stats.Rollups.Insert(tx, total); err != nil {
			return err
		}
		if !args.Stale {
			return nil
		}
		_, err := stats.Stales.Insert(tx, stats.Stale{Site: "a.org", Day: args.Day})
		return err
	})
	return m
}

// noonDay is the day of noon.
var noonDay = int(noon.Unix() / 86400)

// TestManyPagesAreNoError: a site with 10,000 different pages a day could not be shown
// for 30 days: the query was beyond its time, or what it may read.
func TestManyPagesAreNoError(t *testing.T) {
	if underRace {
		t.Skip("it adds up millions of sums, one after the other")
	}
	const paths, daysThere, more = 10_000, 61, 20
	w := newWorld(t, stats.Options{}, bigSite())
	for w.buildSpans(1<<20) > 0 {
	}
	views := 0
	for i := range paths {
		views += 1 + 20_000/(i+1)
	}
	for i := range daysThere {
		w.do("big:day", object{"day": noonDay - i, "first": i * 100, "paths": paths, "stale": true})
	}
	ask := func() breakdown {
		return read[breakdown](w, "stats:getBreakdown", object{"dimension": "path", "limit": 1000})
	}
	if got := ask(); got.Pending == 0 || len(got.Rows) == 0 {
		t.Errorf("before there are spans: %d rows, %d views, %d pending; want rows, and something pending", len(got.Rows), got.Views, got.Pending)
	}
	w.buildSpans(1 << 20)
	got := ask()
	if got.Pending != 0 || got.Views != 30*views || got.Previous.Views != 30*views || got.Values < paths {
		t.Errorf("%d views of %d pages, %d pending, %d views before; want %d, at least %d, 0, %d",
			got.Views, got.Values, got.Pending, got.Previous.Views, 30*views, paths, 30*views)
	}
	for _, row := range got.Rows[:10] {
		// The page with the number n is the (n-100*i)th of the day i days ago.
		n := 0
		if _, err := fmt.Sscanf(row.Value, "/section/article-%d", &n); err != nil {
			t.Fatal(err)
		}
		want := 0
		for i := range 30 {
			if at := n - 100*i; at >= 0 && at < paths {
				want += 1 + 20_000/(at+1)
			}
		}
		if row.Views != want {
			t.Errorf("%s has %d views, want %d", row.Value, row.Views, want)
		}
	}
	// Every day has other pages: more than there is room for.
	far := 100_000_000
	for i := daysThere; i < daysThere+more; i++ {
		w.do("big:day", object{"day": noonDay - i, "first": far * i, "paths": paths, "stale": true})
	}
	w.buildSpans(1 << 20)
	got = read[breakdown](w, "stats:getBreakdown", object{"dimension": "path", "limit": 1000, "from": millis(noon.Add(-(daysThere + more - 1) * day))})
	sum := 0
	other := false
	for _, row := range got.Rows {
		sum += row.Views
		other = other || row.Value == "(other)"
	}
	if !other || got.Pending != 0 || got.Views != (daysThere+more)*views || sum > got.Views {
		t.Errorf("%d views, %d of the rows, %d pending, (other) is there: %v; want %d", got.Views, sum, got.Pending, other, (daysThere+more)*views)
	}
}

// BenchmarkGetBreakdownPaths is the pages of a site with 10,000 a day, and as many days
// before.
func BenchmarkGetBreakdownPaths(b *testing.B) {
	w := newWorld(b, stats.Options{}, bigSite())
	for w.buildSpans(1<<20) > 0 {
	}
	for i := range 460 {
		w.do("big:day", object{"day": noonDay - i, "first": i * 10, "paths": 10_000, "stale": true})
	}
	start := time.Now()
	w.buildSpans(1 << 20)
	b.Logf("spans of 460 days made in %v", time.Since(start))
	for _, n := range []int{30, 90, 400} {
		b.Run(fmt.Sprintf("days=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			var got breakdown
			for b.Loop() {
				got = decode[breakdown](w, w.ask("stats:getBreakdown", object{"dimension": "path", "from": millis(noon.Add(-time.Duration(n-1) * day))}))
			}
			if got.Pending > 0 {
				b.Errorf("%d views are pending", got.Pending)
			}
		})
	}
}
