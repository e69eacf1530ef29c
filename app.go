package halcyon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/halcyon-db/halcyon/engine"
)

// ErrNotOpen is returned by calls of an App that is not open.
var ErrNotOpen = errors.New("the app is not open")

// Options are the settings of an App; nil means all defaults.
type Options struct {
	// Engine are the settings of the database. Its Logger and Clock, when nil, become those of the App.
	Engine engine.Options
	// Logger receives what an operator should know: failed functions in full, crons, warnings. Default: nothing is logged.
	Logger *slog.Logger
	// ShowErrors tells clients the text of errors that are not an Error. For development: such a text may hold what clients must not
	// see.
	ShowErrors bool
	// ActionTimeMax is how long an action may run before its context ends. Default 10 minutes.
	ActionTimeMax time.Duration
	// ActionsMax is how many actions run at once; one more is not started and fails with CodeOverloaded. An action that goes on when its
	// time is over counts until it ends. Default 1,000.
	ActionsMax int
	// ActionGrace is how long Close waits for actions whose context it has ended. Default 5 s.
	ActionGrace time.Duration
	// LookupEnv is where actions find settings and secrets, see Module.Env. Default: os.LookupEnv.
	LookupEnv func(name string) (string, bool)
	// OnCron is called after each run of a cron, by the goroutine that ran it, and for a run that the end of the program interrupted by the
	// next start. Default: none; runs are logged in any case.
	OnCron func(CronRun)
}

// App is a program: Modules mounted on one database.
//
// NewApp checks the modules, Open opens the database, Start runs what the modules want at start, their crons and what is scheduled, and
// Close ends it all. Calls of functions are possible between Open and Close, from any goroutine.
type App struct {
	modules   []*Module
	functions map[string]*function
	tables    []mountedTable
	crons     []*cron

	running atomic.Pointer[runtime] // nil when not open

	mu struct {
		sync.Mutex
		stop context.CancelFunc // ends the scheduler; nil when not started
	}
}

// mountedTable is a table in its module.
type mountedTable struct {
	module string
	def    *tableDef
}

// runtime is what an open App works with. It never changes.
type runtime struct {
	app     *App
	db      *engine.DB
	options Options
	logger  *slog.Logger
	clock   engine.Clock
	mounts  map[mountedTable]*boundTable
	numbers map[uint32]mountedTable // by the number in ids
	owners  map[*tableDef][]mountedTable

	insights *insights
	calls    callLog

	actions   running
	sockets   running // handlers of WebSocket connections
	scheduler *scheduler
	beside    sync.WaitGroup // of what Module.Background added
	jobs      *engine.Table  // of scheduledTable
	lists     atomic.Uint64  // that were subscribed to, page by page
	revoked   atomic.Uint64  // admin keys
	lookers   lookers
	closing   context.Context // ends when the App closes: the lifetime of what it runs
	env       *environment
	envErr    error              // of Start
	published map[*function]bool // internal functions that a setting made public
	close     context.CancelFunc
}

// NewApp checks the modules and mounts them. The error names every mistake in them.
func NewApp(modules ...*Module) (*App, error) {
	a := &App{modules: modules, functions: map[string]*function{}}
	var errs []error
	names := map[string]bool{}
	for _, m := range modules {
		err := checkName("module", m.name)
		if err == nil && names[m.name] {
			err = errors.New("the name is used by two modules")
		}
		names[m.name] = true
		if err := errors.Join(err, a.mount(m)); err != nil {
			errs = append(errs, fmt.Errorf("module %q: %w", m.name, err))
		}
	}
	if err := errors.Join(append(errs, checkRoutes(modules))...); err != nil {
		return nil, err
	}
	a.tables = append(a.tables, mountedTable{systemModule, &scheduledTable.def})
	return a, nil
}

