package web_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/web"
)

func get(t *testing.T, h http.Handler, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, r *http.Response) []byte {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if r.Header.Get("Content-Encoding") != "gzip" {
		return b
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	b, err = io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTrackHandlerServesTheScript(t *testing.T) {
	for _, accept := range []string{"", "gzip, deflate, br"} {
		r := get(t, web.TrackHandler(), "GET", "/track.js", "Accept-Encoding", accept)
		if got := r.Header.Get("Content-Encoding"); (got == "gzip") != (accept != "") {
			t.Errorf("accepting %q: got encoding %q", accept, got)
		}
		if got := body(t, r); !bytes.Equal(got, web.TrackJS()) {
			t.Errorf("accepting %q: got %d bytes, want the script's %d", accept, len(got), len(web.TrackJS()))
		}
		if got, want := r.Header.Get("Cache-Control"), "public, max-age=3600"; got != want {
			t.Errorf("got Cache-Control %q, want %q", got, want)
		}
	}
}

func TestScriptsAreSmallAsTheyTravel(t *testing.T) {
	tests := []struct {
		target   string
		handler  http.Handler
		bytesMax int64
	}{
		{"/track.js", web.TrackHandler(), 1536},
		{"/stats/stats.js", web.StatsHandler(nil), 60 << 10},
	}
	for _, test := range tests {
		r := get(t, test.handler, "GET", test.target, "Accept-Encoding", "gzip")
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Fatal(err)
		}
		if r.Header.Get("Content-Encoding") != "gzip" || n == 0 || n > test.bytesMax {
			t.Errorf("%s: %d bytes in encoding %q, want at most %d gzipped", test.target, n, r.Header.Get("Content-Encoding"), test.bytesMax)
		}
	}
}

func TestStatsPageNamesOnlyFilesThatAreServed(t *testing.T) {
	h := web.StatsHandler(nil)
	page := string(body(t, get(t, h, "GET", "/stats")))
	names := regexp.MustCompile(`["(](/stats/[^")]+)[")]`).FindAllStringSubmatch(page, -1)
	if len(names) < 3 {
		t.Fatalf("the page names %d files below /stats/, want its script, the land and its icons", len(names))
	}
	for _, name := range names {
		r := get(t, h, "GET", name[1])
		if r.StatusCode != http.StatusOK || len(body(t, r)) == 0 {
			t.Errorf("%s: got status %d", name[1], r.StatusCode)
		}
		if got := r.Header.Get("Cache-Control"); !strings.Contains(got, "immutable") {
			t.Errorf("%s: got Cache-Control %q, want it kept for ever", name[1], got)
		}
	}
}

// fullFrame is a first frame with something in every place, some of it hostile.
var fullFrame = web.StatsFrame{
	Data:   []byte(`{"stats":{"path":"</script><script>alert(1)</script><!--"}}`),
	Active: 1234, Curve: []int{0, 5, 3}, Located: 1200, Countries: []int{700, 500},
	Where: []web.StatsPath{
		{"/", "Home", 1000}, {`/"><img src=x onerror=alert(1)>`, `</title><script>alert(1)</script>`, 100}, {"/a", "A", 50}, {"/b", "B", 40},
		{"/c", "C", 30}, {"/d", "D", 10}, {"/e", "E", 3}, {"/f", "F", 1},
	},
	Views: 1234567, Visitors: 1, Since: time.Date(2015, time.May, 17, 23, 0, 0, 0, time.UTC),
	Sites: []string{"a.example", "demo.example"}, MadeUp: "demo.example",
}

// page returns the page with a first frame, and its policy.
func page(t *testing.T, frame *web.StatsFrame) (html, policy string) {
	t.Helper()
	r := get(t, web.StatsHandler(func(*http.Request) *web.StatsFrame { return frame }), "GET", "/stats", "Accept-Encoding", "gzip")
	if got := r.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("got Cache-Control %q, and the numbers are for whoever may see them now", got)
	}
	return string(body(t, r)), r.Header.Get("Content-Security-Policy")
}

