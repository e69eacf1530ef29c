package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// refused checks that a verb ends with status 1 and tells why and what to do.
func refused(t *testing.T, dir string, args []string, want ...string) {
	t.Helper()
	stdout, stderr, status := tryRun(t, halcyon, dir, args...)
	if status != 1 || stdout != "" {
		t.Errorf("%s: exit status %d, standard output %q; want 1 and nothing", strings.Join(args, " "), status, stdout)
	}
	for _, text := range want {
		if !strings.Contains(stderr, text) {
			t.Errorf("%s: standard error lacks %q:\n%s", strings.Join(args, " "), text, stderr)
		}
	}
	if strings.Contains(stderr, "goroutine ") {
		t.Errorf("%s panicked:\n%s", strings.Join(args, " "), stderr)
	}
}

func TestSecondProcessOnTheSameFolderIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, halcyon)
	other := net.JoinHostPort("127.0.0.1", freePort(t))
	for _, args := range [][]string{
		{"serve", "--server.listen", other},
		{"stats", "import", "-"},
	} {
		refused(t, s.dir, args, "halcyon: ", "hint: another process has "+s.dir+" open", "--storage.dir")
	}
	// A verb that needs no folder of its own asks the first one, which goes on.
	run(t, halcyon, s.dir, "run", "stats:getStats")
	if got := query[liveStats](s, "stats:getStats", map[string]any{}); got.TotalPageViews != 0 {
		t.Errorf("%d views, want none", got.TotalPageViews)
	}
	s.kill()
	run(t, halcyon, s.dir, "run", "stats:getStats") // what a killed process had open is free
}

func TestPortInUseIsRefused(t *testing.T) {
	t.Parallel()
	s := serve(t, halcyon)
	dir := filepath.Join(t.TempDir(), "data")
	refused(t, dir, []string{"serve", "--server.listen", s.address}, "halcyon: listen on "+s.address, "hint: another program listens there", "--server.listen")
	run(t, halcyon, dir, "run", "stats:getStats") // the folder is not held
}

// With port 0 the system chooses, and the address is said.
func TestAddressIsPrinted(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(halcyon.path(t), "serve", "--server.listen", "127.0.0.1:0", "--storage.dir", filepath.Join(t.TempDir(), "data"))
	cmd.Dir, cmd.Env = t.TempDir(), plainEnv() // without any content
	var said output
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
	}()
	site := regexp.MustCompile(`(?m)^ +Site +(http://127\.0\.0\.1:\d+/)$`)
	statistics := regexp.MustCompile(`(?m)^ +Statistics +(http://127\.0\.0\.1:\d+/stats)$`)
	poll(t, "the addresses are printed", func() (bool, string) {
		return site.MatchString(said.String()) && statistics.MatchString(said.String()), said.String()
	})
	for _, printed := range []*regexp.Regexp{site, statistics} {
		url := printed.FindStringSubmatch(said.String())[1]
		answer, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close() // only the status is of interest
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, answer.Status)
		}
	}
}

// A signal ends the server in order, however many clients are busy: they are
// told to come back, what was answered is kept, and the status is 0.
func TestSignalEndsInOrder(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
	}{{"SIGTERM", syscall.SIGTERM}, {"SIGINT", syscall.SIGINT}} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			endInOrder(t, tt.signal)
		})
	}
}

func endInOrder(t *testing.T, signal syscall.Signal) {
	const busy, idle = 20, 20
	s := serve(t, fixture)
	ctx := impatient(t)

	// Idle clients, to see how they are told.
	codes := make(chan websocket.CloseError, idle)
	for range idle {
		conn, err := dial(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.CloseNow() // it is closed already when all is well
		hello := map[string]any{"type": "Connect", "sessionId": newUUID(), "connectionCount": 0, "lastCloseReason": "InitialConnect", "clientTs": 0}
		if err := conn.Write(ctx, websocket.MessageText, encode(hello)); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				if _, _, err := conn.Read(ctx); err != nil {
					var closed websocket.CloseError
					errors.As(err, &closed)
					codes <- closed
					return
				}
			}
		}()
	}

	// Busy clients, which come back when the server does.
	way := newGate()
	way.open()
	adders := make([]*adder, busy)
	stop := make(chan struct{})
	var working sync.WaitGroup
	answered := make(chan struct{}, 1)
	for i := range adders {
		adders[i] = newAdder(t, s, way, fmt.Sprintf("client-%d", i))
		working.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := adders[i].add(hot).await(ctx); err != nil {
					t.Errorf("add: %v", err)
					return
				}
				select {
				case answered <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 50 {
		receive(t, answered)
	}
	if err := s.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	select {
	case <-s.exited:
	case <-ctx.Done():
		t.Fatalf("the server goes on after %v", signal)
	}
	way.shut()
	if status := s.cmd.ProcessState.ExitCode(); status != 0 {
		t.Errorf("exit status %d, want 0", status)
	}
	if said := s.output.String(); !strings.HasSuffix(said, "Stopped.\n") {
		t.Errorf("the last it said is not that it stopped:\n%s", said)
	}
	for range idle {
		if code, _ := receive(t, codes); code.Code != websocket.StatusServiceRestart {
			t.Errorf("an idle client was closed with %d %q, want %d", code.Code, code.Reason, websocket.StatusServiceRestart)
		}
	}
	for _, a := range adders {
		a.awaitDisconnected(t)
	}
	t.Logf("ended %v after %v", time.Since(began).Round(time.Millisecond), signal)

	s.launch()
	s.awaitReady()
	found := check(t, s, adders)
	way.open()
	close(stop)
	working.Wait()
	if end := check(t, s, adders); end.orphaned+end.undone > 0 {
		t.Errorf("at the end: %+v", end)
	}
	if found.orphaned > 0 {
		t.Errorf("%d additions were executed before the end and not answered: %+v", found.orphaned, found)
	}
}

// Nobody but the owner may read the data.
func TestDataIsPrivate(t *testing.T) {
	t.Parallel()
	s := serve(t, halcyon)
	files := 0
	err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the store tidies up while it runs
		}
		if err != nil {
			return err
		}
		files++
		if open := info.Mode().Perm() &^ os.FileMode(0o700); open != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files < 3 {
		t.Errorf("%d files, %v", files, err)
	}
}
