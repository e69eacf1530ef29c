package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/protocol"
)

// socketWorld is an app whose module takes WebSocket connections, and what its handlers tell.
type socketWorld struct {
	*testServer
	app    *halcyon.App
	appLog *logBuffer

	ended   chan error           // what the handlers saw in the end
	entered chan *halcyon.Socket // of those that wait
	release chan struct{}
}

type tally struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

func newSocketWorld(t testing.TB, opts Options) *socketWorld {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newSocketWorldOn(t, opts, listener)
}

func newSocketWorldOn(t testing.TB, opts Options, listener net.Listener) *socketWorld {
	t.Helper()
	w := &socketWorld{ended: make(chan error, 1000), entered: make(chan *halcyon.Socket, 10), release: make(chan struct{})}
	app, err := halcyon.NewApp(w.module())
	if err != nil {
		t.Fatal(err)
	}
	w.app = app
	log := &logBuffer{}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: waitMax}, Logger: testLogger(log)}); err != nil {
		t.Fatal(err)
	}
	w.appLog = log
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	w.testServer = serveOn(t, app, opts, listener)
	return w
}

func (w *socketWorld) module() *halcyon.Module {
	tallies := halcyon.NewTable[tally]("tallies").Index("by_name", "name")
	m := halcyon.NewModule("s", tallies)
	m.Internal.Query("get", func(tx *halcyon.Tx, args struct {
		Name string `json:"name"`
	}) (int, error) {
		found, _, err := tallies.By("by_name").Eq(args.Name).First(tx)
		return found.N, err
	})
	m.Internal.Mutation("set", func(tx *halcyon.Tx, args tally) error {
		if args.N < 0 {
			return &halcyon.Error{Code: "Negative", Message: "not below zero"}
		}
		_, err := tallies.Insert(tx, args)
		return err
	})
	noting := func(h halcyon.SocketHandler) halcyon.SocketHandler {
		return func(s *halcyon.Socket) error {
			err := h(s)
			w.ended <- err
			return err
		}
	}
	echo := noting(func(s *halcyon.Socket) error {
		for {
			m, err := s.Receive()
			if err != nil {
				return err
			}
			if m.Binary {
				err = s.Send(m.Data)
			} else {
				err = s.SendText(string(m.Data))
			}
			if err != nil {
				return err
			}
		}
	})
	m.Socket("/echo", echo).MessageMax(1 << 20)
	m.Socket("/chat", func(s *halcyon.Socket) error {
		return errors.Join(s.SendText(fmt.Sprintf("%q", s.Subprotocol())), s.Flush())
	}).Subprotocols("chat.v2", "chat.v1").Origins("https://a.example")
	m.Socket("/anyone", echo).Origins("*")
	m.Socket("/yjs/{collection}/{document}", noting(func(s *halcyon.Socket) error {
		r := s.Request()
		cookie, _ := r.Cookie("who")
		return s.SendText(fmt.Sprintf("%s/%s %s %v", s.PathValue("collection"), s.PathValue("document"), r.URL.Query().Get("token"), cookie))
	}))
	m.Socket("/set/{name}", noting(func(s *halcyon.Socket) error {
		var n int
		for {
			m, err := s.Receive()
			if err != nil {
				return err
			}
			if _, err := fmt.Sscan(string(m.Data), &n); err != nil {
				return err
			}
			if err := s.RunMutation("set", tally{s.PathValue("name"), n}, nil); err != nil {
				return err
			}
		}
	}))
	m.Socket("/watch/{name}", noting(func(s *halcyon.Socket) error {
		s.Go(func() error {
			for n, err := range halcyon.Watch[int](s.Ctx, "get", map[string]any{"name": s.PathValue("name")}) {
				if err != nil {
					return err
				}
				if err := s.SendText(fmt.Sprint(n)); err != nil {
					return err
				}
			}
			return nil
		})
		_, err := s.Receive()
		return err
	}))
	m.Socket("/ends/{how}", noting(func(s *halcyon.Socket) error {
		switch s.PathValue("how") {
		case "nil":
			return nil
		case "code":
			return &halcyon.SocketClosed{Code: 4001, Reason: "who are you?"}
		case "close":
			s.Close(3000, "mine")
			<-s.Done()
			return errors.New("after the close")
		case "error":
			return fmt.Errorf("wrapped: %w", &halcyon.Error{Code: "Full", Message: "no room"})
		case "untold":
			return errors.New("a detail")
		case "panic":
			panic("oh no")
		case "goroutine":
			s.Go(func() error { return errors.New("a detail of a goroutine") })
			_, err := s.Receive()
			return err
		case "goroutine panics":
			s.Go(func() error { panic("oh no") })
			_, err := s.Receive()
			return err
		case "no code":
			return &halcyon.SocketClosed{Code: 7}
		case "long reason":
			return &halcyon.SocketClosed{Code: 4000, Reason: strings.Repeat("ä", 100)}
		}
		return errors.ErrUnsupported
	}))
	m.Socket("/ignore", noting(func(s *halcyon.Socket) error {
		s.Ignore()
		<-s.Done()
		_, err := s.Receive()
		return err
	}))
	wait := noting(func(s *halcyon.Socket) error {
		w.entered <- s
		<-w.release
		_, err := s.Receive()
		return err
	})
	m.Socket("/wait", wait)
	flood := func(s *halcyon.Socket) error {
		w.entered <- s
		piece := make([]byte, 64<<10)
		for {
			if err := s.Send(piece); err != nil {
				w.ended <- err
				if errors.Is(err, halcyon.ErrSlowReader) && s.Err() == nil { // it is kept
					_, err = s.Receive()
				}
				return err
			}
		}
	}
	m.Socket("/flood", flood).SendMax(256 << 10)
	m.Socket("/flood/refused", flood).SendMax(256 << 10).RefuseSlow()
	m.Socket("/flood/paced", func(s *halcyon.Socket) error {
		piece := make([]byte, 64<<10)
		for range 500 {
			if err := errors.Join(s.Send(piece), s.Flush()); err != nil {
				return err
			}
		}
		return nil
	}).SendMax(1)
	return m
}

