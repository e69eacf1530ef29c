package engine_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// BenchmarkMutate measures durable mutations from 64 goroutines: all on one
// document, and each on a document of its own.
func BenchmarkMutate(b *testing.B) {
	for _, fs := range []struct {
		name string
		fs   func() vfs.FS
	}{{"memory", func() vfs.FS { return vfs.NewMem() }}, {"disk", func() vfs.FS { return vfs.Default }}} {
		for _, documents := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/documents=%d", fs.name, documents), func(b *testing.B) {
				db, err := engine.Open(b.TempDir(), schema, &engine.Options{FS: fs.fs()})
				if err != nil {
					b.Fatal(err)
				}
				defer db.Close()
				var next atomic.Int64
				b.SetParallelism(32)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						name := fmt.Sprint(next.Add(1) % int64(documents))
						if _, err := db.Mutate(context.Background(), engine.Call{Name: "increment"}, increment(db, name)); err != nil {
							b.Error(err)
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	}
}

// BenchmarkApply measures durable additions from 64 goroutines: all to one
// document, and each to a document of its own; by Apply, which reads nothing,
// and by a read and a patch.
func BenchmarkApply(b *testing.B) {
	one := value.Float64(1)
	for _, how := range []struct {
		name string
		add  func(tx *engine.Tx, counters *engine.Table, id value.ID) error
	}{
		{"apply", func(tx *engine.Tx, counters *engine.Table, id value.ID) error {
			return tx.Apply(counters, id, engine.Add("n", one))
		}},
		{"patch", func(tx *engine.Tx, counters *engine.Table, id value.ID) error {
			d, _, err := tx.Get(counters, id)
			if err != nil {
				return err
			}
			n, _ := d.Fields.Get("n").AsFloat64()
			return tx.Patch(counters, id, value.Object(value.Field{Name: "n", Value: value.Float64(n + 1)}))
		}},
	} {
		for _, documents := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%s/documents=%d", how.name, documents), func(b *testing.B) {
				db, err := engine.Open("", schema, &engine.Options{FS: vfs.NewMem()})
				if err != nil {
					b.Fatal(err)
				}
				defer db.Close()
				counters := db.Table("counters")
				var ids []value.ID
				for range documents {
					ids = append(ids, insert(b, db, "counters", fields("n", 0)))
				}
				var next atomic.Int64
				b.SetParallelism(32)
				b.ReportAllocs()
				b.ResetTimer()
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						id := ids[next.Add(1)%int64(documents)]
						_, err := db.Mutate(context.Background(), engine.Call{Name: how.name}, func(tx *engine.Tx) ([]byte, error) { return nil, how.add(tx, counters, id) })
						if err != nil {
							b.Error(err)
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
			})
		}
	}
}
