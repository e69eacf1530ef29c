package room

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// plain serves a client of y-websocket, which has one document.
type plain struct {
	channel
	session wire.Session
	asked   bool // for what the document lacks
	told    bool // that nothing may be written
}

var _ protocol = (*plain)(nil)

// openWebsocket puts a client of y-websocket on its document.
func (h *Hub) openWebsocket(c *client, document string, caller *halcyon.Identity) (protocol, error) {
	if document == "" || !h.nameIsGood(document) {
		return nil, &halcyon.SocketClosed{Code: CloseMalformed, Reason: ReasonName}
	}
	access, err := h.store.Access(c.ctx, caller, document)
	if err != nil {
		return nil, err
	}
	if access == None {
		h.must(c, wire.Denied(ReasonForbidden)) // clients older than their close codes show this
		code := CloseForbidden
		if caller == nil {
			code = CloseUnauthorized
		}
		return nil, &halcyon.SocketClosed{Code: code, Reason: ReasonForbidden}
	}
	p := &plain{}
	p.client, p.document, p.caller = c, document, caller
	p.readOnly.Store(access == Read)
	p.session = wire.Session{Replica: replica{&p.channel}, ReadOnly: access == Read}
	h.join(&p.channel)
	return p, nil
}

func (p *plain) receive(frame []byte) error {
	h := p.client.hub
	reply, err := p.session.Receive(frame)
	if err != nil {
		return err
	}
	if p.session.ReadOnly && !p.told && len(frame) > 1 && frame[0] == byte(wire.FrameSync) && frame[1] == byte(wire.SyncUpdate) {
		p.told = true // the protocol has no other way to say it
		reply.Send = append(reply.Send, wire.Denied(ReasonReadOnly))
	}
	if !p.asked && p.vector != nil { // it was the client that asked; now it is our turn
		p.asked = true
		greet, err := p.session.Open(h.greeting(p.document))
		if err != nil {
			return err
		}
		reply.Send = append(reply.Send, greet...)
	}
	p.vector = nil
	return h.handle(&p.channel, &reply)
}

// end is done by the hub, which the client leaves.
func (p *plain) end() {}
