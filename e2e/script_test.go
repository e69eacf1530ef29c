package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/server/token/tokentest"
)

// clientScript is what some clients of one space do. scripts.mjs describes its JSON.
type clientScript struct {
	Name     string              `json:"name"`
	URL      string              `json:"url"`
	Space    string              `json:"space"`
	Clients  int                 `json:"clients"`
	Ops      []scriptOp          `json:"ops"`
	Tokens   map[string][]string `json:"tokens"`
	Patience int64               `json:"patience"` // ms
}

type scriptOp struct {
	Client int            `json:"client"`
	Do     string         `json:"do"`
	ID     int            `json:"id,omitempty"`
	Path   string         `json:"path,omitempty"`
	Args   map[string]any `json:"args,omitempty"`
	Size   int            `json:"size,omitempty"`
	User   *string        `json:"user"`
	Wait   bool           `json:"wait,omitempty"`
	MS     int            `json:"ms,omitempty"`
}

// scriptEvent is one thing that happened while a script was played.
type scriptEvent struct {
	Client      int                        `json:"client"`
	Sees        map[string]json.RawMessage `json:"sees,omitempty"`
	Sent        string                     `json:"sent,omitempty"`
	Done        string                     `json:"done,omitempty"`
	Value       *scriptWritten             `json:"value,omitempty"`
	Error       string                     `json:"error,omitempty"`
	User        string                     `json:"user,omitempty"`
	Ended       int                        `json:"ended,omitempty"`
	Refused     bool                       `json:"refused,omitempty"`
	End         bool                       `json:"end,omitempty"`
	Connections int                        `json:"connections,omitempty"`
}

type scriptWritten struct {
	Seq int    `json:"seq"`
	Was string `json:"was"`
	Who string `json:"who"`
}

// scriptTrace is all that happened.
type scriptTrace struct {
	Name   string        `json:"name"`
	Trace  []scriptEvent `json:"trace"`
	Error  string        `json:"error"`
	Thrown []string      `json:"thrown"` // by any script that was played at the time
}

// newScript makes up a script.
func newScript(random *rand.Rand, name string, tokens map[string][]string) *clientScript {
	s := &clientScript{Name: name, Space: name, Clients: 1 + random.IntN(3), Tokens: tokens, Patience: (2 * patience).Milliseconds()}
	type subscription struct {
		id    int
		pages bool
	}
	live := make([][]subscription, s.Clients)
	ids, marks := 0, 0
	key := func() string { return string(rune('a' + random.IntN(12))) }
	pick := func(all ...string) string { return all[random.IntN(len(all))] }
	users := []string{"ann", "bob"}
	for range 20 + random.IntN(30) {
		client := random.IntN(s.Clients)
		op := scriptOp{Client: client}
		watched := live[client]
		switch n := random.IntN(100); {
		case n < 42:
			op.Do, op.Path = "mutate", "script:"+pick("put", "put", "put", "append", "append", "remove", "remove", "refuse")
			marks++
			op.Args = map[string]any{"space": s.Space, "key": key(), "text": strings.Repeat("x", 1+random.IntN(3)), "mark": fmt.Sprint(marks)}
			for range random.IntN(3) { // a few in one breath
				s.Ops = append(s.Ops, op)
				marks++
				op.Args = map[string]any{"space": s.Space, "key": key(), "text": "y", "mark": fmt.Sprint(marks)}
			}
		case n < 58 && len(watched) < 6:
			ids++
			op.Do, op.ID, op.Path = "subscribe", ids, "script:"+pick("list", "count", "get", "even", "mine", "mine")
			op.Args = map[string]any{"space": s.Space}
			if op.Path == "script:get" || op.Path == "script:even" {
				op.Args["key"] = key()
			}
			live[client] = append(watched, subscription{id: ids})
		case n < 66 && len(watched) < 6:
			ids++
			op.Do, op.ID, op.Size = "paginate", ids, 1+random.IntN(3)
			live[client] = append(watched, subscription{ids, true})
		case n < 74 && len(watched) > 0:
			w := watched[random.IntN(len(watched))]
			if !w.pages {
				continue
			}
			op.Do, op.ID, op.Size = "more", w.id, 1+random.IntN(3)
		case n < 80 && len(watched) > 0:
			i := random.IntN(len(watched))
			op.Do, op.ID = "unsubscribe", watched[i].id
			live[client] = append(watched[:i:i], watched[i+1:]...)
		case n < 86:
			op.Do, op.Wait = "sign in", random.IntN(2) == 0
			if i := random.IntN(3); i < len(users) {
				op.User = &users[i]
			}
		case n < 92:
			op.Do = "break"
		case n < 96:
			op.Do = "settle"
		default:
			op.Do, op.MS = "pause", random.IntN(30)
		}
		s.Ops = append(s.Ops, op)
	}
	return s
}

