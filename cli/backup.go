package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/server"
)

// backupVerb is `backup`.
type backupVerb struct {
	targetFlags

	To   string `arg:"" complete:"file" help:"Folder to make; it must not exist. With --url, a folder of the server's machine."`
	JSON bool   `name:"json" help:"Print what was made as one JSON object."`
}

// Help is the part of the help page below the flags.
func (backupVerb) Help() string {
	return `Makes a copy of the data in a folder that opens as data of its own, while everything goes on. On the same file system the files are hard links, which take no time and no room, and are no help when that disk is lost: copy the folder to another one. ` + targetHelp
}

// copied is a copy as it is printed.
type copied struct {
	Dir       string    `json:"dir"`
	At        uint64    `json:"at"` // microseconds since 1970: what was committed until then is in it
	Time      time.Time `json:"time"`
	Files     int       `json:"files"`
	Bytes     int64     `json:"bytes"`
	Documents int64     `json:"documents,omitempty"` // of a restored one, which was verified
}

// Run makes a backup.
func (v *backupVerb) Run(e *env, app *halcyon.App) (err error) {
	to := v.To
	if v.URL == "" {
		// The process that makes the folder may work in another one.
		if to, err = filepath.Abs(to); err != nil {
			return err
		}
	}
	return v.on(e, app, func(t *target) error {
		body, err := json.Marshal(map[string]string{"dir": to})
		if err != nil {
			return err
		}
		var made server.BackupMade
		if err := t.Post(e.ctx, "backup", body, &made); err != nil {
			err = fmt.Errorf("back up: %w", err)
			var refused *server.OperatorError
			if errors.As(err, &refused) && refused.Code == "Exists" {
				return explainTarget(v.To, fmt.Errorf("%w: %w", err, engine.ErrExists))
			}
			if refused != nil && refused.Code == "NotPermitted" {
				return hinted{err, "who opened the data makes the copy, here the running server: name a folder that it may make, as /var/lib/halcyon-backups/NAME with the systemd unit"}
			}
			return err
		}
		at := engine.Timestamp(made.At)
		return e.printCopy(v.JSON, copied{Dir: v.To, At: made.At, Time: at.Time().UTC(), Files: made.Files, Bytes: made.Bytes})
	})
}

func (e *env) printCopy(asJSON bool, c copied) error {
	if asJSON {
		return json.NewEncoder(e.stdout).Encode(c)
	}
	_, err := fmt.Fprintf(e.stdout, "%s: as of %s, %d files, %d bytes\n", c.Dir, c.Time.Format(time.RFC3339Nano), c.Files, c.Bytes)
	return err
}

// explainTarget says what to do when a copy cannot be made.
func explainTarget(dir string, err error) error {
	if errors.Is(err, engine.ErrExists) || errors.Is(err, fs.ErrExist) {
		return hinted{err, fmt.Sprintf("%s is there already: name a folder that does not exist", dir)}
	}
	return explainOpen("", dir, err)
}

// restoreVerb is `restore`.
type restoreVerb struct {
	Storage storageFlags `embed:"" prefix:"storage."`
	Log     logFlags     `embed:"" prefix:"log."`

	From string `arg:"" complete:"file" help:"Folder of a backup. It stays as it is."`
	JSON bool   `name:"json" help:"Print what was restored as one JSON object."`
}

// Help is the part of the help page below the flags.
func (restoreVerb) Help() string {
	return `Copies a backup to the folder that --storage.dir names, which must not exist or be empty, and verifies the copy. The folder gets its name when it is whole and right; until then it is called DIR.partial.`
}

// Run restores.
func (v *restoreVerb) Run(e *env, app *halcyon.App) error {
	dir := filepath.Clean(v.Storage.Dir)
	partial := dir + ".partial"
	if names, err := os.ReadDir(dir); err == nil && len(names) > 0 {
		return explainTarget(dir, fmt.Errorf("restore to %s: %w", dir, engine.ErrExists))
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explainTarget(dir, fmt.Errorf("restore to %s: %w", dir, err))
	}
	if markers, err := filepath.Glob(filepath.Join(globEscape(v.From), "marker.manifest.*")); err != nil || len(markers) == 0 {
		return hinted{fmt.Errorf("restore %s: %w", v.From, engine.ErrNotDatabase), "name a folder that `backup` made, or a copy of one"}
	}
	if err := os.RemoveAll(partial); err != nil { // of an attempt that was cut short
		return explainTarget(dir, err)
	}
	out, err := e.copyFolder(v.From, partial)
	if err != nil {
		return errors.Join(explainTarget(dir, fmt.Errorf("restore %s: %w", v.From, err)), os.RemoveAll(partial))
	}
	report, err := v.verifyCopy(e, app, partial)
	if err != nil {
		// What was copied stays, to be looked at.
		return err
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return explainTarget(dir, err)
	}
	if err := os.Rename(partial, dir); err != nil {
		return explainTarget(dir, err)
	}
	if err := syncPath(filepath.Dir(dir)); err != nil {
		return err
	}
	out.Dir, out.At, out.Time, out.Documents = dir, report.At, engine.Timestamp(report.At).Time().UTC(), report.Documents
	return e.printCopy(v.JSON, out)
}

func (v *restoreVerb) verifyCopy(e *env, app *halcyon.App, partial string) (report server.Verified, err error) {
	flags := targetFlags{Storage: v.Storage, Log: v.Log}
	flags.Storage.Dir = partial
	err = flags.on(e, app, func(t *target) error {
		if report, err = e.verify(t); err != nil {
			return err
		}
		return foundFaults(partial, report.FaultsTotal)
	})
	return report, err
}

// copyFolder copies the files of a folder and syncs them.
func (e *env) copyFolder(from, to string) (out copied, err error) {
	entries, err := os.ReadDir(from)
	if err != nil {
		return out, err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return out, err
	}
	said := time.Now()
	for i, entry := range entries {
		if err := e.ctx.Err(); err != nil {
			return out, err
		}
		if !entry.Type().IsRegular() || entry.Name() == "LOCK" || entry.Name() == "BALLAST" {
			continue
		}
		n, err := copyFile(e.ctx, filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name()))
		if err != nil {
			return out, err
		}
		out.Files++
		out.Bytes += n
		if time.Since(said) >= time.Second {
			said = time.Now()
			fmt.Fprintf(e.stderr, "copied %d of %d files, %d bytes\n", i+1, len(entries), out.Bytes)
		}
	}
	return out, syncPath(to)
}

func copyFile(ctx context.Context, from, to string) (n int64, err error) {
	in, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(out, readerOf{ctx, in})
	return n, errors.Join(err, out.Sync(), out.Close())
}

// readerOf is a reader that ends with a context.
type readerOf struct {
	ctx context.Context // of one copy
	r   io.Reader
}

func (r readerOf) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// syncPath makes the names in a folder durable.
func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// globEscape makes a path that stands for itself in a pattern.
func globEscape(path string) string {
	var b []byte
	for i := range len(path) {
		switch path[i] {
		case '*', '?', '[', '\\':
			b = append(b, '\\')
		}
		b = append(b, path[i])
	}
	return string(b)
}
