package stats

import (
	"time"

	"github.com/halcyon-db/halcyon"
)

// never is a moment to wake at for an answer that time does not change: no
// visitor is here who could leave.
var never = time.Date(2200, time.January, 1, 0, 0, 0, 0, time.UTC)

// Stats is the result of getStats.
type Stats struct {
	ActiveVisitors   int                               `json:"activeVisitors"`
	ActiveByPath     halcyon.Shared[[]PathCount]       `json:"activeByPath"` // most visitors first, 500 at most
	ActivePaths      int                               `json:"activePaths"`  // paths with a visitor, those not listed too
	TotalPageViews   int                               `json:"totalPageViews"`
	UniqueVisitors   int                               `json:"uniqueVisitors"`
	PublishedPosts   int                               `json:"publishedPosts"`
	PublishedPages   int                               `json:"publishedPages"`
	TrackingSince    halcyon.Nullable[time.Time]       `json:"trackingSince"` // the first view
	TotalPaths       int                               `json:"totalPaths"`    // different paths, those not listed too
	PageStats        []PageStat                        `json:"pageStats"`     // most views first
	VisitorLocations halcyon.Shared[[]VisitorLocation] `json:"visitorLocations"`
}

// A PathCount is how many visitors are on a path.
type PathCount struct {
	Site  string `json:"site,omitzero"`
	Path  string `json:"path"`
	Count int    `json:"count"`
}

// A PageStat is how often a path was viewed.
type PageStat struct {
	Site     string `json:"site,omitzero"`
	Path     string `json:"path"`
	Title    string `json:"title"`
	PageType string `json:"pageType"` // home, stats, blog, page or other
	Views    int    `json:"views"`
}

type getStatsArgs struct {
	// Now is sent by newer clients to make the answer follow the clock. It
	// follows the server's clock by itself, so this is accepted and ignored.
	Now *float64 `json:"now"`
	// Site narrows who is here and the totals to one site. Its pages are what
	// getBreakdown lists: PageStats is empty and TotalPaths 0 then.
	Site string `json:"site,omitzero"`
	Viewer
}

// getStats returns everything the statistics page shows. What it costs depends on
// how many paths and places it lists, and neither on how many visitors are here nor
// on how many views there are: of rows it reads the first view, and those of visitors
// who have left and are still to be cleared away.
func (a *app) getStats(tx *halcyon.Tx, args getStatsArgs) (Stats, error) {
	var stats Stats
	if err := a.allow(args.Key); err != nil {
		return Stats{}, err
	}
	if err := a.addActive(tx, &stats, args.Site); err != nil {
		return Stats{}, err
	}
	add := a.addViews
	if args.Site != "" {
		add = func(tx *halcyon.Tx, stats *Stats) error { return addSite(tx, stats, args.Site) }
	}
	if err := add(tx, &stats); err != nil {
		return Stats{}, err
	}
	if a.Published != nil {
		var err error
		if stats.PublishedPosts, stats.PublishedPages, err = a.Published(tx); err != nil {
			return Stats{}, err
		}
	}
	return stats, nil
}

// addActive fills in who is here, or on one site.
func (a *app) addActive(tx *halcyon.Tx, stats *Stats, only string) error {
	here, err := a.findPresence(tx, only)
	if err != nil {
		return err
	}
	stats.ActiveVisitors, stats.ActiveByPath, stats.ActivePaths = here.visitors, here.paths, here.allPaths
	stats.VisitorLocations = here.locations
	return nil
}

// addViews fills in what has been read, from the aggregates and from what is kept
// of folded views.
func (a *app) addViews(tx *halcyon.Tx, stats *Stats) error {
	total, err := PageViews.Count("viewsByTime").Count(tx)
	if err != nil {
		return err
	}
	visitors, err := Visitors.Count("visitors").Count(tx)
	if err != nil {
		return err
	}
	folded, err := foldedOf(tx, nil)
	if err != nil {
		return err
	}
	stats.TotalPageViews, stats.UniqueVisitors = int(total)+folded.views, int(visitors)+folded.visitors
	first, ok, err := PageViews.Count("viewsByTime").At(tx, 0)
	if err != nil {
		return err
	}
	switch {
	case ok && (folded.since.IsZero() || first.Timestamp.Before(folded.since)):
		stats.TrackingSince = halcyon.NotNull(first.Timestamp)
	case !folded.since.IsZero():
		stats.TrackingSince = halcyon.NotNull(folded.since)
	}
	paths, err := PageViews.Count("viewsByPath").CountGroups(tx)
	if err != nil {
		return err
	}
	stats.TotalPaths = int(paths) + folded.paths
	top, err := topPaths(tx, a.PathsShown)
	if err != nil {
		return err
	}
	stats.PageStats = make([]PageStat, len(top))
	for i, path := range top {
		page := &stats.PageStats[i]
		page.Site, page.Path, page.Views = path.site, path.path, path.views
		if page.Title, page.PageType, err = a.title(tx, page.Path); err != nil {
			return err
		}
	}
	return nil
}

// addSite fills in what has been read on one site.
func addSite(tx *halcyon.Tx, stats *Stats, name string) error {
	views, err := PageViews.Count("viewsByPath").Eq(name).Count(tx)
	if err != nil {
		return err
	}
	visitors, err := Visitors.Count("visitors").Eq(name).Count(tx)
	if err != nil {
		return err
	}
	folded, err := foldedOf(tx, &name)
	if err != nil {
		return err
	}
	site, known, err := Sites.By("by_name").Eq(name).First(tx)
	if err != nil {
		return err
	}
	if known {
		stats.TrackingSince = halcyon.NotNull(site.FirstSeen)
	}
	stats.TotalPageViews, stats.UniqueVisitors = int(views)+folded.views, int(visitors)+folded.visitors
	stats.PageStats = []PageStat{}
	return nil
}

// title returns what the page at path is called and what it is. What the site
// does not know keeps its path as its title.
func (a *app) title(tx *halcyon.Tx, path string) (title, kind string, err error) {
	switch path {
	case "/", "":
		return "Home", "home", nil
	case "/stats":
		return "Stats", "stats", nil
	}
	if a.Titles != nil {
		title, kind, ok, err := a.Titles(tx, pathSlug(path))
		if err != nil || ok {
			return title, kind, err
		}
	}
	return path, "other", nil
}
