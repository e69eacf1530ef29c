package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/enginetest/logtest"
)

// TestEmbeddedLog holds the log inside of the store to what every log promises.
func TestEmbeddedLog(t *testing.T) {
	logtest.Run(t, func(t testing.TB) logtest.Log {
		fs := enginetest.NewCrashable()
		log, closeLog := engine.OpenEmbeddedLog(t, fs)
		t.Cleanup(func() { closeLog() })
		return logtest.Log{
			// Whoever has the store open shares the one log in it.
			Open: func(testing.TB) engine.CommitLog { return log },
			Restart: func(t testing.TB) {
				crashed := fs.CrashClone(vfs.CrashCloneCfg{})
				closeLog()
				fs = crashed
				log, closeLog = engine.OpenEmbeddedLog(t, fs)
			},
		}
	})
}

// onLog opens a database on a shared log.
func onLog(t *testing.T, log engine.CommitLog, o engine.Options) *engine.DB {
	t.Helper()
	o.Log = log
	return enginetest.OpenWith(t, schema, o)
}

// TestDatabaseOnASharedLog: with a log that loses requests and answers and
// delivers twice, everything happens once, and other stores that follow the log
// are equal to the first, whenever they begin.
func TestDatabaseOnASharedLog(t *testing.T) {
	seed := newSeed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	shared := logtest.NewMemory()
	first := enginetest.NewCrashable()
	behind := first.CrashClone(vfs.CrashCloneCfg{}) // empty
	done := 0
	for round := range times(3) {
		db := onLog(t, shared.Handle(logtest.Seeded(rng.Uint64(), 30)), engine.Options{FS: first})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := range 20 {
					call := engine.Call{Name: "increment", Once: true, Client: client(w), Request: uint32(20*round + i)}
					if _, err := db.Mutate(context.Background(), call, func(tx *engine.Tx) ([]byte, error) {
						if _, err := increment(db, "hot")(tx); err != nil {
							return nil, err
						}
						return nil, mustInsert(tx, db.Table("views"), fields("path", fmt.Sprint("/", w), "n", i))
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		done += 80
		if n := counter(t, db, "hot"); int(n) != done {
			t.Errorf("seed %d: after %d increments the counter is %v", seed, done, n)
		}
		verify(t, db)
		want, _ := changes(t, db)
		if round == 0 {
			behind = first.CrashClone(vfs.CrashCloneCfg{})
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		shared.Deliver()
		// Somebody who begins with nothing, and somebody who was there once.
		for name, fs := range map[string]*enginetest.Crashable{"new": enginetest.NewCrashable(), "behind": behind.CrashClone(vfs.CrashCloneCfg{})} {
			follower := onLog(t, shared.Handle(nil), engine.Options{FS: fs})
			verify(t, follower)
			if n := counter(t, follower, "hot"); int(n) != done {
				t.Errorf("seed %d: the %s follower counts %v, want %d", seed, name, n, done)
			}
			got, _ := changes(t, follower)
			if !slices.Equal(got, want) {
				t.Errorf("seed %d: the %s follower has %d changes, the leader %d, or others", seed, name, len(got), len(want))
			}
			// A request that was answered by another leader is answered, not executed.
			r, err := follower.Mutate(context.Background(), engine.Call{Once: true, Client: client(0), Request: uint32(20 * round)}, increment(follower, "hot"))
			if err != nil || !r.Replayed {
				t.Errorf("seed %d: a request sent again to the %s follower gives %+v, %v", seed, name, r, err)
			}
			if err := follower.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDeposedDatabase: once another process leads the log, nothing is
// acknowledged and nothing gets in, and the other one goes on above every
// timestamp that was shown.
func TestDeposedDatabase(t *testing.T) {
	shared := logtest.NewMemory()
	failed := make(chan error, 1)
	clock := enginetest.NewClock(epoch)
	old := onLog(t, shared.Handle(nil), engine.Options{Clock: clock, Fatal: func(err error) { failed <- err }})
	for range 3 {
		mutate(t, old, func(tx *engine.Tx) error { _, err := increment(old, "c")(tx); return err })
	}
	clock.Advance(time.Minute)
	// Time alone moved on, and was shown.
	set := old.NewQuerySet(func() {})
	defer set.Close()
	shown := old.Durable()

	next := onLog(t, shared.Handle(nil), engine.Options{Clock: enginetest.NewClock(epoch)})
	if at := next.Durable(); at <= shown {
		t.Errorf("the next leader begins at %d, the last one had shown %d", at, shown)
	}
	_, err := old.Mutate(context.Background(), engine.Call{}, increment(old, "c"))
	if !errors.Is(err, engine.ErrFailed) {
		t.Errorf("a mutation on a deposed leader gives %v", err)
	}
	if err := <-failed; !errors.Is(err, engine.ErrDeposed) {
		t.Errorf("Fatal got %v, want that it is deposed", err)
	}
	for db, want := range map[*engine.DB]float64{old: 3, next: 3} {
		if n := counter(t, db, "c"); n != want {
			t.Errorf("the counter is %v, want %v", n, want)
		}
	}
	mutate(t, next, func(tx *engine.Tx) error { _, err := increment(next, "c")(tx); return err })
	if n := counter(t, next, "c"); n != 4 {
		t.Errorf("the counter of the new leader is %v, want 4", n)
	}
}

// TestStoreOfAnotherLog: a store with commits that the log does not have is
// refused, and so is one that the log has left behind.
func TestStoreOfAnotherLog(t *testing.T) {
	fs := enginetest.NewCrashable()
	shared := logtest.NewMemory()
	db := onLog(t, shared.Handle(nil), engine.Options{FS: fs})
	insert(t, db, "counters", fields("name", "a", "n", 1))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	open := func(fs vfs.FS, log engine.CommitLog) error {
		db, err := engine.Open("db", schema, &engine.Options{FS: fs, Log: log})
		if err == nil {
			err = db.Close()
		}
		return err
	}
	if err := open(fs.CrashClone(vfs.CrashCloneCfg{}), logtest.NewMemory().Handle(nil)); !errors.Is(err, engine.ErrDiverged) {
		t.Errorf("a store with an empty log opens with %v", err)
	}
	other := logtest.NewMemory()
	db = onLog(t, other.Handle(nil), engine.Options{})
	for range 5 {
		insert(t, db, "counters", fields("name", "b", "n", 1))
	}
	if err := open(fs.CrashClone(vfs.CrashCloneCfg{}), other.Handle(nil)); !errors.Is(err, engine.ErrDiverged) {
		t.Errorf("a store with another log opens with %v", err)
	}
	if err := shared.Handle(nil).Truncate(context.Background(), 1<<53); err != nil {
		t.Fatal(err)
	}
	if err := open(vfs.NewMem(), shared.Handle(nil)); !errors.Is(err, engine.ErrOutOfRetention) {
		t.Errorf("an empty store with a log whose beginning is gone opens with %v", err)
	}
	if err := open(fs, shared.Handle(nil)); err != nil {
		t.Errorf("a store that is up to date opens with %v", err)
	}
}

// TestFollow: a follower is told everything in order, waits for more, and ends
// with its context or with the database.
func TestFollow(t *testing.T) {
	db := enginetest.Open(t, schema)
	const n = 50
	told := make(chan error, 1)
	var last atomic.Uint64
	go func() {
		seen := 0
		for g, err := range db.Follow(context.Background(), 0) {
			switch {
			case err != nil:
				told <- fmt.Errorf("after %d: %w", seen, err)
				return
			case uint64(g.At) <= last.Load() || g.At > db.Durable():
				told <- fmt.Errorf("told of %d after %d", g.At, last.Load())
				return
			}
			last.Store(uint64(g.At))
			if seen += len(g.Changes); seen == n {
				told <- nil
			}
		}
	}()
	for i := range n {
		insert(t, db, "views", fields("path", "/", "n", i))
	}
	if err := <-told; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		for _, err := range db.Follow(ctx, db.Durable()) {
			ended <- err
		}
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a follower whose context ended gets %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-told; !errors.Is(err, engine.ErrClosed) {
		t.Errorf("a follower of a closed database gets %v", err)
	}
}
