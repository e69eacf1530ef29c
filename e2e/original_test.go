package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// original runs a scenario of the blog that Halcyon's statistics and site began with,
// and returns what it wrote.
func original(t testing.TB, s *server, args ...string) (stdout string, err error) {
	t.Helper()
	if err := installed[clientsDir](); err != nil {
		lacking(t, "npm convex", err)
	}
	noteRun(t)
	cmd := exec.CommandContext(impatient(t), "node", append([]string{"original.mjs", s.url()}, args...)...)
	cmd.Dir = clientsDir
	var talk bytes.Buffer
	cmd.Stderr = &talk
	out, err := cmd.Output()
	if err != nil {
		err = errors.New(err.Error() + ": " + talk.String())
	}
	return string(out), err
}

// The original's hook and both versions of its statistics page, under StrictMode.
func TestOriginalFrontEndCounts(t *testing.T) {
	t.Parallel()
	s := serve(t, halcyon)
	if _, err := original(t, s, "stats"); err != nil {
		t.Error(err)
	}
}

// synced is what the sync script is answered.
type synced struct{ Posts, Pages syncCounts }

type syncCounts struct{ Created, Updated, Deleted, Skipped int }

const originalPost = `---
title: "Kingfishers: a field guide"
description: "Where to look, and when"
date: "2026-03-01"
slug: "kingfishers"
published: true
tags: ["birds", "rivers"]
image: "/images/kingfisher.png"
showImageAtTop: true
excerpt: "Early, and by the water."
featured: true
featuredOrder: 1
blogFeatured: true
authorName: "Ada Lovelace"
authorImage: "/images/ada.png"
layout: "sidebar"
rightSidebar: true
showFooter: true
footer: "Thanks for reading"
showSocialFooter: false
aiChat: false
newsletter: true
contactForm: false
unlisted: false
docsSection: true
docsSectionGroup: "Birds"
docsSectionOrder: 1
docsSectionGroupOrder: 2
docsSectionGroupIcon: "Bird"
docsLanding: true
slides: false
---

## When

Early.
`

const originalPage = `---
title: "About the birds"
slug: "about-birds"
published: true
order: 1
showInNav: true
textAlign: "left"
featured: false
excerpt: "Who we are"
---

We like birds.
`

// putFile writes a file, and makes the folder that it is in.
func putFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The original's sync script: it sends everything each time, and what is there already
// is left alone. Nobody but a holder of an admin key may, unless the operator says so.
func TestOriginalSyncScript(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		putFile(t, filepath.Join(folder, name), text)
	}
	put("blog/kingfishers.md", originalPost)
	put("blog/herons.md", strings.NewReplacer("kingfishers", "herons", "Kingfishers", "Herons", "2026-03-01", "2026-04-01").Replace(originalPost))
	put("blog/no-title.md", "---\nslug: x\n---\n")
	put("pages/about.md", originalPage)

	dir := filepath.Join(t.TempDir(), "data")
	key := strings.TrimSpace(run(t, halcyon, dir, "key", "create", "sync-script"))
	s := serveOn(t, halcyon, dir, "HALCYON_SITE_DIR="+t.TempDir())

	if _, err := original(t, s, "sync", folder); err == nil || !strings.Contains(err.Error(), "Could not find public function") {
		t.Errorf("without a key: %v, want it refused", err)
	}
	sync := func(want synced) {
		t.Helper()
		out, err := original(t, s, "sync", folder, key)
		if err != nil {
			t.Fatal(err)
		}
		var got synced
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%s: %v", out, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the script is told (-want +got):\n%s", diff)
		}
	}
	sync(synced{Posts: syncCounts{Created: 2}, Pages: syncCounts{Created: 1}})
	sync(synced{Posts: syncCounts{Skipped: 2}, Pages: syncCounts{Skipped: 1}})

	// Every key of the front matter comes back.
	got := query[map[string]any](s, "posts:getPostBySlug", map[string]any{"slug": "kingfishers"})
	for field, want := range map[string]any{
		"title": "Kingfishers: a field guide", "description": "Where to look, and when", "date": "2026-03-01", "readTime": "1 min read",
		"tags": []any{"birds", "rivers"}, "image": "/images/kingfisher.png", "showImageAtTop": true, "authorName": "Ada Lovelace",
		"content": "## When\n\nEarly.", "layout": "sidebar", "rightSidebar": true, "showFooter": true, "footer": "Thanks for reading",
		"showSocialFooter": false, "aiChat": false, "newsletter": true, "contactForm": false,
	} {
		if diff := cmp.Diff(want, got[field]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", field, diff)
		}
	}
	stats := query[struct{ PublishedPosts, PublishedPages int }](s, "stats:getStats", map[string]any{})
	if stats.PublishedPosts != 2 || stats.PublishedPages != 1 {
		t.Errorf("the statistics know of %+v, want 2 posts and 1 page", stats)
	}

	put("blog/kingfishers.md", strings.Replace(originalPost, "Early.", "Early, and late.", 1))
	if err := os.Remove(filepath.Join(folder, "blog/herons.md")); err != nil {
		t.Fatal(err)
	}
	sync(synced{Posts: syncCounts{Updated: 1, Deleted: 1}, Pages: syncCounts{Skipped: 1}})
}

// A server whose operator opens the sync takes it from everybody.
func TestOriginalSyncScriptWithoutAKey(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	putFile(t, filepath.Join(folder, "blog", "kingfishers.md"), originalPost)
	putFile(t, filepath.Join(folder, "pages", "about.md"), originalPage)
	s := serve(t, halcyon, "HALCYON_SITE_DIR="+t.TempDir(), "HALCYON_SITE_SYNC=open")
	out, err := original(t, s, "sync", folder)
	if err != nil || !strings.Contains(out, `"created":1`) {
		t.Errorf("%s, %v; want it synced", out, err)
	}
}
