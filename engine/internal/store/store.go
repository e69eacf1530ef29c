package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// FormatVersion is the version of the whole on-disk layout, written into a new
// store and checked at every open. docs/format/keys.md describes it.
const FormatVersion = 1

// Errors that callers branch on.
var (
	ErrLocked      = errors.New("the folder is in use by another process")
	ErrNewerFormat = errors.New("the folder was written by a newer version")
	ErrCorrupt     = errors.New("stored data is corrupt")
	ErrNotDatabase = errors.New("the folder holds something else than a database")
	ErrPermission  = errors.New("the folder may not be read or written by this user")
)

// formatKey holds FormatVersion as four big-endian bytes.
var formatKey = []byte("mformat")

// Options are the settings of a store. The zero value is usable.
type Options struct {
	FS           vfs.FS // default: the operating system's
	CacheBytes   int64  // block cache; default 64 MiB
	MemTableSize uint64 // default 4 MiB: larger ones make scans over hot keys slow
	Logger       *slog.Logger
	ReadOnly     bool             // nothing is written; the folder must hold a store
	OnFlush      func(Flush)      // nil: nobody listens
	OnCorruption func(Corruption) // likewise
	// BallastBytes is the room that a file without content takes, see keepBallast.
	BallastBytes int64
	// Fatal is called when the disk can no longer be trusted (a failed write to
	// the write-ahead log). The default logs and ends the process: an fsync that
	// failed once must never be retried.
	Fatal func(error)
}

// Store is an open folder. All methods are safe for concurrent use.
type Store struct {
	db    *pebble.DB
	lock  *pebble.Lock
	fs    vfs.FS
	dir   string
	o     *pebble.Options // with all defaults, for who writes files
	cache *pebble.Cache

	flushes flushes
	broken  atomic.Bool // Pebble is in no state to be closed
}

// Open opens or creates the store in dir.
//
// Errors: ErrLocked, ErrNewerFormat, ErrCorrupt, ErrNotDatabase, ErrPermission,
// each wrapped with the folder.
func Open(dir string, o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.MemTableSize == 0 {
		o.MemTableSize = 4 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Fatal == nil {
		o.Fatal = func(error) { os.Exit(1) }
	}
	cache := pebble.NewCache(o.CacheBytes)
	po := &pebble.Options{
		FS:                 o.FS,
		Cache:              cache,
		MemTableSize:       o.MemTableSize,
		Logger:             pebbleLogger{o.Logger, o.Fatal},
		FormatMajorVersion: pebble.FormatNewest,
		WALBytesPerSync:    512 << 10,
		BytesPerSync:       512 << 10,
		MaxOpenFiles:       1000,
		EventListener:      listener(o),
	}
	for i := range po.Levels {
		po.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	s := &Store{cache: cache, fs: o.FS, dir: dir}
	po.AddEventListener(s.flushes.listener(o.Fatal))
	if o.ReadOnly {
		po.ReadOnly, po.ErrorIfNotExists = true, true
	} else if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, errors.Join(openError(dir, fmt.Errorf("create the folder: %w", err)), s.Close())
	}
	err := inspectFolder(dir, o.FS)
	if err != nil {
		return nil, errors.Join(openError(dir, err), s.Close())
	}
	if s.lock, err = pebble.LockDirectory(dir, o.FS); err != nil {
		return nil, errors.Join(lockError(dir, err), s.Close())
	}
	po.Lock = s.lock
	if !o.ReadOnly {
		switch freed, err := keepBallast(o.FS, dir, o.BallastBytes); {
		case err != nil:
			// It is a help, not a condition.
			o.Logger.Warn("the ballast file cannot be kept", "dir", dir, "error", err)
		case freed:
			o.Logger.Warn("the disk is full; the ballast file was given up", "dir", dir, "bytes", o.BallastBytes)
		}
	}
	if s.db, err = openPebble(dir, po); err != nil {
		return nil, errors.Join(openError(dir, missingError(err)), s.Close())
	}
	if err := s.checkFormat(dir, o.ReadOnly); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	s.o = po.Clone()
	s.o.EnsureDefaults()
	if !o.ReadOnly {
		// What a load left that a crash cut short.
		if err := o.FS.RemoveAll(s.LoadDir()); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: remove the files of a load: %w", dir, err), s.Close())
		}
	}
	return s, nil
}

