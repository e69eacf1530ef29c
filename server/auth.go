package server

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/protocol"
	"github.com/halcyon-db/halcyon/server/token"
)

// authTimeMax is how long it may take to find out who a client is. It is long only when a provider of identities is slow.
const authTimeMax = 10 * time.Second

// tokenEnded is what a user is told whose token ends while a connection is theirs.
const tokenEnded = "The token has ended."

// caller is on whose behalf a connection or a request acts. The zero value is nobody.
type caller struct {
	identity *halcyon.Identity
	ends     time.Time // of the token, by the server's clock; zero: it has no end
	admin    bool
	revoked  uint64 // admin keys, before this one was checked
}

// authenticate finds out whose credentials these are: "bearer" is the token of a user, "convex" an admin key, and everything else nobody's.
// acting, which may be nil, is whom an administrator acts as. The error is a *token.Error, a *halcyon.RequestError or that of ctx.
func (s *Server) authenticate(ctx context.Context, kind, credentials string, acting json.RawMessage) (caller, error) {
	if kind != "bearer" && kind != "convex" {
		return caller{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, authTimeMax)
	defer cancel()
	switch kind {
	case "bearer":
		verified, err := s.o.Verifier.Verify(ctx, credentials)
		if err != nil {
			return caller{}, err
		}
		// Providers go by the wall clock and so does the Verifier; a connection goes by the server's clock, which may be another hour.
		return caller{identity: verified.Identity, ends: s.o.Clock.Now().Add(verified.Left)}, nil
	case "convex":
		who := caller{admin: true, revoked: s.app.AdminKeysRevoked()}
		if _, err := s.checkAdminKey(ctx, credentials); err != nil {
			return caller{}, err
		}
		if acting == nil {
			return who, nil
		}
		var err error
		if who.identity, err = halcyon.IdentityFromAttributes(acting); err != nil {
			return caller{}, &token.Error{Code: token.CodeMalformed, Message: "The identity to act as: " + err.Error() + "."}
		}
		return who, nil
	}
	return caller{}, nil
}

// authenticateRequest is authenticate for an HTTP request. Credentials of another kind are for a proxy in front. An admin key may be followed
// by a colon and the base64 of the identity to act as.
func (s *Server) authenticateRequest(r *http.Request) (caller, error) {
	kind, credentials := authorization(r)
	var acting json.RawMessage
	if key, encoded, ok := strings.Cut(credentials, ":"); ok && kind == "convex" {
		credentials = key
		raw, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return caller{}, &token.Error{Code: token.CodeMalformed, Message: "The identity to act as is not base64."}
		}
		acting = raw
	}
	return s.authenticate(r.Context(), kind, credentials, acting)
}

// refuseCredentials answers a request whose credentials are not good.
func (s *Server) refuseCredentials(w http.ResponseWriter, err error) {
	var bad *token.Error
	if !errors.As(err, &bad) {
		refused := s.refusal(err)
		writeError(w, refused.Status, string(refused.Code), refused.Message)
		return
	}
	if bad.Code == token.CodeUnavailable {
		w.Header().Set("Retry-After", "3")
		writeError(w, http.StatusServiceUnavailable, string(bad.Code), bad.Message)
		return
	}
	s.log.Debug("credentials were refused", slog.Any("error", err), slog.Any("cause", errors.Unwrap(err)))
	w.Header().Set("WWW-Authenticate", "Bearer")
	writeError(w, http.StatusUnauthorized, string(bad.Code), bad.Message)
}

// handleAuthenticate makes the connection one of another caller, or ends it. What the client sent after the message waits, so nothing of it
// is run for the caller of before.
func (c *conn) handleAuthenticate(m *protocol.Authenticate) {
	c.mu.Lock()
	base := c.mu.identity
	c.mu.Unlock()
	if m.Base != base {
		c.fatal("BaseVersionMismatch: the identity is at version %d, and the change leads from %d.", base, m.Base)
		return
	}
	kinds := map[string]string{"User": "bearer", "Admin": "convex"} // and "None"
	who, err := c.server.authenticate(c.server.acting, kinds[m.TokenType], m.Token, m.Impersonating)
	if err != nil {
		c.refuseToken(err, base)
		return
	}
	c.caller = who
	c.ends.Store(0)
	if !who.ends.IsZero() {
		c.ends.Store(who.ends.UnixNano())
	}
	c.revoked.Store(0)
	if who.admin {
		c.revoked.Store(who.revoked + 1)
	}
	c.change(func() {
		if c.mu.closed {
			return
		}
		c.mu.identity++
		c.pollWanted.Store(true)
		if c.mu.sent.TS == 0 {
			c.needLocked(c.server.app.Durable())
		}
		c.mu.set.SetCaller(who.identity, who.admin)
	})
}

// refuseToken tells the client that its token is not good, and ends the connection: what else it sent, it sent as the user that it is not.
func (c *conn) refuseToken(err error, base uint32) {
	var bad *token.Error
	var refused *halcyon.RequestError
	switch {
	case errors.As(err, &bad) && bad.Code != token.CodeUnavailable, errors.As(err, &refused) && refused.Code == halcyon.CodeBadAdminKey:
		c.server.log.Debug("a token was refused", slog.Any("error", err), slog.Any("cause", errors.Unwrap(err)))
		c.send(&protocol.AuthError{Message: err.Error(), Base: base, UpdateAttempted: true})
		c.close(closeNormal, reasonAuth)
	default:
		// It may be good. To call it bad would sign the user out; so the client comes back with it.
		c.server.log.Warn("a token could not be checked", slog.Any("error", err))
		c.close(closeTryAgain, reasonInternal+": the token can't be checked at the moment")
	}
}

// lapsed reports whether the connection's caller may not be acted for any more.
func (c *conn) lapsed(now time.Time) bool {
	if ends := c.ends.Load(); ends != 0 && now.UnixNano() >= ends {
		return true
	}
	seen := c.revoked.Load()
	return seen != 0 && seen != c.server.app.AdminKeysRevoked()+1
}

// lapse ends a connection whose caller has lapsed. The clients of users fetch a new token; administrators come back, and their key is looked
// at again. It must not be called with a lock of the connection held.
func (c *conn) lapse() {
	if c.stopped.Swap(true) {
		return
	}
	if c.ends.Load() == 0 {
		c.close(closeTryAgain, reasonAuth)
		return
	}
	c.mu.Lock()
	base := c.mu.identity
	c.mu.Unlock()
	c.send(&protocol.AuthError{Message: string(token.CodeExpired) + ": " + tokenEnded, Base: base})
	c.close(closeNormal, reasonAuth)
}