func TestStatsPageFitsItsOwnPolicy(t *testing.T) {
	for name, frame := range map[string]*web.StatsFrame{"without a frame": nil, "empty": {}, "full": &fullFrame} {
		t.Run(name, func(t *testing.T) {
			html, policy := page(t, frame)
			if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
				t.Errorf("got policy %q", policy)
			}
			for _, forbidden := range []string{`style="`, ` onclick`, ` onload`, `http://`, `https://`} {
				if strings.Contains(html, forbidden) {
					t.Errorf("the page contains %q, which its policy refuses", forbidden)
				}
			}
			inline := regexp.MustCompile(`(?s)<(style|script)>(.*?)</`).FindAllStringSubmatch(html, -1)
			for _, part := range inline {
				sum := sha256.Sum256([]byte(part[2]))
				if hash := base64.StdEncoding.EncodeToString(sum[:]); !strings.Contains(policy, part[1]+"-src 'self'") || !strings.Contains(policy, "'sha256-"+hash+"'") {
					t.Errorf("the policy %q does not allow the %s %.60q", policy, part[1], part[2])
				}
			}
			if want := strings.Count(policy, "'sha256-"); len(inline) != want || want < 2 {
				t.Errorf("%d scripts and styles are in the page, and the policy names %d", len(inline), want)
			}
		})
	}
}

func TestStatsPageShowsItsFirstFrame(t *testing.T) {
	html, _ := page(t, &fullFrame)
	for _, want := range []string{
		"<title>1,234 active · Live statistics</title>", `id="active">1,234</span> <span class="unit" id="active-unit">visitors<`, `aria-busy="false"`,
		`id="map-note">1,200 of 1,234 visitors placed<`, `id="where-more">and 4 visitors on 2 more pages<`, `id="views">1,234,567<`, `id="visitors">1<`,
		`id="since">May 17, 2015<`, `id="curve-peak">peak 1,234<`, `d="M0.0 39.0L59.5 38.9L119.0 2.0"`,
		`<td class="num">1,000</td>`, ".share{width:10%}", `<option value="demo.example">demo.example (made up)<`, `id="made-up-site">demo.example<`,
	} {
		if !strings.Contains(html, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if n := strings.Count(html, "<tr><th scope=\"row\">"); n != web.StatsPathsMax {
		t.Errorf("%d paths are shown, want %d", n, web.StatsPathsMax)
	}
	for _, hostile := range []string{"<script>alert", "<img src=x", "<!--"} {
		if strings.Contains(html, hostile) {
			t.Errorf("the page has %q of a visitor's path in it", hostile)
		}
	}
	// What the lists hold is not known yet, and they say nothing of it.
	for _, none := range regexp.MustCompile(`<p class="none"[^>]*>[^<]*`).FindAllString(html, -1) {
		if !strings.Contains(none, " hidden>") {
			t.Errorf("the page says %q before it knows", none)
		}
	}
	data := regexp.MustCompile(`(?s)<script type="application/json" id="first">(.*?)</script>`).FindStringSubmatch(html)
	if data == nil {
		t.Fatal("the page has no data for its script")
	}
	var got, want any
	if err := errors.Join(json.Unmarshal([]byte(data[1]), &got), json.Unmarshal(fullFrame.Data, &want)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what the script reads (-want +got):\n%s", diff)
	}

	html, _ = page(t, nil)
	if strings.Contains(html, `id="first"`) || !strings.Contains(html, `aria-busy="true"`) || strings.Contains(html, `id="views">0<`) {
		t.Error("a page without a first frame shows numbers")
	}
	html, _ = page(t, &web.StatsFrame{Unvisited: true})
	for _, want := range []string{`id="since">Not yet<`, `id="start" aria-labelledby="start-title">`, `id="map-none">Nobody`, `id="where-none">Nobody`, `id="map-unplaced" hidden`} {
		if !strings.Contains(html, want) {
			t.Errorf("the empty page lacks %q", want)
		}
	}
}

func TestStatsOffHandlerSaysSo(t *testing.T) {
	r := get(t, web.StatsOffHandler(), "GET", "/stats")
	if got := string(body(t, r)); r.StatusCode != http.StatusNotFound || !strings.Contains(got, "shown to nobody") || strings.Contains(got, "<script") {
		t.Errorf("got status %d and %s", r.StatusCode, got)
	}
	if got := r.Header.Get("Cache-Control"); strings.Contains(got, "max-age") {
		t.Errorf("got Cache-Control %q, and it may be switched on", got)
	}
}

func TestStatsHandlerRoutes(t *testing.T) {
	tests := []struct {
		name, method, target string
		status               int
	}{
		{"page", "GET", "/stats", 200},
		{"page, head", "HEAD", "/stats", 200},
		{"page with a slash", "GET", "/stats/", 301},
		{"old script", "GET", "/stats/stats.js?v=0123456789abcdef", 200},
		{"unknown file", "GET", "/stats/other.js", 404},
		{"post", "POST", "/stats", 405},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			r := get(t, web.StatsHandler(nil), test.method, test.target)
			if r.StatusCode != test.status {
				t.Errorf("%s %s: got status %d, want %d", test.method, test.target, r.StatusCode, test.status)
			}
			if test.method == "HEAD" && len(body(t, r)) > 0 {
				t.Error("an answer to HEAD has a body")
			}
			if strings.Contains(r.Header.Get("Cache-Control"), "immutable") {
				t.Errorf("%s may be kept for ever", test.target)
			}
		})
	}
}

