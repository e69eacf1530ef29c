package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// branches is the table that loads and aggregates are measured on: an index and
// an aggregate.
var branches = engine.TableDef{
	Name:       "accounts",
	Indexes:    []engine.IndexDef{{Name: "by_owner", Fields: []string{"owner"}}},
	Aggregates: []engine.AggregateDef{{Name: "by_branch", GroupBy: []string{"branch"}, OrderBy: []string{"owner"}}},
}

// load measures documents a second into an empty table with an index and an
// aggregate, beside transactions of 1,000 inserts each, and then the aggregate at
// each size.
func load(s settings) error {
	var small float64
	for _, n := range []int{1_000, s.rows / 10, s.rows} {
		db, err := s.open(branches)
		if err != nil {
			return err
		}
		perCount, err := loadOnce(db, n, n == s.rows, s)
		db.close()
		if err != nil {
			return err
		}
		if n == 1_000 {
			small = perCount
		}
		if n == s.rows {
			reachedAtMost(fmt.Sprintf("us for a count among %d, warm", n), perCount, 20)
			reachedAtMost("  times that among 1,000", perCount/small, 2)
		}
	}
	return nil
}

func loadOnce(db *database, n int, full bool, s settings) (perCount float64, err error) {
	start := time.Now()
	loaded, err := db.fill(n, nil)
	if err != nil {
		return 0, err
	}
	took := time.Since(start)
	fmt.Printf("%-52s %10.0f documents a second, %.0f MB/s, %.1f s\n", fmt.Sprintf("load of %d, an index, an aggregate", n),
		float64(n)/took.Seconds(), float64(loaded.Bytes)/1e6/took.Seconds(), took.Seconds())
	if full {
		reachedAtLeast("documents a second", float64(n)/took.Seconds(), 100_000)
		if err := slowLoad(s, min(n, 100_000)); err != nil {
			return 0, err
		}
	}
	ids, err := db.ids(min(n, 1000))
	if err != nil {
		return 0, err
	}
	agg := db.table.Aggregate("by_branch")
	measure := func(name string, f func(tx *engine.Tx, i int) error) (float64, error) {
		// Twice: the first is for what is to be in memory.
		var per float64
		for range 2 {
			const calls = 20_000
			start := time.Now()
			for i := 0; i < calls; {
				if err := db.query(func(tx *engine.Tx) error {
					for range 1000 {
						if err := f(tx, i); err != nil {
							return err
						}
						i++
					}
					return nil
				}); err != nil {
					return 0, err
				}
			}
			per = float64(time.Since(start).Nanoseconds()) / 1000 / calls
		}
		fmt.Printf("%-52s %10.2f us\n", fmt.Sprintf("  %s among %d, warm", name, n), per)
		return per, nil
	}
	const groups = 100 // so that their blocks are in memory at every size
	perCount, err = measure("count of a group", func(tx *engine.Tx, i int) error {
		_, err := tx.Count(agg, engine.Range{Eq: []value.Value{value.Float64(float64(i % groups))}})
		return err
	})
	if err != nil {
		return 0, err
	}
	_, err = measure("rank of a document in its group", func(tx *engine.Tx, i int) error {
		id := ids[i%groups]
		_, ok, err := tx.Rank(agg, engine.Range{Eq: []value.Value{value.Float64(float64(i % groups))}}, id, false)
		if err == nil && !ok {
			err = fmt.Errorf("document %s has no rank", id)
		}
		return err
	})
	return perCount, err
}

