package stats

import (
	"cmp"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
)

// Who is here changes with time and without a write, and an aggregate does not. So
// the aggregates byPath and byPlace count all rows of ActiveSessions, and what they
// have too many is taken off: the visitors who have left, whose rows are few since
// they are cleared away all the time, see planSweep. A beat that changes neither
// path nor place costs these aggregates nothing.

const (
	// leftRowsMax is the most rows of visitors who have left that are taken off.
	// With more, as after the machine has slept, those who are here are counted one
	// by one.
	leftRowsMax = 1000

	// activeRowsMax is the most rows of active visitors that are read then.
	activeRowsMax = 10_000

	// activePathsMax is the most paths Stats.ActiveByPath lists.
	activePathsMax = 500
)

// presence is where the active visitors are, of all sites or of one.
type presence struct {
	paths  []PathCount // most visitors first; those beyond activePathsMax may lack
	places places
}

// findPresence finds out who was seen after since, on the site only unless that is
// "".
func findPresence(tx *halcyon.Tx, since time.Time, only string) (here presence, err error) {
	left := newHeadcount(only)
	rows := 0
	for row, err := range ActiveSessions.By("by_lastSeen").Lte(since).Each(tx) {
		if err != nil {
			return here, err
		}
		if rows++; rows > leftRowsMax {
			return countPresence(tx, since, only)
		}
		left.add(&row)
	}
	if here.paths, err = pathsOf(tx, only, len(left.paths)); err != nil {
		return here, err
	}
	if len(left.paths) > 0 {
		here.paths = takeOff(here.paths, len(left.paths), func(at *PathCount) (count *int, less int) {
			return &at.Count, left.paths[PathCount{Site: at.Site, Path: at.Path}]
		}, PathCount.compare)
	}
	here.places, err = placesOf(tx, only, left.places)
	return here, err
}

// countPresence finds it out by counting those who are here one by one.
func countPresence(tx *halcyon.Tx, since time.Time, only string) (here presence, err error) {
	rows, err := ActiveSessions.By("by_lastSeen").Gt(since).Desc().Take(tx, activeRowsMax)
	if err != nil {
		return here, err
	}
	found := newHeadcount(only)
	for i := range rows {
		found.add(&rows[i])
	}
	here.paths = make([]PathCount, 0, len(found.paths))
	for at, count := range found.paths {
		at.Count = count
		here.paths = append(here.paths, at)
	}
	slices.SortFunc(here.paths, PathCount.compare)
	here.places = newPlaces(found.places)
	return here, nil
}

// headcount is how many visitors are where, of all sites or of one.
type headcount struct {
	only   string
	paths  map[PathCount]int // by PathCounts without a count
	places map[place]int
}

func newHeadcount(only string) headcount {
	return headcount{only, make(map[PathCount]int), make(map[place]int)}
}

func (c *headcount) add(row *ActiveSession) {
	if c.only != "" && row.Site != c.only {
		return
	}
	c.paths[PathCount{Site: row.Site, Path: row.CurrentPath}]++
	if at, ok := row.place(); ok {
		c.places[at]++
	}
}

// pathsOf returns how many rows there are on which path, most first: of one site on
// all of them, and otherwise on those with the most, enough of them for activePathsMax to be
// right when less is taken off.
func pathsOf(tx *halcyon.Tx, only string, less int) ([]PathCount, error) {
	paths := []PathCount{}
	count := ActiveSessions.Count("byPath")
	add := func(g halcyon.GroupCount) {
		site, _ := g.Group[0].AsString()
		path, _ := g.Group[1].AsString()
		paths = append(paths, PathCount{Site: site, Path: path, Count: int(g.Count)})
	}
	if only != "" {
		for g, err := range count.Eq(only).Groups(tx) {
			if err != nil {
				return nil, err
			}
			add(g)
		}
		slices.SortFunc(paths, PathCount.compare)
		return paths, nil
	}
	top, err := count.Top(tx, activePathsMax+less)
	if err != nil {
		return nil, err
	}
	paths = make([]PathCount, 0, len(top))
	for _, g := range top {
		add(g)
	}
	return paths, nil
}

// compare puts the path with more visitors first.
func (at PathCount) compare(o PathCount) int {
	if at.Count != o.Count {
		return cmp.Compare(o.Count, at.Count)
	}
	return cmp.Or(cmp.Compare(at.Site, o.Site), cmp.Compare(at.Path, o.Path))
}

// placesOf returns how many visitors are where, less those who have left: all
// places of one site, and otherwise those with the most visitors, enough of them
// for locationsMax to be right.
func placesOf(tx *halcyon.Tx, only string, left map[place]int) (places, error) {
	if only != "" {
		var all groupedPlaces
		for g, err := range ActiveSessions.Count("bySitePlace").Eq(only).Groups(tx) {
			if err != nil {
				return nil, err
			}
			all.add(g, 1)
		}
		return all.places().less(left), nil
	}
	// Visitors without coordinates are groups too. They may be among the largest,
	// but are few, so that the second round is hardly ever needed.
	for n := locationsMax + len(left) + 64; ; n *= 2 {
		top, err := ActiveSessions.Count("byPlace").Top(tx, n)
		if err != nil {
			return nil, err
		}
		all := groupedPlaces{found: make(places, 0, len(top))}
		for _, g := range top {
			all.add(g, 0)
		}
		listed := all.places()
		if len(top) < n || len(listed) > locationsMax+len(left) {
			return listed.less(left), nil
		}
	}
}
