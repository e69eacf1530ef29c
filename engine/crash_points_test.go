package engine_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// crashPoint is a place at which the power goes.
type crashPoint struct {
	name string
	// at says whether an operation on the file system is at the place.
	at func(op errorfs.Op) bool
	// onCommit is called with what takes the power, between a group that is
	// durable and the answer to its call.
	onCommit func(p *poweredLoad)
	// meanwhile is done while mutations go on.
	meanwhile func(t *testing.T, p *poweredLoad)
	crashes   int // how many there must be at least
}

// poweredLoad is a load whose power can be taken.
type poweredLoad struct {
	crashLoad
	base      uint64        // commits before the load
	committed atomic.Uint64 // of the load, as far as they are durable
	idle      atomic.Int64  // workers that have ended
	armed     atomic.Bool
	most      int // crashes that are still taken; guarded by mu
}

// takePower notes what the disk has at this moment.
func (p *poweredLoad) takePower() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.most > 0 && p.db != nil {
		p.most--
		p.crashLocked()
		p.left = -1 // here alone
	}
}

func logFile(op errorfs.Op) bool   { return strings.HasSuffix(op.Path, ".log") }
func tableFile(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".sst") }

// switchSchema has an index, an aggregate and a ranking more than schema, on the
// table whose documents every mutation moves.
var switchSchema = engine.Schema{Tables: []engine.TableDef{
	schema.Tables[0],
	{
		Name:       "counters",
		Indexes:    []engine.IndexDef{schema.Tables[1].Indexes[0], {Name: "by_n", Fields: []string{"n"}}},
		Aggregates: []engine.AggregateDef{{Name: "ns", GroupBy: []string{"name"}, Sum: "n", Ranked: true}},
	},
}}

