package web_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

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
		{"/stats/stats.js", web.StatsHandler(), 60 << 10},
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
	h := web.StatsHandler()
	page := string(body(t, get(t, h, "GET", "/stats")))
	names := regexp.MustCompile(`"(/stats/[^"]+)"`).FindAllStringSubmatch(page, -1)
	if len(names) < 3 {
		t.Fatalf("the page names %d files below /stats/, want its script, style and icon", len(names))
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

func TestStatsPageFitsItsOwnPolicy(t *testing.T) {
	r := get(t, web.StatsHandler(), "GET", "/stats")
	if got := r.Header.Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") {
		t.Errorf("got policy %q", got)
	}
	page := string(body(t, r))
	for _, forbidden := range []string{`style="`, `<style`, ` onclick`, ` onload`, `http://`, `https://`} {
		if strings.Contains(page, forbidden) {
			t.Errorf("the page contains %q, which its policy refuses", forbidden)
		}
	}
	if regexp.MustCompile(`<script[^>]*>[^<]`).MatchString(page) {
		t.Error("the page has an inline script")
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
			r := get(t, web.StatsHandler(), test.method, test.target)
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

func TestStatsHoldsThePage(t *testing.T) {
	for _, name := range []string{"index.html", "off.html", "stats.js", "stats.css", "icon.svg", "world.svg"} {
		if b, err := fs.ReadFile(web.Stats(), name); err != nil || len(b) == 0 {
			t.Errorf("%s: got %d bytes, error %v", name, len(b), err)
		}
	}
}
