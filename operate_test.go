package halcyon_test

import (
	"errors"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// TestBackupOfARunningApp: the copy opens as an app of its own with what was there, and both verify.
func TestBackupOfARunningApp(t *testing.T) {
	app, err := halcyon.NewApp(tasksModule())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := app.Backup(t.Context(), "copy"); !errors.Is(err, halcyon.ErrNotOpen) {
		t.Errorf("a backup of an app that is not open gives %v", err)
	}
	if _, err := app.Verify(t.Context(), nil); !errors.Is(err, halcyon.ErrNotOpen) {
		t.Errorf("verifying an app that is not open gives %v", err)
	}
	dir := t.TempDir()
	if err := app.Open(dir+"/data", nil); err != nil {
		t.Fatal(err)
	}
	backup, err := app.Backup(t.Context(), dir+"/copy")
	if err != nil || backup.Files == 0 {
		t.Fatalf("%+v, %v", backup, err)
	}
	if _, err := app.Backup(t.Context(), dir+"/copy"); !errors.Is(err, engine.ErrExists) {
		t.Errorf("a backup over another gives %v", err)
	}
	calls := 0
	if r, err := app.Verify(t.Context(), func(engine.Report) { calls++ }); err != nil || !r.OK() || calls == 0 {
		t.Errorf("%+v, %v after %d calls", r, err, calls)
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	if err := app.Open(dir+"/copy", nil); err != nil {
		t.Fatal(err)
	}
	if r, err := app.Verify(t.Context(), nil); err != nil || !r.OK() {
		t.Errorf("the copy: %+v, %v", r, err)
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
}
