package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

func client(n int) (c engine.ClientID) {
	copy(c[:], fmt.Sprintf("client-%09d", n))
	return c
}

// once sends a request of a client that adds one to a counter and returns how
// often it was executed to its end.
func once(db *engine.DB, c engine.ClientID, request uint32, counter string) (engine.Receipt, error) {
	return db.Mutate(context.Background(), engine.Call{Name: "once", Once: true, Client: c, Request: request}, func(tx *engine.Tx) ([]byte, error) {
		_, err := increment(db, counter)(tx)
		return fmt.Appendf(nil, "result of %d", request), err
	})
}

func TestOnceHappensOnce(t *testing.T) {
	fs := enginetest.NewCrashable()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	const requests, copies = 40, 6
	var first [requests]engine.Receipt
	var fresh [requests]atomic.Int64
	var wg sync.WaitGroup
	for r := range uint32(requests) {
		for range copies {
			wg.Go(func() {
				got, err := once(db, client(1), r, "n")
				if err != nil {
					t.Errorf("request %d: %v", r, err)
					return
				}
				if !got.Replayed {
					fresh[r].Add(1)
					first[r] = got
				}
				if want := fmt.Sprintf("result of %d", r); string(got.Result) != want {
					t.Errorf("request %d gives %q", r, got.Result)
				}
			})
		}
	}
	wg.Wait()
	again := func(db *engine.DB, when string) {
		t.Helper()
		for r := range uint32(requests) {
			got, err := once(db, client(1), r, "n")
			if err != nil || !got.Replayed || got.At != first[r].At || !bytes.Equal(got.Result, first[r].Result) {
				t.Errorf("%s request %d gives %+v, %v, want what it gave at %d", when, r, got, err, first[r].At)
			}
		}
		if n := counter(t, db, "n"); n != requests {
			t.Errorf("%s the counter is %v, want %d", when, n, requests)
		}
	}
	for r := range fresh {
		if n := fresh[r].Load(); n != 1 {
			t.Errorf("request %d was executed %d times", r, n)
		}
	}
	again(db, "repeated")
	after := enginetest.OpenWith(t, schema, engine.Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})})
	again(after, "after a crash")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	again(enginetest.OpenWith(t, schema, engine.Options{FS: fs}), "after reopening")
}

// TestOnceKeepsTheLastThousand: a request is answered from memory while it is
// among the last 1,024 numbers, and refused after.
func TestOnceKeepsTheLastThousand(t *testing.T) {
	db := enginetest.Open(t, schema)
	c := client(1)
	send := func(r uint32) (engine.Receipt, error) { t.Helper(); return once(db, c, r, "n") }
	for r := range uint32(1030) {
		if got, err := send(r); err != nil || got.Replayed {
			t.Fatalf("request %d: %+v, %v", r, got, err)
		}
	}
	for r, tooOld := range map[uint32]bool{0: true, 4: true, 5: true, 6: false, 7: false, 1029: false} {
		got, err := send(r)
		if tooOld && !errors.Is(err, engine.ErrTooOld) || !tooOld && (err != nil || !got.Replayed) {
			t.Errorf("request %d after 1030: %+v, %v, too old: %v", r, got, err, tooOld)
		}
	}
	// A gap: what was skipped is refused below the floor, executed above.
	if _, err := send(5000); err != nil {
		t.Error(err)
	}
	if _, err := send(3976); !errors.Is(err, engine.ErrTooOld) {
		t.Errorf("a skipped request below the floor: %v", err)
	}
	if got, err := send(3977); err != nil || got.Replayed {
		t.Errorf("a skipped request above the floor: %+v, %v", got, err)
	}
	if n := counter(t, db, "n"); n != 1032 {
		t.Errorf("the counter is %v, want 1032", n)
	}
	// Another client has its own numbers.
	if got, err := once(db, client(2), 0, "n"); err != nil || got.Replayed {
		t.Errorf("another client's request 0: %+v, %v", got, err)
	}
}

