package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// door bounds the network connections of Serve that are no WebSockets. Anybody
// can open one, say nothing, and keep it for as long as a request may take to
// arrive; so of half of them at most requests are awaited, and when one more comes
// the one is closed whose request has been awaited for longest. Whoever sends a
// request and takes the answer does not notice, however many others do not.
//
// A request is awaited from when its connection was accepted or the request
// before it was answered, until all of it has come, body included; of one whose
// body did not come in time it is awaited for good. A connection whose request is
// being worked on is never closed.
type door struct {
	max int

	mu struct {
		sync.Mutex
		guests  map[net.Conn]*guest
		waiting list.List // of *guest, longest first
		last    uint64    // since of the newest
	}
}

// guest is one of these connections.
type guest struct {
	door  *door
	conn  net.Conn
	since uint64        // orders the requests by when they began to be awaited
	at    *list.Element // in waiting; nil while its request is worked on
	gone  bool
}

func newDoor(max int) *door {
	d := &door{max: max}
	d.mu.guests = map[net.Conn]*guest{}
	return d
}

// attach has the connections of a server pass the door.
func (d *door) attach(s *http.Server) {
	s.ConnState = d.changed
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		// This comes before the connection has its first state.
		d.mu.Lock()
		defer d.mu.Unlock()
		g := &guest{door: d, conn: c}
		d.mu.guests[c] = g
		d.awaitLocked(g)
		return context.WithValue(ctx, guestKey{}, g)
	}
}

type guestKey struct{}

// guestOf returns the connection of a request, or nil where no door counts them.
func guestOf(r *http.Request) *guest {
	g, _ := r.Context().Value(guestKey{}).(*guest)
	return g
}

// changed is told what becomes of a connection.
func (d *door) changed(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		d.mu.Lock()
		turned := d.turnLocked()
		d.mu.Unlock()
		cutOff(turned)
	case http.StateActive:
		d.find(c).works()
	case http.StateIdle:
		d.mu.Lock()
		g := d.mu.guests[c]
		if g != nil {
			d.awaitLocked(g)
		}
		turned := d.turnLocked()
		d.mu.Unlock()
		cutOff(turned)
	case http.StateHijacked, http.StateClosed:
		d.mu.Lock()
		defer d.mu.Unlock()
		d.forgetLocked(d.mu.guests[c])
	}
}

// awaitLocked has the next request of a connection awaited.
func (d *door) awaitLocked(g *guest) {
	d.mu.last++
	g.since = d.mu.last
	if g.at == nil {
		g.at = d.mu.waiting.PushBack(g)
	} else {
		d.mu.waiting.MoveToBack(g.at)
	}
}

// turnLocked returns the connection that has to go when there are too many, or
// nil.
func (d *door) turnLocked() net.Conn {
	n := d.mu.waiting.Len()
	if n == 0 || n <= d.max/2 && len(d.mu.guests) <= d.max {
		return nil
	}
	first := d.mu.waiting.Front().Value.(*guest)
	d.forgetLocked(first)
	return first.conn
}

func (d *door) find(c net.Conn) *guest {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.guests[c]
}

func (d *door) forgetLocked(g *guest) {
	if g == nil {
		return
	}
	g.gone = true
	delete(d.mu.guests, g.conn)
	if g.at != nil {
		d.mu.waiting.Remove(g.at)
		g.at = nil
	}
}

// waits says that a part of its request is awaited again. A nil guest is counted
// by nobody.
func (g *guest) waits() {
	if g == nil {
		return
	}
	d := g.door
	d.mu.Lock()
	if g.at == nil && !g.gone {
		after := d.mu.waiting.Back() // mostly the place of this one
		for after != nil && after.Value.(*guest).since > g.since {
			after = after.Prev()
		}
		if after == nil {
			g.at = d.mu.waiting.PushFront(g)
		} else {
			g.at = d.mu.waiting.InsertAfter(g, after)
		}
	}
	turned := d.turnLocked()
	d.mu.Unlock()
	cutOff(turned)
}

// works says that it has come, and that its request is worked on.
func (g *guest) works() {
	if g == nil {
		return
	}
	g.door.mu.Lock()
	defer g.door.mu.Unlock()
	if g.at != nil {
		g.door.mu.waiting.Remove(g.at)
		g.at = nil
	}
}

// cutOff closes a connection without a word: a close in peace of TLS could wait
// for the client. There may be none.
func cutOff(c net.Conn) {
	if c == nil {
		return
	}
	if secured, ok := c.(*tls.Conn); ok {
		c = secured.NetConn()
	}
	_ = c.Close()
}

// storeDescriptors is how many descriptors the store and the rest of the program
// may need: Pebble keeps up to 1,000 files open.
const storeDescriptors = 1_500

// fitDescriptors lowers the numbers of connections to what the process may have
// open. Without that a crowd that takes all descriptors keeps the store from
// opening its next file, which ends the process.
func fitDescriptors(o *Options, max int, log *slog.Logger) {
	room := max - min(storeDescriptors, max/2)
	if o.ConnectionsMax+o.HTTPConnectionsMax <= room {
		return
	}
	o.HTTPConnectionsMax = min(o.HTTPConnectionsMax, room/4)
	o.ConnectionsMax = min(o.ConnectionsMax, room-o.HTTPConnectionsMax)
	log.Info("fewer connections are taken than set, so that descriptors are left for files; raise the limit of open files (ulimit -n, LimitNOFILE) for more",
		slog.Int("connections", o.ConnectionsMax), slog.Int("http_connections", o.HTTPConnectionsMax), slog.Int("descriptors", max))
}
