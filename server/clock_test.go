package server

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/protocol"
	"github.com/halcyon-db/halcyon/server/token"
)

// apartClock is the clock of a process whose machine's clock was set after it had begun.
type apartClock struct {
	*fakeClock
	step atomic.Int64 // of the wall clock
}

// Wall returns the time that everybody else has.
func (c *apartClock) Wall() time.Time { return c.Now().Add(time.Duration(c.step.Load())) }

// The clock of the machine is set by an hour while the server runs. Nobody who is connected notices, and no token is good for longer or less
// long than its provider says.
func TestWallClockSteps(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			clock := &apartClock{fakeClock: newFakeClock()}
			w := newAuthWorld(t, Options{Clock: clock, SilenceMax: time.Hour})
			dialed := func(session string) *client {
				c := dial(t, w.testServer, nil)
				c.session = session
				c.send(&protocol.Connect{SessionID: session})
				return c
			}
			signs := func(c *client, lasts time.Duration) {
				c.authenticate(0, w.issuer.Token("ann", lasts, nil))
				c.identityAt(1)
			}
			acts := func(name string, c *client) {
				t.Helper()
				c.mutate("u:note", `{"text":"x"}`)
				if r := c.response(); !r.Success || string(r.Value) != `"ann"` {
					t.Errorf("%s: %s", name, r.Append(nil))
				}
			}
			ended := func(name string, c *client) {
				t.Helper()
				for {
					m, err := c.read()
					if err != nil {
						t.Fatalf("%s: %v, want an AuthError", name, err)
					}
					if e, ok := m.(*protocol.AuthError); ok {
						if e.UpdateAttempted || !strings.HasPrefix(e.Message, "TokenExpired: ") {
							t.Errorf("%s: %s", name, e.Append(nil))
						}
						break
					}
				}
				if closed := c.closed(); closed.Code != closeNormal {
					t.Errorf("%s: closed with %d %q", name, closed.Code, closed.Reason)
				}
			}
			before := dialed(sessionA)
			signs(before, 2*time.Minute)

			clock.step.Store(int64(step))
			clock.advance(time.Second) // all are looked at
			acts("who had signed in before", before)
			after := dialed("220faa75-0ee8-4ccb-ae77-d97788755401")
			signs(after, 2*time.Minute)
			clock.advance(time.Second)
			acts("who has signed in since", after)
			// A token that has ended where it was made is refused, and one that has begun there is not.
			for _, tc := range []struct {
				lasts  time.Duration
				status int
			}{{time.Minute, 200}, {-time.Minute, 401}} {
				resp, text := request(t, w.testServer, "POST", "/api/query", `{"path":"u:me","args":{}}`, "Authorization", "Bearer "+w.issuer.Token("ann", tc.lasts, nil))
				if resp.StatusCode != tc.status {
					t.Errorf("a token that goes on for %v: %s %s", tc.lasts, resp.Status, text)
				}
			}
			clock.advance(2*time.Minute + token.Leeway - 2*time.Second)
			ended("who had signed in before", before)
			clock.advance(time.Second)
			ended("who has signed in since", after)
		})
	}
}

// The clock goes on by its monotonic part. Without one, time.Since would follow every step of the wall clock.
func TestSystemClockIsMonotonic(t *testing.T) {
	c := newSystemClock()
	if c.start == c.start.Round(0) {
		t.Error("the time of the start has no monotonic part")
	}
	before := c.Now()
	if after := c.Now(); after.Before(before) {
		t.Errorf("%v is after %v", before, after)
	}
}

