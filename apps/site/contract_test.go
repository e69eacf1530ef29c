package site

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
)

// call runs a function as a client does: with JSON, and without an admin key.
func (w *world) call(path, args string) (result string, failure *halcyon.Failure) {
	w.t.Helper()
	given, err := value.ParseJSON([]byte(args))
	if err != nil {
		w.t.Fatal(err)
	}
	out, err := w.app.Call(context.Background(), halcyon.Request{Path: path, Args: given})
	if err != nil {
		w.t.Fatalf("%s(%s): %v", path, args, err)
	}
	if out.Failure != nil {
		return "", out.Failure
	}
	return string(value.AppendJSON(nil, out.Value)), nil
}

var volatile = regexp.MustCompile(`"_(id|creationTime)":("[a-z0-9]{32}"|[0-9.]+)`)

// answer is call for a function that succeeds. Ids and times are replaced by "?".
func (w *world) answer(path, args string) string {
	w.t.Helper()
	result, failure := w.call(path, args)
	if failure != nil {
		w.t.Fatalf("%s(%s): %v", path, args, failure)
	}
	return volatile.ReplaceAllString(result, `"_$1":"?"`)
}

// sameJSON compares texts as JSON.
func sameJSON(t *testing.T, what, want, got string) {
	t.Helper()
	var w, g any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%s: want %s: %v", what, want, err)
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%s: got %s: %v", what, got, err)
	}
	if diff := cmp.Diff(w, g); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// openWorld is a site that takes what anybody sends, and has no files.
func openWorld(t *testing.T) *world {
	return newWorldWith(t, Options{OpenSync: true}, nil)
}

// Four posts and four pages as a sync script sends them.
const (
	pushedPosts = `{"posts": [
		{"slug": "old", "title": "Old", "description": "The first", "content": "# Old\n\nText.", "date": "2026-01-01", "published": true,
		 "tags": ["go", "Data"], "readTime": "1 min read", "featured": true, "featuredOrder": 2, "authorName": "Ada Lovelace", "authorImage": "/ada.png"},
		{"slug": "new", "title": "New", "description": "The second", "content": "Text.", "date": "2026-02-01", "published": true,
		 "tags": ["Go"], "image": "/new.png", "excerpt": "In short", "featured": true, "featuredOrder": 0, "blogFeatured": true, "layout": "sidebar",
		 "rightSidebar": false, "showFooter": true, "footer": "Foot", "showSocialFooter": false, "aiChat": true, "newsletter": false,
		 "contactForm": true, "showImageAtTop": true, "authorName": "Ada  Lovelace"},
		{"slug": "quiet", "title": "Quiet", "description": "", "content": "Unlisted.", "date": "2026-03-01", "published": true, "tags": ["go"],
		 "unlisted": true, "featured": true, "blogFeatured": true, "authorName": "Bob"},
		{"slug": "draft", "title": "Draft", "description": "", "content": "Not yet.", "date": "2026-04-01", "published": false, "tags": ["go"],
		 "featured": true, "docsSection": true, "docsLanding": true},
		{"slug": "guide", "title": "Guide", "description": "How", "content": "Do this.", "date": "2025-12-01", "published": true, "tags": [],
		 "docsSection": true, "docsSectionGroup": "Start", "docsSectionOrder": 1, "docsSectionGroupOrder": 2, "docsSectionGroupIcon": "rocket",
		 "docsLanding": true}]}`
	pushedPages = `{"pages": [
		{"slug": "z", "title": "zeta", "content": "Z.", "published": true},
		{"slug": "a", "title": "Alpha", "content": "A.", "published": true},
		{"slug": "first", "title": "First", "content": "F.", "published": true, "order": 0, "showInNav": true, "featured": true, "textAlign": "center",
		 "docsSection": true, "docsLanding": true, "docsSectionGroup": "G"},
		{"slug": "hidden", "title": "Hidden", "content": "H.", "published": true, "order": -1, "showInNav": false},
		{"slug": "draft-page", "title": "D", "content": "D.", "published": false, "featured": true}]}`
)

