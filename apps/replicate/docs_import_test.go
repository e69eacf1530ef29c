package replicate_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/yjs"
)

// exportLine returns a document as a line of an export.
func exportLine(t testing.TB, document string, state []byte) string {
	t.Helper()
	line, err := json.Marshal(map[string]any{"document": document, "update": state})
	if err != nil {
		t.Fatal(err)
	}
	return string(line) + "\n"
}

// titled returns the state in V1 of a document with a title.
func titled(t testing.TB, client uint64, title string) []byte {
	p := newPeer(t, client)
	p.set("title", title)
	return p.doc.EncodeState(nil)
}

// told are the lines of an import with --json.
type told struct {
	Failed  []failed
	Summary summary
}

type failed struct{ Source, Document, Status, Code, Message string }

type summary struct {
	Collection                       string
	Written, Known, Waiting, Refused int
	Done                             bool
	Error                            string
}

// parseTold reads the lines of an import with --json.
func parseTold(t testing.TB, out string) (got told) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(out), "\n")
	for _, line := range lines[:len(lines)-1] {
		var f failed
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got.Failed = append(got.Failed, f)
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got.Summary); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return got
}

// damage is a state that is no state of a document.
type damage struct {
	name, code, says string
	state            []byte
	size             int64 // of a file in place of state
}

func damages(t testing.TB) []damage {
	good := titled(t, 7, "a title that is long enough to be cut in its middle")
	v2, err := yjs.ConvertV1ToV2(good)
	if err != nil {
		t.Fatal(err)
	}
	return []damage{
		{name: "truncated", state: good[:len(good)/2], code: "UpdateMalformed"},
		{name: "truncated by a byte", state: good[:len(good)-1], code: "UpdateMalformed"},
		{name: "garbage", state: []byte(strings.Repeat("\xfegarbage\xff", 40)), code: "UpdateMalformed"},
		{name: "longer than it is", state: append(good[:len(good):len(good)], 0), code: "UpdateMalformed"},
		{name: "a V2 update", state: v2, code: "UpdateMalformed", says: "use --v2"},
		{name: "an empty V2 update", state: []byte("\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00"), code: "UpdateMalformed", says: "use --v2"},
		{name: "empty", state: []byte{}, code: "UpdateMalformed", says: "it is empty"},
		{name: "100 MB", size: 100e6, code: "UpdateTooLarge", says: "100000000 bytes"},
		{name: "a field of another kind", state: func() []byte {
			p := newPeer(t, 8)
			p.set("title", 5)
			return p.doc.EncodeState(nil)
		}(), code: "FieldInvalid"},
	}
}

// TestImportOfDamagedFiles names each file of a folder that can't be imported, and imports the others. A second time there is nothing new.
func TestImportOfDamagedFiles(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	folder := t.TempDir()
	put := func(name string, state []byte, size int64) {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, state, 0o600)); err != nil {
			t.Fatal(err)
		}
		if size > 0 {
			if err := os.Truncate(path, size); err != nil { // it takes no room on the disk
				t.Fatal(err)
			}
		}
	}
	put("a.yjs", titled(t, 1, "first"), 0)
	put("z/last.yjs", titled(t, 2, "last"), 0)
	put(".hidden", []byte("of the file system"), 0)
	want := map[string]damage{}
	for _, d := range damages(t) {
		put("m/"+d.name+".yjs", d.state, d.size)
		want["m/"+d.name] = d
	}
	long := strings.Repeat("l", 200)
	put(filepath.Join("n", long, long), titled(t, 3, "its name is too long"), 0)
	want["n/"+long+"/"+long] = damage{code: "DocumentInvalid"}
	put("n/\xff", titled(t, 3, "its name is no text"), 0)
	want["n/\ufffd"] = damage{code: "DocumentInvalid"}

	for again, written := range []int{2, 0} {
		out, _, err := w.docsFrom(strings.NewReader(""), w.app.Run, "import", "tasks", folder, "--json")
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(len(want), " documents or files were not imported")) {
			t.Errorf("the import ended with %v", err)
		}
		got := parseTold(t, out)
		if diff := cmp.Diff(summary{Collection: "tasks", Written: written, Known: 2 - written, Refused: len(want), Done: true}, got.Summary); diff != "" {
			t.Errorf("import %d (-want +got):\n%s", again, diff)
		}
		for _, f := range got.Failed {
			d, ok := want[f.Document]
			if !ok || f.Code != d.code || f.Status != "refused" || !strings.Contains(f.Message, d.says) || !strings.HasPrefix(f.Source, folder+"/") {
				t.Errorf("it told %+v, want %s with %q", f, d.code, d.says)
			}
		}
		if len(got.Failed) != len(want) {
			t.Errorf("it named %d files, want %d", len(got.Failed), len(want))
		}
	}
	if diff := cmp.Diff(map[string]string{"a": `{"title":"first"}`, "z/last": `{"title":"last"}`}, w.material("")); diff != "" {
		t.Errorf("material (-want +got):\n%s", diff)
	}
}

