package halcyon

import (
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// ScheduledFunction is a document of [ScheduledFunctions]: a function that was scheduled, and what became of it. It is kept for 7 days after
// it has ended. Names and fields are those of Convex.
type ScheduledFunction struct {
	ID            ID[ScheduledFunction] `json:"_id" halcyon:"id"`
	CreationTime  time.Time             `json:"_creationTime" halcyon:"creationTime"`
	Name          string                `json:"name"` // "module.js:function"
	Args          []value.Value         `json:"args"` // one object
	ScheduledTime time.Time             `json:"scheduledTime"`
	CompletedTime time.Time             `json:"completedTime,omitzero"`
	State         ScheduledState        `json:"state"`
}

// ScheduledState says how far a scheduled function has come.
type ScheduledState struct {
	Kind ScheduledKind `json:"kind"`
	// Error is what a client would have been told, when Kind is ScheduledFailed.
	Error string `json:"error,omitzero"`
}

// ScheduledKind names a state of a scheduled function.
type ScheduledKind string

// The states of a scheduled function. The last three are final.
const (
	ScheduledPending    ScheduledKind = "pending"    // it has not taken effect
	ScheduledInProgress ScheduledKind = "inProgress" // an action that runs; a mutation goes from pending to its end in one commit
	ScheduledSuccess    ScheduledKind = "success"
	ScheduledFailed     ScheduledKind = "failed"
	ScheduledCanceled   ScheduledKind = "canceled"
)

// Values returns the states.
func (ScheduledKind) Values() []ScheduledKind {
	return []ScheduledKind{ScheduledPending, ScheduledInProgress, ScheduledSuccess, ScheduledFailed, ScheduledCanceled}
}

var _ Enum[ScheduledKind] = ScheduledPending

// ReadTable is a table that functions can read and only the App writes.
type ReadTable[T any] struct{ table *Table[T] }

// Get returns the document with that id, and false when there is none.
func (t ReadTable[T]) Get(tx *Tx, id ID[T]) (T, bool, error) { return t.table.Get(tx, id) }

// All returns all documents in the order of their creation.
func (t ReadTable[T]) All() Query[T] { return t.table.All() }

const (
	systemModule     = "_system"
	byQueue          = "by_queue"
	byCompleted      = "by_completed"
	interruptedError = "interrupted"
)

// scheduledTable has, beside the fields of ScheduledFunction, some of the App's own: queue is the lane a pending function waits in, or
// runningQueue, and absent when it has ended; due is its place in there, see mark; cron, next and missed are those of a cron's run.
var scheduledTable = func() *Table[ScheduledFunction] {
	t := NewTable[ScheduledFunction]("_scheduled_functions")
	t.def.indexes = []engine.IndexDef{{Name: byQueue, Fields: []string{"queue", "due"}}, {Name: byCompleted, Fields: []string{"completedTime"}}}
	return t
}()

// ScheduledFunctions has all functions that were scheduled and have not ended more than 7 days ago, as Convex's _scheduled_functions does.
var ScheduledFunctions = ReadTable[ScheduledFunction]{scheduledTable}

// markTable is the App's own: under the name of each lane the low-water mark of its queue, and under sweepMark that of the sweep.
var markTable = engine.TableDef{
	Name:    engineName(systemModule, "schedulerMarks"),
	Indexes: []engine.IndexDef{{Name: "by_name", Fields: []string{"name"}}},
}

// RunAfter schedules a mutation or an action, internal ones included, for a time after Now, which may be 0: at once. It is scheduled if and
// only if this mutation takes effect, and returns its id in [ScheduledFunctions]. path and args are as for RunMutation; both are checked
// now. The function is run by the program itself: it sees nobody's identity.
//
// A scheduled mutation happens exactly once. It is tried again for ever, at growing intervals of up to a minute, when the failure is one
// that may be retried, such as Timeout; when it fails by itself it has failed. A scheduled action is started at most once: one that was
// running when the program stopped has failed with "interrupted".
func (tx *Tx) RunAfter(d time.Duration, path string, args any) (ID[ScheduledFunction], error) {
	return tx.RunAt(tx.Now().Add(max(d, 0)), path, args)
}

// RunAt is RunAfter for a moment. One that has passed means at once.
func (tx *Tx) RunAt(t time.Time, path string, args any) (ID[ScheduledFunction], error) {
	path = tx.fn.absolute(path)
	id, err := tx.schedule(t, path, args)
	if err != nil {
		return "", fmt.Errorf("schedule %s: %w", path, err)
	}
	return ID[ScheduledFunction](id.String()), nil
}

func (tx *Tx) schedule(t time.Time, path string, args any) (value.ID, error) {
	if tx.sink == nil {
		return value.ID{}, fmt.Errorf("only mutations and actions schedule functions")
	}
	given, err := encodeArgs(args)
	if err != nil {
		return value.ID{}, fmt.Errorf("arguments: %w", err)
	}
	canonical, err := canonicalPath(path)
	if err != nil {
		return value.ID{}, err
	}
	kind, ok := tx.run.app.Kind(canonical)
	if ok && kind == KindQuery {
		return value.ID{}, fmt.Errorf("it is a query; mutations and actions can be scheduled")
	}
	if !ok {
		kind = KindMutation // and resolve says that there is none
	}
	if _, _, refused := tx.run.resolve(canonical, kind, given, true); refused != nil {
		return value.ID{}, refused
	}
	if tx.scheduled++; tx.scheduled > scheduledPerCallMax {
		return value.ID{}, &value.LimitError{Limit: "functions scheduled by one call", Got: tx.scheduled, Max: scheduledPerCallMax}
	}
	if size := value.Size(given); size > scheduledArgsSizeMax {
		return value.ID{}, &value.LimitError{Limit: "arguments of a scheduled function in bytes", Got: size, Max: scheduledArgsSizeMax}
	}
	if away := t.Sub(tx.Now()); away > scheduledAwayMax || away < -scheduledAwayMax {
		return value.ID{}, fmt.Errorf("%v is more than 5 years away", t)
	}
	return tx.run.insertJob(tx.inner, tx.sink, newJob{name: canonical, kind: kind, args: given, at: t.UTC().Truncate(time.Millisecond)})
}

// Cancel ends a function that was scheduled and has not ended: one that has not started is never run; an action that runs goes on, but
// schedules nothing any more. It does nothing to one that has ended, or did so too long ago to be kept.
func (tx *Tx) Cancel(id ID[ScheduledFunction]) error {
	if tx.sink == nil {
		return fmt.Errorf("cancel scheduled function %s: only mutations and actions can", cut(string(id), nameBytesMax, "..."))
	}
	b, key, err := bind(tx, &scheduledTable.def, id)
	if err != nil {
		return err
	}
	d, ok, err := tx.inner.Get(b.table, key)
	if err != nil || !ok {
		return err
	}
	if kind := stateOf(d); kind != ScheduledPending && kind != ScheduledInProgress {
		return nil
	}
	return tx.run.endJob(tx.inner, key, ScheduledState{Kind: ScheduledCanceled})
}

// RunAfter schedules a mutation or an action in a transaction of its own. See [Tx.RunAfter].
func (c *Ctx) RunAfter(d time.Duration, path string, args any) (id ID[ScheduledFunction], err error) {
	err = c.transact(func(tx *Tx) error { id, err = tx.RunAfter(d, path, args); return err })
	return id, err
}

// RunAt schedules a mutation or an action in a transaction of its own. See [Tx.RunAt].
func (c *Ctx) RunAt(t time.Time, path string, args any) (id ID[ScheduledFunction], err error) {
	err = c.transact(func(tx *Tx) error { id, err = tx.RunAt(t, path, args); return err })
	return id, err
}

// Cancel cancels a scheduled function in a transaction of its own. See [Tx.Cancel].
func (c *Ctx) Cancel(id ID[ScheduledFunction]) error {
	return c.transact(func(tx *Tx) error { return tx.Cancel(id) })
}
