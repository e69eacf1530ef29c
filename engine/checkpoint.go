package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon/engine/internal/store"
)

// Checkpoint is a copy of a database.
type Checkpoint struct {
	Dir   string    // where it is
	At    Timestamp // the newest group of commits in it
	Files int       // how many it has
	Bytes int64     // of all of them; shared with the database as far as they are hard links
}

// Checkpoint makes a copy of the database in a folder of the same file system,
// while everything goes on. The folder must not exist; it appears when the copy
// is whole, is synced and has been opened once to see that it can be. It holds
// exactly the commits up to Checkpoint.At, all of which are durable here when
// Checkpoint returns, and at least those that were durable when it was called.
//
// Files are hard links where the file system has them, so it takes little time
// and at first no space; to keep a copy for good, move it to another disk. To
// restore, open a copy of the folder: it begins above the lease that was
// stored, as after a crash.
//
// Errors: ErrExists, ErrClosed, what the file system says. Nothing is left then.
func (db *DB) Checkpoint(ctx context.Context, dir string) (Checkpoint, error) {
	if err := db.enter(); err != nil {
		return Checkpoint{}, err
	}
	defer db.exit()
	if err := errors.Join(ctx.Err(), db.failure()); err != nil {
		return Checkpoint{}, err
	}
	c := Checkpoint{Dir: dir}
	db.checkpoints.Lock()
	defer db.checkpoints.Unlock()
	err := db.store.Checkpoint(db.o.FS, dir, func(partial string) error {
		if err := db.inspectCopy(partial, &c); err != nil {
			return err
		}
		// The copy may hold a group that is only on its way to our disk.
		return db.wait(ctx, c.At)
	})
	if err != nil {
		return Checkpoint{}, err
	}
	return c, nil
}

// inspectCopy opens a copy to read and says what it holds.
func (db *DB) inspectCopy(dir string, c *Checkpoint) (err error) {
	copied, err := store.Open(dir, store.Options{
		FS: db.o.FS, CacheBytes: 1 << 20, Logger: db.o.Logger, ReadOnly: true,
		Fatal: func(err error) { db.o.Logger.Warn("the copy of the database cannot be read", "error", err) },
	})
	if err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	defer func() { err = errors.Join(err, copied.Close()) }()
	if db.o.Log == nil {
		l, err := newEmbeddedLog(copied)
		if err != nil {
			return fmt.Errorf("read the copy: %w", err)
		}
		c.At = l.mu.head.At
	} else {
		p, err := appliedPosition(copied)
		if err != nil {
			return fmt.Errorf("read the copy: %w", err)
		}
		c.At = p.At
	}
	fs := copied.FS()
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return err
		}
		c.Files++
		c.Bytes += info.Size()
	}
	return nil
}

// Compact rewrites the files of the store, so that what was removed or replaced
// is gone from them too, and reads have fewer files to look into. It takes time
// in proportion to the data; everything goes on meanwhile, slower.
func (db *DB) Compact(ctx context.Context) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.exit()
	if err := ctx.Err(); err != nil {
		return err // the store may not look before it is done
	}
	return db.store.Compact(ctx)
}
