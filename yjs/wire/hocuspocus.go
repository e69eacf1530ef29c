package wire

import (
	"errors"
	"fmt"
	"strings"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// MessageKind is a kind of Hocuspocus message.
type MessageKind uint64

// The messages of Hocuspocus 2 to 4.
const (
	MessageSync               MessageKind = 0
	MessageAwareness          MessageKind = 1
	MessageAuth               MessageKind = 2
	MessageQueryAwareness     MessageKind = 3
	MessageSyncReply          MessageKind = 4 // between servers: a sync message that wants no SyncStep1 back
	MessageStateless          MessageKind = 5
	MessageBroadcastStateless MessageKind = 6 // between servers
	MessageClose              MessageKind = 7
	MessageSyncStatus         MessageKind = 8
	MessagePing               MessageKind = 9  // of the connection, without a document
	MessagePong               MessageKind = 10 // of the connection, without a document
)

// AuthKind is a kind of MessageAuth.
type AuthKind uint64

// The auth messages of Hocuspocus.
const (
	// AuthToken carries a client's token; from a server it asks for one.
	AuthToken AuthKind = 0
	// AuthDenied carries the reason.
	AuthDenied AuthKind = 1
	// AuthGranted carries the scope.
	AuthGranted AuthKind = 2
)

// The scopes of AuthGranted.
const (
	ScopeReadOnly  = "readonly"
	ScopeReadWrite = "read-write"
)

// Message is a Hocuspocus message.
type Message struct {
	// Document and Session are the address. The session, which may be empty,
	// tells apart several providers for one document on one connection.
	Document, Session string
	Kind              MessageKind

	Sync      Sync     // of MessageSync and MessageSyncReply
	Awareness []byte   // of MessageAwareness
	Auth      AuthKind // of MessageAuth
	// Text is the token, reason or scope of a MessageAuth, the payload of a
	// stateless message, the reason of a MessageClose from a server.
	Text string
	// Request says that a MessageAuth of kind AuthToken asks for the token.
	Request bool
	// Version is the provider's version in a client's AuthToken, or empty.
	Version string
	// Applied is whether a MessageSyncStatus tells of success.
	Applied bool
}

// Append appends the message as a client or server sends it.
func (m Message) Append(dst []byte) []byte {
	if m.Kind == MessagePing || m.Kind == MessagePong {
		return append(dst, byte(m.Kind))
	}
	address := m.Document
	if m.Session != "" {
		address += "\x00" + m.Session
	}
	dst = lib0.AppendString(dst, address)
	dst = lib0.AppendUint(dst, uint64(m.Kind))
	switch m.Kind {
	case MessageSync, MessageSyncReply:
		dst = AppendSync(dst, m.Sync)
	case MessageAwareness:
		dst = lib0.AppendString(dst, m.Awareness)
	case MessageAuth:
		dst = lib0.AppendUint(dst, uint64(m.Auth))
		if m.Request {
			return dst
		}
		dst = lib0.AppendString(dst, m.Text)
		if m.Auth == AuthToken && m.Version != "" {
			dst = lib0.AppendString(dst, m.Version)
		}
	case MessageStateless, MessageBroadcastStateless:
		dst = lib0.AppendString(dst, m.Text)
	case MessageClose:
		if m.Text != "" {
			dst = lib0.AppendString(dst, m.Text)
		}
	case MessageSyncStatus:
		if m.Applied {
			return append(dst, 1)
		}
		return append(dst, 0)
	}
	return dst
}

// ParseMessage reads a Hocuspocus message.
func ParseMessage(b []byte) (Message, error) {
	if len(b) == 1 && (b[0] == byte(MessagePing) || b[0] == byte(MessagePong)) {
		return Message{Kind: MessageKind(b[0])}, nil
	}
	r := lib0.NewReader(string(b))
	var m Message
	m.Document, m.Session, _ = strings.Cut(r.String(), "\x00")
	m.Kind = MessageKind(r.Uint())
	switch m.Kind {
	case MessageSync, MessageSyncReply:
		m.Sync = readSync(&r)
	case MessageAwareness:
		m.Awareness = []byte(r.Bytes())
	case MessageAuth:
		m.Auth = AuthKind(r.Uint())
		switch {
		case m.Auth > AuthGranted:
			r.Fail("unknown auth message")
		case m.Auth == AuthToken && r.Err() == nil && r.Len() == 0:
			m.Request = true
		default:
			m.Text = r.String()
			if m.Auth == AuthToken && r.Err() == nil && r.Len() > 0 {
				m.Version = r.String()
			}
		}
	case MessageQueryAwareness:
	case MessageStateless, MessageBroadcastStateless:
		m.Text = r.String()
	case MessageClose:
		if r.Err() == nil && r.Len() > 0 {
			m.Text = r.String()
		}
	case MessageSyncStatus:
		m.Applied = r.Uint() == 1
	default:
		r.Fail("unknown message")
	}
	return m, finish(&r, "message")
}

// CloseCode is a code to close a Hocuspocus connection with.
type CloseCode int

// The close codes of Hocuspocus.
const (
	CloseReset        CloseCode = 4205
	CloseUnauthorized CloseCode = 4401
	CloseForbidden    CloseCode = 4403
	CloseTimeout      CloseCode = 4408
	CloseTooBig       CloseCode = 1009
)

// ErrQueueFull marks a connection that sent too much before it was
// authenticated. It is to be closed with CloseReset.
var ErrQueueFull = errors.New("too much sent before authentication")

// ConnectionOptions are the limits of a Connection before authentication. The
// zero value means the defaults, which are those of Hocuspocus.
type ConnectionOptions struct {
	QueueBytes    int // 5 MB
	QueueMessages int // 1000
	Pending       int // documents being authenticated: 100
}

func (o ConnectionOptions) withDefaults() ConnectionOptions {
	if o.QueueBytes == 0 {
		o.QueueBytes = 5 << 20
	}
	if o.QueueMessages == 0 {
		o.QueueMessages = 1000
	}
	if o.Pending == 0 {
		o.Pending = 100
	}
	return o
}

// Address names a document on a connection.
type Address struct{ Document, Session string }

// Connection is the server's side of a Hocuspocus connection. A document goes
// through three states: a client's first message makes it known, an AuthToken
// asks for access, and Grant opens it. What a client sends before that is
// queued.
type Connection struct {
	opts     ConnectionOptions
	docs     map[Address]*channel
	queued   int
	messages int
	pending  int
}

type channel struct {
	replica  Replica // nil until access is granted
	readOnly bool
	asked    bool // a token has been handed out
	queue    [][]byte
	bytes    int
}

// NewConnection returns the state of a new connection.
func NewConnection(opts *ConnectionOptions) *Connection {
	if opts == nil {
		opts = &ConnectionOptions{}
	}
	return &Connection{opts: opts.withDefaults(), docs: map[Address]*channel{}}
}

// Event is what a message of a connection asks for.
type Event struct {
	// At is the document the message is about.
	At Address
	Reply
	// Authenticate says that the client asks for access with the token in
	// Credentials: answer with Grant or Deny.
	Authenticate bool
	Credentials  string
	Version      string // of the provider, or empty
	// Closed says that the client has left the document.
	Closed bool
}

// Receive takes in a message that arrived. After an error the connection is to
// be closed with CloseReset, or CloseUnauthorized for ErrMalformed.
func (c *Connection) Receive(frame []byte) (Event, error) {
	m, err := ParseMessage(frame)
	if err != nil {
		return Event{}, err
	}
	if m.Kind == MessagePing {
		return Event{Reply: Reply{Send: [][]byte{Message{Kind: MessagePong}.Append(nil)}}}, nil
	}
	if m.Kind == MessagePong {
		return Event{}, nil
	}
	at := Address{m.Document, m.Session}
	ch := c.docs[at]
	if ch == nil && m.Kind != MessageAuth {
		// Providers without sessions share what was opened without one. One that authenticates opens its own.
		if plain := c.docs[Address{Document: m.Document}]; plain != nil && plain.replica != nil {
			at, ch = Address{Document: m.Document}, plain
		}
	}
	if ch == nil {
		if c.pending >= c.opts.Pending {
			return Event{}, fmt.Errorf("%w: %d documents", ErrQueueFull, c.pending)
		}
		ch = &channel{}
		c.docs[at] = ch
		c.pending++
	}
	if ch.replica != nil {
		return c.handle(at, ch, m)
	}
	if m.Kind == MessageAuth && m.Auth == AuthToken && !m.Request && !ch.asked {
		ch.asked = true
		return Event{At: at, Authenticate: true, Credentials: m.Text, Version: m.Version}, nil
	}
	if c.queued+len(frame) > c.opts.QueueBytes || c.messages+1 > c.opts.QueueMessages {
		return Event{}, fmt.Errorf("%w: %d messages, %d bytes", ErrQueueFull, c.messages+1, c.queued+len(frame))
	}
	ch.queue = append(ch.queue, append([]byte(nil), frame...))
	ch.bytes += len(frame)
	c.queued += len(frame)
	c.messages++
	return Event{At: at}, nil
}

// Grant opens a document for a client and returns what to send, the current
// awareness states among it unless there are none, and what the messages that
// were waiting ask for.
func (c *Connection) Grant(at Address, r Replica, readOnly bool, awareness []byte) (send [][]byte, events []Event, err error) {
	ch := c.docs[at]
	if ch == nil || ch.replica != nil {
		return nil, nil, fmt.Errorf("grant access to %q: %w", at.Document, ErrUnexpected)
	}
	ch.replica, ch.readOnly = r, readOnly
	c.pending--
	send = [][]byte{at.Granted(readOnly)}
	if len(awareness) > 0 {
		send = append(send, at.Awareness(awareness))
	}
	queue := ch.queue
	c.release(ch)
	for _, frame := range queue {
		e, err := c.Receive(frame)
		if err != nil {
			return send, events, err
		}
		events = append(events, e)
	}
	return send, events, nil
}

func (c *Connection) release(ch *channel) {
	c.queued -= ch.bytes
	c.messages -= len(ch.queue)
	ch.queue, ch.bytes = nil, 0
}

// SetReadOnly changes whether a client may only read an open document. Granted tells it.
func (c *Connection) SetReadOnly(at Address, readOnly bool) {
	if ch := c.docs[at]; ch != nil {
		ch.readOnly = readOnly
	}
}

// Deny refuses access and returns what to send. The client may try again.
func (c *Connection) Deny(at Address, reason string) []byte {
	c.forget(at)
	return at.message(Message{Kind: MessageAuth, Auth: AuthDenied, Text: reason})
}

// Close ends a client's use of a document and returns what to send.
func (c *Connection) Close(at Address, reason string) []byte {
	c.forget(at)
	return at.message(Message{Kind: MessageClose, Text: reason})
}

func (c *Connection) forget(at Address) {
	ch := c.docs[at]
	if ch == nil {
		return
	}
	if ch.replica == nil {
		c.pending--
	}
	c.release(ch)
	delete(c.docs, at)
}

// Open lists the documents the client has access to.
func (c *Connection) Open() []Address {
	var out []Address
	for at, ch := range c.docs {
		if ch.replica != nil {
			out = append(out, at)
		}
	}
	return out
}

func (c *Connection) handle(at Address, ch *channel, m Message) (Event, error) {
	e := Event{At: at}
	switch m.Kind {
	case MessageSync, MessageSyncReply:
		if m.Sync.Kind != SyncStep1 {
			e.Ack = at.status(true)
			e.Nack = at.status(false)
		}
		if err := receive(m.Sync, ch.replica, ch.readOnly, at.sync, &e.Reply); err != nil {
			return Event{}, err
		}
		if m.Sync.Kind == SyncStep1 && m.Kind == MessageSync {
			sv, err := ch.replica.StateVector()
			if err != nil {
				return Event{}, fmt.Errorf("ask for changes: %w", err)
			}
			e.Send = append(e.Send, at.sync(Sync{SyncStep1, sv.Encode()}))
		}
	case MessageAwareness:
		e.Awareness = m.Awareness
	case MessageQueryAwareness:
		e.QueryAwareness = true
	case MessageStateless:
		e.Stateless = &m.Text
	case MessageAuth:
		if m.Auth != AuthToken || m.Request {
			return Event{}, fmt.Errorf("%w: auth message %d from a client", ErrUnexpected, m.Auth)
		}
		e.Token = &m.Text
	case MessageClose:
		c.forget(at)
		e.Closed = true
	default:
		return Event{}, fmt.Errorf("%w: message %d from a client", ErrUnexpected, m.Kind)
	}
	return e, nil
}

func (at Address) message(m Message) []byte {
	m.Document, m.Session = at.Document, at.Session
	return m.Append(nil)
}

func (at Address) sync(m Sync) []byte { return at.message(Message{Kind: MessageSync, Sync: m}) }

func (at Address) status(applied bool) []byte {
	return at.message(Message{Kind: MessageSyncStatus, Applied: applied})
}

// Update returns the message that passes on an update.
func (at Address) Update(update []byte) []byte { return at.sync(Sync{SyncUpdate, update}) }

// Awareness returns the message that passes on an awareness update.
func (at Address) Awareness(update []byte) []byte {
	return at.message(Message{Kind: MessageAwareness, Awareness: update})
}

// Granted returns the message that says what a client may do with a document.
func (at Address) Granted(readOnly bool) []byte {
	scope := ScopeReadWrite
	if readOnly {
		scope = ScopeReadOnly
	}
	return at.message(Message{Kind: MessageAuth, Auth: AuthGranted, Text: scope})
}

// Stateless returns a message of the application.
func (at Address) Stateless(payload string) []byte {
	return at.message(Message{Kind: MessageStateless, Text: payload})
}

// RequestToken returns the message that asks for a new token.
func (at Address) RequestToken() []byte {
	return at.message(Message{Kind: MessageAuth, Auth: AuthToken, Request: true})
}
