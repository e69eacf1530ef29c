package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Schema is the tables of a database.
type Schema struct {
	Tables []TableDef
}

// TableDef declares a table. Every table also has the indexes by_id and
// by_creation_time.
type TableDef struct {
	Name       string
	Indexes    []IndexDef
	Aggregates []AggregateDef
}

// IndexDef declares an index over up to 16 fields, each a dotted path. A
// document without a field is indexed with undefined there. The creation time
// and the document key follow the fields implicitly.
type IndexDef struct {
	Name   string
	Fields []string
}

// AggregateDef declares an aggregate: counts of a table's documents by group
// and by range of the fields after it, kept by the engine at every commit.
type AggregateDef struct {
	Name    string
	GroupBy []string
	OrderBy []string
	// Sum is a field, a dotted path, whose numbers are added up and of which the
	// least and the greatest are known, as Tx.Total returns them. A document in
	// which it is missing or not a number is counted and has no part in these.
	Sum string
	// Ranked keeps the groups in the order of their counts too, so that Tx.Top and
	// Tx.CountGroups cost nothing that grows with the number of groups. Each
	// commit pays for it with one more small write a group that it changes.
	Ranked bool
}

// The names and limits of indexes.
const (
	IndexByID           = "by_id"
	IndexByCreationTime = "by_creation_time"

	fieldsMax    = 16
	indexesMax   = 32
	tableNumber0 = 10_001 // the first table's number; smaller ones are kept free
)

// Table is a table of an open database.
type Table struct {
	Name       string
	Number     uint32
	indexes    []*Index
	aggregates []*Aggregate
}

// Index is an index of an open database.
type Index struct {
	Name   string
	table  *Table
	id     uint32 // 0 for by_id, whose entries are the rows themselves
	fields []string
}

// Aggregate is an aggregate of an open database.
type Aggregate struct {
	Name   string
	table  *Table
	id     uint32
	slot   int // its place in a state's trees
	groups int // how many of fields are the group
	fields []string
	sum    string // the summed field, or empty
	// ranking is set when the groups are kept in the order of their counts.
	ranking *ranking
}

// empty returns the aggregate's tree with no entries.
func (a *Aggregate) empty() aggregate.Tree {
	return aggregate.Tree{Agg: a.id, Weighted: a.sum != ""}
}

// weight returns the number that a document's entry carries.
func (a *Aggregate) weight(d Document) aggregate.Weight {
	if a.sum == "" {
		return aggregate.Weight{}
	}
	v := d.Fields.Path(a.sum)
	if i, ok := v.AsInt64(); ok {
		return aggregate.IntWeight(i)
	}
	if f, ok := v.AsFloat64(); ok {
		return aggregate.FloatWeight(f)
	}
	return aggregate.Weight{}
}

// Index returns the index with that name, or nil.
func (t *Table) Index(name string) *Index {
	for _, ix := range t.indexes {
		if ix.Name == name {
			return ix
		}
	}
	return nil
}

// Aggregate returns the aggregate with that name, or nil.
func (t *Table) Aggregate(name string) *Aggregate {
	for _, a := range t.aggregates {
		if a.Name == name {
			return a
		}
	}
	return nil
}

// Table returns the table with that name, or nil.
func (db *DB) Table(name string) *Table { return db.catalog.tables[name] }

func (s Schema) check() error {
	seen := map[string]bool{}
	for _, t := range s.Tables {
		if t.Name == "" || seen[t.Name] {
			return fmt.Errorf("schema: table name %q is empty or used twice", t.Name)
		}
		seen[t.Name] = true
		if len(t.Indexes)+len(t.Aggregates) > indexesMax {
			return fmt.Errorf("schema: table %s has more than %d indexes and aggregates", t.Name, indexesMax)
		}
		names := map[string]bool{IndexByID: true, IndexByCreationTime: true}
		for _, ix := range t.Indexes {
			if err := checkFields(names, ix.Name, ix.Fields); err != nil {
				return fmt.Errorf("schema: table %s: %w", t.Name, err)
			}
			if len(ix.Fields) == 0 {
				return fmt.Errorf("schema: table %s: index %s has no fields", t.Name, ix.Name)
			}
		}
		for _, a := range t.Aggregates {
			if err := checkFields(names, a.Name, slices.Concat(a.GroupBy, a.OrderBy)); err != nil {
				return fmt.Errorf("schema: table %s: %w", t.Name, err)
			}
			if a.Ranked && len(a.GroupBy) == 0 {
				return fmt.Errorf("schema: table %s: %s is ranked and has no groups", t.Name, a.Name)
			}
			if a.Sum != "" && a.Sum[0] == '_' {
				return fmt.Errorf("schema: table %s: %s: field %q is reserved", t.Name, a.Name, a.Sum)
			}
		}
	}
	return nil
}

