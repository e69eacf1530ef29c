package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// crowd is clients that act in step.
type crowd struct {
	t       testing.TB
	clients []*client
}

// newCrowd connects n clients to a server.
func newCrowd(t testing.TB, s *server, n int) *crowd {
	t.Helper()
	c := &crowd{t: t}
	for range n {
		c.clients = append(c.clients, newClient(t, s))
	}
	ctx := impatient(t)
	for _, client := range c.clients {
		if err := client.awaitConnected(ctx); err != nil {
			t.Fatalf("%d clients connect: %v", n, err)
		}
	}
	return c
}

// inStep has all clients call act at the same moment and wait for the calls that
// it makes. It returns what came of them, by client, and how long each took.
func (c *crowd) inStep(act func(i int, client *client) []*call) (outcomes [][]outcome, took []time.Duration) {
	c.t.Helper()
	ctx := impatient(c.t)
	outcomes = make([][]outcome, len(c.clients))
	waits := make([][]time.Duration, len(c.clients))
	errs := make([]error, len(c.clients))
	barrier := make(chan struct{})
	var ready, done sync.WaitGroup
	for i, client := range c.clients {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-barrier
			began := time.Now()
			for _, call := range act(i, client) {
				got, err := call.await(ctx)
				if err != nil {
					errs[i] = err
					return
				}
				waits[i] = append(waits[i], time.Since(began))
				outcomes[i] = append(outcomes[i], got)
				if !got.Success {
					errs[i] = fmt.Errorf("client %d: %s", i, got.Result)
				}
			}
		})
	}
	ready.Wait()
	close(barrier)
	done.Wait()
	if err := errors.Join(errs...); err != nil {
		c.t.Fatalf("in step: %v", err)
	}
	took = slices.Concat(waits...)
	slices.Sort(took)
	return outcomes, took
}

// check fails the test if any client was thrown out on the way.
func (c *crowd) check() {
	c.t.Helper()
	for i, client := range c.clients {
		if n := client.connections(); n != 1 {
			c.t.Errorf("client %d needed %d connections", i, n)
		}
	}
}

