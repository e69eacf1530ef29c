package engine

import (
	"context"
	"encoding/binary"
	"log/slog"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Events are called as things happen of which an operator, a page about a
// running program or a test wants to know. A nil field is not called and costs
// nothing. They are called from many goroutines at once, some of which everybody
// waits for: they must be quick and must not call the database.
type Events struct {
	// Conflict: an execution lost to another transaction, or waits for one.
	Conflict func(ConflictEvent)
	// Slow: an execution took more than a quarter of FunctionTimeMax.
	Slow func(SlowEvent)
	// Limit: an execution came to 80 % of a limit of transactions, or past it.
	Limit func(LimitEvent)
	// Scan: a scan went over many more versions than the entries it returned.
	Scan func(ScanEvent)
	// Stray: a function went on after its time and cannot be stopped.
	Stray func(StrayEvent)
	// Build: an index or aggregate is ready, or could not be built, or is held up.
	Build func(BuildEvent)
	// Flush: what was in memory has been written to files.
	Flush func(FlushEvent)
	// Disk: it became too full to write, or has room again.
	Disk func(DiskStatistics)
	// Corruption: a file of the store is damaged. Who reads there gets ErrCorrupt.
	Corruption func(CorruptionEvent)
}

// ConflictPath is what became of an execution that lost.
type ConflictPath string

// The paths.
const (
	// PathTurn: it is executed again in the committer's turn.
	PathTurn ConflictPath = "turn"
	// PathRetry: it is executed again in parallel, and what it has read is reserved.
	PathRetry ConflictPath = "retry"
	// PathParked: it waits for a slower one, which has what it needs reserved.
	PathParked ConflictPath = "parked"
)

// ConflictEvent tells over what two transactions met.
type ConflictEvent struct {
	Function string // that lost or waits
	Writer   string // the function that wrote, or has it reserved
	Table    string // empty for what is in none, as the outcome of a request
	Index    string // the index or aggregate in which the write was read; empty for the document itself
	ID       string // of the document; empty where none is concerned or everything is reserved
	Attempt  int    // how often this call lost or waited, 1 for the first time
	Path     ConflictPath
}

// SlowEvent is an execution that took long.
type SlowEvent struct {
	Function string
	Took     time.Duration
	Write    bool // a mutation
}

// LimitEvent is a limit of one transaction and how far an execution came.
type LimitEvent struct {
	Function string
	Limit    string
	Used     int
	Max      int
}

// ScanEvent is a scan of an index: how many entries it went over, and how many
// versions and removed entries the store had to go over for it.
type ScanEvent struct {
	Function string
	Table    string
	Index    string
	Steps    int
	Internal int
}

// StrayEvent is a run that went on after its time.
type StrayEvent struct {
	Function string
	Runs     int // of this function, this one included; after 3 it is refused
}

// BuildEvent is what became of a build. Err is nil when it is ready. Retry says
// that it will be tried again.
type BuildEvent struct {
	Table string
	Index string
	Err   error
	Retry bool
}

// FlushEvent is one flush.
type FlushEvent = store.Flush

// CorruptionEvent is a damaged file, by its path where that is known.
type CorruptionEvent = store.Corruption

// both calls two listeners.
func both[T any](f, g func(T)) func(T) {
	switch {
	case f == nil:
		return g
	case g == nil:
		return f
	}
	return func(e T) {
		f(e)
		g(e)
	}
}

// With returns events that call e's and then others'.
func (e Events) With(other Events) Events {
	return Events{
		Conflict: both(e.Conflict, other.Conflict), Slow: both(e.Slow, other.Slow), Limit: both(e.Limit, other.Limit),
		Scan: both(e.Scan, other.Scan), Stray: both(e.Stray, other.Stray), Build: both(e.Build, other.Build),
		Flush: both(e.Flush, other.Flush), Disk: both(e.Disk, other.Disk), Corruption: both(e.Corruption, other.Corruption),
	}
}

// LogEvents returns events that write to a log: at level error where a person
// must act, at warn where something is degraded. What happens all the time is
// only listened to when the log takes level debug now.
func LogEvents(log *slog.Logger) Events {
	if !log.Enabled(context.Background(), slog.LevelError) {
		return Events{}
	}
	e := Events{
		Slow: func(e SlowEvent) {
			log.Warn("a function is slow", "function", e.Function, "took", e.Took, "write", e.Write)
		},
		Limit: func(e LimitEvent) {
			log.Warn("a function is close to a limit", "function", e.Function, "limit", e.Limit, "used", e.Used, "max", e.Max)
		},
		Stray: func(e StrayEvent) {
			log.Error("a function ran past its time limit and cannot be stopped", "function", e.Function, "runs", e.Runs)
		},
		Build: func(e BuildEvent) {
			switch attrs := []any{"table", e.Table, "index", e.Index}; {
			case e.Err == nil:
				log.Info("an index is ready", attrs...)
			case e.Retry:
				log.Warn("the build of an index is held up", append(attrs, "error", e.Err)...)
			default:
				log.Error("an index cannot be built, the rest goes on without it", append(attrs, "error", e.Err)...)
			}
		},
		Disk: func(d DiskStatistics) {
			if d.Full {
				log.Error("the disk is nearly full: transactions that write are refused until there is room", "free_bytes", d.Free, "min_bytes", d.Min)
			} else {
				log.Info("the disk has room again: transactions may write", "free_bytes", d.Free)
			}
		},
		Corruption: func(e CorruptionEvent) {
			log.Error("a file of the store is corrupt: restore a backup", "file", e.Path, "error", e.Err)
		},
	}
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return e
	}
	e.Conflict = func(e ConflictEvent) {
		log.Debug("two transactions met", "function", e.Function, "writer", e.Writer, "table", e.Table, "index", e.Index,
			"document", e.ID, "attempt", e.Attempt, "path", string(e.Path))
	}
	e.Scan = func(e ScanEvent) {
		log.Debug("a scan went over many old versions", "function", e.Function, "table", e.Table, "index", e.Index, "steps", e.Steps, "internal_steps", e.Internal)
	}
	e.Flush = func(e FlushEvent) {
		log.Debug("memory was written to files", "bytes_in", e.Input, "bytes_out", e.Output, "took", e.Took)
	}
	return e
}

