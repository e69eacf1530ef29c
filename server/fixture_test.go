package server

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// waitMax bounds every wait of the tests for something that must happen.
const waitMax = 60 * time.Second

// message is a row of the table that the tests use.
type message struct {
	ID      halcyon.ID[message] `json:"_id" halcyon:"id"`
	Channel string              `json:"channel"`
	Body    string              `json:"body"`
	Count   int64               `json:"count"`
	// Place orders the messages that are read page by page.
	Place string `json:"place,omitempty"`
}

// fixture is an app that the tests run, with ways to hold its functions.
type fixture struct {
	app *halcyon.App
	// entered receives the name of each execution of a function that is held,
	// until let is called.
	entered chan string
	release chan struct{}
	let     func()
}

type channelArgs struct {
	Channel string `json:"channel"`
}

type pageArgs struct {
	Channel        string              `json:"channel"`
	PaginationOpts halcyon.PageOptions `json:"paginationOpts"`
}

type bodiesArgs struct {
	Channel string   `json:"channel"`
	Bodies  []string `json:"bodies"`
}

type sendArgs struct {
	Channel string `json:"channel"`
	Body    string `json:"body"`
}

// testModule has the functions of the tests.
func testModule(f *fixture) *halcyon.Module {
	messages := halcyon.NewTable[message]("messages").Index("by_channel", "channel").Index("by_channel_place", "channel", "place")
	counter := func(tx *halcyon.Tx, channel string) (message, bool, error) {
		return messages.By("by_channel").Eq(channel).First(tx)
	}
	increment := func(tx *halcyon.Tx, args channelArgs) (int64, error) {
		m, ok, err := counter(tx, args.Channel)
		if err != nil {
			return 0, err
		}
		if !ok {
			m.Channel = args.Channel
			_, err = messages.Insert(tx, message{Channel: args.Channel, Count: 1})
			return 1, err
		}
		return m.Count + 1, messages.Patch(tx, m.ID, halcyon.Fields{"count": m.Count + 1})
	}
	m := halcyon.NewModule("t", messages)
	m.Query("list", func(tx *halcyon.Tx, args channelArgs) ([]string, error) {
		bodies := []string{}
		for m, err := range messages.By("by_channel").Eq(args.Channel).Each(tx) {
			if err != nil {
				return nil, err
			}
			bodies = append(bodies, m.Body)
		}
		return bodies, nil
	})
	page := func(tx *halcyon.Tx, channel string, o halcyon.PageOptions) (halcyon.Page[string], error) {
		p, err := messages.By("by_channel_place").Eq(channel).Page(tx, o)
		if err != nil {
			return halcyon.Page[string]{}, err
		}
		return halcyon.MapPage(p, func(m message) (string, error) { return m.Body, nil })
	}
	m.Query("page", func(tx *halcyon.Tx, args pageArgs) (halcyon.Page[string], error) {
		return page(tx, args.Channel, args.PaginationOpts)
	})
	// pageForged gives out cursors that it does not take back.
	m.Query("pageForged", func(tx *halcyon.Tx, args struct {
		pageArgs
		Forged bool `json:"forged"`
	}) (halcyon.Page[string], error) {
		p, err := page(tx, args.Channel, args.PaginationOpts)
		p.ContinueCursor += "x"
		return p, err
	})
	// pageLimited reads fewer rows than a page could have.
	m.Query("pageLimited", func(tx *halcyon.Tx, args struct {
		pageArgs
		RowsMax float64 `json:"rowsMax"`
	}) (halcyon.Page[string], error) {
		args.PaginationOpts.MaximumRowsRead = &args.RowsMax
		return page(tx, args.Channel, args.PaginationOpts)
	})
	// pageBeside has a page of another channel beside each line.
	m.Query("pageBeside", func(tx *halcyon.Tx, args struct {
		pageArgs
		Beside string `json:"beside"`
	}) (halcyon.Page[string], error) {
		other, err := page(tx, args.Beside, halcyon.PageOptions{NumItems: 5})
		if err != nil {
			return halcyon.Page[string]{}, err
		}
		p, err := page(tx, args.Channel, args.PaginationOpts)
		if err != nil {
			return halcyon.Page[string]{}, err
		}
		return halcyon.MapPage(p, func(body string) (string, error) { return body + "/" + strings.Join(other.Page, ""), nil })
	})
	m.Mutation("agent", func(tx *halcyon.Tx) (string, error) { return tx.UserAgent(), nil })
	m.Mutation("sendAll", func(tx *halcyon.Tx, args bodiesArgs) error {
		for _, body := range args.Bodies {
			if _, err := messages.Insert(tx, message{Channel: args.Channel, Body: body, Place: body}); err != nil {
				return err
			}
		}
		return nil
	})
	m.Mutation("removeAll", func(tx *halcyon.Tx, args bodiesArgs) error {
		for _, body := range args.Bodies {
			m, _, err := messages.By("by_channel_place").Eq(args.Channel, body).First(tx)
			if err != nil {
				return err
			}
			if err := messages.Delete(tx, m.ID); err != nil {
				return err
			}
		}
		return nil
	})
	m.Mutation("send", func(tx *halcyon.Tx, args sendArgs) (string, error) {
		tx.Log("sending", args.Body)
		id, err := messages.Insert(tx, message{Channel: args.Channel, Body: args.Body})
		return string(id), err
	})
	m.Query("count", func(tx *halcyon.Tx, args channelArgs) (int64, error) {
		m, _, err := counter(tx, args.Channel)
		return m.Count, err
	})
	m.Mutation("increment", increment)
	m.Mutation("held", func(tx *halcyon.Tx, args channelArgs) (int64, error) {
		f.entered <- args.Channel
		<-f.release
		return increment(tx, args)
	})
	m.Query("parity", func(tx *halcyon.Tx, args channelArgs) (int64, error) {
		m, _, err := counter(tx, args.Channel)
		return m.Count % 2, err
	})
	m.Query("echo", func(tx *halcyon.Tx, args value.Value) (value.Value, error) { return args, nil })
	m.Mutation("nothing", func(tx *halcyon.Tx, args value.Value) (value.Value, error) { return args, nil })
	m.Query("big", func(tx *halcyon.Tx, args channelArgs) (string, error) {
		m, _, err := counter(tx, args.Channel)
		return strings.Repeat(fmt.Sprint(m.Count%10), 256<<10), err
	})
	m.Query("fails", func(tx *halcyon.Tx) error {
		return &halcyon.Error{Code: "NoLuck", Message: "It did not work.", Data: map[string]any{"attempt": 1}}
	})
	m.Mutation("fail", func(tx *halcyon.Tx) error { return &halcyon.Error{Code: "NoLuck", Message: "It did not work."} })
	m.Mutation("crash", func(tx *halcyon.Tx) error { panic("oh no") })
	m.Action("relay", func(c *halcyon.Ctx, args sendArgs) (string, error) {
		c.Log("relaying", args.Body)
		var id string
		err := c.RunMutation("send", args, &id)
		return id, err
	})
	type jobArgs struct {
		Job halcyon.ID[halcyon.ScheduledFunction] `json:"job"`
	}
	type laterArgs struct {
		sendArgs
		Function string  `json:"function"`
		After    float64 `json:"after"` // ms
	}
	m.Mutation("later", func(tx *halcyon.Tx, args laterArgs) (halcyon.ID[halcyon.ScheduledFunction], error) {
		return tx.RunAfter(time.Duration(args.After)*time.Millisecond, args.Function, args.sendArgs)
	})
	m.Action("laterByAction", func(c *halcyon.Ctx, args laterArgs) (halcyon.ID[halcyon.ScheduledFunction], error) {
		return c.RunAfter(time.Duration(args.After)*time.Millisecond, args.Function, args.sendArgs)
	})
	m.Mutation("cancel", func(tx *halcyon.Tx, args jobArgs) error { return tx.Cancel(args.Job) })
	m.Query("job", func(tx *halcyon.Tx, args jobArgs) (*halcyon.ScheduledFunction, error) {
		job, ok, err := halcyon.ScheduledFunctions.Get(tx, args.Job)
		if !ok {
			return nil, err
		}
		return &job, err
	})
	m.Internal.Action("relayTwice", func(c *halcyon.Ctx, args sendArgs) error {
		for range 2 {
			if err := c.RunMutation("send", args, nil); err != nil {
				return err
			}
		}
		return &halcyon.Error{Code: "NoLuck", Message: "It did not work."}
	})
	m.Action("relayFailure", func(c *halcyon.Ctx) error { return c.RunMutation("fail", nil, nil) })
	m.Action("heldAction", func(c *halcyon.Ctx, args channelArgs) (string, error) {
		f.entered <- args.Channel
		select {
		case <-f.release:
			return args.Channel, c.RunMutation("increment", args, nil)
		case <-c.Done():
			return "", c.Err()
		}
	})
	m.Internal.Mutation("secret", func(tx *halcyon.Tx) error { return nil })
	m.Handle("GET /hello", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }))
	m.Handle("POST /upload", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n, err)
	}))
	m.Handle("POST /api/event", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "event") }))
	return m
}

