package engine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

func hash(t *testing.T, db *engine.DB) engine.Hash {
	t.Helper()
	h, err := db.Hash(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// openCopy opens a checkpoint as its own database.
func openCopy(t *testing.T, fs vfs.FS, dir string) *engine.DB {
	t.Helper()
	db, err := engine.Open(dir, schema, &engine.Options{FS: fs, Fatal: func(err error) { t.Errorf("the copy failed: %v", err) }})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// TestCheckpointWhileWriting takes checkpoints in the middle of load, also of a
// disk that loses power right after: each one is the database as of its
// timestamp, with all that was acknowledged before it was asked for.
func TestCheckpointWhileWriting(t *testing.T) {
	fs := enginetest.NewCrashable()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	var acked [4]atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range acked {
		wg.Go(func() {
			for i := 1; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				_, err := db.Mutate(context.Background(), engine.Call{Name: "write"}, func(tx *engine.Tx) ([]byte, error) {
					if _, err := increment(db, fmt.Sprint("c", w))(tx); err != nil {
						return nil, err
					}
					return nil, mustInsert(tx, db.Table("views"), fields("path", strings.Repeat("x", 2000), "n", i))
				})
				if err != nil {
					t.Error(err)
					return
				}
				acked[w].Store(int64(i))
			}
		})
	}
	type taken struct {
		fs     *enginetest.Crashable
		c      engine.Checkpoint
		before [4]int64
	}
	var all []taken
	for i := range 5 {
		k := taken{}
		for w := range acked {
			for acked[w].Load() < int64(20*(i+1)) { // so that there is something new in each
				if t.Failed() {
					break
				}
				mutate(t, db, func(tx *engine.Tx) error { _, err := increment(db, "waiting")(tx); return err })
			}
			k.before[w] = acked[w].Load()
		}
		var err error
		if k.c, err = db.Checkpoint(context.Background(), fmt.Sprint("copy", i)); err != nil {
			t.Fatal(err)
		}
		if k.c.At > db.Durable() || k.c.Files < 4 || k.c.Bytes == 0 {
			t.Errorf("checkpoint %+v, durable is %d", k.c, db.Durable())
		}
		k.fs = fs.CrashClone(vfs.CrashCloneCfg{})
		all = append(all, k)
	}
	close(stop)
	wg.Wait()
	whole, _ := changes(t, db)
	for i, k := range all {
		copied := openCopy(t, k.fs, k.c.Dir)
		verify(t, copied)
		if at := copied.Durable(); at <= k.c.At {
			t.Errorf("copy %d begins at %d, it has commits to %d", i, at, k.c.At)
		}
		got, groups := changes(t, copied)
		if len(got) > len(whole) || strings.Join(got, "\n") != strings.Join(whole[:len(got)], "\n") {
			t.Fatalf("copy %d has %d changes that are not the first of %d", i, len(got), len(whole))
		}
		if last := groups[len(groups)-1]; last != k.c.At {
			t.Errorf("copy %d ends at %d, it is said to be at %d", i, last, k.c.At)
		}
		for w, n := range k.before {
			if have := counter(t, copied, fmt.Sprint("c", w)); have < float64(n) {
				t.Errorf("copy %d has %v of worker %d, %d were acknowledged before", i, have, w, n)
			}
		}
		// A copy goes its own way.
		insert(t, copied, "counters", fields("name", "own", "n", i))
		if err := copied.Close(); err != nil {
			t.Error(err)
		}
	}
	if n := counter(t, db, "own"); n != 0 {
		t.Errorf("a write to a copy is in the original: %v", n)
	}
	verify(t, db)
}

func TestCheckpointOfAQuietDatabaseIsEqual(t *testing.T) {
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	for i := range 200 {
		insert(t, db, "views", fields("path", fmt.Sprint("/", i%7), "n", i))
	}
	c, err := db.Checkpoint(context.Background(), "copies")
	if err != nil {
		t.Fatal(err)
	}
	want := hash(t, db)
	copied := openCopy(t, fs, c.Dir)
	defer copied.Close()
	if got := hash(t, copied); got.Content != want.Content || got.Versions != want.Versions || got.Documents != 200 {
		t.Errorf("the copy has hash %+v, the original %+v", got, want)
	}
	if _, err := db.Checkpoint(context.Background(), "copies"); !errors.Is(err, engine.ErrExists) {
		t.Errorf("a checkpoint to a folder that exists gives %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := db.Checkpoint(ctx, "other"); !errors.Is(err, context.Canceled) {
		t.Errorf("a checkpoint with a context that has ended gives %v", err)
	}
}

// TestCheckpointThatFails: an error at any operation on the copy is told,
// leaves no folder with its name, and does not harm the database.
func TestCheckpointThatFails(t *testing.T) {
	fs := enginetest.NewCrashable()
	var count, failAt atomic.Int64
	broken := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasPrefix(op.Path, "copy") && op.Kind != errorfs.OpFileClose && op.Kind != errorfs.OpRemoveAll && count.Add(1) == failAt.Load() {
			return errorfs.ErrInjected
		}
		return nil
	}))
	db := enginetest.OpenWith(t, schema, engine.Options{FS: broken})
	insert(t, db, "counters", fields("name", "a", "n", 1))
	failed := 0
	for n := int64(1); n < 200; n++ {
		count.Store(0)
		failAt.Store(n)
		dir := fmt.Sprint("copy", n)
		_, err := db.Checkpoint(context.Background(), dir)
		reached := count.Load() >= n
		failAt.Store(0)
		if _, statErr := fs.Stat(dir); err != nil && !strings.Contains(err.Error(), "sync") && statErr == nil {
			t.Errorf("operation %d failed with %v, and there is a folder", n, err)
		} else if err == nil {
			copied := openCopy(t, fs, dir)
			if v := counter(t, copied, "a"); v != 1 {
				t.Errorf("a checkpoint whose operation %d failed lacks what it should have: %v", n, v)
			}
			if err := copied.Close(); err != nil {
				t.Error(err)
			}
		} else {
			failed++
		}
		if !reached {
			break
		}
	}
	if failed < 10 {
		t.Errorf("%d operations failed a checkpoint", failed)
	}
	insert(t, db, "counters", fields("name", "b", "n", 1))
	verify(t, db)
}

