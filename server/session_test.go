package server

import (
	"encoding/json"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/protocol"
)

// eventually waits for a condition that nothing announces.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for start := time.Now(); !holds(); runtime.Gosched() {
		if time.Since(start) > waitMax {
			t.Fatalf("waited %v until %s", waitMax, what)
		}
	}
}

// barrier returns when the server has handled what the client sent before.
func (c *client) barrier() {
	c.t.Helper()
	id := c.requests
	c.requests++
	c.send(&protocol.Action{RequestID: id, Path: "test:barrier", Args: json.RawMessage(`[{}]`)})
	answered := false
	for !answered {
		m, err := c.read()
		if err != nil {
			c.t.Fatal(err)
		}
		a, ok := m.(*protocol.ActionResponse)
		answered = ok && a.RequestID == id
	}
}

// putsOff reports whether the connection of a session is put off to the next tick.
func (s *testServer) putsOff(session string) bool {
	id, err := parseUUID(session)
	if err != nil {
		panic(err)
	}
	s.mu.Lock()
	c := s.mu.sessions[id]
	s.mu.Unlock()
	if c == nil {
		return false
	}
	s.fanout.mu.Lock()
	defer s.fanout.mu.Unlock()
	return c.turn.at == putOff
}

// count returns the value of a counter, read without the server.
func (f *fixture) count(t testing.TB, channel string) (n int64) {
	t.Helper()
	f.call(t, "t:count", map[string]any{"channel": channel}, &n)
	return n
}

// A mutation whose connection dies while it runs is sent again on the next one,
// and happens once.
func TestReplayHappensOnce(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c := connect(t, s)
	c.add(0, "t:count", `{"channel":"a"}`)
	next[*protocol.Transition](c)
	id := c.mutate("t:held", `{"channel":"a"}`)
	<-f.entered
	_ = c.ws.CloseNow()

	c2 := c.again(s)
	c2.add(0, "t:count", `{"channel":"a"}`)
	c2.requests = id
	c2.mutate("t:held", `{"channel":"a"}`)
	c2.mutate("t:increment", `{"channel":"a"}`)
	c2.barrier() // answered although the older mutation still runs
	select {
	case name := <-f.entered:
		t.Fatalf("the mutation was begun again (%s) while it ran", name)
	default:
	}
	f.let()
	r := next[*protocol.MutationResponse](c2)
	if !r.Success || r.RequestID != id || string(r.Value) != `{"$integer":"AQAAAAAAAAA="}` {
		t.Errorf("replayed response: %s", r.Append(nil))
	}
	r2 := next[*protocol.MutationResponse](c2)
	if !r2.Success || r2.TS <= r.TS || string(r2.Value) != `{"$integer":"AgAAAAAAAAA="}` {
		t.Errorf("second response: %s", r2.Append(nil))
	}
	c2.until("both show", func() bool { return c2.results[0] == `{"$integer":"AgAAAAAAAAA="}` && c2.version.TS >= r2.TS })
	if n := f.count(t, "a"); n != 2 {
		t.Errorf("count = %d, want 2", n)
	}

	// Once more, with everything answered: the first answers come again, with
	// the timestamps of then, and a Transition follows each.
	c3 := c2.again(s)
	c3.add(0, "t:count", `{"channel":"a"}`)
	c3.requests = id
	c3.mutate("t:held", `{"channel":"a"}`)
	again := next[*protocol.MutationResponse](c3)
	if !again.Success || again.TS != r.TS || string(again.Value) != string(r.Value) {
		t.Errorf("replay: %s, want %s", again.Append(nil), r.Append(nil))
	}
	if tr := next[*protocol.Transition](c3); tr.End.TS < again.TS || c3.results[0] != `{"$integer":"AgAAAAAAAAA="}` {
		t.Errorf("Transition after the replay: %s", tr.Append(nil))
	}
	c3.requests = id
	c3.mutate("t:held", `{"channel":"a"}`)
	next[*protocol.MutationResponse](c3)
	if tr := next[*protocol.Transition](c3); tr.End.TS < again.TS || len(tr.Modifications) != 0 {
		t.Errorf("a replay that is long shown is not followed by a Transition without changes: %s", tr.Append(nil))
	}
	if n := f.count(t, "a"); n != 2 {
		t.Errorf("count = %d after all replays, want 2", n)
	}
}