// TestImportOfDamagedLines does the same with the lines of an export.
func TestImportOfDamagedLines(t *testing.T) {
	type lineCase struct {
		damage
		line, document string
	}
	var cases []lineCase
	for _, d := range damages(t) {
		if d.size == 0 {
			cases = append(cases, lineCase{d, exportLine(t, "x", d.state), "x"})
		}
	}
	good := exportLine(t, "x", titled(t, 3, "x"))
	cases = append(cases, []lineCase{
		{damage{name: "a line that was cut", code: "UpdateMalformed", says: "not as docs export writes it"}, good[:len(good)/2] + "\n", "x"},
		{damage{name: "a line of something else", code: "UpdateMalformed", says: "not as docs export writes it"}, "nonsense\n", ""},
		{damage{name: "no document", code: "UpdateMalformed", says: "has no document"}, `{"update":"AAA="}` + "\n", ""},
		{damage{name: "no update", code: "UpdateMalformed", says: "has no update"}, `{"document":"x"}` + "\n", "x"},
		{damage{name: "no base64", code: "UpdateMalformed"}, `{"document":"x","update":"%%%"}` + "\n", "x"},
		{damage{name: "no name", code: "DocumentInvalid"}, `{"document":"","update":"AAA="}` + "\n", ""},
		{damage{name: "a name that is too long", code: "DocumentInvalid"}, exportLine(t, strings.Repeat("l", 257), []byte{0, 0}), strings.Repeat("l", 257)},
		{damage{name: "a name that is no text", code: "UpdateMalformed", says: "not UTF-8"}, "{\"document\":\"\xff\",\"update\":\"AAA=\"}\n", "\ufffd"},
		{damage{name: "a line that is too long", code: "UpdateTooLarge", says: "the line has"}, `{"document":"x","update":"` + strings.Repeat("A", 60e6) + "\"}\n", "x"},
	}...)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			in := exportLine(t, "a", titled(t, 1, "first")) + c.line + "\n" + exportLine(t, "z", titled(t, 2, "last"))
			out, _, err := w.docsFrom(strings.NewReader(in), w.app.Run, "import", "--json", "tasks")
			if err == nil {
				t.Error("the import went well")
			}
			got := parseTold(t, out)
			if got.Summary.Written != 2 || got.Summary.Refused != 1 || !got.Summary.Done || len(got.Failed) != 1 {
				t.Fatalf("it told %+v", got)
			}
			if f := got.Failed[0]; f.Code != c.code || f.Document != c.document || !strings.Contains(f.Message, c.says) || f.Source != "standard input:2" {
				t.Errorf("it told %+v, want %s with %q", f, c.code, c.says)
			}
			if got := w.material(""); len(got) != 2 {
				t.Errorf("the material is %v", got)
			}
		})
	}
	t.Run("a file that ends within a line", func(t *testing.T) {
		w := newWorld(t, replicate.Options{})
		_, talk, err := w.docsFrom(strings.NewReader(exportLine(t, "a", titled(t, 1, "first"))+good[:40]), w.app.Run, "import", "tasks")
		if err == nil || !strings.Contains(talk, `standard input:2: document "x": UpdateMalformed`) || !strings.Contains(talk, "the file ends within it") ||
			!strings.Contains(talk, "1 documents written, 0 had all of it, 0 lack what they build on, 1 refused") {
			t.Errorf("it said %s, %v", talk, err)
		}
	})
	t.Run("nothing but a line of spaces that is too long", func(t *testing.T) {
		w := newWorld(t, replicate.Options{})
		_, talk, err := w.docsFrom(strings.NewReader(strings.Repeat(" ", 60e6)), w.app.Run, "import", "tasks")
		if err == nil || strings.Count(talk, "UpdateMalformed") != 1 || !strings.Contains(talk, "use --document") {
			t.Errorf("it said %s, %v", talk, err)
		}
	})
	t.Run("a file that is no export", func(t *testing.T) {
		w := newWorld(t, replicate.Options{})
		_, talk, err := w.docsFrom(strings.NewReader(string(titled(t, 1, "\n\n\n"))), w.app.Run, "import", "tasks")
		if err == nil || strings.Count(talk, "UpdateMalformed") != 1 || !strings.Contains(talk, "use --document") {
			t.Errorf("it said %s, %v", talk, err)
		}
	})
}

