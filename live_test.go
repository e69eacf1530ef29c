package halcyon_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// screen is a query set whose changes are texts.
type screen struct {
	t    *testing.T
	set  *halcyon.QuerySet
	wake chan struct{}
}

func newScreen(t *testing.T, app *halcyon.App) *screen {
	s := &screen{t: t, wake: make(chan struct{}, 1)}
	s.set = app.NewQuerySet(func(out halcyon.Outcome) []byte {
		if out.Failure != nil {
			return fmt.Appendf(nil, "failed %q %q", out.Failure.Message, out.Logs)
		}
		return value.AppendJSON(nil, out.Value)
	}, func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	})
	t.Cleanup(s.set.Close)
	return s
}

// round returns the next round's changes by id.
func (s *screen) round(min engine.Timestamp) map[uint32]string {
	s.t.Helper()
	for {
		if r, ok := s.set.Poll(min); ok {
			changes := map[uint32]string{}
			for _, c := range r.Changes {
				changes[c.ID] = string(c.Body)
			}
			return changes
		}
		select {
		case <-s.wake:
		case <-time.After(time.Minute):
			s.t.Fatal("no round within a minute")
		}
	}
}

func TestLiveQueries(t *testing.T) {
	m, _ := counterModule()
	app := openApp(t, halcyon.Options{}, m)
	s := newScreen(t, app)
	s.set.Add(1, "counters.js:get", parse(t, `{"name":"a"}`), nil)
	s.set.Add(2, "counters:get", parse(t, `{"name":"b"}`), nil)
	s.set.Add(3, "counters:reset", value.Value{}, nil)
	s.set.Add(4, "counters:add", parse(t, `{"name":"a"}`), nil)
	s.set.Add(5, "counters:get", parse(t, `{"name":5}`), nil)
	s.set.Add(6, "a b", parse(t, `{}`), nil)
	want := map[uint32]string{
		1: "0", 2: "0",
		3: `failed "Could not find public function for 'counters:reset'." []`,
		4: `failed "Trying to execute counters:add as Query, but it is defined as Mutation." []`,
		5: `failed "ArgumentValidationError: Value does not match validator.\nPath: .name\nValue: 5.0\nValidator: v.string()" []`,
		6: `failed "Could not find public function for 'a b'." []`,
	}
	if diff := cmp.Diff(want, s.round(0)); diff != "" {
		t.Errorf("first round (-want +got):\n%s", diff)
	}
	out, err := app.Mutation(t.Context(), halcyon.Request{Path: "counters:add", Args: parse(t, `{"name":"a"}`)})
	if err != nil || out.Failure != nil {
		t.Fatal(out.Failure, err)
	}
	if diff := cmp.Diff(map[uint32]string{1: "1"}, s.round(out.At)); diff != "" {
		t.Errorf("after a mutation (-want +got):\n%s", diff)
	}
	s.set.Remove(1)
	out, err = app.Mutation(t.Context(), halcyon.Request{Path: "counters:add", Args: parse(t, `{"name":"a"}`)})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[uint32]string{}, s.round(out.At)); diff != "" {
		t.Errorf("after Remove (-want +got):\n%s", diff)
	}
}

func TestEqualLiveQueriesRunOnce(t *testing.T) {
	runs := make(chan struct{}, 100)
	m := halcyon.NewModule("m")
	m.Query("q", func(*halcyon.Tx, nameArgs) (string, error) { runs <- struct{}{}; return "r", nil })
	app := openApp(t, halcyon.Options{}, m)
	for i, path := range []string{"m:q", "m.js:q", "m:q"} {
		s := newScreen(t, app)
		s.set.Add(uint32(i), path, parse(t, `{"name":"x"}`), nil)
		if diff := cmp.Diff(map[uint32]string{uint32(i): `"r"`}, s.round(0)); diff != "" {
			t.Errorf("screen %d (-want +got):\n%s", i, diff)
		}
	}
	if len(runs) != 1 {
		t.Errorf("%d runs for three equal queries, want 1", len(runs))
	}
}

// TestFailingLiveQueryIsToldOnce checks that a query which fails again in the same way is neither shown nor logged again.
func TestFailingLiveQueryIsToldOnce(t *testing.T) {
	m, counters := counterModule()
	m.Query("picky", func(tx *halcyon.Tx) (int, error) {
		c, _, err := counters.By("by_name").Eq("a").First(tx)
		tx.Log("looked")
		if c.N%4 < 2 {
			return c.N, errors.Join(err, errors.New("less than two"))
		}
		return c.N, err
	})
	var log logBuffer
	app := openApp(t, halcyon.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, m)
	s := newScreen(t, app)
	s.set.Add(1, "counters:picky", value.Value{}, nil)
	first := s.round(0)[1]
	if !strings.HasPrefix(first, `failed "[Request ID: `) || !strings.HasSuffix(first, ` Server Error" ["[LOG] 'looked'"]`) {
		t.Errorf("first round: %s", first)
	}
	for _, want := range []string{"", "2", "3", first, "", "6"} {
		out, err := app.Mutation(t.Context(), halcyon.Request{Path: "counters:add", Args: parse(t, `{"name":"a"}`)})
		if err != nil || out.Failure != nil {
			t.Fatal(out.Failure, err)
		}
		if got := s.round(out.At)[1]; got != want {
			t.Errorf("at %s: changed to %q, want %q", toJSON(out.Value), got, want)
		}
	}
	if n := strings.Count(log.String(), "function failed"); n != 2 {
		t.Errorf("the failure was logged %d times, want once each time it began:\n%s", n, log.String())
	}
}

func TestQueryThatLooksAtTheTimeIsWarnedOfOnce(t *testing.T) {
	m := halcyon.NewModule("m")
	m.Query("plain", func(tx *halcyon.Tx) (time.Time, error) { return tx.Now(), nil })
	m.Query("named", func(tx *halcyon.Tx) (time.Time, error) { tx.WakeAt(tx.Now().Add(time.Hour)); return tx.Now(), nil })
	m.Mutation("write", func(tx *halcyon.Tx) (time.Time, error) { return tx.Now(), nil })
	var log logBuffer
	app := openApp(t, halcyon.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))}, m)
	for range 2 {
		for _, path := range []string{"m:plain", "m:named", "m:write"} {
			var now time.Time
			if err := app.Run(t.Context(), path, nil, &now); err != nil || time.Since(now).Abs() > time.Minute || now.Nanosecond()%1e6 != 0 {
				t.Errorf("%s = %v, %v; want the time in milliseconds", path, now, err)
			}
		}
	}
	if n := strings.Count(log.String(), "WakeAt"); n != 1 || !strings.Contains(log.String(), "function=m:plain") {
		t.Errorf("warned %d times, want once, of m:plain:\n%s", n, log.String())
	}
}
