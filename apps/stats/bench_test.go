package stats_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/apps/stats"
)

// BenchmarkGetStats shows that the cost does not follow the number of views.
func BenchmarkGetStats(b *testing.B) {
	for _, views := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("views=%d", views), func(b *testing.B) {
			w := newWorld(b, stats.Options{}, probe())
			w.importRows(views, func(i int) (string, string, time.Time) {
				return fmt.Sprintf("v%d", i/100), fmt.Sprintf("/%d", i%100), noon.Add(time.Duration(i-views) * time.Second)
			})
			for i := range 100 {
				w.beat(visitorID(i), fmt.Sprintf("/%d", i%10))
			}
			b.ReportAllocs()
			for b.Loop() {
				w.ask("stats:getStats", nil)
			}
		})
	}
}

// BenchmarkGetStatsPaths shows what different paths cost.
func BenchmarkGetStatsPaths(b *testing.B) {
	for _, paths := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprintf("paths=%d", paths), func(b *testing.B) {
			w := newWorld(b, stats.Options{}, probe())
			w.importRows(paths+1000, func(i int) (string, string, time.Time) {
				return fmt.Sprintf("v%d", i/100), fmt.Sprintf("/%d", i%paths), noon.Add(time.Duration(i-200_000) * time.Second)
			})
			b.ReportAllocs()
			for b.Loop() {
				w.ask("stats:getStats", nil)
			}
		})
	}
}
