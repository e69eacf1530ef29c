package stats

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon/apps/stats/internal/accesslog"
)

// visitorNames gives visitors of a log their ids: a keyed hash of address and
// agent. There is a random key for each day, and it lives as long as the run, so
// that nobody can find an address by hashing all there are, and one visitor has
// unrelated ids on two days.
//
// A run that is killed is to go on with the same keys, or those who were here
// before and after would be two. So they are kept in a file while the run lasts,
// beside the data and not in it: what the database has written stays in its log
// and its backups for a while. A run that ends removes its file, and so does the
// next one with files that nobody has come back to.
type visitorNames struct {
	random io.Reader
	file   string // "" keeps them in memory alone
	keys   map[string][]byte
	saved  bool
	own    map[string]bool // days whose key no other process has named anybody with
}

const (
	keyFilePrefix = "import-"
	keyFileSuffix = ".key"

	// keyFileAgeMax is how old the file of a run may be before others remove it.
	keyFileAgeMax = 7 * 24 * time.Hour
)

// newVisitorNames returns the names of a run, or of the one that it continues.
// known says that the keys of that one were found.
func newVisitorNames(random io.Reader, dir, run string) (v *visitorNames, known bool, err error) {
	v = &visitorNames{random: random, keys: make(map[string][]byte), saved: true, own: make(map[string]bool)}
	if dir == "" {
		return v, false, nil
	}
	v.file = filepath.Join(dir, keyFilePrefix+run+keyFileSuffix)
	text, err := os.ReadFile(v.file)
	if errors.Is(err, fs.ErrNotExist) {
		return v, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	var kept map[string]string
	if err := json.Unmarshal(text, &kept); err != nil {
		return v, false, nil // it was cut short when it was written; the keys in it are of no day yet
	}
	for day, key := range kept {
		if v.keys[day], err = hex.DecodeString(key); err != nil || len(v.keys[day]) != sha256.Size {
			delete(v.keys, day)
		}
	}
	return v, len(v.keys) > 0, nil
}

// newRun returns a name for a run.
func newRun() string { return strings.ToLower(rand.Text()) }

// key returns the key of a day.
func (v *visitorNames) key(day string) []byte {
	key := v.keys[day]
	if key == nil {
		key = make([]byte, sha256.Size)
		if _, err := io.ReadFull(v.random, key); err != nil {
			panic(fmt.Sprintf("stats: the source of random bytes failed: %v", err)) // crypto/rand never does
		}
		v.keys[day], v.saved, v.own[day] = key, false, true
	}
	return key
}

// name returns the id of the visitor who made a request: on each site of a log with
// several another one, since a visitor is one of a site.
func (v *visitorNames) name(e *accesslog.Entry, site string) string {
	hash := hmac.New(sha256.New, v.key(e.Time.Format(time.DateOnly)))
	// An address has no zero byte, so that no two visitors are written alike.
	_, _ = io.WriteString(hash, e.Address) // a hash takes everything
	_, _ = hash.Write([]byte{0})
	_, _ = io.WriteString(hash, e.Agent)
	if site != "" {
		_, _ = hash.Write([]byte{0}) // as above; an agent with one is none that there is
		_, _ = io.WriteString(hash, site)
	}
	sum := hash.Sum(nil)
	return "log-" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15]))
}

// save keeps the keys, if there are new ones. It has to be called before what was
// named with them is stored.
func (v *visitorNames) save() error {
	if v.saved || v.file == "" {
		return nil
	}
	kept := make(map[string]string, len(v.keys))
	for day, key := range v.keys {
		kept[day] = hex.EncodeToString(key)
	}
	text, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	// Beside and renamed, so that a crash leaves the old ones.
	if err := os.WriteFile(v.file+".new", text, 0o600); err != nil {
		return fmt.Errorf("keep the keys of the import: %w", err)
	}
	if err := os.Rename(v.file+".new", v.file); err != nil {
		return fmt.Errorf("keep the keys of the import: %w", err)
	}
	v.saved = true
	return nil
}

// forget gives up the keys of days before one: who was here then can't be told
// from an address any more, by anybody.
func (v *visitorNames) forget(before time.Time) {
	first := before.UTC().Format(time.DateOnly)
	for day := range v.keys {
		if day < first {
			delete(v.keys, day)
			delete(v.own, day)
			v.saved = false
		}
	}
}

// adopt takes the keys of a run that was cut short, and keeps them as its own.
func (v *visitorNames) adopt(old *visitorNames) error {
	for day, key := range old.keys {
		if v.keys[day] == nil {
			v.keys[day], v.saved = key, false
		}
	}
	return v.save()
}

// end removes the keys: the run has come to its end.
func (v *visitorNames) end() error {
	if v.file == "" {
		return nil
	}
	return errors.Join(removeIfThere(v.file), removeIfThere(v.file+".new"))
}

func removeIfThere(file string) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// removeOldKeys removes the files of runs that nobody has come back to.
func removeOldKeys(dir string, now time.Time) error {
	if dir == "" {
		return nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), keyFilePrefix) || !strings.Contains(entry.Name(), keyFileSuffix) {
			continue
		}
		info, err := entry.Info()
		if err == nil && now.Sub(info.ModTime()) > keyFileAgeMax {
			err = removeIfThere(filepath.Join(dir, entry.Name()))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
