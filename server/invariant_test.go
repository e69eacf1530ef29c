package server

import (
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// A connection whose version would go back is closed before its client freezes,
// loudly, and alone.
func TestBrokenVersionEndsOneConnection(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	broken, other := connect(t, s), dial(t, s, nil)
	other.session = "220faa75-0ee8-4ccb-ae77-d97788755401"
	other.send(&protocol.Connect{SessionID: other.session})
	for _, c := range []*client{broken, other} {
		c.add(0, "t:count", `{"channel":"a"}`)
		next[*protocol.Transition](c)
	}
	session, err := parseUUID(broken.session)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	ours := s.mu.sessions[session]
	s.mu.Unlock()
	ours.mu.Lock()
	ours.mu.sent.TS += 1 << 40
	ours.mu.Unlock()

	f.call(t, "t:increment", map[string]any{"channel": "a"}, nil)
	if closed := broken.closed(); closed.Code != closeInternal || closed.Reason != reasonInternal+": TimestampWentBack" {
		t.Errorf("closed with %d %q", closed.Code, closed.Reason)
	}
	next[*protocol.Transition](other)
	if text := s.log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "rule=TimestampWentBack") {
		t.Errorf("the log does not tell:\n%s", text)
	}
	if n := s.BrokenRules(); n != 1 {
		t.Errorf("%d broken rules were counted, want 1", n)
	}
	listener := httptest.NewServer(s.Operator())
	defer listener.Close()
	var told ListedInsights
	operator := &OperatorClient{Base: listener.URL, HTTP: listener.Client()}
	if err := operator.Get(t.Context(), "insights", nil, &told); err != nil || told.BrokenRules != 1 {
		t.Errorf("the operator is told of %d broken rules, %v", told.BrokenRules, err)
	}
	s.log.reset()
	// Its client comes back and is shown everything.
	again := dial(t, s, nil)
	again.send(&protocol.Connect{SessionID: broken.session, ConnectionCount: 1, LastCloseReason: "InternalServerError: TimestampWentBack"})
	again.add(0, "t:count", `{"channel":"a"}`)
	if next[*protocol.Transition](again); again.results[0] != `{"$integer":"AQAAAAAAAAA="}` {
		t.Errorf("the client that came back is shown %s", again.results[0])
	}
}

// moving is a query set in which a result of the new user is still missing, or not.
type moving struct {
	querySet
	is bool
}

func (m moving) Moving() bool { return m.is }

// No Transition leads anywhere but to where the client asked to be, and where all its results are.
func TestAdvanceRefuses(t *testing.T) {
	sent := protocol.Version{QuerySet: 2, Identity: 1, TS: 100}
	for _, tc := range []struct {
		name   string
		end    protocol.Version
		change func(*conn)
		want   string // the broken rule
	}{
		{"the same", sent, nil, ""},
		{"all on", protocol.Version{QuerySet: 3, Identity: 2, TS: 101}, nil, ""},
		{"time alone", protocol.Version{QuerySet: 2, Identity: 1, TS: 101}, func(c *conn) { c.mu.answer = false }, ""},
		{"time back", protocol.Version{QuerySet: 2, Identity: 1, TS: 99}, nil, "TimestampWentBack"},
		{"no time", protocol.Version{}, func(c *conn) { c.mu.sent = protocol.Version{} }, "TransitionWithoutTimestamp"},
		{"query set back", protocol.Version{QuerySet: 1, Identity: 1, TS: 100}, nil, "QuerySetWentBack"},
		{"identity back", protocol.Version{QuerySet: 2, Identity: 0, TS: 100}, nil, "IdentityWentBack"},
		{"query set that was not sent", protocol.Version{QuerySet: 4, Identity: 1, TS: 100}, nil, "QuerySetNotSent"},
		{"identity that was not sent", protocol.Version{QuerySet: 2, Identity: 3, TS: 100}, nil, "IdentityNotSent"},
		{"query set that was answered", protocol.Version{QuerySet: 3, Identity: 1, TS: 100}, func(c *conn) { c.mu.answer = false }, "QuerySetWithoutModifyQuerySet"},
		{"query without a result", protocol.Version{QuerySet: 3, Identity: 1, TS: 101}, func(c *conn) { c.mu.fresh = map[uint32]struct{}{4: {}} }, "QuerySetBeforeItsResults"},
		{"a result of another user", protocol.Version{QuerySet: 2, Identity: 2, TS: 101}, func(c *conn) { c.mu.set = moving{is: true} }, "IdentityBeforeItsResults"},
		{"the results of one user", protocol.Version{QuerySet: 2, Identity: 2, TS: 101}, func(c *conn) { c.mu.set = moving{} }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := &conn{}
			c.mu.sent, c.mu.querySet, c.mu.identity, c.mu.answer = sent, 3, 2, true
			if tc.change != nil {
				tc.change(c)
			}
			before := c.mu.sent
			defer func() {
				got := ""
				if p := recover(); p != nil {
					got = p.(*brokenRule).name
				}
				if got != tc.want {
					t.Errorf("the rule is %q, want %q", got, tc.want)
				}
				if got != "" && c.mu.sent != before {
					t.Errorf("it went on to %+v", c.mu.sent)
				}
			}()
			start, _ := c.advanceLocked(tc.end)
			if start != before || c.mu.sent != tc.end {
				t.Errorf("from %+v to %+v", start, c.mu.sent)
			}
		})
	}
}