// TestImportThatStops says how far it came, and goes on where it was when it is repeated.
func TestImportThatStops(t *testing.T) {
	const documents = 250
	var in strings.Builder
	for i := range documents {
		in.WriteString(exportLine(t, fmt.Sprintf("%03d", i), titled(t, uint64(i+1), fmt.Sprint(i))))
	}
	for _, tt := range []struct {
		name    string
		in      io.Reader
		call    func(*world, context.CancelFunc) callFunc
		written int
	}{
		{"the server goes", strings.NewReader(in.String()), func(w *world, _ context.CancelFunc) callFunc {
			calls := 0
			return func(ctx context.Context, path string, args, result any) error {
				if calls++; calls == 2 {
					return halcyon.Refuse(halcyon.CodeUnavailable, nil)
				}
				return w.app.Run(ctx, path, args, result)
			}
		}, 100},
		{"the input can't be read", io.MultiReader(strings.NewReader(in.String()[:strings.Index(in.String(), `"130"`)-20]), iotest.ErrReader(errors.New("a bad sector"))),
			func(w *world, _ context.CancelFunc) callFunc { return w.app.Run }, 129},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			out, _, err := w.docsFrom(tt.in, tt.call(w, nil), "import", "--json", "tasks")
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("stopped after %d documents", tt.written)) || !strings.Contains(err.Error(), "import the same again") {
				t.Errorf("the import ended with %v", err)
			}
			if got := parseTold(t, out).Summary; got.Written != tt.written || got.Done || got.Error == "" {
				t.Errorf("it told %+v", got)
			}
			_, talk, err := w.docsFrom(strings.NewReader(in.String()), w.app.Run, "import", "tasks")
			if want := fmt.Sprintf("%d documents written, %d had all of it", documents-tt.written, tt.written); err != nil || !strings.Contains(talk, want) {
				t.Errorf("again it said %s, %v, want %s", talk, err, want)
			}
			if got := w.material(""); len(got) != documents {
				t.Errorf("there are %d documents", len(got))
			}
		})
	}
}

// TestImportIntoABusyServer waits for the server, and takes documents one by one that are too much together.
func TestImportIntoABusyServer(t *testing.T) {
	var in strings.Builder
	for i := range 20 {
		in.WriteString(exportLine(t, fmt.Sprint(i), titled(t, uint64(i+1), fmt.Sprint(i))))
	}
	synctest.Test(t, func(t *testing.T) {
		refusals, written := 0, map[string]bool{}
		call := func(_ context.Context, _ string, args, result any) error {
			if refusals++; refusals < 10 {
				return halcyon.Refuse(halcyon.CodeOverloaded, nil)
			}
			var asked struct {
				Writes []struct {
					Document string
					Update   []byte
				}
			}
			encoded, err := halcyon.Encode(args)
			if err == nil {
				err = halcyon.Decode(encoded, &asked)
			}
			if err != nil {
				return err
			}
			for _, one := range asked.Writes {
				if one.Document == "7" {
					return fmt.Errorf("run: %w", &halcyon.Failure{Code: halcyon.CodeTimeout, Message: "it took too long"})
				}
			}
			var results []map[string]any
			for _, one := range asked.Writes[:(len(asked.Writes)+1)/2] { // the rest was not looked at
				written[one.Document] = true
				results = append(results, map[string]any{"status": "applied"})
			}
			if encoded, err = halcyon.Encode(results); err != nil {
				return err
			}
			return halcyon.Decode(encoded, result)
		}
		start := time.Now()
		out, _, err := runDocs(t, replicate.New(replicate.Options{Name: "tasks"}), strings.NewReader(in.String()), call, "import", "--json", "tasks")
		got := parseTold(t, out)
		if err == nil || got.Summary.Written != 19 || len(written) != 19 || len(got.Failed) != 1 || got.Failed[0].Document != "7" || got.Failed[0].Code != "Timeout" {
			t.Errorf("it told %+v, %v", got, err)
		}
		if waited := time.Since(start); waited < time.Second {
			t.Errorf("it asked a busy server 10 times in %v", waited)
		}
	})
}

