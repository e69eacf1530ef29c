package store

import (
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// flushPatience is how long flushes may fail, one after the other, until the
// store gives up. The next one begins at once, so that meanwhile a processor is
// busy with it, and before long writes wait for it.
const flushPatience = 3 * time.Second

// nothingFlushed is the text of what Pebble reports as the error of a flush that
// has succeeded and had nothing to write. It does not export the error.
const nothingFlushed = "pebble: empty table"

// flushes watches the flushes of memtables. Pebble tries one that failed again
// for ever and tells nobody who waits: on a full disk nothing would go on, and
// nothing would be said. The zero value is usable.
type flushes struct {
	mu struct {
		sync.Mutex
		failing time.Time               // since when, zero when the last one succeeded
		waiting map[chan error]struct{} // told of the next failure; each has room for it
	}
}

// listener returns what tells of flushes. When they fail for too long it calls
// fatal, from a goroutine that holds locks of Pebble.
func (f *flushes) listener(fatal func(error)) pebble.EventListener {
	return pebble.EventListener{FlushEnd: func(i pebble.FlushInfo) {
		err := i.Err
		if err != nil && err.Error() == nothingFlushed {
			err = nil
		}
		if f.ended(err, time.Now()) {
			fatal(fmt.Errorf("the store cannot write its files: %w", err))
		}
	}}
}

// ended notes the end of a flush and reports whether it is time to give up.
func (f *flushes) ended(err error, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.mu.failing = time.Time{}
		return false
	}
	for w := range f.mu.waiting {
		w <- err
	}
	clear(f.mu.waiting)
	if f.mu.failing.IsZero() {
		f.mu.failing = now
	}
	return now.Sub(f.mu.failing) > flushPatience
}

// run flushes the memtable. Unlike Pebble's own Flush it ends when that fails.
func (f *flushes) run(db *pebble.DB) error {
	failed := make(chan error, 1)
	f.mu.Lock()
	if f.mu.waiting == nil {
		f.mu.waiting = map[chan error]struct{}{}
	}
	f.mu.waiting[failed] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.mu.waiting, failed)
	}()
	done, err := db.AsyncFlush()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case err := <-failed:
		return fmt.Errorf("flush: %w", err)
	}
}
