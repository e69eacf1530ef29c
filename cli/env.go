package cli

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/halcyon-db/halcyon"
)

// envVerb is `env`.
type envVerb struct {
	List envListVerb `cmd:"" help:"List the settings that modules take from the environment, and whether each is set."`
}

// envListVerb is `env list`.
type envListVerb struct {
	JSON bool `name:"json" help:"Print one JSON object for each setting."`
}

// Help is the part of the help page below the flags.
func (envListVerb) Help() string {
	return "Prints no values. A setting NAME is looked for in the variables HALCYON_ENV_NAME and NAME, then in the file of --environment.file; a secret before that in the file that NAME_FILE names. Set them there: the program keeps none. Opens no data; the exit status is 1 when serve would not start for want of one."
}

// shownVariable is a setting of a module as it is printed.
type shownVariable struct {
	Name     string `json:"name"`
	Module   string `json:"module"`
	Set      bool   `json:"set"`
	From     string `json:"from,omitempty"` // the variable or the file; empty when it is not set
	Secret   bool   `json:"secret,omitzero"`
	Optional bool   `json:"optional,omitzero"`
	Default  string `json:"default,omitempty"`
	Missing  bool   `json:"missing,omitzero"`
	Error    string `json:"error,omitempty"`
	Help     string `json:"help,omitempty"`
}

// Run prints the settings.
func (v *envListVerb) Run(e *env, app *halcyon.App) error {
	var shown []shownVariable
	problem := &halcyon.EnvironmentError{}
	for _, d := range app.Variables(e.settings.lookup) {
		one := shownVariable{
			Name: d.Name, Module: d.Module, Set: d.Set, Secret: d.Secret, Optional: d.Optional, Default: d.Default, Missing: d.Missing, Help: d.Help,
		}
		if d.Set || d.Err != nil {
			one.From = e.settings.origin(d.Variable)
		}
		if d.Err != nil {
			one.Error = d.Err.Error()
			problem.Causes = append(problem.Causes, fmt.Errorf("module %q: %w", d.Module, d.Err))
		}
		if d.Missing {
			problem.Missing = append(problem.Missing, halcyon.MissingVariable{Module: d.Module, Variable: d.Variable})
		}
		shown = append(shown, one)
	}
	if err := v.print(e, shown); err != nil {
		return err
	}
	if len(problem.Missing)+len(problem.Causes) > 0 {
		return explainEnvironment(problem)
	}
	return nil
}

// origin returns the variable or the file that a setting is from.
func (s moduleSettings) origin(v halcyon.Variable) string {
	if v.Secret {
		if _, from, ok := s.find(v.Name + halcyon.SecretFileSuffix); ok {
			return from
		}
	}
	_, from, _ := s.find(v.Name)
	return from
}

func (v *envListVerb) print(e *env, shown []shownVariable) error {
	if v.JSON {
		out := json.NewEncoder(e.stdout)
		for _, s := range shown {
			if err := out.Encode(s); err != nil {
				return err
			}
		}
		return nil
	}
	if len(shown) == 0 {
		fmt.Fprintln(e.stderr, "The modules of this program take no settings from the environment.")
		return nil
	}
	table := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tMODULE\tSTATE\tFROM\tWHAT FOR")
	for _, s := range shown {
		name, state, from := s.Name, "set", s.From
		switch {
		case s.Error != "":
			state = "unreadable"
		case s.Missing:
			state = "missing"
		case !s.Set && s.Default != "":
			state, from = "default", "the program"
		case !s.Set:
			state = "not set"
		}
		if s.Secret {
			state += ", secret"
		}
		if from == "" {
			from = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", name, s.Module, state, from, s.Help)
	}
	return table.Flush()
}
