package cli

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/server/token/tokentest"
)

func TestAuthProviders(t *testing.T) {
	issuer := tokentest.New(t)
	text := `[{"domain": "` + issuer.URL + `", "applicationID": "` + tokentest.Audience + `"}]`
	file := filepath.Join(t.TempDir(), "providers.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{text, file} {
		v, err := authFlags{Providers: flag}.verifier(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s: %v", flag, err)
		}
		if got, err := v.Verify(t.Context(), issuer.Token("ann", time.Hour, nil)); err != nil || got.Identity.Subject != "ann" {
			t.Errorf("%s: %+v, %v", flag, got, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "data")
	for _, tt := range []struct{ name, flag, want string }{
		{"no such file", "nothing.json", "no such file"},
		{"no JSON", "[", "identity providers"},
		{"no application", `[{"domain":"https://a.test"}]`, "no application"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := call(t, "", "serve", "--storage.dir", dir, "--auth.providers", tt.flag)
			if got.status != exitUsage || !strings.Contains(got.stderr, tt.want) || !strings.Contains(got.stderr, "hint: name a file") {
				t.Errorf("%+v", got)
			}
		})
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("a wrong call has made the folder of the data: %v", err)
	}
}
