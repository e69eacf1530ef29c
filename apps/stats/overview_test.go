package stats_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine/value"
)

func TestEmptyStats(t *testing.T) {
	w := newWorld(t, stats.Options{})
	const want = `{"activeByPath":[],"activePaths":0,"activeVisitors":0,"pageStats":[],"publishedPages":0,"publishedPosts":0,` +
		`"totalPageViews":0,"totalPaths":0,"trackingSince":null,"uniqueVisitors":0,"visitorLocations":[]}`
	if diff := cmp.Diff(want, show(w.ask("stats:getStats", nil))); diff != "" {
		t.Errorf("getStats (-want +got):\n%s", diff)
	}
}

func TestStatsHaveTheFieldsOfTheirContract(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.view("ada", "/a")
	w.do("stats:heartbeat", object{"sessionId": "ada", "currentPath": "/a", "country": "CH", "latitude": 46.948, "longitude": 7.447})
	want := fmt.Sprintf(`{"activeByPath":[{"count":1,"path":"/a"}],"activePaths":1,"activeVisitors":1,`+
		`"pageStats":[{"pageType":"other","path":"/a","title":"/a","views":1}],"publishedPages":0,"publishedPosts":0,`+
		`"totalPageViews":1,"totalPaths":1,"trackingSince":%d,"uniqueVisitors":1,`+
		`"visitorLocations":[{"country":"CH","latitude":46.9,"longitude":7.4}]}`, noon.UnixMilli())
	if diff := cmp.Diff(want, show(w.ask("stats:getStats", nil))); diff != "" {
		t.Errorf("getStats (-want +got):\n%s", diff)
	}
}

// library is a small site: a module with titles that change.
type library struct {
	Slug  string `json:"slug"`
	Title string `json:"title"`
	Kind  string `json:"kind"`
}

var books = halcyon.NewTable[library]("books").Index("by_slug", "slug")

func libraryModule() *halcyon.Module {
	m := halcyon.NewModule("library", books)
	m.Mutation("publish", func(tx *halcyon.Tx, args library) error {
		_, err := books.Insert(tx, args)
		return err
	})
	return m
}

func libraryTitles(tx *halcyon.Tx, slug string) (title, kind string, ok bool, err error) {
	book, ok, err := books.By("by_slug").Eq(slug).First(tx)
	return book.Title, book.Kind, ok, err
}

func libraryPublished(tx *halcyon.Tx) (posts, pages int, err error) {
	all, err := books.All().Collect(tx)
	for _, book := range all {
		if book.Kind == "blog" {
			posts++
		} else {
			pages++
		}
	}
	return posts, pages, err
}

func TestTitles(t *testing.T) {
	w := newWorld(t, stats.Options{Titles: libraryTitles, Published: libraryPublished}, libraryModule())
	for _, book := range []library{
		{"dune", "Dune", "blog"}, {"about", "About us", "page"}, {"deep/path", "Deep", "page"}, {"stats", "Not this", "page"},
	} {
		w.do("library:publish", object{"slug": book.Slug, "title": book.Title, "kind": book.Kind})
	}
	tests := []struct{ path, title, kind string }{
		{"/", "Home", "home"},
		{"", "Home", "home"},
		{"/stats", "Stats", "stats"},
		{"/dune", "Dune", "blog"},
		{"/about", "About us", "page"},
		{"about", "About us", "page"},
		{"/deep/path", "Deep", "page"},
		{"//about", "//about", "other"}, // only one slash is taken off
		{"/unknown", "/unknown", "other"},
	}
	for _, tt := range tests {
		visitor := "visitor of " + tt.path
		w.view(visitor, tt.path)
	}
	titles := make(map[string][2]string)
	got := w.stats()
	for _, page := range got.PageStats {
		titles[page.Path] = [2]string{page.Title, page.PageType}
	}
	for _, tt := range tests {
		path := tt.path
		if path == "" {
			path = "/"
		}
		if want := [2]string{tt.title, tt.kind}; titles[path] != want {
			t.Errorf("path %q is %q, want %q", tt.path, titles[path], want)
		}
	}
	if got.PublishedPosts != 1 || got.PublishedPages != 3 {
		t.Errorf("%d posts and %d pages, want 1 and 3", got.PublishedPosts, got.PublishedPages)
	}
}

