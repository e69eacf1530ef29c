package server

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon/protocol"
)

// rawDial opens a WebSocket by hand, to send what no client library would.
func rawDial(t testing.TB, s *testServer) (patientConn, *bufio.Reader) {
	t.Helper()
	return rawDialAt(t, s, "/api/1.48.0/sync")
}

func rawDialAt(t testing.TB, s *testServer, path string) (patientConn, *bufio.Reader) {
	t.Helper()
	c := dialPlain(t, s)
	return c, handshake(t, c, path)
}

// dialPlain opens a connection to the server without a word.
func dialPlain(t testing.TB, s *testServer) patientConn {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return patientConn{c}
}

// patientConn waits for each read and each write for waitMax, however long the connection has lasted.
type patientConn struct{ net.Conn }

func (c patientConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(waitMax)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c patientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(waitMax)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// closeWrite says that nothing more comes from here.
func (c patientConn) closeWrite() { _ = c.Conn.(*net.TCPConn).CloseWrite() }

// handshake makes a WebSocket of a connection.
func handshake(t testing.TB, c net.Conn, path string) *bufio.Reader {
	t.Helper()
	return handshakeWith(t, c, path, "")
}

// handshakeWith is handshake with more lines of the header, each with its end.
func handshakeWith(t testing.TB, c net.Conn, path, header string) *bufio.Reader {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n", path, header)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v, %v", resp, err)
	}
	return r
}

