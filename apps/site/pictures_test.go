package site

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// withPictures is a site with files in the folder of pictures, and beside it.
func withPictures() map[string]string {
	all := files()
	for _, name := range []string{
		"images/cat.png", "images/dog.PNG", "images/2026/may/a cat.jpg", "images/b.jpeg", "images/c.gif", "images/d.webp", "images/e.avif", "images/f.ico",
		"images/g.pdf", "images/h.mp4", "images/i.webm", "images/100%.png", "images/.hidden.png", "images/.git/x.png", "images/page.html", "images/run.js",
		"images/none", "images/notes.md", "images/png", "secret.png", "blog/cat.png",
	} {
		all[name] = "the bytes of " + name
	}
	all["images/drawing.svg"] = `<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`
	return all
}

func TestPictures(t *testing.T) {
	w := newWorld(t, withPictures())
	tests := []struct{ target, file, kind string }{
		{"/images/cat.png", "images/cat.png", "image/png"},
		{"/images/dog.PNG", "images/dog.PNG", "image/png"},
		{"/images/cat.png?utm_source=mail", "images/cat.png", "image/png"},
		{"/images/2026/may/a%20cat.jpg", "images/2026/may/a cat.jpg", "image/jpeg"},
		{"/images/b.jpeg", "images/b.jpeg", "image/jpeg"},
		{"/images/c.gif", "images/c.gif", "image/gif"},
		{"/images/d.webp", "images/d.webp", "image/webp"},
		{"/images/e.avif", "images/e.avif", "image/avif"},
		{"/images/f.ico", "images/f.ico", "image/x-icon"},
		{"/images/g.pdf", "images/g.pdf", "application/pdf"},
		{"/images/h.mp4", "images/h.mp4", "video/mp4"},
		{"/images/i.webm", "images/i.webm", "video/webm"},
		{"/images/100%25.png", "images/100%.png", "image/png"},
		{"/images/drawing.svg", "images/drawing.svg", "image/svg+xml"},
	}
	for _, test := range tests {
		status, body, header := w.do("GET", test.target)
		if want := withPictures()[test.file]; status != http.StatusOK || body != want {
			t.Errorf("%s: got status %d and %q, want %q", test.target, status, body, want)
		}
		for name, want := range map[string]string{
			"Content-Type": test.kind, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache", "Accept-Ranges": "bytes",
		} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: got %s %q, want %q", test.target, name, got, want)
			}
		}
		want := ""
		if test.kind == "image/svg+xml" {
			want = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
		}
		if got := header.Get("Content-Security-Policy"); got != want {
			t.Errorf("%s: got policy %q, want %q", test.target, got, want)
		}
	}
	status, body, header := w.do("HEAD", "/images/drawing.svg")
	if status != http.StatusOK || body != "" || header.Get("Content-Length") != "71" {
		t.Errorf("HEAD: got status %d, body %q, length %s", status, body, header.Get("Content-Length"))
	}
	if status, _, header := w.do("POST", "/images/cat.png"); status != http.StatusMethodNotAllowed || header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: got status %d, Allow %q", status, header.Get("Allow"))
	}
}

