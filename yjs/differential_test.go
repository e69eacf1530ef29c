package yjs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// histories is how many random histories each differential test runs: short,
// or what HALCYON_YJS_HISTORIES says.
func histories(t testing.TB, short int) int {
	if n, err := strconv.Atoi(os.Getenv("HALCYON_YJS_HISTORIES")); err == nil {
		return n
	}
	return short
}

// compareOutcome reports the first difference between what this package and
// npm yjs made of a script.
func compareOutcome(s *script, got, want *outcome) error {
	for i := range want.Out {
		g, w := got.Out[i], want.Out[i]
		if len(g) != len(w) {
			return fmt.Errorf("step %d %v sent %d updates, want %d:\n%v\n%v", i, s.Steps[i], len(g), len(w), hexAll(g), hexAll(w))
		}
		for k := range w {
			if g[k] != w[k] {
				return fmt.Errorf("step %d %v, update %d\n got %s\nwant %s", i, s.Steps[i], k, hexOf(g[k][1]), hexOf(w[k][1]))
			}
		}
	}
	for i := range want.Docs {
		if err := compareState(got.Docs[i], want.Docs[i]); err != nil {
			return fmt.Errorf("document %d: %w", i, err)
		}
	}
	return nil
}

func hexOf(s string) string {
	b, _ := base64.StdEncoding.DecodeString(s)
	return fmt.Sprintf("%x", b)
}

func hexAll(updates [][2]string) (out []string) {
	for _, u := range updates {
		out = append(out, u[0]+":"+hexOf(u[1]))
	}
	return out
}

// TestDifferentialHistories runs random histories of several documents here
// and in npm yjs. Every update sent and every final state must be the same, to
// the byte.
func TestDifferentialHistories(t *testing.T) {
	var known atomic.Int64
	eachSeed(t, histories(t, 120), func(t *testing.T, o *oracle, seed uint64) {
		s, r, err := generate(seed, 1+int(seed%4), 20+int(seed%60), func(g *generator) {
			g.s.GC = seed%2 == 0
			g.formats = seed%3 != 0
			g.undo = seed%5 != 0
			g.deliver = seed%7 == 0
		})
		if err != nil {
			t.Fatal(err)
		}
		got := r.outcome()
		var want outcome
		if err := o.ask(t, s, &want); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for i := range want.Docs {
			if want.Docs[i].Pending && !got.Docs[i].Pending {
				known.Add(1)
			}
		}
		f := &fixture{Script: s, Want: &want}
		if err := compareOutcome(s, got, &want); err != nil {
			f.save(t, fmt.Sprint("history-", seed))
			t.Fatalf("seed %d: %v", seed, err)
		}
		if seed < recordedHistories {
			record(f)
		}
	})
	t.Logf("npm yjs left changes pending for ever in %d documents", known.Load())
}

// TestDifferentialUpdates works on the updates of random histories without a
// document, here and in npm yjs.
func TestDifferentialUpdates(t *testing.T) {
	var conflicts, stuck, cut atomic.Int64
	total := histories(t, 120)
	eachSeed(t, total, func(t *testing.T, o *oracle, seed uint64) {
		_, r, err := generate(seed, 1+int(seed%4), 20+int(seed%40), func(g *generator) {
			g.s.GC = seed%3 == 0
			g.deliver = seed%2 == 0
		})
		must(t, err)
		rnd := rand.New(rand.NewPCG(seed, 3))
		updates := append([][]byte(nil), r.v1...)
		for _, d := range r.docs {
			updates = append(updates, d.EncodeState(nil))
		}
		rnd.Shuffle(len(updates), func(i, k int) { updates[i], updates[k] = updates[k], updates[i] })
		updates = updates[:2+rnd.IntN(len(updates)-1)]
		for _, v := range []Version{V1, V2} {
			c := Codec{Version: v, FirstWins: true, KeepSplit: true}
			u := updates
			if v == V2 {
				u = convert(t, u)
			}
			check := func(op string, of [][]byte, sv []byte) {
				t.Helper()
				f := &fixture{Op: op, V: v, U: of, SV: sv}
				must(t, f.askBytes(t, o))
				if err := f.check(); err != nil {
					f.save(t, fmt.Sprint(op, "-", seed))
					t.Fatalf("seed %d: %v", seed, err)
				}
				if seed < recordedUpdates {
					record(f)
				}
			}
			merged, err := c.Merge(u...)
			must(t, err)
			if _, conflict, _ := c.merge(u, nil); conflict {
				// Where one update holds content and another has collected it,
				// npm yjs sorts by a comparison that contradicts itself.
				conflicts.Add(1)
			} else {
				check("merge", u, nil)
			}
			check("sv", [][]byte{merged}, nil)
			sv, err := c.StateVector(merged)
			must(t, err)
			for client, clock := range sv {
				switch rnd.IntN(3) {
				case 0:
					delete(sv, client)
				case 1:
					sv[client] = rnd.Uint64N(clock + 2)
				}
			}
			check("diff", [][]byte{merged}, sv.Encode())
			check("conv", [][]byte{merged}, nil)
		}
		compareApplied(t, o, seed, updates, rnd, &stuck, &cut)
	})
	if conflicts.Load() > int64(total) {
		t.Errorf("%d of %d merges were not compared", conflicts.Load(), 2*total)
	}
	if n := cut.Load(); n > 1+int64(total)/1000 {
		t.Errorf("pairs were cut otherwise than in npm yjs in %d documents", n)
	}
	t.Logf("%d of %d merges not compared, since npm yjs takes whatever comes first; npm yjs left changes pending for ever in %d documents, and cut pairs of deleted text in %d",
		conflicts.Load(), 2*total, stuck.Load(), cut.Load())
}

