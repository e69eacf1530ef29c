package engine_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// TestFullDisk: below the limit transactions that write are refused and nothing
// of them happens, at the limit they are not; all others go on.
func TestFullDisk(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		name  string
		o     engine.Options
		total uint64
		limit uint64 // the least room at which writes are taken
	}{
		{"by default a small disk", engine.Options{}, 20 * gib, gib},
		{"by default a large disk", engine.Options{}, 1000 * gib, 30 * gib},
		{"bytes alone", engine.Options{DiskFreeMin: 5000, DiskFreeMinRatio: -1}, 1000 * gib, 5000},
		{"ratio alone", engine.Options{DiskFreeMin: -1, DiskFreeMinRatio: 0.5}, 1000, 500},
		{"off", engine.Options{DiskFreeMin: -1, DiskFreeMinRatio: -1}, 1000 * gib, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := enginetest.NewClock(epoch)
			disk := enginetest.NewDisk(vfs.NewMem(), c.total)
			c.o.FS, c.o.Clock = disk, clock
			db := enginetest.OpenWith(t, schema, c.o)
			counters := db.Table("counters")
			id := insert(t, db, "counters", fields("name", "a", "n", 1))
			free := func(n uint64) {
				disk.SetFree(n)
				clock.Advance(time.Second)
			}
			write := func() error {
				_, err := db.Mutate(context.Background(), engine.Call{Name: "write"}, adder(db, id))
				return err
			}
			free(c.limit)
			if err := write(); err != nil {
				t.Fatalf("at the limit: %v", err)
			}
			if c.limit == 0 {
				return
			}
			free(c.limit - 1)
			commits := db.Stats().Commits
			for range 20 { // a function that could have gone to the committer's turn, too
				if err := write(); !errors.Is(err, engine.ErrDiskFull) {
					t.Fatalf("one byte below the limit: %v", err)
				}
			}
			if n := db.Stats().Commits - commits; n != 0 {
				t.Errorf("%d transactions committed", n)
			}
			if err := db.Evolve(t.Context(), schema); !errors.Is(err, engine.ErrDiskFull) {
				t.Errorf("a change of the schema gives %v", err)
			}
			if _, err := db.Mutate(context.Background(), engine.Call{Name: "reads"}, func(tx *engine.Tx) ([]byte, error) {
				_, _, err := tx.Get(counters, id)
				return nil, err
			}); err != nil {
				t.Errorf("a mutation that writes nothing: %v", err)
			}
			if n := number(t, db, "counters", id); n != 2 {
				t.Errorf("a query sees %v, want 2", n)
			}
			if err := db.SweepOnce(); err != nil {
				t.Errorf("removing what is old: %v", err)
			}
			s, err := db.Statistics(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want := (engine.DiskStatistics{Free: c.limit - 1, Total: c.total, Min: c.limit, Full: true}); s.Disk != want {
				t.Errorf("statistics say %+v, want %+v", s.Disk, want)
			}
			// A little more than the limit, so that it does not go back and forth.
			free(c.limit + c.limit/16 + 1)
			if err := write(); err != nil {
				t.Errorf("with room again: %v", err)
			}
			if n := number(t, db, "counters", id); n != 3 {
				t.Errorf("the document is %v, want 3", n)
			}
			verify(t, db)
		})
	}
}

// TestFullDiskIsNoticedByWhatIsWritten: also when no second passes, and without
// asking for every transaction.
func TestFullDiskIsNoticedByWhatIsWritten(t *testing.T) {
	disk := enginetest.NewDisk(vfs.NewMem(), 1000<<30)
	db := enginetest.OpenWith(t, schema, engine.Options{FS: disk, Clock: enginetest.NewClock(epoch)})
	opened := disk.Asked()
	for range 100 {
		insert(t, db, "counters", fields("name", "a", "n", 1))
	}
	if n := disk.Asked() - opened; n > 1 {
		t.Errorf("100 small transactions asked %d times", n)
	}
	disk.SetFree(0)
	big := value.Object(value.Field{Name: "bytes", Value: value.Bytes(make([]byte, 1_000_000))})
	written := 0
	for ; written < 40; written++ {
		_, err := db.Mutate(context.Background(), engine.Call{Name: "big"}, func(tx *engine.Tx) ([]byte, error) {
			return nil, mustInsert(tx, db.Table("counters"), big)
		})
		if errors.Is(err, engine.ErrDiskFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// A document and its change record are 2 MB.
	if written == 0 || written > 12 {
		t.Errorf("%d documents of 1 MB were written after the disk was full, want about 8", written)
	}
}

// TestOpenOnAFullDisk: it opens, is read, builds what is new when there is room,
// and gives up its ballast.
func TestOpenOnAFullDisk(t *testing.T) {
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	id := insert(t, db, "counters", fields("name", "a", "n", 1))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	clock := enginetest.NewClock(epoch)
	disk := enginetest.NewDisk(fs, 100<<30)
	disk.SetFree(1 << 20)
	more := engine.Schema{Tables: []engine.TableDef{{Name: "counters", Indexes: []engine.IndexDef{{Name: "by_n", Fields: []string{"n"}}}}}}
	db = enginetest.OpenWith(t, more, engine.Options{FS: disk, Clock: clock})
	if n := number(t, db, "counters", id); n != 1 {
		t.Errorf("the document is %v, want 1", n)
	}
	if b := db.Building(); len(b) != 1 || b[0].Err != nil {
		t.Errorf("building %v, want the new index", b)
	}
	disk.SetFree(50 << 30)
	built := make(chan error)
	go func() { built <- db.WaitBuilt(context.Background()) }()
	for waiting := true; waiting; {
		clock.Advance(time.Second) // the builder tries again after one
		select {
		case err := <-built:
			if err != nil {
				t.Error(err)
			}
			waiting = false
		default:
		}
	}
	verify(t, db)
}

// TestBallast: a file takes room while there is plenty, and is given up by an
// opening that finds less room than it takes.
func TestBallast(t *testing.T) {
	dir := t.TempDir()
	disk := enginetest.NewDisk(vfs.Default, 100<<30)
	name := filepath.Join(dir, "BALLAST")
	for _, c := range []struct {
		what  string
		free  uint64
		bytes int64
		want  bool
	}{
		{"less than ten times its room", 10<<20 - 1, 1 << 20, false},
		{"ten times its room", 10 << 20, 1 << 20, true},
		{"exactly its room", 1 << 20, 1 << 20, true},
		{"less than its room", 1<<20 - 1, 1 << 20, false},
		{"room again", 1 << 30, 1 << 20, true},
		{"not wanted any more", 1 << 30, -1, false},
	} {
		disk.SetFree(c.free)
		db, err := engine.Open(dir, schema, &engine.Options{FS: disk, BallastBytes: c.bytes})
		if err != nil {
			t.Fatalf("%s: %v", c.what, err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		_, err = os.Stat(name)
		if there := err == nil; there != c.want {
			if c.want {
				t.Logf("%s: there is no ballast; the file system may not be able to reserve room: %v", c.what, err)
				continue
			}
			t.Errorf("%s: ballast %v, want %v", c.what, there, c.want)
		}
	}
}
