package cli

import (
	"bytes"
	"context"
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
		return usageError{hinted{fmt.Errorf("there is no function %q%s", v.Function, didYouMean(v.Function, functionPaths(app))), "a function is named MODULE:FUNCTION; " + someFunctions(app)}}
	}
	return v.on(e, app, func(t *target) error { return v.call(e, t, args) })
}

func (v *runVerb) call(e *env, t *target, args value.Value) error {
	result, err := t.call(e.ctx, v.Function, args, e.stderr)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "%s\n", value.AppendJSON(nil, result))
	return err
}

// call calls a function. What it logs goes to logs.
func (t *target) call(ctx context.Context, function string, args value.Value, logs io.Writer) (value.Value, error) {
	var none value.Value
	body := value.AppendJSON(nil, value.Object(
		value.Field{Name: "path", Value: value.String(function)},
		value.Field{Name: "args", Value: args},
	))
	resp, err := t.Do(ctx, http.MethodPost, "call", nil, bytes.NewReader(body))
	if err != nil {
		return none, fmt.Errorf("run %s: %w", function, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return none, fmt.Errorf("run %s: the answer was cut short: %w", function, err)
	}
	answer, err := value.ParseJSON(text)
	if err != nil {
		return none, fmt.Errorf("run %s: read the answer: %w", function, err)
	}
	for i := range answer.Get("logLines").Len() {
		line, _ := answer.Get("logLines").Index(i).AsString()
		fmt.Fprintln(logs, line)
	}
	if status, _ := answer.Get("status").AsString(); status != "success" {
		message, _ := answer.Get("errorMessage").AsString()
		failure := &halcyon.Failure{Message: strings.TrimSpace(message), Data: answer.Get("errorData"), Code: halcyon.Code(resp.Header.Get("X-Halcyon-Code"))}
		err := fmt.Errorf("%s failed: %w", function, failure)
		if failure.Code == halcyon.CodeDiskFull {
			return none, hinted{err, "free some space; or keep less of it free, with --storage.free-min 200MiB"}
		}
		return none, err
	}
	return answer.Get("value"), nil
}

// run is call as halcyon.CommandEnv.Call has it.
func (t *target) run(ctx context.Context, path string, args, result any) error {
	encoded := value.Object()
	if args != nil {
		var err error
		if encoded, err = halcyon.Encode(args); err != nil {
			return fmt.Errorf("arguments of %s: %w", path, err)
		}
	}
	got, err := t.call(ctx, path, encoded, io.Discard)
	if err != nil || result == nil {
		return err
	}
	if err := halcyon.Decode(got, result); err != nil {
		return fmt.Errorf("result of %s: %w", path, err)
	}
	return nil
}

// functionPaths returns the paths of all functions.
func functionPaths(app *halcyon.App) (paths []string) {
	for _, f := range app.Functions() {
		paths = append(paths, f.Path)
	}
	return paths
}

// someFunctionsMax is how many functions a hint names.
const someFunctionsMax = 8

// someFunctions says what there is to run.
func someFunctions(app *halcyon.App) string {
	paths := functionPaths(app)
	switch more := len(paths) - someFunctionsMax; {
	case len(paths) == 0:
		return "this program has none"
	case more > 0:
		return fmt.Sprintf("there are %s and %d more", strings.Join(paths[:someFunctionsMax], ", "), more)
	}
	return "there are " + strings.Join(paths, ", ")
}
