//go:build race

package engine_test

// underRace says that the race detector watches: everything takes ten times as
// long then, and Pebble checks itself at each step.
const underRace = true
