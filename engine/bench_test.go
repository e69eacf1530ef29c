package engine_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
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
