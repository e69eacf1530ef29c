package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon/protocol"
)

// A day in the life of a connection, as in the transcripts of the npm client.
func TestConversation(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c := connect(t, s)

	c.modify(
		protocol.Modification{QueryID: 0, Path: "t:list", Args: json.RawMessage(`[{"channel":"general"}]`)},
		protocol.Modification{QueryID: 1, Path: "t:fails", Args: json.RawMessage(`[{}]`)},
	)
	tr := next[*protocol.Transition](c)
	if tr.Start != (protocol.Version{}) || tr.End.QuerySet != 1 || tr.End.Identity != 0 || tr.End.TS == 0 {
		t.Errorf("first Transition leads from %+v to %+v", tr.Start, tr.End)
	}
	if len(tr.Modifications) != 2 || c.results[0] != "[]" || !strings.Contains(c.results[1], "Uncaught ConvexError") {
		t.Errorf("first Transition: %s", tr.Append(nil))
	}
	for _, m := range tr.Modifications {
		if m.QueryID == 1 && string(m.ErrorData) != `{"code":"NoLuck","data":{"attempt":1},"message":"It did not work."}` {
			t.Errorf("errorData = %s", m.ErrorData)
		}
	}

	id := c.mutate("t:send", `{"channel":"general","body":"hi"}`)
	r := next[*protocol.MutationResponse](c)
	if !r.Success || r.RequestID != id || r.TS <= tr.End.TS || len(r.LogLines) != 1 || r.LogLines[0] != "[LOG] 'sending' 'hi'" {
		t.Errorf("response: %s", r.Append(nil))
	}
	tr = next[*protocol.Transition](c)
	if tr.End.TS < r.TS || c.results[0] != `["hi"]` || len(tr.Modifications) != 1 {
		t.Errorf("Transition after the mutation: %s", tr.Append(nil))
	}

	c.mutate("t:fail", `{}`)
	r = next[*protocol.MutationResponse](c)
	if r.Success || string(r.ErrorData) != `{"code":"NoLuck","message":"It did not work."}` || !strings.Contains(r.ErrorMessage, "Uncaught ConvexError") {
		t.Errorf("failed response: %s", r.Append(nil))
	}
	c.send(&protocol.Action{RequestID: c.requests, Path: "a:run", Args: json.RawMessage(`[{}]`)})
	c.requests++
	a := next[*protocol.ActionResponse](c)
	if a.Success || a.ErrorMessage != "Could not find public function for 'a:run'." || a.ErrorData != nil {
		t.Errorf("action: %s", a.Append(nil))
	}

	c.add(2, "t:count", `{"channel":"general"}`)
	tr = next[*protocol.Transition](c)
	if tr.End.QuerySet != 2 || c.results[2] != `{"$integer":"AAAAAAAAAAA="}` || len(tr.Modifications) != 1 {
		t.Errorf("Transition after Add: %s", tr.Append(nil))
	}
	c.remove(2)
	tr = next[*protocol.Transition](c)
	if tr.End.QuerySet != 3 || len(tr.Modifications) != 1 || tr.Modifications[0].Kind != protocol.QueryRemoved {
		t.Errorf("Transition after Remove: %s", tr.Append(nil))
	}

	c.send(&protocol.Authenticate{Base: 0, TokenType: "None"})
	tr = next[*protocol.Transition](c)
	if tr.End.Identity != 1 || len(tr.Modifications) != 0 || tr.ServerTS == nil {
		t.Errorf("Transition after Authenticate: %s", tr.Append(nil))
	}
	// Another client's write shows here too.
	f.call(t, "t:send", map[string]any{"channel": "general", "body": "from elsewhere"}, nil)
	tr = next[*protocol.Transition](c)
	if c.results[0] != `["hi","from elsewhere"]` || len(tr.Modifications) != 1 {
		t.Errorf("Transition after a write elsewhere: %s", tr.Append(nil))
	}
	if err := c.ws.Close(websocket.StatusNormalClosure, "bye"); err != nil {
		t.Errorf("close handshake: %v", err)
	}
}

