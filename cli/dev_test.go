package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

// devSays makes the test binary a program that is being developed, of which this is said.
const devSays = "HALCYON_TEST_SAYS"

// devModule says something at /says. What it says is in its types too. It keeps a note, whose text is required unless it says otherwise.
func devModule(says string) *halcyon.Module {
	var m *halcyon.Module
	type text struct{ Text string }
	type more struct{ Text, Title string }
	notes, notesWithTitles := halcyon.NewTable[text]("notes"), halcyon.NewTable[more]("notes")
	if strings.HasPrefix(says, "titles") {
		m = halcyon.NewModule("notes", notesWithTitles)
	} else {
		m = halcyon.NewModule("notes", notes)
		m.OnStart(func(ctx context.Context, app *halcyon.App) error { return app.Run(ctx, "notes:add", text{says}, nil) })
		m.Internal.Mutation("add", func(tx *halcyon.Tx, args text) error {
			_, err := notes.Insert(tx, args)
			return err
		})
	}
	m.Query(says, func(*halcyon.Tx) (string, error) { return says, nil })
	m.HTTP("GET", "/says", func(_ *halcyon.Ctx, w http.ResponseWriter, _ *http.Request) error {
		_, err := io.WriteString(w, says)
		return err
	})
	m.HTTP("POST", "/die", func(*halcyon.Ctx, http.ResponseWriter, *http.Request) error {
		os.Exit(7)
		return nil
	})
	m.HTTP("GET", "/fail", func(*halcyon.Ctx, http.ResponseWriter, *http.Request) error {
		return fmt.Errorf("a detail of %s", says)
	})
	return m
}

// fakeGo builds programs of a file main.go, whose text is a verb and a word. The programs are scripts that run the test binary.
type fakeGo struct{ dir string }

func (g fakeGo) sources(context.Context) (*sources, error) {
	return &sources{dir: g.dir, folders: []string{g.dir}}, nil
}

func (g fakeGo) build(_ context.Context, binary string) error {
	text, err := os.ReadFile(filepath.Join(g.dir, "main.go"))
	if err != nil {
		return &buildError{"no Go files"}
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	verb, word, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	script := fmt.Sprintf("#!/bin/sh\n%s=%s exec %s \"$@\"\n", devSays, word, self)
	switch verb {
	case "wrong":
		return &buildError{"./main.go:1:1: undefined: " + word}
	case "dies":
		script = "#!/bin/sh\necho died of " + word + " >&2\nexit 3\n"
	case "hangs":
		// It is also run for its types, before it is said to be built: who waits for it to hang is not to be told by that run.
		script = fmt.Sprintf("#!/bin/sh\n[ \"$1\" = serve ] || exit 1\necho hangs in %s >&2\nread x <&%d\n", word, devControlFile)
	}
	return os.WriteFile(binary, []byte(script), 0o700)
}

// devWorld is a workshop that runs.
type devWorld struct {
	t       *testing.T
	dir     string
	address string
	ended   chan error

	mu struct {
		sync.Mutex
		said bytes.Buffer
		news chan struct{} // closed at each write
	}
}

// Write keeps what the workshop and its programs say.
func (w *devWorld) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.mu.news)
	w.mu.news = make(chan struct{})
	return w.mu.said.Write(p)
}

// until waits until all of these have been said since the last call, and returns all that was. What a program says may come before or after
// what the workshop says of it.
func (w *devWorld) until(wants ...string) string {
	w.t.Helper()
	timeout := time.After(3 * time.Minute)
	for {
		w.mu.Lock()
		text, news := w.mu.said.String(), w.mu.news
		missing := slices.DeleteFunc(slices.Clone(wants), func(want string) bool { return strings.Contains(text, want) })
		if len(missing) == 0 {
			w.mu.said.Reset()
			w.mu.Unlock()
			return text
		}
		w.mu.Unlock()
		select {
		case <-news:
		case <-timeout:
			w.t.Fatalf("nobody says %q:\n%s", missing, text)
		}
	}
}

// save writes main.go as an editor does that is not interrupted.
func (w *devWorld) save(text string) {
	w.t.Helper()
	path := filepath.Join(w.dir, "main.go")
	if err := os.WriteFile(path+"~", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+"~", path); err != nil {
		w.t.Fatal(err)
	}
}

