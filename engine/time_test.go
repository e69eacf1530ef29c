package engine_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// screen is a query set with a wait for its next round.
type screen struct {
	*engine.QuerySet
	told chan struct{}
}

func newScreen(db *engine.DB) *screen {
	s := &screen{told: make(chan struct{}, 1)}
	s.QuerySet = db.NewQuerySet(func() {
		select {
		case s.told <- struct{}{}:
		default:
		}
	})
	return s
}

// next returns the next round. It fails the test when none comes.
func (s *screen) next(t *testing.T, min engine.Timestamp) engine.Round {
	t.Helper()
	for {
		if r, ok := s.Poll(min); ok {
			return r
		}
		select {
		case <-s.told:
		case <-t.Context().Done():
			t.Fatal("no round came")
		}
	}
}

// nextMoving is next where the round itself waits for the clock.
func (s *screen) nextMoving(clock *enginetest.Clock, min engine.Timestamp) engine.Round {
	for {
		if r, ok := s.Poll(min); ok {
			return r
		}
		select {
		case <-s.told:
		default:
			clock.Advance(time.Millisecond)
			runtime.Gosched()
		}
	}
}

// show returns the bodies of a round.
func show(r engine.Round) string {
	var out []string
	for _, c := range r.Changes {
		out = append(out, string(c.Body))
	}
	return fmt.Sprint(out)
}

// fresh counts the documents that are younger than a minute, as a live query
// that knows when its answer changes.
func fresh(db *engine.DB, wake bool) engine.LiveQuery {
	return engine.LiveQuery{Key: fmt.Sprint("fresh", wake), Run: func(tx *engine.Tx) []byte {
		n, now := 0, tx.Now()
		for d, err := range tx.Scan(db.Table("counters").Index(engine.IndexByCreationTime), all, false) {
			if err != nil {
				return fmt.Append(nil, err)
			}
			created := time.UnixMicro(int64(d.CreationTime * 1000))
			if end := created.Add(time.Minute); end.After(now) {
				n++
				if wake {
					tx.WakeAt(end)
				}
			}
		}
		return fmt.Append(nil, n)
	}}
}

// TestTimeAloneChangesAnAnswer: a query that says when its answer changes is
// run again at that moment and not before, though nothing was written, and the
// round is of a state at or after it.
func TestTimeAloneChangesAnAnswer(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: 24 * time.Hour})
	s := newScreen(db)
	defer s.Close()
	s.Add(1, fresh(db, true))
	expect := func(r engine.Round, want string) {
		t.Helper()
		if len(r.Changes) != 1 || string(r.Changes[0].Body) != want {
			t.Fatalf("the round at %d is %s, want %s", r.At, show(r), want)
		}
	}
	expect(s.next(t, 0), "0")
	insert(t, db, "counters", fields("name", "a", "n", 1)) // until 12:01:00
	clock.Advance(20 * time.Second)
	expect(s.next(t, 0), "1")
	insert(t, db, "counters", fields("name", "b", "n", 1)) // until 12:01:20
	clock.Advance(20 * time.Second)
	last := s.next(t, 0)
	expect(last, "2")

	commits := db.Stats().Commits
	clock.Advance(19_999 * time.Millisecond)
	if at, ok := clock.Next(); !ok || at.After(epoch.Add(time.Minute)) {
		t.Errorf("just before the answer changes the next timer is at %v, %v", at.Sub(epoch), ok)
	}
	if r, ok := s.Poll(0); ok {
		t.Errorf("a round %s at %v came before its time", show(r), r.At.Time().Sub(epoch))
	}
	clock.Advance(time.Millisecond)
	r := s.next(t, 0)
	expect(r, "1")
	if r.At.Time().Before(epoch.Add(time.Minute)) || r.At <= last.At {
		t.Errorf("the answer of 12:01:00 is shown at %v", r.At.Time().Sub(epoch))
	}
	clock.Advance(time.Hour)
	r = s.next(t, 0)
	expect(r, "0")
	if r.At.Time().Before(epoch.Add(80 * time.Second)) {
		t.Errorf("the answer of 12:01:20 is shown at %v", r.At.Time().Sub(epoch))
	}
	if n := db.Stats().Commits - commits; n != 0 {
		t.Errorf("%d transactions committed", n)
	}
}

// TestLookingAtTimeRunsAgain: a query that looks at the time and does not say
// when its answer changes is run again within 5 seconds.
func TestLookingAtTimeRunsAgain(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: 24 * time.Hour})
	s := newScreen(db)
	defer s.Close()
	insert(t, db, "counters", fields("name", "a", "n", 1))
	s.Add(1, fresh(db, false))
	// A caller has its answer before live queries have the state.
	if r := s.next(t, db.Durable()); string(r.Changes[0].Body) != "1" {
		t.Fatalf("the first round is %s", show(r))
	}
	clock.Advance(58 * time.Second)
	// Runs that change nothing give no rounds, but they go on.
	before := db.Durable()
	r := s.nextMoving(clock, 0)
	if string(r.Changes[0].Body) != "0" || r.At <= before {
		t.Errorf("the round at %v is %s, want 0", r.At.Time().Sub(epoch), show(r))
	}
	// The clock goes on between the state that a run reads and its look at the
	// time, so the round may be of a state before the moment.
	if at := clock.Now().Sub(epoch); at < time.Minute {
		t.Errorf("the answer of 12:01:00 is shown at %v", at)
	}
}

