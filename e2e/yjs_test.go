package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"
)

// yjsDir has the providers of Yjs.
const yjsDir = "testdata/yjs"

// The providers, by the names that their steer.mjs knows.
const (
	plainProvider = "y-websocket"
	manyProvider  = "hocuspocus"
)

// providers are tried by the tests of what both do.
var providers = []string{plainProvider, manyProvider}

// yjsClients is a node process with clients of Yjs.
type yjsClients struct{ *npm }

// yjsClient is what a client says of itself.
type yjsClient struct {
	Text      string
	Synced    bool
	Unsynced  int
	Scope     string
	Connected bool
	Pending   bool
	Self      string
	Others    map[string]any // awareness states
	Closed    []string
	Denied    string
	Stateless []string
	Acked     int // own characters that were there when everything was acknowledged last
	Acks      int
	Warnings  []string // of all clients of the process
}

func startYjs(t testing.TB, s *server) *yjsClients {
	t.Helper()
	return &yjsClients{startNode(t, yjsDir, "steer.mjs", s.url())}
}

// openDocument opens a document with a provider.
func (y *yjsClients) openDocument(client, provider, collection, document string, more ...string) {
	y.t.Helper()
	args := map[string]any{"collection": collection, "document": document}
	for i := 0; i < len(more); i += 2 {
		args[more[i]] = more[i+1]
	}
	if _, err := y.do(command{Do: "open", Client: client, Kind: provider, Args: args}); err != nil {
		y.t.Fatalf("open %s: %v", client, err)
	}
}

func (y *yjsClients) insert(client, text string) {
	y.t.Helper()
	y.must("insert", client, "", map[string]any{"text": text})
}

func (y *yjsClients) show(client string, state any) {
	y.t.Helper()
	y.must("show", client, "", map[string]any{"state": state})
}

func (y *yjsClients) state(client string) yjsClient {
	y.t.Helper()
	var c yjsClient
	if err := json.Unmarshal(y.must("state", client, "", nil), &c); err != nil {
		y.t.Fatal(err)
	}
	return c
}

// await waits until a client's state is as wanted.
func (y *yjsClients) await(client, what string, ok func(c yjsClient) bool) yjsClient {
	y.t.Helper()
	var c yjsClient
	poll(y.t, client+": "+what, func() (bool, string) {
		c = y.state(client)
		return ok(c), fmt.Sprintf("%+v", c)
	})
	return c
}

// awaitText waits until all clients have the same text, of these pieces in whatever order, and everything is acknowledged.
func (y *yjsClients) awaitText(pieces []string, clients ...string) {
	y.t.Helper()
	size := len(strings.Join(pieces, ""))
	poll(y.t, fmt.Sprintf("%v have %q", clients, pieces), func() (bool, string) {
		texts := map[string]string{}
		good := true
		for _, name := range clients {
			c := y.state(name)
			texts[name] = c.Text
			good = good && c.Synced && c.Unsynced == 0 && !c.Pending && len(c.Text) == size
			for _, p := range pieces {
				good = good && strings.Contains(c.Text, p)
			}
		}
		all := slices.Collect(maps.Values(texts))
		return good && len(slices.Compact(all)) == 1, fmt.Sprint(texts)
	})
}

func TestYjsProvidersShareADocument(t *testing.T) {
	s := serve(t, halcyon)
	for _, first := range providers {
		for _, second := range providers {
			t.Run(first+" and "+second, func(t *testing.T) {
				y := startYjs(t, s)
				document := strings.ReplaceAll(t.Name(), "/", "-")
				y.openDocument("a", first, "tasks", document)
				y.openDocument("b", second, "tasks", document)
				y.awaitText(nil, "a", "b")
				y.insert("a", "from a. ")
				y.insert("b", "from b. ")
				y.awaitText([]string{"from a. ", "from b. "}, "a", "b")

				y.show("a", map[string]any{"name": "a"})
				y.show("b", map[string]any{"name": "b"})
				y.openDocument("late", first, "tasks", document)
				y.awaitText([]string{"from a. ", "from b. "}, "a", "b", "late")
				a, b := y.state("a").Self, y.state("b").Self
				y.await("late", "sees both", func(c yjsClient) bool {
					return cmp.Equal(c.Others, map[string]any{a: map[string]any{"name": "a"}, b: map[string]any{"name": "b"}})
				})
				// One leaves with a word, the other without.
				y.must("close", "b", "", nil)
				y.await("late", "sees that b has gone", func(c yjsClient) bool { return len(c.Others) == 1 && c.Others[b] == nil })
				y.must("disconnect", "a", "", nil)
				y.await("late", "sees that a has gone", func(c yjsClient) bool { return len(c.Others) == 0 })
				y.insert("a", "offline. ")
				y.insert("late", "meanwhile. ")
				y.await("a", "is offline", func(c yjsClient) bool { return !c.Connected })
				y.must("connect", "a", "", nil)
				y.awaitText([]string{"from a. ", "from b. ", "offline. ", "meanwhile. "}, "a", "late")
				y.await("late", "sees a again", func(c yjsClient) bool { return c.Others[a] != nil })
			})
		}
	}
}

