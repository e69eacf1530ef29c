package sim_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/halcyon-db/halcyon/engine/sim"
)

var (
	seeds  = flag.Int("sim.seeds", 150, "how many seeds are simulated")
	first  = flag.Uint64("sim.first", 0, "the first seed, 0 for a random one")
	steps  = flag.Int("sim.steps", 0, "how many events are drawn, 0 for the default")
	traced = flag.Bool("sim.trace", false, "print each event of the simulations")
)

// run simulates one seed in a bubble of its own.
func run(t *testing.T, seed uint64) (res sim.Result, err error) {
	c := sim.Config{Seed: seed, Steps: *steps}
	if *traced {
		c.Trace = os.Stdout
	}
	synctest.Test(t, func(*testing.T) { res, err = sim.Run(c) })
	return res, err
}

func firstSeed(t *testing.T) uint64 {
	seed := *first
	if seed == 0 {
		seed = rand.Uint64N(1 << 40)
	}
	t.Logf("the first seed is %d", seed)
	return seed
}

// TestSeeds simulates many seeds. Whatever a run draws, nothing of what the
// package documentation lists may be violated.
func TestSeeds(t *testing.T) {
	from := firstSeed(t)
	var mu sync.Mutex
	sum := sim.Result{Crashes: map[string]int{}}
	const shards = 4
	t.Run("all", func(t *testing.T) {
		for shard := range shards {
			t.Run(fmt.Sprint(shard), func(t *testing.T) {
				t.Parallel()
				for i := shard; i < *seeds; i += shards {
					seed := from + uint64(i)
					res, err := run(t, seed)
					if err != nil {
						t.Errorf("seed %d: %v\nrun it alone: go test ./engine/sim -run TestSeeds -sim.seeds=1 -sim.first=%d -sim.trace", seed, err, seed)
						return
					}
					mu.Lock()
					sum.Add(res)
					mu.Unlock()
				}
			})
		}
	})
	t.Logf("%d seeds: %+v", *seeds, sum)
	if *seeds < 150 || t.Failed() {
		return
	}
	// A simulation in which nothing happens proves nothing.
	for name, n := range map[string]int{
		"commits": sum.Commits, "turns": sum.Turns, "repetitions in parallel": sum.Conflicts - sum.Turns, "timeouts": sum.Timeouts,
		"replays": sum.Replays, "lost mutations": sum.Lost, "rounds": sum.Rounds, "rounds of time alone": sum.Slept,
	} {
		if n < *seeds/20 {
			t.Errorf("there were %d %s in %d simulations", n, name, *seeds)
		}
	}
	for _, place := range []string{sim.CrashRunning, sim.CrashBeforeLog, sim.CrashUnsynced, sim.CrashBetween, sim.CrashBeforeAck} {
		if sum.Crashes[place] < *seeds/50 {
			t.Errorf("of %d simulations %d crashed %s; all: %v", *seeds, sum.Crashes[place], place, slices.Sorted(maps.Keys(sum.Crashes)))
		}
	}
}

// TestSameSeedSameTrace runs seeds twice each: whatever decides anything has to
// come from the seed.
func TestSameSeedSameTrace(t *testing.T) {
	from := firstSeed(t)
	hashes := map[uint64]bool{}
	const n = 12
	for i := range uint64(n) {
		a, err := run(t, from+i)
		if err != nil {
			t.Fatalf("seed %d: %v", from+i, err)
		}
		b, err := run(t, from+i)
		if err != nil {
			t.Fatalf("seed %d, the second time: %v", from+i, err)
		}
		if a.Hash != b.Hash {
			t.Errorf("seed %d gave traces %x and %x", from+i, a.Hash, b.Hash)
		}
		hashes[a.Hash] = true
	}
	if len(hashes) != n {
		t.Errorf("%d seeds gave %d different traces: the hash sees too little", n, len(hashes))
	}
}
