package server

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon/protocol"
)

// dialStalled opens a connection whose client takes little more than buffer bytes,
// and does not read.
func dialStalled(t testing.TB, s *testServer, session string, buffer int) *client {
	t.Helper()
	c := dial(t, s, stalledOptions(t, buffer))
	c.session = session
	c.send(&protocol.Connect{SessionID: session})
	return c
}

// stalledOptions are for a client whose system takes no more than it reads.
func stalledOptions(t testing.TB, buffer int) *websocket.DialOptions {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return c, c.(*net.TCPConn).SetReadBuffer(buffer)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}}
}

// A client that does not read holds up nobody, and is dropped in the end.
func TestStalledReaders(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{Workers: 2, WriteTimeout: 2 * time.Second})
	for _, session := range []string{"220faa75-0ee8-4ccb-ae77-d97788755400", "220faa75-0ee8-4ccb-ae77-d97788755401", "220faa75-0ee8-4ccb-ae77-d97788755402"} {
		stalled := dialStalled(t, s, session, 4<<10)
		stalled.add(0, "t:big", `{"channel":"a"}`)
	}
	c := connect(t, s)
	c.add(0, "t:count", `{"channel":"a"}`)
	next[*protocol.Transition](c)
	for range 60 { // 60 results of 256 KiB are more than the system buffers
		c.mutate("t:increment", `{"channel":"a"}`)
		r := c.response() // waits for waitMax: a server that is held up by the stalled clients does not answer at all
		c.until("the increment is settled", func() bool { return c.version.TS >= r.TS })
	}
	eventually(t, "the stalled clients are dropped", func() bool { return len(s.connections()) == 1 })
	c.mutate("t:increment", `{"channel":"a"}`)
	if r := c.response(); !r.Success {
		t.Errorf("after the drop: %s", r.Append(nil))
	}
}

// A client that stops reading for a while is brought to the newest result, and is
// spared those in between.
func TestSlowReaderSkips(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{WriteTimeout: waitMax}) // for which it reads nothing, at most
	slow := dialStalled(t, s, "220faa75-0ee8-4ccb-ae77-d97788755400", 256<<10)
	slow.add(0, "t:big", `{"channel":"a"}`)
	next[*protocol.Transition](slow)
	c := connect(t, s)
	c.add(0, "t:big", `{"channel":"a"}`)
	next[*protocol.Transition](c)
	const increments = 65
	for range increments {
		c.mutate("t:increment", `{"channel":"a"}`)
		r := c.response()
		c.until("the increment shows", func() bool { return c.version.TS >= r.TS })
	}
	transitions := 0
	want := `"` + strings.Repeat("5", 256<<10) + `"`
	for slow.results[0] != want || slow.version.TS < c.version.TS {
		next[*protocol.Transition](slow)
		transitions++
	}
	if transitions >= increments {
		t.Errorf("a client that did not read was sent %d Transitions for %d increments", transitions, increments)
	}
	t.Logf("%d Transitions for %d increments", transitions, increments)
}

// A client that sends mutations and does not read what comes of them is not let
// to fill the memory with responses.
func TestUnreadResponses(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{MutationsQueuedMax: 50})
	c := dialStalled(t, s, sessionA, 4<<10)
	c.modify()
	eventually(t, "the server knows the client", func() bool { return len(s.connections()) == 1 })
	args := `{"a":"` + strings.Repeat("x", 200_000) + `"}`
	waiting := 0
	go func() {
		for range 400 {
			m := &protocol.Mutation{RequestID: c.requests, Path: "t:nothing", Args: []byte("[" + args + "]")}
			c.requests++
			if c.write(websocket.MessageText, m.Append(nil)) != nil {
				return
			}
		}
	}()
	eventually(t, "the client is closed", func() bool {
		for _, c := range s.connections() {
			c.out.Lock()
			waiting = max(waiting, len(c.out.items))
			c.out.Unlock()
			if !c.stopped.Load() {
				return false
			}
		}
		return true
	})
	if waiting > unsentMax {
		t.Errorf("%d responses waited, want at most %d", waiting, unsentMax)
	}
}

// narrowListener accepts connections of which the system buffers little of what they are sent.
type narrowListener struct{ net.Listener }

func (l narrowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return c, c.(*net.TCPConn).SetWriteBuffer(4 << 10)
}

// pipeListener accepts connections that buffer nothing.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }
