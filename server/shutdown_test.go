package server

import (
	"bytes"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon/protocol"
)

// What was accepted is answered, clients are told to come back, and Serve
// returns.
func TestShutdownFinishes(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c := connect(t, s)
	c.add(0, "t:count", `{"channel":"a"}`)
	next[*protocol.Transition](c)
	c.mutate("t:held", `{"channel":"a"}`)
	c.mutate("t:increment", `{"channel":"a"}`)
	<-f.entered
	c.barrier()
	idle := dial(t, s, nil)

	s.stop()
	eventually(t, "the server refuses new connections", func() bool { return s.draining.Load() })
	if _, _, err := websocket.Dial(patience(t), "ws://"+s.address+"/api/sync", nil); err == nil {
		t.Error("a connection was accepted during the shutdown")
	}
	c.mutate("t:increment", `{"channel":"late"}`)
	f.let()
	for i := range 2 {
		if r := c.response(); !r.Success || r.RequestID != uint32(i) {
			t.Errorf("response %d: %s", i, r.Append(nil))
		}
	}
	for _, c := range []*client{c, idle} {
		if closed := c.closed(); closed.Code != closeRestart || closed.Reason != reasonRestart {
			t.Errorf("closed with %d %q", closed.Code, closed.Reason)
		}
	}
	if err := <-s.stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	s.stopped <- nil
	if n := f.count(t, "late"); n != 0 {
		t.Errorf("a mutation that came during the shutdown was run")
	}
}

// A function that does not end, and a client that does not read, do not keep the
// server from ending.
func TestShutdownIsBounded(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{ShutdownTimeout: 600 * time.Millisecond, CloseTimeout: time.Hour, WriteTimeout: time.Hour})
	c := connect(t, s)
	c.mutate("t:held", `{"channel":"a"}`)
	<-f.entered
	stalled := dialStalled(t, s, "220faa75-0ee8-4ccb-ae77-d97788755400", 4<<10)
	for id := range uint32(40) {
		stalled.add(id, "t:big", `{"channel":"a"}`)
	}
	eventually(t, "the stalled client is behind", func() bool {
		for _, c := range s.connections() {
			if c.socket.backlogged() {
				return true
			}
		}
		return false
	})
	s.stop()
	if err := receive(t, s.stopped); err == nil || !strings.Contains(err.Error(), "still running") {
		t.Errorf("Serve: %v, want that a mutation is still running", err)
	}
	s.stopped <- nil
	// The app waits for its function, and the test for what was left behind.
	f.let()
	if !s.runners.wait(patience(t)) {
		t.Error("the mutation has not ended")
	}
}

// Handler can be used without Serve, here under TLS, where every write takes the
// way of those to slow clients. After Shutdown no goroutine of the server is left.
func TestHandlerUnderTLS(t *testing.T) {
	f := newFixture(t)
	inner := New(f.app, nil)
	outer := httptest.NewTLSServer(inner.Handler())
	defer outer.Close()
	s := &testServer{Server: inner, address: outer.Listener.Addr().String()}
	ws, _, err := websocket.Dial(patience(t), "wss://"+s.address+"/api/sync", &websocket.DialOptions{HTTPClient: outer.Client()})
	if err != nil {
		t.Fatal(err)
	}
	ws.SetReadLimit(-1)
	c := &client{t: t, ws: ws, session: sessionA, results: map[uint32]string{}}
	c.send(&protocol.Connect{SessionID: sessionA})
	c.add(0, "t:big", `{"channel":"a"}`)
	next[*protocol.Transition](c)
	for range 20 {
		c.mutate("t:increment", `{"channel":"a"}`)
		r := c.response()
		c.until("the increment shows", func() bool { return c.version.TS >= r.TS })
	}
	ended := make(chan error, 1)
	go func() { ended <- inner.Shutdown(patience(t)) }()
	if closed := c.closed(); closed.Code != closeRestart {
		t.Errorf("closed with %d %q", closed.Code, closed.Reason)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// Of this server: what servers of other tests have left is going, and may take a while.
	buffer := make([]byte, 4<<20)
	for _, name := range []string{"server.(*conn)", "server.(*fanout)", "server.(*socket)", "server.(*sweeper)"} {
		eventually(t, "no goroutine of "+name+" is left", func() bool {
			return !bytes.Contains(buffer[:runtime.Stack(buffer, true)], []byte(name))
		})
	}
}
