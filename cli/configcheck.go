package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/alecthomas/kong"
)

// configVerb is `config`.
type configVerb struct {
	Check configCheckVerb `cmd:"" help:"Print every setting and where its value is from, and what is wrong with the configuration."`
}

// configCheckVerb is `config check`. It takes the flags that serve takes, to show what they would do.
type configCheckVerb struct {
	Server  serverFlags  `embed:"" prefix:"server."`
	Storage storageFlags `embed:"" prefix:"storage."`
	Log     logFlags     `embed:"" prefix:"log."`
	Auth    authFlags    `embed:"" prefix:"auth."`
	TLS     tlsFlags     `embed:"" prefix:"tls."`

	JSON bool `name:"json" help:"Print one JSON object for each setting."`
}

// Help is the part of the help page below the flags.
func (configCheckVerb) Help() string {
	return `A flag wins over its environment variable, which wins over the file, which wins over the default. The file is the one of --config, or halcyon.toml in the working folder when it is there: TOML, with a table for what stands before the dot of a flag, so that --storage.dir is dir in [storage]. A key that is no setting is an error, so that a slip does not go unnoticed. Secrets are not printed. Opens no data; the exit status is 2 when something is wrong.`
}

// shownSetting is a setting as it is printed.
type shownSetting struct {
	Name   string `json:"name"`
	Value  string `json:"value"`           // empty for a secret and for what is not set
	Source string `json:"source"`          // flag, environment, file or default
	From   string `json:"from,omitempty"`  // the flag, the variable or the file
	Wrong  string `json:"wrong,omitempty"` // why the setting does not take the value
	Secret bool   `json:"secret,omitzero"` // the value is there and is not shown
}

// Run prints the settings.
func (v *configCheckVerb) Run(e *env, ctx *kong.Context) error {
	file, err := configOf(ctx)
	problems := []error{err}
	known := settingsOf(ctx.Model)
	given := make(map[string]*kong.Flag)
	for _, flag := range ctx.Flags() {
		if onCommandLine(ctx, flag) {
			given[flag.Name] = flag
		}
	}
	wrong := settingErrors(err)
	var shown []shownSetting
	for _, name := range slices.Sorted(maps.Keys(known)) {
		one, err := known[name].show(ctx, given[name], file, wrong[name])
		if err != nil {
			problems = append(problems, err)
		}
		shown = append(shown, one)
	}
	if err := v.print(e, shown); err != nil {
		return err
	}
	if file.path != "" {
		fmt.Fprintf(e.stderr, "The configuration file is %s.\n", file.path)
	} else if err == nil {
		fmt.Fprintln(e.stderr, "There is no configuration file.")
	}
	e.doubtVariables(known)
	if err := errors.Join(problems...); err != nil {
		return usageError{err}
	}
	return nil
}

// show finds the value of a setting. flag is not nil when it was on the command line, and has been checked then.
// wrong is what is wrong with its value in the file, or nil.
func (s setting) show(ctx *kong.Context, flag *kong.Flag, file *config, wrong *settingError) (out shownSetting, err error) {
	out = shownSetting{Name: s.Name, Source: "default", Value: s.Default}
	variable, text, inEnvironment := environment(s.Flag)
	inFile, isInFile := file.values[s.Name]
	switch {
	case flag != nil:
		out.Source, out.From, out.Value = "flag", "--"+s.Name, fmt.Sprint(ctx.FlagValue(flag))
	case inEnvironment:
		if _, bad := s.parse(text); bad != nil {
			out.Wrong, err = bad.Error(), fmt.Errorf("%s: %w", variable, bad)
		}
		out.Source, out.From, out.Value = "environment", variable, text
	case isInFile:
		out.Source, out.From = "file", file.path
		out.Value = displayed(inFile)
	case wrong != nil:
		out.Source, out.From, out.Value, out.Wrong = "file", file.path, wrong.value, wrong.cause.Error()
	}
	if s.secret && out.Value != "" {
		out.Value, out.Secret = "", true
	}
	return out, err
}

func (v *configCheckVerb) print(e *env, shown []shownSetting) error {
	if v.JSON {
		out := json.NewEncoder(e.stdout)
		for _, s := range shown {
			if err := out.Encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	table := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SETTING\tVALUE\tFROM")
	for _, s := range shown {
		text := s.Value
		switch {
		case s.Secret:
			text = "(secret)"
		case text == "":
			text = "(not set)"
		}
		from := s.From
		if from == "" {
			from = s.Source
		}
		if s.Wrong != "" {
			from += "\twrong: " + s.Wrong
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, text, from)
	}
	return table.Flush()
}

// doubtVariables names variables that look like slips. They may be a module's own, so they are no errors.
func (e *env) doubtVariables(known map[string]setting) {
	names := []string{"HALCYON_CONFIG"}
	for _, s := range known {
		names = append(names, s.Envs...)
	}
	slices.Sort(names)
	var variables []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		variables = append(variables, name)
	}
	slices.Sort(variables)
	for _, name := range variables {
		if !strings.HasPrefix(name, "HALCYON_") || strings.HasPrefix(name, environmentPrefix) || slices.Contains(names, name) {
			continue
		}
		// Names of variables have much in common, so only one or two wrong letters are a slip.
		for _, right := range names {
			if editDistance(name, right) <= 2 {
				fmt.Fprintf(e.stderr, "%s is in the environment and sets nothing here; did you mean %s?\n", name, right)
				break
			}
		}
	}
}
