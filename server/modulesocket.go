package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/lxzan/gws"

	"github.com/halcyon-db/halcyon"
)

const (
	reasonSlowReader    = "SlowReader"
	closeReasonBytesMax = 123
)

// moduleConn is a WebSocket connection that a handler or a receiver of a module serves.
//
// Its reading goroutine hands one message after the other to the handler, which runs on a goroutine of its own, and reads on when the handler
// asks for the next: a client that is faster than its handler is held up by the network. A receiver has no goroutine: the messages are given to
// it by one of the crew, see modulereceiver.go. What is sent goes to the socket at once, which never waits; the bytes that a client has yet to take
// are bounded.
type moduleConn struct {
	server   *Server
	endpoint *halcyon.SocketEndpoint
	socket   *socket
	ws       *gws.Conn

	// ctx ends with the connection, with how it was closed as its cause, or with the server's time for actions.
	ctx    context.Context
	cancel context.CancelCauseFunc // end is to be called

	seenAt    atomic.Int64 // nanoseconds of the server's clock, see conn
	probedAt  atomic.Int64
	messageAt atomic.Int64
	stopped   atomic.Bool
	handing   atomic.Bool // a message waits for the handler, or is in its hands: silence is not the client's

	handler   *handing  // nil where there is a receiver
	receiving receiving // where there is one

	parties atomic.Int32 // reader and handler or receiver: the place of the connection is free when both have ended

	mu struct {
		sync.Mutex
		drained chan struct{} // closed when the client has been handed everything; nil when nobody waits
		pong    []byte        // for a client that does not take what it is sent; nil for none
		signed  []*signedIn
	}
}

// handing is how messages get from the goroutine that reads to the one that handles them.
type handing struct {
	in    chan halcyon.SocketMessage // unbuffered
	taken chan struct{}              // the handler is done with the message; holds one
	holds bool                       // a message; of the goroutine that receives

	ignored    chan struct{} // closed when messages are not wanted any more
	ignoreOnce sync.Once
}

var _ halcyon.SocketConn = (*moduleConn)(nil)

// serveModuleSocket returns the handler that turns requests for an endpoint into connections.
func (s *Server) serveModuleSocket(endpoint halcyon.SocketEndpoint) http.HandlerFunc {
	plain := gws.NewUpgrader(moduleEvents{}, s.webSocketOptions(s.messageBytesMax(&endpoint)))
	agreeing := plain
	if len(endpoint.Subprotocols) > 0 {
		options := s.webSocketOptions(s.messageBytesMax(&endpoint))
		options.SubProtocols = endpoint.Subprotocols
		agreeing = gws.NewUpgrader(moduleEvents{}, options)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if !wantsWebSocket(r) {
			w.Header().Set("Upgrade", "websocket")
			writeError(w, http.StatusUpgradeRequired, "ExpectedWebSocket", "This address is for WebSocket connections.")
			return
		}
		if origin := r.Header.Get("Origin"); !originMay(origin, r.Host, endpoint.Origins) {
			s.log.Info("a page of another origin was refused a WebSocket", slog.String("path", endpoint.Path), slog.String("origin", cutText(origin, 200)))
			writeError(w, http.StatusForbidden, "OriginNotAllowed", "Pages of this origin may not connect here.")
			return
		}
		upgrader, agreed := plain, ""
		if offered := splitTokens(r.Header.Values("Sec-WebSocket-Protocol")); len(offered) > 0 && len(endpoint.Subprotocols) > 0 {
			i := slices.IndexFunc(endpoint.Subprotocols, func(p string) bool { return slices.Contains(offered, p) })
			if i < 0 {
				writeError(w, http.StatusBadRequest, "NoSubprotocol", "Subprotocols of this address: "+strings.Join(endpoint.Subprotocols, ", ")+".")
				return
			}
			agreed = endpoint.Subprotocols[i]
			upgrader = agreeing
		}
		if !s.enter() {
			refuseConnection(w)
			return
		}
		s.openModuleSocket(w, r, &endpoint, upgrader, agreed)
	}
}

// messageBytesMax is the size of the largest message to an endpoint.
func (s *Server) messageBytesMax(endpoint *halcyon.SocketEndpoint) int {
	if limit := endpoint.MessageBytesMax; limit > 0 {
		return min(s.o.MessageBytesMax, limit)
	}
	return s.o.MessageBytesMax
}

