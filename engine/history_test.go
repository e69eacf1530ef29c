package engine_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// long makes the random tests take minutes.
var long = flag.Bool("engine.long", false, "run the random tests of the engine for longer")

// seedFlag repeats the programs of a failed run; goroutines still interleave
// as they like.
var seedFlag = flag.Uint64("engine.seed", 0, "the seed of the random tests, 0 for a new one")

func newSeed(t testing.TB) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("repeat with -engine.seed=%d", seed)
	return seed
}

// fewer returns n, or less under the race detector, which looks for something
// else: that is seen with little data as well.
func fewer(n, underRaceOnly int) int {
	if underRace {
		return underRaceOnly
	}
	return n
}

// times scales the length of a random test.
func times(n int) int {
	if *long {
		return 40 * n
	}
	return n
}

var historySchema = engine.Schema{Tables: []engine.TableDef{
	{
		Name:       "items",
		Indexes:    []engine.IndexDef{{Name: "by_kind", Fields: []string{"kind", "n"}}, {Name: "by_tag", Fields: []string{"tag.name"}}},
		Aggregates: []engine.AggregateDef{{Name: "kinds", GroupBy: []string{"kind"}, OrderBy: []string{"n"}, Sum: "w", Ranked: true}, {Name: "all", Sum: "n"}},
	},
	{Name: "other", Indexes: []engine.IndexDef{{Name: "by_n", Fields: []string{"n"}}, {Name: "by_at", Fields: []string{"at"}}}},
}}

// program draws random transactions over few documents.
type program struct {
	db *engine.DB

	mu  sync.Mutex
	ids []value.ID // documents that may exist
}

func (p *program) kind(rng *rand.Rand) value.Value {
	if rng.IntN(12) == 0 {
		return value.Null()
	}
	return value.String(string(rune('a' + rng.IntN(5))))
}

func (p *program) fields(rng *rand.Rand) value.Value {
	fs := []value.Field{{Name: "n", Value: value.Float64(float64(rng.IntN(8)))}, {Name: "kind", Value: p.kind(rng)}}
	if rng.IntN(2) == 0 {
		fs = append(fs, value.Field{Name: "tag", Value: value.Object(value.Field{Name: "name", Value: value.Int64(int64(rng.IntN(4)))})})
	}
	switch rng.IntN(3) {
	case 0:
		fs = append(fs, value.Field{Name: "w", Value: value.Int64(int64(rng.IntN(100)))})
	case 1:
		fs = append(fs, value.Field{Name: "w", Value: value.Float64(float64(rng.IntN(400)) / 4)})
	}
	if rng.IntN(20) == 0 {
		fs = append(fs, value.Field{Name: "text", Value: value.Bytes(make([]byte, rng.IntN(3000)))})
	}
	return value.Object(fs...)
}

func (p *program) table(rng *rand.Rand) *engine.Table {
	if rng.IntN(5) == 0 {
		return p.db.Table("other")
	}
	return p.db.Table("items")
}

func (p *program) anyID(rng *rand.Rand) (value.ID, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) == 0 {
		return value.ID{}, false
	}
	return p.ids[rng.IntN(len(p.ids))], true
}

func (p *program) add(id value.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) < 24 {
		p.ids = append(p.ids, id)
		return
	}
	p.ids[int(id.Key[10])%len(p.ids)] = id
}

func (p *program) bounds(rng *rand.Rand) (r engine.Range) {
	if rng.IntN(3) == 0 {
		r.Lower = &engine.Bound{Value: value.Float64(float64(rng.IntN(8))), Inclusive: rng.IntN(2) == 0}
	}
	if rng.IntN(3) == 0 {
		r.Upper = &engine.Bound{Value: value.Float64(float64(rng.IntN(8))), Inclusive: rng.IntN(2) == 0}
	}
	return r
}

func (p *program) byKind(rng *rand.Rand) engine.Range {
	if rng.IntN(4) == 0 {
		return engine.Range{}
	}
	r := p.bounds(rng)
	r.Eq = []value.Value{p.kind(rng)}
	return r
}

const readKinds = 14

func (p *program) read(tx *enginetest.Tx, rng *rand.Rand, mayWrite bool) error {
	return p.readKind(rng.IntN(readKinds), tx, rng, mayWrite)
}

