package token

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/halcyon-db/halcyon"
)

const (
	// Leeway is by how much the clocks of a provider and of this server may differ.
	Leeway = 5 * time.Second
	// BytesMax is the length of the longest token.
	BytesMax = 16 << 10

	retryMin = time.Second // of a provider that can't be reached, doubled at each further try
	retryMax = time.Minute
)

// Code names why a token is refused. The values are stable, and Convex's where it has one.
type Code string

// The codes.
const (
	CodeNoProvider  Code = "NoAuthProvider"          // no provider has the token's issuer and application
	CodeMalformed   Code = "InvalidAuthHeader"       // it is not a JSON Web Token with an accepted algorithm
	CodeSignature   Code = "Unauthenticated"         // it was not signed by the provider, or not for use now
	CodeExpired     Code = "TokenExpired"            // it has ended
	CodeUnavailable Code = "AuthProviderUnavailable" // the provider's keys can't be had at the moment; try again
)

// Error is why a token is refused.
type Error struct {
	Code    Code
	Message string
	cause   error
}

// Error returns the code and the message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

func refuse(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), cause: cause}
}

// Options are the settings of a Verifier; nil means all defaults.
type Options struct {
	// Logger is told of providers that can't be reached, and when they can again. Default: nothing is logged.
	Logger *slog.Logger
	// Client fetches from providers. Default: one that follows at most 3 redirects.
	Client *http.Client
	// Now is the time. Default: time.Now.
	Now func() time.Time
}

// Verifier verifies tokens of the users of some providers. It is made by New, and may be used by several goroutines.
type Verifier struct {
	o    Options
	sets []*keySet
}

// New returns a verifier for providers, after checking them.
func New(providers []Provider, opts *Options) (*Verifier, error) {
	v := &Verifier{}
	if opts != nil {
		v.o = *opts
	}
	if v.o.Logger == nil {
		v.o.Logger = slog.New(slog.DiscardHandler)
	}
	if v.o.Now == nil {
		v.o.Now = time.Now
	}
	if v.o.Client == nil {
		v.o.Client = &http.Client{CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > 3 {
				return errors.New("more than 3 redirects")
			}
			return nil
		}}
	}
	if len(providers) > providersMax {
		return nil, fmt.Errorf("%d identity providers, at most %d", len(providers), providersMax)
	}
	for i, p := range providers {
		if err := p.check(); err != nil {
			return nil, fmt.Errorf("identity provider %d: %w", i+1, err)
		}
		v.sets = append(v.sets, &keySet{provider: p, client: v.o.Client, now: v.o.Now})
	}
	return v, nil
}

// Run fetches the keys of all providers and renews them, until ctx ends. It returns when nothing of it runs any more.
func (v *Verifier) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range v.sets {
		all.Go(func() { v.keep(ctx, s) })
	}
	all.Wait()
}

