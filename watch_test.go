package halcyon_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon"
)

// watchModule has an action that passes on what it watches, until its context ends or it has passed on last.
func watchModule(seen chan<- any, last int) *halcyon.Module {
	m, counters := counterModule()
	m.Internal.Query("shy", func(tx *halcyon.Tx, args nameArgs) (int, error) {
		c, _, err := counters.By("by_name").Eq(args.Name).First(tx)
		if err == nil && c.N == 2 {
			err = &halcyon.Error{Code: "Two", Message: "not two"}
		}
		return c.N, err
	})
	m.Action("watch", func(c *halcyon.Ctx, args nameArgs) error {
		path, name, _ := strings.Cut(args.Name, " ")
		for n, err := range halcyon.Watch[int](c, path, nameArgs{name}) {
			if err != nil {
				seen <- err
				continue
			}
			seen <- n
			if n == last {
				return nil
			}
		}
		return nil
	})
	return m
}

func TestWatch(t *testing.T) {
	seen := make(chan any)
	app := openApp(t, halcyon.Options{}, watchModule(seen, 24))
	watch := func(ctx context.Context, name string) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := app.Action(ctx, halcyon.Request{Path: "counters:watch", Args: parse(t, `{"name":"`+name+`"}`)})
			done <- err
		}()
		return done
	}
	add := func() {
		t.Helper()
		if err := app.Run(t.Context(), "counters:add", nameArgs{"a"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := watch(ctx, "shy a")
	if got := <-seen; got != 0 {
		t.Errorf("first %v", got)
	}
	add()
	if got := <-seen; got != 1 {
		t.Errorf("after a change %v", got)
	}
	add()
	told, ok := errors.AsType[*halcyon.Error]((<-seen).(error))
	if !ok || told.Code != "Two" {
		t.Errorf("a failure came as %v", told)
	}
	add()
	if got := <-seen; got != 3 {
		t.Errorf("after the failure %v", got)
	}
	// What nobody had the time for is left out, and the newest comes.
	for range 20 {
		add()
	}
	for n := 3; n < 23; {
		next := (<-seen).(int)
		if next <= n {
			t.Fatalf("after %d came %d", n, next)
		}
		n = next
	}
	cancel()
	if err := (<-seen).(error); !errors.Is(err, context.Canceled) {
		t.Errorf("at the end %v", err)
	}
	// The function returns nil then: whichever of both ends is seen first.
	if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("the action ended with %v", err)
	}

	done = watch(t.Context(), "counters:get a")
	if got := <-seen; got != 23 {
		t.Errorf("a public query: %v", got)
	}
	add()
	if got := <-seen; got != 24 {
		t.Errorf("a public query: %v", got)
	}
	if err := <-done; err != nil {
		t.Errorf("the action ended with %v", err)
	}
}

func TestWatchRefuses(t *testing.T) {
	seen := make(chan any)
	app := openApp(t, halcyon.Options{}, watchModule(seen, -1))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, want := range map[string]string{
		"none a":         "Could not find public function for 'counters:none'",
		"add a":          "it is defined as Mutation",
		"counters:get a": "",
	} {
		go func() {
			_, _ = app.Action(ctx, halcyon.Request{Path: "counters:watch", Args: parse(t, `{"name":"`+name+`"}`)})
		}()
		switch got := (<-seen).(type) {
		case error:
			if want == "" || !strings.Contains(got.Error(), want) {
				t.Errorf("%s: %v", name, got)
			}
		default:
			if want != "" {
				t.Errorf("%s: %v", name, got)
			}
		}
	}
	cancel()
	for range 3 {
		<-seen
	}
}
