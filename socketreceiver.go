package halcyon

import (
	"context"
	"errors"
	"net/http"
)

// SocketReceiver is what a module has for one WebSocket connection while nothing happens on it: see [Module.SocketReceiver].
type SocketReceiver interface {
	// Receive is called with one message of the client after the other. The data is valid until it returns, and while it works nothing more
	// is read. An error closes the connection, as that of a [SocketHandler] does. It may block until the context of the socket ends.
	Receive(m SocketMessage) error
	// Closed is called once, when the connection has ended, for whatever reason, and no Receive is running any more.
	Closed()
}

// SocketOpener begins to serve a connection. The socket, which is a [Ctx], is there until the receiver's Closed has returned; its Request until
// the opener has. An error closes the connection, as that of a [SocketHandler] does. Messages are given to the receiver: Receive and Ignore of the
// socket are of no use.
type SocketOpener func(s *Socket) (SocketReceiver, error)

// SocketReceiver declares an address for WebSocket connections as Socket does, for protocols with very many of which most are silent. A handler
// of Socket has a goroutine as long as its connection lasts, which costs 8 KiB and more. A receiver has none: it is called when a message
// comes.
func (m *Module) SocketReceiver(path string, open SocketOpener) *SocketRoute {
	r := m.Socket(path, nil)
	r.open = open
	return r
}

// SocketSession is a connection that a receiver serves, as a server sees it. Its methods are called by one goroutine at a time.
type SocketSession struct {
	socket   *Socket
	receiver SocketReceiver
	stop     func() bool // what closes the connection with the App
}

// openSocket runs the opener of a route, which it has. Without a session, how says how the connection is to be closed.
func (r *runtime) openSocket(ctx context.Context, route *SocketRoute, request *http.Request, conn SocketConn) (session *SocketSession, how SocketClosed) {
	s := &Socket{
		Ctx:     &Ctx{Context: ctx, run: r, fn: route.fn, requestID: RequestID(ctx), streaming: true},
		conn:    conn,
		request: request.WithContext(ctx),
	}
	s.cancel = func(err error) { // a goroutine of the socket has failed
		how := s.closing(err)
		conn.Close(how.Code, how.Reason)
	}
	s.identity.Store(identityOf(ctx))
	var receiver SocketReceiver
	_, err := guard(func() (err error) {
		receiver, err = route.open(s)
		return err
	})
	if err == nil && receiver == nil {
		err = errors.New("the opener returned no receiver")
	}
	s.request = nil
	if err == nil {
		closed := func() { conn.Close(SocketRestart, "Restart") }
		return &SocketSession{s, receiver, context.AfterFunc(r.closing, closed)}, SocketClosed{}
	}
	how = s.closing(err)
	conn.Close(how.Code, how.Reason) // which ends the context of goroutines that were started
	s.end()
	return nil, how
}

// Receive hands a message to the receiver. It returns how the connection is to be closed, and nil while it goes on.
func (x *SocketSession) Receive(m SocketMessage) *SocketClosed {
	_, err := guard(func() error { return x.receiver.Receive(m) })
	if err == nil {
		return nil
	}
	cause := context.Cause(x.socket)
	if cause != nil && (errors.Is(err, cause) || errors.Is(err, context.Canceled)) {
		return nil // it has ended already, and how is known
	}
	how := x.socket.closing(err)
	return &how
}

// End ends the session, once, when the context of the connection has ended. It waits for the receiver and for what the socket runs.
func (x *SocketSession) End() SocketClosed {
	x.stop()
	cause := context.Cause(x.socket)
	_, err := guard(func() error { x.receiver.Closed(); return nil })
	if err != nil {
		x.socket.closing(err) // for the operator
	}
	x.socket.end()
	if closed, ok := errors.AsType[*SocketClosed](cause); ok {
		return *closed
	}
	return SocketClosed{SocketRestart, "Restart"} // the server stops
}

// end waits for what the socket runs.
func (s *Socket) end() {
	s.work.Wait()
	s.takeLogs()
	s.run.sockets.end()
}
