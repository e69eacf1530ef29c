package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// client speaks the sync protocol as the npm client does: it keeps its session
// over connections, sends its queries and every mutation that is not finished
// again on each, and finishes a mutation when a Transition has come to its
// timestamp. Unlike the npm client it fails the test when the server breaks a
// rule of the protocol.
type client struct {
	t       testing.TB
	session string
	// dial opens a connection or waits until it can be opened. Its error ends
	// the client.
	dial func(ctx context.Context) (*websocket.Conn, error)
	// writes says that every mutation of this client writes.
	writes bool

	cancel context.CancelFunc
	ended  chan struct{}

	mu struct {
		sync.Mutex
		connected   chan struct{} // closed while there is a connection
		link        *link         // nil while there is none
		connections int
		why         string // the last connection ended
		maxObserved uint64

		nextRequest, nextQuery uint32
		calls                  []*call // not finished, in the order of their requests
		subscriptions          map[uint32]*subscription
	}
}

// link is one connection of a client.
type link struct {
	observed uint64 // the newest timestamp that the server was told of in Connect
	conn     *websocket.Conn
	version  version // the end of the last Transition
	querySet uint32  // the newest that was sent
	answered map[uint32]bool

	// out has the messages that wait to be sent.
	out struct {
		sync.Mutex
		messages [][]byte
		more     chan struct{}
	}
}

// version is a state of a connection.
type version struct {
	QuerySet uint32    `json:"querySet"`
	Identity uint32    `json:"identity"`
	TS       timestamp `json:"ts"`
}

// timestamp is 8 bytes, little-endian, in base64.
type timestamp uint64

func (ts *timestamp) UnmarshalText(text []byte) error {
	b, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil || len(b) != 8 {
		return fmt.Errorf("timestamp %q: %d bytes, %v", text, len(b), err)
	}
	*ts = timestamp(binary.LittleEndian.Uint64(b))
	return nil
}

func (ts timestamp) MarshalText() ([]byte, error) {
	return []byte(base64.StdEncoding.EncodeToString(binary.LittleEndian.AppendUint64(nil, uint64(ts)))), nil
}

// message is any message of the server.
type message struct {
	Type string `json:"type"`

	// Transition
	StartVersion  version        `json:"startVersion"`
	EndVersion    version        `json:"endVersion"`
	Modifications []modification `json:"modifications"`

	// MutationResponse
	RequestID uint32          `json:"requestId"`
	Success   bool            `json:"success"`
	Result    json.RawMessage `json:"result"`
	TS        *timestamp      `json:"ts"`
	ErrorData json.RawMessage `json:"errorData"`

	// FatalError, AuthError
	Error string `json:"error"`
}

type modification struct {
	Type         string          `json:"type"`
	QueryID      uint32          `json:"queryId"`
	Value        json.RawMessage `json:"value"`
	ErrorMessage string          `json:"errorMessage"`
}

// call is one mutation.
type call struct {
	request uint32
	message []byte
	sent    int // on how many connections

	done chan struct{} // closed when it is finished

	// Guarded by the lock of the client until it is finished.
	answers int
	success bool
	result  string // the value, or the message of the failure
	ts      timestamp
}

// outcome is what came of a call.
type outcome struct {
	Success bool
	Result  string
}

// await waits until the call is finished.
func (c *call) await(ctx context.Context) (outcome, error) {
	select {
	case <-c.done:
		return outcome{c.success, c.result}, nil
	case <-ctx.Done():
		return outcome{}, context.Cause(ctx)
	}
}

// subscription is one live query.
type subscription struct {
	add json.RawMessage // the modification that adds it

	mu struct {
		sync.Mutex
		value   json.RawMessage // nil before the first
		failure string
		updates int
		changed chan struct{} // closed at the next change
	}
}

// await waits until the newest value is one that ok accepts.
func (s *subscription) await(ctx context.Context, ok func(value json.RawMessage) bool) error {
	for {
		s.mu.Lock()
		value, failure, changed := s.mu.value, s.mu.failure, s.mu.changed
		s.mu.Unlock()
		if failure != "" {
			return fmt.Errorf("the query failed: %s", failure)
		}
		if value != nil && ok(value) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w; the newest value is %.1000s", context.Cause(ctx), value)
		}
	}
}

func (s *subscription) set(value json.RawMessage, failure string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.value, s.mu.failure = value, failure
	s.mu.updates++
	close(s.mu.changed)
	s.mu.changed = make(chan struct{})
}

