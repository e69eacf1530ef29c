package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

// TestOptionsOutOfLimits: each field at its limit, and one past it, which is an
// error that names the field.
func TestOptionsOutOfLimits(t *testing.T) {
	for _, c := range []struct {
		field    string
		at, past engine.Options
	}{
		{"CacheBytes", engine.Options{CacheBytes: 64 << 10}, engine.Options{CacheBytes: 64<<10 - 1}},
		{"RowCacheBytes", engine.Options{RowCacheBytes: 1}, engine.Options{RowCacheBytes: -1}},
		{"LiveResultBytesMax", engine.Options{LiveResultBytesMax: 64 << 10}, engine.Options{LiveResultBytesMax: 64<<10 - 1}},
		{"AggregateCacheBytes", engine.Options{AggregateCacheBytes: 1}, engine.Options{AggregateCacheBytes: -1}},
		{"FunctionTimeMax", engine.Options{FunctionTimeMax: time.Millisecond}, engine.Options{FunctionTimeMax: time.Millisecond - 1}},
		{"FunctionTimeMax", engine.Options{FunctionTimeMax: 24 * time.Hour}, engine.Options{FunctionTimeMax: 24*time.Hour + 1}},
		{"RunningMax", engine.Options{RunningMax: 1}, engine.Options{RunningMax: -1}},
		{"RunningMax", engine.Options{RunningMax: 100_000}, engine.Options{RunningMax: 100_001}},
		{"WaitingMax", engine.Options{WaitingMax: 1}, engine.Options{WaitingMax: -1}},
		{"WaitingMax", engine.Options{WaitingMax: 10_000_000}, engine.Options{WaitingMax: 10_000_001}},
		{"LogRetention", engine.Options{LogRetention: time.Second}, engine.Options{LogRetention: time.Second - 1}},
		{"RequestRetention", engine.Options{RequestRetention: time.Second}, engine.Options{RequestRetention: time.Second - 1}},
		{"DiskFreeMinRatio", engine.Options{DiskFreeMinRatio: 0.999}, engine.Options{DiskFreeMinRatio: 1}},
		{"DiskFreeMinRatio", engine.Options{DiskFreeMinRatio: -1}, engine.Options{DiskFreeMinRatio: math.NaN()}},
		{"FS", engine.Options{}, engine.Options{FS: vfs.NewMem()}},
	} {
		db, err := engine.Open(engine.InMemory, schema, &c.at)
		if err != nil {
			t.Errorf("%s at its limit: %v", c.field, err)
		} else if err := db.Close(); err != nil {
			t.Error(err)
		}
		var wrong *engine.OptionsError
		if db, err := engine.Open(engine.InMemory, schema, &c.past); !errors.As(err, &wrong) || wrong.Field != c.field {
			t.Errorf("%s past its limit gives %v, %v", c.field, db, err)
		}
	}
	if _, err := engine.Open("", schema, nil); err == nil {
		t.Error("no folder opens")
	}
}

// TestFoldersThatDoNotOpen: each reason is an error of its own, that names the
// folder, leaves nothing running and nothing locked.
func TestFoldersThatDoNotOpen(t *testing.T) {
	file := func(t *testing.T, fs vfs.FS, suffix, prefix string) string {
		t.Helper()
		names, err := fs.List("db")
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		for _, n := range slices.Backward(names) {
			if strings.HasSuffix(n, suffix) && strings.HasPrefix(n, prefix) {
				return "db/" + n
			}
		}
		t.Fatalf("no file %s*%s in %v", prefix, suffix, names)
		return ""
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, fs *enginetest.Crashable) vfs.FS
		want   error
	}{
		{"a newer version's", func(t *testing.T, fs *enginetest.Crashable) vfs.FS {
			db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
			if err := errors.Join(db.Damage(map[string][]byte{"mformat": binary.BigEndian.AppendUint32(nil, 1000)}), db.Close()); err != nil {
				t.Fatal(err)
			}
			return fs
		}, engine.ErrNewerFormat},
		{"a newer Pebble's", func(t *testing.T, fs *enginetest.Crashable) vfs.FS {
			marker := file(t, fs, "", "marker.format-version.")
			if err := fs.Rename(marker, marker[:len(marker)-3]+"999"); err != nil {
				t.Fatal(err)
			}
			return fs
		}, engine.ErrNewerFormat},
		{"no marker", func(t *testing.T, fs *enginetest.Crashable) vfs.FS {
			return removed(t, fs, file(t, fs, "", "marker.manifest."))
		}, engine.ErrCorrupt},
		{"no manifest", func(t *testing.T, fs *enginetest.Crashable) vfs.FS {
			return removed(t, fs, file(t, fs, "", "MANIFEST-"))
		}, engine.ErrCorrupt},
		{"no table", func(t *testing.T, fs *enginetest.Crashable) vfs.FS { return removed(t, fs, file(t, fs, ".sst", "")) }, engine.ErrCorrupt},
		{"a short table", func(t *testing.T, fs *enginetest.Crashable) vfs.FS {
			cut(t, fs, file(t, fs, ".sst", ""), 100)
			return fs
		}, engine.ErrCorrupt},
		{"an empty manifest", func(t *testing.T, fs *enginetest.Crashable) vfs.FS {
			cut(t, fs, file(t, fs, "", "MANIFEST-"), 0)
			return fs
		}, engine.ErrCorrupt},
		{"LevelDB's", func(t *testing.T, _ *enginetest.Crashable) vfs.FS { return with(t, "db/CURRENT") }, engine.ErrNotDatabase},
		{"something else", func(t *testing.T, _ *enginetest.Crashable) vfs.FS { return with(t, "db/notes.txt") }, engine.ErrNotDatabase},
		{"not ours to read", func(t *testing.T, fs *enginetest.Crashable) vfs.FS { return refusing(fs, syscall.EACCES) }, engine.ErrPermission},
		{"mounted to read only", func(t *testing.T, fs *enginetest.Crashable) vfs.FS { return refusing(fs, syscall.EROFS) }, engine.ErrPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			fs := enginetest.NewCrashable()
			db := enginetest.OpenWith(t, schema, engine.Options{FS: fs})
			insert(t, db, "counters", fields("name", "a", "n", 1))
			if err := errors.Join(db.Compact(t.Context()), db.Close()); err != nil {
				t.Fatal(err)
			}
			broken := c.damage(t, fs)
			db, err := engine.Open("db", schema, &engine.Options{FS: broken})
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), "open db: ") {
				t.Errorf("Open gives %v, want %v", err, c.want)
			}
			for _, other := range []error{engine.ErrNewerFormat, engine.ErrCorrupt, engine.ErrNotDatabase, engine.ErrPermission, engine.ErrLocked, engine.ErrOlderFormat} {
				if other != c.want && errors.Is(err, other) {
					t.Errorf("it is %v, too", other)
				}
			}
			if err == nil {
				_ = db.Close()
			}
			noneSince(t, before)
			if lock, err := fs.Lock("db/LOCK"); err != nil {
				t.Errorf("the folder stays locked: %v", err)
			} else {
				_ = lock.Close()
			}
		})
	}
	// What the system puts into the root of a disk does not matter.
	enginetest.OpenWith(t, schema, engine.Options{FS: with(t, "db/lost+found")})
}

