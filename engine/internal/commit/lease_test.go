package commit_test

import (
	"testing"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
)

// TestCrashLoopKeepsTimestampsNearTheClock restarts from the lease again and
// again, faster than leases run out: timestamps that ran away from the clock
// made visitors who were just seen count as gone.
func TestCrashLoopKeepsTimestampsNearTheClock(t *testing.T) {
	const second, restart = 1_000_000, 50_000
	now, lease := uint64(1_000*second), uint64(0)
	for crash := range 1000 {
		m := commit.New(commit.Options{}, lease)
		g := m.Seal(now)
		if g.At <= lease {
			t.Fatalf("crash %d: timestamp %d at or below the lease %d", crash, g.At, lease)
		}
		if g.Lease < g.At {
			t.Fatalf("crash %d: timestamp %d above its lease %d", crash, g.At, g.Lease)
		}
		lease = g.Lease
		if ahead := int64(g.At) - int64(now); ahead > 2*second {
			t.Fatalf("crash %d: timestamps are %d us ahead of the clock", crash, ahead)
		}
		now += restart
	}
}
