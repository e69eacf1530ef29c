package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// Server serves one app over HTTP and WebSocket. New makes it; Serve or Shutdown
// ends it.
type Server struct {
	o        Options
	log      *slog.Logger
	app      application
	handler  http.Handler
	operator http.Handler // its requests have shown an admin key
	upgrader *gws.Upgrader
	fanout   *fanout
	inbound  budget       // bytes of messages that are read or wait to be executed
	outbound budget       // bytes that clients have yet to take
	watched  budget       // bytes of live queries
	refused  atomic.Int64 // calls, for being too many; the sweeper logs them
	// ctx is the lifetime of the server: it ends when a shutdown is forced.
	ctx    context.Context
	cancel context.CancelFunc
	// acting is the lifetime of actions: it ends when a shutdown has waited for
	// them for half of its time.
	acting     context.Context
	stopActing context.CancelFunc

	// broken counts what BrokenRules returns.
	broken atomic.Int64
	// draining is set when the server begins to end.
	draining   atomic.Bool
	behindOnce sync.Once

	// goroutines are those that read and write connections. Only goroutines that
	// are counted here, or workers of the fanout, start more, save enter, which
	// counts before it lets go of mu. So none is started once Shutdown waits.
	goroutines sync.WaitGroup
	// runners counts the goroutines that run mutations.
	runners gauge
	// handlers counts the handlers of modules' WebSocket connections.
	handlers gauge
	crew     crew
	sweeper  sweeper

	mu struct {
		sync.Mutex
		// taken counts conns and the handshakes that may become one.
		taken int
		// conns are the connections whose socket is not freed yet, and sockets those of modules.
		conns    map[*conn]struct{}
		sockets  map[*moduleConn]struct{}
		sessions map[engine.ClientID]*conn
		// leaving are connections that are gone and whose last mutation runs on.
		leaving []*conn
		empty   *sync.Cond // conns and sockets became empty
	}
}

// New returns a server for an app, which must be open while it serves. It
// panics when a route of the app is in a place that belongs to the server, or
// when two routes are in conflict: both are mistakes in the program.
//
// The server has goroutines from the start. Shutdown ends them, and so does the
// end of Serve.
func New(app *halcyon.App, opts *Options) *Server { return newServer(mounted{app}, opts) }

func newServer(app application, opts *Options) *Server {
	s := &Server{o: opts.withDefaults(), app: app}
	s.log = s.o.Logger
	s.inbound.max, s.outbound.max, s.watched.max = s.o.InboundBytesMax, s.o.OutboundBytesMax, s.o.LiveQueryBytesMax
	s.operator = s.Operator()
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.acting, s.stopActing = context.WithCancel(s.ctx)
	s.mu.conns = map[*conn]struct{}{}
	s.mu.sockets = map[*moduleConn]struct{}{}
	s.mu.sessions = map[engine.ClientID]*conn{}
	s.mu.empty = sync.NewCond(&s.mu.Mutex)
	s.runners.changed = sync.NewCond(&s.runners.Mutex)
	s.handlers.changed = sync.NewCond(&s.handlers.Mutex)
	s.crew.handlers = &s.handlers
	s.upgrader = gws.NewUpgrader(events{}, s.webSocketOptions(s.o.MessageBytesMax))
	s.handler = s.routes()
	s.fanout = newFanout(s.o.Clock, s.o.Tick, s.o.Workers, (*conn).step)
	s.sweeper.begin(s)
	s.goroutines.Go(func() { s.o.Verifier.Run(s.acting) })
	return s
}

// Handler returns the handler of every URL of the server, for use with another
// http.Server. That server's own Shutdown does not know WebSocket connections:
// call Shutdown of this one first.
func (s *Server) Handler() http.Handler { return s.handler }

// Serve accepts connections until ctx ends, and then shuts down: it accepts no
// more, answers what was accepted, tells clients to come back, and returns nil,
// all within Options.ShutdownTimeout.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: s.o.HeaderTimeout,
		IdleTimeout:       s.o.IdleTimeout,
		MaxHeaderBytes:    s.o.HeaderBytesMax,
		ErrorLog:          ErrorLog(s.log),
	}
	s.mu.Lock()
	fitDescriptors(&s.o, descriptorsMax(), s.log)
	s.mu.Unlock()
	newDoor(s.o.HTTPConnectionsMax).attach(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var failure error
	select {
	case <-ctx.Done():
	case err := <-served:
		failure = fmt.Errorf("accept connections on %s: %w", listener.Addr(), err)
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.ShutdownTimeout)
	defer cancel()
	// Both at once: a request that waits for a mutation and a connection that
	// does have the same time.
	httpEnd := make(chan error, 1)
	go func() { httpEnd <- server.Shutdown(end) }()
	err := s.Shutdown(end)
	if httpErr := <-httpEnd; httpErr != nil {
		err = errors.Join(err, server.Close())
		s.log.Warn("HTTP requests were cut off by the shutdown", slog.Any("error", httpErr))
	}
	if failure != nil {
		return errors.Join(failure, err)
	}
	<-served // always http.ErrServerClosed
	return err
}

