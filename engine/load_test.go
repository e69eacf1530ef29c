package engine_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// loadSchema has a part of every kind.
var loadSchema = engine.Schema{Tables: []engine.TableDef{
	{
		Name: "sales",
		Indexes: []engine.IndexDef{
			{Name: "by_day", Fields: []string{"day"}},
			{Name: "by_number", Fields: []string{"number"}, Unique: true},
			{Name: "by_shop_day", Fields: []string{"shop", "day"}},
		},
		Aggregates: []engine.AggregateDef{
			salesDef,
			{Name: "all"},
			{Name: "days", OrderBy: []string{"day"}},
		},
	},
	{Name: "others"},
}}

// numberedSales makes documents with a number of their own, a few without one.
func numberedSales(seed uint64, n int) []value.Value {
	rnd := rand.New(rand.NewPCG(seed, 1))
	var out []value.Value
	for i := range n {
		f := someSale(rnd)
		if i%10 > 0 {
			f = value.Patched(f, value.Object(value.Field{Name: "number", Value: value.Float64(float64(i*7919%n) + 0.5)}))
		}
		out = append(out, f)
	}
	return out
}

// documents is a sequence of documents for Load.
func documents(docs []engine.Document) iter.Seq2[engine.Document, error] {
	return func(yield func(engine.Document, error) bool) {
		for _, d := range docs {
			if !yield(d, nil) {
				return
			}
		}
	}
}

func bare(fields []value.Value) (docs []engine.Document) {
	for _, f := range fields {
		docs = append(docs, engine.Document{Fields: f})
	}
	return docs
}

// contents tells everything that can be read of a table, as text.
func contents(t *testing.T, db *engine.DB) (out []string) {
	t.Helper()
	table := db.Table("sales")
	query(t, db, func(tx *engine.Tx) error {
		out = nil
		for _, name := range []string{engine.IndexByCreationTime, "by_day", "by_number", "by_shop_day"} {
			for d, err := range tx.Scan(table.Index(name), engine.Range{}, false) {
				if err != nil {
					return err
				}
				out = append(out, name+" "+string(value.AppendJSON(nil, d.Fields)))
			}
		}
		for _, a := range []string{"by_shop", "all", "days"} {
			n, err := tx.Count(table.Aggregate(a), engine.Range{})
			if err != nil {
				return err
			}
			out = append(out, fmt.Sprint(a, " ", n))
		}
		total, err := tx.Total(table.Aggregate("by_shop"), engine.Range{})
		if err != nil {
			return err
		}
		sum, err := total.Sum()
		out = append(out, fmt.Sprint("sum ", sum, err, total.Min, total.Max))
		top, err := tx.Top(table.Aggregate("by_shop"), 100)
		for _, g := range top {
			out = append(out, fmt.Sprint("top ", g.Count, g.Group))
		}
		return err
	})
	return out
}

