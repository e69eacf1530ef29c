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
	left, err := ActiveSessions.By("by_lastSeen").Lte(since).Take(tx, leftRowsMax+1)
	if err != nil {
		return here, err
	}
	if len(left) > leftRowsMax {
		rows, err := ActiveSessions.By("by_lastSeen").Gt(since).Desc().Take(tx, activeRowsMax)
		if err != nil {
			return here, err
		}
		paths, places := countRows(rows, only)
		here.paths = make([]PathCount, 0, len(paths))
		for at, count := range paths {
			at.Count = count
			here.paths = append(here.paths, at)
		}
		here.places = places
		slices.SortFunc(here.paths, PathCount.compare)
		return here, nil
	}
	paths, places := countRows(left, only)
	if here.paths, err = pathsOf(tx, only, len(paths)); err != nil {
		return here, err
	}
	here.lessPaths(paths)
	here.places, err = placesOf(tx, only, places)
	return here, err
}

// countRows counts rows by path, in PathCounts without a count, and by place.
func countRows(rows []ActiveSession, only string) (map[PathCount]int, places) {
	paths, places := make(map[PathCount]int), make(places)
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
	return paths, places
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

// lessPaths takes off visitors. The paths that it changes are few: they are put into
// their new places, and the others stay as they are.
func (p *presence) lessPaths(left map[PathCount]int) {
	if len(left) == 0 {
		return
	}
	var changed []PathCount
	kept := p.paths[:0]
	for _, at := range p.paths {
		n := left[PathCount{Site: at.Site, Path: at.Path}]
		if n == 0 {
			kept = append(kept, at)
		} else if at.Count -= n; at.Count > 0 {
			changed = append(changed, at)
		}
	}
	slices.SortFunc(changed, PathCount.compare)
	p.paths = make([]PathCount, 0, len(kept)+len(changed))
	for _, at := range kept {
		for len(changed) > 0 && changed[0].compare(at) < 0 {
			p.paths, changed = append(p.paths, changed[0]), changed[1:]
		}
		p.paths = append(p.paths, at)
	}
	p.paths = append(p.paths, changed...)
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
func placesOf(tx *halcyon.Tx, only string, left places) (places, error) {
	if only != "" {
		all := make(places)
		for g, err := range ActiveSessions.Count("bySitePlace").Eq(only).Groups(tx) {
			if err != nil {
				return nil, err
			}
			all.addGroup(g, 1)
		}
		return all.less(left), nil
	}
	// Visitors without coordinates are groups too. They may be among the largest,
	// but are few, so that the second round is hardly ever needed.
	for n := locationsMax + len(left) + 64; ; n *= 2 {
		top, err := ActiveSessions.Count("byPlace").Top(tx, n)
		if err != nil {
			return nil, err
		}
		listed := make(places, len(top))
		for _, g := range top {
			listed.addGroup(g, 0)
		}
		if len(top) < n || len(listed) > locationsMax+len(left) {
			return listed.less(left), nil
		}
	}
}