// TestYjsProvidersAfterARestart has the server end in peace and by a kill, while clients edit.
func TestYjsProvidersAfterARestart(t *testing.T) {
	for _, how := range []string{"terminated", "killed"} {
		t.Run(how, func(t *testing.T) {
			s := serve(t, halcyon)
			y := startYjs(t, s)
			y.openDocument("a", plainProvider, "tasks", "doc")
			y.openDocument("b", manyProvider, "tasks", "doc")
			y.insert("a", "before ")
			y.awaitText([]string{"before "}, "a", "b")
			y.show("a", "here")
			if how == "killed" {
				s.kill()
			} else if status := s.terminate(); status != 0 {
				t.Errorf("exit status %d", status)
			}
			y.insert("a", "down-a ")
			y.insert("b", "down-b ")
			y.await("a", "has noticed", func(c yjsClient) bool { return !c.Connected })
			y.await("b", "has noticed", func(c yjsClient) bool { return !c.Connected && c.Unsynced > 0 })
			s.launch()
			s.awaitReady()
			y.awaitText([]string{"before ", "down-a ", "down-b "}, "a", "b")
			y.insert("b", "after ")
			y.openDocument("c", manyProvider, "tasks", "doc")
			y.awaitText([]string{"before ", "down-a ", "down-b ", "after "}, "a", "b", "c")
			a := y.state("a").Self
			y.await("c", "sees a", func(c yjsClient) bool { return c.Others[a] == "here" })
		})
	}
}

func TestYjsReadersAndStrangers(t *testing.T) {
	s := serve(t, fixture)
	y := startYjs(t, s)
	y.openDocument("reader", manyProvider, "guarded", "read-1")
	y.openDocument("plain reader", plainProvider, "guarded", "read-1")
	y.await("reader", "may read", func(c yjsClient) bool { return c.Synced && c.Scope == "readonly" && c.Unsynced == 0 })
	y.await("plain reader", "may read", func(c yjsClient) bool { return c.Synced })
	y.insert("reader", "mine")
	y.insert("plain reader", "mine")
	// What is refused stays unsynced for ever; one that comes late sees nothing of it.
	y.await("plain reader", "is warned", func(c yjsClient) bool {
		return slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, "ReadOnly") })
	})
	y.openDocument("late", manyProvider, "guarded", "read-1")
	y.awaitText(nil, "late")
	if c := y.state("reader"); c.Unsynced != 1 || !c.Connected {
		t.Errorf("the reader is %+v", c)
	}

	y.openDocument("stranger", manyProvider, "guarded", "secret-1")
	y.openDocument("plain stranger", plainProvider, "guarded", "secret-1")
	y.await("stranger", "is denied", func(c yjsClient) bool { return c.Denied == "Forbidden" && !c.Synced })
	y.await("plain stranger", "stays away", func(c yjsClient) bool {
		return c.Denied == "stays away" && slices.Contains(c.Closed, "4401 Forbidden") && !c.Connected
	})

	// Pages of other origins are not let in at all.
	for _, origin := range []string{"http://" + s.address, "https://evil.example"} {
		ws, answer, err := websocket.Dial(t.Context(), strings.Replace(s.url(), "http", "ws", 1)+"/yjs/guarded/open-1",
			&websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		if own := strings.HasPrefix(origin, "http://"); own != (err == nil) || !own && answer.StatusCode != http.StatusForbidden {
			t.Errorf("a page of %s: %v", origin, err)
		}
		if err == nil {
			_ = ws.CloseNow()
		}
	}
}

