//go:build !race

package stats_test

// underRace says that the race detector watches.
const underRace = false
