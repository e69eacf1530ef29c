package stats_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine/value"
)

// told is a view as the intake hands it on.
type told struct {
	site, path, visitor, country, referrer, browser string
	at                                              time.Time
}

func (w *world) tell(v told) {
	w.t.Helper()
	args := object{"name": "pageview", "site": v.site, "path": v.path, "pageType": pageType(v.path), "sessionId": v.visitor}
	for name, field := range map[string]string{"country": v.country, "referrer": v.referrer, "browser": v.browser} {
		if field != "" {
			args[name] = field
		}
	}
	outcome, err := w.try("stats:tell", args)
	if err != nil || outcome.Failure != nil && show(outcome.Failure.Data.Get("code")) != `"Repeated"` {
		w.t.Fatalf("tell %+v: %v, %v", v, outcome.Failure, err)
	}
}

func pageType(path string) string {
	if path == "/" {
		return "home"
	}
	return "page"
}

// ledger is the views that count, and counts them by looking at each.
type ledger struct {
	zone  *time.Location
	views []told
}

// add takes a view in unless the rules leave it out.
func (l *ledger) add(v told) {
	for _, other := range l.views {
		if v.visitor != "" && other.visitor == v.visitor && other.site == v.site && other.path == v.path && other.at.Sub(v.at).Abs() < window {
			return
		}
	}
	l.views = append(l.views, v)
	slices.SortStableFunc(l.views, func(x, y told) int { return x.at.Compare(y.at) })
}

func (l *ledger) value(v told, dimension string) string {
	return map[string]string{"path": v.path, "country": v.country, "referrer": v.referrer, "browser": v.browser, "site": v.site, "pageType": pageType(v.path)}[dimension]
}

type row struct {
	Value           string
	Views, Visitors int
}

// count counts the views between two moments: by the dimension, and all.
func (l *ledger) count(dimension string, f stats.Filter, from, to time.Time) (rows []row, all row) {
	type who struct{ site, visitor, path string }
	found := make(map[string]*row)
	onSite, onPage := make(map[who]bool), make(map[who]bool)
	for _, v := range l.views {
		if v.at.Before(from) || !v.at.Before(to) {
			continue
		}
		site, page := who{v.site, v.visitor, ""}, who{v.site, v.visitor, v.path}
		first := v.visitor != "" && !onSite[site]
		firstHere := v.visitor != "" && !onPage[page]
		onSite[site], onPage[page] = true, true
		if f.Site != "" && v.site != f.Site || f.Path != "" && v.path != f.Path || f.Country != "" && v.country != f.Country {
			continue
		}
		if f.Path != "" {
			first = firstHere
		}
		all.Views++
		if first {
			all.Visitors++
		}
		if dimension == "path" {
			first = firstHere
		}
		if name := l.value(v, dimension); name != "" || dimension == "site" {
			if found[name] == nil {
				found[name] = &row{Value: name}
			}
			found[name].Views++
			if first {
				found[name].Visitors++
			}
		}
	}
	for _, r := range found {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(x, y row) int {
		return cmp.Or(cmp.Compare(y.Views, x.Views), cmp.Compare(y.Visitors, x.Visitors), cmp.Compare(x.Value, y.Value))
	})
	return rows, all
}

type period struct {
	From, To                float64
	Rows                    []row
	Values, Views, Visitors int
}

type breakdown struct {
	period
	Previous period
	Pending  int
}

func read[T any](w *world, path string, args object) (out T) {
	w.t.Helper()
	return decode[T](w, w.ask(path, args))
}

func decode[T any](w *world, v value.Value) (out T) {
	w.t.Helper()
	text := value.AppendJSON(nil, v)
	if err := json.Unmarshal(text, &out); err != nil {
		w.t.Fatalf("read %s: %v", text, err)
	}
	return out
}

func millis(t time.Time) float64 { return float64(t.UnixMilli()) }

