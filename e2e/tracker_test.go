package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/web"
)

// told is one message of a tracker.
type told struct {
	Name     string         `json:"name"`
	URL      string         `json:"url"`
	Visitor  string         `json:"visitor"`
	Referrer string         `json:"referrer"`
	Props    map[string]any `json:"props"`

	header http.Header
}

// short is the name and the path.
func (e told) short() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return e.Name + " " + err.Error()
	}
	return e.Name + " " + u.RequestURI()
}

// collector serves the tracker and keeps what trackers send to it, and is
// another origin than the site whose pages carry the tag.
type collector struct {
	t               testing.TB
	site, collector *httptest.Server
	attributes      string        // of the script tag
	ahead           chan struct{} // closed when a page was rendered ahead of its visit

	mu struct {
		sync.Mutex
		told    []told
		methods map[string]int
	}
}

func newCollector(t testing.TB, attributes string) *collector {
	t.Helper()
	c := &collector{t: t, attributes: attributes, ahead: make(chan struct{})}
	c.mu.methods = make(map[string]int)
	mux := http.NewServeMux()
	mux.Handle("GET /track.js", web.TrackHandler())
	mux.HandleFunc("/api/event", c.take)
	c.collector = httptest.NewServer(mux)
	t.Cleanup(c.collector.Close)
	c.site = httptest.NewServer(http.HandlerFunc(c.page))
	t.Cleanup(c.site.Close)
	return c
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Access-Control-Allow-Origin", "*")
	var e told
	body, err := io.ReadAll(r.Body)
	if err == nil && r.Method == http.MethodPost {
		err = json.Unmarshal(body, &e)
	}
	if err != nil {
		c.t.Errorf("%s with %q: %v", r.Method, body, err)
	}
	e.header = r.Header
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.methods[r.Method]++
	if r.Method == http.MethodPost {
		c.mu.told = append(c.mu.told, e)
	}
	w.WriteHeader(http.StatusAccepted)
}

func (c *collector) page(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	switch r.URL.Path {
	case "/favicon.ico":
		w.WriteHeader(http.StatusNoContent)
		return
	case "/framed":
		fmt.Fprint(w, `<!doctype html><iframe sandbox="allow-scripts" src="/in-a-frame"></iframe>`)
		return
	case "/ahead":
		if r.Header.Get("Sec-Purpose") == "prefetch;prerender" {
			close(c.ahead)
		}
		return
	case "/when-ahead":
		select {
		case <-c.ahead:
		case <-r.Context().Done():
		}
		return
	case "/prerenders":
		fmt.Fprint(w, `<script type="speculationrules">{"prerender": [{"urls": ["/prerendered"], "eagerness": "immediate"}]}</script>
<script>fetch("/when-ahead").then(() => document.getElementById("next").click())</script>`)
	case "/prerendered":
		fmt.Fprint(w, `<script>
window.halcyon = function () { (halcyon.q = halcyon.q || []).push(arguments) };
halcyon("early", {props: {ahead: document.prerendering}});
addEventListener("load", () => { halcyon("loaded", {props: {ahead: document.prerendering}}); fetch("/ahead"); });
</script>`)
	}
	http.SetCookie(w, &http.Cookie{Name: "secret", Value: "1"}) // of the host, so of the collector too
	fmt.Fprintf(w, `<!doctype html><title>%[1]s</title><a id="fragment" href="#/about?token=1">about</a> <a id="next" href="/prerendered">next</a>
<script defer src="%[2]s/track.js" %[3]s></script>`, "page", c.collector.URL, c.attributes)
}

// messages returns what has come, in order, without those of the names left out.
func (c *collector) messages(without ...string) []told {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(c.mu.told), func(e told) bool { return slices.Contains(without, e.Name) })
}

