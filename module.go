package halcyon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
)

// Module is a unit of tables, functions, schedules, HTTP handlers and commands that an App mounts under its name. Declare everything
// before the Module is given to NewApp.
type Module struct {
	name string

	// Internal declares functions that clients can't call: they do not even learn that such a function exists.
	Internal InternalFunctions

	tables     []TableDef
	functions  []*function
	migrations []migration
	crons      []cronDef
	routes     []routeDef
	httpRoutes []*HTTPRoute
	sockets    []*SocketRoute
	commands   []Command
	env        []Variable
	configure  []func(Settings) error
	onStart    []func(context.Context, *App) error
	onListen   []func(net.Addr)
	background []func(context.Context, *App) error
}

// TableDef is a [Table] of any type.
type TableDef interface{ definition() *tableDef }

type cronDef struct {
	name     string
	schedule Schedule
	function string
}

type routeDef struct {
	pattern string
	handler func(*App) http.Handler
}

// NewModule returns a Module with that name and those tables. The name is the part of a function's path before the colon.
func NewModule(name string, tables ...TableDef) *Module {
	m := &Module{name: name, tables: tables}
	m.Internal.module = m
	return m
}

// Name returns the name of the module.
func (m *Module) Name() string { return m.name }

// Query declares a query that clients may call and subscribe to.
//
// fn is a func(*Tx, Args) (Result, error), where Args is a struct. Args, Result or both may be left out. Query panics on any other type:
// this is a mistake in the program that no input can cause.
func (m *Module) Query(name string, fn any) { m.declare(KindQuery, name, fn, false) }

// Mutation declares a mutation that clients may call. See Query for the type of fn.
//
// A mutation may be executed several times until it takes effect once, so it must not have effects beyond its Tx.
func (m *Module) Mutation(name string, fn any, options ...MutationOption) {
	m.declare(KindMutation, name, fn, false, options...)
}

// MutationOption says how a mutation is run.
type MutationOption func(*function)

// Relaxed lets a mutation wait for up to 20 ms for others to go to the disk with, and answers Go and HTTP callers before that: a crash may
// lose the last 20 ms of what they were told. Queries and the clients that watch them see nothing that is not on the disk, and are answered
// when it is. It is for beats and stamps that come again anyway.
func Relaxed() MutationOption { return func(f *function) { f.relaxed = true } }

// Action declares an action that clients may call: a function that may do anything, such as calling another service, and is no
// transaction. fn is a func(*Ctx, Args) (Result, error); see Query for what may be left out.
//
// An action is run at most once for each call. When the connection of a client breaks, its action goes on to its end, and the client is
// told nothing: the official clients report "Connection lost while action was in flight".
func (m *Module) Action(name string, fn any) { m.declare(KindAction, name, fn, false) }

// InternalFunctions declares functions for crons, commands and HTTP handlers of the program itself.
type InternalFunctions struct{ module *Module }

// Query declares an internal query. See [Module.Query].
func (i InternalFunctions) Query(name string, fn any) { i.module.declare(KindQuery, name, fn, true) }

// Mutation declares an internal mutation. See [Module.Mutation].
func (i InternalFunctions) Mutation(name string, fn any, options ...MutationOption) {
	i.module.declare(KindMutation, name, fn, true, options...)
}

// Action declares an internal action. See [Module.Action].
func (i InternalFunctions) Action(name string, fn any) { i.module.declare(KindAction, name, fn, true) }

// Cron runs a mutation or an action of this module, without arguments, on a schedule. A run is a scheduled function, see [Tx.RunAfter], and
// to schedule it and to set the time of the next one are one transaction. One run of a cron ends before its next begins; runs that came due
// meanwhile, or while the program was down, are skipped, logged and counted in [CronRun]. A new cron on [Every] first runs when the App
// starts.
func (m *Module) Cron(name string, schedule Schedule, function string) {
	m.crons = append(m.crons, cronDef{name, schedule, function})
}

// Handle serves HTTP requests that match a pattern of [net/http.ServeMux], such as "GET /stats": pages and files at addresses of the
// module's own. For requests that run functions see HTTP. The addresses of the server itself and those below "/http/" are taken.
func (m *Module) Handle(pattern string, h http.Handler) {
	m.HandleApp(pattern, func(*App) http.Handler { return h })
}

// HandleApp is Handle for a handler that runs functions. handler is called when the App's routes are asked for.
func (m *Module) HandleApp(pattern string, handler func(*App) http.Handler) {
	m.routes = append(m.routes, routeDef{pattern, handler})
}

// Command adds a command to the program: `halcyon <module> <name>`. It has the data to itself, and is refused while a server has them open, unless
// it is declared [Served] or [WithoutData].
func (m *Module) Command(name, help string, run func(ctx context.Context, env *CommandEnv, args []string) error, options ...CommandOption) {
	c := Command{Module: m.name, Name: name, Help: help, Run: run}
	for _, option := range options {
		option(&c)
	}
	m.commands = append(m.commands, c)
}

