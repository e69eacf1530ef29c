package halcyon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"
)

// SocketHandler serves one WebSocket connection of a module from its begin to its end: when it returns, the connection is closed. It is an
// action without a time limit: see [Socket].
//
// What it returns is how the connection is closed: nil as having ended well (1000), a [*SocketClosed] as that says, an [*Error] with 1008 and
// its code, and every other error with 1011, a request id, and a line in the operator's log.
type SocketHandler func(s *Socket) error

// SocketRoute is an address where a module takes WebSocket connections. Its methods declare more about it and return it.
type SocketRoute struct {
	module          string
	path            string
	handler         SocketHandler
	open            SocketOpener // in the place of handler
	fn              *function
	origins         []string
	subprotocols    []string
	messageBytesMax int
	sendBytesMax    int
	refuseSlow      bool
	mistakes        []error
}

// Socket declares an address for WebSocket connections. The path is one of [net/http.ServeMux]: "/yjs/{collection}/{document}". It may not be
// one of the server's own.
//
// Pages of other origins than the server's own are refused unless Origins lists them. Clients that are no browsers send no origin and are
// let in.
func (m *Module) Socket(path string, handler SocketHandler) *SocketRoute {
	r := &SocketRoute{module: m.name, path: path, handler: handler, sendBytesMax: socketSendBytesMax}
	name := "WebSocket " + path
	r.fn = &function{module: m.name, name: name, path: m.name + ":" + name, kind: KindAction, internal: true}
	m.sockets = append(m.sockets, r)
	return r
}

// Origins lets pages of these origins connect, such as "https://app.example.com". "*" stands for all: then a page of anybody can connect in the
// name of whoever looks at it, if cookies say who that is.
func (r *SocketRoute) Origins(origins ...string) *SocketRoute {
	for _, o := range origins {
		if err := checkOrigin(o); err != nil && o != "*" {
			r.mistakes = append(r.mistakes, err)
		}
	}
	r.origins = append(r.origins, origins...)
	return r
}

// Subprotocols names those that the handler speaks, the best first. The first one that a client offers is chosen; one that offers others is
// refused, one that offers none is let in.
func (r *SocketRoute) Subprotocols(names ...string) *SocketRoute {
	r.subprotocols = append(r.subprotocols, names...)
	return r
}

// MessageMax sets the size of the largest message of a client in bytes; a larger one closes the connection (1009) before it is read. Default,
// and most: the server's own limit, 17 MiB.
func (r *SocketRoute) MessageMax(sizeBytes int) *SocketRoute {
	if r.messageBytesMax = sizeBytes; sizeBytes <= 0 {
		r.mistakes = append(r.mistakes, fmt.Errorf("a message may have %d bytes", sizeBytes))
	}
	return r
}

// SendMax sets how many bytes may wait for a client that does not take them. With more than one message waiting past it the client is slow:
// its connection is closed (1013, SlowReader), or Send fails, see RefuseSlow. Default 1 MiB.
func (r *SocketRoute) SendMax(sizeBytes int) *SocketRoute {
	if r.sendBytesMax = sizeBytes; sizeBytes <= 0 {
		r.mistakes = append(r.mistakes, fmt.Errorf("%d bytes may wait", sizeBytes))
	}
	return r
}

// RefuseSlow keeps the connections of slow clients: Send returns ErrSlowReader and sends nothing, and the handler decides what is left out. A
// client that takes nothing at all is dropped after the write timeout of the server in any case.
func (r *SocketRoute) RefuseSlow() *SocketRoute {
	r.refuseSlow = true
	return r
}

func checkOrigin(o string) error {
	u, err := url.Parse(o)
	if err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != o || strings.ToLower(o) != o {
		return fmt.Errorf("%q is not an origin such as https://app.example.com", o)
	}
	return nil
}

func (r *SocketRoute) pattern() string { return http.MethodGet + " " + r.path }

// check finds the mistakes in one route.
func (r *SocketRoute) check() error {
	errs := slices.Clone(r.mistakes)
	if r.handler == nil && r.open == nil {
		errs = append(errs, errors.New("it has no handler"))
	}
	return errors.Join(errs...)
}

// ErrSlowReader is returned by [Socket.Send] when the client has yet to take too much of what it was sent.
var ErrSlowReader = errors.New("the client does not take what it is sent")

// SocketClosed is how a WebSocket connection was closed, by either side, and how a handler says that its connection should be.
type SocketClosed struct {
	Code   int    // of RFC 6455: 1000 to 1014, or 3000 to 4999 of an app's own
	Reason string // at most 123 bytes
}

// Error returns the code with the reason.
func (c *SocketClosed) Error() string {
	return strings.TrimSpace(fmt.Sprintf("the WebSocket was closed with %d %s", c.Code, c.Reason))
}

