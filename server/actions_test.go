package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/protocol"
)

// act sends an action and returns its number.
func (c *client) act(path, args string) uint32 {
	c.t.Helper()
	id := c.requests
	c.requests++
	c.send(&protocol.Action{RequestID: id, Path: path, Args: json.RawMessage("[" + args + "]")})
	return id
}

// actionResponse reads until the response of an action comes.
func (c *client) actionResponse() *protocol.ActionResponse {
	c.t.Helper()
	for {
		m, err := c.read()
		if err != nil {
			c.t.Fatal(err)
		}
		if a, ok := m.(*protocol.ActionResponse); ok {
			return a
		}
	}
}

func TestActionsRunBesideOthers(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{ActionsPerConnectionMax: 2})
	c := connect(t, s)
	held := c.act("t:heldAction", `{"channel":"a"}`)
	<-f.entered
	quick := c.act("t:relay", `{"channel":"b","body":"x"}`)
	if got := c.actionResponse(); got.RequestID != quick || !got.Success || got.LogLines[0] != "[LOG] 'relaying' 'x'" {
		t.Errorf("the quick action was answered with %+v", got)
	}
	mutation := c.mutate("t:increment", `{"channel":"a"}`)
	if got := c.response(); got.RequestID != mutation {
		t.Errorf("got %+v, want the answer of the mutation", got)
	}
	f.let()
	if got := c.actionResponse(); got.RequestID != held || string(got.Value) != `"a"` {
		t.Errorf("the held action was answered with %+v", got)
	}
}

func TestOneActionTooMany(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{ActionsPerConnectionMax: 2})
	c := connect(t, s)
	c.act("t:heldAction", `{"channel":"a"}`)
	c.act("t:heldAction", `{"channel":"a"}`)
	<-f.entered
	<-f.entered
	c.act("t:heldAction", `{"channel":"a"}`)
	if got := c.closed(); got.Code != closeTryAgain || got.Reason != reasonActions {
		t.Errorf("closed with %d %q, want %d %q", got.Code, got.Reason, closeTryAgain, reasonActions)
	}
	f.let()
}

// shortOfTime says that its time is over soon, and then waits for as long as the other context. What is told to end for want of time has
// that time on a slow machine too.
type shortOfTime struct {
	context.Context
	at time.Time
}

func (c shortOfTime) Deadline() (time.Time, bool) { return c.at, true }

// Actions that are still running when half of the time for a shutdown is gone are told to end.
func TestShutdownEndsActions(t *testing.T) {
	f := newFixture(t)
	inner := New(f.app, nil)
	outer := httptest.NewServer(inner.Handler())
	defer outer.Close()
	s := &testServer{Server: inner, address: outer.Listener.Addr().String()}
	c := connect(t, s)
	c.act("t:heldAction", `{"channel":"a"}`)
	<-f.entered
	answered := make(chan int, 1)
	go func() {
		answer, err := http.Post("http://"+s.address+"/api/action", "application/json", strings.NewReader(`{"path":"t:heldAction","args":{"channel":"a"}}`))
		if err != nil {
			answered <- 0
			return
		}
		_ = answer.Body.Close()
		answered <- answer.StatusCode
	}()
	<-f.entered
	if err := inner.Shutdown(shortOfTime{patience(t), time.Now().Add(200 * time.Millisecond)}); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if status := <-answered; status != http.StatusServiceUnavailable && status != 0 {
		t.Errorf("the HTTP call was answered with %d", status)
	}
}
