package engine_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

var schema = engine.Schema{Tables: []engine.TableDef{
	{
		Name:       "views",
		Indexes:    []engine.IndexDef{{Name: "by_path", Fields: []string{"path", "n"}}},
		Aggregates: []engine.AggregateDef{{Name: "paths", GroupBy: []string{"path"}, OrderBy: []string{"n"}}},
	},
	{Name: "counters", Indexes: []engine.IndexDef{{Name: "by_name", Fields: []string{"name"}}}},
}}

func open(t testing.TB, fs vfs.FS) *engine.DB {
	t.Helper()
	db, err := engine.Open("db", schema, &engine.Options{FS: fs, FunctionTimeMax: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil && err != engine.ErrClosed {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func fields(kv ...any) value.Value {
	var out []value.Field
	for i := 0; i < len(kv); i += 2 {
		f := value.Field{Name: kv[i].(string)}
		switch v := kv[i+1].(type) {
		case string:
			f.Value = value.String(v)
		case float64:
			f.Value = value.Float64(v)
		case int:
			f.Value = value.Float64(float64(v))
		default:
			panic(fmt.Sprintf("field of type %T", v))
		}
		out = append(out, f)
	}
	return value.Object(out...)
}

func mutate(t testing.TB, db *engine.DB, f func(tx *engine.Tx) error) engine.Receipt {
	t.Helper()
	r, err := db.Mutate(context.Background(), engine.Call{Name: t.Name()}, func(tx *engine.Tx) ([]byte, error) { return nil, f(tx) })
	if err != nil {
		t.Fatalf("mutate: %v", err)
	}
	return r
}

func query(t testing.TB, db *engine.DB, f func(tx *engine.Tx) error) {
	t.Helper()
	if _, err := db.Query(context.Background(), "test", f); err != nil {
		t.Fatalf("query: %v", err)
	}
}

// increment is the read-modify-write of a hot document.
func increment(db *engine.DB, name string) func(tx *engine.Tx) ([]byte, error) {
	counters := db.Table("counters")
	return func(tx *engine.Tx) ([]byte, error) {
		for d, err := range tx.Scan(counters.Index("by_name"), engine.Range{Eq: []value.Value{value.String(name)}}, false) {
			if err != nil {
				return nil, err
			}
			n, _ := d.Fields.Get("n").AsFloat64()
			return nil, tx.Patch(counters, d.ID, fields("n", n+1))
		}
		_, err := tx.Insert(counters, fields("name", name, "n", 1))
		return nil, err
	}
}

func counter(t testing.TB, db *engine.DB, name string) (total float64) {
	t.Helper()
	rows := 0
	query(t, db, func(tx *engine.Tx) error {
		for d, err := range tx.Scan(db.Table("counters").Index("by_name"), engine.Range{Eq: []value.Value{value.String(name)}}, false) {
			if err != nil {
				return err
			}
			n, _ := d.Fields.Get("n").AsFloat64()
			total += n
			rows++
		}
		return nil
	})
	if rows > 1 {
		t.Fatalf("counter %s has %d rows", name, rows)
	}
	return total
}

func TestHotDocumentLosesNothing(t *testing.T) {
	db := open(t, vfs.NewMem())
	const clients, each = 64, 100
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				if _, err := db.Mutate(context.Background(), engine.Call{Name: "increment"}, increment(db, "hot")); err != nil {
					t.Errorf("increment: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if got := counter(t, db, "hot"); got != clients*each {
		t.Fatalf("counter is %v, want %d", got, clients*each)
	}
}

func TestScanAndCountSeeOwnChangesAndSurviveReopening(t *testing.T) {
	fs := vfs.NewMem()
	db := open(t, fs)
	views := db.Table("views")
	mutate(t, db, func(tx *engine.Tx) error {
		for i := range 100 {
			if _, err := tx.Insert(views, fields("path", fmt.Sprintf("/p%d", i%7), "n", i)); err != nil {
				return err
			}
		}
		n, err := tx.Count(views.Aggregate("paths"), engine.Range{Eq: []value.Value{value.String("/p3")}})
		if err != nil || n != 14 {
			t.Errorf("count inside the transaction is %d, %v, want 14", n, err)
		}
		return nil
	})
	check := func(db *engine.DB) {
		views := db.Table("views")
		query(t, db, func(tx *engine.Tx) error {
			var ns []float64
			r := engine.Range{Eq: []value.Value{value.String("/p3")}, Lower: &engine.Bound{Value: value.Float64(10)}, Upper: &engine.Bound{Value: value.Float64(38), Inclusive: true}}
			for d, err := range tx.Scan(views.Index("by_path"), r, true) {
				if err != nil {
					return err
				}
				n, _ := d.Fields.Get("n").AsFloat64()
				ns = append(ns, n)
			}
			if got, want := fmt.Sprint(ns), "[38 31 24 17]"; got != want {
				t.Errorf("scan gave %s, want %s", got, want)
			}
			n, err := tx.Count(views.Aggregate("paths"), r)
			if err != nil || n != 4 {
				t.Errorf("count is %d, %v, want 4", n, err)
			}
			var groups []string
			for g, err := range tx.Groups(views.Aggregate("paths")) {
				if err != nil {
					return err
				}
				s, _ := g.Group[0].AsString()
				groups = append(groups, fmt.Sprintf("%s=%d", s, g.Count))
			}
			if got, want := fmt.Sprint(groups), "[/p0=15 /p1=15 /p2=14 /p3=14 /p4=14 /p5=14 /p6=14]"; got != want {
				t.Errorf("groups are %s, want %s", got, want)
			}
			return nil
		})
	}
	check(db)
	before := db.Durable()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, fs)
	check(db)
	if db.Durable() <= before {
		t.Errorf("timestamps went back from %d to %d over a restart", before, db.Durable())
	}
}

func TestLiveQueryFollowsCommits(t *testing.T) {
	db := open(t, vfs.NewMem())
	views := db.Table("views")
	notified := make(chan struct{}, 1)
	set := db.NewQuerySet(func() {
		select {
		case notified <- struct{}{}:
		default:
		}
	})
	defer set.Close()
	set.Add(1, engine.LiveQuery{Key: "count", Run: func(tx *engine.Tx) []byte {
		n, err := tx.Count(views.Aggregate("paths"), engine.Range{})
		return fmt.Append(nil, n, err)
	}})
	next := func(min engine.Timestamp) engine.Round {
		deadline := time.After(time.Minute)
		for {
			if r, ok := set.Poll(min); ok {
				return r
			}
			select {
			case <-notified:
			case <-deadline:
				t.Fatal("no round came")
			}
		}
	}
	r := next(0)
	if len(r.Changes) != 1 || string(r.Changes[0].Body) != "0 <nil>" {
		t.Fatalf("first round is %+v", r.Changes)
	}
	for i := range 20 {
		receipt := mutate(t, db, func(tx *engine.Tx) error {
			_, err := tx.Insert(views, fields("path", "/", "n", i))
			return err
		})
		r = next(receipt.At)
		if want := fmt.Sprint(i+1, " <nil>"); len(r.Changes) != 1 || string(r.Changes[0].Body) != want || r.At < receipt.At {
			t.Fatalf("round after commit %d is %+v at %d, want %q at or after %d", i, r.Changes, r.At, want, receipt.At)
		}
	}
}
