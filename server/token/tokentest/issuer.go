package tokentest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/halcyon-db/halcyon/server/token"
)

// Audience is the application that the tokens of an Issuer are for.
const Audience = "app"

// Issuer is an identity provider that listens on this machine until the test ends.
type Issuer struct {
	URL string
	// Fetches counts how often its keys were fetched.
	Fetches atomic.Int64
	// Now is the time of the tokens. Default: time.Now.
	Now func() time.Time

	tb testing.TB
	mu struct {
		sync.Mutex
		down    bool
		keys    int // made so far
		signing signingKey
		set     jose.JSONWebKeySet
	}
}

type signingKey struct {
	id        string
	algorithm jose.SignatureAlgorithm
	private   crypto.Signer
}

// New starts an issuer that signs with ES256.
func New(tb testing.TB) *Issuer {
	tb.Helper()
	i := &Issuer{tb: tb, Now: time.Now}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.answer(w, map[string]string{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		i.Fetches.Add(1)
		i.answer(w, i.JWKS())
	})
	server := httptest.NewServer(mux)
	tb.Cleanup(server.Close)
	i.URL = server.URL
	i.Rotate(jose.ES256)
	return i
}

func (i *Issuer) answer(w http.ResponseWriter, v any) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.mu.down {
		http.Error(w, "down", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

// SetDown makes the issuer answer with errors, or not any more.
func (i *Issuer) SetDown(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.mu.down = down
}

// Provider returns what to configure.
func (i *Issuer) Provider() token.Provider { return token.Provider{Issuer: i.URL, Audience: Audience} }

// JWKS returns the public keys.
func (i *Issuer) JWKS() jose.JSONWebKeySet {
	i.mu.Lock()
	defer i.mu.Unlock()
	return jose.JSONWebKeySet{Keys: append([]jose.JSONWebKey{}, i.mu.set.Keys...)}
}

// Rotate makes a new key, RS256, ES256 or EdDSA, and signs with it. Only its last key and the one before are published.
func (i *Issuer) Rotate(algorithm jose.SignatureAlgorithm) {
	i.tb.Helper()
	var private crypto.Signer
	var err error
	switch algorithm {
	case jose.RS256:
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case jose.EdDSA:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	default:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		i.tb.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.mu.keys++
	i.mu.signing = signingKey{id: fmt.Sprintf("key-%d", i.mu.keys), algorithm: algorithm, private: private}
	public := jose.JSONWebKey{Key: private.Public(), KeyID: i.mu.signing.id, Algorithm: string(algorithm), Use: "sig"}
	i.mu.set.Keys = append(i.mu.set.Keys, public)
	if n := len(i.mu.set.Keys); n > 2 {
		i.mu.set.Keys = append([]jose.JSONWebKey{}, i.mu.set.Keys[n-2:]...)
	}
}

// Token returns a token for a user that ends after a time. Each one is different. more are claims to add or, when nil, to leave out.
func (i *Issuer) Token(subject string, lasts time.Duration, more map[string]any) string {
	i.tb.Helper()
	now := i.Now()
	claims := map[string]any{
		"iss": i.URL, "sub": subject, "aud": Audience, "name": subject, "jti": fmt.Sprint(tokens.Add(1)),
		"iat": now.Unix(), "exp": float64(now.Add(lasts).UnixMilli()) / 1000,
	}
	maps.Copy(claims, more)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	payload, err := json.Marshal(claims)
	if err != nil {
		i.tb.Fatal(err)
	}
	i.mu.Lock()
	signing := i.mu.signing
	i.mu.Unlock()
	return Sign(i.tb, signing.algorithm, signing.private, signing.id, payload)
}

var tokens atomic.Int64

// Sign signs a payload with any key.
func Sign(tb testing.TB, algorithm jose.SignatureAlgorithm, private any, id string, payload []byte) string {
	tb.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: private, KeyID: id}}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		tb.Fatal(err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}
