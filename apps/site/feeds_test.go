package site

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hostile is a site whose texts try to leave their places.
func hostile() map[string]string {
	return map[string]string{
		"blog/x.md": "---\ntitle: \"]]></title><script>alert(1)</script>\\u0008\"\ndate: 2026-11-20\ndescription: \"a & b\"\ntags: ['<b>', 'c/d e']\nauthorName: Ada\n---\n" +
			"See [about](/about) ]]> &amp; <script>alert(2)</script>\n",
		"blog/y.md":      "---\ntitle: Y\ndate: 2026-11-21T10:00:00Z\nimage: 'javascript:alert(3)'\nshowImageAtTop: true\n---\n## Head\n",
		"blog/quiet.md":  "---\ntitle: Quiet\ndate: 2026-11-22\nunlisted: true\n---\n",
		"blog/draft.md":  "---\ntitle: Draft\ndate: 2026-11-22\npublished: false\n---\n",
		"pages/about.md": "---\ntitle: About [us]\norder: 2\n---\nText of about.\n",
		"pages/home.md":  "---\ntitle: My site\ndescription: All of it\n---\nWelcome.\n",
	}
}

func TestRSS(t *testing.T) {
	type item struct {
		Title    string   `xml:"title"`
		Link     string   `xml:"link"`
		Date     string   `xml:"pubDate"`
		About    string   `xml:"description"`
		Category []string `xml:"category"`
		Author   string   `xml:"http://purl.org/dc/elements/1.1/ creator"`
		Content  string   `xml:"http://purl.org/rss/1.0/modules/content/ encoded"`
	}
	type feed struct {
		Version string `xml:"version,attr"`
		Title   string `xml:"channel>title"`
		About   string `xml:"channel>description"`
		Items   []item `xml:"channel>item"`
	}
	const title = "]]></title><script>alert(1)</script>"
	short := feed{Version: "2.0", Title: "My site", About: "All of it", Items: []item{
		{Title: "Y", Link: "http://example.com/y", Date: "Sat, 21 Nov 2026 00:00:00 +0000"},
		{Title: title, Link: "http://example.com/x", Date: "Fri, 20 Nov 2026 00:00:00 +0000", About: "a & b", Category: []string{"<b>", "c/d e"}, Author: "Ada"},
	}}
	full := short
	full.Items = append([]item(nil), short.Items...)
	full.Items[0].Content = "<h2 id=\"head\">Head</h2>\n"
	full.Items[1].Content = "<p>See <a href=\"http://example.com/about\">about</a> ]]&gt; &amp; <!-- raw HTML omitted -->alert(2)<!-- raw HTML omitted --></p>\n"
	w := newWorld(t, hostile())
	for path, want := range map[string]feed{"/rss.xml": short, "/rss-full.xml": full} {
		status, body, header := w.do("GET", path)
		if status != http.StatusOK || header.Get("Content-Type") != "application/rss+xml; charset=utf-8" {
			t.Fatalf("%s: status %d, type %s", path, status, header.Get("Content-Type"))
		}
		var got feed
		if err := xml.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%s: %v in\n%s", path, err, body)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
		if strings.Contains(body, "<script") {
			t.Errorf("%s: a title left its place:\n%s", path, body)
		}
		if status, _, _ := w.do("GET", path, "If-None-Match", header.Get("ETag")); status != http.StatusNotModified {
			t.Errorf("%s: status %d for its own ETag", path, status)
		}
	}
}

func TestTextsForPrograms(t *testing.T) {
	w := newWorld(t, hostile())
	tests := []struct{ path, contentType, want string }{
		{"/sitemap.xml", "application/xml; charset=utf-8", `<?xml version="1.0" encoding="UTF-8"?>
<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">
  <url>
    <loc>http://example.com/</loc>
  </url>
  <url>
    <loc>http://example.com/y</loc>
    <lastmod>2026-11-21</lastmod>
  </url>
  <url>
    <loc>http://example.com/x</loc>
    <lastmod>2026-11-20</lastmod>
  </url>
  <url>
    <loc>http://example.com/about</loc>
  </url>
</urlset>
`},
		{"/llms.txt", "text/plain; charset=utf-8", `# My site

> All of it

## Posts

- [Y](http://example.com/raw/y.md)
- [))></title><script>alert(1)</script>` + "\b" + `](http://example.com/raw/x.md): a & b

## Pages

- [About (us)](http://example.com/raw/about.md)

## Feeds

- [RSS](http://example.com/rss.xml)
- [RSS with whole texts](http://example.com/rss-full.xml)
- [Sitemap](http://example.com/sitemap.xml)
`},
		{"/robots.txt", "text/plain; charset=utf-8", "User-agent: *\nAllow: /\nDisallow: /api/\n\nSitemap: http://example.com/sitemap.xml\n"},
		{"/raw/x.md", "text/markdown; charset=utf-8", "# ]]></title><script>alert(1)</script>\b\n\n> a & b\n\n---\nType: post\nDate: 2026-11-20\n" +
			"Reading time: 1 min read\nTags: <b>, c/d e\nAuthor: Ada\n---\n\nSee [about](/about) ]]> &amp; <script>alert(2)</script>\n"},
		{"/raw/about.md", "text/markdown; charset=utf-8", "# About [us]\n\n---\nType: page\n---\n\nText of about.\n"},
		{"/raw/quiet.md", "text/markdown; charset=utf-8", "# Quiet\n\n---\nType: post\nDate: 2026-11-22\nReading time: 1 min read\n---\n\n\n"},
	}
	for _, test := range tests {
		status, body, header := w.do("GET", test.path)
		if status != http.StatusOK || header.Get("Content-Type") != test.contentType || header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: status %d, type %s", test.path, status, header.Get("Content-Type"))
		}
		if diff := cmp.Diff(test.want, body); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.path, diff)
		}
	}
	for _, path := range []string{"/raw/draft.md", "/raw/none.md", "/raw/about", "/raw/", "/raw/../x.md", "/raw/stats.md", "/tags/", "/tags/none"} {
		if status, _, _ := w.do("GET", path); status == http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
	}
}

