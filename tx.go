package halcyon

import (
	"math/rand/v2"
	"reflect"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Tx is one execution of a function: a serializable transaction of a mutation, or one snapshot for a query. Calling another function is a
// plain Go call with the same Tx, and so part of the same transaction.
//
// A Tx must not be kept or used by other goroutines. A function may be executed several times; what it reads from the Tx, time and
// randomness included, is all that its result may depend on.
type Tx struct {
	inner *engine.Tx
	run   *runtime
	fn    *function
	logs  logLines
	pages pages
	depth int // of functions that run one another

	sink      *sink // of what it schedules; nil when it can't
	scheduled int   // functions, so far

	now      time.Time
	toldTime bool // Now was called
	toldWake bool // WakeAt was called

	userAgent    string    // of the caller of a mutation
	identity     *Identity // of the caller; nil for nobody
	toldIdentity bool      // Identity was called
}

// Now returns the time of the transaction, in UTC and whole milliseconds. It is the same at every call.
//
// A query that depends on it should name with WakeAt the moment its answer changes. One that does not is run again every 5 seconds.
func (tx *Tx) Now() time.Time {
	tx.toldTime = true
	if tx.now.IsZero() {
		tx.now = tx.inner.Now().UTC().Truncate(time.Millisecond)
	}
	return tx.now
}

// TimeLeft returns how long this execution of the function may still take. A function that may do a part of what it was asked for, and say how much,
// stops early by it instead of failing with Timeout.
func (tx *Tx) TimeLeft() time.Duration { return tx.inner.TimeLeft() }

// RangesLeft returns how many more documents and ranges the function may read one by one, of 4,096; a scan is one. Like [Tx.TimeLeft] it lets a
// function end early that may do a part of what it was asked for.
func (tx *Tx) RangesLeft() int { return tx.inner.RangesLeft() }

// HalfSpent reports whether half of the time of this execution is gone, or half of what it may read or write (16,000 documents and 8 MiB read, 2,048
// documents and ranges read one by one, 8,000 documents and 8 MiB written). A function that may do a part of what it was asked for ends then, after
// its first document, and the next call goes on: one that takes its whole time on a slow or busy machine would fail again and again.
func (tx *Tx) HalfSpent() bool { return tx.inner.HalfSpent() }

// Rand returns the randomness of this execution.
func (tx *Tx) Rand() *rand.Rand { return tx.inner.Rand() }

// UserAgent returns what the browser or the program of the caller of a mutation says it is, cut at 512 bytes. It is "" where nothing is told, as in
// scheduled functions, and in queries, which are run once for all who watch them.
func (tx *Tx) UserAgent() string { return tx.userAgent }

// WakeAt names a moment at which the answer of a live query changes although no document does; the earliest one named counts. Elsewhere
// it does nothing.
func (tx *Tx) WakeAt(t time.Time) {
	tx.toldWake = true
	tx.inner.WakeAt(t)
}

// Log adds a line to the call's log, which the client's console shows. At most 256 lines of 4 KiB are kept.
func (tx *Tx) Log(args ...any) { tx.logs.add("LOG", args) }

// Debug is Log at the level DEBUG.
func (tx *Tx) Debug(args ...any) { tx.logs.add("DEBUG", args) }

// Info is Log at the level INFO.
func (tx *Tx) Info(args ...any) { tx.logs.add("INFO", args) }

// Warn is Log at the level WARN.
func (tx *Tx) Warn(args ...any) { tx.logs.add("WARN", args) }

// Error is Log at the level ERROR.
func (tx *Tx) Error(args ...any) { tx.logs.add("ERROR", args) }

// table returns the mount of a table that this function sees.
func (tx *Tx) table(def *tableDef) (*boundTable, error) { return tx.run.table(tx.fn.module, def) }

// callError is the error of one execution together with the lines it logged.
type callError struct {
	cause error
	logs  []string
	stack []byte // of a panic
}

func (e *callError) Error() string { return e.cause.Error() }
func (e *callError) Unwrap() error { return e.cause }

// execute runs a function once. What it schedules is told to s, which is nil for a query. The error, if any, is a *callError.
func (r *runtime) execute(inner *engine.Tx, f *function, args reflect.Value, caller *Identity, s *sink) (value.Value, []string, error) {
	return r.executeTx(&Tx{inner: inner, run: r, fn: f, sink: s, identity: caller}, args)
}

// executeTx is execute for a Tx that was made, which knows afterwards what the function looked at.
func (r *runtime) executeTx(tx *Tx, args reflect.Value) (value.Value, []string, error) {
	f := tx.fn
	result, stack, err := f.invoke(reflect.ValueOf(tx), args, r)
	tx.finish()
	if err == nil && value.Size(result) > resultSizeMax {
		err = &value.LimitError{Limit: "result of " + f.path + " in bytes", Got: value.Size(result), Max: resultSizeMax}
	}
	if err != nil {
		return value.Value{}, nil, &callError{cause: err, logs: tx.logs, stack: stack}
	}
	return result, tx.logs, nil
}

// finish warns once of a query whose answer depends on the time in a way that only running it again can find out. The engine does that.
func (tx *Tx) finish() {
	if tx.fn.kind != KindQuery || !tx.toldTime || tx.toldWake {
		return
	}
	if !tx.fn.warnedNow.Swap(true) {
		tx.run.logger.Warn("query calls Now without WakeAt: it runs again every few seconds while someone watches it", "function", tx.fn.path)
	}
}
