package engine

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon/engine/value"
)

// OpKind says what an Op does.
type OpKind uint8

// The kinds of operations.
const (
	OpAdd OpKind = iota + 1
	OpMax
	OpMin
	OpSetIfAbsent
	OpSetInsert
	OpCommitTime
)

var opNames = [...]string{OpAdd: "add", OpMax: "max", OpMin: "min", OpSetIfAbsent: "set if absent", OpSetInsert: "set insert", OpCommitTime: "commit time"}

func (k OpKind) String() string {
	if int(k) < len(opNames) && opNames[k] != "" {
		return opNames[k]
	}
	return fmt.Sprintf("operation %d", k)
}

// Op changes one field of a document by what the field is when the transaction
// commits. The transaction reads nothing for it, so that it cannot lose against
// others that change the same document. Operations are made by Add, Max, Min,
// SetIfAbsent, SetInsert and CommitTime, and done by Tx.Apply.
type Op struct {
	Kind  OpKind
	Field string // a field of the document itself, not one inside of another
	Value value.Value
	// Lower and Upper bound the sum of an Add; undefined is no bound.
	Lower, Upper value.Value
}

// Add adds a float64 or int64 to a field of the same type. A field that is
// undefined counts as 0.
func Add(field string, by value.Value) Op { return Op{Kind: OpAdd, Field: field, Value: by} }

// AtLeast bounds the sum of an Add from below: a transaction that would bring
// it under the bound fails with a *BoundError.
func (o Op) AtLeast(bound value.Value) Op { o.Lower = bound; return o }

// AtMost bounds the sum of an Add from above.
func (o Op) AtMost(bound value.Value) Op { o.Upper = bound; return o }

// Max sets a field to v if v is the greater in the order of values, or the
// field is undefined.
func Max(field string, v value.Value) Op { return Op{Kind: OpMax, Field: field, Value: v} }

// Min sets a field to v if v is the lesser in the order of values, or the field
// is undefined.
func Min(field string, v value.Value) Op { return Op{Kind: OpMin, Field: field, Value: v} }

// SetIfAbsent sets a field that is undefined. Of several transactions the first
// to commit sets it.
func SetIfAbsent(field string, v value.Value) Op {
	return Op{Kind: OpSetIfAbsent, Field: field, Value: v}
}

// SetInsert adds v to a field that is an array of different values in their
// order, unless it is there. A field that is undefined counts as empty. In an
// array that is not in order v comes before the first greater element.
func SetInsert(field string, v value.Value) Op { return Op{Kind: OpSetInsert, Field: field, Value: v} }

// CommitTime sets a field to the timestamp of the commit, a float64 in
// milliseconds since the Unix epoch like _creationTime. No two commits have
// the same, and one that is seen later is greater. Until it commits, the
// transaction itself sees the field undefined.
func CommitTime(field string) Op { return Op{Kind: OpCommitTime, Field: field} }

// OpError reports an operation that cannot be done, or not on this document. It
// is ErrNoDocument when there is none.
type OpError struct {
	Table  string
	ID     value.ID
	Op     OpKind
	Field  string
	Reason string

	cause error
}

// Unwrap returns ErrNoDocument where that is the reason.
func (e *OpError) Unwrap() error { return e.cause }

func (e *OpError) Error() string {
	return fmt.Sprintf("%v of field %s of %s in %s: %s", e.Op, e.Field, e.ID, e.Table, e.Reason)
}

// BoundError reports an Add past one of its bounds. Nothing of the transaction
// has happened.
type BoundError struct {
	Table string
	ID    value.ID
	Field string
	Value value.Value // of the field, as it stays
	Bound value.Value // that the sum would be past
}

func (e *BoundError) Error() string {
	return fmt.Sprintf("add to field %s of %s in %s: it is %s, and the sum would be past %s", e.Field, e.ID, e.Table, numeral(e.Value), numeral(e.Bound))
}

func numeral(v value.Value) string {
	if n, ok := v.AsInt64(); ok {
		return fmt.Sprint(n)
	}
	return v.String()
}

// check says what is wrong with the operation itself, or nothing.
func (o Op) check() (reason string) {
	switch {
	case o.Kind < OpAdd || o.Kind > OpCommitTime:
		return "there is no such operation"
	case strings.HasPrefix(o.Field, "_") || strings.HasPrefix(o.Field, "$") || o.Field == "":
		return "it is not a field that can be set"
	case strings.Contains(o.Field, "."):
		return "an operation is on a whole field, not on one inside of it"
	case o.Kind != OpCommitTime && o.Value.IsUndefined():
		return "its value is undefined"
	case o.Kind != OpAdd && (!o.Lower.IsUndefined() || !o.Upper.IsUndefined()):
		return "only an addition has bounds"
	case o.Kind != OpAdd:
		return ""
	}
	if k := o.Value.Kind(); k != value.KindFloat64 && k != value.KindInt64 {
		return fmt.Sprintf("a value of type %v cannot be added", k)
	}
	for _, b := range []value.Value{o.Lower, o.Upper} {
		if !b.IsUndefined() && b.Kind() != o.Value.Kind() {
			return fmt.Sprintf("its bound is of type %v, its value of type %v", b.Kind(), o.Value.Kind())
		}
	}
	return ""
}

