package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

var opsSchema = engine.Schema{Tables: []engine.TableDef{
	{
		Name:       "counters",
		Indexes:    []engine.IndexDef{{Name: "by_n", Fields: []string{"n"}}, {Name: "by_name", Fields: []string{"name"}, Unique: true}, {Name: "by_at", Fields: []string{"at"}}},
		Aggregates: []engine.AggregateDef{{Name: "sum", Sum: "n"}, {Name: "ranked", OrderBy: []string{"n"}}},
	},
	{Name: "notes"},
}}

func num(f float64) value.Value { return value.Float64(f) }

func TestOperations(t *testing.T) {
	list := func(fs ...float64) value.Value {
		var vs []value.Value
		for _, f := range fs {
			vs = append(vs, num(f))
		}
		return value.Array(vs...)
	}
	none := value.Value{}
	for _, c := range []struct {
		name string
		is   value.Value
		op   engine.Op
		want value.Value
		err  string
	}{
		{"add a number", num(1), engine.Add("x", num(2.5)), num(3.5), ""},
		{"add to nothing", none, engine.Add("x", num(2)), num(2), ""},
		{"add an int64", value.Int64(1), engine.Add("x", value.Int64(-3)), value.Int64(-2), ""},
		{"add nothing at all", num(1), engine.Add("x", num(0)), num(1), ""},
		{"add to another type", num(1), engine.Add("x", value.Int64(1)), none, "the field is of type float64"},
		{"add to null", value.Null(), engine.Add("x", num(1)), none, "the field is of type null"},
		{"add to the least of a type", value.Int64(math.MinInt64), engine.Add("x", value.Int64(-1)), none, "would be past -9223372036854775808"},
		{"add to the greatest of a type", value.Int64(math.MaxInt64), engine.Add("x", value.Int64(1)), none, "would be past 9223372036854775807"},
		{"add to a bound", num(3), engine.Add("x", num(-3)).AtLeast(num(0)), num(0), ""},
		{"add past a lower bound", num(3), engine.Add("x", num(-4)).AtLeast(num(0)), none, "it is 3, and the sum would be past 0"},
		{"add past an upper bound", none, engine.Add("x", value.Int64(4)).AtLeast(value.Int64(0)).AtMost(value.Int64(3)), none, "it is 0, and the sum would be past 3"},
		{"max of a greater", num(1), engine.Max("x", num(2)), num(2), ""},
		{"max of a lesser", num(1), engine.Max("x", num(0)), num(1), ""},
		{"max of nothing", none, engine.Max("x", num(0)), num(0), ""},
		{"max of another type", num(1), engine.Max("x", value.String("a")), value.String("a"), ""},
		{"min of a lesser", value.String("b"), engine.Min("x", value.String("a")), value.String("a"), ""},
		{"min of a greater", value.String("b"), engine.Min("x", value.String("c")), value.String("b"), ""},
		{"min of nothing", none, engine.Min("x", num(0)), num(0), ""},
		{"set if absent", none, engine.SetIfAbsent("x", num(0)), num(0), ""},
		{"set if there", value.Null(), engine.SetIfAbsent("x", num(0)), value.Null(), ""},
		{"insert into nothing", none, engine.SetInsert("x", num(2)), list(2), ""},
		{"insert in the middle", list(1, 3), engine.SetInsert("x", num(2)), list(1, 2, 3), ""},
		{"insert at the end", list(1, 3), engine.SetInsert("x", num(4)), list(1, 3, 4), ""},
		{"insert what is there", list(1, 3), engine.SetInsert("x", num(3)), list(1, 3), ""},
		{"insert into an array out of order", list(5, 1, 3), engine.SetInsert("x", num(3)), list(5, 1, 3), ""},
		{"insert into what is no array", num(1), engine.SetInsert("x", num(3)), none, "the field is of type float64"},
		{"insert one too many", value.Array(slices.Repeat([]value.Value{num(1)}, 8192)...), engine.SetInsert("x", num(3)), none, "8192"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := enginetest.Open(t, opsSchema)
			counters := db.Table("counters")
			fs := fields("name", "a", "n", 1)
			if !c.is.IsUndefined() {
				fs = value.Patched(fs, value.Object(value.Field{Name: "x", Value: c.is}))
			}
			// What an operation does must not depend on whether it is done at once.
			for _, when := range []string{"at commit", "before a read", "on an own document"} {
				want := c.want
				id := insert(t, db, "counters", value.Patched(fs, fields("name", when)))
				_, err := db.Mutate(t.Context(), engine.Call{Name: "apply"}, func(tx *engine.Tx) ([]byte, error) {
					if when == "on an own document" {
						if err := tx.Patch(counters, id, fields("n", 2)); err != nil {
							return nil, err
						}
					}
					if err := tx.Apply(counters, id, c.op); err != nil {
						return nil, err
					}
					if when == "before a read" {
						d, _, err := tx.Get(counters, id)
						if got := d.Fields.Get("x"); err == nil && !got.Equal(want) {
							t.Errorf("%s: the transaction reads %v, want %v", when, got, want)
						}
					}
					return nil, nil
				})
				if c.err == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), c.err) {
					t.Errorf("%s: the mutation ended with %v, want %q", when, err, c.err)
				}
				if err != nil {
					want = c.is
				}
				if got := row(t, db, "counters", id).Fields.Get("x"); !got.Equal(want) {
					t.Errorf("%s: the field is %v, want %v", when, got, want)
				}
			}
			verify(t, db)
		})
	}
}

