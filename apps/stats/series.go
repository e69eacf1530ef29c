package stats

import (
	"fmt"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
)

// Unit is the length of a point of a series.
type Unit string

// The units.
const (
	UnitHour Unit = "hour"
	UnitDay  Unit = "day"
)

var _ halcyon.Enum[Unit] = Unit("")

// Values returns the units.
func (Unit) Values() []Unit { return []Unit{UnitHour, UnitDay} }

const (
	// pointsMax is the most points of a series.
	pointsMax = 1000

	hoursDefault = 24

	// curveMinutes is how far back getActiveCurve goes.
	curveMinutes = 120
)

type seriesArgs struct {
	Unit     Unit   `json:"unit"`
	TimeZone string `json:"timeZone,omitzero"`
	Filter
	From time.Time `json:"from,omitzero"`
	To   time.Time `json:"to,omitzero"`
	Viewer
}

// Series is the result of getSeries.
type Series struct {
	Points []Point `json:"points"` // without gaps, oldest first
	// Previous is as many points right before them.
	Previous []Point `json:"previous"`
	TimeZone string  `json:"timeZone"`
	Pending  int     `json:"pending"` // as in Breakdown
}

// A Point is an hour or a day.
type Point struct {
	Time     time.Time `json:"time"` // its beginning
	Views    int       `json:"views"`
	Visitors int       `json:"visitors"` // different ones in it
}

// getSeries counts views and visitors by hour or by day of a time zone.
func (a *app) getSeries(tx *halcyon.Tx, args seriesArgs) (Series, error) {
	if err := a.allow(args.Key); err != nil {
		return Series{}, err
	}
	zone := a.TimeZone
	if args.TimeZone != "" {
		var err error
		if zone, err = time.LoadLocation(args.TimeZone); err != nil || args.TimeZone == "Local" {
			return Series{}, &halcyon.Error{Code: CodeTimeZone, Message: fmt.Sprintf("there is no time zone %.100q", args.TimeZone)}
		}
	}
	result := Series{TimeZone: zone.String()}
	starts, err := pointStarts(tx, args, zone)
	if err != nil {
		return result, err
	}
	r, err := a.newReader(tx, args.Filter)
	if err != nil {
		return result, err
	}
	points, err := r.points(starts, args.Unit == UnitDay && zone.String() == a.TimeZone.String())
	if err == nil {
		err = r.addLeftOut()
	}
	if err != nil {
		return result, err
	}
	result.Pending = r.pending
	half := len(points) / 2
	result.Previous, result.Points = points[:half], points[half:]
	return result, nil
}

// pointStarts returns when the points begin, first those of the previous period,
// then as many asked for, and when the last of them ends.
func pointStarts(tx *halcyon.Tx, args seriesArgs, zone *time.Location) ([]time.Time, error) {
	step := func(t time.Time, n int) time.Time { return t.Add(time.Duration(n) * time.Hour) }
	begin := startOfHour
	count := hoursDefault
	if args.Unit == UnitDay {
		step = func(t time.Time, n int) time.Time { return dayStart(dayOf(t, zone)+n, zone) }
		begin = func(t time.Time, zone *time.Location) time.Time { return dayStart(dayOf(t, zone), zone) }
		count = daysDefault
	}
	var end time.Time
	if args.To.IsZero() {
		end = step(begin(tx.Now(), zone), 1)
		tx.WakeAt(end)
	} else if end = begin(args.To, zone); end.Before(args.To) {
		end = step(end, 1)
	}
	start := step(end, -count)
	if !args.From.IsZero() {
		start = begin(args.From, zone)
	}
	var starts []time.Time
	for t := start; t.Before(end); t = step(t, 1) {
		if starts = append(starts, t); len(starts) > pointsMax {
			break
		}
	}
	if n := len(starts); n == 0 || n > pointsMax || args.Unit == UnitDay && n > daysMax {
		return nil, &halcyon.Error{Code: CodeRange, Message: fmt.Sprintf(
			"from and to are no range of 1 to %d points, nor of at most %d days", pointsMax, daysMax)}
	}
	previous := make([]time.Time, 0, 2*len(starts)+1)
	for i := len(starts); i > 0; i-- {
		previous = append(previous, step(start, -i))
	}
	return append(append(previous, starts...), end), nil
}

// startOfHour returns the beginning of the hour on the clocks of the zone.
func startOfHour(t time.Time, zone *time.Location) time.Time {
	local := t.In(zone)
	return local.Add(-time.Duration(local.Minute())*time.Minute - time.Duration(local.Second())*time.Second -
		time.Duration(local.Nanosecond()))
}

