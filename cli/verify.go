package cli

import (
	"encoding/json"
	"fmt"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/server"
)

// verifyVerb is `verify`.
type verifyVerb struct {
	targetFlags

	JSON bool `name:"json" help:"Print the report as one JSON object."`
}

// Help is the part of the help page below the flags.
func (verifyVerb) Help() string {
	return `Reads everything and checks that it agrees with itself: that every document decodes, that indexes and aggregates have exactly what the documents call for, that the change records form one chain. The status is 1 when something is wrong. ` + targetHelp
}

// Run verifies.
func (v *verifyVerb) Run(e *env, app *halcyon.App) (err error) {
	return v.on(e, app, func(t *target) error {
		out, err := e.verify(t)
		if err != nil {
			return err
		}
		if v.JSON {
			if err := json.NewEncoder(e.stdout).Encode(out); err != nil {
				return err
			}
		} else {
			for _, f := range out.Faults {
				fmt.Fprintln(e.stdout, engine.Fault{Table: f.Table, Part: f.Part, ID: f.ID, What: f.What})
			}
			fmt.Fprintf(e.stdout, "%d documents, %d entries of indexes and aggregates, %d change records: %d faults.\n", out.Documents, out.Entries, out.Records, out.FaultsTotal)
		}
		where := v.Storage.Dir
		if v.URL != "" {
			where = v.URL
		}
		return foundFaults(where, out.FaultsTotal)
	})
}

// verify verifies, and says on standard error how far it is.
func (e *env) verify(t *target) (out server.Verified, err error) {
	err = t.Told(e.ctx, "verify", nil, nil, func(progress json.RawMessage) {
		var r server.Verified
		if json.Unmarshal(progress, &r) == nil {
			fmt.Fprintf(e.stderr, "verified %d documents, %d entries, %d change records\n", r.Documents, r.Entries, r.Records)
		}
	}, &out)
	if err != nil {
		return out, fmt.Errorf("verify: %w", err)
	}
	return out, nil
}

// foundFaults is the error that a report with so many faults is.
func foundFaults(where string, faults int64) error {
	if faults == 0 {
		return nil
	}
	return hinted{
		fmt.Errorf("%s contradicts itself in %d places", where, faults),
		"keep a copy of it as it is, restore a backup, and report it",
	}
}
