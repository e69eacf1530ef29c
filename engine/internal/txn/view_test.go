package txn_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// someKey draws from few keys, so that layers meet. No key of the engine is
// empty.
func someKey() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringOfN(rapid.RuneFrom([]rune("ab")), 1, 3, -1),
		rapid.SampledFrom([]string{"\x00", "a\x00", "a\xff", "\xff", "\xff\xff"}),
	)
}

// someBound draws the end of a range, which may be anywhere.
func someBound() *rapid.Generator[string] { return rapid.OneOf(rapid.Just(""), someKey()) }

// layered is what a View should show: base below, the topmost overlay first.
type layered struct {
	base   map[string]string
	layers []map[string]change
}

type change struct {
	val     string
	deleted bool
}

func (m *layered) merged() map[string]string {
	out := maps.Clone(m.base)
	for _, l := range slices.Backward(m.layers) {
		for k, c := range l {
			if c.deleted {
				delete(out, k)
			} else {
				out[k] = c.val
			}
		}
	}
	return out
}

// next is the first key of r after last in the direction, or any when
// last is nil.
func (m *layered) next(r keys.Range, reverse bool, last *string) (k, v string, ok bool) {
	all := m.merged()
	order := slices.Sorted(maps.Keys(all))
	if reverse {
		slices.Reverse(order)
	}
	for _, k := range order {
		if !r.Contains([]byte(k)) || last != nil && (!reverse && k <= *last || reverse && k >= *last) {
			continue
		}
		return k, all[k], true
	}
	return "", "", false
}

