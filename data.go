package halcyon

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"strings"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Errors of looking at tables, and of filling them.
var (
	// ErrUnknownTable says that no module has a table of that name, or that several have and the module has to be named too.
	ErrUnknownTable = errors.New("there is no such table")
	// ErrUnknownIndex says that the table has no index of that name.
	ErrUnknownIndex = errors.New("the table has no such index")
)

// StoredTable describes a table to an operator. Its name is that of the module, a slash, and that of the table in it.
type StoredTable struct {
	Name       string
	Number     uint32 // in the ids of its documents
	Documents  int64
	Bytes      uint64 // on disk, estimated and compressed; what is still in memory is not in it
	Indexes    []StoredIndex
	Aggregates []string
}

// StoredIndex is an index of a StoredTable.
type StoredIndex struct {
	Name   string
	Fields []string
	Unique bool
}

// StoredTables returns the tables of all modules, by module and in the order in which it declares them. Documents are counted, which takes
// time in proportion to the data.
func (a *App) StoredTables(ctx context.Context) ([]StoredTable, error) {
	r := a.running.Load()
	if r == nil {
		return nil, ErrNotOpen
	}
	statistics, err := r.db.Statistics(ctx)
	if err != nil {
		return nil, err
	}
	byName := map[string]engine.TableStatistics{}
	for _, t := range statistics.Tables {
		byName[t.Name] = t
	}
	var out []StoredTable
	for _, t := range a.tables {
		name := engineName(t.module, t.def.name)
		st := StoredTable{Name: name, Number: r.mounts[t].table.Number, Documents: byName[name].Documents, Bytes: byName[name].Bytes}
		for _, size := range byName[name].IndexBytes {
			st.Bytes += size
		}
		for _, size := range byName[name].AggregateBytes {
			st.Bytes += size
		}
		for _, ix := range t.def.indexes {
			st.Indexes = append(st.Indexes, StoredIndex{ix.Name, ix.Fields, ix.Unique})
		}
		for _, g := range t.def.aggregates {
			st.Aggregates = append(st.Aggregates, g.Name)
		}
		out = append(out, st)
	}
	return out, nil
}

// storedTable finds a table by "module/table", or by the table's own name where only one module has it.
func (r *runtime) storedTable(name string) (*boundTable, string, error) {
	var found *boundTable
	full := ""
	for _, t := range r.app.tables {
		whole := engineName(t.module, t.def.name)
		if whole != name && t.def.name != name {
			continue
		}
		if found != nil {
			return nil, "", fmt.Errorf("table %q: %w: %s and %s have it; name the module too", cut(name, 2*nameBytesMax, "..."), ErrUnknownTable, full, whole)
		}
		found, full = r.mounts[t], whole
	}
	if found == nil {
		return nil, "", fmt.Errorf("table %q: %w", cut(name, 2*nameBytesMax, "..."), ErrUnknownTable)
	}
	return found, full, nil
}

// StoredQuery says which documents of a table to read.
type StoredQuery struct {
	Table string // "module/table", or the table's name where only one module has it
	Index string // default by_creation_time
	Range engine.Range
	Desc  bool
	// Cursor is the Next of the page before, or empty.
	Cursor string
	// Limit is how many documents to read, 1 to 8,192. A page may have fewer: it holds at most 12 MiB.
	Limit int
}

// StoredPage is a part of what a StoredQuery selects.
type StoredPage struct {
	Documents []value.Value // objects with _id and _creationTime
	Next      string        // where the next page begins
	Done      bool          // there is none
}

// StoredDocuments reads documents as they are stored, also those that do not fit their struct. Errors: ErrUnknownTable, ErrUnknownIndex,
// engine.ErrInvalidCursor, *engine.RangeError.
func (a *App) StoredDocuments(ctx context.Context, q StoredQuery) (StoredPage, error) {
	r := a.running.Load()
	if r == nil {
		return StoredPage{}, ErrNotOpen
	}
	b, full, err := r.storedTable(q.Table)
	if err != nil {
		return StoredPage{}, err
	}
	if q.Index == "" {
		q.Index = engine.IndexByCreationTime
	}
	index := b.indexes[q.Index]
	if index == nil {
		return StoredPage{}, fmt.Errorf("index %q of %s: %w", cut(q.Index, 2*nameBytesMax, "..."), full, ErrUnknownIndex)
	}
	var page engine.Page
	if _, err := r.db.Query(ctx, "_system:data", func(tx *engine.Tx) (err error) {
		page, err = tx.Page(index, q.Range, q.Desc, engine.PageRequest{Cursor: q.Cursor, Limit: q.Limit})
		return err
	}); err != nil {
		return StoredPage{}, fmt.Errorf("read %s: %w", full, err)
	}
	out := StoredPage{Next: page.Next, Done: page.Done}
	for _, d := range page.Documents {
		out.Documents = append(out.Documents, storedObject(d))
	}
	return out, nil
}

// storedObject is a document with its system fields.
func storedObject(d engine.Document) value.Value {
	return value.Patched(d.Fields, value.Object(
		value.Field{Name: idField, Value: value.String(d.ID.String())},
		value.Field{Name: creationTimeField, Value: value.Float64(d.CreationTime)},
	))
}

