package stats_test

import (
	"flag"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/apps/stats"
)

var visitorsFlag = flag.Int("stats.visitors", 0, "visitors for TestBackfillOfManyVisitors, which is skipped without; 1,000,000 is what was promised")

// TestBackfillOfManyVisitors: with any number of visitors, of whom some are not
// counted, each is counted once afterwards, and nothing grows with their number.
func TestBackfillOfManyVisitors(t *testing.T) {
	visitors := *visitorsFlag
	if visitors == 0 {
		t.Skip("give -stats.visitors to run it")
	}
	w := newWorld(t, stats.Options{})
	views := visitors + visitors/5
	start := noon.Add(-time.Duration(views) * time.Second)
	if _, err := stats.PageViews.Load(t.Context(), w.app, func(yield func(stats.PageView, error) bool) {
		for i := range views {
			view := stats.PageView{Path: fmt.Sprint("/", i%1000), PageType: "page", SessionID: fmt.Sprint("visitor ", i%visitors), Timestamp: start.Add(time.Duration(i) * time.Second)}
			if i >= visitors {
				view.Before = view.Timestamp.Add(-time.Duration(visitors) * time.Second)
				if visitors%1000 == 0 {
					view.BeforeHere = view.Before
				}
			}
			if !yield(view, nil) {
				return
			}
		}
	}, nil); err != nil {
		t.Fatal(err)
	}
	const lost = 1000 // one in so many visitors is not counted
	if _, err := stats.Visitors.Load(t.Context(), w.app, func(yield func(stats.Visitor, error) bool) {
		for i := range visitors {
			if i%lost > 0 && !yield(stats.Visitor{SessionID: fmt.Sprint("visitor ", i), FirstSeen: start.Add(time.Duration(i) * time.Second)}, nil) {
				return
			}
		}
	}, nil); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	chunks := w.backfill()
	took := time.Since(began)
	if end := chunks[len(chunks)-1]; end.Status != "complete" || end.Processed != views || end.UniqueSessions != visitors {
		t.Errorf("the last of %d chunks is %+v, want %d views of %d visitors", len(chunks), end, views, visitors)
	}
	longest := 0
	for _, c := range chunks {
		if c.Cursor != nil {
			longest = max(longest, len(*c.Cursor))
		}
	}
	if longest > 512 {
		t.Errorf("a cursor has %d bytes: it grows with what was seen", longest)
	}
	if got := w.stats(); got.UniqueVisitors != visitors || got.TotalPageViews != views {
		t.Errorf("%d visitors and %d views afterwards, want %d and %d", got.UniqueVisitors, got.TotalPageViews, visitors, views)
	}
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	t.Logf("%d chunks in %v, %d MB of memory at the end, %d MB from the system, the database and its files in memory included",
		len(chunks), took.Round(time.Second), memory.HeapAlloc>>20, memory.Sys>>20)
}
