package stats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/halcyon-db/halcyon/apps/stats/internal/accesslog"
)

const (
	// followEvery is how often a followed log is looked at.
	followEvery = time.Second

	// followIdle is after how many looks at which nothing had come the views that
	// are held back for ordering are counted: nothing earlier will come.
	followIdle = int(accesslog.Window / followEvery)

	// followLast is how many looks are taken at a log whose name stands for another file
	// by now: servers write to the old one until they have been told.
	followLast = 3
)

// waitFor waits, or until the context ends.
func waitFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// followFile counts a log and what is appended to it until the context ends. When
// the name stands for another file, the old one is read to its end and the new one
// from its beginning; when the file was cut, it is read from its beginning.
func (r *importRun) followFile(ctx context.Context, name string) error {
	r.progress.total = 0
	missing, begun := false, false
	for {
		l, in, err := r.find(ctx, name)
		if err == nil && (l.file == nil || accesslog.IsPacked(l.file)) {
			return errors.Join(fmt.Errorf("import %s: --follow takes a regular file that is not packed", name), l.close())
		}
		if err == nil {
			err = r.begin(ctx, l, in)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission) && begun:
			// After a rotation the new file is there before those may read it who are to.
			if !missing {
				missing = true
				r.tell("waiting for %s: %v", name, errors.Unwrap(err))
			}
			if r.wait(ctx, followEvery) != nil {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("import %s: %w", name, err)
		}
		missing, begun = false, true
		ended, err := r.followOne(ctx, name, l)
		if err := errors.Join(err, l.close()); err != nil {
			return fmt.Errorf("import %s: %w", name, err)
		}
		if ended {
			return errStopped
		}
	}
}

// errStopped says that the run was told to stop before it was done. That is how
// --follow ends; its keys stay for the run that goes on.
var errStopped = errors.New("stopped")

// followOne counts one file until the context ends, which it reports, or the file
// is over.
func (r *importRun) followOne(ctx context.Context, name string, l *openLog) (stopped bool, err error) {
	idle, last := 0, 0
	for {
		before, cut := l.Lines(), l.isCut()
		if cut {
			l.heads = nil // what stands there now is another log, which is read from its beginning
		} else if err := r.readOn(ctx, l); !errors.Is(err, io.EOF) {
			switch {
			case ctx.Err() == nil:
				return false, err
			case l.failed:
				return true, nil // the next run goes on where this one had come to before
			default:
				// What was read is noted: the next run goes on behind it.
				return true, r.flush(context.WithoutCancel(ctx), l, false)
			}
		}
		idle++
		if l.Lines() > before {
			idle = 0
		}
		over := cut || last == followLast
		if over || idle == followIdle {
			l.views, _ = l.Finish(l.views) // a last line that is not whole may become so
		}
		if over || len(l.views) > 0 || l.Lines() > l.lines {
			r.visitors.forget(l.Mark().Low)
			if err := r.flush(context.WithoutCancel(ctx), l, over); err != nil {
				return false, err
			}
		}
		if over {
			return false, nil
		}
		if r.wait(ctx, followEvery) != nil {
			return true, nil
		}
		if last > 0 || l.isMoved(name) {
			last++
		}
	}
}

// isCut reports whether a followed file does not begin any more as it did, or is shorter
// than what was read of it.
func (l *openLog) isCut() bool {
	open, err := l.file.Stat()
	if err != nil || open.Size() < l.Mark().Position {
		return true
	}
	if l.row.Heads == 0 {
		return false
	}
	heads, err := l.heads()
	return err == nil && (len(heads) < l.row.Heads || heads[l.row.Heads-1] != l.row.Head)
}

// isMoved reports whether a name stands for another file than the one that is open. One
// that was moved away is not, as long as the new one is not there yet.
func (l *openLog) isMoved(name string) bool {
	open, err := l.file.Stat()
	if err != nil {
		return false
	}
	named, err := os.Stat(name)
	return err == nil && !os.SameFile(open, named)
}