// What the public pages of the original ask, and what they are answered. The
// fields are those of its functions.
func TestPublicFunctions(t *testing.T) {
	const (
		oldPost = `"_id": "?", "slug": "old", "title": "Old", "description": "The first", "date": "2026-01-01", "tags": ["go", "Data"],
			"readTime": "1 min read", "authorName": "Ada Lovelace", "authorImage": "/ada.png"`
		newPost = `"_id": "?", "slug": "new", "title": "New", "description": "The second", "date": "2026-02-01", "tags": ["Go"],
			"image": "/new.png", "excerpt": "In short", "authorName": "Ada  Lovelace"`
		guide   = `"_id": "?", "slug": "guide", "title": "Guide", "description": "How", "date": "2025-12-01", "tags": []`
		more    = `, "_creationTime": "?", "published": true`
		oldList = oldPost + more + `, "featured": true, "featuredOrder": 2`
		newList = newPost + more + `, "featured": true, "featuredOrder": 0`
		first   = `"_id": "?", "slug": "first", "title": "First", "published": true, "order": 0, "showInNav": true, "featured": true`
	)
	tests := []struct{ path, args, want string }{
		{"posts:getAllPosts", `{}`, `[{` + newList + `, "layout": "sidebar", "rightSidebar": false, "showFooter": true, "blogFeatured": true},
			{` + oldList + `}, {` + guide + more + `}]`},
		{"posts:getFeaturedPosts", `{}`, `[
			{"_id": "?", "slug": "new", "title": "New", "excerpt": "In short", "description": "The second", "image": "/new.png", "featuredOrder": 0},
			{"_id": "?", "slug": "old", "title": "Old", "description": "The first", "featuredOrder": 2}]`},
		{"posts:getBlogFeaturedPosts", `{}`, `[{` + newPost + `}]`},
		{"posts:getPostBySlug", `{"slug": "new"}`, `{` + newList + `, "content": "Text.", "showImageAtTop": true, "layout": "sidebar",
			"rightSidebar": false, "showFooter": true, "footer": "Foot", "showSocialFooter": false, "aiChat": true, "newsletter": false, "contactForm": true}`},
		{"posts:getPostBySlug", `{"slug": "quiet"}`, `{"_id": "?", "_creationTime": "?", "slug": "quiet", "title": "Quiet", "description": "",
			"date": "2026-03-01", "published": true, "tags": ["go"], "featured": true, "authorName": "Bob", "content": "Unlisted."}`},
		{"posts:getPostBySlug", `{"slug": "draft"}`, `null`},
		{"posts:getPostBySlug", `{"slug": "none"}`, `null`},
		{"posts:getRelatedPosts", `{"currentSlug": "none", "tags": ["GO", "data"]}`, `[{` + oldPost + `, "sharedTags": 2}, {` + newPost + `, "sharedTags": 1}]`},
		{"posts:getRelatedPosts", `{"currentSlug": "new", "tags": ["go"], "limit": 1}`, `[{` + oldPost + `, "sharedTags": 1}]`},
		{"posts:getRelatedPosts", `{"currentSlug": "old", "tags": [], "limit": 3}`, `[]`},
		{"posts:getRelatedPosts", `{"currentSlug": "none", "tags": ["go"], "limit": -1}`, `[]`},
		{"posts:getPostsByTag", `{"tag": "GO"}`, `[{` + newList + `}, {` + oldList + `}]`},
		{"posts:getPostsByTag", `{"tag": "none"}`, `[]`},
		{"posts:getAllTags", `{}`, `[{"tag": "Data", "count": 1}, {"tag": "go", "count": 1}, {"tag": "Go", "count": 1}]`},
		{"posts:getAllAuthors", `{}`, `[{"name": "Ada  Lovelace", "slug": "ada-lovelace", "count": 1}, {"name": "Ada Lovelace", "slug": "ada-lovelace", "count": 1}]`},
		{"posts:getPostsByAuthor", `{"authorSlug": "ada-lovelace"}`, `[{` + newList + `}, {` + oldList + `}]`},
		{"posts:getPostsByAuthor", `{"authorSlug": "bob"}`, `[]`},
		{"posts:getDocsPosts", `{}`, `[{"_id": "?", "slug": "guide", "title": "Guide", "docsSectionGroup": "Start", "docsSectionOrder": 1,
			"docsSectionGroupOrder": 2, "docsSectionGroupIcon": "rocket"}]`},
		{"posts:getDocsLandingPost", `{}`, `{` + guide + `, "content": "Do this.", "docsSectionGroup": "Start", "docsSectionOrder": 1}`},
		{"pages:getAllPages", `{}`, `[{` + first + `}, {"_id": "?", "slug": "a", "title": "Alpha", "published": true},
			{"_id": "?", "slug": "z", "title": "zeta", "published": true}]`},
		{"pages:getFeaturedPages", `{}`, `[{"_id": "?", "slug": "first", "title": "First"}]`},
		{"pages:getPageBySlug", `{"slug": "first"}`, `{` + first + `, "content": "F.", "textAlign": "center", "docsSection": true}`},
		{"pages:getPageBySlug", `{"slug": "hidden"}`, `{"_id": "?", "slug": "hidden", "title": "Hidden", "published": true, "order": -1, "showInNav": false, "content": "H."}`},
		{"pages:getPageBySlug", `{"slug": "draft-page"}`, `null`},
		{"pages:getDocsPages", `{}`, `[{"_id": "?", "slug": "first", "title": "First", "docsSectionGroup": "G"}]`},
		{"pages:getDocsLandingPage", `{}`, `{"_id": "?", "slug": "first", "title": "First", "content": "F.", "docsSectionGroup": "G"}`},
	}
	w := openWorld(t)
	sameJSON(t, "posts", `{"created": 5, "updated": 0, "deleted": 0, "skipped": 0}`, w.answer("posts:syncPostsPublic", pushedPosts))
	sameJSON(t, "pages", `{"created": 5, "updated": 0, "deleted": 0, "skipped": 0}`, w.answer("pages:syncPagesPublic", pushedPages))
	for _, test := range tests {
		sameJSON(t, test.path+test.args, test.want, w.answer(test.path, test.args))
	}
}

