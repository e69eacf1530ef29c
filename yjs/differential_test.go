package yjs

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// histories is how many random histories each differential test runs.
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
		g, w := got.Docs[i], want.Docs[i]
		if w.Pending && !g.Pending {
			continue // npm yjs forgets to retry what it keeps pending now and then
		}
		if diff := cmp.Diff(w.Roots, g.Roots); diff != "" {
			return fmt.Errorf("document %d: -want +got\n%s", i, diff)
		}
		if g.Pending != w.Pending {
			return fmt.Errorf("document %d: pending %v, want %v", i, g.Pending, w.Pending)
		}
		for _, c := range []struct {
			name      string
			got, want []byte
		}{{"V1", g.V1, w.V1}, {"V2", g.V2, w.V2}, {"state vector", g.SV, w.SV}, {"snapshot", g.Snap, w.Snap}, {"snapshot V2", g.Snap2, w.Snap2}} {
			if !bytes.Equal(c.got, c.want) {
				return fmt.Errorf("document %d: %s\n got %x\nwant %x", i, c.name, c.got, c.want)
			}
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

const fixtureDir = "testdata/histories"

type fixture struct {
	Script *script  `json:"script"`
	Want   *outcome `json:"want"`
}

// saveFixture keeps a script that failed, with what npm yjs made of it, where
// TestHistoryFixtures finds it.
func saveFixture(t testing.TB, name string, s *script, want *outcome) {
	t.Helper()
	raw, err := json.Marshal(fixture{s, want})
	must(t, err)
	must(t, os.MkdirAll(fixtureDir, 0o755))
	path := filepath.Join(fixtureDir, name+".json")
	must(t, os.WriteFile(path, raw, 0o644))
	t.Logf("saved %s", path)
}

// TestHistoryFixtures runs saved scripts and compares with what npm yjs made
// of them, without needing it.
func TestHistoryFixtures(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(fixtureDir, "*.json"))
	must(t, err)
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			raw, err := os.ReadFile(path)
			must(t, err)
			var f fixture
			must(t, json.Unmarshal(raw, &f))
			got, _, err := runAll(f.Script)
			must(t, err)
			if err := compareOutcome(f.Script, got, f.Want); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDifferentialHistories runs random histories of several documents here
// and in npm yjs. Every update sent and every final state must be the same, to
// the byte.
func TestDifferentialHistories(t *testing.T) {
	o := startOracle(t)
	known := 0
	for seed := range uint64(histories(t, 120)) {
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
			if want.Docs[i].Pending {
				known++
			}
		}
		if err := compareOutcome(s, got, &want); err != nil {
			saveFixture(t, fmt.Sprint("seed-", seed), s, &want)
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
	if known > 0 {
		t.Logf("npm yjs left changes pending in %d documents", known)
	}
}

// updateRequest asks the oracle to do something with updates.
type updateRequest struct {
	Op string   `json:"op"`
	V  Version  `json:"v"`
	U  [][]byte `json:"u"`
	SV []byte   `json:"sv,omitempty"`
	GC bool     `json:"gc,omitempty"`
}

// TestDifferentialUpdates works on the updates of random histories without a
// document, here and in npm yjs.
func TestDifferentialUpdates(t *testing.T) {
	o := startOracle(t)
	conflicts, total := 0, histories(t, 120)
	for seed := range uint64(total) {
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
			c := Codec{Version: v, FirstWins: true}
			u := updates
			if v == V2 {
				u = convert(t, u)
			}
			check := func(req updateRequest, got []byte, err error) {
				t.Helper()
				req.V = v
				var want []byte
				if oracleErr := o.ask(t, req, &want); oracleErr != nil {
					t.Fatalf("seed %d, %s V%d: %v", seed, req.Op, v, oracleErr)
				}
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("seed %d, %s V%d: %v\n   of %x\n got %x\nwant %x", seed, req.Op, v, err, req.U, got, want)
				}
			}
			merged, err := c.Merge(u...)
			if _, conflict, _ := c.merge(u, nil); conflict && err == nil {
				// Where one update holds content and another has collected it,
				// npm yjs sorts by a comparison that contradicts itself.
				conflicts++
			} else {
				check(updateRequest{Op: "merge", U: u}, merged, err)
			}
			sv, err := c.StateVector(merged)
			check(updateRequest{Op: "sv", U: [][]byte{merged}}, sv.Encode(), err)
			for client, clock := range sv {
				switch rnd.IntN(3) {
				case 0:
					delete(sv, client)
				case 1:
					sv[client] = rnd.Uint64N(clock + 2)
				}
			}
			diff, err := c.Diff(merged, sv)
			check(updateRequest{Op: "diff", U: [][]byte{merged}, SV: sv.Encode()}, diff, err)
			other, err := c.Convert(merged, 3-v)
			check(updateRequest{Op: "conv", U: [][]byte{merged}}, other, err)
		}
		compareApplied(t, o, seed, updates, rnd)
	}
	if conflicts > total {
		t.Errorf("%d of %d merges were not compared", conflicts, 2*total)
	}
}

