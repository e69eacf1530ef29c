// Package live decides which live queries must run again, and when the results a client watches agree on one timestamp.
//
// The package is one state machine, [Machine]. It owns which query sets watch which queries, the read set of each
// query's newest result, the matching of commits against those read sets, wake-ups by time, and the rounds: results of
// all queries of a set at one timestamp. It runs nothing itself. Every event is a method call that takes the present
// time and answers with effects ([Effect]) for the driver to carry out in order: start this run, notify that set,
// move time on, forget this query. There is no goroutine, channel, lock or clock in it, so the same events in the same
// order give the same effects.
//
// # Results
//
// A run of a query happens at a snapshot, always the newest watermark. Its result is immutable: a body, the snapshot it
// was computed at and the last watermark it is known to be valid at. That end is open until a commit touches a key the
// run has read, or a watermark reaches the moment the run asked to be woken at; then it is the watermark before. A group
// of transactions is published at one watermark, so the instants in the middle of a group do not exist here.
//
// A watched query whose result has ended is run again at once, but no sooner than max(Tick, twice its last run time)
// after its last start. When the new body equals the old one nobody is told.
//
// # Rounds
//
// A round is all results of a set at one timestamp, Round.At. Any timestamp at which every result is valid will do, as
// long as it is not below the previous round, below the minimum that was asked for, or below the watermark at which a
// slot that was never delivered was added. So the set is offered the newest such timestamp when the newest results have
// one in common. When they have none, the round is pinned at the newest watermark: results valid there are held, runs
// in progress are awaited, everything else is run at the pin. A run in progress began below the pin, so its result may
// turn out to share no timestamp with the others; then the round is pinned again. The third pin waits for no run but
// those that begin at the pin itself, so a round ends after at most three runs of its slowest query.
//
// # Lifecycle
//
// [New] makes a machine; [Machine.Open] and [Machine.Close] bound the life of a set, [Machine.Watch] and
// [Machine.Unwatch] that of a slot in it. The driver serialises all calls, reports durable groups with
// [Machine.Committed] and finished runs with [Machine.Ran], and calls [Machine.Alarm] at [Machine.NextAlarm]. After a
// Notify it calls [Machine.Poll]. When everything is closed and every run has been reported, [Machine.Stats] is zero.
//
// # Caveats
//
// The effects of a call are valid until the next call. Byte slices given to Committed and Ran belong to the machine
// afterwards and must not be modified; bodies handed out by Poll are shared between all sets and must not be either.
package live
