package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
)

// asProgram makes the test binary the program of testModules.
const asProgram = "HALCYON_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		Main(testModule())
	}
	if says, ok := os.LookupEnv(devSays); ok {
		Main(devModule(says))
	}
	os.Exit(m.Run())
}

// note is a row of the test module.
type note struct {
	Text string `json:"text"`
}

// testModule has one of everything that a command line can reach.
func testModule() *halcyon.Module {
	notes := halcyon.NewTable[note]("notes").Aggregate("count")
	m := halcyon.NewModule("notes", notes)
	m.Mutation("add", func(tx *halcyon.Tx, args note) (int64, error) {
		tx.Log("adding", args.Text)
		if args.Text == "" {
			return 0, &halcyon.Error{Code: "Empty", Message: "a note needs a text"}
		}
		if _, err := notes.Insert(tx, args); err != nil {
			return 0, err
		}
		return notes.Count("count").Count(tx)
	})
	m.Query("list", func(tx *halcyon.Tx) ([]string, error) {
		texts := []string{}
		for found, err := range notes.All().Each(tx) {
			if err != nil {
				return nil, err
			}
			texts = append(texts, found.Text)
		}
		return texts, nil
	})
	m.Internal.Mutation("clear", func(tx *halcyon.Tx) error { return nil })
	m.Handle("GET /hello", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	m.Command("copy", "Print the arguments and standard input for $5.", func(_ context.Context, env *halcyon.CommandEnv, args []string) error {
		input, err := io.ReadAll(env.Stdin)
		fmt.Fprintf(env.Stderr, "%d arguments\n", len(args))
		fmt.Fprintf(env.Stdout, "%q %q\n", args, input)
		return err
	})
	m.Command("count-notes", "Count them.", func(ctx context.Context, env *halcyon.CommandEnv, _ []string) error {
		var list []string
		err := env.App.Run(ctx, "notes:list", nil, &list)
		fmt.Fprintln(env.Stdout, len(list))
		return err
	})
	m.Command("add-all", "Add notes.", func(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
		for _, text := range args {
			if err := env.Call(ctx, "notes:add", map[string]any{"text": text}, nil); err != nil {
				return err
			}
		}
		var list []string
		err := env.Call(ctx, "notes:list", nil, &list)
		fmt.Fprintln(env.Stdout, len(list), list[len(list)-1])
		return err
	}, halcyon.Served())
	m.Command("fail", "Fail.", func(context.Context, *halcyon.CommandEnv, []string) error { return errors.New("it failed") })
	m.Command("plain", "Look at no data.", func(_ context.Context, env *halcyon.CommandEnv, _ []string) error {
		fmt.Fprintln(env.Stdout, "plain")
		return nil
	}, halcyon.WithoutData(), halcyon.WithHelp(func(w io.Writer) { fmt.Fprint(w, "  -own\n    \tof the command, as in PROGRAM notes plain\n") }))
	m.Command("misuse", "Be called wrongly.", func(context.Context, *halcyon.CommandEnv, []string) error {
		return usageError{errors.New("name a file")}
	})
	return m
}

// outcome is what a run of the program left.
type outcome struct {
	status         int
	stdout, stderr string
}

// call runs the program.
func call(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), append([]string{"/usr/bin/prog"}, args...), strings.NewReader(stdin), &stdout, &stderr, testModule())
	return outcome{status, stdout.String(), stderr.String()}
}

func TestHelp(t *testing.T) {
	got := call(t, "", "--help")
	if got.status != exitOK || got.stderr != "" {
		t.Errorf("--help: status %d, %q on standard error", got.status, got.stderr)
	}
	for _, want := range []string{"Usage: prog", "serve", "run", "version", "notes copy", "for $5", "notes count-notes"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("--help lacks %q:\n%s", want, got.stdout)
		}
	}
	got = call(t, "", "serve", "--help")
	for _, want := range []string{"--server.listen", "127.0.0.1:3210", "$HALCYON_SERVER_LISTEN", "--storage.dir", "./halcyon-data", "SIGTERM"} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("serve --help lacks %q:\n%s", want, got.stdout)
		}
	}
	if got := call(t, "", "notes", "copy", "--help"); got.status != exitOK || !strings.Contains(got.stdout, "for $5") {
		t.Errorf("notes copy --help: status %d\n%s", got.status, got.stdout)
	}
}

