package server

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"

	"github.com/lxzan/gws"
)

// transitionBytesMax is the size of the largest message to a client. Only a
// client with very many very large queries comes near it.
const transitionBytesMax = 1 << 30

// webSocketOptions are those of connections whose messages have at most so many bytes.
func (s *Server) webSocketOptions(messageBytesMax int) *gws.ServerOption {
	return &gws.ServerOption{
		ReadMaxPayloadSize:  messageBytesMax,
		ReadBufferSize:      512, // every connection has one; large messages bypass it
		WriteMaxPayloadSize: transitionBytesMax,
		CheckUtf8Enabled:    true,
		HandshakeTimeout:    s.o.HeaderTimeout,
		Logger:              webSocketLog{s.log},
		NewSession:          func() gws.SessionStorage { return nil },
		PermessageDeflate: gws.PermessageDeflate{
			Enabled:  s.o.Compression, // without context takeover: it costs up to 64 KiB a connection
			PoolSize: s.o.Workers,     // each keeps what it inflated last
		},
	}
}

// webSocketLog passes what the WebSocket library logs on.
type webSocketLog struct{ *slog.Logger }

func (l webSocketLog) Error(v ...any) {
	l.Logger.Error("the WebSocket library reports an error", slog.String("error", fmt.Sprint(v...)))
}

// serveSync turns a request into a connection of the sync protocol.
func (s *Server) serveSync(w http.ResponseWriter, r *http.Request) {
	client, err := parseClientVersion(r.Header.Get(clientHeader), r.PathValue("version"))
	if err != nil {
		writeError(w, http.StatusBadRequest, "InvalidVersion", err.Error())
		return
	}
	if least, old := client.tooOld(); old {
		message := fmt.Sprintf("This version of the %s client is too old for this server: it needs %s or newer.", client.name, least)
		w.Header().Set(deprecationStateHeader, "Unsupported")
		w.Header().Set(deprecationMessageHeader, message)
		writeError(w, http.StatusBadRequest, "UnsupportedVersion", message)
		return
	}
	if !wantsWebSocket(r) {
		w.Header().Set("Upgrade", "websocket")
		writeError(w, http.StatusUpgradeRequired, "ExpectedWebSocket", "This address is for WebSocket connections of Convex clients.")
		return
	}
	if !s.enter() {
		refuseConnection(w)
		return
	}
	c := newConn(s)
	c.userAgent, c.client = userAgent(r), client
	ws, err := s.upgrader.Upgrade(&hijacker{ResponseWriter: w, attach: c.attach}, r)
	if err != nil {
		s.log.Debug("a WebSocket handshake failed", slog.String("error", withoutAddresses(err.Error())))
		s.free(c)
		s.goroutines.Done()
		return
	}
	c.ws = ws
	// The goroutine of the request keeps its header and buffers alive, so the
	// connection is read on one of its own.
	go c.readLoop()
}

// wantsWebSocket reports whether a request asks for a WebSocket.
func wantsWebSocket(r *http.Request) bool {
	return r.Method == http.MethodGet && headerHas(r.Header, "Connection", "upgrade") && headerHas(r.Header, "Upgrade", "websocket")
}

// userAgentBytesMax is how much of a User-Agent is handed on.
const userAgentBytesMax = 512

// userAgent returns the User-Agent of a request, in memory of its own since that of
// the request is larger.
func userAgent(r *http.Request) string {
	text := r.UserAgent()
	return strings.Clone(text[:min(len(text), userAgentBytesMax)])
}

// refuseConnection answers a request for a WebSocket that there is no place for.
func refuseConnection(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "3")
	writeError(w, http.StatusServiceUnavailable, "TooManyConnections", "This server has as many connections as it may, or is stopping. Try again later.")
}

// readLoop reads the connection until it ends. enter has counted it.
func (c *conn) readLoop() {
	defer c.server.goroutines.Done()
	defer c.server.free(c)
	defer c.socket.finish()
	defer c.end()
	defer func() {
		if p := recover(); p != nil {
			c.server.log.Error("reading a connection panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			c.drop()
		}
	}()
	if !c.server.join(c) {
		c.closeNow(closeRestart, reasonRestart)
	}
	c.ws.ReadLoop()
}

// drop ends the connection without a word.
func (c *conn) drop() {
	c.socket.drop()
	c.end()
}

// hijacker takes the network connection of a request over and puts the server's
// socket in between.
type hijacker struct {
	http.ResponseWriter
	attach func(*socket) // gives the connection its socket
}

var _ http.Hijacker = (*hijacker)(nil)

// Hijack is called by the WebSocket library.
func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	raw, buffers, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, fmt.Errorf("take the connection over: %w", err)
	}
	s := newSocket(raw)
	h.attach(s)
	if n := buffers.Reader.Buffered(); n > 0 {
		// The client did not wait for the answer to its handshake.
		early, _ := buffers.Reader.Peek(n) // has n bytes
		s.gate.rest = append([]byte(nil), early...)
	}
	return s, buffers, nil
}

// headerHas reports whether one of the comma-separated values of a header is
// want, whatever the case.
func headerHas(h http.Header, name, want string) bool {
	for _, line := range h.Values(name) {
		for part := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(part), want) {
				return true
			}
		}
	}
	return false
}