// The codes that the server closes with.
const (
	SocketNormal    = 1000
	SocketGoingAway = 1001
	SocketNoStatus  = 1005 // never sent: the client gave none
	SocketLost      = 1006 // never sent: the connection broke
	SocketPolicy    = 1008
	SocketTooLarge  = 1009
	SocketInternal  = 1011
	SocketRestart   = 1012
	SocketTryAgain  = 1013
)

// SocketMessage is a message of a WebSocket: UTF-8 text, or bytes.
type SocketMessage struct {
	Binary bool
	Data   []byte
}

// SocketConn is the connection under a [Socket]. The server implements it.
type SocketConn interface {
	// Receive returns the next message. Its data is valid until the next Receive. When the connection is closed, the error is a
	// *SocketClosed.
	Receive(ctx context.Context) (SocketMessage, error)
	// Send takes a message without waiting for the client. It keeps nothing of it.
	Send(m SocketMessage) error
	// Flush waits until the client has been handed all that was sent.
	Flush(ctx context.Context) error
	// Ignore has all messages dropped that come from now on.
	Ignore()
	// Close closes the connection after what was sent. Only the first Close counts.
	Close(code int, reason string)
	// Subprotocol returns the one that was agreed on, or "".
	Subprotocol() string
	// Verify finds out whose token this is. The error of one that is not good is an *Error; that of one which can't be checked at the moment
	// is a *SocketClosed. When the token has ended, ended is called once with an *Error; nil has the connection closed then. forget lets go of
	// it before. ended must not wait.
	Verify(ctx context.Context, token string, ended func(error)) (identity *Identity, forget func(), err error)
}

// Socket is a WebSocket connection as its handler sees it. It is a [Ctx]: the handler runs queries, mutations and actions, and the context
// ends when the connection does, when the server stops, and when the App closes. Live queries are watched with [Watch].
//
// Send, Flush, Close and Go may be called by several goroutines, Receive by one at a time. Nothing may go on when the handler has returned;
// [Socket.Go] starts goroutines that are waited for.
type Socket struct {
	*Ctx

	conn    SocketConn
	request *http.Request
	cancel  context.CancelCauseFunc
	work    sync.WaitGroup
}

// Request returns the request that opened the connection: its URL, header, cookies and wildcards. It has no body.
func (s *Socket) Request() *http.Request { return s.request }

// PathValue returns the part of the path that a wildcard stands for.
func (s *Socket) PathValue(name string) string { return s.request.PathValue(name) }

// Subprotocol returns the subprotocol that was agreed on, or "".
func (s *Socket) Subprotocol() string { return s.conn.Subprotocol() }

// Receive waits for the next message of the client. Its data is valid until the next Receive. It is for handlers of [Module.Socket]. When the connection has ended the error is a
// [*SocketClosed], which a handler may return as it is.
//
// While a handler works on a message nothing more is read, so that a client which is faster than its handler has to wait.
func (s *Socket) Receive() (SocketMessage, error) { return s.conn.Receive(s) }

// Send sends bytes as one message. It does not wait for the client, and keeps nothing of data. See SendMax and RefuseSlow of [SocketRoute] for
// clients that do not take what they are sent.
func (s *Socket) Send(data []byte) error { return s.conn.Send(SocketMessage{Binary: true, Data: data}) }

// SendText is Send for text, which must be UTF-8.
func (s *Socket) SendText(text string) error {
	if !utf8.ValidString(text) {
		return errors.New("the text of a message is not UTF-8")
	}
	return s.conn.Send(SocketMessage{Data: []byte(text)})
}

// Flush waits until the client has been handed all that was sent, so that a handler can be as fast as its client.
func (s *Socket) Flush() error { return s.conn.Flush(s) }

// Ignore drops what the client sends from now on. A handler that only sends calls it, since a message that nobody receives holds up those
// behind it, and the news that the client has gone is one of them.
func (s *Socket) Ignore() { s.conn.Ignore() }

// Close closes the connection, after what was sent before, and ends the context. The handler should return then.
func (s *Socket) Close(code int, reason string) { s.conn.Close(code, reason) }

// Go runs f beside the handler. The connection is not done before f has returned. An error of it ends the context of the handler, and counts
// as the handler's own if it is the first.
func (s *Socket) Go(f func() error) {
	s.work.Go(func() {
		if _, err := guard(f); err != nil {
			s.cancel(err)
		}
	})
}

// guard calls f and makes an error of its panic, here at its boundary.
func guard(f func() error) (stack []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			stack = debug.Stack()
			err = &panicked{fmt.Errorf("panic: %v", p), stack}
		}
	}()
	return nil, f()
}