// TestOnceInOneGroup sends copies of a request that conflict in nothing but the
// request itself, while the disk is slow: they meet in one group of commits.
func TestOnceInOneGroup(t *testing.T) {
	var gate atomic.Pointer[chan struct{}]
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".log") && op.Kind == errorfs.OpFileWrite {
			if g := gate.Load(); g != nil {
				<-*g
			}
		}
		return nil
	}))
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs}.WithGroups(512, 1))
	const copies = 5
	for r := range uint32(30) {
		g := make(chan struct{})
		gate.Store(&g)
		var wg sync.WaitGroup
		wg.Go(func() { insert(t, db, "counters", fields("name", "holds the disk", "n", 1)) })
		var executed, fresh atomic.Int64
		for range copies {
			wg.Go(func() {
				got, err := db.Mutate(context.Background(), engine.Call{Name: "once", Once: true, Client: client(1), Request: r}, func(tx *engine.Tx) ([]byte, error) {
					executed.Add(1)
					return nil, mustInsert(tx, db.Table("views"), fields("path", fmt.Sprint(r), "n", 1))
				})
				if err != nil {
					t.Error(err)
				} else if !got.Replayed {
					fresh.Add(1)
				}
			})
		}
		// Copies that come late are answered without being executed.
		for turns := 0; turns < 500 || executed.Load() == 0; turns++ {
			runtime.Gosched()
		}
		gate.Store(nil)
		close(g)
		wg.Wait()
		query(t, db, func(tx *engine.Tx) error {
			n, err := tx.Count(db.Table("views").Aggregate("paths"), eq(fmt.Sprint(r)))
			if n != 1 || fresh.Load() != 1 {
				t.Errorf("request %d was executed %d times, and said so %d times", r, n, fresh.Load())
			}
			return err
		})
	}
}

func TestOnceRemembersNothingThatWroteNothing(t *testing.T) {
	db := enginetest.Open(t, schema)
	call := engine.Call{Name: "once", Once: true, Client: client(1), Request: 7}
	boom := errors.New("boom")
	runs := 0
	for _, f := range []func(tx *engine.Tx) ([]byte, error){
		func(tx *engine.Tx) ([]byte, error) { return []byte("nothing"), nil },
		func(tx *engine.Tx) ([]byte, error) {
			_, _ = tx.Insert(db.Table("counters"), fields("name", "x", "n", 1))
			return nil, boom
		},
		func(tx *engine.Tx) ([]byte, error) {
			return []byte("something"), mustInsert(tx, db.Table("counters"), fields("name", "a", "n", 1))
		},
		func(tx *engine.Tx) ([]byte, error) { t.Error("executed again"); return nil, nil },
	} {
		runs++
		r, err := db.Mutate(context.Background(), call, f)
		if err != nil && !errors.Is(err, boom) {
			t.Fatal(err)
		}
		if runs == 4 && (!r.Replayed || string(r.Result) != "something") {
			t.Errorf("the fourth time gives %+v", r)
		}
	}
}

func mustInsert(tx *engine.Tx, t *engine.Table, f value.Value) error {
	_, err := tx.Insert(t, f)
	return err
}