// newFixture opens the app in memory.
func newFixture(t testing.TB) *fixture {
	t.Helper()
	f := &fixture{entered: make(chan string, 100), release: make(chan struct{})}
	f.let = sync.OnceFunc(func() { close(f.release) })
	app, err := halcyon.NewApp(testModule(f))
	if err != nil {
		t.Fatal(err)
	}
	f.app = app
	f.open(t, vfs.NewMem())
	t.Cleanup(func() {
		f.let()
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) open(t testing.TB, fs vfs.FS) {
	t.Helper()
	err := f.app.Open("data", &halcyon.Options{Engine: engine.Options{FS: fs, FunctionTimeMax: waitMax}})
	if err != nil {
		t.Fatal(err)
	}
}

// call runs a function of the app without the server.
func (f *fixture) call(t testing.TB, path string, args, result any) {
	t.Helper()
	if err := f.app.Run(context.Background(), path, args, result); err != nil {
		t.Fatal(err)
	}
}

// testServer is a server that listens on a port of this machine.
type testServer struct {
	*Server
	address string
	log     *logBuffer
	stop    context.CancelFunc
	stopped chan error
}

// serve starts a server for the app; it ends with the test.
func serve(t testing.TB, app *halcyon.App, opts Options) *testServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, app, opts, listener)
}

