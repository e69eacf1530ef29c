package engine_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// request is one operation on an object as a client sees it. What comes back is
// a text.
type request struct {
	object string // "register 0", "counter 1", "list 0"
	what   string // get, set, swap, add, push
	arg    int
	old    int // swap: only if this is there
}

// unknown is the answer that a crash has taken.
const unknown = "unknown"

// object is the state of one, and what a database of nothing else would do.
type object struct {
	n    int
	list string
}

func (o object) apply(r request) (object, string) {
	switch r.what {
	case "get":
		if strings.HasPrefix(r.object, "list") {
			return o, o.list
		}
		return o, strconv.Itoa(o.n)
	case "set":
		o.n = r.arg
		return o, ""
	case "swap":
		if o.n != r.old {
			return o, "refused"
		}
		o.n = r.arg
		return o, "swapped"
	case "add":
		o.n += r.arg
		return o, strconv.Itoa(o.n)
	}
	o.list += fmt.Sprint(" ", r.arg)
	return o, strconv.Itoa(strings.Count(o.list, " "))
}

// objects is the model: each object by itself, since a history is linearizable
// exactly when it is so for each of them.
var objects = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, op := range history {
			name := op.Input.(request).object
			parts[name] = append(parts[name], op)
		}
		var out [][]porcupine.Operation
		for _, part := range parts {
			out = append(out, part)
		}
		return out
	},
	Init: func() any { return object{} },
	Step: func(state, input, output any) (bool, any) {
		next, want := state.(object).apply(input.(request))
		return output == want || output == unknown, next
	},
}

// perform executes a request in a transaction.
func perform(db *engine.DB, tx *engine.Tx, r request) (string, error) {
	counters := db.Table("counters")
	var o object
	var id value.ID
	for d, err := range tx.Scan(counters.Index("by_name"), eq(r.object), false) {
		if err != nil {
			return "", err
		}
		id = d.ID
		n, _ := d.Fields.Get("n").AsFloat64()
		list, _ := d.Fields.Get("list").AsString()
		o = object{int(n), list}
	}
	next, answer := o.apply(r)
	if next == o && r.what != "set" {
		return answer, nil
	}
	f := fields("name", r.object, "n", next.n, "list", next.list)
	if id.IsZero() {
		return answer, mustInsert(tx, counters, f)
	}
	return answer, tx.Replace(counters, id, f)
}

// world is a database that dies now and then, and what its clients have seen.
type world struct {
	mu struct {
		sync.RWMutex // held by a crash, and while an answer is noted
		fs           *enginetest.Crashable
		db           *engine.DB
		life         int
	}
	clock   atomic.Int64
	history struct {
		sync.Mutex
		ops []porcupine.Operation
	}
}

func (w *world) open(t *testing.T, fs *enginetest.Crashable) {
	w.mu.fs = fs
	w.mu.db = enginetest.OpenWith(t, schema, engine.Options{FS: fs})
	w.mu.life++
}

// crash ends the process at this moment: what it answers from here on reaches
// nobody. It ends for good when its calls have.
func (w *world) crash(t *testing.T, rng *rand.Rand) {
	w.mu.Lock()
	ghost := w.mu.db
	w.open(t, w.mu.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}))
	w.mu.Unlock()
	if err := ghost.Close(); err != nil {
		t.Error(err)
	}
}

// call has a client send one request until it knows the answer. One that is not
// sent again after a crash, since it might happen twice, is never answered.
func (w *world) call(who int, number uint32, r request, once, query bool) error {
	begin := w.clock.Add(1)
	note := func(answer string, end int64) {
		w.history.Lock()
		defer w.history.Unlock()
		w.history.ops = append(w.history.ops, porcupine.Operation{ClientId: who, Input: r, Call: begin, Output: answer, Return: end})
	}
	for {
		w.mu.RLock()
		db, life := w.mu.db, w.mu.life
		w.mu.RUnlock()
		var answer string
		var err error
		if query {
			_, err = db.Query(context.Background(), "test", func(tx *engine.Tx) (err error) {
				answer, err = perform(db, tx, r)
				return err
			})
		} else {
			var receipt engine.Receipt
			c := engine.Call{Name: r.what, Once: once, Client: client(who), Request: number, Relaxed: number%3 == 0}
			receipt, err = db.Mutate(context.Background(), c, func(tx *engine.Tx) ([]byte, error) {
				answer, err := perform(db, tx, r)
				return []byte(answer), err
			})
			answer = string(receipt.Result)
		}
		w.mu.RLock()
		if w.mu.life == life && err == nil {
			note(answer, w.clock.Add(1))
		}
		again := w.mu.life != life
		w.mu.RUnlock()
		switch {
		case !again:
			return err
		case !once && !query && r.what != "get":
			note(unknown, 1<<62)
			return nil
		}
	}
}

