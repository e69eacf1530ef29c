package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// gate lets connections through while it is open.
type gate struct {
	mu struct {
		sync.Mutex
		opened chan struct{} // closed while the gate is open
	}
}

func newGate() *gate {
	g := &gate{}
	g.mu.opened = make(chan struct{})
	return g
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.mu.opened)
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.opened = make(chan struct{})
}

// pass waits until the gate is open.
func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	opened := g.mu.opened
	g.mu.Unlock()
	select {
	case <-opened:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// mark is one execution of counter:add that the database has.
type mark struct {
	Mark  string
	Value int
}

// marksOf returns the executions on a counter in the order of their values.
func marksOf(s *server, name string) []mark {
	s.t.Helper()
	var all []mark
	after := 0
	for {
		page := query[[]mark](s, "counter:marks", map[string]any{"name": name, "after": after})
		if len(page) == 0 {
			return all
		}
		all = append(all, page...)
		after = page[len(page)-1].Value
	}
}

// addition is a call of counter:add.
type addition struct {
	counter, mark string
	*call
}

// adder is a client that adds all the time.
type adder struct {
	*client
	name string

	mu struct {
		sync.Mutex
		made []addition
	}
}

// newAdder returns an adder that connects to a server whenever the way is open.
func newAdder(t testing.TB, s *server, way *gate, name string) *adder {
	c := &client{t: t, writes: true}
	c.dial = func(ctx context.Context) (*websocket.Conn, error) {
		for {
			if err := way.pass(ctx); err != nil {
				return nil, err
			}
			conn, err := dial(ctx, s)
			if err == nil || ctx.Err() != nil {
				return conn, err
			} // the server has just gone: the gate is about to be shut
		}
	}
	c.start()
	return &adder{client: c, name: name}
}

// additions returns all that were made so far.
func (a *adder) additions() []addition {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.made[:len(a.mu.made):len(a.mu.made)]
}

// add makes one addition to a counter.
func (a *adder) add(counter string) addition {
	a.mu.Lock()
	defer a.mu.Unlock()
	mark := fmt.Sprintf("%s/%d", a.name, len(a.mu.made))
	made := addition{counter, mark, a.mutate("counter:add", map[string]any{"name": counter, "mark": mark})}
	a.mu.made = append(a.mu.made, made)
	return made
}

// answer returns what a call was answered, if it was.
func (a *adder) answer(c *call) (outcome, bool) {
	a.client.mu.Lock()
	defer a.client.mu.Unlock()
	return outcome{c.success, c.result}, c.answers > 0
}

// hot is the counter that all clients add to. Each has one of its own too.
const hot = "hot"

// counts is what check found.
type counts struct {
	executed int // executions in the database
	answered int // additions whose answer came
	orphaned int // executed, and no answer came
	undone   int // sent, and not executed
}

// check compares what the database has with what clients were told: each
// addition is in it at most once, with the value that was answered, and each
// that was answered is in it.
func check(t testing.TB, s *server, adders []*adder) counts {
	t.Helper()
	type execution struct {
		counter string
		value   int
	}
	executed := make(map[string]execution)
	counters := []string{hot}
	for _, a := range adders {
		counters = append(counters, a.name)
	}
	for _, name := range counters {
		marks := marksOf(s, name)
		for i, m := range marks {
			if m.Value != i+1 {
				t.Errorf("counter %s: execution %d made it %d", name, i+1, m.Value)
			}
			if before, twice := executed[m.Mark]; twice {
				t.Errorf("%s was executed twice: %+v and %s %d", m.Mark, before, name, m.Value)
			}
			executed[m.Mark] = execution{name, m.Value}
		}
		if value := query[int](s, "counter:get", map[string]any{"name": name}); value != len(marks) {
			t.Errorf("counter %s is %d after %d executions", name, value, len(marks))
		}
	}
	found := counts{executed: len(executed)}
	for _, a := range adders {
		for _, added := range a.additions() {
			done, is := executed[added.mark]
			delete(executed, added.mark)
			got, answered := a.answer(added.call)
			switch {
			case answered && !got.Success:
				t.Errorf("%s failed: %s", added.mark, got.Result)
			case answered && !is:
				t.Errorf("%s was answered %s and is lost", added.mark, got.Result)
			case is && done.counter != added.counter:
				t.Errorf("%s was for %s and is on %s", added.mark, added.counter, done.counter)
			case answered && got.Result != strconv.Itoa(done.value):
				t.Errorf("%s was answered %s and is %d", added.mark, got.Result, done.value)
			case answered:
				found.answered++
			case is:
				found.orphaned++
			default:
				found.undone++
			}
		}
	}
	for m, done := range executed {
		t.Errorf("%s is on %s and nobody made it", m, done.counter)
	}
	return found
}

// Many clients add without a pause while the server is killed again and again,
// also while it starts. After each kill and before any client is back, what was
// answered is there and nothing is there twice; when the clients are back and
// have sent again what was not answered, all of it is there once.
func TestCrashLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	const (
		clients  = 16
		inFlight = 4 // of each client
		kills    = 20
		mostAcks = 600 // between two kills
	)
	random := newRand(t)
	s := serve(t, fixture)
	way := newGate()
	var acknowledged atomic.Int64
	some := make(chan struct{}, 1) // acknowledged became more
	adders := make([]*adder, clients)
	stop := make(chan struct{})
	var working sync.WaitGroup
	for i := range adders {
		adders[i] = newAdder(t, s, way, fmt.Sprintf("client-%d", i))
		for range inFlight {
			seed := random.Uint64()
			working.Go(func() {
				choice := rand.New(rand.NewPCG(seed, 0))
				for {
					select {
					case <-stop:
						return
					default:
					}
					name := adders[i].name
					if choice.IntN(2) == 0 {
						name = hot
					}
					added := adders[i].add(name)
					if _, err := added.await(impatient(t)); err != nil {
						t.Errorf("%s: %v", added.mark, err)
						return
					}
					acknowledged.Add(1)
					select {
					case some <- struct{}{}:
					default:
					}
				}
			})
		}
	}
	defer working.Wait()
	stopped := sync.OnceFunc(func() { close(stop) })
	defer stopped()

	var orphaned, undone, early int
	way.open()
	for kill := range kills {
		target := acknowledged.Load() + int64(random.IntN(mostAcks))
		for acknowledged.Load() < target {
			if _, ok := receive(t, some); !ok || t.Failed() {
				t.FailNow()
			}
		}
		after(random.Int64N(int64(5 * time.Millisecond)))
		s.kill()
		way.shut()
		for _, a := range adders {
			a.awaitDisconnected(t)
		}
		s.launch()
		for random.IntN(3) == 0 { // and once more, while it starts
			after(random.Int64N(int64(60 * time.Millisecond)))
			s.kill()
			early++
			s.launch()
		}
		s.awaitReady()
		found := check(t, s, adders)
		if t.Failed() {
			t.Fatalf("after kill %d: %+v", kill+1, found)
		}
		orphaned += found.orphaned
		undone += found.undone
		way.open()
	}
	stopped()
	working.Wait()
	found := check(t, s, adders)
	if found.orphaned+found.undone > 0 || found.answered != found.executed {
		t.Errorf("at the end: %+v", found)
	}
	if orphaned == 0 {
		t.Error("no kill came between a commit and its answer, so nothing was shown")
	}
	t.Logf("%d kills, and %d while it started: %d additions; %d were executed and not answered when the server died, %d not executed",
		kills, early, found.executed, orphaned, undone)
}