// crashPoints are those of the design, and those that Pebble adds.
var crashPoints = []crashPoint{
	{name: "before log", crashes: 4, at: func(op errorfs.Op) bool { return logFile(op) && op.Kind == errorfs.OpFileWrite }},
	{name: "before sync", crashes: 4, at: func(op errorfs.Op) bool {
		return logFile(op) && (op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo)
	}},
	{name: "before ack", crashes: 4, onCommit: (*poweredLoad).takePower},
	{name: "between two groups in flight", crashes: 4, onCommit: func(p *poweredLoad) {
		// This one is durable and not answered; another is to be applied. Each
		// group has one commit here.
		for n := p.base + p.committed.Add(1); p.idle.Load() == 0; runtime.Gosched() {
			if p.db.Stats().Commits > n {
				p.takePower()
				return
			}
		}
	}},
	{name: "during backfill switch", crashes: 3, at: logFile, meanwhile: func(t *testing.T, p *poweredLoad) {
		for i := range 4 {
			if err := p.db.Evolve(t.Context(), []engine.Schema{switchSchema, schema}[i%2]); err != nil {
				t.Error(err)
			}
			waitBuilt(t, p.db)
		}
	}},
	{name: "during checkpoint", crashes: 6, at: func(op errorfs.Op) bool { return strings.HasPrefix(op.Path, "copy") }, meanwhile: func(t *testing.T, p *poweredLoad) {
		for i := range 3 {
			if _, err := p.db.Checkpoint(t.Context(), fmt.Sprint("copy", i)); err != nil {
				t.Error(err)
			}
		}
	}},
	{name: "during flush and compaction", crashes: 4, at: tableFile, meanwhile: func(t *testing.T, p *poweredLoad) {
		for range 3 {
			if err := p.db.Compact(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}},
	{name: "during a change of the list of files", crashes: 2, at: func(op errorfs.Op) bool {
		return strings.Contains(op.Path, "MANIFEST") || strings.Contains(op.Path, "marker")
	}, meanwhile: func(t *testing.T, p *poweredLoad) {
		for range 3 {
			if err := p.db.Compact(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}},
}

// TestCrashPoints takes the power at each of the places, several times, while
// mutations go on. What is found then is what TestCrashes asks for, and copies
// that have their name are whole.
func TestCrashPoints(t *testing.T) {
	seed := newSeed(t)
	for i, point := range crashPoints {
		t.Run(point.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			p := &poweredLoad{most: times(fewer(10, 6))}
			p.fs, p.rng, p.acked, p.left = enginetest.NewCrashable(), rng, map[string]engine.Timestamp{}, -1
			switching := point.name == "during backfill switch"
			p.armed.Store(!switching)
			var self atomic.Pointer[engine.DB]
			every := int64(1 + rng.IntN(3))
			var ops atomic.Int64
			o := engine.Options{FS: errorfs.Wrap(p.fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if point.at != nil && p.armed.Load() && point.at(op) && ops.Add(1)%every == 0 {
					p.takePower()
				}
				return nil
			}))}.WithGroups([]int{1, 512}[rng.IntN(2)], 2)
			if point.name == "between two groups in flight" {
				o = o.WithGroups(1, 2)
			}
			if switching {
				// From where everything is filled until the commit that says so.
				o = o.WithBuildHook(func() {
					if db := self.Load(); db != nil {
						near := false
						for _, b := range db.Building() {
							near = near || b.Total > 0 && b.Done >= b.Total-1
						}
						p.armed.Store(near)
					}
				})
			}
			db := enginetest.OpenWith(t, schema, o)
			p.mu.Lock()
			p.db = db
			p.mu.Unlock()
			self.Store(db)
			mutate(t, db, func(tx *engine.Tx) error {
				for i := range 600 {
					if err := mustInsert(tx, db.Table("counters"), fields("name", fmt.Sprint("n", i%7), "n", i)); err != nil {
						return err
					}
				}
				return nil
			})
			p.base = db.Stats().Commits
			p.run(t, point)
			db.Close()
			whole, groups := p.history(t)
			p.mu.Lock()
			crashes := p.crashes
			p.mu.Unlock()
			if len(crashes) < point.crashes {
				t.Errorf("the power went %d times, want at least %d", len(crashes), point.crashes)
			}
			for i, c := range crashes {
				s := []engine.Schema{schema, switchSchema}[i%2]
				copies := p.copies(t, c.fs)
				recovered(t, fmt.Sprintf("crash %d of %d, %d %% lost", i+1, len(crashes), c.lost), s, c, whole, groups, engine.Options{})
				for _, name := range copies {
					copied := openCopy(t, c.fs, name)
					verify(t, copied)
					if got, _ := changes(t, copied); len(got) > len(whole) || strings.Join(got, "\n") != strings.Join(whole[:len(got)], "\n") {
						t.Errorf("crash %d: %s has %d changes that are not the first ones", i+1, name, len(got))
					}
					if err := copied.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

// run mutates from several goroutines while the point's own work is done, once
// at least and until it has ended.
func (p *poweredLoad) run(t *testing.T, point crashPoint) {
	const workers, atLeast, atMost = 3, 30, 80
	var wg sync.WaitGroup
	ended := make(chan struct{})
	for w := range workers {
		own := rand.New(rand.NewPCG(uint64(w), 5))
		wg.Go(func() {
			defer p.idle.Add(1)
			for i := range uint32(atMost) {
				if i >= atLeast {
					select {
					case <-ended:
						return
					default:
					}
				}
				call := engine.Call{Name: "mark", Once: w%2 == 0, Client: client(w), Request: i}
				if point.onCommit != nil {
					call.OnCommit = func(engine.Receipt) { point.onCommit(p) }
				}
				size := 0
				if own.IntN(6) == 0 {
					size = own.IntN(60_000)
				}
				if err := p.mark(fmt.Sprintf("%d/%d", w, i), size, call); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	if point.meanwhile != nil {
		point.meanwhile(t, p)
	}
	close(ended)
	wg.Wait()
}

// history returns the whole order of changes of a database that was closed.
func (p *poweredLoad) history(t *testing.T) ([]string, []engine.Timestamp) {
	t.Helper()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: p.fs})
	defer db.Close()
	verify(t, db)
	return changes(t, db)
}

// copies returns the checkpoints on a disk that have their name.
func (p *poweredLoad) copies(t *testing.T, fs vfs.FS) (out []string) {
	t.Helper()
	names, err := fs.List("")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "copy") && !strings.HasSuffix(name, ".partial") {
			out = append(out, name)
		}
	}
	return out
}
