package engine

import (
	"math"
	"sync"
	"time"
)

const (
	// admissionFew calls are admitted at any time, however slow their functions
	// are: a thousand clients with a call each on its way are a busy hour, and
	// nobody of them sends too much.
	admissionFew = 1024
	// admissionBurst is how long after more than a few have begun to wait calls may
	// wait for admissionBurstWait, if that is more than usual: many clients that come
	// back at once, or beat in step, are no overload. Where four times as many calls
	// come as can be answered, fewer than one in a hundred of those that are admitted
	// in ten minutes wait so long.
	admissionBurst     = 2 * time.Second
	admissionBurstWait = 5 * time.Second
	// admissionCalm is how long no more than a few must have been inside for the
	// next to be a burst of its own.
	admissionCalm = 10 * time.Second
	// admissionWindow is how often the rate is measured, and admissionMemory about
	// how far back it looks: a commit that waits for the disk for a moment is no
	// overload either.
	admissionWindow = 50 * time.Millisecond
	admissionMemory = 500 * time.Millisecond
	// admissionEnded is how many calls must have ended for a measurement, unless
	// admissionPatience has passed.
	admissionEnded    = 16
	admissionPatience = time.Second
)

// admission refuses calls when more come than can be answered. It counts the
// calls that are inside, from when they are admitted until they are answered. By
// Little's law a call that is admitted now will be answered when about as much
// time has passed as those inside need to end at the rate at which calls end.
// When that is more than waitMax the call is refused at once. So those that are
// admitted are answered soon, however many others come, and nothing is done for
// those that are not.
//
// The rate at which calls end says what the database is able to do only while
// calls wait for one another. So it is measured while more than a few are inside,
// and forgotten when no more are.
//
// A limit on the number that wait can't do that: what is the right number for
// functions of a hundred microseconds is a hundred times too large for those of ten
// milliseconds. Looking at how long the newest answer took, and not ahead, lets four
// times too many in until the first of them is answered.
type admission struct {
	clock   Clock
	waitMax time.Duration // negative: nothing is refused

	mu struct {
		sync.Mutex
		inside int
		busy   time.Time // since when more than a few are inside
		calm   time.Time // when there were no more than a few the last time
		burst  time.Time // when the burst began
		began  time.Time // of the measurement; zero until the first call ends in that time
		ended  int       // calls, since then
		rate   float64   // calls that end in a second; 0: not measured yet
	}
}

// enter admits a call, until leave, or fails with ErrOverloaded. Calls that must
// are admitted always.
func (a *admission) enter(must bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !must && a.fullLocked() {
		return ErrOverloaded
	}
	if a.mu.inside++; a.mu.inside == admissionFew+1 {
		a.mu.busy = a.clock.Now()
		if a.mu.burst.IsZero() || a.mu.busy.Sub(a.mu.calm) >= admissionCalm {
			a.mu.burst = a.mu.busy
		}
		a.mu.began, a.mu.ended, a.mu.rate = time.Time{}, 0, 0
	}
	return nil
}

// leave says that an admitted call is answered.
func (a *admission) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.inside--
	switch {
	case a.mu.inside < admissionFew:
	case a.mu.inside == admissionFew:
		a.mu.calm = a.clock.Now()
	case a.mu.began.IsZero():
		a.mu.began = a.clock.Now() // what stood still before that is over
	default:
		a.mu.ended++
		a.measureLocked()
	}
}

// full reports whether a call that came now would be refused.
func (a *admission) full() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.fullLocked()
}

func (a *admission) fullLocked() bool {
	if a.waitMax < 0 || a.mu.inside <= admissionFew {
		return false
	}
	now := a.measureLocked()
	wait := a.waitMax
	if now.Sub(a.mu.burst) < admissionBurst {
		wait = max(wait, admissionBurstWait)
	}
	return a.mu.rate > 0 && float64(a.mu.inside) > a.mu.rate*wait.Seconds()
}

// measureLocked takes what has ended since the last time into the rate, when it
// is time to. REQUIRES: more than a few were inside since mu.began.
func (a *admission) measureLocked() (now time.Time) {
	now = a.clock.Now()
	began := a.mu.began
	if began.IsZero() {
		began = a.mu.busy
	}
	took := now.Sub(began)
	if took < admissionWindow || a.mu.ended < admissionEnded && took < admissionPatience {
		return now
	}
	rate := max(float64(a.mu.ended), 1) / took.Seconds()
	if a.mu.rate > 0 {
		rate = a.mu.rate + (rate-a.mu.rate)*(1-math.Exp(-float64(took)/float64(admissionMemory)))
	}
	a.mu.began, a.mu.ended, a.mu.rate = now, 0, rate
	return now
}

// CallKind says of which calls Overloaded speaks.
type CallKind uint8

// The kinds of calls that are admitted apart from one another.
const (
	Queries CallKind = iota
	Mutations
)

// Overloaded reports whether a call that came now would fail with ErrOverloaded,
// because those before it would keep it waiting for more than WaitMax. It costs
// little: whoever has to do much to find out what a call is, such as to read it
// from the network, asks first.
func (db *DB) Overloaded(k CallKind) bool {
	if k == Mutations {
		return db.mutations.full()
	}
	return db.queries.full()
}
