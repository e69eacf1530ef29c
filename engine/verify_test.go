package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// verify fails the test if the database contradicts itself.
func verify(t testing.TB, db *engine.DB) engine.Report {
	t.Helper()
	r, err := db.Verify(context.Background())
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	for _, f := range r.Faults {
		t.Errorf("verify: %s", f)
	}
	if r.FaultsTotal > 0 {
		t.Fatalf("verify found %d faults", r.FaultsTotal)
	}
	return r
}

// TestVerifyFindsDamage plants one fault after the other and expects Verify to
// name the place.
func TestVerifyFindsDamage(t *testing.T) {
	// rows, entries and blocks are those of the views; each fault is planted in
	// a database of its own.
	type stored struct {
		rows, entries, blocks, records [][]byte
		values                         map[string][]byte
	}
	change := func(b []byte, at int) []byte {
		out := bytes.Clone(b)
		out[at] ^= 0x10
		return out
	}
	for _, c := range []struct {
		name  string
		plant func(s stored) map[string][]byte
		says  string
	}{
		{"nothing", func(s stored) map[string][]byte { return nil }, ""},
		{"row removed", func(s stored) map[string][]byte { return map[string][]byte{string(s.rows[0]): nil} }, "there is no such row"},
		{"row from before", func(s stored) map[string][]byte {
			old := bytes.Clone(s.values[string(s.rows[0])])
			binary.BigEndian.PutUint64(old[1:], binary.BigEndian.Uint64(old[1:])-1)
			return map[string][]byte{string(s.rows[0]): old}
		}, "still as it was"},
		{"row changed", func(s stored) map[string][]byte {
			k := string(s.rows[0])
			return map[string][]byte{k: change(s.values[k], len(s.values[k])-1)}
		}, "differs from the change record"},
		{"row cut short", func(s stored) map[string][]byte {
			k := string(s.rows[0])
			return map[string][]byte{k: s.values[k][:len(s.values[k])-1]}
		}, "corrupt"},
		{"row from the future", func(s stored) map[string][]byte {
			k := string(s.rows[0])
			return map[string][]byte{k: change(s.values[k], 2)}
		}, "the newest state is"},
		{"entry removed", func(s stored) map[string][]byte { return map[string][]byte{string(s.entries[0]): nil} }, "the entry is missing"},
		{"entry added", func(s stored) map[string][]byte {
			k := s.entries[0]
			return map[string][]byte{string(change(k, 9)): {}}
		}, "its fields do not call for"},
		{"entry of nothing", func(s stored) map[string][]byte {
			k := s.entries[0]
			return map[string][]byte{string(change(k, len(k)-1)): {}}
		}, "no such row"},
		{"entry with a value", func(s stored) map[string][]byte { return map[string][]byte{string(s.entries[0]): []byte("x")} }, "has a value"},
		{"block changed", func(s stored) map[string][]byte {
			k := string(s.blocks[1])
			return map[string][]byte{k: change(s.values[k], 20)}
		}, "corrupt aggregate"},
		{"block removed", func(s stored) map[string][]byte { return map[string][]byte{string(s.blocks[1]): nil} }, "corrupt aggregate"},
		{"keys of nothing", func(s stored) map[string][]byte {
			return map[string][]byte{"r\x00\x00\x00\x05" + string(s.rows[0][5:]): {}, "x\x00\x00\x00\x06": {}, "a\x00\x00\x00\x07": {}}
		}, "belong to nothing"},
		{"record cut short", func(s stored) map[string][]byte {
			k := string(s.records[0])
			return map[string][]byte{k: s.values[k][:len(s.values[k])-1]}
		}, "change record"},
		{"record changed", func(s stored) map[string][]byte {
			k := string(s.records[0])
			return map[string][]byte{k: change(s.values[k], len(s.values[k])-1)}
		}, "its sum is"},
		{"record removed", func(s stored) map[string][]byte { return map[string][]byte{string(s.records[1]): nil} }, "the one before is at"},
		{"catalog entry", func(stored) map[string][]byte { return map[string][]byte{"mindex/views\x00half": {0, 0, 0, 9, 0}} }, "nothing in the schema"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := enginetest.Open(t, schema)
			mutate(t, db, func(tx *engine.Tx) error {
				for i := range 300 {
					if err := mustInsert(tx, db.Table("views"), fields("path", fmt.Sprint("/", i%5), "n", i)); err != nil {
						return err
					}
				}
				return nil
			})
			s := stored{values: map[string][]byte{}}
			gather := func(prefix byte, number uint32) (out [][]byte) {
				db.Stored(prefix, func(key, val []byte) {
					if number == 0 || binary.BigEndian.Uint32(key[1:]) == number {
						k := bytes.Clone(key)
						out = append(out, k)
						s.values[string(k)] = bytes.Clone(val)
					}
				})
				return out
			}
			s.rows = gather('r', db.Table("views").Number)
			s.blocks = gather('a', 0)
			s.records = gather('l', 0)
			db.Stored('m', func(key, val []byte) {
				if string(key) == "mindex/views\x00by_path" {
					s.entries = gather('x', binary.BigEndian.Uint32(val))
				}
			})
			if err := db.Damage(c.plant(s)); err != nil {
				t.Fatal(err)
			}
			insert(t, db, "counters", fields("name", "makes it visible", "n", 1))
			r, err := db.Verify(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			text := fmt.Sprint(r.Faults)
			if c.says == "" != r.OK() || !strings.Contains(text, c.says) {
				t.Errorf("%d faults, want one that says %q: %.500s", r.FaultsTotal, c.says, text)
			}
			if len(r.Faults) > 100 || int64(len(r.Faults)) > r.FaultsTotal {
				t.Errorf("%d of %d faults are listed", len(r.Faults), r.FaultsTotal)
			}
		})
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	db := enginetest.Open(t, schema)
	insert(t, db, "counters", fields("name", "a", "n", 1))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := db.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("verify with a context that has ended gives %v", err)
	}
}
