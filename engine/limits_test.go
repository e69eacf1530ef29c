package engine_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// ignoringErrors runs f for i from 0 up to n, whatever it says.
func ignoringErrors(n int, f func(i int) error) {
	for i := range n {
		_ = f(i)
	}
}

// TestLimitsOfATransaction takes each limit exactly, and one past it: then the
// whole transaction fails with that limit, also when the function looks away.
func TestLimitsOfATransaction(t *testing.T) {
	if testing.Short() || underRace {
		t.Skip("writes tens of thousands of documents, one after the other")
	}
	db := enginetest.Open(t, schema)
	views, counters := db.Table("views"), db.Table("counters")
	var ids []value.ID
	for part := range 3 {
		var own []value.ID
		mutate(t, db, func(tx *engine.Tx) error {
			own = nil
			for i := range 11_000 {
				id, err := tx.Insert(counters, fields("name", fmt.Sprint(part, i), "n", i))
				if err != nil {
					return err
				}
				own = append(own, id)
			}
			return nil
		})
		ids = append(ids, own...)
	}
	big := value.Object(value.Field{Name: "bytes", Value: value.Bytes(make([]byte, 1<<20-100))})
	var bigs []value.ID
	for range 17 {
		bigs = append(bigs, insert(t, db, "counters", big))
	}
	long := func(n int) value.Value { return fields("path", strings.Repeat("x", n), "n", 1) }
	// views.by_path: prefix 5, string 3 + n, number 9, creation time 9, document 16.
	const longest = 4096 - 5 - 3 - 9 - 9 - 16
	for _, c := range []struct {
		limit   string
		at      int
		write   bool
		attempt func(tx *engine.Tx, n int)
	}{
		{"documents written", 16_000, true, func(tx *engine.Tx, n int) {
			ignoringErrors(n, func(i int) error { _, err := tx.Insert(counters, fields("name", "x", "n", i)); return err })
		}},
		{"documents read", 32_000, false, func(tx *engine.Tx, n int) {
			for range tx.Scan(counters.Index(engine.IndexByID), all, false) {
				if n--; n == 0 {
					break
				}
			}
		}},
		{"documents and ranges read one by one", 4096, false, func(tx *engine.Tx, n int) {
			ignoringErrors(n, func(i int) error { _, _, err := tx.Get(counters, ids[i]); return err })
		}},
		{"documents and ranges read one by one", 4096, true, func(tx *engine.Tx, n int) {
			ignoringErrors(n, func(i int) error {
				_, err := tx.Count(views.Aggregate("paths"), eq(fmt.Sprint(i)))
				return err
			})
			if n <= 4096 { // a point more than the ranges would be one too many
				_ = mustInsert(tx, counters, fields("name", "y", "n", 1))
			}
		}},
		{"bytes read", 15, false, func(tx *engine.Tx, n int) { // 16 documents just below 1 MiB are just below 16 MiB
			ignoringErrors(n+n/16, func(i int) error { _, _, err := tx.Get(counters, bigs[i]); return err })
		}},
		{"bytes written", 15, true, func(tx *engine.Tx, n int) {
			ignoringErrors(n+n/16, func(int) error { _, err := tx.Insert(counters, big); return err })
		}},
		{"bytes in a key of index by_path", longest, true, func(tx *engine.Tx, n int) { _ = mustInsert(tx, views, long(n)) }},
	} {
		name := fmt.Sprintf("%s, write %v", c.limit, c.write)
		t.Run(name, func(t *testing.T) {
			for over := range 2 {
				run := func(tx *engine.Tx) error { c.attempt(tx, c.at+over); return nil }
				var err error
				if c.write {
					before := db.Stats().Commits
					_, err = db.Mutate(context.Background(), engine.Call{Name: name}, func(tx *engine.Tx) ([]byte, error) { return nil, run(tx) })
					if n := db.Stats().Commits - before; over == 1 && n != 0 {
						t.Errorf("past the limit %d transactions committed", n)
					}
				} else {
					_, err = db.Query(context.Background(), "test", run)
				}
				var limit *engine.LimitError
				switch {
				case over == 0 && err != nil:
					t.Errorf("at %d: %v", c.at, err)
				case over == 1 && (!errors.As(err, &limit) || limit.Limit != c.limit || !strings.Contains(err.Error(), fmt.Sprint(limit.Max))):
					t.Errorf("one past %d: %v, want the limit of %s", c.at, err, c.limit)
				}
			}
		})
	}
	verify(t, db)
}