func checkFields(names map[string]bool, name string, fields []string) error {
	if name == "" || names[name] || strings.Contains(name, "\x00") {
		return fmt.Errorf("index or aggregate name %q is empty, reserved, used twice or has a zero byte", name)
	}
	names[name] = true
	if len(fields) > fieldsMax {
		return fmt.Errorf("%s has %d fields, at most %d", name, len(fields), fieldsMax)
	}
	for i, f := range fields {
		if f == "" || f[0] == '_' || slices.Contains(fields[:i], f) {
			return fmt.Errorf("%s: field %q is empty, reserved or listed twice", name, f)
		}
	}
	return nil
}

// catalog is the schema with the numbers under which its parts are stored.
type catalog struct {
	tables     map[string]*Table
	byNumber   map[uint32]*Table
	aggregates []*Aggregate
	slots      int // trees in a state
}

// part is a stored index or aggregate: its number, whether its entries are
// complete, and its definition as text, so that a changed one is rebuilt.
type part struct {
	id    uint32
	ready bool
	def   string
}

func (p part) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, p.id)
	if p.ready {
		dst = append(dst, 1)
	} else {
		dst = append(dst, 0)
	}
	return append(dst, p.def...)
}

func decodePart(b []byte) (part, error) {
	if len(b) < 5 || b[4] > 1 {
		return part{}, fmt.Errorf("%w: catalog entry of %d bytes", ErrCorrupt, len(b))
	}
	return part{id: binary.BigEndian.Uint32(b), ready: b[4] == 1, def: string(b[5:])}, nil
}

// loader gives the parts of a schema their numbers, drops what is no longer
// declared and says what has to be built.
type loader struct {
	store   *store.Store
	snap    *store.Snapshot
	batch   *store.Batch
	next    uint32
	catalog *catalog
	stored  map[string]part // name in meta -> part, those not yet claimed
	build   []building
	dropped []part
}

type building struct {
	name  string // under which it is stored
	part  part
	table *Table
	index *Index
	agg   *Aggregate
	// ranked says that it is the ranking of agg, which is complete by then.
	ranked bool
}

const (
	metaNext  = "next"
	metaTable = "table/"
	metaIndex = "index/"
	metaAgg   = "aggregate/"
	metaClock = "clock"

	metaRanking = "\x00ranking" // after the name of an aggregate
)

func metaKey(name string) []byte { return keys.AppendMeta(nil, name) }

// load reads the catalog, brings it in line with the schema and builds what is
// missing. It returns when every index and aggregate is complete.
func (db *DB) load(schema Schema) error {
	if err := schema.check(); err != nil {
		return err
	}
	l := &loader{
		store: db.store, snap: db.store.NewSnapshot(), batch: db.store.NewBatch(), stored: map[string]part{},
		catalog: &catalog{tables: map[string]*Table{}, byNumber: map[uint32]*Table{}},
	}
	defer l.snap.Release()
	if err := l.read(); err != nil {
		return err
	}
	for _, t := range schema.Tables {
		if err := l.table(t); err != nil {
			return err
		}
	}
	if err := l.dropOthers(schema); err != nil {
		return err
	}
	if err := l.batch.Set(metaKey(metaNext), binary.BigEndian.AppendUint32(nil, l.next)); err != nil {
		return err
	}
	if err := l.store.ApplyDurably(l.batch); err != nil {
		return err
	}
	db.catalog = l.catalog
	for _, b := range l.build {
		if err := db.backfill(b); err != nil {
			return fmt.Errorf("build %s: %w", b.name, err)
		}
	}
	return nil
}

func (l *loader) read() error {
	l.next = tableNumber0
	if b, ok, err := l.snap.Get(metaKey(metaNext)); err != nil {
		return err
	} else if ok {
		if len(b) != 4 {
			return fmt.Errorf("%w: next number has %d bytes", ErrCorrupt, len(b))
		}
		l.next = binary.BigEndian.Uint32(b)
	}
	for _, prefix := range []string{metaTable, metaIndex, metaAgg} {
		r := keys.Prefixed(metaKey(prefix))
		it, err := l.snap.Iterate(r.Start, r.End)
		if err != nil {
			return err
		}
		for ok := it.First(); ok; ok = it.Next() {
			p, err := decodePart(it.Value())
			if err != nil {
				return errors.Join(err, it.Close())
			}
			l.stored[string(it.Key()[1:])] = p
		}
		if err := errors.Join(it.Err(), it.Close()); err != nil {
			return err
		}
	}
	return nil
}