func serveOn(t testing.TB, app *halcyon.App, opts Options, listener net.Listener) *testServer {
	log := &logBuffer{}
	opts.Logger = testLogger(log)
	ctx, cancel := context.WithCancel(context.Background())
	s := &testServer{Server: New(app, &opts), address: listener.Addr().String(), log: log, stop: cancel, stopped: make(chan error, 1)}
	go func() { s.stopped <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-s.stopped; err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.stopped <- nil
		if used := s.inbound.used.Load(); used != 0 {
			t.Errorf("%d bytes of the inbound budget are still taken at the end", used)
		}
		if out, watched := s.outbound.used.Load(), s.watched.used.Load(); out != 0 || watched != 0 {
			t.Errorf("%d bytes of the outbound budget and %d of that of live queries are still taken at the end", out, watched)
		}
		if text := log.String(); strings.Contains(text, "level=ERROR") && !t.Failed() {
			t.Errorf("the server logged errors:\n%s", text)
		}
	})
	return s
}

func testLogger(log *logBuffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// logBuffer keeps what was logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// reset forgets what was logged, which a test has expected.
func (l *logBuffer) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

// client speaks the protocol. It checks the rules of versions on all it gets.
type client struct {
	t         testing.TB
	ws        *websocket.Conn
	session   string
	requests  uint32
	querySet  uint32
	version   protocol.Version
	keepPings bool
	// chunks counts the parts in which Transitions came.
	chunks    int
	assembler protocol.Assembler
	// results are those of the live queries, by id: JSON, or "error: " and a text.
	results map[uint32]string
}

const sessionA = "220faa75-0ee8-4ccb-ae77-d9778875541f"

// dial opens a connection without a word.
func dial(t testing.TB, s *testServer, opts *websocket.DialOptions) *client {
	t.Helper()
	return dialPath(t, s, "/api/1.48.0/sync", opts)
}

// dialAs is dial for another client than the npm one: its path, and what it says in the header.
func dialAs(t testing.TB, s *testServer, path, header string) *client {
	t.Helper()
	opts := &websocket.DialOptions{HTTPHeader: http.Header{}}
	if header != "" {
		opts.HTTPHeader.Set(clientHeader, header)
	}
	return dialPath(t, s, path, opts)
}

func dialPath(t testing.TB, s *testServer, path string, opts *websocket.DialOptions) *client {
	t.Helper()
	ws, _, err := websocket.Dial(patience(t), "ws://"+s.address+path, opts)
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &client{t: t, ws: ws, session: sessionA, results: map[uint32]string{}}
}

// patience returns a context for one thing that must happen.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	t.Cleanup(cancel)
	return ctx
}

