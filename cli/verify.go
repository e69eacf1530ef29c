package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// verifyVerb is `verify`.
type verifyVerb struct {
	Storage storageFlags `embed:"" prefix:"storage."`
	Log     logFlags     `embed:"" prefix:"log."`

	JSON bool `name:"json" help:"Print the report as one JSON object."`
}

// Help is the part of the help page below the flags.
func (verifyVerb) Help() string {
	return `Reads everything and checks that it agrees with itself: that every document decodes, that indexes and aggregates have exactly what the documents call for, that the change records form one chain. Opens the data itself, so no server may have it open. The status is 1 when something is wrong.`
}

// verified is a report as it is printed.
type verified struct {
	OK          bool    `json:"ok"`
	At          uint64  `json:"at"` // microseconds since 1970
	Documents   int64   `json:"documents"`
	Entries     int64   `json:"entries"`
	Records     int64   `json:"records"`
	FaultsTotal int64   `json:"faultsTotal"`
	Faults      []fault `json:"faults"`
}

type fault struct {
	Table string `json:"table,omitempty"`
	Part  string `json:"part,omitempty"`
	ID    string `json:"id,omitempty"`
	What  string `json:"what"`
}

// Run verifies.
func (v *verifyVerb) Run(e *env, app *halcyon.App) (err error) {
	if err := openApp(e, app, v.Storage, v.Log.logger(e.stderr)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeApp(app)) }()
	report, err := verifyApp(e, app)
	if err != nil {
		return explainOpen(e.program, v.Storage.Dir, err)
	}
	out := verified{
		OK: report.OK(), At: uint64(report.At), Documents: report.Documents, Entries: report.Entries, Records: report.Records,
		FaultsTotal: report.FaultsTotal, Faults: []fault{},
	}
	for _, f := range report.Faults {
		out.Faults = append(out.Faults, fault{f.Table, f.Part, f.ID, f.What})
	}
	if v.JSON {
		if err := json.NewEncoder(e.stdout).Encode(out); err != nil {
			return err
		}
	} else {
		for _, f := range report.Faults {
			fmt.Fprintln(e.stdout, f)
		}
		fmt.Fprintf(e.stdout, "%d documents, %d entries of indexes and aggregates, %d change records: %d faults.\n", out.Documents, out.Entries, out.Records, out.FaultsTotal)
	}
	return foundFaults(v.Storage.Dir, report)
}

// verifyApp verifies, and says on standard error how far it is.
func verifyApp(e *env, app *halcyon.App) (engine.Report, error) {
	said := time.Now()
	report, err := app.Verify(e.ctx, func(r engine.Report) {
		if time.Since(said) < time.Second {
			return
		}
		said = time.Now()
		fmt.Fprintf(e.stderr, "verified %d documents, %d entries, %d change records\n", r.Documents, r.Entries, r.Records)
	})
	if err != nil {
		return report, fmt.Errorf("verify: %w", err)
	}
	return report, nil
}

// foundFaults is the error that a report is, if it is one.
func foundFaults(dir string, r engine.Report) error {
	if r.OK() {
		return nil
	}
	return hinted{
		fmt.Errorf("%s contradicts itself in %d places", dir, r.FaultsTotal),
		"keep a copy of it as it is, restore a backup, and report it",
	}
}
