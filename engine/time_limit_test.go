package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

var epoch = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

// TestTimeLimitInParallel: a function over its limit fails alone, however it
// notices or does not.
func TestTimeLimitInParallel(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: time.Second})
	counters := db.Table("counters")
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	for _, c := range []struct {
		name string
		late time.Duration
		f    func(tx *engine.Tx) error
		want error
	}{
		{"in time", time.Second, func(tx *engine.Tx) error { return tx.Patch(counters, id, fields("n", 2)) }, nil},
		{"late call", time.Second + 1, func(tx *engine.Tx) error { return tx.Patch(counters, id, fields("n", 3)) }, engine.ErrTimeout},
		{"late call ignored", time.Second + 1, func(tx *engine.Tx) error { _ = tx.Patch(counters, id, fields("n", 3)); return nil }, engine.ErrTimeout},
		{"no call", time.Second + 1, func(tx *engine.Tx) error { return nil }, engine.ErrTimeout},
		{"late scan", time.Second + 1, func(tx *engine.Tx) error {
			for _, err := range tx.Scan(counters.Index("by_name"), all, false) {
				return err
			}
			return errors.New("the scan has nothing to say")
		}, engine.ErrTimeout},
		{"late panic", time.Second + 1, func(tx *engine.Tx) error { _, _, err := tx.Get(counters, id); panic(err) }, engine.ErrTimeout},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := func(tx *engine.Tx) error {
				if _, _, err := tx.Get(counters, id); err != nil {
					return err
				}
				clock.Advance(c.late)
				// Meanwhile others go on.
				query(t, db, func(tx *engine.Tx) error { _, _, err := tx.Get(counters, id); return err })
				insert(t, db, "counters", fields("name", "other", "n", 1))
				return c.f(tx)
			}
			if _, err := db.Mutate(context.Background(), engine.Call{Name: "slow"}, func(tx *engine.Tx) ([]byte, error) { return nil, run(tx) }); !errors.Is(err, c.want) {
				t.Errorf("the mutation ends with %v, want %v", err, c.want)
			}
			want := c.want
			if c.name == "in time" {
				want = engine.ErrReadOnly
			}
			if _, err := db.Query(context.Background(), "test", run); !errors.Is(err, want) && !errors.Is(err, engine.ErrReadOnly) {
				t.Errorf("the query ends with %v, want %v", err, want)
			}
			if n := number(t, db, "counters", id); n != 2 {
				t.Errorf("the document is %v, want 2", n)
			}
		})
	}
	verify(t, db)
}

// hang makes a mutation that loses its first, parallel execution to another
// one and then hangs in the committer's turn until it is let go.
type hang struct {
	entered chan *engine.Tx // the Tx of the execution that hangs
	letGo   chan struct{}
	after   chan error // what the Tx says when it is let go
	done    chan error // of Mutate
}

func startHang(t *testing.T, db *engine.DB, name string) *hang {
	h := &hang{make(chan *engine.Tx, 1), make(chan struct{}), make(chan error, 1), make(chan error, 1)}
	counters := db.Table("counters")
	id := insert(t, db, "counters", fields("name", name, "n", 1))
	runs := 0
	go func() {
		_, err := db.Mutate(context.Background(), engine.Call{Name: name}, func(tx *engine.Tx) ([]byte, error) {
			if _, _, err := tx.Get(counters, id); err != nil {
				return nil, err
			}
			if runs++; runs == 1 {
				mutate(t, db, func(tx *engine.Tx) error { return tx.Patch(counters, id, fields("n", 2)) })
				return nil, tx.Patch(counters, id, fields("n", 3))
			}
			// An open scan has to end with the Tx, too.
			for range tx.Scan(counters.Index("by_name"), all, false) {
				if err := tx.Patch(counters, id, fields("n", 4)); err != nil {
					return nil, err
				}
				h.entered <- tx
				<-h.letGo
				h.after <- tx.Patch(counters, id, fields("n", 5))
				break
			}
			return nil, nil
		})
		h.done <- err
	}()
	return h
}

