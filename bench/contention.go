package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

const accountsTotal = 100_000

// transfer measures durable transfers between two of 100,000 accounts, uniform
// and at zipf 1.5. The yardsticks are Pebble alone, writing the same two rows and
// the same change record, and PostgreSQL at SERIALIZABLE where it is installed.
func transfer(s settings) error {
	db, err := s.open(engine.TableDef{Name: "accounts"})
	if err != nil {
		return err
	}
	defer db.close()
	if _, err := db.fill(accountsTotal, nil); err != nil {
		return err
	}
	ids, err := db.ids(accountsTotal)
	if err != nil {
		return err
	}
	pg, err := startPostgres(s)
	if err != nil {
		return err
	}
	defer pg.stop()
	names := []string{"transfer, uniform", "transfer, zipf 1.5", "raw", "pg u", "pg z"}
	results := map[string]figures{}
	for range s.rounds {
		for _, run := range []func() (float64, error){
			func() (float64, error) { return db.transfers(s, ids, uniform) },
			func() (float64, error) { return db.transfers(s, ids, zipf) },
			func() (float64, error) { return s.rawWrites(2, accountsTotal) },
			func() (float64, error) { return pg.run(s, "xfer_u") },
			func() (float64, error) { return pg.run(s, "xfer_z") },
		} {
			rate, err := run()
			if err != nil {
				return err
			}
			name := names[0]
			names = append(names[1:], name)
			results[name] = append(results[name], rate)
		}
	}
	raw := results["raw"].median()
	rate(names[0], results[names[0]])
	rate("  Pebble alone, the same rows and change record", results["raw"])
	rate(names[1], results[names[1]])
	if pg != nil {
		rate("  PostgreSQL SERIALIZABLE, 16 clients, uniform", results["pg u"])
		rate("  PostgreSQL SERIALIZABLE, 16 clients, zipf 1.5", results["pg z"])
		fmt.Printf("%-52s %10.2f uniform, %.0f at zipf 1.5\n", "  times PostgreSQL", results[names[0]].median()/results["pg u"].median(), results[names[1]].median()/results["pg z"].median())
	}
	reachedAtLeast("uniform, of raw Pebble", results[names[0]].median()/raw, 0.4)
	reachedAtLeast("zipf 1.5, of uniform", results[names[1]].median()/results[names[0]].median(), 0.9)
	stats := db.Stats()
	fmt.Printf("%-52s %10d conflicts, %d of them in turn, %d parked; no call failed\n", fmt.Sprintf("  of %d commits", stats.Commits), stats.Conflicts, stats.Turns, stats.Parked)
	return nil
}

func rate(name string, f figures) { fmt.Printf("%-52s %s a second\n", name, f) }

// zipf draws accounts at zipf 1.5, as pgbench's random_zipfian does.
func zipf(r *rand.Rand) func() uint64 { return rand.NewZipf(r, 1.5, 1, accountsTotal-1).Uint64 }

func uniform(r *rand.Rand) func() uint64 {
	return func() uint64 { return r.Uint64N(accountsTotal) }
}

func (d *database) transfers(s settings, ids []value.ID, draw func(*rand.Rand) func() uint64) (float64, error) {
	return hammerWith(s.length, func(caller int) func() error {
		next := draw(rand.New(rand.NewPCG(7, uint64(caller))))
		return func() error {
			from, to := ids[next()], ids[next()]
			_, err := d.Mutate(context.Background(), engine.Call{Name: "transfer"}, func(tx *engine.Tx) ([]byte, error) {
				if err := d.add(tx, from, -1); err != nil {
					return nil, err
				}
				return nil, d.add(tx, to, 1)
			})
			return err
		}
	})
}

// rawWrites measures Pebble alone from as many goroutines: in each synced batch
// some rows and the change record that has them.
func (s settings) rawWrites(rows, keys uint64) (float64, error) {
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	db, err := pebble.Open(dir, &pebble.Options{Logger: quiet{}})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	// Version, timestamp and creation time come before the fields.
	row := append(make([]byte, 17), value.AppendTuple(nil, account(12_345), new(value.Names))...)
	const keySize, recordHeader, lengths = 1 + 4 + 16, 45, 3
	record := make([]byte, recordHeader+int(rows)*(keySize+lengths+len(row)))
	var next atomic.Uint64
	return hammer(s.length, func() error {
		b := db.NewBatch()
		key := make([]byte, keySize)
		for range rows {
			binary.BigEndian.PutUint64(key[5:], rand.Uint64N(keys))
			if err := b.Set(key, row, nil); err != nil {
				return err
			}
		}
		if err := b.Set(binary.BigEndian.AppendUint64([]byte("l"), next.Add(1)), record, nil); err != nil {
			return err
		}
		return b.Commit(pebble.Sync)
	})
}

