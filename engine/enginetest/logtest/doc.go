// Package logtest has the tests that every engine.CommitLog must pass, and a
// replicated-like log in memory to run the engine on.
//
// Run takes a function that makes an empty log, which several handles may be
// opened on as several processes would, and holds the log to what
// engine.CommitLog promises: one chain, in which a leader that was deposed has
// no say, whatever it had under way; identical records sent twice that are there
// once; outcomes that are unknown and can be found out; reads from any timestamp
// on; truncation that never passes what a reader holds.
//
// Memory is such a log. Its Handles lose requests and answers, deliver twice
// and late, and are deposed, as told or by a seed, so that what stands on a
// CommitLog can be tested against these faults.
package logtest
