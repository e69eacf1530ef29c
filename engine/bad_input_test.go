package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// A test of an error: whether it is the one that callers branch on.
type isError func(error) bool

func is(target error) isError { return func(err error) bool { return errors.Is(err, target) } }

func isA[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// badInput is what the cases of TestBadInput are given.
type badInput struct {
	db              *engine.DB
	counters, views *engine.Table
	id, gone        value.ID // of counters
	view            value.ID
	foreign         *engine.DB // another database, whose tables have other numbers
	foreignID       value.ID   // of its views
}

// nest puts a value into n arrays.
func nest(v value.Value, n int) value.Value {
	for range n {
		v = value.Array(v)
	}
	return v
}

// TestBadInput gives a transaction one wrong thing after another. Each gives the
// error that is promised, from a query too where it is a read, and nothing of the
// transaction is there afterwards, nor is anything else gone.
func TestBadInput(t *testing.T) {
	in := badInput{db: enginetest.Open(t, schema)}
	in.counters, in.views = in.db.Table("counters"), in.db.Table("views")
	in.id = insert(t, in.db, "counters", fields("name", "a", "n", 1))
	in.gone = insert(t, in.db, "counters", fields("name", "b", "n", 1))
	in.view = insert(t, in.db, "views", fields("path", "/", "n", 1))
	mutate(t, in.db, func(tx *engine.Tx) error { return tx.Delete(in.counters, in.gone) })
	turned := engine.Schema{Tables: []engine.TableDef{
		{Name: "first"}, {Name: "views", Indexes: []engine.IndexDef{{Name: "other", Fields: []string{"n"}}},
			Aggregates: []engine.AggregateDef{{Name: "others", GroupBy: []string{"n"}}}}, {Name: "counters"},
	}}
	in.foreign = enginetest.Open(t, turned)
	in.foreignID = insert(t, in.foreign, "views", fields("n", 1))

	field := func(name string, v value.Value) value.Value { return value.Object(value.Field{Name: name, Value: v}) }
	ops := func(op engine.Op) map[string]func(*engine.Tx) error {
		return map[string]func(*engine.Tx) error{"apply": func(tx *engine.Tx) error { return tx.Apply(in.counters, in.id, op) }}
	}
	puts := func(v value.Value) map[string]func(*engine.Tx) error {
		return map[string]func(*engine.Tx) error{
			"insert":  func(tx *engine.Tx) error { return mustInsert(tx, in.counters, v) },
			"replace": func(tx *engine.Tx) error { return tx.Replace(in.counters, in.id, v) },
			"patch":   func(tx *engine.Tx) error { return tx.Patch(in.counters, in.id, v) },
		}
	}
	changes := func(table *engine.Table, id value.ID) map[string]func(*engine.Tx) error {
		return map[string]func(*engine.Tx) error{
			"replace": func(tx *engine.Tx) error { return tx.Replace(table, id, fields("n", 1)) },
			"patch":   func(tx *engine.Tx) error { return tx.Patch(table, id, fields("n", 1)) },
			"delete":  func(tx *engine.Tx) error { return tx.Delete(table, id) },
			"apply":   func(tx *engine.Tx) error { return tx.Apply(table, id, engine.Add("n", value.Float64(1))) },
		}
	}
	scan := func(ix *engine.Index, r engine.Range) map[string]func(*engine.Tx) error {
		return map[string]func(*engine.Tx) error{
			"scan": func(tx *engine.Tx) error {
				for _, err := range tx.Scan(ix, r, false) {
					if err != nil {
						return err
					}
				}
				return nil
			},
			"page": func(tx *engine.Tx) error { _, err := tx.Page(ix, r, true, engine.PageRequest{Limit: 3}); return err },
		}
	}
	aggregates := func(a *engine.Aggregate, r engine.Range) map[string]func(*engine.Tx) error {
		return map[string]func(*engine.Tx) error{
			"count":       func(tx *engine.Tx) error { _, err := tx.Count(a, r); return err },
			"rank":        func(tx *engine.Tx) error { _, _, err := tx.Rank(a, r, in.view, false); return err },
			"document at": func(tx *engine.Tx) error { _, _, err := tx.DocumentAt(a, r, 0, false); return err },
		}
	}
	one := func(f func(*engine.Tx) error) map[string]func(*engine.Tx) error {
		return map[string]func(*engine.Tx) error{"call": f}
	}
	paths := in.views.Aggregate("paths")
	notDocument, tooMuch := isA[*value.DocumentError], isA[*value.LimitError]

	for _, c := range []struct {
		name  string
		calls map[string]func(*engine.Tx) error
		want  isError
		reads bool
	}{
		{"a text for a document", puts(value.String("x")), notDocument, false},
		{"an array for a document", puts(value.Array(value.Null())), notDocument, false},
		{"null for a document", puts(value.Null()), notDocument, false},
		{"undefined for a document", puts(value.Value{}), notDocument, false},
		{"a system field", puts(field("_id", value.String("x"))), notDocument, false},
		{"another system field", puts(field("_creationTime", value.Float64(1))), notDocument, false},
		{"undefined in an array", puts(field("a", value.Array(value.Value{}))), notDocument, false},
		{"too large", puts(field("a", value.Bytes(make([]byte, 1<<20)))), tooMuch, false},
		{"nested too deep", puts(field("a", nest(value.Null(), 70))), tooMuch, false},
		{"too long for an index", map[string]func(*engine.Tx) error{
			"insert": func(tx *engine.Tx) error {
				return mustInsert(tx, in.views, fields("path", strings.Repeat("x", 5000)))
			},
			"patch": func(tx *engine.Tx) error {
				return tx.Patch(in.views, in.view, fields("path", strings.Repeat("x", 5000)))
			},
		}, isA[*engine.LimitError], false},

		{"a document that was removed", changes(in.counters, in.gone), is(engine.ErrNoDocument), false},
		{"no id", changes(in.counters, value.ID{}), is(engine.ErrNoDocument), false},
		{"an id of another table", changes(in.counters, in.view), is(engine.ErrNoDocument), false},
		{"an id of another database", changes(in.views, in.foreignID), is(engine.ErrNoDocument), false},
		{"a table of another database", changes(in.foreign.Table("views"), in.foreignID), is(engine.ErrNoTable), false},
		{"an insert into a table of another database", one(func(tx *engine.Tx) error {
			return mustInsert(tx, in.foreign.Table("views"), fields("n", 1))
		}), is(engine.ErrNoTable), false},
		{"a get of another database's", one(func(tx *engine.Tx) error {
			_, _, err := tx.Get(in.foreign.Table("views"), in.foreignID)
			return err
		}), is(engine.ErrNoTable), true},
		{"an index of another database", scan(in.foreign.Table("views").Index("other"), all), is(engine.ErrNoIndex), true},
		{"an aggregate of another database", aggregates(in.foreign.Table("views").Aggregate("others"), all), is(engine.ErrNoIndex), true},
		{"a table that there is not", changes(in.db.Table("typo"), in.id), isA[*engine.PanicError], false},

		{"more fields than the index has", scan(in.views.Index("by_path"), eq("a", 1, 2, 3)), isA[*engine.RangeError], true},
		{"a bound on ids", scan(in.views.Index(engine.IndexByID), engine.Range{Lower: &engine.Bound{}}), isA[*engine.RangeError], true},
		{"more fields than the aggregate has", aggregates(paths, eq("a", 1, 2, 3)), isA[*engine.RangeError], true},
		{"a total without a sum", one(func(tx *engine.Tx) error { _, err := tx.Total(paths, all); return err }), is(engine.ErrNoSum), true},
		{"a cursor of nothing", one(func(tx *engine.Tx) error {
			_, err := tx.Page(in.views.Index("by_path"), all, false, engine.PageRequest{Cursor: "AAAA", Limit: 1})
			return err
		}), is(engine.ErrInvalidCursor), true},

		{"addition to a text", ops(engine.Add("name", value.Float64(1))), isA[*engine.OpError], false},
		{"addition of a text", ops(engine.Add("n", value.String("1"))), isA[*engine.OpError], false},
		{"addition of another type of number", ops(engine.Add("n", value.Int64(1))), isA[*engine.OpError], false},
		{"insertion into a number", ops(engine.SetInsert("n", value.Null())), isA[*engine.OpError], false},
		{"an operation on a system field", ops(engine.Max("_id", value.Null())), isA[*engine.OpError], false},
		{"past a bound", ops(engine.Add("n", value.Float64(-5)).AtLeast(value.Float64(0))), isA[*engine.BoundError], false},

		{"too many nested", one(func(tx *engine.Tx) error { return nestedDeep(tx, 17) }), isA[*engine.LimitError], false},
	} {
		for call, f := range c.calls {
			t.Run(c.name+", "+call, func(t *testing.T) {
				before := hash(t, in.db)
				// It is the error of the call or, where only the commit can tell, of the
				// whole; with it nothing else happens.
				_, err := in.db.Mutate(context.Background(), engine.Call{Name: "bad"}, func(tx *engine.Tx) ([]byte, error) {
					if err := mustInsert(tx, in.counters, fields("name", "beside", "n", 1)); err != nil {
						return nil, err
					}
					return nil, f(tx)
				})
				if !c.want(err) {
					t.Errorf("a mutation gives %T %v", err, err)
				}
				if err != nil && (err.Error() == "" || strings.Contains(err.Error(), "%!")) {
					t.Errorf("the text of the error is %q", err)
				}
				if c.reads {
					if _, err := in.db.Query(context.Background(), "test", f); !c.want(err) {
						t.Errorf("a query gives %T %v", err, err)
					}
				} else if _, err := in.db.Query(context.Background(), "test", f); !errors.Is(err, engine.ErrReadOnly) && !isA[*engine.PanicError](err) && call != "call" {
					t.Errorf("a query gives %T %v, want that it cannot write", err, err)
				}
				if after := hash(t, in.db); after.Content != before.Content {
					t.Error("it has changed something")
				}
			})
		}
	}
	verify(t, in.db)
	verify(t, in.foreign)
	mutate(t, in.db, func(tx *engine.Tx) error { return tx.Patch(in.counters, in.id, fields("n", 2)) })
	if n := number(t, in.db, "counters", in.id); n != 2 {
		t.Errorf("after all that a change gives %v", n)
	}
}

func nestedDeep(tx *engine.Tx, n int) error {
	if n == 0 {
		return nil
	}
	return tx.Nested(func() error { return nestedDeep(tx, n-1) })
}

// databaseCalls are all that take a context or fail when the database is closed.
func databaseCalls(t *testing.T, db *engine.DB) map[string]func(ctx context.Context) error {
	return map[string]func(ctx context.Context) error{
		"mutate": func(ctx context.Context) error {
			_, err := db.Mutate(ctx, engine.Call{}, func(*engine.Tx) ([]byte, error) { t.Error("executed"); return nil, nil })
			return err
		},
		"query": func(ctx context.Context) error {
			_, err := db.Query(ctx, "test", func(*engine.Tx) error { t.Error("executed"); return nil })
			return err
		},
		"verify":     func(ctx context.Context) error { _, err := db.Verify(ctx); return err },
		"hash":       func(ctx context.Context) error { _, err := db.Hash(ctx); return err },
		"statistics": func(ctx context.Context) error { _, err := db.Statistics(ctx); return err },
		"compact":    db.Compact,
		"checkpoint": func(ctx context.Context) error { _, err := db.Checkpoint(ctx, "copy"); return err },
		"evolve":     func(ctx context.Context) error { return db.Evolve(ctx, schema) },
		"changes": func(ctx context.Context) error {
			for _, err := range db.Changes(ctx, 0) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"load": func(ctx context.Context) error {
			_, err := db.Load(ctx, db.Table("views"), func(func(engine.Document, error) bool) {}, nil)
			return err
		},
	}
}

// TestEndedContexts: what is called with a context that has ended does nothing and
// says so.
func TestEndedContexts(t *testing.T) {
	db := enginetest.Open(t, schema)
	insert(t, db, "counters", fields("name", "a", "n", 1))
	before := hash(t, db)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	late, cancel := context.WithDeadline(context.Background(), time.Unix(1, 0))
	defer cancel()
	for name, call := range databaseCalls(t, db) {
		if err := call(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("%s with a context that was cancelled gives %v", name, err)
		}
		if err := call(late); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s with a context that is over time gives %v", name, err)
		}
	}
	if after := hash(t, db); after.Content != before.Content {
		t.Error("something has changed")
	}
}

// TestClosedDatabase: every call says that it is closed, and a Tx that was kept
// that it is over.
func TestClosedDatabase(t *testing.T) {
	db := enginetest.Open(t, schema)
	counters := db.Table("counters")
	var kept *engine.Tx
	mutate(t, db, func(tx *engine.Tx) error { kept = tx; return mustInsert(tx, counters, fields("n", 1)) })
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, call := range databaseCalls(t, db) {
		if err := call(context.Background()); !errors.Is(err, engine.ErrClosed) {
			t.Errorf("%s gives %v", name, err)
		}
	}
	if err := db.Close(); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Close again gives %v", err)
	}
	if err := mustInsert(kept, counters, fields("n", 2)); !errors.Is(err, engine.ErrTxDone) {
		t.Errorf("an insert by a Tx that was kept gives %v", err)
	}
}

