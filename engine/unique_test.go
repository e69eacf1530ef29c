package engine_test

import (
	"context"
	"errors"
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
