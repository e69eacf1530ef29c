package halcyon

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// TestDurations compares quantiles with those of the sorted durations.
func TestDurations(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, most := range []time.Duration{10 * time.Microsecond, time.Millisecond, time.Second, time.Hour} {
		var d durations
		var all []time.Duration
		for range 5000 {
			took := time.Duration(rnd.Int64N(int64(most)))
			d.add(took)
			all = append(all, took)
		}
		slices.Sort(all)
		for _, q := range []float64{0, 0.01, 0.5, 0.95, 0.999} {
			want, got := all[int(q*float64(len(all)))], d.quantile(q)
			if off := float64((got - want).Abs()); off > 0.07*float64(want)+float64(time.Microsecond) {
				t.Errorf("of durations up to %v: %v, the quantile %v is %v", most, got, q, want)
			}
		}
		if d.max != all[len(all)-1] || d.quantile(1) != d.max {
			t.Errorf("the longest is %v, %v, want %v", d.max, d.quantile(1), all[len(all)-1])
		}
	}
	var none durations
	if none.quantile(0.5) != 0 {
		t.Error("no durations have a median")
	}
	none.add(-time.Second) // a clock that was set back
	none.add(1000 * time.Hour)
	if none.quantile(0) != 0 || none.max != 1000*time.Hour {
		t.Errorf("beyond the buckets: %v, %v", none.quantile(0), none.max)
	}
}

// TestHotDocuments: of many documents those that are met over most often are kept, in bounded memory.
func TestHotDocuments(t *testing.T) {
	clock := enginetest.NewClock(time.UnixMilli(1_700_000_000_000))
	in := newInsights(&App{}, clock)
	meet := func(id string) {
		in.conflict(engine.ConflictEvent{Function: "m:lost", Writer: "m:won", Table: "m/t", ID: id, Path: engine.PathTurn})
	}
	for i := range 20_000 {
		meet(fmt.Sprint("cold", i))
		if i%10 == 0 {
			meet("hot")
		}
		if i%100 == 0 {
			meet("warm")
		}
		if i == 10_000 {
			clock.Advance(insightStep) // half of them in another step
		}
	}
	for _, s := range in.hot.steps {
		if s == nil {
			continue
		}
		total := int64(0)
		for i, d := range s.heap {
			total += d.Conflicts
			if d.place != i || s.byKey[d.key()] != d || i > 0 && s.heap[(i-1)/2].Conflicts > d.Conflicts {
				t.Fatalf("the heap is broken at %d: %+v", i, d)
			}
		}
		// Space saving loses no count: all conflicts are somewhere.
		if len(s.heap) != hotDocumentsMax || len(s.byKey) != hotDocumentsMax || total < 11_000 || total > 11_200 {
			t.Fatalf("%d documents with %d conflicts are kept", len(s.heap), total)
		}
	}
	got := in.read().Documents
	if len(got) != hotDocumentsTold || got[0].ID != "hot" || got[0].Conflicts < 2000 || got[0].Conflicts > 2000+2*11_200/hotDocumentsMax || got[1].ID != "warm" || got[0].Function != "m:lost" || got[0].Writer != "m:won" {
		t.Errorf("the hottest are %+v", got[:2])
	}
	clock.Advance(time.Hour)
	if got := in.read().Documents; len(got) != 0 {
		t.Errorf("an hour later there are %d", len(got))
	}
}

// TestCallLog stays within its bounds, whatever the entries.
func TestCallLog(t *testing.T) {
	var l callLog
	l.add(LogEntry{Function: "quiet"}) // which says nothing
	for i := range 3 * callLogMax {
		l.add(LogEntry{Function: "m:f", Lines: []string{fmt.Sprint(i)}})
	}
	if n := len(l.mu.entries); n != callLogMax || l.mu.entries[n-1].Seq != 3*callLogMax || l.mu.entries[0].Seq != 2*callLogMax+1 {
		t.Errorf("%d entries from %d", n, l.mu.entries[0].Seq)
	}
	big := string(make([]byte, 1<<20))
	for range 10 {
		l.add(LogEntry{Function: "m:f", Lines: []string{big}})
	}
	total := 0
	for i := range l.mu.entries {
		total += l.mu.entries[i].size()
	}
	if total > callLogBytesMax || total != l.mu.bytes || len(l.mu.entries) != 3 {
		t.Errorf("%d entries of %d bytes, counted as %d", len(l.mu.entries), total, l.mu.bytes)
	}
	l.add(LogEntry{Function: "m:f", Lines: []string{big, big, big, big, big}})
	if len(l.mu.entries) != 1 {
		t.Errorf("beside one that is larger than all, %d are kept", len(l.mu.entries)-1)
	}
}
