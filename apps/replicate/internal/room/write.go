package room

import (
	"context"
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// writing is the updates of one document that are not durable yet. It is there while there are some. One write of a document is made at a
// time, and the next one takes what has come meanwhile: the more is written, the more goes into one write.
type writing struct {
	document string
	queue    []unwritten
}

// unwritten is an update that waits to be written.
type unwritten struct {
	channel   *channel
	update    []byte
	ack, nack []byte // frames; nil where the protocol has none
	step2     bool   // with it the client has given all it had
}

// write has an update of a client written. It waits while too many of it are.
func (h *Hub) write(ch *channel, u unwritten) error {
	for {
		h.mu.Lock()
		if h.mu.closed {
			h.mu.Unlock()
			return errClosed
		}
		if !ch.joined {
			h.mu.Unlock()
			return nil // it has been expelled
		}
		if ch.unwritten == 0 || ch.unwritten < h.opts.UnwrittenMax && ch.unwrittenBytes+len(u.update) <= h.opts.UnwrittenBytesMax {
			break
		}
		if ch.freed == nil {
			ch.freed = make(chan struct{})
		}
		freed := ch.freed
		h.mu.Unlock()
		select {
		case <-freed:
		case <-ch.client.ctx.Done():
			return context.Cause(ch.client.ctx)
		}
	}
	defer h.mu.Unlock()
	ch.unwritten++
	ch.unwrittenBytes += len(u.update)
	w := h.mu.writes[ch.document]
	if w == nil {
		w = &writing{document: ch.document}
		h.mu.writes[ch.document] = w
		h.work.Go(func() { h.writeAll(w) })
	}
	w.queue = append(w.queue, u)
	return nil
}

// writeAll writes the updates of a document until there are none.
func (h *Hub) writeAll(w *writing) {
	h.places <- struct{}{}
	defer func() { <-h.places }()
	for {
		h.mu.Lock()
		if len(w.queue) == 0 {
			delete(h.mu.writes, w.document)
			h.mu.Unlock()
			return
		}
		n, size := 0, 0
		for n < len(w.queue) && n < batchMax && (n == 0 || size+len(w.queue[n].update) <= batchBytesMax) {
			size += len(w.queue[n].update)
			n++
		}
		batch := w.queue[:n:n]
		w.queue = w.queue[n:]
		if len(w.queue) == 0 {
			w.queue = nil
		}
		h.mu.Unlock()
		h.writeBatch(w.document, batch)
	}
}

// part of a batch: the updates of one channel, which follow one another and become one edit.
type share struct {
	channel *channel
	updates []unwritten
}

// writeBatch writes some updates in one transaction and tells their clients.
func (h *Hub) writeBatch(document string, batch []unwritten) {
	var shares []*share
	byChannel := map[*channel]*share{}
	for _, u := range batch {
		s := byChannel[u.channel]
		if s == nil {
			s = &share{channel: u.channel}
			byChannel[u.channel] = s
			shares = append(shares, s)
		}
		s.updates = append(s.updates, u)
	}
	edits := make([]Edit, len(shares))
	for i, s := range shares {
		edits[i].Caller = s.channel.caller
		var err error
		if edits[i].Update, err = s.merge(); err != nil {
			h.failed(shares, fmt.Errorf("merge updates that were read: %w", err))
			return
		}
	}
	results, err := h.store.Write(h.ctx, document, edits, func(at Position, edits ...int) {
		if len(edits) != 1 {
			return
		}
		author := shares[edits[0]].channel
		h.mu.Lock()
		defer h.mu.Unlock()
		if author.joined && h.mu.follow != nil {
			h.mu.authors[at] = author
		}
	})
	if err == nil && len(results) != len(shares) {
		err = fmt.Errorf("%d edits have %d results", len(shares), len(results))
	}
	if err != nil {
		h.failed(shares, err)
		return
	}
	for i, s := range shares {
		h.settle(s, results[i])
	}
}

func (s *share) merge() ([]byte, error) {
	if len(s.updates) == 1 {
		return s.updates[0].update, nil
	}
	updates := make([][]byte, len(s.updates))
	for i, u := range s.updates {
		updates[i] = u.update
	}
	return yjs.MergeUpdates(updates...)
}

// failed ends the connections of those whose updates may not have been written. They come back, and send again what is missing then.
func (h *Hub) failed(shares []*share, err error) {
	if h.ctx.Err() == nil {
		h.logger.Warn("a document was not written; its clients are to connect anew", "error", err)
	}
	code, reason := halcyon.SocketTryAgain, ReasonWrite
	if failure, ok := errors.AsType[*halcyon.Failure](err); ok && failure.Code != "" {
		reason = string(failure.Code)
	}
	for _, s := range shares {
		h.release(s)
		s.channel.client.conn.Close(code, reason)
	}
}

// release gives the room of updates back.
func (h *Hub) release(s *share) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, u := range s.updates {
		s.channel.unwritten--
		s.channel.unwrittenBytes -= len(u.update)
	}
	s.channel.freeLocked()
}

// settle tells a client what has become of its updates.
func (h *Hub) settle(s *share, result Result) {
	defer h.release(s)
	ch := s.channel
	var frames [][]byte
	switch result.Fate {
	case Applied:
		for _, u := range s.updates {
			if u.ack != nil {
				frames = append(frames, u.ack)
			}
			if u.step2 {
				h.mu.Lock()
				frames = append(frames, ch.owed...)
				ch.owed = nil
				h.mu.Unlock()
			}
		}
	case Gapped:
		// Something of this client has been lost or refused. It has it still, and gives it when it is asked for what is missing; the
		// acknowledgements come with that.
		h.mu.Lock()
		for _, u := range s.updates {
			if u.ack != nil {
				ch.owed = append(ch.owed, u.ack)
			}
		}
		tooMany := len(ch.owed) > h.opts.UnwrittenMax
		h.mu.Unlock()
		state, err := ch.load(nil)
		if err != nil || tooMany {
			ch.expel(CloseReset, ReasonUnexpected)
			return
		}
		frames = append(frames, ch.askVector(state.Vector))
	case Refused:
		for _, u := range s.updates {
			if u.nack != nil {
				frames = append(frames, u.nack)
			}
		}
		if frames == nil { // there is no other way to say it
			ch.expel(refusalCode(result.Code), cutReason(result.Code, result.Reason))
			return
		}
	}
	h.must(ch.client, frames...)
}

// refusalCode is what a connection is closed with whose update was refused: one after which clients stay away, since they would send it again.
func refusalCode(code string) int {
	if code == CodeForbidden {
		return CloseForbidden
	}
	return CloseTooLarge
}

func cutReason(code, reason string) string {
	if code == "" {
		return reason
	}
	if reason == "" {
		return code
	}
	return code + ": " + reason
}