func TestSyncScriptWritesOnlyWhatDiffers(t *testing.T) {
	w := openWorld(t)
	w.answer("posts:syncPostsPublic", pushedPosts)
	before := w.app.Durable()
	sameJSON(t, "again", `{"created": 0, "updated": 0, "deleted": 0, "skipped": 5}`, w.answer("posts:syncPostsPublic", pushedPosts))
	if after := w.app.Durable(); after != before {
		t.Error("a sync of what is there already was a commit")
	}
	id := func() string {
		result, _ := w.call("posts:getPostBySlug", `{"slug": "old"}`)
		return volatile.FindString(result)
	}
	first := id()
	changed := strings.Replace(pushedPosts, "# Old", "# Older", 1)
	changed = strings.Replace(changed, `"slug": "quiet"`, `"slug": "loud"`, 1)
	sameJSON(t, "changed", `{"created": 1, "updated": 1, "deleted": 1, "skipped": 3}`, w.answer("posts:syncPostsPublic", changed))
	if now := id(); now != first {
		t.Errorf("an update made another document: %s, before %s", now, first)
	}
	sameJSON(t, "nothing", `{"created": 0, "updated": 0, "deleted": 5, "skipped": 0}`, w.answer("posts:syncPostsPublic", `{"posts": []}`))
	if got := w.answer("search:search", `{"query": "text"}`); got != "[]" {
		t.Errorf("deleted texts are found: %s", got)
	}
}

func TestSyncScriptNeedsAnAdminKey(t *testing.T) {
	w := newWorld(t, files())
	for path, args := range map[string]string{"posts:syncPostsPublic": `{"posts": []}`, "pages:syncPagesPublic": `{"pages": []}`} {
		if _, failure := w.call(path, args); failure == nil || !strings.Contains(failure.Message, "Could not find public function") {
			t.Errorf("%s without a key: got %v", path, failure)
		}
		var result syncResult
		if err := w.app.Run(t.Context(), path, map[string]any{strings.Split(args, `"`)[1]: []any{}}, &result); err != nil || result.Deleted != 0 {
			t.Errorf("%s with a key: got %+v, %v: a script may not delete what a file says", path, result, err)
		}
	}
}

func TestFilesWinOverScripts(t *testing.T) {
	w := newWorldWith(t, Options{OpenSync: true}, map[string]string{"blog/old.md": "---\ntitle: From a file\ndate: 2026-01-01\n---\n"})
	sameJSON(t, "push", `{"created": 4, "updated": 0, "deleted": 0, "skipped": 1}`, w.answer("posts:syncPostsPublic", pushedPosts))
	if got := w.titles("old").Title; got != "From a file" {
		t.Errorf("the script replaced a file: %q", got)
	}
	writeFiles(t, w.dir, map[string]string{"blog/new.md": "---\ntitle: A newer file\ndate: 2026-01-01\n---\n"})
	w.remove("blog/old.md")
	w.sync()
	if got := w.titles("new").Title; got != "A newer file" {
		t.Errorf("a file did not replace what a script sent: %q", got)
	}
	if got := w.titles("old"); got.OK {
		t.Errorf("a removed file is still there: %q", got.Title)
	}
	if got := w.titles("guide"); !got.OK {
		t.Error("the sync of the folder deleted what a script sent")
	}
}

