package halcyon

import (
	"context"
	"fmt"
	"math/rand/v2"
)

type requestIDKey struct{}

// WithRequestID returns a context under which calls are known by an id: in what clients are told of a failure and in the operator's log. A
// call under no such context has an id of its own.
func WithRequestID(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id that calls under ctx are known by, and a random one when it has none.
func RequestID(ctx context.Context) string {
	if id, ok := ctx.Value(requestIDKey{}).(string); ok {
		return id
	}
	return randomRequestID()
}

func randomRequestID() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// RequestID returns the id by which this run is known: failures that clients are told have it, and so has the operator's log.
func (c *Ctx) RequestID() string { return c.requestID }