// openPebble is pebble.Open, which panics with some errors of the disk.
func openPebble(dir string, o *pebble.Options) (db *pebble.DB, err error) {
	defer func() {
		if cause := diskError(recover()); cause != nil {
			db, err = nil, cause
		}
	}()
	return pebble.Open(dir, o)
}

func (s *Store) checkFormat(dir string, readOnly bool) error {
	got, ok, err := get(s.db, formatKey)
	switch {
	case err != nil:
		return fmt.Errorf("open %s: read the format version: %w", dir, err)
	case !ok && readOnly:
		return fmt.Errorf("open %s: %w: it has no format version", dir, ErrCorrupt)
	case !ok:
		if empty, err := s.empty(); err != nil {
			return fmt.Errorf("open %s: look for a key: %w", dir, err)
		} else if !empty {
			return fmt.Errorf("open %s: %w: a store of another program", dir, ErrNotDatabase)
		}
		v := binary.BigEndian.AppendUint32(nil, FormatVersion)
		if err := s.db.Set(formatKey, v, pebble.Sync); err != nil {
			return fmt.Errorf("open %s: write the format version: %w", dir, err)
		}
		// Pebble begins the first log of a folder in its oldest format, in which
		// replay takes damage for the end of the log. The next one has the offsets
		// that tell them apart.
		if err := s.flushes.run(s.db); err != nil {
			return fmt.Errorf("open %s: begin a new log: %w", dir, err)
		}
		return nil
	case len(got) != 4:
		return fmt.Errorf("open %s: %w: format version has %d bytes", dir, ErrCorrupt, len(got))
	case binary.BigEndian.Uint32(got) > FormatVersion:
		return fmt.Errorf("open %s: %w: format %d, this program knows up to %d",
			dir, ErrNewerFormat, binary.BigEndian.Uint32(got), FormatVersion)
	}
	return nil
}

// Close closes the store. Every snapshot must have been released.
func (s *Store) Close() error {
	if s.broken.Load() {
		return errors.New("close the store: its log has failed, it stays as it is until the process ends")
	}
	var errs []error
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	s.cache.Unref()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close the store: %w", err)
	}
	return nil
}

// FS returns the file system that the store is on.
func (s *Store) FS() vfs.FS { return s.fs }

// Size returns the bytes on disk that the keys in [start, end) take, estimated.
func (s *Store) Size(start, end []byte) (uint64, error) { return s.db.EstimateDiskUsage(start, end) }

// NewSnapshot returns the state as it is now, with one reference.
func (s *Store) NewSnapshot() *Snapshot {
	sn := &Snapshot{snap: s.db.NewSnapshot()}
	sn.refs.Store(1)
	return sn
}

// Snapshot is one state of the store. It is safe for concurrent use.
type Snapshot struct {
	snap *pebble.Snapshot
	refs atomic.Int64
}

// Retain adds a reference. The caller must hold one already.
func (s *Snapshot) Retain() { s.refs.Add(1) }

// Release drops a reference; the last one closes the snapshot.
func (s *Snapshot) Release() {
	if s.refs.Add(-1) == 0 {
		// Close fails only when it is called twice, which the count excludes.
		_ = s.snap.Close()
	}
}

// Get returns a copy of the value under key.
func (s *Snapshot) Get(key []byte) (val []byte, ok bool, err error) { return get(s.snap, key) }

type getter interface {
	Get(key []byte) ([]byte, io.Closer, error)
}

func get(g getter, key []byte) ([]byte, bool, error) {
	v, closer, err := g.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, readError(err)
	}
	out := make([]byte, len(v))
	copy(out, v)
	return out, true, closer.Close()
}

func readError(err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return err
}

// Iterator walks keys in order. Key and Value are valid until the next move.
type Iterator struct{ it *pebble.Iterator }

// Iterate returns an unpositioned iterator over [start, end); nil end means no
// upper bound. The caller closes it.
func (s *Snapshot) Iterate(start, end []byte) (*Iterator, error) {
	if len(start) == 0 {
		start = nil // an empty bound that is not nil breaks Pebble's own checks
	}
	it, err := s.snap.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return nil, readError(err)
	}
	return &Iterator{it}, nil
}

// First moves to the first key and, like every move, reports whether there is one.
func (i *Iterator) First() bool { return i.it.First() }