// TestOperationsRefused: what is wrong with an operation itself is said at once,
// and the transaction may go on.
func TestOperationsRefused(t *testing.T) {
	db := enginetest.Open(t, opsSchema)
	counters := db.Table("counters")
	id, note := insert(t, db, "counters", fields("name", "a", "n", 1)), insert(t, db, "notes", fields("text", "x"))
	for _, c := range []struct {
		op   engine.Op
		want string
	}{
		{engine.Op{Field: "n", Value: num(1)}, "no such operation"},
		{engine.Op{Kind: 99, Field: "n", Value: num(1)}, "no such operation"},
		{engine.Add("_creationTime", num(1)), "not a field that can be set"},
		{engine.Add("$x", num(1)), "not a field that can be set"},
		{engine.Add("", num(1)), "not a field that can be set"},
		{engine.Add("a.b", num(1)), "not on one inside of it"},
		{engine.Add("n", value.Value{}), "undefined"},
		{engine.Add("n", value.String("1")), "type string cannot be added"},
		{engine.Add("n", num(1)).AtLeast(value.Int64(0)), "its bound is of type int64"},
		{engine.Max("n", num(1)).AtMost(num(3)), "only an addition has bounds"},
		{engine.SetInsert("s", value.Value{}), "undefined"},
		{engine.Max("name", value.String("b")), "unique index by_name"},
	} {
		mutate(t, db, func(tx *engine.Tx) error {
			err := tx.Apply(counters, id, c.op)
			if !errors.As(err, new(*engine.OpError)) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v of %q: %v, want %q", c.op.Kind, c.op.Field, err, c.want)
			}
			return nil
		})
	}
	for name, err := range map[string]error{
		"an id of another table": apply(db, note, engine.Add("n", num(1))),
		"a missing document":     apply(db, value.NewID(counters.Number, epoch, 1), engine.Add("n", num(1))),
	} {
		if !errors.Is(err, engine.ErrNoDocument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := db.Query(t.Context(), "test", func(tx *engine.Tx) error { return tx.Apply(counters, id, engine.Add("n", num(1))) }); !errors.Is(err, engine.ErrReadOnly) {
		t.Errorf("in a query: %v", err)
	}
	if n := number(t, db, "counters", id); n != 1 {
		t.Errorf("n is %v after operations that were refused", n)
	}
	verify(t, db)
}

// apply applies operations to a counter in a mutation of their own.
func apply(db *engine.DB, id value.ID, ops ...engine.Op) error {
	_, err := db.Mutate(context.Background(), engine.Call{Name: "apply"}, func(tx *engine.Tx) ([]byte, error) {
		return nil, tx.Apply(db.Table("counters"), id, ops...)
	})
	return err
}

// TestOperationsNeverLose: calls that write one document and read nothing never
// repeat each other; indexes and aggregates follow.
func TestOperationsNeverLose(t *testing.T) {
	db := enginetest.Open(t, opsSchema)
	id := insert(t, db, "counters", fields("name", "a", "n", 0))
	const callers, calls = 16, 60
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range calls {
				if err := apply(db, id, engine.Add("n", num(1)), engine.Max("max", num(float64(i*calls+j))), engine.SetInsert("set", num(float64(j%7))), engine.CommitTime("at")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	d := row(t, db, "counters", id)
	at, _ := d.Fields.Get("at").AsFloat64()
	if got, want := string(value.AppendCleanJSON(nil, value.Patched(d.Fields, value.Object(), "at"))), fmt.Sprintf(`{"max":%d,"n":%d,"name":"a","set":[0,1,2,3,4,5,6]}`, callers*calls-1, callers*calls); got != want {
		t.Errorf("the document is %s, want %s", got, want)
	}
	if at < d.CreationTime || at > float64(db.Durable())/1000 {
		t.Errorf("the newest commit time is %v, the document's creation time %v, the database's time %d", at, d.CreationTime, db.Durable())
	}
	if s := db.Stats(); s.Conflicts != 0 || s.Turns != 0 {
		t.Errorf("there were %d conflicts and %d turns", s.Conflicts, s.Turns)
	}
	query(t, db, func(tx *engine.Tx) error {
		total, err := tx.Total(db.Table("counters").Aggregate("sum"), all)
		if sum, e := total.Sum(); e != nil || !sum.Equal(num(callers*calls)) {
			t.Errorf("the sum is %v, %v", sum, e)
		}
		return err
	})
	verify(t, db)
}

// TestOperationsLast: of a bound that leaves room for some, exactly these
// commit, and the rest has changed nothing.
func TestOperationsLast(t *testing.T) {
	db := enginetest.Open(t, opsSchema)
	id := insert(t, db, "counters", fields("name", "stock", "n", 10))
	var wg sync.WaitGroup
	outcomes := make(chan error, 30)
	for range cap(outcomes) {
		wg.Go(func() {
			_, err := db.Mutate(context.Background(), engine.Call{Name: "buy"}, func(tx *engine.Tx) ([]byte, error) {
				if err := mustInsert(tx, db.Table("notes"), fields("text", "sold")); err != nil {
					return nil, err
				}
				return nil, tx.Apply(db.Table("counters"), id, engine.Add("n", num(-1)).AtLeast(num(0)))
			})
			outcomes <- err
		})
	}
	wg.Wait()
	sold := 0
	for range cap(outcomes) {
		switch err := <-outcomes; {
		case err == nil:
			sold++
		case !errors.As(err, new(*engine.BoundError)):
			t.Error(err)
		}
	}
	notes := 0
	query(t, db, func(tx *engine.Tx) error {
		for _, err := range tx.Scan(db.Table("notes").Index(engine.IndexByID), all, false) {
			if err != nil {
				return err
			}
			notes++
		}
		return nil
	})
	if n := number(t, db, "counters", id); sold != 10 || notes != 10 || n != 0 {
		t.Errorf("%d were sold, %d noted, %v are left; there were 10", sold, notes, n)
	}
	verify(t, db)
}

// TestOperationsInTheTransaction: what the transaction itself sees of its
// operations, and what it overwrites.
func TestOperationsInTheTransaction(t *testing.T) {
	stop := errors.New("stop")
	add := func(n float64) engine.Op { return engine.Add("n", num(n)) }
	for _, c := range []struct {
		name string
		run  func(tx *engine.Tx, counters *engine.Table, a value.ID) error
		want string // of n, and whether at is set
	}{
		{"a scan sees them", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			if err := tx.Apply(counters, a, add(4)); err != nil {
				return err
			}
			for d, err := range tx.Scan(counters.Index("by_n"), engine.Range{Eq: []value.Value{num(5)}}, false) {
				return errors.Join(err, tx.Patch(counters, d.ID, fields("n", 50)))
			}
			return errors.New("it is not found by its new value")
		}, "50 false"},
		{"a scan in progress sees them", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			found := 0
			for d, err := range tx.Scan(counters.Index("by_n"), all, false) {
				if err != nil {
					return err
				}
				if found++; d.ID == a && found < 4 {
					if err := tx.Apply(counters, a, add(1)); err != nil {
						return err
					}
				}
			}
			if found != 4 {
				return fmt.Errorf("it was found %d times", found)
			}
			return nil
		}, "4 false"},
		{"an aggregate sees them", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			if err := tx.Apply(counters, a, add(4)); err != nil {
				return err
			}
			total, err := tx.Total(counters.Aggregate("sum"), all)
			sum, e := total.Sum()
			n, _ := sum.AsFloat64()
			return errors.Join(err, e, tx.Apply(counters, a, add(10*n)))
		}, "55 false"},
		{"a delete ends them", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			if err := errors.Join(tx.Apply(counters, a, add(4), engine.CommitTime("at")), tx.Delete(counters, a)); err != nil {
				return err
			}
			if err := tx.Apply(counters, a, add(4)); !errors.Is(err, engine.ErrNoDocument) {
				return fmt.Errorf("one on a deleted document returned %v", err)
			}
			return nil
		}, "gone"},
		{"a replacement ends them", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			return errors.Join(tx.Apply(counters, a, add(4), engine.CommitTime("at")), tx.Replace(counters, a, fields("n", 7)))
		}, "7 false"},
		{"a patch of another field does not", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			return errors.Join(tx.Apply(counters, a, add(4), engine.CommitTime("at")), tx.Patch(counters, a, fields("name", "b")))
		}, "5 true"},
		{"a patch of the time does", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			return errors.Join(tx.Apply(counters, a, engine.CommitTime("at")), tx.Patch(counters, a, fields("n", 8), "at"))
		}, "8 false"},
		{"the time is not seen before", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			if err := errors.Join(tx.Patch(counters, a, fields("at", 5)), tx.Apply(counters, a, engine.CommitTime("at"))); err != nil {
				return err
			}
			d, _, err := tx.Get(counters, a)
			if at := d.Fields.Get("at"); !at.IsUndefined() {
				return fmt.Errorf("it is %v", at)
			}
			if err := tx.Apply(counters, a, engine.Max("at", num(1))); !errors.As(err, new(*engine.OpError)) {
				return fmt.Errorf("an operation on it returned %v", err)
			}
			return err
		}, "1 true"},
		{"nested, kept", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			return errors.Join(tx.Apply(counters, a, add(1)), tx.Nested(func() error { return tx.Apply(counters, a, add(2), engine.CommitTime("at")) }))
		}, "4 true"},
		{"nested, taken back", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			_ = tx.Nested(func() error { return errors.Join(stop, tx.Apply(counters, a, add(2), engine.CommitTime("at"))) })
			return tx.Apply(counters, a, add(1))
		}, "2 false"},
		{"nested, settled and taken back", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			if err := tx.Apply(counters, a, add(1), engine.CommitTime("at")); err != nil {
				return err
			}
			_ = tx.Nested(func() error {
				_, _, err := tx.Get(counters, a)
				return errors.Join(stop, err, tx.Apply(counters, a, add(10)), tx.Patch(counters, a, fields("at", 1)))
			})
			return nil
		}, "2 true"},
		{"nested, settled and kept", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			if err := tx.Apply(counters, a, add(1)); err != nil {
				return err
			}
			return tx.Nested(func() error {
				_, _, err := tx.Get(counters, a)
				return errors.Join(err, tx.Apply(counters, a, add(10)))
			})
		}, "12 false"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := enginetest.Open(t, opsSchema)
			counters := db.Table("counters")
			a := insert(t, db, "counters", fields("name", "a", "n", 1))
			mutate(t, db, func(tx *engine.Tx) error { return c.run(tx, counters, a) })
			got := "gone"
			query(t, db, func(tx *engine.Tx) error {
				d, ok, err := tx.Get(counters, a)
				if ok {
					n, _ := d.Fields.Get("n").AsFloat64()
					got = fmt.Sprint(n, !d.Fields.Get("at").IsUndefined())
				}
				return err
			})
			if got != c.want {
				t.Errorf("the document is %s, want %s", got, c.want)
			}
			verify(t, db)
		})
	}
}