// compareApplied loads updates into npm yjs as they are and compacted, and
// compares with what this package makes of them.
func compareApplied(t *testing.T, o *oracle, seed uint64, updates [][]byte, rnd *rand.Rand) {
	t.Helper()
	merged, err := MergeUpdates(updates...)
	must(t, err)
	compacted, err := CompactUpdates(updates...)
	must(t, err)
	gc := rnd.IntN(2) == 0
	var plain, squashed docState
	must(t, o.ask(t, updateRequest{Op: "apply", V: V1, U: [][]byte{merged}, GC: gc}, &plain))
	must(t, o.ask(t, updateRequest{Op: "apply", V: V1, U: [][]byte{compacted}, GC: gc}, &squashed))
	if diff := cmp.Diff(plain.Roots, squashed.Roots); diff != "" || !bytes.Equal(plain.SV, squashed.SV) || !bytes.Equal(plain.Snap, squashed.Snap) {
		t.Fatalf("seed %d: npm yjs reads another document from the compacted update:\n%s", seed, diff)
	}
	if !plain.Pending && !bytes.Equal(plain.V1, squashed.V1) {
		t.Fatalf("seed %d: npm yjs writes another state after loading the compacted update\nmerged %x\ncompacted %x\n got %x\nwant %x", seed, merged, compacted, squashed.V1, plain.V1)
	}
	d := NewDoc(&Options{GC: gc, CleanFormats: true})
	for _, name := range []string{"t", "a", "m", "x"} {
		d.root(name, map[string]TypeKind{"t": KindText, "a": KindArray, "m": KindMap, "x": KindXMLFragment}[name])
	}
	must(t, d.Apply(merged, nil))
	got := stateOf(d)
	if plain.Pending && !got.Pending {
		return
	}
	if diff := cmp.Diff(plain.Roots, got.Roots); diff != "" || got.Pending != plain.Pending {
		t.Fatalf("seed %d: pending %v, want %v: -want +got\n%s", seed, got.Pending, plain.Pending, diff)
	}
	if !got.Pending && !bytes.Equal(got.V1, plain.V1) {
		t.Fatalf("seed %d: state differs from npm yjs\n got %x\nwant %x", seed, got.V1, plain.V1)
	}
}

// TestDifferentialEvents compares what observers are told.
func TestDifferentialEvents(t *testing.T) {
	o := startOracle(t)
	total := 0
	for seed := range uint64(histories(t, 40)) {
		// Of formatted text only one's own changes: after those of peers npm yjs
		// may delete marks when it is asked.
		formats := seed%3 == 0
		s, r, err := generate(seed, 1+int(seed%3), 20+int(seed%40), func(g *generator) {
			g.s.Events = true
			g.s.GC = seed%2 == 0
			g.formats = formats
			g.undo = seed%5 != 0 && !formats
		})
		if err != nil {
			t.Fatal(err)
		}
		got := r.outcome()
		var want outcome
		if err := o.ask(t, s, &want); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := compareOutcome(s, got, &want); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		total += len(want.Events)
		raw, err := json.Marshal(got.Events)
		must(t, err)
		var events []any
		must(t, json.Unmarshal(raw, &events))
		for i := range want.Events {
			if i >= len(events) || !cmp.Equal(want.Events[i], events[i]) {
				var have any
				if i < len(events) {
					have = events[i]
				}
				t.Fatalf("seed %d, event %d of %d: -want +got\n%s", seed, i, len(want.Events), cmp.Diff(want.Events[i], have))
			}
		}
		if len(events) != len(want.Events) {
			t.Fatalf("seed %d: %d events, want %d", seed, len(events), len(want.Events))
		}
	}
	if total == 0 {
		t.Error("no events")
	}
}