// ImportMode says what becomes of the documents that a table holds when others are imported.
type ImportMode string

// The modes.
const (
	// ImportEmpty: there must be none. All documents appear in one commit, or none.
	ImportEmpty ImportMode = "empty"
	// ImportAppend: they stay. Documents come in batches, each in a transaction of its own; one whose id is there with the same content is
	// passed over, so an import that was cut short is repeated.
	ImportAppend ImportMode = "append"
	// ImportReplace: they are removed, in batches, and then it is ImportEmpty.
	ImportReplace ImportMode = "replace"
	// ImportCheck: nothing is changed, whatever the table holds; each document is checked as for the others, and those are counted as known that
	// are there with the same content.
	ImportCheck ImportMode = "check"
)

// ImportOptions are the settings of an import.
type ImportOptions struct {
	Mode ImportMode // default ImportEmpty
	// NewIDs gives documents new ids and creation times in place of those they have.
	NewIDs bool
	// Convex says that the documents are as an export of a Convex project has them, with the numbers of its tables. They get those of the
	// tables of the same names in the table's module, in their own ids and in every id in them, and keep the rest of their ids. Nil for
	// documents of this program.
	Convex ConvexTables
	// Progress is told how far the import is, at times.
	Progress func(Imported)
}

// Imported is what an import has done.
type Imported struct {
	Table    string
	Taken    int64 // documents that the sequence gave
	Inserted int64
	Known    int64 // passed over: they are there
	Removed  int64 // of what the table held
}

// ImportError is a document that cannot be imported.
type ImportError struct {
	Document int64 // its place in the sequence, from 1
	Problem  error
}

func (e *ImportError) Error() string { return fmt.Sprintf("document %d: %v", e.Document, e.Problem) }

func (e *ImportError) Unwrap() error { return e.Problem }

// Import fills a table with documents, objects as StoredDocuments gives them. Without _id and _creationTime they get new ones; either all
// have them or none. Each must fit the table's struct.
//
// Errors: ErrUnknownTable, *ImportError, engine.ErrTableNotEmpty and what else engine.DB.Load and transactions say, and that of the sequence.
func (a *App) Import(ctx context.Context, table string, documents iter.Seq2[value.Value, error], o ImportOptions) (Imported, error) {
	r := a.running.Load()
	if r == nil {
		return Imported{}, ErrNotOpen
	}
	b, full, err := r.storedTable(table)
	if err != nil {
		return Imported{}, err
	}
	if strings.HasPrefix(full, systemModule+"/") {
		return Imported{}, fmt.Errorf("import into %s: %w: it is not for documents of yours", full, ErrUnknownTable)
	}
	im := &importing{run: r, table: b, o: o, done: Imported{Table: full}}
	if o.Convex != nil {
		module, _, _ := strings.Cut(full, "/")
		im.convex = r.newConvexReader(module, o.Convex)
	}
	switch o.Mode {
	case "", ImportEmpty:
		err = im.load(ctx, documents)
	case ImportAppend:
		err = im.add(ctx, documents)
	case ImportCheck:
		err = im.look(ctx, documents)
	case ImportReplace:
		if err = im.empty(ctx); err == nil {
			err = im.load(ctx, documents)
		}
	default:
		err = fmt.Errorf("the mode %q is none of empty, append, replace and check", o.Mode)
	}
	if err != nil {
		return im.done, fmt.Errorf("import into %s: %w", full, err)
	}
	return im.done, nil
}

// importing is one import.
type importing struct {
	run    *runtime
	table  *boundTable
	o      ImportOptions
	convex *convexReader // nil for documents of this program
	done   Imported
}

// Batches of an import. A batch stays far below the limits of a transaction.
const (
	importBatch      = 500
	importBatchBytes = 2 << 20
	importTellEvery  = 10_000
)

// check makes a document of an object and sees that it fits.
func (im *importing) check(v value.Value) (d engine.Document, err error) {
	if v.Kind() != value.KindObject {
		return d, errors.New("it is not an object")
	}
	if im.convex != nil {
		v = im.convex.read(im.table.codec, v)
	}
	id, created := v.Get(idField), v.Get(creationTimeField)
	d.Fields = value.Patched(v, value.Object(), idField, creationTimeField)
	if !im.o.NewIDs {
		if text, ok := id.AsString(); ok {
			if d.ID, err = value.ParseID(text); err != nil {
				return d, fmt.Errorf("_id: %w", err)
			}
			if d.ID.Table != im.table.table.Number {
				return d, fmt.Errorf("_id: %s is of another table, or of another database whose tables have other numbers; new ids can be given", text)
			}
		} else if !id.IsUndefined() {
			return d, errors.New("_id: it is not a string")
		}
		if ms, ok := created.AsFloat64(); ok {
			d.CreationTime = ms
		} else if !created.IsUndefined() {
			return d, errors.New("_creationTime: it is not a number")
		}
	}
	if bad := (&decoder{stored: true}).decode(im.table.codec, d.Fields, reflect.New(im.table.def.typ).Elem()); bad != nil {
		return d, fmt.Errorf("it does not fit %v: %w", im.table.def.typ, bad)
	}
	return d, nil
}

