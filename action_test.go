package halcyon_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// actionModule has actions over the functions of counterModule.
func actionModule(hold chan struct{}, entered chan<- *halcyon.Ctx) *halcyon.Module {
	m, _ := counterModule()
	m.Internal.Mutation("refuse", func(tx *halcyon.Tx, args nameArgs) error {
		return &halcyon.Error{Code: "NoLuck", Message: "not " + args.Name, Data: map[string]any{"name": args.Name}}
	})
	m.Internal.Mutation("break", func(tx *halcyon.Tx) error { return errors.New("a detail for the operator") })
	m.Action("twice", func(c *halcyon.Ctx, args nameArgs) (int, error) {
		c.Log("twice", args.Name)
		for range 2 {
			if err := c.RunMutation("add", args, nil); err != nil {
				return 0, err
			}
		}
		var n int
		err := c.RunQuery("counters:get", args, &n) // sees what was written
		return n, err
	})
	m.Action("half", func(c *halcyon.Ctx, args nameArgs) error {
		if err := c.RunMutation("add", args, nil); err != nil {
			return err
		}
		return errors.New("and then it broke")
	})
	m.Action("passOn", func(c *halcyon.Ctx, args nameArgs) error { return c.RunMutation("refuse", args, nil) })
	m.Action("handle", func(c *halcyon.Ctx, args nameArgs) (string, error) {
		err := c.RunMutation("refuse", args, nil)
		told, ok := errors.AsType[*halcyon.Error](err)
		if !ok {
			return "", errors.New("no Error in the failure")
		}
		if err := c.RunMutation("break", nil, nil); err == nil || strings.Contains(err.Error(), "detail") {
			return "", errors.New("the failure has no detail for clients")
		}
		return told.Code + " " + told.Message, nil
	})
	m.Action("deep", func(c *halcyon.Ctx, args struct{ Left int }) (int, error) {
		if args.Left == 0 {
			return 0, nil
		}
		var below int
		err := c.RunAction("deep", struct{ Left int }{args.Left - 1}, &below)
		return below + 1, err
	})
	m.Internal.Action("secretly", func(c *halcyon.Ctx) error { return nil })
	m.Action("crash", func(c *halcyon.Ctx) error { panic("oh no") })
	m.Action("spill", func(c *halcyon.Ctx) error {
		key, err := c.Secret("API_KEY")
		if err != nil {
			return err
		}
		region, _ := c.Env("REGION")
		c.Log("calling with", key, "in", region)
		return errors.New("the service refused " + key)
	})
	m.Action("hold", func(c *halcyon.Ctx, args nameArgs) error {
		entered <- c
		if args.Name == "deaf" {
			<-hold
			return nil
		}
		<-c.Done()
		return c.RunMutation("add", nameArgs{"late"}, nil)
	})
	return m
}

var anyRequestID = regexp.MustCompile(`\[Request ID: [0-9a-f]{16}\]`)

// act runs an action and returns its result, or its failure in short.
func act(t *testing.T, app *halcyon.App, path, args string) string {
	t.Helper()
	out, err := app.Action(t.Context(), halcyon.Request{Path: path, Args: parse(t, args)})
	switch {
	case err != nil:
		return "refused: " + err.Error()
	case out.Failure != nil:
		return "failed: " + anyRequestID.ReplaceAllString(out.Failure.Message, "[Request ID: x]")
	}
	return toJSON(out.Value)
}