func TestSyncScriptIsRefusedWhole(t *testing.T) {
	post := func(slug, date, title string) string {
		return fmt.Sprintf(`{"slug": %q, "title": %q, "description": "", "content": "", "date": %q, "published": true, "tags": []}`, slug, title, date)
	}
	good := post("good", "2026-01-01", "Good")
	large, err := json.Marshal(strings.Repeat("x", pushSizeMax/4+1))
	if err != nil {
		t.Fatal(err)
	}
	heavy := func(slug string) string {
		return strings.Replace(post(slug, "2026-01-01", "T"), `"content": ""`, `"content": `+string(large), 1)
	}
	tests := []struct{ name, posts, code string }{
		{"a slug with a slash", good + "," + post("a/b", "2026-01-01", "T"), CodeDocument},
		{"a slug of the server", good + "," + post("stats", "2026-01-01", "T"), CodeDocument},
		{"no title", good + "," + post("a", "2026-01-01", ""), CodeDocument},
		{"no date", good + "," + post("a", "soon", "T"), CodeDocument},
		{"a slug twice", good + "," + good, CodeDocument},
		{"too much text", good + "," + heavy("a") + "," + heavy("b") + "," + heavy("c") + "," + heavy("d"), CodeTooMuch},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := openWorld(t)
			_, failure := w.call("posts:syncPostsPublic", `{"posts": [`+test.posts+`]}`)
			if failure == nil {
				t.Fatal("it was taken")
			}
			if code, _ := failure.Data.Get("code").AsString(); code != test.code {
				t.Errorf("got code %q, want %q: %v", code, test.code, failure)
			}
			if got := w.titles("good"); got.OK {
				t.Error("a part of it was taken")
			}
		})
	}
}

func TestSearch(t *testing.T) {
	w := newWorld(t, map[string]string{
		"blog/a.md": "---\ntitle: Concurrency\ndate: 2026-01-01\ndescription: About locks\n---\nIntro.\n\n## The *one* committer!\n\nA hot document " +
			"is written [in turn](/turn). ![a picture of turn](x.png)\n\n```go\nfunc turnOver() {}\n```\n",
		"blog/b.md":     "---\ntitle: Turn by turn\ndate: 2026-01-02\n---\nNothing else.\n",
		"blog/quiet.md": "---\ntitle: Quiet turn\ndate: 2026-01-02\nunlisted: true\n---\n",
		"blog/draft.md": "---\ntitle: Draft turn\ndate: 2026-01-02\npublished: false\n---\n",
		"pages/p.md":    "---\ntitle: Page\n---\n" + strings.Repeat("Long words before it. ", 20) + "At ÄRGER the turn comes." + strings.Repeat(" And long words after.", 20),
	})
	tests := []struct{ query, want string }{
		{"", "[]"},
		{"  \n ", "[]"},
		{"?!", "[]"},
		{"nowhere", "[]"},
		{"urn", "[]"}, // no word begins with it
		{"turn", `[
			{"_id": "?", "type": "post", "slug": "b", "title": "Turn by turn", "description": "", "snippet": "Nothing else."},
			{"_id": "?", "type": "post", "slug": "a", "title": "Concurrency", "description": "About locks", "anchor": "the-one-committer",
			 "snippet": "...committer! A hot document is written in turn. func turnOver() {}"},
			{"_id": "?", "type": "page", "slug": "p", "title": "Page",
			 "snippet": "... it. Long words before it. At ÄRGER the turn comes. And long words after. And long words after. And long words after. An..."}]`},
		{"ärg", `[{"_id": "?", "type": "page", "slug": "p", "title": "Page",
			"snippet": "...rds before it. Long words before it. At ÄRGER the turn comes. And long words after. And long words after. And long words..."}]`},
		{"locks HOT docum", `[{"_id": "?", "type": "post", "slug": "a", "title": "Concurrency", "description": "About locks", "anchor": "the-one-committer",
			"snippet": "Intro. The one committer! A hot document is written in turn. func turnOver() {}"}]`},
	}
	for _, test := range tests {
		args, err := json.Marshal(searchArgs{test.query})
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, test.query, test.want, w.answer("search:search", string(args)))
	}
	long, err := json.Marshal(searchArgs{strings.Repeat("a\u0000é ", 100_000)})
	if err != nil {
		t.Fatal(err)
	}
	w.answer("search:search", string(long))
}
