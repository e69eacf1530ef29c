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

func TestReadDocument(t *testing.T) {
	tests := []struct {
		name string
		kind string
		file string
		body string
		want source // Hash and Markdown aside
	}{
		{
			"least post", kindPost, "blog/first.md", "---\ntitle: First\ndate: 2026-11-20\n---\nHello.\n",
			source{Slug: "first", Title: "First", Date: "2026-11-20", Published: true, ReadTime: "1 min read", Tags: []string{}},
		},
		{
			"full post", kindPost, "blog/x.md",
			"---\ntitle: '  Spaces  '\nslug: /other/\ndate: \"2026-01-02\"\ndescription: About\npublished: false\nunlisted: true\n" +
				"tags: [a, b c]\nreadTime: an hour\nfuture: {key: 1}\n---\n",
			source{
				Slug: "other", Title: "Spaces", Date: "2026-01-02", Description: "About", Unlisted: true,
				Tags: []string{"a", "b c"}, ReadTime: "an hour",
			},
		},
		{
			"post in toml", kindPost, "blog/t.md", "+++\ntitle = \"T\"\ndate = 2026-03-04\ntags = [\"x\"]\n+++\nHello.\n",
			source{Slug: "t", Title: "T", Date: "2026-03-04", Published: true, Tags: []string{"x"}, ReadTime: "1 min read"},
		},
		{
			"date with a time", kindPost, "blog/d.md", "---\ntitle: D\ndate: 2026-03-04T23:30:00+09:00\n---\n",
			source{Slug: "d", Title: "D", Date: "2026-03-04", Published: true, Tags: []string{}, ReadTime: "1 min read"},
		},
		{
			"date as text with a time", kindPost, "blog/d.md", "---\ntitle: D\ndate: '2026-03-04 23:30'\n---\n",
			source{Slug: "d", Title: "D", Date: "2026-03-04", Published: true, Tags: []string{}, ReadTime: "1 min read"},
		},
		{
			"long post", kindPost, "blog/l.md", "---\ntitle: L\ndate: 2026-03-04\n---\n" + strings.Repeat("word ", 1100),
			source{Slug: "l", Title: "L", Date: "2026-03-04", Published: true, Tags: []string{}, ReadTime: "6 min read"},
		},
		{
			"page", kindPage, "pages/about.md", "---\ntitle: About\norder: 2\n---\n",
			source{Slug: "about", Title: "About", Published: true, Order: 2, ShowInNav: true, Tags: []string{}},
		},
		{
			"hidden page", kindPage, "pages/about.md", "---\ntitle: 2026\nshowInNav: false\n---\n",
			source{Slug: "about", Title: "2026", Published: true, Tags: []string{}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readDocument(test.kind, test.file, []byte(test.body))
			if err != nil {
				t.Fatalf("%s:\n%s\n%v", test.file, test.body, err)
			}
			if got.Markdown != test.body || len(got.Hash) != 32 {
				t.Errorf("got text %q with hash %q", got.Markdown, got.Hash)
			}
			got.Markdown, got.Hash = "", ""
			test.want.Kind, test.want.Source = test.kind, test.file
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.body, diff)
			}
		})
	}
}

func TestReadDocumentRefuses(t *testing.T) {
	tests := []struct {
		name string
		kind string
		body string
		want error // nil: any
	}{
		{"no front matter", kindPage, "Hello.", errNoFrontMatter},
		{"unclosed front matter", kindPage, "---\ntitle: A\nSome text.\n", nil},
		{"bad yaml", kindPage, "---\ntitle: [\n---\n", nil},
		{"wrong type", kindPage, "---\ntitle: A\norder: first\n---\n", nil},
		{"no title", kindPage, "---\nslug: a\n---\n", errNoTitle},
		{"blank title", kindPage, "---\ntitle: ' '\n---\n", errNoTitle},
		{"no date", kindPost, "---\ntitle: A\n---\n", errNoDate},
		{"not a date", kindPost, "---\ntitle: A\ndate: yesterday\n---\n", errNoDate},
		{"not a day", kindPost, "---\ntitle: A\ndate: '2026-02-30'\n---\n", errNoDate},
		{"slug with a slash", kindPage, "---\ntitle: A\nslug: a/b\n---\n", errSlug},
		{"slug with a dot first", kindPage, "---\ntitle: A\nslug: ../a\n---\n", errSlug},
		{"slug with a space", kindPage, "---\ntitle: A\nslug: a b\n---\n", errSlug},
		{"longest slug and one", kindPage, "---\ntitle: A\nslug: " + strings.Repeat("a", slugSizeMax+1) + "\n---\n", errSlug},
		{"slug of the server", kindPage, "---\ntitle: A\nslug: stats\n---\n", errReserved},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := readDocument(test.kind, "pages/file.md", []byte(test.body))
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%q: got %+v and error %v, want %v", test.body, got, err, test.want)
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
		"pages/sub.md/c":   "a folder",
		"other/d.md":       page,
	})
	outside := filepath.Join(t.TempDir(), "secret.md")
	if err := os.WriteFile(outside, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(dir, "pages", "link.md")); err != nil {
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
	if diff := cmp.Diff([]string{"blog/b.md", "pages/a.md", "pages/largest.md"}, names); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if got, want := found.documents[1].Markdown, "---\ntitle: A\n---\nWindows.\n"; got != want {
		t.Errorf("got text %q, want %q", got, want)
	}
	names = nil
	for _, p := range found.problems {
		names = append(names, p.file)
		if p.file == "pages/larger.md" && !errors.Is(p.err, errFileSize) || p.file == "pages/binary.md" && !errors.Is(p.err, errNotText) {
			t.Errorf("%s: %v", p.file, p.err)
		}
	}
	want := []string{"blog/broken.md", "pages/binary.md", "pages/larger.md", "pages/link.md", "pages/same.md", "pages/sub.md"}
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
		kinds[d.Kind]++
	}
	if kinds[kindPost] < 3 || kinds[kindPage] < 2 {
		t.Errorf("got %v, want posts and pages", kinds)
	}
}

func TestRender(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"front matter", "---\ntitle: A\n---\nHello.", "<p>Hello.</p>\n"},
		{"raw html", "a <b onclick=x>b</b>\n\n<script>alert(1)</script>\n", ""},
		{"script link", "[x](javascript:alert(1))", ""},
		{"aligned table", "|a|\n|-:|\n|1|\n", ""},
		{"heading", "## Active now", "<h2 id=\"active-now\">Active now</h2>\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := render(test.text)
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
