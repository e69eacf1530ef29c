package authsessions_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/authsessions"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// noon is when tests begin.
var noon = time.Date(2026, time.March, 14, 12, 0, 0, 0, time.UTC)

// handClock tells the time that a test has set. Its timers run in real time.
type handClock struct{ micros atomic.Int64 }

var _ engine.Clock = (*handClock)(nil)

func (c *handClock) Now() time.Time    { return time.UnixMicro(c.micros.Load()) }
func (c *handClock) set(now time.Time) { c.micros.Store(now.UnixMicro()) }

func (c *handClock) AfterFunc(d time.Duration, f func()) func() {
	timer := time.AfterFunc(d, f)
	return func() { timer.Stop() }
}

// world is the module on a database in memory.
type world struct {
	t     *testing.T
	app   *halcyon.App
	clock *handClock
}

func newWorld(t *testing.T, options authsessions.Options) *world {
	t.Helper()
	w := &world{t: t, clock: new(handClock)}
	w.clock.set(noon)
	probe := halcyon.NewModule("probe")
	probe.Query("rows", func(tx *halcyon.Tx) ([]authsessions.AuthSession, error) {
		return authsessions.AuthSessions.All().Collect(tx)
	})
	probe.Mutation("insert", func(tx *halcyon.Tx, args struct {
		SessionID string `json:"sessionId"`
	}) error {
		_, err := authsessions.AuthSessions.Insert(tx, authsessions.AuthSession{SessionID: args.SessionID})
		return err
	})
	var err error
	if w.app, err = halcyon.NewApp(authsessions.Module(options), probe); err != nil {
		t.Fatal(err)
	}
	if err := w.app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), Clock: w.clock, Seed: 1}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.app.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// call calls a mutation with arguments in JSON.
func (w *world) call(path, args string) (halcyon.Outcome, error) {
	parsed, err := value.ParseJSON([]byte(args))
	if err != nil {
		return halcyon.Outcome{}, fmt.Errorf("%s: %w", args, err)
	}
	return w.app.Mutation(context.Background(), halcyon.Request{Path: path, Args: parsed, Admin: true})
}

// do calls a mutation that has to succeed and returns its result in JSON.
func (w *world) do(path, args string) string {
	w.t.Helper()
	outcome, err := w.call(path, args)
	if err != nil || outcome.Failure != nil {
		w.t.Fatalf("%s(%s): %v, %v", path, args, outcome.Failure, err)
	}
	return string(value.AppendJSON(nil, outcome.Value))
}

// touch calls touchSession for "s" at a time after noon, with more arguments.
func (w *world) touch(at time.Duration, more string) string {
	w.t.Helper()
	return w.do("authSessions:touchSession", touchArgs(at, more))
}

func touchArgs(at time.Duration, more string) string {
	return fmt.Sprintf(`{"sessionId":"s","lastSeenAt":%d%s}`, noon.Add(at).UnixMilli(), more)
}

// row is the stored fields of the only row.
func (w *world) row() map[string]any {
	w.t.Helper()
	outcome, err := w.app.Query(context.Background(), halcyon.Request{Path: "probe:rows"})
	if err != nil || outcome.Failure != nil {
		w.t.Fatal(outcome.Failure, err)
	}
	var rows []map[string]any
	if err := json.Unmarshal(value.AppendJSON(nil, outcome.Value), &rows); err != nil {
		w.t.Fatal(err)
	}
	if len(rows) != 1 {
		w.t.Fatalf("%d rows, want 1", len(rows))
	}
	delete(rows[0], "_id")
	return rows[0]
}

// seen returns when the row says the user was last seen, after noon.
func (w *world) seen() time.Duration {
	w.t.Helper()
	ms, ok := w.row()["lastSeenAt"].(float64)
	if !ok {
		w.t.Fatalf("row %v has no lastSeenAt", w.row())
	}
	return time.UnixMilli(int64(ms)).Sub(noon)
}

const (
	missing = `null`
	written = `{"success":true}`
	skipped = `{"skipped":true,"success":true}`
)

