package stats_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
)

const firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0"

// site is a browser on a page, as the intake sees it.
type site struct {
	w      *world
	mux    *http.ServeMux
	header http.Header
	peer   string
}

func (w *world) site() *site {
	s := &site{w: w, mux: http.NewServeMux(), peer: "192.0.2.7:4711", header: http.Header{
		"User-Agent": {firefox}, "Accept-Language": {"en"}, "Content-Type": {"text/plain"}}}
	for _, route := range w.app.Routes() {
		s.mux.Handle(route.Pattern, route.Handler)
	}
	return s
}

// post sends a body, and returns what the page is told.
func (s *site) post(body string) (status int, droppedFor string) {
	r := httptest.NewRequest("POST", "/api/event", strings.NewReader(body))
	r.RemoteAddr = s.peer
	r.Header = s.header.Clone()
	answer := httptest.NewRecorder()
	s.mux.ServeHTTP(answer, r)
	if got := answer.Header().Get("Access-Control-Allow-Origin"); got != "*" {
		s.w.t.Errorf("a page of another origin may not read the answer: %q", got)
	}
	return answer.Code, answer.Header().Get("X-Halcyon-Dropped")
}

func (s *site) send(fields object) (status int, droppedFor string) {
	s.w.t.Helper()
	text, err := json.Marshal(fields)
	if err != nil {
		s.w.t.Fatal(err)
	}
	defer s.w.settle()
	return s.post(string(text))
}

// counted sends what has to be counted.
func (s *site) counted(fields object) {
	s.w.t.Helper()
	if status, reason := s.send(fields); status != http.StatusAccepted || reason != "" {
		s.w.t.Errorf("%v: %d %q, want 202 and counted", fields, status, reason)
	}
}

// values is a breakdown as a map.
func (w *world) values(dimension string, more object) map[string]row {
	w.t.Helper()
	args := object{"dimension": dimension, "limit": 1000}
	for name, v := range more {
		args[name] = v
	}
	found := make(map[string]row)
	for _, r := range read[breakdown](w, "stats:getBreakdown", args).Rows {
		found[r.Value] = r
	}
	return found
}

func TestWhatIsRecordedWithAView(t *testing.T) {
	tests := []struct {
		name   string
		fields object
		agent  string
		want   map[string]string // the one value of each dimension
	}{
		{"nothing but the page", object{"url": "https://a.org/x?y#z"}, "",
			map[string]string{"site": "a.org", "path": "/x", "pageType": "page", "channel": "Direct", "referrer": "", "utmSource": "",
				"browser": "Firefox", "system": "Linux", "device": "desktop", "visitor": "known"}},
		{"the site in its one form", object{"url": "https://WWW.A.org:8443/"}, "", map[string]string{"site": "a.org", "path": "/", "pageType": "home"}},
		{"the site as the tag names it", object{"url": "https://preview.a.org/", "domain": "a.org"}, "", map[string]string{"site": "a.org"}},
		{"and its port is none of its name", object{"url": "https://preview.a.org/", "domain": "a.org:8443"}, "", map[string]string{"site": "a.org"}},
		{"a search engine", object{"url": "https://a.org/", "referrer": "https://www.google.de/search?q=secret"}, "",
			map[string]string{"referrer": "google.de", "channel": "Search"}},
		{"an assistant", object{"url": "https://a.org/?utm_source=chatgpt.com"}, "", map[string]string{"channel": "AI assistant", "utmSource": "chatgpt.com"}},
		{"a link inside of the site", object{"url": "https://a.org/x", "referrer": "https://www.a.org/"}, "", map[string]string{"referrer": "", "channel": ""}},
		{"a campaign", object{"url": "https://a.org/?utm_source=june&utm_medium=Newsletter&utm_campaign=sale"}, "",
			map[string]string{"utmSource": "june", "utmMedium": "Newsletter", "utmCampaign": "sale", "channel": "Email"}},
		{"an address in a campaign", object{"url": "https://a.org/?utm_campaign=for%20ada@example.org"}, "", map[string]string{"utmCampaign": "[email]"}},
		{"a long campaign", object{"url": "https://a.org/?utm_campaign=" + strings.Repeat("%C3%BC", 100)}, "", map[string]string{"utmCampaign": strings.Repeat("ü", 64)}},
		{"a type of the site's own", object{"url": "https://a.org/x", "pageType": "blog"}, "", map[string]string{"pageType": "blog"}},
		{"a phone", object{"url": "https://a.org/"},
			"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
			map[string]string{"device": "mobile", "browser": "Safari", "system": "iOS"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, stats.Options{})
			s := w.site()
			if tt.agent != "" {
				s.header.Set("User-Agent", tt.agent)
			}
			tt.fields["name"], tt.fields["visitor"] = "pageview", "ada"
			s.counted(tt.fields)
			for dimension, want := range tt.want {
				got := w.values(dimension, nil)
				if want == "" && len(got) == 0 {
					continue
				}
				if diff := gocmp.Diff(map[string]row{want: {want, 1, 1}}, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", dimension, diff)
				}
			}
		})
	}
}

