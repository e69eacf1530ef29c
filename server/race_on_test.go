//go:build race

package server

// underRace says that the race detector watches: everything takes ten times as
// long then.
const underRace = true
