//go:build unix

package site

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A pipe nobody writes to: opening it would never return.
func TestReadFolderDoesNotWaitForAPipe(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "pages"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pages", "pipe.md"), 0o600); err != nil {
		t.Skip("no pipes here:", err)
	}
	found, err := readFolder(dir)
	if err != nil || len(found.problems) != 1 || !errors.Is(found.problems[0].err, errNotFile) {
		t.Errorf("got %v, %v", found.problems, err)
	}
}

// A pipe with the name of a picture, likewise.
func TestPicturesDoNotWaitForAPipe(t *testing.T) {
	w := newWorld(t, withPictures())
	if err := syscall.Mkfifo(filepath.Join(w.dir, "images", "pipe.png"), 0o600); err != nil {
		t.Skip("no pipes here:", err)
	}
	if status, _, _ := w.do("GET", "/images/pipe.png"); status != http.StatusNotFound {
		t.Errorf("got status %d", status)
	}
}