// slowLoad inserts by transactions.
func slowLoad(s settings, n int) error {
	db, err := s.open(branches)
	if err != nil {
		return err
	}
	defer db.close()
	start := time.Now()
	for from := 0; from < n; from += 1000 {
		if err := db.mutate(func(tx *engine.Tx) error {
			for i := from; i < from+1000; i++ {
				if _, err := tx.Insert(db.table, account(i)); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	fmt.Printf("%-52s %10.0f documents a second\n", fmt.Sprintf("  by transactions of 1,000, the first %d", n), float64(n)/time.Since(start).Seconds())
	return nil
}

// aggregate measures what an aggregate costs where documents are inserted, one in
// a transaction, durable, from 64 goroutines.
func aggregate(s settings) error {
	var with, without figures
	insert := func(def engine.TableDef, into *figures) error {
		db, err := s.open(def)
		if err != nil {
			return err
		}
		defer db.close()
		n, err := hammer(s.length, func() error {
			return db.mutate(func(tx *engine.Tx) error {
				_, err := tx.Insert(db.table, account(rand.IntN(1_000_000)))
				return err
			})
		})
		*into = append(*into, n)
		return err
	}
	bare := branches
	bare.Aggregates = nil
	for range s.rounds {
		if err := insert(bare, &without); err != nil {
			return err
		}
		if err := insert(branches, &with); err != nil {
			return err
		}
	}
	rate("inserts into a table with an index", without)
	rate("  and an aggregate of 1,000 groups", with)
	fmt.Printf("%-52s %10.1f us an insert, of both processors\n", "  what the aggregate costs", 1e6/with.median()-1e6/without.median())
	return nil
}

// build measures the build of an index over a full table under 2,000 writes a
// second.
func build(s settings) error {
	def := engine.TableDef{Name: "accounts"}
	db, err := s.open(def)
	if err != nil {
		return err
	}
	defer db.close()
	rows := min(s.rows, 1_000_000)
	if _, err := db.fill(rows, nil); err != nil {
		return err
	}
	ids, err := db.ids(100_000)
	if err != nil {
		return err
	}
	write := func(r *rand.Rand) error {
		id := ids[r.IntN(len(ids))]
		return db.mutate(func(tx *engine.Tx) error { return db.add(tx, id, 1) })
	}
	before, err := paced(max(s.length, 5*time.Second), 16, 2000, write)
	if err != nil {
		return err
	}
	def.Indexes = []engine.IndexDef{{Name: "by_owner", Fields: []string{"owner"}}}
	start := time.Now()
	if err := db.Evolve(context.Background(), engine.Schema{Tables: []engine.TableDef{def}}); err != nil {
		return err
	}
	built := make(chan error, 1)
	var took time.Duration
	go func() {
		err := db.WaitBuilt(context.Background())
		took = time.Since(start)
		built <- err
	}()
	var during []time.Duration
	for end := false; !end; {
		d, err := paced(time.Second, 16, 2000, write)
		if err != nil {
			return err
		}
		select {
		case err := <-built:
			if err != nil {
				return err
			}
			end = true
		default:
			during = append(during, d...)
		}
	}
	sortDurations(during)
	fmt.Printf("%-52s %10.1f s, %.0f rows a second\n", fmt.Sprintf("index over %d rows, under 2,000 writes a second", rows), took.Seconds(), float64(rows)/took.Seconds())
	fmt.Printf("%-52s %10.2f ms, %.2f ms meanwhile\n", "  p99 of a write before", percentile(before, 0.99), percentile(during, 0.99))
	reachedAtMost("p99 meanwhile, of before", percentile(during, 0.99)/percentile(before, 0.99), 2)
	return nil
}

// reopen measures how long it takes to open a store of a size after its process
// was killed while it wrote.
func reopen(s settings) error {
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	self, err := os.Executable()
	if err != nil {
		return err
	}
	writer := exec.Command(self, "write", "-dir", dir, "-bytes", strconv.FormatInt(s.bytes, 10))
	out, err := writer.StdoutPipe()
	if err != nil {
		return err
	}
	writer.Stderr = os.Stderr
	if err := writer.Start(); err != nil {
		return err
	}
	if _, err := fmt.Fscanln(out); err != nil {
		return fmt.Errorf("the writer: %w", err)
	}
	time.Sleep(2 * time.Second) // of writing
	if err := writer.Process.Kill(); err != nil {
		return err
	}
	_ = writer.Wait()
	size := int64(0)
	if err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil {
			size += info.Size()
		}
		return err
	}); err != nil {
		return err
	}
	start := time.Now()
	db, err := engine.Open(dir, engine.Schema{Tables: []engine.TableDef{branches}}, nil)
	if err != nil {
		return err
	}
	took := time.Since(start)
	fmt.Printf("%-52s %10.0f MB on disk\n", "store of a process killed while it wrote", float64(size)/1e6)
	reachedAtMost("s until it is open", took.Seconds(), 1)
	return db.Close()
}

// write is the child process of reopen: it fills a store, says so, and writes on.
func write(args []string) error {
	dir, bytes := args[1], args[3]
	n, err := strconv.ParseInt(bytes, 10, 64)
	if err != nil {
		return err
	}
	db, err := engine.Open(dir, engine.Schema{Tables: []engine.TableDef{branches}}, nil)
	if err != nil {
		return err
	}
	d := &database{DB: db, dir: dir, table: db.Table("accounts")}
	// Random bytes do not compress, so the files are as large as they say.
	const pad = 800
	_, err = db.Load(context.Background(), d.table, func(yield func(engine.Document, error) bool) {
		r := rand.NewChaCha8([32]byte{1})
		for i := range int(n / (pad + 200)) {
			b := make([]byte, pad)
			_, _ = r.Read(b)
			f := value.Patched(account(i), value.Object(value.Field{Name: "pad", Value: value.Bytes(b)}))
			if !yield(engine.Document{Fields: f}, nil) {
				return
			}
		}
	}, nil)
	if err != nil {
		return err
	}
	fmt.Println()
	_, err = hammer(time.Hour, func() error {
		return d.mutate(func(tx *engine.Tx) error {
			_, err := tx.Insert(d.table, account(rand.IntN(1_000_000)))
			return err
		})
	})
	return err
}
