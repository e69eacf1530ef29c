package server

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon/protocol"
)

// rustClient speaks the protocol as the client in Rust does, and those in Swift, Kotlin and Python that are made of it. It differs from the
// npm client: its address has no version, it has another session on each connection, so that the server can't know a request that it sends
// again, it keeps no journals, gives up after 30 s without a frame, and ends a connection on whatever it does not expect: it does not
// know TransitionChunk, nor responses to what it did not ask.
type rustClient struct {
	t *testing.T
	c *client // its connection

	connections uint32
	seen        protocol.Timestamp // of a Transition or a response
	before      protocol.Timestamp // seen when the connection began
	queries     map[uint32]protocol.Modification
	requests    map[uint32]*rustRequest
	next        uint32
}

type rustRequest struct {
	message  *protocol.Mutation
	answer   *protocol.MutationResponse // nil before it came
	finished bool                       // a Transition has come to it
}

// silenceOfRust is how long the client waits for a frame of the server.
const silenceOfRust = 30 * time.Second

func newRustClient(t *testing.T, s *testServer) *rustClient {
	r := &rustClient{t: t, queries: map[uint32]protocol.Modification{}, requests: map[uint32]*rustRequest{}}
	r.connect(s, "InitialConnect")
	return r
}

// connect opens the next connection, and says everything again.
func (r *rustClient) connect(s *testServer, why string) {
	r.t.Helper()
	r.c = dialAs(r.t, s, "/api/sync", "rust-0.10.2")
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	hello := &protocol.Connect{SessionID: fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), ConnectionCount: r.connections, LastCloseReason: why}
	if r.seen > 0 {
		r.before = r.seen
		hello.MaxObserved = &r.before
	}
	r.connections++
	r.c.send(hello)
	if r.connections > 1 || len(r.queries) > 0 {
		var all []protocol.Modification
		for _, q := range slices.Sorted(maps.Keys(r.queries)) {
			all = append(all, r.queries[q])
		}
		r.c.modify(all...)
	}
	for _, n := range slices.Sorted(maps.Keys(r.requests)) {
		if q := r.requests[n]; !q.finished {
			q.answer = nil
			r.c.send(q.message)
		}
	}
}

func (r *rustClient) subscribe(id uint32, path, args string) {
	r.t.Helper()
	m := protocol.Modification{QueryID: id, Path: path, Args: json.RawMessage("[" + args + "]")}
	r.queries[id] = m
	r.c.modify(m)
}

// mutate asks for a mutation. Without a connection it is sent on the next one.
func (r *rustClient) mutate(path, args string) *rustRequest {
	r.t.Helper()
	q := &rustRequest{message: &protocol.Mutation{RequestID: r.next, Path: path, Args: json.RawMessage("[" + args + "]")}}
	r.next++
	r.requests[q.message.RequestID] = q
	if r.c != nil {
		r.c.send(q.message)
	}
	return q
}

// step takes the next message.
func (r *rustClient) step() {
	r.t.Helper()
	m, err := r.c.read() // checks the versions
	if err != nil {
		r.t.Fatal(err)
	}
	if r.c.chunks > 0 {
		r.t.Fatal("a TransitionChunk came")
	}
	switch m := m.(type) {
	case *protocol.Transition:
		if m.End.TS < r.before {
			r.t.Fatalf("a Transition to %d came, and %d was seen on the connection before", m.End.TS, r.before)
		}
		r.seen = max(r.seen, m.End.TS)
		for _, q := range r.requests {
			q.finished = q.finished || q.answer != nil && q.answer.Success && q.answer.TS <= m.End.TS
		}
	case *protocol.MutationResponse:
		q := r.requests[m.RequestID]
		if q == nil || q.answer != nil {
			r.t.Fatalf("an answer came to request %d, which has one or was never made", m.RequestID)
		}
		q.answer, q.finished = m, !m.Success
		r.seen = max(r.seen, m.TS)
	default:
		r.t.Fatalf("%T came: %s", m, m.Append(nil))
	}
}

func (r *rustClient) until(holds func() bool) {
	r.t.Helper()
	for !holds() {
		r.step()
	}
}

