package halcyon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/halcyon-db/halcyon/engine/value"
)

// Ctx is one run of an action: a function that may do anything, such as calling another service, and is no transaction. It reads and
// writes documents by running queries and mutations, each a transaction of its own, and so what one of them did stays when a later one
// fails. An action is run at most once and never again by itself.
//
// The context ends when the action has run for Options.ActionTimeMax or the App closes. From then on every call of a function fails, and
// the caller is not waiting any more: an action must hand the context to all it waits for. A Ctx may be used by several goroutines, none of
// which may outlive the action.
type Ctx struct {
	context.Context // a run is a lifetime

	run   *runtime
	fn    *function
	depth int      // of actions that run actions
	job   value.ID // the scheduled function that this belongs to; zero for none

	requestID string
	streaming bool          // its log lines go to the operator's log one by one, since it has no end to wait for
	timeMax   time.Duration // of an HTTP route that has its own; 0: Options.ActionTimeMax
	outer     *Ctx          // the one of the connection that this is a user of; it has the log and the secrets

	identity atomic.Pointer[Identity] // of the caller; nil for nobody

	mu struct {
		sync.Mutex
		logs    logLines
		secrets []string // handed out, and so hidden in logs and errors
		ended   bool
	}
}

// errActionTimeout is the cause of a context that ends with the time of its action.
var errActionTimeout = errors.New("the action ran longer than actions may")

// RunQuery runs a query on the newest durable snapshot and puts its result into result, a pointer, unless it is nil. path is
// "module:function", or "function" for one of the action's own module; internal functions may be run too. args is a struct or nil.
//
// How the query failed is a *Failure; errors.As finds an *Error in it that the function returned. A failure that the action returns in turn
// reaches its caller as it is.
func (c *Ctx) RunQuery(path string, args, result any) error {
	return c.call(c.run.app.Query, path, args, result)
}

// RunMutation runs a mutation, which is durable when RunMutation returns without an error. See RunQuery. When the context ends meanwhile,
// nobody knows whether the mutation took effect.
func (c *Ctx) RunMutation(path string, args, result any) error {
	return c.call(c.run.app.Mutation, path, args, result)
}

// RunAction runs another action inside of this one's time. See RunQuery. Actions may run actions to a depth of 8.
func (c *Ctx) RunAction(path string, args, result any) error {
	return c.call(func(_ context.Context, req Request) (Outcome, error) {
		r, f, given, refused, err := c.run.app.prepare(req, KindAction)
		if err != nil || refused != nil {
			return c.run.app.refusal(refused), err
		}
		if c.depth+1 >= actionDepthMax {
			return Outcome{}, fmt.Errorf("actions run actions deeper than %d", actionDepthMax)
		}
		inner := &Ctx{Context: c.Context, run: r, fn: f, depth: c.depth + 1, job: c.job, requestID: c.requestID, timeMax: c.timeMax}
		inner.identity.Store(c.identity.Load())
		return inner.outcome(inner.invoke(given()))
	}, path, args, result)
}

func (c *Ctx) call(run func(context.Context, Request) (Outcome, error), path string, args, result any) error {
	if err := c.Err(); err != nil {
		return fmt.Errorf("run %s: %w", path, context.Cause(c))
	}
	req := Request{Path: c.fn.absolute(path), Admin: true, Early: true, Identity: c.identity.Load(), parent: c.job}
	var err error
	if req.Args, err = encodeArgs(args); err != nil {
		return fmt.Errorf("arguments of %s: %w", path, err)
	}
	out, err := run(c, req)
	return finishCall(req.Path, out, err, result)
}

// Now returns the time, in UTC.
func (c *Ctx) Now() time.Time { return c.run.clock.Now().UTC() }

// Rand returns a new source of randomness, which is not safe for use by several goroutines.
func (c *Ctx) Rand() *rand.Rand { return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())) }

// Env returns a setting from the environment of the program, or else the default that a module has declared, see [Module.Env], and false when
// there is neither. One that a module has declared as secret is treated as Secret does.
func (c *Ctx) Env(name string) (string, bool) {
	if !c.run.env.secrets[name] {
		return c.run.env.value(name)
	}
	secret, err := c.Secret(name)
	return secret, err == nil
}

