package cli

import (
	"archive/zip"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
)

type convexRoom struct {
	ID   halcyon.ID[convexRoom] `halcyon:"id"`
	Name string                 `json:"name"`
}

type convexMessage struct {
	Room   halcyon.ID[convexRoom] `json:"room"`
	Size   int64                  `json:"size"`
	Image  []byte                 `json:"image"`
	Weight float64                `json:"weight"`
	Seen   map[string]int64       `json:"seen"`
	Reply  *convexReply           `json:"reply"`
	Other  any                    `json:"other"`
}

type convexReply struct {
	halcyon.Union `json:"kind"`
	Text          *convexText  `json:"text"`
	Count         *convexCount `json:"count"`
}

type convexText struct {
	Body string `json:"body"`
}

type convexCount struct {
	N int64 `json:"n"`
}

// convexModule has two tables; more of others before them give them other numbers.
func convexModule(before ...halcyon.TableDef) *halcyon.Module {
	rooms, messages := halcyon.NewTable[convexRoom]("rooms"), halcyon.NewTable[convexMessage]("messages")
	m := halcyon.NewModule("chat", append(before, rooms, messages)...)
	m.Mutation("fill", func(tx *halcyon.Tx) error {
		room, err := rooms.Insert(tx, convexRoom{Name: "general"})
		if err != nil {
			return err
		}
		for _, message := range []convexMessage{
			{Room: room, Size: 1 << 60, Image: []byte{0, 255}, Weight: 1.5, Seen: map[string]int64{"ann": -3}, Other: map[string]any{"in": string(room)}},
			{Room: room, Image: []byte{}, Reply: &convexReply{Count: &convexCount{7}}, Other: "text"},
			{Room: room, Image: []byte("a"), Reply: &convexReply{Text: &convexText{"12"}}},
		} {
			if _, err := messages.Insert(tx, message); err != nil {
				return err
			}
		}
		return nil
	})
	return m
}

func TestConvexExportAndImport(t *testing.T) {
	dir := t.TempDir()
	from, to, file := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "chat.zip")
	run := func(m *halcyon.Module, args ...string) outcome {
		t.Helper()
		got := callWith(t, m, args...)
		if got.status != exitOK {
			t.Fatalf("%v: %+v", args, got)
		}
		return got
	}
	there := func() *halcyon.Module { return convexModule() }
	here := func() *halcyon.Module {
		return convexModule(halcyon.NewTable[note]("first"), halcyon.NewTable[note]("second"))
	}
	run(there(), "run", "--storage.dir", from, "chat:fill")
	run(there(), "convex", "export", "--storage.dir", from, "--module", "chat", file)
	if got := callWith(t, there(), "convex", "export", "--storage.dir", from, "--module", "chat", file); got.status != exitFailed || !strings.Contains(got.stderr, "hint: name a file") {
		t.Errorf("an export over another: %+v", got)
	}

	got := run(here(), "convex", "import", "--storage.dir", to, "--dry-run", file)
	if !strings.Contains(got.stderr, "chat/messages: checked 3 documents.") || !strings.Contains(got.stderr, "chat/rooms: checked 1 documents.") {
		t.Errorf("dry run: %+v", got)
	}
	run(here(), "convex", "import", "--storage.dir", to, file)
	if got := run(here(), "convex", "import", "--storage.dir", to, file); strings.Count(got.stderr, "all is there already") != 2 || strings.Contains(got.stderr, "imported") {
		t.Errorf("the same command again: %+v", got)
	}
	if got := run(here(), "convex", "import", "--storage.dir", to, "--append", file); !strings.Contains(got.stderr, "imported 3 documents, of which 3 were there") {
		t.Errorf("the same again: %+v", got)
	}

	// What differs is the number of the tables in the ids, and nothing else.
	texts := func(m *halcyon.Module, data string) string {
		all := ""
		for _, table := range []string{"rooms", "messages"} {
			all += run(m, "data", "list", "--storage.dir", data, "chat/"+table).stdout
			if m = there(); data == to {
				m = here()
			}
		}
		return all
	}
	want, have := texts(there(), from), texts(here(), to)
	first := func(text string) value.ID {
		id, err := value.ParseID(idText.FindString(text))
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	apart := first(have).Table - first(want).Table
	if translated := eachID(want, func(id value.ID) value.ID { id.Table += apart; return id }); translated != have {
		t.Errorf("documents (-exported +imported):\n%s", cmp.Diff(translated, have))
	}
	if want == have {
		t.Error("the tables have the same numbers, so this shows little")
	}

	run(here(), "run", "--storage.dir", to, "chat:fill")
	if got := callWith(t, here(), "convex", "import", "--storage.dir", to, file); got.status != exitFailed ||
		!strings.Contains(got.stderr, "has 6 documents, and 3 of the 3 of the export are among them") || !strings.Contains(got.stderr, "--append") {
		t.Errorf("an import over other documents: %+v", got)
	}
}

