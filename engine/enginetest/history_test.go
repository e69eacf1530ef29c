package enginetest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

var schema = engine.Schema{Tables: []engine.TableDef{{
	Name:       "items",
	Indexes:    []engine.IndexDef{{Name: "by_kind", Fields: []string{"kind", "n"}}},
	Aggregates: []engine.AggregateDef{{Name: "kinds", GroupBy: []string{"kind"}, OrderBy: []string{"n"}, Sum: "n", Ranked: true}},
}}}

func item(kind string, n float64) value.Value {
	return value.Object(value.Field{Name: "kind", Value: value.String(kind)}, value.Field{Name: "n", Value: value.Float64(n)})
}

// scenario runs one transaction of every sort on a fresh history.
func scenario(t *testing.T) (*engine.DB, *enginetest.History) {
	t.Helper()
	db := enginetest.Open(t, schema)
	h := enginetest.NewHistory(db, schema)
	items := db.Table("items")
	ctx := context.Background()
	var ids []value.ID
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, err := h.Mutate(ctx, engine.Call{Name: "fill"}, func(tx *enginetest.Tx) ([]byte, error) {
		ids = nil
		for n := range 6 {
			id, err := tx.Insert(items, item([]string{"a", "b"}[n%2], float64(n)))
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
		return nil, nil
	})
	must(err)
	_, err = h.Mutate(ctx, engine.Call{Name: "change"}, func(tx *enginetest.Tx) ([]byte, error) {
		return nil, errors.Join(
			tx.Patch(items, ids[0], value.Object(value.Field{Name: "n", Value: value.Float64(9)}), "kind"),
			tx.Replace(items, ids[1], item("c", 1)),
			tx.Delete(items, ids[2]),
		)
	})
	must(err)
	boom := errors.New("boom")
	if _, err = h.Mutate(ctx, engine.Call{Name: "fail"}, func(tx *enginetest.Tx) ([]byte, error) {
		return nil, errors.Join(tx.Delete(items, ids[5]), boom)
	}); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	must(h.Query(ctx, "look", func(tx *enginetest.Tx) error {
		for _, index := range []string{"by_kind", engine.IndexByID, engine.IndexByCreationTime} {
			for _, desc := range []bool{false, true} {
				for _, err := range tx.Scan(items, index, engine.Range{}, desc) {
					if err != nil {
						return err
					}
				}
			}
		}
		for d, err := range tx.Scan(items, engine.IndexByID, engine.Range{Eq: []value.Value{value.String(ids[4].String())}}, false) {
			if err != nil || d.ID != ids[4] {
				t.Errorf("by_id found %s, %v", d.ID, err)
			}
		}
		for range tx.Scan(items, "by_kind", engine.Range{Eq: []value.Value{value.String("b")}}, false) {
			break
		}
		_, _, err := tx.Get(items, ids[2])
		_, err2 := tx.Count(items, "kinds", engine.Range{Eq: []value.Value{value.String("b")}, Lower: &engine.Bound{Value: value.Float64(3)}})
		_, err3 := tx.Groups(items, "kinds")
		_, err4 := tx.Total(items, "kinds", engine.Range{})
		_, _, err5 := tx.Rank(items, "kinds", engine.Range{}, ids[4], true)
		_, _, err6 := tx.DocumentAt(items, "kinds", engine.Range{}, 2, false)
		_, err7 := tx.Top(items, "kinds", 2)
		_, err8 := tx.CountGroups(items, "kinds")
		return errors.Join(err, err2, err3, err4, err5, err6, err7, err8)
	}))
	return db, h
}

func TestHistoryAcceptsASerialOne(t *testing.T) {
	_, h := scenario(t)
	if h.Len() != 4 {
		t.Errorf("%d transactions are remembered, want 4", h.Len())
	}
	if err := h.Check(); err != nil {
		t.Error(err)
	}
}

// TestHistorySeesAWriteBehindItsBack: what the history was not told of shows up
// in every kind of read.
func TestHistorySeesAWriteBehindItsBack(t *testing.T) {
	b := engine.Range{Eq: []value.Value{value.String("b")}}
	for _, c := range []struct {
		name string
		read func(tx *enginetest.Tx, items *engine.Table, id value.ID) error
	}{
		{"get", func(tx *enginetest.Tx, items *engine.Table, id value.ID) error {
			_, _, err := tx.Get(items, id)
			return err
		}},
		{"scan", func(tx *enginetest.Tx, items *engine.Table, _ value.ID) error {
			for _, err := range tx.Scan(items, "by_kind", b, true) {
				return err
			}
			return nil
		}},
		{"count", func(tx *enginetest.Tx, items *engine.Table, _ value.ID) error {
			_, err := tx.Count(items, "kinds", b)
			return err
		}},
		{"total", func(tx *enginetest.Tx, items *engine.Table, _ value.ID) error {
			_, err := tx.Total(items, "kinds", b)
			return err
		}},
		{"rank", func(tx *enginetest.Tx, items *engine.Table, id value.ID) error {
			_, _, err := tx.Rank(items, "kinds", b, id, false)
			return err
		}},
		{"number", func(tx *enginetest.Tx, items *engine.Table, _ value.ID) error {
			_, _, err := tx.DocumentAt(items, "kinds", b, 0, true)
			return err
		}},
		{"top", func(tx *enginetest.Tx, items *engine.Table, _ value.ID) error {
			_, err := tx.Top(items, "kinds", 1)
			return err
		}},
		{"groups", func(tx *enginetest.Tx, items *engine.Table, _ value.ID) error {
			_, err := tx.Groups(items, "kinds")
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			db, h := scenario(t)
			items := db.Table("items")
			ctx := context.Background()
			var id value.ID
			if _, err := db.Mutate(ctx, engine.Call{}, func(tx *engine.Tx) ([]byte, error) {
				var err error
				id, err = tx.Insert(items, item("b", 100))
				return nil, err
			}); err != nil {
				t.Fatal(err)
			}
			if err := h.Query(ctx, "reader", func(tx *enginetest.Tx) error { return c.read(tx, items, id) }); err != nil {
				t.Fatal(err)
			}
			if err := h.Check(); err == nil || !strings.Contains(err.Error(), `"reader"`) || !strings.Contains(err.Error(), c.name) {
				t.Errorf("the check says %v", err)
			}
		})
	}
}

// TestHistoryCut: what a crash has lost is forgotten, and what follows is
// compared with what is left.
func TestHistoryCut(t *testing.T) {
	db, h := scenario(t)
	items := db.Table("items")
	ctx := context.Background()
	r, err := h.Mutate(ctx, engine.Call{Name: "lost"}, func(tx *enginetest.Tx) ([]byte, error) {
		_, err := tx.Insert(items, item("b", 100))
		return nil, err
	})
	if err != nil {
		t.Fatal(err)
	}
	look := func() {
		t.Helper()
		if err := h.Query(ctx, "look again", func(tx *enginetest.Tx) error {
			_, err := tx.Count(items, "kinds", engine.Range{})
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	look()
	before := h.Len()
	h.Cut(r.At)
	if h.Len() != before-2 {
		t.Errorf("%d of %d transactions are left, want all but 2", h.Len(), before)
	}
	if err := h.Check(); err != nil {
		t.Errorf("without the newest ones: %v", err)
	}
	look() // the database has not lost anything
	if err := h.Check(); err == nil {
		t.Error("a document that was cut away is still there, and the check sees nothing")
	}
}

// TestHistorySeesAStaleScreen: a screen that shows an answer beyond the moment
// that its query has named is wrong though nothing was written.
func TestHistorySeesAStaleScreen(t *testing.T) {
	for _, c := range []struct {
		name  string
		after time.Duration // what the query says after which its answer changes, when it is a minute
		stale bool
	}{{"right", time.Minute, false}, {"earlier than it does", time.Second, true}} {
		t.Run(c.name, func(t *testing.T) {
			clock := enginetest.NewClock(time.Unix(1_800_000_000, 0))
			db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: time.Hour})
			h := enginetest.NewHistory(db, schema)
			s := h.NewScreen()
			defer s.Close()
			s.Add(1, "clock", func(tx *enginetest.Tx) error {
				now := tx.Now()
				// The database is told of a minute, the history of c.after.
				tx.Tx.WakeAt(now.Add(time.Minute))
				tx.WakeAt(now.Add(-time.Second)) // not after now: it says nothing
				if c.stale {
					tx.Expect(now.Add(c.after))
				} else {
					tx.WakeAt(now.Add(c.after))
				}
				return nil
			})
			poll := func(min engine.Timestamp) {
				t.Helper()
				for {
					at, ok, err := s.Poll(min)
					if err != nil {
						t.Fatal(err)
					}
					if ok && at >= min {
						return
					}
					<-s.Told()
				}
			}
			poll(0)
			clock.Advance(30 * time.Second)
			r, err := h.Mutate(t.Context(), engine.Call{Name: "moves time"}, func(tx *enginetest.Tx) ([]byte, error) {
				_, err := tx.Insert(db.Table("items"), item("a", 1))
				return nil, err
			})
			if err != nil {
				t.Fatal(err)
			}
			poll(r.At)
			if err := h.Check(); (err != nil) != c.stale {
				t.Errorf("the check says %v, want an error: %v", err, c.stale)
			}
		})
	}
}
