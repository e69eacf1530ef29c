package engine_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// TestHalfSpent: an execution is told that half of any of its limits is gone, and not before.
func TestHalfSpent(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock, FunctionTimeMax: time.Hour})
	counters, views := db.Table("counters"), db.Table("views")
	fill := func(n int, doc func(i int) value.Value) (ids []value.ID) {
		mutate(t, db, func(tx *engine.Tx) error {
			ids = nil
			for i := range n {
				id, err := tx.Insert(counters, doc(i))
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			return nil
		})
		return ids
	}
	small := func(i int) value.Value { return fields("name", fmt.Sprint(i), "n", i) }
	ids := fill(8_001, small)
	fill(8_001, small)
	t.Run("documents read", func(t *testing.T) {
		query(t, db, func(tx *engine.Tx) error {
			n := 0
			for _, err := range tx.Scan(counters.Index(engine.IndexByID), all, false) {
				if err != nil {
					return err
				}
				if n++; tx.HalfSpent() {
					break
				}
			}
			if n != 16_001 {
				t.Errorf("after %d, of which 16,000 are half", n)
			}
			return nil
		})
	})
	mebibyte := value.Object(value.Field{Name: "bytes", Value: value.Bytes(make([]byte, 1<<20-100))})
	bigs := fill(9, func(int) value.Value { return mebibyte })
	insertInto := func(tx *engine.Tx, doc value.Value) error { _, err := tx.Insert(counters, doc); return err }
	for _, tt := range []struct {
		limit string
		half  int // so many are half of it or, of large documents, less
		step  func(tx *engine.Tx, i int) error
	}{
		{"documents and ranges read one by one", 2048, func(tx *engine.Tx, i int) error { _, _, err := tx.Get(counters, ids[i]); return err }},
		{"ranges that are counted", 2048, func(tx *engine.Tx, i int) error {
			_, err := tx.Count(views.Aggregate("paths"), eq(fmt.Sprint(i)))
			return err
		}},
		{"bytes read", 8, func(tx *engine.Tx, i int) error { _, _, err := tx.Get(counters, bigs[i]); return err }},
		{"documents written", 8_000, func(tx *engine.Tx, i int) error { return insertInto(tx, small(i)) }},
		{"bytes written", 8, func(tx *engine.Tx, i int) error { return insertInto(tx, mebibyte) }},
		{"time", 30, func(tx *engine.Tx, i int) error { clock.Advance(time.Minute); return nil }},
	} {
		t.Run(tt.limit, func(t *testing.T) {
			mutate(t, db, func(tx *engine.Tx) error {
				for i := range tt.half + 1 {
					if tx.HalfSpent() {
						t.Errorf("after %d, of which %d are half", i, tt.half)
						return nil
					}
					if err := tt.step(tx, i); err != nil {
						return err
					}
				}
				if !tx.HalfSpent() {
					t.Errorf("not after %d, of which %d are half", tt.half+1, tt.half)
				}
				return nil
			})
		})
	}
}
