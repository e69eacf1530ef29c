package replicate_test

import (
	"bytes"
	"context"
	"encoding/json"
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
	app, err := halcyon.NewApp(replicate.Docs(w.tasks))
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range app.Commands() {
		if c.Name == name {
			var out, talk bytes.Buffer
			err := c.Run(context.Background(), &halcyon.CommandEnv{
				App: w.app, Call: w.app.Run, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &talk, Logger: slog.New(slog.DiscardHandler),
			}, args)
			w.t.Logf("docs %s %q said %s", name, args, &talk)
			return out.String(), err
		}
	}
	w.t.Fatalf("there is no command %q", name)
	return "", nil
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
		want        string
	}{
		{"", "list", nil, "name a collection: tasks"},
		{"", "list", []string{"notes"}, `no collection "notes", only tasks`},
		{"", "list", []string{"--nonsense", "tasks"}, "nonsense"},
		{"", "delete", []string{"tasks"}, "name the documents"},
		{"", "delete", []string{"tasks", "x"}, `no document "x"`},
		{"", "export", []string{"--document", "x", "tasks"}, `no document "x"`},
		{"", "export", []string{"--v2", "tasks"}, "--v2 goes with --document"},
		{"nonsense", "import", []string{"tasks"}, "line 1 is not as docs export writes it"},
		{"nonsense", "import", []string{"--document", "x", "tasks"}, "1 documents were not imported"},
		{"", "import", []string{"tasks", "no such file"}, "no such file"},
	} {
		if _, err := w.docs(tt.stdin, tt.name, tt.args...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("docs %s %q: %v, want %s", tt.name, tt.args, err, tt.want)
		}
	}
}