// newClient returns a client of a server that stays. It connects by itself, and
// is closed at the end of the test.
func newClient(t testing.TB, s *server) *client {
	c := &client{t: t, dial: func(ctx context.Context) (*websocket.Conn, error) { return dial(ctx, s) }}
	c.start()
	return c
}

// dial opens a connection to the sync address of a server.
func dial(ctx context.Context, s *server) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(ctx, "ws://"+s.address+"/api/1.48.0/sync", nil)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(64 << 20)
	return conn, nil
}

// start makes the client connect.
func (c *client) start() {
	c.session = newUUID()
	c.mu.connected = make(chan struct{})
	c.mu.why = "InitialConnect"
	c.mu.subscriptions = make(map[uint32]*subscription)
	c.ended = make(chan struct{})
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.t.Context()))
	c.cancel = cancel
	go c.run(ctx)
	c.t.Cleanup(c.close)
}

// close ends the client and its connection, and waits for both.
func (c *client) close() {
	c.cancel()
	<-c.ended
}

// broken fails the test because the server broke the protocol.
func (c *client) broken(format string, args ...any) {
	c.t.Errorf("protocol: session %s: %s", c.session, fmt.Sprintf(format, args...))
}

// run connects again and again until the client is closed.
func (c *client) run(ctx context.Context) {
	defer close(c.ended)
	for {
		conn, err := c.dial(ctx)
		if err != nil {
			if ctx.Err() == nil {
				c.t.Errorf("connect: %v", err)
			}
			return
		}
		l := &link{conn: conn, answered: make(map[uint32]bool)}
		l.out.more = make(chan struct{}, 1)
		c.greet(l)
		linkCtx, cancel := context.WithCancel(ctx)
		var writer sync.WaitGroup
		writer.Go(func() { l.write(linkCtx) })
		err = c.read(linkCtx, l)
		if ctx.Err() != nil {
			_ = conn.Close(websocket.StatusNormalClosure, "") // it ends anyway
		}
		cancel()
		_ = conn.CloseNow() // the same
		writer.Wait()
		c.mu.Lock()
		c.mu.link, c.mu.connected = nil, make(chan struct{})
		c.mu.why = err.Error()
		c.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
	}
}

// greet makes l the client's connection: it says who it is, adds the queries and
// sends every mutation again that is not finished.
func (c *client) greet(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	hello := map[string]any{
		"type": "Connect", "sessionId": c.session, "connectionCount": c.mu.connections,
		"lastCloseReason": c.mu.why, "clientTs": time.Now().UnixMilli(),
	}
	if l.observed = c.mu.maxObserved; l.observed != 0 {
		hello["maxObservedTimestamp"] = timestamp(c.mu.maxObserved)
	}
	c.mu.connections++
	l.send(encode(hello))
	adds := make([]json.RawMessage, 0, len(c.mu.subscriptions))
	for _, id := range slices.Sorted(maps.Keys(c.mu.subscriptions)) {
		adds = append(adds, c.mu.subscriptions[id].add)
	}
	l.modify(adds)
	for _, call := range c.mu.calls {
		call.sent++
		l.send(call.message)
	}
	c.mu.link = l
	close(c.mu.connected)
}

// mutate sends a mutation, at once or when there is a connection.
func (c *client) mutate(path string, args any) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &call{request: c.mu.nextRequest, done: make(chan struct{})}
	c.mu.nextRequest++
	m.message = encode(map[string]any{"type": "Mutation", "requestId": m.request, "udfPath": path, "args": []any{args}})
	c.mu.calls = append(c.mu.calls, m)
	if c.mu.link != nil {
		m.sent++
		c.mu.link.send(m.message)
	}
	return m
}

// subscribe adds a live query.
func (c *client) subscribe(path string, args any) *subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.mu.nextQuery
	c.mu.nextQuery++
	s := &subscription{add: encode(map[string]any{"type": "Add", "queryId": id, "udfPath": path, "args": []any{args}})}
	s.mu.changed = make(chan struct{})
	c.mu.subscriptions[id] = s
	if c.mu.link != nil {
		c.mu.link.modify([]json.RawMessage{s.add})
	}
	return s
}

