package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/server"
)

// keyVerb is `key`.
type keyVerb struct {
	Create createKeyVerb `cmd:"" help:"Make an admin key and print it, once."`
	List   listKeysVerb  `cmd:"" help:"List the admin keys: their names, and when they were made and used."`
	Revoke revokeKeyVerb `cmd:"" help:"End the use of an admin key."`
}

// createKeyVerb is `key create`.
type createKeyVerb struct {
	targetFlags

	Name string `arg:"" help:"Who or what will use it: letters, digits, dots, dashes and underscores."`
}

// Help is the part of the help page below the flags.
func (createKeyVerb) Help() string {
	return `Who shows an admin key may call internal functions and act as any user: ` +
		`"Authorization: Convex KEY" over HTTP, setAdminAuth in the official clients. The database keeps a hash of the key only, so it can't be shown again. ` + targetHelp
}

// Run makes the key and prints it to standard output, with nothing else.
func (v *createKeyVerb) Run(e *env, app *halcyon.App) error {
	return v.on(e, app, func(t *target) error {
		body, err := json.Marshal(map[string]string{"name": v.Name})
		if err != nil {
			return err
		}
		var made struct{ Key string }
		if err := t.Post(e.ctx, "keys", body, &made); err != nil {
			return err
		}
		fmt.Fprintln(e.stderr, "Keep this key as you keep a password; it is not shown again.")
		_, err = fmt.Fprintln(e.stdout, made.Key)
		return err
	})
}

// listKeysVerb is `key list`.
type listKeysVerb struct {
	targetFlags

	JSON bool `name:"json" help:"Print one JSON object for each key."`
}

// Help is the part of the help page below the flags.
func (listKeysVerb) Help() string { return targetHelp }

// Run lists the keys.
func (v *listKeysVerb) Run(e *env, app *halcyon.App) error {
	return v.on(e, app, func(t *target) error {
		var keys []server.ListedKey
		if err := t.Get(e.ctx, "keys", nil, &keys); err != nil {
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

func writeKeys(w io.Writer, keys []server.ListedKey) error {
	out := json.NewEncoder(w)
	for _, k := range keys {
		if err := out.Encode(k); err != nil {
			return err
		}
	}
	return nil
}

func tabulateKeys(w io.Writer, keys []server.ListedKey) error {
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
	targetFlags

	Name string `arg:"" help:"The name of the key."`
}

// Help is the part of the help page below the flags.
func (revokeKeyVerb) Help() string { return targetHelp }

// Run revokes the key.
func (v *revokeKeyVerb) Run(e *env, app *halcyon.App) error {
	return v.on(e, app, func(t *target) error {
		resp, err := t.Do(e.ctx, http.MethodDelete, "keys", url.Values{"name": {v.Name}}, nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		fmt.Fprintf(e.stderr, "Revoked %s.\n", v.Name)
		return nil
	})
}
