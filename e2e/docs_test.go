package e2e

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/yjs"
)

// TestDocsBesideAServer lists, exports, erases and imports documents of a server that runs, by its folder, and finds what waits alone.
func TestDocsBesideAServer(t *testing.T) {
	t.Parallel()
	s := serve(t, halcyon)
	write := func(document string, update []byte) {
		t.Helper()
		writes := []any{map[string]any{"id": "key of " + document, "document": document, "bytes": map[string]string{"$bytes": base64.StdEncoding.EncodeToString(update)}}}
		if err := s.call("mutation", "tasks:replicateBatch", map[string]any{"writes": writes}, new(any)); err != nil {
			t.Fatal(err)
		}
	}
	doc := yjs.NewDoc(nil)
	set := func(title string) []byte {
		t.Helper()
		before := doc.State()
		if err := doc.Map("fields").Set("title", title); err != nil {
			t.Fatal(err)
		}
		return doc.EncodeStateV2(before)
	}
	first, second := set("one"), set("two")
	write("plan", first)
	write("unbegun", second)
	list := func() []string {
		t.Helper()
		var found []string
		for line := range strings.Lines(run(t, halcyon, s.dir, "docs", "list", "tasks", "--json")) {
			var row struct {
				Document string
				Deleted  bool
				Waiting  int
				Unbegun  bool
			}
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Fatal(err)
			}
			state := ""
			if row.Deleted {
				state += " deleted"
			}
			if row.Unbegun {
				state += " unbegun"
			}
			if row.Waiting > 0 {
				state += " waiting"
			}
			found = append(found, row.Document+state)
		}
		return found
	}
	wantList := func(when string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, list()); diff != "" {
			t.Errorf("%s the list is (-want +got):\n%s", when, diff)
		}
	}
	wantList("at first", "plan", "unbegun unbegun waiting")
	exported := run(t, halcyon, s.dir, "docs", "export", "tasks")
	if strings.Count(exported, "\n") != 1 {
		t.Errorf("the export is %q", exported)
	}
	run(t, halcyon, s.dir, "docs", "delete", "tasks", "plan")
	wantList("after a deletion", "plan deleted", "unbegun unbegun waiting")
	run(t, halcyon, s.dir, "docs", "delete", "--erase", "tasks", "plan", "unbegun")
	wantList("after all was erased")
	file := filepath.Join(t.TempDir(), "tasks.ndjson")
	if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing new
		run(t, halcyon, s.dir, "docs", "import", "tasks", file)
	}
	wantList("after an import", "plan")
	if diff := cmp.Diff([]string{"one"}, storedTasks(s)); diff != "" {
		t.Errorf("what the server has (-want +got):\n%s", diff)
	}
}
