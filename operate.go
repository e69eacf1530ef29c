package halcyon

import (
	"context"

	"github.com/halcyon-db/halcyon/engine"
)

// Verify reads all that is stored and checks that it agrees with itself, see engine.DB.Verify. progress, if not nil, is called now and then
// with what was looked at so far. Everything goes on meanwhile. What is wrong is in the report; an error means that it could not go on.
func (a *App) Verify(ctx context.Context, progress func(engine.Report)) (engine.Report, error) {
	r := a.running.Load()
	if r == nil {
		return engine.Report{}, ErrNotOpen
	}
	return r.db.VerifyProgress(ctx, progress)
}

// Compact rewrites the files of the data, so that what was removed or replaced is gone from them too, except from change records that are kept
// yet. It takes time in proportion to the data; everything goes on meanwhile, slower.
func (a *App) Compact(ctx context.Context) error {
	r := a.running.Load()
	if r == nil {
		return ErrNotOpen
	}
	return r.db.Compact(ctx)
}

// Backup makes a copy of the data in a folder that must not exist, while everything goes on. The copy opens as data of its own, and has
// everything that was acknowledged before the call. On the same file system its files are hard links, see engine.DB.Checkpoint.
func (a *App) Backup(ctx context.Context, dir string) (engine.Checkpoint, error) {
	r := a.running.Load()
	if r == nil {
		return engine.Checkpoint{}, ErrNotOpen
	}
	return r.db.Checkpoint(ctx, dir)
}