// TestOnceUnderLoad: clients that send their requests several times, in any
// order, from several connections, have each executed once.
func TestOnceUnderLoad(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	fs := vfs.NewMem()
	const clients, requests = 4, 60
	sent := [clients]int{}
	for round := range 2 { // the second after reopening, with all requests again
		db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
		var wg sync.WaitGroup
		for c := range clients {
			var order []uint32
			for r := range uint32(requests) {
				for range 1 + rng.IntN(3) {
					order = append(order, r)
				}
			}
			rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			sent[c] = requests
			for part := range 3 {
				wg.Go(func() {
					for i := part; i < len(order); i += 3 {
						if r, err := once(db, client(c), order[i], fmt.Sprint("c", c)); err != nil || round > 0 && !r.Replayed {
							t.Errorf("request %d of client %d: %+v, %v", order[i], c, r, err)
						}
					}
				})
			}
		}
		wg.Wait()
		for c := range clients {
			if n := counter(t, db, fmt.Sprint("c", c)); n != float64(sent[c]) {
				t.Errorf("round %d: client %d was executed %v times, want %d", round, c, n, sent[c])
			}
		}
		verify(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSweepForgetsNoFloor: when the outcomes of a silent client are removed, its
// old requests are refused, for as long as the floor is kept, and never
// executed again, also once the client is back.
func TestSweepForgetsNoFloor(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs, Clock: clock})
	for r := range uint32(10) {
		if _, err := once(db, client(1), r, "n"); err != nil {
			t.Fatal(err)
		}
	}
	sweep := func(after time.Duration) {
		t.Helper()
		clock.Advance(after)
		// The busy client keeps the other company.
		if _, err := once(db, client(2), uint32(clock.Now().Unix()-epoch.Unix()), "busy"); err != nil {
			t.Fatal(err)
		}
		if err := db.SweepOnce(); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(when string, requests ...uint32) {
		t.Helper()
		for _, r := range requests {
			if got, err := once(db, client(1), r, "n"); !errors.Is(err, engine.ErrTooOld) {
				t.Errorf("%s request %d gives %+v, %v, want ErrTooOld", when, r, got, err)
			}
		}
	}
	sweep(23 * time.Hour)
	if got, err := once(db, client(1), 3, "n"); err != nil || !got.Replayed {
		t.Errorf("within a day: %+v, %v", got, err)
	}
	sweep(2 * time.Hour)
	refused("after a day", 0, 3, 8, 9)
	sweep(time.Hour)
	if got, err := once(db, client(1), 10, "n"); err != nil || got.Replayed {
		t.Errorf("the next request: %+v, %v", got, err)
	}
	refused("when the client is back", 0, 9)
	if got, err := once(db, client(1), 10, "n"); err != nil || !got.Replayed {
		t.Errorf("the next request again: %+v, %v", got, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = enginetest.OpenWith(t, schema, engine.Options{FS: fs, Clock: clock})
	refused("after reopening", 0, 9)
	sweep(25 * time.Hour)
	refused("after another day", 0, 9, 10)
	if n := counter(t, db, "n"); n != 11 {
		t.Errorf("the counter is %v, want 11", n)
	}
	sweep(31 * 24 * time.Hour)
	if got, err := once(db, client(1), 0, "n"); err != nil || got.Replayed {
		t.Errorf("after a month the client is new: %+v, %v", got, err)
	}
}

// TestSweepAgainstRequests sweeps while a client that seems silent comes back:
// no request is executed twice.
func TestSweepAgainstRequests(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock})
	for round := range 30 {
		base := uint32(round * 20)
		for r := base; r < base+5; r++ {
			if _, err := once(db, client(1), r, "n"); err != nil {
				t.Fatal(err)
			}
		}
		clock.Advance(25 * time.Hour)
		executed := float64(round*6 + 5)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := db.SweepOnce(); err != nil {
				t.Error(err)
			}
		})
		for range 3 { // it comes back with the number after next, several times
			wg.Go(func() {
				if _, err := once(db, client(1), base+6, "n"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for r := base; r < base+5; r++ {
			if got, err := once(db, client(1), r, "n"); err == nil && !got.Replayed {
				t.Errorf("request %d was executed twice", r)
			}
		}
		if got, err := once(db, client(1), base+6, "n"); err != nil || !got.Replayed {
			t.Errorf("request %d again: %+v, %v", base+6, got, err)
		}
		if n := counter(t, db, "n"); n != executed+1 {
			t.Fatalf("round %d: the counter is %v, want %v", round, n, executed+1)
		}
	}
}

// TestSweepFreesWhatIsBelowTheFloor: a client that is never silent does not
// gather outcomes behind requests that wrote nothing.
func TestSweepFreesWhatIsBelowTheFloor(t *testing.T) {
	db := enginetest.Open(t, schema)
	for r := range uint32(50) {
		if _, err := once(db, client(1), r*5000, "n"); err != nil {
			t.Fatal(err)
		}
	}
	if n := db.StoredOutcomes(); n != 50 {
		t.Errorf("%d outcomes are stored, want 50", n)
	}
	if err := db.SweepOnce(); err != nil {
		t.Fatal(err)
	}
	if n := db.StoredOutcomes(); n != 1 {
		t.Errorf("after a sweep %d outcomes are stored, want the newest", n)
	}
	for r := range uint32(49) {
		if got, err := once(db, client(1), r*5000, "n"); !errors.Is(err, engine.ErrTooOld) {
			t.Errorf("request %d: %+v, %v, want ErrTooOld", r*5000, got, err)
		}
	}
}
