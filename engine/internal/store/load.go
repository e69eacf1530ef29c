package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// tableBytesMax is how many bytes of keys and values go into one file of Tables.
// Compressed they are a few times smaller, about as large as the files that
// compactions make.
const tableBytesMax = 64 << 20

// lowestLevel is where files come to lie that overlap nothing.
const lowestLevel = 6

// LoadDir returns the folder for the files of a load, inside of the store's own.
// What is in it goes when the store is opened.
func (s *Store) LoadDir() string { return s.fs.PathJoin(s.dir, "load") }

// Tables writes keys that come in order into files for Ingest. It is not safe for
// concurrent use.
type Tables struct {
	s     *Store
	name  string
	paths []string
	w     *sstable.Writer
	last  []byte
	bytes int   // in the file being written
	total int64 // in all files
}

// NewTables returns a writer whose files are in LoadDir, which must be there, and
// have names that begin with name.
func (s *Store) NewTables(name string) *Tables { return &Tables{s: s, name: name} }

// ErrOrder says that a key is not above the one before it.
var ErrOrder = errors.New("a key is not above the one before it")

// Set adds a key, which must be above the one before; key and value are copied.
// Error: ErrOrder.
func (t *Tables) Set(key, val []byte) error {
	if (t.w != nil || len(t.paths) > 0) && bytes.Compare(t.last, key) >= 0 {
		return fmt.Errorf("%w: %x after %x", ErrOrder, key, t.last)
	}
	if t.w == nil {
		path := t.s.fs.PathJoin(t.s.LoadDir(), fmt.Sprintf("%s-%d.sst", t.name, len(t.paths)))
		f, err := t.s.fs.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		t.paths = append(t.paths, path)
		t.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), t.s.o.MakeWriterOptions(lowestLevel, t.s.db.TableFormat()))
	}
	if err := t.w.Set(key, val); err != nil {
		return err
	}
	t.last = append(t.last[:0], key...)
	t.bytes += len(key) + len(val)
	t.total += int64(len(key) + len(val))
	if t.bytes >= tableBytesMax {
		return t.finish()
	}
	return nil
}

// finish ends the file being written; it is on disk then.
func (t *Tables) finish() error {
	if t.w == nil {
		return nil
	}
	err := t.w.Close()
	t.w, t.bytes = nil, 0
	return err
}

// Finish ends writing and returns the files, which are synced.
func (t *Tables) Finish() (paths []string, err error) { return t.paths, t.finish() }

// Close ends a writer that was given up. It does no harm after Finish.
func (t *Tables) Close() error { return t.finish() }

// Bytes returns the size of all keys and values so far.
func (t *Tables) Bytes() int64 { return t.total }

// Ingest makes files of Tables part of the store, all at once and durably, or
// none. Snapshots taken before do not see them. The keys must not be in the
// store, and the files must not overlap. On success the files are gone from where
// they were.
func (s *Store) Ingest(ctx context.Context, paths []string) (err error) {
	defer func() {
		if cause := diskError(recover()); cause != nil {
			s.broken.Store(true)
			err = fmt.Errorf("take files over: %w", cause)
		}
	}()
	if err := s.db.Ingest(ctx, paths); err != nil {
		return fmt.Errorf("take files over: %w", err)
	}
	return nil
}