// A client that connects again has its older connection closed, what that had
// waiting is dropped, and what it was running ends first.
func TestFencing(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c := connect(t, s)
	c.mutate("t:held", `{"channel":"a"}`)
	<-f.entered
	for range 3 {
		c.mutate("t:increment", `{"channel":"b"}`)
	}
	c.barrier()

	c2 := c.again(s)
	c2.mutate("t:increment", `{"channel":"c"}`)
	c2.barrier()
	if closed := c.closed(); closed.Code != closeGoingAway || closed.Reason != reasonReplaced {
		t.Errorf("the older connection was closed with %d %q", closed.Code, closed.Reason)
	}
	// A third one, while the first one's mutation still runs: it waits too.
	c3 := c2.again(s)
	c3.mutate("t:increment", `{"channel":"d"}`)
	c3.barrier()
	c2.closed()
	if n := f.count(t, "c") + f.count(t, "d"); n != 0 {
		t.Errorf("%d mutations of newer connections were run before the older one's ended", n)
	}
	f.let()
	if r := next[*protocol.MutationResponse](c3); !r.Success {
		t.Errorf("response: %s", r.Append(nil))
	}
	for channel, want := range map[string]int64{"a": 1, "b": 0, "c": 0, "d": 1} {
		if n := f.count(t, channel); n != want {
			t.Errorf("count of %s = %d, want %d", channel, n, want)
		}
	}
	// Sessions are forgotten when their last connection is gone.
	_ = c3.ws.CloseNow()
	eventually(t, "no session is left", func() bool {
		s.sweepLeaving()
		s.mu.Lock()
		defer s.mu.Unlock()
		return len(s.mu.sessions) == 0 && len(s.mu.leaving) == 0
	})
}

// A connection whose first message was under way longer than that of a newer one does not push that one out.
func TestFencingOfALateConnection(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	open := func(count uint32) *client {
		c := dial(t, s, nil)
		c.send(&protocol.Connect{SessionID: sessionA, ConnectionCount: count})
		return c
	}
	newest := open(7)
	newest.modify()
	next[*protocol.Transition](newest)
	for _, count := range []uint32{0, 6} {
		late := open(count)
		if closed := late.closed(); closed.Code != closeGoingAway || closed.Reason != reasonReplaced {
			t.Errorf("connection %d was closed with %d %q", count, closed.Code, closed.Reason)
		}
	}
	newest.mutate("t:increment", `{"channel":"a"}`)
	if r := newest.response(); !r.Success {
		t.Errorf("the newest connection after the late ones: %s", r.Append(nil))
	}
	after := open(8)
	after.modify()
	next[*protocol.Transition](after)
	if closed := newest.closed(); closed.Reason != reasonReplaced {
		t.Errorf("the connection before was closed with %d %q", closed.Code, closed.Reason)
	}
	if n := f.count(t, "a"); n != 1 {
		t.Errorf("count = %d, want 1", n)
	}
}

// A client that came back is shown nothing before its queries have come too: what it shows would vanish for a moment.
func TestNoBlink(t *testing.T) {
	w := newReplayWorld(t)
	comeBack := func(count uint32) *client {
		w.held.Lock()
		defer w.held.Unlock()
		c := dial(t, w.s, nil)
		c.send(&protocol.Connect{SessionID: sessionA, ConnectionCount: count})
		c.send(&protocol.Authenticate{TokenType: "None"})
		c.barrier()
		w.clock.advance(replayHoldMax / 2) // many ticks
		c.barrier()                        // would have read a Transition before this answer
		if c.version.TS != 0 {
			t.Fatalf("a Transition to %+v came before the queries", c.version)
		}
		if count == 1 {
			c.add(0, "t:count", `{"channel":"a"}`)
			c.barrier()
		}
		return c
	}
	c := comeBack(1)
	if tr := next[*protocol.Transition](c); len(tr.Modifications) != 1 || tr.End.Identity != 1 {
		t.Errorf("first Transition: %s", tr.Append(nil))
	}
	// One that has none gets its answer in the end.
	w.free.Store(true)
	c = comeBack(2)
	if tr := next[*protocol.Transition](c); tr.End.Identity != 1 || tr.End.QuerySet != 0 {
		t.Errorf("first Transition: %s", tr.Append(nil))
	}
}

