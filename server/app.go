package server

import (
	"context"
	"net/http"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// application is what the server needs of an app. See [halcyon.App].
type application interface {
	Query(ctx context.Context, req halcyon.Request) (halcyon.Outcome, error)
	Mutation(ctx context.Context, req halcyon.Request) (halcyon.Outcome, error)
	Action(ctx context.Context, req halcyon.Request) (halcyon.Outcome, error)
	NewQuerySet(encode func(halcyon.Outcome) []byte, notify func()) querySet
	Call(ctx context.Context, req halcyon.Request) (halcyon.Outcome, error)
	Kind(path string) (halcyon.FunctionKind, bool)
	Pin() (engine.Timestamp, error)
	Durable() engine.Timestamp
	Overloaded(calls engine.CallKind) bool
	Routes() []halcyon.Route
	HTTPHandler() http.Handler
	CheckAdminKey(ctx context.Context, key string) (halcyon.AdminKey, error)
	AdminKeysRevoked() uint64
	Sockets() []halcyon.SocketEndpoint
}

// querySet is the live queries of one connection. See [halcyon.QuerySet].
type querySet interface {
	Add(id uint32, path string, args value.Value, journal *string)
	Remove(id uint32)
	SetCaller(identity *halcyon.Identity, admin bool) (again []uint32)
	Moving() bool
	Poll(min engine.Timestamp) (engine.Round, bool)
	Close()
}

// mounted makes an App an application.
type mounted struct{ *halcyon.App }

var _ application = mounted{}

func (m mounted) NewQuerySet(encode func(halcyon.Outcome) []byte, notify func()) querySet {
	return m.App.NewQuerySet(encode, notify)
}
