package halcyon

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Identity is the user on whose behalf a function runs, as the identity provider that signed the user's token tells of them. Names and
// meaning of the fields are those of Convex's getUserIdentity; what the provider does not tell is empty. A function may return it.
type Identity struct {
	// TokenIdentifier is Issuer and Subject joined by "|": the one text by which to know a user among all providers.
	TokenIdentifier string `json:"tokenIdentifier"`
	Issuer          string `json:"issuer"`
	Subject         string `json:"subject"` // the provider's id of the user

	Name                string `json:"name,omitzero"`
	GivenName           string `json:"givenName,omitzero"`
	FamilyName          string `json:"familyName,omitzero"`
	Nickname            string `json:"nickname,omitzero"`
	PreferredUsername   string `json:"preferredUsername,omitzero"`
	ProfileURL          string `json:"profileUrl,omitzero"`
	PictureURL          string `json:"pictureUrl,omitzero"`
	Email               string `json:"email,omitzero"`
	EmailVerified       bool   `json:"emailVerified,omitzero"`
	Gender              string `json:"gender,omitzero"`
	Birthday            string `json:"birthday,omitzero"`
	Timezone            string `json:"timezone,omitzero"`
	Language            string `json:"language,omitzero"`
	PhoneNumber         string `json:"phoneNumber,omitzero"`
	PhoneNumberVerified bool   `json:"phoneNumberVerified,omitzero"`
	Address             string `json:"address,omitzero"`
	UpdatedAt           string `json:"updatedAt,omitzero"` // as RFC 3339 has it

	claims map[string]json.RawMessage // those without a field; never modified
	key    identityKey
}

// identityKey is the same for two identities that a function can't tell apart. The zero one is that of nobody.
type identityKey [sha256.Size]byte

// Claim puts a claim of the token that has no field of its own into a variable, as [encoding/json.Unmarshal] does, and reports whether the
// token has it. Claims that tell of the token and not of the user, such as exp, are left out: they change whenever it is renewed.
func (i Identity) Claim(name string, into any) (bool, error) {
	raw, ok := i.claims[name]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return true, fmt.Errorf("claim %q: %w", name, err)
	}
	return true, nil
}

// tokenClaims are claims about a token, not about its user.
var tokenClaims = map[string]bool{
	"iss": true, "sub": true, "aud": true, "exp": true, "nbf": true, "iat": true, "jti": true,
	"nonce": true, "at_hash": true, "c_hash": true, "s_hash": true,
}

// claimNames are the names of the identity's fields in a token.
var claimNames = map[string]string{
	"iss": "issuer", "sub": "subject", "name": "name", "given_name": "givenName", "family_name": "familyName", "nickname": "nickname",
	"preferred_username": "preferredUsername", "profile": "profileUrl", "picture": "pictureUrl", "email": "email",
	"email_verified": "emailVerified", "gender": "gender", "birthdate": "birthday", "zoneinfo": "timezone", "locale": "language",
	"phone_number": "phoneNumber", "phone_number_verified": "phoneNumberVerified", "address": "address", "updated_at": "updatedAt",
}

// IdentityFromClaims makes the identity of the claims of a verified token, a JSON object. It needs iss and sub.
func IdentityFromClaims(claims []byte) (*Identity, error) {
	given, err := decodeClaims(claims)
	if err != nil {
		return nil, err
	}
	fields, rest := map[string]any{}, map[string]any{}
	for name, v := range given {
		if field, ok := claimNames[name]; ok {
			fields[field] = v
		} else if !tokenClaims[name] {
			rest[name] = v
		}
	}
	return newIdentity(fields, rest)
}

// IdentityFromAttributes makes an identity that an administrator acts as, of a JSON object with the names of the fields of [Identity];
// others are claims. It needs issuer and subject.
func IdentityFromAttributes(attributes []byte) (*Identity, error) {
	given, err := decodeClaims(attributes)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{"tokenIdentifier": true}
	for _, field := range claimNames {
		known[field] = true
	}
	fields, rest := map[string]any{}, map[string]any{}
	for name, v := range given {
		if known[name] {
			fields[name] = v
		} else {
			rest[name] = v
		}
	}
	identity, err := newIdentity(fields, rest)
	if err != nil {
		return nil, err
	}
	if told, ok := fields["tokenIdentifier"]; ok && told != identity.TokenIdentifier {
		return nil, fmt.Errorf("the tokenIdentifier %.100q is not the issuer and the subject joined by |", told)
	}
	return identity, nil
}