// What failed on a connection that broke, and fails again on the next one, is told after the first Transition there: the npm client shows
// nothing at all when it comes before.
func TestFailuresFollowTheFirstTransition(t *testing.T) {
	for _, failures := range []int{1, 3, unsentMax, 3 * unsentMax} {
		w := newReplayWorld(t)
		c := dial(t, w.s, nil)
		func() {
			w.held.Lock() // there is no Transition meanwhile
			defer w.held.Unlock()
			c.send(&protocol.Connect{SessionID: sessionA, ConnectionCount: 1})
			c.add(0, "t:count", `{"channel":"a"}`)
			for range failures {
				c.mutate("t:fail", `{}`)
			}
			c.mutate("t:increment", `{"channel":"a"}`)
			if failures >= unsentMax {
				return // no more mutations are begun
			}
			if r := next[*protocol.MutationResponse](c); !r.Success {
				t.Errorf("with %d failures: %s came before the first Transition", failures, r.Append(nil))
			}
		}()
		for failed := 0; failed < failures; {
			m, err := c.read()
			if err != nil {
				t.Fatalf("after %d of %d failures: %v", failed, failures, err)
			}
			if r, ok := m.(*protocol.MutationResponse); ok && !r.Success {
				if failed++; c.version.TS == 0 {
					t.Errorf("failure %d of %d came before the first Transition", failed, failures)
				}
			}
		}
	}
	// One that has no queries is told in the end.
	w := newReplayWorld(t)
	w.free.Store(true)
	c := dial(t, w.s, nil)
	c.send(&protocol.Connect{SessionID: sessionA, ConnectionCount: 1})
	c.mutate("t:fail", `{}`)
	if r := c.response(); r.Success {
		t.Errorf("answered %s", r.Append(nil))
	}
}

// Clients with a new session on every connection, as those in Rust, are not
// kept from anything: their mutations happen as often as they are sent.
func TestNewSessionEachTime(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	for i := range 3 {
		c := dial(t, s, nil)
		c.send(&protocol.Connect{SessionID: fmt.Sprintf("220faa75-0ee8-4ccb-ae77-d9778875540%d", i), ConnectionCount: uint32(i)})
		c.modify()
		c.mutate("t:increment", `{"channel":"a"}`)
		answered := c.response().TS
		c.until("it is settled", func() bool { return c.version.TS >= answered })
	}
	if n := f.count(t, "a"); n != 3 {
		t.Errorf("count = %d, want 3", n)
	}
}

// The first Transition of a client that came back waits for the answers to what
// it sent again: its effects are in the first results already.
func TestReplayIsAnsweredBeforeFirstTransition(t *testing.T) {
	f := newFixture(t)
	clock := newFakeClock()
	s := serve(t, f.app, Options{Clock: clock})
	c := connect(t, s)
	c.modify()
	next[*protocol.Transition](c)
	c.mutate("t:held", `{"channel":"a"}`)
	<-f.entered
	_ = c.ws.CloseNow()

	c2 := c.again(s)
	c2.add(0, "t:count", `{"channel":"a"}`)
	c2.requests = 0
	c2.mutate("t:held", `{"channel":"a"}`)
	c2.barrier()
	clock.advance(time.Second) // many ticks
	c2.barrier()               // would have read a Transition before this answer
	if c2.version.QuerySet != 0 {
		t.Fatalf("a Transition to %+v came while a mutation that was sent again had no answer", c2.version)
	}
	f.let()
	next[*protocol.MutationResponse](c2)
	// A clock that moves while a worker puts the connection off to the next tick leaves it there.
	eventually(t, "the connection waits for the next tick", func() bool { return s.putsOff(sessionA) })
	clock.advance(time.Second)
	if tr := next[*protocol.Transition](c2); c2.results[0] != `{"$integer":"AQAAAAAAAAA="}` {
		t.Errorf("first Transition: %s", tr.Append(nil))
	}
}

// The wait for what was sent again has an end.
func TestReplayHoldEnds(t *testing.T) {
	f := newFixture(t)
	clock := newFakeClock()
	s := serve(t, f.app, Options{Clock: clock})
	c := connect(t, s)
	c.mutate("t:held", `{"channel":"a"}`)
	<-f.entered
	c2 := c.again(s)
	c2.add(0, "t:count", `{"channel":"a"}`)
	c2.mutate("t:increment", `{"channel":"a"}`)
	c2.barrier()
	clock.advance(replayHoldMax + time.Second)
	next[*protocol.Transition](c2)
	f.let()
	next[*protocol.MutationResponse](c2)
}

