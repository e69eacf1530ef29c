package stats_test

import (
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
)

const window = 30 * time.Minute

func TestViewsOfOneVisitorAndPathCountOnceInTheWindow(t *testing.T) {
	tests := []struct {
		name string
		at   []time.Duration // after the first view
		want int
	}{
		{"at once", []time.Duration{0}, 1},
		{"1 ms before the end", []time.Duration{window - time.Millisecond}, 1},
		{"at the end", []time.Duration{window}, 2}, // skipped only while timestamp > now - 30 min
		{"1 ms after the end", []time.Duration{window + time.Millisecond}, 2},
		{"a skipped view does not prolong the window", []time.Duration{20 * time.Minute, window}, 2},
		{"a counted view begins a new one", []time.Duration{window, window + 29*time.Minute}, 2},
		{"all day, every ten minutes", every(10*time.Minute, 24*time.Hour), 48},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, stats.Options{})
			w.view("ada", "/a")
			passed := time.Duration(0)
			for _, at := range tt.at {
				w.clock.advance(at - passed)
				passed = at
				w.view("ada", "/a")
			}
			if got := w.stats(); got.TotalPageViews != tt.want || got.UniqueVisitors != 1 || got.TotalPaths != 1 {
				t.Errorf("%d views, %d visitors, %d paths; want %d, 1, 1", got.TotalPageViews, got.UniqueVisitors, got.TotalPaths, tt.want)
			}
		})
	}
}

// What a client sends for somebody who asks not to be tracked: each view counts, and
// nobody is a visitor for it.
func TestViewsWithoutAVisitorAreNobodys(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.view("ada", "/a")
	for range 3 {
		w.view("", "/a")
	}
	if got := w.stats(); got.TotalPageViews != 4 || got.UniqueVisitors != 1 {
		t.Errorf("%d views, %d visitors; want 4, 1", got.TotalPageViews, got.UniqueVisitors)
	}
	if got := w.refused("stats:heartbeat", object{"sessionId": "", "currentPath": "/a"}); !strings.Contains(got, stats.CodeVisitorID) {
		t.Errorf("a beat of nobody: %q, want %s", got, stats.CodeVisitorID)
	}
}

// every returns the multiples of step below end.
func every(step, end time.Duration) (times []time.Duration) {
	for at := step; at < end; at += step {
		times = append(times, at)
	}
	return times
}

func TestViewWindowIsPerVisitorAndPath(t *testing.T) {
	w := newWorld(t, stats.Options{})
	for range 2 {
		for _, visitor := range []string{"ada", "bob", "cem"} {
			w.view(visitor, "/a")
			w.view(visitor, "/b")
		}
	}
	if got := w.stats(); got.TotalPageViews != 6 || got.UniqueVisitors != 3 || got.TotalPaths != 2 {
		t.Errorf("%d views, %d visitors, %d paths; want 6, 3, 2", got.TotalPageViews, got.UniqueVisitors, got.TotalPaths)
	}
}

func TestViewWindowIsASetting(t *testing.T) {
	w := newWorld(t, stats.Options{ViewWindow: time.Second})
	for range 3 {
		w.view("ada", "/a")
		w.clock.advance(time.Second)
	}
	if got := w.stats().TotalPageViews; got != 3 {
		t.Errorf("%d views, want 3", got)
	}
}

func TestViewsAreExactUnderConcurrentDuplicates(t *testing.T) {
	const visitors, duplicates = 20, 10
	w := newWorld(t, stats.Options{})
	atOnce(visitors*duplicates, func(i int) {
		outcome, err := w.try("stats:recordPageView", object{"path": "/a", "pageType": "page", "sessionId": visitorID(i % visitors)})
		if err != nil || outcome.Failure != nil {
			t.Errorf("call %d: %v, %v", i, outcome.Failure, err)
		}
	})
	if got := w.stats(); got.TotalPageViews != visitors || got.UniqueVisitors != visitors {
		t.Errorf("%d views of %d visitors, want %d of each", got.TotalPageViews, got.UniqueVisitors, visitors)
	}
}