// What a client is told when its mutation did not become a call.
func TestResponseOf(t *testing.T) {
	log := &logBuffer{}
	s := &Server{log: testLogger(log)}
	for _, tc := range []struct {
		name  string
		out   halcyon.Outcome
		err   error
		again bool   // the connection is closed, and the client asks again
		want  string // the response
		logs  bool
	}{
		{name: "success", out: halcyon.Outcome{Value: value.Float64(1), At: 1010},
			want: `{"type":"MutationResponse","requestId":7,"success":true,"result":1,"ts":"8gMAAAAAAAA=","logLines":[]}`},
		{name: "failure", out: halcyon.Outcome{Failure: &halcyon.Failure{Message: "boom"}, Logs: []string{"[LOG] 1"}},
			want: `{"type":"MutationResponse","requestId":7,"success":false,"result":"boom","ts":null,"logLines":["[LOG] 1"]}`},
		{name: "overloaded", err: &halcyon.RequestError{Code: halcyon.CodeOverloaded, Message: "Too many.", Status: 503},
			want: `{"type":"MutationResponse","requestId":7,"success":false,"result":"Overloaded: Too many.","errorData":{"code":"Overloaded","isConvexSystemError":true,"message":"Too many.","retry":true},"ts":null,"logLines":[]}`},
		{name: "bad path", err: &halcyon.RequestError{Code: halcyon.CodeBadFunction, Message: "No.", Status: 400},
			want: `{"type":"MutationResponse","requestId":7,"success":false,"result":"BadConvexFunctionIdentifier: No.","errorData":{"code":"BadConvexFunctionIdentifier","isConvexSystemError":true,"message":"No.","retry":false},"ts":null,"logLines":[]}`},
		{name: "closed", err: &halcyon.RequestError{Code: halcyon.CodeUnavailable, Status: 503}, again: true},
		{name: "stopping", err: context.Canceled, again: true},
		{name: "broken", err: errors.New("disk on fire"), again: true, logs: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			log.reset()
			r, again := s.responseOf(7, tc.out, tc.err)
			if again != tc.again {
				t.Fatalf("again = %v, want %v", again, tc.again)
			}
			if r != nil {
				if got := string(r.append(nil)); got != tc.want {
					t.Errorf("got  %s\nwant %s", got, tc.want)
				}
			}
			if logged := strings.Contains(log.String(), "level=ERROR"); logged != tc.logs {
				t.Errorf("logged %q", log.String())
			}
		})
	}
}