func decodeClaims(text []byte) (claims map[string]any, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil {
		return nil, fmt.Errorf("the claims are not a JSON object: %w", err)
	}
	if claims == nil || d.More() {
		return nil, errors.New("the claims are not one JSON object")
	}
	return claims, nil
}

// newIdentity makes an identity of fields with the names that its JSON has.
func newIdentity(fields, claims map[string]any) (*Identity, error) {
	i := &Identity{claims: make(map[string]json.RawMessage, len(claims))}
	text := func(name string, into *string) { *into, _ = fields[name].(string) }
	yes := func(name string, into *bool) {
		switch v := fields[name].(type) {
		case bool:
			*into = v
		case string: // as some providers write it
			*into = v == "true"
		}
	}
	text("issuer", &i.Issuer)
	text("subject", &i.Subject)
	if i.Issuer == "" || i.Subject == "" {
		return nil, errors.New("there is no issuer or no subject")
	}
	i.TokenIdentifier = i.Issuer + "|" + i.Subject
	text("name", &i.Name)
	text("givenName", &i.GivenName)
	text("familyName", &i.FamilyName)
	text("nickname", &i.Nickname)
	text("preferredUsername", &i.PreferredUsername)
	text("profileUrl", &i.ProfileURL)
	text("pictureUrl", &i.PictureURL)
	text("email", &i.Email)
	yes("emailVerified", &i.EmailVerified)
	text("gender", &i.Gender)
	text("birthday", &i.Birthday)
	text("timezone", &i.Timezone)
	text("language", &i.Language)
	text("phoneNumber", &i.PhoneNumber)
	yes("phoneNumberVerified", &i.PhoneNumberVerified)
	switch v := fields["address"].(type) {
	case string:
		i.Address = v
	case map[string]any: // as OpenID Connect has it
		i.Address, _ = v["formatted"].(string)
	}
	switch v := fields["updatedAt"].(type) {
	case string:
		i.UpdatedAt = v
	case json.Number: // seconds since 1970
		if seconds, err := v.Float64(); err == nil && seconds > -6e10 && seconds < 2.5e11 {
			i.UpdatedAt = time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
		}
	}
	for name, v := range claims {
		raw, err := json.Marshal(v) // in one form, whatever the token's was
		if err != nil {
			return nil, fmt.Errorf("claim %q: %w", name, err)
		}
		i.claims[name] = raw
	}
	all, err := json.Marshal([]any{i, i.claims}) // maps are written in the order of their keys
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	i.key = sha256.Sum256(all)
	return i, nil
}

// keyOf returns the key of an identity or of nobody.
func keyOf(i *Identity) (key identityKey) {
	if i != nil {
		key = i.key
	}
	return key
}

// Identity returns the user who makes the call, and false when nobody has signed in. Scheduled functions and crons run for nobody.
//
// A query that does not call it gives the same answer to everybody and is run once for all who watch it. One that does is run for each
// user who watches it.
func (tx *Tx) Identity() (Identity, bool) {
	tx.toldIdentity = true
	if tx.identity == nil {
		return Identity{}, false
	}
	return *tx.identity, true
}

// Identity returns the user who makes the call, and false when nobody has signed in. The functions that the action runs are run for the same
// user; what it schedules is not.
func (c *Ctx) Identity() (Identity, bool) {
	if identity := c.identity.Load(); identity != nil {
		return *identity, true
	}
	return Identity{}, false
}

type identityContextKey struct{}

// WithIdentity returns a context for an HTTP request of a user: the handlers of [Module.HTTP] and [Module.Socket] run for them.
func WithIdentity(ctx context.Context, i *Identity) context.Context {
	return context.WithValue(ctx, identityContextKey{}, i)
}

func identityOf(ctx context.Context) *Identity {
	i, _ := ctx.Value(identityContextKey{}).(*Identity)
	return i
}

// String names the user.
func (i Identity) String() string { return strings.ToValidUTF8(i.TokenIdentifier, "\ufffd") }
