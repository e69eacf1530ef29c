package stats

import (
	"time"

	"github.com/halcyon-db/halcyon"
)

const (
	// sweepBatches is the most batches one run of the cron deletes: 4,000 rows with
	// the default batch, so that a site that 800 visitors leave each minute does not
	// fall behind.
	sweepBatches = 8

	// leftMax is about how many visitors who have left may still be rows when many
	// leave: getStats has to look at each of them, see presence. It is kept by
	// sweeps between those of the cron.
	leftMax = 128

	// sweepPause is the least time between two of these.
	sweepPause = time.Second
)

// cleanupStaleSessions deletes the rows of visitors who have left, at most one
// batch, and returns how many. Their leaving itself needs no write, so rows that
// wait for the next run change no number.
func (a *app) cleanupStaleSessions(tx *halcyon.Tx) (int, error) {
	return a.deleteStale(tx, a.CleanupBatch)
}

// sweepStaleSessions is what the cron runs: cleanupStaleSessions for several
// batches at once. What is more is left to its next run, or to sweepAhead.
func (a *app) sweepStaleSessions(tx *halcyon.Tx) (int, error) {
	return a.deleteStale(tx, a.CleanupBatch*sweepBatches)
}

func (a *app) deleteStale(tx *halcyon.Tx, most int) (int, error) {
	left, err := ActiveSessions.By("by_lastSeen").Lt(a.activeSince(tx)).Take(tx, most)
	if err != nil {
		return 0, err
	}
	for _, session := range left {
		if err := ActiveSessions.Delete(tx, session.ID); err != nil {
			return 0, err
		}
	}
	return len(left), nil
}

type sweepAheadArgs struct {
	Until time.Time `json:"until"`
}

// sweepAhead is sweepStaleSessions between two runs of the cron, and plans the next
// one before the end of its minute.
func (a *app) sweepAhead(tx *halcyon.Tx, args sweepAheadArgs) (int, error) {
	n, err := a.deleteStale(tx, a.CleanupBatch*sweepBatches)
	if err != nil {
		return 0, err
	}
	return n, a.planSweep(tx, args.Until)
}

// planSweep schedules a sweep for the moment at which leftMax of the visitors with
// rows will have left, if none of them beats again, and that is before until. Rows
// that come later leave later than that, if until is not further away than the
// visitor timeout: so there are at most leftMax of those who have left at any time,
// and those of a pause. Most sites never have that many rows, and no sweep.
func (a *app) planSweep(tx *halcyon.Tx, until time.Time) error {
	oldest, err := ActiveSessions.By("by_lastSeen").Take(tx, leftMax)
	if err != nil || len(oldest) < leftMax {
		return err
	}
	// deleteStale takes away what was seen before the timeout, not at it.
	leaves := oldest[leftMax-1].LastSeen.Add(a.VisitorTimeout + time.Millisecond)
	if soonest := tx.Now().Add(sweepPause); leaves.Before(soonest) {
		leaves = soonest
	}
	if !leaves.Before(until) {
		return nil
	}
	_, err = tx.RunAt(leaves, "sweepAhead", sweepAheadArgs{until})
	return err
}
