package room

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
	"github.com/halcyon-db/halcyon/yjs/awareness"
	"github.com/halcyon-db/halcyon/yjs/wire"
)

// pipe is a connection in memory.
type pipe struct {
	in chan halcyon.SocketMessage

	mu struct {
		sync.Mutex
		out     [][]byte
		stalled bool          // the client takes nothing: Send fails and Flush waits
		flowing chan struct{} // closed when it takes again
		closed  *halcyon.SocketClosed
		gone    chan struct{} // closed with it
	}
}

var _ Conn = (*pipe)(nil)

func newPipe() *pipe {
	p := &pipe{in: make(chan halcyon.SocketMessage, 1000)}
	p.mu.gone = make(chan struct{})
	return p
}

// serve has a visit receive what the client says, until the connection ends, and returns how it did.
func (p *pipe) serve(v *Visit) error {
	for {
		m, err := p.receive()
		if err == nil {
			err = v.Receive(m)
		}
		if err != nil {
			return err
		}
	}
}

func (p *pipe) receive() (halcyon.SocketMessage, error) {
	select {
	case <-p.mu.gone:
	default:
		select {
		case m := <-p.in:
			return m, nil
		case <-p.mu.gone:
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return halcyon.SocketMessage{}, p.mu.closed
}

func (p *pipe) Send(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.mu.closed != nil:
		return p.mu.closed
	case p.mu.stalled:
		return halcyon.ErrSlowReader
	}
	p.mu.out = append(p.mu.out, slices.Clone(b))
	return nil
}

func (p *pipe) Flush() error {
	p.mu.Lock()
	flowing, stalled := p.mu.flowing, p.mu.stalled
	p.mu.Unlock()
	if !stalled {
		return nil
	}
	select {
	case <-flowing:
		return nil
	case <-p.mu.gone:
		return p.mu.closed
	}
}

func (p *pipe) Close(code int, reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed == nil {
		p.mu.closed = &halcyon.SocketClosed{Code: code, Reason: reason}
		close(p.mu.gone)
	}
}

// stall has the client take nothing, or all again.
func (p *pipe) stall(stalled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.stalled = stalled; stalled {
		p.mu.flowing = make(chan struct{})
	} else {
		close(p.mu.flowing)
	}
}

func (p *pipe) take() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := p.mu.out
	p.mu.out = nil
	return out
}

// world is a hub with clients, in a bubble of synctest.
type world struct {
	t     testing.TB
	store *memory
	hub   *Hub
	peers []*peer
	tells func(*Stateless) error
}

func newWorld(t testing.TB, opts *Options) *world {
	t.Helper()
	w := &world{t: t, store: newMemory()}
	w.hub = New(w.store, opts, nil)
	return w
}

// end checks that nothing is left when everybody has gone.
func (w *world) end() {
	w.t.Helper()
	for _, p := range w.peers {
		p.drop()
	}
	synctest.Wait()
	if connections, documents, channels := w.hub.Size(); connections+documents+channels != 0 {
		w.t.Errorf("%d connections, %d documents and %d channels are left", connections, documents, channels)
	}
	w.hub.mu.Lock()
	if n := len(w.hub.mu.writes) + len(w.hub.mu.due) + len(w.hub.mu.authors); n != 0 || w.hub.mu.follow != nil {
		w.t.Errorf("%d writes, %d rosters that are due, %d authors are left; follows: %t", len(w.hub.mu.writes), len(w.hub.mu.due), len(w.hub.mu.authors), w.hub.mu.follow != nil)
	}
	w.hub.mu.Unlock()
	w.hub.Close()
}

// protocols are tried by every test of what both do.
var protocols = []string{"websocket", "hocuspocus"}

// peer is a client: a document with a connection, in one of the protocols.
type peer struct {
	w        *world
	kind     string // of protocols
	document string
	at       wire.Address
	user     string
	token    string
	waits    bool // of Hocuspocus: it says nothing but its token until begin, as npm's does until it has access

	doc   *yjs.Doc
	aware *awareness.Awareness

	conn   *pipe
	done   chan error // how the connection ended
	ended  error
	synced bool

	// Of Hocuspocus.
	scope  string
	denied string
	closed string // the reason that the document was closed with
	// acks and nacks count the answers.
	acks, nacks int
	stateless   []string
	warned      string // of y-websocket: permission denied
	// received counts frames with updates and their kind.
	updates, awarenesses int
}