// says asks the program.
func (w *devWorld) says() string {
	w.t.Helper()
	return get(w.t, "http://"+w.address+"/http/says")
}

func newDevWorld(t *testing.T, text string, types ...string) (w *devWorld, stop func() error) {
	t.Helper()
	w = &devWorld{t: t, dir: t.TempDir(), ended: make(chan error, 1)}
	w.mu.news = make(chan struct{})
	w.save(text)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = listener.Addr().String()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	_ = listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	shop := &workshop{
		env:     &env{ctx: ctx, program: "notes", stdout: io.Discard, stderr: w},
		program: fakeGo{w.dir}, listener: socket, binaries: t.TempDir(), types: types,
		args: []string{"serve", "--dev", "--storage.dir", filepath.Join(t.TempDir(), "data"), "--storage.free-min", "1MiB", "--log.level", "warn"},
		name: "notes", head: "// Generated by `halcyon codegen` from the program. Do not edit.",
	}
	shop.sources, _ = shop.program.sources(ctx)
	go func() { w.ended <- shop.run("") }()
	stop = sync.OnceValue(func() error {
		cancel()
		err := <-w.ended
		_ = socket.Close()
		return err
	})
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("said last:\n%s", w.mu.said.String())
		}
	})
	return w, stop
}

func TestDevReplacesTheProgram(t *testing.T) {
	types := filepath.Join(t.TempDir(), "types")
	w, stop := newDevWorld(t, "good one", types)
	w.until("watching", " is running", w.address, "Press Ctrl-C") // which is the end of what the program says
	if got := w.says(); got != "one" {
		t.Errorf("the program says %q", got)
	}
	if got := get(t, "http://"+w.address+"/http/fail"); !strings.Contains(got, "a detail of one") {
		t.Errorf("clients of a program that is developed are told %s", got)
	}

	w.save("good two")
	if said := w.until("the new program serves"); strings.Contains(said, " is running") {
		t.Errorf("the second program tells everything again: %s", said)
	}
	if got := w.says(); got != "two" {
		t.Errorf("the program says %q", got)
	}
	if text, err := os.ReadFile(filepath.Join(types, "api.d.ts")); err != nil || !strings.Contains(string(text), "two:") {
		t.Errorf("the types: %v\n%s", err, text)
	}

	// What is wrong changes nothing.
	w.save("wrong three")
	if said := w.until("it does not build; the program from before goes on"); !strings.Contains(said, "\n./main.go:1:1: undefined: three\n") {
		t.Errorf("a program that does not build: %s", said)
	}
	w.save("dies four")
	if said := w.until("does not start; the one from before goes on"); !strings.Contains(said, "died of four") {
		t.Errorf("a program that does not start: %s", said)
	}
	if got := w.says(); got != "two" {
		t.Errorf("the program says %q", got)
	}
	w.save("good titles")
	if said := w.until("does not start; the one from before goes on"); !strings.Contains(said, "holds documents that do not fit") {
		t.Errorf("a schema that does not fit: %s", said)
	}
	if got := w.says(); got != "two" {
		t.Errorf("the program says %q", got)
	}
	w.save("good two\n")
	w.until("the program is the same")

	// One that neither serves nor ends is given up for the next.
	w.save("hangs five")
	w.until("hangs in five")
	w.save("good six")
	w.until("built in")
	if got := w.says(); got != "six" {
		t.Errorf("the program says %q", got)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", w.address, time.Second); err == nil {
		t.Error("somebody listens still")
	}
}

// A program that ends by itself is started again by the next change, and one that never started by the one that mends it.
func TestDevStartsAgain(t *testing.T) {
	w, _ := newDevWorld(t, "dies one")
	w.until("the program does not start; it is tried again when a file changes")
	w.save("wrong two")
	w.until("it does not build; nothing runs until a file changes")

	// Who comes now waits for the program.
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + w.address + "/http/says")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answer <- string(text)
	}()
	w.save("good three")
	if said := w.until("Press Ctrl-C"); !strings.Contains(said, " is running") {
		t.Errorf("the first program that serves: %s", said)
	}
	if got := <-answer; got != "three" {
		t.Errorf("who waited is answered %q", got)
	}
	// Not a GET, which the client would send again, to the next program.
	if resp, err := http.Post("http://"+w.address+"/http/die", "text/plain", nil); err == nil {
		_ = resp.Body.Close()
		t.Errorf("answered %s by a program that died", resp.Status)
	}
	w.until("the program has ended (exit status 7)")
	w.save("good three\n")
	w.until("built in")
	if got := w.says(); got != "three" {
		t.Errorf("the program says %q", got)
	}
}