func TestTouch(t *testing.T) {
	const sec = time.Second
	type step struct {
		now  time.Duration // the server's time, after noon
		at   time.Duration // the call's lastSeenAt, after noon
		more string
		want string
		seen time.Duration
	}
	tests := []struct {
		name  string
		steps []step // after a row was made at noon
	}{
		{"fresh", []step{{29 * sec, 29 * sec, "", skipped, 0}}},
		{"1 ms before the threshold", []step{{30*sec - 1e6, 30*sec - 1e6, "", skipped, 0}}},
		{"fault w: exactly the threshold is stale", []step{{30 * sec, 30 * sec, "", written, 30 * sec}}},
		{"1 ms after it", []step{{30*sec + 1e6, 30*sec + 1e6, "", written, 30*sec + 1e6}}},
		{"a skipped touch does not move the threshold", []step{
			{20 * sec, 20 * sec, "", skipped, 0}, {30 * sec, 30 * sec, "", written, 30 * sec}}},
		{"an old call", []step{{0, -300 * sec, "", skipped, 0}}},
		{"calls in the wrong order", []step{
			{90 * sec, 80 * sec, "", written, 80 * sec}, {90 * sec, 45 * sec, "", skipped, 80 * sec}}},
		{"fault u: a caller's clock is ahead by a year", []step{
			{sec, 365 * 24 * 3600 * sec, "", skipped, 0},
			{31 * sec, 365 * 24 * 3600 * sec, "", written, 31 * sec},
			{40 * sec, 40 * sec, "", skipped, 31 * sec},
			{61 * sec, 61 * sec, "", written, 61 * sec}}},
		{"fault u: a caller's clock is behind", []step{
			{60 * sec, 50 * sec, "", written, 50 * sec}, {90 * sec, 80 * sec, "", written, 80 * sec}}},
		{"the server's clock steps back", []step{
			{60 * sec, 60 * sec, "", written, 60 * sec}, {-3600 * sec, 90 * sec, "", skipped, 60 * sec}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, authsessions.Options{})
			w.do("authSessions:create", touchArgs(0, ""))
			for i, step := range tt.steps {
				w.clock.set(noon.Add(step.now))
				got := w.touch(step.at, step.more)
				if got != step.want || w.seen() != step.seen {
					t.Errorf("touch %d: %s, last seen at %v; want %s, %v", i, got, w.seen(), step.want, step.seen)
				}
			}
		})
	}
}

func TestTouchOfNoSession(t *testing.T) {
	w := newWorld(t, authsessions.Options{})
	if got := w.touch(0, ""); got != missing {
		t.Errorf("touch = %s, want %s", got, missing)
	}
	w.do("authSessions:create", touchArgs(0, "")) // a touch has not made one
	w.row()
}

func TestTouchOfARowWithoutATime(t *testing.T) {
	w := newWorld(t, authsessions.Options{})
	w.do("probe:insert", `{"sessionId":"s"}`)
	if got := w.touch(-time.Hour, ""); got != written || w.seen() != -time.Hour {
		t.Errorf("touch = %s, last seen at %v; want %s, an hour before noon", got, w.seen(), written)
	}
}

// TestFaultV: the original lost a new address or agent inside of the 30 seconds.
func TestFaultV_NewsOfTheUserIsNotLost(t *testing.T) {
	tests := []struct {
		name        string
		at          time.Duration
		more        string
		want        string
		address, ua string
	}{
		{"the same address and agent", time.Second, `,"ipAddress":"192.0.2.1","userAgent":"a"`, skipped, "192.0.2.0/24", "a"},
		{"another address", time.Second, `,"ipAddress":"198.51.100.9"`, written, "198.51.100.0/24", "a"},
		{"an address of the same network", time.Second, `,"ipAddress":"192.0.2.99"`, skipped, "192.0.2.0/24", "a"},
		{"another agent", time.Second, `,"userAgent":"b"`, written, "192.0.2.0/24", "b"},
		{"none", time.Second, "", skipped, "192.0.2.0/24", "a"},
		{"news that are older than the row", -time.Second, `,"ipAddress":"198.51.100.9","userAgent":"b"`, skipped, "192.0.2.0/24", "a"},
		{"news as old as the row", 0, `,"userAgent":"b"`, written, "192.0.2.0/24", "b"},
		{"fault x: null", time.Second, `,"ipAddress":null,"userAgent":null`, skipped, "192.0.2.0/24", "a"},
		{"fault x: null on a stale row", 30 * time.Second, `,"ipAddress":null,"userAgent":null`, written, "192.0.2.0/24", "a"},
		{"empty", time.Second, `,"ipAddress":"","userAgent":""`, skipped, "192.0.2.0/24", "a"},
		{"no address", time.Second, `,"ipAddress":"unknown"`, skipped, "192.0.2.0/24", "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, authsessions.Options{})
			w.do("authSessions:create", touchArgs(0, `,"ipAddress":"192.0.2.1","userAgent":"a"`))
			w.clock.set(noon.Add(time.Minute))
			got := w.touch(tt.at, tt.more)
			row := w.row()
			if got != tt.want || row["ipAddress"] != tt.address || row["userAgent"] != tt.ua {
				t.Errorf("touch = %s, kept %v and %v; want %s, %s and %s", got, row["ipAddress"], row["userAgent"], tt.want, tt.address, tt.ua)
			}
		})
	}
}

