package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const clientsDir = "testdata/clients"

// replicateDir has the published client of Replicate.
const replicateDir = "testdata/replicate"

var installed = map[string]func() error{
	clientsDir:   sync.OnceValue(func() error { return installClients(clientsDir) }),
	replicateDir: sync.OnceValue(func() error { return installClients(replicateDir) }),
	yjsDir:       sync.OnceValue(func() error { return installClients(yjsDir) }),
}

// installClients installs the npm clients of a folder.
func installClients(dir string) error {
	for _, tool := range []string{"node", "npm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	if clientsInstalled(dir) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// clientsInstalled tells whether all that a folder's lock file names is there. npm leaves a
// copy of the lock file with what it has installed.
func clientsInstalled(dir string) bool {
	type packages struct {
		Packages map[string]struct {
			Version  string
			Optional bool
		}
	}
	var wanted, there packages
	for name, into := range map[string]*packages{"package-lock.json": &wanted, filepath.Join("node_modules", ".package-lock.json"): &there} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || json.Unmarshal(text, into) != nil {
			return false
		}
	}
	for name, want := range wanted.Packages {
		if name != "" && !want.Optional && there.Packages[name].Version != want.Version {
			return false
		}
	}
	return true
}

// noteRun adds the test to the file that HALCYON_E2E_RAN names, if it does: so
// .ci/run knows how many scenarios were run with the official clients.
func noteRun(t testing.TB) {
	t.Helper()
	path := os.Getenv("HALCYON_E2E_RAN")
	if path == "" {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(t.Name() + "\n")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// npm is a node process with official clients in it.
type npm struct {
	t    testing.TB
	in   io.WriteCloser
	read chan struct{} // closed when the process has said all

	mu struct {
		sync.Mutex
		next    int
		answers map[int]chan reply
		updates map[int]*npmUpdates
	}
}

// reply is what came of a command, or one update of a subscription.
type reply struct {
	ID     int             `json:"id"`
	Update *int            `json:"update"`
	Value  json.RawMessage `json:"value"`
	Error  *npmError       `json:"error"`
}

// npmError is what a client threw.
type npmError struct {
	Name    string          `json:"name"`
	Message string          `json:"message"`
	Data    json.RawMessage `json:"data"` // of a ConvexError
}

func (e *npmError) Error() string { return e.Name + ": " + e.Message }

// npmUpdates is a subscription of an npm client.
type npmUpdates struct {
	id      int
	arrived chan reply
}

// command is a line to the process.
type command struct {
	ID           int    `json:"id"`
	Do           string `json:"do"`
	Client       string `json:"client"`
	Kind         string `json:"kind,omitempty"`
	Path         string `json:"path,omitempty"`
	Args         any    `json:"args,omitempty"`
	Subscription int    `json:"subscription,omitempty"`
}

// startNPM starts a process for clients of a server.
func startNPM(t testing.TB, s *server) *npm {
	t.Helper()
	return startNode(t, clientsDir, "steer.mjs", s.url())
}

// startNode starts a script in a folder with npm clients.
func startNode(t testing.TB, dir, script, url string) *npm {
	t.Helper()
	if err := installed[dir](); err != nil {
		lacking(t, "npm clients", err)
	}
	noteRun(t)
	cmd := exec.Command("node", script, url)
	cmd.Dir = dir
	var said output
	cmd.Stderr = &said
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &npm{t: t, in: in, read: make(chan struct{})}
	n.mu.answers = make(map[int]chan reply)
	n.mu.updates = make(map[int]*npmUpdates)
	go func() {
		defer close(n.read)
		n.readAll(out)
	}()
	t.Cleanup(func() {
		n.end()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("node ended with %v and said:\n%s", err, &said)
		}
	})
	return n
}

// end ends the process.
func (n *npm) end() {
	_ = n.in.Close()
	<-n.read
}

// readAll hands out what the process writes.
func (n *npm) readAll(out io.Reader) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var r reply
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			n.t.Errorf("node wrote %q: %v", lines.Text(), err)
			continue
		}
		n.mu.Lock()
		to := n.mu.answers[r.ID]
		if r.Update != nil {
			to = n.mu.updates[*r.Update].arrived
		}
		n.mu.Unlock()
		to <- r
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, waiting := range n.mu.answers {
		close(waiting)
	}
	for _, waiting := range n.mu.updates {
		close(waiting.arrived)
	}
}