// Shutdown ends the server. Messages that have been read are answered; later
// ones are left to the client's next connection, as is what ctx does not leave
// time for. Shutdown returns when no goroutine of the server is left, and the
// app may be closed; only a function that does not return although its time is
// over makes it return an error and leave that goroutine behind. It may be
// called once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.draining.Store(true)
	open := len(s.mu.conns) + len(s.mu.sockets)
	s.mu.Unlock()
	s.log.Info("shutting down", slog.Int("connections", open))
	s.sweeper.end()

	// Waiting for mutations and actions ends when half of the time is gone: clients must
	// still be told to come back.
	half := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		half, cancel = context.WithDeadline(ctx, time.Now().Add(time.Until(deadline)/2))
		defer cancel()
	}
	if !s.runners.wait(half) {
		s.log.Warn("mutations or actions were still running when connections had to be closed; clients will ask again for mutations")
	}
	s.stopActing()
	for _, c := range s.connections() {
		c.close(closeRestart, reasonRestart)
	}
	for _, c := range s.moduleConns() {
		c.close(closeRestart, reasonRestart)
	}
	if !s.awaitEmpty(ctx) {
		for _, c := range s.moduleConns() {
			c.drop()
		}
		for _, c := range s.connections() {
			c.drop()
		}
	}
	s.goroutines.Wait()
	s.fanout.end()
	s.goroutines.Wait() // the last steps may have begun a write
	s.cancel()          // calls of the app that have not begun are given up
	if !s.runners.wait(ctx) {
		return errors.New("shut down: a mutation or an action is still running")
	}
	s.crew.end()
	if !s.handlers.wait(ctx) {
		return errors.New("shut down: the handler of a WebSocket connection is still running")
	}
	return nil
}

// awaitEmpty waits until the socket of every connection is freed, or ctx ends.
func (s *Server) awaitEmpty(ctx context.Context) bool {
	stop := context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mu.empty.Broadcast()
	})
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.mu.conns)+len(s.mu.sockets) > 0 && ctx.Err() == nil {
		s.mu.empty.Wait()
	}
	return len(s.mu.conns)+len(s.mu.sockets) == 0
}

// connections returns all that have a socket.
func (s *Server) connections() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := make([]*conn, 0, len(s.mu.conns))
	for c := range s.mu.conns {
		open = append(open, c)
	}
	return open
}

// enter takes a place for a connection and counts its reading goroutine. The
// caller must call goroutines.Done and free when that ends.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() || s.mu.taken >= s.o.ConnectionsMax {
		return false
	}
	s.mu.taken++
	s.goroutines.Add(1)
	return true
}

// free gives the place of a connection back, whose socket is freed.
func (s *Server) free(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.taken--
	delete(s.mu.conns, c)
	s.emptyLocked()
}

// emptyLocked tells those who wait for it that no connection is left.
func (s *Server) emptyLocked() {
	if len(s.mu.conns)+len(s.mu.sockets) == 0 {
		s.mu.empty.Broadcast()
	}
}

// join makes a connection known. It reports false when the server is ending.
func (s *Server) join(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.mu.conns[c] = struct{}{}
	return true
}

// claimSession makes c the one connection of its client. An older one is closed:
// what it has waiting is dropped, since the client sends it again on c, and what
// it is running ends before the first mutation of c begins. If c itself is the
// older one, whose messages were long under way, it is c that is closed.
func (s *Server) claimSession(c *conn) {
	s.mu.Lock()
	if c.left {
		s.mu.Unlock()
		return
	}
	older := s.mu.sessions[c.session]
	if older != nil && older.count > c.count {
		s.mu.Unlock()
		c.closeNow(closeGoingAway, reasonReplaced)
		return
	}
	s.mu.sessions[c.session] = c
	c.claimed = true
	if older != nil {
		after := older.dropMutations()
		c.mutations.Lock()
		c.mutations.after = after
		c.mutations.Unlock()
	}
	s.mu.Unlock()
	if older != nil {
		older.closeNow(closeGoingAway, reasonReplaced)
	}
}

// leave drops what a connection that has ended had waiting.
func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.left = true
	if !s.forgetLocked(c) {
		s.mu.leaving = append(s.mu.leaving, c)
	}
}

// forgetLocked frees the session of a connection that is gone once nothing of it
// runs: until then a new connection of the client has to find it.
func (s *Server) forgetLocked(c *conn) bool {
	if after := c.dropMutations(); after != nil {
		select {
		case <-after:
		default:
			return false
		}
	}
	if c.claimed && s.mu.sessions[c.session] == c {
		delete(s.mu.sessions, c.session)
	}
	return true
}

// sweepLeaving forgets the connections whose last mutation has ended.
func (s *Server) sweepLeaving() {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.mu.leaving[:0]
	for _, c := range s.mu.leaving {
		if !s.forgetLocked(c) {
			kept = append(kept, c)
		}
	}
	clear(s.mu.leaving[len(kept):])
	s.mu.leaving = kept
}

// gauge counts what is running, and lets one wait for nothing to.
type gauge struct {
	sync.Mutex
	changed *sync.Cond
	n       int
}

func (g *gauge) begin() {
	g.Lock()
	g.n++
	g.Unlock()
}

func (g *gauge) end() {
	g.Lock()
	if g.n--; g.n == 0 {
		g.changed.Broadcast()
	}
	g.Unlock()
}

// wait reports whether the count reached 0 before ctx ended.
func (g *gauge) wait(ctx context.Context) bool {
	stop := context.AfterFunc(ctx, func() {
		g.Lock()
		defer g.Unlock()
		g.changed.Broadcast()
	})
	defer stop()
	g.Lock()
	defer g.Unlock()
	for g.n > 0 && ctx.Err() == nil {
		g.changed.Wait()
	}
	return g.n == 0
}
