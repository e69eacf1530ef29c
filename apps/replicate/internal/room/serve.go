package room

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// User is whom a token is of.
type User struct {
	Identity *halcyon.Identity // nil for nobody
	Token    context.Context   // ends with the token; nil for one without an end
	Release  func()            // is called when nothing is done for the user any more; may be nil
}

// Authenticate finds out whose token this is. A *halcyon.Error denies access to the document it was given for; any other error ends the
// connection.
type Authenticate func(token string) (User, error)

// Visit is one connection that the hub serves, from Open to Closed. Its methods are called by one goroutine at a time.
type Visit struct {
	client
	document     string
	caller       *halcyon.Identity
	authenticate Authenticate
	stateless    func(*Stateless) error
	entered      bool
	protocol     protocol // nil before the first message
}

// protocol is what the client of a connection speaks.
type protocol interface {
	// receive does what a message asks for, and returns how the connection is to be closed.
	receive(message []byte) error
	// end lets go of what is held for the client.
	end()
}

// Open begins to serve a connection. Nothing is done for it before its first message, which says by its form what protocol the client speaks. ctx
// ends with the connection.
//
// document is what the address of the connection names. A client of y-websocket needs one; one of Hocuspocus may open no other then, and all
// where it is empty. caller is whom the request that opened the connection is of; a client of Hocuspocus that gives a token for a document is
// whom authenticate says. stateless, which may be nil, is given the messages of the application.
func (h *Hub) Open(ctx context.Context, conn Conn, document string, caller *halcyon.Identity, authenticate Authenticate, stateless func(*Stateless) error) *Visit {
	v := &Visit{document: document, caller: caller, authenticate: authenticate, stateless: stateless}
	v.hub, v.conn, v.ctx = h, conn, ctx
	v.sentAt.Store(time.Now().UnixNano())
	return v
}

// Receive does what a message asks for. An error says how the connection is to be closed.
func (v *Visit) Receive(m halcyon.SocketMessage) error {
	if !m.Binary {
		return &halcyon.SocketClosed{Code: CloseMalformed, Reason: ReasonText}
	}
	if v.protocol == nil {
		if err := v.begin(m.Data); err != nil {
			return err
		}
	}
	if err := v.protocol.receive(m.Data); err != nil {
		return closedFor(err)
	}
	return nil
}

// begin finds out what the client speaks.
func (v *Visit) begin(first []byte) error {
	if err := v.hub.enter(v.ctx, &v.client); err != nil {
		return err
	}
	v.entered = true
	// A frame of y-websocket begins with its kind, of which the first one sent is a sync message; a message of Hocuspocus with the length of
	// the document's name.
	var err error
	if len(first) > 0 && first[0] == byte(wire.FrameSync) {
		v.protocol, err = v.hub.openWebsocket(&v.client, v.document, v.caller)
	} else {
		v.protocol = v.hub.openHocuspocus(v)
	}
	v.authenticate, v.stateless = nil, nil // the protocol has what it needs of them
	return err
}

// Closed ends the visit.
func (v *Visit) Closed() {
	if v.protocol != nil {
		v.protocol.end()
	}
	if v.entered {
		v.hub.leave(&v.client)
	}
}

// nameIsGood reports whether a document may have a name.
func (h *Hub) nameIsGood(document string) bool {
	return document != "" && len(document) <= h.opts.NameBytesMax
}

// closed returns how a connection is to be closed for what it sent.
func closedFor(err error) error {
	switch {
	case tooLarge(err):
		return &halcyon.SocketClosed{Code: CloseTooLarge, Reason: ReasonAwarenessTooLarge}
	case errors.Is(err, wire.ErrQueueFull):
		return &halcyon.SocketClosed{Code: CloseReset, Reason: ReasonTooMuch}
	case errors.Is(err, wire.ErrUnexpected):
		return &halcyon.SocketClosed{Code: CloseReset, Reason: ReasonUnexpected}
	case errors.Is(err, yjs.ErrMalformed), errors.Is(err, yjs.ErrLimit):
		return &halcyon.SocketClosed{Code: CloseMalformed, Reason: ReasonMalformed}
	}
	return err
}

// replica is the document of a channel as the protocols' state machines ask for it.
type replica struct{ ch *channel }

var _ wire.Replica = replica{}

// Missing implements [wire.Replica]. It begins to load the document where the client has not had it yet; loaded ends it, when the answer is
// sent.
func (r replica) Missing(sv yjs.StateVector) ([]byte, error) {
	h, ch := r.ch.client.hub, r.ch
	h.mu.Lock()
	if ch.phase == fresh {
		ch.phase = loading
	}
	h.mu.Unlock()
	state, err := ch.load(sv)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	ch.vector = state.Vector
	if ch.phase == loading {
		ch.from = state.At
	}
	return state.Missing, nil
}