// Last moves to the last key.
func (i *Iterator) Last() bool { return i.it.Last() }

// Next moves to the next greater key.
func (i *Iterator) Next() bool { return i.it.Next() }

// Prev moves to the next smaller key.
func (i *Iterator) Prev() bool { return i.it.Prev() }

// SeekGE moves to the first key at or after k.
func (i *Iterator) SeekGE(k []byte) bool { return i.it.SeekGE(k) }

// SeekLT moves to the last key before k.
func (i *Iterator) SeekLT(k []byte) bool { return i.it.SeekLT(k) }

// Key returns the key the iterator stands on.
func (i *Iterator) Key() []byte { return i.it.Key() }

// Value returns the value under that key.
func (i *Iterator) Value() []byte { return i.it.Value() }

// Err returns what stopped the iterator early, if anything did.
func (i *Iterator) Err() error {
	if err := i.it.Error(); err != nil {
		return readError(err)
	}
	return nil
}

// InternalSteps returns how many keys the store went over so far, versions that
// are not the newest and removed keys included.
func (i *Iterator) InternalSteps() int {
	s := i.it.Stats()
	return s.ForwardStepCount[pebble.InternalIterCall] + s.ReverseStepCount[pebble.InternalIterCall]
}

// Close frees the iterator.
func (i *Iterator) Close() error { return i.it.Close() }

// Batch collects changes that are applied together.
type Batch struct{ b *pebble.Batch }

// NewBatch returns an empty batch.
func (s *Store) NewBatch() *Batch { return &Batch{s.db.NewBatch()} }

// Set puts a value; key and value are copied.
func (b *Batch) Set(key, val []byte) error { return b.b.Set(key, val, nil) }

// Delete removes a key.
func (b *Batch) Delete(key []byte) error { return b.b.Delete(key, nil) }

// DeleteRange removes the keys in [start, end).
func (b *Batch) DeleteRange(start, end []byte) error { return b.b.DeleteRange(start, end, nil) }

// Empty reports whether the batch changes nothing.
func (b *Batch) Empty() bool { return b.b.Empty() }

// Len returns the size of the batch in bytes.
func (b *Batch) Len() int { return b.b.Len() }

// Pending is a batch that is visible and not yet known to be durable.
type Pending struct{ b *pebble.Batch }

// Apply makes the batch visible to every later snapshot and starts writing it
// to disk. The caller must call Wait exactly once on the result.
func (s *Store) Apply(b *Batch) (p *Pending, err error) {
	defer func() {
		// A log that failed while nobody waited for it makes Pebble panic with the
		// error, and keep its locks.
		if cause := diskError(recover()); cause != nil {
			s.broken.Store(true)
			p, err = nil, fmt.Errorf("apply a batch: %w", cause)
		}
	}()
	if err := s.db.ApplyNoSyncWait(b.b, pebble.Sync); err != nil {
		return nil, fmt.Errorf("apply a batch: %w", err)
	}
	return &Pending{b.b}, nil
}

// diskError returns the error that Pebble panicked with; any other panic goes on.
func diskError(recovered any) error {
	if recovered == nil {
		return nil
	}
	err, ok := recovered.(error)
	if _, bug := err.(runtime.Error); !ok || bug {
		panic(recovered)
	}
	return err
}

// Wait returns when the batch is durable. After an error nothing that was
// applied later may be acknowledged.
func (p *Pending) Wait() error {
	if err := p.b.SyncWait(); err != nil {
		return fmt.Errorf("sync the write-ahead log: %w", err)
	}
	return p.b.Close()
}

// ApplyDurably applies the batch and waits until it is durable.
func (s *Store) ApplyDurably(b *Batch) error {
	p, err := s.Apply(b)
	if err != nil {
		return err
	}
	return p.Wait()
}

// Sync returns when everything applied before the call is durable.
func (s *Store) Sync() error {
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync the write-ahead log: %w", err)
	}
	return nil
}

// pebbleLogger hands Pebble's own messages to slog.
type pebbleLogger struct {
	log   *slog.Logger
	fatal func(error)
}

func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("pebble", "message", fmt.Sprintf(format, args...))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf("storage failed: "+format, args...)
	l.log.Error("storage failed, the process must end", "error", err)
	l.fatal(err)
}