// Each visitor has three tabs open that do everything at the same moment as all
// others, the worst a site can do to the rows of its visitors.
func TestCrowdInStep(t *testing.T) {
	const (
		visitors = 300
		tabs     = 3
		pages    = 7
		rounds   = 9 // more than there are pages, so that pages are seen again
	)
	s := serve(t, halcyon)
	connecting := time.Now()
	c := newCrowd(t, s, visitors*tabs)
	t.Logf("%d connections in %v", len(c.clients), time.Since(connecting).Round(time.Millisecond))
	watching := make([]*subscription, visitors)
	for v := range watching {
		watching[v] = c.clients[v*tabs].subscribe("stats:getStats", map[string]any{})
	}

	type view struct{ visitor, page int }
	viewed := make(map[view]bool)
	var took []time.Duration
	began := time.Now()
	calls := 0
	for round := range rounds {
		pageOf := func(visitor int) int { return (visitor + round) % pages }
		if round == rounds-1 {
			pageOf = func(visitor int) int { return (visitor + round - 1) % pages } // a beat that says nothing new
		}
		_, times := c.inStep(func(i int, client *client) []*call {
			visitor := fmt.Sprintf("visitor-%d", i/tabs)
			path := fmt.Sprintf("/page-%d", pageOf(i/tabs))
			return []*call{
				client.mutate("stats:recordPageView", map[string]any{"path": path, "pageType": "page", "sessionId": visitor}),
				client.mutate("stats:heartbeat", map[string]any{"sessionId": visitor, "currentPath": path}),
			}
		})
		took = append(took, times...)
		calls += len(times)

		onPage := make(map[int]int)
		for v := range visitors {
			viewed[view{v, pageOf(v)}] = true
			onPage[pageOf(v)]++
		}
		got := query[liveStats](s, "stats:getStats", map[string]any{})
		if got.ActiveVisitors != visitors || got.UniqueVisitors != visitors || got.TotalPageViews != len(viewed) {
			t.Errorf("round %d: %d active, %d visitors, %d views; want %d, %d, %d", round,
				got.ActiveVisitors, got.UniqueVisitors, got.TotalPageViews, visitors, visitors, len(viewed))
		}
		want := make(map[string]int)
		for page, count := range onPage {
			want[fmt.Sprintf("/page-%d", page)] = count
		}
		where := make(map[string]int)
		for _, p := range got.ActiveByPath {
			where[p.Path] = p.Count
		}
		if diff := cmp.Diff(want, where); diff != "" {
			t.Errorf("round %d: who is where (-want +got):\n%s", round, diff)
		}
	}
	elapsed := time.Since(began)

	// Everybody who watches comes to see the same.
	ctx := impatient(t)
	final := query[json.RawMessage](s, "stats:getStats", map[string]any{})
	for v, watched := range watching {
		if err := watched.await(ctx, func(value json.RawMessage) bool { return string(value) == string(final) }); err != nil {
			t.Fatalf("visitor %d sees something else than %s: %v", v, final, err)
		}
	}
	views := make(map[string]int)
	var got liveStats
	if err := json.Unmarshal(final, &got); err != nil {
		t.Fatal(err)
	}
	for _, p := range got.PageStats {
		views[p.Path] = p.Views
	}
	want := make(map[string]int)
	for v := range viewed {
		want[fmt.Sprintf("/page-%d", v.page)]++
	}
	if diff := cmp.Diff(want, views); diff != "" {
		t.Errorf("views (-want +got):\n%s", diff)
	}
	c.check()
	slices.Sort(took)
	t.Logf("%d mutations in %v, %.0f a second; from the barrier to the end of a call: median %v, 99 %% %v, longest %v",
		calls, elapsed.Round(time.Millisecond), float64(calls)/elapsed.Seconds(),
		took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
}

// All connections touch one row when it has just become 30 seconds old: one of
// them writes, the others find it fresh, and none fails.
func TestCrowdTouchesOneAuthSession(t *testing.T) {
	const (
		connections = 200
		rounds      = 5
		threshold   = 30 * time.Second
	)
	dir := filepath.Join(t.TempDir(), "data")
	created := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	run(t, halcyon, dir, "run", "authSessions:create", fmt.Sprintf(`{"sessionId": "device", "lastSeenAt": %d}`, created.UnixMilli()))
	s := serveOn(t, halcyon, dir)
	c := newCrowd(t, s, connections)
	touchAll := func(at time.Time) (writes int) {
		t.Helper()
		outcomes, _ := c.inStep(func(_ int, client *client) []*call {
			return []*call{client.mutate("authSessions:touchSession", map[string]any{"sessionId": "device", "lastSeenAt": at.UnixMilli()})}
		})
		for i, of := range outcomes {
			switch of[0].Result {
			case `{"success":true}`:
				writes++
			case `{"skipped":true,"success":true}`:
			default:
				t.Errorf("connection %d was answered %s", i, of[0].Result)
			}
		}
		return writes
	}
	seen := created
	for round := range rounds {
		if writes := touchAll(seen.Add(threshold - time.Millisecond)); writes != 0 {
			t.Errorf("round %d: %d of %d wrote before the threshold", round, writes, connections)
		}
		if writes := touchAll(seen.Add(threshold)); writes != 1 {
			t.Errorf("round %d: %d of %d wrote at the threshold, want 1", round, writes, connections)
		}
		seen = seen.Add(threshold)
	}
	// Not backward either: the row is as new as the last write, not older.
	if writes := touchAll(created); writes != 0 {
		t.Errorf("%d calls from the past wrote", writes)
	}
	if writes := touchAll(seen.Add(threshold - time.Millisecond)); writes != 0 {
		t.Errorf("%d calls wrote, so the row went backward", writes)
	}
	c.check()
}
