package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/internal/gcfloor"
)

func sortDurations(d []time.Duration) { slices.Sort(d) }

// hotScan measures a scan of 1,000 rows while they are touched 20,000 times a
// second in all, 20 rows in a transaction.
func hotScan(s settings) error {
	defer gcfloor.Keep(gcfloor.Default)() // as a server does
	db, err := s.open(engine.TableDef{Name: "accounts"})
	if err != nil {
		return err
	}
	defer db.close()
	const rows, perCall, perSecond = 1000, 20, 20_000
	if err := db.mutate(func(tx *engine.Tx) error {
		for i := range rows {
			if _, err := tx.Insert(db.table, account(i)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	ids, err := db.ids(rows)
	if err != nil {
		return err
	}
	scan := func(*rand.Rand) error {
		return db.query(func(tx *engine.Tx) error {
			n := 0
			for d, err := range tx.Scan(db.table.Index(engine.IndexByCreationTime), engine.Range{}, false) {
				if err != nil {
					return err
				}
				if _, ok := d.Fields.Get("balance").AsInt64(); ok {
					n++
				}
			}
			if n != rows {
				return fmt.Errorf("%d rows", n)
			}
			return nil
		})
	}
	quiet, err := paced(max(s.length, 2*time.Second), 1, 20, scan)
	if err != nil {
		return err
	}
	touched := make(chan error, 1)
	var touches atomic.Int64
	length := max(s.length, s.hot)
	go func() {
		_, err := paced(length, 8, perSecond/perCall, func(r *rand.Rand) error {
			touches.Add(perCall)
			return db.mutate(func(tx *engine.Tx) error {
				for range perCall {
					if err := db.add(tx, ids[r.IntN(rows)], 1); err != nil {
						return err
					}
				}
				return nil
			})
		})
		touched <- err
	}()
	// The yardstick is as much plain computation, as often: what the machine, its
	// other programs and the writers leave of a processor.
	computed := make(chan []time.Duration, 1)
	work := spins(time.Duration(percentile(quiet, 0.5) * float64(time.Millisecond)))
	go func() {
		took, _ := paced(length, 1, 20, func(*rand.Rand) error { spin(work); return nil })
		computed <- took
	}()
	start := time.Now()
	took, err := paced(length, 1, 20, scan)
	if err := errors.Join(err, <-touched); err != nil {
		return err
	}
	plain := <-computed
	fmt.Printf("%-52s %10.0f a second for %s\n", "1,000 rows, touches", float64(touches.Load())/time.Since(start).Seconds(), length)
	fmt.Printf("%-52s %10.2f ms p50, %.2f ms p99 of %d scans\n", "  scan of all of them, untouched", percentile(quiet, 0.5), percentile(quiet, 0.99), len(quiet))
	fmt.Printf("%-52s %10.2f ms p50, %.2f ms p99 of %d scans\n", "  scan while they are touched", percentile(took, 0.5), percentile(took, 0.99), len(took))
	fmt.Printf("%-52s %10.2f ms p50, %.2f ms p99\n", "  as much plain computation meanwhile", percentile(plain, 0.5), percentile(plain, 0.99))
	reachedAtMost("p99, ms", percentile(took, 0.99), 5)
	return nil
}

var sink atomic.Uint64

// spin computes for a number of steps.
func spin(steps int) {
	x := uint64(steps)
	for range steps {
		x = x*6364136223846793005 + 1442695040888963407
	}
	sink.Add(x)
}

// spins returns how many steps take about that long on a processor of one's own.
func spins(d time.Duration) int {
	const steps = 1_000_000
	best := time.Hour
	for range 20 {
		start := time.Now()
		spin(steps)
		best = min(best, time.Since(start))
	}
	return int(float64(steps) * float64(d) / float64(best))
}

// heap returns the bytes in use after a collection.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// processor returns the seconds of processor time that this process has used.
func processorTime() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return float64(u.Utime.Sec+u.Stime.Sec) + float64(u.Utime.Usec+u.Stime.Usec)/1e6
}

// subscriptions measures 100,000 live queries of one document each in as many
// query sets: what they take, and what a commit that touches none of them costs.
// Then one query that 10,000 sets watch, and 10,000 queries whose answers change
// with time alone.
func subscriptions(s settings) error {
	db, err := s.open(engine.TableDef{Name: "accounts"})
	if err != nil {
		return err
	}
	defer db.close()
	const watched, others = 100_000, 10_000
	if _, err := db.fill(watched+others, nil); err != nil {
		return err
	}
	ids, err := db.ids(watched + others)
	if err != nil {
		return err
	}
	// A group of 1,000 keys; one query is watched, so that the cost without the
	// others includes telling it.
	commit := func(from []value.ID) (time.Duration, error) {
		start := time.Now()
		const keys = 1000
		r, err := db.Mutate(context.Background(), engine.Call{Name: "bench"}, func(tx *engine.Tx) ([]byte, error) {
			for i := range keys {
				if err := db.add(tx, from[i], 1); err != nil {
					return nil, err
				}
			}
			return nil, nil
		})
		if err != nil {
			return 0, err
		}
		for db.Durable() < r.At {
			runtime.Gosched()
		}
		return time.Since(start) / keys, nil
	}
	average := func() (f figures, err error) {
		for i := range 20 {
			d, err := commit(ids[watched+(i%8)*1000:])
			if err != nil {
				return nil, err
			}
			f = append(f, float64(d.Nanoseconds())/1000)
		}
		return f, nil
	}
	before, err := average()
	if err != nil {
		return err
	}
	empty := heap()
	var runs atomic.Int64
	sets := make([]*engine.QuerySet, watched)
	first := make(chan struct{}, watched)
	for i := range sets {
		id := ids[i]
		set := db.NewQuerySet(func() { first <- struct{}{} })
		set.Add(1, engine.LiveQuery{Key: string(id.Key[:]), Run: func(tx *engine.Tx) []byte {
			runs.Add(1)
			_, ok, err := tx.Get(db.table, id)
			if !ok || err != nil {
				return []byte("?")
			}
			return []byte("!")
		}})
		for _, ok := set.Poll(0); !ok; _, ok = set.Poll(0) {
			<-first
		}
		sets[i] = set
	}
	full := heap()
	after, err := average()
	if err != nil {
		return err
	}
	fmt.Printf("%-52s %10.0f bytes each, sets and results included\n", fmt.Sprintf("%d subscriptions on distinct keys", watched), (full-empty)/watched)
	line("  us a written key, none of them touched", after, "us")
	line("  us a written key without them", before, "us")
	reachedAtMost("us a written key that they cost", max(0, after.median()-before.median()), 5)
	ran := runs.Load()
	if _, err := commit(ids[:1000]); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); runs.Load() < ran+1000 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	fmt.Printf("%-52s %10d runs\n", "  a commit that touches 1,000 of them", runs.Load()-ran)
	for _, set := range sets {
		set.Close()
	}
	if err := db.shared(ids[0]); err != nil {
		return err
	}
	return db.timed(s)
}

// shared measures one query with 10,000 subscribers.
func (d *database) shared(id value.ID) error {
	const n = 10_000
	var runs, told atomic.Int64
	q := engine.LiveQuery{Key: "shared", Run: func(tx *engine.Tx) []byte {
		runs.Add(1)
		doc, _, err := tx.Get(d.table, id)
		if err != nil {
			return []byte("?")
		}
		return value.AppendJSON(nil, doc.Fields)
	}}
	sets := make([]*engine.QuerySet, n)
	for i := range sets {
		sets[i] = d.NewQuerySet(func() { told.Add(1) })
		sets[i].Add(1, q)
		defer sets[i].Close()
	}
	poll := func() {
		for i := range sets {
			for _, ok := sets[i].Poll(0); !ok; _, ok = sets[i].Poll(0) {
				runtime.Gosched()
			}
		}
	}
	poll()
	ran := runs.Load()
	var took figures
	for range 10 {
		start := time.Now()
		if err := d.mutate(func(tx *engine.Tx) error { return d.add(tx, id, 1) }); err != nil {
			return err
		}
		poll()
		took = append(took, float64(time.Since(start).Microseconds())/1000)
	}
	fmt.Printf("%-52s %10.2f runs a commit\n", fmt.Sprintf("one query with %d subscribers", n), float64(runs.Load()-ran)/10)
	line("  ms from the mutation until all have polled it", took, "ms")
	reachedAtMost("runs a commit", float64(runs.Load()-ran)/10, 1)
	return nil
}

// timed measures 10,000 queries whose answers change at a time within ten minutes.
func (d *database) timed(s settings) error {
	const n = 10_000
	var runs atomic.Int64
	for i := range n {
		set := d.NewQuerySet(func() {})
		set.Add(1, engine.LiveQuery{Key: fmt.Sprint("timed ", i), Run: func(tx *engine.Tx) []byte {
			runs.Add(1)
			tx.WakeAt(tx.Now().Add(time.Second + time.Duration(rand.Int64N(int64(10*time.Minute)))))
			return []byte("x")
		}})
		for _, ok := set.Poll(0); !ok; _, ok = set.Poll(0) {
			runtime.Gosched()
		}
		defer set.Close()
	}
	runtime.GC()
	length := max(s.length, 10*time.Second)
	before, ran := processorTime(), runs.Load()
	time.Sleep(length)
	used := 100 * (processorTime() - before) / length.Seconds()
	fmt.Printf("%-52s %10.1f runs a second\n", fmt.Sprintf("%d idle subscriptions that depend on time", n), float64(runs.Load()-ran)/length.Seconds())
	reachedAtMost("% of a processor", used, 1)
	return nil
}
