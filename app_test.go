package halcyon_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// openApp opens an app of these modules in memory, closed at the end of the test.
func openApp(t *testing.T, opts halcyon.Options, modules ...*halcyon.Module) *halcyon.App {
	t.Helper()
	app, err := halcyon.NewApp(modules...)
	if err != nil {
		t.Fatal(err)
	}
	if opts.Engine.FS == nil {
		opts.Engine.FS = vfs.NewMem()
	}
	if opts.Engine.FunctionTimeMax == 0 {
		opts.Engine.FunctionTimeMax = time.Minute // a busy machine is not what is tested
	}
	if err := app.Open("data", &opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return app
}

// logBuffer is a bytes.Buffer for several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// take returns what was logged and forgets it.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.b.Reset()
	return l.b.String()
}

func parse(t *testing.T, text string) value.Value {
	t.Helper()
	v, err := value.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func toJSON(v value.Value) string { return string(value.AppendJSON(nil, v)) }

// Counter is a document of the table counters.
type Counter struct {
	ID   halcyon.ID[Counter] `halcyon:"id"`
	Name string
	N    int
}

type nameArgs struct{ Name string }

func counterModule() (*halcyon.Module, *halcyon.Table[Counter]) {
	counters := halcyon.NewTable[Counter]("counters").Index("by_name", "name")
	m := halcyon.NewModule("counters", counters)
	m.Mutation("add", func(tx *halcyon.Tx, args nameArgs) (int, error) {
		c, ok, err := counters.By("by_name").Eq(args.Name).Unique(tx)
		if err != nil {
			return 0, err
		}
		tx.Log("was", c.N)
		if !ok {
			_, err := counters.Insert(tx, Counter{Name: args.Name, N: 1})
			return 1, err
		}
		return c.N + 1, counters.Patch(tx, c.ID, halcyon.Fields{"n": c.N + 1})
	})
	m.Query("get", func(tx *halcyon.Tx, args nameArgs) (int, error) {
		c, _, err := counters.By("by_name").Eq(args.Name).First(tx)
		return c.N, err
	})
	m.Internal.Mutation("reset", func(tx *halcyon.Tx) error {
		for c, err := range counters.All().Each(tx) {
			if err != nil {
				return err
			}
			if err := counters.Delete(tx, c.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return m, counters
}

func TestHotCounterNeverFails(t *testing.T) {
	m, _ := counterModule()
	app := openApp(t, halcyon.Options{}, m)
	const clients, each = 16, 25
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				if err := app.Run(t.Context(), "counters:add", nameArgs{"hot"}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	var n int
	if err := app.Run(t.Context(), "counters:get", nameArgs{"hot"}, &n); err != nil || n != clients*each {
		t.Errorf("counter is %d, %v; want %d", n, err, clients*each)
	}
}

func TestExactlyOnce(t *testing.T) {
	m, _ := counterModule()
	app := openApp(t, halcyon.Options{}, m)
	req := halcyon.Request{Path: "counters:add", Args: parse(t, `{"name":"a"}`), Client: engine.ClientID{1}, RequestID: 7, Once: true}
	outcomes := make([]halcyon.Outcome, 8)
	var wg sync.WaitGroup
	for i := range outcomes {
		wg.Go(func() {
			var err error
			if outcomes[i], err = app.Mutation(t.Context(), req); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	first := 0
	for _, out := range outcomes {
		if !out.Replayed {
			first++
		}
		if toJSON(out.Value) != "1" || out.At != outcomes[0].At || !cmp.Equal(out.Logs, []string{"[LOG] 'was' 0"}) || out.Failure != nil {
			t.Errorf("outcome %s at %d, logs %q, failure %v; want 1 at %d with its log", toJSON(out.Value), out.At, out.Logs, out.Failure, outcomes[0].At)
		}
	}
	if first != 1 {
		t.Errorf("%d of the outcomes were not replayed, want 1", first)
	}
	req.RequestID++
	if out, err := app.Mutation(t.Context(), req); err != nil || toJSON(out.Value) != "2" || out.Replayed {
		t.Errorf("the next request: %s, replayed %v, %v; want 2, run", toJSON(out.Value), out.Replayed, err)
	}
}

func TestOnCommitComesBeforeTheReturn(t *testing.T) {
	m, _ := counterModule()
	app := openApp(t, halcyon.Options{}, m)
	var early []halcyon.Outcome
	req := halcyon.Request{
		Path: "counters:add", Args: parse(t, `{"name":"a"}`), Client: engine.ClientID{1}, Once: true,
		OnCommit: func(out halcyon.Outcome) { early = append(early, out) },
	}
	out, err := app.Mutation(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if len(early) != 1 || early[0].At != out.At || toJSON(early[0].Value) != "1" {
		t.Errorf("OnCommit got %+v; want the outcome %+v once", early, out)
	}
	if _, err := app.Mutation(t.Context(), req); err != nil || len(early) != 1 {
		t.Errorf("a replay: %v, OnCommit called %d times; want once in all", err, len(early))
	}
}

func TestInternalFunctionsAreOutOfReach(t *testing.T) {
	m, _ := counterModule()
	app := openApp(t, halcyon.Options{}, m)
	out, err := app.Mutation(t.Context(), halcyon.Request{Path: "counters:reset"})
	if err != nil || out.Failure == nil || out.Failure.Message != "Could not find public function for 'counters:reset'." {
		t.Errorf("a client calls an internal function: %+v, %v", out, err)
	}
	out, err = app.Mutation(t.Context(), halcyon.Request{Path: "counters:reset", Admin: true})
	if err != nil || out.Failure != nil || !out.Value.IsNull() {
		t.Errorf("an admin calls it: %+v, %v; want null", out, err)
	}
	if kind, ok := app.Kind("counters.js:reset"); !ok || kind != halcyon.KindMutation {
		t.Errorf("Kind = %v, %v; want a mutation", kind, ok)
	}
	if _, ok := app.Kind("counters:nothing"); ok {
		t.Error("Kind of an unknown function is known")
	}
}

func TestCallsThatDoNotRun(t *testing.T) {
	m, _ := counterModule()
	m.Query("default", func(*halcyon.Tx) (string, error) { return "d", nil })
	app := openApp(t, halcyon.Options{}, m)
	tests := []struct {
		name, path, args string
		mutation         bool
		want             string // of the failure; a value in JSON if it begins with "; a code if it ends with !
	}{
		{"javascript path", "counters.js:get", `{"name":"x"}`, false, ""},
		{"default", "counters", `{}`, false, ""},
		{"unknown", "counters:x", `{}`, false, "Could not find public function for 'counters:x'."},
		{"unknown module", "x", `{}`, false, "Could not find public function for 'x:default'."},
		{"kind", "counters:add", `{}`, false, "Trying to execute counters:add as Query, but it is defined as Mutation."},
		{"other kind", "counters:get", `{}`, true, "Trying to execute counters:get as Mutation, but it is defined as Query."},
		{"arguments", "counters:get", `{"name":1}`, false, "ArgumentValidationError: Value does not match validator.\nPath: .name\nValue: 1.0\nValidator: v.string()"},
		{"argument of one that takes none", "counters", `{"a":1}`, false, "ArgumentValidationError: Object contains extra field `a` that is not in the validator.\n\nObject: {a: 1.0}\nValidator: v.object({})"},
		{"no path", "", `{}`, false, "BadConvexFunctionIdentifier!"},
		{"no function", "counters:", `{}`, false, "BadConvexFunctionIdentifier!"},
		{"two colons", "a:b:c", `{}`, false, "BadConvexFunctionIdentifier!"},
		{"spaces", "a b:c", `{}`, false, "BadConvexFunctionIdentifier!"},
		{"long", strings.Repeat("a", 5000) + ":c", `{}`, false, "BadConvexFunctionIdentifier!"},
		{"arguments in an array", "counters:get", `[{"name":"x"}]`, false, "BadArguments!"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			call := app.Query
			if tt.mutation {
				call = app.Mutation
			}
			out, err := call(t.Context(), halcyon.Request{Path: tt.path, Args: parse(t, tt.args)})
			got := ""
			var refused *halcyon.RequestError
			switch {
			case errors.As(err, &refused):
				got = string(refused.Code) + "!"
				if refused.Status != http.StatusBadRequest {
					t.Errorf("status %d", refused.Status)
				}
			case err != nil:
				t.Fatal(err)
			case out.Failure != nil:
				got = out.Failure.Message
				if !out.Failure.Data.IsUndefined() || out.At == 0 {
					t.Errorf("the failure has data %s and timestamp %d; want none and one", toJSON(out.Failure.Data), out.At)
				}
			}
			if got != tt.want {
				t.Errorf("call %s(%s)\n got %s\nwant %s", tt.path, tt.args, got, tt.want)
			}
		})
	}
}

// failingModule has functions that fail; slow needs a clock to make time pass.
func failingModule(clock *fakeClock) *halcyon.Module {
	m := halcyon.NewModule("bad")
	m.Query("told", func(tx *halcyon.Tx) error {
		tx.Warn("careful")
		return fmt.Errorf("wrapped: %w", &halcyon.Error{Code: "Full", Message: "No room.", Data: map[string]int{"max": 3}})
	})
	m.Query("untold", func(tx *halcyon.Tx) error { tx.Log("seen"); return errors.New("secret") })
	m.Query("panics", func(*halcyon.Tx) (string, error) { var s []string; return s[3], nil })
	m.Query("throws", func(*halcyon.Tx) error { panic(&halcyon.Error{Code: "Thrown", Message: "secret"}) })
	m.Query("unsayable", func(*halcyon.Tx) error { return &halcyon.Error{Code: "X", Data: make(chan int)} })
	m.Query("slow", func(tx *halcyon.Tx) error {
		clock.set(clock.Now().Add(2 * time.Minute))
		_, _, err := Tasks.All().First(tx)
		return fmt.Errorf("look for a task: %w", err)
	})
	m.Query("big", func(*halcyon.Tx) ([]byte, error) { return make([]byte, 16<<20), nil })
	return m
}

var requestID = regexp.MustCompile(`^\[Request ID: ([0-9a-f]{16})\] Server Error`)

func TestFailures(t *testing.T) {
	var log logBuffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	clock := newFakeClock(t0)
	app := openApp(t, halcyon.Options{Logger: logger, Engine: engine.Options{Clock: clock}}, failingModule(clock), tasksModule())
	tests := []struct {
		name, path string
		message    string // after "[Request ID: ...] Server Error", if it begins with a line break or is empty
		data       string // JSON; empty: not a ConvexError
		code       halcyon.Code
		logs       []string
		logged     string
	}{
		{
			"told", "bad:told", "\nUncaught ConvexError: {\"code\":\"Full\",\"data\":{\"max\":3},\"message\":\"No room.\"}",
			`{"code":"Full","data":{"max":3},"message":"No room."}`, "", []string{"[WARN] 'careful'"}, "",
		},
		{"untold", "bad:untold", "", "", "", []string{"[LOG] 'seen'"}, "error=secret"},
		{"panic", "bad:panics", "", "", "", nil, "app_test.go"},
		{"thrown error", "bad:throws", "", "", "", nil, "panic: Thrown: secret"},
		{"error that has no value", "bad:unsayable", "", "", "", nil, "has no Convex value"},
		{
			"timeout", "bad:slow", "Timeout: The function ran longer than functions may and was stopped. It changed nothing.",
			`{"code":"Timeout","isConvexSystemError":true,"message":"The function ran longer than functions may and was stopped. It changed nothing.","retry":true}`,
			halcyon.CodeTimeout, nil, "code=Timeout",
		},
		{
			"limit", "bad:big", "LimitExceeded: result of bad:big in bytes is 16777218, the most is 16777216",
			`{"code":"LimitExceeded","isConvexSystemError":true,"message":"result of bad:big in bytes is 16777218, the most is 16777216","retry":false}`,
			halcyon.CodeLimitExceeded, nil, "code=LimitExceeded",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := app.Query(t.Context(), halcyon.Request{Path: tt.path})
			logged := log.take()
			if err != nil || out.Failure == nil {
				t.Fatalf("outcome %+v, %v; want a failure", out, err)
			}
			message, data := out.Failure.Message, ""
			if m := requestID.FindStringSubmatch(message); m != nil {
				message = message[len(m[0]):]
				if tt.logged != "" && !strings.Contains(logged, "request_id="+m[1]) {
					t.Errorf("the log does not name request %s: %s", m[1], logged)
				}
			}
			if !out.Failure.Data.IsUndefined() {
				data = toJSON(out.Failure.Data)
			}
			if message != tt.message || data != tt.data || out.Failure.Code != tt.code {
				t.Errorf("failure\n got %q, data %s, code %q\nwant %q, data %s, code %q", message, data, out.Failure.Code, tt.message, tt.data, tt.code)
			}
			if !cmp.Equal(out.Logs, tt.logs) {
				t.Errorf("logs %q, want %q", out.Logs, tt.logs)
			}
			if !strings.Contains(logged, tt.logged) || tt.logged == "" && logged != "" {
				t.Errorf("operator's log %q, want %q in it", logged, tt.logged)
			}
		})
	}
}

func TestOverloadIsAnErrorOfTheRequest(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	m := halcyon.NewModule("m")
	m.Query("wait", func(*halcyon.Tx) error { running <- struct{}{}; <-release; return nil })
	clock := newFakeClock(t0) // so that waiting is no timeout
	app := openApp(t, halcyon.Options{Engine: engine.Options{Clock: clock, RunningMax: 1, WaitingMax: 1}}, m)
	results := make(chan error)
	call := func() {
		out, err := app.Query(t.Context(), halcyon.Request{Path: "m:wait"})
		if out.Failure != nil {
			err = out.Failure
		}
		results <- err
	}
	go call()
	<-running
	go call() // one of these waits, and the other is refused
	go call()
	err := <-results
	var refused *halcyon.RequestError
	if !errors.As(err, &refused) || refused.Code != halcyon.CodeOverloaded || refused.Status != http.StatusServiceUnavailable || !errors.Is(err, engine.ErrOverloaded) {
		t.Errorf("the third call: %v; want %s", err, halcyon.CodeOverloaded)
	}
	close(release)
	<-running
	for range 2 {
		if err := <-results; err != nil {
			t.Errorf("a call that was admitted: %v", err)
		}
	}
}

func TestShowErrors(t *testing.T) {
	app := openApp(t, halcyon.Options{ShowErrors: true}, failingModule(nil), tasksModule())
	out, err := app.Query(t.Context(), halcyon.Request{Path: "bad:untold"})
	if err != nil || !strings.HasSuffix(out.Failure.Message, "] Server Error\nUncaught Error: secret") {
		t.Errorf("failure %q, %v; want the error's text", out.Failure.Message, err)
	}
}

func TestFailedMutationLeavesNothing(t *testing.T) {
	m, counters := counterModule()
	m.Mutation("addThenFail", func(tx *halcyon.Tx) error {
		if _, err := counters.Insert(tx, Counter{Name: "ghost", N: 1}); err != nil {
			return err
		}
		panic("after the write")
	})
	app := openApp(t, halcyon.Options{}, m)
	out, err := app.Mutation(t.Context(), halcyon.Request{Path: "counters:addThenFail", Client: engine.ClientID{1}, Once: true})
	if err != nil || out.Failure == nil {
		t.Fatalf("outcome %+v, %v; want a failure", out, err)
	}
	var n int
	if err := app.Run(t.Context(), "counters:get", nameArgs{"ghost"}, &n); err != nil || n != 0 {
		t.Errorf("counter of a failed mutation is %d, %v; want none", n, err)
	}
}

func TestArgumentsAreFreshInEachExecution(t *testing.T) {
	type args struct{ List []int }
	counters := halcyon.NewTable[Counter]("counters")
	m := halcyon.NewModule("m", counters)
	m.Mutation("sum", func(tx *halcyon.Tx, a args) (int, error) {
		docs, err := counters.All().Collect(tx) // conflicts with every other call
		if err != nil {
			return 0, err
		}
		a.List[0]++ // must not be seen by the next execution
		_, err = counters.Insert(tx, Counter{N: len(docs)})
		return a.List[0], err
	})
	app := openApp(t, halcyon.Options{}, m)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			var got int
			if err := app.Run(t.Context(), "m:sum", args{[]int{1}}, &got); err != nil || got != 2 {
				t.Errorf("sum = %d, %v; want 2", got, err)
			}
		})
	}
	wg.Wait()
}

func TestLifecycle(t *testing.T) {
	m, _ := counterModule()
	app, err := halcyon.NewApp(m)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	check := func(when string) {
		t.Helper()
		_, err := app.Query(ctx, halcyon.Request{Path: "counters:get", Args: parse(t, `{"name":"x"}`)})
		var refused *halcyon.RequestError
		if !errors.As(err, &refused) || refused.Code != halcyon.CodeUnavailable || !refused.Code.Retry() || !errors.Is(err, halcyon.ErrNotOpen) {
			t.Errorf("%s: %v; want %s", when, err, halcyon.CodeUnavailable)
		}
		if err := app.Start(ctx); !errors.Is(err, halcyon.ErrNotOpen) {
			t.Errorf("%s: Start: %v", when, err)
		}
		if _, ok := app.NewQuerySet(func(halcyon.Outcome) []byte { return nil }, func() {}).Poll(0); ok {
			t.Errorf("%s: a query set has a round", when)
		}
	}
	check("before Open")
	fs := vfs.NewMem()
	for i := range 2 {
		if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: fs}}); err != nil {
			t.Fatal(err)
		}
		if err := app.Open("data", nil); err == nil {
			t.Error("a second Open: no error")
		}
		if err := app.Start(ctx); err != nil {
			t.Error(err)
		}
		if err := app.Start(ctx); err == nil {
			t.Error("a second Start: no error")
		}
		var n int
		if err := app.Run(ctx, "counters:add", nameArgs{"x"}, &n); err != nil || n != i+1 {
			t.Errorf("open %d: counter %d, %v", i, n, err)
		}
		if app.Durable() == 0 {
			t.Error("Durable is 0 while open")
		}
		if err := errors.Join(app.Close(), app.Close()); err != nil {
			t.Error(err)
		}
	}
	check("after Close")
}
