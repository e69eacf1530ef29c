package server

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/coder/websocket"

	"github.com/halcyon-db/halcyon/protocol"
)

// deflated returns what a message is in a frame that is compressed: without the end of its last block.
func deflated(text []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression) // the level is one
	_, _ = w.Write(text)                               // to memory
	_ = w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xff, 0xff})
}

// bomb is a kilobyte for each megabyte of spaces that it inflates to.
func bomb(mebibytes int) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestCompression)
	_, _ = w.Write(bytes.Repeat([]byte{' '}, mib))
	_ = w.Flush() // the block ends at a whole byte, and looks at nothing before it
	return bytes.Repeat(b.Bytes(), mebibytes)
}

// bombLimits are those of the server that bombs are sent to.
var bombLimits = Options{Compression: true, Workers: 2, MessageBytesMax: 2 * mib, InboundBytesMax: 3 * mib / 2}

// deflating opens a connection that compresses what it sends.
func (h *hostile) deflating(path string) (net.Conn, io.Reader, func() (uint16, string)) {
	h.t.Helper()
	c := dialPlain(h.t, h.s)
	r := handshakeWith(h.t, c, path, "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n")
	return c, r, func() (uint16, string) { return rawClose(h.t, r) }
}

// deflatedMessages sends messages that are small on the wire. What they become is held to the limits of a message, and is not made beyond them.
func deflatedMessages(h *hostile) {
	const compressed = 0xc1
	hello := (&protocol.Connect{SessionID: randomSession()}).Append(nil)
	huge := bomb(1_200)
	within := deflated(bytes.Repeat([]byte{' '}, 7*mib/4))
	var pieces []byte
	for at := 0; at < len(huge); at += 100_000 {
		first := byte(0x00)
		if at == 0 {
			first = 0x41
		}
		pieces = appendFrame(pieces, first, huge[at:min(at+100_000, len(huge))], 3)
	}
	pieces = appendFrame(pieces, 0x80, nil, 3)
	for _, bad := range []struct {
		name   string
		first  bool // the message is the first one
		frames []byte
		code   uint16
		reason string
	}{
		{"a bomb", false, appendFrame(nil, compressed, huge, 7), closeTooLarge, reasonTooLarge},
		{"a bomb in pieces", false, pieces, closeTooLarge, reasonTooLarge},
		{"a bomb in place of Connect", true, appendFrame(nil, compressed, bomb(50), 7), closeTooLarge, reasonTooLarge},
		{"a Connect over the limit of first messages", true, appendFrame(nil, compressed, deflated(bytes.Repeat([]byte{' '}, 65*kib)), 7), closeTooLarge, reasonTooLarge},
		{"more than there is room for", false, appendFrame(nil, compressed, within, 7), closeTryAgain, reasonBusy},
		{"what is not compressed", false, appendFrame(nil, compressed, []byte{0xff, 0xff, 0xff, 0xff}, 7), closeInvalid, reasonProtocol},
		{"what was cut off", false, appendFrame(nil, compressed, deflated(hello)[:20], 7), closeInvalid, reasonProtocol},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		const times = 4
		for range times {
			c, _, closed := h.deflating("/api/1.48.0/sync")
			stream := bad.frames
			if !bad.first {
				stream = append(appendFrame(nil, compressed, deflated(hello), 5), stream...)
			}
			_, _ = c.Write(stream) // the server may have closed already
			if code, reason := closed(); code != bad.code || reason != bad.reason {
				h.t.Errorf("%s: closed with %d %q, want %d %q", bad.name, code, reason, bad.code, bad.reason)
			}
			_ = c.Close()
			eventually(h.t, "what it took of the budget is given back", func() bool { return h.s.inbound.used.Load() == 0 })
		}
		runtime.ReadMemStats(&after)
		// A buffer that doubles takes four times what is in it at the end, and the race detector has nothing used again.
		if each := int64(after.TotalAlloc-before.TotalAlloc) / times; each > 24*int64(bombLimits.MessageBytesMax) {
			h.t.Errorf("%s took %d KiB of memory each time", bad.name, each/kib)
		}
	}
	// Within the limits compressed messages are served.
	c := dial(h.t, h.s, &websocket.DialOptions{CompressionMode: websocket.CompressionNoContextTakeover, CompressionThreshold: 1})
	c.session = randomSession()
	c.send(&protocol.Connect{SessionID: c.session})
	c.mutate("t:nothing", `{"a":"`+strings.Repeat("b", mib)+`"}`)
	if r := c.response(); !r.Success || len(r.Value) < mib {
		h.t.Errorf("a message of 1 MiB: %.100s", r.Append(nil))
	}
}