// What many ask for is made and packed once.
func TestTextsAreMadeOnce(t *testing.T) {
	w := newWorld(t, hostile())
	paths := []string{"/", "/x", "/tags/%3Cb%3E", "/rss.xml", "/rss-full.xml", "/sitemap.xml", "/llms.txt", "/robots.txt", "/raw/x.md", "/raw/about.md"}
	for _, path := range slices.Concat(paths, paths) {
		if status, _, _ := w.do("GET", path); status != http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
	}
	for _, path := range []string{"/none", "/another", "/tags/none", "/a/b"} {
		if status, _, _ := w.do("GET", path); status != http.StatusNotFound {
			t.Errorf("%s: status %d", path, status)
		}
	}
	if got, want := len(w.site.cache.mu.files), len(paths)+1; got != want {
		t.Errorf("%d are kept, want %d: each of these, and one for all that is not there", got, want)
	}
}

func TestAddressesOfTheSite(t *testing.T) {
	w := newWorldWith(t, Options{URL: "https://site.example/"}, hostile())
	if _, body, _ := w.do("GET", "/llms.txt"); !strings.Contains(body, "(https://site.example/raw/y.md)") {
		t.Errorf("the option is not used:\n%s", body)
	}
	w = newWorld(t, hostile())
	for host, want := range map[string]string{
		"site.example:8080": "http://site.example:8080", "[2001:db8::1]:80": "http://[2001:db8::1]:80",
		`a"><script>`: "", "a/b": "", "a b": "", strings.Repeat("a", 300): "",
	} {
		if _, body, _ := w.do("GET", "/robots.txt", "Host", host); !strings.HasSuffix(body, "Sitemap: "+want+"/sitemap.xml\n") {
			t.Errorf("host %q:\n%s", host, body)
		}
	}
	for _, bad := range []string{"site.example", "ftp://site.example", "https://", "https://site.example/?a", "://"} {
		if err := New(Options{URL: bad}).checkURL(); err == nil {
			t.Errorf("%q is taken for the address of a site", bad)
		}
	}
}

// What stands in a text is found from the text's own address: readers of a feed see it at another.
func TestWholeAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"/a b": "https://s.example/a b", "other": "https://s.example/other", "../x.png?y=1": "https://s.example/x.png?y=1", "#part": "#part",
		"?page=2": "https://s.example/post?page=2", "//cdn.example/x.png": "//cdn.example/x.png", "https://t.example/": "https://t.example/",
		"mailto:a@t.example": "mailto:a@t.example", "javascript:alert(1)": "javascript:alert(1)", " javascript:x": " javascript:x", "%zz": "%zz", "": "",
	} {
		if got := whole("https://s.example", "post", address); got != want {
			t.Errorf("%q: got %q, want %q", address, got, want)
		}
	}
}

func TestPagesOfTags(t *testing.T) {
	w := newWorld(t, hostile())
	_, body, _ := w.do("GET", "/x")
	inOrder(t, body, `<a class="tag" href="/tags/%3Cb%3E">&lt;b&gt;</a>`, `href="/tags/c%2Fd%20e"`)
	for _, path := range []string{"/tags/%3Cb%3E", "/tags/c%2Fd%20e", "/tags/C%2Fd%20E"} {
		status, body, _ := w.do("GET", path)
		if status != http.StatusOK || !strings.Contains(body, `<a href="/x">`) || strings.Contains(body, "<script>") {
			t.Errorf("%s: status %d\n%s", path, status, body)
		}
	}
}

func TestDocumentsPointElsewhere(t *testing.T) {
	files := hostile()
	files["blog/z.md"] = "---\ntitle: Z\ndate: 2026-01-01\ndescription: Zed\ntags: [C/D E]\nimage: /z.png\nshowImageAtTop: true\n---\n"
	w := newWorld(t, files)
	_, body, _ := w.do("GET", "/x")
	inOrder(t, body, `title="My site" href="/rss.xml"`, `<link rel="canonical" href="http://example.com/x">`,
		`<link rel="alternate" type="text/markdown" href="/raw/x.md">`, "November 20, 2026</time> · Ada · 1 min read", "Read on", `<a href="/z">Z</a> <span>Zed</span>`)
	_, body, _ = w.do("GET", "/z")
	inOrder(t, body, `<meta property="og:image" content="http://example.com/z.png">`, `<img src="/z.png" alt="">`)
	_, body, _ = w.do("GET", "/y")
	inOrder(t, body, "November 21, 2026")
	if strings.Contains(body, `src="javascript:`) {
		t.Errorf("a picture that runs:\n%s", body)
	}
	for _, path := range []string{"/none", "/tags/none"} {
		if _, body, _ = w.do("GET", path); strings.Contains(body, "canonical") {
			t.Errorf("%s, which is not there, names an address that is:\n%s", path, body)
		}
	}
	if _, body, _ = w.do("GET", "/quiet"); !strings.Contains(body, `content="noindex"`) {
		t.Error("an unlisted post is offered to search engines")
	}
}