// TestHash: equal for equal documents however they came about, different for
// any difference; layout, compaction and restart change nothing.
func TestHash(t *testing.T) {
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs, Seed: 1})
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	for i := range 50 {
		insert(t, db, "views", fields("path", "/", "n", i))
	}
	base := hash(t, db)
	set := func(n int) engine.Hash {
		t.Helper()
		mutate(t, db, func(tx *engine.Tx) error { return tx.Patch(db.Table("counters"), id, fields("n", n)) })
		return hash(t, db)
	}
	changed, back := set(2), set(1)
	if changed.Content == base.Content || changed.Versions == base.Versions {
		t.Error("a changed document does not change the hash")
	}
	if back.Content != base.Content || back.Versions == base.Versions {
		t.Errorf("changed back: content equal %v, versions equal %v; want true, false", back.Content == base.Content, back.Versions == base.Versions)
	}
	extra := insert(t, db, "views", fields("path", "/", "n", 1))
	if h := hash(t, db); h.Content == back.Content || h.Documents != 52 {
		t.Errorf("one more document does not change the hash: %d documents", h.Documents)
	}
	mutate(t, db, func(tx *engine.Tx) error { return tx.Delete(db.Table("views"), extra) })
	if err := db.Compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if h := hash(t, db); h.Content != back.Content || h.Versions != back.Versions {
		t.Error("removing it and compacting does not give the hash of before")
	}
	stats, err := db.Statistics(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(stats.Tables) != 2 || stats.Tables[0].Name != "counters" || stats.Tables[0].Documents != 1 || stats.Tables[1].Documents != 50 {
		t.Errorf("statistics of tables: %+v", stats.Tables)
	}
	if v := stats.Tables[1]; v.Bytes == 0 || v.IndexBytes["by_path"] == 0 || v.AggregateBytes["paths"] == 0 || stats.LogBytes == 0 {
		t.Errorf("after compaction the views take %+v, the log %d", v, stats.LogBytes)
	}
	if s := stats.Store; len(s.Levels) == 0 || s.DiskBytes == 0 || s.Compactions == 0 || s.Flushes == 0 {
		t.Errorf("statistics of the store: %+v", s)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	if h := hash(t, db); h.Content != back.Content || h.Versions != back.Versions {
		t.Error("a restart changes the hash")
	}
}