// An import that ends at one of its tables leaves those before it filled, says how to go on, and goes on by the same command.
func TestConvexImportGoesOn(t *testing.T) {
	type named struct {
		Name string `json:"name"`
	}
	dir := t.TempDir()
	data, file := filepath.Join(dir, "data"), filepath.Join(dir, "export.zip")
	line := func(table uint32, name string) string {
		return `{"_creationTime":1700000000000,"_id":"` + value.NewID(table, testTime, uint64(len(name))).String() + `","name":"` + name + `"}` + "\n"
	}
	files := map[string]string{"a/documents.jsonl": line(10_007, "one"), "b/documents.jsonl": line(10_008, "one") + line(10_008, "three"), "c/documents.jsonl": line(10_009, "one")}
	writeZip(t, file, files)
	files["b/documents.jsonl"] = strings.ReplaceAll(files["b/documents.jsonl"], "three", "one")
	twice := filepath.Join(dir, "twice.zip")
	writeZip(t, twice, files)

	module := func() *halcyon.Module {
		return halcyon.NewModule("m", halcyon.NewTable[named]("a"), halcyon.NewTable[named]("b").Unique("by_name", "name"), halcyon.NewTable[named]("c"))
	}
	got := callWith(t, module(), "convex", "import", "--storage.dir", data, twice)
	if got.status != exitFailed || !strings.Contains(got.stderr, "table m/b: ") || !strings.Contains(got.stderr, "1 of 3 tables were filled before this one") {
		t.Fatalf("an import with a name that is there twice: %+v", got)
	}
	count := func() (n string) {
		for _, table := range []string{"a", "b", "c"} {
			n += fmt.Sprint(strings.Count(callWith(t, module(), "data", "list", "--storage.dir", data, "m/"+table).stdout, "\n"))
		}
		return n
	}
	if got := count(); got != "100" {
		t.Errorf("the tables have %s documents, want 100", got)
	}
	got = callWith(t, module(), "convex", "import", "--storage.dir", data, file)
	if got.status != exitOK || !strings.Contains(got.stderr, "m/a: all is there already.") || !strings.Contains(got.stderr, "m/b: imported 2 documents.") {
		t.Errorf("the mended export: %+v", got)
	}
	if got := count(); got != "121" {
		t.Errorf("the tables have %s documents, want 121", got)
	}
}

var (
	idText   = regexp.MustCompile(`[0-9a-z]{31,37}`)
	testTime = time.UnixMilli(1_700_000_000_000)
)

// eachID replaces the ids in a text.
func eachID(text string, by func(value.ID) value.ID) string {
	return idText.ReplaceAllStringFunc(text, func(s string) string {
		id, err := value.ParseID(s)
		if err != nil {
			return s
		}
		return by(id).String()
	})
}