// hot measures one document that 64 clients read, modify and write, and one that
// they add to without reading it, beside as many clients with documents in turn,
// and Pebble alone.
func hot(s settings) error {
	db, err := s.open(engine.TableDef{Name: "accounts"})
	if err != nil {
		return err
	}
	defer db.close()
	if _, err := db.fill(10_000, nil); err != nil {
		return err
	}
	ids, err := db.ids(10_000)
	if err != nil {
		return err
	}
	var one, added, many, raw figures
	var next atomic.Uint64
	for range s.rounds {
		for _, c := range []struct {
			into *figures
			run  func() (float64, error)
		}{
			{&one, func() (float64, error) {
				return hammer(s.length, func() error { return db.mutate(func(tx *engine.Tx) error { return db.add(tx, ids[0], 1) }) })
			}},
			{&added, func() (float64, error) {
				return hammer(s.length, func() error {
					return db.mutate(func(tx *engine.Tx) error {
						return tx.Apply(db.table, ids[1], engine.Add("balance", value.Int64(1)))
					})
				})
			}},
			{&many, func() (float64, error) {
				return hammer(s.length, func() error {
					id := ids[next.Add(1)%uint64(len(ids))]
					return db.mutate(func(tx *engine.Tx) error { return db.add(tx, id, 1) })
				})
			}},
			{&raw, func() (float64, error) { return s.rawWrites(1, 10_000) }},
		} {
			rate, err := c.run()
			if err != nil {
				return err
			}
			*c.into = append(*c.into, rate)
		}
	}
	rate("one document, read-modify-write, 64 clients", one)
	rate("one document, commutative add, 64 clients", added)
	rate("  10,000 documents in turn: uncontended", many)
	rate("  Pebble alone, the same row and change record", raw)
	reachedAtLeast("read-modify-write of one, of uncontended", one.median()/many.median(), 1)
	reachedAtLeast("commutative add to one, of uncontended", added.median()/many.median(), 1)
	fmt.Printf("%-52s %10.2f\n", "  uncontended, of raw Pebble", many.median()/raw.median())
	return nil
}

// slow measures 16 clients with documents of their own, alone and beside a
// function that takes 900 ms and reads and writes a document which somebody else
// writes all the time.
func slow(s settings) error {
	db, err := s.open(engine.TableDef{Name: "accounts"})
	if err != nil {
		return err
	}
	defer db.close()
	if _, err := db.fill(1000, nil); err != nil {
		return err
	}
	ids, err := db.ids(1000)
	if err != nil {
		return err
	}
	const clients, perSecond = 16, 2000
	var alone, beside figures
	committed, begun := 0, 0
	for range s.rounds {
		client := func(r *rand.Rand) error {
			id := ids[1+r.IntN(len(ids)-1)]
			return db.mutate(func(tx *engine.Tx) error { return db.add(tx, id, 1) })
		}
		length := max(s.length, 4*time.Second)
		took, err := paced(length, clients, perSecond, client)
		if err != nil {
			return err
		}
		alone = append(alone, percentile(took, 0.99))
		stop, done := make(chan struct{}), make(chan error, 2)
		loop := func(f func() error) {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if err := f(); err != nil {
					done <- err
					return
				}
			}
		}
		go loop(func() error {
			time.Sleep(2 * time.Millisecond)
			return db.mutate(func(tx *engine.Tx) error { return db.add(tx, ids[0], 1) })
		})
		go loop(func() error {
			begun++
			_, err := db.Mutate(context.Background(), engine.Call{Name: "slow"}, func(tx *engine.Tx) ([]byte, error) {
				if err := db.add(tx, ids[0], 1); err != nil {
					return nil, err
				}
				time.Sleep(900 * time.Millisecond)
				return nil, nil
			})
			if err == nil {
				committed++
			}
			return err
		})
		if took, err = paced(length, clients, perSecond, client); err != nil {
			return err
		}
		close(stop)
		for range 2 {
			if err := <-done; err != nil {
				return fmt.Errorf("beside the slow function: %w", err)
			}
		}
		beside = append(beside, percentile(took, 0.99))
	}
	line("16 clients, 2,000 calls a second, p99 alone", alone, "ms")
	line("  p99 beside a function of 900 ms", beside, "ms")
	fmt.Printf("%-52s %10d of %d\n", "  how often that committed", committed, begun)
	reachedAtMost("p99 beside it, of alone", beside.median()/alone.median(), 2)
	return nil
}
