package halcyon

import (
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// ErrNotUnique is the error of Unique when there are several documents.
var ErrNotUnique = errors.New("unique() query returned more than one result")

// Query reads the documents of a table in the order of an index. Queries are values: each method returns a narrowed one and leaves its
// receiver as it was. A mistake in building one is the error of reading it.
//
// A transaction depends only on the part of the index that it went through.
type Query[T any] struct {
	table *Table[T]
	index string
	keys  keyRange
	desc  bool
}

// By returns all documents in the order of an index.
func (t *Table[T]) By(index string) Query[T] {
	q := Query[T]{table: t, index: index}
	q.keys.what = "index " + index + " of table " + t.def.name
	switch index {
	case engine.IndexByID:
		q.keys.fields = []string{idField}
	case engine.IndexByCreationTime:
		q.keys.fields = []string{creationTimeField}
	default:
		i := slices.IndexFunc(t.def.indexes, func(d engine.IndexDef) bool { return d.Name == index })
		if i < 0 {
			q.keys.err = fmt.Errorf("table %s has no index %q", t.def.name, index)
			return q
		}
		q.keys.fields = append(slices.Clone(t.def.indexes[i].Fields), creationTimeField)
	}
	q.keys.codec, q.keys.err = codecFor(t.def.typ)
	return q
}

// All returns all documents in the order of their creation.
func (t *Table[T]) All() Query[T] { return t.By(engine.IndexByCreationTime) }

// Eq keeps the documents whose next fields in the index equal vals. After the fields of the index comes _creationTime. A nil stands for
// an absent field, and so does the zero value of a field with the option omitzero or omitempty.
func (q Query[T]) Eq(vals ...any) Query[T] { q.keys = q.keys.eq(vals); return q }

// Gt keeps the documents whose next field in the index is greater than v.
func (q Query[T]) Gt(v any) Query[T] { q.keys = q.keys.bound(v, true, false); return q }

// Gte keeps the documents whose next field in the index is v or greater.
func (q Query[T]) Gte(v any) Query[T] { q.keys = q.keys.bound(v, true, true); return q }

// Lt keeps the documents whose next field in the index is less than v. Values of another type are ordered too: an absent field is less
// than everything.
func (q Query[T]) Lt(v any) Query[T] { q.keys = q.keys.bound(v, false, false); return q }

// Lte keeps the documents whose next field in the index is v or less.
func (q Query[T]) Lte(v any) Query[T] { q.keys = q.keys.bound(v, false, true); return q }

// Desc turns the order round.
func (q Query[T]) Desc() Query[T] { q.desc = !q.desc; return q }

// Each returns an iterator over the documents. After an error it ends.
func (q Query[T]) Each(tx *Tx) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		if q.keys.err != nil {
			yield(none, q.keys.err)
			return
		}
		b, err := tx.table(&q.table.def)
		if err != nil {
			yield(none, err)
			return
		}
		for stored, err := range tx.inner.Scan(b.indexes[q.index], q.keys.r, q.desc) {
			var doc T
			if err == nil {
				err = b.decode(stored, reflect.ValueOf(&doc).Elem())
			}
			if err != nil {
				yield(none, err)
				return
			}
			if !yield(doc, nil) {
				return
			}
		}
	}
}

// First returns the first document, and false when there is none.
func (q Query[T]) First(tx *Tx) (doc T, ok bool, err error) {
	for doc, err := range q.Each(tx) {
		return doc, err == nil, err
	}
	return doc, false, nil
}

// Take returns the first n documents, or as many as there are. It never returns a nil slice without an error.
func (q Query[T]) Take(tx *Tx, n int) ([]T, error) {
	docs := []T{}
	if n <= 0 {
		return docs, q.keys.err
	}
	for doc, err := range q.Each(tx) {
		if err != nil {
			return nil, err
		}
		if docs = append(docs, doc); len(docs) == n {
			break
		}
	}
	return docs, nil
}

