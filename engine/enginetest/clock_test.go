package enginetest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine/enginetest"
)

func TestClockCallsTimersInOrder(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	c := enginetest.NewClock(start)
	var got []string
	note := func(name string) func() {
		return func() { got = append(got, fmt.Sprint(name, "@", c.Now().Sub(start))) }
	}
	c.AfterFunc(3*time.Second, note("c"))
	c.AfterFunc(time.Second, note("a"))
	c.AfterFunc(time.Second, note("b"))
	stop := c.AfterFunc(2*time.Second, note("stopped"))
	c.AfterFunc(2*time.Second, func() { c.AfterFunc(500*time.Millisecond, note("set on the way")) })
	c.AfterFunc(10*time.Second, note("late"))
	stop()
	stop()
	if at, ok := c.Next(); !ok || at.Sub(start) != time.Second {
		t.Errorf("the next timer is at %v, %v", at.Sub(start), ok)
	}
	c.Advance(999 * time.Millisecond)
	if len(got) != 0 {
		t.Errorf("called too early: %v", got)
	}
	c.Advance(4 * time.Second)
	if want := "[a@1s b@1s set on the way@2.5s c@3s]"; fmt.Sprint(got) != want {
		t.Errorf("called %v, want %s", got, want)
	}
	if now := c.Now().Sub(start); now != 4999*time.Millisecond {
		t.Errorf("the clock stands at %v", now)
	}
	now := make(chan struct{})
	c.AfterFunc(0, func() { close(now) })
	<-now
}