func TestWrongCalls(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name, want string
		args       []string
	}{
		{"nothing", "Usage: prog", nil},
		{"unknown verb", "unexpected argument frobnicate", []string{"frobnicate"}},
		{"unknown flag", "unknown flag --frobnicate", []string{"serve", "--frobnicate"}},
		{"module without command", `expected one of`, []string{"notes"}},
		{"unknown command of a module", "unexpected argument frobnicate", []string{"notes", "frobnicate"}},
		{"bad level", "--log.level", []string{"serve", "--log.level", "loud"}},
		{"no function", "<function>", []string{"run"}},
		{"which help explains it", "hint: prog run --help explains it", []string{"run"}},
		{"which help lists it", "hint: prog --help lists what there is", []string{"serv"}},
		{"flag of a verb", "hint: prog data list --help explains it", []string{"data", "list", "notes", "--frobnicate"}},
		{"slip in a function", `no function "notes:lst"; did you mean notes:list?`, []string{"run", "--storage.dir", dir, "notes:lst"}},
		{"what functions there are", "there are notes:add, notes:clear, notes:list", []string{"run", "--storage.dir", dir, "x:y"}},
		{"unknown function", `no function "notes:none"`, []string{"run", "--storage.dir", dir, "notes:none"}},
		{"arguments that are no JSON", "quoted for your shell", []string{"run", "--storage.dir", dir, "notes:add", "text=x"}},
		{"arguments that are no object", "not an object", []string{"run", "--storage.dir", dir, "notes:add", "[1]"}},
		{"command called wrongly", "name a file", []string{"notes", "misuse", "--storage.dir", dir}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := call(t, "", tt.args...)
			if got.status != exitUsage || got.stdout != "" || !strings.Contains(got.stderr, tt.want) {
				t.Errorf("status %d, stdout %q, stderr %q; want %d, nothing, %q", got.status, got.stdout, got.stderr, exitUsage, tt.want)
			}
		})
	}
}

func TestRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "data")
	steps := []struct {
		name                   string
		args                   []string
		status                 int
		stdout, stderrContains string
	}{
		{"mutation", []string{"notes:add", `{"text":"one"}`}, exitOK, `{"$integer":"AQAAAAAAAAA="}` + "\n", "[LOG] 'adding' 'one'"},
		{"again, on the same data", []string{"notes:add", `{"text":"two"}`}, exitOK, `{"$integer":"AgAAAAAAAAA="}` + "\n", ""},
		{"query without arguments", []string{"notes:list"}, exitOK, `["one","two"]` + "\n", ""},
		{"internal function", []string{"notes:clear", "{}"}, exitOK, "null\n", ""},
		{"error of the function", []string{"notes:add", `{"text":""}`}, exitFailed, "", "a note needs a text"},
		{"what it logged before", []string{"notes:add", `{"text":""}`}, exitFailed, "", "[LOG] 'adding' ''"},
		{"arguments that do not fit", []string{"notes:add", `{"text":5}`}, exitFailed, "", "ArgumentValidationError"},
	}
	for _, step := range steps {
		t.Run(step.name, func(t *testing.T) {
			got := call(t, "", append([]string{"run", "--storage.dir", dir}, step.args...)...)
			if got.status != step.status || got.stdout != step.stdout || !strings.Contains(got.stderr, step.stderrContains) {
				t.Errorf("status %d, stdout %q, stderr %q; want %d, %q, %q", got.status, got.stdout, got.stderr, step.status, step.stdout, step.stderrContains)
			}
		})
	}
}

