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

// Backup makes a copy of the data in a folder that must not exist, while everything goes on. The copy opens as data of its own, and has
// everything that was acknowledged before the call. On the same file system its files are hard links, see engine.DB.Checkpoint.
func (a *App) Backup(ctx context.Context, dir string) (engine.Checkpoint, error) {
	r := a.running.Load()
	if r == nil {
		return engine.Checkpoint{}, ErrNotOpen
	}
	return r.db.Checkpoint(ctx, dir)
}