// TestLargeDocumentsMove from one server to another as they are, also one that is larger than an update may be.
func TestLargeDocumentsMove(t *testing.T) {
	w, other := newWorld(t, replicate.Options{}), newWorld(t, replicate.Options{})
	p := newPeer(t, 1)
	for range 2 {
		w.must("", "large", p.edit(func() error { return p.doc.Text("body").Insert(0, strings.Repeat("large ", 3<<20/6), nil) }))
	}
	w.must("", "small", newPeer(t, 2).set("title", "small"))
	all, err := w.docs("", "export", "tasks")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.docs(all, "import", "tasks"); err != nil {
		t.Fatal(err)
	}
	same(t, "the large document", p, other.recoverAs("", "large", nil).Bytes)
	if one, err := other.docs("", "export", "tasks", "--document", "small", "--json"); err != nil || !strings.HasSuffix(all, one) {
		t.Errorf("the small document is %q, %v", one, err)
	}
}

// TestListOfLargeFields goes through more of them than one call may read.
func TestListOfLargeFields(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	for i := range 50 {
		w.must("", fmt.Sprint(i), newPeer(t, uint64(i+1)).set("title", strings.Repeat("x", 400<<10)))
	}
	if out, err := w.docs("", "list", "tasks", "--json"); err != nil || strings.Count(out, "\n") != 50 {
		t.Errorf("the list has %d lines, %v", strings.Count(out, "\n"), err)
	}
}

// TestImportOutOfOrder applies what waited as soon as what it builds on is there, also where the rule lets nobody write.
func TestImportOutOfOrder(t *testing.T) {
	open := true
	w := newWorld(t, replicate.Options{Access: func(*halcyon.Tx, replicate.Document) (replicate.Level, error) {
		if open {
			return replicate.Write, nil
		}
		return replicate.Read, nil
	}})
	p, q := newPeer(t, 1), newPeer(t, 2)
	first, second := p.set("title", "one"), p.set("title", "two")
	base := q.set("done", false)
	stranger := q.set("done", true)
	if got := w.write("", "a", stranger)[0]; got.Status != replicate.Gapped {
		t.Fatalf("what builds on nothing is %+v", got)
	}
	open = false
	for i, update := range [][]byte{second, first, base} {
		_, err := w.docs(string(update), "import", "--v2", "--document", "a", "tasks")
		if (err != nil) != (i == 0) { // the first one waits
			t.Errorf("import %d: %v", i, err)
		}
	}
	if got := w.material("")["a"]; got != `{"done":false,"title":"two"}` {
		t.Errorf("the document is %s; what somebody wrote who may not any more must wait", got)
	}
}

// TestDeleteManyDocuments deletes what it can, says of each what became of it, and may be repeated.
func TestDeleteManyDocuments(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	for i, name := range []string{"a", "b", "c"} {
		w.must("", name, newPeer(t, uint64(i+1)).set("title", name))
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--json", "tasks", "a", "none", "b"}, "a deleted, none failed NoDocument, b deleted, "},
		{[]string{"tasks", "b", "c", "--json"}, "b known, c deleted, "},
		{[]string{"tasks", "--erase", "b", "c", "--json"}, "b erased, c erased, "},
		{[]string{"tasks", "--erase", "b", "--json"}, "b failed NoDocument, "},
	} {
		out, err := w.docs("", "delete", tt.args...)
		got := ""
		for line := range strings.Lines(out) {
			var r struct{ Document, Status, Code string }
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			got += strings.TrimSpace(r.Document+" "+r.Status+" "+r.Code) + ", "
		}
		if got != tt.want || (err != nil) != strings.Contains(tt.want, "failed") {
			t.Errorf("delete %q: %s, %v, want %s", tt.args, got, err, tt.want)
		}
	}
}