// after waits for a random moment, which is the point of it: there is no event
// to wait for.
func after(nanoseconds int64) {
	<-time.After(time.Duration(nanoseconds))
}

// awaitDisconnected waits until the client knows that its connection is gone,
// and so has taken every answer that has come.
func (a *adder) awaitDisconnected(t testing.TB) {
	t.Helper()
	poll(t, a.name+" is disconnected", func() (bool, string) {
		a.client.mu.Lock()
		defer a.client.mu.Unlock()
		return a.client.mu.link == nil, "still connected"
	})
}

// The server is killed when everybody sees the effect of a mutation and its
// sender has not read the answer. The sender comes back and is told the same as
// it was to be told then, however often it asks.
func TestCrashBetweenCommitAndAnswer(t *testing.T) {
	t.Parallel()
	s := serve(t, fixture)
	ctx := impatient(t)
	session := newUUID()
	// ask connects as the sender and sends the mutation.
	ask := func(connection int, observed timestamp) *websocket.Conn {
		t.Helper()
		conn, err := dial(ctx, s)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.CloseNow() })
		hello := map[string]any{"type": "Connect", "sessionId": session, "connectionCount": connection, "lastCloseReason": "x", "clientTs": 0}
		if observed != 0 {
			hello["maxObservedTimestamp"] = observed
		}
		for _, m := range []any{
			hello,
			map[string]any{"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": []any{}},
			map[string]any{"type": "Mutation", "requestId": 7, "udfPath": "counter:add", "args": []any{map[string]any{"name": "one", "mark": "m"}}},
		} {
			if err := conn.Write(ctx, websocket.MessageText, encode(m)); err != nil {
				t.Fatal(err)
			}
		}
		return conn
	}
	// told reads until the answer to the mutation.
	told := func(conn *websocket.Conn) (result string, at timestamp) {
		t.Helper()
		for {
			_, text, err := conn.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			var m message
			if err := json.Unmarshal(text, &m); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if m.Type != "MutationResponse" {
				continue
			}
			if !m.Success || m.RequestID != 7 || m.TS == nil {
				t.Fatalf("answer %s", text)
			}
			return string(m.Result), *m.TS
		}
	}
	one := map[string]any{"name": "one"}

	ask(0, 0)
	observer := newClient(t, s)
	if err := observer.subscribe("counter:get", one).await(ctx, func(v json.RawMessage) bool { return string(v) == "1" }); err != nil {
		t.Fatal(err)
	}
	observer.close()
	observer.mu.Lock()
	seen := timestamp(observer.mu.maxObserved)
	observer.mu.Unlock()
	s.kill()

	var first timestamp
	for connection := 1; connection <= 3; connection++ {
		s.launch()
		s.awaitReady()
		result, at := told(ask(connection, seen))
		if first == 0 {
			first = at
		}
		if result != "1" || at != first || at > seen {
			t.Errorf("time %d: answered %s at %d; want 1, at %d, which is not after %d", connection, result, at, first, seen)
		}
		if value := query[int](s, "counter:get", one); value != 1 {
			t.Errorf("time %d: the counter is %d, want 1", connection, value)
		}
		s.kill()
	}
}

