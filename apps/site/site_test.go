package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// world is a site on a database in memory and a folder on disk.
type world struct {
	t    *testing.T
	dir  string
	log  *bytes.Buffer
	site *Site
	app  *halcyon.App
}

// newWorld mounts a site and syncs it with the files.
func newWorld(t *testing.T, files map[string]string, others ...*halcyon.Module) *world {
	t.Helper()
	return newWorldWith(t, Options{}, files, others...)
}

// newWorldWith is newWorld with settings.
func newWorldWith(t *testing.T, options Options, files map[string]string, others ...*halcyon.Module) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), log: new(bytes.Buffer)}
	writeFiles(t, w.dir, files)
	options.Dir = w.dir
	w.site = New(options)
	reader := halcyon.NewModule("reader")
	reader.Query("titles", func(tx *halcyon.Tx, args slugArgs) (titlesResult, error) {
		title, kind, ok, err := w.site.Titles(tx, args.Slug)
		if err != nil {
			return titlesResult{}, err
		}
		posts, pages, err := w.site.Published(tx)
		return titlesResult{title, kind, ok, posts, pages}, err
	})
	var err error
	if w.app, err = halcyon.NewApp(append(append(others, w.site.Modules()...), reader)...); err != nil {
		t.Fatal(err)
	}
	if err := w.app.Open("data", memory(w.log)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.app.Close(); err != nil {
			t.Error(err)
		}
	})
	w.sync()
	return w
}

// memory are the settings of a database in memory that logs to out.
func memory(out io.Writer) *halcyon.Options {
	options := &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), Seed: 1, FunctionTimeMax: time.Minute}, ShowErrors: true}
	if out != nil {
		options.Logger = slog.New(slog.NewTextHandler(out, nil))
	}
	return options
}

type titlesResult struct {
	Title string `json:"title"`
	Kind  string `json:"kind"`
	OK    bool   `json:"ok"`
	Posts int    `json:"posts"`
	Pages int    `json:"pages"`
}

// sync does what a start does, and returns what was logged.
func (w *world) sync() string {
	w.t.Helper()
	w.log.Reset()
	if _, err := w.site.sync(context.Background(), w.app, true); err != nil {
		w.t.Fatal(err)
	}
	return w.log.String()
}

// synced runs the sync itself, for its counts.
func (w *world) synced() syncResult {
	w.t.Helper()
	found, err := readFolder(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	var result syncResult
	if err := w.app.Run(context.Background(), "site:sync", found.args(), &result); err != nil {
		w.t.Fatal(err)
	}
	return result
}

func (w *world) titles(slug string) titlesResult {
	w.t.Helper()
	var result titlesResult
	if err := w.app.Run(context.Background(), "reader:titles", slugArgs{slug}, &result); err != nil {
		w.t.Fatal(err)
	}
	return result
}

func (w *world) do(method, target string, header ...string) (status int, body string, h http.Header) {
	w.t.Helper()
	mux := http.NewServeMux()
	for _, route := range w.app.Routes() {
		mux.Handle(route.Pattern, route.Handler)
	}
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
		r.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, r)
	text, err := io.ReadAll(rec.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return rec.Code, string(text), rec.Header()
}

func (w *world) remove(name string) {
	w.t.Helper()
	if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
		w.t.Fatal(err)
	}
}

// files is a small site.
func files() map[string]string {
	return map[string]string{
		"blog/first.md":  "---\ntitle: First & <b>foremost</b>\ndate: 2026-11-20\ndescription: It's \"quoted\"\ntags: [go]\n---\nText of the *first*.\n",
		"blog/second.md": "---\ntitle: Second\ndate: 2026-11-21\n---\nText of the second.\n",
		"blog/draft.md":  "---\ntitle: Draft\ndate: 2026-11-22\npublished: false\n---\n",
		"blog/quiet.md":  "---\ntitle: Quiet\ndate: 2026-11-22\nunlisted: true\n---\n",
		"pages/about.md": "---\ntitle: About\norder: 2\n---\nText of about.\n",
		"pages/help.md":  "---\ntitle: Help\norder: 1\n---\n",
		"pages/terms.md": "---\ntitle: Terms\nshowInNav: false\n---\n",
		"pages/home.md":  "---\ntitle: My site\n---\nWelcome in.\n",
	}
}

