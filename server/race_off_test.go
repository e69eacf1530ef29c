//go:build !race

package server

// underRace says that the race detector watches.
const underRace = false
