package stats_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine/value"
)

// TestHostileCallersOfTheAPI: what a client of the Convex API sends on purpose is
// refused by name or kept as what it is, and an honest visitor is counted all the
// same.
func TestHostileCallersOfTheAPI(t *testing.T) {
	long := func(n int) string { return strings.Repeat("x", n) }
	beat := func(more object) object {
		args := object{"sessionId": "mallory", "currentPath": "/"}
		maps.Copy(args, more)
		return args
	}
	view := func(more object) object {
		args := object{"sessionId": "mallory", "path": "/", "pageType": "home"}
		maps.Copy(args, more)
		return args
	}
	tests := []struct {
		name, function string
		args           object
		want           string // the code of the refusal, "arguments" for what is no argument, "" for none
	}{
		{"a path of 100 KB", "stats:recordPageView", view(object{"path": "/" + long(100<<10)}), stats.CodePath},
		{"a beat from a path of 100 KB", "stats:heartbeat", beat(object{"currentPath": "/" + long(100<<10)}), stats.CodePath},
		{"an id of 100 KB", "stats:recordPageView", view(object{"sessionId": long(100 << 10)}), stats.CodeVisitorID},
		{"no id", "stats:heartbeat", beat(object{"sessionId": ""}), stats.CodeVisitorID},
		{"an id that looks like a hash of ours", "stats:recordPageView", view(object{"sessionId": "#00112233445566778899aabbccddeeff"}), ""},
		{"a type of 1 KB", "stats:recordPageView", view(object{"pageType": long(1 << 10)}), stats.CodePageType},
		{"__proto__ for a path", "stats:recordPageView", view(object{"path": "__proto__"}), ""},
		{"constructor for an id", "stats:heartbeat", beat(object{"sessionId": "constructor", "currentPath": "__proto__"}), ""},
		{"a NUL and a line break in a path", "stats:recordPageView", view(object{"path": "/\x00\r\nSet-Cookie: x"}), ""},
		{"a script for a path", "stats:recordPageView", view(object{"path": "/<script>alert(1)</script>"}), ""},
		{"north of the pole", "stats:heartbeat", beat(object{"sessionId": "m1", "latitude": 90.1, "longitude": 0.0}), ""},
		{"round the earth", "stats:heartbeat", beat(object{"sessionId": "m2", "latitude": 0.0, "longitude": -180.5}), ""},
		{"nowhere", "stats:heartbeat", beat(object{"sessionId": "m3", "latitude": math.NaN(), "longitude": math.Inf(1)}), ""},
		{"a city of 1 KB", "stats:heartbeat", beat(object{"sessionId": "m4", "city": long(1 << 10), "latitude": 1.0, "longitude": 1.0}), ""},
		{"a place in words", "stats:heartbeat", beat(object{"latitude": "north", "longitude": 1.0}), "arguments"},
		{"an argument too many", "stats:recordPageView", view(object{"timestamp": 1.0}), "arguments"},
		{"another site's name", "stats:heartbeat", beat(object{"site": "a.org"}), "arguments"},
		{"a function for the program itself", "stats:tell", object{"name": "pageview"}, "none"},
	}
	w := newWorld(t, stats.Options{}, probe())
	for _, tt := range tests {
		out, err := w.app.Mutation(t.Context(), halcyon.Request{Path: tt.function, Args: tt.args.value(t)})
		got := ""
		switch {
		case err != nil:
			t.Errorf("%s: %v", tt.name, err)
			continue
		case out.Failure == nil:
		case strings.HasPrefix(out.Failure.Message, "ArgumentValidationError"):
			got = "arguments"
		case strings.HasPrefix(out.Failure.Message, "Could not find public function"):
			got = "none"
		default:
			got, _ = out.Failure.Data.Get("code").AsString()
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	shown := w.stats()
	for _, at := range shown.VisitorLocations {
		if math.Abs(at.Latitude) > 90 || math.Abs(at.Longitude) > 180 || at.City != nil {
			t.Errorf("shown on the map: %+v", at)
		}
	}
	if len(shown.VisitorLocations) != 1 {
		t.Errorf("%d places, want the one with coordinates of the earth", len(shown.VisitorLocations))
	}
	for _, row := range w.sessions() {
		for name, field := range row {
			if text, ok := field.(string); ok && len(text) > 1024 {
				t.Errorf("a field %s of %d bytes was stored", name, len(text))
			}
		}
	}
	before := shown
	w.view("honest", "/")
	w.beat("honest", "/")
	if got := w.stats(); got.TotalPageViews != before.TotalPageViews+1 || got.ActiveVisitors != before.ActiveVisitors+1 || got.UniqueVisitors != before.UniqueVisitors+1 {
		t.Errorf("an honest visitor after them: %d views, %d here, %d visitors; want one more each than %d, %d, %d",
			got.TotalPageViews, got.ActiveVisitors, got.UniqueVisitors, before.TotalPageViews, before.ActiveVisitors, before.UniqueVisitors)
	}
}

// TestHostileTrackers: a sender of POST /api/event that makes up where it is from has
// one allowance, whatever it writes into its headers, and no place.
func TestHostileTrackers(t *testing.T) {
	const burst = 20
	w := newWorld(t, stats.Options{EventsPerSecond: 1e-9, EventsBurst: burst, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}, probe())
	mallory := w.site()
	mallory.peer = "203.0.113.9:4711"
	limited := 0
	for i := range 3 * burst {
		forged := fmt.Sprintf("198.51.100.%d", i)
		for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "Cf-Connecting-Ip", "True-Client-Ip", "Forwarded"} {
			mallory.header.Set(name, forged)
		}
		mallory.header.Set("Cf-Ipcountry", "XX")
		mallory.header.Set("X-Vercel-Ip-Country", "CH")
		mallory.header.Set("X-Vercel-Ip-Latitude", "47")
		mallory.header.Set("X-Vercel-Ip-Longitude", "8")
		name := []string{"pageview", "heartbeat", "__proto__"}[i%3]
		props, err := json.Marshal(object{"__proto": "x", "constructor": "y"})
		if err != nil {
			t.Fatal(err)
		}
		body := fmt.Sprintf(`{"name": %q, "url": "https://a.org/__proto__?x=%d", "visitor": "forged-%d", "props": %s}`, name, i, i, props)
		status, reason := mallory.post(body)
		switch {
		case status == http.StatusTooManyRequests && reason == "rate-limit":
			limited++
		case i >= burst:
			t.Errorf("message %d: %d %q, want it over the limit of its address", i, status, reason)
		case status != http.StatusAccepted || reason != "" && reason != "bad-props":
			t.Errorf("message %d: %d %q, want it taken or refused by name", i, status, reason)
		}
	}
	w.settle()
	if limited != 2*burst {
		t.Errorf("%d messages over the limit, want %d: a forged header is no other address", limited, 2*burst)
	}
	shown := w.stats()
	if len(shown.VisitorLocations) != 0 || len(w.values("country", nil)) != 0 {
		t.Errorf("a forged place is shown: %+v, %v", shown.VisitorLocations, w.values("country", nil))
	}
	// The flood of one costs nobody else anything, and has written no more than what
	// was taken.
	if shown.TotalPageViews+shown.ActiveVisitors > burst {
		t.Errorf("%d views and %d visitors of %d messages that were taken", shown.TotalPageViews, shown.ActiveVisitors, burst)
	}
	honest := w.site()
	honest.counted(object{"name": "pageview", "url": "https://a.org/", "visitor": "honest"})
	if got := w.stats(); got.TotalPageViews != shown.TotalPageViews+1 {
		t.Errorf("%d views, want the honest one to count", got.TotalPageViews)
	}
}

// TestAFloodOfForgedVisitorsIsBounded: rows of visitors who are nobody go like those
// of others, and what is listed of them stays small.
func TestAFloodOfForgedVisitorsIsBounded(t *testing.T) {
	const visitors = 3000
	w := newWorld(t, stats.Options{}, probe())
	atOnce(visitors, func(i int) {
		if outcome, err := w.try("stats:heartbeat", object{"sessionId": fmt.Sprint("forged-", i), "currentPath": fmt.Sprint("/", i), "latitude": float64(i % 90), "longitude": float64(i % 180)}); err != nil || outcome.Failure != nil {
			t.Error(outcome.Failure, err)
		}
	})
	answer := w.ask("stats:getStats", nil)
	got := w.stats()
	if got.ActiveVisitors != visitors || len(got.ActiveByPath) > 1000 || len(got.VisitorLocations) > 1000 {
		t.Errorf("%d here on %d paths at %d places; want %d and lists of at most 1,000", got.ActiveVisitors, len(got.ActiveByPath), len(got.VisitorLocations), visitors)
	}
	if size := value.Size(answer); size > 1<<20 {
		t.Errorf("the answer has %d bytes", size)
	}
	w.clock.advance(3 * 60e9)
	for deleted := -1.0; deleted != 0; {
		deleted, _ = w.do("stats:cleanupStaleSessions", nil).AsFloat64()
	}
	if rows := w.sessions(); len(rows) != 0 {
		t.Errorf("%d rows are left of the flood", len(rows))
	}
}
