package halcyon

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Query runs a query on the newest durable snapshot. What goes wrong inside of the function, or with its name and arguments, is a Failure
// of the Outcome; the error is a *RequestError or that of ctx.
func (a *App) Query(ctx context.Context, req Request) (out Outcome, err error) {
	r, f, args, refused, err := a.prepare(req, KindQuery)
	if err != nil || refused != nil {
		return a.refusal(refused), err
	}
	began, id := r.clock.Now(), RequestID(ctx)
	defer func() { r.ended(f, id, began, out, err) }()
	var done atomic.Pointer[Outcome] // an execution that overran its time may end after this has returned
	query := func(inner *engine.Tx) error {
		v, logs, err := r.execute(inner, f, args(), req.Identity, nil)
		if err == nil {
			done.Store(&Outcome{Value: v, Logs: logs})
		}
		return err
	}
	at := req.At
	if at != 0 {
		err = r.db.QueryAt(ctx, f.path, at, query)
	} else {
		at, err = r.db.Query(ctx, f.path, query)
	}
	if err != nil {
		return r.failed(f, id, err, at)
	}
	out = *done.Load()
	out.At = at
	r.logLines(f, out.Logs)
	return out, nil
}

// Mutation runs a mutation and returns when it is durable. With Once set, repeating the request returns the first outcome and changes
// nothing. Failures and errors are as for Query; when ctx ends first, the mutation may still take effect.
func (a *App) Mutation(ctx context.Context, req Request) (out Outcome, err error) {
	r, f, args, refused, err := a.prepare(req, KindMutation)
	if err != nil || refused != nil {
		return a.refusal(refused), err
	}
	began, id := r.clock.Now(), RequestID(ctx)
	defer func() { r.ended(f, id, began, out, err) }()
	call := engine.Call{Name: f.path, Client: req.Client, Request: req.RequestID, Once: req.Once, Admitted: req.Admitted, Relaxed: f.relaxed, Early: f.relaxed && req.Early}
	if req.OnCommit != nil {
		call.OnCommit = func(receipt engine.Receipt) {
			if out, err := decodeOutcome(receipt); err == nil {
				req.OnCommit(out)
			}
		}
	}
	receipt, err := r.mutate(ctx, call, req.parent, func(inner *engine.Tx, s *sink) ([]byte, error) {
		v, logs, err := r.executeTx(&Tx{inner: inner, run: r, fn: f, sink: s, identity: req.Identity, userAgent: req.UserAgent}, args())
		if err != nil {
			return nil, err
		}
		return encodeOutcome(v, logs), nil
	})
	if err != nil {
		return r.failed(f, id, refusedOp(err), receipt.At)
	}
	out, err = decodeOutcome(receipt)
	if err != nil {
		return Outcome{}, requestError(CodeInternal, "", fmt.Errorf("stored outcome of %s: %w", f.path, err))
	}
	r.logLines(f, out.Logs)
	return out, nil
}

// Overloaded reports whether a call that came now would fail with CodeOverloaded. It costs little, for who has to read a call from the
// network first.
func (a *App) Overloaded(calls engine.CallKind) bool {
	r := a.running.Load()
	return r != nil && r.db.Overloaded(calls)
}

// Run calls any function, internal ones included, for the program itself: args is a struct or nil, and result, if not nil, a pointer to
// what receives the result. A failure of the function is a *Failure.
func (a *App) Run(ctx context.Context, path string, args, result any) error {
	encoded, err := encodeArgs(args)
	if err != nil {
		return fmt.Errorf("arguments of %s: %w", path, err)
	}
	out, err := a.Call(ctx, Request{Path: path, Args: encoded, Admin: true, Early: true})
	return finishCall(path, out, err, result)
}

// Call runs a function of whatever kind. Failures and errors are as for Query, Mutation and Action.
func (a *App) Call(ctx context.Context, req Request) (Outcome, error) {
	switch kind, _ := a.Kind(req.Path); kind {
	case KindQuery:
		return a.Query(ctx, req)
	case KindAction:
		return a.Action(ctx, req)
	default:
		return a.Mutation(ctx, req)
	}
}

// prepare finds the function of a request and checks the arguments. args makes the function's argument, anew at each call, since an
// execution may modify what it is given. refused is set when there is nothing to run.
func (a *App) prepare(req Request, kind FunctionKind) (r *runtime, f *function, args func() reflect.Value, refused *Failure, err error) {
	path, err := canonicalPath(req.Path)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	if r = a.running.Load(); r == nil {
		return nil, nil, nil, nil, requestError(CodeUnavailable, "", ErrNotOpen)
	}
	if req.Args.IsUndefined() {
		req.Args = value.Object()
	}
	if req.Args.Kind() != value.KindObject {
		return nil, nil, nil, nil, requestError(CodeBadArgs, "", nil)
	}
	f, args, refused = r.resolve(path, kind, req.Args, req.Admin)
	return r, f, args, refused, nil
}

// refusal is the outcome of a call that was not run.
func (a *App) refusal(refused *Failure) Outcome {
	return Outcome{Failure: refused, At: a.Durable()}
}

