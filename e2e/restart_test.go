package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// pacer opens the connections of a client when the npm client would: the first
// at once, and after a connection has ended in a second, give or take half, which
// doubles with each attempt that fails.
type pacer struct {
	s       *server
	random  *rand.Rand
	again   bool // the first connection has been opened
	retries int
}

const (
	pacerFirst = time.Second
	pacerMax   = 16 * time.Second
)

// dial is what opens the connections of a client.
func (p *pacer) dial(ctx context.Context) (*websocket.Conn, error) {
	for {
		if p.again {
			delay := min(pacerFirst<<p.retries, pacerMax)
			p.retries++
			select {
			case <-time.After(delay/2 + time.Duration(p.random.Int64N(int64(delay)))):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		p.again = true
		conn, err := dial(ctx, p.s)
		if err == nil {
			p.retries = 0
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, err
		}
	}
}

// The server goes and comes back under a thousand clients that watch two queries
// and have two mutations on their way, a few official ones among them. All are
// back by themselves and see the newest results; each mutation has happened once,
// and nobody was shown an error.
func TestRestartUnderConnections(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(t *testing.T, s *server)
	}{
		{"killed", func(_ *testing.T, s *server) { s.kill() }},
		{"stopped", func(t *testing.T, s *server) {
			if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			<-s.exited // within its own time limit
			if status := s.cmd.ProcessState.ExitCode(); status != 0 {
				t.Errorf("exit status %d, want 0", status)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) { restartUnder(t, tt.end) })
	}
}

// restartBound is how soon after its end all clients of a server must be back. Only a
// quiet machine can tell, so only -e2e.figures judges by it.
const restartBound = 5 * time.Second

func restartUnder(t *testing.T, end func(*testing.T, *server)) {
	clients, official := 1000, 5
	if underRace {
		clients = 150
	}
	random := newRand(t)
	s := serve(t, fixture)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 4*patience, errLate)
	defer cancel()

	own := func(i int) string { return fmt.Sprintf("client-%d", i) }
	is := func(want int) func(json.RawMessage) bool {
		return func(value json.RawMessage) bool { return string(value) == strconv.Itoa(want) }
	}
	adders := make([]*adder, clients)
	watched := make([][2]*subscription, clients)
	for i := range adders {
		way := &pacer{s: s, random: rand.New(rand.NewPCG(random.Uint64(), 0))}
		adders[i] = &adder{client: &client{t: t, writes: true, dial: way.dial}, name: own(i)}
		adders[i].start()
		watched[i][0] = adders[i].subscribe("counter:get", map[string]any{"name": hot})
		watched[i][1] = adders[i].subscribe("counter:get", map[string]any{"name": own(i)})
	}
	for i := range adders {
		for _, w := range watched[i] {
			if err := w.await(ctx, is(0)); err != nil {
				t.Fatalf("client %d, before: %v", i, err)
			}
		}
	}
	npm := startNPM(t, s)
	officials := make([]string, official)
	live := make([]*npmUpdates, official)
	for i := range officials {
		officials[i] = fmt.Sprintf("npm-%d", i)
		npm.open("ws", officials[i])
		live[i] = npm.subscribe(officials[i], "counter:get", map[string]any{"name": hot})
		awaitUpdate(npm, live[i], "the first number", func(n int) bool { return n == 0 })
	}

	// Everybody adds to one counter and to one of their own, and the server goes
	// when a part of that is answered.
	var back sync.WaitGroup
	var answered atomic.Int64
	some := make(chan struct{}, 1)
	took := make([]time.Duration, clients+official) // from the end of the server until a client was back and saw everything
	var ended atomic.Pointer[time.Time]
	for i, a := range adders {
		calls := []addition{a.add(a.name), a.add(hot)}
		back.Go(func() {
			for _, call := range calls {
				if got, err := call.await(ctx); err != nil || !got.Success {
					t.Errorf("%s: %+v, %v", call.mark, got, err)
					return
				}
				if answered.Add(1) >= int64(clients)/2 {
					select {
					case some <- struct{}{}:
					default:
					}
				}
			}
			for j, want := range []int{clients, 1} {
				if err := watched[i][j].await(ctx, is(want)); err != nil {
					t.Errorf("client %d, after: %v", i, err)
					return
				}
			}
			if err := a.awaitBack(ctx, 2, watched[i][0]); err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			took[i] = time.Since(*ended.Load())
		})
	}
	answers := make([]chan reply, official)
	for i, name := range officials {
		_, answers[i] = npm.send(command{Do: "mutation", Client: name, Path: "counter:add", Args: map[string]any{"name": "npm", "mark": name}})
	}
	receive(t, some)
	began := time.Now()
	ended.Store(&began)
	before := answered.Load()
	end(t, s)
	gone := time.Now()
	s.launch()
	s.awaitReady()
	ready := time.Now()
	for i, name := range officials {
		if r, open := receive(t, answers[i]); !open || r.Error != nil {
			t.Errorf("%s: %v", name, r.Error)
		}
		awaitUpdate(npm, live[i], name+" is back", func(n int) bool { return n == clients })
		took[clients+i] = time.Since(began)
	}
	back.Wait()
	if t.Failed() {
		t.FailNow()
	}

	found := check(t, s, adders)
	if found.orphaned+found.undone > 0 || found.answered != found.executed {
		t.Errorf("at the end: %+v", found)
	}
	if n := len(marksOf(s, "npm")); n != official {
		t.Errorf("%d additions of the official clients were executed, want %d", n, official)
	}
	for i, a := range adders {
		if n := a.connections(); n != 2 {
			t.Errorf("client %d needed %d connections, want 2", i, n)
		}
	}
	slices.Sort(took)
	last := took[len(took)-1]
	t.Logf("%d clients, %d of %d calls answered before; gone after %v, ready after %v; back after: median %v, 99 %% %v, the last %v",
		clients+official, before, 2*clients, gone.Sub(began).Round(time.Millisecond), ready.Sub(began).Round(time.Millisecond),
		took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond), last.Round(time.Millisecond))
	if *figures && last > restartBound {
		t.Errorf("the last client was back after %v, want %v", last, restartBound)
	}
}

// awaitBack waits until the client has had so many connections, has one, and was
// told on it what a query that it watches has come to.
func (c *client) awaitBack(ctx context.Context, connections int, watched *subscription) error {
	for {
		watched.mu.Lock()
		changed := watched.mu.changed
		watched.mu.Unlock()
		c.mu.Lock()
		back := c.mu.connections >= connections && c.mu.link != nil && c.mu.link.version.TS != 0
		c.mu.Unlock()
		if back {
			return nil
		}
		select {
		case <-changed: // a new connection begins with the results of all queries
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
