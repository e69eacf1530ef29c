package engine_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// BenchmarkAggregateWrites shows what an aggregate costs where documents are
// inserted, 100 in a transaction into 1,000 groups.
func BenchmarkAggregateWrites(b *testing.B) {
	counts := engine.AggregateDef{Name: "by_shop", GroupBy: []string{"shop"}, OrderBy: []string{"day"}}
	sum, ranked := counts, counts
	sum.Sum, ranked.Ranked = "bill.price", true
	for _, bench := range []struct {
		name string
		defs []engine.AggregateDef
	}{{"none", nil}, {"counts", []engine.AggregateDef{counts}}, {"sum", []engine.AggregateDef{sum}}, {"ranked", []engine.AggregateDef{ranked}}} {
		b.Run(bench.name, func(b *testing.B) {
			schema := engine.Schema{Tables: []engine.TableDef{{Name: "sales", Aggregates: bench.defs}}}
			db, err := engine.Open("db", schema, &engine.Options{FS: vfs.NewMem()})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			table := db.Table("sales")
			rnd := rand.New(rand.NewPCG(1, 1))
			insert := func() {
				mutate(b, db, func(tx *engine.Tx) error {
					for range 100 {
						price := value.Object(value.Field{Name: "price", Value: value.Float64(float64(rnd.IntN(100_000)) / 100)})
						if _, err := tx.Insert(table, value.Object(
							value.Field{Name: "shop", Value: value.String(fmt.Sprintf("shop %d", rnd.IntN(1000)))},
							value.Field{Name: "day", Value: value.Float64(float64(rnd.IntN(1000)))},
							value.Field{Name: "bill", Value: price})); err != nil {
							return err
						}
					}
					return nil
				})
			}
			for range 200 {
				insert()
			}
			b.ReportAllocs()
			for b.Loop() {
				insert()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/100, "us/document")
		})
	}
}

// BenchmarkTop reads the largest of many groups.
func BenchmarkTop(b *testing.B) {
	for _, ranked := range []bool{false, true} {
		for _, groups := range []int{1_000, 20_000} {
			b.Run(fmt.Sprintf("ranked=%v/groups=%d", ranked, groups), func(b *testing.B) {
				db := openSales(b, vfs.NewMem(), engine.AggregateDef{Name: "by_shop", GroupBy: []string{"shop"}, Ranked: ranked})
				table := db.Table("sales")
				for from := 0; from < groups; from += 1000 {
					mutate(b, db, func(tx *engine.Tx) error {
						for n := from; n < from+1000; n++ {
							if _, err := tx.Insert(table, fields("shop", fmt.Sprintf("shop %d", n))); err != nil {
								return err
							}
						}
						return nil
					})
				}
				b.ReportAllocs()
				for b.Loop() {
					query(b, db, func(tx *engine.Tx) error {
						_, err := tx.Top(table.Aggregate("by_shop"), 50)
						return err
					})
				}
			})
		}
	}
}