// mount adds what a module declares.
func (a *App) mount(m *Module) error {
	var errs []error
	tables := map[string]bool{}
	for _, t := range m.tables {
		d := t.definition()
		err := d.check()
		if err == nil && tables[d.name] {
			err = errors.New("the name is used by two tables")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("table %q: %w", d.name, err))
		}
		tables[d.name] = true
		a.tables = append(a.tables, mountedTable{m.name, d})
	}
	for _, f := range m.functions {
		err := checkName("function", f.name)
		if err == nil && a.functions[f.path] != nil {
			err = errors.New("the name is used by two functions")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("function %q: %w", f.name, err))
		}
		a.functions[f.path] = f
	}
	migrations := map[string]bool{}
	for _, d := range m.migrations {
		switch {
		case d.name == "" || migrations[d.name]:
			errs = append(errs, fmt.Errorf("migration %q: it has no name, or that of another one", d.name))
		case !slices.ContainsFunc(m.tables, func(t TableDef) bool { return t.definition() == d.def }):
			errs = append(errs, fmt.Errorf("migration %q: the module has no table %q", d.name, d.def.name))
		}
		migrations[d.name] = true
	}
	crons := map[string]bool{}
	for _, d := range m.crons {
		c, err := a.newCron(m, d)
		if err == nil && crons[d.name] {
			err = errors.New("the name is used by two crons")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cron %q: %w", d.name, err))
		}
		crons[d.name] = true
		a.crons = append(a.crons, c)
	}
	errs = append(errs, checkEnv(m.env))
	for _, c := range m.commands {
		if c.Name == "" || c.Run == nil {
			errs = append(errs, fmt.Errorf("command %q has no name or nothing to run", c.Name))
		}
	}
	return errors.Join(errs...)
}

// schema returns the tables of all modules, and the App's own.
func (a *App) schema() engine.Schema {
	s := engine.Schema{Tables: []engine.TableDef{cronTable, markTable, fitTable, migrationTable, adminKeyTable}}
	for _, t := range a.tables {
		s.Tables = append(s.Tables, engine.TableDef{Name: engineName(t.module, t.def.name), Indexes: t.def.indexes, Aggregates: t.def.aggregates})
	}
	return s
}

// Open opens or creates the database in a directory.
func (a *App) Open(dir string, opts *Options) error {
	if a.running.Load() != nil {
		return errors.New("the app is open already")
	}
	r := &runtime{app: a, mounts: map[mountedTable]*boundTable{}, numbers: map[uint32]mountedTable{}, owners: map[*tableDef][]mountedTable{}}
	if opts != nil {
		r.options = *opts
	}
	if r.logger = r.options.Logger; r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	if r.env, r.envErr = newEnvironment(a.modules, r.options.LookupEnv); len(r.env.hide) > 0 {
		r.logger = slog.New(hidingHandler{r.logger.Handler(), r.env.hide})
	}
	r.published = map[*function]bool{}
	if err := r.configure(); err != nil {
		r.envErr = errors.Join(r.envErr, err)
	}
	settings := r.options.Engine
	if settings.Logger == nil {
		settings.Logger = r.logger
	}
	if settings.Clock == nil {
		settings.Clock = newSystemClock()
	}
	r.clock = settings.Clock
	r.insights = newInsights(a, r.clock)
	settings.Events = r.insights.events().With(settings.Events)
	setDefault(&r.options.ActionTimeMax, actionTimeMax)
	setDefault(&r.options.ActionGrace, actionGrace)
	setDefault(&r.options.ActionsMax, actionsMax)
	r.actions.max = r.options.ActionsMax
	r.sockets.max = math.MaxInt // the server bounds connections
	r.closing, r.close = context.WithCancel(context.Background())
	db, err := engine.Open(dir, a.schema(), &settings)
	if err != nil {
		r.close()
		return fmt.Errorf("open database in %q: %w", dir, err)
	}
	r.db = db
	r.scheduler = newScheduler(r)
	for _, t := range a.tables {
		b := &boundTable{def: t.def, table: db.Table(engineName(t.module, t.def.name)), indexes: map[string]*engine.Index{}, aggregates: map[string]*engine.Aggregate{}}
		b.codec, _ = codecFor(t.def.typ) // NewApp has checked it
		b.tables = moduleTables{r, t.module}
		for _, name := range []string{engine.IndexByID, engine.IndexByCreationTime} {
			b.indexes[name] = b.table.Index(name)
		}
		for _, ix := range t.def.indexes {
			b.indexes[ix.Name] = b.table.Index(ix.Name)
		}
		for _, g := range t.def.aggregates {
			b.aggregates[g.Name] = b.table.Aggregate(g.Name)
		}
		r.mounts[t] = b
		r.numbers[b.table.Number] = t
		r.owners[t.def] = append(r.owners[t.def], t)
	}
	r.jobs = db.Table(engineName(systemModule, scheduledTable.def.name))
	if !a.running.CompareAndSwap(nil, r) {
		return errors.Join(errors.New("the app is open already"), db.Close())
	}
	return nil
}

func setDefault[T int | time.Duration](field *T, otherwise T) {
	if *field == 0 {
		*field = otherwise
	}
}

