package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// database is an engine without app and server, in a folder of its own.
type database struct {
	*engine.DB
	dir   string
	table *engine.Table
}

func (s settings) open(def engine.TableDef) (*database, error) {
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-")
	if err != nil {
		return nil, err
	}
	db, err := engine.Open(dir, engine.Schema{Tables: []engine.TableDef{def}}, nil)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &database{DB: db, dir: dir, table: db.Table(def.Name)}, nil
}

func (d *database) close() {
	_ = d.Close()
	_ = os.RemoveAll(d.dir)
}

func (d *database) mutate(f func(tx *engine.Tx) error) error {
	_, err := d.Mutate(context.Background(), engine.Call{Name: "bench"}, func(tx *engine.Tx) ([]byte, error) { return nil, f(tx) })
	return err
}

func (d *database) query(f func(tx *engine.Tx) error) error {
	_, err := d.Query(context.Background(), "bench", f)
	return err
}

// account returns the fields of document i: a row of about 100 bytes.
func account(i int) value.Value {
	return value.Object(
		value.Field{Name: "owner", Value: value.String(fmt.Sprintf("owner %d of an account", i))},
		value.Field{Name: "balance", Value: value.Int64(1_000_000)},
		value.Field{Name: "branch", Value: value.Float64(float64(i % 1000))},
	)
}

// fill loads n accounts and returns their ids.
func (d *database) fill(n int, progress func(engine.LoadProgress)) (engine.Loaded, error) {
	return d.Load(context.Background(), d.table, func(yield func(engine.Document, error) bool) {
		for i := range n {
			if !yield(engine.Document{Fields: account(i)}, nil) {
				return
			}
		}
	}, &engine.LoadOptions{Progress: progress})
}

// ids returns up to n ids of the table, in the order of creation.
func (d *database) ids(n int) (ids []value.ID, err error) {
	from := (*engine.Bound)(nil)
	for len(ids) < n {
		page := 0
		err := d.query(func(tx *engine.Tx) error {
			page = 0
			for doc, err := range tx.Scan(d.table.Index(engine.IndexByCreationTime), engine.Range{Lower: from}, false) {
				if err != nil {
					return err
				}
				if ids = append(ids, doc.ID); len(ids) == n {
					break
				}
				from = &engine.Bound{Value: value.Float64(doc.CreationTime)}
				if page++; page == 4_000 {
					break
				}
			}
			return nil
		})
		if err != nil || page == 0 {
			return ids, err
		}
	}
	return ids, nil
}

// add changes the balance of an account.
func (d *database) add(tx *engine.Tx, id value.ID, n int64) error {
	doc, ok, err := tx.Get(d.table, id)
	if err != nil || !ok {
		return errors.Join(err, fmt.Errorf("account %s is there: %v", id, ok))
	}
	balance, _ := doc.Fields.Get("balance").AsInt64()
	return tx.Patch(d.table, id, value.Object(value.Field{Name: "balance", Value: value.Int64(balance + n)}))
}

// paced calls f from some goroutines, a number of times a second in all, and
// returns how long each call took, sorted. When a goroutine is late it does not
// catch up.
func paced(length time.Duration, callers int, rate float64, f func(r *rand.Rand) error) ([]time.Duration, error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		all  []time.Duration
		fail error
	)
	every := time.Duration(float64(callers) / rate * float64(time.Second))
	end := time.Now().Add(length)
	for c := range callers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(c)))
			var took []time.Duration
			next := time.Now().Add(time.Duration(r.Int64N(int64(every) + 1)))
			for time.Now().Before(end) {
				time.Sleep(time.Until(next))
				start := time.Now()
				if err := f(r); err != nil {
					mu.Lock()
					fail = err
					mu.Unlock()
					return
				}
				took = append(took, time.Since(start))
				if next = next.Add(every); next.Before(start) {
					next = time.Now()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	wg.Wait()
	slices.Sort(all)
	return all, fail
}

// line prints figures with decimals.
func line(name string, f figures, unit string) {
	fmt.Printf("%-52s %10.2f  (%.2f to %.2f) %s\n", name, f.median(), slices.Min(f), slices.Max(f), unit)
}

// reached prints a figure beside what it has to be.
func reached(name string, got, must float64, ok bool) {
	verdict := "reached"
	if !ok {
		verdict = "NOT REACHED"
	}
	fmt.Printf("%-52s %10.2f  must be %.2f: %s\n", "  "+name, got, must, verdict)
}

func reachedAtMost(name string, got, must float64)  { reached(name, got, must, got <= must) }
func reachedAtLeast(name string, got, must float64) { reached(name, got, must, got >= must) }
