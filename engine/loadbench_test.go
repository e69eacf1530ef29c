package engine_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// branchesSchema has an index and an aggregate.
var branchesSchema = engine.Schema{Tables: []engine.TableDef{{
	Name:       "accounts",
	Indexes:    []engine.IndexDef{{Name: "by_owner", Fields: []string{"owner"}}},
	Aggregates: []engine.AggregateDef{{Name: "by_branch", GroupBy: []string{"branch"}, OrderBy: []string{"owner"}}},
}}}

func loadAccounts(b *testing.B, db *engine.DB, n int) {
	b.Helper()
	if _, err := db.Load(context.Background(), db.Table("accounts"), func(yield func(engine.Document, error) bool) {
		for i := range n {
			if !yield(engine.Document{Fields: account(i)}, nil) {
				return
			}
		}
	}, nil); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkLoad loads a table with an index and an aggregate.
func BenchmarkLoad(b *testing.B) {
	const n = 200_000
	b.ReportAllocs()
	for b.Loop() {
		db, err := engine.Open(b.TempDir(), branchesSchema, nil)
		if err != nil {
			b.Fatal(err)
		}
		loadAccounts(b, db, n)
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "documents/s")
}

// BenchmarkCount counts one of 1,000 groups after the other, at any size of the
// table, a thousand in each transaction.
func BenchmarkCount(b *testing.B) {
	for _, n := range []int{1_000, 30_000, 1_000_000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			db, err := engine.Open("db", branchesSchema, &engine.Options{FS: vfs.NewMem()})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			loadAccounts(b, db, n)
			agg := db.Table("accounts").Aggregate("by_branch")
			run := func(n int) {
				for i := 0; i < n; {
					query(b, db, func(tx *engine.Tx) error {
						for range 1000 {
							if _, err := tx.Count(agg, engine.Range{Eq: []value.Value{value.Float64(float64(i % 100))}}); err != nil {
								return err
							}
							i++
						}
						return nil
					})
				}
			}
			run(1000)
			b.ReportAllocs()
			b.ResetTimer()
			run(b.N)
		})
	}
}
