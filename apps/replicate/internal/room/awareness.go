package room

import (
	"errors"
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon/yjs/awareness"
)

// claim is an awareness client that a channel speaks for, with its state.
type claim struct {
	client uint64
	clock  uint64
	state  []byte // JSON; nil for none
	seen   time.Time
}

// departed is what is remembered of an awareness client that has gone: states that were on their way must not bring it back.
type departed struct {
	clock uint64
	key   string // of the caller
	at    time.Time
}

// departedKept is how long a client that has gone is remembered. What clients send on is late by seconds.
const departedKept = 10 * time.Minute

// speak takes in an awareness update of a client.
//
// Clients do not only send their own states. y-websocket sends on whatever it hears, and says of others that they are gone when it has not
// heard of them for a while. So what is not a client's to say is passed over and nothing is held against it. What is its own:
//
//   - An awareness client that it was the first on this document to speak for, as long as it is connected and renews the state.
//   - One that has gone, with a newer clock than the last; with the same clock as the first thing it says on a connection, since a client
//     that comes back does not count its clock up. It is given the next clock then, so that others believe it.
//   - One that another connection of the same user speaks for, with a newer clock: it has come back before its old connection was lost.
//
// Clocks never go back.
func (h *Hub) speak(c *channel, update []byte) error {
	entries, err := awareness.Decode(update, &awareness.Options{Clients: h.opts.StatesMax, StateBytes: h.opts.StateBytesMax})
	if err != nil {
		return fmt.Errorf("awareness: %w", err)
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.mu.rosters[c.document]
	if r == nil || !c.joined {
		return nil
	}
	first := !c.announced
	c.announced = true
	for _, e := range entries {
		if r.hear(h, c, e, first, now) {
			r.stir(e.Client)
		}
	}
	if len(r.stirred) > 0 {
		h.wakeLocked(r)
	}
	return nil
}

// tooLarge reports whether speak failed for a limit.
func tooLarge(err error) bool { return errors.Is(err, awareness.ErrLimit) }

// hear takes in one entry and reports whether it changed something.
func (r *roster) hear(h *Hub, c *channel, e awareness.Entry, first bool, now time.Time) bool {
	speaker := r.speakers[e.Client]
	if speaker == c {
		own := c.claim(e.Client)
		if e.Clock < own.clock || e.Clock == own.clock && (e.State != nil || own.state == nil) {
			return false
		}
		own.clock, own.state, own.seen = e.Clock, e.State, now
		return true
	}
	if e.State == nil || len(c.claims) >= h.opts.SpeakerMax {
		return false
	}
	clock := e.Clock
	switch gone, known := r.gone[e.Client]; {
	case speaker != nil:
		if key := c.key(); key == "" || key != speaker.key() || clock <= speaker.claim(e.Client).clock {
			return false
		}
		speaker.disclaim(e.Client)
	case len(r.speakers) >= h.opts.StatesMax:
		return false
	case known && (clock < gone.clock || clock == gone.clock && (!first || gone.key != c.key())):
		return false
	case known && clock == gone.clock:
		clock++
	}
	if r.speakers == nil {
		r.speakers = map[uint64]*channel{}
	}
	delete(r.gone, e.Client)
	r.speakers[e.Client] = c
	c.claims = append(c.claims, claim{e.Client, clock, e.State, now})
	return true
}

// stir notes that others have to be told of an awareness client.
func (r *roster) stir(client uint64) {
	if r.stirred == nil {
		r.stirred = map[uint64]struct{}{}
	}
	r.stirred[client] = struct{}{}
}

// depart ends a claim that a channel had.
func (r *roster) depart(h *Hub, c *channel, client uint64) {
	own := c.claim(client)
	if len(r.gone) >= 4*h.opts.StatesMax {
		clear(r.gone) // rather forget than grow
	}
	if r.gone == nil {
		r.gone = map[uint64]departed{}
	}
	r.gone[client] = departed{own.clock, c.key(), time.Now()}
	if own.state != nil {
		r.stir(client)
	}
	delete(r.speakers, client)
	c.disclaim(client)
}

// expire ends the claims that were not renewed in time, and reports whether others have to be told.
func (r *roster) expire(h *Hub, now time.Time) bool {
	var late []uint64
	for client, c := range r.speakers {
		if now.Sub(c.claim(client).seen) >= awareness.Timeout {
			late = append(late, client)
		}
	}
	for _, client := range late {
		r.depart(h, r.speakers[client], client)
	}
	for client, gone := range r.gone {
		if now.Sub(gone.at) >= departedKept {
			delete(r.gone, client)
		}
	}
	return len(r.stirred) > 0
}

// tell returns an update with what is known of awareness clients.
func (r *roster) tell(clients map[uint64]struct{}) []byte {
	entries := make([]awareness.Entry, 0, len(clients))
	for client := range clients {
		if c := r.speakers[client]; c != nil {
			own := c.claim(client)
			entries = append(entries, awareness.Entry{Client: client, Clock: own.clock, State: own.state})
		} else if gone, ok := r.gone[client]; ok {
			entries = append(entries, awareness.Entry{Client: client, Clock: gone.clock})
		}
	}
	return awareness.Encode(entries)
}

// tellAll returns an update with all states, nil when there are none.
func (r *roster) tellAll() []byte {
	var entries []awareness.Entry
	for client, c := range r.speakers {
		if own := c.claim(client); own.state != nil {
			entries = append(entries, awareness.Entry{Client: client, Clock: own.clock, State: own.state})
		}
	}
	if entries == nil {
		return nil
	}
	return awareness.Encode(entries)
}

// noStates is an awareness update that says nothing: a sign of life that every client takes.
var noStates = awareness.Encode(nil)
