package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/google/go-cmp/cmp"
)

// place is where made-up visitors are.
type place struct {
	country             string
	latitude, longitude float64
}

var cities = []place{
	{"PT", 38.7, -9.1}, {"DE", 52.5, 13.4}, {"FR", 48.9, 2.4}, {"GB", 51.5, -0.1}, {"PL", 52.2, 21.0}, {"CH", 47.4, 8.5},
	{"US", 40.7, -74.0}, {"US", 37.8, -122.4}, {"US", 41.9, -87.6}, {"CA", 45.5, -73.6}, {"MX", 19.4, -99.1}, {"BR", -23.6, -46.6},
	{"AR", -34.6, -58.4}, {"KE", -1.3, 36.8}, {"NG", 6.5, 3.4}, {"ZA", -33.9, 18.4}, {"EG", 30.0, 31.2}, {"IN", 19.1, 72.9},
	{"IN", 13.0, 77.6}, {"JP", 35.7, 139.7}, {"KR", 37.6, 127.0}, {"SG", 1.4, 103.8}, {"AU", -33.9, 151.2}, {"NZ", -41.3, 174.8},
}

// The paths of the made-up visits, the most read first; the last is as long as some are.
var readPaths = []string{"/", "/everyone-at-once", "/how-numbers-are-counted", "/hello", "/about", "/privacy", "/tags/statistics",
	"/docs/an-address-as-long-as-they-are-where-somebody-translates-titles-word-by-word/part-two/of-three"}

var readFrom = []string{"", "", "https://www.google.com/", "https://duckduckgo.com/", "https://chatgpt.com/", "https://news.ycombinator.com/item?id=1",
	"https://www.reddit.com/r/golang", "https://a-friend.example/links"}

// often picks the first of n more often than the last.
func often(random *rand.Rand, n int) int { return min(int(random.ExpFloat64()*float64(n)/4), n-1) }

