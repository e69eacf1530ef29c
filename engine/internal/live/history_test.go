package live

import (
	"testing"

	"pgregory.net/rapid"
)

// TestHistory compares with a list of all groups, for runs that begin and end at random.
func TestHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := history{sizeMax: rapid.SampledFrom([]int{5, 30, 1000}).Draw(t, "sizeMax")}
		var all []group
		var runs []Timestamp
		at := Timestamp(100)
		for range rapid.IntRange(1, 200).Draw(t, "n") {
			switch rapid.IntRange(0, 3).Draw(t, "event") {
			case 0:
				runs = append(runs, at)
			case 1, 2:
				before := at
				at += Timestamp(rapid.IntRange(1, 3).Draw(t, "step"))
				var keys [][]byte
				for range rapid.IntRange(0, 3).Draw(t, "keys") {
					keys = append(keys, drawKey(t, "key"))
				}
				all = append(all, group{before: before, at: at, keys: keys})
				if len(runs) > 0 {
					h.add(before, at, keys)
				}
			case 3:
				if len(runs) == 0 {
					continue
				}
				i := rapid.IntRange(0, len(runs)-1).Draw(t, "run")
				from := runs[i]
				reads := drawReadSet(t)
				var wakeAt Timestamp
				if rapid.Bool().Draw(t, "wake") {
					wakeAt = from + Timestamp(rapid.IntRange(1, 10).Draw(t, "wakeAt"))
				}
				want, size, complete := open, 0, true
				for j := len(all) - 1; j >= 0 && all[j].at > from; j-- {
					size += len(all[j].keys) + 1
					complete = complete && size <= h.sizeMax
					ends := wakeAt != 0 && all[j].at >= wakeAt
					for _, k := range all[j].keys {
						ends = ends || naiveContains(reads, k)
					}
					if ends {
						want = all[j].before
					}
				}
				if !complete {
					want = from
				}
				reads.normalize()
				if got := h.validThrough(from, &reads, wakeAt); got != want {
					t.Fatalf("run at %d reading %q until %d: got %d, want %d", from, reads, wakeAt, got, want)
				}
				runs = append(runs[:i], runs[i+1:]...)
				if len(runs) == 0 {
					h.reset()
				} else {
					h.trim(runs[0])
				}
			}
			if h.size > h.sizeMax || len(h.groups) > 2*h.len()+33 {
				t.Fatalf("size %d, %d groups in the list, %d live", h.size, len(h.groups), h.len())
			}
			if len(runs) == 0 && (h.len() > 0 || h.size > 0) {
				t.Fatalf("%d groups of size %d without a run", h.len(), h.size)
			}
		}
	})
}