func TestSyncWritesOnlyWhatDiffers(t *testing.T) {
	w := newWorld(t, files())
	before := w.app.Durable()
	if diff := cmp.Diff(syncResult{Skipped: 8}, w.synced()); diff != "" {
		t.Fatalf("sync of unchanged files (-want +got):\n%s", diff)
	}
	if after := w.app.Durable(); after != before {
		t.Errorf("sync of unchanged files was a commit: durable went from %d to %d", before, after)
	}

	writeFiles(t, w.dir, map[string]string{
		"blog/second.md": "---\ntitle: Second, again\ndate: 2026-11-21\n---\n",
		"blog/third.md":  "---\ntitle: Third\ndate: 2026-11-22\n---\n",
	})
	w.remove("blog/first.md")
	w.remove("pages/help.md")
	if diff := cmp.Diff(syncResult{Created: 1, Updated: 1, Deleted: 2, Skipped: 5}, w.synced()); diff != "" {
		t.Fatalf("sync (-want +got):\n%s", diff)
	}
	want := titlesResult{Title: "Second, again", Kind: "blog", OK: true, Posts: 3, Pages: 3}
	if diff := cmp.Diff(want, w.titles("second")); diff != "" {
		t.Errorf("titles (-want +got):\n%s", diff)
	}
	if got := w.titles("first"); got.OK {
		t.Errorf("a deleted post still has the title %q", got.Title)
	}
	if status, _, _ := w.do("GET", "/help"); status != http.StatusNotFound {
		t.Errorf("a deleted page: got status %d", status)
	}
}

func TestSyncKeepsWhatABrokenFilePublished(t *testing.T) {
	w := newWorld(t, files())
	writeFiles(t, w.dir, map[string]string{"blog/first.md": "---\ntitle: [\n---\n"})
	if log := w.sync(); !strings.Contains(log, "blog/first.md") || !strings.Contains(log, "level=WARN") {
		t.Errorf("the broken file is not named in the log:\n%s", log)
	}
	if status, body, _ := w.do("GET", "/first"); status != http.StatusOK || !strings.Contains(body, "Text of the <em>first</em>") {
		t.Errorf("got status %d and\n%s", status, body)
	}
}

func TestSyncMovesASlugBetweenKinds(t *testing.T) {
	w := newWorld(t, files())
	w.remove("blog/second.md")
	writeFiles(t, w.dir, map[string]string{"pages/second.md": "---\ntitle: Second as a page\n---\n"})
	w.sync()
	if got := w.titles("second"); got.Kind != "page" || got.Title != "Second as a page" {
		t.Errorf("got %+v", got)
	}
}

func TestMissingFolderChangesNothing(t *testing.T) {
	w := newWorld(t, files())
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	w.sync()
	if got := w.titles("about"); !got.OK {
		t.Error("the pages are gone with the folder")
	}
}

func TestTitlesAndPublished(t *testing.T) {
	w := newWorld(t, files())
	tests := []struct {
		slug  string
		title string
		kind  string
		ok    bool
	}{
		{"first", "First & <b>foremost</b>", "blog", true},
		{"quiet", "Quiet", "blog", true},
		{"about", "About", "page", true},
		{"draft", "", "", false},
		{"nothing", "", "", false},
		{"", "", "", false},
		{"__proto__", "", "", false},
	}
	for _, test := range tests {
		want := titlesResult{test.title, test.kind, test.ok, 3, 4}
		if diff := cmp.Diff(want, w.titles(test.slug)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.slug, diff)
		}
	}
}

func TestFrontPage(t *testing.T) {
	w := newWorld(t, files())
	status, body, header := w.do("GET", "/")
	if status != http.StatusOK || header.Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("got status %d, type %s", status, header.Get("Content-Type"))
	}
	inOrder(t, body, "<title>My site</title>", `href="/help"`, `href="/about"`, "<h1>My site</h1>", "Welcome in.",
		`href="/second"`, "November 20, 2026", `<a href="/first">First &amp; &lt;b&gt;foremost&lt;/b&gt;</a>`, "It&#39;s &#34;quoted&#34;")
	for _, hidden := range []string{"Draft", "Quiet", "Terms"} {
		if strings.Contains(body, hidden) {
			t.Errorf("the front page shows %q", hidden)
		}
	}
}

