package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
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
	// Unique lets no two documents have equal values in all of the fields. A
	// document in which one of them is undefined is not bound by it.
	Unique bool
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

	tablesMax    = 10_000
	fieldsMax    = 16
	indexesMax   = 32
	tableNumber0 = 10_001 // the first table's number; smaller ones are kept free
)

// Table is a table of an open database, as one version of the schema has it. It
// may be kept over changes of the schema: a transaction finds by it what the
// table is in its own snapshot.
type Table struct {
	Name       string
	Number     uint32
	names      *value.Names // of its documents' fields
	indexes    []*Index
	aggregates []*Aggregate
}

// Index is an index of an open database. It may be kept as a Table may, until it
// is dropped or declared differently: then using it is ErrNoIndex.
type Index struct {
	Name   string
	table  *Table
	id     uint32 // 0 for by_id, whose entries are the rows themselves
	meta   string // the key of its catalog entry
	status partStatus
	fields []string
	unique bool
}

// Aggregate is an aggregate of an open database. What is said of an Index is
// true of it.
type Aggregate struct {
	Name   string
	table  *Table
	id     uint32
	meta   string // the key of its catalog entry
	status partStatus
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

// Table returns the table with that name in the newest schema, or nil.
func (db *DB) Table(name string) *Table { return db.catalog().tables[name] }

func (s Schema) check() error {
	if len(s.Tables) > tablesMax {
		return fmt.Errorf("schema: %d tables are declared, at most %d can be", len(s.Tables), tablesMax)
	}
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