// The operator is told once when the clock of the machine is set, and once when it is set back.
func TestOperatorIsToldOfASteppedClock(t *testing.T) {
	f := newFixture(t)
	var step atomic.Int64
	clock := newSystemClock()
	clock.wall = func() time.Time { return clock.start.Add(time.Since(clock.start)).Add(time.Duration(step.Load())) }
	s := serve(t, f.app, Options{Clock: clock})
	look := func() {
		s.sweeper.mu.Lock()
		defer s.sweeper.mu.Unlock()
		s.sweeper.tellSteppedLocked()
	}
	for i, tc := range []struct {
		step time.Duration
		says string // the newest line
		told int
	}{
		{0, "", 0}, {30 * time.Second, "", 0}, {time.Hour, "behind=1h0m0s", 1}, {time.Hour + 30*time.Second, "behind=1h0m0s", 1},
		{0, "behind=0s", 2}, {-2 * time.Hour, "behind=-2h0m0s", 3},
	} {
		step.Store(int64(tc.step))
		for range 2 {
			look()
		}
		text := s.log.String()
		if told := strings.Count(text, "the clock of the machine was set"); told != tc.told || !strings.Contains(text, tc.says) {
			t.Errorf("step %d, of %v: told %d times, want %d and %q:\n%s", i, tc.step, told, tc.told, tc.says, text)
		}
	}
}

// The clock of the machine is an hour away when the server is started again. Clients that come back are shown what they have seen and more, a
// mutation that is sent again happens once, new ones come after the old, and what was scheduled runs once, when its time has come.
func TestRestartWithAnotherClock(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			f := &fixture{entered: make(chan string, 100), release: make(chan struct{})}
			f.let = sync.OnceFunc(func() { close(f.release) })
			fs := vfs.NewMem()
			clock := newFakeClock()
			begin := func() *testServer {
				app, err := halcyon.NewApp(testModule(f))
				if err != nil {
					t.Fatal(err)
				}
				f.app = app
				if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: fs, Clock: clock, FunctionTimeMax: 24 * time.Hour}}); err != nil {
					t.Fatal(err)
				}
				if err := app.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				return serve(t, app, Options{Clock: clock})
			}
			end := func(s *testServer, c *client) {
				_ = c.ws.CloseNow()
				s.stop()
				if err := <-s.stopped; err != nil {
					t.Errorf("Serve: %v", err)
				}
				s.stopped <- nil
				if err := f.app.Close(); err != nil {
					t.Error(err)
				}
			}
			s := begin()
			c := connect(t, s)
			c.add(0, "t:count", `{"channel":"a"}`)
			next[*protocol.Transition](c)
			increment := c.mutate("t:increment", `{"channel":"a"}`)
			first := c.response()
			const scheduled = 30 * time.Minute
			c.mutate("t:later", fmt.Sprintf(`{"channel":"later","body":"x","function":"send","after":%d}`, scheduled.Milliseconds()))
			if r := c.response(); !r.Success {
				t.Fatalf("schedule: %s", r.Append(nil))
			}
			end(s, c)

			clock.set(step)
			s = begin()
			again := c.again(s)
			defer end(s, again)
			again.add(0, "t:count", `{"channel":"a"}`)
			again.send(&protocol.Mutation{RequestID: increment, Path: "t:increment", Args: []byte(`[{"channel":"a"}]`)})
			if r := again.response(); !r.Success || r.TS != first.TS || string(r.Value) != string(first.Value) {
				t.Errorf("sent again: %s, want %s", r.Append(nil), first.Append(nil))
			}
			again.requests++ // that of the scheduling
			again.mutate("t:increment", `{"channel":"a"}`)
			r := again.response()
			if !r.Success || r.TS <= c.version.TS || r.TS <= first.TS {
				t.Errorf("a new one: %s, want it after %v", r.Append(nil), c.version.TS)
			}
			clock.advance(time.Second)
			again.until("the new count", func() bool {
				return again.version.TS >= r.TS && again.results[0] == string(r.Value)
			})
			messages := func() (n int) {
				var bodies []string
				f.call(t, "t:list", map[string]any{"channel": "later"}, &bodies)
				return len(bodies)
			}
			if step < 0 {
				clock.advance(scheduled) // by the clock of before it is half past, and by this one half an hour before
				if n := messages(); n != 0 {
					t.Errorf("what was scheduled ran %d times before its time", n)
				}
				clock.advance(-step)
			}
			eventually(t, "what was scheduled has run", func() bool { return messages() > 0 })
			if n := messages(); n != 1 {
				t.Errorf("what was scheduled ran %d times", n)
			}
		})
	}
}