// A client of the Rust family comes back from whatever ends its connections, to the newest results and with all its mutations done. One whose
// answer it did not get is done again: nothing tells that it is the same.
func TestRustFamilyComesBack(t *testing.T) {
	const args = `{"channel":"a"}`
	breaks := []struct {
		name string
		do   func(w *replayWorld, r *rustClient)
	}{
		{"the client's network breaks", func(w *replayWorld, r *rustClient) { _ = r.c.ws.CloseNow() }},
		{"the client closes", func(w *replayWorld, r *rustClient) { _ = r.c.ws.Close(websocket.StatusNormalClosure, "") }},
		{"the server's network breaks", func(w *replayWorld, r *rustClient) {
			for _, c := range w.s.connections() {
				c.drop()
			}
		}},
		{"the server restarts", func(w *replayWorld, r *rustClient) {
			w.end()
			w.begin()
		}},
	}
	mutations := []struct {
		name string
		make func(w *replayWorld, r *rustClient) *rustRequest // before the connection breaks, or nil
		want int64                                            // how often it happens
	}{
		{"nothing is under way", nil, 1},
		{"a mutation waits for a connection", func(w *replayWorld, r *rustClient) *rustRequest {
			r.c.barrier()
			connection := r.c
			r.c = nil
			q := r.mutate("t:increment", args)
			r.c = connection
			return q
		}, 1},
		{"a mutation is not answered", func(w *replayWorld, r *rustClient) *rustRequest {
			q := r.mutate("t:increment", args)
			eventually(w.t, "it has happened", func() bool { return w.count(w.t, "a") == 1 })
			return q
		}, 2},
	}
	for _, b := range breaks {
		for _, m := range mutations {
			t.Run(b.name+", "+m.name, func(t *testing.T) {
				w := newReplayWorld(t)
				r := newRustClient(t, w.s)
				r.subscribe(0, "t:count", args)
				r.subscribe(1, "t:list", args)
				r.until(func() bool { return len(r.c.results) == 2 })
				var q *rustRequest
				if m.make != nil {
					q = m.make(w, r)
				}
				b.do(w, r)
				_ = r.c.ws.CloseNow()
				r.connect(w.s, "test")
				if q == nil {
					q = r.mutate("t:increment", args)
				}
				r.until(func() bool { return q.finished })
				want := map[int64]string{1: `{"$integer":"AQAAAAAAAAA="}`, 2: `{"$integer":"AgAAAAAAAAA="}`}[m.want]
				if string(q.answer.Value) != want || r.c.results[0] != want || r.c.results[1] != `[""]` {
					t.Errorf("answered %s, shown %v, want %s", q.answer.Append(nil), r.c.results, want)
				}
				if n := w.count(t, "a"); n != m.want {
					t.Errorf("it has happened %d times, want %d", n, m.want)
				}
				// It goes on as if nothing had been.
				after := r.mutate("t:increment", args)
				r.until(func() bool { return after.finished })
			})
		}
	}
}

// The server says something often enough for a client that gives up after 30 s, and looks every 5.
func TestRustFamilyIsPingedInTime(t *testing.T) {
	f := newFixture(t)
	clock := newFakeClock()
	s := serve(t, f.app, Options{Clock: clock})
	c := dialAs(t, s, "/api/sync", "python-0.7.0")
	c.keepPings = true
	c.send(&protocol.Connect{SessionID: sessionA})
	c.modify()
	next[*protocol.Transition](c)
	var last atomic.Int64
	last.Store(clock.Now().UnixNano())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if _, err := c.read(); err != nil {
				t.Logf("the client's connection ended: %v", err)
				return
			}
			last.Store(clock.Now().UnixNano())
		}
	}()
	since := func(at *atomic.Int64) time.Duration { return time.Duration(clock.Now().UnixNano() - at.Load()) }
	ours := s.connections()[0]
	served := func() bool {
		s.fanout.mu.Lock()
		defer s.fanout.mu.Unlock()
		return ours.turn.at == idle
	}
	eventually(t, "the Transition is sent", served)
	for range 5 * 60 {
		clock.advance(time.Second)
		eventually(t, "what was due is sent", served)
		eventually(t, "the client has it", func() bool { return last.Load() >= ours.sentAt.Load() })
		if silent := since(&last); silent >= silenceOfRust-10*time.Second { // it looks every 5 s only, and networks are slow
			t.Fatalf("the client has heard nothing for %v", silent)
		}
		// The clock may be ahead of the client's pongs.
		eventually(t, "a pong comes", func() bool { return since(&ours.seenAt) < s.o.SilenceMax-30*time.Second })
	}
	_ = c.ws.CloseNow()
	<-ended
}
