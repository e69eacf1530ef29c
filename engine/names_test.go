package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// storedNames returns the field names that are durable, by their keys.
func storedNames(db *engine.DB) (out []string) {
	db.Stored('m', func(key, val []byte) {
		if strings.HasPrefix(string(key), "mfield/") {
			out = append(out, string(val))
		}
	})
	return out
}

func TestFieldNamesAreStoredWithTheFirstDocument(t *testing.T) {
	fs := vfs.NewMem()
	db := open(t, fs)
	counters := db.Table("counters")
	if got := storedNames(db); len(got) != 0 {
		t.Errorf("an empty database has the names %q", got)
	}
	// A transaction that does not commit leaves its names to the next one.
	_, err := db.Mutate(context.Background(), engine.Call{}, func(tx *engine.Tx) ([]byte, error) {
		return nil, errors.Join(mustInsert(tx, counters, fields("dropped", 1)), errors.New("no"))
	})
	if err == nil || len(storedNames(db)) != 0 {
		t.Errorf("after a transaction that failed with %v the names are %q", err, storedNames(db))
	}
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	want := []string{"dropped", "n", "name"}
	if got := storedNames(db); !slices.Equal(got, want) {
		t.Errorf("the names are %q, want %q", got, want)
	}
	insert(t, db, "counters", fields("n", 2)) // nothing new
	mutate(t, db, func(tx *engine.Tx) error { return tx.Patch(counters, id, fields("later", 7)) })
	if got, want := storedNames(db), append(want, "later"); !slices.Equal(got, want) {
		t.Errorf("the names are %q, want %q", got, want)
	}
	rows := 0
	db.Stored('r', func(_, val []byte) {
		if rows++; strings.Contains(string(val), "later") || strings.Contains(string(val), "name") {
			t.Errorf("row %x has names in it", val)
		}
	})
	if rows != 2 {
		t.Errorf("%d rows, want 2", rows)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, fs)
	query(t, db, func(tx *engine.Tx) error {
		d, ok, err := tx.Get(db.Table("counters"), id)
		if want := fields("name", "a", "n", 1, "later", 7); !ok || !value.Equal(d.Fields, want) {
			t.Errorf("after opening again the document is %v, want %v", d.Fields, want)
		}
		return err
	})
	insert(t, db, "counters", fields("last", 1))
	if got, want := storedNames(db), append(want, "later", "last"); !slices.Equal(got, want) {
		t.Errorf("the names are %q, want %q", got, want)
	}
	verify(t, db)
}

// TestFieldNamesSurviveACrash: whenever the machine stops, every row that is
// there can be read.
func TestFieldNamesSurviveACrash(t *testing.T) {
	fs := enginetest.NewCrashable()
	db := open(t, fs)
	counters := db.Table("counters")
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				mutate(t, db, func(tx *engine.Tx) error {
					return mustInsert(tx, counters, fields(fmt.Sprintf("f%d_%d", w, i), i, "n", i))
				})
			}
		})
	}
	for range 20 {
		clone := fs.CrashClone(vfs.CrashCloneCfg{})
		crashed, err := engine.Open("db", schema, &engine.Options{FS: clone})
		if err != nil {
			t.Fatal(err)
		}
		verify(t, crashed)
		if err := crashed.Close(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	verify(t, db)
}

// TestFieldNamesPastTheLimit: more names than a dictionary takes cost space and
// nothing else.
func TestFieldNamesPastTheLimit(t *testing.T) {
	fs := vfs.NewMem()
	db := open(t, fs)
	want := map[value.ID]value.Value{}
	for part := range 3 {
		var kv []any
		for i := range value.NamesMax / 2 {
			kv = append(kv, fmt.Sprintf("f%d_%d", part, i), i)
		}
		v := fields(append(kv, "n", part)...)
		want[insert(t, db, "counters", v)] = v
	}
	if n := len(storedNames(db)); n != value.NamesMax {
		t.Errorf("%d names, want %d", n, value.NamesMax)
	}
	for range 2 {
		query(t, db, func(tx *engine.Tx) error {
			for id, want := range want {
				if d, ok, err := tx.Get(db.Table("counters"), id); err != nil || !ok || !value.Equal(d.Fields, want) {
					t.Errorf("%s is %v, %v, %v, want %v", id, d.Fields, ok, err, want)
				}
			}
			return nil
		})
		verify(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		db = open(t, fs)
	}
}

// TestVerifyFindsRowsWhoseNamesAreMissing plants what may never happen.
func TestVerifyFindsRowsWhoseNamesAreMissing(t *testing.T) {
	db := open(t, vfs.NewMem())
	insert(t, db, "counters", fields("name", "a", "n", 1))
	var last string
	db.Stored('m', func(key, _ []byte) {
		if strings.HasPrefix(string(key), "mfield/") {
			last = string(key)
		}
	})
	if err := db.Damage(map[string][]byte{last: nil}); err != nil {
		t.Fatal(err)
	}
	insert(t, db, "counters", fields("n", 2))
	report, err := db.Verify(context.Background())
	if err != nil || report.FaultsTotal != 1 || !strings.Contains(report.Faults[0].What, "unknown field number") {
		t.Errorf("Verify says %+v, %v", report, err)
	}
}
