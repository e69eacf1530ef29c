package cli

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon"
)

// migrateVerb is `migrate`.
type migrateVerb struct {
	Storage storageFlags `embed:"" prefix:"storage."`
	Log     logFlags     `embed:"" prefix:"log."`

	DryRun bool `help:"Run every migration and keep nothing of it."`
	JSON   bool `name:"json" help:"Print one JSON object for each migration."`
}

// Help is the part of the help page below the flags.
func (migrateVerb) Help() string {
	return `Opens the data itself, so no server may have it open. "serve" runs the migrations that are not done by itself, before it listens; this is for trying them on a copy, or for doing them at a time of your choice. One that fails says for which document, and goes on there the next time.`
}

// Run migrates.
func (v *migrateVerb) Run(e *env, app *halcyon.App) (err error) {
	if err := openApp(e, app, v.Storage, v.Log.logger(e.stderr)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeApp(app)) }()

	done, err := app.Migrate(e.ctx, halcyon.MigrateOptions{DryRun: v.DryRun, Progress: func(m halcyon.Migrated) {
		fmt.Fprintf(e.stderr, "%s: %d documents\n", m.Name, m.Seen)
	}})
	for _, m := range done {
		if v.JSON {
			line, jsonErr := json.Marshal(m)
			if jsonErr != nil {
				return jsonErr
			}
			fmt.Fprintf(e.stdout, "%s\n", line)
			continue
		}
		fmt.Fprintf(e.stdout, "%s: %d documents of %s, %d changed, %d removed\n", m.Name, m.Seen, m.Table, m.Changed, m.Removed)
	}
	if err != nil {
		return err
	}
	switch {
	case v.JSON:
	case len(done) == 0:
		fmt.Fprintln(e.stdout, "There is nothing to migrate.")
	case v.DryRun:
		fmt.Fprintln(e.stdout, "Nothing of it was kept.")
	}
	return nil
}
