package server

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/protocol"
)

// speedRow is a number that fast and slow queries read.
type speedRow struct {
	ID halcyon.ID[speedRow] `json:"_id" halcyon:"id"`
	N  int                  `json:"n"`
}

// speedWorld is a server with a number, a query that reads it at once and some that take as long as the test likes.
type speedWorld struct {
	*testServer
	app *halcyon.App
	// running counts the slow queries that have read the number and wait.
	mu struct {
		sync.Mutex
		goOn    *sync.Cond
		hold    bool
		running int
	}
	dawdle func() // what a slow query does when it is not held
}

func newSpeedWorld(t *testing.T) *speedWorld {
	t.Helper()
	w := &speedWorld{dawdle: func() {}}
	w.mu.goOn = sync.NewCond(&w.mu.Mutex)
	rows := halcyon.NewTable[speedRow]("rows")
	read := func(tx *halcyon.Tx) (int, error) {
		row, _, err := rows.All().First(tx)
		return row.N, err
	}
	m := halcyon.NewModule("s", rows)
	m.Query("fast", read)
	type args struct {
		Which int `json:"which"`
	}
	m.Query("slow", func(tx *halcyon.Tx, _ args) (int, error) {
		n, err := read(tx)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.mu.running++
		for w.mu.hold {
			w.mu.goOn.Wait()
		}
		w.mu.running--
		w.dawdle()
		return n, err
	})
	m.Mutation("increment", func(tx *halcyon.Tx) (int, error) {
		row, ok, err := rows.All().First(tx)
		if err != nil {
			return 0, err
		}
		if !ok {
			_, err := rows.Insert(tx, speedRow{N: 1})
			return 1, err
		}
		return row.N + 1, rows.Patch(tx, row.ID, halcyon.Fields{"n": row.N + 1})
	})
	app, err := halcyon.NewApp(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: waitMax}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	w.app = app
	w.testServer = serve(t, app, Options{Tick: 1})
	t.Cleanup(func() { w.hold(false) })
	return w
}

// hold makes slow queries wait, or lets them all go on.
func (w *speedWorld) hold(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.hold = on
	w.mu.goOn.Broadcast()
}

func (w *speedWorld) increment(t *testing.T) {
	t.Helper()
	if err := w.app.Run(t.Context(), "s:increment", nil, nil); err != nil {
		t.Fatal(err)
	}
}

// session opens a connection of a client of its own.
func (w *speedWorld) session(t *testing.T, n int) *client {
	t.Helper()
	c := dial(t, w.testServer, nil)
	c.session = fmt.Sprintf("220faa75-0ee8-4ccb-ae77-d97788755%03x", n)
	c.send(&protocol.Connect{SessionID: c.session})
	return c
}

// A slow query holds back what its connection is shown, and nothing else: no other connection, and no response.
func TestSlowQueryHoldsBackItsConnection(t *testing.T) {
	w := newSpeedWorld(t)
	both, fast := w.session(t, 0), w.session(t, 1)
	both.add(0, "s:fast", `{}`)
	both.add(1, "s:slow", `{"which":1}`)
	fast.add(0, "s:fast", `{}`)
	both.until("both are shown", func() bool { return both.results[0] == "0" && both.results[1] == "0" })
	fast.until("it is shown", func() bool { return fast.results[0] == "0" })

	w.hold(true)
	for i := 1; i <= 3; i++ {
		w.increment(t)
		fast.until("the increment shows", func() bool { return fast.results[0] == fmt.Sprint(i) })
	}
	eventually(t, "the slow query runs", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.mu.running == 1
	})
	before := both.version
	both.barrier()
	both.mutate("s:increment", `{}`)
	if r := next[*protocol.MutationResponse](both); !r.Success {
		t.Errorf("answered %s", r.Append(nil))
	}
	fast.until("it shows elsewhere", func() bool { return fast.results[0] == "4" })
	both.barrier()
	if both.version != before || both.results[0] != "0" {
		t.Errorf("while the slow query runs the connection went from %+v to %+v, %v", before, both.version, both.results)
	}
	w.hold(false)
	for both.results[0] != "4" {
		next[*protocol.Transition](both)
		if both.results[0] != both.results[1] {
			t.Fatalf("results of two moments: %v", both.results)
		}
	}
	// The slow query goes, and what waited for it is shown.
	w.hold(true)
	w.increment(t)
	fast.until("it shows elsewhere", func() bool { return fast.results[0] == "5" })
	both.barrier()
	if both.results[0] != "4" {
		t.Errorf("while the slow query runs: %v", both.results)
	}
	both.remove(1)
	both.until("the fast query shows", func() bool { return both.results[0] == "5" && both.version.QuerySet == both.querySet })
}

// The results of a Transition are of one moment, however long each query takes, while queries come and go.
func TestSlowAndFastQueriesNeverMix(t *testing.T) {
	w := newSpeedWorld(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w.dawdle = func() { // under the lock of w
		for range random.IntN(2000) {
			runtime.Gosched()
		}
	}
	const increments, slow = 150, 3
	clients := make([]*client, 3)
	for i := range clients {
		clients[i] = w.session(t, i)
		for q := range slow {
			clients[i].add(uint32(q), "s:slow", fmt.Sprintf(`{"which":%d}`, q))
		}
		clients[i].add(slow, "s:fast", `{}`)
	}
	var work sync.WaitGroup
	for _, c := range clients {
		work.Go(func() {
			next, rounds := uint32(slow+1), 0
			watched := []uint32{0, 1, 2}
			for c.results[slow] != fmt.Sprint(increments) {
				m, err := c.read()
				if err != nil {
					t.Error(err)
					return
				}
				if _, ok := m.(*protocol.Transition); !ok {
					continue
				}
				for id, result := range c.results {
					if c.results[slow] != "" && result != c.results[slow] {
						t.Errorf("at %+v query %d shows %s, and the fast one %s", c.version, id, result, c.results[slow])
						return
					}
				}
				if rounds++; rounds%10 == 0 { // the slow ones are replaced, one by one
					c.remove(watched[0])
					c.add(next, "s:slow", fmt.Sprintf(`{"which":%d}`, next))
					watched = append(watched[1:], next)
					next++
				}
			}
		})
	}
	for range increments {
		w.increment(t)
	}
	work.Wait()
	if n := w.BrokenRules(); n != 0 {
		t.Errorf("%d rules of the protocol were broken", n)
	}
}

// A round that was open when the client removed one query and added another is shown without both, at the version of before. The result
// of the removed one does not stay beside the newer ones of the others.
func TestRemovedQueryIsNotShownBesideNewerResults(t *testing.T) {
	w := newSpeedWorld(t)
	c := w.session(t, 0)
	c.add(0, "s:fast", `{}`)
	c.add(1, "s:slow", `{"which":1}`)
	c.until("both are shown", func() bool { return c.results[0] == "0" && c.results[1] == "0" })
	before := c.version.QuerySet

	w.hold(true)
	w.increment(t)
	eventually(t, "the slow query runs", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.mu.running == 1
	})
	c.remove(0)
	c.add(2, "s:slow", `{"which":2}`)
	c.barrier()
	w.hold(false)
	c.until("the increment shows", func() bool { return c.results[1] == "1" })
	if c.version.QuerySet == before { // or the new query was as quick
		if result, ok := c.results[0]; ok {
			t.Errorf("at %+v the removed query still shows %s", c.version, result)
		}
	}
	c.until("the new query shows", func() bool { return c.results[2] == "1" && c.version.QuerySet == c.querySet })
	if result, ok := c.results[0]; ok {
		t.Errorf("in the end the removed query shows %s", result)
	}
}