// TestViewAgainstModel builds a snapshot with one to three overlays over it
// and holds Get and every step of an iteration, between which the overlays
// change, against plain maps.
func TestViewAgainstModel(t *testing.T) {
	s, err := store.Open("db", store.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rapid.Check(t, func(t *rapid.T) {
		m := &layered{base: rapid.MapOfN(someKey(), rapid.StringN(0, 2, -1), 0, 6).Draw(t, "base")}
		b := s.NewBatch()
		old := s.NewSnapshot()
		it, err := old.Iterate(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		for ok := it.First(); ok; ok = it.Next() {
			if string(it.Key()) != "mformat" {
				if err := b.Delete(it.Key()); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := it.Close(); err != nil {
			t.Fatal(err)
		}
		old.Release()
		for k, v := range m.base {
			if err := b.Set([]byte(k), []byte(v)); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.ApplyDurably(b); err != nil {
			t.Fatal(err)
		}
		m.base["mformat"] = string([]byte{0, 0, 0, store.FormatVersion})
		snap := s.NewSnapshot()
		defer snap.Release()

		view := txn.View{Base: snap}
		for range rapid.IntRange(1, 3).Draw(t, "layers") {
			view.Layers = append(view.Layers, new(txn.Overlay))
			m.layers = append(m.layers, map[string]change{})
		}
		modify := func() {
			n := rapid.IntRange(0, len(view.Layers)-1).Draw(t, "layer")
			k, c := someKey().Draw(t, "key"), change{val: rapid.StringN(0, 2, -1).Draw(t, "value")}
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				view.Layers[n].Set([]byte(k), txn.Write{Value: []byte(c.val)})
				m.layers[n][k] = c
			case 1:
				view.Layers[n].Delete([]byte(k))
				m.layers[n][k] = change{deleted: true}
			case 2:
				// An index entry that stays: no value, and present below.
				if v, ok := m.merged()[k]; !ok || v != "" {
					return
				}
				view.Layers[n].Touch([]byte(k))
				if _, changed := m.layers[n][k]; !changed {
					m.layers[n][k] = change{}
				}
			}
		}
		for range rapid.IntRange(0, 12).Draw(t, "changes") {
			modify()
		}

		all := m.merged()
		for range 4 {
			k := someKey().Draw(t, "get")
			v, ok, err := view.Get([]byte(k))
			want, present := all[k]
			if err != nil || ok != present || ok && string(v) != want {
				t.Fatalf("Get(%q) is %q, %v, %v, want %q, %v", k, v, ok, err, want, present)
			}
		}

		r := keys.Range{Start: []byte(someBound().Draw(t, "start"))}
		if rapid.Bool().Draw(t, "bounded") {
			r.End = []byte(someBound().Draw(t, "end"))
		}
		if r.Empty() {
			return
		}
		reverse := rapid.Bool().Draw(t, "reverse")
		walk, err := view.Iterate(r, reverse)
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := walk.Close(); err != nil {
				t.Fatal(err)
			}
		}()
		var last *string
		for step := 0; step < 30; step++ {
			for range rapid.IntRange(0, 2).Draw(t, "changes between steps") {
				modify()
			}
			k, v, want := m.next(r, reverse, last)
			if got := walk.Next(); got != want {
				t.Fatalf("step %d: Next is %v, want %v (%q); at %v", step, got, want, k, last)
			}
			if !want {
				return
			}
			if string(walk.Key()) != k || string(walk.Value()) != v {
				t.Fatalf("step %d: %q = %q, want %q = %q", step, walk.Key(), walk.Value(), k, v)
			}
			last = &k
		}
	})
}

// TestMergeIsReadingThrough: what a View sees through two overlays is what it
// sees through one that the upper was merged into.
func TestMergeIsReadingThrough(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var lower, upper txn.Overlay
		present := map[string]bool{} // aggregate entries, so that none is counted twice
		for _, o := range []*txn.Overlay{&lower, &upper} {
			for range rapid.IntRange(0, 8).Draw(t, "changes") {
				k := someKey().Draw(t, "key")
				switch rapid.IntRange(0, 3).Draw(t, "kind") {
				case 0:
					o.Set([]byte(k), txn.Write{Value: []byte(rapid.StringN(0, 2, -1).Draw(t, "value"))})
				case 1:
					o.Delete([]byte(k))
				case 2:
					o.Touch([]byte(k))
				case 3:
					if present[k] {
						o.Entry([]byte(k), txn.Entry{Delta: -1})
					} else {
						o.Entry([]byte(k), txn.Entry{Delta: +1})
					}
					present[k] = !present[k]
				}
			}
		}
		type effect struct {
			val              string
			deleted, touched bool
		}
		effects := func(o *txn.Overlay, into map[string]effect) map[string]effect {
			o.EachWrite(func(k string, w txn.Write) bool {
				if _, changed := into[k]; !w.Touched || !changed {
					into[k] = effect{string(w.Value), w.Deleted, w.Touched}
				}
				return true
			})
			return into
		}
		want := effects(&upper, effects(&lower, map[string]effect{}))
		rg := keys.Range{Start: []byte(someBound().Draw(t, "start"))}
		count := lower.CountEntries(rg) + upper.CountEntries(rg)

		lower.Merge(&upper)
		got := effects(&lower, map[string]effect{})
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("merged: %v, want %v", got, want)
		}
		if n := lower.CountEntries(rg); n != count {
			t.Fatalf("merged counts %d entries from %q on, the two counted %d", n, rg.Start, count)
		}
		entries := 0
		lower.EachEntry(keys.Range{}, func(k string, e txn.Entry) bool {
			entries++
			if want := map[bool]int8{true: 1, false: -1}[present[k]]; e.Delta != want {
				t.Fatalf("entry %q has delta %d, want %d", k, e.Delta, want)
			}
			return true
		})
		// Nothing was there before, so what is present has +1 and nothing has -1.
		if n := countPresent(present); entries != n {
			t.Fatalf("%d entries, want the %d that are present", entries, n)
		}
		if lower.Len() != len(got)+countPresent(present) || lower.Empty() != (lower.Len() == 0) {
			t.Fatalf("length %d, empty %v, want %d changes", lower.Len(), lower.Empty(), len(got)+countPresent(present))
		}
	})
}

func countPresent(m map[string]bool) (n int) {
	for _, p := range m {
		if p {
			n++
		}
	}
	return n
}

