package server

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/halcyon-db/halcyon"
)

// errReceiver is the error of a receiver that asks for messages.
var errReceiver = errors.New("messages are given to the receiver of this connection")

// receiving is the session of a connection that a receiver serves.
type receiving struct {
	sync.Mutex                        // held while a message is in the receiver's hands
	session    *halcyon.SocketSession // nil before and after
	ended      atomic.Bool            // the context has
}

// openSession begins the session.
func (c *moduleConn) openSession(request *http.Request) {
	session, how := c.endpoint.Open(c.ctx, request, c)
	if session == nil {
		c.Close(how.Code, how.Reason)
		c.endReceiver()
		return
	}
	c.receiving.Lock()
	ended := c.receiving.ended.Load()
	if !ended {
		c.receiving.session = session
	}
	c.receiving.Unlock()
	if ended {
		c.closeSession(session)
	}
}

// receive gives a message to the receiver.
func (c *moduleConn) receive(m halcyon.SocketMessage) {
	c.receiving.Lock()
	defer c.receiving.Unlock()
	if c.receiving.session == nil {
		return
	}
	if how := c.receiving.session.Receive(m); how != nil {
		c.Close(how.Code, how.Reason)
	}
}

// endSession has the session closed, when the receiver has done with the message in its hands: what it waits for ends with the context.
func (c *moduleConn) endSession() {
	if c.receiving.ended.Swap(true) {
		return
	}
	go func() { // Shutdown waits for it by the gauge
		c.receiving.Lock()
		session := c.receiving.session
		c.receiving.session = nil
		c.receiving.Unlock()
		if session != nil { // otherwise it is being opened, and who does that closes it
			c.closeSession(session)
		}
	}()
}

func (c *moduleConn) closeSession(session *halcyon.SocketSession) {
	how := session.End()
	c.Close(how.Code, how.Reason)
	c.endReceiver()
}

func (c *moduleConn) endReceiver() {
	c.server.handlers.end()
	c.part()
}

// crewIdleMax is how many goroutines of a crew wait for work.
const crewIdleMax = 16

// crew runs receivers on goroutines that are there for all connections. A connection's own, which reads, has a small stack then for as long as
// nothing happens: it grows with the first message that is worked on by it, and shrinks to no less than twice of that.
//
// There are as many as have work, and up to crewIdleMax more. Shutdown ends them and waits for them by the gauge.
type crew struct {
	handlers *gauge

	mu struct {
		sync.Mutex
		idle  []*hand
		ended bool
	}
}

// hand is a goroutine of a crew.
type hand struct {
	work chan shift    // unbuffered; closed to end it
	done chan struct{} // the shift is over; holds one
}

// shift is what there is to do: a session to open, or a message to receive.
type shift struct {
	conn    *moduleConn
	request *http.Request // to open
	message halcyon.SocketMessage
}

// do has a shift done, and returns when it is or the connection has ended. It reports false when the receiver may still look at the message. The
// goroutine that reads a connection calls it.
func (w *crew) do(s shift) bool {
	h := w.take()
	h.work <- s
	select {
	case <-h.done:
		w.put(h)
		return true
	case <-s.conn.ctx.Done():
		close(h.work) // it ends when the shift does, however long that takes
		return false
	}
}

func (w *crew) take() *hand {
	w.mu.Lock()
	if n := len(w.mu.idle); n > 0 {
		h := w.mu.idle[n-1]
		w.mu.idle = w.mu.idle[:n-1]
		w.mu.Unlock()
		return h
	}
	w.mu.Unlock()
	h := &hand{work: make(chan shift), done: make(chan struct{}, 1)}
	w.handlers.begin()
	go func() {
		defer w.handlers.end()
		h.serve()
	}()
	return h
}

func (w *crew) put(h *hand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.mu.ended || len(w.mu.idle) == crewIdleMax {
		close(h.work)
		return
	}
	w.mu.idle = append(w.mu.idle, h)
}

// end ends the goroutines that wait for work; those that have some end with it.
func (w *crew) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.ended = true
	for _, h := range w.mu.idle {
		close(h.work)
	}
	w.mu.idle = nil
}

func (h *hand) serve() {
	for s := range h.work {
		if s.request != nil {
			s.conn.openSession(s.request)
		} else {
			s.conn.receive(s.message)
		}
		h.done <- struct{}{}
	}
}
