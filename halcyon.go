package halcyon

import (
	"reflect"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// ID is the id of a document of a table whose documents are T. Its text is Convex's form; clients treat it as opaque.
type ID[T any] string

func (ID[T]) refersTo() reflect.Type { return reflect.TypeFor[T]() }

// Nullable is a T that may be null. Use it where clients expect null and not an absent field, which is what a nil pointer gives.
type Nullable[T any] struct {
	Value T
	Valid bool // false: null
}

// Null returns the null of a T, which is also the zero Nullable.
func Null[T any]() Nullable[T] { return Nullable[T]{} }

// NotNull returns v as a Nullable.
func NotNull[T any](v T) Nullable[T] { return Nullable[T]{Value: v, Valid: true} }

func (Nullable[T]) nullable() {}

// Fields are the fields that a Patch changes, by name. A nil removes an optional field, and sets a Nullable one to null.
type Fields map[string]any

// FunctionKind tells queries, mutations and actions apart.
type FunctionKind uint8

// The kinds of functions.
const (
	KindQuery    FunctionKind = iota + 1 // reads; may be subscribed to
	KindMutation                         // a serializable transaction
	KindAction                           // may do anything; not a transaction, run at most once
)

// String returns the name of the kind as Convex writes it.
func (k FunctionKind) String() string {
	switch k {
	case KindQuery:
		return "Query"
	case KindMutation:
		return "Mutation"
	case KindAction:
		return "Action"
	default:
		return "Unknown"
	}
}

// Request is one call of a function from outside of it.
type Request struct {
	Path string      // "module:function"; "module.js:function" and "module" (for "module:default") mean the same
	Args value.Value // an object; undefined is {}

	// Client and RequestID name a mutation for good when Once is set: however often it is sent, it happens once.
	Client    engine.ClientID
	RequestID uint32
	Once      bool

	Identity *Identity // of the user who calls; nil for nobody
	Admin    bool      // the caller may run internal functions
	// UserAgent is what the browser or the program of the caller says it is; "" where that is not told.
	UserAgent string
	// At is what App.Pin has returned, for a query on the state of then; 0 for the newest one.
	At engine.Timestamp
	// Admitted says that the call was accepted before, say on an earlier connection: it is not refused because too many come.
	Admitted bool
	// Early has a Relaxed mutation answered before it is durable.
	Early bool

	// OnCommit, if set, is called when a mutation's change is durable and before any live query shows it, so that an answer can be put
	// in front of what follows from it. It must be quick and must not call the App. It is not called for a mutation that changed
	// nothing, failed or was replayed; for those the Outcome that Mutation returns is early enough.
	OnCommit func(Outcome)

	parent value.ID // the scheduled action that makes the call; zero for none
}

// Outcome is what a function did: a value or a failure.
type Outcome struct {
	Value    value.Value
	Failure  *Failure // nil when the function succeeded
	Logs     []string // lines such as "[LOG] 'hello'"
	At       engine.Timestamp
	Replayed bool // the mutation had happened before, and this is what it answered then
	// Journal is what a client gives back when it subscribes to the query again, so that its pages keep their ends; nil without pages. A failure of a
	// query that has read pages before has it too.
	Journal *string
}
