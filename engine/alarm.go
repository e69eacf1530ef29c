package engine

import "time"

// alarm rings once when the clock reaches a moment. It belongs to one goroutine.
type alarm struct {
	rings  chan struct{}
	at     uint64 // 0 when it is not set
	disarm func()
}

func newAlarm() alarm { return alarm{rings: make(chan struct{}, 1)} }

// set lets the alarm ring at a moment, in microseconds, unless it will ring
// before.
func (a *alarm) set(clock Clock, at, now uint64) {
	if a.at != 0 && a.at <= at {
		return
	}
	a.stop()
	a.at = at
	rings := a.rings
	a.disarm = clock.AfterFunc(time.Duration(max(at, now)-now)*time.Microsecond, func() {
		select {
		case rings <- struct{}{}:
		default:
		}
	})
}

// stop disarms the alarm. It may still ring once, for nothing.
func (a *alarm) stop() {
	if a.at != 0 {
		a.disarm()
		a.at = 0
	}
}

// rang says that the ring has been heard: the alarm is not set any more.
func (a *alarm) rang() { a.at = 0 }
