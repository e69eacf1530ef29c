package stats_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/apps/stats"
)

// TestPagesWithSomebodyAreAllCounted: of 600 pages on each of two sites 500 are
// listed, and the true number of those with somebody on them is told, also where
// those who were there have left and are still rows.
func TestPagesWithSomebodyAreAllCounted(t *testing.T) {
	const pages = 600
	c := new(crowd)
	w := newWorld(t, stats.Options{}, c.module())
	var rows []stats.ActiveSession
	for i := range 2 * pages {
		site := []string{"a.org", "b.org"}[i/pages]
		visit := func(n int, ago time.Duration) {
			rows = append(rows, stats.ActiveSession{Site: site, SessionID: fmt.Sprint(i, " ", n), CurrentPath: fmt.Sprint("/", i%pages), LastSeen: noon.Add(-ago)})
		}
		switch i % 6 {
		case 0: // here and left
			visit(0, 0)
			visit(1, 2*time.Minute)
		case 1, 2: // left, the second one at this moment
			visit(0, 3*time.Minute)
			visit(1, 2*time.Minute)
		case 3: // leaves in a minute
			visit(0, time.Minute)
		default:
			visit(0, 0)
		}
	}
	c.gather(w, len(rows), func(i int) stats.ActiveSession { return rows[i] })
	check := func(what, only string, want int) {
		t.Helper()
		args := object{}
		if only != "" {
			args["site"] = only
		}
		got := w.ask("stats:getStats", args)
		all, _ := got.Get("activePaths").AsFloat64()
		if listed := got.Get("activeByPath").Len(); int(all) != want || listed != min(want, 500) {
			t.Errorf("%s, site %q: %v pages with somebody, %d of them listed, want %d and %d", what, only, all, listed, want, min(want, 500))
		}
	}
	for _, only := range []string{"a.org", "b.org"} {
		check("at first", only, pages/6*4)
	}
	check("at first", "", 2*pages/6*4)
	w.clock.advance(time.Minute)
	check("a minute later", "", 2*pages/6*3)
	w.do("stats:cleanupStaleSessions", nil) // some of them
	check("some cleared away", "", 2*pages/6*3)
	w.do("stats:heartbeat", object{"sessionId": "new", "currentPath": "/new"})
	check("one more", "", 2*pages/6*3+1)
	w.clock.advance(time.Minute)
	check("all but one have left", "", 1) // more than are left out one by one
	w.clock.advance(time.Minute)
	check("all have left", "", 0)
}
