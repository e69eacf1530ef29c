package engine

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// How often the room on the disk is looked at: when something wants to write
// and a second has passed, or that many bytes were written, since the last time.
const (
	diskLookEvery = time.Second
	diskLookBytes = 16 << 20
)

// diskWatch knows whether the disk is too full to write. It has no goroutine:
// who wants to write looks, and a database in which nobody does fills no disk.
type diskWatch struct {
	db      *DB
	next    atomic.Int64 // of the clock, in microseconds; when to look again
	written atomic.Int64 // bytes since the last look
	full    atomic.Bool
	mu      struct {
		sync.Mutex // held during a look, so that one is told at a time
		last       DiskStatistics
	}
}

// DiskStatistics are what was last known of the disk, in bytes. All are 0 where
// the file system cannot tell.
type DiskStatistics struct {
	Free  uint64
	Total uint64
	Min   uint64 // below which transactions that write are refused
	Full  bool   // they are
}

func newDiskWatch(db *DB) *diskWatch {
	return &diskWatch{db: db}
}

// refuse returns ErrDiskFull, with the figures, when nothing may be written.
func (w *diskWatch) refuse(now time.Time) error {
	at := now.UnixMicro()
	if next := w.next.Load(); (at >= next || w.written.Load() >= diskLookBytes && next != math.MaxInt64) &&
		w.next.CompareAndSwap(next, at+diskLookEvery.Microseconds()) {
		w.look()
	}
	if !w.full.Load() {
		return nil
	}
	d := w.statistics()
	return fmt.Errorf("%w: %d MiB are free, %d MiB are to stay so", ErrDiskFull, d.Free>>20, d.Min>>20)
}

// wrote counts what goes to the disk.
func (w *diskWatch) wrote(bytes int) { w.written.Add(int64(bytes)) }

func (w *diskWatch) look() {
	w.written.Store(0)
	o := &w.db.o
	w.mu.Lock()
	defer w.mu.Unlock()
	// The lock is kept during the question, so that two answers cannot change
	// places. Only who finds the disk full waits for it.
	d, known, err := w.db.store.Disk()
	if err != nil {
		o.Logger.Warn("the room on the disk is not known", "error", err)
		return // what was known stays
	}
	if !known || o.DiskFreeMin < 0 && o.DiskFreeMinRatio < 0 {
		w.next.Store(math.MaxInt64)
	}
	if !known {
		return
	}
	least := max(float64(o.DiskFreeMin), o.DiskFreeMinRatio*float64(d.Total), 0)
	was := w.full.Load()
	if was {
		least += least / 16 // so that it does not change from one second to the next
	}
	full := float64(d.Free) < least
	w.mu.last = DiskStatistics{Free: d.Free, Total: d.Total, Min: uint64(least), Full: full}
	w.full.Store(full)
	if tell := w.db.events.Disk; full != was && tell != nil {
		// Under the lock, so that the last one told is how it is.
		tell(w.mu.last)
	}
}

func (w *diskWatch) statistics() DiskStatistics {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.last
}
