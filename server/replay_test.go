package server

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/protocol"
)

// replayWorld is a server and a store that may be closed and opened again. Its clock goes on by itself, save while it is held: when a
// connection waits for the next tick, so that nothing is over before the server has come to it, however slow the machine is.
type replayWorld struct {
	*fixture
	t      *testing.T
	fs     vfs.FS
	clock  *fakeClock
	held   sync.Mutex  // no Transition can follow another, and none be the first of a client that came back
	free   atomic.Bool // the clock goes on when nobody waits too, and ends the wait for what a client that came back sends
	s      *testServer
	fanout atomic.Pointer[fanout] // of s
}

func newReplayWorld(t *testing.T) *replayWorld {
	t.Helper()
	w := &replayWorld{fixture: &fixture{entered: make(chan string, 100), release: make(chan struct{})}, t: t, fs: vfs.NewMem(), clock: newFakeClock()}
	w.let = sync.OnceFunc(func() { close(w.release) })
	w.begin()
	var goes sync.WaitGroup
	stop := make(chan struct{})
	goes.Go(func() {
		ticks := time.NewTicker(time.Millisecond)
		defer ticks.Stop()
		for {
			select {
			case <-ticks.C:
				w.held.Lock()
				if w.free.Load() || w.waits() {
					w.clock.advance(10 * time.Millisecond)
				}
				w.held.Unlock()
			case <-stop:
				return
			}
		}
	})
	t.Cleanup(func() {
		close(stop)
		goes.Wait()
		w.let()
		w.end()
	})
	return w
}

// waits reports whether a connection waits for the next tick.
func (w *replayWorld) waits() bool {
	f := w.fanout.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.mu.later) > 0
}

func (w *replayWorld) begin() {
	w.t.Helper()
	app, err := halcyon.NewApp(testModule(w.fixture))
	if err != nil {
		w.t.Fatal(err)
	}
	w.app = app
	w.open(w.t, w.fs)
	w.s = serve(w.t, app, Options{Clock: w.clock, SilenceMax: time.Hour})
	w.fanout.Store(w.s.Server.fanout)
}

// end ends the server and closes the store.
func (w *replayWorld) end() {
	w.t.Helper()
	w.s.stop()
	if err := <-w.s.stopped; err != nil {
		w.t.Errorf("Serve: %v", err)
	}
	w.s.stopped <- nil
	if err := w.app.Close(); err != nil {
		w.t.Error(err)
	}
}