// TestLimitsOfADocument: what is wrong with one document is the error of that
// call, and the function may go on.
func TestLimitsOfADocument(t *testing.T) {
	db := enginetest.Open(t, schema)
	counters := db.Table("counters")
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	tooLarge := value.Object(value.Field{Name: "bytes", Value: value.Bytes(make([]byte, 1<<20))})
	reserved := value.Object(value.Field{Name: "_id", Value: value.Null()})
	mutate(t, db, func(tx *engine.Tx) error {
		var limit *value.LimitError
		var fault *value.DocumentError
		for _, err := range []error{mustInsert(tx, counters, tooLarge), tx.Replace(counters, id, tooLarge), tx.Patch(counters, id, tooLarge)} {
			if !errors.As(err, &limit) {
				t.Errorf("a document that is too large gives %v", err)
			}
		}
		for _, err := range []error{mustInsert(tx, counters, reserved), mustInsert(tx, counters, value.String("x")), tx.Replace(counters, id, value.Null()), tx.Patch(counters, id, reserved)} {
			if !errors.As(err, &fault) {
				t.Errorf("what is no document gives %v", err)
			}
		}
		return tx.Patch(counters, id, fields("n", 2))
	})
	if n := number(t, db, "counters", id); n != 2 {
		t.Errorf("the document is %v, want 2", n)
	}
}

func TestErrorsOfCalls(t *testing.T) {
	db := enginetest.Open(t, schema)
	counters, views := db.Table("counters"), db.Table("views")
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	gone := insert(t, db, "counters", fields("name", "b", "n", 1))
	mutate(t, db, func(tx *engine.Tx) error { return tx.Delete(counters, gone) })

	query(t, db, func(tx *engine.Tx) error {
		_, insert := tx.Insert(counters, fields("n", 1))
		for name, err := range map[string]error{"insert": insert, "patch": tx.Patch(counters, id, fields("n", 2)), "replace": tx.Replace(counters, id, fields("n", 2)), "delete": tx.Delete(counters, id)} {
			if !errors.Is(err, engine.ErrReadOnly) {
				t.Errorf("%s in a query gives %v", name, err)
			}
		}
		if _, ok, err := tx.Get(counters, gone); ok || err != nil {
			t.Errorf("get of a removed document: %v, %v", ok, err)
		}
		if _, ok, err := tx.Get(views, id); ok || err != nil {
			t.Errorf("get of another table's id: %v, %v", ok, err)
		}
		return nil
	})
	mutate(t, db, func(tx *engine.Tx) error {
		for _, missing := range []value.ID{gone, {}, {Table: counters.Number}, {Table: views.Number, Key: id.Key}} {
			for name, err := range map[string]error{"patch": tx.Patch(counters, missing, fields("n", 2)), "replace": tx.Replace(counters, missing, fields("n", 2)), "delete": tx.Delete(counters, missing)} {
				if !errors.Is(err, engine.ErrNoDocument) || !strings.Contains(err.Error(), missing.String()) {
					t.Errorf("%s of %s, which is not there, gives %v", name, missing, err)
				}
			}
		}
		return nil
	})
	query(t, db, func(tx *engine.Tx) error {
		var wrong *engine.RangeError
		for _, err := range tx.Scan(views.Index("by_path"), eq("a", 1, 2, 3), false) {
			if !errors.As(err, &wrong) {
				t.Errorf("a scan by more fields than the index has gives %v", err)
			}
		}
		for _, err := range tx.Scan(views.Index(engine.IndexByID), engine.Range{Lower: &engine.Bound{}}, false) {
			if !errors.As(err, &wrong) {
				t.Errorf("a scan by_id with a bound gives %v", err)
			}
		}
		if _, err := tx.Count(views.Aggregate("paths"), eq("a", 1, 2, 3)); !errors.As(err, &wrong) {
			t.Errorf("a count by more fields than there are gives %v", err)
		}
		for _, r := range []engine.Range{eq("not an id"), eq(id.String()), eq(7)} {
			for d, err := range tx.Scan(views.Index(engine.IndexByID), r, false) {
				t.Errorf("by_id finds %v, %v", d, err)
			}
		}
		upside := engine.Range{Lower: &engine.Bound{Value: value.Int64(2)}, Upper: &engine.Bound{Value: value.Int64(1)}}
		for d, err := range tx.Scan(views.Index("by_path"), upside, false) {
			t.Errorf("an empty range has %v, %v", d, err)
		}
		return nil
	})
}