// await waits until messages have come, in any order, and no others.
func (c *collector) await(without []string, want ...string) []told {
	c.t.Helper()
	var got []told
	slices.Sort(want)
	poll(c.t, "the tracker says it", func() (bool, string) {
		got = c.messages(without...)
		var short []string
		for _, e := range got {
			short = append(short, e.short())
		}
		slices.Sort(short)
		diff := cmp.Diff(want, short)
		return diff == "", "(-want +got)\n" + diff
	})
	return got
}

// before has the pages that are opened from now on run a script first.
func (b *browser) before(script string) {
	b.t.Helper()
	send(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: script})
}

// tab opens another page in the same browser, in a window of its own so that both are in view.
func (b *browser) tab(name string) *browser {
	b.t.Helper()
	ctx, end := chromedp.NewContext(b.ctx, chromedp.WithNewWindow(true))
	b.t.Cleanup(end)
	// The first run opens the tab, which is closed when its context ends.
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`true`)); err != nil {
		b.t.Fatalf("%s: open a tab: %v", name, err)
	}
	return &browser{t: b.t, name: name, ctx: ctx}
}

func TestTrackerOnAForeignOrigin(t *testing.T) {
	t.Parallel()
	c := newCollector(t, "")
	b := openBrowser(t, "visitor")
	b.visit(c.site.URL + "/page?secret=1&utm_source=mail#part")
	for _, e := range c.await(nil, "pageview /page?utm_source=mail", "heartbeat /page") {
		if got := e.header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
			t.Errorf("%s: Content-Type %q needs a question first", e.short(), got)
		}
		if got := e.header.Get("Cookie"); got != "" {
			t.Errorf("%s: sent the cookies %q", e.short(), got)
		}
		if id := evaluate[string](b, `localStorage.markdown_blog_session_id`); e.Visitor != id || len(id) != 36 {
			t.Errorf("%s: of the visitor %q, and the id kept is %q", e.short(), e.Visitor, id)
		}
	}
	if got := evaluate[int](b, `localStorage.length + sessionStorage.length`); got != 1 {
		t.Errorf("%d things are stored, want 1", got)
	}
	evaluate[bool](b, `(halcyon("signup", {props: {plan: "big"}}), true)`)
	event := c.await([]string{"pageview", "heartbeat"}, "signup /page")[0]
	if diff := cmp.Diff(map[string]any{"plan": "big"}, event.Props); diff != "" {
		t.Errorf("properties (-want +got):\n%s", diff)
	}
	b.visit("about:blank")
	c.await([]string{"pageview", "heartbeat", "signup"}, "leave /page")
	c.mu.Lock()
	defer c.mu.Unlock()
	if diff := cmp.Diff(map[string]int{"POST": 4}, c.mu.methods); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestTrackerFollowsFragments(t *testing.T) {
	t.Parallel()
	c := newCollector(t, "data-hash")
	b := openBrowser(t, "visitor")
	b.visit(c.site.URL + "/app")
	c.await([]string{"heartbeat"}, "pageview /app/")
	evaluate[bool](b, `(document.getElementById("fragment").click(), true)`)
	c.await([]string{"heartbeat"}, "pageview /app/", "pageview /app/about")
	evaluate[bool](b, `(history.back(), true)`)
	c.await([]string{"heartbeat"}, "pageview /app/", "pageview /app/about", "pageview /app/")
}

func TestTrackerWithoutStorage(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, path, page, before string }{
		{"blocked", "/framed", "/in-a-frame", ""}, // a frame without an origin may not ask
		{"missing", "/page", "/page", `Object.defineProperty(window, "localStorage", {value: undefined})`},
		{"do not track", "/page", "/page", `Object.defineProperty(navigator, "doNotTrack", {value: "1"})`},
		{"global privacy control", "/page", "/page", `Object.defineProperty(navigator, "globalPrivacyControl", {value: true})`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCollector(t, "")
			b := openBrowser(t, "visitor")
			if tt.before != "" {
				b.before(tt.before)
			}
			b.visit(c.site.URL + tt.path)
			for _, e := range c.await(nil, "pageview "+tt.page, "heartbeat "+tt.page) {
				if known := e.Name == "heartbeat"; (e.Visitor != "") != known {
					t.Errorf("%s: of the visitor %q", e.short(), e.Visitor)
				}
			}
			if tt.name != "blocked" && tt.name != "missing" && evaluate[int](b, `localStorage.length`) != 0 {
				t.Error("something is stored")
			}
		})
	}
}

