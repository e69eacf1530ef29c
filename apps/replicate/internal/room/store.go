package room

import (
	"context"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// Position is a place in the order of commits: a timestamp. Zero is before all.
type Position uint64

// Access is what a client may do with a document.
type Access uint8

// The accesses, each with the ones before it.
const (
	None Access = iota
	Read
	Write
)

// State is what a client lacks of a document.
type State struct {
	// Access is what the caller may do. With None all else is empty.
	Access Access
	// Missing is a V1 update, and Vector the state vector of the whole document.
	Missing []byte
	Vector  yjs.StateVector
	// At is the newest change that is in it. What comes later is told by Follow.
	At Position
}

// Change is what a commit brought to a document.
type Change struct {
	Document string
	At       Position
	Update   []byte // V1; empty for one that tells of nothing to send
}

// Edit is what one client wants to write.
type Edit struct {
	Caller *halcyon.Identity // nil for nobody
	Update []byte            // V1, checked
}

// Fate is what became of an edit.
type Fate uint8

// The fates of an edit.
const (
	Applied Fate = iota // durable; or there was nothing new in it
	Gapped              // it builds on what the document does not have, and was not written
	Refused             // the caller may not, or a limit was reached
)

// Result is what became of an edit, and why.
type Result struct {
	Fate   Fate
	Code   string // stable; for Refused
	Reason string // for people
}

// Store is where documents are. Its methods are called by many goroutines.
type Store interface {
	// Access says what a caller may do with a document, which need not exist.
	Access(ctx context.Context, caller *halcyon.Identity, document string) (Access, error)

	// Load returns what a client with a state vector lacks of a document as it is on the disk. A document that does not exist is empty.
	Load(ctx context.Context, caller *halcyon.Identity, document string, have yjs.StateVector) (State, error)

	// Since returns what came to a document after a position as one V1 update, which may hold more than that, and the position of the
	// newest change in it.
	Since(ctx context.Context, caller *halcyon.Identity, document string, after Position) ([]byte, Position, error)

	// Write writes edits to one document and returns when they are durable. Each edit has a result; one that is not applied takes no other
	// down. durable is called before it returns, and before Follow tells of a change, with the position of the change and the edits it is
	// of. An error says that nothing is known of any of the edits.
	Write(ctx context.Context, document string, edits []Edit, durable func(at Position, edits ...int)) ([]Result, error)

	// Follow calls told with all changes that become durable of the documents which are open, in the order of their positions. ready is
	// called when no change is missed that is not in what Load returns from then on. upTo is the position up to which everything has been
	// told. Follow returns when ctx ends or following fails.
	Follow(ctx context.Context, ready func(), open func(document string) bool, told func(changes []Change, upTo Position)) error
}

// Conn is the WebSocket connection of a client. A [halcyon.Socket] is one whose route refuses slow clients, see
// [halcyon.SocketRoute.RefuseSlow].
type Conn interface {
	// Send sends bytes as one message and never waits. It returns halcyon.ErrSlowReader when the client has yet to take too much.
	Send(message []byte) error
	// Flush waits until the client has been handed all that was sent.
	Flush() error
	// Close closes the connection behind what was sent.
	Close(code int, reason string)
}

var _ Conn = (*halcyon.Socket)(nil)
