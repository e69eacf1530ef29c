package halcyon_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

type (
	jobID    = halcyon.ID[halcyon.ScheduledFunction]
	jobState = halcyon.ScheduledState
	jobArgs  struct{ ID jobID }
	soonArgs struct {
		Path, Name string
		Ms         float64
	}
)

// scheduleWorld is an app whose functions schedule others, on a clock that the test moves.
type scheduleWorld struct {
	t       *testing.T
	fs      vfs.FS
	clock   *fakeClock
	log     logBuffer
	app     *halcyon.App
	module  func(m *halcyon.Module, counters *halcyon.Table[Counter]) // adds functions
	options func(*halcyon.Options)
}

func newScheduleWorld(t *testing.T, fs vfs.FS) *scheduleWorld {
	w := &scheduleWorld{t: t, fs: fs, clock: newFakeClock(t0)}
	t.Cleanup(w.close)
	return w
}

func (w *scheduleWorld) open() {
	w.t.Helper()
	m, counters := counterModule()
	m.Mutation("soon", func(tx *halcyon.Tx, args soonArgs) (jobID, error) {
		return tx.RunAfter(time.Duration(args.Ms)*time.Millisecond, args.Path, nameArgs{args.Name})
	})
	m.Action("soonByAction", func(c *halcyon.Ctx, args soonArgs) (jobID, error) {
		return c.RunAt(c.Now().Add(time.Duration(args.Ms)*time.Millisecond), args.Path, nameArgs{args.Name})
	})
	m.Mutation("cancel", func(tx *halcyon.Tx, args jobArgs) error { return tx.Cancel(args.ID) })
	m.Query("job", func(tx *halcyon.Tx, args jobArgs) (*halcyon.ScheduledFunction, error) {
		f, ok, err := halcyon.ScheduledFunctions.Get(tx, args.ID)
		if !ok {
			return nil, err
		}
		return &f, err
	})
	m.Query("jobs", func(tx *halcyon.Tx) ([]string, error) {
		all, err := halcyon.ScheduledFunctions.All().Collect(tx)
		states := []string{}
		for _, f := range all {
			states = append(states, f.Name+" "+string(f.State.Kind))
		}
		return states, err
	})
	m.Query("sum", func(tx *halcyon.Tx) ([]int, error) {
		sum, n := 0, 0
		for c, err := range counters.All().Each(tx) {
			if err != nil {
				return nil, err
			}
			sum, n = sum+c.N, n+1
		}
		return []int{sum, n}, nil
	})
	m.Internal.Mutation("fail", func(tx *halcyon.Tx, args nameArgs) error {
		_, err := counters.Insert(tx, Counter{Name: args.Name})
		return errors.Join(err, &halcyon.Error{Code: "NoLuck", Message: "today"})
	})
	if w.module != nil {
		w.module(m, counters)
	}
	var err error
	if w.app, err = halcyon.NewApp(m); err != nil {
		w.t.Fatal(err)
	}
	opts := halcyon.Options{Engine: engine.Options{FS: w.fs, Clock: w.clock}, Logger: slog.New(slog.NewTextHandler(&w.log, nil)), ActionGrace: time.Millisecond}
	if w.options != nil {
		w.options(&opts)
	}
	if err := errors.Join(w.app.Open("data", &opts), w.app.Start(w.t.Context())); err != nil {
		w.t.Fatal(err)
	}
	w.swept()
}

// swept returns when the sweep waits for its next turn, so that moving the clock takes no time from it.
func (w *scheduleWorld) swept() { w.clock.awaitTimer(w.clock.Now().Add(time.Hour)) }