func TestEmptyQuerySetsAreAnswered(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c := connect(t, s)
	for want := uint32(1); want < 4; want++ {
		c.modify()
		tr := next[*protocol.Transition](c)
		if tr.End.QuerySet != want || len(tr.Modifications) != 0 || tr.End.TS == 0 {
			t.Errorf("Transition %d: %s", want, tr.Append(nil))
		}
	}
	// Removing what is not there is harmless, and answered too.
	c.remove(77)
	if tr := next[*protocol.Transition](c); len(tr.Modifications) != 1 || tr.Modifications[0].QueryID != 77 {
		t.Errorf("answer to the removal: %s", tr.Append(nil))
	}
	// Without version in the path, as other clients than npm do it.
	for _, path := range []string{"/api/sync", "/api/1.31.4-alpha.0/sync"} {
		ws, _, err := websocket.Dial(patience(t), "ws://"+s.address+path, nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		_ = ws.CloseNow()
	}
}

// What is wrong with one query or mutation fails it alone.
func TestFailuresAreAlone(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{QueriesPerConnectionMax: 6})
	c := connect(t, s)
	c.modify(
		protocol.Modification{QueryID: 0, Path: "t:count", Args: json.RawMessage(`[{"channel":"a"}]`)},
		protocol.Modification{QueryID: 1, Path: "t:missing", Args: json.RawMessage(`[{}]`)},
		protocol.Modification{QueryID: 2, Path: "t:increment", Args: json.RawMessage(`[{"channel":"a"}]`)},
		protocol.Modification{QueryID: 3, Path: "t:count", Args: json.RawMessage(`[{"channel":5}]`)},
		protocol.Modification{QueryID: 4, Path: "t:count", Args: json.RawMessage(`[{"channel":"\ud800"}]`)},
		protocol.Modification{QueryID: 5, Path: "t:count", Args: json.RawMessage(`[1]`)},
		protocol.Modification{QueryID: 6, Path: "t:count", Args: json.RawMessage(`[{"channel":"a"}]`), Component: "x"},
		protocol.Modification{QueryID: 7, Path: "not a path", Args: json.RawMessage(`[{}]`)},
		protocol.Modification{QueryID: 8, Path: "t:secret", Args: json.RawMessage(`[{}]`)},
		protocol.Modification{QueryID: 9, Path: "t:count", Args: json.RawMessage(`[{"channel":"a"}]`)},
	)
	tr := next[*protocol.Transition](c)
	if tr.End.QuerySet != 1 {
		t.Errorf("Transition: %s", tr.Append(nil))
	}
	want := map[uint32]string{
		0: `{"$integer":"AAAAAAAAAAA="}`,
		1: "error: Could not find public function for 't:missing'.",
		2: "error: Trying to execute t:increment as Query, but it is defined as Mutation.",
		3: "error: ArgumentValidationError: ",
		4: "error: BadArguments: ",
		5: "error: BadArguments: ",
		6: "error: Functions of components",
		7: "error: Could not find public function for 'not a path'.",
		8: "error: Could not find public function for 't:secret'.",
		9: "error: TooManyQueries: a connection may have 6 live queries.",
	}
	for id, text := range want {
		if got := c.results[id]; !strings.HasPrefix(got, text) {
			t.Errorf("query %d: %q, want %q", id, got, text)
		}
	}
	for _, tc := range []struct{ path, args, want string }{
		{"t:missing", `{}`, "Could not find public function for 't:missing'."},
		{"t:count", `{"channel":"a"}`, "Trying to execute t:count as Mutation, but it is defined as Query."},
		{"t:increment", `1`, "BadArguments: "},
		{"t:increment", `{"channel":1}`, "ArgumentValidationError: "},
		{"t:secret", `{}`, "Could not find public function for 't:secret'."},
		{"t:crash", `{}`, "[Request ID: "},
	} {
		id := c.mutate(tc.path, tc.args)
		r := next[*protocol.MutationResponse](c)
		if r.Success || r.RequestID != id || !strings.HasPrefix(r.ErrorMessage, tc.want) || strings.Contains(r.ErrorMessage, "oh no") {
			t.Errorf("%s(%s): %s, want %q", tc.path, tc.args, r.Append(nil), tc.want)
		}
	}
	// The place of a removed query is free again.
	c.remove(0)
	next[*protocol.Transition](c)
	c.add(10, "t:count", `{"channel":"a"}`)
	next[*protocol.Transition](c)
	if c.results[10] != `{"$integer":"AAAAAAAAAAA="}` {
		t.Errorf("query added after the removal: %q", c.results[10])
	}
}

