package room

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/halcyon-db/halcyon"
)

// Hub serves the documents of one [Store]. Make one with New.
type Hub struct {
	store  Store
	opts   Options
	logger *slog.Logger

	// ctx is the life of the hub.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup // of the goroutines of the hub: follower, pulse, writers, those that catch up
	places chan struct{}  // of writes
	wake   chan struct{}  // holds one: the pulse has something to do

	rechecking atomic.Bool // one goroutine asks anew what clients may do

	mu struct {
		sync.Mutex
		closed  bool
		rosters map[string]*roster
		clients map[*client]struct{}
		writes  map[string]*writing
		// due are the rosters that the pulse has something for.
		due []*roster
		// authors has for a change that is not told yet the one channel whose it is.
		authors map[Position]*channel
		follow  *following // nil while there are no clients
	}
}

// roster is who is on one document. It is there while somebody is.
type roster struct {
	document string
	channels []*channel
	due      bool
	checked  time.Time // what its clients may do

	news []news // to be told at the next beat

	// Of awareness: who speaks for each client, who has gone, and of whom others have to be told. All nil while nobody has said anything.
	speakers map[uint64]*channel
	gone     map[uint64]departed
	stirred  map[uint64]struct{}
}

// news is a change that is to be told, and the channel whose it is alone, if there is one: it is not told what it has said.
type news struct {
	Change
	author *channel
}

// following is one run of Store.Follow and of the pulse: from the first client to the last.
type following struct {
	cancel context.CancelFunc
	ready  chan struct{} // closed when nothing is missed any more
	failed chan struct{} // closed when it has ended, with err
	err    error
}

// New returns a hub without clients. Close it in the end. A nil logger logs nothing.
func New(store Store, opts *Options, logger *slog.Logger) *Hub {
	if opts == nil {
		opts = &Options{}
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	h := &Hub{store: store, opts: opts.withDefaults(), logger: logger, wake: make(chan struct{}, 1)}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.places = make(chan struct{}, h.opts.WritesMax)
	h.mu.rosters = map[string]*roster{}
	h.mu.clients = map[*client]struct{}{}
	h.mu.writes = map[string]*writing{}
	h.mu.authors = map[Position]*channel{}
	return h
}

// errClosed is that of clients that come when the hub has closed.
var errClosed = &halcyon.SocketClosed{Code: halcyon.SocketRestart, Reason: "Restart"}

// Close ends what the hub does and waits for it. The connections are to end too: those that serve them are told by the context they gave.
func (h *Hub) Close() {
	h.mu.Lock()
	h.mu.closed = true
	h.mu.Unlock()
	h.cancel()
	h.work.Wait()
}

// begin runs f beside, unless the hub is closed. Close waits for it.
func (h *Hub) begin(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.mu.closed {
		h.work.Go(f)
	}
}

// Size tells how many connections there are, and how many documents are open on how many channels: clients of documents.
func (h *Hub) Size() (connections, documents, channels int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range h.mu.rosters {
		channels += len(r.channels)
	}
	return len(h.mu.clients), len(h.mu.rosters), channels
}

// enter makes a connection known, and waits until changes are followed. The client must leave.
func (h *Hub) enter(ctx context.Context, c *client) error {
	h.mu.Lock()
	if h.mu.closed {
		h.mu.Unlock()
		return errClosed
	}
	h.mu.clients[c] = struct{}{}
	f := h.mu.follow
	if f == nil {
		f = h.followLocked()
	}
	h.mu.Unlock()
	select {
	case <-f.ready:
		return nil
	case <-f.failed:
		h.leave(c)
		return fmt.Errorf("follow the changes: %w", f.err)
	case <-ctx.Done():
		h.leave(c)
		return context.Cause(ctx)
	}
}

// leave forgets a connection, all its channels with it.
func (h *Hub) leave(c *client) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, ch := range c.channels {
		h.partLocked(ch)
	}
	c.channels = nil
	delete(h.mu.clients, c)
	if f := h.mu.follow; len(h.mu.clients) == 0 && f != nil {
		h.mu.follow = nil
		f.cancel()
		h.mu.due = nil
		clear(h.mu.authors)
	}
}

// followLocked starts to follow the changes.
func (h *Hub) followLocked() *following {
	ctx, cancel := context.WithCancel(h.ctx)
	f := &following{cancel: cancel, ready: make(chan struct{}), failed: make(chan struct{})}
	h.mu.follow = f
	h.work.Go(func() {
		defer close(f.failed)
		defer cancel()
		f.err = h.store.Follow(ctx, sync.OnceFunc(func() { close(f.ready) }), h.isOpen, h.tell)
		if ctx.Err() == nil {
			h.lost(f)
		}
	})
	h.work.Go(func() { h.pulse(ctx) })
	return f
}

// lost ends all connections, since nothing more is told of changes.
func (h *Hub) lost(f *following) {
	if f.err == nil {
		f.err = errors.New("the store tells of no more changes")
	}
	h.logger.Error("documents are not followed any more", "error", f.err)
	h.mu.Lock()
	var all []*client
	if h.mu.follow == f {
		h.mu.follow = nil
		for c := range h.mu.clients {
			all = append(all, c)
		}
	}
	h.mu.Unlock()
	for _, c := range all {
		c.conn.Close(halcyon.SocketTryAgain, "Unavailable")
	}
}

// join puts a channel on its document. Nothing is sent to it before it has loaded.
func (h *Hub) join(ch *channel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.mu.rosters[ch.document]
	if r == nil {
		r = &roster{document: ch.document, checked: time.Now()}
		h.mu.rosters[ch.document] = r
	}
	r.channels = append(r.channels, ch)
	ch.joined = true
	ch.client.channels = append(ch.client.channels, ch)
}

// part takes a channel off its document.
func (h *Hub) part(ch *channel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.partLocked(ch)
	ch.client.channels = slices.DeleteFunc(ch.client.channels, func(c *channel) bool { return c == ch })
}

func (h *Hub) partLocked(ch *channel) {
	if !ch.joined {
		return
	}
	ch.joined = false
	ch.freeLocked()
	r := h.mu.rosters[ch.document]
	for len(ch.claims) > 0 {
		r.depart(h, ch, ch.claims[0].client)
	}
	r.channels = slices.DeleteFunc(r.channels, func(c *channel) bool { return c == ch })
	if len(r.channels) == 0 {
		delete(h.mu.rosters, ch.document)
		return
	}
	if cap(r.channels) > 4*len(r.channels) {
		r.channels = slices.Clone(r.channels)
	}
	if len(r.stirred) > 0 {
		h.wakeLocked(r)
	}
}

// greeting returns the awareness states on a document; nil when there are none.
func (h *Hub) greeting(document string) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if r := h.mu.rosters[document]; r != nil {
		return r.tellAll()
	}
	return nil
}

// isOpen reports whether somebody is on a document.
func (h *Hub) isOpen(document string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.rosters[document] != nil
}

// tell takes in changes that are durable, for the next beat.
func (h *Hub) tell(changes []Change, upTo Position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, change := range changes {
		if r := h.mu.rosters[change.Document]; r != nil && len(change.Update) > 0 {
			r.news = append(r.news, news{change, h.mu.authors[change.At]})
			h.wakeLocked(r)
		}
	}
	for at := range h.mu.authors {
		if at <= upTo {
			delete(h.mu.authors, at)
		}
	}
}

// wakeLocked has the pulse look at a roster.
func (h *Hub) wakeLocked(r *roster) {
	if !r.due {
		r.due = true
		h.mu.due = append(h.mu.due, r)
	}
	select {
	case h.wake <- struct{}{}:
	default:
	}
}