// TestTimeLimitInTurn: a function that hangs in the committer's turn is given
// up, others go on, its Tx is dead for every goroutine, and after three times
// the function is refused.
func TestTimeLimitInTurn(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs, Clock: clock, FunctionTimeMax: time.Second})
	counters := db.Table("counters")
	var hung []*hang
	for range 3 {
		h := startHang(t, db, "hangs")
		hung = append(hung, h)
		tx := <-h.entered
		waiting := make(chan error, 1)
		go func() {
			_, err := db.Mutate(context.Background(), engine.Call{Name: "other"}, increment(db, "other"))
			waiting <- err
		}()
		clock.Advance(time.Second)
		if err := <-h.done; !errors.Is(err, engine.ErrTimeout) {
			t.Fatalf("a mutation that hangs ends with %v", err)
		}
		if err := <-waiting; err != nil {
			t.Errorf("one that waited behind it: %v", err)
		}
		if err := tx.Delete(counters, insert(t, db, "counters", fields("name", "x", "n", 1))); !errors.Is(err, engine.ErrTimeout) {
			t.Errorf("its Tx in another goroutine gives %v", err)
		}
		mutate(t, db, func(tx *engine.Tx) error { _, err := increment(db, "hangs-not")(tx); return err })
	}
	if n := db.Stats().Strays; n != 3 {
		t.Errorf("%d strays are counted, want 3", n)
	}
	if h := startHang(t, db, "hangs"); !errors.Is(<-h.done, engine.ErrFunctionStuck) {
		t.Error("after three strays the function is not refused")
	}
	h := startHang(t, db, "another function")
	<-h.entered
	close(h.letGo)
	if err := <-h.done; err != nil {
		t.Errorf("a function that hangs for a moment: %v", err)
	}
	if err := <-h.after; err != nil {
		t.Errorf("and goes on: %v", err)
	}
	// One comes back while the database is open, two when it is closed.
	close(hung[0].letGo)
	if err := <-hung[0].after; !errors.Is(err, engine.ErrTimeout) && !errors.Is(err, engine.ErrTxDone) {
		t.Errorf("a stray that goes on gets %v", err)
	}
	verify(t, db)
	if n := counter(t, db, "other"); n != 3 {
		t.Errorf("the others committed %v times, want 3", n)
	}
	if err := db.Close(); err != nil {
		t.Errorf("close with strays: %v", err)
	}
	for _, h := range hung[1:] {
		close(h.letGo)
		if err := <-h.after; !errors.Is(err, engine.ErrTimeout) && !errors.Is(err, engine.ErrTxDone) {
			t.Errorf("a stray that goes on after Close gets %v", err)
		}
	}
	db = enginetest.OpenWith(t, schema, engine.Options{FS: fs, Clock: clock})
	verify(t, db)
	query(t, db, func(tx *engine.Tx) error {
		for d, err := range tx.Scan(db.Table("counters").Index("by_name"), eq("hangs"), false) {
			if n, _ := d.Fields.Get("n").AsFloat64(); err != nil || n > 2 {
				t.Errorf("a stray left %v, %v", n, err)
			}
		}
		return nil
	})
}

// TestHangInParallel: functions that never return, in mutations, queries and
// live queries, keep nobody else from anything: not from their places, not from
// closing the database.
func TestHangInParallel(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: time.Second, RunningMax: 4})
	counters := db.Table("counters")
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	letGo := make(chan struct{})
	entered, after := make(chan *engine.Tx), make(chan error, 10)
	block := func(tx *engine.Tx) error {
		for _, err := range tx.Scan(counters.Index("by_name"), all, false) {
			if err != nil {
				return err
			}
			entered <- tx
			<-letGo
			_, _, err := tx.Get(counters, id)
			after <- err
			break
		}
		return nil
	}
	outcomes := make(chan error, 10)
	for range 3 {
		go func() {
			_, err := db.Mutate(t.Context(), engine.Call{Name: "hangs"}, func(tx *engine.Tx) ([]byte, error) { return nil, block(tx) })
			outcomes <- err
		}()
		<-entered
	}
	go func() {
		_, err := db.Query(t.Context(), "test", block)
		outcomes <- err
	}()
	tx := <-entered
	s := newScreen(db)
	s.Add(1, engine.LiveQuery{Key: "hangs", Run: func(tx *engine.Tx) []byte { _ = block(tx); return nil }})
	s.Poll(0)
	<-entered

	// All places are taken. One more call waits until they are given up.
	waiting := make(chan error)
	go func() {
		_, err := db.Mutate(t.Context(), engine.Call{Name: "other"}, increment(db, "other"))
		waiting <- err
	}()
	clock.Advance(2 * time.Second)
	if err := <-waiting; err != nil {
		t.Errorf("a call that waited for a place: %v", err)
	}
	if _, _, err := tx.Get(counters, id); !errors.Is(err, engine.ErrTimeout) {
		t.Errorf("the Tx of a query that hangs gives %v in another goroutine", err)
	}
	if n := db.Stats().Strays; n != 5 {
		t.Errorf("%d strays are counted, want 5", n)
	}
	if _, err := db.Mutate(t.Context(), engine.Call{Name: "hangs"}, func(*engine.Tx) ([]byte, error) { t.Error("executed"); return nil, nil }); !errors.Is(err, engine.ErrFunctionStuck) {
		t.Errorf("after three strays the function gives %v", err)
	}
	s2 := newScreen(db)
	s2.Add(1, fresh(db, false))
	if r := s2.next(t, 0); show(r) != "[2]" {
		t.Errorf("another live query shows %s", show(r))
	}
	verify(t, db)
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	close(letGo)
	for range 4 {
		if err := <-outcomes; !errors.Is(err, engine.ErrTimeout) {
			t.Errorf("a call that hung ends with %v", err)
		}
	}
	for range 5 {
		if err := <-after; !errors.Is(err, engine.ErrTimeout) {
			t.Errorf("its Tx gives %v", err)
		}
	}
}
