package token_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/server/token"
	"github.com/halcyon-db/halcyon/server/token/tokentest"
)

// clock is a time that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func verifier(t testing.TB, c *clock, providers ...token.Provider) *token.Verifier {
	t.Helper()
	v, err := token.New(providers, &token.Options{Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func issuer(t testing.TB, c *clock) *tokentest.Issuer {
	i := tokentest.New(t)
	i.Now = c.Now
	return i
}

// refused checks that a token is refused with a code.
func refused(t *testing.T, v *token.Verifier, text string, want token.Code) {
	t.Helper()
	got, err := v.Verify(t.Context(), text)
	var bad *token.Error
	if !errors.As(err, &bad) || bad.Code != want || bad.Message == "" {
		t.Errorf("%.200s: %+v, %v; want %s", text, got, err, want)
	}
}

func TestVerify(t *testing.T) {
	c := newClock()
	i := issuer(t, c)
	v := verifier(t, c, i.Provider())
	for _, algorithm := range []jose.SignatureAlgorithm{jose.ES256, jose.RS256, jose.EdDSA} {
		i.Rotate(algorithm)
		c.advance(time.Minute)
		got, err := v.Verify(t.Context(), i.Token("ann", time.Hour, map[string]any{"role": "x", "aud": []string{"other", tokentest.Audience}}))
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		var role string
		if _, err := got.Identity.Claim("role", &role); err != nil || role != "x" || got.Identity.TokenIdentifier != i.URL+"|ann" || got.Identity.Name != "ann" {
			t.Errorf("%s: %+v, role %q, %v", algorithm, got.Identity, role, err)
		}
		if want := c.Now().Add(time.Hour + token.Leeway); !got.Ends.Equal(want) {
			t.Errorf("%s: ends at %v, want %v", algorithm, got.Ends, want)
		}
	}
}

// Every way in which a token can be bad, and those at the limit that are still good.
func TestRefusals(t *testing.T) {
	c := newClock()
	i, other := issuer(t, c), issuer(t, c)
	v := verifier(t, c, i.Provider())
	good := i.Token("ann", time.Hour, nil)
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(good, ".")
	b64 := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	weak, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	// The public key of the issuer as the secret of an HMAC, the oldest trick.
	public := i.JWKS().Keys[0]
	der, err := x509.MarshalPKIXPublicKey(public.Key)
	if err != nil {
		t.Fatal(err)
	}
	confused := tokentest.Sign(t, jose.HS256, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), public.KeyID, payload)
	now := c.Now().Unix()
	for _, tt := range []struct {
		name, token string
		want        token.Code // "": it is good
	}{
		{"nothing", "", token.CodeMalformed},
		{"no token", "hello", token.CodeMalformed},
		{"two parts", parts[0] + "." + parts[1], token.CodeMalformed},
		{"four parts", good + "." + parts[2], token.CodeMalformed},
		{"too long", parts[0] + "." + parts[1] + "." + strings.Repeat("A", token.BytesMax), token.CodeMalformed},
		{"JSON form", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, token.CodeMalformed},
		{"alg none", b64(`{"alg":"none"}`) + "." + parts[1] + ".", token.CodeMalformed},
		{"alg None with a signature", b64(`{"alg":"None","kid":"key-1"}`) + "." + parts[1] + "." + parts[2], token.CodeMalformed},
		{"alg missing", b64(`{"kid":"key-1"}`) + "." + parts[1] + "." + parts[2], token.CodeMalformed},
		{"HMAC with the public key", confused, token.CodeMalformed},
		{"another algorithm in the header", b64(`{"alg":"RS256","kid":"key-1"}`) + "." + parts[1] + "." + parts[2], token.CodeSignature},
		{"RS512", tokentest.Sign(t, jose.RS512, weak, "key-1", payload), token.CodeMalformed},
		{"critical header", b64(`{"alg":"ES256","kid":"key-1","crit":["x"],"x":1}`) + "." + parts[1] + "." + parts[2], token.CodeSignature},
		{"a key of its own in the header", tokentest.Sign(t, jose.RS256, weak, "key-9", payload), token.CodeSignature},
		{"signed by another with its key id", tokentest.Sign(t, jose.RS256, weak, "key-1", payload), token.CodeSignature},
		{"changed payload", parts[0] + "." + b64(strings.Replace(string(payload), "ann", "bob", 1)) + "." + parts[2], token.CodeSignature},
		{"no signature", parts[0] + "." + parts[1] + ".", token.CodeSignature},
		{"signature of another token", parts[0] + "." + parts[1] + "." + strings.Split(i.Token("bob", time.Hour, nil), ".")[2], token.CodeSignature},
		{"unknown issuer", other.Token("ann", time.Hour, nil), token.CodeNoProvider},
		{"issuer of another", other.Token("ann", time.Hour, map[string]any{"iss": i.URL}), token.CodeSignature},
		{"issuer in capitals only", i.Token("ann", time.Hour, map[string]any{"iss": nil, "ISS": i.URL}), token.CodeMalformed},
		{"issuer with a slash", i.Token("ann", time.Hour, map[string]any{"iss": i.URL + "/"}), ""},
		{"issuer with a path", i.Token("ann", time.Hour, map[string]any{"iss": i.URL + "/x"}), token.CodeNoProvider},
		{"issuer is a number", i.Token("ann", time.Hour, map[string]any{"iss": 7}), token.CodeMalformed},
		{"another audience", i.Token("ann", time.Hour, map[string]any{"aud": "other"}), token.CodeNoProvider},
		{"part of the audience", i.Token("ann", time.Hour, map[string]any{"aud": tokentest.Audience + "x"}), token.CodeNoProvider},
		{"no audience", i.Token("ann", time.Hour, map[string]any{"aud": nil}), token.CodeNoProvider},
		{"audience is a number", i.Token("ann", time.Hour, map[string]any{"aud": 7}), token.CodeMalformed},
		{"several audiences", i.Token("ann", time.Hour, map[string]any{"aud": []string{"x", tokentest.Audience}}), ""},
		{"no subject", i.Token("ann", time.Hour, map[string]any{"sub": nil}), token.CodeMalformed},
		{"empty subject", i.Token("", time.Hour, nil), token.CodeMalformed},
		{"no end", i.Token("ann", time.Hour, map[string]any{"exp": nil}), token.CodeMalformed},
		{"end in capitals only", i.Token("ann", time.Hour, map[string]any{"exp": nil, "EXP": now + 60}), token.CodeMalformed},
		{"end in capitals too", i.Token("ann", time.Hour, map[string]any{"exp": now - 60, "EXP": now + 60}), token.CodeExpired},
		{"end is a text", i.Token("ann", time.Hour, map[string]any{"exp": "tomorrow"}), token.CodeMalformed},
		{"end is far", i.Token("ann", time.Hour, map[string]any{"exp": 1e300}), token.CodeMalformed},
		{"end is negative", i.Token("ann", time.Hour, map[string]any{"exp": -1}), token.CodeMalformed},
		{"ended within the leeway", i.Token("ann", time.Hour, map[string]any{"exp": now - 4}), ""},
		{"ended before the leeway", i.Token("ann", time.Hour, map[string]any{"exp": now - 5}), token.CodeExpired},
		{"begins within the leeway", i.Token("ann", time.Hour, map[string]any{"nbf": now + 5}), ""},
		{"begins after the leeway", i.Token("ann", time.Hour, map[string]any{"nbf": now + 6}), token.CodeSignature},
		{"begin is a text", i.Token("ann", time.Hour, map[string]any{"nbf": "x"}), token.CodeMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.want == "" {
				if _, err := v.Verify(t.Context(), tt.token); err != nil {
					t.Errorf("%s: %v", tt.token, err)
				}
				return
			}
			refused(t, v, tt.token, tt.want)
		})
	}
	refused(t, verifier(t, c), good, token.CodeNoProvider)
	only := i.Provider()
	only.Algorithms = []string{"RS256"}
	refused(t, verifier(t, c, only), good, token.CodeNoProvider)
}