func TestTheIntakeNamesWhatItDoesNotCount(t *testing.T) {
	view := func(more object) object {
		fields := object{"name": "pageview", "url": "https://a.org/", "visitor": "ada"}
		for name, v := range more {
			fields[name] = v
		}
		return fields
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	many := object{}
	for i := range 17 {
		many[fmt.Sprint("p", i)] = i
	}
	tests := []struct {
		name   string
		fields object
		header []string
		reason string
	}{
		{"no name", view(object{"name": ""}), nil, "bad-name"},
		{"a long name", view(object{"name": long(65)}), nil, "bad-name"},
		{"no address", view(object{"url": ""}), nil, "bad-url"},
		{"an address without a host", view(object{"url": "/x"}), nil, "bad-url"},
		{"an address of a file", view(object{"url": "file:///x"}), nil, "bad-url"},
		{"a host that is none", view(object{"domain": "<script>"}), nil, "bad-url"},
		{"a path of 2 KB", view(object{"url": "https://a.org/" + long(2000)}), nil, "path-too-long"},
		{"a visitor past the limit", view(object{"visitor": long(129)}), nil, "bad-visitor"},
		{"a type past the limit", view(object{"pageType": long(65)}), nil, "page-type-too-long"},
		{"too many properties", view(object{"name": "buy", "props": many}), nil, "bad-props"},
		{"properties in properties", view(object{"name": "buy", "props": object{"x": object{}}}), nil, "bad-props"},
		{"a reserved property", view(object{"name": "buy", "props": object{"$x": 1}}), nil, "bad-props"},
		{"a beat without a visitor", view(object{"name": "heartbeat", "visitor": ""}), nil, "bad-visitor"},
		{"no agent", view(nil), []string{"User-Agent", ""}, "no-user-agent"},
		{"no language", view(nil), []string{"Accept-Language", ""}, "no-accept-language"},
		{"a page fetched ahead", view(nil), []string{"Sec-Purpose", "prefetch;prerender"}, "prefetch"},
		{"a crawler for a language model", view(nil), []string{"User-Agent", "Mozilla/5.0 (compatible; GPTBot/1.2)"}, "ai:GPTBot"},
		{"a search engine", view(nil), []string{"User-Agent", "Mozilla/5.0 (compatible; Googlebot/2.1)"}, "bot:Googlebot"},
		{"a browser without a screen", view(nil), []string{"User-Agent", "Mozilla/5.0 HeadlessChrome/131.0"}, "headless:HeadlessChrome"},
		{"a library", view(nil), []string{"User-Agent", "python-requests/2.32"}, "library:python-requests"},
	}
	w := newWorld(t, stats.Options{})
	s := w.site()
	s.counted(view(object{"visitor": "somebody"}))
	want := make(map[string]row)
	for _, tt := range tests {
		s := w.site()
		if tt.header != nil {
			s.header.Set(tt.header[0], tt.header[1])
		}
		status, reason := s.send(tt.fields)
		if status != http.StatusAccepted || reason != tt.reason {
			t.Errorf("%s: %d %q, want 202 %q", tt.name, status, reason, tt.reason)
		}
		want[tt.reason] = row{tt.reason, want[tt.reason].Views + 1, 0}
	}
	if status, reason := s.post("{"); status != http.StatusBadRequest || reason != "bad-json" {
		t.Errorf("half an object: %d %q, want 400 bad-json", status, reason)
	}
	if status, reason := s.post(`{"name":"` + long(20_000) + `"}`); status != http.StatusRequestEntityTooLarge || reason != "body-too-large" {
		t.Errorf("20 KB: %d %q, want 413 body-too-large", status, reason)
	}
	w.settle()
	want["bad-json"], want["body-too-large"] = row{"bad-json", 1, 0}, row{"body-too-large", 1, 0}
	if diff := gocmp.Diff(want, w.values("dropped", nil)); diff != "" {
		t.Errorf("dropped (-want +got):\n%s", diff)
	}
	if got := w.stats(); got.TotalPageViews != 1 || got.UniqueVisitors != 1 || got.ActiveVisitors != 0 {
		t.Errorf("%d views, %d visitors, %d active; want those of the one who was counted", got.TotalPageViews, got.UniqueVisitors, got.ActiveVisitors)
	}
	if status, reason := s.send(view(object{"visitor": "somebody"})); status != http.StatusAccepted || reason != "repeated" {
		t.Errorf("a repeated view: %d %q, want 202 repeated", status, reason)
	}
	if got := w.values("dropped", object{"site": "a.org"}); got["ai:GPTBot"].Views != 1 || len(got) != 9 {
		t.Errorf("dropped of the site: %v, want the nine that are found after the site is", got)
	}
}

func TestTheIntakeLimitsEachAddress(t *testing.T) {
	w := newWorld(t, stats.Options{EventsPerSecond: 1e-9, EventsBurst: 3})
	s := w.site()
	try := func(peer, visitor string) int {
		s.peer = peer
		status, _ := s.send(object{"name": "pageview", "url": "https://a.org/", "visitor": visitor})
		return status
	}
	for i, tt := range []struct {
		peer string
		want int
	}{
		{"192.0.2.7:1", 202}, {"192.0.2.7:2", 202}, {"192.0.2.7:3", 202}, {"192.0.2.7:4", 429}, {"192.0.2.8:1", 202},
		{"[2001:db8::1]:1", 202}, {"[2001:db8::2]:1", 202}, {"[2001:db8::3]:1", 202}, {"[2001:db8::ffff:4]:1", 429}, {"[2001:db8:0:1::1]:1", 202},
	} {
		if got := try(tt.peer, visitorID(i)); got != tt.want {
			t.Errorf("event %d of %s: %d, want %d", i, tt.peer, got, tt.want)
		}
	}
	if got := w.stats().TotalPageViews; got != 8 {
		t.Errorf("%d views, want 8", got)
	}
}

// TestTheIntakeLimitsWhatItDoesNotRead: each body that was too large was a write, as
// many as somebody liked to send.
func TestTheIntakeLimitsWhatItDoesNotRead(t *testing.T) {
	w := newWorld(t, stats.Options{EventsPerSecond: 1e-9, EventsBurst: 2})
	s := w.site()
	for i, body := range []string{strings.Repeat("x", 20_000), "{", strings.Repeat("x", 20_000), "{"} {
		status, reason := s.post(body)
		if limited := status == http.StatusTooManyRequests && reason == "rate-limit"; limited != (i >= 2) {
			t.Errorf("message %d: %d %q, want the first two alone within the limit of the address", i, status, reason)
		}
	}
	w.settle()
	want := map[string]row{"body-too-large": {"body-too-large", 1, 0}, "bad-json": {"bad-json", 1, 0}}
	if diff := gocmp.Diff(want, w.values("dropped", nil)); diff != "" {
		t.Errorf("dropped (-want +got):\n%s", diff)
	}
}

func TestVisitorsWhoAskNotToBeTracked(t *testing.T) {
	for _, header := range []string{"DNT", "Sec-GPC"} {
		t.Run(header, func(t *testing.T) {
			w := newWorld(t, stats.Options{})
			s := w.site()
			s.header.Set(header, "1")
			for range 2 {
				s.counted(object{"name": "pageview", "url": "https://a.org/", "visitor": "one page load"})
			}
			s.counted(object{"name": "heartbeat", "url": "https://a.org/", "visitor": "one page load"})
			got := w.stats()
			if got.TotalPageViews != 2 || got.UniqueVisitors != 0 || got.ActiveVisitors != 1 {
				t.Errorf("%d views, %d visitors, %d active; want 2, 0, 1", got.TotalPageViews, got.UniqueVisitors, got.ActiveVisitors)
			}
			if diff := gocmp.Diff(map[string]row{"unknown": {"unknown", 2, 0}}, w.values("visitor", nil)); diff != "" {
				t.Errorf("by visitor (-want +got):\n%s", diff)
			}
			ignoring := newWorld(t, stats.Options{IgnoreSignals: true})
			s = ignoring.site()
			s.header.Set(header, "1")
			s.counted(object{"name": "pageview", "url": "https://a.org/", "visitor": "ada"})
			if got := ignoring.stats().UniqueVisitors; got != 1 {
				t.Errorf("%d visitors where the signal is ignored, want 1", got)
			}
		})
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t, stats.Options{})
	s := w.site()
	event := func(name, path, visitor string, props object) {
		s.counted(object{"name": name, "url": "https://a.org" + path, "visitor": visitor, "props": props})
	}
	event("signup", "/", "ada", object{"plan": "free", "seats": 3, "trial": true, "coupon": nil})
	w.clock.advance(time.Hour)
	event("signup", "/x", "ada", nil)
	w.do("stats:rollUp", nil)
	event("signup", "/x", "bob", nil)
	event("__proto__", "/", "ada", nil)
	event("signup", "/", "", nil)
	for _, tt := range []struct {
		more object
		want map[string]row
	}{
		{nil, map[string]row{"signup": {"signup", 4, 2}, "__proto__": {"__proto__", 1, 1}}},
		{object{"path": "/x"}, map[string]row{"signup": {"signup", 2, 2}}},
		{object{"site": "b.org"}, map[string]row{}},
	} {
		if diff := gocmp.Diff(tt.want, w.values("event", tt.more)); diff != "" {
			t.Errorf("events %v (-want +got):\n%s", tt.more, diff)
		}
	}
	if got := w.stats(); got.TotalPageViews != 0 || got.UniqueVisitors != 0 {
		t.Errorf("%d views of %d visitors, events are none", got.TotalPageViews, got.UniqueVisitors)
	}
}

func TestALeaveMessage(t *testing.T) {
	for _, atOnce := range []bool{false, true} {
		w := newWorld(t, stats.Options{LeaveAtOnce: atOnce})
		s := w.site()
		tab := func(name, path string) {
			s.counted(object{"name": name, "url": "https://a.org" + path, "visitor": "ada"})
		}
		tab("heartbeat", "/a")
		tab("heartbeat", "/b") // another tab
		tab("leave", "/a")
		if got := w.stats().ActiveVisitors; got != 1 {
			t.Errorf("at once %t: %d active after one of two tabs left, want 1", atOnce, got)
		}
		tab("leave", "/b")
		want := 1
		if atOnce {
			want = 0
		}
		if got := w.stats().ActiveVisitors; got != want {
			t.Errorf("at once %t: %d active after both left, want %d", atOnce, got, want)
		}
	}
}

func TestSitesHaveALimit(t *testing.T) {
	w := newWorld(t, stats.Options{SitesMax: 2})
	s := w.site()
	for host, want := range map[string]string{"a.org": "", "b.org": ""} {
		if _, reason := s.send(object{"name": "pageview", "url": "https://" + host + "/", "visitor": "ada"}); reason != want {
			t.Errorf("%s: %q, want %q", host, reason, want)
		}
	}
	for _, name := range []string{"pageview", "heartbeat", "buy"} {
		if _, reason := s.send(object{"name": name, "url": "https://c.org/", "visitor": "ada"}); reason != "too-many-sites" {
			t.Errorf("%s of a third site: %q, want too-many-sites", name, reason)
		}
	}
	if got := w.values("site", nil); len(got) != 2 {
		t.Errorf("sites %v, want 2", got)
	}
}

// TestTheSitesThatAreCounted: without a list anybody could make up host names until no
// further site was let in.
func TestTheSitesThatAreCounted(t *testing.T) {
	w := newWorld(t, stats.Options{Sites: []string{"a.org", "b.org"}})
	s := w.site()
	for host, want := range map[string]string{"a.org": "", "www.a.org": "", "B.org": "", "forged.example": "other-site"} {
		if _, reason := s.send(object{"name": "pageview", "url": "https://" + host + "/", "visitor": host}); reason != want {
			t.Errorf("%s: %q, want %q", host, reason, want)
		}
	}
	if got := w.values("site", nil); len(got) != 2 || got["a.org"].Views != 2 {
		t.Errorf("sites %v, want a.org with two views and b.org", got)
	}
	if got := w.values("dropped", nil)["other-site"].Views; got != 1 {
		t.Errorf("%d of other sites were dropped, want 1", got)
	}
}

// TestAsManySitesAsThereMayBe: with all of them everything is still answered. Where a
// thousand were allowed, lists of sites and pages failed, and nothing was added up.
func TestAsManySitesAsThereMayBe(t *testing.T) {
	many := halcyon.NewModule("many")
	many.Mutation("sites", func(tx *halcyon.Tx, args struct {
		Count int `json:"count"`
	}) error {
		for i := range args.Count {
			name := fmt.Sprintf("s%d.org", i)
			if _, err := stats.Sites.Insert(tx, stats.Site{Name: name, FirstSeen: tx.Now()}); err != nil {
				return err
			}
			if _, err := stats.ActiveSessions.Insert(tx, stats.ActiveSession{Site: name, SessionID: "ada", CurrentPath: "/", LastSeen: tx.Now()}); err != nil {
				return err
			}
			for path := range 2 {
				if _, err := stats.PageViews.Insert(tx, stats.PageView{Path: fmt.Sprint("/", path), PageType: "page", Timestamp: tx.Now(), Hit: stats.Hit{Site: name}}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	w := newWorld(t, stats.Options{SitesMax: 1_000_000}, many)
	const sites = 400
	w.do("many:sites", object{"count": sites})
	if _, reason := w.site().send(object{"name": "pageview", "url": "https://one-more.org/", "visitor": "ada"}); reason != "too-many-sites" {
		t.Fatalf("a site more: %q, want too-many-sites", reason)
	}
	w.clock.advance(time.Second)
	ask := func() {
		t.Helper()
		for _, query := range []string{"stats:getSites", "stats:getStats", "stats:getActiveCurve", "stats:getFirstFrame"} {
			w.ask(query, nil)
		}
		for _, dimension := range stats.Dimension("").Values() {
			w.ask("stats:getBreakdown", object{"dimension": string(dimension)})
		}
		w.ask("stats:getSeries", object{"unit": "hour"})
	}
	ask()
	w.do("stats:everyMinute", nil)
	ask()
}

func FuzzEvent(f *testing.F) {
	f.Add(`{"name":"pageview","url":"https://a.org/?utm_source=x","visitor":"ada","props":{"a":1}}`)
	f.Add(`{"name":"pageview","url":"https://%zz/","visitor":"` + strings.Repeat("x", 200) + `"}`)
	f.Add(`{"name":"heartbeat","url":"https://[::1]:99/\u0000","visitor":"a"}`)
	f.Add(`[]`)
	app, err := halcyon.NewApp(stats.Module(stats.Options{EventsPerSecond: 1e9, EventsBurst: 1e9}))
	if err != nil {
		f.Fatal(err)
	}
	if err := app.Open("data", inMemory()); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { app.Close() })
	s := (&world{t: f, app: app}).site()
	f.Fuzz(func(t *testing.T, body string) {
		status, _ := s.post(body)
		switch status {
		case http.StatusAccepted, http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		default:
			t.Errorf("%q is answered with %d", body, status)
		}
	})
}
