package stats_test

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/apps/stats"
)

const day = 24 * time.Hour

// foldOnce runs one batch, and returns how many rows it took.
func (w *world) foldOnce() int {
	w.t.Helper()
	n, _ := w.do("stats:fold", nil).AsFloat64()
	return int(n)
}

// foldAll runs batches until nothing is left to take away.
func (w *world) foldAll() (taken int) {
	w.t.Helper()
	for w.rollUp() > 0 {
	}
	for n := w.foldOnce(); n > 0; n = w.foldOnce() {
		taken += n
	}
	return taken
}

// keepSecret is what a start does before anything can be folded.
func (w *world) keepSecret() {
	w.do("stats:keepSecret", object{"key": []byte("0123456789abcdef0123456789abcdef")})
}

// twins are two databases that see the same, one of which folds its views.
type twins struct {
	kept, folding *world
	begin         time.Time
	shown         int
}

// sync brings the clocks together, and the rollups up to now.
func (p *twins) sync() {
	for _, w := range []*world{p.kept, p.folding} {
		for w.rollUp() > 0 {
		}
	}
	ahead := p.folding.clock.Now().Sub(p.kept.clock.Now())
	if ahead > 0 {
		p.kept.clock.advance(ahead)
	} else {
		p.folding.clock.advance(-ahead)
	}
}

// compare asks both the same. Of paths with equal views any may be the last one
// listed, so those are compared by how many they are.
func (p *twins) compare(t *testing.T, when string, rowsOf time.Duration) {
	t.Helper()
	p.sync()
	kept, folding := p.kept.stats(), p.folding.stats()
	for _, o := range []*overview{&kept, &folding} {
		if len(o.PageStats) < p.shown {
			continue
		}
		least := o.PageStats[len(o.PageStats)-1].Views
		for i := range o.PageStats {
			if o.PageStats[i].Views == least {
				o.PageStats[i].Path, o.PageStats[i].Title, o.PageStats[i].PageType = "", "", ""
			}
		}
		slices.SortStableFunc(o.PageStats, func(x, y page) int {
			return cmp.Or(cmp.Compare(y.Views, x.Views), cmp.Compare(x.Path, y.Path))
		})
	}
	if diff := gocmp.Diff(kept, folding); diff != "" {
		t.Errorf("%s: getStats (-kept +folded):\n%s", when, diff)
	}
	now := p.kept.clock.Now()
	for _, q := range []struct {
		path string
		args object
	}{
		{"stats:getSites", nil},
		{"stats:getBreakdown", object{"dimension": "country", "from": millis(p.begin)}},
		{"stats:getBreakdown", object{"dimension": "site", "from": millis(p.begin)}},
		{"stats:getBreakdown", object{"dimension": "visitor", "from": millis(p.begin), "country": "CH"}},
		{"stats:getBreakdown", object{"dimension": "browser", "from": millis(p.begin), "site": "a.org"}},
		{"stats:getSeries", object{"unit": "day", "from": millis(p.begin)}},
		{"stats:getSeries", object{"unit": "day", "from": millis(p.begin), "site": "b.org", "timeZone": "Asia/Kolkata"}},
		{"stats:getSeries", object{"unit": "hour", "from": millis(now.Add(-40 * day)), "to": millis(now.Add(-2 * day))}},
		// Visitors of a page, and of an event, are those who were not there within
		// what is kept as rows.
		{"stats:getBreakdown", object{"dimension": "path", "from": millis(now.Add(-rowsOf))}},
		{"stats:getBreakdown", object{"dimension": "event", "from": millis(now.Add(-rowsOf))}},
	} {
		if diff := gocmp.Diff(show(p.kept.ask(q.path, q.args)), show(p.folding.ask(q.path, q.args))); diff != "" {
			t.Errorf("%s: %s(%v) (-kept +folded):\n%s", when, q.path, q.args, diff)
		}
	}
}

