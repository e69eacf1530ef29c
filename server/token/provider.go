package token

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Provider is an identity provider that is trusted to tell who its users are.
type Provider struct {
	// Issuer is the URL by which the provider calls itself, the claim iss of its tokens. A slash at its end makes no difference.
	Issuer string
	// Audience is what the provider calls this application: its client id. The claim aud of a token must hold it. It may be left out when
	// JWKS is set, and then tokens for every application of the provider are accepted.
	Audience string
	// JWKS is where the provider's keys are: the URL of a JSON Web Key Set with the scheme https, http, file or data. When it is empty,
	// they are found by OpenID Connect discovery.
	JWKS string
	// Algorithms are those that the provider signs with, of RS256, ES256 and EdDSA. Empty: all of these.
	Algorithms []string
}

// providersMax is how many providers a Verifier takes.
const providersMax = 100

// ParseProviders reads providers as Convex's auth.config has them: a JSON array, or an object with the array as "providers", of objects
// {domain, applicationID} for OpenID Connect and {type: "customJwt", issuer, jwks, algorithm, applicationID?} for others. Fields with other
// names are mistakes.
func ParseProviders(text []byte) ([]Provider, error) {
	type entry struct {
		Type          string `json:"type"`
		Domain        string `json:"domain"`
		Issuer        string `json:"issuer"`
		JWKS          string `json:"jwks"`
		Algorithm     string `json:"algorithm"`
		ApplicationID string `json:"applicationID"`
	}
	var entries []entry
	var into any = &entries
	var wrapped struct {
		Providers []entry `json:"providers"`
	}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		into = &wrapped
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil && d.More() {
		err = errors.New("something follows the list")
	}
	if err != nil {
		return nil, fmt.Errorf("identity providers: not a JSON array of {domain, applicationID} and {type, issuer, jwks, algorithm, applicationID}: %w", err)
	}
	entries = append(entries, wrapped.Providers...)
	var out []Provider
	for i, e := range entries {
		p := Provider{Issuer: e.Domain, Audience: e.ApplicationID}
		switch {
		case e.Type == "" && (e.Issuer != "" || e.JWKS != "" || e.Algorithm != ""), e.Type == "customJwt" && e.Domain != "":
			return nil, fmt.Errorf(`identity provider %d: domain belongs to one found by discovery; issuer, jwks and algorithm to one with type "customJwt"`, i+1)
		case e.Type == "":
		case e.Type != "customJwt":
			return nil, fmt.Errorf(`identity provider %d: the type %q is not "customJwt"`, i+1, e.Type)
		case e.JWKS == "" || e.Algorithm == "":
			return nil, fmt.Errorf("identity provider %d: jwks or algorithm is missing", i+1)
		default:
			p.Issuer, p.JWKS, p.Algorithms = e.Issuer, e.JWKS, []string{e.Algorithm}
		}
		if e.Domain != "" && !strings.Contains(e.Domain, "://") {
			p.Issuer = "https://" + e.Domain
		}
		out = append(out, p)
	}
	return out, nil
}

// check says what is wrong with a provider.
func (p Provider) check() error {
	u, err := url.Parse(p.Issuer)
	switch {
	case p.Issuer == "":
		return errors.New("it has no issuer")
	case err != nil:
		return fmt.Errorf("issuer: %w", err)
	case p.JWKS == "" && (u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != ""):
		return fmt.Errorf("the issuer %q is not the URL of a provider, such as https://accounts.example.com", p.Issuer)
	case p.JWKS == "" && p.Audience == "":
		return fmt.Errorf("provider %s has no application: tokens for everybody's applications would be accepted", p.Issuer)
	}
	for _, a := range p.Algorithms {
		if !slices.Contains(algorithmNames, a) {
			return fmt.Errorf("provider %s: the algorithm %q is not one of %s", p.Issuer, a, strings.Join(algorithmNames, ", "))
		}
	}
	if p.JWKS == "" {
		return nil
	}
	u, err = url.Parse(p.JWKS)
	switch {
	case err != nil && strings.HasPrefix(p.JWKS, "data:"):
	case err != nil:
		return fmt.Errorf("provider %s: jwks: %w", p.Issuer, err)
	case u.Scheme == "data", u.Scheme == "file" && u.Path != "" && u.Host == "", (u.Scheme == "https" || u.Scheme == "http") && u.Host != "":
	default:
		return fmt.Errorf("provider %s: jwks %.100q is not a URL with the scheme https, http, file or data", p.Issuer, p.JWKS)
	}
	if strings.HasPrefix(p.JWKS, "data:") {
		text, err := decodeDataURI(p.JWKS)
		if err == nil {
			_, err = parseKeys(text)
		}
		if err != nil {
			return fmt.Errorf("provider %s: jwks: %w", p.Issuer, err)
		}
	}
	return nil
}

// sameIssuer compares issuers; some providers write their own with and without a slash at the end.
func sameIssuer(a, b string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(b, "/") }
