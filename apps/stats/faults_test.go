package stats_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine"
)

// The faults of the original, and the tests that they are not here:
//
//	a  statistics read every view                      TestFaultA_StatsReadNoViews
//	b  the greater of two counts hides drift           TestFaultB_BackfillFindsAndCorrectsDrift
//	c  a backfill counts forgotten visitors again      TestFaultC_BackfillCountsEveryVisitorOnce
//	d  totalPaths is the number of views               TestFaultD_TotalPathsAreDifferentPaths
//	e  counts make all views conflict                  TestFaultE_VisitorsDoNotMeet
//	f  limits hide old pages and many visitors         TestFaultF_TopPagesAndVisitorsAreThoseOfAllRows
//	g  time alone changes nothing                      TestFaultG_...
//	h  a change of page is skipped                     TestFaultH_AChangeOfPageShowsAtOnce
//	i  two tabs silence each other                     the tracker's, web/tracker; TestFaultI_AnyTabMayBeat
//	j  a skipped beat writes                           TestFaultJ_ASkippedBeatWritesNothing
//	k  the cleanup is unbounded, or falls behind       TestFaultK_...
//	l  views are kept for ever                         TestFaultL_FoldedViewsStayInEveryNumber
//	m  robots count, ids and paths are unchecked       TestFaultM_RobotsAreNamedAndInputIsChecked
//	n  a path may be __proto__                         TestFaultN_NamesOfObjectsAreNames
//	o  0 is no coordinate                              TestFaultO_ZeroIsACoordinate
//	p  titles cost paths times posts                   TestFaultP_ATitleIsLookedUpOnce
//	q  only located visitors are counted as online     TestFaultQ_VisitorsWithoutAPlaceAreHere
//	r  two rows of one visitor fail for ever           TestFaultR_TwoRowsOfOneVisitorAreHealed
//	s  a counter in a document is hot                  TestFaultS_ManyViewsOfOnePage

// conflicts counts what executions met over, as Function/table/index.
func (w *world) conflicts() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.mu.conflicts)
}

func (w *world) met(e engine.ConflictEvent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.conflicts[fmt.Sprintf("%s over %s %s", e.Function, e.Table, e.Index)]++
}

// TestFaultE: every view of the original wrote to the root of a tree that all
// views wrote to.
func TestFaultE_VisitorsDoNotMeet(t *testing.T) {
	const visitors = 400
	w := newWorld(t, stats.Options{})
	w.view("first", "/")
	w.beat("first", "/")
	for round := range 3 {
		atOnce(visitors, func(i int) {
			if outcome, err := w.try("stats:recordPageView", object{"path": fmt.Sprint("/", round), "pageType": "page", "sessionId": visitorID(i)}); err != nil || outcome.Failure != nil {
				t.Error(outcome.Failure, err)
			}
			if outcome, err := w.try("stats:heartbeat", object{"currentPath": fmt.Sprint("/", round), "sessionId": visitorID(i)}); err != nil || outcome.Failure != nil {
				t.Error(outcome.Failure, err)
			}
		})
		w.clock.advance(25 * time.Second)
	}
	if got := w.conflicts(); len(got) > 0 {
		t.Errorf("executions of different visitors met: %v", got)
	}
	if got := w.stats(); got.TotalPageViews != 3*visitors+1 || got.ActiveVisitors != visitors+1 {
		t.Errorf("%d views, %d active; want %d, %d", got.TotalPageViews, got.ActiveVisitors, 3*visitors+1, visitors+1)
	}
}

// TestFaultI: the server takes a beat of any tab, so that no election of one can
// leave a visitor silent.
func TestFaultI_AnyTabMayBeat(t *testing.T) {
	w := newWorld(t, stats.Options{})
	for i := range 12 {
		w.beat("ada", fmt.Sprintf("/tab-%d", i%3))
		w.clock.advance(time.Minute)
		if got := w.stats(); got.ActiveVisitors != 1 || got.ActiveByPath[0].Path != fmt.Sprintf("/tab-%d", i%3) {
			t.Errorf("minute %d: %+v, want one on the tab that beat last", i, got.ActiveByPath)
		}
	}
}

// TestFaultJ: the original's rate limiter wrote a row before a beat was skipped.
func TestFaultJ_ASkippedBeatWritesNothing(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.beat("ada", "/a")
	w.settle()
	before := w.app.Durable()
	for range 50 {
		w.beat("ada", "/a")
	}
	if after := w.app.Durable(); after != before {
		t.Errorf("50 skipped beats have moved the database from %v to %v", before, after)
	}
}

