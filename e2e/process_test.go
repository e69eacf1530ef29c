package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// repository is the root of the repository from the tests' folder. Programs run
// there, so that Halcyon's finds its content.
const repository = ".."

// server is a running program that serves.
type server struct {
	t       testing.TB
	path    string
	dir     string   // its data
	address string   // host:port; empty until it has said it
	env     []string // settings, as NAME=VALUE

	beats  []func()  // of the visitors that serveFull made
	beaten time.Time // when stay had them beat

	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone
	status error         // what the process ended with, once it is gone
	output *output
}

// serve starts a program on an empty folder and waits until it takes requests.
// The settings are NAME=VALUE.
func serve(t testing.TB, p program, env ...string) *server {
	t.Helper()
	return serveOn(t, p, filepath.Join(t.TempDir(), "data"), env...)
}

// serveOn is serve with the folder of the data. The program is killed at the
// end of the test if it runs still. The test fails when it logged an error.
func serveOn(t testing.TB, p program, dir string, env ...string) *server {
	t.Helper()
	s := &server{t: t, path: p.path(t), dir: dir, address: net.JoinHostPort("127.0.0.1", freePort(t)), env: env}
	t.Cleanup(func() {
		s.kill()
		s.output.check(t)
	})
	s.launch()
	s.awaitReady()
	return s
}

// launch starts the process again, on the same folder and the same port.
func (s *server) launch() {
	s.t.Helper()
	if s.output == nil {
		s.output = &output{}
	}
	cmd := exec.Command(s.path, "serve", "--server.listen", s.address, "--storage.dir", s.dir)
	cmd.Dir, cmd.Env = repository, append(plainEnv(), s.env...)
	cmd.Stderr = s.output
	s.cmd, s.exited = cmd, make(chan struct{})
	started := make(chan error, 1)
	go func() {
		// A process that is to die with this one does so when the thread that
		// started it ends, so that thread has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		dieWithParent(cmd)
		err := cmd.Start()
		started <- err
		if err == nil {
			s.status = cmd.Wait()
		}
		close(s.exited)
	}()
	if err := <-started; err != nil {
		s.t.Fatalf("start %s: %v", s.path, err)
	}
}

// plainEnv returns the environment without settings for Halcyon's programs.
func plainEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(setting string) bool { return strings.HasPrefix(setting, "HALCYON_") })
}

// awaitReady waits until the server answers.
func (s *server) awaitReady() {
	s.t.Helper()
	poll(s.t, "the server is ready", func() (bool, string) {
		select {
		case <-s.exited:
			s.t.Fatalf("%s ended while it was started: %v\n%s", s.path, s.status, s.output)
		default:
		}
		answer, err := http.Get(s.url() + "/_ready")
		if err != nil {
			return false, err.Error()
		}
		defer answer.Body.Close()
		_, _ = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode == http.StatusOK, answer.Status
	})
}

func (s *server) url() string { return "http://" + s.address }

// kill ends the process at once and waits until it is gone. A process that is
// gone already stays so.
func (s *server) kill() {
	if s.cmd == nil || s.cmd.Process == nil {
		return
	}
	_ = s.cmd.Process.Kill() // it may be gone
	<-s.exited
}

// terminate asks the process to end and returns its exit status.
func (s *server) terminate() int {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatalf("SIGTERM: %v", err)
	}
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatalf("the server goes on %v after SIGTERM\n%s", patience, s.output)
	}
	return s.cmd.ProcessState.ExitCode()
}

// run calls another verb of the program on the data of the server, which must
// not be running, and returns what it wrote to standard output.
func run(t testing.TB, p program, dir string, args ...string) string {
	t.Helper()
	stdout, stderr, status := tryRun(t, p, dir, args...)
	if status != 0 {
		t.Fatalf("%s %s: exit status %d\n%s", p.path(t), strings.Join(args, " "), status, stderr)
	}
	return stdout
}

// tryRun is run that returns the exit status.
func tryRun(t testing.TB, p program, dir string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	path := p.path(t) // building it takes its time
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = repository
	cmd.Env = append(plainEnv(), "HALCYON_STORAGE_DIR="+dir)
	var out, talk bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &talk
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", cmd, err, &talk)
	}
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

// call calls a function over HTTP and decodes its result.
func (s *server) call(kind, path string, args, result any) error {
	body, err := json.Marshal(map[string]any{"path": path, "args": args, "format": "json"})
	if err != nil {
		return err
	}
	answer, err := http.Post(s.url()+"/api/"+kind, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	var got struct {
		Status       string
		Value        json.RawMessage
		ErrorMessage string
	}
	if err := json.NewDecoder(answer.Body).Decode(&got); err != nil {
		return fmt.Errorf("%s: %w", answer.Status, err)
	}
	if got.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, got.ErrorMessage)
	}
	return json.Unmarshal(got.Value, result)
}

// query calls a query over HTTP.
func query[T any](s *server, path string, args any) T {
	s.t.Helper()
	var result T
	if err := s.call("query", path, args, &result); err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	return result
}

// freePort returns a port that is free. It is below those that systems give to
// outgoing connections: while a server is down, a client that keeps on
// connecting to its port could otherwise be given that very port, and so connect
// to itself and keep the server from coming back.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(20_000 + rand.IntN(12_000))
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port)); err == nil {
			_ = l.Close() // nothing was accepted
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// output keeps what a process writes.
type output struct {
	mu struct {
		sync.Mutex
		text bytes.Buffer
	}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.text.String()
}

// alarms matches what a server says when something is wrong with itself.
var alarms = regexp.MustCompile(`(?m)^.*(level=ERROR|panic|DATA RACE|goroutine \d+ \[).*$`)

// check fails the test when the process said that something is wrong with it.
func (o *output) check(t testing.TB) {
	t.Helper()
	text := o.String()
	if lines := alarms.FindAllString(text, 10); lines != nil {
		t.Errorf("the server reports:\n%s", strings.Join(lines, "\n"))
	}
	if t.Failed() {
		t.Logf("the server said:\n%s", text)
	}
}
