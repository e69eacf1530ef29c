package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// TestLogErrorEndsAcknowledgements: once the write-ahead log fails, Fatal is
// called, nothing is acknowledged any more and nothing undurable is shown, also
// when the disk seems well again. The folder opens with all that was
// acknowledged.
func TestLogErrorEndsAcknowledgements(t *testing.T) {
	for _, kind := range []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileSyncData} {
		t.Run(fmt.Sprint("op=", int(kind)), func(t *testing.T) {
			fs := enginetest.NewCrashable()
			var armed atomic.Bool
			broken := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				logOp := op.Kind == kind || kind == errorfs.OpFileSyncData && op.Kind == errorfs.OpFileSyncTo
				if armed.Load() && logOp && strings.HasSuffix(op.Path, ".log") {
					armed.Store(false) // one error is enough
					return errorfs.ErrInjected
				}
				return nil
			}))
			failed := make(chan error, 1)
			clock := enginetest.NewClock(time.Unix(1_800_000_000, 0))
			more := engine.Schema{Tables: append([]engine.TableDef{{Name: "new"}}, schema.Tables...)}
			db, err := engine.Open("db", more, &engine.Options{FS: broken, Clock: clock, Fatal: func(err error) {
				select {
				case failed <- err:
				default:
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			const workers = 8
			var acked [workers]atomic.Int64
			var after atomic.Int64 // acknowledged by calls that began after Fatal
			var stopped atomic.Bool
			// A query that has time move on, without any commit, after the failure.
			ran := make(chan struct{}, 1000)
			set := db.NewQuerySet(func() {})
			set.Add(1, engine.LiveQuery{Key: "clock", Run: func(tx *engine.Tx) []byte {
				tx.WakeAt(tx.Now().Add(time.Second))
				ran <- struct{}{}
				return nil
			}})
			set.Poll(0)
			<-ran
			var wg sync.WaitGroup
			for w := range workers {
				wg.Go(func() {
					name := fmt.Sprint("c", w)
					for i := 1; ; i++ {
						late := stopped.Load()
						_, err := db.Mutate(context.Background(), engine.Call{Name: "increment"}, increment(db, name))
						if err == nil && late {
							after.Add(1)
						}
						if err != nil {
							if !errors.Is(err, engine.ErrFailed) {
								t.Errorf("mutation on a broken log: %v", err)
							}
							return
						}
						acked[w].Store(int64(i))
						if w == 0 && i == 50 {
							armed.Store(true)
						}
					}
				})
			}
			if err := <-failed; !errors.Is(err, engine.ErrFailed) {
				t.Errorf("Fatal got %v", err)
			}
			stopped.Store(true)
			wg.Wait()
			if n := after.Load(); n > 0 {
				t.Errorf("%d mutations were acknowledged after the failure", n)
			}
			// Nothing new is shown, nothing that was shown is gone.
			shown := db.Durable()
			for range 100 {
				clock.Advance(time.Second)
				if _, err := db.Mutate(context.Background(), engine.Call{Name: "late"}, increment(db, "late")); !errors.Is(err, engine.ErrFailed) {
					t.Errorf("a mutation after the failure gives %v", err)
				}
			}
			if at := db.Durable(); at != shown {
				t.Errorf("the durable state moved from %d to %d after the failure", shown, at)
			}
			for w := range workers {
				if n := counter(t, db, fmt.Sprint("c", w)); n < float64(acked[w].Load()) {
					t.Errorf("a query sees %v, %d were acknowledged", n, acked[w].Load())
				}
			}
			if n := counter(t, db, "late"); n != 0 {
				t.Errorf("a query sees what was never acknowledged: %v", n)
			}
			if err := db.Close(); err == nil {
				t.Log("Close says nothing of the failure")
			}

			db = enginetest.OpenWith(t, schema, engine.Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})})
			verify(t, db)
			for w := range workers {
				// One more than acknowledged may have reached the disk.
				n, want := counter(t, db, fmt.Sprint("c", w)), float64(acked[w].Load())
				if n != want && n != want+1 {
					t.Errorf("after the failure c%d is %v, %v were acknowledged", w, n, want)
				}
			}
		})
	}
}

// TestOpenOnABrokenLog fails the first writes to the log of an opening, one at a
// time: Open says so and leaves nothing running.
func TestOpenOnABrokenLog(t *testing.T) {
	fs := enginetest.NewCrashable()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	insert(t, db, "counters", fields("name", "a", "n", 1))
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for n := range int32(4) {
		before := goleak.IgnoreCurrent()
		own := fs.CrashClone(vfs.CrashCloneCfg{})
		var writes atomic.Int32
		broken := errorfs.Wrap(own, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if strings.HasSuffix(op.Path, ".log") && op.Kind == errorfs.OpFileWrite && writes.Add(1) == n+1 {
				return errorfs.ErrInjected
			}
			return nil
		}))
		more := engine.Schema{Tables: append([]engine.TableDef{{Name: "new"}}, schema.Tables...)}
		db, err := engine.Open("db", more, &engine.Options{FS: broken, Fatal: func(error) {}})
		if err == nil {
			_ = db.Close()
		} else {
			refused++
		}
		noneSince(t, before)
		after := enginetest.OpenWith(t, schema, engine.Options{FS: own.CrashClone(vfs.CrashCloneCfg{})})
		if r := verify(t, after); r.Documents != 1 {
			t.Errorf("write %d: %d documents are there", n, r.Documents)
		}
		if err := after.Close(); err != nil {
			t.Error(err)
		}
	}
	if refused < 2 {
		t.Errorf("%d openings were refused, want those whose catalog or first state could not be written", refused)
	}
}

