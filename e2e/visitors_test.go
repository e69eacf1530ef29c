package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine"
)

// at makes the browser a visitor of a place, in the words of a proxy in front.
func (b *browser) at(country string, latitude, longitude float64) {
	b.t.Helper()
	send(b, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: network.Headers{
		"CF-IPCountry": country, "CF-IPLatitude": fmt.Sprint(latitude), "CF-IPLongitude": fmt.Sprint(longitude),
	}})
}

// dots are the names of what the map of the statistics page shows, sorted.
const dots = `[...document.querySelectorAll("#dots li")].map((dot) => dot.textContent).sort()`

// awaitMap waits until the map shows what is wanted.
func (b *browser) awaitMap(want ...string) {
	b.t.Helper()
	poll(b.t, b.name+" shows it on the map", func() (bool, string) {
		diff := cmp.Diff(want, evaluate[[]string](b, dots))
		return diff == "", "(-want +got)\n" + diff
	})
}

// recordActive makes the page remember when its number of active visitors
// changed, in milliseconds since 1970, and what was on the map then.
const recordActive = `(() => {
	window.activeChanges = [];
	const active = document.getElementById("active");
	const note = () => window.activeChanges.push({At: Date.now(), Active: active.textContent, Map: ` + dots + `});
	new MutationObserver(note).observe(active, {childList: true, characterData: true, subtree: true});
	return true;
})()`

// activeChange is one entry of what recordActive remembers.
type activeChange struct {
	At     int64
	Active string
	Map    []string
}

// moveTo makes the page another one, and remembers when.
const moveTo = `((path) => {
	window.movedAt = performance.now();
	history.pushState(null, "", path);
	return true;
})`

// lastBeat gives when the heartbeat of the visit that moveTo made was sent and when its
// answer came; End is 0 until it has, which the server may know before the browser
// does. A visit makes two calls, of which the heartbeat is the second.
const lastBeat = `(() => {
	const calls = performance.getEntriesByType("resource").filter((e) => e.name.endsWith("/api/event") && e.startTime >= window.movedAt);
	if (calls.length < 2 || calls.some((e) => e.responseEnd === 0)) return {Begin: 0, End: 0};
	const beat = calls.sort((x, y) => x.startTime - y.startTime).at(-1);
	return {Begin: performance.timeOrigin + beat.startTime, End: performance.timeOrigin + beat.responseEnd};
})()`

type span struct{ Begin, End float64 }

// Three people look at the statistics and see each other come, on the map too. One
// is gone without a word and leaves the pages of the others at the end of the
// timeout, although nothing is written then.
func TestThreeBrowsersAndOneIsKilled(t *testing.T) {
	t.Parallel()
	t.Run("gone after 45 seconds", func(t *testing.T) {
		t.Parallel()
		threeBrowsers(t, fixture, 45*time.Second, 3*time.Second)
	})
	t.Run("gone after 2 minutes", func(t *testing.T) {
		t.Parallel()
		if !*long {
			t.Skip("takes 2 minutes; -e2e.long has it run")
		}
		threeBrowsers(t, halcyon, 2*time.Minute, time.Second)
	})
}

