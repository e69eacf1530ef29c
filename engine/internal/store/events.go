package store

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Flush is one flush of memory to files that succeeded.
type Flush struct {
	Input  uint64 // bytes in memory
	Output uint64 // bytes of the files; 0 when nothing was left to be written
	Took   time.Duration
}

// Corruption is a damaged file that a read or a compaction came across.
type Corruption struct {
	Path string
	Err  error // ErrCorrupt
}

// listener returns what tells the caller of Open of flushes and damage. Pebble's
// own listener, where none is set, ends the process over a damaged block. Here
// whoever reads the block gets ErrCorrupt, and what is in other blocks can still
// be read and saved.
func listener(o Options) *pebble.EventListener {
	l := &pebble.EventListener{
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			if tell := o.OnCorruption; tell != nil {
				tell(Corruption{Path: i.Path, Err: fmt.Errorf("%w: %w", ErrCorrupt, i.Details)})
			}
		},
	}
	if tell := o.OnFlush; tell != nil {
		l.FlushEnd = func(i pebble.FlushInfo) {
			if i.Err != nil && i.Err.Error() != nothingFlushed {
				return // what watches flushes tells of it
			}
			f := Flush{Input: i.InputBytes, Took: i.TotalDuration}
			for _, table := range i.Output {
				f.Output += table.Size
			}
			tell(f)
		}
	}
	return l
}