// TestPanics: a function that panics fails alone and leaves nothing.
func TestPanics(t *testing.T) {
	db := enginetest.Open(t, schema)
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	for name, v := range map[string]any{"text": "boom", "error": errors.New("boom"), "nil pointer": nil} {
		f := func(tx *engine.Tx) error {
			_ = tx.Patch(db.Table("counters"), id, fields("n", 2))
			if v == nil {
				var p *value.ID
				_ = p.Key
			}
			panic(v)
		}
		var panicked *engine.PanicError
		if _, err := db.Mutate(context.Background(), engine.Call{}, func(tx *engine.Tx) ([]byte, error) { return nil, f(tx) }); !errors.As(err, &panicked) || len(panicked.Stack) == 0 {
			t.Errorf("%s in a mutation: %v", name, err)
		}
		if _, err := db.Query(context.Background(), "test", f); !errors.As(err, &panicked) {
			t.Errorf("%s in a query: %v", name, err)
		}
	}
	// One that ends its goroutine must not keep its place.
	for range 4*runtime.GOMAXPROCS(0) + 1 {
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = db.Mutate(context.Background(), engine.Call{}, func(tx *engine.Tx) ([]byte, error) { runtime.Goexit(); return nil, nil })
		})
		wg.Go(func() {
			_, _ = db.Query(context.Background(), "test", func(tx *engine.Tx) error { runtime.Goexit(); return nil })
		})
		wg.Wait()
	}
	if n := number(t, db, "counters", id); n != 1 {
		t.Errorf("the document is %v, want 1", n)
	}
}

