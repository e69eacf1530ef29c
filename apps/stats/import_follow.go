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
	missing := false
	for {
		l, in, err := r.find(ctx, name)
		if err == nil && l.file == nil {
			return errors.Join(fmt.Errorf("import %s: --follow takes a regular file", name), l.close())
		}
		if err == nil {
			err = r.begin(ctx, l, in)
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if !missing {
				missing = true
				r.tell("waiting for %s", name)
			}
			if r.wait(ctx, followEvery) != nil {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("import %s: %w", name, err)
		}
		missing = false
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
	idle, over := 0, false
	for {
		before := l.Lines()
		if err := r.readOn(ctx, l); !errors.Is(err, io.EOF) {
			if ctx.Err() != nil {
				// What was read is noted: the next run goes on behind it.
				return true, r.flush(context.WithoutCancel(ctx), l, false)
			}
			return false, err
		}
		idle++
		if l.Lines() > before {
			idle = 0
		}
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
		// It is read once more after it was found to be over: what was written
		// until then counts.
		over = isOver(name, l)
	}
}

// isOver reports whether a followed name does not stand for the open file any more,
// or the file was cut.
func isOver(name string, l *openLog) bool {
	open, err := l.file.Stat()
	if err != nil || open.Size() < l.Mark().Position {
		return true
	}
	named, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false // it was moved away, and the new one is not there yet
	}
	return err == nil && !os.SameFile(open, named)
}
