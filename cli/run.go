package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
)

// runVerb is `run`.
type runVerb struct {
	targetFlags

	Function string `arg:"" complete:"function" help:"MODULE:FUNCTION, for example stats:getStats."`
	Args     string `arg:"" optional:"" name:"args" default:"{}" help:"The arguments as one JSON object; {} when left out."`
}

// Help is the part of the help page below the flags.
func (runVerb) Help() string {
	return `Values without a place in JSON are written as {"$integer": ...}, {"$float": ...} and {"$bytes": ...}, in the arguments and in the result. What the function logs goes to standard error. ` + targetHelp
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
	if _, ok := app.Kind(v.Function); !ok && v.URL == "" {
		return usageError{hinted{fmt.Errorf("there is no function %q", v.Function), "a function is named MODULE:FUNCTION, for example stats:getStats"}}
	}
	return v.on(e, app, func(t *target) error { return v.call(e, t, args) })
}

func (v *runVerb) call(e *env, t *target, args value.Value) error {
	body := value.AppendJSON(nil, value.Object(
		value.Field{Name: "path", Value: value.String(v.Function)},
		value.Field{Name: "args", Value: args},
	))
	resp, err := t.Do(e.ctx, http.MethodPost, "call", nil, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("run %s: %w", v.Function, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("run %s: the answer was cut short: %w", v.Function, err)
	}
	answer, err := value.ParseJSON(text)
	if err != nil {
		return fmt.Errorf("run %s: read the answer: %w", v.Function, err)
	}
	for i := range answer.Get("logLines").Len() {
		line, _ := answer.Get("logLines").Index(i).AsString()
		fmt.Fprintln(e.stderr, line)
	}
	if status, _ := answer.Get("status").AsString(); status != "success" {
		message, _ := answer.Get("errorMessage").AsString()
		err := fmt.Errorf("%s failed: %s", v.Function, strings.TrimSpace(message))
		if resp.Header.Get("X-Halcyon-Code") == string(halcyon.CodeDiskFull) {
			return hinted{err, "free some space; or keep less of it free, with --storage.free-min 200MiB"}
		}
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "%s\n", value.AppendJSON(nil, answer.Get("value")))
	return err
}