// TestFaultL: the original kept views for ever. Here two databases see the same,
// and one of them folds its views after ten days: what they show is the same at
// every step, after any number of batches, when the program was ended between two
// of them, after a backfill between two of them, and with visitors who come back
// and pages that nobody had read for long.
func TestFaultL_FoldedViewsStayInEveryNumber(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	const rowsOf, shown = 10 * day, 5
	options := stats.Options{ViewRetention: rowsOf, VisitorRetention: -1, PathsShown: shown}
	p := twins{
		kept: newWorld(t, stats.Options{ViewRetention: -1, PathsShown: shown}, probe()), folding: newWorld(t, options, probe()),
		begin: noon, shown: shown,
	}
	p.folding.keepSecret()
	folded := 0
	for step := range 300 {
		path := fmt.Sprintf("/%d", random.IntN(4)+step/60)
		v := told{
			site: pick("a.org", "b.org"), path: path, visitor: visitorID(random.IntN(8) + step/40),
			country: pick("CH", ""), browser: pick("Chrome", "Firefox"),
		}
		if random.IntN(10) == 0 {
			v.visitor = ""
		}
		for _, w := range []*world{p.kept, p.folding} {
			w.tell(v)
			if step%4 == 0 {
				w.do("stats:tell", object{"name": "read", "site": v.site, "path": v.path, "pageType": "page", "sessionId": v.visitor})
			}
		}
		switch {
		case step%25 == 24:
			folded += p.folding.foldAll()
		case step%25 == 12: // part of it
			p.folding.rollUp()
			folded += p.folding.foldOnce()
			if random.IntN(2) == 0 {
				p.folding.reopen(options, probe())
			}
			if random.IntN(2) == 0 {
				p.folding.backfill()
			}
			p.folding.buildSpans(random.IntN(4) * 100) // and the other one has none
		}
		if step%12 == 0 {
			p.compare(t, fmt.Sprintf("step %d", step), rowsOf-day)
		}
		wait := time.Duration(random.Int64N(int64(9 * time.Hour)))
		p.kept.clock.advance(wait)
		p.folding.clock.advance(wait)
	}
	if rows := strings.Count(exported(t, p.folding), "\n"); folded < 100 || rows > 150 {
		t.Errorf("%d rows folded, %d are left; want most folded", folded, rows)
	}
	// The rollups of rows are made again, those of folded views are not.
	p.folding.do("probe:damageRollups", nil)
	p.folding.backfill()
	p.compare(t, "after damage and a backfill", rowsOf-day)
	// Nobody comes any more.
	p.kept.clock.advance(30 * day)
	p.folding.clock.advance(30 * day)
	p.folding.foldAll()
	p.compare(t, "at the end", rowsOf-day)
	if text := exported(t, p.folding); strings.Contains(text, "visitor-") {
		t.Errorf("rows are left of visitors who are long gone:\n%s", text)
	}
	for _, row := range decode[[]struct{ SessionID string }](p.folding, p.folding.ask("probe:visitors", nil)) {
		if !strings.HasPrefix(row.SessionID, "#") {
			t.Errorf("the id %q is left of a visitor who is long gone", row.SessionID)
		}
	}
	for id := range 16 {
		if _, err := p.folding.command("forget", visitorID(id)); err != nil {
			continue // did not come
		}
		if _, err := p.kept.command("forget", visitorID(id)); err != nil {
			t.Errorf("visitor %d: %v", id, err)
		}
	}
	if got, want := p.folding.stats().UniqueVisitors, p.kept.stats().UniqueVisitors; got != want {
		t.Errorf("%d visitors after some were forgotten, want %d", got, want)
	}
}

