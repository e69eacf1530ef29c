package halcyon

import "github.com/halcyon-db/halcyon/engine"

// halfGone returns a function that tells whether half of the time is gone that was left of an execution. Batches of unknown cost end there, after their
// first document, and the next transaction goes on: one that takes its whole time on a slow or busy machine would fail again and again.
func halfGone(inner *engine.Tx) func() bool {
	half := inner.TimeLeft() / 2
	return func() bool { return inner.TimeLeft() < half }
}
