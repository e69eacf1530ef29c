package server

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/halcyon-db/halcyon"
)

// unsentMax is how many messages may wait for a client before no further
// mutation of its connection is begun.
const unsentMax = 16

// mutation is one that waits.
type mutation struct {
	request uint32
	path    string
	args    json.RawMessage // as they came: as values they could take twelve times as much
	again   bool            // the client may have sent it before, on another connection
	caller  caller
	refused string // it fails with this text and is not run
	size    int    // of its message
	claim   int64  // of the budget for inbound bytes
}

// mutationQueue holds the mutations of a connection in the order they came. A
// goroutine that lives while the queue is not empty runs them, one at a time:
// the next one begins when the outcome of the one before it waits to be sent.
type mutationQueue struct {
	sync.Mutex
	waiting []mutation
	bytes   int
	running bool
	// dropped: the connection is closed or fenced, and nothing more is begun.
	dropped bool
	// after is closed when the mutation that an older connection of the same
	// client was running has ended; nil if there was none.
	after <-chan struct{}
	// done is closed when nothing of this connection runs any more. It is made
	// when the queue is dropped.
	done chan struct{}
}

// queueMutation reports false when the queue is full.
func (c *conn) queueMutation(m mutation) bool {
	q := &c.mutations
	q.Lock()
	defer q.Unlock()
	if q.dropped {
		c.server.inbound.put(m.claim)
		return true
	}
	o := &c.server.o
	if len(q.waiting) >= o.MutationsQueuedMax || q.bytes > 0 && q.bytes+m.size > o.MutationsQueuedBytesMax {
		return false
	}
	q.waiting = append(q.waiting, m)
	q.bytes += m.size
	if !q.running {
		q.running = true
		c.server.runners.begin()
		go c.runMutations() // Shutdown waits for it by the gauge
	}
	return true
}

// busy reports whether mutations of the connection are not answered yet.
func (q *mutationQueue) busy() bool {
	q.Lock()
	defer q.Unlock()
	return q.running
}

// drop empties the queue for good and returns a channel that is closed when the
// mutation that is running, if any, has ended; nil if nothing runs.
func (c *conn) dropMutations() <-chan struct{} {
	q := &c.mutations
	q.Lock()
	defer q.Unlock()
	if !q.dropped {
		q.dropped = true
		for _, m := range q.waiting {
			c.server.inbound.put(m.claim)
		}
		q.waiting = nil
		if q.running {
			q.done = make(chan struct{})
		}
	}
	if q.done != nil {
		return q.done
	}
	return q.after
}

// runMutations runs what waits, and ends when nothing does. The queue starts it.
func (c *conn) runMutations() {
	defer c.server.runners.end()
	q := &c.mutations
	q.Lock()
	after := q.after
	q.Unlock()
	if after != nil {
		<-after
	}
	for {
		q.Lock()
		if len(q.waiting) == 0 {
			q.running = false
			if q.done != nil {
				close(q.done)
			}
			q.Unlock()
			if c.replaying.Load() {
				c.wake(true)
			}
			return
		}
		m := q.waiting[0]
		q.waiting[0] = mutation{}
		q.waiting = q.waiting[1:]
		q.bytes -= m.size
		q.Unlock()
		c.runMutation(m)
		c.server.inbound.put(m.claim)
		c.awaitRoom()
	}
}

// awaitRoom waits while the client is behind in taking what it is sent.
func (c *conn) awaitRoom() {
	c.out.Lock()
	defer c.out.Unlock()
	for len(c.out.items) >= unsentMax && !c.out.closed {
		c.out.room.Wait()
	}
}

func (c *conn) runMutation(m mutation) {
	defer func() {
		if p := recover(); p != nil {
			c.server.log.Error("running a mutation panicked", slog.String("function", m.path), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			c.closeNow(closeInternal, reasonInternal)
		}
	}()
	if c.lapsed(c.server.o.Clock.Now()) {
		c.lapse() // the client sends it again with a new token
		return
	}
	args, err := parseArgs(m.args)
	if err != nil && m.refused == "" {
		m.refused = badArgs(err)
	}
	if m.refused != "" {
		c.respond(&response{request: m.request, failure: &halcyon.Failure{Message: m.refused}})
		return
	}
	// The outcome may come in two ways, and counts once.
	var answered atomic.Bool
	out, err := c.server.app.Mutation(c.server.ctx, halcyon.Request{
		Path: m.path, Args: args, Admitted: m.again, Identity: m.caller.identity, Admin: m.caller.admin, Client: c.session, RequestID: m.request, Once: true,
		UserAgent: c.userAgent,
		OnCommit: func(out halcyon.Outcome) {
			if answered.Swap(true) {
				return
			}
			if shown := c.shownTS.Load(); shown >= uint64(out.At) {
				// Too late for this one: the client begins anew, and asks again.
				c.server.broke(&brokenRule{name: "ResponseBeforeEffect", detail: fmt.Sprintf("a Transition to %d overtook the response of %s at %d", shown, m.path, out.At)})
				c.close(closeInternal, reasonInternal+": ResponseBeforeEffect")
				return
			}
			c.respond(success(m.request, out))
		},
	})
	if answered.Swap(true) {
		return
	}
	r, again := c.server.responseOf(m.request, out, err)
	if again {
		// It may or may not have happened. The client sends it again on its
		// next connection, and is told what came of it.
		c.closeNow(closeTryAgain, reasonInternal)
		return
	}
	c.respond(r)
}
