package halcyon

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Errors of admin keys.
var (
	// ErrBadAdminKey says that a text is no admin key of this database: it never was, or it is revoked.
	ErrBadAdminKey = errors.New("not an admin key of this database")
	// ErrAdminKeyExists says that another admin key has the name.
	ErrAdminKeyExists = errors.New("an admin key of that name exists")
	// ErrNoAdminKey says that no admin key has the name.
	ErrNoAdminKey = errors.New("there is no admin key of that name")
)

// AdminKey is what is known of an admin key: who shows the key may call internal functions and act as anybody. The key itself is not kept.
type AdminKey struct {
	Name     string
	Created  time.Time
	LastUsed time.Time // at most a minute early; zero when it was never used
}

// adminKeyTable is the App's own: one document for each admin key, with the SHA-256 of its secret. A secret is 256 random bits, so there is
// nothing to guess that a slow hash would make harder.
var adminKeyTable = engine.TableDef{
	Name:    engineName(systemModule, "adminKeys"),
	Indexes: []engine.IndexDef{{Name: "by_name", Fields: []string{"name"}, Unique: true}},
}

// CreateAdminKey makes an admin key under a name, such as the person or the script that will use it. It returns the key, which is the only
// time that anybody sees it: "NAME|" and 64 hexadecimal digits. A name is 1 to 64 letters, digits, dots, dashes and underscores. When
// another key has it, the error is ErrAdminKeyExists.
func (a *App) CreateAdminKey(ctx context.Context, name string) (key string, err error) {
	r := a.running.Load()
	if r == nil {
		return "", ErrNotOpen
	}
	if !adminKeyName(name) {
		return "", fmt.Errorf("admin key name %q: use 1 to %d letters, digits, dots, dashes and underscores", cut(name, 2*nameBytesMax, "..."), nameBytesMax)
	}
	var secret [adminSecretBytes]byte
	_, _ = rand.Read(secret[:]) // never fails
	hash := sha256.Sum256(secret[:])
	_, err = r.db.Mutate(ctx, engine.Call{Name: "create an admin key"}, func(tx *engine.Tx) ([]byte, error) {
		switch _, found, err := r.findAdminKey(tx, name); {
		case err != nil:
			return nil, err
		case found:
			return nil, ErrAdminKeyExists
		}
		_, err := tx.Insert(r.db.Table(adminKeyTable.Name), value.Object(
			value.Field{Name: "name", Value: value.String(name)},
			value.Field{Name: "hash", Value: value.Bytes(hash[:])},
			value.Field{Name: "created", Value: encodeTime(tx.Now())},
		))
		return nil, err
	})
	if err != nil {
		return "", fmt.Errorf("create admin key %q: %w", name, err)
	}
	return name + "|" + hex.EncodeToString(secret[:]), nil
}

// AdminKeys returns what is known of the admin keys, by name.
func (a *App) AdminKeys(ctx context.Context) ([]AdminKey, error) {
	r := a.running.Load()
	if r == nil {
		return nil, ErrNotOpen
	}
	var keys []AdminKey
	_, err := r.db.Query(ctx, "list admin keys", func(tx *engine.Tx) error {
		keys = nil
		for d, err := range tx.Scan(r.db.Table(adminKeyTable.Name).Index("by_name"), engine.Range{}, false) {
			if err != nil {
				return err
			}
			keys = append(keys, adminKeyOf(d))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list admin keys: %w", err)
	}
	return keys, nil
}

// RevokeAdminKey ends the use of an admin key, also on connections that have shown it. When none has the name, the error is ErrNoAdminKey.
func (a *App) RevokeAdminKey(ctx context.Context, name string) error {
	r := a.running.Load()
	if r == nil {
		return ErrNotOpen
	}
	_, err := r.db.Mutate(ctx, engine.Call{Name: "revoke an admin key"}, func(tx *engine.Tx) ([]byte, error) {
		d, found, err := r.findAdminKey(tx, name)
		switch {
		case err != nil:
			return nil, err
		case !found:
			return nil, ErrNoAdminKey
		}
		return nil, tx.Delete(r.db.Table(adminKeyTable.Name), d.ID)
	})
	if err != nil {
		return fmt.Errorf("revoke admin key %q: %w", cut(name, 2*nameBytesMax, "..."), err)
	}
	r.revoked.Add(1)
	return nil
}

// AdminKeysRevoked counts the admin keys that were revoked since Open: who keeps a key for longer than one call checks it again when the
// number has changed.
func (a *App) AdminKeysRevoked() uint64 {
	if r := a.running.Load(); r != nil {
		return r.revoked.Load()
	}
	return 0
}

// CheckAdminKey returns what is known of an admin key, and ErrBadAdminKey when it is none. It notes that the key was used.
func (a *App) CheckAdminKey(ctx context.Context, key string) (AdminKey, error) {
	r := a.running.Load()
	if r == nil {
		return AdminKey{}, ErrNotOpen
	}
	name, digits, _ := strings.Cut(key, "|")
	secret, err := hex.DecodeString(digits[:min(len(digits), 2*adminSecretBytes+1)])
	if err != nil || len(secret) != adminSecretBytes || !adminKeyName(name) {
		return AdminKey{}, ErrBadAdminKey
	}
	hash := sha256.Sum256(secret)
	var known engine.Document
	right := false
	_, err = r.db.Query(ctx, "check admin key", func(tx *engine.Tx) error {
		d, _, err := r.findAdminKey(tx, name)
		stored, _ := d.Fields.Get("hash").AsBytes()
		known, right = d, subtle.ConstantTimeCompare(stored, hash[:]) == 1
		return err
	})
	switch {
	case err != nil:
		return AdminKey{}, fmt.Errorf("check an admin key: %w", err)
	case !right:
		return AdminKey{}, ErrBadAdminKey
	}
	found := adminKeyOf(known)
	if now := r.clock.Now(); now.Sub(found.LastUsed) >= adminKeyUsedEvery {
		if err := r.noteAdminKey(ctx, known.ID, now); err != nil {
			r.logger.Warn("could not note that an admin key was used", "key", name, "error", err)
		}
	}
	return found, nil
}

const (
	adminSecretBytes  = 32
	adminKeyUsedEvery = time.Minute // between two notes of the use of a key
)

// noteAdminKey writes when a key was used last.
func (r *runtime) noteAdminKey(ctx context.Context, id value.ID, now time.Time) error {
	_, err := r.db.Mutate(ctx, engine.Call{Name: "note the use of an admin key", Relaxed: true, Early: true}, func(tx *engine.Tx) ([]byte, error) {
		table := r.db.Table(adminKeyTable.Name)
		if _, found, err := tx.Get(table, id); err != nil || !found {
			return nil, err // revoked meanwhile
		}
		return nil, tx.Patch(table, id, value.Object(value.Field{Name: "lastUsed", Value: encodeTime(now)}))
	})
	return err
}

func (r *runtime) findAdminKey(tx *engine.Tx, name string) (d engine.Document, found bool, err error) {
	byName := r.db.Table(adminKeyTable.Name).Index("by_name")
	for d, err := range tx.Scan(byName, engine.Range{Eq: []value.Value{value.String(name)}}, false) {
		return d, err == nil, err
	}
	return d, false, nil
}

func adminKeyOf(d engine.Document) AdminKey {
	name, _ := d.Fields.Get("name").AsString()
	return AdminKey{Name: name, Created: storedTime(d, "created"), LastUsed: storedTime(d, "lastUsed")}
}

func adminKeyName(name string) bool {
	return name != "" && len(name) <= nameBytesMax && pathText(name, "._-")
}
