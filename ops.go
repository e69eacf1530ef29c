package halcyon

import (
	"errors"
	"fmt"
	"math"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Op changes one field of a document by what the field is when the transaction commits: see Table.Apply.
type Op struct {
	kind         engine.OpKind
	field        string
	value        any
	lower, upper any
}

// Add adds a number to a field. A field that is absent counts as 0.
func Add(field string, by any) Op { return Op{kind: engine.OpAdd, field: field, value: by} }

// AtLeast bounds the sum of an Add from below. A mutation that would bring it under the bound fails and has changed nothing; its caller
// gets a ConvexError with the code OutOfBounds.
func (o Op) AtLeast(bound any) Op { o.lower = bound; return o }

// AtMost bounds the sum of an Add from above, as AtLeast does from below.
func (o Op) AtMost(bound any) Op { o.upper = bound; return o }

// Max sets a field to v if v is greater than what is there, or nothing is there: a last-seen time that never goes back.
func Max(field string, v any) Op { return Op{kind: engine.OpMax, field: field, value: v} }

// Min sets a field to v if v is less than what is there, or nothing is there.
func Min(field string, v any) Op { return Op{kind: engine.OpMin, field: field, value: v} }

// SetIfAbsent sets a field that is absent. Of several mutations the first to commit sets it.
func SetIfAbsent(field string, v any) Op {
	return Op{kind: engine.OpSetIfAbsent, field: field, value: v}
}

// SetInsert adds an element to a slice that is a set, in the order of its values, unless it is there.
func SetInsert(field string, element any) Op {
	return Op{kind: engine.OpSetInsert, field: field, value: element}
}

// CommitTime sets a time.Time or float64 field to the time of the commit. No two mutations have the same, and one that is seen later has
// a greater one, so that documents in its order are never joined by one in between. The mutation itself sees the field absent.
func CommitTime(field string) Op { return Op{kind: engine.OpCommitTime, field: field} }

// Apply does operations on a document without reading it: on what it is when the transaction commits. Mutations that only Apply never
// conflict, however many of them write to one document, and neither do they make others run again that read something else.
//
// That the document is not there is found at the commit, and the mutation fails. Once the transaction reads the document, or looks into an
// index or aggregate of its table, it depends on what it read like any other.
func (t *Table[T]) Apply(tx *Tx, id ID[T], ops ...Op) error {
	b, key, err := bind(tx, &t.def, id)
	if err != nil {
		return err
	}
	inner := make([]engine.Op, len(ops))
	for i, o := range ops {
		if inner[i], err = b.op(o); err != nil {
			return fmt.Errorf("%v of table %s: %w", o.kind, b.def.name, err)
		}
	}
	return tx.inner.Apply(b.table, key, inner...)
}

// op encodes an operation, and keeps it from making a document that does not fit its struct.
func (b *boundTable) op(o Op) (out engine.Op, err error) {
	f, ok := b.codec.field(o.field)
	if !ok || f.system != notSystem {
		return out, fmt.Errorf("%v has no field %q", b.def.typ, o.field)
	}
	c := f.codec
	for c.shape == shapePointer || c.shape == shapeNullable && o.kind != engine.OpAdd {
		c = c.elem
	}
	out = engine.Op{Kind: o.kind, Field: o.field}
	switch o.kind {
	case engine.OpCommitTime:
		if c.shape != shapeTime && c.shape != shapeFloat {
			return out, fmt.Errorf("field %s is %v, want time.Time or float64", o.field, c.typ)
		}
		return out, nil
	case engine.OpSetInsert:
		if c.shape != shapeArray {
			return out, fmt.Errorf("field %s is %v, want a slice", o.field, c.typ)
		}
		c = c.elem
	case engine.OpAdd:
		if c.shape != shapeInteger && c.shape != shapeInt64 && c.shape != shapeFloat {
			return out, fmt.Errorf("field %s is %v, want a number", o.field, c.typ)
		}
	}
	encode := func(v any) value.Value {
		encoded, e := c.encodeLoose(v, false)
		if e == nil {
			if bad := c.checkLoose(v, encoded, b.tables); bad != nil {
				e = bad
			}
		}
		if e != nil && err == nil {
			err = fmt.Errorf("field %s: %w", o.field, e)
		}
		return encoded
	}
	out.Value = encode(o.value)
	if o.lower != nil {
		out.Lower = encode(o.lower)
	}
	if o.upper != nil {
		out.Upper = encode(o.upper)
	}
	if o.kind == engine.OpAdd && c.shape == shapeInteger && err == nil {
		out.Lower, out.Upper = within(out.Lower, out.Upper, c.lo, c.hi)
	}
	return out, err
}

// within narrows bounds to what an integer field can hold.
func within(lower, upper value.Value, lo, hi float64) (value.Value, value.Value) {
	if l, ok := lower.AsFloat64(); ok {
		lo = math.Max(lo, l)
	}
	if u, ok := upper.AsFloat64(); ok {
		hi = math.Min(hi, u)
	}
	return value.Float64(lo), value.Float64(hi)
}

// refusedOp turns what an operation found at the commit into the failure of its function.
func refusedOp(err error) error {
	if bound, ok := errors.AsType[*engine.BoundError](err); ok {
		told := &Error{Code: "OutOfBounds", Message: fmt.Sprintf("The change would take %s past its bound.", bound.Field)}
		return &callError{cause: told}
	}
	if _, ok := errors.AsType[*engine.OpError](err); ok {
		return &callError{cause: err}
	}
	return err
}

// Unique declares an index, as Index does, in which no two documents have equal values in all fields. A document without one of the values
// is not bound. A write that would break this fails with an *[engine.UniqueError].
func (t *Table[T]) Unique(name string, fields ...string) *Table[T] {
	t.def.indexes = append(t.def.indexes, engine.IndexDef{Name: name, Fields: fields, Unique: true})
	return t
}

// Upsert makes doc the document that has its values in a unique index: it replaces that document, or inserts one where there is none, as
// inserted says. Two mutations that upsert the same values never insert two documents.
func (t *Table[T]) Upsert(tx *Tx, index string, doc T) (id ID[T], inserted bool, err error) {
	b, fields, err := encodeDoc(tx, t, &doc)
	if err != nil {
		return "", false, err
	}
	ix := b.indexes[index]
	if ix == nil {
		return "", false, fmt.Errorf("table %s has no index %q", b.def.name, index)
	}
	key, inserted, err := tx.inner.Upsert(ix, fields)
	if err != nil {
		return "", false, err
	}
	return ID[T](key.String()), inserted, nil
}
