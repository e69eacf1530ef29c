package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

var uniqueSchema = engine.Schema{Tables: []engine.TableDef{
	{Name: "users", Indexes: []engine.IndexDef{{Name: "by_name", Fields: []string{"name", "org"}, Unique: true}}},
}}

func TestUniqueClaims(t *testing.T) {
	db := enginetest.Open(t, uniqueSchema)
	users := db.Table("users")
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			_, err := db.Mutate(context.Background(), engine.Call{Name: "claim"}, func(tx *engine.Tx) ([]byte, error) {
				return nil, mustInsert(tx, users, fields("name", "ann", "org", "x"))
			})
			var taken *engine.UniqueError
			switch {
			case err == nil:
				won.Add(1)
			case !errors.As(err, &taken) || taken.Index != "by_name" || taken.Table != "users":
				t.Errorf("claim: %v, want a UniqueError", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 {
		t.Errorf("%d claims of the same values succeeded", won.Load())
	}
	mutate(t, db, func(tx *engine.Tx) error {
		free := mustInsert(tx, users, fields("name", "ann")) // org is undefined: not bound
		return errors.Join(free, mustInsert(tx, users, fields("name", "ann")), mustInsert(tx, users, fields("name", "bob", "org", "x")))
	})
	mutate(t, db, func(tx *engine.Tx) error {
		for d, err := range tx.Scan(users.Index("by_name"), engine.Range{Eq: []value.Value{value.String("bob")}}, false) {
			if err != nil {
				return err
			}
			var taken *engine.UniqueError
			if err := tx.Patch(users, d.ID, fields("name", "ann")); !errors.As(err, &taken) {
				t.Errorf("patch gives %v", err)
			}
			if err := tx.Patch(users, d.ID, fields("n", 1)); err != nil { // its own values
				t.Errorf("patch of another field gives %v", err)
			}
		}
		return nil
	})
	verify(t, db)
}

func TestUniqueBuildOverDuplicates(t *testing.T) {
	db := enginetest.Open(t, engine.Schema{Tables: []engine.TableDef{{Name: "users"}}})
	one := insert(t, db, "users", fields("name", "ann", "org", "x"))
	two := insert(t, db, "users", fields("name", "ann", "org", "x"))
	if err := db.Evolve(t.Context(), uniqueSchema); err != nil {
		t.Fatal(err)
	}
	err := db.WaitBuilt(t.Context())
	if !errors.Is(err, engine.ErrBuildFailed) || !strings.Contains(err.Error(), one.String()) || !strings.Contains(err.Error(), two.String()) {
		t.Errorf("build over duplicates gives %v, want one that names %s and %s", err, one, two)
	}
	insert(t, db, "users", fields("name", "bob"))
	verify(t, db)
}

// TestUpsert: of many upserts of the same values one inserts, and the document
// is what the last one made of it.
func TestUpsert(t *testing.T) {
	db := enginetest.Open(t, uniqueSchema)
	users := db.Table("users")
	var inserts atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			r, err := db.Mutate(context.Background(), engine.Call{Name: "upsert"}, func(tx *engine.Tx) ([]byte, error) {
				_, inserted, err := tx.Upsert(users.Index("by_name"), fields("name", "ann", "org", "x", "n", i))
				if inserted {
					return []byte("inserted"), err
				}
				return nil, err
			})
			if err != nil {
				t.Error(err)
			}
			if len(r.Result) > 0 {
				inserts.Add(1)
			}
		})
	}
	wg.Wait()
	if report := verify(t, db); inserts.Load() != 1 || report.Documents != 1 {
		t.Errorf("%d of the upserts inserted, and there are %d documents", inserts.Load(), report.Documents)
	}
	mutate(t, db, func(tx *engine.Tx) error {
		if _, _, err := tx.Upsert(users.Index("by_name"), fields("name", "ann")); !errors.As(err, new(*engine.RangeError)) {
			t.Errorf("without a value: %v", err)
		}
		if _, _, err := tx.Upsert(users.Index(engine.IndexByCreationTime), fields("name", "ann")); !errors.Is(err, engine.ErrNotUnique) {
			t.Errorf("by an index that is not unique: %v", err)
		}
		return nil
	})
}

// TestVerifyFindsDuplicates plants a document with the values of another one.
func TestVerifyFindsDuplicates(t *testing.T) {
	db := enginetest.Open(t, uniqueSchema)
	insert(t, db, "users", fields("name", "ann", "org", "x"))
	bob := insert(t, db, "users", fields("name", "bob", "org", "x"))
	damage := map[string][]byte{}
	for _, prefix := range []byte{'r', 'x'} {
		db.Stored(prefix, func(key, val []byte) {
			if !bytes.HasSuffix(key, bob.Key[:]) {
				return
			}
			if prefix == 'x' {
				damage[string(key)] = nil
				key = bytes.Replace(key, []byte("bob"), []byte("ann"), 1)
			}
			damage[string(key)] = append([]byte{}, bytes.Replace(val, []byte("bob"), []byte("ann"), 1)...)
		})
	}
	if err := db.Damage(damage); err != nil {
		t.Fatal(err)
	}
	insert(t, db, "users", fields("name", "eve", "org", "x")) // shows the damage
	report, err := db.Verify(t.Context())
	found := fmt.Sprint(report.Faults, err)
	if !strings.Contains(found, "by_name: "+bob.String()+": another document has the same values") {
		t.Errorf("verify found %s", found)
	}
}
