package room

import (
	"context"
	"errors"
	"slices"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// hocuspocus serves a client of Hocuspocus.
type hocuspocus struct {
	hub          *Hub
	client       *client
	document     string // the only one that may be opened; "" for all
	caller       *halcyon.Identity
	authenticate Authenticate
	stateless    func(*Stateless) error

	protocol *wire.Connection
	channels map[wire.Address]*channel

	// orders are what other goroutines have decided about documents. The state of the protocol is the serving goroutine's, which follows them
	// before the next message. Guarded by the lock of the hub.
	orders []order
}

// order ends a document of a client, or changes what the client may do with it.
type order struct {
	channel  *channel
	expel    bool
	readOnly bool
}

// Stateless is a message of the application, which says what to answer.
type Stateless struct {
	Caller   *halcyon.Identity
	Document string
	Payload  string
	Answers  []string // to the client
	ToAll    []string // to all clients of Hocuspocus on the document
}

var _ protocol = (*hocuspocus)(nil)

// openHocuspocus begins to serve a client of Hocuspocus.
func (h *Hub) openHocuspocus(v *Visit) protocol {
	s := &hocuspocus{
		hub: h, client: &v.client, document: v.document, caller: v.caller, authenticate: v.authenticate, stateless: v.stateless,
		protocol: wire.NewConnection(nil), channels: map[wire.Address]*channel{},
	}
	s.client.hocuspocus = s
	return s
}

func (s *hocuspocus) receive(message []byte) error {
	s.follow()
	e, err := s.protocol.Receive(message)
	if err != nil {
		return err
	}
	return s.do(e)
}

func (s *hocuspocus) end() {
	for _, ch := range s.channels {
		ch.releaseUser()
	}
}

// do does what a message asks for.
func (s *hocuspocus) do(e wire.Event) error {
	h := s.hub
	if e.Authenticate {
		return s.open(e.At, e.Credentials)
	}
	ch := s.channels[e.At]
	if ch == nil {
		h.must(s.client, e.Send...) // a pong, or nothing
		return nil
	}
	if e.Closed {
		h.part(ch)
		ch.releaseUser()
		delete(s.channels, e.At)
		h.must(s.client, wire.Message{Document: e.At.Document, Session: e.At.Session, Kind: wire.MessageClose, Text: "provider_initiated"}.Append(nil))
		return nil
	}
	ch.vector = nil
	if err := h.handle(ch, &e.Reply); err != nil {
		if !tooLarge(err) {
			return err
		}
		ch.expel(CloseTooLarge, ReasonAwarenessTooLarge)
		return nil
	}
	if e.Token != nil {
		return s.renew(ch, *e.Token)
	}
	if e.Stateless != nil && s.stateless != nil {
		return s.tell(ch, *e.Stateless)
	}
	return nil
}

// open gives a client access to a document, or denies it.
func (s *hocuspocus) open(at wire.Address, token string) error {
	h := s.hub
	deny := func(reason string) error {
		h.must(s.client, s.protocol.Deny(at, reason))
		return nil
	}
	switch {
	case !h.nameIsGood(at.Document), s.document != "" && at.Document != s.document:
		return deny(ReasonName)
	case len(s.channels) >= h.opts.DocumentsMax:
		return deny(ReasonTooManyDocuments)
	}
	user, access, err := s.admit(at.Document, token)
	if denied, ok := errors.AsType[*halcyon.Error](err); ok {
		h.logger.Debug("a token was refused", "error", err)
		return deny(cutReason(denied.Code, denied.Message))
	}
	switch {
	case err != nil:
		return err
	case access == None:
		user.release()
		return deny(ReasonForbidden)
	}
	ch := &channel{client: s.client, document: at.Document, at: at, caller: user.Identity}
	ch.keep(user)
	ch.readOnly.Store(access == Read)
	s.channels[at] = ch
	h.join(ch)
	send, events, err := s.protocol.Grant(at, replica{ch}, access == Read, h.greeting(at.Document))
	h.must(s.client, send...)
	for _, e := range events {
		if err := s.do(e); err != nil {
			return err
		}
	}
	return err
}

// admit finds out who has a token and what they may do.
func (s *hocuspocus) admit(document, token string) (User, Access, error) {
	user := User{Identity: s.caller}
	if token != "" && s.authenticate != nil {
		var err error
		if user, err = s.authenticate(token); err != nil {
			return User{}, None, err
		}
	}
	access, err := s.hub.store.Access(s.client.ctx, user.Identity, document)
	if err != nil {
		user.release()
	}
	return user, access, err
}

func (u User) release() {
	if u.Release != nil {
		u.Release()
	}
}

// keep has the connection closed when the token of its user ends. The client comes back with another one then, for all its documents.
func (ch *channel) keep(user User) {
	conn := ch.client.conn
	stop := func() bool { return true }
	if user.Token != nil {
		stop = context.AfterFunc(user.Token, func() { conn.Close(CloseUnauthorized, ReasonToken) })
	}
	ch.forget = func() {
		stop()
		user.release()
	}
}

// releaseUser ends what keep began.
func (ch *channel) releaseUser() {
	if ch.forget != nil {
		ch.forget()
		ch.forget = nil
	}
}

// renew takes a new token for a document that is open.
func (s *hocuspocus) renew(ch *channel, token string) error {
	user, access, err := s.admit(ch.document, token)
	if denied, ok := errors.AsType[*halcyon.Error](err); ok {
		ch.expel(CloseUnauthorized, cutReason(denied.Code, denied.Message))
		return nil
	}
	if err != nil {
		return err
	}
	old := ch.caller
	same := (user.Identity == nil) == (old == nil) && (old == nil || user.Identity.TokenIdentifier == old.TokenIdentifier)
	switch {
	case access == None:
		user.release()
		ch.expel(CloseForbidden, ReasonForbidden)
		return nil
	case !same:
		user.release()
		ch.expel(CloseReset, ReasonAccess)
		return nil
	}
	ch.releaseUser()
	ch.keep(user)
	if (access == Read) != ch.readOnly.Load() {
		ch.rescope(access == Read)
	}
	return nil
}

// tell gives a message to the application.
func (s *hocuspocus) tell(ch *channel, payload string) error {
	m := &Stateless{Caller: ch.caller, Document: ch.document, Payload: payload}
	if err := s.stateless(m); err != nil {
		return err
	}
	for _, answer := range m.Answers {
		s.hub.must(s.client, ch.at.Stateless(answer))
	}
	s.hub.Stateless(ch.document, m.ToAll...)
	return nil
}

// Stateless sends messages of the application to all clients of Hocuspocus on a document. Those that do not take what they are sent are passed
// over.
func (h *Hub) Stateless(document string, payloads ...string) {
	if len(payloads) == 0 {
		return
	}
	h.mu.Lock()
	var to []*channel
	if r := h.mu.rosters[document]; r != nil {
		to = slices.Clone(r.channels)
	}
	h.mu.Unlock()
	for _, ch := range to {
		for _, payload := range payloads {
			if ch.at != (wire.Address{}) {
				ch.client.send(ch.at.Stateless(payload))
			}
		}
	}
}

// expel ends one document. The connection goes on with the others.
func (s *hocuspocus) expel(ch *channel, reason string) {
	h := s.hub
	h.mu.Lock()
	joined := ch.joined
	if joined {
		h.partLocked(ch)
		s.client.channels = slices.DeleteFunc(s.client.channels, func(c *channel) bool { return c == ch })
		s.orders = append(s.orders, order{channel: ch, expel: true})
	}
	h.mu.Unlock()
	if joined {
		h.must(s.client, wire.Message{Document: ch.at.Document, Session: ch.at.Session, Kind: wire.MessageClose, Text: reason}.Append(nil))
	}
}

// rescope changes whether a client may only read a document, and tells it. One that may write now is asked for what it could not write.
func (s *hocuspocus) rescope(ch *channel, readOnly bool) {
	h := s.hub
	h.mu.Lock()
	ch.readOnly.Store(readOnly)
	s.orders = append(s.orders, order{channel: ch, readOnly: readOnly})
	h.mu.Unlock()
	frames := [][]byte{ch.at.Granted(readOnly)}
	if !readOnly {
		state, err := ch.load(nil)
		if err != nil {
			h.logger.Warn("a document could not be read", "error", err)
			s.expel(ch, ReasonAccess)
			return
		}
		frames = append(frames, ch.askVector(state.Vector))
	}
	h.must(s.client, frames...)
}

// follow follows the orders.
func (s *hocuspocus) follow() {
	s.hub.mu.Lock()
	orders := s.orders
	s.orders = nil
	s.hub.mu.Unlock()
	for _, o := range orders {
		at := o.channel.at
		if s.channels[at] != o.channel {
			continue // it has been closed since
		}
		if !o.expel {
			s.protocol.SetReadOnly(at, o.readOnly)
			continue
		}
		s.protocol.Close(at, "")
		o.channel.releaseUser()
		delete(s.channels, at)
	}
}
