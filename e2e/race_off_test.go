//go:build !race

package e2e

// underRace says that the race detector watches the tests.
const underRace = false
