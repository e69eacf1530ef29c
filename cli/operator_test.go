package cli

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/server"
)

var requestIDs = regexp.MustCompile(`\[Request ID: [0-9a-f]+\]`)

// TestVerbsWorkWhereTheDataIs does the same on a folder that nobody has open, on one that a server has open, and through the address of a
// server with an admin key: the answers are the same.
func TestVerbsWorkWhereTheDataIs(t *testing.T) {
	want := ""
	for _, where := range []string{"stopped", "running", "remote"} {
		t.Run(where, func(t *testing.T) {
			dir := t.TempDir()
			data := filepath.Join(dir, "data")
			flags := []string{"--storage.dir", data, "--log.level=error"}
			if where != "stopped" {
				s := serve(t, data)
				defer s.stop()
				if where == "remote" {
					made := call(t, "", "key", "create", "script", "--storage.dir", data)
					if made.status != exitOK {
						t.Fatalf("key create: %+v", made)
					}
					flags = []string{"--url", s.url, "--key", strings.TrimSpace(made.stdout)}
				}
			}
			lines := filepath.Join(dir, "lines")
			if err := os.WriteFile(lines, []byte("{\"text\":\"first\"}\n\n{\"text\":\"second\"}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			var told strings.Builder
			verb := func(args ...string) outcome {
				t.Helper()
				got := call(t, "", append(args, flags...)...)
				shown := requestID.ReplaceAllString(got.stderr, "Request ID: ID")
				if got.status == exitOK {
					shown = "" // hints and progress differ
				}
				shown = requestIDs.ReplaceAllString(shown, "[Request ID: ID]")
				fmt.Fprintf(&told, "%v: %d\n%s%s", strings.ReplaceAll(fmt.Sprint(args), dir, "DIR"), got.status, strings.ReplaceAll(got.stdout, dir, "DIR"), strings.ReplaceAll(shown, dir, "DIR"))
				return got
			}
			verb("data", "import", "notes", lines)
			verb("data", "import", "notes/notes", lines)
			verb("data", "import", "notes/none", lines)
			verb("data", "import", "notes", lines, "--append", "--new-ids")
			verb("run", "notes:add", `{"text": "third"}`)
			verb("run", "notes:clear")
			verb("run", "notes:add", `{"text": ""}`)
			verb("run", "notes:list")
			if got := verb("data", "list", "notes", "--index", "none"); got.status != exitFailed || !strings.Contains(got.stderr, "data tables") {
				t.Errorf("an index that is not there: %+v", got)
			}
			var listed []map[string]any
			for line := range strings.Lines(call(t, "", append([]string{"data", "list", "notes", "--desc", "--limit", "2"}, flags...)...).stdout) {
				var d map[string]any
				if err := json.Unmarshal([]byte(line), &d); err != nil {
					t.Fatalf("%q: %v", line, err)
				}
				listed = append(listed, d)
			}
			if len(listed) != 2 || listed[0]["text"] != "third" || listed[1]["text"] != "second" || listed[0]["_id"] == nil || listed[0]["_creationTime"] == nil {
				t.Errorf("the last two documents are %v", listed)
			}
			exported := filepath.Join(dir, "exported")
			verb("data", "export", "notes", exported)
			verb("data", "export", "notes", exported)
			text, err := os.ReadFile(exported)
			if err != nil || strings.Count(string(text), "\n") != 5 {
				t.Errorf("exported %q, %v", text, err)
			}
			verb("data", "import", "notes", exported, "--append", "--json")
			verb("data", "import", "notes", exported, "--replace", "--json")
			wrong := filepath.Join(dir, "wrong")
			if err := os.WriteFile(wrong, []byte("{\"text\":\"new\"}\n{\"text\":1}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			verb("data", "import", "notes", wrong, "--replace") // and the old ones stay
			verb("data", "import", "notes", wrong, "--dry-run", "--json")
			verb("data", "import", "notes", exported, "--dry-run", "--json")
			if again := call(t, "", append([]string{"data", "export", "notes"}, flags...)...); again.stdout != string(text) {
				t.Errorf("exported %q, imported and exported again: %+v", text, again)
			}
			var tables []server.ListedTable
			for line := range strings.Lines(call(t, "", append([]string{"data", "tables", "--json"}, flags...)...).stdout) {
				var lt server.ListedTable
				if err := json.Unmarshal([]byte(line), &lt); err != nil {
					t.Fatal(err)
				}
				if lt.Number == 0 {
					t.Errorf("table %s has no number", lt.Name)
				}
				lt.Bytes, lt.Number = 0, 0
				tables = append(tables, lt)
			}
			if len(tables) == 0 {
				t.Fatal("no tables")
			}
			if diff := cmp.Diff(server.ListedTable{Name: "notes/notes", Documents: 5, Indexes: []server.ListedIndex{}, Aggregates: []string{"count"}}, tables[0]); diff != "" {
				t.Error(diff)
			}
			if got := call(t, "", append([]string{"key", "create", "ann"}, flags...)...); got.status != exitOK { // not told: it is another each time
				t.Errorf("key create: %+v", got)
			}
			verb("key", "create", "ann")
			verb("key", "revoke", "bob")
			verb("key", "revoke", "ann")
			if got := call(t, "", append([]string{"verify", "--json"}, flags...)...); got.status != exitOK || !strings.Contains(got.stdout, `"ok":true`) {
				t.Errorf("verify: %+v", got)
			}
			backup := filepath.Join(dir, "backup")
			if got := call(t, "", append([]string{"backup", backup}, flags...)...); got.status != exitOK || !strings.HasPrefix(got.stdout, backup+": as of ") {
				t.Errorf("backup: %+v", got)
			}
			if got := call(t, "", append([]string{"backup", backup}, flags...)...); got.status != exitFailed || !strings.Contains(got.stderr, "does not exist") {
				t.Errorf("backup over another: %+v", got)
			}
			if got := call(t, "", "run", "--storage.dir", backup, "--log.level=error", "notes:list"); got.stdout != `["first","second","first","second","third"]`+"\n" {
				t.Errorf("the backup holds %+v", got)
			}
			// A command of a module that is declared as Served.
			added := call(t, "", append(append([]string{"notes", "add-all"}, flags...), "fourth", "fifth")...)
			fmt.Fprintf(&told, "add-all: %d %s%s", added.status, added.stdout, added.stderr)
			if added.status != exitOK || !strings.HasSuffix(added.stdout, " fifth\n") {
				t.Errorf("add-all: %+v", added)
			}
			if got := call(t, "", append(append([]string{"notes", "add-all"}, flags...), "")...); got.status != exitFailed || !strings.Contains(got.stderr, "notes:add") {
				t.Errorf("add-all of nothing: %+v, want the failure of the function", got)
			}
			if want == "" {
				want = told.String()
			}
			if diff := cmp.Diff(want, told.String()); diff != "" {
				t.Errorf("it differs from a stopped folder (-stopped +%s):\n%s", where, diff)
			}
		})
	}
}

var requestID = regexp.MustCompile("Request ID: [0-9a-f]+")

// TestOperatorNeedsAKey: over the network nothing is told without one, and what a person reads says what to do.
func TestOperatorNeedsAKey(t *testing.T) {
	s := serve(t, t.TempDir())
	defer s.stop()
	unused, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + unused.Addr().String()
	if err := unused.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"no key", []string{"--url", s.url}, exitUsage, "HALCYON_ADMIN_KEY"},
		{"a wrong key", []string{"--url", s.url, "--key", "ann|" + strings.Repeat("0", 64)}, exitFailed, "key create NAME"},
		{"no key at all", []string{"--url", s.url, "--key", "x"}, exitFailed, "key create NAME"},
		{"no URL", []string{"--url", "nonsense", "--key", "x"}, exitUsage, "https://"},
		{"nobody there", []string{"--url", closed, "--key", "x"}, exitFailed, "see whether the server runs"},
		{"something else there", []string{"--url", s.url + "/hello", "--key", "x"}, exitFailed, "of this version"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, verb := range [][]string{{"data", "tables"}, {"run", "notes:list"}, {"key", "list"}, {"verify"}, {"backup", filepath.Join(t.TempDir(), "b")}} {
				got := call(t, "", append(verb, tt.args...)...)
				if got.status != tt.status || got.stdout != "" || !strings.Contains(got.stderr, "hint: ") || !strings.Contains(got.stderr, tt.want) {
					t.Errorf("%v: %+v", verb, got)
				}
			}
		})
	}
}

// TestOperatorSocketInADeepFolder: the path of a socket may have about a hundred bytes.
func TestOperatorSocketInADeepFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 60), strings.Repeat("e", 60))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := serve(t, dir)
	info, err := os.Stat(filepath.Join(dir, operatorSocket))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the socket: %v, %v", info, err)
	}
	if got := call(t, "", "run", "--storage.dir", dir, "notes:list"); got.status != exitOK || got.stdout != "[]\n" {
		t.Errorf("%+v", got)
	}
	s.stop()
	if _, err := os.Stat(filepath.Join(dir, operatorSocket)); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestImportThatIsRefused sends far more than what fits into the buffers of a connection, of which the first line is wrong: the answer says