func TestDocuments(t *testing.T) {
	w := newWorld(t, files())
	tests := []struct {
		target string
		status int
		want   []string
	}{
		{"/first", 200, []string{"<title>First &amp; &lt;b&gt;foremost&lt;/b&gt; · My site</title>", "<em>first</em>", ">go<"}},
		{"/about", 200, []string{`href="/about" aria-current="page"`, "Text of about."}},
		{"/terms", 200, []string{"<h1>Terms</h1>"}},
		{"/quiet", 200, []string{"<h1>Quiet</h1>"}},
		{"/draft", 404, []string{"Nothing here", `href="/about"`}},
		{"/nothing", 404, []string{"Nothing here"}},
		{"/a/b", 404, []string{"Nothing here"}},
		{"/first/x", 404, []string{"Nothing here"}},
		{"/%00", 404, []string{"Nothing here"}},
		{"/" + strings.Repeat("a", 100_000), 404, []string{"Nothing here"}},
		{"/<script>", 404, []string{"Nothing here"}},
		{"/first/", 302, nil},
		{"/home", 302, nil},
	}
	for _, test := range tests {
		status, body, _ := w.do("GET", test.target)
		if status != test.status {
			t.Errorf("%.60s: got status %d, want %d", test.target, status, test.status)
		}
		inOrder(t, body, test.want...)
	}
	for target, want := range map[string]string{
		"/first/?utm_source=mail&utm_campaign=a%26b": "/first?utm_source=mail&utm_campaign=a%26b", "/first/": "/first", "/home?ref=x": "/?ref=x",
	} {
		if _, _, header := w.do("GET", target); header.Get("Location") != want {
			t.Errorf("%s leads to %q, want %q", target, header.Get("Location"), want)
		}
	}
	if status, _, header := w.do("POST", "/first"); status != http.StatusMethodNotAllowed || header.Get("Allow") == "" {
		t.Errorf("POST: got status %d", status)
	}
	if status, body, _ := w.do("HEAD", "/first"); status != http.StatusOK || body != "" {
		t.Errorf("HEAD: got status %d, body %q", status, body)
	}
}

func TestPagesAreNotSentTwice(t *testing.T) {
	w := newWorld(t, files())
	for _, target := range []string{"/", "/first"} {
		_, _, header := w.do("GET", target)
		etag := header.Get("ETag")
		if status, body, _ := w.do("GET", target, "If-None-Match", etag); status != http.StatusNotModified || body != "" {
			t.Errorf("%s: got status %d for its own ETag %s", target, status, etag)
		}
		writeFiles(t, w.dir, map[string]string{"blog/first.md": "---\ntitle: Changed\ndate: 2026-11-20\n---\n"})
		w.sync()
		if status, body, _ := w.do("GET", target, "If-None-Match", etag); status != http.StatusOK || !strings.Contains(body, "Changed") {
			t.Errorf("%s: got status %d after a change", target, status)
		}
		writeFiles(t, w.dir, files())
		w.sync()
	}
}

// manyPosts are so many posts, number 1 the newest, beside a page that introduces
// the site.
func manyPosts(n int) map[string]string {
	files := map[string]string{"pages/home.md": "---\ntitle: My site\ndescription: All of it\n---\nWelcome in.\n"}
	newest := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	for i := 1; i <= n; i++ {
		files[fmt.Sprintf("blog/post-%d.md", i)] = fmt.Sprintf("---\ntitle: Post %d\ndate: %s\n---\n", i, newest.AddDate(0, 0, -i).Format(time.DateOnly))
	}
	return files
}

func TestAllPostsAreListed(t *testing.T) {
	w := newWorld(t, manyPosts(201))
	seen := 0
	for _, page := range []struct {
		path, title, heading string
		posts                int
		newer, older         string
	}{
		{"/", "My site", "My site", 100, "", "/page/2"},
		{"/page/2", "Posts, page 2 of 3 · My site", "Posts, page 2 of 3", 100, "/", "/page/3"},
		{"/page/3", "Posts, page 3 of 3 · My site", "Posts, page 3 of 3", 1, "/page/2", ""},
	} {
		status, body, _ := w.do("GET", page.path)
		if status != http.StatusOK {
			t.Fatalf("%s: got status %d", page.path, status)
		}
		want := []string{`<link rel="canonical" href="http://example.com` + page.path + `">`}
		links := map[string]bool{`rel="prev"`: page.newer != "", `rel="next"`: page.older != "", "Welcome in.": page.path == "/", "All of it": page.path == "/", `aria-current="page"`: page.path == "/"}
		if page.newer != "" {
			want = append(want, `<link rel="prev" href="`+page.newer+`">`)
		}
		if page.older != "" {
			want = append(want, `<link rel="next" href="`+page.older+`">`)
		}
		want = append(want, "<title>"+page.title+"</title>", "<h1>"+page.heading+"</h1>")
		for range page.posts {
			seen++
			want = append(want, fmt.Sprintf(`<a href="/post-%d">`, seen))
		}
		want = append(want, `<nav class="turn" aria-label="Pages of posts">`)
		if page.newer != "" {
			want = append(want, `<a rel="prev" href="`+page.newer+`">`)
		}
		if page.older != "" {
			want = append(want, `<a rel="next" href="`+page.older+`">`)
		}
		inOrder(t, body, want...)
		if got := strings.Count(body, `class="post"`); got != page.posts {
			t.Errorf("%s: got %d posts, want %d", page.path, got, page.posts)
		}
		for text, there := range links {
			if strings.Contains(body, text) != there {
				t.Errorf("%s: %s is there: %t", page.path, text, !there)
			}
		}
	}
	for target, want := range map[string]string{"/page/1": "/", "/page/1?ref=x": "/?ref=x", "/page/2/": "/page/2", "/page/2/?ref=x": "/page/2?ref=x"} {
		if status, _, header := w.do("GET", target); status != http.StatusFound || header.Get("Location") != want {
			t.Errorf("%s: got status %d to %q, want %q", target, status, header.Get("Location"), want)
		}
	}
	for _, target := range []string{
		"/page/4", "/page/0", "/page/-1", "/page/+2", "/page/02", "/page/2.0", "/page/two", "/page/2/3", "/page", "/page/999999999", "/page/9223372036854775807",
		"/page/9223372036854775808", "/page/%32%00",
	} {
		status, body, _ := w.do("GET", target)
		if status != http.StatusNotFound || strings.Contains(body, "canonical") || strings.Contains(body, `rel="prev"`) {
			t.Errorf("%s: got status %d", target, status)
		}
	}
}

