package server

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lxzan/gws"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// Close codes, and the reasons a client chooses its delay by. The npm client
// comes back after every close: after about 3 s for some reasons, else 1 s, both
// growing with each failure.
const (
	closeNormal     = 1000
	closeGoingAway  = 1001
	closeInvalid    = 1007
	closePolicy     = 1008
	closeTooLarge   = 1009
	closeInternal   = 1011
	closeRestart    = 1012
	closeTryAgain   = 1013
	reasonInternal  = "InternalServerError"
	reasonBusy      = "TooManyConcurrentRequests"
	reasonMutations = "TooManyConcurrentMutations"
	reasonActions   = "TooManyConcurrentActions"
	reasonReplaced  = "ReplacedByNewerConnection"
	reasonSilent    = "ClientSilent"
	reasonSlow      = "MessageTooSlow"
	reasonTooLarge  = "MessageTooLarge"
	reasonProtocol  = "ProtocolError"
	reasonAuth      = "AuthenticationFailed"
	reasonRestart   = "Restart"
)

// conn is one WebSocket connection.
//
// Three parties work on it. The reading goroutine, one for each connection,
// handles the client's messages. The mutation runner, which exists only while
// mutations wait, executes them. And a worker of the fanout, never two at once,
// is the only one to write messages; see send.go for the order it keeps.
type conn struct {
	server *Server
	socket *socket
	ws     *gws.Conn

	// Nanoseconds of the server's clock.
	seenAt    atomic.Int64 // something came
	sentAt    atomic.Int64 // a message was sent
	probedAt  atomic.Int64 // a WebSocket ping was sent
	messageAt atomic.Int64 // the message that is being read went over 64 KiB; 0 if none did

	// stopped is set when no more messages are to be handled.
	stopped atomic.Bool
	// pollWanted is set when the query set may have something new.
	pollWanted atomic.Bool
	// shownTS is the end of the last Transition, for a check of the order.
	shownTS atomic.Uint64

	// ends is when the token of the caller is not good any more, in nanoseconds of the server's clock; 0: never. revoked is one more than
	// the number of admin keys that were revoked when the caller's was looked at; 0: the caller is no administrator.
	ends    atomic.Int64
	revoked atomic.Uint64

	// replaying holds back the first Transition of a client that came back until
	// the mutations it sent again are answered.
	replaying atomic.Bool

	// turn belongs to the fanout and is guarded by its lock.
	turn turn

	// Of the reading goroutine alone, and of the one that handles a message for
	// it while it waits.
	handling  sync.WaitGroup
	connected bool
	session   engine.ClientID // set once, before the first mutation
	count     uint32          // of the client's connections before this one; set with session
	userAgent string          // of the handshake; set before anything is read
	client    clientVersion   // the same
	caller    caller

	// Guarded by the lock of the server: the session is registered for this
	// connection; it has ended.
	claimed, left bool

	mutations mutationQueue
	actions   atomic.Int64 // that run

	mu struct {
		sync.Mutex
		closed bool
		set    querySet // nil before Connect

		// sent is the end of the last Transition, received what the client has
		// asked for since.
		sent               protocol.Version
		querySet, identity uint32

		// queries are those of the client. Those in fresh were never in a
		// round. removed are to be told in the next Transition, failed in the
		// one that reaches querySet.
		queries map[uint32]int64 // what they have of the budget for live queries
		watched int64            // the sum of that
		fresh   map[uint32]struct{}
		removed []uint32
		failed  []engine.Change
		// answer: a ModifyQuerySet has no Transition yet.
		answer bool

		// owed: a Transition at or after owedTS must follow a response.
		owed   bool
		owedTS engine.Timestamp

		// sentTick is the tick of the last Transition.
		sentTick int64
		// replayUntil bounds what replaying does.
		replayUntil time.Time
		// failures are responses that wait for the first Transition of a client
		// that came back; at most unsentMax.
		failures []outgoing

		skew *int64
	}

	// out is what waits to be sent. Its lock is the innermost of a connection.
	out struct {
		sync.Mutex
		items []outgoing
		bytes int64      // of items, about
		held  int64      // of the budget for what clients have yet to take
		room  *sync.Cond // items became fewer, or the connection closed
		// need is the largest timestamp of a response: the query set must come to it.
		need engine.Timestamp

		ping, probe bool
		pong        []byte
		closing     *closing
		closed      bool
	}
}

// outgoing is one message to the client: its text, or a response that is yet to
// be encoded.
type outgoing struct {
	text     []byte
	response *response
}

// closing is how a connection is to be closed.
type closing struct {
	code   uint16
	reason string
}

func newConn(s *Server) *conn {
	c := &conn{server: s}
	c.out.room = sync.NewCond(&c.out.Mutex)
	now := s.o.Clock.Now().UnixNano()
	c.seenAt.Store(now)
	c.sentAt.Store(now)
	c.mu.sentTick = -1
	return c
}

