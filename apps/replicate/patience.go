package replicate

import (
	"time"

	"github.com/halcyon-db/halcyon"
)

// patience tells a function that may answer with a part of what it was asked for when to end: when half of its time is used, so that the rest is
// left for what it has begun. A busy machine then makes pages and batches smaller, and no call fails for what is in them.
type patience struct {
	tx   *halcyon.Tx
	half time.Duration
}

func patienceOf(tx *halcyon.Tx) patience { return patience{tx, tx.TimeLeft() / 2} }

func (p patience) over() bool { return p.tx.TimeLeft() < p.half }