// connect opens a connection and sends Connect.
func connect(t testing.TB, s *testServer) *client {
	t.Helper()
	c := dial(t, s, nil)
	c.send(&protocol.Connect{SessionID: c.session, LastCloseReason: "InitialConnect"})
	return c
}

// again opens another connection of the same client.
func (c *client) again(s *testServer) *client {
	c.t.Helper()
	n := dial(c.t, s, nil)
	n.session, n.requests = c.session, c.requests
	seen := c.version.TS
	n.send(&protocol.Connect{SessionID: n.session, ConnectionCount: 1, LastCloseReason: "test", MaxObserved: &seen})
	return n
}

func (c *client) send(m protocol.ClientMessage) { c.sendText(string(m.Append(nil))) }

func (c *client) sendText(text string) {
	c.t.Helper()
	if err := c.write(websocket.MessageText, []byte(text)); err != nil {
		c.t.Fatalf("send %.100s: %v", text, err)
	}
}

// write sends a message. However long the connection has lasted, it has waitMax for this one, as hear has.
func (c *client) write(kind websocket.MessageType, text []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	return c.ws.Write(ctx, kind, text)
}

// hear returns the next message as it came.
func (c *client) hear() (websocket.MessageType, []byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), waitMax)
	defer cancel()
	return c.ws.Read(ctx)
}

// add subscribes to a query.
func (c *client) add(id uint32, path, args string) {
	c.t.Helper()
	c.modify(protocol.Modification{QueryID: id, Path: path, Args: json.RawMessage("[" + args + "]")})
}

func (c *client) remove(id uint32) {
	c.t.Helper()
	c.modify(protocol.Modification{Remove: true, QueryID: id})
}

func (c *client) modify(mods ...protocol.Modification) {
	c.t.Helper()
	c.send(&protocol.ModifyQuerySet{Base: c.querySet, New: c.querySet + 1, Modifications: mods})
	c.querySet++
}

// mutate sends a mutation and returns its number.
func (c *client) mutate(path, args string) uint32 {
	c.t.Helper()
	id := c.requests
	c.requests++
	c.send(&protocol.Mutation{RequestID: id, Path: path, Args: json.RawMessage("[" + args + "]")})
	return id
}