// TestOverload: calls beyond those that run and those that may wait are
// refused before they start, and the others are all executed.
func TestOverload(t *testing.T) {
	const running, waiting = 2, 3
	db := enginetest.OpenWith(t, schema, engine.Options{RunningMax: running, WaitingMax: waiting})
	started, letGo := make(chan struct{}), make(chan struct{})
	outcomes := make(chan error, 100)
	call := func(block bool) {
		_, err := db.Mutate(context.Background(), engine.Call{}, func(tx *engine.Tx) ([]byte, error) {
			if block {
				started <- struct{}{}
				<-letGo
			}
			return nil, mustInsert(tx, db.Table("counters"), fields("name", "a", "n", 1))
		})
		outcomes <- err
	}
	for range running {
		go call(true)
		<-started
	}
	// Of any number of calls now, as many as may wait do so and the rest is
	// refused at once.
	const more = 20
	for range more {
		go call(false)
	}
	for range more - waiting {
		if err := <-outcomes; !errors.Is(err, engine.ErrOverloaded) {
			t.Errorf("a call beyond the limit gives %v", err)
		}
	}
	if _, err := db.Query(context.Background(), "test", func(*engine.Tx) error { t.Error("executed"); return nil }); !errors.Is(err, engine.ErrOverloaded) {
		t.Errorf("a query beyond the limit gives %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	close(letGo)
	for range running + waiting {
		if err := <-outcomes; err != nil {
			t.Errorf("a call within the limit gives %v", err)
		}
	}
	if r := verify(t, db); r.Documents != running+waiting {
		t.Errorf("%d documents, want %d", r.Documents, running+waiting)
	}
	if _, err := db.Mutate(ctx, engine.Call{}, func(*engine.Tx) ([]byte, error) { return nil, nil }); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("a call whose context has ended gives %v", err)
	}
}

// TestCancelledWhileWaiting: a call that gives up while it waits was not
// executed, and leaves its place to others.
func TestCancelledWhileWaiting(t *testing.T) {
	db := enginetest.OpenWith(t, schema, engine.Options{RunningMax: 1, WaitingMax: 1})
	started, letGo := make(chan struct{}), make(chan struct{})
	first := make(chan error)
	go func() {
		_, err := db.Query(context.Background(), "test", func(*engine.Tx) error { close(started); <-letGo; return nil })
		first <- err
	}()
	<-started
	for range 3 {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := db.Mutate(ctx, engine.Call{}, func(*engine.Tx) ([]byte, error) { t.Error("executed"); return nil, nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled call gives %v", err)
		}
	}
	close(letGo)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// noneSince waits until no goroutine is left but those that were there before. They end by themselves when what they belong to is closed, and
// on a busy machine not within the half second that goleak waits.
func noneSince(t *testing.T, before goleak.Option) {
	t.Helper()
	var err error
	for start := time.Now(); time.Since(start) < time.Minute; {
		if err = goleak.Find(before); err == nil {
			return
		}
	}
	t.Error(err)
}

// TestClose: running calls end in peace, later ones are refused, nothing is
// left running.
func TestClose(t *testing.T) {
	before := goleak.IgnoreCurrent()
	clock := enginetest.NewClock(epoch)
	const calls = 5
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, RunningMax: 2 * calls}) // by default fewer on a machine of one processor
	s := newScreen(db)
	s.Add(1, fresh(db, true))
	s.next(t, 0)
	outcomes := make(chan error, 100)
	started, letGo := make(chan struct{}), make(chan struct{})
	for i := range calls {
		go func() {
			_, err := db.Mutate(context.Background(), engine.Call{}, func(tx *engine.Tx) ([]byte, error) {
				started <- struct{}{}
				<-letGo
				return nil, mustInsert(tx, db.Table("counters"), fields("name", "a", "n", i))
			})
			outcomes <- err
		}()
		<-started
	}
	closed := make(chan error)
	go func() { closed <- db.Close() }()
	// Close has begun once a call is refused.
	for {
		if _, err := db.Query(context.Background(), "test", func(*engine.Tx) error { return nil }); errors.Is(err, engine.ErrClosed) {
			break
		}
		runtime.Gosched()
	}
	select {
	case err := <-closed:
		t.Fatalf("Close did not wait for running calls: %v", err)
	default:
	}
	close(letGo)
	for range calls {
		if err := <-outcomes; err != nil {
			t.Errorf("a call that ran when Close began: %v", err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	_, mutate := db.Mutate(context.Background(), engine.Call{}, func(*engine.Tx) ([]byte, error) { return nil, nil })
	_, verify := db.Verify(context.Background())
	var changes error
	for _, err := range db.Changes(context.Background(), 0) {
		changes = err
	}
	for name, err := range map[string]error{"mutate": mutate, "verify": verify, "changes": changes, "close": db.Close()} {
		if !errors.Is(err, engine.ErrClosed) {
			t.Errorf("%s after Close gives %v", name, err)
		}
	}
	s.Add(2, fresh(db, true))
	s.Remove(1)
	if r, ok := s.Poll(0); ok {
		t.Errorf("a round %s after Close", show(r))
	}
	s.Close()
	db.NewQuerySet(func() {}).Close()
	clock.Advance(24 * time.Hour)
	noneSince(t, before)
}

// TestCancelledBeforeItBegins: a call whose context has ended is not executed,
// also when there is a place for it.
func TestCancelledBeforeItBegins(t *testing.T) {
	db := enginetest.Open(t, schema)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := db.Mutate(ctx, engine.Call{}, func(*engine.Tx) ([]byte, error) { t.Error("executed"); return nil, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("the mutation gives %v", err)
	}
	if _, err := db.Query(ctx, "test", func(*engine.Tx) error { t.Error("executed"); return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("the query gives %v", err)
	}
}

// TestLimitsOfDocumentsInTransactions takes what is limited in one document to
// its limit, at which it is stored and read back, and one past it, which is the
// error of that call with what it is about.
func TestLimitsOfDocumentsInTransactions(t *testing.T) {
	db := enginetest.Open(t, schema)
	counters := db.Table("counters")
	nested := func(levels int) value.Value { // the document and the value in it are two
		v := value.Null()
		for range levels - 1 {
			v = value.Array(v)
		}
		return value.Object(value.Field{Name: "a", Value: v})
	}
	wide := func(n int) value.Value {
		var fields []value.Field
		for i := range n {
			fields = append(fields, value.Field{Name: fmt.Sprintf("f%04d", i), Value: value.Null()})
		}
		return value.Object(fields...)
	}
	long := func(n int) value.Value {
		elements := make([]value.Value, n)
		for i := range elements {
			elements[i] = value.Null()
		}
		return value.Object(value.Field{Name: "a", Value: value.Array(elements...)})
	}
	sized := func(n int) value.Value {
		empty := value.Object(value.Field{Name: "a", Value: value.Bytes(nil)})
		return value.Object(value.Field{Name: "a", Value: value.Bytes(make([]byte, n-value.Size(empty)))})
	}
	named := func(n int) value.Value {
		return value.Object(value.Field{Name: strings.Repeat("a", n), Value: value.Null()})
	}
	for _, c := range []struct {
		name string
		make func(n int) value.Value
		most int
	}{
		{"levels", nested, 16}, {"fields", wide, 1024}, {"elements", long, 8192}, {"bytes", sized, 1 << 20}, {"bytes of a name", named, 64},
	} {
		id := insert(t, db, "counters", c.make(c.most))
		query(t, db, func(tx *engine.Tx) error {
			d, ok, err := tx.Get(counters, id)
			if err == nil && (!ok || value.Compare(d.Fields, c.make(c.most)) != 0) {
				t.Errorf("%d %s are not read back", c.most, c.name)
			}
			return err
		})
		mutate(t, db, func(tx *engine.Tx) error {
			for what, err := range map[string]error{
				"insert": mustInsert(tx, counters, c.make(c.most+1)), "replace": tx.Replace(counters, id, c.make(c.most+1)),
			} {
				var limit *value.LimitError
				if !errors.As(err, &limit) || limit.Max != c.most || limit.Got != c.most+1 {
					t.Errorf("%s with %d %s gives %v", what, c.most+1, c.name, err)
				}
			}
			return nil
		})
	}
	verify(t, db)
}

// TestLimitOfTables: 10,000 tables are opened, and the last is as good as the
// first; one more is refused before anything changes.
func TestLimitOfTables(t *testing.T) {
	var s engine.Schema
	for i := range 10_001 {
		s.Tables = append(s.Tables, engine.TableDef{Name: fmt.Sprint("t", i)})
	}
	most := engine.Schema{Tables: s.Tables[:10_000]}
	db := enginetest.Open(t, most)
	insert(t, db, "t9999", fields("f0", 1))
	if err := db.Evolve(t.Context(), s); err == nil || !strings.Contains(err.Error(), "10001 tables") {
		t.Errorf("past the limit: %v", err)
	}
	if db.Table("t10000") != nil {
		t.Error("a schema that was refused changed something")
	}
	insert(t, db, "t9999", fields("f0", 2))
}

// TestLimitsOfASchema: 32 indexes and aggregates of a table and 16 fields of
// each are taken, one more is refused before anything changes.
func TestLimitsOfASchema(t *testing.T) {
	table := func(indexes, fieldsOfEach int) engine.Schema {
		def := engine.TableDef{Name: "t"}
		for i := range indexes {
			ix := engine.IndexDef{Name: fmt.Sprint("ix", i)}
			for f := range fieldsOfEach {
				ix.Fields = append(ix.Fields, fmt.Sprint("f", f))
			}
			def.Indexes = append(def.Indexes, ix)
		}
		return engine.Schema{Tables: []engine.TableDef{def}}
	}
	db := enginetest.Open(t, table(32, 16))
	insert(t, db, "t", fields("f0", 1))
	for _, past := range []engine.Schema{table(33, 1), table(1, 17)} {
		if err := db.Evolve(t.Context(), past); err == nil || !strings.Contains(err.Error(), "schema: table t") {
			t.Errorf("past a limit: %v", err)
		}
	}
	if db.Table("t").Index("ix31") == nil {
		t.Error("a schema that was refused changed something")
	}
	verify(t, db)
}
