package replicate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/yjs"
)

// docs runs a command on the collection of a world and returns what it wrote, and its error.
func (w *world) docs(stdin, name string, args ...string) (string, error) {
	w.t.Helper()
	out, _, err := w.docsFrom(strings.NewReader(stdin), w.app.Run, name, args...)
	return out, err
}

// docsFrom is docs with what the command reads and calls, and returns what it said too.
func (w *world) docsFrom(stdin io.Reader, call callFunc, name string, args ...string) (out, talk string, err error) {
	w.t.Helper()
	return runDocs(w.t, w.tasks, stdin, call, name, args...)
}

type callFunc = func(ctx context.Context, path string, args, result any) error

func runDocs(t testing.TB, tasks *replicate.Collection, stdin io.Reader, call callFunc, name string, args ...string) (string, string, error) {
	t.Helper()
	app, err := halcyon.NewApp(replicate.Docs(tasks))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range app.Commands() {
		if c.Name == name {
			var out, talk bytes.Buffer
			env := &halcyon.CommandEnv{Call: call, Stdin: stdin, Stdout: &out, Stderr: &talk, Logger: slog.New(slog.DiscardHandler), Program: "prog"}
			err := c.Run(context.Background(), env, args)
			t.Logf("docs %s %.200q said %.2000s and ends with %v", name, args, &talk, err)
			return out.String(), talk.String(), err
		}
	}
	t.Fatalf("there is no command %q", name)
	return "", "", nil
}

func TestDocsCommands(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	w.must("", "a", a.set("title", "one"), a.set("title", "two"))
	w.must("", "b", b.set("title", "b"))
	w.must("", "b", b.remove())
	all, err := w.docs("", "export", "tasks")
	if err != nil || strings.Count(all, "\n") != 2 {
		t.Fatalf("an export of two documents is %q, %v", all, err)
	}
	var first struct {
		Document string
		Update   []byte
	}
	if err := json.Unmarshal([]byte(all[:strings.IndexByte(all, '\n')]), &first); err != nil {
		t.Fatal(err)
	}
	loaded := yjs.NewDoc(nil)
	if err := loaded.Apply(first.Update, nil); err != nil || !loaded.Snapshot().Equal(a.doc.Snapshot()) {
		t.Errorf("the exported %q has %v, %v", first.Document, loaded.State(), err)
	}

	other := newWorld(t, replicate.Options{})
	for range 2 { // the second time there is nothing new
		if _, err := other.docs(all, "import", "tasks"); err != nil {
			t.Fatal(err)
		}
	}
	same(t, "what was imported", a, other.recoverAs("", "a", nil).Bytes)
	same(t, "what was imported", b, other.recoverAs("", "b", nil).Bytes)
	state := a.doc.EncodeStateV2(nil)
	if _, err := other.docs(string(state), "import", "--document", "c", "--v2", "tasks"); err != nil {
		t.Error(err)
	}
	if got, err := other.docs("", "export", "--document", "c", "--v2", "tasks"); err != nil {
		t.Error(err)
	} else {
		same(t, "a document by itself", a, []byte(got))
	}
	if _, err := other.docs("", "delete", "tasks", "c"); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(map[string]string{"a": `{"title":"two"}`}, other.material("")); diff != "" {
		t.Errorf("material (-want +got):\n%s", diff)
	}
	if _, err := other.docs("", "delete", "--erase", "tasks", "b", "c"); err != nil {
		t.Error(err)
	}
	if list, err := other.docs("", "list", "tasks"); err != nil || !strings.Contains(list, `"a"`) || strings.Contains(list, `"b"`) || strings.Contains(list, `"c"`) {
		t.Errorf("the list is %s, %v", list, err)
	}
	if _, err := w.docs("", "list", "--json", "tasks"); err != nil {
		t.Error(err)
	}
}

