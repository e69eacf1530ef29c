//go:build unix

package site

import (
	"errors"
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
