package site

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// A file that is broken while the site runs writes nothing, and is named in the log all
// the same: once, until something else is wrong with it.
func TestFilesThatBreakLaterAreNamed(t *testing.T) {
	const good, named = "---\ntitle: A\ndate: 2026-01-01\n---\n", `msg="content file left out" dir=%s file=blog/a.md`
	w := newWorld(t, map[string]string{"blog/a.md": good})
	looker := &watcher{site: w.site}
	look := func(what, text string, want int) {
		t.Helper()
		writeFiles(t, w.dir, map[string]string{"blog/a.md": text})
		w.log.Reset()
		if _, err := looker.look(t.Context(), w.app); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := strings.Count(w.log.String(), fmt.Sprintf(named, w.dir)); got != want {
			t.Errorf("%s: named %d times, want %d, in\n%s", what, got, want, w.log)
		}
	}
	look("whole", good, 0)
	look("without a date", "---\ntitle: A\n---\n", 1)
	look("still so", "---\ntitle: A\n---\n", 0)
	look("no front matter", "A\n", 1)
	look("mended", good, 0)
	look("without a date again", "---\ntitle: A\n---\n", 1)
	if got := w.titles("a"); !got.OK {
		t.Error("what the file published before is gone")
	}
}

// A folder that can't be synced is no reason not to serve what is there.
func TestStartsWithoutAFolderThatCanBeRead(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"blog": "a file where a folder should be"})
	var log bytes.Buffer
	app, err := halcyon.NewApp(New(Options{Dir: dir, WatchInterval: -1}).Modules()...)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open("data", memory(&log)); err != nil {
		t.Fatal(err)
	}
	if err := app.Start(t.Context()); err != nil {
		t.Errorf("start: %v", err)
	}
	if err := app.Close(); err != nil {
		t.Error(err)
	}
	if got := log.String(); strings.Count(got, `level=WARN msg="content folder not synced"`) != 1 {
		t.Errorf("the log does not say so: %s", got)
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
