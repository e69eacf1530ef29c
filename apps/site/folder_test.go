package site

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// writeFiles makes a folder of files, given by name.
func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, body := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func to[T any](v T) *T { return &v }

func TestReadDocument(t *testing.T) {
	post := func(p PostFields, content string) source {
		if p.Tags == nil {
			p.Tags = []string{}
		}
		return source{Post: &postEntry{p, content}}
	}
	page := func(p PageFields, content string) source { return source{Page: &pageEntry{p, content}} }
	tests := []struct {
		name string
		kind string
		file string
		body string
		want source
	}{
		{
			"least post", kindPost, "blog/first.md", "---\ntitle: First\ndate: 2026-11-20\n---\n\nHello.\n",
			post(PostFields{Slug: "first", Title: "First", Date: "2026-11-20", Published: true, ReadTime: "1 min read"}, "Hello."),
		},
		{
			"full post", kindPost, "blog/x.md",
			"---\ntitle: '  Spaces  '\nslug: /other/\ndate: \"2026-01-02\"\ndescription: About\npublished: false\nunlisted: true\n" +
				"tags: [a, ' b  c', '', null, A]\nreadTime: an hour\nfuture: {key: 1}\n---\n",
			post(PostFields{
				Slug: "other", Title: "Spaces", Date: "2026-01-02", Description: "About", Unlisted: true,
				Tags: []string{"a", "b c"}, ReadTime: "an hour",
			}, ""),
		},
		{
			"every key", kindPost, "blog/e.md",
			"---\ntitle: E\ndate: 2026-01-02\nimage: /i.png\nshowImageAtTop: true\nexcerpt: Ex\nfeatured: true\nfeaturedOrder: 0\nauthorName: Ada\n" +
				"authorImage: /a.png\nlayout: sidebar\nrightSidebar: false\nshowFooter: true\nfooter: |\n  One\n  two\nshowSocialFooter: false\naiChat: false\n" +
				"blogFeatured: true\nnewsletter: false\ncontactForm: true\ndocsSection: true\ndocsSectionGroup: G\ndocsSectionOrder: 1.5\n" +
				"docsSectionGroupOrder: 2\ndocsSectionGroupIcon: star\ndocsLanding: true\nslides: true\n---\n",
			post(PostFields{
				Slug: "e", Title: "E", Date: "2026-01-02", Published: true, ReadTime: "1 min read", BlogFeatured: to(true),
				Extras: Extras{
					Image: "/i.png", ShowImageAtTop: to(true), Excerpt: "Ex", Featured: to(true), FeaturedOrder: to(0.0), AuthorName: "Ada",
					AuthorImage: "/a.png", Layout: "sidebar", RightSidebar: to(false), ShowFooter: to(true), Footer: "One\ntwo\n",
					ShowSocialFooter: to(false), AIChat: to(false), Newsletter: to(false), ContactForm: to(true), DocsSection: to(true),
					DocsSectionGroup: "G", DocsSectionOrder: to(1.5), DocsSectionGroupOrder: to(2.0), DocsSectionGroupIcon: "star",
					DocsLanding: to(true), Slides: to(true),
				},
			}, ""),
		},
		{
			"post in toml", kindPost, "blog/t.md", "+++\ntitle = \"T\"\ndate = 2026-03-04\ntags = [\"x\"]\nlayout = \"sidebar\"\n+++\nHello.\n",
			post(PostFields{
				Slug: "t", Title: "T", Date: "2026-03-04", Published: true, Tags: []string{"x"}, ReadTime: "1 min read", Extras: Extras{Layout: "sidebar"},
			}, "Hello."),
		},
		{
			"date with a time", kindPost, "blog/d.md", "---\ntitle: D\ndate: 2026-03-04T23:30:00+09:00\n---\n",
			post(PostFields{Slug: "d", Title: "D", Date: "2026-03-04", Published: true, ReadTime: "1 min read"}, ""),
		},
		{
			"date as text with a time", kindPost, "blog/d.md", "---\ntitle: D\ndate: '2026-03-04 23:30'\n---\n",
			post(PostFields{Slug: "d", Title: "D", Date: "2026-03-04", Published: true, ReadTime: "1 min read"}, ""),
		},
		{
			"long post", kindPost, "blog/l.md", "---\ntitle: L\ndate: 2026-03-04\n---\n" + strings.Repeat("word ", 1001),
			post(PostFields{Slug: "l", Title: "L", Date: "2026-03-04", Published: true, ReadTime: "6 min read"}, strings.Repeat("word ", 1000)+"word"),
		},
		{
			"a rule in the text is no front matter", kindPage, "pages/r.md", "---\ntitle: R\n---\n\n---\ntitle: text\n---\n",
			page(PageFields{Slug: "r", Title: "R", Published: true}, "---\ntitle: text\n---"),
		},
		{
			"page", kindPage, "pages/about.md", "---\ntitle: About\norder: 2\ntextAlign: center\n---\n",
			page(PageFields{Slug: "about", Title: "About", Published: true, Order: to(2.0), TextAlign: "center"}, ""),
		},
		{
			"hidden page", kindPage, "pages/about.md", "---  \ntitle: 2026\nshowInNav: false\n---\t\nx",
			page(PageFields{Slug: "about", Title: "2026", Published: true, ShowInNav: to(false)}, "x"),
		},
		{
			"a title on lines of its own", kindPage, "pages/about.md", "---\ntitle: |\n  one\n  two\n---\n",
			page(PageFields{Slug: "about", Title: "one two", Published: true}, ""),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readDocument(test.kind, test.file, []byte(test.body))
			if err != nil {
				t.Fatalf("%s:\n%s\n%v", test.file, test.body, err)
			}
			test.want.Source = test.file
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.body, diff)
			}
		})
	}
}

