package engine_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// definitions draws a schema for the same two tables.
func definitions(rng *rand.Rand) engine.Schema {
	fieldSets := [][]string{{"path"}, {"n"}, {"path", "n"}, {"n", "path"}, {"missing"}}
	pick := func() []string { return fieldSets[rng.IntN(len(fieldSets))] }
	t := engine.TableDef{Name: "views"}
	for _, name := range []string{"by_a", "by_b", "by_c"} {
		if rng.IntN(2) == 0 {
			t.Indexes = append(t.Indexes, engine.IndexDef{Name: name, Fields: pick()})
		}
	}
	for _, name := range []string{"one", "two"} {
		if rng.IntN(2) == 0 {
			a := engine.AggregateDef{Name: name, GroupBy: pick()}
			if rng.IntN(2) == 0 {
				a.Sum = "n"
			}
			a.Ranked = rng.IntN(2) == 0
			t.Aggregates = append(t.Aggregates, a)
		}
	}
	s := engine.Schema{Tables: []engine.TableDef{t}}
	if rng.IntN(3) > 0 { // else the other table is not declared this time
		s.Tables = append(s.Tables, engine.TableDef{Name: "counters", Indexes: []engine.IndexDef{{Name: "by_name", Fields: pick()}}})
	}
	return s
}

// fill gives views a number of documents, and counters one.
func fill(t *testing.T, db *engine.DB, n int) {
	t.Helper()
	mutate(t, db, func(tx *engine.Tx) error {
		for i := range n {
			if _, err := tx.Insert(db.Table("views"), fields("path", fmt.Sprint("/", i%97), "n", i)); err != nil {
				return err
			}
		}
		return mustInsert(tx, db.Table("counters"), fields("name", "a", "n", 1))
	})
}

// checkDefinitions verifies the database and that what is declared is there to
// be used, and what is not is not.
func checkDefinitions(t *testing.T, db *engine.DB, s engine.Schema, n int) {
	t.Helper()
	r := verify(t, db)
	want := int64(0)
	for _, def := range s.Tables {
		table := db.Table(def.Name)
		rows := int64(1)
		if def.Name == "views" {
			rows = int64(n)
		}
		want += rows
		for _, name := range []string{"by_a", "by_b", "by_c"} {
			if declared := contains(def.Indexes, name); (table.Index(name) != nil) != declared {
				t.Errorf("index %s of %s is declared: %v, there: %v", name, def.Name, declared, !declared)
			}
		}
		query(t, db, func(tx *engine.Tx) error {
			for _, a := range def.Aggregates {
				if got, err := tx.Count(table.Aggregate(a.Name), all); err != nil || got != rows {
					t.Errorf("aggregate %s counts %d, %v, want %d", a.Name, got, err, rows)
				}
			}
			return nil
		})
	}
	if r.Documents != want {
		t.Errorf("%d documents, want %d", r.Documents, want)
	}
}

func contains(defs []engine.IndexDef, name string) bool {
	for _, d := range defs {
		if d.Name == name {
			return true
		}
	}
	return false
}

// TestDefinitionsChange opens the same folder with one schema after another:
// what is added or changed is built, what is dropped is gone, what was left
// undeclared for a while is right when it is back.
func TestDefinitionsChange(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	n := 800
	fill(t, db, n)
	for range times(8) {
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		s := definitions(rng)
		db = enginetest.OpenWith(t, s, engine.Options{FS: fs})
		checkDefinitions(t, db, s, n)
		mutate(t, db, func(tx *engine.Tx) error {
			left := 20
			for d, err := range tx.Scan(db.Table("views").Index(engine.IndexByCreationTime), all, rng.IntN(2) == 0) {
				if err != nil {
					return err
				}
				switch rng.IntN(3) {
				case 0:
					err = tx.Delete(db.Table("views"), d.ID)
					n--
				case 1:
					err = tx.Patch(db.Table("views"), d.ID, fields("n", rng.IntN(1000)), "path")
				}
				if err != nil {
					return err
				}
				if left--; left == 0 {
					break
				}
			}
			return nil
		})
		checkDefinitions(t, db, s, n)
	}
}

// TestCrashWhileBuilding takes the power at every few writes of an opening that
// builds several indexes and aggregates in several batches each; whichever
// schema comes next finds everything right.
func TestCrashWhileBuilding(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	const n = 11_000 // three batches
	fs := vfs.NewCrashableMem()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	fill(t, db, n)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	before := schema
	after := engine.Schema{Tables: []engine.TableDef{
		{
			Name:       "views",
			Indexes:    []engine.IndexDef{{Name: "by_path", Fields: []string{"n"}}, {Name: "by_a", Fields: []string{"path"}}},
			Aggregates: []engine.AggregateDef{{Name: "paths", GroupBy: []string{"path"}, Sum: "n", Ranked: true}},
		},
		{Name: "counters"},
	}}
	var mu sync.Mutex
	var crashed []*vfs.MemFS
	var writes int64
	every := 1 + rng.Int64N(5)
	hooked := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !strings.HasSuffix(op.Path, ".log") || op.Kind != errorfs.OpFileWrite {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if writes++; writes%every == 0 && len(crashed) < times(5) {
			crashed = append(crashed, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
		}
		return nil
	}))
	db = enginetest.OpenWith(t, after, engine.Options{FS: hooked})
	mu.Lock()
	seen := slices.Clone(crashed)
	mu.Unlock()
	checkDefinitions(t, db, after, n)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if len(seen) < 3 {
		t.Errorf("%d crashes: the opening builds too little", len(seen))
	}
	for i, fs := range seen {
		s := []engine.Schema{before, after}[(i+1)%2]
		db := enginetest.OpenWith(t, s, engine.Options{FS: fs})
		checkDefinitions(t, db, s, n)
		if err := db.Close(); err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
	}
}

// TestBuildingTooLongAKey: an index that a stored document does not fit is
// refused by name, and the folder opens without it as before.
func TestBuildingTooLongAKey(t *testing.T) {
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	long := insert(t, db, "counters", value.Object(value.Field{Name: "text", Value: value.String(strings.Repeat("x", 5000))}))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, def := range []engine.TableDef{
		{Name: "counters", Indexes: []engine.IndexDef{{Name: "by_text", Fields: []string{"text"}}}},
		{Name: "counters", Aggregates: []engine.AggregateDef{{Name: "texts", GroupBy: []string{"text"}}}},
	} {
		var limit *engine.LimitError
		_, err := engine.Open("db", engine.Schema{Tables: []engine.TableDef{def}}, &engine.Options{FS: fs})
		if !errors.As(err, &limit) || !strings.Contains(err.Error(), long.String()) || !strings.Contains(err.Error(), "text") {
			t.Errorf("Open gives %v, want a LimitError that names %s", err, long)
		}
	}
	db = enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	if r := verify(t, db); r.Documents != 1 {
		t.Errorf("%d documents", r.Documents)
	}
}
