package halcyon

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Table is a table whose documents are the Go struct T. Declare it once, as a variable of a package, and list it in a Module.
//
// The fields of T are the schema. A field of type ID[T] tagged `halcyon:"id"` receives the id of a document when it is read, and a
// time.Time tagged `halcyon:"creationTime"` the time it was inserted; writes ignore both.
type Table[T any] struct{ def tableDef }

// tableDef is a Table without its type.
type tableDef struct {
	name       string
	typ        reflect.Type
	indexes    []engine.IndexDef
	aggregates []engine.AggregateDef
}

func (t *Table[T]) definition() *tableDef { return &t.def }

// NewTable declares a table. NewApp checks the declaration.
func NewTable[T any](name string) *Table[T] {
	return &Table[T]{tableDef{name: name, typ: reflect.TypeFor[T]()}}
}

// Index declares an index over fields, which may be dotted paths, and returns the table. Documents with equal fields are in the order of
// their creation. Every table has the indexes by_id and by_creation_time.
func (t *Table[T]) Index(name string, fields ...string) *Table[T] {
	t.def.indexes = append(t.def.indexes, engine.IndexDef{Name: name, Fields: fields})
	return t
}

// AggregateOption says what an aggregate counts by and what else it knows.
type AggregateOption func(*engine.AggregateDef)

// GroupBy makes an aggregate count for each combination of values of these fields.
func GroupBy(fields ...string) AggregateOption {
	return func(d *engine.AggregateDef) { d.GroupBy = append(d.GroupBy, fields...) }
}

// OrderBy makes an aggregate count ranges of these fields, inside of each group.
func OrderBy(fields ...string) AggregateOption {
	return func(d *engine.AggregateDef) { d.OrderBy = append(d.OrderBy, fields...) }
}

// Sum makes an aggregate know the sum, the least and the greatest number of a field, which may be a dotted path. Documents without a
// number there are counted and have no part in these. See Counter.Sum.
func Sum(field string) AggregateOption {
	return func(d *engine.AggregateDef) { d.Sum = field }
}

// Ranked makes an aggregate keep its groups in the order of their counts too, so that Counter.Top and Counter.CountGroups cost nothing
// that grows with the number of groups.
func Ranked() AggregateOption {
	return func(d *engine.AggregateDef) { d.Ranked = true }
}

// Aggregate declares an aggregate and returns the table. Counting documents with it takes time that hardly grows with their number, and
// transactions that insert do not conflict over it.
func (t *Table[T]) Aggregate(name string, options ...AggregateOption) *Table[T] {
	d := engine.AggregateDef{Name: name}
	for _, option := range options {
		option(&d)
	}
	t.def.aggregates = append(t.def.aggregates, d)
	return t
}

// Get returns the document with that id, and false when there is none.
func (t *Table[T]) Get(tx *Tx, id ID[T]) (doc T, ok bool, err error) {
	b, key, err := bind(tx, &t.def, id)
	if err != nil {
		return doc, false, err
	}
	stored, ok, err := tx.inner.Get(b.table, key)
	if err != nil || !ok {
		return doc, false, err
	}
	err = b.decode(stored, reflect.ValueOf(&doc).Elem())
	return doc, err == nil, err
}

// encodeDoc returns the fields of a document to store in a table.
func encodeDoc[T any](tx *Tx, t *Table[T], doc *T) (*boundTable, value.Value, error) {
	b, err := tx.table(&t.def)
	if err != nil {
		return nil, value.Value{}, err
	}
	fields, err := b.encode(reflect.ValueOf(doc).Elem())
	return b, fields, err
}

// Insert adds a document and returns its id.
func (t *Table[T]) Insert(tx *Tx, doc T) (ID[T], error) {
	b, fields, err := encodeDoc(tx, t, &doc)
	if err != nil {
		return "", err
	}
	id, err := tx.inner.Insert(b.table, fields)
	if err != nil {
		return "", err
	}
	return ID[T](id.String()), nil
}