func exported(t *testing.T, w *world) string {
	t.Helper()
	text, err := w.command("export")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What takes rows away in batches comes to its end on a machine that has no time for a whole batch, and what is shown is the same.
func TestFoldingComesToItsEndOnASlowMachine(t *testing.T) {
	const n = 300 // more than a batch
	zone := time.FixedZone("UTC+9", 9*3600)
	path := func(i int) string { return fmt.Sprint("/", int(math.Sqrt(float64(2*i)))) } // each has another number of views
	settings := stats.Options{ViewRetention: 10 * day, VisitorRetention: 20 * day, PathsShown: 5}
	for _, tt := range []struct {
		name    string
		options stats.Options // at the second start
		later   time.Duration
		path    func(i int) string
		batch   func(w *world) int
	}{
		{"views and their events", settings, 12 * day, path, (*world).foldOnce},
		{"visitors who are gone", settings, 40 * day, path, (*world).foldOnce},
		{"rollups of another time zone", stats.Options{ViewRetention: -1, TimeZone: zone, PathsShown: 5}, 0, func(i int) string { return fmt.Sprint("/", i) }, (*world).rollUp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := func(pace time.Duration) (w *world, taken, batches int) {
				w = newWorld(t, settings, probe())
				w.keepSecret()
				w.importRows(n, func(i int) (string, string, time.Time) { return visitorID(i), tt.path(i), noon })
				for i := range 10 {
					w.do("stats:tell", object{"name": "read", "site": "", "path": tt.path(i), "pageType": "page", "sessionId": visitorID(i)})
				}
				for w.rollUp() > 0 {
				}
				w.reopen(tt.options, probe())
				w.clock.advance(tt.later)
				w.clock.slow(pace)
				for k := tt.batch(w); k > 0; k = tt.batch(w) {
					taken += k
					batches++
				}
				w.clock.slow(0)
				w.clock.advance(noon.Add(tt.later + day).Sub(w.clock.Now())) // a slow one has come further
				return w, taken, batches
			}
			fast, all, whole := run(0)
			slow, taken, batches := run(4 * time.Millisecond)
			if taken < n || tt.options.ViewRetention > 0 && taken != all {
				t.Errorf("%d rows are taken, want %d as on a fast machine, and at least %d", taken, all, n)
			}
			if batches <= whole {
				t.Errorf("%d batches, and %d on a fast machine: it was not slow enough to show anything", batches, whole)
			}
			want, got := fast.stats(), slow.stats()
			if tt.options.ViewRetention < 0 {
				want.PageStats, got.PageStats = nil, nil // of paths with equal counts any may be listed
			}
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("getStats (-fast +slow):\n%s", diff)
			}
			for _, q := range []struct {
				path string
				args object
			}{
				{"stats:getSeries", object{"unit": "day", "from": millis(noon.Add(-day))}},
				{"stats:getBreakdown", object{"dimension": "event", "from": millis(noon.Add(-day))}},
				{"probe:visitors", nil},
			} {
				if diff := gocmp.Diff(show(fast.ask(q.path, q.args)), show(slow.ask(q.path, q.args))); diff != "" {
					t.Errorf("%s (-fast +slow):\n%s", q.path, diff)
				}
			}
		})
	}
}

// TestVisitorsAreANumberAfterVisitorRetention: of a visitor who is gone for longer nothing is left
// but one in the number of visitors.
func TestVisitorsAreANumberAfterVisitorRetention(t *testing.T) {
	w := newWorld(t, stats.Options{ViewRetention: 10 * day, VisitorRetention: 20 * day}, probe())
	w.keepSecret()
	const visitors = 450 // more than two batches
	for i := range visitors {
		w.view(visitorID(i), "/")
	}
	for _, step := range []struct {
		after time.Duration
		taken int
	}{{9 * day, 0}, {2 * day, visitors}, {8 * day, 0}, {2 * day, visitors}} {
		w.clock.advance(step.after)
		if got := w.foldAll(); got != step.taken {
			t.Errorf("after %v: %d rows taken, want %d", w.clock.Now().Sub(noon), got, step.taken)
		}
		got := w.stats()
		if got.TotalPageViews != visitors || got.UniqueVisitors != visitors || got.TotalPaths != 1 || got.PageStats[0].Views != visitors ||
			got.TrackingSince == nil || *got.TrackingSince != millis(noon) {
			t.Errorf("after %v: %+v, want %d views of as many visitors on one path since noon", w.clock.Now().Sub(noon), got, visitors)
		}
	}
	w.view(visitorID(1), "/") // nobody knows that this one was here
	if got := w.stats(); got.UniqueVisitors != visitors+1 {
		t.Errorf("%d visitors, want %d", got.UniqueVisitors, visitors+1)
	}
}

