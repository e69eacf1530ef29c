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

// crashLoad mutates a database from several goroutines and takes crash clones
// of its file system in the middle of it.
type crashLoad struct {
	fs  *enginetest.Crashable
	db  *engine.DB
	rng *rand.Rand // guarded by mu

	mu      sync.Mutex
	acked   map[string]engine.Timestamp // marker -> when
	crashes []crash
	left    int // acknowledgements until the next crash
}

// crash is what was known when the power went.
type crash struct {
	fs     *enginetest.Crashable
	acked  map[string]engine.Timestamp
	handed engine.Timestamp // the newest timestamp anybody had seen
	lost   int              // percent of unsynced data that is lost
}

// mark inserts a document that no other mutation does, moves a hot one, and
// now and then a large one, so that files are flushed and logs begun.
func (l *crashLoad) mark(name string, size int, call engine.Call) error {
	views, counters := l.db.Table("views"), l.db.Table("counters")
	r, err := l.db.Mutate(context.Background(), call, func(tx *engine.Tx) ([]byte, error) {
		if _, err := increment(l.db, "hot")(tx); err != nil {
			return nil, err
		}
		if _, err := tx.Insert(views, fields("path", name, "n", size%7)); err != nil {
			return nil, err
		}
		if size > 0 {
			big := value.Object(value.Field{Name: "name", Value: value.String("big")}, value.Field{Name: "bytes", Value: value.Bytes(make([]byte, size))})
			for d, err := range tx.Scan(counters.Index("by_name"), eq("big"), false) {
				if err != nil {
					return nil, err
				}
				return nil, tx.Replace(counters, d.ID, big)
			}
			return nil, mustInsert(tx, counters, big)
		}
		return nil, nil
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[name] = r.At
	if l.left--; l.left == 0 {
		l.crashLocked()
	}
	return nil
}

// crashLocked takes a clone while the other goroutines go on.
func (l *crashLoad) crashLocked() {
	c := crash{acked: map[string]engine.Timestamp{}, handed: l.db.Durable(), lost: []int{0, 100, l.rng.IntN(101)}[l.rng.IntN(3)]}
	for name, at := range l.acked {
		c.acked[name] = at
	}
	c.fs = l.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100 - c.lost, RNG: l.rng})
	l.crashes = append(l.crashes, c)
	l.left = 1 + l.rng.IntN(60)
}