func TestModuleCommands(t *testing.T) {
	dir := t.TempDir()
	tests := []struct {
		name, stdin    string
		args           []string
		status         int
		stdout, stderr string
	}{
		{"arguments and streams", "in", []string{"notes", "copy", "--storage.dir", dir, "a", "-", "--flag", "b c"}, exitOK,
			`["a" "-" "--flag" "b c"] "in"` + "\n", "4 arguments\n"},
		{"no arguments", "", []string{"notes", "copy", "--storage.dir", dir}, exitOK, `[] ""` + "\n", "0 arguments\n"},
		{"flags after a double dash", "", []string{"notes", "copy", "--storage.dir", dir, "--", "--storage.dir", "x"}, exitOK,
			`["--storage.dir" "x"] ""` + "\n", "2 arguments\n"},
		{"the app is open", "", []string{"notes", "count-notes", "--storage.dir", dir}, exitOK, "0\n", ""},
		{"failure", "", []string{"notes", "fail", "--storage.dir", dir}, exitFailed, "", "prog: it failed\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := outcome{tt.status, tt.stdout, tt.stderr}
			if diff := cmp.Diff(want, call(t, tt.stdin, tt.args...), cmp.AllowUnexported(outcome{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestEnvironmentSetsFlags(t *testing.T) {
	fromEnv, fromFlag := filepath.Join(t.TempDir(), "env"), filepath.Join(t.TempDir(), "flag")
	t.Setenv("HALCYON_STORAGE_DIR", fromEnv)
	if got := call(t, "", "run", "notes:list"); got.status != exitOK {
		t.Fatal(got)
	}
	if _, err := os.Stat(fromEnv); err != nil {
		t.Errorf("the folder of the environment was not used: %v", err)
	}
	if got := call(t, "", "run", "--storage.dir", fromFlag, "notes:list"); got.status != exitOK {
		t.Fatal(got)
	}
	if _, err := os.Stat(fromFlag); err != nil {
		t.Errorf("the flag did not win over the environment: %v", err)
	}
}

func TestVersion(t *testing.T) {
	got := call(t, "", "version")
	if got.status != exitOK || !strings.HasPrefix(got.stdout, "prog ") || !strings.Contains(got.stdout, "go1.") {
		t.Errorf("version: %+v", got)
	}
	var found versions
	if err := json.Unmarshal([]byte(call(t, "", "version", "--json").stdout), &found); err != nil || found.Program != "prog" {
		t.Errorf("version --json: %+v, %v", found, err)
	}
	own := readVersions("mine", &debug.BuildInfo{
		Main:     debug.Module{Path: "example.org/mine", Version: "v3.0.0"},
		Deps:     []*debug.Module{{Path: modulePath, Version: "v1.2.3"}},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}},
	})
	if own.Version != "v3.0.0" || own.Halcyon != "v1.2.3" || own.Revision != "abc" {
		t.Errorf("versions of an own program: %+v", own)
	}
	if got := readVersions("bare", nil); got.Version == "" || got.Halcyon == "" || got.Go == "" {
		t.Errorf("versions without build information: %+v", got)
	}
}

func TestModulesThatDoNotFit(t *testing.T) {
	same := func() *halcyon.Module { return halcyon.NewModule("same") }
	verb := halcyon.NewModule("serve")
	verb.Command("x", "X.", func(context.Context, *halcyon.CommandEnv, []string) error { return nil })
	for name, modules := range map[string][]*halcyon.Module{
		"two of one name":              {same(), same()},
		"commands below a verb's name": {verb},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), []string{"prog", "version"}, nil, &stdout, &stderr, modules...)
			if status != exitFailed || stderr.Len() == 0 {
				t.Errorf("status %d, stderr %q", status, stderr.String())
			}
		})
	}
}

// served is a running server.
type served struct {
	url  string
	stop func() outcome // ends it and returns what it left
}

// serve runs `serve` until the test stops it.
func serve(t *testing.T, dir string, more ...string) served {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	var stdout bytes.Buffer
	status := make(chan int, 1)
	args := append([]string{"prog", "serve", "--storage.dir", dir, "--server.listen", "127.0.0.1:0"}, more...)
	go func() {
		status <- run(ctx, args, strings.NewReader(""), &stdout, write, testModule())
		_ = write.Close() // never fails
	}()
	lines := bufio.NewScanner(read)
	var talk strings.Builder
	url := ""
	for url == "" && lines.Scan() {
		fmt.Fprintln(&talk, lines.Text())
		if rest, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "Address"); ok {
			url = strings.TrimSuffix(strings.TrimSpace(rest), "/")
		}
	}
	rest := make(chan string, 1)
	go func() {
		text, _ := io.ReadAll(read) // ends when run has returned
		rest <- string(text)
	}()
	if url == "" {
		cancel()
		t.Fatalf("serve ended with %d before it listened:\n%s", <-status, talk.String())
	}
	stop := func() outcome {
		cancel()
		fmt.Fprint(&talk, <-rest)
		return outcome{<-status, stdout.String(), talk.String()}
	}
	t.Cleanup(cancel)
	return served{url, stop}
}

