package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon/server"
)

// TestBackupAndRestore takes data through all three verbs: what was there when
// the backup was made is there when it is restored, and nothing later.
func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	data, backup, restored := filepath.Join(dir, "data"), filepath.Join(dir, "backup [1]"), filepath.Join(dir, "restored")
	add := func(text string) {
		t.Helper()
		if got := call(t, "", "run", "--storage.dir", data, "notes:add", `{"text": "`+text+`"}`); got.status != exitOK {
			t.Fatalf("%+v", got)
		}
	}
	add("before")
	var made copied
	if got := call(t, "", "backup", "--storage.dir", data, "--json", backup); got.status != exitOK || json.Unmarshal([]byte(got.stdout), &made) != nil {
		t.Fatalf("backup: %+v", got)
	}
	if made.Dir != backup || made.Files == 0 || made.Bytes == 0 || made.At == 0 || uint64(made.Time.UnixMicro()) != made.At {
		t.Errorf("the backup is told as %+v", made)
	}
	add("after")
	if got := call(t, "", "backup", "--storage.dir", data, backup); got.status != exitFailed || !strings.Contains(got.stderr, "hint: ") || !strings.Contains(got.stderr, "does not exist") {
		t.Errorf("a backup over another: %+v", got)
	}

	if runtime.GOOS == "linux" { // where nobody makes folders
		got := call(t, "", "backup", "--storage.dir", data, "/sys/halcyon-backup")
		if got.status != exitFailed || !strings.Contains(got.stderr, "hint: ") || !strings.Contains(got.stderr, "name a folder that it may make") {
			t.Errorf("a backup where it must not be: %+v", got)
		}
	}

	var again copied
	if got := call(t, "", "restore", "--storage.dir", restored, "--json", backup); got.status != exitOK || json.Unmarshal([]byte(got.stdout), &again) != nil {
		t.Fatalf("restore: %+v", got)
	}
	if again.Dir != restored || again.Documents == 0 || again.Bytes != made.Bytes || again.At < made.At {
		t.Errorf("what was restored is told as %+v, the backup as %+v", again, made)
	}
	if got := call(t, "", "run", "--storage.dir", restored, "notes:list"); got.stdout != `["before"]`+"\n" {
		t.Errorf("restored: %+v", got)
	}
	if got := call(t, "", "run", "--storage.dir", data, "notes:list"); got.stdout != `["before","after"]`+"\n" {
		t.Errorf("the data itself: %+v", got)
	}
	if got := call(t, "", "restore", "--storage.dir", data, backup); got.status != exitFailed || !strings.Contains(got.stderr, "does not exist") {
		t.Errorf("restoring over data: %+v", got)
	}
	if got := call(t, "", "restore", "--storage.dir", filepath.Join(dir, "x"), dir); got.status != exitFailed || !strings.Contains(got.stderr, "`backup` made") {
		t.Errorf("restoring what is no backup: %+v", got)
	}
	// The backup was not changed by any of this, and an empty folder may be there.
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	if got := call(t, "", "restore", "--storage.dir", empty, backup); got.status != exitOK || !strings.Contains(got.stdout, "files") {
		t.Errorf("restoring into an empty folder: %+v", got)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*.partial")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// TestVerify: data that is right, and data of which a file was damaged, also
// inside of a backup.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	data, backup := filepath.Join(dir, "data"), filepath.Join(dir, "backup")
	for range 3 {
		if got := call(t, "", "run", "--storage.dir", data, "notes:add", `{"text": "x"}`); got.status != exitOK {
			t.Fatalf("%+v", got)
		}
	}
	var report server.Verified
	got := call(t, "", "verify", "--storage.dir", data, "--json")
	if err := json.Unmarshal([]byte(got.stdout), &report); got.status != exitOK || err != nil || !report.OK || report.Documents < 3 || report.Entries < 3 || report.FaultsTotal != 0 {
		t.Errorf("%+v is read as %+v", got, report)
	}
	if got := call(t, "", "verify", "--storage.dir", data); got.status != exitOK || !strings.Contains(got.stdout, "0 faults.") {
		t.Errorf("in words: %+v", got)
	}
	if got := call(t, "", "backup", "--storage.dir", data, backup); got.status != exitOK {
		t.Fatalf("%+v", got)
	}
	tables, err := filepath.Glob(filepath.Join(backup, "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, name := range tables {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b[:len(b)/2] {
			b[i] ^= 0x5a
		}
		// Not in place: the data has the same file.
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	target := filepath.Join(dir, "restored")
	if got := call(t, "", "restore", "--storage.dir", target, backup); got.status != exitFailed || !strings.Contains(got.stderr, "corrupt") || !strings.Contains(got.stderr, "hint: ") {
		t.Errorf("restoring a damaged backup: %+v", got)
	}
	if _, err := os.Stat(target); err == nil {
		t.Error("a damaged backup was restored")
	}
	if got := call(t, "", "verify", "--storage.dir", backup); got.status != exitFailed || !strings.Contains(got.stderr, "corrupt") {
		t.Errorf("verifying damaged data: %+v", got)
	}
	if got := call(t, "", "verify", "--storage.dir", data); got.status != exitOK {
		t.Errorf("the data itself, afterwards: %+v", got)
	}
}
