package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/halcyon-db/halcyon"
)

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Main runs a program made of modules on the process's arguments, streams and
// signals, and exits. SIGINT and SIGTERM end it in order; a second one ends it
// at once.
func Main(modules ...*halcyon.Module) {
	restrictNewFiles()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the next signal finds the default handler
	status := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr, modules...)
	stop()
	os.Exit(status)
}

// env is what every verb works with.
type env struct {
	ctx     context.Context // ends at the first signal; lives as long as run
	program string
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
	modules []*halcyon.Module
	command string // the verb that was chosen, as kong names it
	// settings is where modules find their settings.
	settings moduleSettings

	configured bool // the configuration file was looked at

	args          []string // the whole command line
	settingsFiles []string // that the command line names, or that are looked for
	dev           bool     // `serve --dev` runs this program
}

// grammar is the command line. The modules' commands are added to it.
type grammar struct {
	ConfigFile  string           `name:"config" default:"halcyon.toml" env:"HALCYON_CONFIG" placeholder:"FILE" help:"Configuration file; may be missing when it is the default. (default: ${default})"`
	Environment environmentFlags `embed:"" prefix:"environment."`

	Serve      serveVerb      `cmd:"" help:"Run the server."`
	Run        runVerb        `cmd:"" help:"Call one function, also an internal one, and print its result as JSON."`
	Migrate    migrateVerb    `cmd:"" help:"Bring stored documents up to the program's schema."`
	Codegen    codegenVerb    `cmd:"" help:"Write TypeScript types of the program's functions and documents."`
	Verify     verifyVerb     `cmd:"" help:"Check that all data agrees with itself."`
	Data       dataVerb       `cmd:"" help:"Look at tables, and move documents out and in."`
	Convex     convexVerb     `cmd:"" help:"Move data in from a Convex project, or out to one."`
	Logs       logsVerb       `cmd:"" help:"Print what functions log on a running server."`
	Insights   insightsVerb   `cmd:"" help:"Tell how functions do on a running server: times, failures, conflicts, limits."`
	Backup     backupVerb     `cmd:"" help:"Copy the data to a folder."`
	Restore    restoreVerb    `cmd:"" help:"Make data of a backup."`
	Key        keyVerb        `cmd:"" help:"Create, list and revoke admin keys."`
	Env        envVerb        `cmd:"" help:"Show which settings the program's modules take from the environment."`
	Config     configVerb     `cmd:"" help:"Show how the program is configured."`
	Completion completionVerb `cmd:"" help:"Print a script that has a shell complete this program's command lines."`
	Version    versionVerb    `cmd:"" help:"Print the version."`
}

// logFlags say what is logged, always to standard error.
type logFlags struct {
	Level  slog.Level `default:"info" env:"HALCYON_LOG_LEVEL" placeholder:"LEVEL" help:"debug, info, warn or error. (default: ${default})"`
	Format string     `default:"text" enum:"text,json" env:"HALCYON_LOG_FORMAT" placeholder:"FORMAT" help:"text or json. (default: ${default})"`
}

// logger returns the logger the flags ask for.
func (f logFlags) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: f.Level}
	if f.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// exited carries the status out of kong, which wants to end the process after
// it has printed a help page.
type exited int

// run is Main with everything it touches passed in. args[0] is the program's
// name. It returns the exit status and has closed all it opened by then.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, modules ...*halcyon.Module) (status int) {
	e := &env{ctx: ctx, program: "halcyon", stdin: stdin, stdout: stdout, stderr: stderr, modules: modules, args: args}
	if len(args) > 0 {
		e.program, args = filepath.Base(args[0]), args[1:]
	}
	defer func() {
		switch reason := recover().(type) {
		case nil:
		case exited:
			status = int(reason)
		default:
			panic(reason)
		}
	}()
	app, err := halcyon.NewApp(modules...)
	if err != nil {
		return e.fail(err)
	}
	options := []kong.Option{
		kong.Name(e.program),
		kong.Description("A realtime backend in one binary."),
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Bind(e),
		kong.WithBeforeResolve(e.useConfig),
	}
	verbs, err := moduleVerbs(app.Commands())
	if err != nil {
		return e.fail(err)
	}
	var flags grammar
	parser, err := kong.New(&flags, append(options, verbs...)...)
	if err != nil {
		return e.fail(fmt.Errorf("build the command line: %w", err))
	}
	addExamples(parser.Model.Node, e.program)
	explainCommands(parser.Model.Node, app.Commands(), e.program)
	if len(args) > 0 && args[0] == completeWord {
		return e.fail(e.complete(parser.Model.Node, app, args[1:]))
	}
	if len(args) == 0 {
		parser.Stdout = stderr // a program called with nothing was called wrongly
		parser.Exit = func(int) { panic(exited(exitUsage)) }
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		hint := cmp.Or(hintFor(err), helpFor(err, e.program))
		fmt.Fprintf(stderr, "%s: %v\n  hint: %s\n", e.program, err, hint)
		return exitUsage
	}
	e.command = parsed.Command()
	for _, path := range []string{flags.ConfigFile, flags.Environment.File} {
		if path != "" {
			e.settingsFiles = append(e.settingsFiles, path)
		}
	}
	if e.settings, err = flags.Environment.read(e); err != nil {
		return e.fail(err)
	}
	return e.fail(parsed.Run(app))
}

// helpFor names the help page about what was called wrongly.
func helpFor(err error, program string) string {
	wrong, ok := errors.AsType[*kong.ParseError](err)
	if !ok || wrong.Context == nil || wrong.Context.Selected() == nil {
		return program + " --help lists what there is"
	}
	path := strings.TrimPrefix(wrong.Context.Selected().Path(), program)
	words := slices.DeleteFunc(strings.Fields(path), func(word string) bool { return strings.HasPrefix(word, "<") })
	return strings.Join(append([]string{program}, append(words, "--help")...), " ") + " explains it"
}

// fail reports err and returns the exit status it stands for; nil is success.
// An error chooses its own status by a method ExitCode() int, so that a module
// can tell a wrong call from a failure without knowing this package.
func (e *env) fail(err error) int {
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(e.stderr, "%s: %v\n", e.program, err)
	if hint := hintFor(err); hint != "" {
		fmt.Fprintf(e.stderr, "  hint: %s\n", hint)
	}
	var coded interface{ ExitCode() int }
	if errors.As(err, &coded) {
		return coded.ExitCode()
	}
	return exitFailed
}

// usageError is a call that kong accepts and the verb does not.
type usageError struct{ error }

func (usageError) ExitCode() int   { return exitUsage }
func (e usageError) Unwrap() error { return e.error }