func (p *program) readKind(kind int, tx *enginetest.Tx, rng *rand.Rand, mayWrite bool) error {
	items, other := p.db.Table("items"), p.db.Table("other")
	scan := func(t *engine.Table, index string, r engine.Range) error {
		stop := rng.IntN(6)
		for d, err := range tx.Scan(t, index, r, rng.IntN(2) == 0) {
			if err != nil {
				return err
			}
			if mayWrite && rng.IntN(8) == 0 {
				if err := p.writeTo(tx, rng, t, d.ID); err != nil {
					return err
				}
			}
			if stop--; stop < 0 {
				break
			}
		}
		return nil
	}
	switch kind {
	case 0, 1:
		if id, ok := p.anyID(rng); ok {
			t := items
			if id.Table == other.Number {
				t = other
			}
			_, _, err := tx.Get(t, id)
			return err
		}
	case 2:
		return scan(items, "by_kind", p.byKind(rng))
	case 3:
		return scan(items, "by_tag", engine.Range{Lower: &engine.Bound{Value: value.Int64(int64(rng.IntN(4)))}})
	case 4:
		return scan(other, []string{"by_n", "by_at", engine.IndexByID, engine.IndexByCreationTime}[rng.IntN(4)], engine.Range{})
	case 5:
		_, err := tx.Count(items, "kinds", p.byKind(rng))
		return err
	case 6:
		_, err := tx.Count(items, "all", engine.Range{})
		return err
	case 7:
		_, err := tx.Groups(items, "kinds")
		return err
	case 8:
		_, err := tx.Total(items, "kinds", p.byKind(rng))
		return err
	case 9:
		_, err := tx.Total(items, "all", engine.Range{})
		return err
	case 10:
		if id, ok := p.anyID(rng); ok {
			_, _, err := tx.Rank(items, []string{"kinds", "all"}[rng.IntN(2)], engine.Range{}, id, rng.IntN(2) == 0)
			return err
		}
	case 11:
		_, _, err := tx.DocumentAt(items, "kinds", p.byKind(rng), rng.IntN(6), rng.IntN(2) == 0)
		return err
	case 12:
		_, err := tx.Top(items, "kinds", 1+rng.IntN(3))
		return err
	case 13:
		_, err := tx.CountGroups(items, "kinds")
		return err
	}
	return nil
}

func (p *program) write(tx *enginetest.Tx, rng *rand.Rand) error {
	t := p.table(rng)
	id, ok := p.anyID(rng)
	if !ok || rng.IntN(3) == 0 || id.Table != t.Number {
		// The set stays small: an insert takes the place of another document.
		if rng.IntN(4) > 0 {
			for d, err := range tx.Scan(t, engine.IndexByCreationTime, engine.Range{}, rng.IntN(2) == 0) {
				if err != nil {
					return err
				}
				if err := tx.Delete(t, d.ID); err != nil {
					return err
				}
				break
			}
		}
		id, err := tx.Insert(t, p.fields(rng))
		if err == nil {
			p.add(id)
		}
		return err
	}
	return p.writeTo(tx, rng, t, id)
}

func (p *program) writeTo(tx *enginetest.Tx, rng *rand.Rand, t *engine.Table, id value.ID) error {
	var err error
	switch rng.IntN(7) {
	case 0:
		err = tx.Delete(t, id)
	case 1:
		err = tx.Replace(t, id, p.fields(rng))
	case 2, 3, 4:
		ops := []engine.Op{p.op(rng)}
		for rng.IntN(3) == 0 {
			ops = append(ops, p.op(rng))
		}
		err = tx.Apply(t, id, ops...)
		if bad := new(engine.OpError); errors.As(err, &bad) && bad.Field == "at" {
			return nil // two operations on the time of the commit
		}
	default:
		patch := value.Object(value.Field{Name: "n", Value: value.Float64(float64(rng.IntN(8)))})
		var unset []string
		if rng.IntN(3) == 0 {
			unset = []string{"tag"}
		}
		err = tx.Patch(t, id, patch, unset...)
	}
	if errors.Is(err, engine.ErrNoDocument) && !refused(err) {
		return nil
	}
	return err
}

