package stats

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// shiftedClock is the clock of the system, and as much later as the test says.
type shiftedClock struct {
	mu struct {
		sync.Mutex
		by time.Duration
	}
}

func (c *shiftedClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.mu.by)
}

func (c *shiftedClock) AfterFunc(d time.Duration, f func()) (stop func()) {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

func (c *shiftedClock) shift(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.by += d
}

// filesWith returns the files below a folder that have a text in them. Those that the
// store removes meanwhile are not among them.
func filesWith(t *testing.T, dir, text string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		if bytes.Contains(content, []byte(text)) {
			names = append(names, filepath.Base(name))
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestWhatWasDeletedIsErasedFromTheFiles within the time that the guide states.
func TestWhatWasDeletedIsErasedFromTheFiles(t *testing.T) {
	const visitor = "visitor-who-wants-to-be-forgotten"
	dir := t.TempDir()
	clock := new(shiftedClock)
	a := &app{Options: Options{}.withDefaults()}
	var application *halcyon.App
	open := func() {
		t.Helper()
		var err error
		if application, err = halcyon.NewApp(Module(a.Options)); err != nil {
			t.Fatal(err)
		}
		if err := application.Open(dir, &halcyon.Options{Engine: engine.Options{Clock: clock}}); err != nil {
			t.Fatal(err)
		}
	}
	run := func(path string, args, result any) {
		t.Helper()
		if err := application.Run(t.Context(), path, args, result); err != nil {
			t.Fatal(path, err)
		}
	}
	erase := func() {
		t.Helper()
		if err := a.erase(t.Context(), application); err != nil {
			t.Fatal(err)
		}
	}
	open()
	erase() // begins the interval
	run("stats:recordPageView", recordPageViewArgs{Path: "/", PageType: "home", SessionID: visitor}, nil)
	run("stats:heartbeat", heartbeatArgs{SessionID: visitor, CurrentPath: "/"}, nil)
	run("stats:recordPageView", recordPageViewArgs{Path: "/", PageType: "home", SessionID: "another-visitor"}, nil)
	run("stats:forgetVisitor", forgetArgs{visitor}, nil)
	if err := application.Close(); err != nil {
		t.Fatal(err)
	}
	if len(filesWith(t, dir, visitor)) == 0 {
		t.Fatal("the files of the store do not have what was deleted just now: this test finds nothing")
	}
	// Not yet due: nothing is rewritten.
	open()
	clock.shift(a.EraseInterval - time.Hour)
	before := len(filesWith(t, dir, visitor))
	erase()
	if got := len(filesWith(t, dir, visitor)); got != before {
		t.Errorf("%d files had it before it is time, %d after", before, got)
	}
	// Change records are removed after a day, at the next sweep.
	clock.shift(2 * time.Hour)
	if err := application.Close(); err != nil {
		t.Fatal(err)
	}
	open()
	run("stats:recordPageView", recordPageViewArgs{Path: "/x", PageType: "page", SessionID: "another-visitor"}, nil)
	erase()
	// The store removes the files that it has replaced in the background, and ends when
	// they are gone.
	if err := application.Close(); err != nil {
		t.Fatal(err)
	}
	if names := filesWith(t, dir, visitor); len(names) > 0 {
		t.Errorf("%v still have the id of a visitor who was forgotten", names)
	}
	if names := filesWith(t, dir, "another-visitor"); len(names) == 0 {
		t.Error("nobody is left")
	}
}