// openModuleSocket makes a connection of a request. enter has counted it. agreed is the subprotocol, or "".
func (s *Server) openModuleSocket(w http.ResponseWriter, r *http.Request, endpoint *halcyon.SocketEndpoint, upgrader *gws.Upgrader, agreed string) {
	c := &moduleConn{server: s, endpoint: endpoint}
	if endpoint.Open == nil {
		c.handler = &handing{in: make(chan halcyon.SocketMessage), taken: make(chan struct{}, 1), ignored: make(chan struct{})}
	}
	ctx := halcyon.WithRequestID(s.acting, halcyon.RequestID(r.Context()))
	// A protocol may bring credentials of its own, so those in the header that are not good are nobody's.
	if who, err := s.authenticateRequest(r); err == nil && who.identity != nil {
		ctx = halcyon.WithIdentity(ctx, who.identity)
		c.signed(who, nil)
	}
	c.ctx, c.cancel = context.WithCancelCause(ctx)
	c.parties.Store(2)
	c.seenAt.Store(s.o.Clock.Now().UnixNano())
	// The request itself holds on to the buffers of its connection.
	request := r.Clone(c.ctx)
	request.Body = http.NoBody
	if agreed != "" { // the library looks for the first that is offered
		r.Header.Set("Sec-WebSocket-Protocol", agreed)
	}
	ws, err := upgrader.Upgrade(&hijacker{ResponseWriter: w, attach: c.attach}, r)
	if err != nil {
		s.log.Debug("a WebSocket handshake failed", slog.String("error", withoutAddresses(err.Error())))
		c.cancel(err)
		s.vacate()
		s.goroutines.Done()
		return
	}
	c.ws = ws
	go c.readLoop(request)
}

// attach gives the connection its socket.
func (c *moduleConn) attach(s *socket) {
	o := &c.server.o
	c.socket, s.module = s, c
	s.gate.limit = int64(c.server.messageBytesMax(c.endpoint))
	s.gate.budget, s.budget = &c.server.inbound, &c.server.outbound
	s.writeTimeout, s.closeTimeout = o.WriteTimeout, o.CloseTimeout
	s.start = c.server.goroutines.Go
	s.seen = func(large bool) {
		now := o.Clock.Now().UnixNano()
		c.seenAt.Store(now)
		if large {
			c.messageAt.CompareAndSwap(0, now)
		}
	}
	s.drained = c.drained
	s.refused = func(err error) {
		if errors.Is(err, errInboundFull) {
			c.close(closeTryAgain, reasonBusy)
			return
		}
		c.close(closeTooLarge, reasonTooLarge)
	}
}

// readLoop reads the connection until it ends.
func (c *moduleConn) readLoop(request *http.Request) {
	s := c.server
	defer s.goroutines.Done()
	defer c.part()
	defer s.forgetSocket(c)
	defer c.socket.finish()
	defer c.lost()
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("reading a connection panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			c.drop()
		}
	}()
	if !s.joinSocket(c) {
		c.close(closeRestart, reasonRestart)
	}
	s.handlers.begin()
	if c.handler != nil {
		go c.serve(request) // Shutdown waits for it by the gauge
	} else {
		s.crew.do(shift{conn: c, request: request})
	}
	c.ws.ReadLoop()
}

// serve runs the handler.
func (c *moduleConn) serve(request *http.Request) {
	defer c.server.handlers.end()
	defer c.part()
	how := c.endpoint.Serve(c.ctx, request, c)
	c.Close(how.Code, how.Reason)
}

// part ends one of the two parties.
func (c *moduleConn) part() {
	if c.parties.Add(-1) == 0 {
		c.server.vacate()
	}
}

// end ends the context, and the session of a receiver.
func (c *moduleConn) end(cause error) {
	c.cancel(cause)
	if c.handler == nil {
		c.endSession()
	}
}

// lost notes that the connection has ended without a word, if nothing has been noted yet.
func (c *moduleConn) lost() {
	c.stopped.Store(true)
	c.end(&halcyon.SocketClosed{Code: halcyon.SocketLost})
}

// drop ends the connection at once.
func (c *moduleConn) drop() {
	c.lost()
	c.socket.drop()
}

// close ends the connection with a close frame, behind what was sent.
func (c *moduleConn) close(code int, reason string) {
	c.stopped.Store(true)
	c.end(&halcyon.SocketClosed{Code: code, Reason: reason})
	_ = c.ws.WriteClose(uint16(code), []byte(reason)) // the client may be gone already
}

// Close is that of a [halcyon.SocketConn].
func (c *moduleConn) Close(code int, reason string) {
	switch {
	case code == halcyon.SocketNoStatus:
		code, reason = halcyon.SocketNormal, "" // the client's own code, which can't be sent
	case code == halcyon.SocketLost:
		code, reason = halcyon.SocketGoingAway, ""
	case code < 1000 || code == 1004 || 1015 <= code && code < 3000 || code >= 5000:
		c.server.log.Error("a handler closed a WebSocket with a code that is none", slog.String("path", c.endpoint.Path), slog.Int("code", code))
		code, reason = closeInternal, reasonInternal
	}
	c.close(code, cutText(reason, closeReasonBytesMax))
}

