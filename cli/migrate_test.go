package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon"
)

type noteV2 struct {
	Text  string `json:"text"`
	Words int    `json:"words"`
}

// notesV2 is a later version of testModule, with or without a migration.
func notesV2(migrates bool) *halcyon.Module {
	notes := halcyon.NewTable[noteV2]("notes")
	m := halcyon.NewModule("notes", notes)
	if migrates {
		halcyon.Migrate(m, "count words", notes, func(_ *halcyon.Tx, old note) (noteV2, error) {
			if old.Text == "?" {
				return noteV2{}, errors.New("what is this")
			}
			return noteV2{old.Text, len(strings.Fields(old.Text))}, nil
		})
	}
	return m
}

func TestMigrate(t *testing.T) {
	dir := t.TempDir()
	call := func(m *halcyon.Module, args ...string) (status int, stdout, stderr string) {
		var out, errs bytes.Buffer
		status = run(t.Context(), append(append([]string{"prog"}, args...), "--storage.dir", dir, "--log.level", "error"), nil, &out, &errs, m)
		return status, out.String(), errs.String()
	}
	for _, text := range []string{"one", "two words"} {
		if status, _, stderr := call(testModule(), "run", "notes:add", `{"text":"`+text+`"}`); status != exitOK {
			t.Fatal(stderr)
		}
	}
	if status, _, stderr := call(notesV2(false), "serve", "--server.listen", "127.0.0.1:0"); status != exitFailed || !strings.Contains(stderr, "field words: 2 of 2 documents") || !strings.Contains(stderr, "halcyon.Migrate") {
		t.Errorf("serve with documents that do not fit: status %d\n%s", status, stderr)
	}
	for _, c := range []struct {
		args   []string
		stdout string
	}{
		{[]string{"migrate", "--dry-run"}, "notes/count words: 2 documents of notes/notes, 2 changed, 0 removed\nNothing of it was kept.\n"},
		{[]string{"migrate", "--json"}, `{"name":"notes/count words","table":"notes/notes","seen":2,"changed":2,"removed":0,"done":true}` + "\n"},
		{[]string{"migrate"}, "There is nothing to migrate.\n"},
	} {
		if status, stdout, stderr := call(notesV2(true), c.args...); status != exitOK || stdout != c.stdout {
			t.Errorf("%v: status %d, %q, %s; want %q", c.args, status, stdout, stderr, c.stdout)
		}
	}
}

func TestCodegen(t *testing.T) {
	dir := t.TempDir()
	if got := call(t, "", "codegen", "--out", dir); got.status != exitOK || !strings.Contains(got.stdout, "api.d.ts") {
		t.Errorf("codegen: %+v", got)
	}
	if got := call(t, "", "codegen", "--check", "--out", dir); got.status != exitOK || got.stdout != "" {
		t.Errorf("codegen --check of what it has written: %+v", got)
	}
	api := filepath.Join(dir, "api.d.ts")
	if err := os.WriteFile(api, []byte("export declare const api: {};\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := call(t, "", "codegen", "--check", "--out", dir); got.status != exitFailed || !strings.Contains(got.stderr, api) || !strings.Contains(got.stderr, "hint: run prog codegen --out "+dir) {
		t.Errorf("codegen --check of something else: %+v", got)
	}
	text, err := os.ReadFile(api)
	if err != nil || string(text) != "export declare const api: {};\n" {
		t.Errorf("--check has changed the file: %q, %v", text, err)
	}
}