// read returns the next message, and checks Transitions.
func (c *client) read() (protocol.ServerMessage, error) {
	c.t.Helper()
	for {
		kind, data, err := c.hear()
		if err != nil {
			return nil, err
		}
		if kind != websocket.MessageText || !json.Valid(data) {
			c.t.Fatalf("the server sent %v %.200q", kind, data)
		}
		m, err := protocol.DecodeServer(data)
		if _, ok := m.(*protocol.TransitionChunk); ok {
			c.chunks++
		}
		if err == nil {
			m, err = c.assembler.Add(m)
		}
		if err != nil {
			c.t.Fatalf("the server sent %.200q: %v", data, err)
		}
		if m == nil {
			continue // a part
		}
		switch m := m.(type) {
		case *protocol.Ping:
			if !c.keepPings {
				continue
			}
		case *protocol.Transition:
			if m.Start != c.version {
				c.t.Fatalf("a Transition starts at %+v, the client is at %+v", m.Start, c.version)
			}
			if m.End.TS < m.Start.TS || m.End.QuerySet < m.Start.QuerySet || m.End.Identity < m.Start.Identity {
				c.t.Fatalf("a Transition leads back from %+v to %+v", m.Start, m.End)
			}
			if m.End.QuerySet > c.querySet {
				c.t.Fatalf("a Transition is at query set %d, the client has sent %d", m.End.QuerySet, c.querySet)
			}
			c.version = m.End
			for _, change := range m.Modifications {
				switch change.Kind {
				case protocol.QueryUpdated:
					c.results[change.QueryID] = string(change.Value)
				case protocol.QueryFailed:
					c.results[change.QueryID] = "error: " + change.ErrorMessage
				case protocol.QueryRemoved:
					delete(c.results, change.QueryID)
				}
			}
		}
		return m, nil
	}
}

// next returns the next message, which must be an M.
func next[M protocol.ServerMessage](c *client) M {
	c.t.Helper()
	m, err := c.read()
	if err != nil {
		c.t.Fatal(err)
	}
	want, ok := m.(M)
	if !ok {
		c.t.Fatalf("got %T %s, want %T", m, m.Append(nil), want)
	}
	return want
}

// response reads until the response of a mutation comes.
func (c *client) response() *protocol.MutationResponse {
	c.t.Helper()
	for {
		m, err := c.read()
		if err != nil {
			c.t.Fatal(err)
		}
		if r, ok := m.(*protocol.MutationResponse); ok {
			return r
		}
	}
}

// until reads until a condition holds.
func (c *client) until(what string, holds func() bool) {
	c.t.Helper()
	for !holds() {
		if _, err := c.read(); err != nil {
			c.t.Fatalf("waiting until %s: %v", what, err)
		}
	}
}

// closed reads until the server closes the connection.
func (c *client) closed() websocket.CloseError {
	c.t.Helper()
	for {
		_, err := c.read()
		if err == nil {
			continue
		}
		var closed websocket.CloseError
		if !asCloseError(err, &closed) {
			c.t.Fatalf("the connection ended with %v, want a close frame", err)
		}
		return closed
	}
}

func asCloseError(err error, into *websocket.CloseError) bool {
	code := websocket.CloseStatus(err)
	if code == -1 {
		return false
	}
	for e := err; e != nil; {
		if c, ok := e.(websocket.CloseError); ok {
			*into = c
			return true
		}
		u, ok := e.(interface{ Unwrap() error })
		if !ok {
			break
		}
		e = u.Unwrap()
	}
	return false
}

// fakeClock moves only when told to.
type fakeClock struct {
	mu     sync.Mutex
	now    time.Time
	timers map[*fakeTimer]struct{}
}

type fakeTimer struct {
	at time.Time
	f  func()
}

var _ engine.Clock = (*fakeClock)(nil)

func newFakeClock() *fakeClock {
	return &fakeClock{now: time.UnixMilli(1_800_000_000_000), timers: map[*fakeTimer]struct{}{}}
}

func (c *fakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *fakeClock) AfterFunc(d time.Duration, f func()) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &fakeTimer{c.now.Add(d), f}
	c.timers[t] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.timers, t)
	}
}

// set has the clock of a machine that is started again be another by step. Nothing may wait for it.
func (c *fakeClock) set(step time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(step)
}

// advance moves the clock on and runs what comes due, in order.
func (c *fakeClock) advance(d time.Duration) {
	c.mu.Lock()
	end := c.now.Add(d)
	for {
		var first *fakeTimer
		for t := range c.timers {
			if !t.at.After(end) && (first == nil || t.at.Before(first.at)) {
				first = t
			}
		}
		if first == nil {
			break
		}
		delete(c.timers, first)
		c.now = first.at
		c.mu.Unlock()
		first.f()
		c.mu.Lock()
	}
	c.now = end
	c.mu.Unlock()
}