// TestBreakdownsAndSeriesAreThoseOfAllViews compares every answer to one that is
// found by looking at every view, with some of the views rolled up, and others
// not.
func TestBreakdownsAndSeriesAreThoseOfAllViews(t *testing.T) {
	for _, zone := range []string{"UTC", "America/New_York", "Asia/Kathmandu"} {
		t.Run(zone, func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 0))
			place, err := time.LoadLocation(zone)
			if err != nil {
				t.Fatal(err)
			}
			w := newWorld(t, stats.Options{TimeZone: place})
			l := &ledger{zone: place}
			pick := func(from ...string) string { return from[random.IntN(len(from))] }
			// The clocks of New York went forward on 8 March 2026.
			w.clock.advance(time.Date(2026, time.March, 5, 1, 0, 0, 0, time.UTC).Sub(noon))
			for range 350 {
				w.clock.advance(time.Duration(random.Int64N(int64(80 * time.Minute))))
				v := told{
					site: pick("a.org", "a.org", "b.org"), path: pick("/", "/x", "/y", "/__proto__"),
					visitor: pick("ada", "bob", "cem", "dia", "eve", ""), country: pick("", "CH", "CH", "IN"),
					referrer: pick("", "example.org", "example.com"), browser: pick("Chrome", "Firefox"), at: w.clock.Now(),
				}
				w.tell(v)
				l.add(v)
				switch random.IntN(30) {
				case 0:
					w.do("stats:rollUp", nil)
				case 1: // a view that is told late
					at := w.clock.Now().Add(-time.Duration(random.Int64N(int64(72 * time.Hour)))).Truncate(time.Millisecond)
					late := told{path: pick("/", "/x"), visitor: pick("ada", "bob"), at: at}
					w.do("stats:importViews", object{"views": []any{map[string]any{
						"path": late.path, "sessionId": late.visitor, "timestamp": millis(late.at)}}})
					l.add(late)
				}
			}
			for range 60 {
				f := stats.Filter{Site: pick("", "a.org", "b.org"), Path: pick("", "", "/", "/x"), Country: pick("", "", "CH", "IN")}
				from := w.clock.Now().Add(-time.Duration(random.Int64N(int64(15 * 24 * time.Hour))))
				to := from.Add(1 + time.Duration(random.Int64N(int64(5*24*time.Hour)))).Add(time.Millisecond)
				args := object{"dimension": pick("path", "country", "referrer", "browser", "site", "pageType"), "from": millis(from), "to": millis(to)}
				addFilter(args, f)
				checkBreakdown(t, w, l, args, f, from, to)
				delete(args, "dimension")
				args["unit"] = pick("hour", "day")
				args["timeZone"] = pick("UTC", "America/New_York", "Asia/Kolkata", zone)
				checkSeries(t, w, l, args, f, from, to)
			}
		})
	}
}

func addFilter(args object, f stats.Filter) {
	for name, v := range map[string]string{"site": f.Site, "path": f.Path, "country": f.Country} {
		if v != "" {
			args[name] = v
		}
	}
}

func midnight(t time.Time, zone *time.Location, days int) time.Time {
	year, month, day := t.In(zone).Date()
	return time.Date(year, month, day+days, 0, 0, 0, 0, zone)
}

func checkBreakdown(t *testing.T, w *world, l *ledger, args object, f stats.Filter, from, to time.Time) {
	t.Helper()
	begin, end := midnight(from, l.zone, 0), midnight(to.Add(-time.Millisecond), l.zone, 1)
	days := 0
	for midnight(begin, l.zone, days).Before(end) {
		days++
	}
	got := read[breakdown](w, "stats:getBreakdown", args)
	dimension := args["dimension"].(string)
	rows, all := l.count(dimension, f, begin, end)
	want := period{millis(begin), millis(end), rows[:min(len(rows), 10)], len(rows), all.Views, all.Visitors}
	if want.Rows == nil {
		want.Rows = []row{}
	}
	if diff := gocmp.Diff(want, got.period); diff != "" {
		t.Errorf("getBreakdown(%v) (-want +got):\n%s", args, diff)
	}
	before := midnight(begin, l.zone, -days)
	rows, all = l.count(dimension, f, before, begin)
	prior := period{millis(before), millis(begin), []row{}, len(rows), all.Views, all.Visitors}
	for _, shown := range want.Rows {
		was := row{Value: shown.Value}
		if i := slices.IndexFunc(rows, func(r row) bool { return r.Value == shown.Value }); i >= 0 {
			was = rows[i]
		}
		prior.Rows = append(prior.Rows, was)
	}
	if diff := gocmp.Diff(prior, got.Previous); diff != "" {
		t.Errorf("getBreakdown(%v).previous (-want +got):\n%s", args, diff)
	}
}