func TestDetailsKept(t *testing.T) {
	tests := []struct{ address, truncated, full string }{
		{"192.0.2.77", "192.0.2.0/24", "192.0.2.77"},
		{" 192.0.2.77 ", "192.0.2.0/24", "192.0.2.77"},
		{"192.0.2.77:4711", "192.0.2.0/24", "192.0.2.77"},
		{"::ffff:192.0.2.77", "192.0.2.0/24", "192.0.2.77"},
		{"2001:db8:1:2:3::4", "2001:db8:1::/48", "2001:db8:1:2:3::4"},
		{"[2001:db8:1:2:3::4]:443", "2001:db8:1::/48", "2001:db8:1:2:3::4"},
		{"fe80::1%eth0", "fe80::/48", "fe80::1"},
		{"192.0.2.77, 10.0.0.1", "", ""},
		{"host.example", "", ""},
	}
	for _, tt := range tests {
		for details, want := range map[authsessions.Details]string{
			authsessions.Truncated: tt.truncated, authsessions.Full: tt.full, authsessions.Off: "",
		} {
			w := newWorld(t, authsessions.Options{Details: details})
			w.do("authSessions:create", touchArgs(0, fmt.Sprintf(`,"ipAddress":%q,"userAgent":"Agent/1"`, tt.address)))
			row := w.row()
			if got, _ := row["ipAddress"].(string); got != want {
				t.Errorf("details %d of %q: kept %q, want %q", details, tt.address, got, want)
			}
			if _, kept := row["userAgent"]; kept != (details != authsessions.Off) {
				t.Errorf("details %d: agent kept: %v", details, kept)
			}
		}
	}
}

func TestLongAgentsAreCut(t *testing.T) {
	w := newWorld(t, authsessions.Options{})
	w.do("authSessions:create", touchArgs(0, `,"userAgent":"`+strings.Repeat("x", 511)+"\u00fc"+`tail"`))
	if got := w.row()["userAgent"]; got != strings.Repeat("x", 511) {
		t.Errorf("agent kept: %q, want 511 bytes, no half character", got)
	}
	if got := w.touch(time.Second, `,"userAgent":"`+strings.Repeat("x", 511)+"\u00fc"+`other tail"`); got != skipped {
		t.Errorf("the same as far as it is kept: %s, want %s", got, skipped)
	}
}

func TestCreate(t *testing.T) {
	w := newWorld(t, authsessions.Options{})
	first := w.do("authSessions:create", touchArgs(0, `,"userAgent":"a"`))
	again := w.do("authSessions:create", touchArgs(0, `,"userAgent":"b"`))
	if first != again {
		t.Errorf("created %s and %s, want one row", first, again)
	}
	want := map[string]any{"sessionId": "s", "lastSeenAt": float64(noon.UnixMilli()), "userAgent": "a"}
	if diff := cmp.Diff(want, w.row()); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	w.do("authSessions:create", fmt.Sprintf(`{"sessionId":"future","lastSeenAt":%d}`, noon.Add(time.Hour).UnixMilli()))
	w.clock.set(noon.Add(30 * time.Second))
	if got := w.do("authSessions:touchSession", fmt.Sprintf(`{"sessionId":"future","lastSeenAt":%d}`, w.clock.Now().UnixMilli())); got != written {
		t.Errorf("touch of a session made with a clock ahead: %s, want %s", got, written)
	}
	outcome, err := w.app.Mutation(t.Context(), halcyon.Request{Path: "authSessions:create"})
	if err != nil || outcome.Failure == nil || !strings.Contains(outcome.Failure.Message, "Could not find public function") {
		t.Errorf("a client called create: %v, %v", outcome.Failure, err)
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	long := strings.Repeat("x", 257)
	tests := []struct{ name, args, want string }{
		{"empty session", `{"sessionId":"","lastSeenAt":0}`, authsessions.CodeSessionID},
		{"long session", `{"sessionId":"` + long + `","lastSeenAt":0}`, authsessions.CodeSessionID},
		{"session at the limit", `{"sessionId":"` + long[1:] + `","lastSeenAt":0}`, ""},
		{"not a number", `{"sessionId":"s","lastSeenAt":{"$float":"AAAAAAAA+H8="}}`, authsessions.CodeLastSeenAt},
		{"infinite", `{"sessionId":"s","lastSeenAt":{"$float":"AAAAAAAA8H8="}}`, ""},
		{"before 1970", `{"sessionId":"s","lastSeenAt":-1e300}`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, authsessions.Options{})
			w.do("authSessions:create", touchArgs(0, ""))
			outcome, err := w.call("authSessions:touchSession", tt.args)
			if err != nil {
				t.Fatal(err)
			}
			var code string
			if outcome.Failure != nil {
				code, _ = outcome.Failure.Data.Get("code").AsString()
			}
			if code != tt.want || (outcome.Failure != nil) != (tt.want != "") {
				t.Errorf("failure %v, want code %q", outcome.Failure, tt.want)
			}
			if seen := w.seen(); seen != 0 {
				t.Errorf("last seen moved to %v", seen)
			}
		})
	}
}