// StateVector implements [wire.Replica]. After Missing it is that of what Missing has read.
func (r replica) StateVector() (yjs.StateVector, error) {
	if sv := r.ch.vector; sv != nil {
		r.ch.vector = nil
		return sv, nil
	}
	state, err := r.ch.load(nil)
	return state.Vector, err
}

// Has implements [wire.Replica].
func (r replica) Has(update []byte) (bool, error) {
	state, err := r.ch.load(nil)
	if err != nil {
		return false, err
	}
	return wire.Update(state.Missing).Has(update)
}

// load reads the document. The vector of what it returns is not nil.
func (ch *channel) load(have yjs.StateVector) (State, error) {
	state, err := ch.client.hub.store.Load(ch.client.ctx, ch.caller, ch.document, have)
	switch {
	case err != nil:
		return State{}, fmt.Errorf("load the document: %w", err)
	case state.Access == None:
		return State{}, errForbidden
	case state.Vector == nil:
		state.Vector = yjs.StateVector{}
	}
	return state, nil
}

// errForbidden is that of a client that may not have a document which it had opened.
var errForbidden = &halcyon.SocketClosed{Code: CloseForbidden, Reason: ReasonForbidden}

// loaded has a channel told of changes from now on, if it has been sent the document. What came meanwhile goes first.
func (h *Hub) loaded(ch *channel) {
	var wrap wrapping
	for {
		h.mu.Lock()
		if ch.phase != loading {
			h.mu.Unlock()
			return
		}
		if ch.client.lagging {
			ch.behind = ch.behind || len(ch.held) > 0
			ch.held = nil
		}
		waiting := ch.held
		ch.held = nil
		if len(waiting) == 0 {
			ch.phase = live
			h.mu.Unlock()
			return
		}
		before := ch.from
		h.mu.Unlock()
		for _, w := range waiting {
			if w.at <= before {
				continue // it was in what was loaded
			}
			if !h.try(ch, wrap.update(ch, w.update), before) {
				break
			}
			h.mu.Lock()
			ch.from = w.at
			h.mu.Unlock()
			before, wrap = w.at, wrapping{}
		}
	}
}

// handle does what a message of a client asks for.
func (h *Hub) handle(ch *channel, reply *wire.Reply) error {
	h.must(ch.client, reply.Send...)
	h.loaded(ch)
	if reply.Update != nil {
		if len(reply.Update) > h.opts.UpdateBytesMax {
			ch.expel(CloseTooLarge, ReasonUpdateTooLarge)
			return nil
		}
		if err := h.write(ch, unwritten{ch, reply.Update, reply.Ack, reply.Nack, reply.Step2}); err != nil {
			return err
		}
	} else if reply.Step2 {
		// The client has nothing that the document lacks, so there are no gaps.
		h.mu.Lock()
		owed := ch.owed
		ch.owed = nil
		h.mu.Unlock()
		h.must(ch.client, owed...)
	}
	if reply.Awareness != nil {
		if err := h.speak(ch, reply.Awareness); err != nil {
			return err
		}
	}
	if reply.QueryAwareness {
		if states := h.greeting(ch.document); states != nil {
			h.must(ch.client, new(wrapping).awareness(ch, states))
		}
	}
	return h.caughtUp(ch.client)
}

// recheck asks again what the clients of a document may do, and has it so.
func (h *Hub) recheck(ctx context.Context, r *roster) {
	h.mu.Lock()
	channels := slices.Clone(r.channels)
	h.mu.Unlock()
	known := map[string]Access{}
	for _, ch := range channels {
		access, ok := known[ch.key()]
		if !ok {
			var err error
			if access, err = h.store.Access(ctx, ch.caller, r.document); err != nil {
				if ctx.Err() == nil {
					h.logger.Warn("it can't be found out what clients may do with a document", "error", err)
				}
				return
			}
			known[ch.key()] = access
		}
		switch {
		case access == None:
			ch.expel(CloseForbidden, ReasonForbidden)
		case (access == Read) != ch.readOnly.Load():
			ch.rescope(access == Read)
		}
	}
}

// Dismiss ends everybody's use of a document that was erased. Clients of y-websocket stay away then; one that opens the document again brings
// back what it has of it.
func (h *Hub) Dismiss(document string) {
	h.mu.Lock()
	var channels []*channel
	if r := h.mu.rosters[document]; r != nil {
		channels = slices.Clone(r.channels)
	}
	h.mu.Unlock()
	for _, ch := range channels {
		ch.expel(CloseGone, ReasonGone)
	}
}