func TestTrackerIgnoresWhoWantsIt(t *testing.T) {
	t.Parallel()
	c := newCollector(t, "")
	b := openBrowser(t, "owner")
	b.visit(c.site.URL + "/page#halcyon-ignore")
	b.visit(c.site.URL + "/other")
	if got := evaluate[string](b, `localStorage.markdown_blog_session_id`); got != "ignore" {
		t.Errorf("stored %q, want ignore", got)
	}
	b.visit(c.site.URL + "/again#halcyon-count")
	c.await(nil, "pageview /again", "heartbeat /again")
}

func TestTrackerComesBackFromTheCache(t *testing.T) {
	t.Parallel()
	c := newCollector(t, "")
	b := openBrowser(t, "visitor")
	b.visit(c.site.URL + "/first")
	c.await(nil, "pageview /first", "heartbeat /first")
	evaluate[bool](b, `window.stays = true`)
	b.visit(c.site.URL + "/second")
	c.await([]string{"heartbeat"}, "pageview /first", "leave /first", "pageview /second")
	evaluate[bool](b, `(history.back(), true)`)
	c.await([]string{"heartbeat"}, "pageview /first", "leave /first", "pageview /second", "leave /second", "pageview /first")
	if !evaluate[bool](b, `window.stays === true`) {
		t.Error("the page was loaded again: something of the tracker keeps it out of the cache")
	}
	poll(t, "the page beats again", func() (bool, string) {
		beats := c.messages("pageview", "leave")
		return len(beats) > 0 && beats[len(beats)-1].short() == "heartbeat /first" && len(beats) >= 2, fmt.Sprint(beats)
	})
}

// A page that is rendered ahead tells nothing, not even what it does itself, until it is visited.
func TestTrackerWaitsForThePrerendered(t *testing.T) {
	t.Parallel()
	c := newCollector(t, "")
	b := openBrowser(t, "visitor")
	// Browsers render nothing ahead for a page that is remote-controlled, so this one goes on by itself.
	if _, err := chromedp.CallBrowser(b.ctx, target.CreateTarget, target.CreateTargetParams{URL: c.site.URL + "/prerenders"}); err != nil {
		t.Fatal(err)
	}
	got := c.await([]string{"heartbeat"}, "pageview /prerenders", "leave /prerenders", "pageview /prerendered", "early /prerendered", "loaded /prerendered")
	for _, e := range got {
		if purpose := e.header.Get("Sec-Purpose"); purpose != "" {
			t.Errorf("%s: sent before the visit, for %q", e.short(), purpose)
		}
		if ahead, is := e.Props["ahead"]; is && ahead != true {
			t.Errorf("%s: it was not rendered ahead", e.short())
		}
	}
}

// timeLapse lets the clock of a page run five times as fast, and gives what the
// tabs say to each other two seconds: a machine with other browsers to run may need
// one. It keeps when the page beats.
const timeLapse = `(() => {
	const begin = %d, now = Date.now.bind(Date), wait = setTimeout, send = fetch;
	Date.now = () => begin + (now() - begin) * 5;
	window.setTimeout = (f, ms, ...args) => wait(f, ms < 100 ? ms * 40 : ms / 5, ...args);
	window.beats = [];
	window.fetch = (to, init) => {
		const {name, url} = JSON.parse(init.body);
		if (name === "heartbeat") window.beats.push({At: Date.now() - begin, Path: new URL(url).pathname});
		return send(to, init);
	};
	document.hasFocus = () => window.inFront === true;
})()`

type trackerBeat struct {
	At   float64
	Path string
}