// The second process of TestDiskErrors gets its folder and what fails through
// the environment.
const (
	failingFolder = "HALCYON_ENGINE_TEST_FOLDER"
	failingDisk   = "HALCYON_ENGINE_TEST_DISK"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(failingFolder); dir != "" {
		writeUntilItFails(dir)
		return
	}
	if dir := os.Getenv(killFolder); dir != "" {
		writeUntilKilled(dir)
		return
	}
	os.Exit(m.Run())
}

// disk is what fails on the disk of a process, and from which operation on.
type disk struct {
	name    string
	failure syscall.Errno
	forEver bool // and not once
	reads   bool // operations that only read count and fail, too
}

var disks = []disk{
	{"a write fails", syscall.EIO, false, false},
	{"all writes fail", syscall.EIO, true, false},
	{"the disk is full for a moment", syscall.ENOSPC, false, false},
	{"the disk is full", syscall.ENOSPC, true, false},
	{"anything fails", syscall.EIO, false, true},
}

// from returns a file system on which the nth operation fails, of those that may.
func (d disk) from(n int64) vfs.FS {
	var count atomic.Int64
	return errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileClose || !d.reads && op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
			return nil
		}
		if i := count.Add(1); i == n || i > n && d.forEver {
			return &os.PathError{Op: "test", Path: op.Path, Err: d.failure}
		}
		return nil
	}))
}

// failingCalls is how many commits a process on a failing disk tries: enough to
// have files flushed and logs begun.
const failingCalls = 40

// writeUntilItFails opens the folder on a failing disk and commits. It prints a
// line for every commit that was acknowledged.
func writeUntilItFails(dir string) {
	var kind int
	var n int64
	if _, err := fmt.Sscan(os.Getenv(failingDisk), &kind, &n); err != nil {
		panic(err)
	}
	db, err := engine.Open(filepath.Join(dir, "db"), schema, &engine.Options{FS: disks[kind].from(n)})
	if err != nil {
		fmt.Println("open:", err)
		return
	}
	for i := range failingCalls {
		n, _, err := killCommit(db, 0, i, 200_000)
		if err != nil {
			fmt.Println("commit:", err)
			if errors.Is(err, engine.ErrFailed) {
				return
			}
			continue
		}
		fmt.Println("acked", 0, i, n)
	}
	fmt.Println("close:", db.Close())
}

// TestDiskErrors has processes whose disk fails at some operation while they
// create a folder or use it. However they end, the folder opens afterwards and
// has what was acknowledged, and at most one commit more.
func TestDiskErrors(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	for kind, d := range disks {
		t.Run(d.name, func(t *testing.T) {
			failed := 0
			// Some operations may fail unnoticed: that of a file which is no longer needed, say.
			for i := 0; i < times(4) || failed == 0 && i < 40; i++ {
				dir := t.TempDir()
				n := 1 + rng.IntN(30*(1+i%4)) // more often at the beginning
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				c := exec.CommandContext(ctx, self)
				c.Cancel = func() error { return c.Process.Signal(syscall.SIGQUIT) } // and say where it hangs
				c.WaitDelay = 20 * time.Second
				c.Env = append(os.Environ(), failingFolder+"="+dir, fmt.Sprint(failingDisk, "=", kind, " ", n))
				// Pebble may end the process in its own way.
				out, err := c.Output()
				if late := ctx.Err(); late != nil {
					var exit *exec.ExitError
					errors.As(err, &exit)
					t.Errorf("operation %d failed, and the process did not end:\n%s", n, exit.Stderr)
				}
				cancel()
				acked := acknowledged(strings.Split(string(out), "\n"))
				if len(acked) < failingCalls || err != nil || !strings.Contains(string(out), "close: <nil>") {
					failed++
				}
				db, err := engine.Open(filepath.Join(dir, "db"), schema, nil)
				if err != nil {
					t.Errorf("operation %d failed, and then the folder does not open: %v\n%s", n, err, out)
					continue
				}
				there, err := inspect(db)
				if err != nil {
					t.Errorf("operation %d failed: %v\n%s", n, err, out)
				}
				for _, m := range acked {
					if !slices.Contains(there, m) {
						t.Errorf("operation %d failed: %v was acknowledged and is gone\n%s", n, m, out)
					}
				}
				if len(there) > len(acked)+1 {
					t.Errorf("operation %d failed: %d commits were acknowledged, %d are there\n%s", n, len(acked), len(there), out)
				}
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
			if failed == 0 {
				t.Error("no process noticed its disk failing")
			}
		})
	}
}