// keep keeps the keys of one provider fresh.
func (v *Verifier) keep(ctx context.Context, s *keySet) {
	retry := retryMin
	for {
		wait := renewAfter
		err := s.fetch(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = retry
			v.o.Logger.Warn("the keys of an identity provider can't be had: its users can't sign in until they can",
				slog.String("issuer", s.provider.Issuer), slog.Any("error", err), slog.Duration("retry_in", wait))
			retry = min(2*retry, retryMax)
		default:
			if retry > retryMin {
				v.o.Logger.Info("the keys of an identity provider have come", slog.String("issuer", s.provider.Issuer))
			}
			retry = retryMin
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// Verified is what a good token says.
type Verified struct {
	Identity *halcyon.Identity
	// Ends is when the token is not good any more, the leeway included.
	Ends time.Time
	// Left is how long it is until then, by the clock that the token was looked at with. Who has another clock goes by it.
	Left time.Duration
}

// claims are those of a token that decide whether it is good.
type claims struct {
	issuer             string
	audience           []string
	expires, notBefore json.RawMessage // nil: not there
}

var accepted = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}

// Verify returns whose a token is. The error is an *Error, or that of ctx.
func (v *Verifier) Verify(ctx context.Context, token string) (Verified, error) {
	if len(v.sets) == 0 {
		return Verified{}, refuse(CodeNoProvider, nil, "This server has no identity provider, so it can't accept tokens. Remove the client's auth, or configure a provider.")
	}
	if len(token) > BytesMax {
		return Verified{}, refuse(CodeMalformed, nil, "The token is longer than %d bytes.", BytesMax)
	}
	signed, err := jose.ParseSignedCompact(token, accepted)
	if err != nil || len(signed.Signatures) != 1 {
		return Verified{}, refuse(CodeMalformed, err, "This is not a JSON Web Token that is signed with RS256, ES256 or EdDSA.")
	}
	said, err := readClaims(signed.UnsafePayloadWithoutVerification())
	if err != nil {
		return Verified{}, refuse(CodeMalformed, err, "The claims of the token can't be read.")
	}
	header := signed.Signatures[0].Header
	algorithm := jose.SignatureAlgorithm(header.Algorithm)
	sets, refused := v.trusted(said, algorithm)
	if refused != nil {
		return Verified{}, refused
	}
	var unavailable error
	for _, s := range sets {
		keys, err := s.find(ctx, header.KeyID, algorithm)
		if ctx.Err() != nil {
			return Verified{}, context.Cause(ctx)
		}
		if err != nil {
			unavailable = err
		}
		for _, k := range keys {
			payload, err := signed.Verify(k.public)
			if err != nil {
				continue
			}
			return v.judge(payload)
		}
	}
	if unavailable != nil {
		return Verified{}, refuse(CodeUnavailable, unavailable, "The keys of the identity provider %s can't be had at the moment.", said.issuer)
	}
	return Verified{}, refuse(CodeSignature, nil, "The token was not signed with a key of %s.", said.issuer)
}

// trusted returns the providers that a token may be of.
func (v *Verifier) trusted(said claims, algorithm jose.SignatureAlgorithm) (sets []*keySet, refused *Error) {
	known := false
	for _, s := range v.sets {
		p := s.provider
		if !sameIssuer(p.Issuer, said.issuer) {
			continue
		}
		known = true
		if p.Audience != "" && !slices.Contains(said.audience, p.Audience) {
			continue
		}
		if len(p.Algorithms) == 0 || slices.Contains(p.Algorithms, string(algorithm)) {
			sets = append(sets, s)
		}
	}
	switch {
	case !known:
		return nil, refuse(CodeNoProvider, nil, "No identity provider is configured that has the token's issuer %.200q.", said.issuer)
	case len(sets) == 0:
		return nil, refuse(CodeNoProvider, nil, "No identity provider is configured for the token's audience %.200q and algorithm %s.", said.audience, algorithm)
	}
	return sets, nil
}

// readClaims reads claims by their exact names: to take EXP for exp would let a user who may name claims choose when a token ends.
func readClaims(payload []byte) (said claims, err error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(payload, &all); err != nil {
		return said, err
	}
	if err := json.Unmarshal(all["iss"], &said.issuer); err != nil {
		return said, fmt.Errorf("iss: %w", err)
	}
	said.expires, said.notBefore = all["exp"], all["nbf"]
	switch raw := all["aud"]; {
	case raw == nil:
	case bytes.HasPrefix(raw, []byte("[")):
		err = json.Unmarshal(raw, &said.audience)
	default:
		said.audience = make([]string, 1)
		err = json.Unmarshal(raw, &said.audience[0])
	}
	return said, err
}

// judge decides about a token whose signature is right.
func (v *Verifier) judge(payload []byte) (Verified, error) {
	said, err := readClaims(payload)
	if err != nil {
		return Verified{}, refuse(CodeMalformed, err, "The claims of the token can't be read.")
	}
	now := v.o.Now()
	ends, ok := numericDate(said.expires)
	if !ok {
		return Verified{}, refuse(CodeMalformed, nil, "The token does not say when it ends.")
	}
	if ends = ends.Add(Leeway); !now.Before(ends) {
		return Verified{}, refuse(CodeExpired, nil, "The token has ended.")
	}
	if said.notBefore != nil {
		begins, ok := numericDate(said.notBefore)
		if !ok {
			return Verified{}, refuse(CodeMalformed, nil, "The token does not say when it begins.")
		}
		if now.Before(begins.Add(-Leeway)) {
			return Verified{}, refuse(CodeSignature, nil, "The token is not good yet.")
		}
	}
	identity, err := halcyon.IdentityFromClaims(payload)
	if err != nil {
		return Verified{}, refuse(CodeMalformed, err, "The token does not name its user.")
	}
	return Verified{Identity: identity, Ends: ends, Left: ends.Sub(now)}, nil
}

// numericDate reads seconds since 1970, up to the year 9999.
func numericDate(raw json.RawMessage) (time.Time, bool) {
	var seconds *float64
	if err := json.Unmarshal(raw, &seconds); err != nil || seconds == nil || !(*seconds >= 0 && *seconds < 253402300800) {
		return time.Time{}, false
	}
	whole, part := math.Modf(*seconds)
	return time.Unix(int64(whole), int64(part*1e9)), true
}
