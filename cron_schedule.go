package halcyon

import (
	"fmt"
	"strings"
	"time"

	"github.com/adhocore/gronx"
)

// Schedule says when a cron runs. All times of day are in UTC.
type Schedule struct {
	text string // its declaration, by which a changed one is noticed
	// every is the interval of Every, and otherwise 0.
	every time.Duration
	// next returns the first time after t, of all others.
	next func(t time.Time) time.Time
	err  error
}

// Every runs at once, and then again each d after that.
func Every(d time.Duration) Schedule {
	s := Schedule{text: "every " + d.String(), every: d}
	if d < cronIntervalMin {
		s.err = fmt.Errorf("an interval is at least %v, not %v", cronIntervalMin, d)
	}
	return s
}

// Hourly runs at that minute of each hour.
func Hourly(minute int) Schedule {
	return periodic(fmt.Sprintf("hourly at minute %d", minute), time.Hour, 0, 0, minute)
}

// Daily runs at that time of each day.
func Daily(hour, minute int) Schedule {
	return periodic(fmt.Sprintf("daily at %02d:%02d UTC", hour, minute), 24*time.Hour, 0, hour, minute)
}

// Weekly runs at that time of one day of each week.
func Weekly(day time.Weekday, hour, minute int) Schedule {
	s := periodic(fmt.Sprintf("weekly on %v at %02d:%02d UTC", day, hour, minute), 7*24*time.Hour, (int(day)+6)%7, hour, minute)
	if day < time.Sunday || day > time.Saturday {
		s.err = fmt.Errorf("a day of the week is from Sunday to Saturday, not %d", int(day))
	}
	return s
}

// periodic is a time after the begin of each period. Those of a week begin on Monday, as time.Truncate has it.
func periodic(text string, period time.Duration, days, hour, minute int) Schedule {
	at := time.Duration(days*24+hour)*time.Hour + time.Duration(minute)*time.Minute
	s := Schedule{text: text, next: func(t time.Time) time.Time {
		n := t.UTC().Truncate(period).Add(at)
		for !n.After(t) {
			n = n.Add(period)
		}
		return n
	}}
	s.err = checkTimeOfDay(hour, minute)
	return s
}

func checkTimeOfDay(hour, minute int) error {
	switch {
	case minute < 0 || minute > 59:
		return fmt.Errorf("a minute is from 0 to 59, not %d", minute)
	case hour < 0 || hour > 23:
		return fmt.Errorf("an hour is from 0 to 23, not %d", hour)
	}
	return nil
}

// Monthly runs at that time of one day of each month, and not at all in a month that has no such day.
func Monthly(day, hour, minute int) Schedule {
	s := Schedule{text: fmt.Sprintf("monthly on day %d at %02d:%02d UTC", day, hour, minute), err: checkTimeOfDay(hour, minute)}
	if day < 1 || day > 31 {
		s.err = fmt.Errorf("a day of the month is from 1 to 31, not %d", day)
	}
	s.next = func(t time.Time) time.Time {
		year, month, _ := t.UTC().Date()
		for ; ; month++ {
			if n := time.Date(year, month, day, hour, minute, 0, 0, time.UTC); n.Day() == day && n.After(t) {
				return n
			}
		}
	}
	return s
}

// CronExpr runs at the times of a cron expression of five fields: minute, hour, day of the month, month, day of the week, as in
// "30 4 * * MON-FRI". When both days are given, either of them will do.
func CronExpr(expr string) Schedule {
	fields := strings.Fields(expr)
	expr = strings.Join(fields, " ")
	s := Schedule{text: "cron " + expr}
	if len(fields) != 5 || !gronx.IsValid(expr) {
		s.err = fmt.Errorf("%q is no cron expression of five fields", expr)
		return s
	}
	// The minutes, hours and days of some year, or there are none at all.
	if _, err := gronx.NextTickAfter(expr, time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), true); err != nil {
		s.err = fmt.Errorf("%q never comes: %w", expr, err)
		return s
	}
	s.next = func(t time.Time) time.Time {
		n, err := gronx.NextTickAfter(expr, t.UTC(), false)
		if err != nil {
			return never // it has come before, and there is no year any more in which it does
		}
		return n
	}
	return s
}

// String returns the schedule in words.
func (s Schedule) String() string { return s.text }

// first returns the first time to run, for a cron that is new, or has a new schedule and ran last at lastRun.
func (s Schedule) first(now, lastRun time.Time) time.Time {
	switch {
	case s.every == 0:
		return s.next(now.Add(-time.Millisecond))
	case lastRun.IsZero():
		return now
	default:
		return lastRun.Add(s.every)
	}
}

// latest returns the latest time at which a cron can be due. One that is due later waits for a time of a clock that was set back since: it is moved, or
// else it would not run for as long as the clock was set back. With Every it then comes an interval from now; others leave out the next of their times,
// which may be one at which they have run.
func (s Schedule) latest(now time.Time) time.Time {
	if s.every > 0 {
		return now.Add(s.every)
	}
	next := s.next(now)
	if next.Equal(never) {
		return never
	}
	return s.next(next)
}

// after returns the first time to run after now, when due was one before, and how many there were between. It does not count more than
// cronMissedMax of those that have to be looked for.
func (s Schedule) after(due, now time.Time) (next time.Time, missed int) {
	if s.every > 0 {
		missed = int(now.Sub(due) / s.every)
		return due.Add(time.Duration(missed+1) * s.every), missed
	}
	for next = s.next(due); !next.After(now); next = s.next(next) {
		if missed++; missed == cronMissedMax {
			return s.next(now), missed
		}
	}
	return next, missed
}
