package server

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/protocol"
)

// A client that subscribes to more results than there is room for is told so of those that are too many, by a code that says to try again, and
// the others of it and of everybody else go on.
func TestResultsThatThereIsNoRoomFor(t *testing.T) {
	s := serveWithResults(t, 1<<20)
	good := dial(t, s, nil)
	good.session = "220faa75-0ee8-4ccb-ae77-d97788755401"
	good.send(&protocol.Connect{SessionID: good.session})
	good.add(0, "t:count", `{"channel":"good"}`)
	next[*protocol.Transition](good)

	c := connect(t, s)
	const watched = 12 // of 256 KiB and a little
	for i := range uint32(watched) {
		c.add(i, "t:big", fmt.Sprintf(`{"channel":"%d"}`, i))
	}
	c.until("all are answered", func() bool { return len(c.results) == watched })
	served := 0
	for id, result := range c.results {
		switch {
		case len(result) > 256<<10:
			served++
		case !strings.HasPrefix(result, "error: Overloaded: The results of live queries"):
			t.Errorf("query %d: %.200s", id, result)
		}
	}
	if served != 1 {
		t.Errorf("%d results of 256 KiB are held by one connection with room for 1 MiB, want 1: two are more than half", served)
	}
	good.mutate("t:increment", `{"channel":"good"}`)
	r := good.response()
	if !r.Success {
		t.Fatalf("another client: %s", r.Append(nil))
	}
	good.until("it sees its mutation", func() bool { return good.version.TS >= r.TS && good.results[0] == string(r.Value) })
}

// serveWithResults serves an App whose live queries may have results of so many bytes.
func serveWithResults(t *testing.T, most int64) *testServer {
	t.Helper()
	f := &fixture{entered: make(chan string, 1), release: make(chan struct{})}
	app, err := halcyon.NewApp(testModule(f))
	if err != nil {
		t.Fatal(err)
	}
	f.app = app
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: waitMax, LiveResultBytesMax: most}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return serve(t, app, Options{})
}

// Clients that take as many results as they are given leave room for others, who see what they watch when they come, and when it changes: also what
// the greedy ones watch too.
func TestGreedyClientsLeaveRoomForResultsOfOthers(t *testing.T) {
	s := serveWithResults(t, 2<<20)
	const big, watched = 256 << 10, 16 // 4 MiB each
	answered := func(c *client, n int) func() bool { return func() bool { return len(c.results) == n } }
	var greedy []*client
	for i := range 2 {
		c := dial(t, s, nil)
		c.session = fmt.Sprintf("220faa75-0ee8-4ccb-ae77-d977887554%02d", i)
		c.send(&protocol.Connect{SessionID: c.session})
		for q := range uint32(watched) {
			args := fmt.Sprintf(`{"channel":"%d of %d"}`, q, i)
			if q == 0 {
				args = `{"channel":"all"}`
			}
			c.add(q, "t:big", args)
		}
		c.until("a greedy client is answered", answered(c, watched))
		greedy = append(greedy, c)
	}
	good := connect(t, s)
	good.add(0, "t:big", `{"channel":"all"}`)
	good.add(1, "t:big", `{"channel":"good"}`)
	good.add(2, "t:count", `{"channel":"good"}`)
	good.until("it is answered", answered(good, 3))
	count := ""
	for _, channel := range []string{"all", "good"} {
		good.mutate("t:increment", fmt.Sprintf(`{"channel":%q}`, channel))
		if r := good.response(); !r.Success {
			t.Fatalf("a mutation beside greedy clients: %s", r.Append(nil))
		} else {
			count = string(r.Value)
		}
	}
	good.until("it sees its mutations", func() bool {
		for id, result := range good.results {
			if strings.HasPrefix(result, "error: ") {
				t.Fatalf("query %d of a modest client: %s", id, result)
			}
		}
		return good.results[0][1] == '1' && good.results[1][1] == '1' && good.results[2] == count
	})
	for i, c := range greedy {
		served := 0
		for _, result := range c.results {
			if len(result) > big {
				served++
			}
		}
		t.Logf("greedy client %d has %d results", i, served)
		if served == 0 || served == watched {
			t.Errorf("greedy client %d has %d results of %d", i, served, watched)
		}
	}
}

// Arguments for which there is no room are not read: as values they would take many times their text.
func TestArgumentsOfRefusedQueriesAreNotRead(t *testing.T) {
	numbers := "[" + strings.Repeat("1,", 7_999) + "1]"
	big := `{"a":[` + strings.Repeat(numbers+",", 40) + numbers + `]}` // 640 KiB, which would be 328,000 values
	const enough = 12 << 20                                            // for the text itself, which takes some buffers of twice its size
	for _, tc := range []struct {
		name    string
		opts    Options
		refused bool
	}{
		{"bytes of a connection", Options{LiveQueryBytesPerConnectionMax: 1 << 20}, true},
		{"bytes of all connections", Options{LiveQueryBytesMax: 1 << 20}, true},
		{"queries of a connection", Options{QueriesPerConnectionMax: 1}, true},
		{"room for them", Options{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			s := serve(t, f.app, tc.opts)
			c := connect(t, s)
			c.add(0, "t:count", `{"channel":"a"}`)
			next[*protocol.Transition](c)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c.add(1, "t:echo", big)
			c.until("the query is answered", func() bool { return c.results[1] != "" })
			runtime.ReadMemStats(&after)
			if refused := strings.HasPrefix(c.results[1], "error: TooManyQueries: "); refused != tc.refused {
				t.Errorf("the query is answered with %.200s", c.results[1])
			}
			took := after.TotalAlloc - before.TotalAlloc
			if took > enough == tc.refused {
				t.Errorf("arguments of %d KiB took %d KiB of memory", len(big)>>10, took>>10)
			}
			t.Logf("it took %d KiB", took>>10)
		})
	}
}