// Collect returns all documents. Use it where their number is known to be small: a transaction may read 32,000.
func (q Query[T]) Collect(tx *Tx) ([]T, error) {
	docs := []T{}
	for doc, err := range q.Each(tx) {
		if err != nil {
			return nil, err
		}
		docs = append(docs, doc)
	}
	return docs, nil
}

// Unique returns the only document, and false when there is none. The error is ErrNotUnique when there are several.
func (q Query[T]) Unique(tx *Tx) (doc T, ok bool, err error) {
	if q.keys.err != nil {
		return doc, false, q.keys.err
	}
	b, err := tx.table(&q.table.def)
	if err != nil {
		return doc, false, err
	}
	var found []engine.Document
	for stored, err := range tx.inner.Scan(b.indexes[q.index], q.keys.r, q.desc) {
		if err != nil {
			return doc, false, err
		}
		if found = append(found, stored); len(found) == 2 {
			return doc, false, fmt.Errorf("%w from table %s: [%s, %s, ...]", ErrNotUnique, q.table.def.name, found[0].ID, found[1].ID)
		}
	}
	if len(found) == 0 {
		return doc, false, nil
	}
	err = b.decode(found[0], reflect.ValueOf(&doc).Elem())
	return doc, err == nil, err
}

// keyRange builds the range of an index or an aggregate: values equal to a prefix of its fields, then bounds on the next one.
type keyRange struct {
	what   string // for errors
	fields []string
	codec  *codec
	r      engine.Range
	err    error
}

func (k keyRange) eq(vals []any) keyRange {
	if k.err == nil && (k.r.Lower != nil || k.r.Upper != nil) {
		k.err = k.invalid("Eq comes before Gt, Gte, Lt and Lte")
	}
	k.r.Eq = slices.Clip(k.r.Eq)
	for _, val := range vals {
		v := k.encode(val, (*fieldCodec).encodeStored)
		if k.err != nil {
			return k
		}
		k.r.Eq = append(k.r.Eq, v)
	}
	return k
}

// bound sets one end of the range.
func (k keyRange) bound(val any, lower, inclusive bool) keyRange {
	end := &k.r.Upper
	if lower {
		end = &k.r.Lower
	}
	v := k.encode(val, (*fieldCodec).encodeLoose)
	if k.err == nil && *end != nil {
		k.err = fmt.Errorf("%s: AlreadyDefinedBound: field %s has this bound already", k.what, k.fields[len(k.r.Eq)])
	}
	if k.err == nil {
		*end = &engine.Bound{Value: v, Inclusive: inclusive}
	}
	return k
}

// encode encodes a value for the next field.
func (k *keyRange) encode(val any, as func(*fieldCodec, any) (value.Value, error)) value.Value {
	if k.err != nil {
		return value.Value{}
	}
	if len(k.r.Eq) >= len(k.fields) {
		k.err = k.invalid(fmt.Sprintf("it has only %d fields", len(k.fields)))
		return value.Value{}
	}
	name := k.fields[len(k.r.Eq)]
	f, err := k.codec.keyField(name)
	if err == nil {
		var v value.Value
		if v, err = as(&f, val); err == nil {
			return v
		}
	}
	k.err = fmt.Errorf("%s: field %s: %w", k.what, name, err)
	return value.Value{}
}

func (k keyRange) invalid(why string) error {
	return fmt.Errorf("%s: InvalidIndexRange: the range didn't use the index fields in order: %s", k.what, why)
}

var (
	timeCodec   = &codec{typ: typeTime, shape: shapeTime}
	stringCodec = &codec{typ: reflect.TypeFor[string](), shape: shapeString}
)

// keyField is at, for the fields of an index, which may end with a system field.
func (c *codec) keyField(name string) (fieldCodec, error) {
	switch name {
	case idField:
		return fieldCodec{name: name, codec: stringCodec}, nil
	case creationTimeField:
		return fieldCodec{name: name, codec: timeCodec}, nil
	}
	return c.at(name)
}
