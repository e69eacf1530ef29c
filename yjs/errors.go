package yjs

import (
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// ErrMalformed marks bytes that are not a valid update, state vector, snapshot
// or message. Every decoder of this package returns errors that wrap it or
// ErrLimit.
var ErrMalformed = lib0.ErrMalformed

// ErrLimit marks input that is well-formed but larger than a limit allows; the
// error in the chain is a *LimitError where the limit is one of Limits.
var ErrLimit = errors.New("limit exceeded")

// ErrRange marks an index or a length outside of a shared type.
var ErrRange = errors.New("index out of range")

// ErrDetached marks an operation on a shared type that is not part of a
// document, or on one that already is where it must not be.
var ErrDetached = errors.New("shared type is not in a usable place")

// ErrCollected marks a request that needs history the document has collected.
var ErrCollected = errors.New("the document collects its garbage")

// LimitError says which limit an update exceeds.
type LimitError struct {
	Limit string // the field of Limits
	Got   uint64
	Max   uint64
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("limit exceeded: %s is %d, at most %d allowed", e.Limit, e.Got, e.Max)
}

// Unwrap makes errors.Is(err, ErrLimit) true.
func (e *LimitError) Unwrap() error { return ErrLimit }

// UnsupportedError is returned for a Go value that has no counterpart in
// JavaScript.
type UnsupportedError = lib0.UnsupportedError

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// wrapDecode classifies what a Reader recorded.
func wrapDecode(err error) error {
	if errors.Is(err, lib0.ErrTooDeep) {
		return &LimitError{Limit: "Depth", Got: lib0.MaxDepth + 1, Max: lib0.MaxDepth}
	}
	return err
}
