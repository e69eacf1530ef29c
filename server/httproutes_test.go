package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
)

// serveRoutes serves an app whose module has the HTTP routes that declare adds.
func serveRoutes(t testing.TB, opts Options, declare func(*halcyon.Module)) *testServer {
	t.Helper()
	m := halcyon.NewModule("r")
	declare(m)
	app, err := halcyon.NewApp(m)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{app: app}
	f.open(t, vfs.NewMem())
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return serve(t, app, opts)
}

// sized answers with the size of the body.
func sized(_ *halcyon.Ctx, w http.ResponseWriter, r *http.Request) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(w, len(body))
	return err
}

// What routes read of bodies comes out of the budget for all clients, and is put back when the request is over, whatever came of it.
func TestRouteBodies(t *testing.T) {
	s := serveRoutes(t, Options{InboundBytesMax: 250_000, BodyTimeout: waitMax}, func(m *halcyon.Module) {
		m.HTTP("POST", "/size", sized)
		m.HTTP("POST", "/ignore", func(*halcyon.Ctx, http.ResponseWriter, *http.Request) error { return nil })
	})
	free := func() {
		t.Helper()
		eventually(t, "the budget is free", func() bool { return s.inbound.used.Load() == 0 })
	}
	if resp, body := request(t, s, "POST", "/http/size", strings.Repeat("x", 300_000)); resp.StatusCode != 200 || body != "300000" {
		t.Errorf("with the whole budget: %d %s", resp.StatusCode, body)
	}
	free()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "POST /http/size HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n%s", strings.Repeat("x", 280_000))
	eventually(t, "the slow request has its part", func() bool { return s.inbound.used.Load() > 200_000 })
	for _, tt := range []struct {
		path   string
		size   int
		status int
		want   string
	}{
		{"/http/size", 200_000, 503, `{"code":"Overloaded","message":"The server is busy with other large requests. Try again later."}`},
		{"/http/size", 60_000, 200, "60000"},
		{"/http/ignore", 200_000, 200, ""},
	} {
		if resp, body := request(t, s, "POST", tt.path, strings.Repeat("x", tt.size)); resp.StatusCode != tt.status || body != tt.want {
			t.Errorf("%d bytes to %s beside a large request: %d %s, want %d %s", tt.size, tt.path, resp.StatusCode, body, tt.status, tt.want)
		}
	}
	_ = c.Close()
	free()
}

func TestSlowRouteBody(t *testing.T) {
	s := serveRoutes(t, Options{BodyTimeout: 100 * time.Millisecond}, func(m *halcyon.Module) { m.HTTP("POST", "/size", sized) })
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(waitMax)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(c, "POST /http/size HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
	answer, err := io.ReadAll(c)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") || !strings.Contains(string(answer), `"RequestTimeout"`) {
		t.Errorf("%q, %v", answer, err)
	}
}

// A client that does not read has its time for each piece of an answer, and not for the whole.
func TestSlowRouteReader(t *testing.T) {
	failed := make(chan error, 1)
	s := serveRoutes(t, Options{WriteTimeout: 100 * time.Millisecond}, func(m *halcyon.Module) {
		m.HTTP("GET", "/endless", func(c *halcyon.Ctx, w http.ResponseWriter, _ *http.Request) error {
			piece := make([]byte, 1<<20)
			for {
				if _, err := w.Write(piece); err != nil {
					failed <- err
					panic(http.ErrAbortHandler)
				}
			}
		})
	})
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprint(c, "GET /http/endless HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case err := <-failed:
		if err == nil {
			t.Error("no error")
		}
	case <-time.After(waitMax):
		t.Error("the handler still writes")
	}
}

