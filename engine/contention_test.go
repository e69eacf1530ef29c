package engine_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// adder returns a function that reads n of a document and writes one more.
func adder(db *engine.DB, id value.ID) func(tx *engine.Tx) ([]byte, error) {
	return func(tx *engine.Tx) ([]byte, error) {
		counters := db.Table("counters")
		d, ok, err := tx.Get(counters, id)
		if err != nil || !ok {
			return nil, errors.Join(err, engine.ErrNoDocument)
		}
		n, _ := d.Fields.Get("n").AsFloat64()
		return fmt.Append(nil, n+1), tx.Patch(counters, id, fields("n", n+1))
	}
}

// TestSlowFunctionHoldsOthersBack: a function that is too slow for the
// committer's turn commits at its second execution however many others write
// what it reads: meanwhile they wait.
func TestSlowFunctionHoldsOthersBack(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: 24 * time.Hour})
	hot, cold := insert(t, db, "counters", fields("name", "hot", "n", 0)), insert(t, db, "counters", fields("name", "cold", "n", 0))
	const others = 5
	done := make(chan string, others)
	runs := 0
	r := mutate(t, db, func(tx *engine.Tx) error {
		runs++
		_, err := adder(db, hot)(tx)
		clock.Advance(5 * time.Millisecond)
		switch runs {
		case 1:
			mutate(t, db, func(tx *engine.Tx) error { _, err := adder(db, hot)(tx); return err })
		case 2:
			for range others {
				go func() {
					r, err := db.Mutate(context.Background(), engine.Call{Name: "other"}, adder(db, hot))
					done <- fmt.Sprint(string(r.Result), err)
				}()
			}
			for db.Stats().Held < others {
				runtime.Gosched()
			}
			// Who writes something else is not held back.
			mutate(t, db, func(tx *engine.Tx) error { _, err := adder(db, cold)(tx); return err })
		}
		return err
	})
	if runs != 2 {
		t.Errorf("the slow function ran %d times", runs)
	}
	seen := map[string]bool{}
	for range others {
		seen[<-done] = true
	}
	for i := range others {
		if want := fmt.Sprint(3+i, "<nil>"); !seen[want] {
			t.Errorf("the others returned %v, want %s among them", seen, want)
		}
	}
	if n := number(t, db, "counters", hot); n != 2+others {
		t.Errorf("n is %v after %d additions, committed at %d", n, 2+others, r.At)
	}
	if held := db.Stats().Held; held != 0 {
		t.Errorf("%d attempts are held back at the end", held)
	}
	verify(t, db)
}

// TestHoldingBackEnds: a call that ends in another way than by a commit holds
// back nobody any more.
func TestHoldingBackEnds(t *testing.T) {
	stop := errors.New("stop")
	for _, c := range []struct {
		name string
		end  func(clock *enginetest.Clock, cancel func()) error
		want error
	}{
		{"with an error", func(*enginetest.Clock, func()) error { return stop }, stop},
		{"with its context", func(_ *enginetest.Clock, cancel func()) error { cancel(); return nil }, context.Canceled},
		{"with its time", func(clock *enginetest.Clock, _ func()) error { clock.Advance(time.Hour); return nil }, engine.ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := enginetest.NewClock(epoch)
			db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: time.Hour})
			hot := insert(t, db, "counters", fields("name", "hot", "n", 0))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			runs := 0
			_, err := db.Mutate(ctx, engine.Call{Name: "slow"}, func(tx *engine.Tx) ([]byte, error) {
				runs++
				_, err := adder(db, hot)(tx)
				clock.Advance(5 * time.Millisecond)
				if runs == 1 {
					mutate(t, db, func(tx *engine.Tx) error { _, err := adder(db, hot)(tx); return err })
					return nil, err
				}
				go func() {
					_, err := db.Mutate(context.Background(), engine.Call{Name: "other"}, adder(db, hot))
					done <- err
				}()
				for db.Stats().Held == 0 {
					runtime.Gosched()
				}
				return nil, errors.Join(err, c.end(clock, cancel))
			})
			if c.want == context.Canceled && err == nil {
				t.Log("it had committed before")
			} else if !errors.Is(err, c.want) {
				t.Errorf("the slow function ended with %v, want %v", err, c.want)
			}
			if err := <-done; err != nil {
				t.Errorf("the other one failed with %v", err)
			}
			verify(t, db)
		})
	}
}