// playScripts has one process of node play scripts, some at once, and hands out what came of each as it ends.
func playScripts(t *testing.T, all []*clientScript, width int, ended func(*scriptTrace)) {
	t.Helper()
	if err := installed[clientsDir](); err != nil {
		lacking(t, "npm clients", err)
	}
	noteRun(t)
	cmd := exec.CommandContext(t.Context(), "node", "scripts.mjs", fmt.Sprint(width))
	cmd.Dir = clientsDir
	var said output
	cmd.Stderr = &said
	var lines []byte
	for _, s := range all {
		lines = append(append(lines, encode(s)...), '\n')
	}
	cmd.Stdin = strings.NewReader(string(lines))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers, n := bufio.NewScanner(out), 0
	answers.Buffer(nil, 64<<20)
	for answers.Scan() {
		trace := &scriptTrace{}
		if err := json.Unmarshal(answers.Bytes(), trace); err != nil {
			t.Errorf("node wrote %.300q: %v", answers.Text(), err)
			continue
		}
		n++
		ended(trace)
	}
	if err := cmd.Wait(); err != nil || n != len(all) {
		t.Errorf("node ended with %v after %d of %d scripts and said:\n%s", err, n, len(all), &said)
	}
}

// The official client does at random what clients do: it subscribes, writes, signs in, turns pages and loses its connection. Whatever it shows
// is one state, of one user, that never goes back, with all of its own writes in it; each of its mutations happens once and in turn.
func TestClientScripts(t *testing.T) {
	testScripts(t, *scripts, nil)
}

// The same over a network that delays, cuts, half closes and repeats.
func TestClientScriptsOverABadNetwork(t *testing.T) {
	testScripts(t, (*scripts+4)/5, func(t *testing.T, s *server, random *rand.Rand) *badNetwork { return newBadNetwork(t, s, random) })
}

func testScripts(t *testing.T, n int, network func(*testing.T, *server, *rand.Rand) *badNetwork) {
	issuer := tokentest.New(t)
	s := serve(t, fixture, fmt.Sprintf(`HALCYON_AUTH_PROVIDERS=[{"domain":%q,"applicationID":%q}]`, issuer.URL, tokentest.Audience))
	tokens := map[string][]string{}
	for _, user := range []string{"ann", "bob"} {
		tokens[user] = []string{issuer.Token(user, 2*time.Hour, nil), issuer.Token(user, 2*time.Hour, nil)}
	}
	base := newRand(t).Uint64()
	all := make([]*clientScript, n)
	byName := map[string]*clientScript{}
	networks := map[string]*badNetwork{}
	for i := range all {
		random := rand.New(rand.NewPCG(base, uint64(i)))
		script := newScript(random, fmt.Sprintf("script-%d", i), tokens)
		script.URL = s.url()
		if network != nil {
			bad := network(t, s, random)
			script.URL = bad.url()
			networks[script.Name] = bad
		}
		all[i], byName[script.Name] = script, script
	}
	var found scriptCounts
	began := time.Now()
	playScripts(t, all, 16, func(trace *scriptTrace) {
		script := byName[trace.Name]
		entries := query[[]scriptEntry](s, "script:entries", map[string]any{"space": script.Space})
		counts, err := checkScript(script, trace, entries)
		if bad := networks[trace.Name]; bad != nil {
			found.faults += bad.end()
		}
		found.add(counts)
		if err != nil {
			t.Errorf("%s: %v\nops: %s", trace.Name, err, encode(script.Ops))
		}
	})
	t.Logf("%d scripts in %v: %+v", n, time.Since(began).Round(time.Millisecond), found)
	if found.screens < 4*n || found.done < 5*n {
		t.Errorf("the scripts did hardly anything: %+v", found)
	}
}