// send gives a command and returns where its answer will be.
func (n *npm) send(c command) (id int, answer chan reply) {
	n.t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.next++
	c.ID = n.mu.next
	answer = make(chan reply, 1)
	n.mu.answers[c.ID] = answer
	if c.Do == "subscribe" {
		n.mu.updates[c.ID] = &npmUpdates{c.ID, make(chan reply, 10_000)}
	}
	if _, err := n.in.Write(append(encode(c), '\n')); err != nil {
		n.t.Errorf("node: %v", err)
	}
	return c.ID, answer
}

// do gives a command and waits for its answer.
func (n *npm) do(c command) (json.RawMessage, *npmError) {
	n.t.Helper()
	_, answer := n.send(c)
	r, ok := receive(n.t, answer)
	if !ok {
		n.t.Fatalf("%s %s: node has ended", c.Do, c.Path)
	}
	return r.Value, r.Error
}

// open makes clients of one of the two kinds.
func (n *npm) open(kind string, clients ...string) {
	n.t.Helper()
	for _, name := range clients {
		if _, err := n.do(command{Do: "open", Client: name, Kind: kind}); err != nil {
			n.t.Fatalf("open %s: %v", name, err)
		}
	}
}

// must gives a command that has to succeed.
func (n *npm) must(do, client, path string, args any) json.RawMessage {
	n.t.Helper()
	value, err := n.do(command{Do: do, Client: client, Path: path, Args: args})
	if err != nil {
		n.t.Fatalf("%s %s by %s: %v", do, path, client, err)
	}
	return value
}

