package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"

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
	return nil
}
