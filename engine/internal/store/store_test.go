package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"github.com/halcyon-db/halcyon/engine/internal/store"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("HALCYON_STORE_TEST_OPEN"); dir != "" {
		// The second process of TestLockedByAnotherProcess.
		s, err := store.Open(dir, store.Options{})
		if err == nil {
			err = s.Close()
		}
		fmt.Println("locked:", errors.Is(err, store.ErrLocked), "error:", err)
		return
	}
	goleak.VerifyTestMain(m)
}

func open(t *testing.T, dir string, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeStore(t *testing.T, s *store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// write puts pairs durably.
func write(t *testing.T, s *store.Store, kv ...string) {
	t.Helper()
	b := s.NewBatch()
	for i := 0; i < len(kv); i += 2 {
		if err := b.Set([]byte(kv[i]), []byte(kv[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.ApplyDurably(b); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s *store.Store, key string) (string, bool) {
	t.Helper()
	snap := s.NewSnapshot()
	defer snap.Release()
	v, ok, err := snap.Get([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return string(v), ok
}

// TestApplyIsVisibleBeforeItIsDurable pins the one experimental call the
// project makes into Pebble: what was applied is visible to every snapshot
// made after, before Wait, and not to those made before; a crash may lose it
// until Wait has returned, and never after.
func TestApplyIsVisibleBeforeItIsDurable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	// While closed, writes to the log do not reach the disk.
	var gate atomic.Pointer[chan struct{}]
	held := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			if g := gate.Load(); g != nil {
				<-*g
			}
		}
		return nil
	}))
	s := open(t, "db", store.Options{FS: held})
	write(t, s, "before", "1")

	lost := 0
	const rounds = 50
	for i := range rounds {
		key, val := fmt.Sprint("key", i), fmt.Sprint("value", i)
		old := s.NewSnapshot()
		g := make(chan struct{})
		gate.Store(&g)
		b := s.NewBatch()
		if err := b.Set([]byte(key), []byte(val)); err != nil {
			t.Fatal(err)
		}
		p, err := s.Apply(b)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := read(t, s, key); !ok || got != val {
			t.Fatalf("after Apply %s is %q, %v", key, got, ok)
		}
		if _, ok, err := old.Get([]byte(key)); ok || err != nil {
			t.Fatalf("a snapshot made before Apply sees %s, %v", key, err)
		}
		old.Release()

		crashed := fs.CrashClone(vfs.CrashCloneCfg{})
		gate.Store(nil)
		close(g)
		if err := p.Wait(); err != nil {
			t.Fatal(err)
		}
		durable := fs.CrashClone(vfs.CrashCloneCfg{})
		if i%10 == 0 {
			after := open(t, "db", store.Options{FS: crashed})
			if _, ok := read(t, after, key); !ok {
				lost++
			}
			if v, ok := read(t, after, "before"); !ok || v != "1" {
				t.Errorf("a crash lost what was durable before: %q, %v", v, ok)
			}
			closeStore(t, after)
			after = open(t, "db", store.Options{FS: durable})
			if got, ok := read(t, after, key); !ok || got != val {
				t.Errorf("after Wait and a crash %s is %q, %v", key, got, ok)
			}
			closeStore(t, after)
		}
	}
	if lost != rounds/10 {
		t.Errorf("%d of %d crashes before Wait lost the batch: the test no longer holds the log back", lost, rounds/10)
	}
	closeStore(t, s)
}

// TestCrashKeepsAPrefix: whatever part of unsynced data survives, the batches
// that are there are the first ones, whole, and at least those waited for.
func TestCrashKeepsAPrefix(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	for round := range 12 {
		fs := vfs.NewCrashableMem()
		s := open(t, "db", store.Options{FS: fs})
		var pending []*store.Pending
		waited := 0
		n := 1 + rng.IntN(40)
		for i := range n {
			b := s.NewBatch()
			for part := range 3 {
				if err := b.Set(fmt.Appendf(nil, "k%d/%d", i, part), bytes.Repeat([]byte{byte(i)}, rng.IntN(3000))); err != nil {
					t.Fatal(err)
				}
			}
			p, err := s.Apply(b)
			if err != nil {
				t.Fatal(err)
			}
			pending = append(pending, p)
			if rng.IntN(4) == 0 {
				for ; waited <= i; waited++ {
					if err := pending[waited].Wait(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		for ; waited < n; waited++ {
			if err := pending[waited].Wait(); err != nil {
				t.Fatal(err)
			}
		}
		closeStore(t, s)

		after := open(t, "db", store.Options{FS: crashed})
		whole := 0
		for i := range n {
			parts := 0
			for part := range 3 {
				if _, ok := read(t, after, fmt.Sprintf("k%d/%d", i, part)); ok {
					parts++
				}
			}
			switch {
			case parts == 3 && whole == i:
				whole++
			case parts != 0:
				t.Fatalf("round %d: batch %d has %d of 3 parts, %d batches before it are whole", round, i, parts, whole)
			}
		}
		closeStore(t, after)
	}
}

func TestBatchLargerThanTheMemtable(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, "db", store.Options{FS: fs})
	b := s.NewBatch()
	big := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 20 {
		if err := b.Set(fmt.Appendf(nil, "big%02d", i), big); err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() < 20<<20 || b.Empty() {
		t.Errorf("the batch has %d bytes, empty %v", b.Len(), b.Empty())
	}
	p, err := s.Apply(b)
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := read(t, s, "big19"); !ok || v != string(big) {
		t.Errorf("a large batch is not visible after Apply: %d bytes, %v", len(v), ok)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	after := open(t, "db", store.Options{FS: fs.CrashClone(vfs.CrashCloneCfg{})})
	if v, ok := read(t, after, "big00"); !ok || v != string(big) {
		t.Errorf("after a crash the large batch has %d bytes, %v", len(v), ok)
	}
	closeStore(t, after)
	closeStore(t, s)
}

func TestSnapshotsAndIterators(t *testing.T) {
	s := open(t, "db", store.Options{FS: vfs.NewMem()})
	defer closeStore(t, s)
	write(t, s, "a", "1", "b", "2", "c", "3", "d", "4")
	snap := s.NewSnapshot()
	snap.Retain()
	snap.Release()
	defer snap.Release()
	b := s.NewBatch()
	if err := errors.Join(b.Delete([]byte("a")), b.DeleteRange([]byte("c"), []byte("d")), b.Set([]byte("b"), nil)); err != nil {
		t.Fatal(err)
	}
	if err := s.ApplyDurably(b); err != nil {
		t.Fatal(err)
	}
	walk := func(sn *store.Snapshot, forward bool) (out []string) {
		it, err := sn.Iterate([]byte("a"), []byte("e"))
		if err != nil {
			t.Fatal(err)
		}
		if forward {
			for ok := it.First(); ok; ok = it.Next() {
				out = append(out, string(it.Key())+"="+string(it.Value()))
			}
		} else {
			for ok := it.Last(); ok; ok = it.Prev() {
				out = append(out, string(it.Key())+"="+string(it.Value()))
			}
		}
		if it.SeekGE([]byte("b")) != it.SeekLT([]byte("c")) || string(it.Key()) != "b" {
			t.Errorf("seeking around b ends at %q", it.Key())
		}
		if err := errors.Join(it.Err(), it.Close()); err != nil {
			t.Error(err)
		}
		return out
	}
	if got, want := walk(snap, true), []string{"a=1", "b=2", "c=3", "d=4"}; !slices.Equal(got, want) {
		t.Errorf("the old snapshot has %v, want %v", got, want)
	}
	now := s.NewSnapshot()
	defer now.Release()
	if got, want := walk(now, false), []string{"d=4", "b="}; !slices.Equal(got, want) {
		t.Errorf("the new snapshot backwards has %v, want %v", got, want)
	}
	v, ok, err := now.Get([]byte("b"))
	if err != nil || !ok || v == nil {
		t.Errorf("an empty value reads as %v, %v, %v; it must not be nil", v, ok, err)
	}
	v, _, _ = snap.Get([]byte("d"))
	v[0] = 'X' // ours
	if again, _ := read(t, s, "d"); again != "4" {
		t.Errorf("writing into what Get returned changed the store to %q", again)
	}
}

func TestLockedInTheSameProcess(t *testing.T) {
	for name, o := range map[string]store.Options{"memory": {FS: vfs.NewMem()}, "disk": {}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, o)
			if _, err := store.Open(dir, o); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), dir) {
				t.Errorf("a second Open gives %v, want ErrLocked naming %s", err, dir)
			}
			write(t, s, "still", "works")
			closeStore(t, s)
			closeStore(t, open(t, dir, o)) // free again
		})
	}
}

func TestLockedByAnotherProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	s := open(t, dir, store.Options{})
	ask := func() string {
		c := exec.Command(self)
		c.Env = append(os.Environ(), "HALCYON_STORE_TEST_OPEN="+dir)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := ask(); !strings.HasPrefix(got, "locked: true") {
		t.Errorf("the other process says %q, want locked", got)
	}
	write(t, s, "still", "works")
	closeStore(t, s)
	if got := ask(); !strings.HasPrefix(got, "locked: false error: <nil>") {
		t.Errorf("after Close the other process says %q, want it to open", got)
	}
}

func TestFolderIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "here")
	closeStore(t, open(t, dir, store.Options{}))
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if p := info.Mode().Perm(); p != 0o700 {
		t.Errorf("the folder has mode %o, want 700", p)
	}
}

func TestFormatVersion(t *testing.T) {
	for _, c := range []struct {
		name string
		val  []byte
		want error
	}{
		{"ours", binary.BigEndian.AppendUint32(nil, store.FormatVersion), nil},
		{"newer", binary.BigEndian.AppendUint32(nil, store.FormatVersion+1), store.ErrNewerFormat},
		{"far newer", []byte{0xff, 0xff, 0xff, 0xff}, store.ErrNewerFormat},
		{"short", []byte{0, 0, 1}, store.ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			s := open(t, "db", store.Options{FS: fs})
			if v, ok := read(t, s, "mformat"); !ok || v != string([]byte{0, 0, 0, 1}) {
				t.Errorf("a new folder has format %x, want 00000001", v)
			}
			write(t, s, "mformat", string(c.val))
			closeStore(t, s)
			s, err := store.Open("db", store.Options{FS: fs})
			if !errors.Is(err, c.want) {
				t.Errorf("Open gives %v, want %v", err, c.want)
			}
			if err == nil {
				closeStore(t, s)
			} else if again, err := fs.Lock("db/LOCK"); err != nil {
				t.Errorf("a refused folder stays locked: %v", err)
			} else if err := again.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// logBlock is the unit in which a log is checked. Damage in its last one cannot
// be told from a write that a crash cut short.
const logBlock = 32 << 10

// TestDamagedFilesAreNoticed flips a byte in every file of a folder, one at a
// time and in three places: what was durable is still there, or opening or
// reading says so. Nothing is quietly missing.
func TestDamagedFilesAreNoticed(t *testing.T) {
	const n = 600
	build := func(flushed bool) *vfs.MemFS {
		fs := vfs.NewCrashableMem()
		s := open(t, "db", store.Options{FS: fs})
		for i := range n {
			write(t, s, fmt.Sprintf("key%04d", i), fmt.Sprint("value", i, strings.Repeat("x", 100)))
		}
		if flushed { // by being large
			write(t, s, "large", strings.Repeat("y", 5<<20))
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{})
		closeStore(t, s)
		return clone
	}
	for _, flushed := range []bool{false, true} {
		pristine := build(flushed)
		names, err := pristine.List("db")
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		for _, name := range names {
			info, err := pristine.Stat("db/" + name)
			if err != nil || info.IsDir() || info.Size() == 0 {
				continue
			}
			for _, at := range []int64{0, info.Size() / 2, info.Size() - 1} {
				t.Run(fmt.Sprintf("flushed=%v/%s@%d", flushed, name, at), func(t *testing.T) {
					fs := pristine.CrashClone(vfs.CrashCloneCfg{})
					flip(t, fs, "db/"+name, at)
					missing, hole, noticed := inspect(fs, n)
					tail := info.Size() - info.Size()%logBlock
					if noticed == nil && strings.HasSuffix(name, ".log") && at >= tail {
						if hole || missing > logBlock/100 {
							t.Errorf("%d keys are gone, in the middle: %v", missing, hole)
						}
						return
					}
					if missing > 0 && noticed == nil {
						t.Errorf("%d of %d keys are gone and nothing was said", missing, n)
					}
					if errors.Is(noticed, store.ErrCorrupt) && !strings.Contains(noticed.Error(), "corrupt") {
						t.Errorf("the error does not say what it is: %v", noticed)
					}
				})
			}
		}
	}
}

func flip(t *testing.T, fs *vfs.MemFS, name string, at int64) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x5a
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// inspect opens the folder and reads every key. A hole is a key that is gone
// while a later one is there.
func inspect(fs vfs.FS, n int) (missing int, hole bool, noticed error) {
	var fatal atomic.Pointer[error] // it may be called from several goroutines
	s, err := store.Open("db", store.Options{FS: fs, Fatal: func(err error) { fatal.Store(&err) }})
	if err != nil {
		return n, false, err
	}
	defer func() {
		noticed = errors.Join(noticed, s.Close())
		if err := fatal.Load(); err != nil {
			noticed = errors.Join(noticed, *err)
		}
	}()
	snap := s.NewSnapshot()
	defer snap.Release()
	for i := range n {
		v, ok, err := snap.Get(fmt.Appendf(nil, "key%04d", i))
		if err != nil {
			noticed = err
		}
		if !ok || !strings.HasPrefix(string(v), fmt.Sprint("value", i, "x")) {
			missing++
		} else if missing > 0 {
			hole = true
		}
	}
	return missing, hole, noticed
}

// TestLogErrorsReachTheCaller: when the write-ahead log cannot be written,
// Wait or Fatal says so, and nothing later succeeds either.
func TestLogErrorsReachTheCaller(t *testing.T) {
	fs := vfs.NewCrashableMem()
	toggle := &errorfs.Toggle{Injector: errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errorfs.ErrInjected
		}
		return nil
	})}
	var fatal atomic.Int32
	s := open(t, "db", store.Options{FS: errorfs.Wrap(fs, toggle), Fatal: func(error) { fatal.Add(1) }})
	write(t, s, "good", "1")
	toggle.On()
	for i := range 3 {
		b := s.NewBatch()
		if err := b.Set(fmt.Appendf(nil, "bad%d", i), nil); err != nil {
			t.Fatal(err)
		}
		if err := s.ApplyDurably(b); err == nil && fatal.Load() == 0 {
			t.Errorf("batch %d on a broken log was said to be durable", i)
		}
		toggle.Off() // an error stays an error when the disk seems well again
	}
	if err := s.Close(); err == nil && fatal.Load() == 0 {
		t.Error("Close says nothing about the broken log")
	}
	after := open(t, "db", store.Options{FS: fs})
	defer closeStore(t, after)
	if v, ok := read(t, after, "good"); !ok || v != "1" {
		t.Errorf("what was durable before is %q, %v", v, ok)
	}
}
