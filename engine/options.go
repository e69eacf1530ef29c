package engine

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
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

// InMemory is the folder of a database that is in memory and gone when it is
// closed.
const InMemory = ":memory:"

// Options are the settings of a database; nil means all defaults. A zero field
// takes its default. Open checks all of them, once: one that is out of its
// limits is an *OptionsError.
type Options struct {
	// FS is the file system, and the seam for tests of faults and full disks.
	// Default: the operating system's; of a database InMemory, one in memory.
	FS vfs.FS
	// Clock is the source of time. Default: the system's clock at start, carried
	// on by its monotonic part, so that a step of the wall clock moves nothing.
	Clock Clock
	// Logger receives what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Seed makes the randomness of transactions repeatable. Default: random.
	Seed uint64
	// CacheBytes bounds the block cache of the store. Default 64 MiB, at least
	// 64 KiB.
	CacheBytes int64
	// RowCacheBytes bounds the cache of documents, by an estimate.
	// Default 32 MiB.
	RowCacheBytes int
	// AggregateCacheBytes bounds the cache of aggregate blocks. Default 16 MiB.
	AggregateCacheBytes int
	// LiveResultBytesMax bounds what the newest results of all live queries take,
	// those of one query once, however many watch it. It counts for one of the
	// sets that watch it, and no set may come to hold more than is left for all
	// others, so one alone gets half. A result that there is no room for gives
	// way to LiveQuery.Full, and the query is run again in 5 s.
	// Default 1 GiB, at least 64 KiB.
	LiveResultBytesMax int64
	// FunctionTimeMax is how long one execution of a function may take.
	// Default 1 s, at most a day. The others wait for no function longer than that.
	FunctionTimeMax time.Duration
	// RunningMax is how many functions execute at once. Default 4 per processor, at
	// most 100,000.
	RunningMax int
	// WaitingMax is how many calls may wait for one of these places; one more
	// gets ErrOverloaded. Default 10,000, at most 10,000,000.
	WaitingMax int
	// WaitMax is how long a call may have to wait for those before it: one that
	// would be answered later gets ErrOverloaded, as far as the rate at which calls
	// are answered tells. 1,024 calls may wait in any case, and those of a burst for
	// 5 s in its first 2 s. Default 500 ms; negative is no such limit.
	WaitMax time.Duration
	// LogRetention is how long change records are kept. Default 24 h, at least 1 s.
	LogRetention time.Duration
	// LogBytesMax bounds the change records on disk. Default 256 MiB.
	LogBytesMax uint64
	// RequestRetention is how long the outcome of a client's request is kept.
	// Default 24 h, at least 1 s.
	RequestRetention time.Duration
	// DiskFreeMin and DiskFreeMinRatio are how much of the disk is kept free, in
	// bytes and as a part of its size; the larger one counts. Below it
	// transactions that write get ErrDiskFull, and all others go on. Default 1 GiB
	// and 0.03; negative switches that one off. File systems that cannot tell how
	// full they are, as those in memory, never are. The ratio is below 1.
	DiskFreeMin      int64
	DiskFreeMinRatio float64
	// BallastBytes is the room that a file BALLAST without content takes, which
	// Open gives up when there is less room left than that, so that a database on
	// a full disk opens. Default 64 MiB; negative is none. There is none either on
	// a disk with less than ten times its room, or that cannot reserve room.
	BallastBytes int64
	// Events are told what happens. Logger is told the same, see LogEvents.
	Events Events
	// Log is the commit log. Default: the one inside of the store. With another
	// one, which processes may share, the store follows the log: Open brings it up
	// to date, and nothing is in it before it is in the log. The numbers of tables are
	// each store's own and rows in the log are told by them: stores that follow one
	// log must come to declare the same tables in the same order.
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
	setDefault(&d.LiveResultBytesMax, 1<<30)
	setDefault(&d.FunctionTimeMax, time.Second)
	setDefault(&d.RunningMax, 4*runtime.GOMAXPROCS(0))
	setDefault(&d.WaitingMax, 10_000)
	setDefault(&d.WaitMax, 500*time.Millisecond)
	setDefault(&d.LogRetention, 24*time.Hour)
	setDefault(&d.LogBytesMax, 256<<20)
	setDefault(&d.RequestRetention, 24*time.Hour)
	setDefault(&d.DiskFreeMin, 1<<30)
	setDefault(&d.DiskFreeMinRatio, 0.03)
	setDefault(&d.BallastBytes, 64<<20)
	setDefault(&d.commit.TurnCost, time.Millisecond)
	setDefault(&d.builtAtOpen, builtAtOpenRows)
	d.commit.ReserveMax = uint64(d.FunctionTimeMax.Microseconds())
	if d.Fatal == nil {
		d.Fatal = func(error) { os.Exit(1) }
	}
	return d
}

// OptionsError is a field of Options that is out of its limits.
type OptionsError struct {
	Field  string
	Reason string
}

func (e *OptionsError) Error() string { return fmt.Sprintf("Options.%s: %s", e.Field, e.Reason) }

// check looks at options that have their defaults.
func (o *Options) check() error {
	const day = 24 * time.Hour
	for _, c := range []struct {
		field, reason string
		ok            bool
	}{
		{"CacheBytes", fmt.Sprintf("%d is less than 64 KiB", o.CacheBytes), o.CacheBytes >= 64<<10},
		{"RowCacheBytes", fmt.Sprintf("%d is negative", o.RowCacheBytes), o.RowCacheBytes >= 0},
		{"AggregateCacheBytes", fmt.Sprintf("%d is negative", o.AggregateCacheBytes), o.AggregateCacheBytes >= 0},
		{"LiveResultBytesMax", fmt.Sprintf("%d is less than 64 KiB", o.LiveResultBytesMax), o.LiveResultBytesMax >= 64<<10},
		{"FunctionTimeMax", fmt.Sprintf("%v is not between 1 ms and a day", o.FunctionTimeMax), o.FunctionTimeMax >= time.Millisecond && o.FunctionTimeMax <= day},
		{"RunningMax", fmt.Sprintf("%d is not between 1 and 100,000", o.RunningMax), o.RunningMax >= 1 && o.RunningMax <= 100_000},
		{"WaitingMax", fmt.Sprintf("%d is not between 1 and 10,000,000", o.WaitingMax), o.WaitingMax >= 1 && o.WaitingMax <= 10_000_000},
		{"LogRetention", fmt.Sprintf("%v is less than 1 s", o.LogRetention), o.LogRetention >= time.Second},
		{"RequestRetention", fmt.Sprintf("%v is less than 1 s", o.RequestRetention), o.RequestRetention >= time.Second},
		// NaN is not below 1 either.
		{"DiskFreeMinRatio", fmt.Sprintf("%v is not below 1", o.DiskFreeMinRatio), o.DiskFreeMinRatio < 1},
	} {
		if !c.ok {
			return &OptionsError{Field: c.field, Reason: c.reason}
		}
	}
	return nil
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
