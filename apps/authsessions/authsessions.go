package authsessions

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon"
)

const (
	// sessionIDSizeMax is the longest sessionId, in bytes.
	sessionIDSizeMax = 256

	// userAgentSizeMax is how much of a user agent is kept, in bytes.
	userAgentSizeMax = 512

	// The prefixes that are kept of a truncated address.
	bitsIPv4 = 24
	bitsIPv6 = 48
)

// The codes of the errors a caller can cause.
const (
	CodeSessionID  = "InvalidSessionId"
	CodeLastSeenAt = "InvalidLastSeenAt"
)

// An AuthSession is one signed-in device of a user.
type AuthSession struct {
	ID         halcyon.ID[AuthSession] `halcyon:"id"`
	SessionID  string                  `json:"sessionId"`
	LastSeenAt *time.Time              `json:"lastSeenAt"`
	IPAddress  *string                 `json:"ipAddress"`
	UserAgent  *string                 `json:"userAgent"`
}

// AuthSessions is the table of the module.
var AuthSessions = halcyon.NewTable[AuthSession]("authSessions").
	Index("by_session", "sessionId")

// Details says what is kept of a user's address and agent.
type Details uint8

// The settings of Details.
const (
	Truncated Details = iota // the agent, and the address cut to its /24 (IPv4) or /48 (IPv6)
	Full                     // the agent and the whole address
	Off                      // neither
)

// Options are the settings of the module. The zero value holds the defaults.
type Options struct {
	// Threshold is how old a row's lastSeenAt may get before a touch writes it.
	// The default is 30 seconds.
	Threshold time.Duration

	// Details is what is kept of addresses and agents. The default is
	// Truncated.
	Details Details
}

// envDetails is the variable of the environment for Options.Details.
const envDetails = "HALCYON_AUTH_SESSIONS_DETAILS"

// from returns the options with what the environment says in their place.
func (o Options) from(settings halcyon.Settings) (Options, error) {
	switch text := settings.Env(envDetails); text {
	case "":
	case "truncated":
		o.Details = Truncated
	case "full":
		o.Details = Full
	case "off":
		o.Details = Off
	default:
		return o, fmt.Errorf("%s: %q is none of truncated, full and off", envDetails, text)
	}
	return o, nil
}

// app is the module's functions with their settings.
type app struct{ Options }

// Module returns the module "authSessions".
func Module(options Options) *halcyon.Module {
	if options.Threshold <= 0 {
		options.Threshold = 30 * time.Second
	}
	a := &app{options}
	m := halcyon.NewModule("authSessions", AuthSessions)
	m.Env(halcyon.Variable{Name: envDetails, Optional: true, Help: "what is kept of addresses and agents: truncated, full or off"})
	m.Configure(func(settings halcyon.Settings) (err error) {
		a.Options, err = options.from(settings)
		return err
	})
	m.Mutation("touchSession", a.touchSession)
	m.Internal.Mutation("create", a.create)
	return m
}

type touchArgs struct {
	SessionID  string                    `json:"sessionId"`
	LastSeenAt float64                   `json:"lastSeenAt"`
	IPAddress  *halcyon.Nullable[string] `json:"ipAddress"`
	UserAgent  *halcyon.Nullable[string] `json:"userAgent"`
}

// A TouchResult is what touchSession answers for an auth session that exists.
type TouchResult struct {
	Success bool `json:"success"`
	Skipped bool `json:"skipped,omitempty"`
}

