package room

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// client is one connection.
type client struct {
	hub    *Hub
	conn   Conn
	ctx    context.Context // ends with the connection
	sentAt atomic.Int64    // nanoseconds since 1970
	// hocuspocus is the protocol of a connection with several documents; nil for y-websocket.
	hocuspocus *hocuspocus

	// Guarded by the lock of the hub.

	channels []*channel
	// lagging says that the client has not taken what it was sent. A goroutine waits for it then; late has the messages that may not be
	// left out.
	lagging bool
	late    [][]byte
	caught  chan struct{} // closed when it has caught up; nil when it is not lagging
}

// phase is how far a channel is.
type phase uint8

const (
	fresh   phase = iota // it has not asked for the document yet, and is told of awareness alone
	loading              // what it lacks is read, and what is told meanwhile held
	live                 // it is told of changes
)

// channel is one document on one connection.
type channel struct {
	client   *client
	document string
	at       wire.Address // of Hocuspocus; zero for y-websocket
	caller   *halcyon.Identity

	readOnly atomic.Bool

	// Of who has a message of the client in hand.

	vector yjs.StateVector // of the document as it was loaded for the message at hand
	forget func()          // lets go of the user

	// Guarded by the lock of the hub.

	joined bool
	phase  phase
	from   Position // what the client has been told of
	held   []held
	behind bool // it is owed what came after from

	claims    []claim
	announced bool // it has sent awareness

	unwritten      int
	unwrittenBytes int
	freed          chan struct{} // closed when there is room for more; nil when nobody waits
	// owed are acknowledgements of updates with gaps, due when the client has filled them.
	owed [][]byte
}

// held is an update that came while a channel loaded.
type held struct {
	update []byte
	at     Position
}

// key tells the connections of one user from those of others; "" for nobody.
func (ch *channel) key() string {
	if ch.caller == nil {
		return ""
	}
	return ch.caller.TokenIdentifier
}

// claim returns the claim on an awareness client, which there must be, until the next change of the claims.
func (ch *channel) claim(client uint64) *claim {
	return &ch.claims[slices.IndexFunc(ch.claims, func(c claim) bool { return c.client == client })]
}

func (ch *channel) disclaim(client uint64) {
	ch.claims = slices.DeleteFunc(ch.claims, func(c claim) bool { return c.client == client })
}

// freeLocked lets whoever waits for room go on.
func (ch *channel) freeLocked() {
	if ch.freed != nil {
		close(ch.freed)
		ch.freed = nil
	}
}

// expel ends the client's use of the document.
func (ch *channel) expel(code int, reason string) {
	if p := ch.client.hocuspocus; p != nil {
		p.expel(ch, reason)
		return
	}
	ch.client.conn.Close(code, reason)
}

// rescope changes whether the client may only read.
func (ch *channel) rescope(readOnly bool) {
	if p := ch.client.hocuspocus; p != nil {
		p.rescope(ch, readOnly)
		return
	}
	ch.client.conn.Close(CloseReset, ReasonAccess) // it is back at once, and begins anew
}

// wrapping makes frames of updates, once for all channels that get the same.
type wrapping struct {
	plain, plainAwareness     []byte
	address, addressAwareness wire.Address
	addressed, aware          []byte
}

func (w *wrapping) update(ch *channel, update []byte) []byte {
	if ch.at == (wire.Address{}) {
		if w.plain == nil {
			w.plain = plainUpdate(update)
		}
		return w.plain
	}
	if w.addressed == nil || w.address != ch.at {
		w.address, w.addressed = ch.at, ch.at.Update(update)
	}
	return w.addressed
}

func (w *wrapping) awareness(ch *channel, update []byte) []byte {
	if ch.at == (wire.Address{}) {
		if w.plainAwareness == nil {
			w.plainAwareness = plainAwareness(update)
		}
		return w.plainAwareness
	}
	if w.aware == nil || w.addressAwareness != ch.at {
		w.addressAwareness, w.aware = ch.at, ch.at.Awareness(update)
	}
	return w.aware
}

func plainUpdate(update []byte) []byte {
	return wire.Frame{Kind: wire.FrameSync, Sync: wire.Sync{Kind: wire.SyncUpdate, Payload: update}}.Append(nil)
}

func plainAwareness(update []byte) []byte {
	return wire.Frame{Kind: wire.FrameAwareness, Awareness: update}.Append(nil)
}

