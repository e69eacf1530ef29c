package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// heard collects events of one kind.
type heard[T any] struct {
	mu   sync.Mutex
	list []T
}

func (h *heard[T]) add(e T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, e)
}

// take returns what was heard since the last call.
func (h *heard[T]) take() []T {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := h.list
	h.list = nil
	return out
}

// TestConflictsAreTold: over which document of which table, in the document
// itself, an index or an aggregate, who wrote and who lost, how often, and what
// becomes of it.
func TestConflictsAreTold(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	var conflicts heard[engine.ConflictEvent]
	db := enginetest.OpenWith(t, schema, engine.Options{
		Clock: clock, FunctionTimeMax: time.Hour, Events: engine.Events{Conflict: conflicts.add},
	})
	counters, views := db.Table("counters"), db.Table("views")
	hot := insert(t, db, "counters", fields("name", "hot", "n", 0))
	view := insert(t, db, "views", fields("path", "/", "n", 0))
	write := func(tx *engine.Tx) error {
		_, err := adder(db, hot)(tx)
		return errors.Join(err, tx.Patch(views, view, fields("n", 1)))
	}
	for _, c := range []struct {
		name  string
		read  func(tx *engine.Tx) error
		slow  bool
		table string
		index string
		id    value.ID
		path  engine.ConflictPath
	}{
		{"a document", func(tx *engine.Tx) error { _, _, err := tx.Get(counters, hot); return err }, false, "counters", "", hot, engine.PathTurn},
		{"a slow one", func(tx *engine.Tx) error { _, _, err := tx.Get(counters, hot); return err }, true, "counters", "", hot, engine.PathRetry},
		{"an index", func(tx *engine.Tx) error {
			for _, err := range tx.Scan(counters.Index("by_name"), eq("hot"), false) {
				return err
			}
			return nil
		}, false, "counters", "by_name", hot, engine.PathTurn},
	} {
		t.Run(c.name, func(t *testing.T) {
			runs := 0
			_, err := db.Mutate(context.Background(), engine.Call{Name: "loser " + c.name}, func(tx *engine.Tx) ([]byte, error) {
				if runs++; runs == 1 {
					if err := c.read(tx); err != nil {
						return nil, err
					}
					if _, err := db.Mutate(context.Background(), engine.Call{Name: "winner"}, func(tx *engine.Tx) ([]byte, error) {
						return nil, write(tx)
					}); err != nil {
						return nil, err
					}
				}
				if c.slow {
					clock.Advance(time.Minute)
				}
				return nil, mustInsert(tx, counters, fields("name", c.name, "n", runs))
			})
			if err != nil {
				t.Fatal(err)
			}
			want := []engine.ConflictEvent{{
				Function: "loser " + c.name, Writer: "winner", Table: c.table, Index: c.index, ID: c.id.String(), Attempt: 1, Path: c.path,
			}}
			if diff := cmp.Diff(want, conflicts.take()); diff != "" {
				t.Error(diff)
			}
		})
	}
	// An aggregate: what is counted is a range of its entries.
	runs := 0
	mutate(t, db, func(tx *engine.Tx) error {
		if runs++; runs == 1 {
			if _, err := tx.Count(views.Aggregate("paths"), eq("/")); err != nil {
				return err
			}
			insert(t, db, "views", fields("path", "/", "n", 5))
		}
		return mustInsert(tx, counters, fields("name", "x", "n", runs))
	})
	if got := conflicts.take(); len(got) != 1 || got[0].Table != "views" || got[0].Index != "paths" || got[0].ID == "" {
		t.Errorf("a count that lost told %+v", got)
	}
	// Who waits for a slow one hears of it, too.
	waited := make(chan error, 1)
	runs = 0
	if _, err := db.Mutate(context.Background(), engine.Call{Name: "slow"}, func(tx *engine.Tx) ([]byte, error) {
		runs++
		_, err := adder(db, hot)(tx)
		clock.Advance(time.Second)
		switch runs {
		case 1:
			mutate(t, db, write)
		case 2:
			go func() {
				_, err := db.Mutate(context.Background(), engine.Call{Name: "other"}, adder(db, hot))
				waited <- err
			}()
			for db.Stats().Held < 1 {
				runtime.Gosched()
			}
		}
		return nil, err
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	parked := false
	for _, e := range conflicts.take() {
		if e.Path == engine.PathParked {
			parked = true
			e.Attempt = 0
			if want := (engine.ConflictEvent{Function: "other", Writer: "slow", Table: "counters", ID: hot.String(), Path: engine.PathParked}); e != want {
				t.Errorf("told %+v, want %+v", e, want)
			}
		}
	}
	if !parked {
		t.Error("nobody was told who waits")
	}
}

// TestSlowFunctionsAndLimitsAreTold: at the threshold and one before it.
func TestSlowFunctionsAndLimitsAreTold(t *testing.T) {
	clock := enginetest.NewClock(epoch)
	var slow heard[engine.SlowEvent]
	var limits heard[engine.LimitEvent]
	db := enginetest.OpenWith(t, schema, engine.Options{
		Clock: clock, FunctionTimeMax: time.Minute, Events: engine.Events{Slow: slow.add, Limit: limits.add},
	})
	counters := db.Table("counters")
	for _, c := range []struct {
		took time.Duration
		want []engine.SlowEvent
	}{
		{15 * time.Second, nil},
		{15*time.Second + 1, []engine.SlowEvent{{Function: "f", Took: 15*time.Second + 1, Write: true}}},
	} {
		if _, err := db.Mutate(context.Background(), engine.Call{Name: "f"}, func(*engine.Tx) ([]byte, error) {
			clock.Advance(c.took)
			return nil, nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, slow.take()); diff != "" {
			t.Errorf("%v: %s", c.took, diff)
		}
	}
	query(t, db, func(*engine.Tx) error { clock.Advance(20 * time.Second); return nil })
	if diff := cmp.Diff([]engine.SlowEvent{{Function: "test", Took: 20 * time.Second}}, slow.take()); diff != "" {
		t.Errorf("a query: %s", diff)
	}
	told := make(chan struct{}, 8)
	set := db.NewQuerySet(func() { told <- struct{}{} })
	defer set.Close()
	set.Add(1, engine.LiveQuery{Key: "k", Name: "live", Run: func(*engine.Tx) []byte {
		clock.Advance(20 * time.Second)
		return nil
	}})
	for _, ok := set.Poll(0); !ok; _, ok = set.Poll(0) {
		<-told
	}
	if diff := cmp.Diff([]engine.SlowEvent{{Function: "live", Took: 20 * time.Second}}, slow.take()); diff != "" {
		t.Errorf("a live query: %s", diff)
	}
	const most = 16_000 * 8 / 10
	for n, want := range map[int][]engine.LimitEvent{
		most - 1: nil,
		most:     {{Function: "writer", Limit: "documents written", Used: most, Max: 16_000}},
	} {
		if _, err := db.Mutate(context.Background(), engine.Call{Name: "writer"}, func(tx *engine.Tx) ([]byte, error) {
			for i := range n {
				if err := mustInsert(tx, counters, fields("name", "x", "n", i)); err != nil {
					return nil, err
				}
			}
			return nil, nil
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, limits.take()); diff != "" {
			t.Errorf("%d documents: %s", n, diff)
		}
	}
}

// TestScansOverOldVersionsAreTold: a document that was changed often since
// memory was flushed makes a scan go over all its versions.
func TestScansOverOldVersionsAreTold(t *testing.T) {
	var scans heard[engine.ScanEvent]
	db := enginetest.OpenWith(t, schema, engine.Options{Events: engine.Events{Scan: scans.add}})
	counters := db.Table("counters")
	id := insert(t, db, "counters", fields("name", "hot", "n", 0))
	scan := func() {
		query(t, db, func(tx *engine.Tx) error {
			for _, err := range tx.Scan(counters.Index(engine.IndexByID), all, false) {
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	scan()
	if got := scans.take(); len(got) != 0 {
		t.Errorf("a scan of one document told %v", got)
	}
	before := db.Stats()
	for i := range 1_200 {
		mutate(t, db, func(tx *engine.Tx) error { return tx.Replace(counters, id, fields("name", "hot", "n", i)) })
	}
	scan()
	got := scans.take()
	if len(got) != 1 || got[0].Table != "counters" || got[0].Index != engine.IndexByID || got[0].Steps != 1 || got[0].Internal < 1_000 {
		t.Errorf("a scan over 1,200 versions told %+v", got)
	}
	s := db.Stats()
	if steps, internal := s.ScanSteps-before.ScanSteps, s.ScanInternalSteps-before.ScanInternalSteps; steps != 1 || internal < 1_000 {
		t.Errorf("statistics count %d steps and %d internal ones", steps, internal)
	}
}

// TestWhatHappensToTheStoreIsTold, to a listener and, in words, to the log.
func TestWhatHappensToTheStoreIsTold(t *testing.T) {
	var flushes heard[engine.FlushEvent]
	var disks heard[engine.DiskStatistics]
	var builds heard[engine.BuildEvent]
	var corrupt heard[engine.CorruptionEvent]
	var text bytes.Buffer
	var mu sync.Mutex
	log := slog.New(slog.NewTextHandler(lockedWriter{&mu, &text}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	clock := enginetest.NewClock(epoch)
	fs := enginetest.NewCrashable()
	disk := enginetest.NewDisk(fs, 100<<30)
	o := engine.Options{FS: disk, Clock: clock, Logger: log, Events: engine.Events{
		Flush: flushes.add, Disk: disks.add, Build: builds.add, Corruption: corrupt.add,
	}}
	db := enginetest.OpenWith(t, schema, o)
	// Not to be compressed, so that rows take the second half of the file.
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		b := make([]byte, 4000)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		insert(t, db, "counters", value.Object(value.Field{Name: "bytes", Value: value.Bytes(b)}, value.Field{Name: "name", Value: value.String("x")}))
	}
	flushes.take()
	if err := db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := flushes.take(); len(got) == 0 || got[0].Input < 100_000 || got[0].Output == 0 {
		t.Errorf("a flush told %+v", got)
	}

	more := schema
	more.Tables = append([]engine.TableDef{}, schema.Tables...)
	for i, table := range more.Tables {
		if table.Name == "counters" {
			more.Tables[i].Indexes = append([]engine.IndexDef{
				{Name: "by_n", Fields: []string{"n"}}, {Name: "one_name", Fields: []string{"name"}, Unique: true},
			}, table.Indexes...)
		}
	}
	if err := db.Evolve(t.Context(), more); err != nil {
		t.Fatal(err)
	}
	if err := db.WaitBuilt(t.Context()); !errors.Is(err, engine.ErrBuildFailed) {
		t.Errorf("two documents of one name fit a unique index: %v", err)
	}
	told := map[string]bool{} // index, whether it is ready
	for _, b := range builds.take() {
		told[b.Index] = b.Err == nil && !b.Retry && b.Table == "counters"
	}
	if diff := cmp.Diff(map[string]bool{"by_n": true, "one_name": false}, told); diff != "" {
		t.Errorf("builds told %s", diff)
	}

	for _, free := range []uint64{1 << 20, 1 << 20, 50 << 30, 50 << 30} {
		disk.SetFree(free)
		clock.Advance(time.Second)
		_, _ = db.Mutate(t.Context(), engine.Call{}, func(tx *engine.Tx) ([]byte, error) {
			return nil, mustInsert(tx, db.Table("counters"), fields("name", "x", "n", 1))
		})
	}
	if got := disks.take(); len(got) != 2 || !got[0].Full || got[1].Full {
		t.Errorf("a disk that was full and is not any more told %+v", got)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	// A damaged block is told of, its readers get ErrCorrupt, and the process goes
	// on with the rest.
	names, err := fs.List("db")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, ".sst") {
			b := readFile(t, fs, "db/"+name)
			b[len(b)*3/4] ^= 1
			writeFile(t, fs, "db/"+name, b)
		}
	}
	db = enginetest.OpenWith(t, schema, o)
	if _, err := db.Hash(t.Context()); !errors.Is(err, engine.ErrCorrupt) {
		t.Errorf("reading damaged files gives %v", err)
	}
	if got := corrupt.take(); len(got) == 0 || !errors.Is(got[0].Err, engine.ErrCorrupt) || !strings.Contains(got[0].Path, ".sst") {
		t.Errorf("damage told %+v", got)
	}
	insert(t, db, "views", fields("path", "/still", "n", 1))

	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{
		`level=DEBUG msg="memory was written to files"`, `level=INFO msg="an index is ready" table=counters index=by_n`,
		`level=ERROR msg="an index cannot be built, the rest goes on without it" table=counters index=one_name`,
		`level=ERROR msg="the disk is nearly full`, `level=INFO msg="the disk has room again`, `level=ERROR msg="a file of the store is corrupt`,
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the log lacks %s", want)
		}
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// TestEveryEventHasListeners: two listeners both hear each event, in order, and
// none is called where there is none.
func TestEveryEventHasListeners(t *testing.T) {
	var said []string
	listener := func(name string) engine.Events {
		return engine.Events{
			Conflict:   func(engine.ConflictEvent) { said = append(said, name+" conflict") },
			Slow:       func(engine.SlowEvent) { said = append(said, name+" slow") },
			Limit:      func(engine.LimitEvent) { said = append(said, name+" limit") },
			Scan:       func(engine.ScanEvent) { said = append(said, name+" scan") },
			Stray:      func(engine.StrayEvent) { said = append(said, name+" stray") },
			Build:      func(engine.BuildEvent) { said = append(said, name+" build") },
			Flush:      func(engine.FlushEvent) { said = append(said, name+" flush") },
			Disk:       func(engine.DiskStatistics) { said = append(said, name+" disk") },
			Corruption: func(engine.CorruptionEvent) { said = append(said, name+" corruption") },
		}
	}
	call := func(e engine.Events) {
		e.Conflict(engine.ConflictEvent{})
		e.Slow(engine.SlowEvent{})
		e.Limit(engine.LimitEvent{})
		e.Scan(engine.ScanEvent{})
		e.Stray(engine.StrayEvent{})
		e.Build(engine.BuildEvent{})
		e.Flush(engine.FlushEvent{})
		e.Disk(engine.DiskStatistics{})
		e.Corruption(engine.CorruptionEvent{})
	}
	kinds := []string{"conflict", "slow", "limit", "scan", "stray", "build", "flush", "disk", "corruption"}
	var want []string
	for _, k := range kinds {
		want = append(want, "a "+k, "b "+k)
	}
	call(listener("a").With(listener("b")))
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
	for _, e := range []engine.Events{listener("c").With(engine.Events{}), engine.Events{}.With(listener("c"))} {
		said = nil
		call(e)
		if len(said) != len(kinds) || said[0] != "c conflict" {
			t.Errorf("one listener alone hears %v", said)
		}
	}
	// A log that takes nothing is no listener.
	if got := fmt.Sprint(engine.LogEvents(slog.New(slog.DiscardHandler))); got != fmt.Sprint(engine.Events{}) {
		t.Errorf("a silent log listens: %s", got)
	}
}