// The official client reconnects and sends again by itself.
func TestCrashUnderNPMClient(t *testing.T) {
	t.Parallel()
	const (
		clients   = 3
		additions = 40 // of each client
		inFlight  = 4  // of each client
		kills     = 6
	)
	random := newRand(t)
	s := serve(t, fixture)
	n := startNPM(t, s)
	var done atomic.Int64
	progress := make(chan struct{}, clients*additions)
	var working sync.WaitGroup
	for i := range clients {
		name := fmt.Sprintf("npm-%d", i)
		n.open("ws", name)
		slots := make(chan struct{}, inFlight)
		working.Go(func() {
			for j := range additions {
				slots <- struct{}{}
				_, answer := n.send(command{Do: "mutation", Client: name, Path: "counter:add",
					Args: map[string]any{"name": hot, "mark": fmt.Sprintf("%s/%d", name, j)}})
				working.Go(func() {
					r, open := receive(t, answer)
					if !open || r.Error != nil {
						t.Errorf("%s/%d: %v", name, j, r.Error)
					}
					<-slots
					done.Add(1)
					progress <- struct{}{}
				})
			}
		})
	}
	const all = clients * additions
	for kill := range kills {
		target := int64(all * (kill + 1) / (kills + 1))
		for done.Load() < target {
			receive(t, progress)
		}
		after(random.Int64N(int64(3 * time.Millisecond)))
		s.kill()
		s.launch()
		s.awaitReady()
	}
	working.Wait()
	marks := marksOf(s, hot)
	executed := make(map[string]int)
	for _, m := range marks {
		executed[m.Mark]++
	}
	if value := query[int](s, "counter:get", map[string]any{"name": hot}); value != all || len(executed) != all || len(marks) != all {
		t.Errorf("the counter is %d, with %d executions of %d additions; want %d of each", value, len(marks), len(executed), all)
	}
	t.Logf("%d kills, %d additions", kills, done.Load())
}