func TestTitlesOnOpenScreensFollowTheSite(t *testing.T) {
	w := newWorld(t, stats.Options{Titles: libraryTitles, Published: libraryPublished}, libraryModule())
	w.view("ada", "/dune")
	screen := w.open()
	if got, _ := screen.next(); got.PageStats[0].Title != "/dune" || got.PublishedPosts != 0 {
		t.Errorf("before it is published: %+v", got)
	}
	w.do("library:publish", object{"slug": "dune", "title": "Dune", "kind": "blog"})
	if got := screen.nextTick(); got.PageStats[0].Title != "Dune" || got.PublishedPosts != 1 {
		t.Errorf("after it is published: %+v", got)
	}
}

func TestASiteThatFailsFailsTheStats(t *testing.T) {
	broken := errors.New("broken")
	for name, options := range map[string]stats.Options{
		"titles": {Titles: func(*halcyon.Tx, string) (string, string, bool, error) { return "", "", false, broken }},
		"counts": {Published: func(*halcyon.Tx) (int, int, error) { return 0, 0, broken }},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, options)
			w.view("ada", "/a")
			outcome, err := w.app.Query(t.Context(), halcyon.Request{Path: "stats:getStats"})
			if err != nil || outcome.Failure == nil {
				t.Errorf("getStats = %s, %v; want a failure", show(outcome.Value), err)
			}
		})
	}
}

// importRows puts views into the tables, many at once.
func (w *world) importRows(n int, row func(i int) (visitor, path string, at time.Time)) {
	w.t.Helper()
	const batch = 1000
	for from := 0; from < n; from += batch {
		var views []value.Value
		for i := from; i < min(n, from+batch); i++ {
			visitor, path, at := row(i)
			views = append(views, value.Object(
				value.Field{Name: "path", Value: value.String(path)},
				value.Field{Name: "sessionId", Value: value.String(visitor)},
				value.Field{Name: "timestamp", Value: value.Float64(float64(at.UnixMilli()))}))
		}
		w.importViews(views)
	}
}

// importViews tells of views that have happened, in as many calls as it takes.
func (w *world) importViews(views []value.Value) (counted, calls int) {
	w.t.Helper()
	for len(views) > 0 {
		got := decode[struct{ Taken, Counted int }](w, w.do("stats:importViews", object{"views": value.Array(views...)}))
		if got.Taken == 0 {
			w.t.Fatalf("none of %d views is taken", len(views))
		}
		views, counted, calls = views[got.Taken:], counted+got.Counted, calls+1
	}
	return counted, calls
}

// TestFaultA: the original reads every view, and dies at the 32,000 documents
// that one query may read.
func TestFaultA_StatsReadNoViews(t *testing.T) {
	const calls, views, paths = 33, 1000, 20
	w := newWorld(t, stats.Options{}, probe())
	for i := range calls {
		w.do("probe:addViews", object{"count": views, "paths": paths, "from": noon.Add(time.Duration(i-calls) * time.Hour)})
	}
	got := w.stats()
	if got.TotalPageViews != calls*views || got.TotalPaths != paths {
		t.Errorf("%d views, %d paths; want %d, %d", got.TotalPageViews, got.TotalPaths, calls*views, paths)
	}
	for _, page := range got.PageStats {
		if page.Views != calls*views/paths {
			t.Errorf("%d views of %s, want %d", page.Views, page.Path, calls*views/paths)
		}
	}
	if want := float64(noon.Add(-calls * time.Hour).UnixMilli()); got.TrackingSince == nil || *got.TrackingSince != want {
		t.Errorf("tracking since %v, want %v", got.TrackingSince, want)
	}
	w.view("ada", "/0")
	if got := w.stats().TotalPageViews; got != calls*views+1 {
		t.Errorf("%d views after one more, want %d", got, calls*views+1)
	}
}