// op draws an operation. A few of them are refused when they are to commit.
func (p *program) op(rng *rand.Rand) engine.Op {
	switch rng.IntN(9) {
	case 0, 1:
		return engine.Add("n", value.Float64(float64(rng.IntN(7)-3))).AtLeast(value.Float64(-4))
	case 2:
		return engine.Add("w", value.Int64(1)) // of which some are float64
	case 3:
		return engine.Max("n", value.Float64(float64(rng.IntN(8))))
	case 4:
		return engine.Min("kind", p.kind(rng))
	case 5:
		return engine.SetIfAbsent("tag", value.Object(value.Field{Name: "name", Value: value.Int64(9)}))
	case 6:
		return engine.SetInsert("set", value.Int64(int64(rng.IntN(6))))
	case 7:
		return engine.SetIfAbsent("at", value.Float64(1))
	}
	return engine.CommitTime("at")
}

// refused reports whether a mutation failed for what its operations found.
func refused(err error) bool {
	return errors.As(err, new(*engine.BoundError)) || errors.As(err, new(*engine.OpError))
}

var errChance = errors.New("failed by chance")

// steps reads and writes at random, some of it in nested transactions, of which
// some are taken back.
func (p *program) steps(tx *enginetest.Tx, rng *rand.Rand, n, depth int) error {
	for range n {
		var err error
		switch {
		case depth < 3 && rng.IntN(10) == 0:
			err = tx.Nested(func() error {
				if err := p.steps(tx, rng, 1+rng.IntN(4), depth+1); err != nil {
					return err
				}
				if rng.IntN(2) == 0 {
					return errTakenBack
				}
				return nil
			})
			if errors.Is(err, errTakenBack) {
				err = nil
			}
		case rng.IntN(2) == 0:
			err = p.write(tx, rng)
		default:
			err = p.read(tx, rng, true)
		}
		if err != nil {
			return err
		}
		runtime.Gosched()
	}
	return nil
}

var errTakenBack = errors.New("taken back")

// run executes n random transactions one after the other.
func (p *program) run(h *enginetest.History, rng *rand.Rand, who, n int) error {
	for i := range n {
		name := fmt.Sprintf("%d/%d", who, i)
		seed, steps := rng.Uint64(), 1+rng.IntN(5)
		if rng.IntN(4) == 0 {
			err := h.Query(context.Background(), name, func(tx *enginetest.Tx) error {
				rng := rand.New(rand.NewPCG(seed, 1))
				for range steps {
					if err := p.read(tx, rng, false); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return fmt.Errorf("query %s: %w", name, err)
			}
			continue
		}
		slow := rng.IntN(40) == 0
		_, err := h.Mutate(context.Background(), engine.Call{Name: name}, func(tx *enginetest.Tx) ([]byte, error) {
			rng := rand.New(rand.NewPCG(seed, 2))
			if err := p.steps(tx, rng, steps, 0); err != nil {
				return nil, err
			}
			if slow { // too slow for a turn at the first conflict
				for start := time.Now(); time.Since(start) < 1200*time.Microsecond; {
					runtime.Gosched()
				}
			}
			if rng.IntN(15) == 0 {
				return nil, errChance
			}
			return nil, nil
		})
		if err != nil && !errors.Is(err, errChance) && !refused(err) {
			return fmt.Errorf("mutation %s: %w", name, err)
		}
	}
	return nil
}

// TestHistoriesAreSerializable runs random transactions on few documents from
// many goroutines, and from one, and replays each history in the order of its
// timestamps.
func TestHistoriesAreSerializable(t *testing.T) {
	seed := newSeed(t)
	for _, c := range []struct {
		name    string
		workers int
		rounds  int
		each    int
	}{
		{"alone", 1, 3, 400},
		{"few", 3, 4, 250},
		{"many", 24, 4, 60},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stats engine.Stats
			for round := range times(c.rounds) {
				rng := rand.New(rand.NewPCG(seed, uint64(c.workers)<<32|uint64(round)))
				fs := vfs.NewMem()
				// Groups of one and of many, caches of nothing and of everything: the
				// histories are serializable all the same.
				o := engine.Options{FS: fs, AggregateCacheBytes: 1 + rng.IntN(2)<<20, RowCacheBytes: 1 + rng.IntN(2)<<20}
				o = o.WithGroups([]int{1, 4, 512}[round%3], 1+round%2)
				db := enginetest.OpenWith(t, historySchema, o)
				h := enginetest.NewHistory(db, historySchema)
				p := &program{db: db}
				half := func() {
					var wg sync.WaitGroup
					for who := range c.workers {
						own := rand.New(rand.NewPCG(rng.Uint64(), 3))
						wg.Go(func() {
							if err := p.run(h, own, who, c.each/2); err != nil {
								t.Error(err)
							}
						})
					}
					wg.Wait()
					s := db.Stats()
					stats.Commits, stats.Conflicts, stats.Turns = stats.Commits+s.Commits, stats.Conflicts+s.Conflicts, stats.Turns+s.Turns
				}
				half()
				verify(t, db)
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				db = enginetest.OpenWith(t, historySchema, o)
				h.Rebase(db)
				p.db = db
				half()
				verify(t, db)
				if err := h.Check(); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
			}
			t.Logf("%d commits, %d conflicts, %d turns", stats.Commits, stats.Conflicts, stats.Turns)
			if c.workers > 1 && (stats.Turns == 0 || stats.Conflicts == stats.Turns) {
				t.Errorf("%d conflicts and %d turns: both kinds of repetition must happen", stats.Conflicts, stats.Turns)
			}
			if c.workers == 1 && stats.Conflicts != 0 {
				t.Errorf("%d conflicts of one goroutine with itself", stats.Conflicts)
			}
		})
	}
}