func TestReadDocumentRefuses(t *testing.T) {
	bomb := "---\ntitle: A\na: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	tests := []struct {
		name string
		kind string
		body string
		want error // nil: any
	}{
		{"nothing", kindPage, "", errNoFrontMatter},
		{"no front matter", kindPage, "Hello.", errNoFrontMatter},
		{"unclosed front matter", kindPage, "---\ntitle: A\nSome text.\n", errNoFrontMatter},
		{"only a fence", kindPage, "---", errNoFrontMatter},
		{"another fence at the end", kindPage, "---\ntitle: A\n+++\n", errNoFrontMatter},
		{"empty front matter", kindPage, "---\n---\n", nil},
		{"bad yaml", kindPage, "---\ntitle: [\n---\n", nil},
		{"yaml that is a list", kindPage, "---\n- a\n- b\n---\n", nil},
		{"yaml of aliases of aliases", kindPage, bomb + "tags: *j\n---\n", nil},
		{"yaml in depth", kindPage, "---\ntitle: A\ntags: " + strings.Repeat("[", 20000) + "\n---\n", nil},
		{"a merge of itself", kindPage, "---\n&a\ntitle: A\n<<: *a\n---\n", nil},
		{"bad toml", kindPage, "+++\ntitle = \n+++\n", nil},
		{"large front matter", kindPage, "---\ntitle: A\nx: " + strings.Repeat("y", frontMatterSizeMax) + "\n---\n", errFrontMatterSize},
		{"wrong type", kindPage, "---\ntitle: A\norder: first\n---\n", nil},
		{"no title", kindPage, "---\nslug: a\n---\n", errNoTitle},
		{"blank title", kindPage, "---\ntitle: ' '\n---\n", errNoTitle},
		{"no date", kindPost, "---\ntitle: A\n---\n", errNoDate},
		{"not a date", kindPost, "---\ntitle: A\ndate: yesterday\n---\n", errNoDate},
		{"not a day", kindPost, "---\ntitle: A\ndate: '2026-02-30'\n---\n", errNoDate},
		{"an order that is no number", kindPage, "---\ntitle: A\norder: .nan\n---\n", errNumber},
		{"an endless order", kindPage, "---\ntitle: A\nfeaturedOrder: .inf\n---\n", errNumber},
		{"too many tags", kindPost, "---\ntitle: A\ndate: 2026-02-03\ntags: [" + strings.Repeat("a,", tagsMax) + "a]\n---\n", errTags},
		{"slug with a slash", kindPage, "---\ntitle: A\nslug: a/b\n---\n", errSlug},
		{"slug with a dot first", kindPage, "---\ntitle: A\nslug: ../a\n---\n", errSlug},
		{"slug with a space", kindPage, "---\ntitle: A\nslug: a b\n---\n", errSlug},
		{"longest slug and one", kindPage, "---\ntitle: A\nslug: " + strings.Repeat("a", slugSizeMax+1) + "\n---\n", errSlug},
		{"slug of the server", kindPage, "---\ntitle: A\nslug: stats\n---\n", errReserved},
		{"slug of a feed", kindPage, "---\ntitle: A\nslug: rss.xml\n---\n", errReserved},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readDocument(test.kind, "pages/file.md", []byte(test.body))
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%.200q: got %+v and error %v, want %v", test.body, got, err, test.want)
			}
		})
	}
	longest := "---\ntitle: A\nslug: " + strings.Repeat("a", slugSizeMax) + "\n---\n"
	if _, err := readDocument(kindPage, "pages/file.md", []byte(longest)); err != nil {
		t.Errorf("the longest slug: %v", err)
	}
}

