package engine

import (
	"sync"
	"time"
)

// costs knows what functions usually take and how often they lose, so that the
// committer can tell which are quick enough for its turn. It is safe for
// concurrent use.
type costs struct {
	functions sync.Map // name -> *cost
}

// cost is what is known of one function.
type cost struct {
	sync.Mutex
	typical time.Duration
	lost    float64 // share of recent parallel executions that lost, 0 to 1
	calls   uint64
	name    string
}

// of returns what is known of a function; it stays the same for its name.
func (c *costs) of(name string) *cost {
	if f, ok := c.functions.Load(name); ok {
		return f.(*cost)
	}
	f, _ := c.functions.LoadOrStore(name, &cost{name: name})
	return f.(*cost)
}

// ran records how long an execution took. It returns that, or the typical time
// of the function where that is less: on a busy machine one execution may be
// interrupted for long. The typical time follows the median in steps of a
// sixteenth.
func (f *cost) ran(took time.Duration) time.Duration {
	f.Lock()
	defer f.Unlock()
	switch {
	case f.typical == 0:
		f.typical = took
	case took > f.typical:
		f.typical += f.typical/16 + 1
	default:
		f.typical -= f.typical / 16
	}
	return min(took, f.typical)
}

// Of a function that loses more often than turnShare, only one call in
// sampleEvery is still tried in parallel first.
const (
	turnShare   = 0.6
	sampleEvery = 16
)

// straight reports whether a call should go to the committer's turn at once: it
// is quick, and executing it in parallel would probably be for nothing.
func (f *cost) straight(turnCost time.Duration) bool {
	f.Lock()
	defer f.Unlock()
	f.calls++
	return f.lost > turnShare && f.typical < turnCost && f.calls%sampleEvery != 0
}

// judged records whether an execution in parallel lost.
func (f *cost) judged(lost bool) {
	f.Lock()
	defer f.Unlock()
	x := 0.0
	if lost {
		x = 1
	}
	f.lost += (x - f.lost) / sampleEvery
}