// touchSession records that the user was seen, if the row does not say so
// already. The package documentation has its rules.
func (a *app) touchSession(tx *halcyon.Tx, args touchArgs) (halcyon.Nullable[TouchResult], error) {
	seen, err := a.check(tx, args)
	if err != nil {
		return halcyon.Null[TouchResult](), err
	}
	row, ok, err := AuthSessions.By("by_session").Eq(args.SessionID).First(tx)
	if err != nil || !ok {
		return halcyon.Null[TouchResult](), err
	}
	changes := make(halcyon.Fields)
	if row.LastSeenAt == nil || !seen.LastSeenAt.Before(*row.LastSeenAt) {
		addChange(changes, "ipAddress", row.IPAddress, seen.IPAddress)
		addChange(changes, "userAgent", row.UserAgent, seen.UserAgent)
	}
	stale := row.LastSeenAt == nil || seen.LastSeenAt.Sub(*row.LastSeenAt) >= a.Threshold
	if !stale && len(changes) == 0 {
		return halcyon.NotNull(TouchResult{Success: true, Skipped: true}), nil
	}
	changes["lastSeenAt"] = *seen.LastSeenAt // not before the row's, in both cases
	if err := AuthSessions.Patch(tx, row.ID, changes); err != nil {
		return halcyon.Null[TouchResult](), err
	}
	return halcyon.NotNull(TouchResult{Success: true}), nil
}

func addChange(changes halcyon.Fields, name string, old, given *string) {
	if given != nil && (old == nil || *old != *given) {
		changes[name] = *given
	}
}

// create makes the row of an auth session that was just signed in. One that
// exists already stays as it is.
func (a *app) create(tx *halcyon.Tx, args touchArgs) (halcyon.ID[AuthSession], error) {
	seen, err := a.check(tx, args)
	if err != nil {
		return "", err
	}
	row, ok, err := AuthSessions.By("by_session").Eq(args.SessionID).First(tx)
	if err != nil || ok {
		return row.ID, err
	}
	return AuthSessions.Insert(tx, seen)
}

// check returns what a caller says as it would be kept, its time not after the
// server's.
func (a *app) check(tx *halcyon.Tx, args touchArgs) (AuthSession, error) {
	if args.SessionID == "" || len(args.SessionID) > sessionIDSizeMax {
		return AuthSession{}, &halcyon.Error{Code: CodeSessionID,
			Message: fmt.Sprintf("sessionId has %d bytes, 1 to %d are allowed", len(args.SessionID), sessionIDSizeMax)}
	}
	if math.IsNaN(args.LastSeenAt) {
		return AuthSession{}, &halcyon.Error{Code: CodeLastSeenAt, Message: "lastSeenAt is not a number of milliseconds"}
	}
	now := tx.Now()
	at := now
	if ms := math.Max(args.LastSeenAt, 0); ms < float64(now.UnixMilli()) {
		at = time.UnixMicro(int64(ms * 1000)).UTC()
	}
	seen := AuthSession{SessionID: args.SessionID, LastSeenAt: &at}
	if a.Details == Off {
		return seen, nil
	}
	if args.IPAddress != nil && args.IPAddress.Valid {
		seen.IPAddress = a.keptAddress(args.IPAddress.Value)
	}
	if args.UserAgent != nil && args.UserAgent.Valid && args.UserAgent.Value != "" {
		agent := cut(args.UserAgent.Value, userAgentSizeMax)
		seen.UserAgent = &agent
	}
	return seen, nil
}

// keptAddress returns what is kept of an address, nil when it is none: text
// that is not an address can not be truncated, so it is not kept either.
func (a *app) keptAddress(text string) *string {
	text = strings.TrimSpace(text)
	address, err := netip.ParseAddr(text)
	if err != nil {
		withPort, err := netip.ParseAddrPort(text)
		if err != nil {
			return nil
		}
		address = withPort.Addr()
	}
	address = address.Unmap().WithZone("")
	kept := address.String()
	if a.Details == Truncated {
		bits := bitsIPv6
		if address.Is4() {
			bits = bitsIPv4
		}
		kept = netip.PrefixFrom(address, bits).Masked().String()
	}
	return &kept
}

// cut returns the first size bytes of text or a little less, whole characters.
func cut(text string, size int) string {
	if len(text) <= size {
		return text
	}
	for !utf8.RuneStart(text[size]) {
		size--
	}
	return text[:size]
}
