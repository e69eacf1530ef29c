package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// parrot is a receiver that does what its messages say, and echoes the others.
type parrot struct {
	w      *parrots
	s      *halcyon.Socket
	inside atomic.Int32 // calls
}

// parrots is an app whose module has receivers.
type parrots struct {
	*testServer
	t       *testing.T
	app     *halcyon.App
	appLog  *logBuffer
	closed  chan error // the cause of the end, of each that was closed
	waiting chan struct{}
	release chan struct{}
}

func newParrots(t *testing.T, opts Options) *parrots {
	t.Helper()
	w := &parrots{t: t, appLog: &logBuffer{}, closed: make(chan error, 100), waiting: make(chan struct{}, 10), release: make(chan struct{})}
	m := halcyon.NewModule("p")
	m.SocketReceiver("/parrot/{name...}", w.open).MessageMax(1 << 20)
	app, err := halcyon.NewApp(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: waitMax}, Logger: testLogger(w.appLog)}); err != nil {
		t.Fatal(err)
	}
	w.app = app
	t.Cleanup(func() {
		if err := app.Close(); err != nil && !errors.Is(err, halcyon.ErrNotOpen) {
			t.Error(err)
		}
	})
	w.testServer = serve(t, app, opts)
	return w
}

func (w *parrots) open(s *halcyon.Socket) (halcyon.SocketReceiver, error) {
	switch s.PathValue("name") {
	case "refused":
		return nil, &halcyon.SocketClosed{Code: 4001, Reason: "not you"}
	case "panics":
		panic("oh no")
	case "nothing":
		return nil, nil
	}
	return &parrot{w: w, s: s}, s.SendText("hello " + s.PathValue("name"))
}

func (p *parrot) Receive(m halcyon.SocketMessage) error {
	if p.inside.Add(1) != 1 {
		p.w.t.Error("two calls of a receiver at once")
	}
	defer p.inside.Add(-1)
	switch text := string(m.Data); text {
	case "fail":
		return fmt.Errorf("wrapped: %w", &halcyon.Error{Code: "Full", Message: "no room"})
	case "untold":
		return errors.New("a detail")
	case "panic":
		panic("oh no")
	case "close":
		p.s.Close(3000, "mine")
		return errors.New("after the close")
	case "goroutine":
		p.s.Go(func() error { return errors.New("a detail of a goroutine") })
		return nil
	case "receive":
		_, err := p.s.Receive()
		return err
	case "wait":
		p.w.waiting <- struct{}{}
		<-p.s.Done()
		return context.Cause(p.s)
	case "hang":
		p.w.waiting <- struct{}{}
		<-p.w.release
		return nil
	default:
		if p.s.Request() != nil {
			return errors.New("the request is still there")
		}
		return p.s.SendText(text)
	}
}

func (p *parrot) Closed() {
	if p.inside.Add(1) != 1 {
		p.w.t.Error("a receiver was closed while it received")
	}
	p.w.closed <- context.Cause(p.s)
}

// dial opens a connection.
func (w *parrots) dial(name string) *websocket.Conn {
	w.t.Helper()
	ws, _, err := websocket.Dial(w.t.Context(), "ws://"+w.address+"/parrot/"+name, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	w.t.Cleanup(func() { _ = ws.CloseNow() })
	return ws
}

func receive[T any](t testing.TB, from <-chan T) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(waitMax):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

// ended awaits that a receiver is closed, and returns how its connection was.
func (w *parrots) ended() string {
	w.t.Helper()
	return fmt.Sprint(receive(w.t, w.closed))
}

func TestReceiverMessages(t *testing.T) {
	w := newParrots(t, Options{})
	ws := w.dial("ann")
	if got := hear(t, ws); got != "hello ann" {
		t.Errorf("it says %q", got)
	}
	for _, text := range []string{"one", "", strings.Repeat("ü", 400_000), "small"} {
		say(t, ws, websocket.MessageText, text)
		if got := hear(t, ws); got != text {
			t.Errorf("echo of %.20q: %.20q", text, got)
		}
	}
	if used := w.inbound.used.Load(); used != 0 {
		t.Errorf("%d bytes of the budget are taken after the messages", used)
	}
	_ = ws.Close(4002, "bye")
	if got := w.ended(); got != "the WebSocket was closed with 4002 bye" {
		t.Errorf("it ended with %s", got)
	}
	lost := w.dial("bob")
	_ = lost.CloseNow()
	if got := w.ended(); got != "the WebSocket was closed with 1006" {
		t.Errorf("a lost one ended with %s", got)
	}
}

func TestReceiverEnds(t *testing.T) {
	w := newParrots(t, Options{})
	for _, tt := range []struct{ name, say, want string }{
		{"refused", "", "4001 not you"},
		{"panics", "", "1011 [Request ID: "},
		{"nothing", "", "1011 [Request ID: "},
		{"ann", "fail", "1008 Full: no room"},
		{"ann", "untold", "1011 [Request ID: "},
		{"ann", "panic", "1011 [Request ID: "},
		{"ann", "close", "3000 mine"},
		{"ann", "goroutine", "1011 [Request ID: "},
		{"ann", "receive", "1011 [Request ID: "},
	} {
		ws := w.dial(tt.name)
		if tt.say != "" {
			say(t, ws, websocket.MessageText, tt.say)
		}
		if got := closedWith(t, ws); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%s %s: closed with %s, want %s", tt.name, tt.say, got, tt.want)
		}
		if tt.say != "" {
			w.ended()
		}
	}
	if n := strings.Count(w.appLog.String(), "panic: oh no"); n != 2 {
		t.Errorf("%d panics are in the log:\n%s", n, w.appLog.String())
	}
	if n := len(w.closed); n != 0 {
		t.Errorf("%d receivers were closed that were none, or twice", n)
	}
}

