package halcyon_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
)

func TestAdminKeys(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clock := enginetest.NewClock(start)
	app := openApp(t, halcyon.Options{Engine: engine.Options{Clock: clock}})
	ctx := t.Context()
	ann, err := app.CreateAdminKey(ctx, "ann")
	if err != nil || !regexp.MustCompile(`^ann\|[0-9a-f]{64}$`).MatchString(ann) {
		t.Fatalf("created %q, %v", ann, err)
	}
	bob, err := app.CreateAdminKey(ctx, "bob-2")
	if err != nil || strings.TrimPrefix(bob, "bob-2|") == strings.TrimPrefix(ann, "ann|") {
		t.Fatalf("created %q, %v beside %q", bob, err, ann)
	}
	if _, err := app.CreateAdminKey(ctx, "ann"); !errors.Is(err, halcyon.ErrAdminKeyExists) {
		t.Errorf("second key of a name: %v", err)
	}
	for _, name := range []string{"", "a|b", "a b", strings.Repeat("x", 65), "é"} {
		if key, err := app.CreateAdminKey(ctx, name); err == nil {
			t.Errorf("name %q: created %q", name, key)
		}
	}

	flipped := []byte(ann)
	if last := &flipped[len(flipped)-1]; *last == '0' {
		*last = '1'
	} else {
		*last = '0'
	}
	for _, tt := range []struct{ name, key string }{
		{"nothing", ""},
		{"name only", "ann"},
		{"no secret", "ann|"},
		{"short", ann[:len(ann)-2]},
		{"long", ann + "00"},
		{"very long", "ann|" + strings.Repeat("0", 1<<20)},
		{"one digit off", string(flipped)},
		{"not hexadecimal", "ann|" + strings.Repeat("g", 64)},
		{"of another name", "bob-2|" + strings.TrimPrefix(ann, "ann|")},
		{"of no name", "eve|" + strings.TrimPrefix(ann, "ann|")},
		{"two bars", "ann|" + ann},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := app.CheckAdminKey(ctx, tt.key); !errors.Is(err, halcyon.ErrBadAdminKey) {
				t.Errorf("%q: %+v, %v", tt.key, got, err)
			}
		})
	}

	list := func(want ...halcyon.AdminKey) {
		t.Helper()
		got, err := app.AdminKeys(ctx)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("keys (-want +got):\n%s%v", diff, err)
		}
	}
	list(halcyon.AdminKey{Name: "ann", Created: start}, halcyon.AdminKey{Name: "bob-2", Created: start})
	clock.Advance(time.Hour)
	if got, err := app.CheckAdminKey(ctx, ann); err != nil || got.Name != "ann" {
		t.Errorf("right key: %+v, %v", got, err)
	}
	used := halcyon.AdminKey{Name: "ann", Created: start, LastUsed: start.Add(time.Hour)}
	if err := app.RevokeAdminKey(ctx, "bob-2"); err != nil {
		t.Error(err)
	}
	list(used)
	clock.Advance(59 * time.Second) // so soon again is not worth a write
	if _, err := app.CheckAdminKey(ctx, ann); err != nil {
		t.Error(err)
	}
	list(used)
	if n := app.AdminKeysRevoked(); n != 1 {
		t.Errorf("%d keys revoked, want 1", n)
	}
	if _, err := app.CheckAdminKey(ctx, bob); !errors.Is(err, halcyon.ErrBadAdminKey) {
		t.Errorf("revoked key: %v", err)
	}
	if err := app.RevokeAdminKey(ctx, "bob-2"); !errors.Is(err, halcyon.ErrNoAdminKey) {
		t.Errorf("revoked twice: %v", err)
	}
}

// A key outlives the process that made it, and neither it nor its secret is in any file.
func TestAdminKeyIsStoredAsItsHash(t *testing.T) {
	fs := vfs.NewMem()
	app, err := halcyon.NewApp()
	if err != nil {
		t.Fatal(err)
	}
	open := func() {
		t.Helper()
		if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: fs}}); err != nil {
			t.Fatal(err)
		}
	}
	open()
	key, err := app.CreateAdminKey(t.Context(), "ann")
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	secret := strings.TrimPrefix(key, "ann|")
	raw, err := hex.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.Sum256(raw)
	hashed := false
	names, err := fs.List("data")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		f, err := fs.Open(fs.PathJoin("data", name))
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			continue // a folder
		}
		hashed = hashed || bytes.Contains(content, hash[:])
		if bytes.Contains(content, []byte(secret)) || bytes.Contains(content, raw) {
			t.Errorf("%s holds the secret", name)
		}
	}
	if !hashed {
		t.Errorf("the hash is in none of %q", names)
	}
	open()
	if _, err := app.CheckAdminKey(t.Context(), key); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if err := app.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := app.CheckAdminKey(t.Context(), key); !errors.Is(err, halcyon.ErrNotOpen) {
		t.Errorf("closed: %v", err)
	}
}
