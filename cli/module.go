package cli

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

// moduleVerb is one command of a module.
type moduleVerb struct {
	targetFlags

	Args []string `arg:"" optional:"" passthrough:"" help:"What the command takes."`
}

// Run opens the data and runs the command.
func (v *moduleVerb) Run(e *env, app *halcyon.App) (err error) {
	for _, command := range app.Commands() {
		if !strings.HasPrefix(e.command+" ", command.Module+" "+command.Name+" ") {
			continue
		}
		if len(v.Args) > 0 && v.Args[0] == "--" { // ends the flags above; it is no argument
			v.Args = v.Args[1:]
		}
		logger := v.Log.logger(e.stderr)
		env := &halcyon.CommandEnv{
			App: app, Call: app.Run, Stdin: e.stdin, Stdout: e.stdout, Stderr: e.stderr, Logger: logger, Program: e.program, Dir: v.Storage.Dir,
		}
		if command.Served {
			return v.on(e, app, func(t *target) error {
				if !t.here {
					env.App, env.Call, env.Dir = nil, t.run, ""
				}
				return command.Run(e.ctx, env, v.Args)
			})
		}
		if command.WithoutData {
			return command.Run(e.ctx, env, v.Args)
		}
		if v.URL != "" {
			return usageError{hinted{fmt.Errorf("%s %s works on a folder", command.Module, command.Name), "leave --url and HALCYON_URL out"}}
		}
		if err := openApp(e, app, v.Storage, logger); err != nil {
			return e.explainCommand(command, v.Storage.Dir, err)
		}
		defer func() { err = errors.Join(err, closeApp(app)) }()
		return command.Run(e.ctx, env, v.Args)
	}
	return fmt.Errorf("no module has the command %q", e.command)
}

// explainCommand says what to do when a server has the data of a command.
func (e *env) explainCommand(command halcyon.Command, dir string, err error) error {
	if !errors.Is(err, engine.ErrLocked) {
		return err
	}
	return hinted{err, fmt.Sprintf("another process has %s open, probably a running `%s serve`. `%s %s` works on the data by itself: stop the server first, "+
		"or work on a copy, which `%s backup FOLDER` makes while it runs, with --storage.dir FOLDER", dir, e.program, command.Module, command.Name, e.program)}
}

// explainCommands puts what modules say of their commands on the help pages of these.
func explainCommands(root *kong.Node, commands []halcyon.Command, program string) {
	for _, command := range commands {
		module := findChild(root, command.Module)
		if module == nil || command.Details == nil {
			continue
		}
		if verb := findChild(module, command.Name); verb != nil {
			var text strings.Builder
			command.Details(&text)
			verb.Detail = strings.TrimSpace(strings.ReplaceAll(text.String(), "PROGRAM", program))
		}
	}
}

// ownVerbs are the verbs that are not modules. They are those of grammar, and
// what kong reads as a verb itself.
var ownVerbs = []string{"serve", "run", "migrate", "codegen", "verify", "data", "convex", "logs", "insights", "backup", "restore", "key", "env", "config", "completion", "version", "help"}

// moduleVerbs makes a command line of the modules' commands: a verb for each
// module, holding one for each of its commands. kong reads a command line from
// struct types, so a type is made for each module.
func moduleVerbs(commands []halcyon.Command) ([]kong.Option, error) {
	fields := make(map[string][]reflect.StructField)
	for i, command := range commands {
		if slices.Contains(ownVerbs, command.Module) {
			return nil, fmt.Errorf("module %q has commands, and a verb of the program has its name: give the module another", command.Module)
		}
		tag := fmt.Sprintf(`cmd:"" name:%s help:%s`, strconv.Quote(command.Name), strconv.Quote(escapeHelp(command.Help)))
		fields[command.Module] = append(fields[command.Module], reflect.StructField{
			Name: fieldName(command.Name, i),
			Type: reflect.TypeFor[moduleVerb](),
			Tag:  reflect.StructTag(tag),
		})
	}
	modules := make([]string, 0, len(fields))
	for module := range fields {
		modules = append(modules, module)
	}
	slices.SortFunc(modules, cmp.Compare[string])
	options := make([]kong.Option, 0, len(modules))
	for _, module := range modules {
		verb := reflect.New(reflect.StructOf(fields[module])).Interface()
		help := fmt.Sprintf("Commands of the module %s.", module)
		options = append(options, kong.DynamicCommand(module, help, "", verb))
	}
	return options, nil
}

// fieldName returns an exported Go name for the i-th command.
func fieldName(name string, i int) string {
	letters := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return r
		}
		return -1
	}, name)
	return fmt.Sprintf("Command%d%s", i, letters)
}

// escapeHelp keeps kong from seeing a variable in a help text.
func escapeHelp(help string) string { return strings.ReplaceAll(help, "$", "$$") }