func TestRequestIDs(t *testing.T) {
	s := serveRoutes(t, Options{}, func(m *halcyon.Module) {
		m.HTTP("GET", "/id", func(c *halcyon.Ctx, w http.ResponseWriter, _ *http.Request) error {
			_, err := fmt.Fprint(w, c.RequestID())
			return err
		})
		m.HTTP("GET", "/fail", func(*halcyon.Ctx, http.ResponseWriter, *http.Request) error { return errors.New("a detail") })
		m.Query("fail", func(*halcyon.Tx) error { return errors.New("a detail") })
		m.Mutation("failToo", func(*halcyon.Tx) error { return errors.New("a detail") })
		m.Action("failAsWell", func(*halcyon.Ctx) error { return errors.New("a detail") })
	})
	random := regexp.MustCompile(`^[0-9a-f]{16}$`)
	for _, tt := range []struct{ sent, want string }{
		{"", ""}, {"abc-DEF_1.2", "abc-DEF_1.2"}, {strings.Repeat("x", 64), strings.Repeat("x", 64)},
		{strings.Repeat("x", 65), ""}, {"a b", ""}, {"<script>", ""},
	} {
		resp, body := request(t, s, "GET", "/http/id", "", "X-Request-Id", tt.sent)
		got := resp.Header.Get("X-Request-Id")
		if got != body || tt.want == "" && !random.MatchString(got) || tt.want != "" && got != tt.want {
			t.Errorf("sent %q: header %q, handler %q, want %q", tt.sent, got, body, tt.want)
		}
	}
	for _, call := range []struct{ method, path, body string }{
		{"GET", "/http/fail", ""},
		{"POST", "/api/query", `{"path":"r:fail","args":{}}`},
		{"POST", "/api/mutation", `{"path":"r:failToo","args":{}}`},
		{"POST", "/api/action", `{"path":"r:failAsWell","args":{}}`},
	} {
		_, body := request(t, s, call.method, call.path, call.body, "X-Request-Id", "mine")
		if !strings.Contains(body, "[Request ID: mine] Server Error") || strings.Contains(body, "detail") {
			t.Errorf("%s: %s", call.path, body)
		}
	}
	if resp, _ := request(t, s, "GET", "/none", "", "X-Request-Id", "mine"); resp.Header.Get("X-Request-Id") != "mine" {
		t.Errorf("an address without anything answers as %q", resp.Header.Get("X-Request-Id"))
	}
}

// A request that was accepted is answered, with all that it does, before the server ends.
func TestShutdownFinishesRoutes(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s := serveRoutes(t, Options{ShutdownTimeout: waitMax}, func(m *halcyon.Module) {
		m.Internal.Mutation("nothing", func(*halcyon.Tx) error { return nil })
		m.HTTP("POST", "/slow", func(c *halcyon.Ctx, w http.ResponseWriter, _ *http.Request) error {
			close(entered)
			<-release
			return errors.Join(c.Err(), c.RunMutation("nothing", nil, nil))
		})
	})
	answers := make(chan string, 1)
	go func() {
		resp, err := http.Post("http://"+s.address+"/http/slow", "text/plain", nil)
		if err != nil {
			answers <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answers <- resp.Status + " " + string(body)
	}()
	<-entered
	s.stop()
	eventually(t, "the server is ending", s.draining.Load)
	close(release)
	if got := <-answers; got != "200 OK " {
		t.Errorf("the request was answered %s", got)
	}
	if err := <-s.stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	s.stopped <- nil
}

// Streams, of events say, are told to end at once.
func TestShutdownEndsRoutes(t *testing.T) {
	entered := make(chan struct{})
	s := serveRoutes(t, Options{ShutdownTimeout: waitMax}, func(m *halcyon.Module) {
		m.HTTP("GET", "/events", func(c *halcyon.Ctx, w http.ResponseWriter, _ *http.Request) error {
			if err := http.NewResponseController(w).Flush(); err != nil {
				return err
			}
			close(entered)
			<-c.Done()
			_, err := io.WriteString(w, "bye")
			return err
		})
	})
	resp, err := http.Get("http://" + s.address + "/http/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-entered
	s.stop()
	_, _ = io.ReadAll(resp.Body) // whether "bye" came depends on who is first; that it ends is what counts
	if err := <-s.stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	s.stopped <- nil
}
