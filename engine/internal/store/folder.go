package store

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// inspectFolder refuses a folder in which Pebble would begin a new store beside
// something else: beside what is not ours, as when the wrong folder was named,
// and beside files of a store whose manifest nothing points to any more, where
// it would begin an empty one without a word.
func inspectFolder(dir string, fs vfs.FS) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("list the folder: %w", err)
	}
	foreign, data := "", ""
	for _, name := range names {
		switch {
		case strings.HasPrefix(name, "marker.manifest."):
			return nil
		case name == "CURRENT":
			return fmt.Errorf("%w: a store of another program", ErrNotDatabase)
		case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".log"):
			data = name
		case !beginning(name):
			foreign = name
		}
	}
	switch {
	case foreign != "":
		return fmt.Errorf("%w: it has no store in it and a file %s", ErrNotDatabase, foreign)
	case data != "":
		return fmt.Errorf("%w: %s is there and the file marker.manifest that begins a store is not", ErrCorrupt, data)
	}
	return nil
}

// beginning reports whether a file may be there before a store is: what the
// system puts into folders, and what a crash leaves that came while Pebble made
// the first files.
func beginning(name string) bool {
	for _, prefix := range []string{".", "marker.", "MANIFEST-", "OPTIONS-", "temporary."} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return name == "LOCK" || name == "lost+found" || name == ballastName || strings.HasSuffix(name, ".dbtmp")
}

// missingError marks a file that Pebble looked for and did not find: the
// manifest or the marker of the manifest names it.
func missingError(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: a file is missing: %w", ErrCorrupt, err)
	}
	return err
}

// empty reports whether the store has no key at all.
func (s *Store) empty() (bool, error) {
	it, err := s.db.NewIter(nil)
	if err != nil {
		return false, readError(err)
	}
	found := it.First()
	return !found, errors.Join(it.Error(), it.Close())
}

// lockError tells a lock that somebody holds from any other failure: the
// system answers EAGAIN or EACCES for another process, and Pebble a plain text
// for the same one.
func lockError(dir string, err error) error {
	var path *os.PathError
	held := !errors.As(err, &path) && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES))
	if held || strings.Contains(err.Error(), "held by current process") {
		return fmt.Errorf("open %s: %w", dir, ErrLocked)
	}
	return openError(dir, fmt.Errorf("lock the folder: %w", err))
}

// openError puts an error of an opening into its class. Pebble marks most of
// what is corrupt and tells the rest in words, which a test holds it to.
func openError(dir string, err error) error {
	text := err.Error()
	class := error(nil)
	switch {
	case errors.Is(err, ErrNotDatabase), errors.Is(err, ErrCorrupt):
	case errors.Is(err, pebble.ErrDBDoesNotExist), strings.Contains(text, "comparer name from file"), strings.Contains(text, "merger name from file"):
		class = ErrNotDatabase
	case pebble.IsCorruptionError(err), strings.Contains(text, "object size mismatch"):
		class = ErrCorrupt
	case strings.Contains(text, "unknown format major version"):
		class = ErrNewerFormat
	case errors.Is(err, os.ErrPermission), errors.Is(err, syscall.EROFS):
		class = ErrPermission
	}
	if class == nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	return fmt.Errorf("open %s: %w: %w", dir, class, err)
}