func TestReadFolder(t *testing.T) {
	dir := t.TempDir()
	const page = "---\ntitle: T\n---\n"
	writeFiles(t, dir, map[string]string{
		"blog/b.md":        "---\ntitle: B\ndate: 2026-01-01\n---\n",
		"blog/broken.md":   "---\ntitle: [\n---\n",
		"blog/.draft.md":   page,
		"blog/image.png":   "png",
		"pages/a.md":       "\ufeff---\r\ntitle: A\r\n---\r\nWindows.\r\n",
		"pages/same.md":    "---\ntitle: T\nslug: b\n---\n",
		"pages/largest.md": page + strings.Repeat("x", fileSizeMax-len(page)),
		"pages/larger.md":  page + strings.Repeat("x", fileSizeMax-len(page)+1),
		"pages/binary.md":  page + "\xff",
		"pages/null.md":    page + "\x00",
		"pages/sub.md/c":   "a folder",
		"pages/a b.md":     page,
		"pages/-x.md":      page,
		"pages/" + strings.Repeat("n", 210) + ".md": page,
		"pages/huge.md": page + strings.Repeat("x", 10<<20),
		"other/d.md":    page,
	})
	outside := filepath.Join(t.TempDir(), "secret.md")
	if err := os.WriteFile(outside, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "pages", "link.md")); err != nil {
		t.Fatal(err)
	}

	if err := os.Symlink("a.md", filepath.Join(dir, "pages", "inside.md")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop.md", filepath.Join(dir, "pages", "loop.md")); err != nil {
		t.Fatal(err)
	}
	found, err := readFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range found.documents {
		names = append(names, d.Source)
	}
	if diff := cmp.Diff([]string{"blog/b.md", "pages/a.md", "pages/inside.md", "pages/largest.md"}, names); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if got, want := found.documents[1].Page.Content, "Windows."; got != want {
		t.Errorf("got text %q, want %q", got, want)
	}
	names = nil
	for _, p := range found.problems {
		names = append(names, p.file)
		if p.file == "pages/larger.md" && !errors.Is(p.err, errFileSize) || (p.file == "pages/binary.md" || p.file == "pages/null.md") && !errors.Is(p.err, errNotText) {
			t.Errorf("%s: %v", p.file, p.err)
		}
	}
	want := []string{
		"blog/broken.md", "pages/-x.md", "pages/a b.md", "pages/binary.md", "pages/huge.md", "pages/larger.md", "pages/link.md", "pages/loop.md",
		"pages/" + strings.Repeat("n", 210) + ".md", "pages/null.md", "pages/same.md", "pages/sub.md",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
}

func TestReadFolderLimits(t *testing.T) {
	if _, err := readFolder(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing folder: got %v", err)
	}
	if found, err := readFolder(t.TempDir()); err != nil || len(found.documents) > 0 {
		t.Errorf("an empty folder: got %d documents, %v", len(found.documents), err)
	}

	dir := t.TempDir()
	const page = "---\ntitle: T\n---\n"
	body := page + strings.Repeat("x", fileSizeMax-len(page))
	files := map[string]string{}
	for i := range folderSizeMax / fileSizeMax {
		files[fmt.Sprintf("pages/%d.md", i)] = body
	}
	writeFiles(t, dir, files)
	if _, err := readFolder(dir); err != nil {
		t.Errorf("the largest folder: %v", err)
	}
	writeFiles(t, dir, map[string]string{"pages/more.md": "x"})
	if _, err := readFolder(dir); !errors.Is(err, errFolderTooLarge) {
		t.Errorf("a larger folder: got %v", err)
	}
}