// points counts what is between each two of the times. whole says that these are the
// days that the sums are of.
func (r *reader) points(starts []time.Time, whole bool) ([]Point, error) {
	last := len(starts) - 1
	points := make([]Point, last)
	firstSlots := make([]int, last)
	for i := range points {
		points[i].Time = starts[i].UTC()
		firstSlots[i] = slotOf(starts[i])
	}
	end := slotOf(starts[last])
	of := days{dayOf(starts[0], r.app.TimeZone), dayOf(starts[last].Add(-time.Millisecond), r.app.TimeZone) + 1}
	// pointAt returns the point that holds a slot.
	pointAt := func(slot int) (i int, ok bool) {
		i, exact := slices.BinarySearch(firstSlots, slot)
		if !exact {
			i--
		}
		return i, i >= 0 && slot < end
	}
	c, err := r.cover(of, 0)
	if err != nil {
		return nil, err
	}
	err = r.each(kindRest, of, c, func(_ scope, s *sheet) {
		for slot, sum := range s.slots {
			if i, ok := pointAt(slot); ok {
				points[i].Views += sum.views
				points[i].Visitors += sum.visitors(slot, firstSlots[i])
			}
		}
	})
	if err != nil {
		return nil, err
	}
	if whole {
		for _, n := range c.nodes {
			at := &points[n.day-of.from]
			at.Views += n.total.views
			at.Visitors += n.total.visitors(n.day, n.day)
		}
		return points, nil
	}
	return points, r.eachSlot(c.nodes, of, func(slot int, s flatSum) {
		if i, ok := pointAt(slot); ok {
			points[i].Views += s.views
			points[i].Visitors += s.visitors(slot, firstSlots[i])
		}
	})
}

type curveArgs struct {
	Site string `json:"site,omitzero"`
	Viewer
}

// Curve is the result of getActiveCurve.
type Curve struct {
	Points []CurvePoint `json:"points"` // one a minute, without gaps, oldest first
}

// A CurvePoint is how many visitors were active at a minute.
type CurvePoint struct {
	Time   time.Time `json:"time"`
	Active int       `json:"active"`
}

// getActiveCurve returns how many visitors were active at each minute of the
// last two hours.
func (a *app) getActiveCurve(tx *halcyon.Tx, args curveArgs) (Curve, error) {
	if err := a.allow(args.Key); err != nil {
		return Curve{}, err
	}
	now := tx.Now().Truncate(time.Minute)
	tx.WakeAt(now.Add(time.Minute))
	from := now.Add(-(curveMinutes - 1) * time.Minute)
	curve := Curve{Points: make([]CurvePoint, curveMinutes)}
	for i := range curve.Points {
		curve.Points[i].Time = from.Add(time.Duration(i) * time.Minute)
	}
	samples := Samples.By("by_minute")
	if args.Site != "" {
		samples = Samples.By("by_site").Eq(args.Site)
	}
	for sample, err := range samples.Gte(from).Lte(now).Each(tx) {
		if err != nil {
			return curve, err
		}
		curve.Points[int(sample.Minute.Sub(from)/time.Minute)].Active += sample.Active
	}
	return curve, nil
}

// sample writes down how many visitors each site has, and takes away what
// getActiveCurve no longer shows. A site without visitors has no row.
func (a *app) sample(tx *halcyon.Tx) error {
	minute := tx.Now().Truncate(time.Minute)
	sites, err := Sites.By("by_name").Collect(tx)
	if err != nil {
		return err
	}
	since := a.activeSince(tx)
	for _, site := range sites {
		active, err := ActiveSessions.Count("seenByTime").Eq(site.Name).Gt(since).Count(tx)
		if err != nil {
			return err
		}
		_, sampled, err := Samples.By("by_site").Eq(site.Name, minute).First(tx)
		if err != nil {
			return err
		}
		if active == 0 || sampled {
			continue
		}
		if _, err := Samples.Insert(tx, Sample{Site: site.Name, Minute: minute, Active: int(active)}); err != nil {
			return err
		}
	}
	old, err := Samples.By("by_minute").Lt(minute.Add(-curveMinutes*time.Minute)).Take(tx, 2*a.SitesMax)
	if err != nil {
		return err
	}
	for _, sample := range old {
		if err := Samples.Delete(tx, sample.ID); err != nil {
			return err
		}
	}
	return nil
}
