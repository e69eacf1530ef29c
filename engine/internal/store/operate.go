package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// ErrExists reports that a checkpoint would go where something is already.
var ErrExists = errors.New("there is something in that place already")

// Checkpoint makes a copy of the store in a folder that must not exist, by
// hard links where the file system has them, while writes go on. What was
// applied before the call is in it; of later batches it has the first ones, or
// none. check is called with the copy, which it may open to read, before it gets its name:
// a folder with that name is complete, synced and was checked.
func (s *Store) Checkpoint(fs vfs.FS, dir string, check func(partial string) error) error {
	if fs == nil {
		fs = vfs.Default
	}
	if _, err := fs.Stat(dir); err == nil {
		return fmt.Errorf("checkpoint to %s: %w", dir, ErrExists)
	} else if !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("checkpoint to %s: %w", dir, err)
	}
	partial := dir + ".partial" // also of an attempt that a crash cut short
	err := fs.RemoveAll(partial)
	if err == nil {
		err = s.checkpoint(partial)
	}
	if err == nil {
		err = check(partial)
	}
	if err == nil {
		err = fs.Rename(partial, dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("checkpoint to %s: %w", dir, err), fs.RemoveAll(partial))
	}
	return syncFolder(fs, fs.PathDir(dir))
}

// checkpoint is Pebble's, which panics with some errors of the disk. It holds no
// lock where it does.
func (s *Store) checkpoint(dir string) (err error) {
	defer func() {
		if cause := diskError(recover()); cause != nil {
			err = cause
		}
	}()
	return s.db.Checkpoint(dir, pebble.WithFlushedWAL())
}

func syncFolder(fs vfs.FS, dir string) error {
	if dir == "" {
		dir = "."
	}
	f, err := fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// Compact rewrites all files, so that what was removed or replaced is gone from
// them. Writes and reads go on, slower.
func (s *Store) Compact(ctx context.Context) error {
	if err := s.flushes.run(s.db); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	if err := s.db.Compact(ctx, []byte{0}, []byte{0xff}, true); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	return nil
}

// Statistics are figures of a store as of one moment.
type Statistics struct {
	DiskBytes          uint64  // of all files
	LogBytes           uint64  // of the write-ahead log, what is live in it
	MemTableBytes      uint64  // not yet flushed
	CacheBytes         int64   // in the block cache
	CacheHits          int64   // since the store was opened
	CacheMisses        int64   // since the store was opened
	Levels             []Level // those that hold something, the newest first
	ReadAmplification  int     // files that a read may have to look into
	CompactionDebt     uint64  // bytes to be compacted until the levels are in shape, estimated
	Compactions        int64   // since the store was opened
	Flushes            int64   // since the store was opened
	Snapshots          int     // open
	PinnedBytes        uint64  // written again for open snapshots alone, since the store was opened
	CompactionsRunning int64   // at this moment
}

// Level is one level of the store's files.
type Level struct {
	Level int
	Files int64
	Bytes int64
}

// Statistics returns figures of the store.
func (s *Store) Statistics() Statistics {
	m := s.db.Metrics()
	out := Statistics{
		DiskBytes: m.DiskSpaceUsage(), LogBytes: m.WAL.Size, MemTableBytes: m.MemTable.Size,
		CacheBytes: m.BlockCache.Size, CacheHits: m.BlockCache.Hits, CacheMisses: m.BlockCache.Misses,
		ReadAmplification: m.ReadAmp(), CompactionDebt: m.Compact.EstimatedDebt, Compactions: m.Compact.Count,
		CompactionsRunning: m.Compact.NumInProgress, Flushes: m.Flush.Count,
		Snapshots: m.Snapshots.Count, PinnedBytes: m.Snapshots.PinnedSize,
	}
	for i, l := range m.Levels {
		if l.TablesCount > 0 {
			out.Levels = append(out.Levels, Level{Level: i, Files: l.TablesCount, Bytes: l.TablesSize})
		}
	}
	return out
}
