package engine_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

var all engine.Range

func eq(vals ...any) engine.Range {
	return engine.Range{Eq: fields2(vals...)}
}

func fields2(vals ...any) (out []value.Value) {
	for _, v := range vals {
		switch v := v.(type) {
		case string:
			out = append(out, value.String(v))
		case int:
			out = append(out, value.Float64(float64(v)))
		default:
			panic(fmt.Sprintf("value of type %T", v))
		}
	}
	return out
}

// insert adds one document and returns its id.
func insert(t testing.TB, db *engine.DB, table string, f value.Value) (id value.ID) {
	t.Helper()
	mutate(t, db, func(tx *engine.Tx) (err error) {
		id, err = tx.Insert(db.Table(table), f)
		return err
	})
	return id
}

// number reads the field n of a document.
func number(t testing.TB, db *engine.DB, table string, id value.ID) (n float64) {
	t.Helper()
	query(t, db, func(tx *engine.Tx) error {
		d, ok, err := tx.Get(db.Table(table), id)
		if err == nil && !ok {
			err = engine.ErrNoDocument
		}
		n, _ = d.Fields.Get("n").AsFloat64()
		return err
	})
	return n
}

// TestScanLeftOpenCountsAsRead: what a function took out of a scan that it
// never finished is part of what it has read.
func TestScanLeftOpenCountsAsRead(t *testing.T) {
	for _, desc := range []bool{false, true} {
		t.Run(fmt.Sprint("desc=", desc), func(t *testing.T) {
			db := enginetest.Open(t, schema)
			counters := db.Table("counters")
			a, b := insert(t, db, "counters", fields("name", "a", "n", 1)), insert(t, db, "counters", fields("name", "b", "n", 0))
			runs := 0
			mutate(t, db, func(tx *engine.Tx) error {
				runs++
				next, _ := iter.Pull2(tx.Scan(counters.Index("by_name"), eq("a"), desc))
				d, err, _ := next()
				if err != nil {
					return err
				}
				if runs == 1 {
					// Another transaction changes it before this one commits.
					mutate(t, db, func(tx *engine.Tx) error { return tx.Patch(counters, a, fields("n", 2)) })
				}
				n, _ := d.Fields.Get("n").AsFloat64()
				return tx.Patch(counters, b, fields("n", n*10))
			})
			if got := number(t, db, "counters", b); got != 20 || runs < 2 {
				t.Errorf("after %d runs b is %v, want 20 after at least 2", runs, got)
			}
		})
	}
}

// TestScanLeftOpenFreesTheStore: Close has nothing left over.
func TestScanLeftOpenFreesTheStore(t *testing.T) {
	db := enginetest.Open(t, schema)
	insert(t, db, "counters", fields("name", "a", "n", 1))
	var next func() (engine.Document, error, bool)
	query(t, db, func(tx *engine.Tx) error {
		next, _ = iter.Pull2(tx.Scan(db.Table("counters").Index("by_name"), all, false))
		_, err, _ := next()
		return err
	})
	if _, err, ok := next(); !ok || !errors.Is(err, engine.ErrTxDone) {
		t.Errorf("after the query the scan goes on with %v, %v", err, ok)
	}
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestErrorAfterStoppingAScan: a limit that is passed as a scan ends early is
// the function's error, and no panic of the loop.
func TestErrorAfterStoppingAScan(t *testing.T) {
	db := enginetest.Open(t, schema)
	mutate(t, db, func(tx *engine.Tx) error {
		for i := range 5000 {
			if _, err := tx.Insert(db.Table("counters"), fields("name", fmt.Sprintf("%04d", i), "n", i)); err != nil {
				return err
			}
		}
		return nil
	})
	_, err := db.Query(context.Background(), "test", func(tx *engine.Tx) error {
		defer func() {
			if r := recover(); r != nil {
				t.Errorf("the loop panicked: %v", r)
			}
		}()
		for i := range 5000 {
			for _, err := range tx.Scan(db.Table("counters").Index("by_name"), engine.Range{Lower: &engine.Bound{Value: value.String(fmt.Sprintf("%04d", i))}}, false) {
				if err != nil {
					return err
				}
				break
			}
			if _, _, err := tx.Get(db.Table("counters"), value.ID{Table: db.Table("counters").Number}); err != nil {
				return err
			}
		}
		return nil
	})
	var limit *engine.LimitError
	if !errors.As(err, &limit) {
		t.Errorf("the query ends with %v, want a LimitError", err)
	}
}

// TestTxIsDeadAfterItsFunction: every call on a Tx that was kept fails, from any
// goroutine, and changes nothing.
func TestTxIsDeadAfterItsFunction(t *testing.T) {
	db := enginetest.Open(t, schema)
	counters, views := db.Table("counters"), db.Table("views")
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	var kept []*engine.Tx
	mutate(t, db, func(tx *engine.Tx) error {
		kept = append(kept, tx)
		return tx.Patch(counters, id, fields("n", 2))
	})
	query(t, db, func(tx *engine.Tx) error { kept = append(kept, tx); return nil })
	_, _ = db.Mutate(context.Background(), engine.Call{}, func(tx *engine.Tx) ([]byte, error) {
		kept = append(kept, tx)
		panic("over")
	})
	for i, tx := range kept {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_, _, get := tx.Get(counters, id)
				_, ins := tx.Insert(counters, fields("name", "late", "n", 1))
				_, count := tx.Count(views.Aggregate("paths"), all)
				var scan, groups error
				for _, err := range tx.Scan(counters.Index("by_name"), all, true) {
					scan = err
				}
				for _, err := range tx.Groups(views.Aggregate("paths")) {
					groups = err
				}
				calls := map[string]error{
					"get": get, "insert": ins, "count": count, "scan": scan, "groups": groups,
					"patch": tx.Patch(counters, id, fields("n", 9)), "replace": tx.Replace(counters, id, fields("n", 9)), "delete": tx.Delete(counters, id),
				}
				for name, err := range calls {
					if !errors.Is(err, engine.ErrTxDone) && (i != 1 || !errors.Is(err, engine.ErrReadOnly)) {
						t.Errorf("transaction %d: %s after the end gives %v", i, name, err)
					}
				}
				tx.WakeAt(tx.Now())
				tx.Rand()
			})
		}
		wg.Wait()
	}
	if n := number(t, db, "counters", id); n != 2 {
		t.Errorf("the document is %v, want 2", n)
	}
}
