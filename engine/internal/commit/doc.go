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
//   - An attempt that fails that test and is known to be quick is executed
//     again in the driver's turn, on the open group's overlay, where it cannot
//     lose again. For a slower one what it has read is reserved: it is executed
//     again in parallel, while attempts that would write into the reservation
//     are parked until it has committed or its time is over. Attempts wait for
//     older reservations only, so that there is no circle.
//   - Timestamps are microseconds, strictly increasing, and never run past a
//     lease that is durable before anyone can see them, so that they stay
//     monotone over a crash.
package commit
