//go:build race

package stats_test

// underRace says that the race detector watches: everything takes ten times as long then.
const underRace = true