// TestReceiverIsBusy: what a receiver waits for ends with its connection, and a message that it does not let go of holds up its own client alone.
func TestReceiverIsBusy(t *testing.T) {
	w := newParrots(t, Options{})
	busy, hanging, other := w.dial("busy"), w.dial("hanging"), w.dial("other")
	say(t, busy, websocket.MessageText, "wait")
	say(t, hanging, websocket.MessageText, "hang")
	receive(t, w.waiting)
	receive(t, w.waiting)
	hear(t, other)
	say(t, other, websocket.MessageText, "one")
	if got := hear(t, other); got != "one" {
		t.Errorf("beside it: %q", got)
	}
	for _, c := range w.moduleConns() {
		c.close(4000, "enough")
	}
	for range 2 {
		if got := w.ended(); got != "the WebSocket was closed with 4000 enough" {
			t.Errorf("it ended with %s", got)
		}
	}
	select {
	case err := <-w.closed:
		t.Errorf("the one that hangs was closed meanwhile, with %v", err)
	default:
	}
	close(w.release)
	w.ended()
}

// TestReceiversEndWithTheServer and its App, and nothing is left.
func TestReceiversEndWithTheServer(t *testing.T) {
	for _, what := range []string{"server", "app"} {
		t.Run(what, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Run("", func(t *testing.T) {
				w := newParrots(t, Options{})
				idle, busy := w.dial("idle"), w.dial("busy")
				hear(t, idle)
				hear(t, busy)
				say(t, busy, websocket.MessageText, "wait")
				receive(t, w.waiting)
				if what == "server" {
					w.stop()
				} else if err := w.app.Close(); err != nil {
					t.Error(err)
				}
				for _, ws := range []*websocket.Conn{idle, busy} {
					if got := closedWith(t, ws); got != "1012 Restart" {
						t.Errorf("closed with %s", got)
					}
					w.ended()
				}
			})
			http.DefaultClient.CloseIdleConnections()
			noneSince(t, before)
		})
	}
}

// TestManyReceiversAreBusy: more at once than wait for work, and each message comes to its own.
func TestManyReceiversAreBusy(t *testing.T) {
	w := newParrots(t, Options{})
	var all []*websocket.Conn
	for i := range 3 * crewIdleMax {
		ws := w.dial(fmt.Sprint(i))
		if got := hear(t, ws); got != fmt.Sprint("hello ", i) {
			t.Fatalf("%d hears %s", i, got)
		}
		say(t, ws, websocket.MessageText, "hang")
		all = append(all, ws)
	}
	go func() {
		for range all {
			<-w.waiting
		}
		close(w.release)
	}()
	for i, ws := range all {
		say(t, ws, websocket.MessageText, fmt.Sprint("after ", i))
		if got := hear(t, ws); got != fmt.Sprint("after ", i) {
			t.Errorf("%d hears %s", i, got)
		}
	}
	w.crew.mu.Lock()
	defer w.crew.mu.Unlock()
	if n := len(w.crew.mu.idle); n > crewIdleMax {
		t.Errorf("%d wait for work", n)
	}
}

// TestReceiversHaveNoGoroutine but the one that reads, which is what they are for: however many are connected, a few goroutines work for all.
func TestReceiversHaveNoGoroutine(t *testing.T) {
	w := newParrots(t, Options{})
	const n = 60
	for i := range n {
		ws := w.dial(fmt.Sprint(i))
		hear(t, ws)
		say(t, ws, websocket.MessageText, "one")
		hear(t, ws)
	}
	stacks := make([]byte, 8<<20)
	var all []string
	count := func(function string) (times int) {
		for _, stack := range all {
			if strings.Contains(stack, function) && !strings.Contains(stack, t.Name()) {
				times++
			}
		}
		return times
	}
	// One that has worked may not have gone yet when its client has the answer.
	eventually(t, "each connection has the goroutine that reads, and few wait for work", func() bool {
		all = strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n")
		return count("(*moduleConn).readLoop(") == n && count("(*hand).serve(") <= crewIdleMax
	})
	if handlers := count("(*moduleConn).serve("); handlers != 0 {
		t.Errorf("%d goroutines are handlers", handlers)
	}
}
