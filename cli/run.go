package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
)

// runVerb is `run`.
type runVerb struct {
	Storage storageFlags `embed:"" prefix:"storage."`
	Log     logFlags     `embed:"" prefix:"log."`

	Function string `arg:"" help:"MODULE:FUNCTION, for example stats:getStats."`
	Args     string `arg:"" optional:"" name:"args" default:"{}" help:"The arguments as one JSON object; {} when left out."`
}

// Help is the part of the help page below the flags.
func (runVerb) Help() string {
	return `Opens the data itself, so no server may have it open. Values without a place in JSON are written as {"$integer": ...}, {"$float": ...} and {"$bytes": ...}, in the arguments and in the result. What the function logs goes to standard error.`
}

// Run calls the function.
func (v *runVerb) Run(e *env, app *halcyon.App) (err error) {
	args, err := value.ParseJSON([]byte(v.Args))
	if err != nil || args.Kind() != value.KindObject {
		if err == nil {
			err = errors.New("not an object")
		}
		return usageError{hinted{fmt.Errorf("read the arguments: %w", err), `give one JSON object, quoted for your shell: '{"limit": 10}'`}}
	}
	if _, ok := app.Kind(v.Function); !ok {
		return usageError{hinted{fmt.Errorf("there is no function %q", v.Function), "a function is named MODULE:FUNCTION, for example stats:getStats"}}
	}
	if err := openApp(e, app, v.Storage, v.Log.logger(e.stderr)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeApp(app)) }()

	outcome, err := app.Call(e.ctx, halcyon.Request{Path: v.Function, Args: args, Admin: true})
	for _, line := range outcome.Logs {
		fmt.Fprintln(e.stderr, line)
	}
	if err != nil {
		return fmt.Errorf("run %s: %w", v.Function, err)
	}
	if outcome.Failure != nil {
		err := fmt.Errorf("%s failed: %s", v.Function, strings.TrimSpace(outcome.Failure.Message))
		if outcome.Failure.Code == halcyon.CodeDiskFull {
			return hinted{err, "free some space; or keep less of it free, with --storage.free-min 200MiB"}
		}
		return err
	}
	result := outcome.Value
	if result.IsUndefined() {
		result = value.Null()
	}
	_, err = fmt.Fprintf(e.stdout, "%s\n", value.AppendJSON(nil, result))
	return err
}