func (l *loader) table(def TableDef) error {
	name := metaTable + def.Name
	p, ok := l.stored[name]
	if !ok {
		p = part{id: l.number(), ready: true}
		if err := l.batch.Set(metaKey(name), p.append(nil)); err != nil {
			return err
		}
	}
	t := &Table{Name: def.Name, Number: p.id}
	t.indexes = append(t.indexes, &Index{Name: IndexByID, table: t})
	l.catalog.tables[t.Name], l.catalog.byNumber[t.Number] = t, t
	for _, d := range append([]IndexDef{{Name: IndexByCreationTime}}, def.Indexes...) {
		ix := &Index{Name: d.Name, table: t, fields: d.Fields}
		id, err := l.part(metaIndex+t.Name+"\x00"+d.Name, definition(0, d.Fields, ""), building{table: t, index: ix})
		if err != nil {
			return err
		}
		ix.id = id
		t.indexes = append(t.indexes, ix)
	}
	for _, d := range def.Aggregates {
		a := &Aggregate{Name: d.Name, table: t, groups: len(d.GroupBy), fields: slices.Concat(d.GroupBy, d.OrderBy), sum: d.Sum, slot: l.slot()}
		name := metaAgg + t.Name + "\x00" + d.Name
		id, err := l.part(name, definition(a.groups, a.fields, a.sum), building{table: t, agg: a})
		if err != nil {
			return err
		}
		a.id = id
		if d.Ranked {
			a.ranking = &ranking{slot: l.slot()}
			if a.ranking.id, err = l.part(name+metaRanking, definition(a.groups, d.GroupBy, ""), building{table: t, agg: a, ranked: true}); err != nil {
				return err
			}
		}
		t.aggregates = append(t.aggregates, a)
		l.catalog.aggregates = append(l.catalog.aggregates, a)
	}
	return nil
}

// slot returns the place of the next tree in a state.
func (l *loader) slot() int {
	l.catalog.slots++
	return l.catalog.slots - 1
}

// definition is what has to be equal for stored entries to be usable.
func definition(groups int, fields []string, sum string) string {
	vals := make([]value.Value, 0, len(fields)+3)
	vals = append(vals, value.Int64(int64(groups)))
	for _, f := range fields {
		vals = append(vals, value.String(f))
	}
	if sum != "" {
		vals = append(vals, value.Null(), value.String(sum))
	}
	return string(value.AppendBinary(nil, value.Array(vals...)))
}

// part returns the number of an index or aggregate; one that is new, changed
// or unfinished is put on the list of those to build, under a new number.
func (l *loader) part(name, def string, b building) (uint32, error) {
	p, ok := l.stored[name]
	delete(l.stored, name)
	if ok && p.ready && p.def == def {
		return p.id, nil
	}
	if ok {
		l.dropped = append(l.dropped, p)
	}
	b.name, b.part = name, part{id: l.number(), def: def}
	l.build = append(l.build, b)
	return b.part.id, l.batch.Set(metaKey(name), b.part.append(nil))
}

func (l *loader) number() uint32 {
	l.next++
	return l.next - 1
}

// dropOthers removes indexes and aggregates of declared tables that are no
// longer declared themselves. Tables that are not declared are left as they
// are: nothing can change them, so their indexes stay right.
func (l *loader) dropOthers(schema Schema) error {
	for name, p := range l.stored {
		for _, t := range schema.Tables {
			for _, prefix := range []string{metaIndex, metaAgg} {
				if own := prefix + t.Name + "\x00"; len(name) > len(own) && name[:len(own)] == own {
					l.dropped = append(l.dropped, p)
					if err := l.batch.Delete(metaKey(name)); err != nil {
						return err
					}
				}
			}
		}
	}
	for _, p := range l.dropped {
		for _, prefix := range [][]byte{keys.AppendIndex(nil, p.id), keys.AppendBlocks(nil, p.id)} {
			r := keys.Prefixed(prefix)
			if err := l.batch.DeleteRange(r.Start, r.End); err != nil {
				return err
			}
		}
	}
	return nil
}
