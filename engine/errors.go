package engine

import (
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/store"
)

// Errors that callers branch on. Timeout and Overloaded concern one call and
// may be retried as they are.
var (
	ErrTimeout       = errors.New("the function ran longer than its time limit")
	ErrOverloaded    = errors.New("too many calls are waiting; nothing was started, try again shortly")
	ErrTooOld        = errors.New("the request is older than the outcomes kept for its client; it was not executed")
	ErrClosed        = errors.New("the database is closed")
	ErrFailed        = errors.New("storage failed; the process must be restarted")
	ErrFunctionStuck = errors.New("the function is refused: several runs of it never returned")
	ErrNoDocument    = errors.New("no such document")
	// ErrDocumentExists says that a document has the id already, and
	// ErrBadDocumentID that the id is of another table or the creation time is not a
	// number.
	ErrDocumentExists = errors.New("a document has that id already")
	ErrBadDocumentID  = errors.New("the id is of another table, or the creation time is no number")
	ErrReadOnly       = errors.New("a query cannot write")
	ErrNoSum          = errors.New("the aggregate is declared without a sum")
	ErrSumRange       = aggregate.ErrSumRange
	ErrTxDone         = errors.New("the transaction is over: a Tx must not be kept")
	ErrNoTable        = errors.New("the schema has no such table")
	ErrNoIndex        = errors.New("the schema has no such index or aggregate")
	ErrIndexBuilding  = errors.New("it is being built; try again later")
	ErrBuildFailed    = errors.New("it could not be built from the documents there are")
	ErrCorrupt        = store.ErrCorrupt
	ErrLocked         = store.ErrLocked
	ErrNewerFormat    = store.ErrNewerFormat
	ErrExists         = store.ErrExists
	ErrNotDatabase    = store.ErrNotDatabase
	ErrPermission     = store.ErrPermission
	ErrDiskFull       = errors.New("the disk is nearly full, so nothing is written; reading goes on")
	ErrOlderFormat    = errors.New("the folder was written by an older version, whose data this one does not read")
)

// LimitError reports a limit of one transaction that a function went past.
type LimitError struct {
	Limit string // what is limited, in words
	Max   int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("too much in one transaction: %s, at most %d", e.Limit, e.Max)
}

// RangeError reports a Range that does not fit its index.
type RangeError struct {
	Index  string
	Reason string
}

func (e *RangeError) Error() string { return fmt.Sprintf("range of index %s: %s", e.Index, e.Reason) }

// PanicError is the outcome of a function that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("the function panicked: %v", e.Value) }

// The limits of one transaction.
const (
	documentsReadMax    = 32_000
	bytesReadMax        = 16 << 20
	intervalsMax        = 4_096
	documentsWrittenMax = 16_000
	bytesWrittenMax     = 16 << 20
	indexKeySizeMax     = 4 << 10
)

// BuildingError reports the use of an index or aggregate that does not have all
// entries yet. It is ErrIndexBuilding, and the same call will succeed later.
type BuildingError struct {
	Table, Index string
	// Done and Total are steps of the build, for the sake of their ratio. Total
	// is 0 while it is not known.
	Done, Total int64
}

// Error does not tell the progress, so that it is the same at each attempt.
func (e *BuildingError) Error() string {
	return fmt.Sprintf("index %s of %s: %v", e.Index, e.Table, ErrIndexBuilding)
}

// Unwrap makes errors.Is(err, ErrIndexBuilding) true.
func (e *BuildingError) Unwrap() error { return ErrIndexBuilding }
