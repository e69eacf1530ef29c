// Package sim runs the real engine as a simulation that a seed decides: which
// function goes on, when the log reaches the disk, when answers leave, when the
// clock moves, when the process dies and what the disk has of it then. The same
// seed gives the same run, decision by decision.
//
// # How
//
// A simulation runs inside of a bubble of testing/synctest. Everything that
// could go on by itself stops at a gate: functions before each of their reads
// and writes, calls before they begin and before they are submitted, live
// queries, writes and syncs of the write-ahead log, the callback that comes
// before a mutation is answered. The driver waits until nothing moves any more,
// looks at who stands at a gate and which clients are idle, and draws the next
// event. So at any time one chain of events runs in the engine, although it
// keeps all its goroutines, and a crash can fall between any two steps.
//
// # What is checked
//
//   - Each read of each transaction and of each screen, by a replay in the order
//     of commits against a model (package enginetest).
//   - After a crash: what was acknowledged or shown is there, what is there is
//     the beginning of the order of commits, nothing is there in part, and time
//     goes on above all that was handed out.
//   - Requests that are sent again are executed once and answered as before.
//   - A call that begins after another was answered comes after it; a screen does
//     not show a mutation that was not answered; rounds never go back.
//   - Nothing fails because of others, and everything ends.
//   - DB.Verify finds nothing, and sums that must not change have not.
//
// When the process dies, its database goes on for a while as a ghost: what is
// under way is finished on the old disk, so that the whole order of commits is
// known and what the new process has recovered can be compared with it. Nobody
// is told what a ghost does.
//
// # Caveats
//
// What runs inside of Pebble's own background work is not drawn by the seed; it
// is quiet whenever the driver looks. After an error of the disk nothing more
// is known about the groups that were under way, so such a run ends with the
// recovery.
package sim