// attach gives the connection its socket.
func (c *conn) attach(s *socket) {
	c.socket, s.owner = s, c
	s.gate.limit = int64(c.server.o.FirstMessageBytesMax)
	s.gate.budget, s.budget = &c.server.inbound, &c.server.outbound
	s.writeTimeout, s.closeTimeout = c.server.o.WriteTimeout, c.server.o.CloseTimeout
	s.start = c.server.goroutines.Go
	s.seen = func(large bool) {
		now := c.server.o.Clock.Now().UnixNano()
		c.seenAt.Store(now)
		if large {
			c.messageAt.CompareAndSwap(0, now)
		}
	}
	s.drained = func() { c.wake(true) }
	s.refused = c.refuse
}

// wake has the connection served.
func (c *conn) wake(urgent bool) { c.server.fanout.mark(c, urgent) }

// change changes what there is to send, under the lock, and has the connection
// served: a worker that comes meanwhile does not wait for the lock.
func (c *conn) change(f func()) {
	defer c.wake(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

// changed is called by the query set when a new round may be ready.
func (c *conn) changed() {
	c.pollWanted.Store(true)
	c.wake(false)
}

// send puts a message in the queue of those to be sent. It reports false when
// the client does not take what it is sent.
func (c *conn) send(m protocol.ServerMessage) bool {
	c.out.Lock()
	ok := len(c.out.items) < c.server.o.MutationsQueuedMax
	if ok && !c.out.closed {
		text := m.Append(nil)
		ok = c.queueLocked(outgoing{text: text}, len(text))
	}
	c.out.Unlock()
	c.wake(true)
	return ok
}

// queueLocked is send for an item of about size bytes. It reports false when
// clients have not taken so much that there is no room for it; the first 64 KiB of
// a connection are free. REQUIRES: the lock of out.
func (c *conn) queueLocked(item outgoing, size int) bool {
	more := c.out.bytes + int64(size) - freeBytes - c.out.held
	if more > 0 {
		if !c.server.outbound.take(more) {
			return false
		}
		c.out.held += more
	}
	c.out.bytes += int64(size)
	c.out.items = append(c.out.items, item)
	return true
}

// takenLocked gives back what the items had, which are a worker's now, until the
// socket keeps what is left of them. REQUIRES: the lock of out.
func (c *conn) takenLocked() {
	c.server.outbound.put(c.out.held)
	c.out.bytes, c.out.held = 0, 0
}

// respond puts the response of a mutation in the same queue. It may be called
// while a commit is being published: it does not wait. The mutation runner
// bounds how many responses wait. Without room for it the connection is closed:
// the client sends its mutations again on the next one, and is told there.
func (c *conn) respond(r *response) {
	size := value.Size(r.value)
	c.out.Lock()
	full := false
	if !c.out.closed && c.out.closing == nil {
		if full = !c.queueLocked(outgoing{response: r}, size); !full && r.failure == nil {
			c.out.need = max(c.out.need, r.at)
			c.pollWanted.Store(true)
		}
	}
	c.out.Unlock()
	if full {
		c.close(closeTryAgain, reasonBusy)
		return
	}
	c.wake(true)
}

// close ends the connection after what waits has been sent. From now on messages
// of the client are ignored.
func (c *conn) close(code uint16, reason string) {
	c.stopped.Store(true)
	c.out.Lock()
	if c.out.closing == nil {
		c.out.closing = &closing{code, reason}
	}
	c.out.Unlock()
	c.wake(true)
}

// closeNow ends the connection with a close frame, whatever waits. No lock of
// the connection may be held.
func (c *conn) closeNow(code uint16, reason string) {
	c.stopped.Store(true)
	_ = c.ws.WriteClose(code, []byte(reason)) // the client may be gone already
	c.end()
}

// fatal tells the client that it broke the protocol, and closes. The npm client
// never comes back after this.
func (c *conn) fatal(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	c.server.log.Info("client broke the protocol", slog.String("reason", message))
	c.send(&protocol.FatalError{Message: message})
	c.close(closePolicy, reasonProtocol)
}

// refuse closes the connection for what its client was about to send.
func (c *conn) refuse(err error) {
	switch err {
	case errInboundFull:
		c.closeNow(closeTryAgain, reasonBusy)
	default:
		c.closeNow(closeTooLarge, reasonTooLarge)
	}
}

// end frees what the connection holds, save its socket: the reading goroutine
// waits a while for the client to close its side. It may be called more than
// once, with no lock of the connection held.
func (c *conn) end() {
	c.stopped.Store(true)
	c.mu.Lock()
	set := c.mu.set
	first := !c.mu.closed
	c.mu.closed = true
	c.mu.set, c.mu.queries, c.mu.fresh, c.mu.failed, c.mu.removed = nil, nil, nil, nil, nil
	c.mu.failures = nil
	c.server.watched.put(c.mu.watched)
	c.mu.watched = 0
	c.mu.Unlock()
	if !first {
		return
	}
	if set != nil {
		set.Close()
	}
	c.server.fanout.remove(c)
	c.out.Lock()
	c.out.closed = true
	c.takenLocked()
	c.out.items = nil
	c.out.room.Broadcast()
	c.out.Unlock()
	c.server.leave(c)
}