// A key that is not known yet is fetched, but made-up ones do not make the server fetch again and again.
func TestRotation(t *testing.T) {
	c := newClock()
	i := issuer(t, c)
	v := verifier(t, c, i.Provider())
	old := i.Token("ann", 24*time.Hour, nil)
	check := func(text string, fetches int64) {
		t.Helper()
		if _, err := v.Verify(t.Context(), text); err != nil {
			t.Error(err)
		}
		if got := i.Fetches.Load(); got != fetches {
			t.Errorf("%d fetches, want %d", got, fetches)
		}
	}
	check(old, 1)
	check(old, 1)
	c.advance(time.Minute)
	i.Rotate(jose.EdDSA)
	check(i.Token("ann", time.Hour, nil), 2)
	check(old, 2)
	forged := tokentest.Sign(t, jose.HS256, make([]byte, 32), "key-7", []byte(`{}`))
	refused(t, v, forged, token.CodeMalformed)
	_, private := mustEd25519(t)
	payload := fmt.Sprintf(`{"iss":%q,"aud":"app","sub":"eve","exp":%d}`, i.URL, c.Now().Unix()+60)
	for n := range 100 {
		refused(t, v, tokentest.Sign(t, jose.EdDSA, private, fmt.Sprintf("made-up-%d", n), []byte(payload)), token.CodeSignature)
	}
	if got := i.Fetches.Load(); got != 4 {
		t.Errorf("%d fetches for 100 made-up keys, want 2 beside the one of before", got-2)
	}
	c.advance(30 * time.Second)
	for range 100 {
		refused(t, v, tokentest.Sign(t, jose.EdDSA, private, "made-up", []byte(payload)), token.CodeSignature)
	}
	if got := i.Fetches.Load(); got != 7 {
		t.Errorf("%d fetches for 100 made-up keys, want 3 in 30 s", got-4)
	}
	// A key that the provider has withdrawn is good until the keys are fetched again.
	i.Rotate(jose.ES256)
	c.advance(time.Minute)
	check(i.Token("ann", time.Hour, nil), 8)
	refused(t, v, old, token.CodeSignature)
}