// CommandOption says how a command is run.
type CommandOption func(*Command)

// Served lets a command work through [CommandEnv.Call] alone, so that it may also be called while a server has the data open, here or elsewhere. Its
// App is nil then.
func Served() CommandOption { return func(c *Command) { c.Served = true } }

// WithoutData declares a command that does not look at the data. The App of its [CommandEnv] is not open, and it runs beside a server.
func WithoutData() CommandOption { return func(c *Command) { c.WithoutData = true } }

// WithHelp has a text on the help page of the command, such as what its own flags are. write writes it; PROGRAM in it becomes the name of the program.
func WithHelp(write func(io.Writer)) CommandOption { return func(c *Command) { c.Details = write } }

// OnStart adds something to do each time the App starts, before its crons run and before it serves. An error stops the start.
func (m *Module) OnStart(hook func(context.Context, *App) error) { m.onStart = append(m.onStart, hook) }

// Command is a command of a module.
type Command struct {
	Module, Name, Help string
	Served             bool // see there
	WithoutData        bool // see there
	Run                func(ctx context.Context, env *CommandEnv, args []string) error
	Details            func(io.Writer) // of its help page; nil for none
}

// CommandEnv is what a command works with.
type CommandEnv struct {
	App *App // open, not started; nil when a server has the data open, see Served; not open for a command WithoutData
	// Call calls a function as App.Run does, also when a server has the data open.
	Call           func(ctx context.Context, path string, args, result any) error
	Stdin          io.Reader
	Stdout, Stderr io.Writer // data goes to Stdout, talk to Stderr
	Logger         *slog.Logger
	Program        string // the name of the program, for what is said of it
	Dir            string // the folder of the data, for files beside it; empty where there is none
}

// Route is an HTTP handler of a module.
type Route struct {
	Module  string
	Pattern string // of net/http.ServeMux
	Handler http.Handler
}

// function is one declared function.
type function struct {
	module   string
	name     string
	path     string // module:name
	kind     FunctionKind
	internal bool
	relaxed  bool

	call   reflect.Value
	args   *codec // nil: takes none
	result *codec

	warnedNow atomic.Bool // see Tx.finish
}

// noArgs is the codec of the arguments of a function that takes none: any field is one too many.
var noArgs = &codec{typ: reflect.TypeFor[struct{}](), shape: shapeObject}

func (m *Module) declare(kind FunctionKind, name string, fn any, internal bool, options ...MutationOption) {
	f := &function{module: m.name, name: name, path: m.name + ":" + name, kind: kind, internal: internal, call: reflect.ValueOf(fn)}
	if err := f.plan(); err != nil {
		panic(fmt.Sprintf("halcyon: %s %s: %v", strings.ToLower(kind.String()), f.path, err))
	}
	for _, option := range options {
		option(f)
	}
	m.functions = append(m.functions, f)
}

// plan checks the type of the function and builds the codecs of its arguments and its result.
func (f *function) plan() (err error) {
	first := reflect.TypeFor[*Tx]()
	if f.kind == KindAction {
		first = reflect.TypeFor[*Ctx]()
	}
	want := fmt.Sprintf("want func(%v, Args) (Result, error), where Args and Result may be left out", first)
	if f.call.Kind() != reflect.Func || f.call.IsNil() {
		return fmt.Errorf("%v is not a function; %s", f.call, want)
	}
	typ := f.call.Type()
	in, out := typ.NumIn(), typ.NumOut()
	switch {
	case typ.IsVariadic() || in < 1 || in > 2 || typ.In(0) != first,
		out < 1 || out > 2 || typ.Out(out-1) != typeError:
		return fmt.Errorf("the function is a %v; %s", typ, want)
	}
	f.args, f.result = noArgs, nullCodec
	if in == 2 {
		if f.args, err = codecFor(typ.In(1)); err != nil {
			return fmt.Errorf("arguments: %w", err)
		}
		switch f.args.shape {
		case shapeObject, shapeRecord, shapeValue, shapeAny:
		default:
			return fmt.Errorf("arguments are a struct, not %v", typ.In(1))
		}
	}
	if out == 2 {
		if f.result, err = codecFor(typ.Out(0)); err != nil {
			return fmt.Errorf("result: %w", err)
		}
	}
	return nil
}

// canonicalPath brings a path into the form module:function, as the official clients write it.
func canonicalPath(path string) (string, error) {
	module, name, hasName := strings.Cut(path, ":")
	module = strings.TrimSuffix(module, ".js")
	if !hasName {
		name = "default"
	}
	if module == "" || name == "" || len(path) > 4*nameBytesMax || !pathText(module, "/._-") || !pathText(name, "_") {
		return "", requestError(CodeBadFunction, fmt.Sprintf("%q is not a function path such as module:function.", cut(path, 100, "...")), nil)
	}
	return module + ":" + name, nil
}

func pathText(s, besides string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(besides, c) >= 0) {
			return false
		}
	}
	return true
}