// TestFaultD: the original took the number of views for that of paths.
func TestFaultD_TotalPathsAreDifferentPaths(t *testing.T) {
	w := newWorld(t, stats.Options{})
	for i := range 60 {
		for range i%3 + 1 {
			w.view(fmt.Sprintf("%d %v", i, w.clock.Now()), fmt.Sprintf("/%02d", i))
			w.clock.advance(time.Millisecond)
		}
	}
	if got := w.stats(); got.TotalPaths != 60 || len(got.PageStats) != 50 || got.TotalPageViews != 120 {
		t.Errorf("%d paths, %d listed, %d views; want 60, 50, 120", got.TotalPaths, len(got.PageStats), got.TotalPageViews)
	}
}

// TestFaultF: the original forgot pages whose views were not among the last
// 1,000, and counted no more than 1,000 visitors.
func TestFaultF_TopPagesAndVisitorsAreThoseOfAllRows(t *testing.T) {
	w := newWorld(t, stats.Options{}, probe())
	w.importRows(300, func(i int) (string, string, time.Time) {
		return fmt.Sprintf("old-%d", i), "/classic", noon.Add(-time.Hour)
	})
	w.importRows(2000, func(i int) (string, string, time.Time) {
		return fmt.Sprintf("new-%d", i), fmt.Sprintf("/%03d", i%200), noon
	})
	got := w.stats()
	if top := got.PageStats[0]; top.Path != "/classic" || top.Views != 300 {
		t.Errorf("top page %+v, want /classic with 300 views", top)
	}
	for i, page := range got.PageStats[1:] { // the others are equal: by path
		if want := fmt.Sprintf("/%03d", i); page.Path != want || page.Views != 10 {
			t.Errorf("page %d is %+v, want %s with 10 views", i+1, page, want)
		}
	}
	const active = 1500
	for i := range active {
		w.do("probe:addSession", object{"sessionId": visitorID(i), "path": fmt.Sprintf("/%d", i%3), "lastSeen": noon})
	}
	got = w.stats()
	if got.ActiveVisitors != active || len(got.ActiveByPath) != 3 || got.ActiveByPath[0].Count != active/3 {
		t.Errorf("%d active on %v, want %d on 3 paths", got.ActiveVisitors, got.ActiveByPath, active)
	}
}

// TestFaultN: the original kept its counts in an object, where __proto__ is no
// name like any other.
func TestFaultN_NamesOfObjectsAreNames(t *testing.T) {
	names := []string{"__proto__", "constructor", "toString", "hasOwnProperty", "_id", "$integer"}
	w := newWorld(t, stats.Options{})
	for _, name := range names {
		w.view(name, name)
		w.beat(name, name)
	}
	got := w.stats()
	if got.ActiveVisitors != len(names) || len(got.ActiveByPath) != len(names) || len(got.PageStats) != len(names) {
		t.Errorf("%d active on %v, views of %v", got.ActiveVisitors, got.ActiveByPath, got.PageStats)
	}
	for _, at := range got.ActiveByPath {
		if at.Count != 1 {
			t.Errorf("%d on %s, want 1", at.Count, at.Path)
		}
	}
}

// TestFaultO: the original took a coordinate of 0 for none.
func TestFaultO_ZeroIsACoordinate(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.do("stats:heartbeat", object{"sessionId": "null island", "currentPath": "/", "latitude": 0.0, "longitude": 0.0})
	w.do("stats:heartbeat", object{"sessionId": "greenwich", "currentPath": "/", "latitude": 51.5, "longitude": math.Copysign(0, -1)})
	if got := w.stats().VisitorLocations; len(got) != 2 || got[0].Latitude != 0 || got[1].Longitude != 0 {
		t.Errorf("locations %+v, want two", got)
	}
}