// TestLoad: a table that was loaded reads as one that was filled by transactions,
// whatever fits in memory, passes Verify, and goes on as any other.
func TestLoad(t *testing.T) {
	for _, n := range []int{1, 2000} {
		sales := numberedSales(1, n)
		o := engine.Options{FS: vfs.NewMem(), Seed: 1}
		want := enginetest.OpenWith(t, loadSchema, o)
		var stored []engine.Document
		for part := range slices.Chunk(sales, 500) {
			mutate(t, want, func(tx *engine.Tx) error {
				for _, f := range part {
					if _, err := tx.Insert(want.Table("sales"), f); err != nil {
						return err
					}
				}
				return nil
			})
		}
		query(t, want, func(tx *engine.Tx) error {
			for d, err := range tx.Scan(want.Table("sales").Index(engine.IndexByCreationTime), engine.Range{}, false) {
				if err != nil {
					return err
				}
				stored = append(stored, d)
			}
			return nil
		})
		backwards := slices.Clone(stored)
		slices.Reverse(backwards)
		for _, c := range []struct {
			name  string
			docs  []engine.Document
			bytes int
		}{
			{"new", bare(sales), 0},
			{"new, little memory", bare(sales), 100_000},
			{"with ids and times", stored, 0},
			{"with ids and times, backwards, little memory", backwards, 100_000},
		} {
			t.Run(fmt.Sprintf("%d %s", n, c.name), func(t *testing.T) {
				fs := vfs.NewMem()
				o := engine.Options{FS: fs, Seed: 2}
				db := enginetest.OpenWith(t, loadSchema, o)
				told := engine.LoadProgress{}
				got, err := db.Load(context.Background(), db.Table("sales"), documents(c.docs), &engine.LoadOptions{
					SortBytes: c.bytes, Progress: func(p engine.LoadProgress) { told = p },
				})
				if err != nil {
					t.Fatal(err)
				}
				if got.Documents != int64(n) || got.At == 0 || got.At > db.Durable() || told.Documents%65_536 != 0 {
					t.Errorf("loaded %+v, told %+v", got, told)
				}
				if diff := cmp.Diff(contents(t, want), contents(t, db)); diff != "" {
					t.Errorf("contents (-transactions +loaded):\n%s", diff)
				}
				verify(t, db)
				if !c.docs[0].ID.IsZero() {
					query(t, db, func(tx *engine.Tx) error {
						d, ok, err := tx.Get(db.Table("sales"), c.docs[0].ID)
						if !ok || d.CreationTime != c.docs[0].CreationTime {
							t.Errorf("get by its id: %v, %v", d, ok)
						}
						return err
					})
				}
				// It goes on: the same changes have the same effect.
				for _, db := range []*engine.DB{db, want} {
					if n == 1 {
						break
					}
					mutate(t, db, func(tx *engine.Tx) error {
						var ids []value.ID
						for d, err := range tx.Scan(db.Table("sales").Index("by_number"), engine.Range{}, false) {
							if err != nil {
								return err
							}
							if !d.Fields.Get("number").IsUndefined() {
								ids = append(ids, d.ID)
							}
						}
						for i, id := range ids[:len(ids)/3] {
							if i%2 == 0 {
								if err := tx.Delete(db.Table("sales"), id); err != nil {
									return err
								}
								continue
							}
							if err := tx.Patch(db.Table("sales"), id, fields("shop", "moved", "day", i)); err != nil {
								return err
							}
						}
						return nil
					})
				}
				if n > 1 && strings.HasPrefix(c.name, "with ids and times, backwards") {
					if diff := cmp.Diff(contents(t, want), contents(t, db)); diff != "" {
						t.Errorf("contents after changes (-transactions +loaded):\n%s", diff)
					}
				}
				verify(t, db)
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				again := enginetest.OpenWith(t, loadSchema, o)
				verify(t, again)
			})
			if n > 1 {
				restore(t, want, stored)
			}
		}
	}
}