func TestFewPostsHaveNoPages(t *testing.T) {
	for _, n := range []int{0, 1, 100} {
		w := newWorld(t, manyPosts(n))
		if _, body, _ := w.do("GET", "/"); strings.Contains(body, "Pages of posts") || strings.Contains(body, `rel="next"`) || !strings.Contains(body, "Welcome in.") {
			t.Errorf("%d posts: the front page leads on, or is another:\n%s", n, body)
		}
		if status, _, _ := w.do("GET", "/page/2"); status != http.StatusNotFound {
			t.Errorf("%d posts: got status %d for a second page", n, status)
		}
	}
}

func TestPagesNameTheirFiles(t *testing.T) {
	w := newWorld(t, files())
	_, body, header := w.do("GET", "/")
	if got := header.Get("Content-Security-Policy"); !strings.Contains(got, "script-src 'self'") || strings.Contains(got, "unsafe") {
		t.Errorf("got policy %q", got)
	}
	for _, prefix := range []string{"/assets/site.css?v=", "/assets/icon.svg?v="} {
		_, rest, ok := strings.Cut(body, prefix)
		version, _, _ := strings.Cut(rest, `"`)
		if !ok || version == "" {
			t.Fatalf("the page does not name %s", prefix)
		}
		status, _, header := w.do("GET", prefix+version)
		if status != http.StatusOK || !strings.Contains(header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: got status %d, Cache-Control %q", prefix+version, status, header.Get("Cache-Control"))
		}
	}
}

func TestTrackerIsThereWithTheStatisticsOnly(t *testing.T) {
	const tag = `<script defer src="/track.js"></script>`
	w := newWorld(t, files())
	if _, body, _ := w.do("GET", "/first"); strings.Contains(body, tag) || strings.Contains(body, "/stats") {
		t.Error("a page without statistics names them")
	}
	stats := halcyon.NewModule("stats")
	stats.Query("getStats", func(*halcyon.Tx) error { return nil })
	w = newWorld(t, files(), stats)
	for _, target := range []string{"/", "/first"} {
		_, body, _ := w.do("GET", target)
		inOrder(t, body, tag, `href="/stats"`)
	}
	if _, body, _ := w.do("GET", "/nothing"); strings.Contains(body, tag) || !strings.Contains(body, `href="/stats"`) {
		t.Error("a page that is not there must not be counted, but name the statistics")
	}
}

func TestWelcomePageWithoutContent(t *testing.T) {
	w := newWorld(t, nil)
	status, body, _ := w.do("GET", "/")
	if status != http.StatusOK {
		t.Fatalf("got status %d", status)
	}
	inOrder(t, body, "Halcyon is running", "content/blog")
}

func TestCheckCommand(t *testing.T) {
	w := newWorld(t, files())
	check := func() (stdout, stderr string, err error) {
		var out, talk bytes.Buffer
		err = w.app.Commands()[0].Run(context.Background(), &halcyon.CommandEnv{App: w.app, Stdout: &out, Stderr: &talk}, nil)
		return out.String(), talk.String(), err
	}
	stdout, stderr, err := check()
	if err != nil || stderr != "" || !strings.Contains(stdout, "blog/first.md\t/first\tFirst") {
		t.Errorf("got %v, stdout %q, stderr %q", err, stdout, stderr)
	}
	writeFiles(t, w.dir, map[string]string{"pages/bad.md": "no front matter"})
	if _, stderr, err = check(); !errors.Is(err, errCheck) || !strings.HasPrefix(stderr, "pages/bad.md: ") {
		t.Errorf("with a bad file: got %v, stderr %q", err, stderr)
	}
}

// inOrder fails unless the text contains the parts, one after the other.
func inOrder(t *testing.T, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, part := range parts {
		_, after, ok := strings.Cut(rest, part)
		if !ok {
			t.Errorf("%q is missing, or not after what comes before it, in\n%s", part, text)
			return
		}
		rest = after
	}
}
