package halcyon

import (
	"fmt"
	"iter"
	"reflect"
	"slices"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Counter counts documents with an aggregate. Like a Query it is a value. What it reads includes the changes of its own transaction.
type Counter[T any] struct {
	table     *Table[T]
	aggregate string
	keys      keyRange
	desc      bool
	without   []engine.Document
}

// GroupCount is the number of documents of one group of an aggregate.
type GroupCount struct {
	Group []value.Value // the values of the fields of GroupBy
	Count int64
}

// Decode sets what into points to from the values of the group, in their order.
func (g GroupCount) Decode(into ...any) error {
	if len(into) > len(g.Group) {
		return fmt.Errorf("decode a group of %d values into %d", len(g.Group), len(into))
	}
	for i := range into {
		if err := Decode(g.Group[i], into[i]); err != nil {
			return fmt.Errorf("value %d of the group: %w", i, err)
		}
	}
	return nil
}

// Count returns a Counter of all documents by an aggregate.
func (t *Table[T]) Count(aggregate string) Counter[T] {
	c := Counter[T]{table: t, aggregate: aggregate}
	c.keys.what = "aggregate " + aggregate + " of table " + t.def.name
	i := slices.IndexFunc(t.def.aggregates, func(d engine.AggregateDef) bool { return d.Name == aggregate })
	if i < 0 {
		c.keys.err = fmt.Errorf("table %s has no aggregate %q", t.def.name, aggregate)
		return c
	}
	c.keys.fields = slices.Concat(t.def.aggregates[i].GroupBy, t.def.aggregates[i].OrderBy)
	c.keys.codec, c.keys.err = codecFor(t.def.typ)
	return c
}

// Eq keeps the documents whose next fields in the aggregate equal vals: those of GroupBy, then those of OrderBy.
func (c Counter[T]) Eq(vals ...any) Counter[T] { c.keys = c.keys.eq(vals); return c }

// Gt keeps the documents whose next field in the aggregate is greater than v.
func (c Counter[T]) Gt(v any) Counter[T] { c.keys = c.keys.bound(v, true, false); return c }

// Gte keeps the documents whose next field in the aggregate is v or greater.
func (c Counter[T]) Gte(v any) Counter[T] { c.keys = c.keys.bound(v, true, true); return c }

// Lt keeps the documents whose next field in the aggregate is less than v.
func (c Counter[T]) Lt(v any) Counter[T] { c.keys = c.keys.bound(v, false, false); return c }

// Lte keeps the documents whose next field in the aggregate is v or less.
func (c Counter[T]) Lte(v any) Counter[T] { c.keys = c.keys.bound(v, false, true); return c }

// Desc turns the order round in which At and Rank count: from the end of the range.
func (c Counter[T]) Desc() Counter[T] { c.desc = !c.desc; return c }

// Without leaves out documents that the transaction has read: Count, Groups, Top, TopAndGroups and CountGroups tell what they would if these
// were not there. The other methods refuse.
func (c Counter[T]) Without(rows ...Row[T]) Counter[T] {
	c.without = slices.Clip(c.without)
	for _, row := range rows {
		c.without = append(c.without, row.stored)
	}
	return c
}

// Count returns the number of documents.
func (c Counter[T]) Count(tx *Tx) (int64, error) {
	a, err := c.bound(tx)
	if err != nil {
		return 0, err
	}
	return tx.inner.Count(a, c.keys.r, c.without...)
}

// A Row is a document as it was read. Decoding it is left to [Row.Decode], for where only few of many are looked at.
type Row[T any] struct {
	stored engine.Document
	table  *boundTable
}

// Decode returns the document.
func (r Row[T]) Decode() (doc T, err error) {
	err = r.table.decode(r.stored, reflect.ValueOf(&doc).Elem())
	return doc, err
}

// Rows returns the first n documents in the order of the aggregate, or as many as there are. Where the field of that order changes all the
// time, as when something was seen last does, it costs less than a Query in the order of an index.
func (c Counter[T]) Rows(tx *Tx, n int) ([]Row[T], error) {
	a, err := c.entire(tx, "Rows")
	if err == nil && c.desc {
		err = fmt.Errorf("%s: Rows goes forward", c.keys.what)
	}
	if err != nil {
		return nil, err
	}
	b, err := tx.table(&c.table.def)
	if err != nil {
		return nil, err
	}
	docs, err := tx.inner.Documents(a, c.keys.r, n)
	if err != nil {
		return nil, err
	}
	rows := make([]Row[T], len(docs))
	for i, doc := range docs {
		rows[i] = Row[T]{doc, b}
	}
	return rows, nil
}

// Total is what an aggregate with the option Sum knows about documents.
type Total struct {
	Count   int64 // documents
	Numbers int64 // of these, those with a number in the field

	// Sum is an int64 when all numbers are, and otherwise the float64 nearest to the true sum. It is 0 without numbers.
	Sum value.Value
	// Min and Max are the least and the greatest number, undefined without any. Every int64 is less than every float64.
	Min, Max value.Value
}

// Total returns the count of the documents and the sum, the least and the greatest of their numbers. The aggregate must have the option
// Sum; without it the error is engine.ErrNoSum. It is engine.ErrSumRange when a sum of int64 is beyond their range.
func (c Counter[T]) Total(tx *Tx) (Total, error) {
	total, err := c.total(tx)
	if err != nil {
		return Total{}, err
	}
	sum, err := total.Sum()
	if err != nil {
		return Total{}, fmt.Errorf("%s: %w", c.keys.what, err)
	}
	return Total{Count: total.Count, Numbers: total.Numbers, Sum: sum, Min: total.Min, Max: total.Max}, nil
}

func (c Counter[T]) total(tx *Tx) (engine.Total, error) {
	a, err := c.entire(tx, "Total")
	if err != nil {
		return engine.Total{}, err
	}
	return tx.inner.Total(a, c.keys.r)
}

// Sum returns the sum of the documents' numbers, 0 without any. It is the float64 nearest to the true sum, and does not depend on the
// order of the documents. See Total for the exact sum of int64 fields, and for errors.
func (c Counter[T]) Sum(tx *Tx) (float64, error) {
	total, err := c.Total(tx)
	if err != nil {
		return 0, err
	}
	sum, _ := number(total.Sum)
	return sum, nil
}

// Min returns the least of the documents' numbers, and false when there is none.
func (c Counter[T]) Min(tx *Tx) (least float64, ok bool, err error) {
	total, err := c.total(tx)
	if err != nil {
		return 0, false, err
	}
	least, ok = number(total.Min)
	return least, ok, nil
}

// Max returns the greatest of the documents' numbers, and false when there is none.
func (c Counter[T]) Max(tx *Tx) (greatest float64, ok bool, err error) {
	total, err := c.total(tx)
	if err != nil {
		return 0, false, err
	}
	greatest, ok = number(total.Max)
	return greatest, ok, nil
}

// number returns a number as a float64.
func number(v value.Value) (float64, bool) {
	if i, ok := v.AsInt64(); ok {
		return float64(i), true
	}
	return v.AsFloat64()
}

// At returns the document at an offset, counted from 0 in the order of the aggregate, and false when there are not so many. It takes as
// long for the last document as for the first.
func (c Counter[T]) At(tx *Tx, offset int64) (doc T, ok bool, err error) {
	a, err := c.entire(tx, "At")
	if err != nil {
		return doc, false, err
	}
	stored, ok, err := tx.inner.DocumentAt(a, c.keys.r, offset, c.desc)
	if err != nil || !ok {
		return doc, false, err
	}
	b, err := tx.table(&c.table.def)
	if err == nil {
		err = b.decode(stored, reflect.ValueOf(&doc).Elem())
	}
	return doc, err == nil, err
}

// Rank returns how many of the documents come before the one with that id in the order of the aggregate. It is false when that is not
// one of them.
func (c Counter[T]) Rank(tx *Tx, id ID[T]) (rank int64, ok bool, err error) {
	a, err := c.entire(tx, "Rank")
	if err != nil {
		return 0, false, err
	}
	_, key, err := bind(tx, &c.table.def, id)
	if err != nil {
		return 0, false, err
	}
	return tx.inner.Rank(a, c.keys.r, key, c.desc)
}

// A Version names what an aggregate holds. What was computed in a query from aggregates alone may be kept for as long as their versions are
// the same.
type Version = engine.Version

// Version returns the version of the aggregate, whose documents it does not read. It is false in a mutation. The Counter must not be
// narrowed.
func (c Counter[T]) Version(tx *Tx) (v Version, ok bool, err error) {
	a, err := c.whole(tx, "Version")
	if err == nil {
		a, err = c.entire(tx, "Version")
	}
	if err != nil {
		return Version{}, false, err
	}
	return tx.inner.Version(a)
}

// Identity returns what tells the first n documents, in the order of the aggregate and with the values of its fields, from any others. It
// reads none of them. Where a function knows the Version of other aggregates of the table too, it knows their groups.
func (c Counter[T]) Identity(tx *Tx, n int) (string, error) {
	a, err := c.entire(tx, "Identity")
	if err == nil && c.desc {
		err = fmt.Errorf("%s: Identity goes forward", c.keys.what)
	}
	if err != nil {
		return "", err
	}
	return tx.inner.Identity(a, c.keys.r, n)
}

// Top returns the n groups with the most documents, those first, and groups of equal counts in the order of their values. The Counter
// must not be narrowed. Without the option Ranked it walks all groups.
func (c Counter[T]) Top(tx *Tx, n int) ([]GroupCount, error) {
	a, err := c.whole(tx, "Top")
	if err != nil {
		return nil, err
	}
	top, err := tx.inner.Top(a, n, c.without...)
	if err != nil {
		return nil, err
	}
	return groupCounts(top), nil
}

// TopAndGroups returns what Top does and what CountGroups does, for less than both cost.
func (c Counter[T]) TopAndGroups(tx *Tx, n int) (top []GroupCount, groups int64, err error) {
	a, err := c.whole(tx, "TopAndGroups")
	if err != nil {
		return nil, 0, err
	}
	found, groups, err := tx.inner.TopAndGroups(a, n, c.without...)
	if err != nil {
		return nil, 0, err
	}
	return groupCounts(found), groups, nil
}

func groupCounts(top []engine.GroupCount) []GroupCount {
	out := make([]GroupCount, len(top))
	for i, g := range top {
		out[i] = GroupCount(g)
	}
	return out
}

// CountGroups returns the number of groups that have documents. The Counter must not be narrowed. Without the option Ranked it walks all
// groups.
func (c Counter[T]) CountGroups(tx *Tx) (int64, error) {
	a, err := c.whole(tx, "CountGroups")
	if err != nil {
		return 0, err
	}
	return tx.inner.CountGroups(a, c.without...)
}

// Groups returns an iterator over the groups that have documents, in the order of their values. The Counter may be narrowed by Eq to the
// groups with these first values, and not further.
func (c Counter[T]) Groups(tx *Tx) iter.Seq2[GroupCount, error] {
	return func(yield func(GroupCount, error) bool) {
		a, err := c.bound(tx)
		if err == nil && (c.keys.r.Lower != nil || c.keys.r.Upper != nil) {
			err = fmt.Errorf("%s: Groups counts whole groups; it takes no bounds", c.keys.what)
		}
		if err != nil {
			yield(GroupCount{}, err)
			return
		}
		for g, err := range tx.inner.GroupsWithout(a, c.without, c.keys.r.Eq...) {
			if !yield(GroupCount{Group: g.Group, Count: g.Count}, err) || err != nil {
				return
			}
		}
	}
}

// entire is bound, for a method that can't leave out documents.
func (c Counter[T]) entire(tx *Tx, method string) (*engine.Aggregate, error) {
	if c.keys.err == nil && len(c.without) > 0 {
		return nil, fmt.Errorf("%s: %s takes no Without", c.keys.what, method)
	}
	return c.bound(tx)
}

// whole is bound, for a method that is about all groups.
func (c Counter[T]) whole(tx *Tx, method string) (*engine.Aggregate, error) {
	if c.keys.err == nil && (len(c.keys.r.Eq) > 0 || c.keys.r.Lower != nil || c.keys.r.Upper != nil) {
		return nil, fmt.Errorf("%s: %s counts whole groups; it takes no Eq and no bounds", c.keys.what, method)
	}
	return c.bound(tx)
}

func (c Counter[T]) bound(tx *Tx) (*engine.Aggregate, error) {
	if c.keys.err != nil {
		return nil, c.keys.err
	}
	b, err := tx.table(&c.table.def)
	if err != nil {
		return nil, err
	}
	return b.aggregates[c.aggregate], nil
}
