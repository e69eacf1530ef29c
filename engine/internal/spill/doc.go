// Package spill sorts more keys than fit in memory.
//
// A [Sorter] takes keys with values in any order and gives them back once, in
// the order of the keys. What does not fit in memory is sorted by parts, which
// are written to files, runs, and merged when they are read. Keys that come in
// order are not sorted again.
//
// Runs are of no use to another process: they have no version, and whoever
// owns the folder removes it when it finds it at a start. A sum over each of them
// is checked when it is read to its end, so that a bad disk is an error and not
// wrong data.
package spill