// resolve finds a function and checks its arguments. What is wrong with either is the caller's mistake and told in full.
func (r *runtime) resolve(path string, kind FunctionKind, given value.Value, admin bool) (*function, func() reflect.Value, *Failure) {
	f, ok := r.app.functions[path]
	switch {
	case !ok || r.hidden(f) && !admin:
		return nil, nil, &Failure{Message: fmt.Sprintf("Could not find public function for '%s'.", path)}
	case f.kind != kind:
		return nil, nil, &Failure{Message: fmt.Sprintf("Trying to execute %s as %s, but it is defined as %s.", path, kind, f.kind)}
	}
	if size := value.Size(given); size > argsSizeMax {
		limit := &value.LimitError{Limit: "arguments of " + path + " in bytes", Got: size, Max: argsSizeMax}
		return nil, nil, systemFailure(CodeLimitExceeded, limit.Error())
	}
	first, err := decodeArgs(moduleTables{r, f.module}, f, given)
	if err != nil {
		return nil, nil, &Failure{Message: "ArgumentValidationError: " + err.Error()}
	}
	var used atomic.Bool
	return f, func() reflect.Value {
		if !used.Swap(true) {
			return first
		}
		again, _ := decodeArgs(moduleTables{r, f.module}, f, given) // has succeeded before
		return again
	}, nil
}

func decodeArgs(tables tableNames, f *function, given value.Value) (reflect.Value, *ValidationError) {
	args := reflect.New(f.args.typ).Elem()
	err := (&decoder{tables: tables}).decode(f.args, given, args)
	return args, err
}

// failed turns the error of an execution into an outcome, or into the error of the request.
func (r *runtime) failed(f *function, requestID string, err error, at engine.Timestamp) (Outcome, error) {
	out := Outcome{At: at}
	call, ran := errors.AsType[*callError](err)
	if ran {
		out.Logs = call.logs
		r.logLines(f, out.Logs)
	}
	failure, refusal := classify(err)
	switch {
	case refusal != nil:
		return Outcome{}, refusal
	case failure != nil:
		out.Failure = failure
		r.logger.Warn("function stopped", "function", f.path, "code", failure.Code, "error", err)
	case !ran && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)):
		return Outcome{}, err
	case !ran:
		return Outcome{}, requestError(CodeInternal, "", err)
	default:
		out.Failure = r.describe(f, requestID, err)
	}
	return out, nil
}

// describe makes the failure of a function's own error, and logs what clients are not told.
func (r *runtime) describe(f *function, requestID string, err error) *Failure {
	text := "[Request ID: " + requestID + "] Server Error"
	told, ok := errors.AsType[*Error](err)
	if ok {
		data, dataErr := told.data()
		if dataErr == nil {
			return &Failure{Message: text + "\nUncaught ConvexError: " + string(value.AppendJSON(nil, data)), Data: data}
		}
		err = dataErr
	} else if inner, ok := errors.AsType[*Failure](err); ok && !inner.Data.IsUndefined() {
		// An action passes on how a function that it ran has failed.
		return &Failure{Message: text + "\nUncaught ConvexError: " + string(value.AppendJSON(nil, inner.Data)), Data: inner.Data, Code: inner.Code}
	}
	attrs := []any{"function", f.path, "request_id", requestID, "error", err}
	if call, ok := errors.AsType[*callError](err); ok && call.stack != nil {
		attrs = append(attrs, "stack", string(call.stack))
	}
	r.logger.Error("function failed", attrs...)
	if r.options.ShowErrors {
		text += "\nUncaught Error: " + err.Error()
	}
	return &Failure{Message: text}
}

// logLines passes the lines of a call to the operator's log, for development.
func (r *runtime) logLines(f *function, lines []string) {
	if len(lines) > 0 && r.logger.Enabled(context.Background(), slog.LevelDebug) {
		r.logger.Debug("function logged", "function", f.path, "lines", strings.Join(lines, "\n"))
	}
}

// stableRequestID names a failure of a live query. It is the same for the same failure, so that a query which keeps failing in one way is
// not shown to have changed.
func stableRequestID(key string, err error) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(key + "\x00" + err.Error())) // never fails
	return fmt.Sprintf("%016x", h.Sum64())
}

// outcomeVersion is the first byte of the stored outcome of a mutation. The record codec's encoding of [value, [log line, ...]] follows.
const outcomeVersion = 1

// encodeOutcome returns what is kept of a mutation that succeeded.
func encodeOutcome(v value.Value, logs []string) []byte {
	lines := make([]value.Value, len(logs))
	for i, line := range logs {
		lines[i] = value.String(line)
	}
	return value.AppendBinary([]byte{outcomeVersion}, value.Array(v, value.Array(lines...)))
}

func decodeOutcome(receipt engine.Receipt) (Outcome, error) {
	out := Outcome{At: receipt.At, Replayed: receipt.Replayed}
	b := receipt.Result
	if len(b) == 0 || b[0] != outcomeVersion {
		return out, fmt.Errorf("%w: outcome of %d bytes has no known version", engine.ErrCorrupt, len(b))
	}
	v, err := value.DecodeBinary(b[1:])
	if err != nil {
		return out, err
	}
	if v.Len() != 2 {
		return out, fmt.Errorf("%w: outcome has %d parts", engine.ErrCorrupt, v.Len())
	}
	out.Value = v.Index(0)
	for i := range v.Index(1).Len() {
		line, _ := v.Index(1).Index(i).AsString()
		out.Logs = append(out.Logs, line)
	}
	return out, nil
}