func TestUnchangedResultsAreNotSent(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c := connect(t, s)
	c.add(0, "t:parity", `{"channel":"a"}`)
	c.add(1, "t:count", `{"channel":"a"}`)
	c.until("both queries are there", func() bool { return len(c.results) == 2 })
	for range 4 {
		c.mutate("t:increment", `{"channel":"a"}`)
		c.mutate("t:increment", `{"channel":"a"}`)
		var last protocol.Timestamp
		for range 2 {
			last = c.response().TS
		}
		c.until("the second increment shows", func() bool { return c.version.TS >= last })
	}
	// A mutation that changes nothing is followed by a Transition without changes.
	c.mutate("t:nothing", `{"a":1}`)
	r := next[*protocol.MutationResponse](c)
	if !r.Success || string(r.Value) != `{"a":1}` {
		t.Errorf("response: %s", r.Append(nil))
	}
	tr := next[*protocol.Transition](c)
	if len(tr.Modifications) != 0 || tr.End.TS < r.TS {
		t.Errorf("Transition after a mutation without changes: %s", tr.Append(nil))
	}
	if c.results[0] != `{"$integer":"AAAAAAAAAAA="}` || c.results[1] != `{"$integer":"CAAAAAAAAAA="}` {
		t.Errorf("results: %v", c.results)
	}
}

// An optimistic counter must never show the effect of a mutation before its
// response, whatever else is being written at the time.
func TestResponseBeforeEffect(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{Tick: 1})
	const clients, each = 8, 60
	done := make(chan error, clients)
	for i := range clients {
		c := connect(t, s)
		c.session = fmt.Sprintf("220faa75-0ee8-4ccb-ae77-d977887554%02x", i)
		c.ws.CloseNow()
		c = dial(t, s, nil)
		c.send(&protocol.Connect{SessionID: fmt.Sprintf("220faa75-0ee8-4ccb-ae77-d977887554%02x", i)})
		go func() { done <- runOptimistic(c, each) }()
	}
	for range clients {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	var n int64
	f.call(t, "t:count", map[string]any{"channel": "a"}, &n)
	if n != clients*each {
		t.Errorf("count = %d, want %d", n, clients*each)
	}
}

// runOptimistic sends increments, two at a time, and checks each Transition: the
// mutations whose effect may be in it must all have been answered.
func runOptimistic(c *client, n int) error {
	c.add(0, "t:count", `{"channel":"a"}`)
	c.send(&protocol.Mutation{RequestID: 0, Path: "t:increment", Args: json.RawMessage(`[{"channel":"a"}]`)})
	sent, answered, settled := 1, 0, 0
	var answers []protocol.Timestamp
	for settled < n {
		if sent < n && sent-settled < 2 {
			c.send(&protocol.Mutation{RequestID: uint32(sent), Path: "t:increment", Args: json.RawMessage(`[{"channel":"a"}]`)})
			sent++
		}
		m, err := c.read()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case *protocol.MutationResponse:
			if !m.Success || int(m.RequestID) != answered {
				return fmt.Errorf("response %s, want success of %d", m.Append(nil), answered)
			}
			if m.TS <= c.version.TS {
				return fmt.Errorf("the response of a mutation at %d came after a Transition to %d", m.TS, c.version.TS)
			}
			answered++
			answers = append(answers, m.TS)
		case *protocol.Transition:
			for settled < answered && answers[settled] <= m.End.TS {
				settled++
			}
		}
	}
	return nil
}