// Subprotocol is that of a [halcyon.SocketConn].
func (c *moduleConn) Subprotocol() string { return c.ws.SubProtocol() }

// Ignore is that of a [halcyon.SocketConn].
func (c *moduleConn) Ignore() {
	if c.handler == nil {
		return
	}
	c.handler.ignoreOnce.Do(func() { close(c.handler.ignored) })
	c.letGo()
}

// letGo tells the reading goroutine that the message that was received last is not needed any more.
func (c *moduleConn) letGo() {
	if c.handler.holds {
		c.handler.holds = false
		c.handler.taken <- struct{}{}
	}
}

// Receive is that of a [halcyon.SocketConn].
func (c *moduleConn) Receive(ctx context.Context) (halcyon.SocketMessage, error) {
	if c.handler == nil {
		return halcyon.SocketMessage{}, errReceiver
	}
	c.letGo()
	select {
	case m := <-c.handler.in:
		c.handler.holds = true
		return m, nil
	case <-c.ctx.Done():
		return halcyon.SocketMessage{}, c.closed()
	case <-ctx.Done():
		if c.ctx.Err() != nil { // which has ended this one
			return halcyon.SocketMessage{}, c.closed()
		}
		return halcyon.SocketMessage{}, context.Cause(ctx)
	}
}

// closed returns how the connection was closed.
func (c *moduleConn) closed() error {
	if closed, ok := errors.AsType[*halcyon.SocketClosed](context.Cause(c.ctx)); ok {
		return closed
	}
	return &halcyon.SocketClosed{Code: closeRestart, Reason: reasonRestart} // the server stops
}