// compareApplied applies updates in random groups, each merged with and without
// joining, onto a document that has a part of them already, in npm yjs and here.
// All of it must come to the same document, to the byte.
func compareApplied(t *testing.T, o *oracle, seed uint64, updates [][]byte, rnd *rand.Rand, stuck, cut *atomic.Int64) {
	t.Helper()
	v := V1 + Version(rnd.IntN(2))
	gc := rnd.IntN(2) == 0
	if v == V2 {
		updates = convert(t, updates)
	}
	prefix := updates[:rnd.IntN(len(updates))]
	parts := make([][][]byte, 1+rnd.IntN(3))
	for _, u := range updates {
		i := rnd.IntN(len(parts))
		parts[i] = append(parts[i], u)
	}
	plain, joined := append([][]byte(nil), prefix...), append([][]byte(nil), prefix...)
	for _, p := range parts {
		split, err := Codec{Version: v, KeepSplit: true}.Merge(p...)
		must(t, err)
		plain = append(plain, split)
		whole, err := Codec{Version: v}.Merge(p...)
		must(t, err)
		joined = append(joined, whole)
	}
	var want, got docState
	must(t, o.ask(t, fixture{Op: "apply", V: v, U: plain, GC: gc}, &want))
	must(t, o.ask(t, fixture{Op: "apply", V: v, U: joined, GC: gc}, &got))
	same := func(who string, got docState) {
		t.Helper()
		defer func() {
			if t.Failed() {
				(&fixture{Op: "apply", V: v, U: plain, GC: gc, WantDoc: &want}).save(t, fmt.Sprint("apply-", seed))
			}
		}()
		if diff := cmp.Diff(want.Roots, got.Roots); diff != "" || got.Pending != want.Pending || !bytes.Equal(got.SV, want.SV) || !bytes.Equal(got.Snap, want.Snap) {
			t.Fatalf("seed %d, V%d: %s has another document: pending %v, want %v: -want +got\n%s\nof %x", seed, v, who, got.Pending, want.Pending, diff, plain)
		}
		if !got.Pending && (!bytes.Equal(got.V1, want.V1) || !bytes.Equal(got.V2, want.V2)) {
			if sameButCutPairs(got.V1, want.V1) {
				cut.Add(1)
				return
			}
			t.Fatalf("seed %d, V%d: %s writes another state\n got %x\nwant %x", seed, v, who, got.V1, want.V1)
		}
	}
	same("npm yjs, from joined updates,", got)
	for i, u := range [][][]byte{plain, joined} {
		f := &fixture{Op: "apply", V: v, U: u, GC: gc, WantDoc: &want}
		state, err := f.apply()
		must(t, err)
		if want.Pending && !state.Pending {
			// npm yjs did not try again.
			if n := stuck.Add(1); i == 0 && n <= 2 {
				record(f)
			}
			continue
		}
		same("this package", state)
		if seed < recordedUpdates {
			record(f)
		}
	}
}

