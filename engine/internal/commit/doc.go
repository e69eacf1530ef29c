// Package commit puts transactions into one total order.
//
// A Machine decides, one event at a time, whether an attempt may commit, gives
// it its timestamp and collects accepted attempts into groups. It is a plain
// state machine: it starts no goroutine, owns no lock and never asks for the
// time, so that the same events always give the same order. Its driver, in
// package engine, runs functions, writes batches and waits for the disk.
//
// The rules:
//
//   - An attempt that read from snapshot S commits at T if no key it read was
//     written at a timestamp in (S, T). The machine remembers recent writes in
//     a window that reaches back to the oldest snapshot any attempt still uses.
//   - An attempt that fails that test is executed again: in the driver's turn,
//     on the open group's overlay, when it is known to be quick or has lost
//     often enough, so that it cannot lose again; otherwise in parallel.
//   - Timestamps are microseconds, strictly increasing, and never run past a
//     lease that is durable before anyone can see them, so that they stay
//     monotone over a crash.
package commit