// TestFaultT: in the original every call at the boundary finds the row stale,
// and all of them write.
func TestFaultT_OneOfTwoHundredTouchesAtTheBoundaryWrites(t *testing.T) {
	const touches = 200
	w := newWorld(t, authsessions.Options{})
	w.do("authSessions:create", touchArgs(0, `,"ipAddress":"192.0.2.1"`))
	for window := 1; window <= 5; window++ {
		at := time.Duration(window) * 30 * time.Second
		w.clock.set(noon.Add(at))
		var wrote, skips atomic.Int64
		var group sync.WaitGroup
		start := make(chan struct{})
		for range touches {
			group.Go(func() {
				<-start
				outcome, err := w.call("authSessions:touchSession", touchArgs(at, `,"ipAddress":"192.0.2.1"`))
				switch text := string(value.AppendJSON(nil, outcome.Value)); {
				case err != nil || outcome.Failure != nil:
					t.Errorf("touch failed: %v, %v", outcome.Failure, err)
				case text == written:
					wrote.Add(1)
				case text == skipped:
					skips.Add(1)
				}
			})
		}
		close(start)
		group.Wait()
		if wrote.Load() != 1 || skips.Load() != touches-1 {
			t.Errorf("window %d: %d written, %d skipped; want 1 and %d", window, wrote.Load(), skips.Load(), touches-1)
		}
		if seen := w.seen(); seen != at {
			t.Errorf("window %d: last seen at %v, want %v", window, seen, at)
		}
	}
}

// TestRequestsOfADay touches one row as requests of many tabs would, their
// clocks a little off and their calls out of order, and checks what a row
// promises after each.
func TestRequestsOfADay(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t, authsessions.Options{})
	w.do("authSessions:create", touchArgs(0, ""))
	var now, seen time.Duration
	const calls = 2000
	skips := 0
	for range calls {
		now += time.Duration(random.IntN(3000)) * time.Millisecond
		w.clock.set(noon.Add(now))
		at := now + time.Duration(random.IntN(10_000)-8000)*time.Millisecond
		if w.touch(at, "") == skipped {
			skips++
		}
		before := seen
		seen = w.seen()
		if stamp := min(at, now); seen < before || seen > now || stamp-seen >= 30*time.Second {
			t.Fatalf("at %v, after a touch of %v: last seen at %v, before at %v", now, at, seen, before)
		}
	}
	if share := float64(skips) / calls; math.IsNaN(share) || share < 0.9 {
		t.Errorf("%.1f %% of the calls were skipped, want at least 90", 100*share)
	}
}

func TestDetailsOfTheEnvironment(t *testing.T) {
	for _, tt := range []struct{ text, kept, start string }{
		{"", "203.0.113.0/24", ""},
		{"truncated", "203.0.113.0/24", ""},
		{"full", "203.0.113.9", ""},
		{"off", "", ""},
		{"x", "203.0.113.0/24", `HALCYON_AUTH_SESSIONS_DETAILS: "x" is none of`},
	} {
		var rows []authsessions.AuthSession
		probe := halcyon.NewModule("probe")
		probe.Mutation("look", func(tx *halcyon.Tx) (err error) {
			rows, err = authsessions.AuthSessions.All().Collect(tx)
			return err
		})
		app, err := halcyon.NewApp(authsessions.Module(authsessions.Options{}), probe)
		if err != nil {
			t.Fatal(err)
		}
		if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute}, LookupEnv: func(name string) (string, bool) {
			return tt.text, name == "HALCYON_AUTH_SESSIONS_DETAILS" && tt.text != ""
		}}); err != nil {
			t.Fatal(err)
		}
		if err := app.Start(t.Context()); (err == nil) != (tt.start == "") || err != nil && !strings.Contains(err.Error(), tt.start) {
			t.Errorf("%q: start: %v, want %q", tt.text, err, tt.start)
		}
		args := map[string]any{"sessionId": "s", "lastSeenAt": 1.0, "ipAddress": "203.0.113.9"}
		if err := app.Run(t.Context(), "authSessions:create", args, nil); err != nil {
			t.Fatal(err)
		}
		if err := app.Run(t.Context(), "probe:look", nil, nil); err != nil {
			t.Fatal(err)
		}
		kept := ""
		if len(rows) == 1 && rows[0].IPAddress != nil {
			kept = *rows[0].IPAddress
		}
		if kept != tt.kept {
			t.Errorf("%q: %q is kept of the address, want %q", tt.text, kept, tt.kept)
		}
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	}
}