func checkSeries(t *testing.T, w *world, l *ledger, args object, f stats.Filter, from, to time.Time) {
	t.Helper()
	type point struct {
		Time            float64
		Views, Visitors int
	}
	got := read[struct{ Points, Previous []point }](w, "stats:getSeries", args)
	zone, err := time.LoadLocation(args["timeZone"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Points) != len(got.Previous) || len(got.Points) == 0 || got.Points[0].Time > millis(from) {
		t.Fatalf("getSeries(%v): %d points from %v, %d before", args, len(got.Points), got.Points, len(got.Previous))
	}
	for i, p := range append(got.Previous, got.Points...) {
		begin := time.UnixMilli(int64(p.Time))
		end := begin.Add(time.Hour)
		if args["unit"] == "day" {
			if end = midnight(begin, zone, 1); !begin.Equal(midnight(begin, zone, 0)) {
				t.Errorf("getSeries(%v): point %d begins at %v", args, i, begin.In(zone))
			}
		}
		_, all := l.count("", f, begin, end)
		if want := (point{p.Time, all.Views, all.Visitors}); p != want {
			t.Errorf("getSeries(%v): point %d at %v is %+v, want %+v", args, i, begin.In(zone), p, want)
		}
		if i == 2*len(got.Points)-1 && (end.Before(to) || !begin.Before(to)) {
			t.Errorf("getSeries(%v): the last point is %v to %v, want the one that holds %v", args, begin, end, to)
		}
	}
}

// TestDaysWithoutAMidnight: where the clocks go forward at midnight a day begins at
// one. Charts by day could not be drawn as long as such a day was among theirs.
func TestDaysWithoutAMidnight(t *testing.T) {
	for name, begins := range map[string]time.Time{
		"Atlantic/Azores":  time.Date(2026, time.March, 29, 1, 0, 0, 0, time.UTC),
		"America/Havana":   time.Date(2027, time.March, 14, 5, 0, 0, 0, time.UTC),
		"America/Santiago": time.Date(2026, time.September, 6, 4, 0, 0, 0, time.UTC),
		"Africa/Cairo":     time.Date(2026, time.April, 23, 22, 0, 0, 0, time.UTC),
	} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		w := newWorld(t, stats.Options{TimeZone: zone}, probe())
		w.clock.advance(begins.Add(-30 * time.Minute).Sub(w.clock.Now()))
		w.tell(told{site: "a.org", path: "/", visitor: "the evening before"})
		w.clock.advance(time.Hour)
		for i := range 2 {
			w.tell(told{site: "a.org", path: "/", visitor: fmt.Sprint(i)})
		}
		for _, rolled := range []bool{false, true} {
			series := read[struct {
				Points []struct{ Time, Views, Visitors float64 }
			}](w, "stats:getSeries", object{"unit": "day"})
			if n := len(series.Points); n != 30 || series.Points[n-1].Time != millis(begins) || series.Points[n-1].Views != 2 || series.Points[n-2].Views != 1 {
				t.Errorf("%s, rolled up: %v: %d days, the last two %+v; want 30, 1 view and then 2 from %v on", name, rolled, n, series.Points[max(n-2, 0):], begins)
			}
			day := read[struct{ From, Views float64 }](w, "stats:getBreakdown", object{"dimension": "path", "from": millis(w.clock.Now())})
			if day.From != millis(begins) || day.Views != 2 {
				t.Errorf("%s, rolled up: %v: the day has %v views from %v, want 2 from %v", name, rolled, day.Views, day.From, begins)
			}
			for w.rollUp() > 0 {
			}
		}
		before := show(w.ask("probe:rollups", nil))
		w.backfill()
		if diff := gocmp.Diff(before, show(w.ask("probe:rollups", nil))); diff != "" {
			t.Errorf("%s: the backfill found what was right to be wrong:\n%s", name, diff)
		}
	}
}

func TestRangesOfBreakdownsAndSeries(t *testing.T) {
	w := newWorld(t, stats.Options{})
	day := 24 * time.Hour
	tests := []struct {
		function string
		args     object
		want     string // the code
	}{
		{"stats:getBreakdown", object{"dimension": "path"}, ""},
		{"stats:getBreakdown", object{"dimension": "path", "from": millis(noon), "to": millis(noon)}, ""}, // its day
		{"stats:getBreakdown", object{"dimension": "path", "from": millis(noon), "to": millis(noon.Add(-day))}, stats.CodeRange},
		{"stats:getBreakdown", object{"dimension": "path", "from": millis(noon.Add(-399 * day))}, ""},
		{"stats:getBreakdown", object{"dimension": "path", "from": millis(noon.Add(-400 * day))}, stats.CodeRange},
		{"stats:getBreakdown", object{"dimension": "path", "from": -8.64e15}, stats.CodeRange},
		{"stats:getSeries", object{"unit": "hour"}, ""},
		{"stats:getSeries", object{"unit": "day"}, ""},
		{"stats:getSeries", object{"unit": "hour", "from": millis(noon.Add(-999 * time.Hour))}, ""},
		{"stats:getSeries", object{"unit": "hour", "from": millis(noon.Add(-1000 * time.Hour))}, stats.CodeRange},
		{"stats:getSeries", object{"unit": "day", "from": millis(noon.Add(-400 * day))}, stats.CodeRange},
		{"stats:getSeries", object{"unit": "day", "from": millis(noon), "to": millis(noon.Add(-day))}, stats.CodeRange},
		{"stats:getSeries", object{"unit": "day", "timeZone": "Mars/Olympus"}, stats.CodeTimeZone},
		{"stats:getSeries", object{"unit": "day", "timeZone": "../../etc/passwd"}, stats.CodeTimeZone},
	}
	for _, tt := range tests {
		outcome, err := w.query(tt.function, tt.args)
		code := ""
		if err == nil && outcome.Failure != nil {
			code, _ = outcome.Failure.Data.Get("code").AsString()
			if code == "" {
				code = outcome.Failure.Message
			}
		}
		if err != nil || code != tt.want {
			t.Errorf("%s(%v): %q, %v; want %q", tt.function, tt.args, code, err, tt.want)
		}
	}
}

