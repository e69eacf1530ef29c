package live

import (
	"testing"

	"pgregory.net/rapid"
)

// TestTimers compares the heap with a list.
func TestTimers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h timers[int]
		all := make([]timer[int], 40)
		in := map[int]Timestamp{}
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			i := rapid.IntRange(0, len(all)-1).Draw(t, "timer")
			h.remove(&all[i])
			delete(in, i)
			if rapid.IntRange(0, 2).Draw(t, "add") > 0 {
				at := Timestamp(rapid.IntRange(0, 50).Draw(t, "at"))
				h.add(&all[i], at)
				in[i] = at
			}
			for j := range all {
				if _, want := in[j]; all[j].set() != want {
					t.Fatalf("timer %d set: got %v, want %v", j, all[j].set(), want)
				}
			}
			for j, x := range h.heap {
				if x.pos != j+1 || h.heap[max(j-1, 0)/2].at > x.at {
					t.Fatalf("timer at place %d of %d: at %d, set to %d", j, h.len(), x.at, x.pos)
				}
			}
			want, some := Timestamp(0), false
			for _, at := range in {
				if !some || at < want {
					want, some = at, true
				}
			}
			got, ok := h.next()
			if got != want || ok != some || h.len() != len(in) {
				t.Fatalf("next of %d: got %d %v, want %d %v of %d", h.len(), got, ok, want, some, len(in))
			}
			if ok && (h.due(want) == nil || h.due(want).at != want || want > 0 && h.due(want-1) != nil) {
				t.Fatalf("due at %d: %v", want, h.due(want))
			}
		}
	})
}
