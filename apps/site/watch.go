package site

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
)

const (
	// settled is how long after its modification a file is taken to be as its
	// stamp says. File systems tell times in steps, of up to two seconds: a file
	// that was written again within one step and kept its size looks unchanged.
	settled = 2 * time.Second

	// restFactor is how many times as long as a look took the watcher rests after
	// it, at least, so that a large folder or a slow disk costs little.
	restFactor = 50
)

// watcher brings the tables in step with the folder whenever that changes. It asks
// the file system for the times and sizes of all files: unlike notifications, this
// also works on network file systems and in containers.
type watcher struct {
	site   *Site
	stamps []stamp
	known  bool // stamps are those of what was read last
	fresh  bool // a file was so new then that its stamp may lie
	failed string
}

// look reads the folder if it may have changed since the last look, and syncs it.
// changed reports whether it read it.
func (w *watcher) look(ctx context.Context, app *halcyon.App) (changed bool, err error) {
	now := time.Now()
	stamps, newest, err := stampFolder(w.site.options.Dir)
	if err != nil {
		return false, fmt.Errorf("look at the content folder: %w", err)
	}
	if w.known && !w.fresh && slices.Equal(stamps, w.stamps) {
		return false, nil
	}
	first := !w.known
	w.stamps, w.known, w.fresh = stamps, true, newest > now.Add(-settled).UnixNano()
	result, err := w.site.sync(ctx, app, first)
	if err != nil {
		w.known = false // and look again
	}
	w.site.synced(result, err)
	return true, err
}

// watch looks at the folder until the context ends, also when that goes wrong: a
// folder that is being moved or is on a disk that is away comes back.
func (w *watcher) watch(ctx context.Context, app *halcyon.App) error {
	interval := w.site.options.WatchInterval
	if interval < 0 {
		return nil
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		began := time.Now()
		w.try(ctx, app)
		timer.Reset(max(interval, restFactor*time.Since(began)))
	}
}

// try looks at the folder. What goes wrong is logged, once for as long as it is the
// same: the site stays as it is, and nothing else that the server does needs the folder.
func (w *watcher) try(ctx context.Context, app *halcyon.App) {
	_, err := w.look(ctx, app)
	switch {
	case err == nil:
		w.failed = ""
	case ctx.Err() == nil && err.Error() != w.failed:
		w.failed = err.Error()
		app.Logger().Warn("content folder not synced", "dir", w.site.options.Dir, "error", err)
	}
}

// sync brings the tables in step with the folder. first says that nothing is known
// of it, so that it is worth a line of the log although nothing changes.
func (s *Site) sync(ctx context.Context, app *halcyon.App, first bool) (syncResult, error) {
	logger := app.Logger().With("dir", s.options.Dir)
	found, err := readFolder(s.options.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		if first {
			logger.Info("no content folder, nothing synced")
		}
		return syncResult{}, nil
	}
	if err != nil {
		return syncResult{}, fmt.Errorf("read the content folder: %w", err)
	}
	var result syncResult
	if err := app.Run(ctx, "site:sync", found.args(), &result); err != nil {
		return syncResult{}, fmt.Errorf("sync the content folder: %w", err)
	}
	if first {
		s.named = nil
	}
	named := make(map[string]string, len(found.problems))
	for _, problem := range found.problems {
		reason := problem.err.Error()
		if s.named[problem.file] != reason {
			logger.Warn("content file left out", "file", problem.file, "reason", reason)
		}
		named[problem.file] = reason
	}
	s.named = named
	if !first && result.Created+result.Updated+result.Deleted == 0 {
		return result, nil
	}
	logger.Info("content synced", "created", result.Created, "updated", result.Updated,
		"deleted", result.Deleted, "unchanged", result.Skipped)
	return result, nil
}