func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestServe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir)
	if got := get(t, s.url+"/hello"); got != "hello" {
		t.Errorf("GET /hello = %q", got)
	}
	answer, err := http.Post(s.url+"/api/mutation", "application/json",
		strings.NewReader(`{"path":"notes:add","args":{"text":"by http"},"format":"json"}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := answer.Body.Close(); err != nil || answer.StatusCode != http.StatusOK {
		t.Errorf("POST /api/mutation: %s, %v", answer.Status, err)
	}
	got := s.stop()
	if got.status != exitOK || got.stdout != "" {
		t.Errorf("status %d, stdout %q; want 0 and nothing", got.status, got.stdout)
	}
	for _, want := range []string{"prog is running.", s.url, dir, "Ctrl-C", "Stopped."} {
		if !strings.Contains(got.stderr, want) {
			t.Errorf("standard error lacks %q:\n%s", want, got.stderr)
		}
	}
	if got := call(t, "", "run", "--storage.dir", dir, "notes:list"); got.stdout != `["by http"]`+"\n" {
		t.Errorf("after the server has stopped: %+v", got)
	}
}

func TestServeThatCannot(t *testing.T) {
	s := serve(t, filepath.Join(t.TempDir(), "first"))
	defer s.stop()
	address := strings.TrimPrefix(s.url, "http://")
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"port in use", []string{"--server.listen", address, "--storage.dir", filepath.Join(dir, "second")},
			[]string{address, "another program listens there", "--server.listen"}},
		{"no address", []string{"--server.listen", "nonsense", "--storage.dir", filepath.Join(dir, "second")},
			[]string{"nonsense", "HOST:PORT"}},
		{"address of another machine", []string{"--server.listen", "192.0.2.1:3210", "--storage.dir", filepath.Join(dir, "second")},
			[]string{"this machine does not have that address"}},
		{"a file where the folder should be", []string{"--storage.dir", file}, []string{file, "choose a folder"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := call(t, "", append([]string{"serve"}, tt.args...)...)
			if got.status != exitFailed {
				t.Errorf("status %d, want %d", got.status, exitFailed)
			}
			for _, want := range append(tt.want, "hint: ") {
				if !strings.Contains(got.stderr, want) {
					t.Errorf("standard error lacks %q:\n%s", want, got.stderr)
				}
			}
		})
	}
	// What could not serve has let go of its data.
	if got := call(t, "", "run", "--storage.dir", filepath.Join(dir, "second"), "notes:list"); got.status != exitOK {
		t.Errorf("the data of a server that could not listen: %+v", got)
	}
}

func TestDataIsOneProcessesAtATime(t *testing.T) {
	dir := t.TempDir()
	s := serve(t, dir)
	for _, verb := range [][]string{{"serve", "--server.listen", "127.0.0.1:0"}, {"notes", "copy"}} {
		args := append([]string{verb[0], "--storage.dir", dir}, verb[1:]...)
		if verb[0] == "notes" {
			args = []string{"notes", "copy", "--storage.dir", dir}
		}
		got := call(t, "", args...)
		if got.status != exitFailed || !strings.Contains(got.stderr, "another process has") || !strings.Contains(got.stderr, "--storage.dir") {
			t.Errorf("%q while a server runs: %+v", args, got)
		}
		if verb[0] == "notes" && !strings.Contains(got.stderr, "`prog backup FOLDER` makes while it runs") {
			t.Errorf("a command of a module names no way out: %s", got.stderr)
		}
	}
	// A command that looks at no data does not mind, and makes none.
	if got := call(t, "", "notes", "plain", "--storage.dir", dir); got.status != exitOK || got.stdout != "plain\n" {
		t.Errorf("a command without data while a server runs: %+v", got)
	}
	none := filepath.Join(t.TempDir(), "none")
	if got := call(t, "", "notes", "plain", "--storage.dir", none); got.status != exitOK {
		t.Errorf("a command without data: %+v", got)
	}
	if _, err := os.Stat(none); err == nil {
		t.Error("a command without data has made a folder for it")
	}
	if got := call(t, "", "notes", "plain", "--help"); got.status != exitOK || !strings.Contains(got.stdout, "-own") {
		t.Errorf("the help of a command lacks what its module says: %+v", got)
	}
	s.stop()
}

// program starts the test binary as a program.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	command := exec.Command(os.Args[0], args...)
	command.Env = append(os.Environ(), asProgram+"=1")
	return command
}

func TestSignalsEndTheProgramInOrder(t *testing.T) {
	for _, signal := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			command := program(t, "serve", "--storage.dir", t.TempDir(), "--server.listen", "127.0.0.1:0")
			talk, err := command.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := command.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(talk)
			var last string
			for lines.Scan() {
				if last = lines.Text(); strings.Contains(last, "Ctrl-C") {
					if err := command.Process.Signal(signal); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := command.Wait(); err != nil || last != "Stopped." {
				t.Errorf("ended with %v, the last line was %q", err, last)
			}
		})
	}
}

func TestFilesAreTheUsersAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if out, err := program(t, "run", "--storage.dir", dir, "notes:add", `{"text":"private"}`).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	files := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		files++
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("looked at %d files, %v", files, err)
	}
}

func TestReachable(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", "0.0.0.0:80": "localhost:80", "[::]:80": "localhost:80", "[::1]:80": "[::1]:80",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(tcp); got != want {
			t.Errorf("reachable(%s) = %s, want %s", address, got, want)
		}
	}
}

// TestServeEndsSoon keeps the others from hanging where a shutdown does.
func TestServeEndsSoon(t *testing.T) {
	s := serve(t, t.TempDir())
	done := make(chan outcome, 1)
	go func() { done <- s.stop() }()
	select {
	case got := <-done:
		if got.status != exitOK {
			t.Errorf("ended with %+v", got)
		}
	case <-time.After(time.Minute):
		t.Fatal("serve did not end")
	}
}