// beatsOf returns the beats of all tabs in their order.
func beatsOf(tabs ...*browser) []trackerBeat {
	var all []trackerBeat
	for _, b := range tabs {
		all = append(all, evaluate[[]trackerBeat](b, `window.beats`)...)
	}
	slices.SortFunc(all, func(x, y trackerBeat) int { return int(x.At - y.At) })
	return all
}

func TestTrackerTabsAreOneVisitor(t *testing.T) {
	t.Parallel()
	c := newCollector(t, "")
	first := openBrowser(t, "first")
	second := first.tab("second")
	script := fmt.Sprintf(timeLapse, time.Now().UnixMilli())
	for _, b := range []*browser{first, second} {
		b.before(script)
	}
	first.visit(c.site.URL + "/page")
	c.await([]string{"heartbeat"}, "pageview /page")
	second.visit(c.site.URL + "/page")
	c.await([]string{"heartbeat"}, "pageview /page", "pageview /page")
	if got := evaluate[string](first, `document.visibilityState`); got != "visible" {
		t.Skipf("the first tab is %s: this browser shows one tab at a time", got)
	}
	poll(t, "the two tabs have beaten four times", func() (bool, string) {
		beats := beatsOf(first, second)
		return len(beats) >= 4, fmt.Sprint(beats)
	})
	beats := beatsOf(first, second)
	for i := 1; i < len(beats); i++ {
		if gap := beats[i].At - beats[i-1].At; gap < 20_000 || gap > 119_000 {
			t.Errorf("%.0f ms between two beats: %v", gap, beats)
		}
	}

	// The focus goes to the second tab, which then goes on: the other speaks for it.
	focus := `(window.inFront = true, window.dispatchEvent(new Event("focus")), true)`
	evaluate[bool](second, focus)
	evaluate[bool](second, `(history.pushState(null, "", "/next"), true)`)
	poll(t, "the second tab says where the visitor is", func() (bool, string) {
		beats := beatsOf(first, second)
		return beats[len(beats)-1].Path == "/next", fmt.Sprint(beats)
	})
	evaluate[bool](second, `(window.inFront = false, true)`)
	evaluate[bool](first, focus)
	poll(t, "the first tab says where the visitor is", func() (bool, string) {
		beats := beatsOf(first, second)
		return beats[len(beats)-1].Path == "/page", fmt.Sprint(beats)
	})
}

// hearTabs has a page keep what the tabs of its browser say to one another, once the tracker has heard it.
const hearTabs = `(() => {
	const Channel = window.BroadcastChannel;
	window.tabsSaid = [];
	window.BroadcastChannel = class extends Channel {
		set onmessage(hear) {
			super.onmessage = (event) => { hear(event); window.tabsSaid.push(event.data); };
		}
	};
})()`

// A visitor who closes one of two tabs of one page is still there, and was gone for as long as it took until the other tab beat again.
func TestTrackerLeavesWithTheLastTab(t *testing.T) {
	t.Parallel()
	c := newCollector(t, "")
	first := openBrowser(t, "first")
	second := first.tab("second")
	said := func(b *browser, what, condition string) {
		t.Helper()
		poll(t, b.name+" hears "+what, func() (bool, string) {
			return evaluate[bool](b, `tabsSaid.some(`+condition+`)`), evaluate[string](b, `JSON.stringify(tabsSaid)`)
		})
	}
	for _, b := range []*browser{first, second} {
		b.before(hearTabs)
	}
	first.visit(c.site.URL + "/page")
	c.await(nil, "pageview /page", "heartbeat /page")
	second.visit(c.site.URL + "/page")
	c.await([]string{"heartbeat"}, "pageview /page", "pageview /page")
	said(second, "of the first", `() => true`)
	second.visit("about:blank")
	said(first, "that the second is gone", `([kind]) => kind === 2`)
	first.visit("about:blank")
	c.await([]string{"heartbeat"}, "pageview /page", "pageview /page", "leave /page")
}