func TestFileIsNotSentTwice(t *testing.T) {
	f := web.NewFile("text/plain; charset=utf-8", bytes.Repeat([]byte("halcyon "), 200))
	for _, accept := range []string{"", "gzip"} {
		first := get(t, f, "GET", "/f", "Accept-Encoding", accept)
		etag := first.Header.Get("ETag")
		tests := []struct {
			header string
			status int
		}{
			{etag, 304},
			{"W/" + etag, 304},
			{`"other", ` + etag, 304},
			{"*", 304},
			{`"other"`, 200},
			{"", 200},
		}
		for _, test := range tests {
			r := get(t, f, "GET", "/f", "Accept-Encoding", accept, "If-None-Match", test.header)
			if r.StatusCode != test.status {
				t.Errorf("If-None-Match %s: got %d, want %d", test.header, r.StatusCode, test.status)
			}
			if b := body(t, &http.Response{Body: r.Body, Header: http.Header{}}); test.status == 304 && len(b) > 0 {
				t.Errorf("If-None-Match %s: a 304 has a body of %d bytes", test.header, len(b))
			}
		}
	}
}

func TestFileEncoding(t *testing.T) {
	f := web.NewFile("text/plain; charset=utf-8", bytes.Repeat([]byte("halcyon "), 200))
	tests := map[string]string{
		"":                     "",
		"gzip":                 "gzip",
		"GZIP;q=0.5":           "gzip",
		"br, gzip;q=0":         "",
		"gzip; q=0.000":        "",
		"*":                    "gzip",
		"identity, deflate":    "",
		"br;q=1.0, gzip;q=0.8": "gzip",
	}
	for accept, want := range tests {
		if got := get(t, f, "GET", "/f", "Accept-Encoding", accept).Header.Get("Content-Encoding"); got != want {
			t.Errorf("Accept-Encoding %q: got %q, want %q", accept, got, want)
		}
	}
	small := web.NewFile("text/plain; charset=utf-8", []byte("small"))
	r := get(t, small, "GET", "/f", "Accept-Encoding", "gzip")
	if got := string(body(t, r)); got != "small" || r.Header.Get("Content-Encoding") != "" {
		t.Errorf("a small file: got %q in encoding %q, want it as it is", got, r.Header.Get("Content-Encoding"))
	}
}
