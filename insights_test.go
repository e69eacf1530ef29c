package halcyon_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// sum is the document that the functions below meet over.
type sum struct {
	N float64 `json:"n"`
}

// TestInsights calls functions that succeed, fail, log, take long and meet over a document, and reads what was noticed.
func TestInsights(t *testing.T) {
	sums := halcyon.NewTable[sum]("sums")
	m := halcyon.NewModule("m", sums)
	var id halcyon.ID[sum]
	m.Mutation("begin", func(tx *halcyon.Tx) (err error) { id, err = sums.Insert(tx, sum{}); return err })
	both := make(chan struct{})
	var met atomic.Bool
	m.Mutation("add", func(tx *halcyon.Tx) error {
		d, _, err := sums.Get(tx, id)
		if err != nil {
			return err
		}
		if !met.Swap(true) { // the first run lets another one commit in between
			go func() {
				defer close(both)
				_ = app.Run(context.Background(), "m:add", nil, nil)
			}()
			<-both
		}
		return sums.Patch(tx, id, halcyon.Fields{"n": d.N + 1})
	})
	m.Query("fails", func(tx *halcyon.Tx) (int, error) {
		tx.Log("about to fail")
		return 0, &halcyon.Error{Code: "Sad", Message: "it is"}
	})
	clock := enginetest.NewClock(time.UnixMilli(1_700_000_000_000))
	m.Action("slow", func(c *halcyon.Ctx) error {
		clock.Advance(3 * time.Second)
		c.Log("done")
		return nil
	})
	m.Query("watched", func(tx *halcyon.Tx) (float64, error) {
		d, _, err := sums.Get(tx, id)
		return d.N, err
	})
	app = openApp(t, halcyon.Options{Engine: engine.Options{Clock: clock, FunctionTimeMax: time.Hour}}, m)
	for _, path := range []string{"m:begin", "m:add", "m:fails", "m:fails", "m:slow"} {
		_, _ = app.Call(t.Context(), halcyon.Request{Path: path, Args: value.Object()})
	}
	told := make(chan struct{}, 8)
	set := app.NewQuerySet(func(halcyon.Outcome) []byte { return nil }, func() { told <- struct{}{} })
	defer set.Close()
	set.Add(1, "m:watched", value.Object(), nil)
	for _, ok := set.Poll(0); !ok; _, ok = set.Poll(0) {
		<-told
	}
	by := map[string]halcyon.FunctionInsights{}
	in := app.Insights()
	for _, f := range in.Functions {
		by[f.Function] = f
	}
	if f := by["m:add"]; f.Calls != 2 || f.Failures != 0 || f.Conflicts < 1 || f.InTurn+f.Retried != f.Conflicts || f.Kind != halcyon.KindMutation {
		t.Errorf("m:add: %+v", f)
	}
	if f := by["m:fails"]; f.Calls != 2 || f.Failures != 2 || f.Codes[""] != 2 {
		t.Errorf("m:fails: %+v", f)
	}
	if f := by["m:slow"]; f.Calls != 1 || f.Failures != 0 || f.Max != 3*time.Second || f.P50 < 2790*time.Millisecond || f.P50 > 3*time.Second {
		t.Errorf("m:slow: %+v", f)
	}
	if f := by["m:watched"]; f.Calls != 0 || f.Runs != 1 {
		t.Errorf("m:watched: %+v", f)
	}
	if len(in.Documents) != 1 || in.Documents[0].Table != "m/sums" || in.Documents[0].ID != string(id) || in.Documents[0].Conflicts < 1 || in.Documents[0].Writer != "m:add" || in.Contention != 0 {
		t.Errorf("documents: %+v, contention %d", in.Documents, in.Contention)
	}
	logs, err := app.Logs(t.Context(), 0, false)
	if err != nil || len(logs) != 3 || logs[0].Function != "m:fails" || !strings.Contains(logs[0].Failure, "Sad") || logs[0].Lines[0] != "[LOG] 'about to fail'" && !strings.Contains(logs[0].Lines[0], "about to fail") ||
		logs[2].Function != "m:slow" || logs[2].Took != 3*time.Second || logs[2].Failure != "" {
		t.Errorf("logs: %+v, %v", logs, err)
	}
	// Who waits is told of the next one, and of nothing before.
	next := make(chan []halcyon.LogEntry, 1)
	go func() {
		more, _ := app.Logs(context.Background(), logs[2].Seq, true)
		next <- more
	}()
	_, _ = app.Call(t.Context(), halcyon.Request{Path: "m:fails", Args: value.Object()})
	if more := <-next; len(more) != 1 || more[0].Seq != logs[2].Seq+1 {
		t.Errorf("waited for %+v", more)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := app.Logs(gone, 1000, true); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting without patience: %v", err)
	}
	// After an hour nothing of this is left.
	clock.Advance(61 * time.Minute)
	if in := app.Insights(); len(in.Functions) != 0 || len(in.Documents) != 0 || in.Now.Sub(in.Since) > time.Hour {
		t.Errorf("an hour later: %+v", in)
	}
}

// app is the App of TestInsights, for a function that calls another.
var app *halcyon.App
