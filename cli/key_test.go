package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon"
)

func TestKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	key := func(args ...string) outcome {
		return call(t, "", append(append([]string{"key"}, args...), "--storage.dir", dir, "--log.level=error")...)
	}
	if got := key("list"); got.status != exitOK || got.stdout != "" || !strings.Contains(got.stderr, "no admin keys") {
		t.Errorf("list of none: %+v", got)
	}
	made := key("create", "ann")
	if made.status != exitOK || !regexp.MustCompile(`^ann\|[0-9a-f]{64}\n$`).MatchString(made.stdout) || !strings.Contains(made.stderr, "not shown again") {
		t.Fatalf("create: %+v", made)
	}
	if got := key("create", "ann"); got.status != exitFailed || got.stdout != "" || !strings.Contains(got.stderr, "prog key revoke") {
		t.Errorf("create again: %+v", got)
	}
	if got := key("create", "a|b"); got.status != exitFailed || !strings.Contains(got.stderr, "letters, digits") {
		t.Errorf("create with a bad name: %+v", got)
	}
	if got := key("create"); got.status != exitUsage {
		t.Errorf("create without a name: %+v", got)
	}

	app, err := halcyon.NewApp(testModule())
	if err != nil {
		t.Fatal(err)
	}
	check := func() error {
		if err := app.Open(dir, nil); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := app.Close(); err != nil {
				t.Fatal(err)
			}
		}()
		_, err := app.CheckAdminKey(t.Context(), strings.TrimSpace(made.stdout))
		return err
	}
	if err := check(); err != nil {
		t.Errorf("the key that was printed: %v", err)
	}
	var listed struct {
		Name              string
		Created, LastUsed time.Time
	}
	got := key("list", "--json")
	if err := json.Unmarshal([]byte(got.stdout), &listed); err != nil || listed.Name != "ann" || listed.Created.IsZero() || listed.LastUsed.Before(listed.Created) {
		t.Errorf("list --json: %+v, %v", got, err)
	}
	if got := key("list"); !regexp.MustCompile(`^NAME +CREATED +LAST USED\nann +20\S+Z +20\S+Z\n$`).MatchString(got.stdout) {
		t.Errorf("list: %q", got.stdout)
	}
	if got := key("revoke", "ann"); got.status != exitOK || got.stderr != "Revoked ann.\n" {
		t.Errorf("revoke: %+v", got)
	}
	if got := key("revoke", "ann"); got.status != exitFailed || !strings.Contains(got.stderr, "prog key list") {
		t.Errorf("revoke again: %+v", got)
	}
	if err := check(); err == nil {
		t.Error("the revoked key is still good")
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info, err)
	}
}
