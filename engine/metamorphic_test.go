package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// metamorph runs the same operations on a database of some options, with
// upheavals between that must change nothing.
type metamorph struct {
	o       engine.Options
	upheave func(t *testing.T, m *metamorph, rng *rand.Rand)
	fs      *enginetest.Crashable
	dir     string
	db      *engine.DB
	copies  int
}

func (m *metamorph) open(t *testing.T) {
	t.Helper()
	o := m.o
	o.FS, o.Seed, o.Clock = m.fs, 7, enginetest.NewClock(epoch)
	o.Fatal = func(err error) { t.Errorf("the database failed: %v", err) }
	db, err := engine.Open(m.dir, historySchema, &o)
	if err != nil {
		t.Fatal(err)
	}
	m.db = db
}

func (m *metamorph) close(t *testing.T) {
	t.Helper()
	if err := m.db.Close(); err != nil {
		t.Fatal(err)
	}
}

// The upheavals.
var (
	nothingHappens = func(*testing.T, *metamorph, *rand.Rand) {}
	compacted      = func(t *testing.T, m *metamorph, _ *rand.Rand) {
		if err := m.db.Compact(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	reopened = func(t *testing.T, m *metamorph, _ *rand.Rand) {
		m.close(t)
		m.open(t)
	}
	crashed = func(t *testing.T, m *metamorph, rng *rand.Rand) {
		disk := m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		m.close(t)
		m.fs = disk
		m.open(t)
	}
	restored = func(t *testing.T, m *metamorph, _ *rand.Rand) {
		m.copies++
		c, err := m.db.Checkpoint(t.Context(), fmt.Sprint("copy", m.copies))
		if err != nil {
			t.Fatal(err)
		}
		m.close(t)
		m.dir = c.Dir
		m.open(t)
	}
	rebuilt = func(t *testing.T, m *metamorph, _ *rand.Rand) {
		bare := engine.Schema{Tables: []engine.TableDef{{Name: "items"}, {Name: "other"}}}
		for _, s := range []engine.Schema{bare, historySchema} {
			if err := m.db.Evolve(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		waitBuilt(t, m.db)
	}
	anything = func(t *testing.T, m *metamorph, rng *rand.Rand) {
		all := []func(*testing.T, *metamorph, *rand.Rand){compacted, reopened, crashed, restored, rebuilt}
		all[rng.IntN(len(all))](t, m, rng)
	}
)

// batch is operations that run at the same time, each on documents of its own
// and by additions on one that all share: whatever their order, the result is
// the same.
func (m *metamorph) batch(t *testing.T, ids []value.ID, seed uint64) {
	items := m.db.Table("items")
	shared := ids[0]
	var wg sync.WaitGroup
	const parts = 8
	for part := range parts {
		wg.Go(func() {
			for i := 1 + part; i < len(ids); i += parts {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				if rng.IntN(3) > 0 {
					continue
				}
				_, err := m.db.Mutate(context.Background(), engine.Call{Name: "batch"}, func(tx *engine.Tx) ([]byte, error) {
					rng := rand.New(rand.NewPCG(seed, uint64(i)))
					p := &program{db: m.db}
					var err error
					switch rng.IntN(8) {
					case 0:
						err = tx.Delete(items, ids[i])
					case 1, 2:
						err = tx.Replace(items, ids[i], p.fields(rng))
					default:
						d, ok, e := tx.Get(items, ids[i])
						if e != nil || !ok {
							return nil, e
						}
						n, _ := d.Fields.Get("n").AsFloat64()
						err = tx.Patch(items, ids[i], value.Object(
							value.Field{Name: "n", Value: value.Float64(float64((int(n) + 1 + rng.IntN(3)) % 8))},
							value.Field{Name: "kind", Value: p.kind(rng)}))
					}
					if err = ignoring(err, engine.ErrNoDocument); err != nil {
						return nil, err
					}
					return nil, tx.Apply(items, shared, engine.Add("w", value.Int64(int64(1+rng.IntN(9)))))
				})
				if err != nil {
					t.Errorf("operation on document %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

// everything reads the database in all the ways there are.
func (m *metamorph) everything(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	query(t, m.db, func(tx *engine.Tx) error {
		items := m.db.Table("items")
		for _, name := range []string{"by_kind", "by_tag", engine.IndexByID, engine.IndexByCreationTime} {
			for d, err := range tx.Scan(items.Index(name), all, name == "by_tag") {
				if err != nil {
					return err
				}
				fmt.Fprintf(&out, "%s: %s %v %s\n", name, d.ID, d.CreationTime, value.AppendJSON(nil, d.Fields))
			}
		}
		for _, name := range []string{"kinds", "all"} {
			total, err := tx.Total(items.Aggregate(name), all)
			if err != nil {
				return err
			}
			sum, err := total.Sum()
			fmt.Fprintf(&out, "%s: %d, %d, %s, %v\n", name, total.Count, total.Numbers, value.AppendJSON(nil, sum), err)
		}
		top, err := tx.Top(items.Aggregate("kinds"), 10)
		for _, g := range top {
			fmt.Fprintf(&out, "top: %s %d\n", value.AppendJSON(nil, value.Array(g.Group...)), g.Count)
		}
		return err
	})
	return out.String()
}

// TestMetamorphic runs the same operations with groups of one and of many, with
// caches of nothing and of everything, with flushes, compactions, restarts,
// crashes, restored copies and rebuilt indexes between: what is there in the end
// is the same, to the last bit.
func TestMetamorphic(t *testing.T) {
	seed := newSeed(t)
	variants := []struct {
		name string
		m    metamorph
	}{
		{"as it is", metamorph{upheave: nothingHappens}},
		{"groups of one", metamorph{upheave: nothingHappens, o: engine.Options{}.WithGroups(1, 1)}},
		{"groups of one, both in flight", metamorph{upheave: compacted, o: engine.Options{}.WithGroups(1, 2)}},
		{"no caches", metamorph{upheave: nothingHappens, o: engine.Options{RowCacheBytes: 1, AggregateCacheBytes: 1, CacheBytes: 1 << 16}}},
		{"small caches", metamorph{upheave: compacted, o: engine.Options{RowCacheBytes: 64 << 10, AggregateCacheBytes: 8 << 10, CacheBytes: 1 << 20}}},
		{"compacted", metamorph{upheave: compacted}},
		{"reopened", metamorph{upheave: reopened}},
		{"crashed", metamorph{upheave: crashed, o: engine.Options{}.WithGroups(4, 2)}},
		{"restored", metamorph{upheave: restored}},
		{"rebuilt", metamorph{upheave: rebuilt}},
		{"anything", metamorph{upheave: anything, o: engine.Options{RowCacheBytes: 64 << 10, AggregateCacheBytes: 8 << 10}}},
	}
	for round := range times(1) {
		var want engine.Hash
		var text string
		for i, v := range variants {
			t.Run(v.name, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, uint64(round)))
				m := v.m
				m.fs, m.dir = enginetest.NewCrashable(), "db"
				m.open(t)
				defer func() {
					if err := m.db.Close(); err != nil && !errors.Is(err, engine.ErrClosed) {
						t.Error(err)
					}
				}()
				var ids []value.ID
				mutate(t, m.db, func(tx *engine.Tx) error {
					ids = nil
					p := &program{db: m.db}
					for range fewer(400, 120) {
						id, err := tx.Insert(m.db.Table("items"), p.fields(rng))
						if err != nil {
							return err
						}
						ids = append(ids, id)
					}
					return tx.Patch(m.db.Table("items"), ids[0], value.Object(value.Field{Name: "w", Value: value.Int64(0)}))
				})
				for range 8 {
					batch, own := rng.Uint64(), rand.New(rand.NewPCG(rng.Uint64(), uint64(i)))
					m.batch(t, ids, batch)
					if own.IntN(2) == 0 || v.name != "anything" {
						m.upheave(t, &m, own)
					}
				}
				verify(t, m.db)
				h, got := hash(t, m.db), m.everything(t)
				if i == 0 {
					want, text = h, got
					if h.Documents < int64(len(ids)/4) || h.Documents == int64(len(ids)) {
						t.Errorf("%d of %d documents are left: the operations do too much or too little", h.Documents, len(ids))
					}
					return
				}
				if h.Content != want.Content || h.Documents != want.Documents {
					t.Errorf("%d documents with hash %x, want %d with %x", h.Documents, h.Content[:4], want.Documents, want.Content[:4])
				}
				if got != text {
					t.Errorf("what is read differs first in:\n%s", firstDifference(text, got))
				}
			})
		}
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < min(len(w), len(g)) && w[i] == g[i] {
		i++
	}
	return fmt.Sprintf("want %s\ngot  %s", strings.Join(slices.Clone(w[min(i, len(w)):min(i+1, len(w))]), ""), strings.Join(g[min(i, len(g)):min(i+1, len(g))], ""))
}
