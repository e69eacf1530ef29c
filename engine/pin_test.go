package engine_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

func TestPinnedStates(t *testing.T) {
	clock := enginetest.NewClock(time.UnixMilli(1_700_000_000_000))
	db, err := engine.Open("db", engine.Schema{Tables: []engine.TableDef{{Name: "t", Aggregates: []engine.AggregateDef{{Name: "count"}}}}},
		&engine.Options{FS: vfs.NewMem(), Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	t.Cleanup(func() {
		if !closed {
			_ = db.Close()
		}
	})
	table := db.Table("t")
	insert := func() {
		t.Helper()
		_, err := db.Mutate(t.Context(), engine.Call{Name: "insert"}, func(tx *engine.Tx) ([]byte, error) {
			_, err := tx.Insert(table, value.Object(value.Field{Name: "n", Value: value.Float64(1)}))
			return nil, err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// count returns how many documents there are at a timestamp, by reading them and by the aggregate, and what time it is.
	count := func(at engine.Timestamp) (rows int, now time.Time, err error) {
		err = db.QueryAt(context.Background(), "count", at, func(tx *engine.Tx) error {
			now = tx.Now()
			n, err := tx.Count(table.Aggregate("count"), engine.Range{})
			if err != nil {
				return err
			}
			rows = 0
			for _, err := range tx.Scan(table.Index(engine.IndexByCreationTime), engine.Range{}, false) {
				if err != nil {
					return err
				}
				rows++
			}
			if int64(rows) != n {
				t.Errorf("at %d there are %d rows, and the aggregate says %d", at, rows, n)
			}
			return nil
		})
		return rows, now, err
	}
	pin := func() engine.Timestamp {
		t.Helper()
		at, err := db.Pin()
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	insert()
	first := pin()
	insert()
	if at := pin(); at != first {
		t.Errorf("a second pin within 100 ms is at %d, the first at %d", at, first)
	}
	clock.Advance(100 * time.Millisecond)
	second := pin()
	if second <= first {
		t.Errorf("the second pin is at %d, the first at %d", second, first)
	}
	for i := range 20 {
		insert()
		for at, want := range map[engine.Timestamp]int{first: 1, second: 2} {
			rows, now, err := count(at)
			if err != nil || rows != want || !now.Equal(at.Time()) {
				t.Errorf("after %d more inserts: %d rows at %v, %v; want %d at %v", i+1, rows, now, err, want, at.Time())
			}
		}
	}
	if _, _, err := count(second + 1); !errors.Is(err, engine.ErrOutOfRetention) {
		t.Errorf("at a timestamp that was not pinned: %v", err)
	}
	clock.Advance(30*time.Second - 100*time.Millisecond)
	if _, _, err := count(first); !errors.Is(err, engine.ErrOutOfRetention) {
		t.Errorf("30 s after its pin: %v", err)
	}
	if rows, _, err := count(second); err != nil || rows != 2 {
		t.Errorf("29.9 s after its pin: %d rows, %v", rows, err)
	}
	// A state that is the newest for long is one pin, which lasts from its last time on.
	third := pin()
	clock.Advance(20 * time.Second)
	if at := pin(); at != third {
		t.Errorf("nothing has changed, and the pin is at %d and not %d", at, third)
	}
	insert()
	clock.Advance(20 * time.Second)
	if rows, _, err := count(third); err != nil || rows != 22 {
		t.Errorf("20 s after its last pin: %d rows, %v", rows, err)
	}
	// Closing lets go of what is pinned; the store complains about snapshots that are left.
	closed = true
	if err := db.Close(); err != nil {
		t.Errorf("Close with a pinned state: %v", err)
	}
	if _, err := db.Pin(); !errors.Is(err, engine.ErrClosed) {
		t.Errorf("Pin of a closed database: %v", err)
	}
}