func TestLocations(t *testing.T) {
	type visitor struct {
		city, country       string
		latitude, longitude float64
	}
	berne := visitor{"Berne", "CH", 46.948, 7.447}
	tests := []struct {
		name     string
		visitors []visitor
		want     string
	}{
		{"rounded to a tenth of a degree, the city of one visitor left out", []visitor{berne},
			`[{"country":"CH","latitude":46.9,"longitude":7.4}]`},
		{"a city of two left out", []visitor{berne, berne},
			`[{"country":"CH","latitude":46.9,"longitude":7.4},{"country":"CH","latitude":46.9,"longitude":7.4}]`},
		{"a city of three named", []visitor{berne, berne, berne},
			`[{"city":"Berne","country":"CH","latitude":46.9,"longitude":7.4},` +
				`{"city":"Berne","country":"CH","latitude":46.9,"longitude":7.4},` +
				`{"city":"Berne","country":"CH","latitude":46.9,"longitude":7.4}]`},
		{"cities of one name in two countries", []visitor{{"Berne", "CH", 0, 0}, {"Berne", "CH", 0, 0}, {"Berne", "US", 0, 0}},
			`[{"country":"CH","latitude":0,"longitude":0},{"country":"CH","latitude":0,"longitude":0},{"country":"US","latitude":0,"longitude":0}]`},
		{"-0 is 0", []visitor{{"", "", -0.04, -0.01}}, `[{"latitude":0,"longitude":0}]`},
		{"south and west", []visitor{{"", "", -33.868, -70.651}}, `[{"latitude":-33.9,"longitude":-70.7}]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, stats.Options{})
			for i, visitor := range tt.visitors {
				w.do("stats:heartbeat", object{
					"sessionId": visitorID(i), "currentPath": "/", "city": visitor.city, "country": visitor.country,
					"latitude": visitor.latitude, "longitude": visitor.longitude,
				})
			}
			if diff := cmp.Diff(tt.want, show(w.ask("stats:getStats", nil).Get("visitorLocations"))); diff != "" {
				t.Errorf("locations (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLocationsOfManyVisitorsAreListedByPlace(t *testing.T) {
	w := newWorld(t, stats.Options{})
	locate := func(from, to int, latitude float64) {
		atOnce(to-from, func(i int) {
			outcome, err := w.try("stats:heartbeat", object{
				"sessionId": visitorID(from + i), "currentPath": "/", "latitude": latitude, "longitude": 1.0})
			if err != nil || outcome.Failure != nil {
				t.Error(outcome.Failure, err)
			}
		})
	}
	locate(0, 600, 10)
	locate(600, 1000, 20)
	if got := w.stats().VisitorLocations; len(got) != 1000 || got[0].Count != nil {
		t.Errorf("1,000 visitors: %d entries, want one each and no counts", len(got))
	}
	locate(1000, 1001, 30)
	want := `[{"count":600,"latitude":10,"longitude":1},{"count":400,"latitude":20,"longitude":1},{"count":1,"latitude":30,"longitude":1}]`
	if diff := cmp.Diff(want, show(w.ask("stats:getStats", nil).Get("visitorLocations"))); diff != "" {
		t.Errorf("1,001 visitors (-want +got):\n%s", diff)
	}
}

func TestLocationsNeedBothCoordinates(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.do("stats:heartbeat", object{"sessionId": "ada", "currentPath": "/", "latitude": 10.0, "city": "Berne"})
	if got := w.stats(); got.ActiveVisitors != 1 || len(got.VisitorLocations) != 0 {
		t.Errorf("%d active at %v, want 1 nowhere", got.ActiveVisitors, got.VisitorLocations)
	}
	w.do("stats:heartbeat", object{"sessionId": "ada", "currentPath": "/", "longitude": 20.0})
	if got := w.stats().VisitorLocations; len(got) != 1 {
		t.Errorf("locations %+v, want one", got)
	}
}

func TestRoutesAndInternalFunctions(t *testing.T) {
	w := newWorld(t, stats.Options{})
	var routes []string
	for _, route := range w.app.Routes() {
		routes = append(routes, route.Pattern)
	}
	if diff := cmp.Diff([]string{"POST /api/event", "GET /api/geo", "GET /track.js", "GET /stats", "GET /stats/"}, routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	for _, path := range []string{"stats:cleanupStaleSessions", "stats:sweepStaleSessions", "stats:importViews"} {
		outcome, err := w.app.Mutation(t.Context(), halcyon.Request{Path: path})
		if err != nil || outcome.Failure == nil {
			t.Errorf("a client ran %s: %v", path, err)
		}
	}
}