// Start finds out whether all settings are there that the modules need (see EnvironmentError), runs the migrations that are not done, finds
// out whether all documents fit their structs (see SchemaError), runs the modules' OnStart hooks, in the order of the modules, and then runs
// their crons and what is scheduled, until Close.
func (a *App) Start(ctx context.Context) error {
	r := a.running.Load()
	if r == nil {
		return ErrNotOpen
	}
	if r.envErr != nil {
		return r.envErr
	}
	if _, err := a.Migrate(ctx, MigrateOptions{}); err != nil {
		return err
	}
	if err := r.checkFit(ctx); err != nil {
		return err
	}
	for _, m := range a.modules {
		for _, hook := range m.onStart {
			if err := hook(ctx, a); err != nil {
				return fmt.Errorf("start module %q: %w", m.name, err)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.stop != nil {
		return errors.New("the app is started already")
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	if err := r.scheduler.start(running); err != nil {
		stop()
		return err
	}
	a.mu.stop = stop
	a.startBackground(running, r)
	return nil
}

// Close stops what is scheduled and waits for mutations of it that are running, ends the context of running actions and waits for them for
// a while, and closes the database. Later calls fail with a *RequestError of CodeUnavailable or with ErrNotOpen.
func (a *App) Close() error {
	a.mu.Lock()
	stop := a.mu.stop
	a.mu.stop = nil
	a.mu.Unlock()
	if r := a.running.Load(); r != nil && stop != nil {
		stop()
		r.scheduler.jobs.Wait()
		r.beside.Wait()
	}
	r := a.running.Swap(nil)
	if r == nil {
		return nil
	}
	r.close()
	if n := r.actions.wait(r.options.ActionGrace); n > 0 {
		r.logger.Warn("actions did not end when they were told to", "actions", n)
	}
	if n := r.sockets.wait(r.options.ActionGrace); n > 0 {
		r.logger.Warn("handlers of WebSocket connections did not end when they were told to", "handlers", n)
	}
	if err := r.db.Close(); err != nil {
		return fmt.Errorf("close database: %w", err)
	}
	return nil
}

// Logger returns the App's logger, for what modules have to tell the operator.
func (a *App) Logger() *slog.Logger {
	if r := a.running.Load(); r != nil {
		return r.logger
	}
	return slog.New(slog.DiscardHandler)
}

// Durable returns the newest moment whose state is durable.
func (a *App) Durable() engine.Timestamp {
	if r := a.running.Load(); r != nil {
		return r.db.Durable()
	}
	return 0
}

// Pin returns the timestamp of a durable state, the newest or nearly so, at which queries can be run for the next 30 s, see Request.At.
func (a *App) Pin() (engine.Timestamp, error) {
	r := a.running.Load()
	if r == nil {
		return 0, requestError(CodeUnavailable, "", ErrNotOpen)
	}
	at, err := r.db.Pin()
	if err != nil {
		return 0, requestError(CodeUnavailable, "", err)
	}
	return at, nil
}

// Kind returns the kind of a function, internal ones included.
func (a *App) Kind(path string) (FunctionKind, bool) {
	path, err := canonicalPath(path)
	if err != nil {
		return 0, false
	}
	f, ok := a.functions[path]
	if !ok {
		return 0, false
	}
	return f.kind, true
}

// Routes returns the modules' HTTP handlers. It makes those of HandleApp anew at each call.
func (a *App) Routes() []Route {
	var routes []Route
	for _, m := range a.modules {
		for _, r := range m.routes {
			routes = append(routes, Route{Module: m.name, Pattern: r.pattern, Handler: r.handler(a)})
		}
	}
	return routes
}

// Commands returns the modules' commands.
func (a *App) Commands() []Command {
	var commands []Command
	for _, m := range a.modules {
		commands = append(commands, m.commands...)
	}
	return slices.Clip(commands)
}

// table finds the mount of a table that a function of a module means: its own module's, or else the only one there is.
func (r *runtime) table(module string, def *tableDef) (*boundTable, error) {
	if b, ok := r.mounts[mountedTable{module, def}]; ok {
		return b, nil
	}
	switch owners := r.owners[def]; len(owners) {
	case 0:
		return nil, fmt.Errorf("table %q is not listed by any module of this app", def.name)
	case 1:
		return r.mounts[owners[0]], nil
	default:
		return nil, fmt.Errorf("table %q belongs to the modules %s and %s; module %s can't tell which is meant",
			def.name, owners[0].module, owners[1].module, module)
	}
}
