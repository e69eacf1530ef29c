package engine_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// TestChangesTellWhatHappened: each effect on a document once a group, in the
// order of groups, from any timestamp on, and as far as is durable.
func TestChangesTellWhatHappened(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	db := enginetest.OpenWith(t, schema, engine.Options{Clock: clock})
	counters := db.Table("counters")
	tell := func(after engine.Timestamp) (out []string) {
		t.Helper()
		last := after
		for g, err := range db.Changes(t.Context(), after) {
			if err != nil {
				t.Fatal(err)
			}
			if g.At <= last || g.At > db.Durable() || len(g.Changes) == 0 {
				t.Errorf("%d changes at %d after %d, from %d to %d", len(g.Changes), g.At, last, after, db.Durable())
			}
			for _, c := range g.Changes {
				if c.At > g.At || c.At <= last || c.Deleted != (c.CreationTime == 0) {
					t.Errorf("a change at %d, created at %v, in the group at %d after %d", c.At, c.CreationTime, g.At, last)
				}
				n, _ := c.Fields.Get("n").AsFloat64()
				out = append(out, fmt.Sprint(c.Table, " ", n, " deleted ", c.Deleted, " ", c.Deleted == c.Fields.IsUndefined()))
			}
			last = g.At
		}
		return out
	}
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	one := db.Durable()
	clock.Advance(time.Hour)
	mutate(t, db, func(tx *engine.Tx) error {
		for n := 2; n < 5; n++ { // the last one counts
			if err := tx.Patch(counters, id, fields("n", n)); err != nil {
				return err
			}
		}
		return mustInsert(tx, db.Table("views"), fields("path", "/", "n", 7))
	})
	two := db.Durable()
	clock.Advance(time.Hour)
	mutate(t, db, func(tx *engine.Tx) error { return tx.Delete(counters, id) })
	query(t, db, func(tx *engine.Tx) error { return nil })

	all := []string{"counters 1 deleted false true", "views 7 deleted false true", "counters 4 deleted false true", "counters 0 deleted true true"}
	for after, want := range map[engine.Timestamp][]string{0: all, one - 1: all, one: all[1:], two: all[3:], db.Durable(): nil} {
		if diff := cmp.Diff(want, tell(after)); diff != "" {
			t.Errorf("after %d: %s", after, diff)
		}
	}
	for range db.Changes(t.Context(), 0) {
		break // stopping is no error
	}

	// What is a day old is removed, a group at a time.
	clock.Advance(23*time.Hour - time.Minute)
	mutate(t, db, func(tx *engine.Tx) error { return mustInsert(tx, counters, fields("name", "b", "n", 8)) })
	if err := db.SweepOnce(); err != nil {
		t.Fatal(err)
	}
	insert(t, db, "counters", fields("name", "c", "n", 9)) // so that a state has it
	if diff := cmp.Diff(append(all[1:], "counters 8 deleted false true", "counters 9 deleted false true"), tell(one)); diff != "" {
		t.Errorf("after a sweep: %s", diff)
	}
	for _, err := range db.Changes(t.Context(), one-1) {
		if !errors.Is(err, engine.ErrOutOfRetention) {
			t.Errorf("what was removed is told, with %v", err)
		}
	}
	verify(t, db)
}