// askVector returns the message that asks a channel's client for what a document with a state vector lacks.
func (ch *channel) askVector(sv yjs.StateVector) []byte {
	ask := wire.Sync{Kind: wire.SyncStep1, Payload: sv.Encode()}
	if ch.at == (wire.Address{}) {
		return wire.Frame{Kind: wire.FrameSync, Sync: ask}.Append(nil)
	}
	return wire.Message{Document: ch.at.Document, Session: ch.at.Session, Kind: wire.MessageSync, Sync: ask}.Append(nil)
}

// send sends a message and reports whether the client has room for it.
func (c *client) send(frame []byte) bool {
	err := c.conn.Send(frame)
	if err == nil {
		c.sentAt.Store(time.Now().UnixNano())
	}
	return !errors.Is(err, halcyon.ErrSlowReader) // any other error has ended the connection
}

// signOfLife sends a message that says nothing. Clients of both protocols take silence for a lost connection, and pings of the WebSocket don't
// count.
func (c *client) signOfLife() {
	c.hub.mu.Lock()
	var frame []byte
	if len(c.channels) > 0 {
		frame = new(wrapping).awareness(c.channels[0], noStates)
	}
	c.hub.mu.Unlock()
	if frame != nil {
		c.send(frame) // a client that does not take it has enough to read
	}
}

// try sends a message about changes to a channel. A client that does not take it is owed everything after a position.
func (h *Hub) try(ch *channel, frame []byte, after Position) bool {
	if ch.client.send(frame) {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	ch.behind = true
	ch.from = min(ch.from, after)
	h.lagLocked(ch.client)
	return false
}

// must sends messages that may not be left out, later if the client has no room for them now.
func (h *Hub) must(c *client, frames ...[]byte) {
	for i, frame := range frames {
		h.mu.Lock()
		lagging := c.lagging
		if lagging {
			c.late = append(c.late, frames[i:]...)
		}
		h.mu.Unlock()
		if lagging {
			return
		}
		if !c.send(frame) {
			h.mu.Lock()
			c.late = append(c.late, frames[i:]...)
			h.lagLocked(c)
			h.mu.Unlock()
			return
		}
	}
}

// caughtUp waits until the client has taken what it was sent, as a part of receiving, so that nothing is read from a client that does not read.
func (h *Hub) caughtUp(c *client) error {
	h.mu.Lock()
	caught := c.caught
	h.mu.Unlock()
	if caught == nil {
		return nil
	}
	select {
	case <-caught:
		return nil
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
}

// lagLocked has a goroutine wait for a client.
func (h *Hub) lagLocked(c *client) {
	if c.lagging || h.mu.closed {
		return
	}
	c.lagging = true
	c.caught = make(chan struct{})
	h.work.Go(func() {
		if err := h.catchUp(c); err != nil {
			h.logger.Debug("a client does not catch up", "error", err)
			c.conn.Close(halcyon.SocketTryAgain, "SlowReader")
		}
	})
}

// catchUp waits for a client and gives it what it has missed.
func (h *Hub) catchUp(c *client) error {
	for {
		if err := c.conn.Flush(); err != nil {
			return fmt.Errorf("wait for the client: %w", err)
		}
		h.mu.Lock()
		late := c.late
		c.late = nil
		var ch *channel
		if len(late) == 0 {
			i := slices.IndexFunc(c.channels, func(ch *channel) bool { return ch.behind })
			if i < 0 {
				c.lagging = false
				close(c.caught)
				c.caught = nil
				h.mu.Unlock()
				return nil
			}
			ch = c.channels[i]
			ch.behind = false
		}
		var after Position
		begun := false
		if ch != nil {
			after, begun = ch.from, ch.phase != fresh
		}
		h.mu.Unlock()
		for i, frame := range late {
			if !c.send(frame) {
				h.mu.Lock()
				c.late = append(late[i:], c.late...)
				h.mu.Unlock()
				break
			}
		}
		if ch == nil {
			continue
		}
		var missed []byte
		at := after
		if begun {
			var err error
			if missed, at, err = h.store.Since(c.ctx, ch.caller, ch.document, after); err != nil {
				return fmt.Errorf("read what the client has missed: %w", err)
			}
		}
		var wrap wrapping
		if at > after && !c.send(wrap.update(ch, missed)) {
			h.mu.Lock()
			ch.behind = true
			h.mu.Unlock()
			continue
		}
		h.mu.Lock()
		ch.from = max(ch.from, at)
		states := []byte(nil)
		if r := h.mu.rosters[ch.document]; r != nil {
			states = r.tellAll()
		}
		h.mu.Unlock()
		if states != nil {
			c.send(wrap.awareness(ch, states)) // what is left out comes again when it is renewed
		}
	}
}
