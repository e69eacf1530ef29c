package server

import (
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/lxzan/gws"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/protocol"
)

// This file writes to clients. Two rules make what they see true, and both break
// without a sign: a client that gets a Transition from the wrong version freezes,
// and one that gets the effect of its mutation before the response shows an
// optimistic update on top of its own result.
//
// # Versions
//
// Every Transition is composed by compose, and starts at conn.mu.sent, which is
// where the last one ended. Only advance changes sent, and it checks that no part
// of the version goes back. One worker at a time serves a connection, and writes
// what it composed before it lets go, so Transitions leave in the order in which
// they were composed.
//
// # Response before effect
//
// Claim: when a Transition at time W leaves, the response of every mutation of
// this connection that committed at T <= W has left before it.
//
//  1. The engine calls OnCommit for the mutation before it lets any query set
//     come to T, and OnCommit puts the response into conn.out.
//  2. A Transition at W > sent.TS comes from a round that Poll returned, so when
//     Poll returned the query set had come to W >= T.
//  3. So at the end of Poll the response was in conn.out, or had left.
//  4. A step takes all of conn.out after Poll, writes it, then writes the
//     Transition. So the response leaves first.
//
// A mutation that was answered from memory has no OnCommit: it happened on an
// earlier connection, and its effect may already be in the first round of this
// one. Its response still leaves before the Transition in practice, because a
// client that came back gets its first Transition only when it has sent nothing
// for a tick and the mutations it sent again are answered (or after two seconds).
// A mutation that wrote nothing has no effect to show.
//
// # No blink
//
// A client that came back shows the results of before until its first
// Transition, and after that nothing but what was in it. So that one waits for
// the client's queries too, and is not spent on its token alone. The npm client
// also shows nothing any more when a mutation fails before that Transition, so
// such a response, which has no effect that it would have to come before, is
// sent after it.
//
// # A Transition after every success
//
// A client settles a mutation only when a Transition at or after its timestamp
// comes after the response, even if it has shown that timestamp before. respond
// raises out.need, so Poll(need) brings the set there even if nothing changed.
// When a step takes a response it notes that a Transition is owed; the next one
// at or after owedTS pays, be it one without changes at sent.TS.

// composer is the memory of one worker for composing messages.
type composer struct {
	items   []outgoing
	text    []byte     // envelopes
	pieces  [][]byte   // of a Transition: parts of text and shared bodies
	after   []outgoing // responses behind the Transition
	single  []byte     // one other message
	closing *closing   // set when the connection is to be closed after all that
}

// chunkBytesMax is the size of the largest Transition that is sent in one
// message to a client that knows TransitionChunk, and of a part of a larger one.
const chunkBytesMax = 5_000_000

// Upper bounds of the parts of a Transition that are not bodies.
const (
	transitionTextMax   = 512
	modificationTextMax = 64
)