func threeBrowsers(t *testing.T, p program, timeout, late time.Duration) {
	chromium(t)
	// Where the visitors are is what the browsers say as if they were the proxy.
	s := serve(t, p, "HALCYON_STATS_TRUSTED_PROXIES=127.0.0.1")
	started := time.Now()
	lisbon, nairobi, wellington := openBrowser(t, "Lisbon"), openBrowser(t, "Nairobi"), openBrowser(t, "Wellington")
	lisbon.at("PT", 38.72, -9.14)
	nairobi.at("KE", -1.29, 36.82)
	wellington.at("NZ", -41.29, 174.78)

	// Nobody has beaten for so long that a slow start of the browsers takes one away.
	here := []*browser{}
	places := []string{"Portugal: 1 visitor", "Kenya: 1 visitor", "New Zealand: 1 visitor"}
	for i, b := range []*browser{lisbon, nairobi, wellington} {
		b.visit(s.url() + "/stats")
		here = append(here, b)
		n := fmt.Sprint(i + 1)
		for _, b := range here {
			b.await(shown{Link: "Live", Active: n, Where: []string{"Stats " + n}, Views: n, Visitors: n, Top: []string{"Stats " + n}})
			b.awaitMap(slices.Sorted(slices.Values(places[:i+1]))...)
		}
	}
	nairobi.screenshot("three-profiles")

	// Halcyon's own clockwork writes at its start and every minute after that. What
	// is looked at below has to fall between, though the machine may be late.
	if at := (time.Since(started) + timeout) % time.Minute; at < 10*time.Second || at > 35*time.Second {
		<-time.After((70*time.Second - at) % time.Minute)
	}

	// The last beat of one, and its end.
	evaluate[bool](wellington, moveTo+`("/leaving")`)
	var beat span
	poll(t, "the visitor has beaten", func() (bool, string) {
		before := beat
		beat = evaluate[span](wellington, lastBeat)
		on := query[liveStats](s, "stats:getStats", map[string]any{}).ActiveByPath
		return beat.End != 0 && beat == before && slices.Contains(on, pathCount{"/leaving", 1}), fmt.Sprint(beat, on)
	})
	wellington.kill()

	// The others say later that they are there, so that they stay longer, and turn to
	// other tabs. From here on nobody says anything.
	<-time.After(timeout / 3)
	survivors := []*browser{lisbon, nairobi}
	for _, b := range survivors {
		evaluate[bool](b, `(history.pushState(null, "", "/staying"), true)`)
	}
	for _, b := range survivors {
		b.await(shown{Link: "Live", Active: "3", Where: []string{"/staying 2", "/leaving 1"}, Views: "6", Visitors: "3",
			Top: []string{"Stats 3", "/staying 2", "/leaving 1"}})
		b.awaitMap(slices.Sorted(slices.Values(places))...)
		evaluate[bool](b, `(Object.defineProperty(document, "hidden", {value: true}), document.dispatchEvent(new Event("visibilitychange")))`)
		evaluate[bool](b, recordActive)
	}
	quiet := time.Now()

	mark := beat.End + float64(timeout.Milliseconds())
	var gone float64
	for _, b := range survivors {
		change := b.awaitChange(timeout + patience)
		gone = max(gone, float64(change.At))
		// The server took the beat between its begin and its end.
		earliest, latest := float64(change.At)-mark, float64(change.At)-mark+beat.End-beat.Begin
		t.Logf("%s: %s active between %.0f and %.0f ms after %v", b.name, change.Active, earliest, latest, timeout)
		// The clocks of browsers are not quite one. A machine that has other tests to run may show it any time later; that it was no commit
		// that showed it is looked at below.
		if latest < -20 || *long && earliest > float64(late.Milliseconds()) {
			t.Errorf("%s: gone between %.0f and %.0f ms after the mark, want within %v of it", b.name, earliest, latest, late)
		}
		if diff := cmp.Diff(activeChange{change.At, "2", slices.Sorted(slices.Values(places[:2]))}, change); diff != "" {
			t.Errorf("%s: what it showed then (-want +got):\n%s", b.name, diff)
		}
	}
	lisbon.screenshot("one-is-gone")

	for _, b := range survivors {
		b.expect("^WebSocket connection to .* failed")
	}
	if status := s.terminate(); status != 0 {
		t.Errorf("exit status %d", status)
	}
	all := commits(t, s)
	// What the visitors did before is there, so what they had done since would be.
	if !slices.ContainsFunc(all, func(g engine.ChangeGroup) bool {
		return g.At < engine.Timestamp(quiet.UnixMicro()) && strings.Contains(tablesOf(g), "stats/activeSessions")
	}) {
		t.Error("the log of changes knows of no beat")
	}
	for _, group := range all {
		if at := time.UnixMicro(int64(group.At)); at.Before(quiet) || at.After(time.UnixMilli(int64(gone))) {
			continue
		}
		before := gone - float64(group.At)/1000
		t.Logf("a commit %.0f ms before: %s", before, tablesOf(group))
		for _, change := range group.Changes {
			switch change.Table {
			case "", "stats/samples", "stats/progress", "stats/rollups": // the scheduler, and what the minute samples and adds up
			default:
				t.Errorf("%.0f ms before the visitor was gone %s was written", before, change.Table)
			}
		}
		if before < 5_000 {
			t.Errorf("there was a commit %.0f ms before the visitor was gone, of %s", before, tablesOf(group))
		}
	}
}

// awaitChange waits for the first change that recordActive remembers.
func (b *browser) awaitChange(atMost time.Duration) activeChange {
	b.t.Helper()
	left := time.NewTimer(atMost)
	defer left.Stop()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case <-again.C:
			if changes := evaluate[[]activeChange](b, `window.activeChanges`); len(changes) > 0 {
				return changes[0]
			}
		case <-left.C:
			b.t.Fatalf("%s: the number of active visitors has not changed for %v: %+v", b.name, atMost, evaluate[shown](b, readPage))
		}
	}
}

// commits returns all that was committed on the data of a server that has ended,
// from the log of its changes.
func commits(t testing.TB, s *server) []engine.ChangeGroup {
	t.Helper()
	var schema engine.Schema
	for _, table := range []string{"pageViews", "events", "activeSessions", "visitors", "sites", "rollups", "progress", "samples", "drops", "imports"} {
		schema.Tables = append(schema.Tables, engine.TableDef{Name: "stats/" + table})
	}
	db, err := engine.Open(s.dir, schema, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var groups []engine.ChangeGroup
	for group, err := range db.Changes(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		groups = append(groups, group)
	}
	return groups
}

// tablesOf names what a group of commits changed; a table without a name is one of
// the program's own.
func tablesOf(group engine.ChangeGroup) string {
	var names []string
	for _, change := range group.Changes {
		names = append(names, change.Table)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}