// TestHoldingBackEndsInTheTurn: a call that has something reserved and, quick by
// now, ends in the committer's turn without a commit holds back nobody any more.
func TestHoldingBackEndsInTheTurn(t *testing.T) {
	stop := errors.New("stop")
	for _, want := range []error{nil, stop} {
		t.Run(fmt.Sprint(want), func(t *testing.T) {
			clock := enginetest.NewClock(epoch) // stands still: no reservation expires
			db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock})
			hot, cold := insert(t, db, "counters", fields("name", "hot", "n", 0)), insert(t, db, "counters", fields("name", "cold", "n", 0))
			add := func(id value.ID) {
				mutate(t, db, func(tx *engine.Tx) error { _, err := adder(db, id)(tx); return err })
			}
			runs := 0
			_, err := db.Mutate(t.Context(), engine.Call{Name: "slow"}, func(tx *engine.Tx) ([]byte, error) {
				switch runs++; runs {
				case 1: // slow and lost: hot is reserved
					_, err := adder(db, hot)(tx)
					clock.Advance(5 * time.Millisecond)
					add(hot)
					return nil, err
				case 2: // quick and lost
					_, err := adder(db, cold)(tx)
					add(cold)
					return nil, err
				}
				return nil, want
			})
			if runs != 3 || !errors.Is(err, want) {
				t.Fatalf("it ran %d times and ended with %v, want 3 times and %v", runs, err, want)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := db.Mutate(ctx, engine.Call{Name: "other"}, adder(db, hot)); err != nil {
				t.Errorf("another call failed with %v", err)
			}
			verify(t, db)
		})
	}
}

// TestRelaxedFunctions: their effects wait up to 20 ms for company on the way
// to the disk, and who is Early does not wait for that.
func TestRelaxedFunctions(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: 24 * time.Hour})
	a, b := insert(t, db, "counters", fields("name", "a", "n", 0)), insert(t, db, "counters", fields("name", "b", "n", 0))
	early := engine.Call{Name: "early", Relaxed: true, Early: true}
	for i := range 3 {
		r, err := db.Mutate(t.Context(), early, adder(db, a))
		if err != nil || string(r.Result) != fmt.Sprint(i+1) {
			t.Fatalf("addition %d gave %q, %v", i+1, r.Result, err)
		}
		if r.At <= db.Durable() {
			t.Errorf("the effect at %d is durable, and nothing asked for it", r.At)
		}
	}
	if n := number(t, db, "counters", a); n != 0 {
		t.Errorf("a query sees n = %v before it is durable", n)
	}
	// With the next mutation that waits for the disk.
	mutate(t, db, func(tx *engine.Tx) error { _, err := adder(db, b)(tx); return err })
	if n := number(t, db, "counters", a); n != 3 {
		t.Errorf("n is %v after a durable commit", n)
	}
	// Or when its time is over.
	done := make(chan engine.Receipt, 1)
	go func() {
		r, err := db.Mutate(context.Background(), engine.Call{Name: "late", Relaxed: true}, adder(db, a))
		if err != nil {
			t.Error(err)
		}
		done <- r
	}()
	for {
		select {
		case r := <-done:
			if clock.Now().Sub(epoch) < 20*time.Millisecond {
				t.Errorf("it was on the disk at %v", clock.Now().Sub(epoch))
			}
			if string(r.Result) != "4" || r.At > db.Durable() {
				t.Errorf("%q at %d, the newest durable state is %d", r.Result, r.At, db.Durable())
			}
			verify(t, db)
			return
		default:
			clock.Advance(time.Millisecond)
			runtime.Gosched()
		}
	}
}
