package yjs

import (
	"math/rand/v2"
	"testing"
)

// TestPendingInAnyOrder: whatever order updates come in, the document is the
// same at the end, and what waits is told until then.
func TestPendingInAnyOrder(t *testing.T) {
	updates := typing(3000)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	want := NewDoc(nil)
	for _, u := range updates {
		must(t, want.Apply(u, nil))
	}
	for name, order := range map[string]func(n int) []int{
		"backwards": func(n int) (out []int) {
			for i := range n {
				out = append(out, n-1-i)
			}
			return out
		},
		"shuffled": func(n int) []int { return rnd.Perm(n) },
		"in pairs": func(n int) (out []int) {
			for i := 0; i < n; i += 2 {
				out = append(out, i+1, i)
			}
			return out
		},
	} {
		d := NewDoc(nil)
		for i, at := range order(len(updates)) {
			must(t, d.Apply(updates[at], nil))
			if p := d.Pending(); p != nil && (p.Bytes == 0 || len(p.Missing) != 1 || len(d.pending.waits) != 1) {
				t.Fatalf("%s: after %d updates %+v is pending, waiting for %v", name, i+1, p, d.pending.waits)
			}
		}
		if d.Pending() != nil || d.Text("text").String() != want.Text("text").String() {
			t.Errorf("%s: pending %+v, a text of %d units, want %d", name, d.Pending(), d.Text("text").Len(), want.Text("text").Len())
		}
	}
}

// TestPendingIsMergedRarely: each byte that has to wait is merged a few times,
// not once for every update that comes after it.
func TestPendingIsMergedRarely(t *testing.T) {
	d := NewDoc(nil)
	updates := typing(4000)
	for i := len(updates) - 1; i > 0; i-- {
		must(t, d.Apply(updates[i], nil))
		for k := 1; k < len(d.pending.structs); k++ {
			if older, newer := len(d.pending.structs[k-1]), len(d.pending.structs[k]); older <= 2*newer {
				t.Fatalf("after %d updates one of %d bytes waits before one of %d", len(updates)-i, older, newer)
			}
		}
	}
	// A state that is encoded has what waits in it.
	other := NewDoc(nil)
	must(t, other.Apply(d.EncodeState(nil), nil))
	must(t, other.Apply(updates[0], nil))
	if n := other.Text("text").Len(); n != len(updates) {
		t.Errorf("a document made of the state has %d units, want %d", n, len(updates))
	}
}