// TestAVisitorWhoComesBackIsKnown, also when another time zone's days are counted
// by meanwhile, and is unknown to whoever has the rows alone.
func TestAVisitorWhoComesBackIsKnown(t *testing.T) {
	w := newWorld(t, stats.Options{ViewRetention: 2 * day}, probe())
	w.keepSecret()
	w.view("ada", "/old")
	w.clock.advance(4 * day)
	if got := w.foldAll(); got != 1 {
		t.Fatalf("%d rows folded, want 1", got)
	}
	if text := show(w.ask("probe:visitors", nil)); strings.Contains(text, "ada") || !strings.Contains(text, `"sessionId":"#`) {
		t.Errorf("visitors %s, want a hash", text)
	}
	w.reopen(stats.Options{ViewRetention: 2 * day, TimeZone: time.FixedZone("UTC+9", 9*3600)}, probe())
	for w.rollUp() > 0 {
	}
	w.view("ada", "/new")
	if got := w.stats(); got.UniqueVisitors != 1 || got.TotalPageViews != 2 || got.TotalPaths != 2 || *got.TrackingSince != millis(noon) {
		t.Errorf("%+v, want two views of one visitor since noon", got)
	}
	all := read[breakdown](w, "stats:getBreakdown", object{"dimension": "site", "from": millis(noon)})
	if all.Views != 2 || all.Visitors != 1 {
		t.Errorf("%d views of %d visitors, want 2 of 1", all.Views, all.Visitors)
	}
	if _, err := w.command("forget", "ada"); err != nil {
		t.Error(err)
	}
	if got := w.stats(); got.UniqueVisitors != 0 {
		t.Errorf("%d visitors after the one was forgotten", got.UniqueVisitors)
	}
}

// TestTheStartMakesAKey that stays the same.
func TestTheStartMakesAKey(t *testing.T) {
	w := newWorld(t, stats.Options{}, probe())
	var keys []string
	for range 2 {
		if err := w.app.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, show(w.ask("probe:secrets", nil)))
		w.reopen(stats.Options{}, probe())
	}
	if keys[0] != keys[1] || len(keys[0]) < 40 {
		t.Errorf("keys %q, want one that stays", keys)
	}
}

// TestAnImportAfterFolding: a batch of it, all of visitors and pages that are new,
// stays within what a transaction may look at.
func TestAnImportAfterFolding(t *testing.T) {
	w := newWorld(t, stats.Options{ViewRetention: 2 * day}, probe())
	w.keepSecret()
	w.view("ada", "/1")
	w.clock.advance(4 * day)
	w.foldAll()
	const batch = 500
	w.importRows(batch, func(i int) (string, string, time.Time) { return visitorID(i), fmt.Sprint("/", i), noon.Add(3 * day) })
	if got := w.stats(); got.TotalPageViews != batch+1 || got.UniqueVisitors != batch+1 || got.TotalPaths != batch || got.PageStats[0].Views != 2 {
		t.Errorf("%d views of %d visitors on %d paths, want %d, %d, %d", got.TotalPageViews, got.UniqueVisitors, got.TotalPaths, batch+1, batch+1, batch)
	}
}

// BenchmarkGetStatsFolded shows what it costs that half of the views are folded.
func BenchmarkGetStatsFolded(b *testing.B) {
	for _, views := range []int{2_000, 20_000} {
		b.Run(fmt.Sprintf("views=%d", views), func(b *testing.B) {
			w := newWorld(b, stats.Options{ViewRetention: 10 * day}, probe())
			w.keepSecret()
			w.importRows(views, func(i int) (string, string, time.Time) {
				at := noon.Add(time.Duration(i-views) * time.Second)
				if i < views/2 {
					at = at.Add(-20 * day)
				}
				return fmt.Sprintf("v%d", i%(views/2)/50), fmt.Sprintf("/%d", i*i%997), at
			})
			if got := w.foldAll(); got < views/3 {
				b.Fatalf("%d rows taken, want about %d", got, views/2)
			}
			b.ReportAllocs()
			for b.Loop() {
				w.ask("stats:getStats", nil)
			}
		})
	}
}
