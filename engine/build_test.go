package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
// builds several indexes and aggregates in several chunks each; whichever
// schema comes next finds everything right.
func TestCrashWhileBuilding(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	n := fewer(1_500, 700) // six chunks of rows, three of entries; or three and two
	fs := enginetest.NewCrashable()
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
	var crashed []*enginetest.Crashable
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
	waitBuilt(t, db)
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
		verify(t, db)
		waitBuilt(t, db)
		checkDefinitions(t, db, s, n)
		if err := db.Close(); err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
	}
}

// waitBuilt waits until everything that the schema declares is there.
func waitBuilt(t testing.TB, db *engine.DB) {
	t.Helper()
	if err := db.WaitBuilt(t.Context()); err != nil {
		t.Fatalf("wait for builds: %v", err)
	}
}

// TestBuildingTooLongAKey: an index that a stored document does not fit cannot
// be built, which is said by name, and everything else goes on.
func TestBuildingTooLongAKey(t *testing.T) {
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	long := insert(t, db, "counters", value.Object(value.Field{Name: "text", Value: value.String(strings.Repeat("x", 5000))}))
	for _, def := range []engine.TableDef{
		{Name: "counters", Indexes: []engine.IndexDef{{Name: "by_text", Fields: []string{"text"}}}},
		{Name: "counters", Aggregates: []engine.AggregateDef{{Name: "texts", GroupBy: []string{"text"}, Ranked: true}}},
	} {
		s := engine.Schema{Tables: []engine.TableDef{def}}
		for _, how := range []string{"on an open database", "at opening"} {
			if how == "at opening" {
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				db = enginetest.OpenWith(t, s, engine.Options{FS: fs})
			} else if err := db.Evolve(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			var limit *engine.LimitError
			err := db.WaitBuilt(t.Context())
			if !errors.As(err, &limit) || !errors.Is(err, engine.ErrBuildFailed) || !strings.Contains(err.Error(), long.String()) || !strings.Contains(err.Error(), "text") {
				t.Errorf("%s: WaitBuilt gives %v, want a LimitError that names %s", how, err, long)
			}
			query(t, db, func(tx *engine.Tx) error {
				counters := db.Table("counters")
				if ix := counters.Index("by_text"); ix != nil {
					for _, err = range tx.Scan(ix, all, false) {
						break
					}
				} else {
					_, err = tx.Top(counters.Aggregate("texts"), 1)
				}
				if !errors.Is(err, engine.ErrBuildFailed) {
					t.Errorf("%s: using it gives %v, want ErrBuildFailed", how, err)
				}
				return nil
			})
			if r := verify(t, db); r.Documents != 1 {
				t.Errorf("%s: %d documents", how, r.Documents)
			}
		}
	}
	// The document goes on to be changed, and without it the index can be built.
	mutate(t, db, func(tx *engine.Tx) error {
		return tx.Patch(db.Table("counters"), long, fields("text", "short"))
	})
	if err := db.Evolve(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	s := engine.Schema{Tables: []engine.TableDef{{Name: "counters", Indexes: []engine.IndexDef{{Name: "by_text", Fields: []string{"text"}}}}}}
	if err := db.Evolve(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	waitBuilt(t, db)
	verify(t, db)
}

// churn changes documents of views from several goroutines until it is stopped:
// a few of them all the time, the others now and then.
type churn struct {
	db   *engine.DB
	stop chan struct{}
	wg   sync.WaitGroup
}

func newChurn(t *testing.T, db *engine.DB, seed uint64, workers int) *churn {
	c := &churn{db: db, stop: make(chan struct{})}
	for w := range workers {
		rng := rand.New(rand.NewPCG(seed, uint64(w)))
		c.wg.Go(func() {
			for {
				select {
				case <-c.stop:
					return
				default:
				}
				pick, change, path, n := rng.Float64(), rng.IntN(10), fmt.Sprint("/", rng.IntN(40)), rng.IntN(1000)
				_, err := db.Mutate(context.Background(), engine.Call{Name: "churn"}, func(tx *engine.Tx) ([]byte, error) {
					views := db.Table("views")
					if change == 0 {
						return nil, mustInsert(tx, views, fields("path", path, "n", n))
					}
					// Somewhere in the table, with a liking for its beginning.
					skip := int(pick * pick * pick * 200)
					for d, err := range tx.Scan(views.Index(engine.IndexByID), all, change%2 == 0) {
						if err != nil {
							return nil, err
						}
						if skip--; skip > 0 {
							continue
						}
						switch {
						case change == 1:
							return nil, tx.Delete(views, d.ID)
						case change < 4:
							return nil, tx.Patch(views, d.ID, fields("text", path)) // in no index
						case change < 6:
							return nil, tx.Patch(views, d.ID, fields("n", n), "path")
						}
						return nil, tx.Patch(views, d.ID, fields("path", path, "n", n))
					}
					return nil, nil
				})
				if err != nil {
					t.Errorf("a change while indexes are built: %v", err)
					return
				}
			}
		})
	}
	return c
}

func (c *churn) end() {
	close(c.stop)
	c.wg.Wait()
}

// TestEvolveUnderLoad changes the schema of an open database again and again
// while documents change. Whatever is ready is exact, whatever is on its way is
// right as far as it is; the power goes at random moments, and what is found then
// is finished.
func TestEvolveUnderLoad(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	fs := enginetest.NewCrashable()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	for range 3 {
		fill(t, db, fewer(1500, 250))
	}
	var crashed []*enginetest.Crashable
	load := newChurn(t, db, rng.Uint64(), 4)
	var s engine.Schema
	for range times(fewer(12, 8)) {
		s = definitions(rng)
		if err := db.Evolve(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		switch rng.IntN(3) {
		case 0:
			waitBuilt(t, db)
		case 1:
			crashed = append(crashed, fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
		}
		verify(t, db)
	}
	waitBuilt(t, db)
	verify(t, db)
	load.end()
	n := int(verify(t, db).Documents)
	if len(s.Tables) > 1 {
		n -= 3
	}
	for _, def := range s.Tables[0].Aggregates {
		query(t, db, func(tx *engine.Tx) error {
			if got, err := tx.Count(db.Table("views").Aggregate(def.Name), all); err != nil || got != int64(n) {
				t.Errorf("aggregate %s counts %d, %v, want %d", def.Name, got, err, n)
			}
			return nil
		})
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for i, fs := range crashed {
		db := enginetest.OpenWith(t, definitions(rng), engine.Options{FS: fs})
		verify(t, db)
		waitBuilt(t, db)
		verify(t, db)
		if err := db.Close(); err != nil {
			t.Fatalf("crash %d: %v", i, err)
		}
	}
}

// gate holds the builder before each step until it is let through.
type gate struct{ steps chan struct{} }

func (g *gate) wait() { <-g.steps }

// open lets all further steps through.
func (g *gate) open() { close(g.steps) }

// TestUsingWhatIsBuilding holds a build back and looks at it: who reads it gets a
// stable error that says how far it is, who writes keeps it, and a live query
// that wanted it runs again when it is ready, and when it is dropped.
func TestUsingWhatIsBuilding(t *testing.T) {
	g := &gate{steps: make(chan struct{}, 100)}
	db := enginetest.OpenWith(t, schema, engine.Options{}.WithBuildHook(g.wait))
	const n = 2000
	fill(t, db, n)
	with := engine.Schema{Tables: []engine.TableDef{
		{Name: "views", Indexes: []engine.IndexDef{{Name: "by_n", Fields: []string{"n"}}}, Aggregates: []engine.AggregateDef{{Name: "ns", GroupBy: []string{"n"}, Ranked: true}}},
		{Name: "counters"},
	}}
	stale := db.Table("views").Index("by_path")
	if err := db.Evolve(t.Context(), with); err != nil {
		t.Fatal(err)
	}
	views := db.Table("views")
	told := make(chan struct{}, 1)
	set := db.NewQuerySet(func() {
		select {
		case told <- struct{}{}:
		default:
		}
	})
	defer set.Close()
	set.Add(1, engine.LiveQuery{Key: "first", Run: func(tx *engine.Tx) []byte {
		for d, err := range tx.Scan(views.Index("by_n"), all, true) {
			if err != nil {
				return []byte(err.Error())
			}
			n, _ := d.Fields.Get("n").AsFloat64()
			return fmt.Append(nil, n)
		}
		return nil
	}})
	next := func() string {
		t.Helper()
		for {
			if r, ok := set.Poll(0); ok && len(r.Changes) > 0 {
				return string(r.Changes[0].Body)
			}
			<-told
		}
	}
	if got := next(); got != "index by_n of views: it is being built; try again later" {
		t.Fatalf("the live query shows %q", got)
	}
	for range 4 {
		g.steps <- struct{}{}
	}
	var done int64
	for done < 3*256 {
		builds := db.Building()
		if len(builds) != 3 || builds[0].Index != "by_n" || builds[2].Ranking != true {
			t.Fatalf("building is %+v", builds)
		}
		done = builds[0].Done
	}
	mutate(t, db, func(tx *engine.Tx) error {
		return errors.Join(mustInsert(tx, views, fields("n", n)), mustInsert(tx, views, fields("n", -1)))
	})
	query(t, db, func(tx *engine.Tx) error {
		var building *engine.BuildingError
		for _, err := range tx.Scan(views.Index("by_n"), all, false) {
			if !errors.Is(err, engine.ErrIndexBuilding) || !errors.As(err, &building) || building.Done != 768 || building.Total != n+1 || building.Table != "views" {
				t.Errorf("scan gives %v, %+v", err, building)
			}
		}
		for name, f := range map[string]func(a *engine.Aggregate) error{
			"count":  func(a *engine.Aggregate) error { _, err := tx.Count(a, all); return err },
			"top":    func(a *engine.Aggregate) error { _, err := tx.Top(a, 3); return err },
			"groups": func(a *engine.Aggregate) error { _, err := tx.CountGroups(a); return err },
			"at":     func(a *engine.Aggregate) error { _, _, err := tx.DocumentAt(a, all, 0, false); return err },
			"rank":   func(a *engine.Aggregate) error { _, _, err := tx.Rank(a, all, value.ID{}, false); return err },
		} {
			if err := f(views.Aggregate("ns")); !errors.Is(err, engine.ErrIndexBuilding) {
				t.Errorf("%s gives %v, want ErrIndexBuilding", name, err)
			}
		}
		for _, err := range tx.Scan(stale, all, false) {
			if !errors.Is(err, engine.ErrNoIndex) {
				t.Errorf("scan of a dropped index gives %v", err)
			}
		}
		return nil
	})
	verify(t, db)
	g.open()
	if got := next(); got != fmt.Sprint(n) {
		t.Fatalf("the live query shows %q once the index is ready, want %d", got, n)
	}
	waitBuilt(t, db)
	query(t, db, func(tx *engine.Tx) error {
		groups, err := tx.CountGroups(views.Aggregate("ns"))
		if err != nil || groups != n+2 {
			t.Errorf("%d groups, %v, want %d", groups, err, n+2)
		}
		return nil
	})
	verify(t, db)
	if err := db.Evolve(t.Context(), engine.Schema{Tables: []engine.TableDef{{Name: "counters"}}}); err != nil {
		t.Fatal(err)
	}
	// The table is no longer declared; its index is kept for when it is again.
	if _, err := db.Query(t.Context(), "test", func(tx *engine.Tx) error { _, _, err := tx.Get(views, value.ID{}); return err }); !errors.Is(err, engine.ErrNoTable) {
		t.Errorf("get of an undeclared table gives %v", err)
	}
	_, err := db.Mutate(t.Context(), engine.Call{}, func(tx *engine.Tx) ([]byte, error) { return nil, mustInsert(tx, views, fields("n", 1)) })
	if !errors.Is(err, engine.ErrNoTable) {
		t.Errorf("insert into an undeclared table gives %v", err)
	}
	if got := next(); !strings.Contains(got, engine.ErrNoIndex.Error()) {
		t.Errorf("the live query shows %q when the index is gone", got)
	}
	if err := db.Evolve(t.Context(), with); err != nil {
		t.Fatal(err)
	}
	if builds := db.Building(); len(builds) > 0 {
		t.Errorf("what was left undeclared for a while is built again: %+v", builds)
	}
	if got := next(); got != fmt.Sprint(n) {
		t.Errorf("the live query shows %q when the table is back", got)
	}
	verify(t, db)
}

// TestBuildResumes takes the power in the middle of builds: the next opening goes
// on where the last durable chunk ended, and nothing is built twice.
func TestBuildResumes(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	fs := enginetest.NewCrashable()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	n := fewer(2_500, 1_100) // ten chunks of rows, five of entries; or five and three
	fill(t, db, n)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for name, def := range map[string]engine.TableDef{
		"index":     {Name: "views", Indexes: []engine.IndexDef{{Name: "by_n", Fields: []string{"n"}}}},
		"aggregate": {Name: "views", Aggregates: []engine.AggregateDef{{Name: "by_n", OrderBy: []string{"n"}, Sum: "n"}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := engine.Schema{Tables: []engine.TableDef{def}}
			own := fs.CrashClone(vfs.CrashCloneCfg{})
			for _, percent := range []int64{50, 75, 90} {
				done := takePowerAt(t, s, &own, percent, rng)
				// The next opening, before it has built anything more.
				g := &gate{steps: make(chan struct{})}
				again := enginetest.OpenWith(t, s, engine.Options{FS: own.CrashClone(vfs.CrashCloneCfg{})}.WithBuiltAtOpen(1).WithBuildHook(g.wait))
				b, building := buildOf(again, "by_n")
				if !building || b.Done < done {
					t.Errorf("the power went when %d steps were done, the build goes on at %d of %d", done, b.Done, b.Total)
				}
				if r := verify(t, again); r.Documents != int64(n) {
					t.Errorf("%d documents, want %d", r.Documents, n)
				}
				g.open()
				if percent == 90 {
					waitBuilt(t, again)
					verify(t, again)
				}
				if err := again.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// buildOf returns the build of the index or aggregate of that name.
func buildOf(db *engine.DB, name string) (engine.Build, bool) {
	for _, b := range db.Building() {
		if b.Index == name {
			return b, true
		}
	}
	return engine.Build{}, false
}

// takePowerAt opens a folder and takes the power when that much of by_n is built,
// at the latest: it may have come further before. It returns how many steps
// were done and leaves in fs what the disk has then.
func takePowerAt(t *testing.T, s engine.Schema, fs **enginetest.Crashable, percent int64, rng *rand.Rand) (done int64) {
	t.Helper()
	before, reached := *fs, make(chan struct{})
	opened := make(chan *engine.DB, 1)
	var self *engine.DB // of the builder, which alone calls the hook
	db := enginetest.OpenWith(t, s, engine.Options{FS: before}.WithBuiltAtOpen(1).WithBuildHook(func() {
		if self == nil {
			self = <-opened
		}
		if b, ok := buildOf(self, "by_n"); done == 0 && ok && b.Total > 0 && 100*b.Done >= percent*b.Total {
			done = b.Done
			*fs = before.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
			close(reached)
		}
	}))
	opened <- db
	<-reached
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return done
}

// TestChangesBetweenSteps holds an aggregate's build before each of its steps
// while documents change, so that groups without a step of the build come below
// and above all places it can be at. Whatever it has then is right, and what it
// has in the end is exact.
func TestChangesBetweenSteps(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	held, step, over := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var on atomic.Bool
	db := enginetest.OpenWith(t, schema, engine.Options{}.WithBuildHook(func() {
		if !on.Load() {
			return
		}
		select {
		case held <- struct{}{}:
			select {
			case <-step:
			case <-over:
			}
		case <-over:
		}
	}))
	n := fewer(1_500, 700)
	fill(t, db, n)
	views := db.Table("views")
	var ids []value.ID
	query(t, db, func(tx *engine.Tx) error {
		for d, err := range tx.Scan(views.Index(engine.IndexByID), all, false) {
			if err != nil {
				return err
			}
			ids = append(ids, d.ID)
		}
		return nil
	})
	on.Store(true)
	with := engine.Schema{Tables: []engine.TableDef{
		{Name: "views", Aggregates: []engine.AggregateDef{{Name: "ns", GroupBy: []string{"n"}, Sum: "w", Ranked: true}}},
		schema.Tables[1],
	}}
	if err := db.Evolve(t.Context(), with); err != nil {
		t.Fatal(err)
	}
	steps, built := 0, make(chan error, 1)
	go func() { built <- db.WaitBuilt(t.Context()) }()
	// A test that fails in the middle lets the build go on, so that it ends.
	defer close(over)
	for done := false; !done; {
		select {
		case <-held:
		case err := <-built:
			if err != nil {
				t.Fatal(err)
			}
			done = true
			continue
		}
		steps++
		for range 5 {
			mutate(t, db, func(tx *engine.Tx) error {
				i := rng.IntN(len(ids))
				switch rng.IntN(4) {
				case 0:
					err := tx.Delete(views, ids[i])
					if errors.Is(err, engine.ErrNoDocument) {
						return mustInsert(tx, views, fields("n", rng.IntN(n), "w", rng.IntN(9)))
					}
					return err
				case 1:
					return mustInsert(tx, views, fields("n", rng.IntN(n), "w", rng.IntN(9)))
				case 2:
					return ignoring(tx.Patch(views, ids[i], fields("w", rng.IntN(9))), engine.ErrNoDocument)
				}
				return ignoring(tx.Patch(views, ids[i], fields("n", rng.IntN(n), "w", rng.IntN(9))), engine.ErrNoDocument)
			})
		}
		verify(t, db)
		step <- struct{}{}
	}
	if steps < fewer(20, 10) {
		t.Errorf("the build took %d steps: there were too few places to be at", steps)
	}
	verify(t, db)
}

// ignoring returns err unless it is the one that may be.
func ignoring(err, may error) error {
	if errors.Is(err, may) {
		return nil
	}
	return err
}