// open dials an address of the world.
func (w *socketWorld) open(t testing.TB, path string, opts *websocket.DialOptions) *websocket.Conn {
	t.Helper()
	ws, _, err := websocket.Dial(t.Context(), "ws://"+w.address+path, opts)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

// hear returns the next message.
func hear(t testing.TB, ws *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitMax)
	defer cancel()
	kind, data, err := ws.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if kind == websocket.MessageBinary {
		return "binary " + string(data)
	}
	return string(data)
}

// closedWith reads until the connection is closed and returns how.
func closedWith(t testing.TB, ws *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	for {
		if _, _, err := ws.Read(ctx); err != nil {
			var closed websocket.CloseError
			if !asCloseError(err, &closed) {
				t.Fatalf("the connection ended with %v", err)
			}
			return fmt.Sprintf("%d %s", closed.Code, closed.Reason)
		}
	}
}

func say(t testing.TB, ws *websocket.Conn, kind websocket.MessageType, text string) {
	t.Helper()
	if err := ws.Write(t.Context(), kind, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// noneSince waits until no goroutine is left but those that were there before.
func noneSince(t testing.TB, before goleak.Option) {
	t.Helper()
	var err error
	for start := time.Now(); time.Since(start) < waitMax; {
		if err = goleak.Find(before); err == nil {
			return
		}
	}
	t.Error(err)
}

// seen returns what a handler ended with.
func (w *socketWorld) seen(t testing.TB) error {
	t.Helper()
	select {
	case err := <-w.ended:
		return err
	case <-time.After(waitMax):
		t.Fatal("no handler has ended")
		return nil
	}
}

func TestModuleSocketMessages(t *testing.T) {
	w := newSocketWorld(t, Options{})
	ws := w.open(t, "/echo", nil)
	large := strings.Repeat("ü", 400_000) // more than one frame and than what passes the gate in one piece
	for _, tt := range []struct {
		kind       websocket.MessageType
		text, want string
	}{
		{websocket.MessageText, "hello", "hello"}, {websocket.MessageBinary, "\x00\xff", "binary \x00\xff"},
		{websocket.MessageText, "", ""}, {websocket.MessageBinary, "", "binary "}, {websocket.MessageText, large, large},
	} {
		say(t, ws, tt.kind, tt.text)
		if got := hear(t, ws); got != tt.want {
			t.Errorf("echo of %.20q: %.20q", tt.text, got)
		}
	}
	say(t, ws, websocket.MessageText, "small")
	if got := hear(t, ws); got != "small" {
		t.Errorf("echo %q", got)
	}
	if used := w.inbound.used.Load(); used != 0 {
		t.Errorf("%d bytes of the budget are taken after the message", used)
	}
	_ = ws.Close(4002, "bye")
	if err := w.seen(t); err == nil || err.Error() != "the WebSocket was closed with 4002 bye" {
		t.Errorf("the handler ended with %v", err)
	}
	other := w.open(t, "/yjs/notes/a%2Fb?token=t1", &websocket.DialOptions{HTTPHeader: http.Header{"Cookie": {"who=me"}}})
	if got := hear(t, other); got != "notes/a/b t1 who=me" {
		t.Errorf("request: %q", got)
	}
	if got := closedWith(t, other); got != "1000 " {
		t.Errorf("closed with %s", got)
	}
	_ = w.seen(t)
	silent := w.open(t, "/echo", nil)
	_ = silent.CloseNow()
	if err := w.seen(t); err == nil || err.Error() != "the WebSocket was closed with 1006" {
		t.Errorf("after a lost connection the handler ended with %v", err)
	}
}

func TestModuleSocketMessageSizes(t *testing.T) {
	w := newSocketWorld(t, Options{Compression: true})
	for _, compress := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionNoContextTakeover} {
		ws := w.open(t, "/echo", &websocket.DialOptions{CompressionMode: compress})
		say(t, ws, websocket.MessageBinary, strings.Repeat("x", 1<<20))
		if got := hear(t, ws); len(got) != 1<<20+len("binary ") {
			t.Errorf("at the limit, %v: %d bytes", compress, len(got))
		}
		say(t, ws, websocket.MessageBinary, strings.Repeat("x", 1<<20+1))
		if got := closedWith(t, ws); got != "1009 MessageTooLarge" {
			t.Errorf("over the limit, %v: closed with %s", compress, got)
		}
		if err := w.seen(t); err == nil || !strings.Contains(err.Error(), "1009") {
			t.Errorf("the handler ended with %v", err)
		}
	}
}

func TestModuleSocketHandshakes(t *testing.T) {
	w := newSocketWorld(t, Options{})
	own := "http://" + w.address
	for _, tt := range []struct {
		name, path, origin string
		offered            []string
		status             int
		want               string
	}{
		{"no browser", "/chat", "", nil, 101, `""`},
		{"own page", "/chat", own, nil, 101, `""`},
		{"listed page", "/chat", "https://a.example", nil, 101, `""`},
		{"page of another scheme", "/chat", "http://a.example", nil, 403, "OriginNotAllowed"},
		{"foreign page", "/chat", "https://b.example", nil, 403, "OriginNotAllowed"},
		{"foreign page by default", "/yjs/a/b", "https://a.example", nil, 403, "OriginNotAllowed"},
		{"page with a name that begins alike", "/chat", own + ".evil.example", nil, 403, "OriginNotAllowed"},
		{"page of a file", "/chat", "null", nil, 403, "OriginNotAllowed"},
		{"garbage", "/chat", "::", nil, 403, "OriginNotAllowed"},
		{"everybody", "/anyone", "https://b.example", nil, 101, ""},
		{"subprotocol", "/chat", "", []string{"chat.v1"}, 101, `"chat.v1"`},
		{"best subprotocol", "/chat", "", []string{"x", "chat.v1", "chat.v2"}, 101, `"chat.v2"`},
		{"other subprotocols", "/chat", "", []string{"x"}, 400, "NoSubprotocol"},
		{"subprotocol where there are none", "/yjs/a/b", "", []string{"x"}, 101, "a/b  "},
		{"no such address", "/yjs/a", "", nil, 404, "404"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := http.Header{}
			if tt.origin != "" {
				header.Set("Origin", tt.origin)
			}
			ws, resp, err := websocket.Dial(t.Context(), "ws://"+w.address+tt.path, &websocket.DialOptions{HTTPHeader: header, Subprotocols: tt.offered})
			if resp == nil || resp.StatusCode != tt.status {
				t.Fatalf("%v, %v; want status %d", resp, err, tt.status)
			}
			if tt.status != 101 {
				body, _ := io.ReadAll(resp.Body)
				if !strings.Contains(string(body), tt.want) {
					t.Errorf("%s, want %q in it", body, tt.want)
				}
				return
			}
			defer func() { _ = ws.CloseNow() }()
			if tt.want != "" {
				if got := hear(t, ws); !strings.HasPrefix(got, tt.want) {
					t.Errorf("the handler says %s, want %s", got, tt.want)
				}
			}
		})
	}
	if resp, body := request(t, w.testServer, "GET", "/echo", ""); resp.StatusCode != 426 || resp.Header.Get("Upgrade") != "websocket" || !strings.Contains(body, "ExpectedWebSocket") {
		t.Errorf("a plain GET: %d %s", resp.StatusCode, body)
	}
	if resp, _ := request(t, w.testServer, "POST", "/echo", ""); resp.StatusCode != 405 {
		t.Errorf("a POST: %d", resp.StatusCode)
	}
}