// TestScreensNeverLie runs random transactions while screens watch random
// queries, and checks every round against the history: all a screen shows is of
// one state, rounds never go back, and the last one is of the newest state.
func TestScreensNeverLie(t *testing.T) {
	seed := newSeed(t)
	for round := range times(4) {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		db := enginetest.OpenWith(t, historySchema, engine.Options{})
		h := enginetest.NewHistory(db, historySchema)
		p := &program{db: db}
		if err := p.run(h, rng, 99, 30); err != nil {
			t.Fatal(err)
		}
		ids := slices.Clone(p.ids)
		var writers, watchers sync.WaitGroup
		done := make(chan struct{})
		for who := range 4 {
			own := rand.New(rand.NewPCG(rng.Uint64(), 4))
			writers.Go(func() {
				if err := p.run(h, own, who, 250); err != nil {
					t.Error(err)
				}
			})
		}
		rounds := make([]int, 3)
		for who := range rounds {
			own := rand.New(rand.NewPCG(rng.Uint64(), 5))
			watchers.Go(func() {
				s := h.NewScreen()
				defer s.Close()
				add := func() {
					// Few keys, so that screens share queries.
					key := own.Uint64N(readKinds + 6)
					s.Add(own.Uint32N(6), fmt.Sprint("query ", key), func(tx *enginetest.Tx) error {
						rng := rand.New(rand.NewPCG(key, 6))
						q := &program{db: db, ids: ids}
						if key < readKinds {
							return q.readKind(int(key), tx, rng, false)
						}
						for range 1 + rng.IntN(3) {
							if err := q.read(tx, rng, false); err != nil {
								return err
							}
						}
						return nil
					})
				}
				for range 3 {
					add()
				}
				min, ended := engine.Timestamp(0), false
				for {
					if !ended && own.IntN(3) == 0 {
						min = db.Durable()
					}
					at, ok, err := s.Poll(min)
					if err != nil {
						t.Error(err)
						return
					}
					if ok {
						rounds[who]++
						if ended && at >= min {
							return
						}
						switch own.IntN(6) {
						case 0:
							add()
						case 1:
							s.Remove(own.Uint32N(6))
						}
						continue
					}
					if ended {
						<-s.Told()
						continue
					}
					select {
					case <-s.Told():
					case <-done:
						ended, min = true, db.Durable()
						add()
					}
				}
			})
		}
		writers.Wait()
		close(done)
		watchers.Wait()
		if err := h.Check(); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		t.Logf("rounds of the screens: %v", rounds)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