// step serves a connection once: it sends what waits, and a Transition if there
// is one. It reports whether the connection has to be served again at the next
// tick.
func (c *conn) step(w *composer) (later bool) {
	defer func() {
		// A broken rule is this connection's end, not that of others.
		switch p := recover().(type) {
		case nil:
		case *brokenRule:
			c.server.broke(p)
			c.closeNow(closeInternal, reasonInternal+": "+p.name)
		default:
			c.server.log.Error("serving a connection panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			c.closeNow(closeInternal, reasonInternal)
		}
	}()
	if c.socket.backlogged() {
		return false // it is woken when the client has taken what it was sent
	}
	if c.lapsed(c.server.o.Clock.Now()) {
		c.lapse() // and sends no more of what was the caller's to see
	}
	later, ok := c.compose(w)
	if !ok {
		return false
	}
	sends := len(w.items) > 0 || len(w.pieces) > 0 || len(w.after) > 0
	if sends {
		c.sentAt.Store(c.server.o.Clock.Now().UnixNano())
	}
	c.writeMessages(w, w.items)
	if len(w.pieces) > 0 {
		c.writeTransition(w)
		clear(w.pieces)
	}
	c.writeMessages(w, w.after)
	c.sendControl(w, sends)
	if cap(w.single) > freeBytes {
		w.single = nil
	}
	return later
}

func (c *conn) writeMessages(w *composer, items []outgoing) {
	for i := range items {
		text := items[i].text
		if r := items[i].response; r != nil {
			w.single = r.append(w.single[:0])
			text = w.single
		}
		_ = c.ws.WriteMessage(gws.OpcodeText, text) // an error ends the reading goroutine, which cleans up
		items[i] = outgoing{}
	}
}

// writeTransition sends a Transition: in parts when it is so large that a client
// that waits for the whole might give up, and knows how to put them together.
func (c *conn) writeTransition(w *composer) {
	size := 0
	for _, piece := range w.pieces {
		size += len(piece)
	}
	if size <= chunkBytesMax || !c.client.takesChunks() {
		_ = c.ws.Writev(gws.OpcodeText, w.pieces...)
		return
	}
	whole := make([]byte, 0, size)
	for _, piece := range w.pieces {
		whole = append(whole, piece...)
	}
	parts := protocol.SplitText(whole, chunkBytesMax)
	id := protocol.Timestamp(c.shownTS.Load()).String()
	for i, part := range parts {
		chunk := protocol.TransitionChunk{Chunk: string(part), Part: uint32(i), Parts: uint32(len(parts)), TransitionID: id}
		w.single = chunk.Append(w.single[:0])
		if c.ws.WriteMessage(gws.OpcodeText, w.single) != nil {
			return // the reading goroutine cleans up
		}
	}
}

// sendControl sends what does not depend on order, and closes the connection if
// that is due. sent tells whether the client was sent a message just now.
func (c *conn) sendControl(w *composer, sent bool) {
	c.out.Lock()
	ping, probe, pong := c.out.ping, c.out.probe, c.out.pong
	c.out.ping, c.out.probe, c.out.pong = false, false, nil
	c.out.Unlock()
	if pong != nil {
		_ = c.ws.WritePong(pong)
	}
	if w.closing != nil {
		c.closeNow(w.closing.code, w.closing.reason)
		return
	}
	if probe {
		_ = c.ws.WritePing(nil)
	}
	if ping && !sent {
		c.sentAt.Store(c.server.o.Clock.Now().UnixNano())
		var text [32]byte
		_ = c.ws.WriteMessage(gws.OpcodeText, (&protocol.Ping{}).Append(text[:0]))
	}
}

// compose takes what is to be sent into w: first the messages that wait, then
// at most one Transition. It reports false when the connection has nothing to be
// served with.
func (c *conn) compose(w *composer) (later, ok bool) {
	w.items, w.after, w.pieces, w.text, w.closing = w.items[:0], w.after[:0], w.pieces[:0], w.text[:0], nil
	// Who holds the lock changes what there is to send, and wakes the connection
	// when done. A worker has others to serve meanwhile.
	if !c.mu.TryLock() {
		return false, false
	}
	defer c.mu.Unlock()
	if c.mu.closed {
		return false, false
	}
	due, later := c.dueLocked()
	var round engine.Round
	haveRound := false
	if due && c.mu.set != nil && c.pollWanted.Swap(false) {
		c.out.Lock()
		need := c.out.need
		c.out.Unlock()
		round, haveRound = c.mu.set.Poll(need)
	}
	before := len(c.mu.failures)
	c.takeLocked(w)
	if before < unsentMax && len(c.mu.failures) >= unsentMax {
		c.wake(true) // the Transition does not wait for the runner any more
	}
	if due {
		c.transitionLocked(w, round, haveRound)
	}
	if len(c.mu.failures) > 0 && !c.holdsFailuresLocked() {
		w.after = append(w.after, c.mu.failures...)
		c.mu.failures = nil
		c.wake(true) // there may be more
	}
	return later, true
}

// dueLocked reports whether the connection may get a Transition now, or else
// whether it has to be asked again at the next tick.
func (c *conn) dueLocked() (due, later bool) {
	wants := c.mu.answer || c.mu.owed || c.mu.identity != c.mu.sent.Identity || c.pollWanted.Load()
	if !wants || c.stopped.Load() {
		return false, false
	}
	if now := c.server.o.Clock.Now(); c.replaying.Load() && now.Before(c.mu.replayUntil) {
		if (c.mu.querySet == 0 || c.mutations.busy()) && len(c.mu.failures) < unsentMax {
			return false, false // the queries or the end of the runner wake it, and the sweep does
		}
		if now.UnixNano()-c.seenAt.Load() < int64(c.server.o.Tick) {
			return false, true // more may be on its way
		}
	}
	if c.mu.sentTick == c.server.fanout.tickNow() {
		return false, true
	}
	return true, false
}

// takeLocked moves the messages that wait into w, and what is to follow them.
func (c *conn) takeLocked(w *composer) {
	c.out.Lock()
	defer c.out.Unlock()
	w.closing = c.out.closing
	if len(c.out.items) == 0 {
		return
	}
	holds, taken := c.holdsFailuresLocked(), 0
	for _, item := range c.out.items {
		switch r := item.response; {
		case r == nil:
			w.items = append(w.items, item)
		case r.failure == nil:
			w.items = append(w.items, item)
			c.mu.owed = true
			c.mu.owedTS = max(c.mu.owedTS, r.at)
		case !holds:
			w.items = append(w.items, item)
		case len(c.mu.failures) < unsentMax:
			c.mu.failures = append(c.mu.failures, item)
		default:
			// The rest waits too, and stops the mutations.
			n := copy(c.out.items, c.out.items[taken:])
			clear(c.out.items[n:])
			c.out.items = c.out.items[:n]
			return
		}
		taken++
	}
	clear(c.out.items)
	c.takenLocked()
	if c.out.items = c.out.items[:0]; cap(c.out.items) > unsentMax {
		c.out.items = nil
	}
	c.out.room.Broadcast()
}

// holdsFailuresLocked reports whether responses of failed mutations wait for the
// first Transition. With unsentMax of them it is the Transition that does not
// wait any more.
func (c *conn) holdsFailuresLocked() bool {
	return c.replaying.Load() && c.server.o.Clock.Now().Before(c.mu.replayUntil)
}

// transitionLocked composes the Transition for a round, or the one without
// results that answers the client, if either is due.
func (c *conn) transitionLocked(w *composer, round engine.Round, haveRound bool) {
	end := c.mu.sent
	if haveRound {
		end.TS = protocol.Timestamp(round.At)
		for _, change := range round.Changes {
			delete(c.mu.fresh, change.ID)
		}
	}
	// A version of the query set is reached when each of its queries has been
	// in a round, and, on a new connection, a round has given the timestamp.
	answers := c.mu.answer && len(c.mu.fresh) == 0 && (haveRound || c.mu.sent.TS > 0)
	if answers {
		end.QuerySet = c.mu.querySet
	}
	// A round after a change of the identity has the new results of all queries
	// that looked at it, and no result of the old one. So the two go together,
	// unless the client has removed these queries.
	identifies := c.mu.identity != c.mu.sent.Identity && (haveRound || c.mu.sent.TS > 0 && !c.mu.set.Moving())
	if identifies {
		end.Identity = c.mu.identity
	}
	pays := c.mu.owed && end.TS >= protocol.Timestamp(c.mu.owedTS)
	if !answers && !identifies && !pays && len(round.Changes) == 0 {
		return
	}
	start, first := c.advanceLocked(end)

	size := transitionTextMax + modificationTextMax*(len(round.Changes)+len(c.mu.failed)+len(c.mu.removed))
	if cap(w.text) < size {
		w.text = make([]byte, 0, size)
	}
	w.add(protocol.AppendTransitionStart(w.rest(), start, end))
	modifications := 0
	comma := func() []byte {
		rest := w.rest()
		if modifications++; modifications > 1 {
			rest = append(rest, ',')
		}
		return rest
	}
	// A query that was removed gets no more results, so its last one must not
	// stand beside newer ones until the whole version is reached. It comes before
	// the rest: its id may be that of a new query by now.
	for _, id := range c.mu.removed {
		w.add(protocol.AppendQueryRemoved(comma(), id))
	}
	c.mu.removed = nil
	for _, change := range round.Changes {
		if _, ok := c.mu.queries[change.ID]; ok {
			w.add(protocol.AppendModificationStart(comma(), change.ID))
			w.pieces = append(w.pieces, change.Body)
		}
	}
	if answers {
		for _, change := range c.mu.failed {
			w.add(protocol.AppendModificationStart(comma(), change.ID))
			w.pieces = append(w.pieces, change.Body)
		}
		c.mu.answer, c.mu.failed = false, nil
	}
	if pays {
		c.mu.owed = false
	}
	c.replaying.Store(false)
	c.mu.sentTick = c.server.fanout.tickNow()
	// Clients use the clocks only to schedule the renewal of a token.
	if first || end.Identity != start.Identity {
		now := c.server.o.Clock.Now().UnixNano()
		w.add(protocol.AppendTransitionEnd(w.rest(), c.mu.skew, &now))
	} else {
		w.add(protocol.AppendTransitionEnd(w.rest(), nil, nil))
	}
}

// rest is the part of the worker's text that is free.
func (w *composer) rest() []byte { return w.text[len(w.text):len(w.text):cap(w.text)] }

// add takes the next piece, which was appended to rest.
func (w *composer) add(piece []byte) {
	if len(w.text)+len(piece) > cap(w.text) {
		panic(fmt.Sprintf("invariant: a Transition's envelope outgrew %d bytes", cap(w.text)))
	}
	w.text = w.text[:len(w.text)+len(piece)]
	w.pieces = append(w.pieces, piece)
}