// apply does the operations on the fields of a document, in their order. It
// reports false when they leave everything as it is. Commit times are at; they
// are left out where that is 0.
func apply(t *Table, id value.ID, fields value.Value, ops []Op, at Timestamp) (fresh value.Value, changed bool, err error) {
	fresh = fields
	for _, o := range ops {
		is := fresh.Get(o.Field)
		to, err := o.on(is, at)
		if err != nil {
			switch e := err.(type) {
			case *BoundError:
				e.Table, e.ID = t.Name, id
			case *OpError:
				e.Table, e.ID = t.Name, id
			}
			return fields, false, err
		}
		switch {
		case to.IsUndefined() && !is.IsUndefined():
			fresh, changed = value.Patched(fresh, value.Object(), o.Field), true
		case value.Compare(is, to) != 0:
			fresh, changed = value.Patched(fresh, value.Object(value.Field{Name: o.Field, Value: to})), true
		}
	}
	if !changed {
		return fields, false, nil
	}
	if err := value.CheckDocument(fresh); err != nil {
		return fields, false, fmt.Errorf("update %s in %s: %w", id, t.Name, err)
	}
	return fresh, true, nil
}

// on returns what the operation makes of a field.
func (o Op) on(is value.Value, at Timestamp) (value.Value, error) {
	switch o.Kind {
	case OpAdd:
		return o.sum(is)
	case OpMax:
		if !is.IsUndefined() && value.Compare(is, o.Value) >= 0 {
			return is, nil
		}
	case OpMin:
		if !is.IsUndefined() && value.Compare(is, o.Value) <= 0 {
			return is, nil
		}
	case OpSetIfAbsent:
		if !is.IsUndefined() {
			return is, nil
		}
	case OpSetInsert:
		return o.inserted(is)
	case OpCommitTime:
		if at == 0 {
			return value.Value{}, nil
		}
		return value.Float64(float64(at) / 1000), nil
	}
	return o.Value, nil
}

func (o Op) sum(is value.Value) (sum value.Value, err error) {
	if by, ok := o.Value.AsInt64(); ok {
		n, ok := is.AsInt64()
		if !ok && !is.IsUndefined() {
			return sum, o.mismatch(is)
		}
		if by > 0 && n > math.MaxInt64-by || by < 0 && n < math.MinInt64-by {
			bound := int64(math.MaxInt64)
			if by < 0 {
				bound = math.MinInt64
			}
			return sum, &BoundError{Field: o.Field, Value: value.Int64(n), Bound: value.Int64(bound)}
		}
		sum, is = value.Int64(n+by), value.Int64(n)
	} else {
		by, _ := o.Value.AsFloat64()
		n, ok := is.AsFloat64()
		if !ok && !is.IsUndefined() {
			return sum, o.mismatch(is)
		}
		sum, is = value.Float64(n+by), value.Float64(n)
	}
	for _, b := range []struct {
		bound value.Value
		past  int
	}{{o.Lower, -1}, {o.Upper, +1}} {
		if !b.bound.IsUndefined() && value.Compare(sum, b.bound) == b.past {
			return sum, &BoundError{Field: o.Field, Value: is, Bound: b.bound}
		}
	}
	return sum, nil
}

func (o Op) inserted(is value.Value) (value.Value, error) {
	if is.IsUndefined() {
		return value.Array(o.Value), nil
	}
	if is.Kind() != value.KindArray {
		return is, o.mismatch(is)
	}
	elems, place := make([]value.Value, 0, is.Len()+1), -1
	for c := is.Iterate(); c.Next(); {
		v := c.Value()
		switch d := value.Compare(v, o.Value); {
		case d == 0:
			return is, nil
		case d > 0 && place < 0:
			place = len(elems)
		}
		elems = append(elems, v)
	}
	if place < 0 {
		place = len(elems)
	}
	return value.Array(slices.Insert(elems, place, o.Value)...), nil
}

func (o Op) mismatch(is value.Value) error {
	return &OpError{Op: o.Kind, Field: o.Field, Reason: fmt.Sprintf("the field is of type %v", is.Kind())}
}