// awaitConnected waits until there is a connection.
func (c *client) awaitConnected(ctx context.Context) error {
	c.mu.Lock()
	connected := c.mu.connected
	c.mu.Unlock()
	select {
	case <-connected:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// connections returns how many connections the client has had.
func (c *client) connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.connections
}

// modify sends a change of the query set. REQUIRES: the lock of the client.
func (l *link) modify(modifications []json.RawMessage) {
	l.querySet++
	l.send(encode(map[string]any{
		"type": "ModifyQuerySet", "baseVersion": l.querySet - 1, "newVersion": l.querySet, "modifications": modifications,
	}))
}

// send puts a message in the queue of those to be sent.
func (l *link) send(text []byte) {
	l.out.Lock()
	l.out.messages = append(l.out.messages, text)
	l.out.Unlock()
	select {
	case l.out.more <- struct{}{}:
	default:
	}
}

// write sends what is in the queue until ctx ends or the connection does.
func (l *link) write(ctx context.Context) {
	for {
		l.out.Lock()
		messages := l.out.messages
		l.out.messages = nil
		l.out.Unlock()
		for _, text := range messages {
			if l.conn.Write(ctx, websocket.MessageText, text) != nil {
				return // the reader notices too
			}
		}
		select {
		case <-l.out.more:
		case <-ctx.Done():
			return
		}
	}
}

// read handles what the server sends until the connection ends.
func (c *client) read(ctx context.Context, l *link) error {
	for {
		kind, text, err := l.conn.Read(ctx)
		if err != nil {
			return err
		}
		var m message
		if err := json.Unmarshal(text, &m); err != nil || kind != websocket.MessageText {
			c.broken("message %q: %v", text, err)
			continue
		}
		switch m.Type {
		case "Transition":
			c.transition(l, &m)
		case "MutationResponse":
			c.response(l, &m)
		case "Ping":
		default:
			c.broken("%s: %s", m.Type, m.Error)
		}
	}
}

// transition applies a Transition and finishes the calls it has come to.
func (c *client) transition(l *link, m *message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	start, end := m.StartVersion, m.EndVersion
	if start != l.version {
		c.broken("a Transition starts at %+v and the one before ended at %+v", start, l.version)
	}
	if end.TS < start.TS || end.QuerySet < start.QuerySet || end.QuerySet > l.querySet || end.Identity != 0 {
		c.broken("a Transition from %+v to %+v, when version %d of the queries was asked for", start, end, l.querySet)
	}
	if l.version.TS == 0 && uint64(end.TS) < l.observed {
		c.broken("the first Transition is at %d, but %d was seen on another connection before", end.TS, l.observed)
	}
	l.version = end
	c.mu.maxObserved = max(c.mu.maxObserved, uint64(end.TS))
	for _, change := range m.Modifications {
		s := c.mu.subscriptions[change.QueryID]
		if s == nil {
			c.broken("a change of query %d, which does not exist", change.QueryID)
			continue
		}
		switch change.Type {
		case "QueryUpdated":
			s.set(change.Value, "")
		case "QueryFailed":
			s.set(nil, change.ErrorMessage)
		default:
			c.broken("a change of kind %q", change.Type)
		}
	}
	c.mu.calls = slices.DeleteFunc(c.mu.calls, func(call *call) bool {
		if !l.answered[call.request] || !call.success || call.ts > end.TS {
			return false
		}
		close(call.done)
		return true
	})
}

// response takes the answer to a call. An answer to a call that was answered
// before, on another connection, has to be the same.
func (c *client) response(l *link, m *message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.mu.calls, func(call *call) bool { return call.request == m.RequestID })
	if i < 0 || l.answered[m.RequestID] {
		c.broken("an answer to request %d, which has been answered or was never made", m.RequestID)
		return
	}
	call := c.mu.calls[i]
	l.answered[m.RequestID] = true
	result := string(m.Result)
	if !m.Success {
		_ = json.Unmarshal(m.Result, &result) // otherwise it stays as it came
	}
	if call.answers > 0 && (call.success != m.Success || call.result != result || m.TS == nil || call.ts != *m.TS) {
		c.broken("request %d was answered %v %s at %d, and the second time %v %s at %v",
			call.request, call.success, call.result, call.ts, m.Success, result, m.TS)
	}
	call.answers++
	call.success, call.result = m.Success, result
	if !m.Success {
		c.mu.calls = slices.Delete(c.mu.calls, i, i+1)
		close(call.done)
		return
	}
	if m.TS == nil {
		c.broken("request %d succeeded without a timestamp", call.request)
		return
	}
	call.ts = *m.TS
	c.mu.maxObserved = max(c.mu.maxObserved, uint64(call.ts))
	if c.writes && call.sent == 1 && call.ts <= l.version.TS {
		c.broken("request %d wrote at %d, which a Transition to %d has shown before", call.request, call.ts, l.version.TS)
	}
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // only what tests are made of is encoded
	}
	return text
}

// newUUID returns a random UUID.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// impatient returns a context that ends with errLate after patience.
func impatient(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, errLate)
	t.Cleanup(cancel)
	return ctx
}