// deflatedBodies sends compressed bodies to the HTTP API, which takes none.
func deflatedBodies(h *hostile) {
	gz := "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff" + string(bomb(2_000)) // the end does not matter
	var br bytes.Buffer
	w := brotli.NewWriterLevel(&br, brotli.BestSpeed)
	_, _ = w.Write(bytes.Repeat([]byte{' '}, mib)) // to memory
	_ = w.Close()
	for _, path := range []string{"/api/query", "/api/mutation", "/api/action", "/api/query_batch", "/api/query_at_ts", "/api/run/t/echo", "/api/function"} {
		for encoding, body := range map[string]string{"gzip": gz, "br": br.String(), "identity, gzip": "{}"} {
			resp, text := request(h.t, h.s, "POST", path, body, "Content-Encoding", encoding)
			if resp.StatusCode != http.StatusUnsupportedMediaType || resp.Header.Get("Accept-Encoding") != "identity" || !strings.HasPrefix(text, `{"code":"UnsupportedContentEncoding"`) {
				h.t.Errorf("%s with a body of %s: %s %s", path, encoding, resp.Status, text)
			}
		}
	}
	for _, encoding := range []string{"", "identity", "Identity"} {
		resp, text := request(h.t, h.s, "POST", "/api/query", `{"path":"t:echo","args":{"a":1}}`, "Content-Encoding", encoding)
		if resp.StatusCode != http.StatusOK {
			h.t.Errorf("encoding %q: %s %s", encoding, resp.Status, text)
		}
	}
}

// A message to a module is held to the limit of its endpoint as it is inflated.
func TestModuleSocketsInflateWithinTheirLimit(t *testing.T) {
	w := newSocketWorld(t, Options{Compression: true})
	for _, tc := range []struct {
		bytes int
		code  uint16
	}{{mib, 0}, {mib + 1, closeTooLarge}, {300 * mib, closeTooLarge}} {
		t.Run(fmt.Sprint(tc.bytes), func(t *testing.T) {
			c, err := net.Dial("tcp", w.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			r := handshakeWith(t, c, "/echo", "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover\r\n")
			body := bomb(tc.bytes / mib)
			if tc.bytes < 2*mib {
				body = deflated(bytes.Repeat([]byte{'x'}, tc.bytes))
			}
			_, _ = c.Write(appendFrame(appendFrame(nil, 0xc1, body, 9), 0x88, []byte{3, 232}, 1)) // and a close; the server may have closed already
			code, reason := rawClose(t, r)
			ended := w.seen(t)
			if tc.code == 0 {
				if code != closeNormal {
					t.Errorf("closed with %d %q", code, reason)
				}
			} else if code != tc.code || reason != reasonTooLarge {
				t.Errorf("closed with %d %q, want %d %q", code, reason, tc.code, reasonTooLarge)
			} else if ended == nil || !strings.Contains(ended.Error(), "1009 MessageTooLarge") {
				t.Errorf("the handler ended with %v", ended)
			}
		})
	}
}

// What the library says in its close frames is passed on, save where it takes a client's mistake for its own.
func TestCloseFrame(t *testing.T) {
	frame := func(code uint16, reason string) string {
		return string(append([]byte{0x88, byte(2 + len(reason)), byte(code >> 8), byte(code)}, reason...))
	}
	for _, tc := range []struct{ name, in, want string }{
		{"too large", frame(1011, "gws: message too large"), frame(1009, "MessageTooLarge")},
		{"corrupt", frame(1011, "flate: corrupt input before offset 3"), frame(1007, "ProtocolError")},
		{"cut off", frame(1011, "unexpected EOF"), frame(1007, "ProtocolError")},
		{"of the server", frame(1011, "InternalServerError: TimestampWentBack"), frame(1011, "InternalServerError: TimestampWentBack")},
		{"another code", frame(1002, "gws: message too large"), frame(1002, "gws: message too large")},
		{"no reason", frame(1011, ""), frame(1011, "")},
		{"no code", "\x88\x00", "\x88\x00"},
		{"a message", "\x81\x04\x03\xf3gw", "\x81\x04\x03\xf3gw"},
		{"nothing", "", ""},
	} {
		if got := string(closeFrame([]byte(tc.in))); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}