// handOver gives a message to the handler and waits until it has done with it. It reports false when the handler may still look at it.
func (c *moduleConn) handOver(m halcyon.SocketMessage) bool {
	if c.stopped.Load() {
		return true
	}
	c.handing.Store(true)
	defer c.handing.Store(false)
	if c.handler == nil {
		return c.server.crew.do(shift{conn: c, message: m})
	}
	select {
	case <-c.handler.ignored:
		return true
	default:
	}
	select {
	case c.handler.in <- m:
	case <-c.handler.ignored:
		return true
	case <-c.ctx.Done():
		return true
	}
	select {
	case <-c.handler.taken:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// Send is that of a [halcyon.SocketConn].
func (c *moduleConn) Send(m halcyon.SocketMessage) error {
	if c.stopped.Load() {
		return c.closed()
	}
	if waiting := c.socket.waiting(); waiting > 0 && waiting+len(m.Data) > c.endpoint.SendBytesMax {
		if !c.endpoint.RefuseSlow {
			c.server.log.Info("a client that does not read was disconnected", slog.String("path", c.endpoint.Path))
			c.close(closeTryAgain, reasonSlowReader)
		}
		return halcyon.ErrSlowReader
	}
	opcode := gws.OpcodeText
	if m.Binary {
		opcode = gws.OpcodeBinary
	}
	if err := c.ws.WriteMessage(opcode, m.Data); err != nil {
		if c.ctx.Err() != nil {
			return c.closed()
		}
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

// Flush is that of a [halcyon.SocketConn].
func (c *moduleConn) Flush(ctx context.Context) error {
	for {
		c.mu.Lock()
		if c.mu.drained == nil {
			c.mu.drained = make(chan struct{})
		}
		drained := c.mu.drained
		c.mu.Unlock()
		// In this order: what is drained after this look closes the channel.
		if !c.socket.backlogged() {
			return nil
		}
		select {
		case <-drained:
		case <-c.ctx.Done():
			return c.closed()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// drained is called when the client has been handed everything.
func (c *moduleConn) drained() {
	c.mu.Lock()
	if c.mu.drained != nil {
		close(c.mu.drained)
		c.mu.drained = nil
	}
	pong := c.mu.pong
	c.mu.pong = nil
	c.mu.Unlock()
	if pong != nil {
		c.answerPing(pong)
	}
}

// answerPing answers a ping, later if the client has yet to take what it was sent: only the newest needs an answer.
func (c *moduleConn) answerPing(payload []byte) {
	c.mu.Lock()
	c.mu.pong = payload
	c.mu.Unlock()
	if c.socket.backlogged() {
		return // drained answers
	}
	c.mu.Lock()
	payload, c.mu.pong = c.mu.pong, nil
	c.mu.Unlock()
	if payload != nil {
		_ = c.ws.WritePong(payload) // the client may be gone
	}
}

// sweep does what time asks for. next is when it will be called again.
func (c *moduleConn) sweep(now time.Time, next time.Duration) {
	if c.stopped.Load() {
		return // its socket has a deadline
	}
	c.lapse(now)
	o := &c.server.o
	since := func(nanos int64) time.Duration { return time.Duration(now.UnixNano() - nanos) }
	if at := c.messageAt.Load(); at != 0 && since(at) > o.BodyTimeout {
		c.close(closePolicy, reasonSlow)
		return
	}
	if c.handing.Load() {
		c.seenAt.Store(now.UnixNano()) // the handler is slow, and the client gets its whole time after it
		return
	}
	silent := since(c.seenAt.Load())
	if silent > o.SilenceMax {
		c.close(closePolicy, reasonSilent)
		return
	}
	if silent+next >= o.ProbeAfter && since(c.probedAt.Load())+next >= o.ProbeAfter && !c.socket.backlogged() {
		c.probedAt.Store(now.UnixNano())
		_ = c.ws.WritePing(nil) // the client may be gone
	}
}

// moduleEvents receives what the WebSocket library reads, on the goroutine that reads the connection.
type moduleEvents struct{}

var _ gws.Event = moduleEvents{}

func moduleOwner(ws *gws.Conn) *moduleConn { return ws.NetConn().(*socket).module }

// OnOpen is not needed: the handler has been started.
func (moduleEvents) OnOpen(*gws.Conn) {}

// OnClose is called when reading has ended, for whatever reason.
func (moduleEvents) OnClose(ws *gws.Conn, err error) {
	c := moduleOwner(ws)
	c.stopped.Store(true)
	if closed, ok := errors.AsType[*gws.CloseError](err); ok {
		code := int(closed.Code)
		if code == 0 {
			code = halcyon.SocketNoStatus
		}
		c.end(&halcyon.SocketClosed{Code: code, Reason: strings.ToValidUTF8(string(closed.Reason), "�")})
		return
	}
	if code, reason := notInflated(err.Error()); code != 0 {
		c.end(&halcyon.SocketClosed{Code: int(code), Reason: reason})
		return
	}
	c.lost()
}

// OnPing answers.
func (moduleEvents) OnPing(ws *gws.Conn, payload []byte) {
	moduleOwner(ws).answerPing(append([]byte{}, payload...))
}

// OnPong is not needed: that something came has been noted.
func (moduleEvents) OnPong(*gws.Conn, []byte) {}

// OnMessage hands a message to the handler.
func (moduleEvents) OnMessage(ws *gws.Conn, m *gws.Message) {
	c := moduleOwner(ws)
	c.messageAt.Store(0)
	claim := c.socket.gate.hand()
	if err := c.socket.inflated(m.Data.Len(), &claim); err != nil {
		c.socket.refused(err)
	}
	done := c.handOver(halcyon.SocketMessage{Binary: m.Opcode == gws.OpcodeBinary, Data: m.Bytes()})
	c.server.inbound.put(claim)
	if done {
		_ = m.Close() // returns the buffer to its pool
	}
}

// joinSocket makes a connection known. It reports false when the server is ending.
func (s *Server) joinSocket(c *moduleConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.sockets[c] = struct{}{}
	return !s.draining.Load()
}

// forgetSocket forgets a connection whose socket is freed.
func (s *Server) forgetSocket(c *moduleConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.sockets, c)
	s.emptyLocked()
}

// vacate gives a place for a connection back.
func (s *Server) vacate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.taken--
}

// moduleConns returns the connections of modules that have a socket.
func (s *Server) moduleConns() []*moduleConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make([]*moduleConn, 0, len(s.mu.sockets))
	for c := range s.mu.sockets {
		open = append(open, c)
	}
	return open
}

// originMay reports whether a page of an origin may connect. No origin is sent by what is no browser.
func originMay(origin, host string, listed []string) bool {
	if origin == "" || slices.Contains(listed, "*") || slices.Contains(listed, origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, host)
}

// splitTokens returns the comma-separated values of a header.
func splitTokens(lines []string) (tokens []string) {
	for _, line := range lines {
		for token := range strings.SplitSeq(line, ",") {
			if token = strings.TrimSpace(token); token != "" {
				tokens = append(tokens, token)
			}
		}
	}
	return tokens
}

// cutText cuts a text to a number of bytes, between characters.
func cutText(text string, sizeBytesMax int) string {
	if len(text) <= sizeBytesMax {
		return text
	}
	for sizeBytesMax > 0 && !utf8.RuneStart(text[sizeBytesMax]) {
		sizeBytesMax--
	}
	return text[:sizeBytesMax]
}
