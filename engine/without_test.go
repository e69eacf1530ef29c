package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// checkWithout leaves out some documents and compares what the aggregate says then
// with the others. docs are all, in the order of the aggregate.
func checkWithout(tx *engine.Tx, a *engine.Aggregate, rnd *rand.Rand, docs []engine.Document) error {
	var without, rest []engine.Document
	share := []float64{0.05, 0.5, 1}[rnd.IntN(3)]
	for _, d := range docs {
		if rnd.Float64() < share {
			without = append(without, d)
		} else {
			rest = append(rest, d)
		}
	}
	rnd.Shuffle(len(without), func(i, j int) { without[i], without[j] = without[j], without[i] })
	if err := checkTop(tx, a, rnd.IntN(20), rest, without...); err != nil {
		return fmt.Errorf("without %d of %d documents: %w", len(without), len(docs), err)
	}
	r, in := someRange(rnd, rest)
	if n, err := tx.Count(a, r, without...); err != nil || n != int64(len(in)) {
		return fmt.Errorf("count of %+v without %d of %d documents: got %d, %v, want %d", r, len(without), len(docs), n, err, len(in))
	}
	shop := value.String(fmt.Sprintf("shop %d", rnd.IntN(8)))
	want := int64(0)
	for _, d := range rest {
		if value.Equal(d.Fields.Get("shop"), shop) {
			want++
		}
	}
	got := int64(0)
	for g, err := range tx.GroupsWithout(a, without, shop) {
		if err != nil {
			return err
		}
		got += g.Count
	}
	if got != want {
		return fmt.Errorf("group %v without %d of %d documents: got %d, want %d", shop, len(without), len(docs), got, want)
	}
	return nil
}

// checkDocuments compares the first documents of a range with all of it.
func checkDocuments(tx *engine.Tx, a *engine.Aggregate, rnd *rand.Rand, docs []engine.Document) error {
	r, in := someRange(rnd, docs)
	n := rnd.IntN(len(in) + 3)
	got, err := tx.Documents(a, r, n)
	if err != nil || !slices.EqualFunc(got, in[:min(n, len(in))], func(x, y engine.Document) bool {
		return x.ID == y.ID && x.CreationTime == y.CreationTime && value.Equal(x.Fields, y.Fields)
	}) {
		return fmt.Errorf("first %d documents of %+v: got %v, %v, want those of %v", n, r, got, err, in)
	}
	return checkIdentity(tx, a, r, n, in)
}

// checkIdentity compares what tells the first n documents of a range apart with
// these documents.
func checkIdentity(tx *engine.Tx, a *engine.Aggregate, r engine.Range, n int, in []engine.Document) error {
	got, err := tx.Identity(a, r, n)
	if err != nil {
		return err
	}
	for _, d := range in[:min(n, len(in))] {
		i := strings.Index(got, string(d.ID.Key[:]))
		if i < 0 {
			return fmt.Errorf("identity of %d of %+v does not have %s, or not in its place: %x", n, r, d.ID, got)
		}
		got = got[i+len(d.ID.Key):]
	}
	if got != "" {
		return fmt.Errorf("identity of %d of %+v has more: %x", n, r, got)
	}
	return nil
}

// TestVersionNamesWhatAnAggregateHolds: it changes when a document comes, goes or
// moves, and not when another field changes; a state that is held keeps its own.
func TestVersionNamesWhatAnAggregateHolds(t *testing.T) {
	def := engine.AggregateDef{Name: "by_shop", GroupBy: []string{"shop"}, OrderBy: []string{"day"}, Ranked: true}
	db := openSales(t, vfs.NewMem(), def)
	table := db.Table("sales")
	version := func(tx *engine.Tx) engine.Version {
		v, ok, err := tx.Version(table.Aggregate("by_shop"))
		if !ok || err != nil {
			t.Fatalf("no version in a query: %v", err)
		}
		return v
	}
	now := func() (v engine.Version) {
		query(t, db, func(tx *engine.Tx) error { v = version(tx); return nil })
		return v
	}
	var id value.ID
	seen := []engine.Version{now()}
	for _, step := range []struct {
		name   string
		change func(tx *engine.Tx) error
		other  bool
	}{
		{"insert", func(tx *engine.Tx) (err error) { id, err = tx.Insert(table, fields("shop", "a", "day", 1)); return err }, true},
		{"another field", func(tx *engine.Tx) error { return tx.Patch(table, id, fields("note", "x")) }, false},
		{"another day", func(tx *engine.Tx) error { return tx.Patch(table, id, fields("day", 2)) }, true},
		{"another shop", func(tx *engine.Tx) error { return tx.Patch(table, id, fields("shop", "b")) }, true},
		{"back", func(tx *engine.Tx) error { return tx.Patch(table, id, fields("shop", "a", "day", 1)) }, true},
		{"nothing", func(tx *engine.Tx) error { return nil }, false},
		{"delete", func(tx *engine.Tx) error { return tx.Delete(table, id) }, true},
	} {
		query(t, db, func(old *engine.Tx) error {
			before := version(old)
			mutate(t, db, func(tx *engine.Tx) error {
				if _, ok, err := tx.Version(table.Aggregate("by_shop")); ok || err != nil {
					return fmt.Errorf("%s: a mutation has a version, %v", step.name, err)
				}
				return step.change(tx)
			})
			if version(old) != before {
				return fmt.Errorf("%s: the version of a state that is held changed", step.name)
			}
			return nil
		})
		// An empty tree is an empty tree, so the last one may be the first again.
		v := now()
		if changed := v != seen[len(seen)-1]; changed != step.other {
			t.Errorf("%s: another version: %v, want %v", step.name, changed, step.other)
		}
		if step.other && step.name != "delete" && slices.Contains(seen, v) {
			t.Errorf("%s: the version was there before", step.name)
		}
		seen = append(seen, v)
	}
}