var nextClient uint64 = 1000

func (w *world) peer(kind, document, user string) *peer {
	nextClient++
	p := &peer{w: w, kind: kind, document: document, user: user, doc: yjs.NewDoc(&yjs.Options{ClientID: nextClient})}
	p.at = wire.Address{Document: document}
	p.aware = awareness.New(nextClient, nil)
	if _, _, err := p.aware.SetLocal(json.RawMessage("{}"), time.Now()); err != nil { // as npm's does
		w.t.Fatal(err)
	}
	p.doc.OnUpdate(func(u yjs.Update) {
		if u.Origin != p && p.online() {
			p.update(u.Bytes)
		}
	})
	w.peers = append(w.peers, p)
	return p
}

func (p *peer) online() bool {
	return p.conn != nil && p.ended == nil && (p.kind == "websocket" || p.scope != "")
}

// identity is that of a user.
func identity(user string) *halcyon.Identity {
	if user == "" {
		return nil
	}
	return &halcyon.Identity{TokenIdentifier: user, Issuer: "test", Subject: user}
}

// connect opens a connection and says what clients say first.
func (p *peer) connect() *peer {
	p.conn, p.done, p.ended, p.synced = newPipe(), make(chan error, 1), nil, false
	p.scope, p.denied, p.closed = "", "", ""
	conn, done := p.conn, p.done
	document := p.document
	if p.kind == "hocuspocus" {
		document = ""
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-conn.mu.gone
		cancel()
	}()
	authenticate := func(token string) (User, error) {
		if token == "bad" {
			return User{}, &halcyon.Error{Code: "TokenInvalid", Message: "no"}
		}
		return User{Identity: identity(token)}, nil
	}
	go func() {
		v := p.w.hub.Open(ctx, conn, document, identity(p.user), authenticate, p.w.tells)
		err := conn.serve(v)
		v.Closed()
		if closed, ok := errors.AsType[*halcyon.SocketClosed](err); ok {
			conn.Close(closed.Code, closed.Reason)
		} else {
			conn.Close(halcyon.SocketInternal, fmt.Sprint(err))
		}
		done <- err
	}()
	switch p.kind {
	case "raw": // the test says all itself
		return p
	case "hocuspocus":
		p.message(wire.Message{Kind: wire.MessageAuth, Text: p.token, Version: "4.8.0"})
		if p.waits {
			return p
		}
	}
	p.begin()
	return p
}

// begin asks for the document and says who is there.
func (p *peer) begin() {
	p.ask()
	if state := p.aware.State(p.doc.ClientID()); state != nil {
		p.speak(p.aware.Encode(p.doc.ClientID()))
	}
}

func (p *peer) raw(b []byte) { p.conn.in <- halcyon.SocketMessage{Binary: true, Data: b} }

func (p *peer) message(m wire.Message) {
	m.Document, m.Session = p.at.Document, p.at.Session
	p.raw(m.Append(nil))
}

func (p *peer) sync(s wire.Sync) {
	if p.kind == "websocket" {
		p.raw(wire.Frame{Kind: wire.FrameSync, Sync: s}.Append(nil))
		return
	}
	p.message(wire.Message{Kind: wire.MessageSync, Sync: s})
}

func (p *peer) ask()            { p.sync(wire.Sync{Kind: wire.SyncStep1, Payload: p.doc.State().Encode()}) }
func (p *peer) update(b []byte) { p.sync(wire.Sync{Kind: wire.SyncUpdate, Payload: b}) }
func (p *peer) speak(update []byte) {
	if p.kind == "websocket" {
		p.raw(wire.Frame{Kind: wire.FrameAwareness, Awareness: update}.Append(nil))
		return
	}
	p.message(wire.Message{Kind: wire.MessageAwareness, Awareness: update})
}

// drop ends the connection without a word.
func (p *peer) drop() {
	if p.conn == nil || p.ended != nil {
		return
	}
	p.conn.Close(halcyon.SocketLost, "")
	p.ended = <-p.done
}