func TestPicturesAreAllThatIsServed(t *testing.T) {
	w := newWorld(t, withPictures())
	outside := t.TempDir()
	writeFiles(t, outside, map[string]string{"passwd.png": "a secret", "sub/passwd.png": "a secret"})
	links := map[string]string{
		"images/link.png": filepath.Join(outside, "passwd.png"), "images/sub": filepath.Join(outside, "sub"), "images/up.png": "../secret.png",
		"images/round.png": "round.png", "images/within.png": "2026/may/a cat.jpg",
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, target := range []string{
		"/images/", "/images/2026", "/images/2026/", "/images/2026/may/", "/images/none", "/images/png", "/images/page.html", "/images/run.js", "/images/notes.md",
		"/images/missing.png", "/images/.hidden.png", "/images/.git/x.png", "/images/cat.png/", "/images/cat.png/x.png", "/images/%2e%2e/secret.png",
		"/images/..%2fsecret.png", "/images/..%5csecret.png", "/images/2026/..%2f..%2fsecret.png", "/images/%2fetc%2fx.png", "/images//cat.png",
		"/images/cat.png%00", "/images/%00.png", "/images/link.png", "/images/sub/passwd.png", "/images/up.png", "/images/round.png", "/secret.png", "/blog/cat.png",
		"/images/" + strings.Repeat("a", 5000) + ".png", "/images/" + strings.Repeat("a/", 5000) + "x.png",
	} {
		status, body, header := w.do("GET", target)
		if status == http.StatusOK || status >= 500 || strings.Contains(body, "secret.png") && !strings.Contains(header.Get("Location"), "secret") || strings.Contains(body, "a secret") {
			t.Errorf("%.60s: got status %d and\n%.300s", target, status, body)
		}
		if status == http.StatusNotFound && !strings.Contains(body, "Nothing here") {
			t.Errorf("%.60s: got another page than the one for all that is not there:\n%.300s", target, body)
		}
	}
	if status, body, _ := w.do("GET", "/images/within.png"); status != http.StatusOK || body != "the bytes of images/2026/may/a cat.jpg" {
		t.Errorf("a link within the folder: got status %d and %q", status, body)
	}
}

// The folder itself may be a link within the content, and not one out of it.
func TestPicturesStayInTheContent(t *testing.T) {
	w := newWorld(t, files())
	outside := t.TempDir()
	writeFiles(t, outside, map[string]string{"cat.png": "a secret"})
	if err := os.Symlink(outside, filepath.Join(w.dir, "images")); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := w.do("GET", "/images/cat.png"); status != http.StatusNotFound {
		t.Errorf("got status %d for a picture of another folder", status)
	}
}

func TestPicturesAreSentOnce(t *testing.T) {
	w := newWorld(t, files())
	if status, _, _ := w.do("GET", "/images/cat.png"); status != http.StatusNotFound {
		t.Fatalf("got status %d without a folder", status)
	}
	writeFiles(t, w.dir, map[string]string{"images/cat.png": "0123456789"})
	_, body, header := w.do("GET", "/images/cat.png")
	etag, changed := header.Get("ETag"), header.Get("Last-Modified")
	if body != "0123456789" || etag == "" || changed == "" {
		t.Fatalf("got %q, ETag %q, Last-Modified %q", body, etag, changed)
	}
	tests := []struct {
		name   string
		header []string
		status int
		body   string
	}{
		{"its ETag", []string{"If-None-Match", etag}, http.StatusNotModified, ""},
		{"another ETag", []string{"If-None-Match", `"other"`, "If-Modified-Since", changed}, http.StatusOK, "0123456789"},
		{"its time", []string{"If-Modified-Since", changed}, http.StatusNotModified, ""},
		{"a range", []string{"Range", "bytes=2-4"}, http.StatusPartialContent, "234"},
		{"a range of the end", []string{"Range", "bytes=-2"}, http.StatusPartialContent, "89"},
		{"a range of it", []string{"Range", "bytes=2-4", "If-Range", etag}, http.StatusPartialContent, "234"},
		{"a range of another", []string{"Range", "bytes=2-4", "If-Range", `"other"`}, http.StatusOK, "0123456789"},
		{"a range past it", []string{"Range", "bytes=20-"}, http.StatusRequestedRangeNotSatisfiable, "invalid range: failed to overlap\n"},
	}
	for _, test := range tests {
		if status, body, _ := w.do("GET", "/images/cat.png", test.header...); status != test.status || body != test.body {
			t.Errorf("%s: got status %d and %q, want %d and %q", test.name, status, body, test.status, test.body)
		}
	}
	// As long as before, and by the same second: the time has more to it.
	writeFiles(t, w.dir, map[string]string{"images/cat.png": "abcdefghij"})
	at, err := http.ParseTime(changed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(w.dir, "images/cat.png"), at, at.Add(123*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if status, body, _ := w.do("GET", "/images/cat.png", "If-None-Match", etag, "If-Modified-Since", changed); status != http.StatusOK || body != "abcdefghij" {
		t.Errorf("after a change: got status %d and %q", status, body)
	}
	w.remove("images/cat.png")
	if status, _, _ := w.do("GET", "/images/cat.png", "If-None-Match", etag); status != http.StatusNotFound {
		t.Errorf("after it was deleted: got status %d", status)
	}
}

func TestPageBesideThePictures(t *testing.T) {
	files := withPictures()
	files["pages/images.md"] = "---\ntitle: Our pictures\n---\n![A cat](/images/cat.png)\n"
	files["blog/cat.md"] = "---\ntitle: Cat\ndate: 2026-11-20\nimage: /images/cat.png\nshowImageAtTop: true\n---\n"
	w := newWorld(t, files)
	status, body, _ := w.do("GET", "/images")
	if status != http.StatusOK {
		t.Errorf("got status %d for the page", status)
	}
	inOrder(t, body, "<h1>Our pictures</h1>", `<img src="/images/cat.png" alt="A cat">`)
	if status, _, header := w.do("GET", "/images/"); status != http.StatusFound || header.Get("Location") != "/images" {
		t.Errorf("/images/: got status %d to %q", status, header.Get("Location"))
	}
	if status, _, _ := w.do("GET", "/images/cat.png"); status != http.StatusOK {
		t.Errorf("got status %d for a picture", status)
	}
	_, body, _ = w.do("GET", "/cat")
	inOrder(t, body, `<meta property="og:image" content="http://example.com/images/cat.png">`, `<img src="/images/cat.png" alt="">`)
}
