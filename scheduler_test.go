package halcyon

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
)

// With room for a few functions in memory, many times as many that are due at random moments, most of them equal ones, are all run once:
// those that were there at the start, those that come while others run, and those behind functions that are tried for ever.
func TestScheduledFunctionsBeyondMemory(t *testing.T) {
	const room, early, late = 16, 600, 400
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	type args struct{ N int }
	var mu sync.Mutex
	ran := map[int]int{}
	left := early + late
	done := make(chan struct{})
	m := NewModule("m")
	m.Internal.Mutation("one", func(tx *Tx, args args) error { return nil })
	m.Internal.Mutation("stuck", func(tx *Tx) error { return fmt.Errorf("not yet: %w", engine.ErrIndexBuilding) })
	m.Internal.Action("act", func(c *Ctx, args args) error {
		mu.Lock()
		defer mu.Unlock()
		if ran[args.N]++; ran[args.N] == 1 {
			if left--; left == 0 {
				close(done)
			}
		}
		return nil
	})
	type soon struct {
		From, To int
		Ms       []int
		Path     string
	}
	m.Internal.Mutation("soon", func(tx *Tx, args soon) error {
		for n := args.From; n < args.To; n++ {
			if _, err := tx.RunAfter(time.Duration(args.Ms[n-args.From])*time.Millisecond, args.Path, struct{ N int }{n}); err != nil {
				return err
			}
		}
		return nil
	})
	m.Internal.Mutation("stick", func(tx *Tx, args struct{ N int }) error {
		for range args.N {
			if _, err := tx.RunAfter(0, "stuck", nil); err != nil {
				return err
			}
		}
		return nil
	})
	app, err := NewApp(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open("data", &Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := app.running.Load()
	r.scheduler.room = room
	schedule := func(path string, from, to int) {
		t.Helper()
		ms := make([]int, to-from)
		for i := range ms {
			ms[i] = random.IntN(4) * 20
		}
		if err := app.Run(t.Context(), "m:soon", soon{from, to, ms, path}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Run(t.Context(), "m:stick", struct{ N int }{room / 2}, nil); err != nil {
		t.Fatal(err)
	}
	schedule("act", 0, early)
	schedule("one", 0, early)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for from := early; from < early+late; from += 20 {
		schedule("act", from, from+20)
		schedule("one", from, from+20)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		mu.Lock()
		t.Errorf("%d actions were not run within a minute", left)
		mu.Unlock()
		return
	}
	ended := func() (n int) {
		if _, err := r.db.Query(context.Background(), "test", func(tx *engine.Tx) error {
			n = 0
			for d, err := range tx.Scan(r.jobs.Index(engine.IndexByCreationTime), engine.Range{}, false) {
				if err != nil {
					return err
				}
				if stateOf(d) == ScheduledSuccess {
					n++
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for begin := time.Now(); ended() != 2*(early+late); {
		if time.Since(begin) > time.Minute {
			t.Fatalf("%d functions have succeeded after a minute, want %d", ended(), 2*(early+late))
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for n, times := range ran {
		if times != 1 {
			t.Errorf("action %d was run %d times", n, times)
		}
	}
	r.scheduler.mu.Lock()
	defer r.scheduler.mu.Unlock()
	for kind, l := range r.scheduler.mu.lanes {
		if len(l.waiting) > 2*room {
			t.Errorf("%d %s functions are kept in memory, want at most %d", len(l.waiting), kind, 2*room)
		}
	}
}

// The mark moves up to the first pending function, and what is scheduled for a moment before it is not lost.
func TestMarkMovesAndLosesNothing(t *testing.T) {
	ran := make(chan struct{}, 1)
	m := NewModule("m")
	m.Internal.Mutation("later", func(tx *Tx) error { _, err := tx.RunAfter(time.Hour, "later", nil); return err })
	m.Internal.Mutation("past", func(tx *Tx) error { _, err := tx.RunAt(tx.Now().Add(-time.Hour), "tell", nil); return err })
	m.Internal.Action("tell", func(c *Ctx) error { ran <- struct{}{}; return nil })
	app, err := NewApp(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open("data", &Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}()
	if err := app.Run(t.Context(), "m:later", nil, nil); err != nil {
		t.Fatal(err)
	}
	r := app.running.Load()
	for _, lane := range laneNames {
		if err := r.moveMark(t.Context(), lane); err != nil {
			t.Fatal(err)
		}
		if _, err := r.db.Query(t.Context(), "test", func(tx *engine.Tx) error {
			mark, err := r.readMark(tx, lane)
			if age := r.clock.Now().Sub(mark.at); age < 0 || age > time.Minute {
				t.Errorf("the mark of %s is %v old, want one of now: what is pending is due in an hour", lane, age)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Run(t.Context(), "m:past", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ran:
	case <-time.After(time.Minute):
		t.Error("a function for a moment before the mark was not run")
	}
}