func removed(t *testing.T, fs *enginetest.Crashable, name string) vfs.FS {
	t.Helper()
	if err := fs.Remove(name); err != nil {
		t.Fatal(err)
	}
	return fs
}

// with returns a file system with one file.
func with(t *testing.T, name string) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("db", 0o700); err != nil {
		t.Fatal(err)
	}
	writeFile(t, fs, name, []byte("x"))
	return fs
}

func writeFile(t *testing.T, fs vfs.FS, name string, b []byte) {
	t.Helper()
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func readFile(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	info, err := fs.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil && len(b) > 0 {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// cut leaves the first bytes of a file.
func cut(t *testing.T, fs vfs.FS, name string, n int) {
	t.Helper()
	writeFile(t, fs, name, readFile(t, fs, name)[:n])
}

// refusing returns a file system that does not let files be made.
func refusing(fs vfs.FS, errno syscall.Errno) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpLock {
			return &os.PathError{Op: "open", Path: op.Path, Err: errno}
		}
		return nil
	}))
}

// TestDamageIsNeverTakenForData changes bytes of the files of a folder. Whatever
// it hits, opening or reading says that data is corrupt, or all documents are as
// they were. In the last two blocks of the write-ahead log damage looks like a
// write that a crash has cut short; there, the newest documents may be gone.
func TestDamageIsNeverTakenForData(t *testing.T) {
	rng := rand.New(rand.NewPCG(newSeed(t), 1))
	pristine := enginetest.NewCrashable()
	db := enginetest.OpenWith(t, schema, engine.Options{FS: pristine})
	put := func(n int) {
		for i := range n {
			insert(t, db, "counters", fields("name", fmt.Sprint(strings.Repeat("x", rng.IntN(2000)), i), "n", i))
		}
	}
	put(150)
	if err := db.Compact(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(100) // in the log
	want, err := db.Hash(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	clone := pristine.CrashClone(vfs.CrashCloneCfg{})
	names, err := clone.List("db")
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	noticed, harmless := 0, 0
	for _, name := range names {
		whole := readFile(t, clone, "db/"+name)
		for range times(6) {
			if len(whole) == 0 {
				continue
			}
			fs := clone.CrashClone(vfs.CrashCloneCfg{})
			at := rng.IntN(len(whole))
			damaged := bytes.Clone(whole)
			if rng.IntN(3) == 0 {
				damaged = damaged[:at]
			} else {
				damaged[at] ^= byte(1 + rng.IntN(255))
			}
			writeFile(t, fs, "db/"+name, damaged)
			what := fmt.Sprintf("%s of %d bytes, at %d, %d left", name, len(whole), at, len(damaged))
			got, err := hashOf(fs)
			const block = 32 << 10
			tail := strings.HasSuffix(name, ".log") && (at >= len(whole)-len(whole)%block-block || len(damaged) < len(whole))
			switch {
			case errors.Is(err, engine.ErrCorrupt), errors.Is(err, engine.ErrNewerFormat), errors.Is(err, engine.ErrNotDatabase):
				noticed++
			case err != nil:
				t.Errorf("%s: %v, want ErrCorrupt", what, err)
			case got.Content == want.Content:
				harmless++
			case !tail || got.Documents >= want.Documents || got.Documents < 150:
				t.Errorf("%s: %d of %d documents, and nothing was said", what, got.Documents, want.Documents)
			}
		}
	}
	if noticed == 0 || harmless == 0 {
		t.Errorf("%d damages were noticed and %d were harmless, want some of both", noticed, harmless)
	}
}

// hashOf opens a folder, reads all of it and closes it.
func hashOf(fs vfs.FS) (h engine.Hash, err error) {
	db, err := engine.Open("db", schema, &engine.Options{FS: fs, Fatal: func(error) {}})
	if err != nil {
		return h, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if h, err = db.Hash(context.Background()); err != nil {
		return h, err
	}
	r, err := db.Verify(context.Background())
	if err == nil && !r.OK() {
		err = fmt.Errorf("%w: %v", engine.ErrCorrupt, r.Faults)
	}
	return h, err
}
