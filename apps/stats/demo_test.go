package stats_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/apps/stats"
)

// TestDemo: made-up visitors are counted like real ones, stand apart from them by
// their site and their ids, and are taken out again without a trace, whether they
// were rolled up, folded or not.
func TestDemo(t *testing.T) {
	w := newWorld(t, stats.Options{ViewRetention: 20 * day}, probe())
	w.keepSecret()
	w.clock.advance(time.Since(noon)) // the demo plays today
	w.tell(told{site: "a.org", path: "/real", visitor: "ada"})
	w.do("stats:tellBeat", object{"name": "heartbeat", "site": "a.org", "path": "/real", "pageType": "page", "sessionId": "ada"})
	w.rollUp()
	before, sites, rolled := w.stats(), show(w.ask("stats:getSites", nil)), show(w.ask("probe:rollups", nil))

	// It plays until its visitors are seen, however long that takes: of a second a busy machine may leave nothing.
	ctx, stop := context.WithCancel(t.Context())
	type outcome struct {
		text string
		err  error
	}
	ended := make(chan outcome, 1)
	go func() {
		text, err := w.commandIn(ctx, "demo", "--visitors", "20", "--days", "30", "--for", "1h")
		ended <- outcome{text, err}
	}()
	for seen := w.stats(); seen.ActiveVisitors <= before.ActiveVisitors || len(seen.VisitorLocations) == 0; seen = w.stats() {
		select {
		case played := <-ended:
			t.Fatalf("it ended before anybody came: %q, %v", played.text, played.err)
		default:
			runtime.Gosched()
		}
	}
	stop()
	played := <-ended
	if played.err != nil || !strings.Contains(played.text, "views just now") {
		t.Fatalf("%q, %v", played.text, played.err)
	}
	w.rollUp()
	got := w.stats()
	if got.ActiveVisitors <= before.ActiveVisitors || got.TotalPageViews < 300 || len(got.VisitorLocations) == 0 {
		t.Errorf("%d here, %d views, %d places; want a lively page", got.ActiveVisitors, got.TotalPageViews, len(got.VisitorLocations))
	}
	for site, r := range w.values("site", nil) {
		if site != stats.SyntheticSite && (site != "a.org" || r.Views != 1) {
			t.Errorf("site %q: %+v, want made-up views on %s alone", site, r, stats.SyntheticSite)
		}
	}
	for _, row := range w.sessions() {
		if id, _ := row["sessionId"].(string); strings.HasPrefix(id, "demo-") != (row["site"] == stats.SyntheticSite) {
			t.Errorf("visitor %v, want the ids and the site of made-up ones to go together", row)
		}
	}
	if text := show(w.ask("stats:getSites", nil)); !strings.Contains(text, `"synthetic":true`) {
		t.Errorf("getSites: %s, want the site said to be made up", text)
	}
	for _, dimension := range []string{"country", "channel", "browser", "device", "referrer"} {
		if got := w.values(dimension, nil); len(got) < 3 {
			t.Errorf("%s: %v, want several", dimension, got)
		}
	}
	if w.foldOnce() == 0 {
		t.Error("no day of the demo is folded")
	}
	// While some of it is in no rollup.
	if _, err := w.command("demo", "--visitors", "5", "--days", "0", "--for", "50ms"); err != nil {
		t.Fatal(err)
	}
	w.buildSpans(1 << 20)
	spans := func() []int {
		return decode[[]int](w, w.ask("probe:spansOf", object{"site": stats.SyntheticSite}))
	}
	if n := spans(); n[0] == 0 {
		t.Errorf("%v spans, and days of which they are to be made; want some", n)
	}
	if text, err := w.command("demo", "--remove"); err != nil || !strings.Contains(text, "rows removed") {
		t.Fatalf("%q, %v", text, err)
	}
	if n := spans(); n[0]+n[1] > 0 {
		t.Errorf("%v spans, and days of which they are to be made, are left of the demo", n)
	}
	w.foldAll()
	if diff := gocmp.Diff(before, w.stats()); diff != "" {
		t.Errorf("getStats without the demo (-before +after):\n%s", diff)
	}
	if diff := gocmp.Diff(sites, show(w.ask("stats:getSites", nil))); diff != "" {
		t.Errorf("getSites without the demo (-before +after):\n%s", diff)
	}
	if diff := gocmp.Diff(rolled, show(w.ask("probe:rollups", nil))); diff != "" {
		t.Errorf("rollups without the demo (-before +after):\n%s", diff)
	}
	for _, args := range [][]string{{"--visitors", "0"}, {"--visitors", "1001"}, {"--days", "-1"}, {"x"}} {
		if _, err := w.command("demo", args...); err == nil {
			t.Errorf("demo %v runs", args)
		}
	}
}

// TestDemoEndsWhenItIsTold in order, with what it did.
func TestDemoEndsWhenItIsTold(t *testing.T) {
	w := newWorld(t, stats.Options{}, probe())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	text, err := w.commandIn(ctx, "demo", "--days", "0", "--for", "1h")
	if err != nil || !strings.Contains(text, "0 views just now") {
		t.Errorf("%q, %v; want it ended in order", text, err)
	}
}
