package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

// TestFoldersThatCannotBeOpened: each tells what is wrong and what to do.
func TestFoldersThatCannotBeOpened(t *testing.T) {
	made := func(t *testing.T) string {
		t.Helper()
		dir := t.TempDir()
		if got := call(t, "", "run", "--storage.dir", dir, "notes:list"); got.status != exitOK {
			t.Fatalf("%+v", got)
		}
		return dir
	}
	remove := func(t *testing.T, pattern string) string {
		t.Helper()
		dir := made(t)
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no %s: %v", pattern, err)
		}
		for _, name := range names {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	for _, tt := range []struct {
		name  string
		dir   func(t *testing.T) string
		error string
		hint  string
	}{
		{"another program's folder", func(t *testing.T) string {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "thesis.doc"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "thesis.doc", "holds something else"},
		{"another program's store", func(t *testing.T) string {
			dir := t.TempDir()
			db, err := pebble.Open(dir, &pebble.Options{Logger: silent{}})
			if err != nil {
				t.Fatal(err)
			}
			if err := db.Set([]byte("k"), []byte("v"), nil); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "a store of another program", "holds something else"},
		{"a lost manifest", func(t *testing.T) string { return remove(t, "MANIFEST-*") }, "corrupt", "restore a backup"},
		{"a lost marker", func(t *testing.T) string { return remove(t, "marker.manifest.*") }, "corrupt", "restore a backup"},
		{"a newer version", func(t *testing.T) string {
			dir := made(t)
			names, err := filepath.Glob(filepath.Join(dir, "marker.format-version.*"))
			if err != nil || len(names) != 1 {
				t.Fatal(names, err)
			}
			if err := os.Rename(names[0], names[0][:len(names[0])-3]+"999"); err != nil {
				t.Fatal(err)
			}
			return dir
		}, "newer version", "run that version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.dir(t)
			got := call(t, "", "run", "--storage.dir", dir, "notes:list")
			if got.status != exitFailed || got.stdout != "" {
				t.Errorf("%+v", got)
			}
			line, hint, _ := strings.Cut(got.stderr, "hint: ")
			if !strings.Contains(line, tt.error) || !strings.Contains(hint, tt.hint) || !strings.Contains(got.stderr, dir) {
				t.Errorf("standard error lacks %q, %q or the folder:\n%s", tt.error, tt.hint, got.stderr)
			}
		})
	}
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

func TestByteSizes(t *testing.T) {
	for text, want := range map[string]byteSize{
		"1": 1, "1B": 1, "512": 512, "1KiB": 1 << 10, "1.5MiB": 3 << 19, "2 GiB": 2 << 30, "3TiB": 3 << 40,
		"": 0, "0": 0, "-1": 0, "1GB": 0, "x": 0, "KiB": 0, "1e30": 0, "NaN": 0, "Inf": 0,
	} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); got != want || (err == nil) != (want > 0) {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
}

// TestNothingIsWrittenToAFullDisk: the limit is a flag, and what to do is told.
func TestNothingIsWrittenToAFullDisk(t *testing.T) {
	dir := t.TempDir()
	args := func(free string, rest ...string) []string {
		return append([]string{"run", "--storage.dir", dir, "--storage.free-min", free}, rest...)
	}
	write := []string{"notes:add", `{"text": "x"}`}
	if got := call(t, "", args("1KiB", write...)...); got.status != exitOK {
		t.Errorf("with room: %+v", got)
	}
	got := call(t, "", args("8000000TiB", write...)...)
	if got.status != exitFailed || !strings.Contains(got.stderr, "DiskFull") || !strings.Contains(got.stderr, "--storage.free-min") {
		t.Errorf("on a full disk: %+v", got)
	}
	if got := call(t, "", args("8000000TiB", "notes:list")...); got.status != exitOK || !strings.Contains(got.stdout, "x") {
		t.Errorf("reading on a full disk: %+v", got)
	}
	if got := call(t, "", args("lots", "notes:list")...); got.status != exitUsage {
		t.Errorf("no size: %+v", got)
	}
}
