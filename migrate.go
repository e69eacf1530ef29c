package halcyon

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// ErrRemove is what a migration returns for a document that is to be removed.
var ErrRemove = errors.New("remove the document")

// migrationTable is the App's own: one document for each migration that has begun.
var migrationTable = engine.TableDef{
	Name:    engineName("_system", "migrations"),
	Indexes: []engine.IndexDef{{Name: "by_name", Fields: []string{"name"}}},
}

// migrationBatch is how many documents a migration brings up in one transaction.
const migrationBatch = 100

// migration is a declared one.
type migration struct {
	name string
	def  *tableDef
	// up returns what becomes of a document.
	up func(tx *Tx, stored engine.Document) (fields any, err error)
}

// Migrate declares a migration of a module: what becomes of each document of a table, which must be one of the module's, before the
// program starts to serve. Old describes the documents as they are, T as they shall be; a field that Old leaves out is lost unless f knows
// it. An error of f ends the start, and names the document; ErrRemove removes the document.
//
// A migration runs once in the life of a database, after those declared before it, 100 documents in one transaction, and goes on where it
// was after a crash. It may be left in the program as long as older databases may come by. f is given a Tx to read other documents with,
// and may be executed several times for one document. On a new database there is nothing to do, and it counts as done.
func Migrate[Old, T any](m *Module, name string, t *Table[T], f func(tx *Tx, old Old) (T, error)) {
	d := migration{name: name, def: &t.def}
	old, err := codecFor(reflect.TypeFor[Old]())
	if err == nil && old.shape != shapeObject {
		err = fmt.Errorf("a document is a struct, not %v", old.typ)
	}
	if err != nil {
		panic(fmt.Sprintf("halcyon: migration %s/%s: %v", m.name, name, err))
	}
	before := boundTable{def: &tableDef{name: t.def.name, typ: old.typ}, codec: old}
	d.up = func(tx *Tx, stored engine.Document) (any, error) {
		var was Old
		if err := before.decode(stored, reflect.ValueOf(&was).Elem()); err != nil {
			return nil, err
		}
		return f(tx, was)
	}
	m.migrations = append(m.migrations, d)
}

// Migrated is what a migration has done.
type Migrated struct {
	Name    string `json:"name"`  // module/migration
	Table   string `json:"table"` // module/table
	Seen    int64  `json:"seen"`  // documents, by this and earlier runs
	Changed int64  `json:"changed"`
	Removed int64  `json:"removed"`
	Done    bool   `json:"done"`
}

// MigrateOptions are the settings of App.Migrate.
type MigrateOptions struct {
	// DryRun runs every migration and keeps nothing of it. Each sees the documents as they are stored, not as an earlier one would leave
	// them.
	DryRun bool
	// Progress is called after each transaction. Default: none.
	Progress func(Migrated)
}

// Migrate runs the migrations that are not done. Start does so as well. It returns what each of them has come to; with an error, the last
// one is where it happened.
func (a *App) Migrate(ctx context.Context, o MigrateOptions) ([]Migrated, error) {
	r := a.running.Load()
	if r == nil {
		return nil, ErrNotOpen
	}
	known, err := r.readMigrations(ctx)
	if err != nil {
		return nil, fmt.Errorf("read which migrations are done: %w", err)
	}
	var out []Migrated
	for _, m := range a.modules {
		for _, d := range m.migrations {
			name := engineName(m.name, d.name)
			state := known[name]
			if state.Done {
				continue
			}
			state.Name, state.Table = name, engineName(m.name, d.def.name)
			done, err := r.migrate(ctx, m, d, state, o)
			out = append(out, done)
			if err != nil {
				return out, fmt.Errorf("migration %s: %w", name, err)
			}
		}
	}
	return out, nil
}

// migrationState is a document of migrationTable.
type migrationState struct {
	Migrated
	id     value.ID // zero: there is none yet
	cursor string
}