// panicked is a panic that became an error on another goroutine than the one which reports it.
type panicked struct {
	error
	stack []byte
}

// SocketEndpoint is a [SocketRoute] as a server sees it.
type SocketEndpoint struct {
	Module          string
	Path            string // pattern of net/http.ServeMux
	Origins         []string
	Subprotocols    []string
	MessageBytesMax int // 0: the server's own limit
	SendBytesMax    int
	RefuseSlow      bool

	// Serve runs the handler and returns how the connection is to be closed. ctx ends with the connection, with a *SocketClosed as its
	// cause. r is the request that opened it, without a body. Nil where Open is not.
	Serve func(ctx context.Context, r *http.Request, conn SocketConn) SocketClosed
	// Open begins to serve a connection for which there is no goroutine, see [Module.SocketReceiver]. Its arguments are those of Serve, and the
	// context has to end when conn is closed. Without a session it says how the connection is to be closed.
	Open func(ctx context.Context, r *http.Request, conn SocketConn) (*SocketSession, SocketClosed)
}

// Sockets returns the modules' WebSocket addresses.
func (a *App) Sockets() []SocketEndpoint {
	var endpoints []SocketEndpoint
	for _, m := range a.modules {
		for _, route := range m.sockets {
			e := SocketEndpoint{
				Module: route.module, Path: route.path, Origins: route.origins, Subprotocols: route.subprotocols,
				MessageBytesMax: route.messageBytesMax, SendBytesMax: route.sendBytesMax, RefuseSlow: route.refuseSlow,
			}
			if route.open != nil {
				e.Open = func(ctx context.Context, r *http.Request, conn SocketConn) (*SocketSession, SocketClosed) {
					run := a.running.Load()
					if run == nil || !run.sockets.begin() {
						return nil, SocketClosed{SocketTryAgain, string(CodeUnavailable)}
					}
					return run.openSocket(ctx, route, r, conn)
				}
			} else {
				e.Serve = func(ctx context.Context, r *http.Request, conn SocketConn) SocketClosed {
					run := a.running.Load()
					if run == nil || !run.sockets.begin() {
						return SocketClosed{SocketTryAgain, string(CodeUnavailable)}
					}
					defer run.sockets.end()
					return run.serveSocket(ctx, route, r, conn)
				}
			}
			endpoints = append(endpoints, e)
		}
	}
	return endpoints
}

func (r *runtime) serveSocket(ctx context.Context, route *SocketRoute, request *http.Request, conn SocketConn) SocketClosed {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	defer context.AfterFunc(r.closing, func() { cancel(ErrNotOpen) })()
	s := &Socket{
		Ctx:     &Ctx{Context: ctx, run: r, fn: route.fn, requestID: RequestID(ctx), streaming: true},
		conn:    conn,
		request: request.WithContext(ctx),
		cancel:  cancel,
	}
	s.identity.Store(identityOf(ctx))
	_, err := guard(func() error { return route.handler(s) })
	cause := context.Cause(ctx) // why the context ended before the handler did; nil when it did not
	cancel(context.Canceled)
	s.work.Wait()
	defer s.takeLogs()
	closed, isClosed := errors.AsType[*SocketClosed](cause)
	switch {
	case cause == nil:
		return s.closing(err)
	case isClosed:
	case errors.Is(cause, ErrNotOpen), errors.Is(cause, context.Canceled):
		closed = &SocketClosed{SocketRestart, "Restart"}
	default:
		return s.closing(cause) // a goroutine failed first
	}
	if _, same := errors.AsType[*SocketClosed](err); err != nil && !same && !errors.Is(err, cause) && !errors.Is(err, context.Canceled) {
		s.closing(err) // the client is not told any more, but the operator is
	}
	return *closed
}

// closing returns how a connection is closed whose handler ended with err.
func (s *Socket) closing(err error) SocketClosed {
	if err == nil {
		return SocketClosed{Code: SocketNormal}
	}
	if closed, ok := errors.AsType[*SocketClosed](err); ok {
		return *closed
	}
	if errors.Is(err, ErrSlowReader) {
		return SocketClosed{SocketTryAgain, "SlowReader"}
	}
	var stack []byte
	if p, ok := errors.AsType[*panicked](err); ok {
		stack = p.stack
	}
	failure := s.failure(err, stack)
	code, isCode := failure.Data.Get("code").AsString()
	switch {
	case failure.Code != "" && failure.Code.Retry():
		return SocketClosed{SocketTryAgain, string(failure.Code)}
	case failure.Code != "":
		return SocketClosed{SocketInternal, string(failure.Code)}
	case isCode:
		message, _ := failure.Data.Get("message").AsString()
		return SocketClosed{SocketPolicy, code + ": " + message}
	}
	return SocketClosed{SocketInternal, failure.Message}
}
