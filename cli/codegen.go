package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/halcyon-db/halcyon"
)

// codegenVerb is `codegen`.
type codegenVerb struct {
	Out   string `complete:"file" default:"./halcyon" placeholder:"DIR" help:"Folder to write to; made when missing. (default: ${default})"`
	Check bool   `help:"Write nothing, and fail when a file is not what would be written."`
}

// Help is the part of the help page below the flags.
func (codegenVerb) Help() string {
	return `Writes api.js, api.d.ts and dataModel.d.ts, which make the program's public functions and documents known to TypeScript: import { api } from "./halcyon/api", then useQuery(api.stats.getStats). Needs no data and no server. Commit the files, and let CI run it with --check.`
}

// Run writes the files.
func (v *codegenVerb) Run(e *env, app *halcyon.App) error {
	files := app.TypeScript()
	if !v.Check {
		if err := os.MkdirAll(v.Out, 0o755); err != nil {
			return fmt.Errorf("make the folder of the generated files: %w", err)
		}
	}
	var stale []error
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(v.Out, name)
		have, err := os.ReadFile(path)
		if err == nil && string(have) == files[name] {
			continue // an unchanged file is left as it is, for what watches it
		}
		if v.Check {
			stale = append(stale, hinted{fmt.Errorf("%s is not what the program's types are", path), fmt.Sprintf("run %s codegen --out %s and commit what it writes", e.program, v.Out)})
			continue
		}
		if err := os.WriteFile(path, []byte(files[name]), 0o644); err != nil {
			return fmt.Errorf("write the types: %w", err)
		}
		fmt.Fprintln(e.stdout, path)
	}
	return errors.Join(stale...)
}
