package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// steppedClock is moved by hand.
type steppedClock struct{ now time.Time }

func (c *steppedClock) Now() time.Time                                { return c.now }
func (c *steppedClock) AfterFunc(time.Duration, func()) (stop func()) { return func() {} }

// crowd plays calls that come and end at even intervals to an admission. Those
// that are admitted are answered in the order in which they came.
type crowd struct {
	clock    *steppedClock
	a        *admission
	waiting  []time.Time // when they came
	waits    []time.Duration
	refused  int
	came     int
	answered int
}

func newAdmissionCrowd() *crowd {
	clock := &steppedClock{time.Unix(1_800_000_000, 0)}
	return &crowd{clock: clock, a: &admission{clock: clock, waitMax: 500 * time.Millisecond}}
}

// run has calls come and end for a while, so many a second.
func (c *crowd) run(length time.Duration, come, end int) {
	const step = 100 * time.Microsecond
	var coming, ending float64
	for range int(length / step) {
		c.clock.now = c.clock.now.Add(step)
		for ending += float64(end) * step.Seconds(); ending >= 1; ending-- {
			if len(c.waiting) > 0 {
				c.waits = append(c.waits, c.clock.now.Sub(c.waiting[0]))
				c.waiting = c.waiting[1:]
				c.answered++
				c.a.leave()
			}
		}
		for coming += float64(come) * step.Seconds(); coming >= 1; coming-- {
			c.came++
			if err := c.a.enter(false); err == nil {
				c.waiting = append(c.waiting, c.clock.now)
			} else if errors.Is(err, ErrOverloaded) {
				c.refused++
			}
		}
	}
}

func TestAdmission(t *testing.T) {
	for _, tc := range []struct {
		name     string
		run      func(c *crowd)
		refused  func(c *crowd) bool
		waitMax  time.Duration // the longest
		most     time.Duration // of 99 in 100; 0: as waitMax
		answered int           // at least
	}{
		{
			name:     "fewer come than can be answered",
			run:      func(c *crowd) { c.run(10*time.Second, 900, 1000) },
			refused:  func(c *crowd) bool { return c.refused == 0 },
			waitMax:  10 * time.Millisecond,
			answered: 8_990,
		},
		{
			name:     "four times as many",
			run:      func(c *crowd) { c.run(10*time.Minute, 8000, 2000) },
			refused:  func(c *crowd) bool { return c.refused > c.came*73/100 },
			waitMax:  5500 * time.Millisecond,
			most:     time.Second,
			answered: 1_199_900,
		},
		{
			name:     "forty times as many",
			run:      func(c *crowd) { c.run(20*time.Second, 40_000, 1000) },
			refused:  func(c *crowd) bool { return c.refused > 0 },
			waitMax:  7500 * time.Millisecond, // of those that came before the rate was known
			answered: 19_900,
		},
		{
			name: "three thousand that come at once",
			run: func(c *crowd) {
				c.run(100*time.Millisecond, 30_000, 1000)
				c.run(4*time.Second, 0, 1000)
			},
			refused:  func(c *crowd) bool { return c.refused == 0 },
			waitMax:  4 * time.Second,
			answered: 3_000,
		},
		{
			name:     "a few slow ones",
			run:      func(c *crowd) { c.run(20*time.Second, 5, 1); c.run(10*time.Second, 2, 2) },
			refused:  func(c *crowd) bool { return c.refused == 0 },
			waitMax:  time.Hour,
			answered: 30,
		},
		{
			name: "a disk that stands still for half a second",
			run: func(c *crowd) {
				c.run(5*time.Second, 500, 1000)
				c.run(500*time.Millisecond, 500, 0)
				c.run(5*time.Second, 500, 1000)
			},
			refused:  func(c *crowd) bool { return c.refused == 0 },
			waitMax:  time.Second,
			answered: 5_200,
		},
		{
			name: "the crowd goes, and all is as before",
			run: func(c *crowd) {
				c.run(5*time.Second, 8000, 1000)
				c.run(15*time.Second, 500, 1000)
				c.refused = 0
				c.run(5*time.Second, 900, 1000)
			},
			refused:  func(c *crowd) bool { return c.refused == 0 },
			waitMax:  5500 * time.Millisecond,
			answered: 10_000,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newAdmissionCrowd()
			tc.run(c)
			slices.Sort(c.waits)
			most, longest := c.waits[len(c.waits)*99/100], c.waits[len(c.waits)-1]
			told := fmt.Sprintf("%d came, %d were refused, %d answered; 99 in 100 waited for at most %v, the longest wait was %v", c.came, c.refused, c.answered, most, longest)
			if !tc.refused(c) || longest > tc.waitMax || tc.most > 0 && most > tc.most || c.answered < tc.answered {
				t.Errorf("%s; want at most %v and at least %d answered", told, tc.waitMax, tc.answered)
			}
			t.Log(told)
		})
	}
}

// What was accepted before is accepted again, and nothing is refused where the
// limit is switched off.
func TestAdmissionExceptions(t *testing.T) {
	c := newAdmissionCrowd()
	c.run(10*time.Second, 8000, 2000)
	if !c.a.full() {
		t.Fatal("four times as many calls as can be answered are all admitted")
	}
	for range 1000 {
		if err := c.a.enter(true); err != nil {
			t.Fatalf("a call that was accepted before: %v", err)
		}
	}
	off := newAdmissionCrowd()
	off.a.waitMax = -1
	off.run(5*time.Second, 4000, 1000)
	if off.refused > 0 || off.a.full() {
		t.Errorf("%d calls were refused without a limit", off.refused)
	}
}