// A program that has ended by the time that somebody looks has started all the same when it served before: it is said to have ended, not to
// fail to start.
func TestDevHearsLateOfAProgramThatServed(t *testing.T) {
	for range 100 { // what is known at once is looked at in any order
		p := &devProcess{serves: make(chan struct{}), exited: make(chan struct{})}
		close(p.serves)
		close(p.exited)
		w := &workshop{env: &env{ctx: t.Context()}, child: p}
		if err := w.awaitServing(p); err != nil || w.child != p || !w.served {
			t.Fatalf("%v; is it known to run? %v; to have served? %v", err, w.child == p, w.served)
		}
	}
}

// A program ends with the one that runs it, however that ends.
func TestDevProgramsEndWithTheirParent(t *testing.T) {
	w, _ := newDevWorld(t, "good one")
	w.until("watching")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	socket, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	binary := filepath.Join(t.TempDir(), "notes")
	if err := (fakeGo{w.dir}).build(t.Context(), binary); err != nil {
		t.Fatal(err)
	}
	shop := &workshop{
		env: &env{ctx: t.Context(), stdout: io.Discard, stderr: io.Discard}, program: fakeGo{w.dir}, listener: socket, sources: &sources{}, name: "notes",
		args: []string{"serve", "--dev", "--storage.dir", filepath.Join(t.TempDir(), "data"), "--log.level", "error"},
	}
	shop.seen = shop.look()
	if err := shop.start(binary); err != nil {
		t.Fatal(err)
	}
	p := shop.child
	if err := p.control.Close(); err != nil { // as the system does when the parent has gone
		t.Fatal(err)
	}
	<-p.exited
	if !p.cmd.ProcessState.Success() {
		t.Errorf("it ended with %v", p.cmd.ProcessState)
	}
}

func TestDevNeedsItsFlags(t *testing.T) {
	if got := call(t, "", "serve", "--types", "x"); got.status != exitUsage || !strings.Contains(got.stderr, "--types belongs to --dev") {
		t.Errorf("%+v", got)
	}
	// The test binary is no package main, as the go command sees it.
	if got := call(t, "", "serve", "--dev"); got.status != exitFailed || !strings.Contains(got.stderr, "go run . serve --dev") {
		t.Errorf("%+v", got)
	}
}