// A provider that can't be reached is not the end of users who have keys, for a day.
func TestProviderThatIsDown(t *testing.T) {
	c := newClock()
	i := issuer(t, c)
	v := verifier(t, c, i.Provider())
	i.SetDown(true)
	text := i.Token("ann", 100*time.Hour, nil)
	refused(t, v, text, token.CodeUnavailable)
	refused(t, v, text, token.CodeUnavailable)
	refused(t, v, text, token.CodeUnavailable)
	i.SetDown(false)
	refused(t, v, text, token.CodeUnavailable) // it was asked three times just now
	c.advance(30 * time.Second)
	if _, err := v.Verify(t.Context(), text); err != nil {
		t.Fatal(err)
	}
	i.SetDown(true)
	c.advance(23 * time.Hour)
	if _, err := v.Verify(t.Context(), text); err != nil {
		t.Errorf("with keys of 23 h: %v", err)
	}
	c.advance(time.Hour)
	refused(t, v, text, token.CodeUnavailable)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.advance(time.Minute)
	if _, err := v.Verify(ctx, text); !errors.Is(err, context.Canceled) {
		t.Errorf("nobody waits any more: %v", err)
	}
}

func TestKeySources(t *testing.T) {
	c := newClock()
	i := issuer(t, c)
	jwks, err := json.Marshal(i.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keys.json")
	if err := os.WriteFile(path, jwks, 0o600); err != nil {
		t.Fatal(err)
	}
	text := i.Token("ann", time.Hour, nil)
	for _, tt := range []struct{ name, jwks string }{
		{"URL", i.URL + "/keys"},
		{"file", "file://" + path},
		{"data", "data:application/json," + url.PathEscape(string(jwks))},
		{"data in base64", "data:text/plain;charset=utf-8;base64," + base64.StdEncoding.EncodeToString(jwks)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := verifier(t, c, token.Provider{Issuer: i.URL, JWKS: tt.jwks})
			if got, err := v.Verify(t.Context(), text); err != nil || got.Identity.Subject != "ann" {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}

// What a provider answers is not trusted to be small or its own.
func TestBadProviders(t *testing.T) {
	c := newClock()
	answers := map[string]string{}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(answers[r.URL.Path])) })
	mux.HandleFunc("/loop", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/loop", http.StatusFound) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	answers["/big"] = `{"keys":[]` + strings.Repeat(" ", 1<<20) + `}`
	answers["/many"] = `{"keys":[` + strings.Repeat(`{},`, 100) + `{}]}`
	answers["/none"] = `{"keys":[{"kty":"oct","k":"AAAA","kid":"a"},{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"?"},7]}`
	answers["/other/.well-known/openid-configuration"] = `{"issuer":"https://victim.test","jwks_uri":"` + server.URL + `/none"}`
	answers["/file/.well-known/openid-configuration"] = `{"issuer":"` + server.URL + `/file","jwks_uri":"file:///etc/passwd"}`
	answers["/text/.well-known/openid-configuration"] = `hello`
	i := issuer(t, c)
	for _, tt := range []struct{ name, jwks, issuer, want string }{
		{"too big", server.URL + "/big", "", "1048576 bytes"},
		{"too many keys", server.URL + "/many", "", "more than 100"},
		{"no key that fits", server.URL + "/none", "", "and none for"},
		{"no JSON", server.URL + "/empty", "", "key set"},
		{"redirects for ever", server.URL + "/loop", "", "redirects"},
		{"no such file", "file:///nothing/there", "", "no such file"},
		{"speaks for another", "", server.URL + "/other", "calls itself"},
		{"points to a file", "", server.URL + "/file", "jwks_uri"},
		{"no description", "", server.URL + "/text", "openid-configuration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := token.Provider{Issuer: tt.issuer, JWKS: tt.jwks, Audience: tokentest.Audience}
			if p.Issuer == "" {
				p.Issuer = i.URL
			}
			_, err := verifier(t, c, p).Verify(t.Context(), i.Token("ann", time.Hour, map[string]any{"iss": p.Issuer}))
			var bad *token.Error
			if !errors.As(err, &bad) || bad.Code != token.CodeUnavailable || !strings.Contains(fmt.Sprint(errors.Unwrap(bad)), tt.want) {
				t.Errorf("%v: %v; want a cause with %q", err, errors.Unwrap(err), tt.want)
			}
		})
	}
}

func TestParseProviders(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []token.Provider
	}{
		{"none", `[]`, nil},
		{"discovery", `[{"domain":"https://a.test","applicationID":"x"}]`, []token.Provider{{Issuer: "https://a.test", Audience: "x"}}},
		{"without a scheme", `{"providers":[{"domain":"a.test","applicationID":"x"}]}`, []token.Provider{{Issuer: "https://a.test", Audience: "x"}}},
		{"custom", `[{"type":"customJwt","issuer":"i","jwks":"https://a.test/k","algorithm":"EdDSA"}]`,
			[]token.Provider{{Issuer: "i", JWKS: "https://a.test/k", Algorithms: []string{"EdDSA"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := token.ParseProviders([]byte(tt.text))
			if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", ``, "not a JSON array"},
		{"unknown field", `[{"domain":"a","applicationId2":"x"}]`, "unknown field"},
		{"two lists", `[] []`, "follows"},
		{"unknown type", `[{"type":"saml"}]`, "customJwt"},
		{"mixed", `[{"domain":"a","jwks":"b"}]`, "discovery"},
		{"no algorithm", `[{"type":"customJwt","issuer":"i","jwks":"https://a"}]`, "algorithm is missing"},
		{"no application", `[{"domain":"a.test"}]`, "no application"},
		{"no issuer", `[{"applicationID":"x"}]`, "no issuer"},
		{"issuer is no URL", `[{"domain":"ftp://a","applicationID":"x"}]`, "not the URL"},
		{"HS256", `[{"type":"customJwt","issuer":"i","jwks":"https://a/k","algorithm":"HS256"}]`, "HS256"},
		{"jwks is no URL", `[{"type":"customJwt","issuer":"i","jwks":"keys.json","algorithm":"ES256"}]`, "scheme"},
		{"bad data", `[{"type":"customJwt","issuer":"i","jwks":"data:,{}","algorithm":"ES256"}]`, "none for"},
		{"bad base64", `[{"type":"customJwt","issuer":"i","jwks":"data:;base64,###","algorithm":"ES256"}]`, "base64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			providers, err := token.ParseProviders([]byte(tt.text))
			if err == nil {
				_, err = token.New(providers, nil)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, want %q", tt.text, err, tt.want)
			}
		})
	}
}
