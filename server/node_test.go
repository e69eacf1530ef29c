package server

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
)

// nodeClients installs the official npm clients if they are not there. Without
// node or without its packages the test is skipped, unless HALCYON_E2E is
// "required".
func nodeClients(t *testing.T) string {
	t.Helper()
	missing := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("HALCYON_E2E") == "required" {
			t.Fatalf(format, args...)
		}
		t.Skipf(format, args...)
	}
	dir, err := filepath.Abs("testdata/node")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("node"); err != nil {
		missing("the npm clients are not tested: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "typescript", "package.json")); err == nil {
		return dir
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = dir
	if out, err := npm.CombinedOutput(); err != nil {
		missing("the npm clients are not tested: npm ci: %v: %s", err, lastLine(out))
	}
	return dir
}

func lastLine(out []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return lines[len(lines)-1]
}

// noteRun adds the test to the file that HALCYON_E2E_RAN names, if it does: so
// .ci/run knows how many scenarios were run with the official clients.
func noteRun(t *testing.T) {
	t.Helper()
	path := os.Getenv("HALCYON_E2E_RAN")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(t.Name() + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// scenario runs one scenario of clients.mjs. said receives the lines it prints.
func scenario(t *testing.T, dir, address, name string, said func(line string)) {
	t.Helper()
	script(t, dir, "clients.mjs", address, name, said)
}

func script(t *testing.T, dir, file, address, name string, said func(line string)) {
	t.Helper()
	noteRun(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // the scripts say before what they wait for
	defer cancel()
	node := exec.CommandContext(ctx, "node", file, "http://"+address, name)
	node.Dir = dir
	var complaints bytes.Buffer
	node.Stderr = &complaints
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if said != nil {
			said(lines.Text())
		}
	}
	if err := node.Wait(); err != nil {
		t.Errorf("%s: %v\n%s", name, err, complaints.String())
	}
}

// The official Convex clients, unmodified.
func TestNPMClients(t *testing.T) {
	dir := nodeClients(t)
	for _, name := range []string{"live", "optimistic", "errors", "values", "oneOff", "http", "consistent", "auth", "actions", "burst", "pages", "large"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			s := serve(t, f.app, Options{})
			scenario(t, dir, s.address, name, nil)
		})
	}
	for _, name := range []string{
		"pages", "twoLists", "invalidCursor", "counter", "concurrent", "ordering", "switching", "errors", "actions", "scheduled",
	} {
		t.Run("react/"+name, func(t *testing.T) {
			f := newFixture(t)
			if err := f.app.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			s := serve(t, f.app, Options{})
			script(t, dir, "react.mjs", s.address, name, nil)
		})
	}
	t.Run("scheduled", func(t *testing.T) {
		f := newFixture(t)
		if err := f.app.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := serve(t, f.app, Options{})
		scenario(t, dir, s.address, "scheduled", nil)
	})
	t.Run("compressed", func(t *testing.T) {
		f := newFixture(t)
		s := serve(t, f.app, Options{Compression: true})
		scenario(t, dir, s.address, "values", nil)
	})
	t.Run("lostAction", func(t *testing.T) {
		f := newFixture(t)
		s := serve(t, f.app, Options{})
		var work sync.WaitGroup
		work.Go(func() {
			select {
			case <-f.entered:
			case <-t.Context().Done():
				return
			}
			for _, c := range s.connections() {
				c.drop()
			}
		})
		scenario(t, dir, s.address, "lostAction", func(line string) {
			if strings.Contains(line, "lost") {
				f.let()
			}
		})
		work.Wait()
		if len(f.entered) != 0 {
			t.Error("the action was run twice")
		}
	})
	// The connection is dropped while a mutation runs.
	reconnect := func(file string) func(t *testing.T) {
		return func(t *testing.T) {
			f := newFixture(t)
			s := serve(t, f.app, Options{})
			var work sync.WaitGroup
			work.Go(func() {
				select {
				case <-f.entered:
				case <-t.Context().Done():
					return
				}
				for _, c := range s.connections() {
					c.drop()
				}
				f.let()
			})
			script(t, dir, file, s.address, "reconnect", nil)
			work.Wait()
			select {
			case <-f.entered:
				t.Error("the mutation was run twice")
			default:
			}
			if n := f.count(t, "a"); n != 2 {
				t.Errorf("count = %d, want 2", n)
			}
		}
	}
	t.Run("reconnect", reconnect("clients.mjs"))
	t.Run("react/reconnect", reconnect("react.mjs"))
	t.Run("restart", func(t *testing.T) {
		f := newFixture(t)
		s := serve(t, f.app, Options{})
		var work sync.WaitGroup
		scenario(t, dir, s.address, "restart", func(line string) {
			if !strings.Contains(line, "ready") {
				return
			}
			work.Go(func() {
				s.stop()
				if err := <-s.stopped; err != nil {
					t.Errorf("Serve: %v", err)
				}
				s.stopped <- nil
				serveAt(t, f.app, Options{}, s.address)
			})
		})
		work.Wait()
	})
}

// serveAt is serve at a given address.
func serveAt(t testing.TB, app *halcyon.App, opts Options, address string) *testServer {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Error(err)
		return nil
	}
	return serveOn(t, app, opts, listener)
}

// The npm package ws against the WebSocket addresses of a module.
func TestNPMWebSockets(t *testing.T) {
	dir := nodeClients(t)
	for _, name := range []string{"echo", "subprotocol", "foreign", "path", "compressed"} {
		t.Run(name, func(t *testing.T) {
			w := newSocketWorld(t, Options{Compression: name == "compressed"})
			script(t, dir, "sockets.mjs", w.address, name, nil)
		})
	}
}
