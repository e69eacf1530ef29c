package engine_test

import (
	"errors"
	"fmt"
	"iter"
	"testing"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// names returns the names of the counters with their n, in the order of names.
func names(tx *engine.Tx, db *engine.DB) (out string, err error) {
	for d, err := range tx.Scan(db.Table("counters").Index("by_name"), all, false) {
		if err != nil {
			return "", err
		}
		name, _ := d.Fields.Get("name").AsString()
		n, _ := d.Fields.Get("n").AsFloat64()
		out += fmt.Sprint(name, n, " ")
	}
	return out, nil
}

func TestNestedTransactions(t *testing.T) {
	stop := errors.New("stop")
	for _, c := range []struct {
		name string
		run  func(tx *engine.Tx, counters *engine.Table, a value.ID) error
		want string
	}{
		{"kept", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			return tx.Nested(func() error { return tx.Patch(counters, a, fields("n", 2)) })
		}, "a2 "},
		{"taken back", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			err := tx.Nested(func() error {
				if err := mustInsert(tx, counters, fields("name", "b", "n", 1)); err != nil {
					return err
				}
				return errors.Join(stop, tx.Delete(counters, a))
			})
			if !errors.Is(err, stop) {
				return fmt.Errorf("Nested returned %v", err)
			}
			return nil
		}, "a1 "},
		{"only the inner one taken back", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			return tx.Nested(func() error {
				if err := tx.Patch(counters, a, fields("n", 2)); err != nil {
					return err
				}
				_ = tx.Nested(func() error { return errors.Join(stop, tx.Patch(counters, a, fields("n", 3))) })
				return mustInsert(tx, counters, fields("name", "c", "n", 1))
			})
		}, "a2 c1 "},
		{"the outer one takes the inner one with it", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			_ = tx.Nested(func() error {
				if err := tx.Nested(func() error { return tx.Patch(counters, a, fields("n", 3)) }); err != nil {
					return err
				}
				return stop
			})
			return nil
		}, "a1 "},
		{"a panic takes back and goes on", func(tx *engine.Tx, counters *engine.Table, a value.ID) (err error) {
			defer func() {
				if recover() != "oops" {
					err = errors.New("the panic did not come through")
				}
			}()
			_ = tx.Nested(func() error {
				if err := tx.Delete(counters, a); err != nil {
					return err
				}
				panic("oops")
			})
			return nil
		}, "a1 "},
		{"deleted and taken back, then changed", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			_ = tx.Nested(func() error { return errors.Join(stop, tx.Delete(counters, a)) })
			return tx.Patch(counters, a, fields("name", "z"))
		}, "z1 "},
		{"a scan around it sees what stays", func(tx *engine.Tx, counters *engine.Table, a value.ID) error {
			seen := ""
			for d, err := range tx.Scan(counters.Index("by_name"), all, false) {
				if err != nil {
					return err
				}
				name, _ := d.Fields.Get("name").AsString()
				if seen += name; len(seen) > 1 {
					continue
				}
				for i, keep := range []error{nil, stop} {
					_ = tx.Nested(func() error {
						return errors.Join(keep, mustInsert(tx, counters, fields("name", string(rune('b'+i)), "n", 0)))
					})
				}
			}
			if seen != "ab" {
				return fmt.Errorf("the scan saw %q", seen)
			}
			return nil
		}, "a1 b0 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := enginetest.Open(t, schema)
			a := insert(t, db, "counters", fields("name", "a", "n", 1))
			mutate(t, db, func(tx *engine.Tx) error {
				if err := c.run(tx, db.Table("counters"), a); err != nil {
					return err
				}
				if got, err := names(tx, db); err != nil || got != c.want {
					t.Errorf("inside there is %q, %v, want %q", got, err, c.want)
				}
				return nil
			})
			query(t, db, func(tx *engine.Tx) error {
				if got, err := names(tx, db); err != nil || got != c.want {
					t.Errorf("afterwards there is %q, %v, want %q", got, err, c.want)
				}
				return tx.Nested(func() error { return nil })
			})
			verify(t, db)
		})
	}
}

func TestNestedTooDeep(t *testing.T) {
	db := enginetest.Open(t, schema)
	depth := 0
	_, err := db.Mutate(t.Context(), engine.Call{Name: "deep"}, func(tx *engine.Tx) ([]byte, error) {
		var down func() error
		down = func() error {
			depth++
			return tx.Nested(down)
		}
		return nil, tx.Nested(down)
	})
	if limit, ok := errors.AsType[*engine.LimitError](err); !ok || depth != limit.Max {
		t.Errorf("%d levels and then %v", depth, err)
	}
}

// TestScanEndsWithItsNestedTransaction: a scan that goes on would see what was
// taken back.
func TestScanEndsWithItsNestedTransaction(t *testing.T) {
	db := enginetest.Open(t, schema)
	for _, name := range []string{"a", "b"} {
		insert(t, db, "counters", fields("name", name, "n", 1))
	}
	_, err := db.Mutate(t.Context(), engine.Call{Name: "scan"}, func(tx *engine.Tx) ([]byte, error) {
		var next func() (engine.Document, error, bool)
		_ = tx.Nested(func() error {
			next, _ = iter.Pull2(tx.Scan(db.Table("counters").Index("by_name"), all, false))
			_, err, _ := next()
			return err
		})
		_, err, ok := next()
		if !ok || err == nil {
			t.Errorf("the scan goes on with %v, %v", err, ok)
		}
		return nil, nil
	})
	if err == nil {
		t.Error("a transaction whose scan was cut commits")
	}
}