// TestOperationsOfNoEffect: a call whose operations leave everything as it is
// writes nothing.
func TestOperationsOfNoEffect(t *testing.T) {
	db := enginetest.Open(t, opsSchema)
	id := insert(t, db, "counters", fields("name", "a", "n", 5))
	r, err := db.Mutate(t.Context(), engine.Call{Name: "touch"}, func(tx *engine.Tx) ([]byte, error) {
		return []byte("ok"), tx.Apply(db.Table("counters"), id, engine.Max("n", num(4)))
	})
	if err != nil || r.Wrote || string(r.Result) != "ok" {
		t.Errorf("the receipt is %+v, %v", r, err)
	}
	if err := apply(db, id, engine.Max("n", num(6))); err != nil || number(t, db, "counters", id) != 6 {
		t.Errorf("n is %v, %v", number(t, db, "counters", id), err)
	}
}

// TestOperationsWait: they wait for who has reserved what they change.
func TestOperationsWait(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, opsSchema, engine.Options{Clock: clock})
	counters := db.Table("counters")
	id := insert(t, db, "counters", fields("name", "a", "n", 0))
	done := make(chan error, 1)
	runs := 0
	mutate(t, db, func(tx *engine.Tx) error {
		d, _, err := tx.Get(counters, id)
		if err != nil {
			return err
		}
		switch runs++; runs {
		case 1:
			clock.Advance(5 * time.Millisecond)
			if err := apply(db, id, engine.Add("n", num(1))); err != nil {
				return err
			}
		case 2:
			go func() { done <- apply(db, id, engine.Add("n", num(10))) }()
			for db.Stats().Held == 0 {
				runtime.Gosched()
			}
		}
		n, _ := d.Fields.Get("n").AsFloat64()
		return tx.Patch(counters, id, fields("n", n+100))
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := number(t, db, "counters", id); runs != 2 || n != 111 {
		t.Errorf("the slow function ran %d times and n is %v, want 2 times and 111", runs, n)
	}
	verify(t, db)
}

// row returns a document as it is.
func row(t testing.TB, db *engine.DB, table string, id value.ID) (d engine.Document) {
	t.Helper()
	query(t, db, func(tx *engine.Tx) (err error) {
		d, _, err = tx.Get(db.Table(table), id)
		return err
	})
	return d
}