func (w *scheduleWorld) close() {
	if w.app != nil {
		if err := w.app.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

// schedule calls soon or soonByAction.
func (w *scheduleWorld) schedule(by, path, name string, after time.Duration) jobID {
	w.t.Helper()
	var id jobID
	if err := w.app.Run(w.t.Context(), "counters:"+by, soonArgs{path, name, float64(after.Milliseconds())}, &id); err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *scheduleWorld) cancel(id jobID) {
	w.t.Helper()
	if err := w.app.Run(w.t.Context(), "counters:cancel", jobArgs{id}, nil); err != nil {
		w.t.Fatal(err)
	}
}

// eventually asks until the answer is yes. It does not wait for a live query, whose pace goes by the clock that stands still.
func (w *scheduleWorld) eventually(what string, ask func() bool) {
	w.t.Helper()
	for begin := time.Now(); !ask(); runtime.Gosched() {
		if time.Since(begin) > 2*time.Minute {
			w.t.Fatalf("waited two minutes for %s; log:\n%s", what, w.log.String())
		}
	}
}

// await returns a job when it is in a state.
func (w *scheduleWorld) await(id jobID, kind halcyon.ScheduledKind) (f halcyon.ScheduledFunction) {
	w.t.Helper()
	w.eventually(string(id)+" to be "+string(kind), func() bool { f = w.job(id); return f.State.Kind == kind })
	return f
}

// states returns names and states of all jobs, in the order in which they were scheduled.
func (w *scheduleWorld) states() (states []string) {
	w.t.Helper()
	if err := w.app.Run(w.t.Context(), "counters:jobs", nil, &states); err != nil {
		w.t.Fatal(err)
	}
	return states
}

func (w *scheduleWorld) awaitNone(kind halcyon.ScheduledKind) {
	w.t.Helper()
	w.eventually("no job to be "+string(kind), func() bool { return !strings.Contains(fmt.Sprint(w.states()), string(kind)) })
}

func (w *scheduleWorld) job(id jobID) halcyon.ScheduledFunction {
	w.t.Helper()
	var f *halcyon.ScheduledFunction
	if err := w.app.Run(w.t.Context(), "counters:job", jobArgs{id}, &f); err != nil || f == nil {
		w.t.Fatalf("job %s: %v, %v", id, f, err)
	}
	return *f
}

func (w *scheduleWorld) count(name string) (n int) {
	w.t.Helper()
	if err := w.app.Run(w.t.Context(), "counters:get", nameArgs{name}, &n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *scheduleWorld) wantCount(name string, want int) {
	w.t.Helper()
	if n := w.count(name); n != want {
		w.t.Errorf("%s happened %d times, want %d", name, n, want)
	}
}

func TestScheduledMutation(t *testing.T) {
	for _, by := range []string{"soon", "soonByAction"} {
		t.Run(by, func(t *testing.T) {
			w := newScheduleWorld(t, vfs.NewMem())
			w.open()
			id := w.schedule(by, "add", "a", time.Minute)
			f := w.job(id)
			if f.ID != id || f.Name != "counters.js:add" || len(f.Args) != 1 || toJSON(f.Args[0]) != `{"name":"a"}` ||
				!f.ScheduledTime.Equal(after(1)) || !f.CompletedTime.IsZero() || f.State != (jobState{Kind: halcyon.ScheduledPending}) {
				t.Errorf("before its time: %+v", f)
			}
			w.clock.awaitTimer(after(1))
			w.wantCount("a", 0)
			w.clock.set(after(1))
			f = w.await(id, halcyon.ScheduledSuccess)
			if !f.ScheduledTime.Equal(after(1)) || !f.CompletedTime.Equal(after(1)) || f.State.Error != "" {
				t.Errorf("after its time: %+v", f)
			}
			w.wantCount("a", 1)
			w.cancel(id) // too late
			if f = w.job(id); f.State.Kind != halcyon.ScheduledSuccess {
				t.Errorf("canceled after it has ended: %+v", f)
			}
		})
	}
}

func TestSchedulingIsPartOfTheTransaction(t *testing.T) {
	w := newScheduleWorld(t, vfs.NewMem())
	w.module = func(m *halcyon.Module, _ *halcyon.Table[Counter]) {
		m.Mutation("undone", func(tx *halcyon.Tx) error {
			_, err := tx.RunAfter(0, "add", nameArgs{"undone"})
			return errors.Join(err, errors.New("no"))
		})
		m.Mutation("partly", func(tx *halcyon.Tx) (jobID, error) {
			_ = tx.Nested(func() error {
				_, err := tx.RunAfter(0, "add", nameArgs{"undone"})
				return errors.Join(err, errors.New("no"))
			})
			_ = tx.RunMutation("undone", nil, nil)
			return tx.RunAfter(0, "add", nameArgs{"done"})
		})
	}
	w.open()
	if err := w.app.Run(t.Context(), "counters:undone", nil, nil); err == nil {
		t.Error("undone succeeded")
	}
	var id jobID
	if err := w.app.Run(t.Context(), "counters:partly", nil, &id); err != nil {
		t.Fatal(err)
	}
	w.await(id, halcyon.ScheduledSuccess)
	if diff := cmp.Diff([]string{"counters.js:add success"}, w.states()); diff != "" {
		t.Errorf("scheduled (-want +got):\n%s", diff)
	}
	w.wantCount("undone", 0)
	w.wantCount("done", 1)
}

func TestScheduleMistakes(t *testing.T) {
	w := newScheduleWorld(t, vfs.NewMem())
	w.module = func(m *halcyon.Module, _ *halcyon.Table[Counter]) {
		m.Query("inQuery", func(tx *halcyon.Tx) (jobID, error) { return tx.RunAfter(0, "add", nameArgs{"a"}) })
		m.Mutation("far", func(tx *halcyon.Tx) (jobID, error) {
			return tx.RunAt(tx.Now().AddDate(6, 0, 0), "add", nameArgs{"a"})
		})
		m.Mutation("many", func(tx *halcyon.Tx, args struct{ N int }) error {
			for range args.N {
				if _, err := tx.RunAfter(time.Hour, "add", nameArgs{"a"}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	w.options = func(o *halcyon.Options) { o.ShowErrors = true }
	w.open()
	tests := []struct {
		name, path string
		args       any
		want       string
	}{
		{"in a query", "inQuery", nil, "only mutations and actions schedule functions"},
		{"of a query", "soon", soonArgs{Path: "get"}, "it is a query"},
		{"of nothing", "soon", soonArgs{Path: "none"}, "Could not find public function for 'counters:none'"},
		{"no path", "soon", soonArgs{Path: "a b"}, "not a function path"},
		{"with wrong arguments", "soon", soonArgs{Path: "reset"}, "ArgumentValidationError: Object contains extra field `name`"},
		{"too far away", "far", nil, "more than 5 years away"},
		{"too large", "soon", soonArgs{Path: "add", Name: strings.Repeat("x", 1_000_000)}, "arguments of a scheduled function in bytes"},
		{"at the limit of a call", "many", struct{ N int }{1000}, ""},
		{"past the limit of a call", "many", struct{ N int }{1001}, "functions scheduled by one call"},
		{"cancel something else", "cancel", jobArgs{"x"}, "ArgumentValidationError"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			switch err := w.app.Run(t.Context(), "counters:"+tt.path, tt.args, nil); {
			case tt.want == "" && err != nil:
				t.Errorf("failed: %v", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestCanceledIsNotRun(t *testing.T) {
	w := newScheduleWorld(t, vfs.NewMem())
	w.open()
	first, second := w.schedule("soon", "add", "a", time.Minute), w.schedule("soon", "add", "b", time.Minute)
	w.cancel(first)
	w.cancel(first)
	w.clock.awaitTimer(after(1))
	w.clock.set(after(1))
	w.await(second, halcyon.ScheduledSuccess)
	if f := w.job(first); f.State.Kind != halcyon.ScheduledCanceled || !f.CompletedTime.Equal(t0) {
		t.Errorf("canceled: %+v", f)
	}
	w.wantCount("a", 0)
}

func TestScheduledMutationFails(t *testing.T) {
	w := newScheduleWorld(t, vfs.NewMem())
	w.open()
	f := w.await(w.schedule("soon", "fail", "a", 0), halcyon.ScheduledFailed)
	if !strings.Contains(f.State.Error, `Uncaught ConvexError: {"code":"NoLuck","message":"today"}`) || f.CompletedTime.IsZero() {
		t.Errorf("failed: %+v", f)
	}
	w.wantCount("a", 0)
}

// A mutation that times out again and again is tried until it does not, and takes effect once.
func TestScheduledMutationIsTriedAgain(t *testing.T) {
	w := newScheduleWorld(t, vfs.NewMem())
	var tries atomic.Int64
	const slow = 1500 * time.Millisecond // longer than a function may take, and not so long that the engine gives it up
	w.module = func(m *halcyon.Module, counters *halcyon.Table[Counter]) {
		m.Internal.Mutation("slow", func(tx *halcyon.Tx, args nameArgs) error {
			if tries.Add(1) <= 12 {
				w.clock.set(w.clock.Now().Add(slow)) // its time is over
			}
			_, err := counters.Insert(tx, Counter{Name: args.Name, N: 1})
			return err
		})
	}
	w.open()
	id := w.schedule("soon", "slow", "a", 0)
	wait := 100 * time.Millisecond
	for try := int64(1); try <= 12; try++ {
		due := t0.Add(time.Duration(try) * slow)
		for before := range try {
			if before > 0 {
				due = due.Add(min(100*time.Millisecond<<(before-1), time.Minute))
			}
		}
		w.clock.awaitTimer(due.Add(wait))
		if got := tries.Load(); got != try {
			t.Fatalf("%d tries when the next is due at %v, want %d", got, due.Add(wait), try)
		}
		if f := w.job(id); f.State.Kind != halcyon.ScheduledPending {
			t.Fatalf("after %d tries: %+v", try, f)
		}
		w.clock.set(due.Add(wait))
		wait = min(2*wait, time.Minute)
	}
	w.await(id, halcyon.ScheduledSuccess)
	w.wantCount("a", 1)
	if got := tries.Load(); got != 13 {
		t.Errorf("%d tries, want 13", got)
	}
}

// scheduledActions adds actions that tell how they go on. begun is told of each start, let ends those that are held.
func scheduledActions(m *halcyon.Module, begun chan string, let chan struct{}) {
	m.Internal.Action("act", func(c *halcyon.Ctx, args nameArgs) error {
		if err := c.RunMutation("add", args, nil); err != nil {
			return err
		}
		if args.Name == "bad" {
			return errors.New("it broke")
		}
		return nil
	})
	m.Internal.Action("held", func(c *halcyon.Ctx, args nameArgs) error {
		begun <- args.Name
		select {
		case <-let:
		case <-c.Done():
			return context.Cause(c)
		}
		_, direct := c.RunAfter(0, "add", nameArgs{"from the action"})
		return errors.Join(direct, c.RunMutation("soon", soonArgs{Path: "add", Name: "from its mutation"}, nil))
	})
}

func TestScheduledActions(t *testing.T) {
	w := newScheduleWorld(t, vfs.NewMem())
	begun, let := make(chan string, 10), make(chan struct{})
	w.module = func(m *halcyon.Module, _ *halcyon.Table[Counter]) { scheduledActions(m, begun, let) }
	w.open()
	w.await(w.schedule("soon", "act", "good", 0), halcyon.ScheduledSuccess)
	w.wantCount("good", 1)
	f := w.await(w.schedule("soonByAction", "act", "bad", 0), halcyon.ScheduledFailed)
	if !strings.Contains(f.State.Error, "Server Error") || strings.Contains(f.State.Error, "it broke") {
		t.Errorf("failed: %+v", f)
	}
	w.wantCount("bad", 1)

	id := w.schedule("soon", "held", "x", 0)
	<-begun
	if f := w.job(id); f.State.Kind != halcyon.ScheduledInProgress {
		t.Errorf("running: %+v", f)
	}
	let <- struct{}{}
	w.await(id, halcyon.ScheduledSuccess)

	// One that is canceled while it runs schedules nothing any more.
	id = w.schedule("soon", "held", "y", 0)
	<-begun
	w.cancel(id)
	let <- struct{}{}
	w.eventually("what a canceled action schedules to be canceled", func() bool { return strings.Count(fmt.Sprint(w.states()), "canceled") == 3 })
	w.awaitNone(halcyon.ScheduledPending) // what the first held action scheduled
	want := []string{
		"counters.js:act success", "counters.js:act failed", "counters.js:held success", "counters.js:add success", "counters.js:add success",
		"counters.js:held canceled", "counters.js:add canceled", "counters.js:add canceled",
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, slices.Sorted(slices.Values(w.states()))); diff != "" {
		t.Errorf("scheduled (-want +got):\n%s", diff)
	}
	w.wantCount("from the action", 1)
	w.wantCount("from its mutation", 1)
}

// An action that was running at a crash, or at the end of the program, has failed and is never started again.
func TestInterruptedActionIsNotRunAgain(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash=%v", crash), func(t *testing.T) {
			fs := enginetest.NewCrashable()
			w := newScheduleWorld(t, fs)
			begun := make(chan string, 10)
			w.module = func(m *halcyon.Module, _ *halcyon.Table[Counter]) { scheduledActions(m, begun, nil) }
			w.open()
			id := w.schedule("soon", "held", "x", 0)
			<-begun
			later := w.schedule("soon", "act", "later", 90*time.Minute)
			var crashed vfs.FS = fs
			if crash {
				crashed = fs.CrashClone(vfs.CrashCloneCfg{})
			}
			w.close()
			w.fs = crashed
			w.open()
			f := w.await(id, halcyon.ScheduledFailed)
			if f.State.Error != "interrupted" || f.CompletedTime.IsZero() {
				t.Errorf("after the restart: %+v", f)
			}
			w.clock.awaitTimer(after(90))
			w.clock.set(after(90))
			w.await(later, halcyon.ScheduledSuccess)
			if len(begun) != 0 {
				t.Error("it was started again")
			}
		})
	}
}

// A function that is not there any more has failed, and does not hold up the others.
func TestScheduledFunctionThatIsGone(t *testing.T) {
	w := newScheduleWorld(t, vfs.NewMem())
	w.module = func(m *halcyon.Module, _ *halcyon.Table[Counter]) {
		m.Internal.Mutation("old", func(*halcyon.Tx, nameArgs) error { return nil })
	}
	w.open()
	gone, other := w.schedule("soon", "old", "a", time.Minute), w.schedule("soon", "add", "b", time.Minute)
	w.close()
	w.module = nil
	w.clock.set(after(2))
	w.open()
	w.await(other, halcyon.ScheduledSuccess)
	if f := w.await(gone, halcyon.ScheduledFailed); !strings.Contains(f.State.Error, "Could not find public function for 'counters:old'.") {
		t.Errorf("ended with %+v", f)
	}
}

// Whenever the program dies, what was scheduled and acknowledged happens once, and so does what was not acknowledged and is there.
func TestScheduledMutationsHappenOnceAcrossCrashes(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	fs := enginetest.NewCrashable()
	w := newScheduleWorld(t, fs)
	w.open()
	acked := map[string]jobID{}
	for life := range 8 {
		var mu sync.Mutex
		var work sync.WaitGroup
		stop, some := make(chan struct{}), make(chan struct{}, 1)
		app := w.app
		for i := range 4 {
			work.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					default:
					}
					name := fmt.Sprintf("%d-%d-%d", life, i, n)
					var id jobID
					if err := app.Run(context.Background(), "counters:soon", soonArgs{"add", name, 0}, &id); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					acked[name] = id
					mu.Unlock()
					select {
					case some <- struct{}{}:
					default:
					}
				}
			})
		}
		for range 5 + random.IntN(40) {
			<-some
		}
		mu.Lock()
		known := make(map[string]jobID, len(acked))
		for name, id := range acked {
			known[name] = id
		}
		clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: random.IntN(101), RNG: random})
		mu.Unlock()
		close(stop)
		work.Wait()
		w.close()
		acked = known // what came after the crash is not there, or was not told
		fs = clone
		w.fs = fs
		w.open()
	}
	for name, id := range acked {
		w.await(id, halcyon.ScheduledSuccess)
		w.wantCount(name, 1)
	}
	if len(acked) < 40 {
		t.Errorf("only %d were scheduled", len(acked))
	}
	// Those that nobody was told of are there once too, or not at all: every success has its effect, and every effect its success.
	w.awaitNone(halcyon.ScheduledPending)
	states := w.states()
	out, err := w.app.Query(t.Context(), halcyon.Request{Path: "counters:sum"})
	if err != nil {
		t.Fatal(err)
	}
	if got := toJSON(out.Value); got != fmt.Sprintf("[%d,%d]", len(states), len(states)) {
		t.Errorf("[effects, counters] are %s after %d successes", got, len(states))
	}
}

// What has ended is removed after 7 days, and not before.
func TestEndedFunctionsAreKeptForAWeek(t *testing.T) {
	w := newScheduleWorld(t, vfs.NewMem())
	w.open()
	old := w.schedule("soon", "add", "a", 0)
	w.await(old, halcyon.ScheduledSuccess)
	waiting := w.schedule("soon", "add", "b", 30*24*time.Hour)
	day := func(n int) time.Time { return t0.Add(time.Duration(n) * 24 * time.Hour) }
	w.clock.set(day(6))
	w.swept()
	w.job(w.await(w.schedule("soon", "add", "a", 0), halcyon.ScheduledSuccess).ID)
	w.job(old)
	w.clock.set(day(7).Add(2 * time.Hour))
	w.eventually("the old one to be removed", func() bool {
		return cmp.Equal(w.states(), []string{"counters.js:add pending", "counters.js:add success"})
	})
	w.cancel(old) // is not there any more, and so has ended
	w.job(waiting)
}