// TestDifferentialEvents compares what observers are told.
func TestDifferentialEvents(t *testing.T) {
	var total, more atomic.Int64
	n := histories(t, 40) / 4
	eachSeed(t, n, func(t *testing.T, o *oracle, seed uint64) {
		// Of formatted text only one's own changes: after those of peers npm yjs
		// may delete marks when it is asked.
		formats := seed%3 == 0
		s, r, err := generate(seed, 1+int(seed%3), 20+int(seed%40), func(g *generator) {
			g.s.Events = true
			g.s.GC = seed%2 == 0
			g.formats = formats
			g.undo = seed%5 != 0 && !formats
		})
		must(t, err)
		got := r.outcome()
		var want outcome
		must(t, o.ask(t, s, &want))
		if asked(got, &want) {
			more.Add(1)
			return
		}
		f := &fixture{Script: s, Want: &want}
		if err := f.check(); err != nil {
			f.save(t, fmt.Sprint("events-", seed))
			t.Fatalf("seed %d: %v", seed, err)
		}
		total.Add(int64(len(want.Events)))
		if seed < recordedEvents {
			record(f)
		}
	})
	if total.Load() == 0 || more.Load() > int64(n/10+2) {
		t.Errorf("%d events compared, %d histories not", total.Load(), more.Load())
	}
	t.Logf("%d events compared; in %d histories npm yjs deleted marks when it was asked for a delta", total.Load(), more.Load())
}

// asked reports whether npm yjs sent something for having been asked for the
// delta of an event, which makes the rest of two histories incomparable.
func asked(got, want *outcome) bool {
	for i, w := range want.Out {
		g := got.Out[i]
		if !slices.Equal(g, w) {
			return len(g) < len(w) && slices.Equal(g, w[:len(g)])
		}
	}
	return false
}

// compareEvents reports the first difference between what observers were told.
func compareEvents(got, want []any) error {
	raw, err := json.Marshal(got)
	if err != nil {
		return err
	}
	var plain []any
	if err := json.Unmarshal(raw, &plain); err != nil {
		return err
	}
	for i := range want {
		if i >= len(plain) {
			return fmt.Errorf("%d events, want %d", len(plain), len(want))
		}
		if diff := cmp.Diff(want[i], plain[i]); diff != "" {
			return fmt.Errorf("event %d: -want +got\n%s", i, diff)
		}
	}
	if len(plain) > len(want) {
		return fmt.Errorf("%d events, want %d", len(plain), len(want))
	}
	return nil
}

// TestDifferentialDamage changes bytes of updates. What this package still
// accepts npm yjs must accept as well, so that nothing it lets in can make a
// document unreadable, and both must make the same of it.
func TestDifferentialDamage(t *testing.T) {
	var accepted, refused atomic.Int64
	eachSeed(t, histories(t, 120), func(t *testing.T, o *oracle, seed uint64) {
		_, r, err := generate(seed, 2, 12, func(g *generator) { g.undo = false })
		must(t, err)
		rnd := rand.New(rand.NewPCG(seed, 4))
		all := append([][]byte{r.docs[0].EncodeState(nil)}, r.v1...)
		for range 12 {
			v := V1 + Version(rnd.IntN(2))
			u := all[rnd.IntN(len(all))]
			if v == V2 {
				u = convert(t, [][]byte{u})[0]
			}
			u = damage(rnd, u)
			if (Codec{Version: v}).Validate(u) != nil {
				refused.Add(1)
				continue
			}
			accepted.Add(1)
			f := &fixture{Op: "apply", V: v, U: [][]byte{u}, WantDoc: &docState{}}
			if err := o.ask(t, f, f.WantDoc); err != nil {
				t.Fatalf("seed %d: accepted V%d %x, but npm yjs: %v", seed, v, u, err)
			}
			// What is written again may differ: npm yjs writes values and
			// overlapping deletions anew where this package keeps the bytes.
			got, err := f.apply()
			must(t, err)
			want := *f.WantDoc
			want.V1, want.V2, want.Snap, want.Snap2 = got.V1, got.V2, got.Snap, got.Snap2
			if err := compareState(got, want); err != nil {
				t.Fatalf("seed %d: apply V%d %x: %v", seed, v, u, err)
			}
		}
	})
	if accepted.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d damaged updates accepted, %d refused", accepted.Load(), refused.Load())
	}
	t.Logf("%d damaged updates accepted by both, %d refused", accepted.Load(), refused.Load())
}

// damage changes a few bytes.
func damage(rnd *rand.Rand, u []byte) []byte {
	u = slices.Clone(u)
	for range 1 + rnd.IntN(2) {
		i := rnd.IntN(len(u))
		switch rnd.IntN(4) {
		case 0:
			u[i] = byte(rnd.IntN(256))
		case 1:
			u[i] ^= 1 << rnd.IntN(8)
		case 2:
			u = slices.Delete(u, i, i+1)
		case 3:
			u = slices.Insert(u, i, byte(rnd.IntN(256)))
		}
		if len(u) == 0 {
			return []byte{0}
		}
	}
	return u
}
