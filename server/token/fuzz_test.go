package token_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/server/token"
	"github.com/halcyon-db/halcyon/server/token/tokentest"
)

func mustEd25519(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

// Nothing but what the issuer signed is good, whatever it looks like.
func FuzzVerify(f *testing.F) {
	c := newClock()
	i := issuer(f, c)
	v := verifier(f, c, i.Provider())
	good := i.Token("ann", time.Hour, nil)
	f.Add(good)
	f.Add(good[:len(good)-2])
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1In0.")
	f.Add(`{"payload":"","signatures":[{}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := v.Verify(t.Context(), text); err == nil && text != good && got.Identity.Subject != "ann" {
			t.Errorf("%q is taken for a token of %+v", text, got.Identity)
		}
	})
}

// Any key set is read or refused.
func FuzzKeySet(f *testing.F) {
	i := tokentest.New(f)
	good, err := json.Marshal(i.JWKS())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"keys":[{"kty":"EC","crv":"P-256","x":"","y":""},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		_, _ = token.New([]token.Provider{{Issuer: "i", JWKS: "data:;base64," + base64.StdEncoding.EncodeToString(text)}}, nil)
	})
}
