//go:build race

package e2e

// underRace says that the race detector watches the tests: their clients take ten
// times as long then.
const underRace = true