// rawClose reads frames until a close frame and returns what it says.
func rawClose(t testing.TB, r *bufio.Reader) (code uint16, reason string) {
	t.Helper()
	for {
		var head [4]byte
		if _, err := io.ReadFull(r, head[:2]); err != nil {
			t.Fatalf("the connection ended without a close frame: %v", err)
		}
		n := int(head[1])
		if n == 126 {
			if _, err := io.ReadFull(r, head[2:4]); err != nil {
				t.Fatal(err)
			}
			n = int(binary.BigEndian.Uint16(head[2:4]))
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(r, payload); err != nil {
			t.Fatal(err)
		}
		if head[0] == 0x88 && n >= 2 {
			return binary.BigEndian.Uint16(payload), string(payload[2:])
		}
	}
}

var claim16MiB = append(binary.BigEndian.AppendUint64([]byte{0x81, 0x80 | 127}, 16<<20), 1, 2, 3, 4)

// A header that claims 16 MiB costs the server nothing, neither before Connect,
// where it is refused, nor after it, where memory follows what comes.
func TestClaimedLengthsCostNothing(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	const connections = 40
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range connections {
		c, r := rawDial(t, s)
		if _, err := c.Write(claim16MiB); err != nil {
			t.Fatal(err)
		}
		if code, reason := rawClose(t, r); code != closeTooLarge || reason != reasonTooLarge {
			t.Fatalf("before Connect: closed with %d %q", code, reason)
		}
		c, r = rawDial(t, s)
		text := (&protocol.Connect{SessionID: fmt.Sprintf("220faa75-0ee8-4ccb-ae77-d977887554%02x", i)}).Append(nil)
		stream := appendFrame(nil, 0x81, text, 5)
		text = (&protocol.ModifyQuerySet{New: 1}).Append(nil)
		stream = appendFrame(stream, 0x81, text, 5)
		if _, err := c.Write(append(stream, claim16MiB...)); err != nil {
			t.Fatal(err)
		}
		if b, err := r.ReadByte(); b != 0x81 || err != nil {
			t.Fatalf("no Transition after Connect: %x, %v", b, err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > connections*100<<10 {
		t.Errorf("%d connections with a claim of 16 MiB each cost %d KiB of heap", connections, grown>>10)
	}
}

func TestMessageSizes(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{FirstMessageBytesMax: 2000, MessageBytesMax: 300_000})
	event := func(n int) string {
		head, tail := `{"type":"Event","event":"`, `"}`
		return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
	}
	padded := func(n int) string {
		text := string((&protocol.Connect{SessionID: sessionA}).Append(nil))
		return text[:len(text)-1] + `,"x":"` + strings.Repeat("x", n-len(text)-7) + `"}`
	}
	for _, tc := range []struct {
		name  string
		texts []string
		ok    bool
	}{
		{"first at the limit", []string{padded(2000)}, true},
		{"first over the limit", []string{padded(2001)}, false},
		{"later at the limit", []string{padded(500), event(300_000)}, true},
		{"later over the limit", []string{padded(500), event(300_001)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := dial(t, s, nil)
			for _, text := range tc.texts {
				c.sendText(text)
			}
			if tc.ok {
				c.modify()
				next[*protocol.Transition](c)
				return
			}
			if closed := c.closed(); closed.Code != closeTooLarge || closed.Reason != reasonTooLarge {
				t.Errorf("closed with %d %q", closed.Code, closed.Reason)
			}
		})
	}
}

func TestInboundBudget(t *testing.T) {
	f := newFixture(t)
	clock := newFakeClock()
	s := serve(t, f.app, Options{InboundBytesMax: 100_000, Clock: clock})
	// One client has most of the budget and does not go on.
	c, r := rawDial(t, s)
	stream := appendFrame(nil, 0x81, (&protocol.Connect{SessionID: sessionA}).Append(nil), 5)
	stream = append(stream, claim16MiB...)
	if _, err := c.Write(append(stream, make([]byte, 2*pieceBytes)...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first client has its part", func() bool { return s.inbound.used.Load() > 50_000 })

	c2 := dial(t, s, nil)
	c2.session = "220faa75-0ee8-4ccb-ae77-d97788755400"
	c2.send(&protocol.Connect{SessionID: c2.session})
	c2.sendText(`{"type":"Event","event":"` + strings.Repeat("x", 120_000) + `"}`)
	if closed := c2.closed(); closed.Code != closeTryAgain || closed.Reason != reasonBusy {
		t.Errorf("closed with %d %q", closed.Code, closed.Reason)
	}
	// Small messages need none of it.
	c3 := dial(t, s, nil)
	c3.send(&protocol.Connect{SessionID: "220faa75-0ee8-4ccb-ae77-d97788755401"})
	c3.sendText(`{"type":"Event","event":"` + strings.Repeat("x", 60_000) + `"}`)
	c3.modify()
	next[*protocol.Transition](c3)
	// The first one can't keep it.
	clock.advance(61 * time.Second)
	if code, reason := rawClose(t, r); code != closePolicy || reason != reasonSlow {
		t.Errorf("the slow message: closed with %d %q", code, reason)
	}
	eventually(t, "the budget is free", func() bool { return s.inbound.used.Load() == 0 })
}

func TestMutationQueue(t *testing.T) {
	for _, tc := range []struct {
		name string
		opts Options
		size int
	}{
		{"count", Options{MutationsQueuedMax: 3}, 10},
		{"bytes", Options{MutationsQueuedBytesMax: 31_000}, 10_000},
		{"budget of all", Options{InboundBytesMax: 41_500}, 10_000},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			s := serve(t, f.app, tc.opts)
			c := connect(t, s)
			c.mutate("t:held", `{"channel":"a"}`)
			<-f.entered
			body := strings.Repeat("x", tc.size)
			args := fmt.Sprintf(`{"channel":"b","body":%q}`, body)
			for range 3 {
				c.mutate("t:send", args)
			}
			c.barrier() // three wait, and all is well
			c.mutate("t:send", args)
			c.mutate("t:send", args)
			closed := c.closed()
			if closed.Code != closeTryAgain || !strings.HasPrefix(closed.Reason, "TooManyConcurrent") {
				t.Errorf("closed with %d %q", closed.Code, closed.Reason)
			}
			f.let()
			// The client comes back, sends all of it again, and loses nothing.
			c2 := c.again(s)
			c2.requests = 0
			c2.mutate("t:held", `{"channel":"a"}`)
			for i := range 6 {
				if r := c2.response(); !r.Success || r.RequestID != uint32(i) {
					t.Fatalf("response %d: %s", i, r.Append(nil))
				}
				if i < 5 {
					c2.mutate("t:send", args)
				}
			}
			var bodies []string
			f.call(t, "t:list", map[string]any{"channel": "b"}, &bodies)
			if n := f.count(t, "a"); len(bodies) != 5 || n != 1 {
				t.Errorf("%d of 5 messages, count %d of 1", len(bodies), n)
			}
		})
	}
}

func TestConnectionsMax(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{ConnectionsMax: 2})
	c1 := dial(t, s, nil)
	dial(t, s, nil)
	_, resp, err := websocket.Dial(patience(t), "ws://"+s.address+"/api/sync", nil)
	if err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("one too many: %v, %v", resp, err)
	}
	_ = c1.ws.CloseNow()
	eventually(t, "a place is free", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.mu.taken == 1
	})
	dial(t, s, nil)
}

