package spill

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

type pair struct{ key, val string }

// TestSorter: what comes out is what went in, in order, however little fits in
// memory; afterwards nothing is left on disk.
func TestSorter(t *testing.T) {
	for _, c := range []struct {
		name  string
		n     int
		bytes int
		key   func(r *rand.Rand, i int) string
		runs  bool
	}{
		{"nothing", 0, 0, nil, false},
		{"in memory", 1000, 0, func(r *rand.Rand, _ int) string { return fmt.Sprint(r.Uint64()) }, false},
		{"many runs", 5000, 10_000, func(r *rand.Rand, _ int) string { return fmt.Sprint(r.Uint64()) }, true},
		{"in order", 5000, 10_000, func(_ *rand.Rand, i int) string { return fmt.Sprintf("%08d", i) }, true},
		{"backwards", 5000, 10_000, func(_ *rand.Rand, i int) string { return fmt.Sprintf("%08d", 1<<20-i) }, true},
		{"equal keys", 3000, 10_000, func(r *rand.Rand, _ int) string { return fmt.Sprint(r.IntN(50)) }, true},
		{"equal heads", 3000, 10_000, func(r *rand.Rand, _ int) string { return "the same head\x00" + fmt.Sprint(r.Uint32()) }, true},
		{"short and empty", 500, 1000, func(r *rand.Rand, _ int) string { return string(make([]byte, r.IntN(12))) }, true},
		{"large", 40, 10_000, func(r *rand.Rand, i int) string { return fmt.Sprintf("%0*d", 1+r.IntN(20_000), i) }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			fs := vfs.NewMem()
			if err := fs.MkdirAll("sort", 0o700); err != nil {
				t.Fatal(err)
			}
			r := rand.New(rand.NewPCG(1, 2))
			s := New(fs, "sort", "x", c.bytes)
			var want []pair
			for i := range c.n {
				p := pair{c.key(r, i), string(make([]byte, i%9)) + fmt.Sprint(i)}
				want = append(want, p)
				if err := s.Add([]byte(p.key), []byte(p.val)); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.Len(); got != int64(c.n) {
				t.Errorf("%d keys, want %d", got, c.n)
			}
			if got := len(s.runs) > 0; got != c.runs {
				t.Errorf("%d runs", len(s.runs))
			}
			var got []pair
			if err := s.Each(func(key, val []byte) error {
				got = append(got, pair{string(key), string(val)})
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if !slices.IsSortedFunc(got, func(a, b pair) int { return bytes.Compare([]byte(a.key), []byte(b.key)) }) {
				t.Error("the keys are not in order")
			}
			for _, l := range [][]pair{got, want} {
				slices.SortFunc(l, func(a, b pair) int { return bytes.Compare([]byte(a.key+"\x00"+a.val), []byte(b.key+"\x00"+b.val)) })
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d pairs came out that differ from the %d that went in", len(got), len(want))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if left, err := fs.List("sort"); err != nil || len(left) > 0 {
				t.Errorf("%v is left, %v", left, err)
			}
		})
	}
}

// TestSorterDamage: a run with a changed, a missing or an added byte is an error.
func TestSorterDamage(t *testing.T) {
	for _, damage := range []struct {
		name string
		do   func(b []byte) []byte
	}{
		{"a changed value", func(b []byte) []byte { b[len(b)-1] ^= 1; return b }},
		{"a changed length", func(b []byte) []byte { b[0] ^= 0x40; return b }},
		{"an end too early", func(b []byte) []byte { return b[:len(b)-1] }},
		{"nothing", func([]byte) []byte { return nil }},
		{"more", func(b []byte) []byte { return append(b, 0) }},
	} {
		fs := vfs.NewMem()
		s := New(fs, "", "x", 2000)
		for i := range 200 {
			if err := s.Add(fmt.Appendf(nil, "%03d", i), []byte("value")); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.wait(); err != nil {
			t.Fatal(err)
		}
		rewrite(t, fs, s.runs[0].path, damage.do)
		if err := s.Each(func(_, _ []byte) error { return nil }); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", damage.name, err)
		}
	}
}

func rewrite(t *testing.T, fs vfs.FS, path string, do func([]byte) []byte) {
	t.Helper()
	f, err := fs.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, info.Size())
	if _, err := f.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err = fs.Create(path, vfs.WriteCategoryUnspecified); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(do(b)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestSorterFullDisk: what a run could not be written for is told by the call
// that finds out, and Close cleans up.
func TestSorterFullDisk(t *testing.T) {
	s := New(vfs.NewMem(), "no/such/folder", "x", 100)
	var err error
	for i := 0; err == nil && i < 100; i++ {
		err = s.Add(fmt.Appendf(nil, "%d", i), make([]byte, 40))
	}
	if err == nil {
		err = s.Each(func(_, _ []byte) error { return nil })
	}
	if err == nil {
		t.Error("a folder that does not exist took the files")
	}
}

func BenchmarkSorter(b *testing.B) {
	fs := vfs.NewMem()
	r := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	const n = 200_000
	for b.Loop() {
		s := New(fs, "", "x", 4<<20)
		var key [40]byte
		for range n {
			for i := 0; i < len(key); i += 8 {
				copy(key[i:], fmt.Sprintf("%08x", r.Uint32()))
			}
			if err := s.Add(key[:], nil); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Each(func(_, _ []byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/key")
}

// FuzzRun: whatever is in a run's file, reading it ends, and only what was written
// reads without an error.
func FuzzRun(f *testing.F) {
	good := []byte{1, 2, 'k', 'v', 'v', 1, 0, 'l'}
	f.Add(good, int64(2))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0x0f, 0}, int64(1))
	f.Fuzz(func(t *testing.T, b []byte, n int64) {
		fs := vfs.NewMem()
		w, err := fs.Create("run", vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		s := New(fs, "", "x", 0)
		s.runs = []run{{path: "run", n: max(0, n), sum: crc32.Checksum(good, castagnoli)}}
		read := int64(0)
		err = s.Each(func(key, val []byte) error {
			if read++; len(key)+len(val) > len(b) {
				t.Errorf("a key and a value of %d bytes in a file of %d", len(key)+len(val), len(b))
			}
			return nil
		})
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Errorf("%x: %v", b, err)
		}
		if err == nil && (!bytes.Equal(b, good) || read != 2) && len(b) < 64 && crc32.Checksum(b, castagnoli) != crc32.Checksum(good, castagnoli) {
			t.Errorf("%x reads as %d keys", b, read)
		}
	})
}