func TestModuleSocketEnds(t *testing.T) {
	w := newSocketWorld(t, Options{})
	for _, tt := range []struct{ how, want, logged string }{
		{"nil", "1000 ", ""},
		{"code", "4001 who are you?", ""},
		{"close", "3000 mine", "after the close"},
		{"error", "1008 Full: no room", ""},
		{"untold", "1011 [Request ID: ID] Server Error", "a detail"},
		{"panic", "1011 [Request ID: ID] Server Error", "panic: oh no"},
		{"goroutine", "1011 [Request ID: ID] Server Error", "a detail of a goroutine"},
		{"goroutine%20panics", "1011 [Request ID: ID] Server Error", "panic: oh no"},
		{"no%20code", "1011 InternalServerError", "a code that is none"},
		{"long%20reason", "4000 " + strings.Repeat("ä", 61), ""},
	} {
		t.Run(tt.how, func(t *testing.T) {
			w.log.reset()
			w.appLog.reset()
			got := closedWith(t, w.open(t, "/ends/"+tt.how, &websocket.DialOptions{HTTPHeader: http.Header{"X-Request-Id": {"ID"}}}))
			if got != tt.want {
				t.Errorf("closed with %q, want %q", got, tt.want)
			}
			eventually(t, "the connection is gone", func() bool { return w.places() == 0 })
			if text := w.log.String() + w.appLog.String(); tt.logged != "" && !strings.Contains(text, tt.logged) || tt.logged == "" && strings.Contains(text, "ERROR") {
				t.Errorf("logged %s, want %q", text, tt.logged)
			}
		})
	}
	w.log.reset()
}

