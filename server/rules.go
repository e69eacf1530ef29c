package server

import (
	"fmt"
	"log/slog"

	"github.com/halcyon-db/halcyon/protocol"
)

// brokenRule is a rule of the protocol that the server was about to break. Clients rely on these rules without a check and without a word: the
// npm client freezes on a Transition from the wrong version. So the message is not sent, and the connection ends; on its next one the client
// begins anew.
type brokenRule struct {
	// name is part of the reason for the close, which clients show to their users: Name of the rule in CamelCase.
	name   string
	detail string
}

func (r *brokenRule) Error() string { return "invariant: " + r.name + ": " + r.detail }

// BrokenRules returns how many connections were ended since the start because what they were about to be sent, or were just sent, would have
// broken a rule of the protocol. It is 0 unless this program has a bug; each one is in the log too, with the rule's name.
func (s *Server) BrokenRules() int64 { return s.broken.Load() }

// broke counts a broken rule and tells the operator.
func (s *Server) broke(r *brokenRule) {
	s.log.Error("a rule of the protocol was about to be broken; the connection is ended", slog.String("rule", r.name),
		slog.String("detail", r.detail), slog.Int64("broken", s.broken.Add(1)))
}

// advanceLocked is the only place where the version of a connection changes. It panics with a brokenRule when the change would make a client
// freeze, or show what it did not ask for.
func (c *conn) advanceLocked(end protocol.Version) (start protocol.Version, first bool) {
	start = c.mu.sent
	rule := ""
	switch {
	case end.TS < start.TS:
		rule = "TimestampWentBack"
	case end.TS == 0:
		rule = "TransitionWithoutTimestamp"
	case end.QuerySet < start.QuerySet:
		rule = "QuerySetWentBack"
	case end.Identity < start.Identity:
		rule = "IdentityWentBack"
	case end.QuerySet > c.mu.querySet:
		rule = "QuerySetNotSent"
	case end.Identity > c.mu.identity:
		rule = "IdentityNotSent"
	case end.QuerySet != start.QuerySet && !c.mu.answer:
		rule = "QuerySetWithoutModifyQuerySet"
	case end.QuerySet != start.QuerySet && len(c.mu.fresh) > 0:
		rule = "QuerySetBeforeItsResults"
	case end.Identity != start.Identity && c.mu.set != nil && c.mu.set.Moving():
		rule = "IdentityBeforeItsResults"
	}
	if rule != "" {
		panic(&brokenRule{rule, fmt.Sprintf("a Transition from %+v must not lead to %+v, the client being at query set %d and identity %d, %d queries without a result",
			start, end, c.mu.querySet, c.mu.identity, len(c.mu.fresh))})
	}
	c.mu.sent = end
	c.shownTS.Store(uint64(end.TS))
	return start, start.TS == 0
}
