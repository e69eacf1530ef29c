package engine

import (
	"fmt"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Total is what an aggregate with a sum knows about a range of documents.
type Total struct {
	Count   int64 // documents
	Numbers int64 // of these, those with a number in the summed field
	// Min and Max are the least and the greatest number in the order of values,
	// in which every int64 comes before every float64. They are undefined when
	// there is no number.
	Min, Max value.Value

	total aggregate.Total
}

// Sum returns the sum of the numbers. It is an int64 when all numbers are, and
// ErrSumRange is the error when it is beyond their range. Otherwise it is the
// float64 nearest to the true sum, whatever the order of documents; without any
// number it is 0.
func (t *Total) Sum() (value.Value, error) {
	w, err := t.total.Sum()
	if err != nil {
		return value.Value{}, err
	}
	if w.None() {
		return value.Float64(0), nil
	}
	return weightValue(w), nil
}

// weightValue returns a weight as a value, undefined when there is none.
func weightValue(w aggregate.Weight) value.Value {
	if i, ok := w.Int(); ok {
		return value.Int64(i)
	}
	if f, ok := w.Float(); ok {
		return value.Float64(f)
	}
	return value.Value{}
}

// Total returns the sum, the least and the greatest number of the summed field
// in a range of an aggregate, the transaction's own changes included. It costs
// O(log n). Error: ErrNoSum.
func (tx *Tx) Total(a *Aggregate, r Range) (Total, error) {
	if a.sum == "" {
		return Total{}, fmt.Errorf("total of %s of %s: %w", a.Name, a.table.Name, ErrNoSum)
	}
	rg, err := a.bytes(r)
	if err != nil || rg.Empty() {
		return Total{}, err
	}
	if err := tx.enter(); err != nil {
		return Total{}, err
	}
	defer tx.leave()
	if a, err = tx.aggregateLocked(a); err != nil {
		return Total{}, err
	}
	tx.mu.reads.AddRange(rg)
	if err := tx.intervalsLocked(); err != nil {
		return Total{}, err
	}
	var out Total
	if out.total, err = tx.totalLocked(a, rg); err != nil {
		return Total{}, tx.failLocked(fmt.Errorf("total of %s of %s: %w", a.Name, a.table.Name, err))
	}
	out.Count, out.Numbers = out.total.Count, out.total.Numbers
	out.Min, out.Max = weightValue(out.total.Min()), weightValue(out.total.Max())
	return out, nil
}

func (tx *Tx) totalLocked(a *Aggregate, rg keys.Range) (aggregate.Total, error) {
	changes := tx.mu.view.Entries(rg)
	total, err := tx.treeTotal(a, rg)
	if err != nil {
		return total, err
	}
	// What is gone is taken off again, which is exact. Only where it may have
	// been the least or the greatest does the range have to be read without it.
	for _, c := range changes {
		if c.Delta <= 0 && !total.Remove(c.Was) {
			if total, err = tx.treeTotalWithout(a, rg, changes); err != nil {
				return total, err
			}
			break
		}
	}
	for _, c := range changes {
		if c.Delta >= 0 {
			total.Add(c.Is)
		}
	}
	return total, nil
}

func (tx *Tx) treeTotal(a *Aggregate, rg keys.Range) (total aggregate.Total, err error) {
	from, to := treeRange(rg)
	err = tx.state.trees[a.slot].Total(tx.reader(), from, to, &total)
	return total, err
}

// treeTotalWithout adds up the range in the pieces between entries that are
// gone or have another weight.
func (tx *Tx) treeTotalWithout(a *Aggregate, rg keys.Range, changes []txn.KeyedEntry) (total aggregate.Total, err error) {
	from, end := treeRange(rg)
	for _, c := range changes {
		if c.Delta > 0 {
			continue
		}
		gone := []byte(c.Key[entryPrefix:])
		if err := tx.state.trees[a.slot].Total(tx.reader(), from, gone, &total); err != nil {
			return total, err
		}
		from = keys.Next(gone)
	}
	return total, tx.state.trees[a.slot].Total(tx.reader(), from, end, &total)
}