func (r *runtime) readMigrations(ctx context.Context) (out map[string]migrationState, err error) {
	_, err = r.db.Query(ctx, "read migrations", func(tx *engine.Tx) error {
		out = map[string]migrationState{}
		for d, err := range tx.Scan(r.db.Table(migrationTable.Name).Index("by_name"), engine.Range{}, false) {
			if err != nil {
				return err
			}
			s := migrationState{id: d.ID}
			s.Name, _ = d.Fields.Get("name").AsString()
			s.cursor, _ = d.Fields.Get("cursor").AsString()
			s.Seen, _ = d.Fields.Get("seen").AsInt64()
			s.Changed, _ = d.Fields.Get("changed").AsInt64()
			s.Removed, _ = d.Fields.Get("removed").AsInt64()
			s.Done, _ = d.Fields.Get("done").AsBool()
			out[s.Name] = s
		}
		return nil
	})
	return out, err
}

func (s *migrationState) fields() value.Value {
	return value.Object(
		value.Field{Name: "name", Value: value.String(s.Name)}, value.Field{Name: "cursor", Value: value.String(s.cursor)},
		value.Field{Name: "seen", Value: value.Int64(s.Seen)}, value.Field{Name: "changed", Value: value.Int64(s.Changed)},
		value.Field{Name: "removed", Value: value.Int64(s.Removed)}, value.Field{Name: "done", Value: value.Bool(s.Done)},
	)
}

// errDry takes back the transaction of a dry run.
var errDry = errors.New("nothing of a dry run is kept")

// migrate runs one migration to its end.
func (r *runtime) migrate(ctx context.Context, m *Module, d migration, s migrationState, o MigrateOptions) (Migrated, error) {
	b := r.mounts[mountedTable{m.name, d.def}]
	f := &function{module: m.name, name: d.name, path: engineName(m.name, d.name), kind: KindMutation}
	told := r.clock.Now()
	for batch := migrationBatch; !s.Done; {
		var next migrationState
		_, err := r.db.Mutate(ctx, engine.Call{Name: "migration " + f.path}, func(inner *engine.Tx) ([]byte, error) {
			next = s
			if err := r.migrateBatch(inner, f, d, b, batch, &next); err != nil {
				return nil, err
			}
			if o.DryRun {
				return nil, errDry
			}
			var err error
			next.id, err = put(inner, r.db.Table(migrationTable.Name), s.id, next.fields())
			return nil, err
		})
		if limit := new(engine.LimitError); batch > 1 && (errors.Is(err, engine.ErrTimeout) || errors.As(err, &limit)) {
			batch /= 2
			continue
		}
		if err != nil && !errors.Is(err, errDry) {
			return s.Migrated, err
		}
		s = next
		if o.Progress != nil {
			o.Progress(s.Migrated)
		}
		if now := r.clock.Now(); now.Sub(told) >= progressTime || s.Done && !o.DryRun {
			r.logger.Info("migrating", "migration", s.Name, "table", s.Table, "documents", s.Seen, "changed", s.Changed, "removed", s.Removed, "done", s.Done)
			told = now
		}
	}
	return s.Migrated, nil
}

// migrateBatch brings up the next documents in a transaction.
func (r *runtime) migrateBatch(inner *engine.Tx, f *function, d migration, b *boundTable, batch int, s *migrationState) error {
	page, err := inner.Page(b.indexes[engine.IndexByID], engine.Range{}, false, engine.PageRequest{Cursor: s.cursor, Limit: batch, BytesMax: fitBytes})
	if err != nil {
		return err
	}
	tx := &Tx{inner: inner, run: r, fn: f, now: inner.Now().UTC().Truncate(time.Millisecond)}
	for _, stored := range page.Documents {
		s.Seen++
		doc, err := d.up(tx, stored)
		if errors.Is(err, ErrRemove) {
			s.Removed++
			if err := inner.Delete(b.table, stored.ID); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("document %s of table %s: %w", stored.ID, s.Table, err)
		}
		fresh := reflect.New(d.def.typ).Elem()
		fresh.Set(reflect.ValueOf(doc))
		fields, err := b.encode(fresh)
		if err != nil {
			return fmt.Errorf("document %s of table %s: %w", stored.ID, s.Table, err)
		}
		if value.Equal(fields, stored.Fields) {
			continue
		}
		s.Changed++
		if err := inner.Replace(b.table, stored.ID, fields); err != nil {
			return err
		}
	}
	s.cursor, s.Done = page.Next, page.Done
	return nil
}