// Secret returns a setting that nobody may see, from the environment or, better, from the file that the variable NAME_FILE names, without
// the line break at its end. From then on the action's log lines and the text of its error show [secret] in its place; for one that a module
// has declared as secret, the whole log of the App does. The error says what to set.
func (c *Ctx) Secret(name string) (string, error) {
	if c.outer != nil {
		return c.outer.Secret(name)
	}
	secret, ok, err := c.run.env.secret(name)
	if err != nil {
		return "", err
	}
	if !ok {
		return "", fmt.Errorf("secret %s is not set: name a file that holds it with %s%s, or set %s", name, name, SecretFileSuffix, name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.secrets = addSecret(c.mu.secrets, secret)
	return secret, nil
}

// Log adds a line to the call's log, which the client's console shows. At most 256 lines of 4 KiB are kept.
func (c *Ctx) Log(args ...any) { c.log("LOG", args) }

// Debug is Log at the level DEBUG.
func (c *Ctx) Debug(args ...any) { c.log("DEBUG", args) }

// Info is Log at the level INFO.
func (c *Ctx) Info(args ...any) { c.log("INFO", args) }

// Warn is Log at the level WARN.
func (c *Ctx) Warn(args ...any) { c.log("WARN", args) }

// Error is Log at the level ERROR.
func (c *Ctx) Error(args ...any) { c.log("ERROR", args) }

func (c *Ctx) log(level string, args []any) {
	if c.outer != nil {
		c.outer.log(level, args)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.ended {
		before := len(c.mu.logs)
		c.mu.logs.add(level, args)
		for i := before; i < len(c.mu.logs); i++ {
			c.mu.logs[i] = hideSecrets(c.mu.logs[i], c.run.env.hide, c.mu.secrets)
		}
		if c.streaming {
			c.run.logLines(c.fn, c.mu.logs)
			c.mu.logs = nil
		}
	}
}

// takeLogs returns the lines so far, and drops those that come later.
func (c *Ctx) takeLogs() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.ended = true
	return c.mu.logs
}

func hideSecrets(text string, lists ...[]string) string {
	for _, secrets := range lists {
		for _, s := range secrets {
			text = strings.ReplaceAll(text, s, "[secret]")
		}
	}
	return text
}

// hidden is an error whose text had a secret in it.
type hidden struct {
	cause error
	text  string
}

func (h *hidden) Error() string { return h.text }
func (h *hidden) Unwrap() error { return h.cause }

// Action runs an action and returns when it has ended or its time is over. Failures and errors are as for Query. When ctx ends first, the
// action's own context ends too; what the action did until then stays done.
func (a *App) Action(ctx context.Context, req Request) (Outcome, error) {
	r, f, args, refused, err := a.prepare(req, KindAction)
	if err != nil || refused != nil {
		return a.refusal(refused), err
	}
	c := &Ctx{run: r, fn: f, requestID: RequestID(ctx)}
	c.identity.Store(req.Identity)
	return r.act(ctx, c, args())
}

// act runs an action on a goroutine of its own, since it can't be stopped: the caller goes on when the context ends, and the place of the
// action is free when it has really ended.
func (r *runtime) act(ctx context.Context, c *Ctx, args reflect.Value) (Outcome, error) {
	if !r.actions.begin() {
		return Outcome{}, requestError(CodeOverloaded, "", nil)
	}
	return r.actBegun(ctx, c, args)
}

// actBegun is act for an action that has its place.
func (r *runtime) actBegun(ctx context.Context, c *Ctx, args reflect.Value) (out Outcome, err error) {
	began := r.clock.Now()
	defer func() { r.ended(c.fn, c.requestID, began, out, err) }()
	inner, cancel := context.WithCancelCause(ctx)
	stopTimer := r.clock.AfterFunc(r.options.ActionTimeMax, func() { cancel(errActionTimeout) })
	stopClosing := context.AfterFunc(r.closing, func() { cancel(ErrNotOpen) })
	c.Context = inner
	type result struct {
		v     value.Value
		stack []byte
		err   error
	}
	done := make(chan result, 1)
	go func() { // App.Close waits for it, within Options.ActionGrace
		d := result{err: errors.New("the action ended its goroutine")} // by runtime.Goexit, as a failing test does
		defer func() {
			r.actions.end()
			done <- d
		}()
		d.v, d.stack, d.err = c.invoke(args)
	}()
	defer func() {
		stopTimer()
		stopClosing()
		cancel(context.Canceled)
	}()
	select {
	case d := <-done:
		return c.outcome(d.v, d.stack, d.err)
	case <-inner.Done():
	}
	select {
	case d := <-done: // both at once
		return c.outcome(d.v, d.stack, d.err)
	default:
	}
	return c.cutOff()
}

// cutOff is what came of an action whose context ended before it did.
func (c *Ctx) cutOff() (Outcome, error) {
	switch cause := context.Cause(c); {
	case errors.Is(cause, ErrNotOpen):
		return Outcome{}, requestError(CodeUnavailable, "", cause)
	case !errors.Is(cause, errActionTimeout):
		return Outcome{}, cause
	}
	timeMax := c.timeMax
	setDefault(&timeMax, c.run.options.ActionTimeMax)
	failure := systemFailure(CodeActionTimeout, fmt.Sprintf("The action ran longer than %v and was told to stop. What it did until then stays done.", timeMax))
	c.run.logger.Warn("action stopped", "function", c.fn.path, "code", failure.Code)
	return Outcome{Failure: failure, Logs: c.takeLogs(), At: c.run.db.Durable()}, nil
}

func (c *Ctx) invoke(args reflect.Value) (value.Value, []byte, error) {
	v, stack, err := c.fn.invoke(reflect.ValueOf(c), args, c.run)
	if err == nil && value.Size(v) > resultSizeMax {
		err = &value.LimitError{Limit: "result of " + c.fn.path + " in bytes", Got: value.Size(v), Max: resultSizeMax}
	}
	return v, stack, err
}

// outcome makes the outcome of an action that has ended.
func (c *Ctx) outcome(v value.Value, stack []byte, err error) (Outcome, error) {
	logs := c.takeLogs()
	if err == nil {
		c.run.logLines(c.fn, logs)
		return Outcome{Value: v, Logs: logs, At: c.run.db.Durable()}, nil
	}
	if c.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(c))) {
		return c.cutOff()
	}
	c.run.logLines(c.fn, logs)
	return Outcome{Logs: logs, At: c.run.db.Durable(), Failure: c.failure(err, stack)}, nil
}