// places returns how many connections the server counts.
func (w *socketWorld) places() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.taken
}

// Handlers run functions, and watch live queries that clients of the sync protocol can't see.
func TestModuleSocketFunctions(t *testing.T) {
	w := newSocketWorld(t, Options{})
	watching := w.open(t, "/watch/a", nil)
	if got := hear(t, watching); got != "0" {
		t.Errorf("first %q", got)
	}
	setting := w.open(t, "/set/a", nil)
	say(t, setting, websocket.MessageText, "7")
	if got := hear(t, watching); got != "7" {
		t.Errorf("after the change %q", got)
	}
	say(t, setting, websocket.MessageText, "-1")
	if got := closedWith(t, setting); got != "1008 Negative: not below zero" {
		t.Errorf("closed with %s", got)
	}
	_ = w.seen(t)
	_ = watching.Close(1000, "")
	if err := w.seen(t); err == nil || !strings.Contains(err.Error(), "1000") {
		t.Errorf("the handler ended with %v", err)
	}
	c := connect(t, w.testServer)
	c.add(0, "s:get", `{"name":"a"}`)
	next[*protocol.Transition](c)
	if got := c.results[0]; !strings.Contains(got, "Could not find public function") {
		t.Errorf("a client sees %s", got)
	}
}

// A client that does not take what it is sent is disconnected, or the handler is told; others can be as fast as their client.
func TestModuleSocketSlowReaders(t *testing.T) {
	for _, path := range []string{"/flood", "/flood/refused"} {
		listener := newPipeListener()
		w := newSocketWorldOn(t, Options{WriteTimeout: waitMax, CloseTimeout: 100 * time.Millisecond}, listener)
		c, theirs := net.Pipe()
		defer c.Close()
		listener.conns <- theirs
		handshake(t, c, path)
		s := receive(t, w.entered)
		if err := w.seen(t); !errors.Is(err, halcyon.ErrSlowReader) {
			t.Errorf("%s: the handler got %v", path, err)
		}
		for _, c := range w.moduleConns() {
			if waiting := c.socket.waiting(); waiting > 256<<10+100 {
				t.Errorf("%s: %d bytes wait", path, waiting)
			}
		}
		if kept := s.Err() == nil; kept != (path == "/flood/refused") {
			t.Errorf("%s: is the connection kept? %v", path, kept)
		}
		_ = c.Close()
		eventually(t, "the connection is gone", func() bool { return w.places() == 0 })
	}
	// Both are dropped when they have taken nothing for the write timeout. The network takes the answer to its handshake from the server at
	// once, however late the client comes to read it. It does not take all that may wait: then there would be nothing to wait for.
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := newSocketWorldOn(t, Options{WriteTimeout: 100 * time.Millisecond}, narrowListener{inner})
	for _, path := range []string{"/flood", "/flood/refused"} {
		c := dialPlain(t, w.testServer)
		if err := c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
			t.Fatal(err)
		}
		handshake(t, c, path)
		receive(t, w.entered)
		_ = w.seen(t)
		eventually(t, "the connection is dropped", func() bool { return w.places() == 0 })
	}
	paced := newSocketWorld(t, Options{}).open(t, "/flood/paced", nil)
	for range 500 {
		hear(t, paced)
	}
	if got := closedWith(t, paced); got != "1000 " {
		t.Errorf("the paced flood was closed with %s", got)
	}
}

