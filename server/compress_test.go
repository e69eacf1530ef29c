package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"

	"github.com/halcyon-db/halcyon"
)

// plain returns a body without its encoding.
func plain(t *testing.T, encoding string, body []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(body)
	switch encoding {
	case "br":
		r = brotli.NewReader(r)
	case "gzip":
		var err error
		if r, err = gzip.NewReader(r); err != nil {
			t.Fatal(err)
		}
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func compressedRoutes(t *testing.T) *testServer {
	text := strings.Repeat("all work and no play ", 1000)
	return serveRoutes(t, Options{}, func(m *halcyon.Module) {
		answer := func(path string, header map[string]string, body string) {
			m.HTTP("GET", path, func(_ *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
				for name, value := range header {
					w.Header().Set(name, value)
				}
				if tag := w.Header().Get("ETag"); tag != "" && halcyon.NotModified(w, r, tag) {
					return nil
				}
				for part := range strings.SplitAfterSeq(body, " ") { // in small parts
					if _, err := io.WriteString(w, part); err != nil {
						return err
					}
				}
				return nil
			})
		}
		answer("/text", map[string]string{"Content-Type": "text/plain; charset=utf-8", "ETag": `"t1"`}, text)
		answer("/sniffed", nil, text)
		answer("/sized", map[string]string{"Content-Type": "application/json", "Content-Length": fmt.Sprint(len(text))}, text)
		answer("/small", map[string]string{"Content-Type": "text/plain"}, text[:1023])
		answer("/enough", map[string]string{"Content-Type": "text/plain"}, text[:1024])
		answer("/picture", map[string]string{"Content-Type": "image/png"}, text)
		answer("/encoded", map[string]string{"Content-Type": "text/plain", "Content-Encoding": "zstd"}, text)
		answer("/untouched", map[string]string{"Content-Type": "text/plain", "Cache-Control": "no-transform"}, text)
		answer("/events", map[string]string{"Content-Type": "text/event-stream"}, text)
		m.HTTP("GET", "/broken", func(_ *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
			w.Header().Set("Content-Type", "text/plain")
			_, err := io.WriteString(w, text)
			return errors.Join(err, errors.New("and then it broke"))
		})
		m.HTTP("GET", "/stream", func(c *halcyon.Ctx, w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "application/x-ndjson")
			for _, part := range []string{"{\"n\":1}\n", "{\"n\":2}\n"} {
				if _, err := io.WriteString(w, part); err != nil {
					return err
				}
				if err := http.NewResponseController(w).Flush(); err != nil {
					return err
				}
			}
			<-c.Done()
			return nil
		}).TimeMax(time.Minute)
	})
}

func TestCompression(t *testing.T) {
	s := compressedRoutes(t)
	for _, tt := range []struct{ path, accept, want, etag string }{
		{"/http/text", "", "", `"t1"`},
		{"/http/text", "gzip", "gzip", `W/"t1"`},
		{"/http/text", "gzip, deflate, br, zstd", "br", `W/"t1"`},
		{"/http/text", "br;q=0.5, gzip;q=1.0", "gzip", `W/"t1"`},
		{"/http/text", "br;q=0, gzip;q=0", "", `"t1"`},
		{"/http/text", "*", "br", `W/"t1"`},
		{"/http/text", "identity", "", `"t1"`},
		{"/http/text", "gzip;q=x", "", `"t1"`},
		{"/http/sniffed", "br", "br", ""},
		{"/http/sized", "br", "br", ""},
		{"/http/small", "br", "", ""},
		{"/http/enough", "br", "br", ""},
		{"/http/picture", "br", "", ""},
		{"/http/untouched", "br", "", ""},
		{"/http/events", "br", "", ""},
	} {
		t.Run(tt.path+" "+tt.accept, func(t *testing.T) {
			accept := tt.accept
			if accept == "" {
				accept = "identity;q=1" // Go's client would ask for gzip by itself
			}
			resp, body := request(t, s, "GET", tt.path, "", "Accept-Encoding", accept)
			if got := resp.Header.Get("Content-Encoding"); got != tt.want {
				t.Fatalf("encoding %q, want %q", got, tt.want)
			}
			if got := plain(t, tt.want, []byte(body)); !strings.HasPrefix(got, "all work and no play all") || len(got) != 21_000 && len(got) > 1024 || len(got) < 1023 {
				t.Errorf("%d bytes %.50q", len(got), got)
			}
			if tt.want != "" && (len(body) > 1000 || resp.Header.Get("Content-Length") != "" && resp.ContentLength != int64(len(body))) {
				t.Errorf("%d bytes are sent, announced %d", len(body), resp.ContentLength)
			}
			if got := resp.Header.Get("ETag"); got != tt.etag {
				t.Errorf("ETag %s, want %s", got, tt.etag)
			}
			vary := strings.Contains(strings.Join(resp.Header.Values("Vary"), ","), "Accept-Encoding")
			if tt.want != "" && !vary {
				t.Error("the answer does not vary by Accept-Encoding")
			}
		})
	}
	if resp, body := request(t, s, "GET", "/http/text", "", "Accept-Encoding", "br", "If-None-Match", `W/"t1"`); resp.StatusCode != 304 || body != "" {
		t.Errorf("what the client has: %d %q", resp.StatusCode, body)
	}
	if resp, _ := request(t, s, "GET", "/http/encoded", "", "Accept-Encoding", "br"); resp.Header.Get("Content-Encoding") != "zstd" {
		t.Errorf("an answer with an encoding of its own has %q", resp.Header.Get("Content-Encoding"))
	}
	if resp, body := request(t, s, "HEAD", "/http/text", "", "Accept-Encoding", "br"); resp.StatusCode != 200 || body != "" {
		t.Errorf("HEAD: %d %q", resp.StatusCode, body)
	}
}

// An answer that breaks off does not look whole because its encoding ends well.
func TestCompressedAnswerThatBreaks(t *testing.T) {
	s := compressedRoutes(t)
	r, err := http.NewRequest("GET", "http://"+s.address+"/http/broken", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "gzip")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return // before anything of it was sent
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the answer is whole: %d bytes", len(body))
	}
}

// What is flushed is there at once, compressed or not.
func TestCompressedStream(t *testing.T) {
	s := compressedRoutes(t)
	for _, encoding := range []string{"br", "gzip"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.address+"/http/stream", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept-Encoding", encoding)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Encoding"); got != encoding {
			t.Fatalf("encoding %q, want %q", got, encoding)
		}
		var decoded io.Reader = brotli.NewReader(resp.Body)
		if encoding == "gzip" {
			if decoded, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		text := make([]byte, len("{\"n\":1}\n{\"n\":2}\n"))
		if _, err := io.ReadFull(decoded, text); err != nil || string(text) != "{\"n\":1}\n{\"n\":2}\n" {
			t.Errorf("%s: %q, %v", encoding, text, err)
		}
		_ = resp.Body.Close()
	}
}

func FuzzAcceptedEncoding(f *testing.F) {
	for _, line := range []string{"gzip, br;q=0.1", "*;q=0", ";;q=,", "br;q=NaN", "gzip;q=1e999"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := acceptedEncoding([]string{line})
		if got != "" && !strings.Contains(strings.ToLower(line), got) && !strings.Contains(line, "*") {
			t.Errorf("%q accepts %q", line, got)
		}
	})
}
