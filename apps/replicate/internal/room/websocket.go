package room

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// serveWebsocket serves a client of y-websocket, whose first frame is a sync message.
func (h *Hub) serveWebsocket(c *client, document string, caller *halcyon.Identity, frame []byte) error {
	if !h.nameIsGood(document) {
		return &halcyon.SocketClosed{Code: CloseMalformed, Reason: ReasonName}
	}
	access, err := h.store.Access(c.ctx, caller, document)
	if err != nil {
		return err
	}
	if access == None {
		h.must(c, wire.Denied(ReasonForbidden)) // clients older than their close codes show this
		code := CloseForbidden
		if caller == nil {
			code = CloseUnauthorized
		}
		return &halcyon.SocketClosed{Code: code, Reason: ReasonForbidden}
	}
	ch := &channel{client: c, document: document, caller: caller}
	ch.readOnly.Store(access == Read)
	s := &wire.Session{Replica: replica{ch}, ReadOnly: access == Read}
	h.join(ch)
	asked, told := false, false
	for {
		reply, err := s.Receive(frame)
		if err != nil {
			return closedFor(err)
		}
		if s.ReadOnly && !told && len(frame) > 1 && frame[0] == byte(wire.FrameSync) && frame[1] == byte(wire.SyncUpdate) {
			told = true // the protocol has no other way to say it
			reply.Send = append(reply.Send, wire.Denied(ReasonReadOnly))
		}
		if !asked && ch.vector != nil { // it was the client that asked; now it is our turn
			asked = true
			greet, err := s.Open(h.greeting(document))
			if err != nil {
				return err
			}
			reply.Send = append(reply.Send, greet...)
		}
		ch.vector = nil
		if err := h.handle(ch, &reply); err != nil {
			return closedFor(err)
		}
		if frame, err = receive(c.conn); err != nil {
			return err
		}
	}
}