// A message that nobody receives does not hide that the client has gone.
func TestModuleSocketIgnores(t *testing.T) {
	w := newSocketWorld(t, Options{})
	ws := w.open(t, "/ignore", nil)
	for range 100 {
		say(t, ws, websocket.MessageText, "anybody there?")
	}
	_ = ws.Close(4003, "nobody")
	if err := w.seen(t); err == nil || !strings.Contains(err.Error(), "4003 nobody") {
		t.Errorf("the handler ended with %v", err)
	}
}

// Silent clients are asked, and dropped when they do not answer; the time of a handler is not the client's.
func TestModuleSocketSilence(t *testing.T) {
	clock := newFakeClock()
	w := newSocketWorld(t, Options{Clock: clock})
	silent, r := rawDialAt(t, w.testServer, "/echo")
	defer silent.Close()
	busy := w.open(t, "/wait", nil)
	receive(t, w.entered)
	say(t, busy, websocket.MessageBinary, strings.Repeat("x", 100_000)) // in nobody's hands yet
	// The server may know a connection later than its client does; the sweeps pass over those that it does not know.
	eventually(t, "both are known, and the message waits for its handler", func() bool {
		known := w.moduleConns()
		return len(known) == 2 && slices.ContainsFunc(known, func(c *moduleConn) bool { return c.handing.Load() })
	})
	for range 65 {
		clock.advance(2 * time.Second)
	}
	if code, reason := rawClose(t, r); code != closePolicy || reason != reasonSilent {
		t.Errorf("the silent client was closed with %d %s", code, reason)
	}
	if err := w.seen(t); err == nil || !strings.Contains(err.Error(), "1008") {
		t.Errorf("the silent client's handler ended with %v", err)
	}
	if used := w.inbound.used.Load(); used == 0 {
		t.Error("a large message that waits for its handler has no part of the budget")
	}
	close(w.release)
	if err := w.seen(t); err != nil {
		t.Errorf("the busy handler ended with %v", err)
	}
	if got := closedWith(t, busy); got != "1000 " {
		t.Errorf("the busy connection was closed with %s", got)
	}
}