func TestPings(t *testing.T) {
	f := newFixture(t)
	clock := newFakeClock()
	s := serve(t, f.app, Options{Clock: clock})
	c := connect(t, s)
	c.keepPings = true
	clock.advance(time.Second) // tells the Transition from the connection's begin
	c.modify()
	next[*protocol.Transition](c)
	ours := s.connections()[0]
	c.querySet = 100 // sent below without a check, since another goroutine reads
	// since returns how long ago a moment of the connection is.
	since := func(at *atomic.Int64) time.Duration { return time.Duration(clock.Now().UnixNano() - at.Load()) }
	// The server notes when it sent something after the client may have it.
	eventually(t, "the first Transition has been noted", func() bool { return since(&ours.sentAt) == 0 })

	// Five minutes, in which the client only answers WebSocket pings. It reads
	// all the time: pings are answered by reading.
	var pings atomic.Int64
	reads := make(chan protocol.ServerMessage)
	go func() {
		defer close(reads)
		for {
			m, err := c.read()
			if err != nil {
				return
			}
			if _, ok := m.(*protocol.Ping); ok {
				pings.Add(1)
				continue
			}
			reads <- m
		}
	}()
	// comes waits for something to happen, and lets time go on where the machine
	// is so busy that the clock was ahead of the server.
	comes := func(what string, holds func() bool) {
		last := time.Now()
		eventually(t, what, func() bool {
			if holds() {
				return true
			}
			if time.Since(last) > 100*time.Millisecond {
				clock.advance(time.Second)
				last = time.Now()
			}
			return false
		})
	}
	seen := ours.seenAt.Load()
	for i := range int64(20) {
		sent := ours.sentAt.Load()
		clock.advance(15 * time.Second)
		comes("a Ping has come", func() bool { return pings.Load() > i && ours.sentAt.Load() > sent })
		if i%2 == 1 {
			comes("the client's pong has come", func() bool { return ours.seenAt.Load() > seen })
			seen = ours.seenAt.Load()
		}
	}
	// A message puts the ping off.
	clock.advance(10 * time.Second)
	c.send(&protocol.ModifyQuerySet{Base: 1, New: 2})
	<-reads
	eventually(t, "the Transition is counted", func() bool { return since(&ours.sentAt) == 0 })
	before := pings.Load()
	clock.advance(10 * time.Second)
	c.send(&protocol.ModifyQuerySet{Base: 2, New: 3})
	<-reads
	if n := pings.Load(); n != before {
		t.Errorf("%d Pings came 10 s after a message", n-before)
	}
	c.ws.CloseNow()

	// A client that answers nothing is dropped.
	raw, r := rawDial(t, s)
	stream := appendFrame(nil, 0x81, (&protocol.Connect{SessionID: sessionA}).Append(nil), 5)
	if _, err := raw.Write(stream); err != nil {
		t.Fatal(err)
	}
	session, err := parseUUID(sessionA)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server has read what it sent", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		newest := s.mu.sessions[session]
		return newest != nil && newest != ours
	})
	clock.advance(121 * time.Second)
	if code, reason := rawClose(t, r); code != closePolicy || reason != reasonSilent {
		t.Errorf("closed with %d %q", code, reason)
	}
}

// Within a tick a connection gets at most one Transition, and the next one has
// everything that came since.
func TestOneTransitionATick(t *testing.T) {
	f := newFixture(t)
	clock := newFakeClock()
	s := serve(t, f.app, Options{Clock: clock})
	c := connect(t, s)
	c.add(0, "t:count", `{"channel":"a"}`)
	next[*protocol.Transition](c)
	for range 5 {
		c.mutate("t:increment", `{"channel":"a"}`)
		next[*protocol.MutationResponse](c) // and no Transition in front of it
	}
	transitions := 0
	for c.results[0] != `{"$integer":"BQAAAAAAAAA="}` {
		eventually(t, "the connection waits for the next tick", func() bool { return s.putsOff(sessionA) })
		clock.advance(10 * time.Millisecond)
		next[*protocol.Transition](c)
		transitions++
	}
	if transitions > 2 { // two if the query was still running at the first tick
		t.Errorf("five increments in one tick came in %d Transitions", transitions)
	}
}