// failure makes the failure of an error that the action ended with, and logs it without the secrets in it.
func (c *Ctx) failure(err error, stack []byte) *Failure {
	c.mu.Lock()
	secrets := c.mu.secrets
	c.mu.Unlock()
	if text := hideSecrets(err.Error(), c.run.env.hide, secrets); text != err.Error() {
		err = &hidden{err, text}
	}
	if valueLimit, ok := errors.AsType[*value.LimitError](err); ok {
		return systemFailure(CodeLimitExceeded, valueLimit.Error())
	}
	// What the engine refused was one of the action's calls, and its own to handle.
	return c.run.describe(c.fn, c.requestID, &callError{cause: err, stack: stack})
}

// invoke calls the function with its Tx or Ctx and encodes its result. A panic becomes an error here, at the boundary of the function, and
// nowhere else.
func (f *function) invoke(first, args reflect.Value, r *runtime) (result value.Value, stack []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			// Not wrapped: an Error that is thrown and not returned was not meant for the client.
			stack, err = debug.Stack(), fmt.Errorf("panic: %v", p)
		}
	}()
	in := []reflect.Value{first, args}
	out := f.call.Call(in[:f.call.Type().NumIn()])
	if e := out[len(out)-1]; !e.IsNil() {
		return value.Value{}, nil, e.Interface().(error)
	}
	if len(out) == 1 {
		return value.Null(), nil, nil
	}
	result, err = encodeResult(f.result, out[0], moduleTables{r, f.module})
	return result, nil, err
}

// absolute returns the path of a function as another one of the same module names it.
func (f *function) absolute(path string) string {
	if strings.Contains(path, ":") {
		return path
	}
	return f.module + ":" + path
}

// encodeArgs encodes the arguments that Go code gives: a struct, or nil for none.
func encodeArgs(args any) (value.Value, error) {
	if args == nil {
		return value.Object(), nil
	}
	return Encode(args)
}

// finishCall turns the outcome of a call from Go code into its result.
func finishCall(path string, out Outcome, err error, result any) error {
	switch {
	case err != nil:
		return fmt.Errorf("run %s: %w", path, err)
	case out.Failure != nil:
		return fmt.Errorf("run %s: %w", path, out.Failure)
	case result == nil:
		return nil
	}
	if err := Decode(out.Value, result); err != nil {
		return fmt.Errorf("result of %s: %w", path, err)
	}
	return nil
}

// running counts the actions that run, strays included.
type running struct {
	max int
	mu  struct {
		sync.Mutex
		n    int
		idle chan struct{} // closed when nothing runs; nil when nobody waits
	}
}

func (a *running) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.n >= a.max {
		return false
	}
	a.mu.n++
	return true
}

func (a *running) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.n--; a.mu.n == 0 && a.mu.idle != nil {
		close(a.mu.idle)
		a.mu.idle = nil
	}
}

// wait waits until nothing runs, at most for a time, and returns how many still do.
func (a *running) wait(grace time.Duration) int {
	a.mu.Lock()
	if a.mu.n > 0 {
		if a.mu.idle == nil {
			a.mu.idle = make(chan struct{})
		}
		idle := a.mu.idle
		a.mu.Unlock()
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-idle:
		case <-timer.C:
		}
		a.mu.Lock()
	}
	defer a.mu.Unlock()
	return a.mu.n
}
