package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// account is a document of six fields, about 100 bytes of row.
func account(i int) value.Value {
	return value.Object(
		value.Field{Name: "owner", Value: value.String(fmt.Sprintf("owner %d of an account", i))},
		value.Field{Name: "balance", Value: value.Int64(1000)},
		value.Field{Name: "currency", Value: value.String("EUR")},
		value.Field{Name: "opened", Value: value.Float64(1_700_000_000_000.5)},
		value.Field{Name: "frozen", Value: value.Bool(false)},
		value.Field{Name: "branch", Value: value.Float64(float64(i % 100))},
	)
}

// accounts returns a database with n accounts.
func accounts(b *testing.B, fs vfs.FS, n int) (*engine.DB, *engine.Table, []value.ID) {
	b.Helper()
	db, err := engine.Open(b.TempDir(), engine.Schema{Tables: []engine.TableDef{{Name: "accounts"}}}, &engine.Options{FS: fs})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	t := db.Table("accounts")
	var ids []value.ID
	for len(ids) < n {
		from := len(ids)
		_, err := db.Mutate(context.Background(), engine.Call{Name: "load"}, func(tx *engine.Tx) ([]byte, error) {
			ids = ids[:from]
			for i := from; i < min(n, from+10_000); i++ {
				id, err := tx.Insert(t, account(i))
				if err != nil {
					return nil, err
				}
				ids = append(ids, id)
			}
			return nil, nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return db, t, ids
}

// BenchmarkGet measures Tx.Get of documents that are in the row cache, a
// thousand in each transaction, and what is done with them.
func BenchmarkGet(b *testing.B) {
	db, t, ids := accounts(b, vfs.NewMem(), 1000)
	for _, use := range []struct {
		name string
		use  func(d engine.Document)
	}{
		{"get", func(engine.Document) {}},
		{"get one field", func(d engine.Document) { _ = d.Fields.Path("balance") }},
		{"get all fields", func(d engine.Document) { _ = d.Fields.Fields() }},
	} {
		b.Run(use.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; n < b.N; {
				_, err := db.Query(context.Background(), "test", func(tx *engine.Tx) error {
					for _, id := range ids {
						d, ok, err := tx.Get(t, id)
						if !ok || err != nil {
							return fmt.Errorf("get: %v, %w", ok, err)
						}
						use.use(d)
						if n++; n >= b.N {
							break
						}
					}
					return nil
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkScan measures a scan of a thousand documents by creation time.
func BenchmarkScan(b *testing.B) {
	db, t, ids := accounts(b, vfs.NewMem(), 1000)
	b.ReportAllocs()
	for b.Loop() {
		n := 0
		_, err := db.Query(context.Background(), "test", func(tx *engine.Tx) error {
			for d, err := range tx.Scan(t.Index(engine.IndexByCreationTime), engine.Range{}, false) {
				if err != nil {
					return err
				}
				if _, ok := d.Fields.Get("balance").AsInt64(); ok {
					n++
				}
			}
			return nil
		})
		if err != nil || n != len(ids) {
			b.Fatal(n, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(ids)), "ns/row")
}

// BenchmarkTransfer measures durable transfers between two of 100,000 accounts
// from 64 goroutines: two gets and two patches each.
func BenchmarkTransfer(b *testing.B) {
	for _, fs := range []struct {
		name string
		fs   func() vfs.FS
	}{{"memory", func() vfs.FS { return vfs.NewMem() }}, {"disk", func() vfs.FS { return vfs.Default }}} {
		b.Run(fs.name, func(b *testing.B) {
			db, t, ids := accounts(b, fs.fs(), 100_000)
			b.SetParallelism(32)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					from, to := ids[rand.IntN(len(ids))], ids[rand.IntN(len(ids))]
					if from == to {
						continue
					}
					if _, err := db.Mutate(context.Background(), engine.Call{Name: "transfer"}, transfer(t, from, to)); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

func transfer(t *engine.Table, from, to value.ID) func(tx *engine.Tx) ([]byte, error) {
	return func(tx *engine.Tx) ([]byte, error) {
		for _, side := range []struct {
			id  value.ID
			add int64
		}{{from, -1}, {to, +1}} {
			d, ok, err := tx.Get(t, side.id)
			if !ok || err != nil {
				return nil, fmt.Errorf("get: %v, %w", ok, err)
			}
			n, _ := d.Fields.Get("balance").AsInt64()
			if err := tx.Patch(t, side.id, value.Object(value.Field{Name: "balance", Value: value.Int64(n + side.add)})); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}
}