func TestModuleSocketPlaces(t *testing.T) {
	w := newSocketWorld(t, Options{ConnectionsMax: 2})
	w.open(t, "/echo", nil)
	ws := w.open(t, "/wait", nil)
	receive(t, w.entered)
	_, resp, err := websocket.Dial(t.Context(), "ws://"+w.address+"/echo", nil)
	if err == nil || resp == nil || resp.StatusCode != 503 {
		t.Fatalf("one more than may be: %v, %v", resp, err)
	}
	// The place is free when the handler has ended, and not when the client has.
	_ = ws.CloseNow()
	eventually(t, "the socket is freed", func() bool { return len(w.moduleConns()) == 1 })
	if n := w.places(); n != 2 {
		t.Errorf("%d places are taken while a handler runs", n)
	}
	close(w.release)
	eventually(t, "the place is free", func() bool { return w.places() == 1 })
	w.open(t, "/echo", nil)
}

// Nothing is left of connections that have ended: no goroutine, no memory, no part of the budget.
func TestModuleSocketLeavesNothing(t *testing.T) {
	w := newSocketWorld(t, Options{})
	visit := func(n int) {
		var group sync.WaitGroup
		for i := range n {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), waitMax)
				defer cancel()
				ws, _, err := websocket.Dial(ctx, "ws://"+w.address+[]string{"/echo", "/watch/a"}[i%2], nil)
				if err != nil {
					t.Error(err)
					return
				}
				ws.SetReadLimit(-1)
				if i%2 == 0 {
					if err := ws.Write(ctx, websocket.MessageBinary, make([]byte, 300_000)); err != nil {
						t.Error(err)
					}
				}
				if _, _, err := ws.Read(ctx); err != nil {
					t.Error(err)
				}
				if i%3 == 0 {
					_ = ws.CloseNow()
				} else {
					_ = ws.Close(1000, "")
				}
			})
		}
		group.Wait()
		eventually(t, "all connections are gone", func() bool { return w.places() == 0 })
		for range n {
			receive(t, w.ended)
		}
	}
	visit(20) // fills pools
	before := goleak.IgnoreCurrent()
	heap := func() uint64 {
		var m runtime.MemStats
		for range 3 { // pools are emptied by the second
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	was := heap()
	visit(200)
	noneSince(t, before)
	if grown := int64(heap()) - int64(was); grown > 1<<20 {
		t.Errorf("200 connections left %d bytes", grown)
	}
	if used := w.inbound.used.Load(); used != 0 {
		t.Errorf("%d bytes of the budget are taken", used)
	}
}

func TestModuleSocketShutdown(t *testing.T) {
	w := newSocketWorld(t, Options{ShutdownTimeout: waitMax})
	ws := w.open(t, "/echo", nil)
	late := w.open(t, "/wait", nil)
	s := receive(t, w.entered)
	w.stop()
	for _, c := range []*websocket.Conn{ws, late} {
		if got := closedWith(t, c); got != "1012 Restart" {
			t.Errorf("closed with %s", got)
		}
	}
	receive(t, s.Done())
	close(w.release)
	if err := receive(t, w.stopped); err != nil {
		t.Errorf("Serve: %v", err)
	}
	w.stopped <- nil
	for range 2 {
		if err := w.seen(t); err == nil || !strings.Contains(err.Error(), "1012 Restart") {
			t.Errorf("a handler ended with %v", err)
		}
	}
}

// A handler that does not end does not keep the server from ending.
func TestModuleSocketShutdownIsBounded(t *testing.T) {
	w := newSocketWorld(t, Options{ShutdownTimeout: 200 * time.Millisecond})
	w.open(t, "/wait", nil)
	receive(t, w.entered)
	w.stop()
	if err := receive(t, w.stopped); err == nil || !strings.Contains(err.Error(), "handler of a WebSocket connection is still running") {
		t.Errorf("Serve: %v", err)
	}
	w.stopped <- nil
	close(w.release)
	_ = w.seen(t)
}

// What claims to be large costs nothing, as for clients of the sync protocol.
func TestModuleSocketClaimedLengths(t *testing.T) {
	w := newSocketWorld(t, Options{})
	c, r := rawDialAt(t, w.testServer, "/echo")
	if _, err := c.Write(claim16MiB); err != nil {
		t.Fatal(err)
	}
	if code, reason := rawClose(t, r); code != closeTooLarge || reason != reasonTooLarge {
		t.Errorf("closed with %d %s", code, reason)
	}
}

func TestPingsOfASlowReaderAreAnsweredOnce(t *testing.T) {
	listener := newPipeListener()
	w := newSocketWorldOn(t, Options{WriteTimeout: waitMax}, listener)
	c, theirs := net.Pipe()
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(waitMax)); err != nil {
		t.Fatal(err)
	}
	listener.conns <- theirs
	r := handshake(t, c, "/flood/refused")
	receive(t, w.entered)
	if err := w.seen(t); !errors.Is(err, halcyon.ErrSlowReader) {
		t.Fatalf("the handler got %v", err)
	}
	for n := range byte(100) {
		if _, err := c.Write([]byte{0x89, 0x81, 0, 0, 0, 0, n}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the pings have been read", func() bool {
		ours := w.moduleConns()[0]
		ours.mu.Lock()
		defer ours.mu.Unlock()
		return bytes.Equal(ours.mu.pong, []byte{99})
	})
	for { // the flood, and behind it one pong
		head := make([]byte, 2)
		if _, err := io.ReadFull(r, head); err != nil {
			t.Fatal(err)
		}
		size := int64(head[1])
		if size == 127 {
			length := make([]byte, 8)
			if _, err := io.ReadFull(r, length); err != nil {
				t.Fatal(err)
			}
			size = int64(binary.BigEndian.Uint64(length))
		}
		payload := make([]byte, size)
		if _, err := io.ReadFull(r, payload); err != nil {
			t.Fatal(err)
		}
		if head[0] == 0x8a {
			if !bytes.Equal(payload, []byte{99}) {
				t.Errorf("pong %v, want that of the newest ping", payload)
			}
			return
		}
	}
}

func TestOriginMay(t *testing.T) {
	for _, tt := range []struct {
		origin, host string
		listed       []string
		want         bool
	}{
		{"", "a.example", nil, true},
		{"https://a.example", "a.example", nil, true},
		{"https://A.Example", "a.example", nil, true},
		{"https://a.example:8443", "a.example:8443", nil, true},
		{"https://a.example:8443", "a.example", nil, false},
		{"https://b.example", "a.example", nil, false},
		{"https://b.example", "a.example", []string{"https://b.example"}, true},
		{"https://b.example", "a.example", []string{"https://b.example:443"}, false},
		{"null", "", nil, false},
		{"https://", "", nil, false},
		{"https://x", "y", []string{"*"}, true},
	} {
		if got := originMay(tt.origin, tt.host, tt.listed); got != tt.want {
			t.Errorf("origin %q at %q with %q listed: %v", tt.origin, tt.host, tt.listed, got)
		}
	}
}