// draw returns a random request.
func draw(rng *rand.Rand) request {
	i := rng.IntN(2)
	n := 1 + rng.IntN(3)
	switch rng.IntN(7) {
	case 0:
		return request{object: fmt.Sprint("register ", i), what: "get"}
	case 1:
		return request{object: fmt.Sprint("register ", i), what: "set", arg: n}
	case 2:
		return request{object: fmt.Sprint("register ", i), what: "swap", arg: n, old: rng.IntN(4)}
	case 3:
		return request{object: fmt.Sprint("counter ", i), what: "add", arg: n}
	case 4:
		return request{object: fmt.Sprint("counter ", i), what: "get"}
	case 5:
		return request{object: fmt.Sprint("list ", i), what: "push", arg: n}
	}
	return request{object: fmt.Sprint("list ", i), what: "get"}
}

// TestLinearizable looks at a database from the outside: many clients use
// registers, counters and lists at the same time, and the process dies between.
// There is an order of all requests, each between its call and its answer, in
// which the answers are those of one plain object.
func TestLinearizable(t *testing.T) {
	seed := newSeed(t)
	for round := range times(2) {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		w := &world{}
		w.open(t, enginetest.NewCrashable())
		const clients, each, crashes = 8, 150, 3
		var wg sync.WaitGroup
		var done atomic.Int64
		for who := range clients {
			own := rand.New(rand.NewPCG(rng.Uint64(), 7))
			wg.Go(func() {
				for number := range uint32(each) {
					r := draw(own)
					query := r.what == "get" && own.IntN(2) == 0
					if err := w.call(who, number, r, own.IntN(3) > 0, query); err != nil {
						t.Errorf("client %d, %+v: %v", who, r, err)
					}
					done.Add(1)
				}
			})
		}
		for i := range int64(crashes) {
			for done.Load() < (i+1)*clients*each/(crashes+1) && !t.Failed() {
				runtime.Gosched()
			}
			w.crash(t, rng)
		}
		wg.Wait()
		verify(t, w.mu.db)
		if err := w.mu.db.Close(); err != nil {
			t.Error(err)
		}
		history := w.history.ops
		lost := 0
		for _, op := range history {
			if op.Output == unknown {
				lost++
			}
		}
		t.Logf("%d requests, %d of them never answered", len(history), lost)
		if len(history) != clients*each {
			t.Errorf("%d requests were noted, want %d", len(history), clients*each)
		}
		checkLinearizable(t, history)
		if t.Failed() {
			return
		}
		// The checker sees one answer that is wrong.
		i := slices.IndexFunc(history, func(op porcupine.Operation) bool {
			return op.Input.(request).what == "add" && op.Output != unknown
		})
		history[i].Output = history[i].Output.(string) + "0"
		if got := porcupine.CheckOperationsTimeout(objects, history, time.Minute); got != porcupine.Illegal {
			t.Errorf("a history with a wrong answer is found %s", got)
		}
	}
}

// checkLinearizable fails with the history of the first object that is not.
func checkLinearizable(t *testing.T, history []porcupine.Operation) {
	t.Helper()
	for _, part := range objects.Partition(history) {
		got := porcupine.CheckOperationsTimeout(objects, part, time.Minute)
		if got == porcupine.Ok {
			continue
		}
		slices.SortFunc(part, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
		var out strings.Builder
		for _, op := range part {
			fmt.Fprintf(&out, "%d-%d client %d: %+v gives %q\n", op.Call, op.Return, op.ClientId, op.Input, op.Output)
		}
		t.Fatalf("the history of one object is found %s:\n%s", got, out.String())
	}
}
