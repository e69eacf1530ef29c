// Package aggregate keeps ordered sets of keys in copy-on-write counted B+trees.
//
// It is what a declared aggregate of a table stands on: the committer turns the
// rows of a group of commits into changes of entry keys, and queries ask how
// many entries lie in a range, which entry is the n-th, or where a key ranks,
// each in O(log n) at any snapshot that is still open. Where entries carry
// numbers, the same goes for their sum, least and greatest.
//
// # Types
//
// A [Tree] is a small immutable value: one version of one aggregate. Its nodes
// are blocks of a few KiB in the engine's store. [Tree.Apply] reads the nodes it
// needs through a [Reader], hands every node it changed to the caller exactly
// once, and returns the next version. [Blocks] is the store as one snapshot sees
// it, and [Cache] keeps decoded nodes in memory across snapshots.
//
// # Versions
//
// A node keeps its id for life; a new version of it overwrites the block under
// the same id. What pins a version is the parent, which names each child by id
// and by the [Timestamp] at which it was written, and the root record, which
// names the root the same way. A reader of an old tree therefore needs [Blocks]
// of a snapshot as old as the tree, and every block says its own timestamp, so
// that a snapshot of the wrong age is [ErrCorrupt] and never a wrong count.
//
// The cache is keyed by (aggregate, node, timestamp). Nodes in it never change,
// so old and new versions share it without copying.
//
// # Sums
//
// A [Total] adds up without rounding, and so do branches, so that a sum of
// float64s is the one nearest to the truth and does not change when a tree is
// cut in other places: a query whose entries did not change reads the same bits.
// A sum of int64s has no range either until it is asked for.
//
// # Caveats
//
// Blocks are made for point reads. They are rewritten all the time, and a scan
// across a key that was rewritten often is slow in a log-structured store, so
// they belong in a key range that no query ever scans.
//
// A timestamp belongs to at most one Apply of an aggregate: one that was given
// up must not be tried again at the same timestamp, since its nodes may already
// be in the cache.
//
// The byte layout of blocks and of the root record is in
// docs/format/aggregates.md.
package aggregate
