package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/enginetest/logtest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// silentLog is a log that at some moment answers nobody any more.
type silentLog struct {
	engine.CommitLog
	silent  atomic.Bool
	unknown bool // appends are lost, and the newest position is not told
	asked   chan struct{}
}

func (l *silentLog) ask(ctx context.Context) error {
	select {
	case l.asked <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return ctx.Err()
}

func (l *silentLog) Append(ctx context.Context, r engine.LogRecord, local engine.LocalBatch) (engine.LogAppend, error) {
	switch {
	case !l.silent.Load():
		return l.CommitLog.Append(ctx, r, local)
	case l.unknown:
		return nil, engine.ErrUnknownOutcome
	}
	return silentAppend{l}, nil
}

func (l *silentLog) Head(ctx context.Context) (engine.LogPosition, error) {
	if l.silent.Load() {
		return engine.LogPosition{}, l.ask(ctx)
	}
	return l.CommitLog.Head(ctx)
}

type silentAppend struct{ l *silentLog }

func (a silentAppend) Wait(ctx context.Context) error { return a.l.ask(ctx) }

// TestCloseWithALogThatDoesNotAnswer: Close ends, with the calls that wait, and
// says that nobody knows; nothing has failed, and nothing is lost.
func TestCloseWithALogThatDoesNotAnswer(t *testing.T) {
	for name, unknown := range map[string]bool{"to an append": false, "to a question": true} {
		t.Run(name, func(t *testing.T) {
			clock := enginetest.NewClock(epoch)
			fs := vfs.NewMem()
			shared := logtest.NewMemory()
			log := &silentLog{CommitLog: shared.Handle(nil), unknown: unknown, asked: make(chan struct{}, 1)}
			db := onLog(t, log, engine.Options{FS: fs, Clock: clock, FunctionTimeMax: 24 * time.Hour})
			insert(t, db, "counters", fields("name", "a", "n", 1))
			log.silent.Store(true)
			waiting := make(chan error, 3)
			executed := make(chan struct{}, 100) // more than once where it loses
			for range 3 {
				go func() {
					_, err := db.Mutate(context.Background(), engine.Call{Name: "increment"}, func(tx *engine.Tx) ([]byte, error) {
						defer func() { executed <- struct{}{} }()
						return increment(db, "a")(tx)
					})
					waiting <- err
				}()
			}
			for range 3 {
				<-executed
			}
			<-log.asked
			closed := make(chan error, 1)
			go func() { closed <- db.Close() }()
			var err error
			for done := false; !done; {
				clock.Advance(time.Second)
				select {
				case err = <-closed:
					done = true
				default:
				}
			}
			if !errors.Is(err, engine.ErrUnknownOutcome) {
				t.Errorf("Close gives %v", err)
			}
			failed := 0
			for range 3 {
				switch err := <-waiting; {
				case errors.Is(err, engine.ErrFailed):
					failed++
				case errors.Is(err, engine.ErrClosed), errors.Is(err, engine.ErrTimeout):
					// It came after Close, or the clock ran away while it was executed.
				default:
					t.Errorf("a call that waited gets %v", err)
				}
			}
			if failed == 0 {
				t.Error("no call was waiting")
			}
			db = onLog(t, shared.Handle(nil), engine.Options{FS: fs})
			if n := counter(t, db, "a"); n != 1 {
				t.Errorf("the counter is %v, want 1", n)
			}
			verify(t, db)
		})
	}
}

// TestSchemaChangesOnASharedLog: indexes and aggregates are built while the log
// loses and repeats records, and stores that follow it, from the beginning or
// from before the change, have them and are equal.
func TestSchemaChangesOnASharedLog(t *testing.T) {
	seed := newSeed(t)
	shared := logtest.NewMemory()
	first := enginetest.NewCrashable()
	small := engine.Schema{Tables: []engine.TableDef{{Name: "counters"}}}
	more := engine.Schema{Tables: []engine.TableDef{
		{
			Name:       "counters",
			Indexes:    []engine.IndexDef{{Name: "by_n", Fields: []string{"n"}}, {Name: "one_name", Fields: []string{"name"}, Unique: true}},
			Aggregates: []engine.AggregateDef{{Name: "names", GroupBy: []string{"n"}, Sum: "n", Ranked: true}},
		},
		{Name: "later"},
	}}
	db := enginetest.OpenWith(t, small, engine.Options{FS: first, Log: shared.Handle(logtest.Seeded(seed, 20))})
	name := func(i int) string { return strings.Repeat("x", i+1) }
	for i := range 600 {
		insert(t, db, "counters", fields("name", name(i), "n", i%7))
	}
	before := first.CrashClone(vfs.CrashCloneCfg{})
	if err := db.Evolve(t.Context(), more); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		insert(t, db, "counters", fields("name", name(600+i), "n", i%7))
		insert(t, db, "later", fields("n", i))
	}
	middle := first.CrashClone(vfs.CrashCloneCfg{})
	if err := db.WaitBuilt(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, err := db.Mutate(t.Context(), engine.Call{}, func(tx *engine.Tx) ([]byte, error) {
		return nil, mustInsert(tx, db.Table("counters"), fields("name", name(5), "n", 1))
	})
	var taken *engine.UniqueError
	if !errors.As(err, &taken) {
		t.Errorf("a second document of one name gives %v", err)
	}
	verify(t, db)
	want, err := db.Hash(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for what, fs := range map[string]vfs.FS{"an empty store": vfs.NewMem(), "one from before": before, "one from the middle": middle, "the first": first} {
		db := enginetest.OpenWith(t, more, engine.Options{FS: fs, Log: shared.Handle(nil)})
		if err := db.WaitBuilt(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		r := verify(t, db)
		got, err := db.Hash(t.Context())
		if err != nil || got.Versions != want.Versions || got.Documents != 800 {
			t.Errorf("%s (seed %d): %d documents, equal %v, %v", what, seed, got.Documents, got.Versions == want.Versions, err)
		}
		if r.Entries < 700*3 {
			t.Errorf("%s has %d entries", what, r.Entries)
		}
		query(t, db, func(tx *engine.Tx) error {
			n, err := tx.Count(db.Table("counters").Aggregate("names"), engine.Range{Eq: []value.Value{value.Float64(3)}})
			if err == nil && n != 100 {
				t.Errorf("%s counts %d, want 100", what, n)
			}
			return err
		})
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}