// Replace sets all fields of a document. There must be one with that id, as for Patch and Delete: the error is engine.ErrNoDocument.
func (t *Table[T]) Replace(tx *Tx, id ID[T], doc T) error {
	b, key, err := bind(tx, &t.def, id)
	if err != nil {
		return err
	}
	fields, err := b.encode(reflect.ValueOf(&doc).Elem())
	if err != nil {
		return err
	}
	return tx.inner.Replace(b.table, key, fields)
}

// Patch sets some fields of a document and leaves the others.
func (t *Table[T]) Patch(tx *Tx, id ID[T], fields Fields) error {
	b, key, err := bind(tx, &t.def, id)
	if err != nil {
		return err
	}
	set, unset, err := b.patch(fields)
	if err != nil {
		return err
	}
	return tx.inner.Patch(b.table, key, set, unset...)
}

// Delete removes a document.
func (t *Table[T]) Delete(tx *Tx, id ID[T]) error {
	b, key, err := bind(tx, &t.def, id)
	if err != nil {
		return err
	}
	return tx.inner.Delete(b.table, key)
}

// bind finds what a table and an id mean in a transaction.
func bind[T any](tx *Tx, def *tableDef, id ID[T]) (*boundTable, value.ID, error) {
	b, err := tx.table(def)
	if err != nil {
		return nil, value.ID{}, err
	}
	key, err := value.ParseID(string(id))
	if err == nil && key.Table != b.table.Number {
		err = fmt.Errorf("it is of another table")
	}
	if err != nil {
		return nil, value.ID{}, fmt.Errorf("%q is not the id of a document of table %s: %w", cut(string(id), nameBytesMax, "..."), def.name, err)
	}
	return b, key, nil
}

// boundTable is a mounted table in an open database.
type boundTable struct {
	def        *tableDef
	codec      *codec
	tables     tableNames
	table      *engine.Table
	indexes    map[string]*engine.Index
	aggregates map[string]*engine.Aggregate
}

// engineName is the name of a module's table in the database.
func engineName(module, table string) string { return module + "/" + table }

// decode fills a document struct.
func (b *boundTable) decode(doc engine.Document, rv reflect.Value) error {
	if err := (&decoder{stored: true}).decode(b.codec, doc.Fields, rv); err != nil {
		return fmt.Errorf("document %s of table %s does not fit %v: %w", doc.ID, b.def.name, b.def.typ, err)
	}
	if f, ok := b.codec.systemField(systemID); ok {
		rv.FieldByIndex(f.index).SetString(doc.ID.String())
	}
	if f, ok := b.codec.systemField(systemCreationTime); ok {
		err := (&decoder{stored: true}).decode(f.codec, value.Float64(doc.CreationTime), rv.FieldByIndex(f.index))
		if err != nil {
			return fmt.Errorf("creation time of document %s of table %s: %w", doc.ID, b.def.name, err)
		}
	}
	return nil
}

// encode returns the fields of a document struct to store. The engine checks them against the limits of documents.
func (b *boundTable) encode(rv reflect.Value) (value.Value, error) {
	if err := b.codec.checkIDs(rv, b.tables); err != nil {
		return value.Value{}, fmt.Errorf("document of table %s: %w", b.def.name, err)
	}
	fields, err := b.codec.encodeObject(rv, true)
	if err != nil {
		return value.Value{}, fmt.Errorf("document of table %s: %w", b.def.name, err)
	}
	return fields, nil
}

// patch splits the fields of a Patch into those to set and those to remove.
func (b *boundTable) patch(fields Fields) (set value.Value, unset []string, err error) {
	var given []value.Field
	for name, v := range fields {
		f, ok := b.codec.field(name)
		if !ok || f.system != notSystem {
			return set, nil, fmt.Errorf("patch of table %s: %v has no field %q", b.def.name, b.def.typ, name)
		}
		encoded, err := f.encodeStored(v)
		switch {
		case err != nil:
			return set, nil, fmt.Errorf("patch of table %s: field %s: %w", b.def.name, name, err)
		case encoded.IsUndefined() && !f.optional:
			return set, nil, fmt.Errorf("patch of table %s: field %s can't be removed, it is not optional", b.def.name, name)
		case encoded.IsUndefined():
			unset = append(unset, name)
		default:
			if err := f.codec.checkLoose(v, encoded, b.tables); err != nil {
				return set, nil, fmt.Errorf("patch of table %s: %w", b.def.name, err.under("."+name))
			}
			given = append(given, value.Field{Name: name, Value: encoded})
		}
	}
	slices.Sort(unset) // the same patch is the same write, whatever the order of the map
	return value.Object(given...), unset, nil
}

