// Package engine is Halcyon's reactive document database: documents in
// tables, serializable transactions in which no call fails because another
// one wrote, and live queries that are pushed a new result when a commit, or
// the time alone, changes it.
//
// # Transactions
//
// A function given to DB.Mutate runs on a snapshot, in parallel with others,
// and is validated when it commits. One that lost to another is executed
// again by itself: first in the committer's turn when it is quick, so that a
// hot document costs its callers time and never an error. A function may
// therefore run several times; it must be deterministic given its Tx, and may
// not do I/O. Mutate returns when the outcome's state is durable: an
// acknowledged mutation survives a crash.
//
// # Live queries
//
// A QuerySet is what one screen watches. Poll gives rounds: the results of all
// its queries at one timestamp, only those that changed. Equal queries of
// different sets run once. A query that looks at Tx.Now says with Tx.WakeAt
// when its answer changes by itself.
//
// # Data flow
//
//	Mutate -> Tx (reads, overlay) -> committer (validate, order, group)
//	       -> store (visible) -> publisher (durable) -> acks, live queries
//
// Two watermarks follow from it: mutations read the newest applied state,
// everything shown to the outside is durable. The package knows no HTTP and no
// application; package halcyon is what an application is written against.
package engine