func TestActions(t *testing.T) {
	app := openApp(t, halcyon.Options{}, actionModule(nil, nil))
	tests := []struct{ name, path, args, want string }{
		{"runs mutations and queries", "counters:twice", `{"name":"a"}`, "2"},
		{"what it did stays when it fails", "counters:half", `{"name":"a"}`, "failed: [Request ID: x] Server Error"},
		{"and is seen by the next", "counters:twice", `{"name":"a"}`, "5"},
		{"passes an Error on", "counters:passOn", `{"name":"you"}`,
			`failed: [Request ID: x] Server Error` + "\n" + `Uncaught ConvexError: {"code":"NoLuck","data":{"name":"you"},"message":"not you"}`},
		{"handles an Error", "counters:handle", `{"name":"you"}`, `"NoLuck not you"`},
		{"runs actions", "counters:deep", `{"left":7}`, "7"},
		{"runs actions too deep", "counters:deep", `{"left":8}`, "failed: [Request ID: x] Server Error"},
		{"panics", "counters:crash", `{}`, "failed: [Request ID: x] Server Error"},
		{"is internal", "counters:secretly", `{}`, "failed: Could not find public function for 'counters:secretly'."},
		{"does not exist", "counters:none", `{}`, "failed: Could not find public function for 'counters:none'."},
		{"is a mutation", "counters:add", `{"name":"a"}`, "failed: Trying to execute counters:add as Action, but it is defined as Mutation."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := act(t, app, tt.path, tt.args); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	out, err := app.Mutation(t.Context(), halcyon.Request{Path: "counters:twice", Args: parse(t, `{"name":"a"}`)})
	if err != nil || out.Failure == nil || out.Failure.Message != "Trying to execute counters:twice as Mutation, but it is defined as Action." {
		t.Errorf("an action called as a mutation: %+v, %v", out, err)
	}
	if err := app.Run(t.Context(), "counters:secretly", nil, nil); err != nil {
		t.Errorf("an internal action called by the program: %v", err)
	}
}

func TestActionHidesItsSecrets(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("sk-12345\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	environment := map[string]string{"REGION": "north"}
	var log logBuffer
	app := openApp(t, halcyon.Options{
		LookupEnv:  func(name string) (string, bool) { v, ok := environment[name]; return v, ok },
		ShowErrors: true, Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}, actionModule(nil, nil))

	if got := act(t, app, "counters:spill", `{}`); !strings.Contains(got, "set API_KEY") {
		t.Errorf("without the secret: %s", got)
	}
	for name, set := range map[string]func(){
		"by value": func() { environment["API_KEY"] = "sk-12345" },
		"by file":  func() { delete(environment, "API_KEY"); environment["API_KEY_FILE"] = file },
	} {
		set()
		log.take()
		out, err := app.Action(t.Context(), halcyon.Request{Path: "counters:spill"})
		if err != nil || out.Failure == nil {
			t.Fatalf("%s: %+v, %v", name, out, err)
		}
		if diff := cmp.Diff([]string{"[LOG] 'calling with' '[secret]' 'in' 'north'"}, out.Logs); diff != "" {
			t.Errorf("%s: logs (-want +got):\n%s", name, diff)
		}
		if !strings.Contains(out.Failure.Message, "refused [secret]") {
			t.Errorf("%s: message %q", name, out.Failure.Message)
		}
		if told := log.take(); strings.Contains(told, "sk-12345") {
			t.Errorf("%s: the operator's log has the secret:\n%s", name, told)
		}
	}
}

func isOverloaded(err error) bool {
	refused, ok := errors.AsType[*halcyon.RequestError](err)
	return ok && refused.Code == halcyon.CodeOverloaded
}

func TestActionEndsWithItsTime(t *testing.T) {
	hold, entered := make(chan struct{}), make(chan *halcyon.Ctx, 2)
	clock := newFakeClock(t0)
	app := openApp(t, halcyon.Options{Engine: engine.Options{Clock: clock}, ActionsMax: 1}, actionModule(hold, entered))
	for _, kind := range []string{"attentive", "deaf"} {
		done := make(chan halcyon.Outcome, 1)
		go func() {
			req := halcyon.Request{Path: "counters:hold", Args: value.Object(value.Field{Name: "name", Value: value.String(kind)})}
			out, err := app.Action(context.Background(), req)
			for isOverloaded(err) { // the one before has been told to end and is about to
				runtime.Gosched()
				out, err = app.Action(context.Background(), req)
			}
			if err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			done <- out
		}()
		<-entered
		if got := act(t, app, "counters:twice", `{"name":"a"}`); !strings.HasPrefix(got, "refused: Overloaded") {
			t.Errorf("one action too many: %s", got)
		}
		clock.set(clock.Now().Add(10 * time.Minute))
		out := <-done
		if out.Failure == nil || out.Failure.Code != halcyon.CodeActionTimeout || toJSON(out.Failure.Data.Get("retry")) != "false" {
			t.Errorf("%s: %+v", kind, out.Failure)
		}
		if kind == "deaf" { // it still has its place
			if got := act(t, app, "counters:twice", `{"name":"a"}`); !strings.HasPrefix(got, "refused: Overloaded") {
				t.Errorf("beside an action that does not end: %s", got)
			}
			close(hold)
		}
	}
	var late int
	if err := app.Run(t.Context(), "counters:get", nameArgs{"late"}, &late); err != nil || late != 0 {
		t.Errorf("%d mutations ran after the time of their action, %v", late, err)
	}
}

func TestCloseEndsActions(t *testing.T) {
	entered := make(chan *halcyon.Ctx, 1)
	app, err := halcyon.NewApp(actionModule(nil, entered))
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open(t.TempDir(), &halcyon.Options{ActionGrace: time.Minute}); err != nil {
		t.Fatal(err)
	}
	failed := make(chan error, 1)
	go func() {
		_, err := app.Action(context.Background(), halcyon.Request{Path: "counters:hold", Args: value.Object(value.Field{Name: "name", Value: value.String("")})})
		failed <- err
	}()
	c := <-entered
	if err := app.Close(); err != nil {
		t.Error(err)
	}
	refused, ok := errors.AsType[*halcyon.RequestError](<-failed)
	if !ok || refused.Code != halcyon.CodeUnavailable {
		t.Errorf("the action ended with %v, want %s", refused, halcyon.CodeUnavailable)
	}
	if err := c.RunMutation("add", nameArgs{"late"}, nil); err == nil {
		t.Error("a Ctx works after the App has closed")
	}
}