// TestQueryTimeFollowsItsSnapshot: what a query sees as the time is never
// before a commit that it can see.
func TestQueryTimeFollowsItsSnapshot(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: 24 * time.Hour})
	for range 20 { // while the clock stands still, timestamps run ahead of it
		r := mutate(t, db, func(tx *engine.Tx) error {
			return mustInsert(tx, db.Table("counters"), fields("name", "a", "n", 1))
		})
		query(t, db, func(tx *engine.Tx) error {
			if tx.Now().Before(r.At.Time()) || tx.At() < r.At {
				t.Errorf("a query after the commit at %v is at %v and sees %v", r.At.Time(), tx.At(), tx.Now())
			}
			if first, again := tx.Now(), tx.Now(); first != again {
				t.Error("time moves within a query")
			}
			return nil
		})
	}
	clock.Advance(time.Hour)
	query(t, db, func(tx *engine.Tx) error {
		if got := tx.Now(); !got.Equal(epoch.Add(time.Hour)) {
			t.Errorf("an hour after the last commit a query sees %v", got)
		}
		return nil
	})
}

// TestTimestampsGoOnAfterACrash: above every timestamp that anyone can have
// seen, those of time alone included, also when the clock was set back.
func TestTimestampsGoOnAfterACrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	fs := enginetest.NewCrashable()
	seen := engine.Timestamp(0)
	for crash := range 12 {
		clock := enginetest.NewClock(epoch.Add(time.Duration(rng.IntN(20)-10) * time.Minute))
		db := enginetest.OpenWith(t, schema, engine.Options{FS: fs, Clock: clock, Fatal: func(error) {}})
		if at := db.Durable(); at <= seen {
			t.Fatalf("after crash %d time begins at %d, %d was seen before", crash, at, seen)
		}
		s := newScreen(db)
		s.Add(1, fresh(db, true))
		s.next(t, 0)
		for range rng.IntN(30) {
			switch rng.IntN(4) {
			case 0:
				insert(t, db, "counters", fields("name", "a", "n", 1))
			case 1: // a round asked for with a minimum moves time alone
				at := engine.Timestamp(clock.Now().UnixMicro())
				clock.Advance(time.Duration(rng.IntN(3000)) * time.Millisecond)
				if at = max(at, db.Durable()+1); at <= engine.Timestamp(clock.Now().UnixMicro()) {
					seen = max(seen, s.nextMoving(clock, at).At)
				}
			default:
				clock.Advance(time.Duration(rng.IntN(5000)) * time.Millisecond)
			}
		}
		if rng.IntN(2) == 0 { // the last thing seen is of time alone
			// Within the lease, for which nothing is written, and beyond it.
			clock.Advance([]time.Duration{time.Millisecond, 300 * time.Millisecond, 10 * time.Second}[rng.IntN(3)])
			seen = max(seen, s.nextMoving(clock, max(db.Durable()+1, engine.Timestamp(clock.Now().UnixMicro()))).At)
		}
		seen = max(seen, db.Durable())
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		s.Close()
		if rng.IntN(3) == 0 { // not a crash
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			seen = max(seen, db.Durable())
			crashed = fs
		}
		fs = crashed
	}
}

// TestSameSeedAfterReopening: what a fixed seed draws is not drawn again, and
// with it ids, though the clock stands still.
func TestSameSeedAfterReopening(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	fs := vfs.NewMem()
	seen := map[string]bool{}
	for range 4 {
		db := enginetest.OpenWith(t, schema, engine.Options{FS: fs, Clock: clock, Seed: 7})
		for range 5 {
			id := insert(t, db, "counters", fields("name", "a", "n", 1))
			if seen[id.String()] {
				t.Errorf("id %s was given before", id)
			}
			seen[id.String()] = true
		}
		if r := verify(t, db); r.Documents != int64(len(seen)) {
			t.Errorf("%d documents of %d are there", r.Documents, len(seen))
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLeaseCoversWhatIsHandedOut: at any time the lease on disk is at or after
// every timestamp that anybody was told.
func TestLeaseCoversWhatIsHandedOut(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: 24 * time.Hour})
	for i, d := range []time.Duration{0, 0, time.Millisecond, 900 * time.Millisecond, 1100 * time.Millisecond, time.Hour, 0, 2 * time.Second} {
		clock.Advance(d)
		insert(t, db, "counters", fields("name", "a", "n", i))
		lease := uint64(0)
		db.Stored('m', func(key, val []byte) {
			if string(key) == "mclock" {
				lease = binary.BigEndian.Uint64(val)
			}
		})
		if at := uint64(db.Durable()); lease < at {
			t.Errorf("after %v more %d was handed out, the lease on disk ends at %d", d, at, lease)
		}
	}
}
