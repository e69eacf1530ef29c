package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	documentBytesMax = 1 << 20
	keysMax          = 100
	rsaBitsMin       = 2048
	fetchesMax       = 3 // of one provider's keys in fetchesTime
	fetchesTime      = 30 * time.Second
	renewAfter       = time.Hour      // the age at which keys are fetched again ahead of need
	staleAfter       = 24 * time.Hour // the age at which keys are not trusted any more
	fetchTimeMax     = 10 * time.Second
)

// key is a public key of a provider.
type key struct {
	id        string
	algorithm jose.SignatureAlgorithm // the one that it is for
	public    any
}

// keySet fetches and keeps the keys of one provider.
type keySet struct {
	provider Provider
	client   *http.Client
	now      func() time.Time

	mu struct {
		sync.Mutex
		keys     []key
		fetched  time.Time             // when keys came; zero before
		tried    [fetchesMax]time.Time // when the last fetches began, the oldest first
		err      error                 // of the last fetch
		fetching chan struct{}         // closed when the fetch under way has ended; nil when none is
	}
}

// find returns the keys that may have signed a token with that key id and algorithm. When none is known, the provider may have new ones.
func (s *keySet) find(ctx context.Context, id string, algorithm jose.SignatureAlgorithm) ([]key, error) {
	for again := false; ; again = true {
		s.mu.Lock()
		age := s.now().Sub(s.mu.fetched)
		known := !s.mu.fetched.IsZero() && age < staleAfter
		found := matching(s.mu.keys, id, algorithm)
		err := s.mu.err
		soon := s.mu.fetching == nil && s.now().Sub(s.mu.tried[0]) < fetchesTime
		s.mu.Unlock()
		switch {
		case known && len(found) > 0:
			return found, nil
		case again || soon:
			if known {
				return nil, nil
			}
			if err == nil {
				err = errors.New("no fetch has ended")
			}
			return nil, err
		}
		if err := s.fetch(ctx); err != nil && ctx.Err() != nil {
			return nil, err
		}
	}
}

// matching returns the keys for an algorithm with that id. A token without a key id is of the only key there is.
func matching(keys []key, id string, algorithm jose.SignatureAlgorithm) (found []key) {
	for _, k := range keys {
		if k.algorithm == algorithm && (k.id == id || id == "") {
			found = append(found, k)
		}
	}
	if id == "" && len(found) > 1 {
		return nil
	}
	return found
}

// fetch fetches the keys, or waits for the fetch that is under way. What is known stays when it fails.
func (s *keySet) fetch(ctx context.Context) error {
	s.mu.Lock()
	if under := s.mu.fetching; under != nil {
		s.mu.Unlock()
		select {
		case <-under:
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.mu.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	done := make(chan struct{})
	s.mu.fetching = done
	copy(s.mu.tried[:], s.mu.tried[1:])
	s.mu.tried[fetchesMax-1] = s.now()
	s.mu.Unlock()

	// Others wait for it too, so it does not end with the one who began it.
	fetching, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeMax)
	defer cancel()
	keys, err := s.read(fetching)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.err = err; err == nil {
		s.mu.keys, s.mu.fetched = keys, s.now()
	}
	s.mu.fetching = nil
	close(done)
	return err
}

// read reads the keys from where they are.
func (s *keySet) read(ctx context.Context) ([]key, error) {
	at := s.provider.JWKS
	if at == "" {
		var err error
		if at, err = s.discover(ctx); err != nil {
			return nil, err
		}
	}
	var text []byte
	u, err := url.Parse(at)
	switch {
	case strings.HasPrefix(at, "data:"):
		text, err = decodeDataURI(at)
	case err != nil:
	case u.Scheme == "file" && s.provider.JWKS != "":
		text, err = readFile(u.Path)
	case u.Scheme == "https" || u.Scheme == "http":
		text, err = s.get(ctx, at)
	default:
		err = fmt.Errorf("the keys are at %.100q, which is not a URL to fetch", at)
	}
	if err != nil {
		return nil, err
	}
	return parseKeys(text)
}

// discover returns where the provider's own description says that its keys are.
func (s *keySet) discover(ctx context.Context) (string, error) {
	text, err := s.get(ctx, strings.TrimSuffix(s.provider.Issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return "", err
	}
	var described struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	if err := json.Unmarshal(text, &described); err != nil {
		return "", fmt.Errorf("the provider's openid-configuration: %w", err)
	}
	// Otherwise one provider could speak for another.
	if !sameIssuer(described.Issuer, s.provider.Issuer) {
		return "", fmt.Errorf("the provider calls itself %.200q and is configured as %q", described.Issuer, s.provider.Issuer)
	}
	if u, err := url.Parse(described.JWKSURI); err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return "", fmt.Errorf("the provider's openid-configuration has the jwks_uri %.200q", described.JWKSURI)
	}
	return described.JWKSURI, nil
}

func (s *keySet) get(ctx context.Context, address string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	answer, err := s.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }() // nothing was written
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("GET %s: status %d", address, answer.StatusCode)
	}
	return readDocument(answer.Body)
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // nothing was written
	return readDocument(f)
}

func readDocument(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, documentBytesMax+1))
	if err == nil && len(text) > documentBytesMax {
		err = fmt.Errorf("a document of a provider may have %d bytes", documentBytesMax)
	}
	return text, err
}

// decodeDataURI returns what a data URI holds.
func decodeDataURI(uri string) ([]byte, error) {
	if len(uri) > documentBytesMax {
		return nil, fmt.Errorf("a data URI may have %d bytes", documentBytesMax)
	}
	kind, data, ok := strings.Cut(strings.TrimPrefix(uri, "data:"), ",")
	if !ok {
		return nil, errors.New("the data URI has no comma")
	}
	text, err := url.PathUnescape(data)
	if err != nil {
		return nil, fmt.Errorf("data URI: %w", err)
	}
	if !strings.HasSuffix(kind, ";base64") {
		return []byte(text), nil
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("data URI: %w", err)
	}
	return raw, nil
}

// parseKeys reads a JSON Web Key Set. Keys that can't have signed a token are left out, for providers have those too.
func parseKeys(text []byte) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("the key set: %w", err)
	}
	if len(set.Keys) > keysMax {
		return nil, fmt.Errorf("the key set has %d keys, more than %d", len(set.Keys), keysMax)
	}
	var keys []key
	for _, raw := range set.Keys {
		var jwk jose.JSONWebKey
		if err := json.Unmarshal(raw, &jwk); err != nil || jwk.Use == "enc" || !jwk.Valid() {
			continue
		}
		algorithm := fits(jwk.Key)
		if algorithm == "" || jwk.Algorithm != "" && jwk.Algorithm != string(algorithm) {
			continue
		}
		keys = append(keys, key{id: jwk.KeyID, algorithm: algorithm, public: jwk.Key})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("the key set has %d keys, and none for %s", len(set.Keys), strings.Join(algorithmNames, ", "))
	}
	return keys, nil
}

// algorithmNames are the algorithms that tokens may be signed with.
var algorithmNames = []string{string(jose.RS256), string(jose.ES256), string(jose.EdDSA)}

// fits returns the algorithm that a public key is for, and nothing for other keys. That each key has one algorithm is what keeps a token
// from choosing how it is looked at.
func fits(public any) jose.SignatureAlgorithm {
	switch k := public.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= rsaBitsMin {
			return jose.RS256
		}
	case *ecdsa.PublicKey:
		if k.Curve == elliptic.P256() {
			return jose.ES256
		}
	case ed25519.PublicKey:
		return jose.EdDSA
	}
	return ""
}