// so, and not that the connection broke.
func TestImportThatIsRefused(t *testing.T) {
	dir := t.TempDir()
	lines := filepath.Join(dir, "lines")
	text := "{\"text\":5}\n" + strings.Repeat("{\"text\":\""+strings.Repeat("x", 1000)+"\"}\n", 20_000)
	if err := os.WriteFile(lines, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, filepath.Join(dir, "data"))
	defer s.stop()
	key := strings.TrimSpace(call(t, "", "key", "create", "k", "--storage.dir", filepath.Join(dir, "data")).stdout)
	for name, tt := range map[string]struct {
		flags []string
		want  string
	}{
		"a wrong line through the socket":   {[]string{"--storage.dir", filepath.Join(dir, "data")}, "document 1: "},
		"a wrong line over the network":     {[]string{"--url", s.url, "--key", key}, "document 1: "},
		"no such table over the network":    {[]string{"--url", s.url, "--key", key, "--append"}, "no such table"},
		"a wrong key, known before a line ": {[]string{"--url", s.url, "--key", "k|" + strings.Repeat("0", 64)}, "key create NAME"},
	} {
		table := "notes"
		if strings.Contains(name, "table") {
			table = "none"
		}
		if got := call(t, "", append([]string{"data", "import", table, lines}, tt.flags...)...); got.status != exitFailed || !strings.Contains(got.stderr, tt.want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
