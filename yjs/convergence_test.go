package yjs

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// load applies updates to a new document.
func load(t testing.TB, v Version, updates ...[]byte) *Doc {
	t.Helper()
	d := NewDoc(nil)
	for _, u := range updates {
		if err := d.apply(u, v, nil); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// groups splits updates into parts and merges each with f.
func groups(t testing.TB, rnd *rand.Rand, n int, updates [][]byte, f func(...[]byte) ([]byte, error)) [][]byte {
	t.Helper()
	parts := make([][][]byte, n)
	for _, u := range updates {
		i := rnd.IntN(n)
		parts[i] = append(parts[i], u)
		if rnd.IntN(10) == 0 {
			i = rnd.IntN(n)
			parts[i] = append(parts[i], u)
		}
	}
	var out [][]byte
	for _, p := range parts {
		rnd.Shuffle(len(p), func(i, k int) { p[i], p[k] = p[k], p[i] })
		u, err := f(p...)
		must(t, err)
		out = append(out, u)
	}
	return out
}

func convert(t testing.TB, updates [][]byte) [][]byte {
	t.Helper()
	var out [][]byte
	for _, u := range updates {
		v2, err := ConvertV1ToV2(u)
		must(t, err)
		out = append(out, v2)
	}
	return out
}

// joined returns the state of a document with neighbours joined: how far they
// are depends on the order in which changes arrived, also in npm yjs.
func joined(t testing.TB, d *Doc) []byte {
	t.Helper()
	u, err := MergeUpdates(d.EncodeState(nil))
	must(t, err)
	return u
}

// TestConvergence delivers the updates of random histories in any order and
// grouping, merged, compacted, converted and repeated. Every way must end in
// the same document, to the byte but for how far neighbours are joined, with
// nothing pending.
func TestConvergence(t *testing.T) {
	for seed := range uint64(histories(t, 150)) {
		_, r, err := generate(seed, 1+int(seed%4), 30+int(seed%50), func(g *generator) {
			g.formats = seed%3 != 0
			g.deliver = seed%7 == 0
			g.whole = true
		})
		must(t, err)
		rnd := rand.New(rand.NewPCG(seed, 2))
		want := joined(t, r.docs[0])
		wantState := stateOf(r.docs[0])
		updates := append([][]byte(nil), r.v1...)
		check := func(how string, d *Doc) {
			t.Helper()
			if p := d.Pending(); p != nil {
				t.Fatalf("seed %d, %s: pending %+v", seed, how, p)
			}
			if got := joined(t, d); !bytes.Equal(got, want) {
				t.Errorf("seed %d, %s:\n%s", seed, how, cmp.Diff(wantState.Roots, stateOf(d).Roots))
				t.Fatalf("\n got %x\nwant %x", got, want)
			}
		}
		for i, d := range r.docs {
			check(fmt.Sprint("document ", i), d)
		}
		check("in order", load(t, V1, updates...))
		rnd.Shuffle(len(updates), func(i, k int) { updates[i], updates[k] = updates[k], updates[i] })
		check("in random order", load(t, V1, updates...))
		check("merged in groups", load(t, V1, groups(t, rnd, 3, updates, Codec{KeepSplit: true}.Merge)...))
		check("joined in groups", load(t, V1, groups(t, rnd, 3, updates, MergeUpdates)...))
		v2 := convert(t, updates)
		check("V2 merged in groups", load(t, V2, groups(t, rnd, 3, v2, Codec{Version: V2, KeepSplit: true}.Merge)...))
		check("V2 joined in groups", load(t, V2, groups(t, rnd, 2, v2, MergeUpdatesV2)...))

		all, err := MergeUpdates(updates...)
		must(t, err)
		check("joined", load(t, V1, all))
		check("joined onto a part", load(t, V1, append(updates[:rnd.IntN(len(updates)+1):len(updates)], all)...))
		part := load(t, V1, updates[:rnd.IntN(len(updates)+1)]...)
		diff, err := DiffUpdate(all, part.State())
		must(t, err)
		must(t, part.Apply(diff, nil))
		check("a part and a diff", part)
		m, err := ParseUpdateMeta(all)
		must(t, err)
		if m.Gaps != 0 || !cmp.Equal(m.To, r.docs[0].State()) || !r.docs[0].Deleted().Covers(m.Deleted) {
			t.Fatalf("seed %d: meta of everything is %+v, the document's state %v", seed, m, r.docs[0].State())
		}
		sv, err := StateVectorFromUpdate(all)
		must(t, err)
		if !cmp.Equal(sv, r.docs[0].State()) {
			t.Fatalf("seed %d: state vector of everything is %v, want %v", seed, sv, r.docs[0].State())
		}
	}
}

// TestMergeKeepsContent merges the history of a document with the state of one
// that has collected its garbage, in every order: nothing of the history may
// be lost.
func TestMergeKeepsContent(t *testing.T) {
	for seed := range uint64(histories(t, 100)) {
		_, r, err := generate(seed, 2, 40, func(g *generator) { g.undo, g.whole = false, true })
		must(t, err)
		state := r.docs[0].EncodeState(nil)
		want := joined(t, r.docs[0])
		collected := NewDoc(&Options{GC: true})
		must(t, collected.Apply(state, nil))
		poor := collected.EncodeState(nil)
		full, err := MergeUpdates(r.v1...)
		must(t, err)
		for _, order := range [][][]byte{{full, poor}, {poor, full}, {poor, state}, {state, poor, full}, append([][]byte{poor}, r.v1...)} {
			for _, v := range []Version{V1, V2} {
				u := order
				if v == V2 {
					u = convert(t, order)
				}
				merged, err := Codec{Version: v}.Merge(u...)
				must(t, err)
				if got := joined(t, load(t, v, merged)); !bytes.Equal(got, want) {
					t.Fatalf("seed %d, V%d: content is gone\n got %x\nwant %x", seed, v, got, want)
				}
			}
		}
	}
}