func TestDemoContentIsPublished(t *testing.T) {
	found, err := readFolder("../../content")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range found.problems {
		t.Errorf("%s: %v", p.file, p.err)
	}
	kinds := map[string]int{}
	for _, d := range found.documents {
		if d.Post != nil {
			kinds[kindPost]++
		} else {
			kinds[kindPage]++
		}
	}
	if kinds[kindPost] < 3 || kinds[kindPage] < 2 {
		t.Errorf("got %v, want posts and pages", kinds)
	}
}

func TestRender(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"what looks like front matter", "---\ntitle: A\n---\nHello.", "<hr>\n<h2 id=\"title-a\">title: A</h2>\n<p>Hello.</p>\n"},
		{"a data address", "[x](data:text/html,<script>alert(1)</script>)", ""},
		{"raw html", "a <b onclick=x>b</b>\n\n<script>alert(1)</script>\n", ""},
		{"script link", "[x](javascript:alert(1))", ""},
		{"aligned table", "|a|\n|-:|\n|1|\n", ""},
		{"code", "```\n<pre>\n```", "<pre tabindex=\"0\"><code>&lt;pre&gt;\n</code></pre>\n"},
		{"table", "|a|\n|-|\n", "<table tabindex=\"0\">\n<thead>\n<tr>\n<th>a</th>\n</tr>\n</thead>\n</table>\n"},
		{"heading", "## Active now", "<h2 id=\"active-now\">Active now</h2>\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := render(test.text, "", "")
			if err != nil {
				t.Fatal(err)
			}
			if test.want != "" && string(got) != test.want {
				t.Errorf("%q: got %q, want %q", test.text, got, test.want)
			}
			for _, forbidden := range []string{"<script", "onclick", "javascript:", "style="} {
				if strings.Contains(string(got), forbidden) {
					t.Errorf("%q: got %q, which contains %q", test.text, got, forbidden)
				}
			}
		})
	}
}

func TestProblemsNameTheLineOfTheFile(t *testing.T) {
	for _, body := range []string{
		"---\ntitle: A\ndescription: a: b\n---\n", "---\ntitle: A\ntags: one\n---\n", "---\ndate: 1\ntitle: A\ndate: 2\n---\n", "+++\ntitle = 'A'\ndate 1\n+++\n",
	} {
		line := "line 3"
		if strings.Count(body, "date") == 2 {
			line = "line 4"
		}
		if _, err := readDocument(kindPost, "blog/a.md", []byte(body)); err == nil || !strings.Contains(err.Error(), line) {
			t.Errorf("%q: got %v, want it to name %s", body, err, line)
		}
	}
}

func TestRenderElsewhere(t *testing.T) {
	got, err := render("[a](/a) [b](//b.example/c) [d](https://d.example/) ![e](/e.png) [f](#f) [g](g) ![h](h.png) [i](javascript:i)", "https://site.example", "post")
	want := `<p><a href="https://site.example/a">a</a> <a href="//b.example/c">b</a> <a href="https://d.example/">d</a> ` +
		`<img src="https://site.example/e.png" alt="e"> <a href="#f">f</a> <a href="https://site.example/g">g</a> <img src="https://site.example/h.png" alt="h"> <a href="">i</a></p>` + "\n"
	if err != nil || string(got) != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func FuzzReadDocument(f *testing.F) {
	f.Add([]byte("---\ntitle: A\ndate: 2026-01-02\ntags: [a, b]\n---\n# Text\n"))
	f.Add([]byte("+++\ntitle = \"A\"\ndate = 2026-01-02\n+++\ntext"))
	f.Add([]byte("---\ntitle: &a [*a]\n<<: {}\n---\n"))
	f.Add([]byte("---\ntitle: !!binary x\nfeaturedOrder: .nan\n---\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, kind := range []string{kindPost, kindPage} {
			doc, err := readDocument(kind, "blog/name.md", body)
			if err != nil {
				continue
			}
			if err := checkSlug(doc.slug()); err != nil {
				t.Errorf("%q: %v", body, err)
			}
			content, title := "", ""
			if doc.Post != nil {
				content, title = doc.Post.Content, doc.Post.Title
			} else {
				content, title = doc.Page.Content, doc.Page.Title
			}
			if title == "" || strings.ContainsAny(title, "\n\r") || len(content) > len(body) {
				t.Errorf("%q: got %+v", body, doc)
			}
			if _, err := render(content, "https://site.example", doc.slug()); err != nil {
				t.Errorf("%q: %v", body, err)
			}
			plain(content)
		}
	})
}