func TestProtocolViolations(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	connectText := string((&protocol.Connect{SessionID: sessionA}).Append(nil))
	modify := `{"type":"ModifyQuerySet","baseVersion":%d,"newVersion":%d,"modifications":[]}`
	add := `{"type":"ModifyQuerySet","baseVersion":%d,"newVersion":%d,"modifications":[{"type":"Add","queryId":1,"udfPath":"t:count","args":[{"channel":"a"}]}]}`
	for _, tc := range []struct {
		name  string
		texts []string
		want  string
	}{
		{"not JSON", []string{connectText, `hello`}, "malformed"},
		{"half a message", []string{connectText, `{"type":"Event"`}, "malformed"},
		{"unknown type", []string{connectText, `{"type":"Hello"}`}, "unknown message type"},
		{"no Connect", []string{fmt.Sprintf(modify, 0, 1)}, "The first message must be Connect."},
		{"two Connects", []string{connectText, connectText}, "Connect was sent twice."},
		{"session is no UUID", []string{`{"type":"Connect","sessionId":"x","connectionCount":0}`}, "sessionId is not a UUID"},
		{"wrong base", []string{connectText, fmt.Sprintf(modify, 1, 2)}, "BaseVersionMismatch"},
		{"wrong new version", []string{connectText, fmt.Sprintf(modify, 0, 2)}, "BaseVersionMismatch"},
		{"same change twice", []string{connectText, fmt.Sprintf(modify, 0, 1), fmt.Sprintf(modify, 0, 1)}, "BaseVersionMismatch"},
		{"query id twice", []string{connectText, fmt.Sprintf(add, 0, 1), fmt.Sprintf(add, 1, 2)}, "The query id 1 is in use."},
		{"wrong identity", []string{connectText, `{"type":"Authenticate","baseVersion":1,"tokenType":"None"}`}, "BaseVersionMismatch"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, s, nil)
			c.querySet = 9 // not checked here
			for _, text := range tc.texts {
				c.sendText(text)
			}
			for {
				m, err := c.read()
				if err != nil {
					t.Fatalf("the connection ended without a FatalError: %v", err)
				}
				if fatal, ok := m.(*protocol.FatalError); ok {
					if !strings.Contains(fatal.Message, tc.want) {
						t.Errorf("FatalError %q, want %q", fatal.Message, tc.want)
					}
					break
				}
			}
			if closed := c.closed(); closed.Code != closePolicy || closed.Reason != reasonProtocol {
				t.Errorf("closed with %d %q", closed.Code, closed.Reason)
			}
		})
	}
	t.Run("binary", func(t *testing.T) {
		c := connect(t, s)
		if err := c.write(websocket.MessageBinary, []byte(`{"type":"Event"}`)); err != nil {
			t.Fatal(err)
		}
		if m := next[*protocol.FatalError](c); !strings.Contains(m.Message, "binary") {
			t.Errorf("FatalError %q", m.Message)
		}
	})
	t.Run("not UTF-8", func(t *testing.T) {
		c := connect(t, s)
		c.sendText("{\"type\":\"Event\",\"event\":\"\xff\"}")
		if closed := c.closed(); closed.Code != 1003 && closed.Code != 1007 {
			t.Errorf("closed with %d %q, want a refusal of the encoding", closed.Code, closed.Reason)
		}
	})
}

// A client that has seen a newer state than the store has is sent away until the
// store has caught up.
func TestClientAheadOfStore(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c := dial(t, s, nil)
	ahead := protocol.Timestamp(f.app.Durable()) + 3_600_000_000
	c.send(&protocol.Connect{SessionID: sessionA, ConnectionCount: 4, MaxObserved: &ahead})
	if closed := c.closed(); closed.Code != closeTryAgain || !strings.HasPrefix(closed.Reason, reasonInternal) {
		t.Errorf("closed with %d %q", closed.Code, closed.Reason)
	}
	c = dial(t, s, nil)
	equal := protocol.Timestamp(f.app.Durable())
	c.send(&protocol.Connect{SessionID: sessionA, ConnectionCount: 4, MaxObserved: &equal})
	c.modify()
	next[*protocol.Transition](c)
}