func TestHandshakeRefusals(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	for _, tc := range []struct {
		name, path string
		header     http.Header
		status     int
		code       string
	}{
		{"bad version", "/api/latest/sync", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, 400, "InvalidVersion"},
		{"no upgrade", "/api/1.48.0/sync", nil, 426, "ExpectedWebSocket"},
	} {
		req, err := http.NewRequest(http.MethodGet, "http://"+s.address+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = tc.header.Clone()
		if req.Header == nil {
			req.Header = http.Header{}
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var body struct{ Code string }
		err = json.NewDecoder(resp.Body).Decode(&body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != tc.status || body.Code != tc.code {
			t.Errorf("%s: %d %q, %v, want %d %s", tc.name, resp.StatusCode, body.Code, err, tc.status, tc.code)
		}
	}
	// The header of the client's name wins over the path.
	ws, _, err := websocket.Dial(t.Context(), "ws://"+s.address+"/api/latest/sync", &websocket.DialOptions{HTTPHeader: http.Header{"Convex-Client": {"rust-0.9.0"}}})
	if err != nil {
		t.Fatal(err)
	}
	_ = ws.CloseNow()
	// A handshake that breaks off halfway leaves nothing behind.
	for _, header := range []string{"Sec-WebSocket-Version: 12\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Version: 13\r\n"} {
		c, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /api/sync HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n%s\r\n", header)
		text, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 400") {
			t.Errorf("handshake with %q: %q, %v", header, text, err)
		}
		_ = c.Close()
	}
	eventually(t, "all places are free", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.mu.taken == 0
	})
}

// A client that does not wait for the answer to its handshake loses nothing.
func TestEarlyMessages(t *testing.T) {
	f := newFixture(t)
	s := serve(t, f.app, Options{})
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := []byte("GET /api/sync HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	request = appendFrame(request, 0x81, (&protocol.Connect{SessionID: sessionA}).Append(nil), 5)
	request = appendFrame(request, 0x81, (&protocol.ModifyQuerySet{New: 1}).Append(nil), 5)
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v, %v", resp, err)
	}
	if b, err := r.ReadByte(); b != 0x81 || err != nil {
		t.Fatalf("no Transition: %x, %v", b, err)
	}
}

func TestCompressionIsNegotiated(t *testing.T) {
	f := newFixture(t)
	for _, on := range []bool{false, true} {
		s := serve(t, f.app, Options{Compression: on})
		for _, mode := range []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionNoContextTakeover, websocket.CompressionContextTakeover} {
			c := dial(t, s, &websocket.DialOptions{CompressionMode: mode, CompressionThreshold: 1})
			c.send(&protocol.Connect{SessionID: sessionA})
			c.add(0, "t:big", `{"channel":"z"}`)
			next[*protocol.Transition](c)
			if want := `"` + strings.Repeat("0", 256<<10) + `"`; c.results[0] != want {
				t.Errorf("server %v, client %v: the result has %d bytes, want %d", on, mode, len(c.results[0]), len(want))
			}
			c.mutate("t:nothing", `{"a":"`+strings.Repeat("b", 100_000)+`"}`)
			if r := next[*protocol.MutationResponse](c); !r.Success || len(r.Value) < 100_000 {
				t.Errorf("server %v, client %v: response %.100s", on, mode, r.Append(nil))
			}
		}
	}
}
