package site

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

// age makes files of the folder look as if they had been written a minute ago.
func (w *world) age(names ...string) {
	w.t.Helper()
	w.written(-time.Minute, names...)
}

// written makes files of the folder look as if they had been written so much later than now.
func (w *world) written(later time.Duration, names ...string) {
	w.t.Helper()
	then := time.Now().Add(later)
	for _, name := range names {
		if err := os.Chtimes(filepath.Join(w.dir, name), then, then); err != nil {
			w.t.Fatal(err)
		}
	}
}

func TestLookReadsOnlyWhatMayHaveChanged(t *testing.T) {
	w := newWorld(t, nil)
	first := map[string]string{"blog/a.md": "---\ntitle: Aa\ndate: 2026-01-01\n---\n", "pages/b.md": "---\ntitle: Bb\n---\n"}
	writeFiles(t, w.dir, first)
	w.written(time.Hour, "blog/a.md", "pages/b.md") // just now, however long the test takes to look
	looker := &watcher{site: w.site}
	look := func(what string, want bool) {
		t.Helper()
		changed, err := looker.look(t.Context(), w.app)
		if err != nil || changed != want {
			t.Errorf("%s: read %v, %v; want %v", what, changed, err, want)
		}
	}
	look("at first", true)
	look("files that were just written", true)
	w.age("blog/a.md", "pages/b.md")
	look("other times", true)
	before := w.app.Durable()
	look("nothing new", false)

	// The same size, within the same step of the file system's clock.
	writeFiles(t, w.dir, map[string]string{"blog/a.md": "---\ntitle: Ab\ndate: 2026-01-01\n---\n"})
	look("another text", true)
	writeFiles(t, w.dir, map[string]string{"blog/a.md": "---\ntitle: Ac\ndate: 2026-01-01\n---\n"})
	look("once more", true)
	if got := w.titles("a").Title; got != "Ac" {
		t.Errorf("got title %q, want the last one", got)
	}
	w.age("blog/a.md")
	look("its time", true)

	writeFiles(t, w.dir, map[string]string{"pages/.hidden.md": "x", "pages/c.txt": "x"})
	look("files of others", false)
	w.remove("blog/a.md")
	look("a removed file", true)
	if got := w.titles("a"); got.OK {
		t.Error("a removed post is there")
	}
	if after := w.app.Durable(); after <= before {
		t.Error("nothing was written")
	}
	if err := os.RemoveAll(w.dir); err != nil {
		t.Fatal(err)
	}
	look("no folder", true)
	look("still no folder", false)
	if got := w.titles("b"); !got.OK {
		t.Error("the pages are gone with the folder")
	}
	writeFiles(t, w.dir, first)
	look("the folder is back", true)
	if got := w.titles("a").Title; got != "Aa" {
		t.Errorf("got title %q", got)
	}
}

// Files are published while the app runs, in the order in which they are written.
func TestFolderIsWatched(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, files())
	s := New(Options{Dir: dir, WatchInterval: time.Millisecond})
	synced := make(chan syncResult)
	s.synced = func(result syncResult, err error) {
		if err != nil {
			t.Error(err)
		}
		if result != (syncResult{Skipped: result.Skipped}) {
			select {
			case synced <- result:
			case <-t.Context().Done():
			}
		}
	}
	app, err := halcyon.NewApp(s.Modules()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open("data", memory(nil)); err != nil {
		t.Fatal(err)
	}
	started := make(chan error, 1)
	go func() { started <- app.Start(t.Context()) }()
	if diff := cmp.Diff(syncResult{Created: 8}, <-synced); diff != "" {
		t.Errorf("at start (-want +got):\n%s", diff)
	}
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dir, map[string]string{"blog/third.md": "---\ntitle: Third\ndate: 2026-01-01\n---\n"})
	if got := <-synced; got.Created != 1 || got.Updated != 0 || got.Deleted != 0 {
		t.Errorf("a new file: got %+v", got)
	}
	if err := os.Remove(filepath.Join(dir, "blog", "third.md")); err != nil {
		t.Fatal(err)
	}
	if got := <-synced; got.Deleted != 1 || got.Created != 0 {
		t.Errorf("a removed file: got %+v", got)
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
}
