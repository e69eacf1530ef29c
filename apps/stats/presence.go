package stats

import (
	"cmp"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
)

// Who is here changes with time and without a write, and an aggregate does not. So
// the aggregates byPath and byPlace count all rows of ActiveSessions, and what they
// have too many is left out: the visitors who have left, whose rows are few since
// they are cleared away all the time, see planSweep. A beat that changes neither
// path nor place costs these aggregates nothing.
//
// The rows in the order of when they were seen last are read by the aggregate
// seenByTime. An index would do, but a row moves in it at every beat, and the store
// keeps the places that rows have left for a while: a scan goes over all of them.

const (
	// leftRowsMax is the most rows of visitors who have left that are left out.
	// With more, as after the machine has slept, those who are here are counted one
	// by one.
	leftRowsMax = 1000

	// activeRowsMax is the most rows of active visitors that are read then.
	activeRowsMax = 10_000

	// activePathsMax is the most paths Stats.ActiveByPath lists.
	activePathsMax = 500
)

// presence is who is here, on all sites or on one.
type presence struct {
	visitors int
	whereabouts
}

// whereabouts are where those are who are here.
type whereabouts struct {
	paths     halcyon.Shared[[]PathCount] // most visitors first, activePathsMax at most
	allPaths  int                         // those not in paths too
	locations halcyon.Shared[[]VisitorLocation]
}

// keptPaths and keptLocations are the last ones of all sites, each with what it
// depends on alone: what is in the one aggregate that says where each row is, and
// whose rows are left out. Most beats change neither aggregate, and those of visitors
// who go to another page change one.
type keptPaths struct {
	in    halcyon.Version
	left  string
	paths halcyon.Shared[[]PathCount]
	all   int
}

type keptLocations struct {
	in        halcyon.Version
	left      string
	locations halcyon.Shared[[]VisitorLocation]
}

// findPresence finds out who is here, on the site only unless that is "", and has
// the query run again when the first of them leaves.
func (a *app) findPresence(tx *halcyon.Tx, only string) (here presence, err error) {
	since := a.activeSince(tx)
	tx.WakeAt(never)
	sites, err := attendance(tx, only)
	if err != nil {
		return here, err
	}
	gone := 0
	var leftOn []halcyon.Counter[ActiveSession] // the rows of those who have left, by site
	for _, site := range sites {
		rows := ActiveSessions.Count("seenByTime").Eq(site.name)
		active, err := rows.Gt(since).Count(tx)
		if err != nil {
			return here, err
		}
		here.visitors += int(active)
		if active > 0 {
			if err := a.wakeWhenSomebodyLeaves(tx, site.name); err != nil {
				return here, err
			}
		}
		if left := site.rows - int(active); left > 0 {
			gone += left
			leftOn = append(leftOn, rows.Lte(since))
		}
	}
	switch {
	case gone > leftRowsMax:
		here.whereabouts, err = countWhereabouts(tx, since, only)
	case only != "":
		here.whereabouts, err = findWhereabouts(tx, only, leftOn)
	default:
		here.whereabouts, err = a.recallWhereabouts(tx, leftOn)
	}
	return here, err
}

// recallWhereabouts is findWhereabouts of all sites, without what was found before
// and still holds.
func (a *app) recallWhereabouts(tx *halcyon.Tx, leftOn []halcyon.Counter[ActiveSession]) (w whereabouts, err error) {
	inPaths, keep, err := ActiveSessions.Count("byPath").Version(tx)
	if err != nil {
		return w, err
	}
	inPlaces, also, err := ActiveSessions.Count("byPlace").Version(tx)
	if err != nil {
		return w, err
	}
	if !keep || !also {
		return findWhereabouts(tx, "", leftOn)
	}
	whoLeft := ""
	for _, rows := range leftOn {
		identity, err := rows.Identity(tx, leftRowsMax)
		if err != nil {
			return w, err
		}
		whoLeft += identity
	}
	paths, places := a.paths.Load(), a.locations.Load()
	samePaths := paths != nil && paths.in == inPaths && paths.left == whoLeft
	samePlaces := places != nil && places.in == inPlaces && places.left == whoLeft
	var left []halcyon.Row[ActiveSession]
	if !samePaths || !samePlaces {
		if left, err = leftRows(tx, leftOn); err != nil {
			return w, err
		}
	}
	if !samePaths {
		found, all, err := pathsOf(tx, "", left)
		if err != nil {
			return w, err
		}
		paths = &keptPaths{inPaths, whoLeft, halcyon.Share(found), all}
		a.paths.Store(paths)
	}
	if !samePlaces {
		found, err := placesOf(tx, "", left)
		if err != nil {
			return w, err
		}
		places = &keptLocations{inPlaces, whoLeft, halcyon.Share(found.list())}
		a.locations.Store(places)
	}
	return whereabouts{paths.paths, paths.all, places.locations}, nil
}

// findWhereabouts asks the aggregates, without the rows of those who have left.
func findWhereabouts(tx *halcyon.Tx, only string, leftOn []halcyon.Counter[ActiveSession]) (w whereabouts, err error) {
	left, err := leftRows(tx, leftOn)
	if err != nil {
		return w, err
	}
	paths, all, err := pathsOf(tx, only, left)
	if err != nil {
		return w, err
	}
	places, err := placesOf(tx, only, left)
	return whereabouts{halcyon.Share(paths), all, halcyon.Share(places.list())}, err
}