// insert edits the document.
func (p *peer) insert(text string) {
	p.w.t.Helper()
	if err := p.doc.Text("t").Insert(p.doc.Text("t").Len(), text, nil); err != nil {
		p.w.t.Fatal(err)
	}
}

func (p *peer) text() string { return p.doc.Text("t").String() }

// show sets the peer's awareness state and sends it.
func (p *peer) show(state string) {
	p.w.t.Helper()
	raw := json.RawMessage(state)
	if state == "" {
		raw = nil
	}
	update, _, err := p.aware.SetLocal(raw, time.Now())
	if err != nil {
		p.w.t.Fatal(err)
	}
	if p.conn != nil {
		p.speak(update)
	}
}

// others returns the states of all others that the peer sees.
func (p *peer) others() map[uint64]string {
	out := map[uint64]string{}
	for id, state := range p.aware.States() {
		if id != p.doc.ClientID() {
			out[id] = string(state)
		}
	}
	return out
}

// pump takes in what was sent and reports whether there was something.
func (p *peer) pump() bool {
	p.w.t.Helper()
	if p.conn == nil {
		return false
	}
	frames := p.conn.take()
	for _, b := range frames {
		if p.kind == "websocket" {
			f, err := wire.ParseFrame(b)
			if err != nil {
				p.w.t.Fatalf("the server sent %x: %v", b, err)
			}
			switch f.Kind {
			case wire.FrameSync:
				p.hearSync(f.Sync)
			case wire.FrameAwareness:
				p.hearAwareness(f.Awareness)
			case wire.FrameAuth:
				p.warned = f.Reason
			}
			continue
		}
		m, err := wire.ParseMessage(b)
		if err != nil {
			p.w.t.Fatalf("the server sent %x: %v", b, err)
		}
		if m.Document != p.document {
			p.w.t.Fatalf("a message for %q came to %q", m.Document, p.document)
		}
		switch m.Kind {
		case wire.MessageSync, wire.MessageSyncReply:
			p.hearSync(m.Sync)
		case wire.MessageAwareness:
			p.hearAwareness(m.Awareness)
		case wire.MessageAuth:
			if m.Auth == wire.AuthGranted {
				p.scope = m.Text
			} else {
				p.denied = m.Text
			}
		case wire.MessageSyncStatus:
			if m.Applied {
				p.acks++
			} else {
				p.nacks++
			}
		case wire.MessageClose:
			p.closed = m.Text
			p.scope = ""
		case wire.MessageStateless:
			p.stateless = append(p.stateless, m.Text)
		}
	}
	select {
	case p.ended = <-p.done:
		return true
	default:
	}
	return len(frames) > 0
}

func (p *peer) hearSync(s wire.Sync) {
	p.w.t.Helper()
	if s.Kind == wire.SyncStep1 {
		sv, err := yjs.DecodeStateVector(s.Payload)
		if err != nil {
			p.w.t.Fatal(err)
		}
		p.sync(wire.Sync{Kind: wire.SyncStep2, Payload: p.doc.EncodeState(sv)})
		return
	}
	p.updates++
	p.synced = p.synced || s.Kind == wire.SyncStep2
	if err := p.doc.Apply(s.Payload, p); err != nil {
		p.w.t.Fatal(err)
	}
}

// hearAwareness takes in states, and sends on what is new as y-websocket's clients do.
func (p *peer) hearAwareness(update []byte) {
	p.w.t.Helper()
	p.awarenesses++
	change, err := p.aware.Apply(update, time.Now())
	if err != nil {
		p.w.t.Fatal(err)
	}
	if p.kind == "websocket" && !change.Empty() {
		p.speak(p.aware.Encode(change.Clients()...))
	}
}

// settle has everybody take in everything, until nothing more comes.
func (w *world) settle() {
	w.t.Helper()
	for quiet := 0; quiet < 2; {
		synctest.Wait()
		quiet++
		for _, p := range w.peers {
			if p.ended == nil && p.pump() {
				quiet = 0
			}
		}
		time.Sleep(2 * w.hub.opts.Tick)
	}
}

// code returns how the peer's connection was closed; zero while it is open.
func (p *peer) code() halcyon.SocketClosed {
	if p.ended == nil {
		return halcyon.SocketClosed{}
	}
	p.conn.mu.Lock()
	defer p.conn.mu.Unlock()
	return *p.conn.mu.closed
}