// subscribe adds a live query.
func (n *npm) subscribe(client, path string, args any) *npmUpdates {
	n.t.Helper()
	id, answer := n.send(command{Do: "subscribe", Client: client, Path: path, Args: args})
	if r, ok := receive(n.t, answer); !ok || r.Error != nil {
		n.t.Fatalf("subscribe to %s: %v", path, r.Error)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.updates[id]
}

// awaitUpdate waits for an update that ok accepts.
func awaitUpdate[T any](n *npm, u *npmUpdates, what string, ok func(T) bool) T {
	n.t.Helper()
	for {
		r, open := receive(n.t, u.arrived)
		if !open {
			n.t.Fatalf("%s: node has ended", what)
		}
		if r.Error != nil {
			n.t.Fatalf("%s: the query failed: %v", what, r.Error)
		}
		var value T
		if err := json.Unmarshal(r.Value, &value); err != nil {
			n.t.Fatalf("%s: %s: %v", what, r.Value, err)
		}
		if ok(value) {
			return value
		}
		n.t.Logf("%s: not yet with %.300s", what, r.Value)
	}
}

// receive waits for what comes next.
func receive[T any](t testing.TB, from <-chan T) (T, bool) {
	t.Helper()
	select {
	case v, ok := <-from:
		return v, ok
	case <-impatient(t).Done():
		t.Fatal(errLate)
		panic("unreachable")
	}
}

// liveStats is what these tests read of stats:getStats.
type liveStats struct {
	ActiveVisitors int
	ActiveByPath   []pathCount
	TotalPageViews int
	UniqueVisitors int
	TotalPaths     int
	PageStats      []struct {
		Path, Title, PageType string
		Views                 int
	}
	VisitorLocations []struct {
		Latitude, Longitude float64
		Country             *string
	}
}

type pathCount struct {
	Path  string
	Count int
}

func TestNPMClientsShareLiveNumbers(t *testing.T) {
	s := serve(t, halcyon)
	n := startNPM(t, s)
	n.open("ws", "reader", "visitor")
	n.open("http", "http")
	none := map[string]any{}

	live := n.subscribe("reader", "stats:getStats", none)
	first := awaitUpdate(n, live, "the first numbers", func(liveStats) bool { return true })
	if first.ActiveVisitors != 0 || first.TotalPageViews != 0 || first.ActiveByPath == nil {
		t.Errorf("an empty site has %+v", first)
	}

	// A visitor with a WebSocket, and one that calls over HTTP.
	n.must("mutation", "visitor", "stats:recordPageView", map[string]any{"path": "/", "pageType": "home", "sessionId": "ada"})
	n.must("mutation", "visitor", "stats:heartbeat", map[string]any{
		"sessionId": "ada", "currentPath": "/", "country": "PT", "latitude": 38.72, "longitude": -9.14,
	})
	one := awaitUpdate(n, live, "one visitor", func(s liveStats) bool { return s.ActiveVisitors == 1 && s.TotalPageViews == 1 })
	if len(one.VisitorLocations) != 1 || one.VisitorLocations[0].Latitude != 38.7 || one.VisitorLocations[0].Longitude != -9.1 {
		t.Errorf("places %+v, want one at 38.7, -9.1", one.VisitorLocations)
	}
	n.must("mutation", "http", "stats:recordPageView", map[string]any{"path": "/about", "pageType": "page", "sessionId": "bob"})
	n.must("mutation", "http", "stats:recordPageView", map[string]any{"path": "/about", "pageType": "page", "sessionId": "bob"})
	n.must("mutation", "http", "stats:heartbeat", map[string]any{"sessionId": "bob", "currentPath": "/about"})
	two := awaitUpdate(n, live, "two visitors", func(s liveStats) bool { return s.ActiveVisitors == 2 && s.TotalPageViews == 2 })
	if diff := cmp.Diff([]pathCount{{"/", 1}, {"/about", 1}}, two.ActiveByPath); diff != "" {
		t.Errorf("who is where (-want +got):\n%s", diff)
	}

	// The second visitor follows the first, over the other kind of client.
	n.must("mutation", "visitor", "stats:heartbeat", map[string]any{"sessionId": "bob", "currentPath": "/"})
	awaitUpdate(n, live, "both on one page", func(s liveStats) bool {
		return cmp.Equal([]pathCount{{"/", 2}}, s.ActiveByPath)
	})

	// What is asked for once is what is seen live, by both clients.
	live2 := n.must("query", "visitor", "stats:getStats", none)
	if diff := cmp.Diff(string(live2), string(n.must("query", "http", "stats:getStats", none))); diff != "" {
		t.Errorf("the clients disagree (-WebSocket +HTTP):\n%s", diff)
	}
	if _, err := n.do(command{Do: "close", Client: "reader"}); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestNPMClientsTouchAuthSessions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	id := run(t, halcyon, dir, "run", "authSessions:create", `{"sessionId": "device-1", "lastSeenAt": 1000}`)
	if again := run(t, halcyon, dir, "run", "authSessions:create", `{"sessionId": "device-1", "lastSeenAt": 2000}`); again != id {
		t.Errorf("created twice: %s and %s", id, again)
	}
	s := serveOn(t, halcyon, dir)
	n := startNPM(t, s)
	n.open("ws", "ws")
	n.open("http", "http")
	for _, tt := range []struct {
		name, client, session string
		seen                  int
		want                  string
	}{
		{"an unknown session", "ws", "nobody", 5000, `null`},
		{"an unknown session over HTTP", "http", "nobody", 5000, `null`},
		{"just before 30 seconds", "ws", "device-1", 30_999, `{"skipped":true,"success":true}`},
		{"after 30 seconds", "http", "device-1", 31_000, `{"success":true}`},
		{"again", "ws", "device-1", 31_001, `{"skipped":true,"success":true}`},
		{"a late call", "http", "device-1", 1000, `{"skipped":true,"success":true}`},
		{"30 seconds later", "ws", "device-1", 61_000, `{"success":true}`},
	} {
		got := n.must("mutation", tt.client, "authSessions:touchSession", map[string]any{"sessionId": tt.session, "lastSeenAt": tt.seen})
		if string(got) != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestNPMClientsSeeErrors(t *testing.T) {
	s := serve(t, halcyon)
	n := startNPM(t, s)
	n.open("ws", "ws")
	n.open("http", "http")
	const called = "\n  Called by client" // how the WebSocket client ends its messages
	tests := []struct {
		name, do, path string
		args           any
		message        string // as in the server's answer, the request id replaced
		data           string
	}{
		{"no such function", "query", "stats:nothing", map[string]any{},
			"Could not find public function for 'stats:nothing'.", ""},
		{"an internal function", "mutation", "authSessions:create", map[string]any{"sessionId": "x", "lastSeenAt": 0},
			"Could not find public function for 'authSessions:create'.", ""},
		{"a query called as a mutation", "mutation", "stats:getStats", map[string]any{},
			"Trying to execute stats:getStats as Mutation, but it is defined as Query.", ""},
		{"a missing argument", "mutation", "stats:heartbeat", map[string]any{"sessionId": "x"}, "ArgumentValidationError", ""},
		{"an extra argument", "query", "stats:getSites", map[string]any{"days": 3}, "ArgumentValidationError", ""},
		{"an error of the app", "mutation", "stats:heartbeat", map[string]any{"sessionId": "", "currentPath": "/"},
			"sessionId is empty", `{"code":"InvalidSessionId","message":"sessionId is empty"}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, client := range []string{"ws", "http"} {
				value, err := n.do(command{Do: tt.do, Client: client, Path: tt.path, Args: tt.args})
				if err == nil {
					t.Errorf("%s: %s, want an error", client, value)
					continue
				}
				if !bytes.Contains([]byte(err.Message), []byte(tt.message)) {
					t.Errorf("%s: message %q, want %q in it", client, err.Message, tt.message)
				}
				if client == "ws" && !bytes.HasSuffix([]byte(err.Message), []byte(called)) {
					t.Errorf("the WebSocket client says %q, which does not end in %q", err.Message, called)
				}
				if string(err.Data) != tt.data {
					t.Errorf("%s: data %s, want %s", client, err.Data, tt.data)
				}
				if want := map[bool]string{true: "ConvexError", false: "Error"}[tt.data != ""]; err.Name != want {
					t.Errorf("%s: %s, want %s", client, err.Name, want)
				}
			}
		})
	}
	// A failure ends nothing.
	n.must("mutation", "ws", "stats:heartbeat", map[string]any{"sessionId": "x", "currentPath": "/"})
	if got := query[liveStats](s, "stats:getStats", map[string]any{}); got.ActiveVisitors != 1 {
		t.Errorf("%d active visitors, want 1", got.ActiveVisitors)
	}
}

// What a client has said last is more than fits a pipe, and nobody has read it yet when it
// is told to end. It must not be cut.
func TestNPMClientsSayAllBeforeTheyEnd(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{clientsDir, replicateDir, yjsDir} {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			if err := installed[dir](); err != nil {
				lacking(t, "npm clients", err)
			}
			cmd := exec.CommandContext(impatient(t), "node", "steer.mjs", "http://127.0.0.1:1")
			cmd.Dir = dir
			// The answer to what is no verb has the verb in it.
			verb := strings.Repeat("x", 1<<20)
			cmd.Stdin = bytes.NewReader(append(encode(command{ID: 1, Do: verb}), '\n'))
			out, in, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd.Stdout = in
			if err := errors.Join(cmd.Start(), in.Close()); err != nil {
				t.Fatal(err)
			}
			said := make([]byte, 1)
			if _, err := io.ReadFull(out, said); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				t.Errorf("node ended with %v before anybody had read what it said", err)
			case <-time.After(time.Second): // one that ends too early does so before
			}
			rest, err := io.ReadAll(out)
			if err != nil {
				t.Fatal(err)
			}
			if said = append(said, rest...); len(said) < len(verb) || said[len(said)-1] != '\n' {
				t.Errorf("%d bytes arrived, want the line of more than %d", len(said), len(verb))
			}
		})
	}
}
