package cli

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/halcyon-db/halcyon/server/token"
)

// authFlags say whose tokens are good.
type authFlags struct {
	Providers string `env:"HALCYON_AUTH_PROVIDERS" placeholder:"FILE" help:"Identity providers whose users may sign in: a JSON file, or the JSON itself, such as '[{\"domain\": \"https://accounts.example.com\", \"applicationID\": \"my-app\"}]'."`
}

const authHint = "name a file with a JSON array of {\"domain\", \"applicationID\"} for OpenID Connect, or {\"type\": \"customJwt\", \"issuer\", \"jwks\", \"algorithm\"}; see docs/guide/identity.md"

// verifier returns what verifies the tokens of users.
func (f authFlags) verifier(logger *slog.Logger) (*token.Verifier, error) {
	var providers []token.Provider
	if f.Providers != "" {
		text := []byte(f.Providers)
		if trimmed := strings.TrimSpace(f.Providers); !strings.HasPrefix(trimmed, "[") && !strings.HasPrefix(trimmed, "{") {
			var err error
			if text, err = os.ReadFile(f.Providers); err != nil {
				return nil, usageError{hinted{fmt.Errorf("read the identity providers: %w", err), authHint}}
			}
		}
		var err error
		if providers, err = token.ParseProviders(text); err != nil {
			return nil, usageError{hinted{err, authHint}}
		}
	}
	v, err := token.New(providers, &token.Options{Logger: logger})
	if err != nil {
		return nil, usageError{hinted{err, authHint}}
	}
	return v, nil
}