// leftRows reads the rows of those who have left.
func leftRows(tx *halcyon.Tx, leftOn []halcyon.Counter[ActiveSession]) (left []halcyon.Row[ActiveSession], err error) {
	for _, rows := range leftOn {
		more, err := rows.Rows(tx, leftRowsMax)
		if err != nil {
			return nil, err
		}
		left = append(left, more...)
	}
	return left, nil
}

// attended is a site and how many rows it has of visitors who are here or were.
type attended struct {
	name string
	rows int
}

// attendance returns the sites that have any, or the one.
func attendance(tx *halcyon.Tx, only string) (sites []attended, err error) {
	rows := ActiveSessions.Count("seenByTime")
	if only != "" {
		n, err := rows.Eq(only).Count(tx)
		return []attended{{only, int(n)}}, err
	}
	for g, err := range rows.Groups(tx) {
		if err != nil {
			return nil, err
		}
		name, _ := g.Group[0].AsString()
		sites = append(sites, attended{name, int(g.Count)})
	}
	return sites, nil
}

// wakeWhenSomebodyLeaves has the query run again at the moment the first of the
// active visitors of a site has been gone for the visitor timeout.
func (a *app) wakeWhenSomebodyLeaves(tx *halcyon.Tx, site string) error {
	first, err := ActiveSessions.Count("seenByTime").Eq(site).Gt(a.activeSince(tx)).Rows(tx, 1)
	if err != nil || len(first) == 0 {
		return err
	}
	visitor, err := first[0].Decode()
	if err != nil {
		return err
	}
	tx.WakeAt(visitor.LastSeen.Add(a.VisitorTimeout))
	return nil
}

// countWhereabouts looks at each who was seen after since.
func countWhereabouts(tx *halcyon.Tx, since time.Time, only string) (w whereabouts, err error) {
	paths, places := make(map[PathCount]int), make(map[place]int)
	rows, err := ActiveSessions.By("by_lastSeen").Gt(since).Desc().Take(tx, activeRowsMax)
	if err != nil {
		return w, err
	}
	for i := range rows {
		row := &rows[i]
		if only != "" && row.Site != only {
			continue
		}
		paths[PathCount{Site: row.Site, Path: row.CurrentPath}]++
		if at, ok := row.place(); ok {
			places[at]++
		}
	}
	all := make([]PathCount, 0, len(paths))
	for at, count := range paths {
		at.Count = count
		all = append(all, at)
	}
	slices.SortFunc(all, PathCount.compare)
	return whereabouts{halcyon.Share(all[:min(len(all), activePathsMax)]), len(all), halcyon.Share(newPlaces(places).list())}, nil
}

// pathsOf returns how many visitors are on which path without those who have left,
// most first, activePathsMax at most, and on how many paths there is one.
func pathsOf(tx *halcyon.Tx, only string, left []halcyon.Row[ActiveSession]) (paths []PathCount, all int, err error) {
	paths = []PathCount{}
	count := ActiveSessions.Count("byPath").Without(left...)
	add := func(g halcyon.GroupCount) {
		site, _ := g.Group[0].AsString()
		path, _ := g.Group[1].AsString()
		paths = append(paths, PathCount{Site: site, Path: path, Count: int(g.Count)})
	}
	if only != "" {
		for g, err := range count.Eq(only).Groups(tx) {
			if err != nil {
				return nil, 0, err
			}
			add(g)
		}
		slices.SortFunc(paths, PathCount.compare)
		return paths[:min(len(paths), activePathsMax)], len(paths), nil
	}
	top, groups, err := count.TopAndGroups(tx, activePathsMax)
	if err != nil {
		return nil, 0, err
	}
	paths = make([]PathCount, 0, len(top))
	for _, g := range top {
		add(g)
	}
	return paths, int(groups), nil
}

// compare puts the path with more visitors first.
func (at PathCount) compare(o PathCount) int {
	if at.Count != o.Count {
		return cmp.Compare(o.Count, at.Count)
	}
	return cmp.Or(cmp.Compare(at.Site, o.Site), cmp.Compare(at.Path, o.Path))
}

// placesOf returns how many visitors are where without those who have left: all
// places of one site, and otherwise those with the most visitors, enough of them
// for locationsMax to be right.
func placesOf(tx *halcyon.Tx, only string, left []halcyon.Row[ActiveSession]) (places, error) {
	if only != "" {
		var all groupedPlaces
		for g, err := range ActiveSessions.Count("bySitePlace").Without(left...).Eq(only).Groups(tx) {
			if err != nil {
				return nil, err
			}
			all.add(g, 1)
		}
		return all.places(), nil
	}
	// Visitors without coordinates are groups too. They may be among the largest,
	// but are few, so that the second round is hardly ever needed.
	for n := locationsMax + 64; ; n *= 2 {
		top, err := ActiveSessions.Count("byPlace").Without(left...).Top(tx, n)
		if err != nil {
			return nil, err
		}
		all := groupedPlaces{found: make(places, 0, len(top))}
		for _, g := range top {
			all.add(g, 0)
		}
		listed := all.places()
		if len(top) < n || len(listed) > locationsMax {
			return listed, nil
		}
	}
}
