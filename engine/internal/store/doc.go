// Package store keeps the engine's bytes: one Pebble instance that holds the
// latest value of every key, whose snapshots are the engine's multi-version
// concurrency control.
//
// A Batch is applied in two steps, since the pipeline needs the state visible
// before it is durable: Apply makes it visible to new snapshots, Pending.Wait
// returns when its write-ahead log record is on disk. Nothing else in the
// project touches Pebble's ApplyNoSyncWait, which Pebble marks as
// experimental; TestApplyIsVisibleBeforeItIsDurable pins what we rely on.
//
// A Snapshot is counted by references and closed with the last one. Byte
// slices that Get returns are the caller's own; those of an Iterator are valid
// until its next move.
package store
