package stats_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
)

// TestAFloodOfValuesIsBounded: all values of a day are read whenever one is added to, so
// that who made up enough paths or campaigns had the sums of a site fit into no
// transaction, and nothing was added up any more. So many of a day are told apart; the
// sums stay exact, also when the views are taken out again.
func TestAFloodOfValuesIsBounded(t *testing.T) {
	const campaigns, more = 2_000, 300
	flood := halcyon.NewModule("flood")
	flood.Mutation("views", func(tx *halcyon.Tx) error {
		for i := range campaigns + more {
			view := stats.PageView{
				Path: "/", PageType: "home", SessionID: fmt.Sprint("v", i), Timestamp: tx.Now(),
				Hit: stats.Hit{Site: "a.org", UTMCampaign: fmt.Sprint("c", i)},
			}
			if _, err := stats.PageViews.Insert(tx, view); err != nil {
				return err
			}
			if _, err := stats.Visitors.Insert(tx, stats.Visitor{Site: "a.org", SessionID: view.SessionID, FirstSeen: view.Timestamp}); err != nil {
				return err
			}
		}
		return nil
	})
	w := newWorld(t, stats.Options{ViewRetention: 24 * time.Hour}, flood, probe())
	w.tell(told{site: "a.org", path: "/", visitor: "ada"})
	w.do("flood:views", nil)
	check := func(when string) {
		t.Helper()
		of := read[breakdown](w, "stats:getBreakdown", object{"dimension": "utmCampaign", "limit": 1})
		want := row{"(other)", more, more}
		if len(of.Rows) != 1 || of.Rows[0] != want || of.Values != campaigns+1 || of.Views != campaigns+more+1 || of.Visitors != of.Views {
			t.Errorf("%s: %d campaigns of %d views and %d visitors, first %+v; want %d of %d, and %+v",
				when, of.Values, of.Views, of.Visitors, of.Rows, campaigns+1, campaigns+more+1, want)
		}
	}
	for w.rollUp() > 0 {
	}
	check("rolled up")
	w.backfill()
	check("after a backfill")
	w.clock.advance(48 * time.Hour)
	w.keepSecret()
	w.foldAll()
	check("folded")
	for _, rollup := range decode[[]stats.Rollup](w, w.ask("probe:rollups", nil)) {
		if rollup.Kind < 2 {
			t.Errorf("folded, and %d views of kind %d, path %q are left in the sums of rows", rollup.Views, rollup.Kind, rollup.Path)
		}
	}
}