func TestTheActiveCurveIsSampledEachMinute(t *testing.T) {
	w := newWorld(t, stats.Options{})
	beat := func(site, visitor string) {
		w.do("stats:tellBeat", object{"name": "heartbeat", "site": site, "path": "/", "pageType": "home", "sessionId": visitor})
	}
	var want []float64
	for minute := range 130 {
		n := minute % 4
		for i := range n {
			beat("a.org", fmt.Sprintf("%d-%d", minute, i))
		}
		if minute >= 10 {
			last := (minute + 3) % 4 // those of the minute before are still here
			want = append(want, float64(n+last))
		}
		for range 2 { // a second run in one minute is none
			w.do("stats:everyMinute", nil)
		}
		w.clock.advance(time.Minute)
	}
	w.clock.advance(-time.Minute)
	type curve struct {
		Points []struct{ Time, Active float64 }
	}
	got := read[curve](w, "stats:getActiveCurve", nil)
	if len(got.Points) != 120 || got.Points[119].Time != millis(w.clock.Now()) {
		t.Fatalf("%d points up to %v, want 120 up to now", len(got.Points), got.Points[len(got.Points)-1])
	}
	for i, p := range got.Points {
		if p.Active != want[i] {
			t.Errorf("point %d: %v active, want %v", i, p.Active, want[i])
		}
	}
	for _, p := range read[curve](w, "stats:getActiveCurve", object{"site": "b.org"}).Points {
		if p.Active != 0 {
			t.Errorf("%v active on a site nobody was on", p.Active)
		}
	}
}

func TestSitesAreApart(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.tell(told{site: "a.org", path: "/", visitor: "ada"})
	w.tell(told{site: "b.org", path: "/", visitor: "ada"})
	w.tell(told{site: "b.org", path: "/", visitor: "bob"})
	w.do("stats:tellBeat", object{"name": "heartbeat", "site": "b.org", "path": "/", "pageType": "home", "sessionId": "bob"})
	want := fmt.Sprintf(`{"sites":[{"activeVisitors":1,"since":%d,"site":"b.org","views":2,"visitors":2},`+
		`{"activeVisitors":0,"since":%d,"site":"a.org","views":1,"visitors":1}],"timeZone":"UTC"}`, noon.UnixMilli(), noon.UnixMilli())
	if diff := gocmp.Diff(want, show(w.ask("stats:getSites", nil))); diff != "" {
		t.Errorf("getSites (-want +got):\n%s", diff)
	}
	for site, want := range map[string][3]int{"a.org": {0, 1, 1}, "b.org": {1, 2, 2}, "c.org": {}} {
		got := readOverview(t, []byte(show(w.ask("stats:getStats", object{"site": site}))))
		if here := [3]int{got.ActiveVisitors, got.TotalPageViews, got.UniqueVisitors}; here != want || len(got.ActiveByPath) != want[0] {
			t.Errorf("%s: %v here, views and visitors, want %v", site, here, want)
		}
		if got.PageStats == nil || len(got.PageStats) > 0 || (got.TrackingSince == nil) != (site == "c.org") {
			t.Errorf("%s: pages %v since %v", site, got.PageStats, got.TrackingSince)
		}
	}
	if got := w.stats(); len(got.PageStats) != 2 || got.TotalPaths != 2 || got.PageStats[0].Views != 2 || got.UniqueVisitors != 3 {
		t.Errorf("%+v, want two pages / of 2 and 1 views, and 3 visitors", got)
	}
}
