package halcyon_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Note is a document that refers to others.
type Note struct {
	ID      halcyon.ID[Note] `halcyon:"id"`
	Text    string
	Parent  halcyon.ID[Note] `json:"parent,omitzero"`
	Related map[string]*halcyon.ID[Note]
}

// notesModule is a module that may be mounted under any name.
func notesModule(name string) *halcyon.Module {
	notes := halcyon.NewTable[Note]("notes")
	m := halcyon.NewModule(name, notes)
	m.Mutation("add", func(tx *halcyon.Tx, n struct {
		Parent *halcyon.ID[Note]
	}) (halcyon.ID[Note], error) {
		note := Note{Text: name}
		if n.Parent != nil {
			note.Parent = *n.Parent
		}
		return notes.Insert(tx, note)
	})
	m.Mutation("insert", func(tx *halcyon.Tx, n struct{ Parent string }) error {
		_, err := notes.Insert(tx, Note{Parent: halcyon.ID[Note](n.Parent)})
		return err
	})
	m.Mutation("relate", func(tx *halcyon.Tx, n struct{ Note, Other string }) error {
		other := halcyon.ID[Note](n.Other)
		return notes.Replace(tx, halcyon.ID[Note](n.Note), Note{Related: map[string]*halcyon.ID[Note]{"a": nil, "other": &other}})
	})
	m.Mutation("patch", func(tx *halcyon.Tx, n struct{ Note, Parent string }) error {
		return notes.Patch(tx, halcyon.ID[Note](n.Note), halcyon.Fields{"parent": n.Parent})
	})
	m.Mutation("patchText", func(tx *halcyon.Tx, n struct {
		Note string
		Text value.Value
	}) error {
		return notes.Patch(tx, halcyon.ID[Note](n.Note), halcyon.Fields{"text": n.Text})
	})
	m.Query("tell", func(_ *halcyon.Tx, n struct{ ID string }) ([]halcyon.Nullable[halcyon.ID[Note]], error) {
		return []halcyon.Nullable[halcyon.ID[Note]]{{}, halcyon.NotNull(halcyon.ID[Note](n.ID))}, nil
	})
	m.Query("count", func(tx *halcyon.Tx) (int, error) {
		all, err := notes.All().Collect(tx)
		return len(all), err
	})
	return m
}

// TestModuleMountedTwice checks that two mounts of a module share nothing, and take no ids of each other.
func TestModuleMountedTwice(t *testing.T) {
	app := openApp(t, halcyon.Options{ShowErrors: true}, notesModule("work"), notesModule("home"))
	var work, home string
	add := func(path string, parent string, into *string) error {
		args := map[string]any{}
		if parent != "" {
			args["parent"] = parent
		}
		return app.Run(t.Context(), path, args, into)
	}
	if err := errors.Join(add("work:add", "", &work), add("work:add", work, &work), add("home:add", "", &home)); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"work:count": 2, "home:count": 1} {
		var n int
		if err := app.Run(t.Context(), path, nil, &n); err != nil || n != want {
			t.Errorf("%s = %d, %v; want %d", path, n, err, want)
		}
	}
	want := `Found ID "` + work + "\" from table `work/notes`, which does not match the table name in validator `v.id(\"notes\")`.Path: .parent"
	if err := add("home:add", work, nil); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("an id of the other mount: %v, want %s", err, want)
	}
}

// TestIDsOfResultsAndDocumentsAreChecked checks what the types of Go can't say.
func TestIDsOfResultsAndDocumentsAreChecked(t *testing.T) {
	counters, _ := counterModule()
	var log logBuffer
	app := openApp(t, halcyon.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, notesModule("notes"), counters)
	var note string
	if err := app.Run(t.Context(), "notes:add", nil, &note); err != nil {
		t.Fatal(err)
	}
	foreign := value.ID{Table: mustParseID(t, note).Table + 1000}.String()
	type args = map[string]any
	tests := []struct {
		name, path string
		args       args
		want       string // in the log; empty: it succeeds
	}{
		{"result", "notes:tell", args{"id": note}, ""},
		{"result that is no id", "notes:tell", args{"id": "x"}, `ReturnsValidationError: Value does not match validator.\nPath: [1]\nValue: \"x\"\nValidator: v.id(\"notes\")`},
		{"result of no table", "notes:tell", args{"id": foreign}, `ReturnsValidationError: Value does not match validator.\nPath: [1]`},
		{"insert", "notes:insert", args{"parent": note}, ""},
		{"insert nothing", "notes:insert", args{"parent": ""}, ""},
		{"insert what is no id", "notes:insert", args{"parent": "x"}, `document of table notes: Value does not match validator.\nPath: .parent`},
		{"replace", "notes:relate", args{"note": note, "other": note}, ""},
		{"replace by what is no id", "notes:relate", args{"note": note, "other": "x"}, `Path: .related.other`},
		{"patch", "notes:patch", args{"note": note, "parent": note}, ""},
		{"patch with what is no id", "notes:patch", args{"note": note, "parent": "x"}, `patch of table notes: Value does not match validator.\nPath: .parent`},
		{"patch with a value", "notes:patchText", args{"note": note, "text": "t"}, ""},
		{"patch with another value", "notes:patchText", args{"note": note, "text": 5}, `patch of table notes: Value does not match validator.\nPath: .text\nValue: 5.0\nValidator: v.string()`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log.take()
			err := app.Run(t.Context(), tt.path, tt.args, nil)
			said := strings.ReplaceAll(log.take(), `\\`, `\`)
			if tt.want == "" {
				if err != nil {
					t.Errorf("%s %v: %v; %s", tt.path, tt.args, err, said)
				}
				return
			}
			if err == nil || !strings.HasSuffix(err.Error(), "Server Error") {
				t.Errorf("%s %v: %v, want a Server Error", tt.path, tt.args, err)
			}
			if !strings.Contains(strings.ReplaceAll(said, `\"`, `"`), strings.ReplaceAll(tt.want, `\"`, `"`)) {
				t.Errorf("%s %v logged %s, want %s", tt.path, tt.args, said, tt.want)
			}
		})
	}
}