func TestPathsAreCleanedBeforeTheyAreKept(t *testing.T) {
	tests := []struct{ path, want string }{
		{"/a?utm_source=x", "/a"},
		{"/a#part", "/a"},
		{"/a?x#y", "/a"},
		{"?x", "/"},
		{"", "/"},
		{"/", "/"},
		{"about", "about"},
		{"/confirm/ada@example.org", "/confirm/[email]"},
		{"/confirm/ada%40example.org/now", "/confirm/[email]/now"},
		{"/confirm/ADA%40EXAMPLE.ORG", "/confirm/[email]"},
		{"/@ada", "/@ada"},
		{"/npm/left-pad@1.3.0", "/npm/left-pad@1.3.0"},
		{"/__proto__", "/__proto__"},
		{"/\u00fc\u4e16\u754c", "/\u00fc\u4e16\u754c"},
		{"/" + strings.Repeat("x", 1023), "/" + strings.Repeat("x", 1023)},
		{"/a?" + strings.Repeat("x", 100_000), "/a"},
	}
	for _, tt := range tests {
		w := newWorld(t, stats.Options{})
		w.view("ada", tt.path)
		w.beat("ada", tt.path)
		got := w.stats()
		if len(got.PageStats) != 1 || got.PageStats[0].Path != tt.want || len(got.ActiveByPath) != 1 || got.ActiveByPath[0].Path != tt.want {
			t.Errorf("path %.40q: kept %+v and %+v, want %.40q", tt.path, got.PageStats, got.ActiveByPath, tt.want)
		}
	}
}

func TestArgumentsHaveLimits(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	view := func(path, pageType, visitor string) object {
		return object{"path": path, "pageType": pageType, "sessionId": visitor}
	}
	beat := func(path, visitor string) object { return object{"currentPath": path, "sessionId": visitor} }
	tests := []struct {
		name, function string
		args           object
		want           string
	}{
		{"view of a visitor at the limit", "stats:recordPageView", view("/", "page", long(128)), ""},
		{"view of a visitor past it", "stats:recordPageView", view("/", "page", long(129)), stats.CodeVisitorID},
		{"view of a path at the limit", "stats:recordPageView", view(long(1024), "page", "ada"), ""},
		{"view of a path past it", "stats:recordPageView", view(long(1025), "page", "ada"), stats.CodePath},
		{"view of a path of 100 KB", "stats:recordPageView", view("/"+long(100_000), "page", "ada"), stats.CodePath},
		{"view of a page type at the limit", "stats:recordPageView", view("/", long(64), "ada"), ""},
		{"view of a page type past it", "stats:recordPageView", view("/", long(65), "ada"), stats.CodePageType},
		{"beat without visitor", "stats:heartbeat", beat("/", ""), stats.CodeVisitorID},
		{"beat of a visitor at the limit", "stats:heartbeat", beat("/", long(128)), ""},
		{"beat of a visitor past it", "stats:heartbeat", beat("/", long(129)), stats.CodeVisitorID},
		{"beat on a path at the limit", "stats:heartbeat", beat(long(1024), "ada"), ""},
		{"beat on a path past it", "stats:heartbeat", beat(long(1025), "ada"), stats.CodePath},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, stats.Options{})
			if tt.want == "" {
				w.do(tt.function, tt.args)
				return
			}
			if got := w.refused(tt.function, tt.args); got != tt.want {
				t.Errorf("code %q, want %q", got, tt.want)
			}
			if got := w.stats(); got.TotalPageViews+got.UniqueVisitors+got.ActiveVisitors != 0 {
				t.Errorf("a refused call left %+v", got)
			}
		})
	}
}

// TestViewsOfTheAPIHaveTheirBrowser: what a connection tells of the browser is kept with
// a view as it is of the event intake's, since what is not collected never comes back.
func TestViewsOfTheAPIHaveTheirBrowser(t *testing.T) {
	w := newWorld(t, stats.Options{})
	args := object{"path": "/", "pageType": "home", "sessionId": "ada"}
	outcome, err := w.app.Mutation(t.Context(), halcyon.Request{Path: "stats:recordPageView", Args: args.value(t), UserAgent: firefox})
	if err != nil || outcome.Failure != nil {
		t.Fatal(outcome.Failure, err)
	}
	w.view("bob", "/") // by what says nothing
	for dimension, want := range map[string]string{"browser": "Firefox", "system": "Linux", "device": "desktop"} {
		if diff := gocmp.Diff(map[string]row{want: {want, 1, 1}}, w.values(dimension, nil)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", dimension, diff)
		}
	}
}