// TestConvexImportOf has zips as a project's export makes them, and such that can't be taken.
func TestConvexImportOf(t *testing.T) {
	room := value.NewID(10_007, testTime, 1).String()
	message := value.NewID(10_008, testTime, 2).String()
	tables := `{"name":"rooms","id":10007}` + "\n" + `{"name":"messages","id":10008}` + "\n"
	rooms := `{"_creationTime":1700000000000.25,"_id":"` + room + `","name":"general"}` + "\n"
	messages := `{"_creationTime":1700000000001,"_id":"` + message + `","image":"AP8=","other":null,"room":"` + room + `","seen":{},"size":"9007199254740993","weight":"NaN"}` + "\n"
	for _, test := range []struct {
		name   string
		files  map[string]string
		args   []string
		status int
		says   string // on standard error
		has    string // in the listed documents
	}{
		{
			name: "all there is",
			files: map[string]string{
				"README.md": "An export", "_tables/documents.jsonl": tables, "_storage/documents.jsonl": "{}\n", "_storage/kg2": "x",
				"rooms/documents.jsonl": rooms, "rooms/generated_schema.jsonl": `"x"`, "messages/documents.jsonl": messages,
			},
			says: "files of the storage: 2 files are left out.",
			has:  `"size":{"$integer":"AQAAAAAAIAA="},"weight":{"$float":"AAAAAAAA+H8="}`,
		},
		{name: "no numbers", files: map[string]string{"rooms/documents.jsonl": rooms, "messages/documents.jsonl": messages}, says: "chat/messages: imported 1 documents.", has: `"name":"general"`},
		{
			// A snapshot with files, as the dashboard makes it, without types: tables that are not of the program's own, folders as entries, a table without documents.
			name: "a snapshot with files",
			files: map[string]string{
				"_tables/": "", "_tables/documents.jsonl": tables + `{"name":"_storage","id":10009}` + "\n", "rooms/": "", "rooms/documents.jsonl": rooms, "messages/": "", "messages/documents.jsonl": "",
				"_storage/documents.jsonl":                                       `{"_id":"` + value.NewID(10_009, testTime, 3).String() + `","_creationTime":1700000000000.5,"contentType":"text/plain","internalId":"0b3e4e2d-0000-4000-8000-000000000000","sha256":"n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg=","size":4}` + "\n",
				"_storage/" + value.NewID(10_009, testTime, 3).String() + ".txt": "test",
			},
			says: "chat/messages: imported 0 documents.", has: `"name":"general"`,
		},
		{
			// Made by hand, as Convex's own import takes it: no ids, no times, empty lines, numbers without a point.
			name: "made by hand", files: map[string]string{"rooms/documents.jsonl": "\n" + `{"name":"attic"}` + "\r\n\n" + `{"name":"cellar"}`},
			says: "chat/rooms: imported 2 documents.", has: `"name":"cellar"`,
		},
		{
			name:  "a component",
			files: map[string]string{"_components/talk/_tables/documents.jsonl": tables, "_components/talk/rooms/documents.jsonl": rooms, "users/documents.jsonl": "{}\n"},
			args:  []string{"--component", "talk", "--module", "chat"}, says: "chat/rooms: imported 1 documents.", has: `"name":"general"`,
		},
		{name: "no such component", files: map[string]string{"rooms/documents.jsonl": rooms}, args: []string{"--component", "talk"}, status: exitFailed, says: `no component "talk"`},
		{
			name: "unknown table", files: map[string]string{"rooms/documents.jsonl": rooms, "users/documents.jsonl": "{}\n"},
			status: exitFailed, says: "no table for these of the export: users",
		},
		{
			name: "left out", files: map[string]string{"rooms/documents.jsonl": rooms, "users/documents.jsonl": "{}\n"}, args: []string{"--skip", "users"},
			says: "chat/rooms: imported 1 documents.", has: `"name":"general"`,
		},
		{name: "nothing to leave out", files: map[string]string{"rooms/documents.jsonl": rooms}, args: []string{"--skip", "users"}, status: exitUsage, says: "no such table"},
		{
			name:   "a document that does not fit keeps all of them out",
			files:  map[string]string{"_tables/documents.jsonl": tables, "rooms/documents.jsonl": rooms, "messages/documents.jsonl": strings.Replace(messages, `"9007199254740993"`, `"many"`, 1)},
			status: exitFailed, says: "size",
		},
		{name: "a table of another project", files: map[string]string{"_tables/documents.jsonl": `{"name":"other","id":10007}`, "rooms/documents.jsonl": "{\"_id\":7}\n"}, status: exitFailed, says: "_id"},
		{name: "no JSON", files: map[string]string{"rooms/documents.jsonl": "{\n"}, status: exitFailed, says: "rooms/documents.jsonl: line 1"},
		{name: "empty", files: map[string]string{}, status: exitFailed, says: "no tables"},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "export.zip")
			writeZip(t, file, test.files)
			data := filepath.Join(dir, "data")
			got := callWith(t, convexModule(), append([]string{"convex", "import", "--storage.dir", data, file}, test.args...)...)
			if got.status != test.status || !strings.Contains(got.stderr, test.says) {
				t.Fatalf("status %d, want %d and %q in:\n%s", got.status, test.status, test.says, got.stderr)
			}
			listed := ""
			for _, table := range []string{"rooms", "messages"} {
				listed += callWith(t, convexModule(), "data", "list", "--storage.dir", data, table).stdout
			}
			if test.has == "" && listed != "" || !strings.Contains(listed, test.has) {
				t.Errorf("documents, want %q in:\n%s", test.has, listed)
			}
		})
	}
	if got := call(t, "", "convex", "import", "--storage.dir", t.TempDir(), os.DevNull); got.status != exitFailed || !strings.Contains(got.stderr, "npx convex export") {
		t.Errorf("no zip: %+v", got)
	}
}

func writeZip(t *testing.T, file string, files map[string]string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(f)
	for name, text := range files {
		out, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}
