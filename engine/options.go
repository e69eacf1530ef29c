package engine

import (
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
)

// Timestamp is a place in the order of commits: microseconds since the Unix
// epoch, strictly increasing, below 2^53 and so exact as a JavaScript number.
type Timestamp uint64

// Time returns the timestamp as a time.
func (t Timestamp) Time() time.Time { return time.UnixMicro(int64(t)) }

// Clock is the engine's source of time.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f in its own goroutine after d, unless stop is called first.
	AfterFunc(d time.Duration, f func()) (stop func())
}

// Options are the settings of a database; nil means all defaults.
type Options struct {
	// FS is the file system. Default: the operating system's. vfs.NewMem() gives
	// a database in memory.
	FS vfs.FS
	// Clock is the source of time. Default: the system's clock at start, carried
	// on by its monotonic part, so that a step of the wall clock moves nothing.
	Clock Clock
	// Logger receives what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Seed makes the randomness of transactions repeatable. Default: random.
	Seed uint64
	// CacheBytes bounds the block cache of the store. Default 64 MiB.
	CacheBytes int64
	// RowCacheBytes bounds the cache of documents, by an estimate.
	// Default 32 MiB.
	RowCacheBytes int
	// AggregateCacheBytes bounds the cache of aggregate blocks. Default 16 MiB.
	AggregateCacheBytes int
	// FunctionTimeMax is how long one execution of a function may take.
	// Default 1 s.
	FunctionTimeMax time.Duration
	// RunningMax is how many functions execute at once. Default 4 per processor.
	RunningMax int
	// WaitingMax is how many calls may wait for one of these places; one more
	// gets ErrOverloaded. Default 10,000.
	WaitingMax int
	// LogRetention is how long change records are kept. Default 24 h.
	LogRetention time.Duration
	// LogBytesMax bounds the change records on disk. Default 256 MiB.
	LogBytesMax uint64
	// RequestRetention is how long the outcome of a client's request is kept.
	// Default 24 h.
	RequestRetention time.Duration
	// Log is the commit log. Default: the one inside of the store. With another
	// one, which processes may share, the store follows the log: Open brings it up
	// to date, and nothing is in it before it is in the log.
	Log CommitLog
	// Fatal is called when the disk failed and nothing more may be acknowledged.
	// Default: the process ends.
	Fatal func(error)

	commit    commit.Options // for tests of this package
	buildHook func()         // likewise; called before each step of the builder
	loadHook  func(string)   // likewise; called at each stage of a load
	// builtAtOpen is up to how many rows Open waits for the builds of a table; likewise.
	builtAtOpen int64
}

func (o *Options) withDefaults() Options {
	var d Options
	if o != nil {
		d = *o
	}
	if d.Clock == nil {
		d.Clock = newSystemClock()
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Seed == 0 {
		var b [8]byte
		// crypto/rand.Read never fails on supported systems.
		_, _ = rand.Read(b[:])
		d.Seed = binary.LittleEndian.Uint64(b[:])
	}
	setDefault(&d.CacheBytes, 64<<20)
	setDefault(&d.RowCacheBytes, 32<<20)
	setDefault(&d.AggregateCacheBytes, 16<<20)
	setDefault(&d.FunctionTimeMax, time.Second)
	setDefault(&d.RunningMax, 4*runtime.GOMAXPROCS(0))
	setDefault(&d.WaitingMax, 10_000)
	setDefault(&d.LogRetention, 24*time.Hour)
	setDefault(&d.LogBytesMax, 256<<20)
	setDefault(&d.RequestRetention, 24*time.Hour)
	setDefault(&d.commit.TurnCost, time.Millisecond)
	setDefault(&d.builtAtOpen, builtAtOpenRows)
	d.commit.ReserveMax = uint64(d.FunctionTimeMax.Microseconds())
	if d.Fatal == nil {
		d.Fatal = func(error) { os.Exit(1) }
	}
	return d
}

// turnCost is what a function may take to be executed in the committer's turn.
func (db *DB) turnCost() time.Duration { return db.o.commit.TurnCost }

func setDefault[T comparable](field *T, val T) {
	var zero T
	if *field == zero {
		*field = val
	}
}

// systemClock is the wall clock at its creation plus monotonic time since.
type systemClock struct{ start time.Time }

func newSystemClock() systemClock { return systemClock{time.Now()} }

func (c systemClock) Now() time.Time { return c.start.Add(time.Since(c.start)) }

func (c systemClock) AfterFunc(d time.Duration, f func()) func() {
	t := time.AfterFunc(d, f)
	return func() { t.Stop() }
}

func micros(t time.Time) uint64 { return uint64(max(t.UnixMicro(), 0)) }