// restore makes the table of db what it was.
func restore(t *testing.T, db *engine.DB, docs []engine.Document) {
	t.Helper()
	mutate(t, db, func(tx *engine.Tx) error {
		for d, err := range tx.Scan(db.Table("sales").Index(engine.IndexByCreationTime), engine.Range{}, false) {
			if err != nil {
				return err
			}
			if err := tx.Delete(db.Table("sales"), d.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := db.Load(context.Background(), db.Table("sales"), documents(docs), nil); err != nil {
		t.Fatal(err)
	}
}

// watched shows the result of one live query.
type watched struct {
	t    *testing.T
	set  *engine.QuerySet
	told chan struct{}
	body string
}

func watch(t *testing.T, db *engine.DB, run func(tx *engine.Tx) []byte) *watched {
	w := &watched{t: t, told: make(chan struct{}, 1)}
	w.set = db.NewQuerySet(func() {
		select {
		case w.told <- struct{}{}:
		default:
		}
	})
	w.set.Add(1, engine.LiveQuery{Key: "q", Run: run})
	t.Cleanup(w.set.Close)
	return w
}

// await waits until the query shows a result.
func (w *watched) await(want string) {
	w.t.Helper()
	for {
		for r, ok := w.set.Poll(0); ok; r, ok = w.set.Poll(0) {
			for _, c := range r.Changes {
				w.body = string(c.Body)
			}
		}
		if w.body == want {
			return
		}
		select {
		case <-w.told:
		case <-time.After(time.Minute):
			w.t.Fatalf("the query shows %q, want %q", w.body, want)
		}
	}
}

// TestLoadRefuses: whatever stops a load leaves the table empty, no files, and a
// database in which the next load succeeds.
func TestLoadRefuses(t *testing.T) {
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, loadSchema, engine.Options{FS: fs, Seed: 1})
	table := db.Table("sales")
	sales := numberedSales(3, 300)
	id := func(table uint32, n byte) value.ID { return value.ID{Table: table, Key: [16]byte{0: 1, 15: n}} }
	withID := func(n int, f func(i int, d *engine.Document)) []engine.Document {
		docs := bare(sales[:n])
		for i := range docs {
			f(i, &docs[i])
		}
		return docs
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	broken := errors.New("the source is broken")
	limit := new(engine.LimitError)
	taken := new(engine.UniqueError)
	for _, c := range []struct {
		name string
		ctx  context.Context
		docs iter.Seq2[engine.Document, error]
		want func(err error) bool
	}{
		{"a broken source", nil, func(yield func(engine.Document, error) bool) {
			_ = yield(engine.Document{Fields: sales[0]}, nil) && yield(engine.Document{}, broken)
		}, func(err error) bool { return errors.Is(err, broken) }},
		{"a context that has ended", cancelled, documents(bare(sales)), func(err error) bool { return errors.Is(err, context.Canceled) }},
		{"equal values in a unique index", nil, documents(bare(append(slices.Clone(sales), sales[5]))), func(err error) bool {
			return errors.As(err, &taken) && taken.Index == "by_number"
		}},
		{"one id twice", nil, documents(withID(2, func(_ int, d *engine.Document) { d.ID = id(table.Number, 1); d.CreationTime = 5 })), func(err error) bool {
			return strings.Contains(err.Error(), "twice")
		}},
		{"an id of another table", nil, documents(withID(1, func(_ int, d *engine.Document) { d.ID = id(table.Number+1, 1) })), func(err error) bool {
			return strings.Contains(err.Error(), "another table")
		}},
		{"ids for some", nil, documents(withID(2, func(i int, d *engine.Document) {
			if i > 0 {
				d.ID = id(table.Number, 1)
			}
		})), func(err error) bool { return strings.Contains(err.Error(), "either all documents have an id") }},
		{"times for some", nil, documents(withID(2, func(i int, d *engine.Document) { d.CreationTime = float64(i) })), func(err error) bool {
			return strings.Contains(err.Error(), "either all documents have a creation time")
		}},
		{"a key that is too large", nil, documents([]engine.Document{{Fields: fields("shop", strings.Repeat("x", 5000))}}), func(err error) bool {
			return errors.As(err, &limit)
		}},
		{"no object", nil, documents([]engine.Document{{Fields: value.Int64(1)}}), func(err error) bool { return err != nil }},
		{"a reserved field", nil, documents([]engine.Document{{Fields: fields("_id", "x")}}), func(err error) bool { return err != nil }},
	} {
		if c.ctx == nil {
			c.ctx = context.Background()
		}
		got, err := db.Load(c.ctx, table, c.docs, nil)
		if err == nil || !c.want(err) {
			t.Errorf("%s: %v, %v", c.name, got, err)
		}
		if n := len(contents(t, db)); n != 4 {
			t.Errorf("%s: the table reads %v", c.name, contents(t, db))
		}
		if _, err := fs.Stat("db/load"); err == nil {
			left, _ := fs.List("db/load")
			t.Errorf("%s: %v is left", c.name, left)
		}
	}
	if got, err := db.Load(context.Background(), table, documents(nil), nil); err != nil || got.Documents != 0 {
		t.Errorf("load nothing: %v, %v", got, err)
	}
	if _, err := db.Load(context.Background(), table, documents(bare(sales)), nil); err != nil {
		t.Fatal(err)
	}
	before := contents(t, db)
	if _, err := db.Load(context.Background(), table, documents(bare(sales)), nil); !errors.Is(err, engine.ErrTableNotEmpty) {
		t.Errorf("load twice: %v, want ErrTableNotEmpty", err)
	}
	if diff := cmp.Diff(before, contents(t, db)); diff != "" {
		t.Errorf("the second load changed something:\n%s", diff)
	}
	verify(t, db)
}

// TestLoadBesideWrites: other tables are written to during a load. Who writes to
// the table itself wins, also when nothing is left of it.
func TestLoadBesideWrites(t *testing.T) {
	for _, c := range []struct {
		name  string
		write func(db *engine.DB, tx *engine.Tx) error
		fails error
	}{
		{"another table", func(db *engine.DB, tx *engine.Tx) error { return mustInsert(tx, db.Table("others"), fields("n", 1)) }, nil},
		{"this table", func(db *engine.DB, tx *engine.Tx) error {
			return mustInsert(tx, db.Table("sales"), fields("shop", "theirs"))
		}, engine.ErrTableNotEmpty},
	} {
		for _, leaves := range []bool{false, true} {
			db := enginetest.OpenWith(t, loadSchema, engine.Options{FS: vfs.NewMem(), Seed: 1})
			sales := numberedSales(3, 100)
			_, err := db.Load(context.Background(), db.Table("sales"), func(yield func(engine.Document, error) bool) {
				for i, f := range sales {
					if i == 50 {
						mutate(t, db, func(tx *engine.Tx) error { return c.write(db, tx) })
						if leaves {
							mutate(t, db, func(tx *engine.Tx) error {
								for d, err := range tx.Scan(db.Table("sales").Index(engine.IndexByID), engine.Range{}, false) {
									if err != nil {
										return err
									}
									if err := tx.Delete(db.Table("sales"), d.ID); err != nil {
										return err
									}
								}
								return nil
							})
						}
					}
					if !yield(engine.Document{Fields: f}, nil) {
						return
					}
				}
			}, nil)
			if !errors.Is(err, c.fails) {
				t.Errorf("%s, removed again %v: %v, want %v", c.name, leaves, err, c.fails)
			}
			want := 100
			if c.fails != nil {
				if want = 1; leaves {
					want = 0
				}
			}
			query(t, db, func(tx *engine.Tx) error {
				n, err := tx.Count(db.Table("sales").Aggregate("all"), engine.Range{})
				if n != int64(want) {
					t.Errorf("%s, removed again %v: %d documents, want %d", c.name, leaves, n, want)
				}
				return err
			})
			verify(t, db)
		}
	}
}

// TestLoadIsOneCommit: transactions that have read the empty table do not commit
// beside the load, live queries show it, and those who follow the changes are told.
func TestLoadIsOneCommit(t *testing.T) {
	begun, inside := make(chan struct{}), make(chan struct{})
	o := engine.Options{FS: vfs.NewMem(), Seed: 1}
	db := enginetest.OpenWith(t, loadSchema, o.WithLoadHook(func(stage string) {
		if stage == "written" {
			close(inside)
		}
	}))
	table := db.Table("sales")
	known := value.ID{Table: table.Number, Key: [16]byte{0: 1, 15: 1}}
	screen := watch(t, db, func(tx *engine.Tx) []byte {
		_, ok, err := tx.Get(table, known)
		return fmt.Append(nil, ok, " ", err)
	})
	screen.await("false <nil>")
	seen := make(chan error, 1)
	look := func() {
		attempts := 0
		_, err := db.Mutate(context.Background(), engine.Call{Name: "look"}, func(tx *engine.Tx) ([]byte, error) {
			n, err := tx.Count(table.Aggregate("all"), engine.Range{})
			if err != nil {
				return nil, err
			}
			if attempts++; attempts == 1 {
				if n != 0 {
					return nil, fmt.Errorf("%d documents before the load", n)
				}
				close(begun)
				<-inside
				for db.Durable() <= tx.At() { // until the load is there
				}
				// Somebody else reads a document, from then on in memory, which is
				// not there as of this snapshot.
				query(t, db, func(tx *engine.Tx) error {
					_, ok, err := tx.Get(table, known)
					if !ok {
						t.Error("the document is not there after the load")
					}
					return err
				})
				if d, ok, err := tx.Get(table, known); ok || err != nil {
					t.Errorf("a snapshot of before the load has %v, %v", d, err)
				}
			}
			return nil, mustInsert(tx, db.Table("others"), fields("n", float64(n)))
		})
		seen <- err
	}
	docs := bare(numberedSales(3, 40))
	for i := range docs {
		docs[i].ID, docs[i].CreationTime = value.ID{Table: table.Number, Key: [16]byte{0: 1, 15: byte(i)}}, float64(1000+i)
	}
	got, err := db.Load(context.Background(), table, func(yield func(engine.Document, error) bool) {
		go look() // now, so that its snapshot is not older than the timestamp in the rows
		<-begun
		documents(docs)(yield)
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-seen; err != nil {
		t.Fatal(err)
	}
	screen.await("true <nil>")
	query(t, db, func(tx *engine.Tx) error {
		for d, err := range tx.Scan(db.Table("others").Index(engine.IndexByID), engine.Range{}, false) {
			if n, _ := d.Fields.Get("n").AsFloat64(); err != nil || n != 40 {
				t.Errorf("a transaction beside the load counted %v, %v", n, err)
			}
		}
		return nil
	})
	told := 0
	for g, err := range db.Changes(context.Background(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range g.Loaded {
			told++
			if l != (engine.LoadedTable{Table: "sales", Documents: 40}) || g.At < got.At {
				t.Errorf("at %d the log says %+v; loaded %+v", g.At, l, got)
			}
		}
	}
	if told != 1 {
		t.Errorf("the log says %d times that the table was loaded", told)
	}
}

// TestLoadCrash: a crash at any stage leaves all of a load or none, and once
// Load has returned, all.
func TestLoadCrash(t *testing.T) {
	seed := newSeed(t)
	for round := range times(6) {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		sales := numberedSales(uint64(round), 200+rng.IntN(2000))
		fs := enginetest.NewCrashable()
		clones := map[string]*enginetest.Crashable{}
		clone := func(stage string) {
			clones[stage] = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		}
		o := engine.Options{FS: fs, Seed: 1}
		db := enginetest.OpenWith(t, loadSchema, o.WithLoadHook(clone))
		// Something was there before, and something else stays.
		mutate(t, db, func(tx *engine.Tx) error {
			return errors.Join(mustInsert(tx, db.Table("others"), fields("n", 1)), mustInsert(tx, db.Table("sales"), sales[0]))
		})
		restoreEmpty(t, db)
		if _, err := db.Load(context.Background(), db.Table("sales"), documents(bare(sales)), &engine.LoadOptions{SortBytes: 1 + rng.IntN(1<<20)}); err != nil {
			t.Fatal(err)
		}
		clone("acknowledged")
		want := contents(t, db)
		mutate(t, db, func(tx *engine.Tx) error { return mustInsert(tx, db.Table("others"), fields("n", 2)) })
		clone("later")
		for stage, fs := range clones {
			db := enginetest.OpenWith(t, loadSchema, engine.Options{FS: fs, Seed: 1})
			got := contents(t, db)
			switch stage {
			case "acknowledged", "later":
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("round %d, %s: contents:\n%s", round, stage, diff)
				}
			default:
				if len(got) != 4 {
					t.Errorf("round %d: a crash when it was %s left %d lines: %q", round, stage, len(got), got[0])
				}
			}
			verify(t, db)
			if left, err := fs.List("db/load"); err == nil {
				t.Errorf("round %d, %s: %v is left", round, stage, left)
			}
			if len(got) == 4 {
				if _, err := db.Load(context.Background(), db.Table("sales"), documents(bare(sales)), nil); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, contents(t, db)); diff != "" {
					t.Errorf("round %d: loaded again after a crash when it was %s:\n%s", round, stage, diff)
				}
				verify(t, db)
			}
		}
	}
}

func restoreEmpty(t *testing.T, db *engine.DB) {
	t.Helper()
	mutate(t, db, func(tx *engine.Tx) error {
		for d, err := range tx.Scan(db.Table("sales").Index(engine.IndexByID), engine.Range{}, false) {
			if err != nil {
				return err
			}
			if err := tx.Delete(db.Table("sales"), d.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestLoadOfWhatWasRemoved loads documents under the ids of some that were
// removed by the commit before: their rows have that commit's timestamp, and the
// database agrees with itself.
func TestLoadOfWhatWasRemoved(t *testing.T) {
	db := enginetest.Open(t, loadSchema)
	others := db.Table("others")
	var docs []engine.Document
	for i := range 3 {
		id := insert(t, db, "others", fields("n", i))
		query(t, db, func(tx *engine.Tx) error {
			d, _, err := tx.Get(others, id)
			docs = append(docs, d)
			return err
		})
	}
	mutate(t, db, func(tx *engine.Tx) error {
		for _, d := range docs {
			if err := tx.Delete(others, d.ID); err != nil {
				return err
			}
		}
		return nil
	})
	if _, err := db.Load(t.Context(), others, documents(docs), nil); err != nil {
		t.Fatal(err)
	}
	verify(t, db)
	mutate(t, db, func(tx *engine.Tx) error { return tx.Delete(others, docs[0].ID) })
	verify(t, db)
}

// TestInsertAs: a document gets the id and the creation time it comes with, once.
func TestInsertAs(t *testing.T) {
	db := enginetest.Open(t, loadSchema)
	others, sales := db.Table("others"), db.Table("sales")
	id := insert(t, db, "others", fields("n", 1))
	old := engine.Document{ID: value.NewID(others.Number, time.UnixMilli(5), 7), CreationTime: 5.5, Fields: fields("n", 2)}
	mutate(t, db, func(tx *engine.Tx) error { return tx.InsertAs(others, old) })
	query(t, db, func(tx *engine.Tx) error {
		d, ok, err := tx.Get(others, old.ID)
		if !ok || d.CreationTime != 5.5 || value.Compare(d.Fields, old.Fields) != 0 {
			t.Errorf("it is read back as %v, %v", d, ok)
		}
		return err
	})
	untimed := engine.Document{ID: value.NewID(others.Number, time.UnixMilli(6), 8), Fields: old.Fields}
	mutate(t, db, func(tx *engine.Tx) error {
		for name, c := range map[string]struct {
			d    engine.Document
			into *engine.Table
			want error
		}{
			"an id that is there":       {old, others, engine.ErrDocumentExists},
			"an id of a document of us": {engine.Document{ID: id, CreationTime: 1, Fields: old.Fields}, others, engine.ErrDocumentExists},
			"another table's id":        {old, sales, engine.ErrBadDocumentID},
			"no creation time at all":   {engine.Document{ID: value.NewID(others.Number, time.UnixMilli(5), 9), CreationTime: math.NaN(), Fields: old.Fields}, others, engine.ErrBadDocumentID},
		} {
			if err := tx.InsertAs(c.into, c.d); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", name, err, c.want)
			}
		}
		return tx.InsertAs(others, untimed)
	})
	query(t, db, func(tx *engine.Tx) error {
		d, _, err := tx.Get(others, untimed.ID)
		if d.CreationTime < 1000 {
			t.Errorf("the creation time is %v", d.CreationTime)
		}
		return err
	})
	verify(t, db)
}