func TestTouchKeepsChanges(t *testing.T) {
	k := []byte("x")
	for _, c := range []struct {
		name  string
		build func(o *txn.Overlay)
		want  txn.Write
	}{
		{"touched", func(o *txn.Overlay) { o.Touch(k) }, txn.Write{Touched: true}},
		{"touched twice", func(o *txn.Overlay) { o.Touch(k); o.Touch(k) }, txn.Write{Touched: true}},
		{"put, touched", func(o *txn.Overlay) { o.Set(k, txn.Write{}); o.Touch(k) }, txn.Write{}},
		{"removed, touched", func(o *txn.Overlay) { o.Delete(k); o.Touch(k) }, txn.Write{Deleted: true}},
		{"touched, removed", func(o *txn.Overlay) { o.Touch(k); o.Delete(k) }, txn.Write{Deleted: true}},
		{"touched, put", func(o *txn.Overlay) { o.Touch(k); o.Set(k, txn.Write{}) }, txn.Write{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var o txn.Overlay
			c.build(&o)
			w, ok := o.Get(k)
			if !ok || w.Deleted != c.want.Deleted || w.Touched != c.want.Touched {
				t.Errorf("the change is %+v, %v, want %+v", w, ok, c.want)
			}
			// The same through a merge into an empty overlay.
			var below txn.Overlay
			below.Merge(&o)
			if w, _ := below.Get(k); w.Deleted != c.want.Deleted || w.Touched != c.want.Touched {
				t.Errorf("merged, the change is %+v, want %+v", w, c.want)
			}
		})
	}
}

func TestEntryCountedTwicePanics(t *testing.T) {
	for _, e := range []txn.Entry{{Delta: +1}, {Delta: -1}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("adding %d twice to an entry does not panic", e.Delta)
				}
			}()
			var o txn.Overlay
			o.Entry([]byte("e"), e)
			o.Entry([]byte("e"), e)
		}()
	}
}

// TestReadSet: a read set covers exactly the points and ranges added to it,
// however it joins them.
func TestReadSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rs txn.ReadSet
		var ranges []keys.Range
		points := map[string]bool{}
		covered := func(rs []keys.Range, k string) bool {
			return slices.ContainsFunc(rs, func(r keys.Range) bool { return r.Contains([]byte(k)) })
		}
		cursor := someKey().Draw(t, "cursor")
		for range rapid.IntRange(0, 10).Draw(t, "reads") {
			switch rapid.IntRange(0, 3).Draw(t, "kind") {
			case 0:
				k := someKey().Draw(t, "point")
				rs.AddPoint([]byte(k))
				points[k] = true
			case 1:
				r := keys.Range{Start: []byte(someBound().Draw(t, "start"))}
				if rapid.Bool().Draw(t, "bounded") {
					r.End = []byte(someBound().Draw(t, "end"))
				}
				rs.AddRange(r)
				ranges = append(ranges, r)
			case 2: // the next page
				r := keys.Range{Start: []byte(cursor), End: keys.Next([]byte(max(cursor, someKey().Draw(t, "page"))))}
				rs.AddRange(r)
				ranges = append(ranges, r)
				cursor = string(r.End)
			case 3: // the last one again
				if len(ranges) > 0 {
					rs.AddRange(ranges[len(ranges)-1])
				}
			}
		}
		for range 10 {
			k := someKey().Draw(t, "key")
			if got, want := covered(rs.Ranges(), k), covered(ranges, k); got != want {
				t.Fatalf("%q covered: %v, want %v by %v; kept %v", k, got, want, ranges, rs.Ranges())
			}
		}
		want := slices.Sorted(maps.Keys(points))
		var got []string
		for _, k := range rs.Points() {
			got = append(got, string(k))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("points are %q, want %q", got, want)
		}
		if n := len(want) + len(rs.Ranges()); rs.Len() != n {
			t.Fatalf("Len is %d, want %d", rs.Len(), n)
		}
		for _, r := range rs.Ranges() {
			if r.Empty() {
				t.Fatalf("an empty range is kept")
			}
		}
		rs.Reset()
		if rs.Len() != 0 || len(rs.Points()) != 0 || len(rs.Ranges()) != 0 {
			t.Fatalf("after Reset %d reads are left", rs.Len())
		}
	})
}

func TestReadSetJoinsPages(t *testing.T) {
	var rs txn.ReadSet
	for i := range 100 {
		rs.AddRange(keys.Range{Start: []byte{byte(i)}, End: []byte{byte(i + 1)}})
	}
	if n := len(rs.Ranges()); n != 1 {
		t.Fatalf("100 pages one after the other are %d intervals", n)
	}
	if r := rs.Ranges()[0]; !bytes.Equal(r.Start, []byte{0}) || !bytes.Equal(r.End, []byte{100}) {
		t.Fatalf("the interval is [%x, %x)", r.Start, r.End)
	}
}