func TestDocsCommandsRefuse(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	for _, tt := range []struct {
		stdin, name string
		args        []string
		status      int
		want        string
	}{
		{"", "list", nil, 2, "name a collection: tasks"},
		{"", "list", []string{"notes"}, 2, `no collection "notes", only tasks`},
		{"", "list", []string{"--nonsense", "tasks"}, 2, "nonsense"},
		{"", "list", []string{"tasks", "--storage.dir", "x"}, 2, "come before the collection"},
		{"", "list", []string{"tasks", "more"}, 2, `"more" is one argument too many`},
		{"", "delete", []string{"tasks"}, 2, "name the documents"},
		{"", "delete", []string{"tasks", "x"}, 1, "0 documents were deleted, 1 were not"},
		{"", "delete", []string{"tasks", "--erase", "x"}, 1, "0 documents were erased, 1 were not"},
		{"", "delete", []string{"tasks", "--", "--erase"}, 1, "0 documents were deleted, 1 were not"},
		{"", "export", []string{"--document", "x", "tasks"}, 1, `no document "x"`},
		{"", "export", []string{"--v2", "tasks"}, 2, "--v2 goes with --document"},
		{"", "export", []string{"--v2", "--json", "--document", "x", "tasks"}, 2, "--v2 or --json"},
		{"nonsense", "import", []string{"tasks"}, 1, "1 documents or files were not imported"},
		{"nonsense", "import", []string{"--document", "x", "tasks"}, 1, "1 documents or files were not imported"},
		{"", "import", []string{"tasks", "no such file"}, 1, "no such file"},
		{"", "import", []string{"tasks", "--document", "x", "."}, 2, "takes a file"},
		{"", "import", []string{"tasks", "--document", "x", "-", "-"}, 2, "takes one file"},
	} {
		status := 1
		_, err := w.docs(tt.stdin, tt.name, tt.args...)
		if coded, ok := err.(interface{ ExitCode() int }); ok {
			status = coded.ExitCode()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || status != tt.status {
			t.Errorf("docs %s %q: %v, status %d, want %s, %d", tt.name, tt.args, err, status, tt.want, tt.status)
		}
	}
}

// TestDocsHelp says what each command takes, with all of its flags and examples.
func TestDocsHelp(t *testing.T) {
	tasks := replicate.New(replicate.Options{Name: "tasks"})
	for name, want := range map[string][]string{
		"list": {"-json"}, "export": {"-document", "-v2", "-json"}, "import": {"-document", "-v2", "-json"}, "delete": {"-erase", "-json"},
	} {
		out, _, err := runDocs(t, tasks, strings.NewReader(""), nil, name, "tasks", "--help")
		for _, part := range append(want, "prog docs "+name+" [flags] COLLECTION", "Examples:", "  prog docs "+name+" tasks", "Exit status: 0") {
			if err != nil || !strings.Contains(out, part) {
				t.Errorf("the help of %s lacks %q, %v:\n%s", name, part, err, out)
			}
		}
	}
}

// TestDocsListShowsWhatHasNotBegun has documents of which nothing is stored but what was set aside, before, between and behind others.
func TestDocsListShowsWhatHasNotBegun(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	b := newPeer(t, 1)
	w.must("", "b", b.set("title", "b"))
	for i, name := range []string{"a", "bb", "c"} {
		p := newPeer(t, uint64(i+2))
		p.set("title", "never sent")
		if got := w.write("", name, p.set("title", "sent"))[0]; got.Status != replicate.Gapped {
			t.Fatalf("what builds on nothing is %+v", got)
		}
	}
	w.write("", "d", []byte("no update"))
	type row struct {
		Document string
		Waiting  int
		Unbegun  bool
		Aside    int
	}
	out, err := w.docs("", "list", "--json", "tasks")
	var got []row
	for line := range strings.Lines(out) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	want := []row{{"a", 1, true, 1}, {"b", 0, false, 0}, {"bb", 1, true, 1}, {"c", 1, true, 1}, {"d", 0, true, 1}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("list, %v (-want +got):\n%s", err, diff)
	}
	text, err := w.docs("", "list", "tasks")
	if err != nil || strings.Count(text, "not begun, 1 set aside, 1 waiting\n") != 3 || strings.Count(text, "not begun") != 4 {
		t.Errorf("the list for people, %v:\n%s", err, text)
	}
	if all, err := w.docs("", "export", "tasks"); err != nil || strings.Count(all, "\n") != 1 {
		t.Errorf("an export has what has not begun: %v\n%s", err, all)
	}
	if _, err := w.docs("", "delete", "--erase", "tasks", "bb", "d"); err != nil {
		t.Errorf("what has not begun can't be erased: %v", err)
	}
	if list, err := w.docs("", "list", "tasks"); err != nil || strings.Contains(list, `"bb"`) || strings.Contains(list, `"d"`) {
		t.Errorf("what was erased is listed: %v\n%s", err, list)
	}
}