// writeLog writes an access log of 45 days before now, with about 60 visits a day.
func writeLog(t testing.TB, random *rand.Rand, now time.Time) (path string) {
	t.Helper()
	var log bytes.Buffer
	for day := 45; day >= 1; day-- {
		start := now.Add(-time.Duration(day) * 24 * time.Hour)
		for range 40 + random.IntN(40) {
			at := start.Add(time.Duration(random.Int64N(int64(24 * time.Hour))))
			from := readFrom[often(random, len(readFrom))]
			for range 1 + random.IntN(3) {
				at = at.Add(time.Minute)
				fmt.Fprintf(&log, "10.0.%d.%d - - [%s] \"GET %s HTTP/1.1\" 200 5120 %q %q\n", random.IntN(20), random.IntN(250),
					at.UTC().Format("02/Jan/2006:15:04:05 -0700"), readPaths[often(random, len(readPaths))], from, visitorAgent)
			}
		}
	}
	path = filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, log.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// writeSamples writes how many visitors were active in each of the last two hours' minutes, up to so many.
func writeSamples(t testing.TB, random *rand.Rand, now time.Time, visitors int) (path string) {
	t.Helper()
	var samples bytes.Buffer
	active := float64(visitors) / 2
	for minute := 119; minute >= 1; minute-- {
		toward := float64(visitors) * (0.75 + 0.25*math.Sin(float64(minute)/17))
		active += (toward-active)/8 + random.NormFloat64()*float64(visitors)/40
		fmt.Fprintf(&samples, `{"site":"127.0.0.1","minute":%d,"active":%d}`+"\n",
			now.Truncate(time.Minute).Add(-time.Duration(minute)*time.Minute).UnixMilli(), int(min(active, float64(visitors))))
	}
	path = filepath.Join(t.TempDir(), "samples.jsonl")
	if err := os.WriteFile(path, samples.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tell sends an event to the server as the tracker of a visitor does, through a proxy that tells where the visitor is.
func (s *server) tell(visitor int, at place, event map[string]any) {
	s.t.Helper()
	event["visitor"] = fmt.Sprintf("visitor-%d", visitor)
	body, err := json.Marshal(event)
	if err != nil {
		s.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url()+"/api/event", bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"User-Agent": visitorAgent, "Accept-Language": "en", "X-Forwarded-For": fmt.Sprintf("192.0.2.%d", visitor%250),
		"CF-IPCountry": at.country, "CF-IPLatitude": fmt.Sprint(at.latitude), "CF-IPLongitude": fmt.Sprint(at.longitude),
	} {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	if dropped := answer.Header.Get("X-Halcyon-Dropped"); answer.StatusCode != http.StatusAccepted || dropped != "" {
		s.t.Fatalf("event %s: %s %s", body, answer.Status, dropped)
	}
}

// serveFull starts Halcyon with 45 days of visits and so many visitors active.
func serveFull(t testing.TB, visitors int) *server {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 1)) // pictures are the same each time
	dir := filepath.Join(t.TempDir(), "data")
	run(t, halcyon, dir, "stats", "import", "--site", "127.0.0.1", writeLog(t, random, time.Now()))
	run(t, halcyon, dir, "data", "import", "stats/samples", writeSamples(t, random, time.Now(), visitors))
	s := serveOn(t, halcyon, dir, "HALCYON_STATS_TRUSTED_PROXIES=127.0.0.1")
	for i := range visitors {
		at := cities[random.IntN(len(cities))]
		page := s.url() + readPaths[often(random, len(readPaths))]
		s.beats = append(s.beats, func() { s.tell(i, at, map[string]any{"name": "heartbeat", "url": page}) })
		s.tell(i, at, map[string]any{"name": "pageview", "url": page, "referrer": readFrom[often(random, len(readFrom))]})
		s.tell(i, at, map[string]any{"name": "heartbeat", "url": page})
		if i%9 == 0 {
			s.tell(i, at, map[string]any{"name": "signup", "url": page})
		}
	}
	return s
}

// stay has the visitors of serveFull beat again, so that none leaves before the test has looked. It does nothing when they have done so within
// half a minute, of the two that they stay without.
func (s *server) stay() {
	s.t.Helper()
	if time.Since(s.beaten) < 30*time.Second {
		return
	}
	s.beaten = time.Now()
	for _, beat := range s.beats {
		beat()
	}
}

// glass is how a person looks at a page.
type glass struct {
	scheme        string // light or dark
	width, height int64
}

func (g glass) String() string { return fmt.Sprintf("%s-%d", g.scheme, g.width) }

var glasses = []glass{{"light", 1280, 900}, {"dark", 1280, 900}, {"light", 375, 800}, {"dark", 375, 800}}

// through makes the browser's window what g says. Nothing on the page moves by itself then, so that pictures are alike.
func (b *browser) through(g glass) {
	b.t.Helper()
	send(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: g.scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	send(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: g.width, Height: g.height, DeviceScaleFactor: 1, Mobile: g.width < 600,
	})
}

// tooWide gives what of a page is wider than the window, and texts that are cut although nothing says so.
const tooWide = `(() => {
	const wide = document.scrollingElement.scrollWidth - document.documentElement.clientWidth;
	if (wide <= 0) return [];
	const past = [...document.body.querySelectorAll("*")].filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1);
	return ["the page is " + wide + " pixels too wide", ...past.slice(0, 5).map((e) => e.tagName + "#" + e.id + "." + e.className)];
})()`

// fault is a rule of accessibility that a page breaks.
type fault struct{ Rule, Help, Where string }

// audit gives the faults that axe-core finds in the page.
const audit = `axe.run(document, {resultTypes: ["violations"]}).then(({violations}) => violations.flatMap(({id, help, nodes}) =>
	nodes.map((node) => ({Rule: id, Help: help, Where: node.target.join(" ") + ": " + (node.any[0] ?? node.all[0] ?? node.none[0])?.message}))))`

// inspect keeps a picture of what is open, and looks for what is too wide and what can't be read by everybody.
func (b *browser) inspect(name string) {
	b.t.Helper()
	b.screenshot(name)
	for _, what := range evaluate[[]string](b, tooWide) {
		b.t.Errorf("%s: %s", name, what)
	}
	if !evaluate[bool](b, `"axe" in window`) {
		evaluate[string](b, axe(b.t)+`; "there"`)
	}
	for _, f := range evaluate[[]fault](b, audit) {
		b.t.Errorf("%s: %s (%s) at %s", name, f.Help, f.Rule, f.Where)
	}
}

// axe returns the source of axe-core.
func axe(t testing.TB) string {
	t.Helper()
	if err := installed[clientsDir](); err != nil {
		lacking(t, "npm axe-core", err)
	}
	source, err := os.ReadFile(filepath.Join(clientsDir, "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		lacking(t, "npm axe-core", err)
	}
	return string(source)
}

// The pages are looked at as people do: light and dark, on a wide and on a narrow
// screen, with nothing on them and full. -artifacts keeps the pictures.
func TestPagesCanBeReadByEverybody(t *testing.T) {
	t.Parallel()
	chromium(t)
	axe(t)
	t.Run("empty", func(t *testing.T) {
		t.Parallel()
		s := serve(t, halcyon)
		b := openBrowser(t, "reader")
		b.hideFromTracker()
		for _, g := range glasses {
			b.through(g)
			b.visit(s.url() + "/stats")
			b.await(shown{Link: "Live", Active: "0", Where: []string{}, Views: "0", Visitors: "0", Top: []string{}})
			b.awaitLists()
			b.inspect("stats-empty-" + g.String())
		}
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		s := serveFull(t, 120)
		b := openBrowser(t, "reader")
		b.hideFromTracker()
		for _, g := range glasses {
			b.through(g)
			b.visit(s.url() + "/stats")
			b.awaitFull()
			b.inspect("stats-full-" + g.String())
			evaluate[bool](b, `(document.getElementById("wall").click(), document.documentElement.classList.contains("wall"))`)
			b.inspect("stats-wall-" + g.String())
			if g.width < 600 {
				continue
			}
			for _, wall := range walls {
				b.through(wall)
				if got := evaluate[string](b, readWall); got != "" {
					t.Errorf("the wall of %d by %d: %s", wall.width, wall.height, got)
				}
				b.screenshot(fmt.Sprintf("stats-wall-%s-%d", wall, wall.height))
			}
		}
	})
	t.Run("site", func(t *testing.T) {
		t.Parallel()
		s := serve(t, halcyon)
		b := openBrowser(t, "reader")
		for _, g := range glasses {
			b.through(g)
			for name, path := range map[string]string{"home": "/", "post": "/how-numbers-are-counted"} {
				b.visit(s.url() + path)
				b.inspect(name + "-" + g.String())
			}
		}
	})
	t.Run("many posts", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		for i := range 201 {
			putFile(t, filepath.Join(dir, "blog", fmt.Sprintf("post-%d.md", i)), fmt.Sprintf("---\ntitle: Post %d\ndate: 2026-01-01\n---\n", i))
		}
		s := serve(t, halcyon, "HALCYON_SITE_DIR="+dir)
		b := openBrowser(t, "reader")
		for _, g := range glasses {
			b.through(g)
			next := s.url() + "/"
			for _, page := range []string{"/", "/page/2", "/page/3"} {
				if next != s.url()+page {
					t.Errorf("the page before %s is followed by %q", page, next)
				}
				b.visit(s.url() + page)
				b.inspect("posts" + strings.ReplaceAll(page, "/", "-") + "-" + g.String())
				next = evaluate[string](b, `document.querySelector("nav.turn a[rel=next]")?.href ?? ""`)
			}
			if next != "" {
				t.Errorf("the last page is followed by %q", next)
			}
		}
	})
	t.Run("long words", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		word := strings.Repeat("halcyon", 40)
		putFile(t, filepath.Join(dir, "blog", "long.md"), fmt.Sprintf("---\ntitle: A %[1]s\ndate: 2026-01-01\ndescription: On %[1]s\n"+
			"authorName: %[1]s\ntags: [%[1]s, short]\n---\n%[1]s `%[1]s`\n\n## %[1]s\n\n- https://%[1]s.example/\n\n|%[1]s|b|\n|-|-|\n|1|%[1]s|\n\n```\n%[1]s\n```\n", word))
		putFile(t, filepath.Join(dir, "blog", "other.md"), fmt.Sprintf("---\ntitle: B%[1]s\ndate: 2026-01-01\ndescription: %[1]s\ntags: [short]\n---\n", word))
		putFile(t, filepath.Join(dir, "pages", "home.md"), fmt.Sprintf("---\ntitle: %s\n---\n", word))
		putFile(t, filepath.Join(dir, "pages", "page.md"), fmt.Sprintf("---\ntitle: %s\n---\n", word))
		s := serve(t, halcyon, "HALCYON_SITE_DIR="+dir)
		b := openBrowser(t, "reader")
		for _, g := range glasses {
			b.through(g)
			for name, path := range map[string]string{"home": "/", "post": "/long", "tag": "/tags/short"} {
				b.visit(s.url() + path)
				b.inspect("long-" + name + "-" + g.String())
			}
		}
	})
}

// walls are screens across the room.
var walls = []glass{{"dark", 1280, 720}, {"light", 1920, 1080}, {"dark", 2560, 1080}, {"dark", 1080, 1920}}

// readWall tells what is wrong with a wall: what is beyond the screen, or a map that
// could be larger.
const readWall = `(() => {
	const box = (selector) => document.querySelector(selector).getBoundingClientRect();
	const page = document.scrollingElement, map = box(".map"), room = box(".map-room"), faults = [];
	if (page.scrollHeight > innerHeight + 1 || page.scrollWidth > innerWidth) faults.push("it is " + page.scrollWidth + " by " + page.scrollHeight + " large");
	if (map.width < room.width - 1 && map.height < room.height - 1) faults.push("the map of " + map.width + " by " + map.height + " has room for " + room.width + " by " + room.height);
	if (map.width > room.width + 1 || map.height > room.height + 1) faults.push("the map is larger than its room");
	if (map.width < innerWidth * 0.6) faults.push("the map is " + map.width + " wide");
	return faults.join(", ");
})()`

// awaitLists waits until the lists of the statistics page are shown, with whatever is in them.
func (b *browser) awaitLists() {
	b.t.Helper()
	poll(b.t, "the lists are shown", func() (bool, string) {
		return evaluate[bool](b, `!document.documentElement.classList.contains("early")`), "they are not"
	})
}

// awaitFull waits until every part of the statistics page shows something.
func (b *browser) awaitFull() {
	b.t.Helper()
	const parts = `({Link: document.getElementById("link-text").textContent, Dots: document.querySelectorAll("#dots li").length > 5,
		Columns: document.querySelectorAll(".column.some").length > 5, Curve: document.getElementById("curve-line").hasAttribute("d"),
		Empty: ["where", "top", "sources", "countries", "devices", "events"].filter((id) => document.getElementById(id).hidden)})`
	type state struct {
		Link                 string
		Dots, Columns, Curve bool
		Empty                []string
	}
	poll(b.t, "the page is full", func() (bool, string) {
		diff := cmp.Diff(state{"Live", true, true, true, []string{}}, evaluate[state](b, parts))
		return diff == "", strings.TrimSpace(diff)
	})
	b.awaitLists()
}
