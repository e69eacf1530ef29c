package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/halcyon-db/halcyon"
)

// keyVerb is `key`.
type keyVerb struct {
	Create createKeyVerb `cmd:"" help:"Make an admin key and print it, once."`
	List   listKeysVerb  `cmd:"" help:"List the admin keys: their names, and when they were made and used."`
	Revoke revokeKeyVerb `cmd:"" help:"End the use of an admin key."`
}

// keyFlags are those of every verb below.
type keyFlags struct {
	Storage storageFlags `embed:"" prefix:"storage."`
	Log     logFlags     `embed:"" prefix:"log."`
}

const keyHelp = "Opens the data itself, so no server may have it open."

// createKeyVerb is `key create`.
type createKeyVerb struct {
	keyFlags

	Name string `arg:"" help:"Who or what will use it: letters, digits, dots, dashes and underscores."`
}

// Help is the part of the help page below the flags.
func (createKeyVerb) Help() string {
	return `Who shows an admin key may call internal functions and act as any user: ` +
		`"Authorization: Convex KEY" over HTTP, setAdminAuth in the official clients. The database keeps a hash of the key only, so it can't be shown again. ` + keyHelp
}

// Run makes the key and prints it to standard output, with nothing else.
func (v *createKeyVerb) Run(e *env, app *halcyon.App) error {
	return v.open(e, app, func() error {
		key, err := app.CreateAdminKey(e.ctx, v.Name)
		if err != nil {
			return explainKey(e.program, err)
		}
		fmt.Fprintln(e.stderr, "Keep this key as you keep a password; it is not shown again.")
		_, err = fmt.Fprintln(e.stdout, key)
		return err
	})
}

// listKeysVerb is `key list`.
type listKeysVerb struct {
	keyFlags

	JSON bool `name:"json" help:"Print one JSON object for each key."`
}

// Help is the part of the help page below the flags.
func (listKeysVerb) Help() string { return keyHelp }

// Run lists the keys.
func (v *listKeysVerb) Run(e *env, app *halcyon.App) error {
	return v.open(e, app, func() error {
		keys, err := app.AdminKeys(e.ctx)
		if err != nil {
			return err
		}
		if v.JSON {
			return writeKeys(e.stdout, keys)
		}
		if len(keys) == 0 {
			fmt.Fprintf(e.stderr, "There are no admin keys. %s key create NAME makes one.\n", e.program)
			return nil
		}
		return tabulateKeys(e.stdout, keys)
	})
}

// listedKey is a key as a script reads it.
type listedKey struct {
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	LastUsed time.Time `json:"lastUsed,omitzero"`
}

func writeKeys(w io.Writer, keys []halcyon.AdminKey) error {
	out := json.NewEncoder(w)
	for _, k := range keys {
		if err := out.Encode(listedKey(k)); err != nil {
			return err
		}
	}
	return nil
}

func tabulateKeys(w io.Writer, keys []halcyon.AdminKey) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tCREATED\tLAST USED")
	for _, k := range keys {
		used := "never"
		if !k.LastUsed.IsZero() {
			used = k.LastUsed.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", k.Name, k.Created.Format(time.RFC3339), used)
	}
	return table.Flush()
}

// revokeKeyVerb is `key revoke`.
type revokeKeyVerb struct {
	keyFlags

	Name string `arg:"" help:"The name of the key."`
}

// Help is the part of the help page below the flags.
func (revokeKeyVerb) Help() string { return keyHelp }

// Run revokes the key.
func (v *revokeKeyVerb) Run(e *env, app *halcyon.App) error {
	return v.open(e, app, func() error {
		if err := app.RevokeAdminKey(e.ctx, v.Name); err != nil {
			return explainKey(e.program, err)
		}
		fmt.Fprintf(e.stderr, "Revoked %s.\n", v.Name)
		return nil
	})
}

// open runs f while the data is open.
func (v *keyFlags) open(e *env, app *halcyon.App, f func() error) (err error) {
	if err := openApp(e, app, v.Storage, v.Log.logger(e.stderr)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeApp(app)) }()
	return f()
}

// explainKey says what to do about an error of an admin key.
func explainKey(program string, err error) error {
	switch {
	case errors.Is(err, halcyon.ErrAdminKeyExists):
		return hinted{err, fmt.Sprintf("choose another name, or end the use of the old key with %s key revoke", program)}
	case errors.Is(err, halcyon.ErrNoAdminKey):
		return hinted{err, fmt.Sprintf("%s key list shows the names there are", program)}
	}
	return err
}