func TestProgramOf(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for _, tt := range []struct {
		name string
		info debug.BuildInfo
		want goProgram
	}{
		{"go run .", debug.BuildInfo{Path: "example.com/talk", Settings: []debug.BuildSetting{setting("GOOS", "linux"), setting("-compiler", "gc")}},
			goProgram{"example.com/talk", []string{"-ldflags=-s -w"}}},
		{"go run main.go", debug.BuildInfo{Path: "command-line-arguments"}, goProgram{".", []string{"-ldflags=-s -w"}}},
		{"flags", debug.BuildInfo{Path: "x/y", Settings: []debug.BuildSetting{setting("-tags", "a,b"), setting("-race", "true"), setting("-ldflags", "-X 'm.v=1 2'")}},
			goProgram{"x/y", []string{"-tags=a,b", "-race=true", "-ldflags=-X 'm.v=1 2'"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, programOf(&tt.info), cmp.AllowUnexported(goProgram{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// writeTree makes files below a folder.
func writeTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The sources of a program are what the go command would look at, and what it will look at when it is there.
func TestSources(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	writeTree(t, dir, map[string]string{
		"app/go.mod":                        "module example.com/app\n\ngo 1.26\n\nrequire example.com/lib v0.0.0\n\nreplace example.com/lib => ../lib\n",
		"app/main.go":                       "package main\n\nimport (\n\t\"embed\"\n\t_ \"example.com/app/inner\"\n\t_ \"example.com/app/later\"\n\t_ \"example.com/lib\"\n)\n\n//go:embed web/dist *.txt\nvar files embed.FS\n\nfunc main() { _ = files }\n",
		"app/main_test.go":                  "package main\n",
		"app/other.md":                      "text",
		"app/a.txt":                         "a",
		"app/web/dist/index.html":           "<p>",
		"app/web/dist/node_modules/x/x.js":  "x",
		"app/web/src/main.ts":               "ts",
		"app/web/node_modules/y/y.go":       "package y\n",
		"app/inner/inner.go":                "package inner\n",
		"app/unused/unused.go":              "package unused\n",
		"app/.git/HEAD":                     "ref",
		"lib/go.mod":                        "module example.com/lib\n\ngo 1.26\n",
		"lib/lib.go":                        "package lib\n",
		"app/web/src/halcyon/api.d.ts":      "// Generated\n",
		"app/web/node_modules/z/api.d.ts":   "// Generated\n",
		"app/web/dist/api.d.ts":             "// Generated\n",
		"app/others/go.mod":                 "module example.com/others\n",
		"app/others/web/halcyon/api.d.ts":   "// Generated\n",
		"app/web/src/own/api.d.ts":          "// My own\n",
		"app/web/src/short/api.d.ts":        "//",
		"app/clients/ts/generated/api.d.ts": "// Generated\n// more\n",
	})
	t.Chdir(filepath.Join(dir, "app"))
	t.Setenv("GOWORK", "off")
	t.Setenv("GOFLAGS", "-mod=mod")
	found, err := goProgram{path: "."}.sources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := func(s stamps) (names []string) {
		for path := range s {
			short, err := filepath.Rel(dir, path)
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, filepath.ToSlash(short))
		}
		slices.Sort(names)
		return names
	}
	before := found.stamps()
	want := []string{"app/a.txt", "app/go.mod", "app/inner/inner.go", "app/main.go", "app/web/dist/api.d.ts", "app/web/dist/index.html", "lib/go.mod", "lib/lib.go"}
	if diff := cmp.Diff(want, names(before)); diff != "" {
		t.Errorf("sources (-want +got):\n%s", diff)
	}
	writeTree(t, dir, map[string]string{
		"app/later/later.go": "package later\n", "app/b.txt": "b", "app/web/dist/assets/x.js": "x", "app/more.go": "package main\n", "app/go.sum": "",
		"app/web/src/main.ts": "other", "app/main_test.go": "package main // other\n",
	})
	if err := os.Remove(filepath.Join(dir, "app/inner/inner.go")); err != nil {
		t.Fatal(err)
	}
	var changed []string
	for _, path := range found.stamps().changed(before) {
		changed = append(changed, filepath.ToSlash(strings.TrimPrefix(path, dir+string(filepath.Separator))))
	}
	want = []string{"app/b.txt", "app/go.sum", "app/inner/inner.go", "app/later/later.go", "app/more.go", "app/web/dist/assets/x.js"}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Errorf("changed (-want +got):\n%s", diff)
	}
	folders := generatedFolders(filepath.Join(dir, "app"), "// Generated")
	for i := range folders {
		folders[i], _ = filepath.Rel(dir, folders[i])
	}
	if diff := cmp.Diff([]string{"app/clients/ts/generated", "app/web/src/halcyon"}, folders); diff != "" {
		t.Errorf("folders of types (-want +got):\n%s", diff)
	}
	if _, err := (goProgram{path: "example.com/elsewhere"}).sources(t.Context()); err == nil || !strings.Contains(err.Error(), "example.com/elsewhere") {
		t.Errorf("a program of another module: %v", err)
	}
}

// What the go command says of a wrong program is shown without the lines that name packages.
func TestBuildErrors(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{
		"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() { undefined() }\n",
	})
	t.Chdir(dir)
	t.Setenv("GOWORK", "off")
	err := goProgram{path: "."}.build(t.Context(), filepath.Join(t.TempDir(), "app"))
	if _, ok := err.(*buildError); !ok || err.Error() != "./main.go:3:15: undefined: undefined" {
		t.Errorf("%T %v", err, err)
	}
}

func TestGoListIsReadAsItIsWritten(t *testing.T) {
	var m goModule
	if err := json.Unmarshal([]byte(`{"Path":"x","Main":false,"Replace":{"Path":"../x"}}`), &m); err != nil || !m.mine() {
		t.Errorf("a module from a folder: %+v, %v", m, err)
	}
	if err := json.Unmarshal([]byte(`{"Path":"x","Replace":{"Path":"y","Version":"v1.0.0"}}`), &m); err != nil || m.mine() {
		t.Errorf("a module that another takes the place of: %+v, %v", m, err)
	}
}
