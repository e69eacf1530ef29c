package halcyon

import (
	"context"
	"errors"
	"fmt"
)

// SignIn makes the connection that of the user whose token this is: what the handler runs and begins to watch from now on is for them. When
// the token ends, so does the connection, with 1008 and the code TokenExpired, and the client comes back with a new one.
//
// A handler whose protocol brings the token calls it: with a parameter of the URL, an offered subprotocol, or a message. A connection that was
// opened with a good Authorization header is its user's from the begin.
//
// The error for a token that is not good is an [*Error] with one of the codes of the guide's page on identity; that for one which can't be
// checked at the moment is a [*SocketClosed] that has the client try again. A handler may return either as it is. Nothing has changed then.
func (s *Socket) SignIn(token string) error {
	identity, _, err := s.conn.Verify(s, token, nil)
	if err != nil {
		return fmt.Errorf("sign in: %w", err)
	}
	s.identity.Store(identity)
	return nil
}

// As returns a Ctx of the user whose token this is, for protocols in which one connection speaks for several: one that has several documents,
// each with a token of its own. The Ctx ends with the connection, when the token ends, with an [*Error] of the code TokenExpired as its cause,
// and when release is called, which frees what it takes. Errors are those of SignIn. The connection itself stays whose it was.
func (s *Socket) As(token string) (c *Ctx, release func(), err error) {
	ctx, cancel := context.WithCancelCause(s.Ctx)
	identity, forget, err := s.conn.Verify(s, token, cancel)
	if err != nil {
		cancel(err)
		return nil, nil, fmt.Errorf("sign in: %w", err)
	}
	c = &Ctx{Context: ctx, run: s.run, fn: s.fn, requestID: s.requestID, streaming: true, outer: s.Ctx}
	c.identity.Store(identity)
	return c, func() {
		forget()
		cancel(errReleased)
	}, nil
}

// errReleased is the cause of the end of a Ctx whose handler is done with it.
var errReleased = errors.New("the connection is done with this user")
