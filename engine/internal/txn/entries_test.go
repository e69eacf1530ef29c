package txn_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// TestEntriesOfLayers changes entries in the layers of a View, from the lowest
// up, and expects of Entries the difference between the first and the last state.
func TestEntriesOfLayers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weight := rapid.Map(rapid.Int64Range(0, 2), aggregate.IntWeight)
		before := rapid.MapOfN(someKey(), weight, 0, 6).Draw(t, "before")
		now := maps.Clone(before)
		view := txn.View{}
		for range rapid.IntRange(0, 3).Draw(t, "layers") {
			o := new(txn.Overlay)
			for range rapid.IntRange(0, 6).Draw(t, "changes") {
				k, w := someKey().Draw(t, "key"), weight.Draw(t, "weight")
				was, present := now[k]
				switch {
				case !present:
					o.Entry([]byte(k), txn.Entry{Delta: +1, Is: w})
					now[k] = w
				case rapid.Bool().Draw(t, "remove"):
					o.Entry([]byte(k), txn.Entry{Delta: -1, Was: was})
					delete(now, k)
				case was != w:
					o.Entry([]byte(k), txn.Entry{Was: was, Is: w})
					now[k] = w
				}
			}
			view.Layers = slices.Insert(view.Layers, 0, o)
		}
		r := keys.Range{Start: []byte(someBound().Draw(t, "start"))}
		if rapid.Bool().Draw(t, "bounded") {
			r.End = []byte(someBound().Draw(t, "end"))
		}
		var want []txn.KeyedEntry
		all := maps.Clone(before)
		maps.Copy(all, now)
		for _, k := range slices.Sorted(maps.Keys(all)) {
			was, before := before[k]
			is, present := now[k]
			if !r.Contains([]byte(k)) || before == present && was == is {
				continue
			}
			e := txn.Entry{Was: was, Is: is}
			if present {
				e.Delta++
			}
			if before {
				e.Delta--
			}
			want = append(want, txn.KeyedEntry{Key: k, Entry: e})
		}
		if diff := cmp.Diff(want, view.Entries(r), cmp.AllowUnexported(aggregate.Weight{})); diff != "" {
			t.Fatalf("entries in [%q, %q) (-want +got):\n%s", r.Start, r.End, diff)
		}
		// The same when the layers are merged, as groups of commits are.
		merged := new(txn.Overlay)
		for _, o := range slices.Backward(view.Layers) {
			merged.Merge(o)
		}
		one := txn.View{Layers: []*txn.Overlay{merged}}
		if diff := cmp.Diff(want, one.Entries(r), cmp.AllowUnexported(aggregate.Weight{})); diff != "" {
			t.Fatalf("merged, entries in [%q, %q) (-want +got):\n%s", r.Start, r.End, diff)
		}
	})
}
