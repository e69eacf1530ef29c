package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/server/token"
)

// signedIn is a user whom a connection of a module acts for, until their credentials end.
type signedIn struct {
	who   caller
	ended func(error) // nil: the connection ends with them
}

// signed notes that the connection acts for somebody. forget undoes it.
func (c *moduleConn) signed(who caller, ended func(error)) (forget func()) {
	if who.ends.IsZero() && !who.admin {
		return func() {}
	}
	in := &signedIn{who, ended}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ended == nil { // the connection is one user's
		c.mu.signed = slices.DeleteFunc(c.mu.signed, func(before *signedIn) bool { return before.ended == nil })
	}
	c.mu.signed = append(c.mu.signed, in)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.mu.signed = slices.DeleteFunc(c.mu.signed, func(one *signedIn) bool { return one == in })
	}
}

// Verify is that of a [halcyon.SocketConn].
func (c *moduleConn) Verify(ctx context.Context, text string, ended func(error)) (*halcyon.Identity, func(), error) {
	who, err := c.server.authenticate(ctx, "bearer", text, nil)
	if err != nil {
		bad, ok := errors.AsType[*token.Error](err)
		switch {
		case c.ctx.Err() != nil:
			return nil, nil, c.closed()
		case !ok || bad.Code == token.CodeUnavailable:
			// It may be good. To call it bad would sign the user out.
			c.server.log.Warn("a token could not be checked", slog.String("path", c.endpoint.Path), slog.Any("error", err))
			return nil, nil, &halcyon.SocketClosed{Code: closeTryAgain, Reason: string(token.CodeUnavailable)}
		}
		c.server.log.Debug("a token was refused", slog.Any("error", err), slog.Any("cause", errors.Unwrap(err)))
		return nil, nil, &halcyon.Error{Code: string(bad.Code), Message: bad.Message}
	}
	return who.identity, c.signed(who, ended), nil
}

// lapse ends what the connection does for users whose credentials have ended.
func (c *moduleConn) lapse(now time.Time) {
	var over []*signedIn
	c.mu.Lock()
	if len(c.mu.signed) > 0 {
		revoked := c.server.app.AdminKeysRevoked()
		c.mu.signed = slices.DeleteFunc(c.mu.signed, func(in *signedIn) bool {
			ended := !in.who.ends.IsZero() && !now.Before(in.who.ends) || in.who.admin && in.who.revoked != revoked
			if ended {
				over = append(over, in)
			}
			return ended
		})
	}
	c.mu.Unlock()
	for _, in := range over {
		switch {
		case in.ended != nil:
			in.ended(&halcyon.Error{Code: string(token.CodeExpired), Message: tokenEnded})
		case in.who.admin:
			c.close(closeTryAgain, reasonAuth) // its key is looked at again
		default:
			c.close(closePolicy, string(token.CodeExpired)+": "+tokenEnded)
		}
	}
}
