package server

import (
	"encoding/json"
	"net/http"
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

func TestShutdownEndsActions(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{ShutdownTimeout: time.Second})
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
	s.stop()
	if err := <-s.stopped; err != nil {
		t.Errorf("Serve: %v", err)
	}
	s.stopped <- nil
	if status := <-answered; status != http.StatusServiceUnavailable && status != 0 {
		t.Errorf("the HTTP call was answered with %d", status)
	}
}