// How far a mutation may have come when its connection breaks. Wherever that is, the client sends it again on the next connection, and there
// it succeeds, has happened once, and a Transition settles it.
func TestReplayInEveryState(t *testing.T) {
	const args = `{"channel":"a"}`
	type broken struct {
		c *client
		// answer is what the client has been told, or nil.
		answer *protocol.MutationResponse
	}
	open := func(w *replayWorld) *client {
		c := connect(w.t, w.s)
		c.add(0, "t:count", args)
		next[*protocol.Transition](c)
		return c
	}
	// ran waits until the counter has been incremented.
	ran := func(w *replayWorld) {
		eventually(w.t, "the mutation has happened", func() bool { return w.count(w.t, "a") == 1 })
	}
	for _, state := range []struct {
		name string
		path string // of the mutation; t:increment by default
		// reach brings the mutation there. The connection is broken when it returns.
		reach func(w *replayWorld) broken
	}{
		{name: "before Connect", reach: func(w *replayWorld) broken {
			return broken{c: dial(w.t, w.s, nil)}
		}},
		{name: "after Connect", reach: func(w *replayWorld) broken {
			c := connect(w.t, w.s)
			c.barrier()
			return broken{c: c}
		}},
		{name: "before it was sent", reach: func(w *replayWorld) broken {
			return broken{c: open(w)}
		}},
		{name: "half sent", reach: func(w *replayWorld) broken {
			c := open(w)
			raw, _ := rawDial(w.t, w.s)
			whole := appendFrame(nil, 0x81, (&protocol.Connect{SessionID: c.session, ConnectionCount: 1}).Append(nil), 5)
			frame := appendFrame(nil, 0x81, (&protocol.Mutation{Path: "t:increment", Args: []byte("[" + args + "]")}).Append(nil), 7)
			if _, err := raw.Write(append(whole, frame[:len(frame)-1]...)); err != nil {
				w.t.Fatal(err)
			}
			c.closed() // the server has read the beginning
			_ = raw.Close()
			return broken{c: c}
		}},
		{name: "behind another one", reach: func(w *replayWorld) broken {
			c := open(w)
			c.requests = 1
			c.mutate("t:held", `{"channel":"b"}`)
			<-w.entered
			c.requests = 0
			c.mutate("t:increment", args)
			c.barrier()
			_ = c.ws.CloseNow()
			w.let()
			return broken{c: c}
		}},
		{name: "while it runs", path: "t:held", reach: func(w *replayWorld) broken {
			c := open(w)
			c.mutate("t:held", args)
			<-w.entered
			_ = c.ws.CloseNow()
			w.let()
			return broken{c: c}
		}},
		{name: "happened, and the answer is on its way", reach: func(w *replayWorld) broken {
			c := open(w)
			c.mutate("t:increment", args)
			ran(w)
			return broken{c: c}
		}},
		{name: "answered, and not shown", reach: func(w *replayWorld) broken {
			c := open(w)
			c.mutate("t:increment", args)
			return broken{c, next[*protocol.MutationResponse](c)}
		}},
		{name: "shown", reach: func(w *replayWorld) broken {
			c := open(w)
			c.mutate("t:increment", args)
			r := next[*protocol.MutationResponse](c)
			c.until("it shows", func() bool { return c.version.TS >= r.TS })
			return broken{c, r}
		}},
		{name: "sent twice on one connection", reach: func(w *replayWorld) broken {
			c := open(w)
			c.mutate("t:increment", args)
			c.requests = 0
			c.mutate("t:increment", args)
			first, second := c.response(), c.response()
			if first.TS != second.TS || string(first.Value) != string(second.Value) {
				w.t.Errorf("answered %s, then %s", first.Append(nil), second.Append(nil))
			}
			return broken{c, second}
		}},
		{name: "sent again on a connection that broke too", path: "t:held", reach: func(w *replayWorld) broken {
			c := open(w)
			c.mutate("t:held", args)
			<-w.entered
			_ = c.ws.CloseNow()
			for range 3 {
				again := c.again(w.s)
				again.modify()
				again.requests = 0
				again.mutate("t:held", args)
				again.barrier()
				_ = again.ws.CloseNow()
			}
			w.let()
			return broken{c: c}
		}},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", state.name, restart), func(t *testing.T) {
				w := newReplayWorld(t)
				was := state.reach(w)
				_ = was.c.ws.CloseNow()
				if restart {
					w.end()
					w.begin()
				}
				path := state.path
				if path == "" {
					path = "t:increment"
				}
				w.let() // should it be executed (again), then to its end
				c := was.c.again(w.s)
				answer := func() *protocol.MutationResponse {
					w.held.Lock()
					defer w.held.Unlock()
					c.add(0, "t:count", args)
					c.requests = 0
					c.mutate(path, args)
					return next[*protocol.MutationResponse](c) // and no Transition before it
				}
				r := answer()
				if !r.Success || r.RequestID != 0 || string(r.Value) != `{"$integer":"AQAAAAAAAAA="}` {
					t.Fatalf("the answer is %s", r.Append(nil))
				}
				if was.answer != nil && r.TS != was.answer.TS {
					t.Errorf("the answer is at %d, and was at %d", r.TS, was.answer.TS)
				}
				tr := next[*protocol.Transition](c)
				if tr.End.TS < r.TS || c.results[0] != `{"$integer":"AQAAAAAAAAA="}` {
					t.Errorf("the first Transition after the answer at %d: %s", r.TS, tr.Append(nil))
				}
				if seen := was.c.version.TS; tr.End.TS < seen {
					t.Errorf("the first Transition is at %d, and the client has seen %d", tr.End.TS, seen)
				}
				if n := w.count(t, "a"); n != 1 {
					t.Errorf("it has happened %d times", n)
				}
				if n := w.s.BrokenRules(); n != 0 {
					t.Errorf("%d rules of the protocol were broken", n)
				}
			})
		}
	}
}

// A mutation that failed has left nothing, so it is run again, and may succeed then.
func TestFailedMutationRunsAgain(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c := connect(t, s)
	c.modify()
	for range 2 {
		c.requests = 0
		c.mutate("t:fail", `{}`)
		if r := c.response(); r.Success {
			t.Errorf("answered %s", r.Append(nil))
		}
		c = c.again(s)
		c.modify()
	}
	c.requests = 0
	c.mutate("t:increment", `{"channel":"a"}`)
	if r := c.response(); !r.Success {
		t.Errorf("the request that failed before is answered %s", r.Append(nil))
	}
}
