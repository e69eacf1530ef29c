package server

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// When more mutations come than can be answered in time, one more is refused with
// a code before anything is done for it, over every way there is; what a client
// sends again that came back is not. When the crowd has gone all is as before.
func TestOverload(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c := connect(t, s)
	c.add(0, "t:count", `{"channel":"a"}`)
	next[*protocol.Transition](c)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case <-f.entered:
			case <-ended:
				return
			}
		}
	}()
	args := value.Object(value.Field{Name: "channel", Value: value.String("crowd")})
	var crowd sync.WaitGroup
	for range 1_200 {
		crowd.Go(func() {
			if out, err := f.app.Mutation(t.Context(), halcyon.Request{Path: "t:held", Args: args, Admitted: true}); err != nil || out.Failure != nil {
				t.Errorf("a mutation that was admitted: %+v, %v", out.Failure, err)
			}
		})
	}
	eventually(t, "the database is overloaded", func() bool { return f.app.Overloaded(engine.Mutations) })

	for range 2 {
		c.mutate("t:increment", `{"channel":"a"}`)
		r := next[*protocol.MutationResponse](c)
		want := `{"code":"Overloaded","isConvexSystemError":true,"message":"Too many calls are waiting. This one was not started.","retry":true}`
		if r.Success || string(r.ErrorData) != want || !strings.HasPrefix(r.ErrorMessage, "Overloaded: ") {
			t.Errorf("over a WebSocket: %s, want error data %s", r.Append(nil), want)
		}
	}
	resp, body := request(t, s, "POST", "/api/mutation", `not even JSON`)
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" || !strings.HasPrefix(body, `{"code":"Overloaded",`) {
		t.Errorf("over HTTP: %s %s, Retry-After %q", resp.Status, body, resp.Header.Get("Retry-After"))
	}

	// A client that comes back has its mutation run, once there is a place.
	back := c.again(s)
	back.session = c.session
	id := back.mutate("t:increment", `{"channel":"back"}`)
	back.barrier()
	f.let()
	if r := back.response(); !r.Success || r.RequestID != id {
		t.Errorf("sent again: %s", r.Append(nil))
	}
	crowd.Wait()
	if f.app.Overloaded(engine.Mutations) {
		t.Error("the crowd has gone, and the database is overloaded still")
	}
	back.mutate("t:increment", `{"channel":"a"}`)
	if r := back.response(); !r.Success {
		t.Errorf("after the crowd: %s", r.Append(nil))
	}
	if n := f.count(t, "a"); n != 1 {
		t.Errorf("the counter is %d: what was refused has been executed", n)
	}
	if n := s.refused.Load(); n != 3 {
		t.Errorf("%d refusals were counted, want 3", n)
	}
}
