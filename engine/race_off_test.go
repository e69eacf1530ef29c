//go:build !race

package engine_test

// underRace says that the race detector watches.
const underRace = false