func TestYjsLimitsAndMessages(t *testing.T) {
	s := serve(t, fixture)
	y := startYjs(t, s)
	for _, provider := range providers {
		document := "open-" + provider
		large, witness := "large "+provider, "witness "+provider
		y.openDocument(large, provider, "guarded", document)
		y.openDocument(witness, provider, "guarded", document)
		y.awaitText(nil, large, witness)
		y.insert(large, strings.Repeat("x", 65<<10))
		if provider == plainProvider {
			y.await(large, "is closed", func(c yjsClient) bool {
				return len(c.Closed) > 0 && strings.HasPrefix(c.Closed[0], "4413 UpdateTooLarge")
			})
		} else {
			y.await(large, "is closed", func(c yjsClient) bool { return len(c.Closed) > 0 && strings.HasSuffix(c.Closed[0], "UpdateTooLarge") })
		}
		y.insert(witness, "on")
		y.awaitText([]string{"on"}, witness)
		y.show(witness, strings.Repeat("y", 2<<10))
		y.await(witness, "is closed", func(c yjsClient) bool {
			return len(c.Closed) > 0 && strings.HasSuffix(c.Closed[0], "AwarenessTooLarge")
		})
	}

	// Several documents on one connection, and messages of the application.
	for _, name := range []string{"one", "two", "three"} {
		y.openDocument(name, manyProvider, "guarded", "open-"+name, "socket", "shared")
	}
	y.openDocument("none", manyProvider, "guarded", "secret", "socket", "shared")
	y.openDocument("two as well", plainProvider, "guarded", "open-two")
	y.awaitText(nil, "one", "two", "three", "two as well")
	y.await("none", "is denied", func(c yjsClient) bool { return c.Denied == "Forbidden" })
	y.insert("two", "2")
	y.awaitText([]string{"2"}, "two", "two as well")
	y.must("say", "one", "", map[string]any{"payload": "hello"})
	y.await("one", "is answered", func(c yjsClient) bool {
		return cmp.Equal(c.Stateless, []string{"heard hello", "open-one: hello"})
	})
	if c := y.state("three"); len(c.Stateless) != 0 || c.Text != "" {
		t.Errorf("another document got %+v", c)
	}
}

// TestYjsAcknowledgedSurvivesKills kills the server while clients type, and their process with it, and looks for what was acknowledged: nobody
// is left who could send it again.
func TestYjsAcknowledgedSurvivesKills(t *testing.T) {
	rnd := newRand(t)
	s := serve(t, halcyon)
	rounds := 2
	if *long {
		rounds = 30
	}
	for round := range rounds {
		y := startYjs(t, s)
		document := fmt.Sprintf("doc-%d", round)
		writers := []string{"a", "b", "c"}
		for _, name := range writers {
			y.openDocument(name, manyProvider, "tasks", document)
		}
		y.openDocument("plain", plainProvider, "tasks", document)
		y.awaitText(nil, append(writers, "plain")...)
		for _, name := range writers {
			y.insert(name, name)
			y.await(name, "its first character is acknowledged", func(c yjsClient) bool { return c.Acked > 0 })
		}
		acks := y.state("a").Acks
		kill := time.Now().Add(time.Duration(50+rnd.IntN(400)) * time.Millisecond)
		for i := 0; time.Now().Before(kill) || y.state("a").Acks < acks+3; i++ {
			y.insert(writers[i%3], writers[i%3])
			y.insert("plain", "p")
		}
		s.kill()
		acked := map[string]int{}
		for _, name := range writers {
			acked[name] = y.state(name).Acked
		}
		y.end()
		s.launch()
		s.awaitReady()
		after := startYjs(t, s)
		after.openDocument("late", manyProvider, "tasks", document)
		got := after.await("late", "is synced", func(c yjsClient) bool { return c.Synced && c.Unsynced == 0 })
		for _, name := range writers {
			if n := strings.Count(got.Text, name); n < acked[name] || acked[name] == 0 {
				t.Errorf("round %d: %s was told that %d characters are safe, and %d are there", round, name, acked[name], n)
			}
		}
		if got.Pending {
			t.Errorf("round %d: what is there is not whole", round)
		}
		after.end()
	}
}