// TestFaultM: the original counted robots, and took any id and any path. What of
// it is refused stands in TestArgumentsHaveLimits and
// TestTheIntakeNamesWhatItDoesNotCount.
func TestFaultM_RobotsAreNamedAndInputIsChecked(t *testing.T) {
	w := newWorld(t, stats.Options{})
	s := w.site()
	for _, agent := range []string{"Googlebot/2.1", "GPTBot/1.0", "GPTBot/1.1"} {
		s.header.Set("User-Agent", agent)
		s.send(object{"name": "pageview", "url": "https://a.org/", "visitor": agent})
	}
	if got := w.values("dropped", nil); got["ai:GPTBot"].Views != 2 || got["bot:Googlebot"].Views != 1 {
		t.Errorf("dropped %v, want two of GPTBot and one of Googlebot", got)
	}
	if got := w.stats(); got.TotalPageViews != 0 {
		t.Errorf("%d views of robots", got.TotalPageViews)
	}
	// Those that run the scripts of a page call the functions themselves.
	for _, tt := range []struct {
		agent   string
		reader  bool
		dropped string
	}{
		{"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", false, "bot:Googlebot"},
		{"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/131.0.0.0 Safari/537.36", false, "headless:HeadlessChrome"},
		{"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", true, ""},
		{"python-requests/2.32", true, ""}, // somebody's program that reports for its readers
		{"", true, ""},
	} {
		before, counted := w.stats(), w.values("dropped", nil)
		for path, args := range map[string]object{
			"stats:recordPageView": {"path": "/", "pageType": "home", "sessionId": "v " + tt.agent},
			"stats:heartbeat":      {"currentPath": "/", "sessionId": "v " + tt.agent},
		} {
			if out, err := w.app.Mutation(t.Context(), halcyon.Request{Path: path, Args: args.value(t), UserAgent: tt.agent}); err != nil || out.Failure != nil {
				t.Errorf("%s by %q: %v, %v", path, tt.agent, out.Failure, err)
			}
		}
		w.settle()
		want := 0
		if tt.reader {
			want = 1
		}
		after := w.stats()
		if after.TotalPageViews-before.TotalPageViews != want || after.ActiveVisitors-before.ActiveVisitors != want {
			t.Errorf("%q: %d views and %d visitors more, want %d", tt.agent, after.TotalPageViews-before.TotalPageViews, after.ActiveVisitors-before.ActiveVisitors, want)
		}
		if got := w.values("dropped", nil)[tt.dropped].Views - counted[tt.dropped].Views; tt.dropped != "" && got != 1 {
			t.Errorf("%q: %d more counted as %s, want 1", tt.agent, got, tt.dropped)
		}
	}
}

// TestFaultP: the original looked through all posts for each path.
func TestFaultP_ATitleIsLookedUpOnce(t *testing.T) {
	asked := make(map[string]int)
	w := newWorld(t, stats.Options{Titles: func(_ *halcyon.Tx, slug string) (title, kind string, ok bool, err error) {
		asked[slug]++
		return "", "", false, nil
	}})
	for i := range 80 {
		w.view(visitorID(i), fmt.Sprintf("/%02d", i))
	}
	w.stats()
	if len(asked) != 50 {
		t.Errorf("%d titles looked up, want those of the 50 paths listed", len(asked))
	}
	if most := slices.Max(slices.Collect(maps.Values(asked))); most != 1 {
		t.Errorf("a title was looked up %d times", most)
	}
}

// TestFaultQ: the original's map said that only those were online whose place it
// knew.
func TestFaultQ_VisitorsWithoutAPlaceAreHere(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.beat("ada", "/")
	w.do("stats:heartbeat", object{"sessionId": "bob", "currentPath": "/", "latitude": 1.0, "longitude": 2.0})
	if got := w.stats(); got.ActiveVisitors != 2 || len(got.VisitorLocations) != 1 {
		t.Errorf("%d active at %v, want 2 and one place", got.ActiveVisitors, got.VisitorLocations)
	}
}

// TestFaultS: the original kept the views of a post in the post.
func TestFaultS_ManyViewsOfOnePage(t *testing.T) {
	const visitors = 600
	w := newWorld(t, stats.Options{})
	w.view("first", "/popular")
	atOnce(visitors, func(i int) {
		if outcome, err := w.try("stats:recordPageView", object{"path": "/popular", "pageType": "blog", "sessionId": visitorID(i)}); err != nil || outcome.Failure != nil {
			t.Error(outcome.Failure, err)
		}
	})
	if got := w.stats(); got.PageStats[0].Views != visitors+1 || len(w.conflicts()) > 0 {
		t.Errorf("%d views with conflicts %v, want %d and none", got.PageStats[0].Views, w.conflicts(), visitors+1)
	}
}