// met tells of an attempt that was not free. The committer calls it.
func (c *committer) met(m *mutation, v commit.Verdict) {
	m.lost++
	tell := c.db.events.Conflict
	if tell == nil {
		return
	}
	e := ConflictEvent{Function: m.Name, Attempt: m.lost, Path: PathParked}
	switch v {
	case commit.Turn:
		e.Path = PathTurn
	case commit.Reserved:
		e.Path = PathRetry
	}
	met := c.m.Met()
	e.Writer = met.By
	if other, ok := met.Owner.(*mutation); ok {
		e.Writer = other.Name
	}
	e.Table, e.Index, e.ID = c.db.catalog().describe(met.Key)
	tell(e)
}

// describe says in words what a key of a read set is of, as far as this catalog
// knows it.
func (c *catalog) describe(key string) (table, index, id string) {
	if len(key) < 5 {
		return "", "", ""
	}
	number := binary.BigEndian.Uint32([]byte(key[1:]))
	var t *Table
	switch key[0] {
	case keys.PrefixRow:
		t = c.byNumber[number]
	case keys.PrefixIndex:
		if ix := c.indexes[number]; ix != nil {
			t, index = ix.table, ix.Name
		}
	case keys.PrefixEntry:
		if a := c.byID[number]; a != nil {
			t, index = a.table, a.Name
		}
	}
	if t == nil {
		return "", "", ""
	}
	if n := len(key) - keys.DocumentKeySize; n >= 5 {
		id = value.ID{Table: t.Number, Key: [keys.DocumentKeySize]byte([]byte(key[n:]))}.String()
	}
	return t.Name, index, id
}

// slowShare and limitShare are from which parts of their limits on executions
// are told of.
const (
	slowShare  = 4
	limitShare = 0.8
)

// told tells of what an execution took. REQUIRES: it has ended.
func (tx *Tx) told(took time.Duration) {
	e := &tx.db.events
	if e.Slow != nil && took > tx.db.o.FunctionTimeMax/slowShare {
		e.Slow(SlowEvent{Function: tx.name, Took: took, Write: tx.write})
	}
	if e.Limit == nil {
		return
	}
	tx.mu.Lock()
	used := [...]LimitEvent{
		{Limit: "documents read", Used: tx.mu.readDocs, Max: documentsReadMax},
		{Limit: "bytes read", Used: tx.mu.readBytes, Max: bytesReadMax},
		{Limit: "documents and ranges read one by one", Used: tx.mu.reads.Len(), Max: intervalsMax},
		{Limit: "documents written", Used: tx.mu.wroteDocs, Max: documentsWrittenMax},
		{Limit: "bytes written", Used: tx.mu.wroteBytes, Max: bytesWrittenMax},
	}
	tx.mu.Unlock()
	for _, l := range used {
		if float64(l.Used) >= limitShare*float64(l.Max) {
			l.Function = tx.name
			e.Limit(l)
		}
	}
}

// A scan is told of when the store had to go over scanInternalMin keys and over
// scanRatio for each one that it returned.
const (
	scanInternalMin = 1_000
	scanRatio       = 4
)

// scanned counts the steps of a scan that has ended.
func (tx *Tx) scanned(c *cursor, steps, internal int) {
	tx.db.scans.steps.Add(uint64(steps))
	tx.db.scans.internal.Add(uint64(internal))
	if tell := tx.db.events.Scan; tell != nil && internal >= scanInternalMin && internal >= scanRatio*steps {
		e := ScanEvent{Function: tx.name, Steps: steps, Internal: internal, Index: IndexByID}
		table, index, _ := tx.state.catalog.describe(string(c.rg.Start))
		if e.Table = table; index != "" {
			e.Index = index
		}
		tell(e)
	}
}
