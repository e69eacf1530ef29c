package stats_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/apps/stats"
)

// crowdSize is how many visitors are here in benchmarks.
const crowdSize = 10_000

// populate has visitors come: to paths as readers choose them, few to most, from 300
// places, all within one interval of heartbeats. left more have left and are still
// rows.
func populate(w *world, c *crowd, visitors, left int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	paths := rand.NewZipf(rnd, 1.2, 8, 100_000-1)
	c.gather(w, visitors+left, func(i int) stats.ActiveSession {
		place := rnd.IntN(300)
		row := stats.ActiveSession{
			SessionID: visitorID(i), CurrentPath: fmt.Sprintf("/%d", paths.Uint64()), LastSeen: noon.Add(-time.Duration(rnd.IntN(30_000)) * time.Millisecond),
			Latitude: new(float64(place%120) - 60), Longitude: new(float64(place)), City: new(fmt.Sprint("City ", place)), Country: new("CH"),
		}
		if i >= visitors {
			row.LastSeen = noon.Add(-3 * time.Minute)
		}
		return row
	})
}

// BenchmarkGetStats shows that the cost does not follow the number of views.
func BenchmarkGetStats(b *testing.B) {
	for _, views := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("views=%d", views), func(b *testing.B) {
			c := new(crowd)
			w := newWorld(b, stats.Options{}, probe(), c.module())
			w.importRows(views, func(i int) (string, string, time.Time) {
				return fmt.Sprintf("v%d", i/100), fmt.Sprintf("/%d", i%100), noon.Add(time.Duration(i-views) * time.Second)
			})
			populate(w, c, crowdSize, 100)
			b.ReportAllocs()
			for b.Loop() {
				w.ask("stats:getStats", nil)
			}
		})
	}
}

// BenchmarkGetStatsVisitors shows what visitors cost who are here.
func BenchmarkGetStatsVisitors(b *testing.B) {
	for _, n := range []struct{ here, left int }{{0, 0}, {100, 0}, {10_000, 0}, {10_000, 100}} {
		b.Run(fmt.Sprintf("here=%d/left=%d", n.here, n.left), func(b *testing.B) {
			c := new(crowd)
			w := newWorld(b, stats.Options{}, c.module())
			populate(w, c, n.here, n.left)
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

// BenchmarkHeartbeat is a beat among 10,000 visitors who beat every 30 seconds, from
// the call until it is stored: of one who is where the last was, and of one who is on
// another page each time.
func BenchmarkHeartbeat(b *testing.B) {
	for _, moves := range []bool{false, true} {
		b.Run(fmt.Sprintf("moves=%v", moves), func(b *testing.B) {
			c := new(crowd)
			w := newWorld(b, stats.Options{}, c.module())
			populate(w, c, crowdSize, 0)
			w.clock.advance(30 * time.Second)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				row := &c.rows[i%crowdSize]
				path := row.CurrentPath
				if moves {
					path = fmt.Sprintf("/%d", i*7919%100_000)
				}
				outcome, err := w.try("stats:heartbeat", object{"sessionId": row.SessionID, "currentPath": path})
				if err != nil || outcome.Failure != nil {
					b.Fatal(outcome.Failure, err)
				}
				w.clock.advance(30 * time.Second / crowdSize)
				i++
			}
		})
	}
}