// TestDamagedFolder flips a byte at a time in the files of a folder: the database
// says that it is corrupt or, at the end of the log alone, begins without what was
// not whole. It does not panic, says nothing false, and writes nothing over what
// is left: with the byte turned back, everything is there.
//
// Only Pebble's list of files is another matter. Pebble takes a damaged record in
// it for the end of a list that a crash cut short, and removes the files that it
// does not know then. The log tells, so it is noticed, but the folder is lost.
func TestDamagedFolder(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	disk := enginetest.NewCrashable()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: disk})
	for i := range 300 {
		insert(t, db, "views", fields("path", fmt.Sprint("/", i%7), "n", i, "text", strings.Repeat("x", 200)))
		if i == 150 {
			if err := db.Compact(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := hash(t, db)
	whole, _ := changes(t, db)
	pristine := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	names, err := pristine.List("db")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	refused, places := map[string]int{}, 0
	for _, name := range names {
		info, err := pristine.Stat("db/" + name)
		if err != nil || info.IsDir() || info.Size() == 0 {
			continue
		}
		kind := name[strings.LastIndexAny(name, ".")+1:]
		if strings.HasPrefix(name, "MANIFEST") {
			kind = "manifest"
		}
		for range times(fewer(6, 2)) {
			at := rng.Int64N(info.Size())
			places++
			own := pristine.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
			flipByte(t, own, "db/"+name, at)
			panicked, said := look(own, want, whole)
			where := fmt.Sprintf("byte %d of %d of %s", at, info.Size(), name)
			switch {
			case panicked != nil:
				t.Errorf("%s: it panics: %v", where, panicked)
			case errors.Is(said, errFalse):
				t.Errorf("%s: %v", where, said)
			case said != nil:
				refused[kind]++
				if !errors.Is(said, engine.ErrCorrupt) && !errors.Is(said, engine.ErrNewerFormat) && !errors.Is(said, fs.ErrNotExist) && kind == "sst" {
					t.Errorf("%s: it is not called corrupt: %v", where, said)
				}
				if kind == "manifest" {
					continue
				}
				flipByte(t, own, "db/"+name, at)
				if _, again := look(own, want, nil); again != nil {
					t.Errorf("%s: turned back, it is not as before: %v", where, again)
				}
			}
		}
	}
	t.Logf("%d places, of which were noticed: %v", places, refused)
	for _, kind := range []string{"sst", "log", "manifest"} {
		if refused[kind] == 0 {
			t.Errorf("no damage of a file of kind %s was noticed", kind)
		}
	}
}

var errFalse = errors.New("it says something false")

// look opens a folder and compares it with what it should be. Without all changes
// it must be one of their beginnings, if there are any to compare with.
func look(disk vfs.FS, want engine.Hash, whole []string) (panicked any, err error) {
	defer func() { panicked = recover() }()
	fatal := make(chan error, 10)
	db, err := engine.Open("db", schema, &engine.Options{FS: disk, Fatal: func(err error) {
		select {
		case fatal <- err:
		default:
		}
	}})
	if err != nil {
		return nil, err
	}
	defer func() {
		closed := db.Close()
		select {
		case f := <-fatal:
			err = errors.Join(err, f, closed)
		default:
		}
	}()
	h, err := db.Hash(context.Background())
	if err != nil {
		return nil, err
	}
	r, err := db.Verify(context.Background())
	if err != nil {
		return nil, err
	}
	if h.Content == want.Content && r.OK() {
		return nil, nil
	}
	var got []string
	for g, err := range db.Changes(context.Background(), 0) {
		if err != nil {
			return nil, err
		}
		for _, c := range g.Changes {
			got = append(got, fmt.Sprint(g.At, c.At, c.Table, c.ID, c.Deleted, value.Size(c.Fields), string(value.AppendJSON(nil, c.Fields.Get("path"))), c.Fields.Get("n")))
		}
	}
	if r.OK() && whole != nil && len(got) < len(whole) && slices.Equal(got, whole[:len(got)]) {
		return nil, nil
	}
	if !r.OK() {
		return nil, fmt.Errorf("%w: verify: %v", engine.ErrCorrupt, r.Faults[0])
	}
	return nil, fmt.Errorf("%w: %d documents, %d changes, where there were %d and %d", errFalse, h.Documents, len(got), want.Documents, len(whole))
}

func flipByte(t *testing.T, disk vfs.FS, name string, at int64) {
	t.Helper()
	f, err := disk.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x5a
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}