// changes returns every effect on documents, as text, in the order of groups.
func changes(t *testing.T, db *engine.DB) (out []string, groups []engine.Timestamp) {
	t.Helper()
	for g, err := range db.Changes(context.Background(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range g.Changes {
			out = append(out, fmt.Sprint(g.At, c.At, c.Table, c.ID, c.Deleted, value.Size(c.Fields), string(value.AppendJSON(nil, c.Fields.Get("path"))), c.Fields.Get("n")))
			groups = append(groups, g.At)
		}
	}
	return out, groups
}

// TestCrashes: whatever part of unsynced data a crash leaves, what was
// acknowledged is there, what is there is the beginning of the order of
// commits, nothing is half written, indexes and aggregates are what rows say,
// time goes on, and requests that are sent again are executed once.
func TestCrashes(t *testing.T) {
	seed := newSeed(t)
	for round := range times(fewer(4, 2)) {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		workers := 1 + rng.IntN(6)
		o := engine.Options{AggregateCacheBytes: 1 + rng.IntN(2)<<20, RowCacheBytes: 1 + rng.IntN(2)<<20}
		if rng.IntN(2) == 0 {
			o.Clock = enginetest.NewClock(epoch) // stands still: the order is all that moves time
		}
		o = o.WithGroups([]int{1, 3, 512}[rng.IntN(3)], 1+rng.IntN(3))
		l := &crashLoad{fs: enginetest.NewCrashable(), rng: rng, acked: map[string]engine.Timestamp{}, left: 1 + rng.IntN(30)}
		o.FS = l.fs
		l.db = enginetest.OpenWith(t, schema, o)
		var wg sync.WaitGroup
		for w := range workers {
			own := rand.New(rand.NewPCG(rng.Uint64(), 5))
			wg.Go(func() {
				for i := range uint32(80) {
					size := 0
					if own.IntN(6) == 0 {
						size = own.IntN(120_000)
					}
					call := engine.Call{Name: "mark", Once: w%2 == 0, Client: client(w), Request: i}
					if err := l.mark(fmt.Sprintf("%d/%d", w, i), size, call); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		l.mu.Lock()
		l.crashLocked()
		l.mu.Unlock()
		whole, groups := changes(t, l.db)
		verify(t, l.db)
		if err := l.db.Close(); err != nil {
			t.Fatal(err)
		}
		for i, c := range l.crashes {
			name := fmt.Sprintf("round %d, crash %d of %d, %d workers, %d %% lost", round, i+1, len(l.crashes), workers, c.lost)
			recovered(t, name, schema, c, whole, groups, o)
		}
	}
}

// recovered opens what a crash has left, with a schema, and compares it with the
// whole order of changes, and the groups they are of.
func recovered(t *testing.T, name string, s engine.Schema, c crash, whole []string, groups []engine.Timestamp, o engine.Options) {
	t.Helper()
	o.FS = c.fs
	db := enginetest.OpenWith(t, s, o)
	defer db.Close()
	if at := db.Durable(); at <= c.handed {
		t.Errorf("%s: after the crash the newest state is at %d, before it was at %d", name, at, c.handed)
	}
	verify(t, db)
	got, _ := changes(t, db)
	if len(got) > len(whole) || !slices.Equal(got, whole[:len(got)]) {
		t.Fatalf("%s: the %d changes recovered are not the first of the %d there were", name, len(got), len(whole))
	}
	if n := len(got); n < len(whole) && groups[n] <= c.handed {
		t.Errorf("%s: %d was durable, and the group at %d is gone", name, c.handed, groups[n])
	}
	if n := len(got); n > 0 && n < len(whole) && groups[n] == groups[n-1] {
		t.Errorf("%s: the group at %d is there in part", name, groups[n])
	}
	there := map[string]int{}
	query(t, db, func(tx *engine.Tx) error {
		for d, err := range tx.Scan(db.Table("views").Index(engine.IndexByID), all, false) {
			if err != nil {
				return err
			}
			path, _ := d.Fields.Get("path").AsString()
			there[path]++
		}
		return nil
	})
	hot := counter(t, db, "hot")
	for path, n := range there {
		if n != 1 {
			t.Errorf("%s: %s is there %d times", name, path, n)
		}
	}
	for path, at := range c.acked {
		if there[path] == 0 {
			t.Errorf("%s: %s was acknowledged at %d and is gone", name, path, at)
		}
	}
	if int(hot) != len(there) {
		t.Errorf("%s: the hot document counts %v, there are %d marks", name, hot, len(there))
	}
	// Every request of a client with an even number is sent again, by the same
	// name: those that are there are answered, the others executed.
	l := &crashLoad{db: db, acked: map[string]engine.Timestamp{}, left: -1}
	for w := 0; w < 6; w += 2 {
		for i := range uint32(80) {
			if path := fmt.Sprintf("%d/%d", w, i); there[path] > 0 || i%10 == 0 {
				if err := l.mark(path, 0, engine.Call{Name: "mark", Once: true, Client: client(w), Request: i}); err != nil && !errors.Is(err, engine.ErrTooOld) {
					t.Errorf("%s: %s again: %v", name, path, err)
				}
				there[path] = 1
			}
		}
	}
	if n := counter(t, db, "hot"); int(n) != len(there) {
		t.Errorf("%s: after all requests were sent again the hot document counts %v, want %d", name, n, len(there))
	}
	for path, at := range l.acked {
		if was, ok := c.acked[path]; ok && was != at && evenWorker(path) {
			t.Errorf("%s: %s was acknowledged at %d, and again at %d", name, path, was, at)
		}
	}
	verify(t, db)
}

func evenWorker(path string) bool {
	w, _, _ := strings.Cut(path, "/")
	return (w[0]-'0')%2 == 0
}
