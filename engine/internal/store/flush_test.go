package store

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestFlushOnAFullDisk: when files of the store cannot be written, who waits for
// one is told, Open among them, and goes on when there is room again.
func TestFlushOnAFullDisk(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && strings.HasSuffix(op.Path, ".sst") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.ENOSPC
		}
		return nil
	}))
	o := Options{FS: fs, Fatal: func(err error) { t.Errorf("the store gave up: %v", err) }}
	full.Store(true)
	if s, err := Open("db", o); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("open gives %v, %v", s, err)
	}
	full.Store(false)
	s, err := Open("db", o)
	if err != nil {
		t.Fatal(err)
	}
	b := s.NewBatch()
	if err := errors.Join(b.Set([]byte("k"), []byte("v")), s.ApplyDurably(b)); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if err := s.Compact(context.Background()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("compact gives %v", err)
	}
	full.Store(false)
	// One that had begun before may fail still.
	for {
		if err = s.Compact(context.Background()); err == nil || t.Failed() {
			break
		}
	}
	snap := s.NewSnapshot()
	if v, ok, err := snap.Get([]byte("k")); string(v) != "v" || !ok || err != nil {
		t.Errorf("the key has %q, %v, %v", v, ok, err)
	}
	snap.Release()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestFlushPatience: flushes that fail for too long without one that succeeds end
// the store.
func TestFlushPatience(t *testing.T) {
	start := time.Unix(1000, 0)
	broken := errors.New("broken")
	var f flushes
	for i, c := range []struct {
		at   time.Duration
		err  error
		over bool
	}{
		{0, broken, false},
		{flushPatience, broken, false},
		{flushPatience + 1, broken, true},
		{flushPatience + 2, nil, false},
		{10 * flushPatience, broken, false},
		{11 * flushPatience, broken, false},
		{12 * flushPatience, broken, true},
	} {
		if over := f.ended(c.err, start.Add(c.at)); over != c.over {
			t.Errorf("%d: after %v with %v it is over: %v", i, c.at, c.err, over)
		}
	}
}