// checked are the documents of the sequence.
func (im *importing) checked(documents iter.Seq2[value.Value, error]) iter.Seq2[engine.Document, error] {
	return func(yield func(engine.Document, error) bool) {
		for v, err := range documents {
			if err != nil {
				yield(engine.Document{}, err)
				return
			}
			d, err := im.check(v)
			if err != nil {
				yield(engine.Document{}, &ImportError{im.done.Taken + 1, err})
				return
			}
			im.done.Taken++
			if !yield(d, nil) {
				return
			}
			if im.o.Progress != nil && im.done.Taken%importTellEvery == 0 {
				im.o.Progress(im.done)
			}
		}
	}
}

func (im *importing) load(ctx context.Context, documents iter.Seq2[value.Value, error]) error {
	loaded, err := im.run.db.Load(ctx, im.table.table, im.checked(documents), nil)
	im.done.Inserted = loaded.Documents
	return err
}

// look changes nothing.
func (im *importing) look(ctx context.Context, documents iter.Seq2[value.Value, error]) error {
	return im.inBatches(documents, func(batch []engine.Document) error {
		for left := batch; len(left) > 0; {
			known, n := int64(0), 0
			if _, err := im.run.db.Query(ctx, "_system:import", func(tx *engine.Tx) error {
				known, n = 0, 0
				for _, d := range left {
					if n > 0 && tx.HalfSpent() {
						break
					}
					there, err := im.holds(tx, d)
					if err != nil {
						return err
					}
					if there {
						known++
					}
					n++
				}
				return nil
			}); err != nil {
				return err
			}
			im.done.Known += known
			left = left[n:]
		}
		return nil
	})
}

// add inserts documents.
func (im *importing) add(ctx context.Context, documents iter.Seq2[value.Value, error]) error {
	return im.inBatches(documents, func(batch []engine.Document) error {
		for left := batch; len(left) > 0; {
			inserted, n := int64(0), 0
			_, err := im.run.db.Mutate(ctx, engine.Call{Name: "_system:import"}, func(tx *engine.Tx) ([]byte, error) {
				inserted, n = 0, 0
				for _, d := range left {
					if n > 0 && tx.HalfSpent() {
						break
					}
					isNew, err := im.insert(tx, d)
					if err != nil {
						return nil, &ImportError{im.done.Taken - int64(len(left)-n) + 1, err}
					}
					if isNew {
						inserted++
					}
					n++
				}
				return nil, nil
			})
			if err != nil {
				return err
			}
			im.done.Inserted += inserted
			im.done.Known += int64(n) - inserted
			left = left[n:]
		}
		return nil
	})
}

// inBatches gives the documents to take.
func (im *importing) inBatches(documents iter.Seq2[value.Value, error], take func(batch []engine.Document) error) error {
	var batch []engine.Document
	size := 0
	flush := func() error {
		err := take(batch)
		batch, size = batch[:0], 0
		return err
	}
	for d, err := range im.checked(documents) {
		if err != nil {
			// What came before is whole and checked: it is kept, so that a repetition goes on from here.
			return errors.Join(err, flush())
		}
		batch, size = append(batch, d), size+value.Size(d.Fields)
		if len(batch) == importBatch || size >= importBatchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// insert adds one document unless it is there.
func (im *importing) insert(tx *engine.Tx, d engine.Document) (isNew bool, err error) {
	if d.ID.IsZero() {
		_, err := tx.Insert(im.table.table, d.Fields)
		return true, err
	}
	if there, err := im.holds(tx, d); err != nil || there {
		return false, err
	}
	return true, tx.InsertAs(im.table.table, d)
}

// holds reports whether a document is there as it is.
func (im *importing) holds(tx *engine.Tx, d engine.Document) (bool, error) {
	if d.ID.IsZero() {
		return false, nil
	}
	old, exists, err := tx.Get(im.table.table, d.ID)
	return exists && old.CreationTime == d.CreationTime && value.Compare(old.Fields, d.Fields) == 0, err
}

// empty removes all documents.
func (im *importing) empty(ctx context.Context) error {
	for {
		removed := 0
		_, err := im.run.db.Mutate(ctx, engine.Call{Name: "_system:import"}, func(tx *engine.Tx) ([]byte, error) {
			removed = 0
			page, err := tx.Page(im.table.indexes[engine.IndexByID], engine.Range{}, false, engine.PageRequest{Limit: importBatch, BytesMax: importBatchBytes})
			if err != nil {
				return nil, err
			}
			for _, d := range page.Documents {
				if removed > 0 && tx.HalfSpent() {
					break
				}
				if err := tx.Delete(im.table.table, d.ID); err != nil {
					return nil, err
				}
				removed++
			}
			return nil, nil
		})
		if err != nil || removed == 0 {
			return err
		}
		im.done.Removed += int64(removed)
		if im.o.Progress != nil {
			im.o.Progress(im.done)
		}
	}
}
