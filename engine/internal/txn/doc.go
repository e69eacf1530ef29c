// Package txn holds what one attempt at a transaction has read and written.
//
// A ReadSet records the points and the ranges of keys that a function's answer
// depends on, and only those it consumed. An Overlay holds the changes that
// are not in the store yet. A View reads through a stack of overlays down to a
// snapshot: transaction, then the open group, then the store.
//
// Keys of declared aggregates' entries travel the same way: an overlay counts
// them by deltas, since entries live in blocks and are never stored by key.
package txn
