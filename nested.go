package halcyon

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/halcyon-db/halcyon/engine/value"
)

// runDepthMax is how deep functions may run one another by their paths.
const runDepthMax = 16

// errRunDepth is the error of a function that runs others too deep.
var errRunDepth = fmt.Errorf("functions run functions deeper than %d", runDepthMax)

// Nested runs f as a transaction within this one. When f returns an error or panics, what it has changed is taken back and the transaction
// goes on without it; Nested returns the error. What f has read counts either way. While f runs, no other goroutine may use the Tx.
func (tx *Tx) Nested(f func() error) error { return tx.inner.Nested(f) }

// RunQuery runs a query, also an internal one, in this transaction, which sees its own changes. args is a struct or nil, result a pointer
// to what receives the result or nil. Without a colon the path names a function of the same module.
//
// Where the function is at hand, calling it as Go does the same at less cost; this is for functions that are known by name.
func (tx *Tx) RunQuery(path string, args, result any) error {
	return tx.runHere(KindQuery, path, args, result)
}

// RunMutation runs a mutation, also an internal one, as a transaction within this one: when it fails, nothing of it has happened, and this
// one may go on. See RunQuery for the arguments.
func (tx *Tx) RunMutation(path string, args, result any) error {
	if tx.fn.kind != KindMutation {
		return fmt.Errorf("run %s: a query can't run a mutation", path)
	}
	return tx.runHere(KindMutation, path, args, result)
}

// runHere runs a function in this transaction.
func (tx *Tx) runHere(kind FunctionKind, path string, args, result any) error {
	path = tx.fn.absolute(path)
	given, err := encodeArgs(args)
	if err != nil {
		return fmt.Errorf("arguments of %s: %w", path, err)
	}
	if tx.depth+1 >= runDepthMax {
		return fmt.Errorf("run %s: %w", path, errRunDepth)
	}
	f, makeArgs, refused := tx.run.resolve(path, kind, given, true)
	if refused != nil {
		return fmt.Errorf("run %s: %w", path, refused)
	}
	inner := &Tx{inner: tx.inner, run: tx.run, fn: f, depth: tx.depth + 1, now: tx.now, pages: tx.pages, logs: tx.logs, sink: tx.sink, scheduled: tx.scheduled, identity: tx.identity, userAgent: tx.userAgent}
	var got value.Value
	run := func() error {
		v, stack, err := f.invoke(reflect.ValueOf(inner), makeArgs(), tx.run)
		if err != nil && stack != nil {
			err = &callError{cause: err, stack: stack}
		}
		got = v
		return err
	}
	if kind == KindMutation {
		err = tx.inner.Nested(run)
	} else {
		err = run()
	}
	tx.logs, tx.now, tx.pages, tx.scheduled = inner.logs, inner.now, inner.pages, inner.scheduled
	tx.toldTime, tx.toldWake = tx.toldTime || inner.toldTime, tx.toldWake || inner.toldWake
	tx.toldIdentity = tx.toldIdentity || inner.toldIdentity
	if err != nil {
		// An error that was meant for a client stays one.
		if told, ok := errors.AsType[*Error](err); ok {
			return told
		}
		return fmt.Errorf("run %s: %w", path, err)
	}
	if result == nil {
		return nil
	}
	if err := Decode(got, result); err != nil {
		return fmt.Errorf("result of %s: %w", path, err)
	}
	return nil
}