// check reports the first mistake in the declaration of a table.
func (d *tableDef) check() error {
	if err := checkName("table", d.name); err != nil {
		return err
	}
	c, err := codecFor(d.typ)
	if err != nil {
		return err
	}
	if c.shape != shapeObject {
		return fmt.Errorf("a document is a struct, not %v", d.typ)
	}
	if err := d.checkDocument(c); err != nil {
		return err
	}
	if n := len(d.indexes) + len(d.aggregates); n > indexesPerTableMax {
		return fmt.Errorf("%d indexes and aggregates, at most %d", n, indexesPerTableMax)
	}
	names := []string{engine.IndexByID, engine.IndexByCreationTime}
	for _, ix := range d.indexes {
		if len(ix.Fields) == 0 {
			return fmt.Errorf("index %q has no fields", ix.Name)
		}
		if err := checkKey(c, "index", ix.Name, ix.Fields, names); err != nil {
			return err
		}
		names = append(names, ix.Name)
	}
	for _, a := range d.aggregates {
		if err := checkKey(c, "aggregate", a.Name, slices.Concat(a.GroupBy, a.OrderBy), names); err != nil {
			return err
		}
		if err := checkSum(c, a.Sum); err != nil {
			return fmt.Errorf("aggregate %q: %w", a.Name, err)
		}
		if a.Ranked && len(a.GroupBy) == 0 {
			return fmt.Errorf("aggregate %q is ranked and has no groups", a.Name)
		}
		names = append(names, a.Name)
	}
	return nil
}

// checkSum checks that a field can be added up.
func checkSum(c *codec, field string) error {
	if field == "" {
		return nil
	}
	f, err := c.at(field)
	if err != nil {
		return fmt.Errorf("sum: %w", err)
	}
	in := f.codec
	for in.shape == shapePointer || in.shape == shapeNullable {
		in = in.elem
	}
	switch in.shape {
	case shapeFloat, shapeInteger, shapeInt64, shapeAny, shapeValue:
		return nil
	}
	return fmt.Errorf("sum: field %q is a %v, not a number", field, in.typ)
}

func (d *tableDef) checkDocument(c *codec) error {
	for i := range c.fields {
		f := &c.fields[i]
		switch {
		case f.system == systemID && f.codec.refers != d.typ:
			return fmt.Errorf("the id of a %v has type halcyon.ID[%s], not %v", d.typ, d.typ.Name(), f.codec.typ)
		case f.system == notSystem && strings.HasPrefix(f.name, "_"):
			return fmt.Errorf("field %q: names that start with an underscore are reserved", f.name)
		case f.system == notSystem:
			if err := checkName("field", f.name); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkKey checks the name and the fields of an index or an aggregate.
func checkKey(c *codec, what, name string, fields, taken []string) error {
	if err := checkName(what, name); err != nil {
		return err
	}
	if slices.Contains(taken, name) {
		return fmt.Errorf("%s name %q is reserved or used twice", what, name)
	}
	if len(fields) > fieldsPerIndexMax {
		return fmt.Errorf("%s %q has %d fields, at most %d", what, name, len(fields), fieldsPerIndexMax)
	}
	for i, field := range fields {
		if slices.Contains(fields[:i], field) {
			return fmt.Errorf("%s %q lists field %q twice", what, name, field)
		}
		if strings.HasPrefix(field, "_") {
			return fmt.Errorf("%s %q: field %q can't be listed; every index ends with the creation time by itself", what, name, field)
		}
		if _, err := c.at(field); err != nil {
			return fmt.Errorf("%s %q: %w", what, name, err)
		}
	}
	return nil
}
