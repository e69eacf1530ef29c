package server

import (
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon/protocol"
)

// TestMutationsAreToldTheAgentOfTheRequest, over HTTP and of the handshake of a WebSocket, and no more of it than is allowed.
func TestMutationsAreToldTheAgentOfTheRequest(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	long := strings.Repeat("a", userAgentBytesMax+1)
	for sent, want := range map[string]string{"Agent/1": "Agent/1", "": "", long: long[1:]} {
		_, text := request(t, s, "POST", "/api/mutation", `{"path":"t:agent","args":{}}`, "User-Agent", sent)
		if want := `{"status":"success","value":"` + want + `"}`; text != want {
			t.Errorf("over HTTP as %.20q: %.100s, want %.100s", sent, text, want)
		}
		c := dial(t, s, &websocket.DialOptions{HTTPHeader: http.Header{"User-Agent": {sent}}})
		c.send(&protocol.Connect{SessionID: c.session, LastCloseReason: "InitialConnect"})
		c.mutate("t:agent", "{}")
		if got := c.response(); string(got.Value) != `"`+want+`"` {
			t.Errorf("over a WebSocket as %.20q: %.100s, want %.100q", sent, got.Value, want)
		}
		_ = c.ws.CloseNow()
	}
}
