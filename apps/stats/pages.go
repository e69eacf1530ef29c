package stats

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/web"
)

// servePages mounts the tracker and the statistics page. The page is no secret: its
// numbers are, and they come from the queries.
func (a *app) servePages(m *halcyon.Module) {
	m.Handle("GET /track.js", web.TrackHandler())
	m.HandleApp("GET /stats", func(app *halcyon.App) http.Handler {
		page := web.StatsHandler(func(r *http.Request) *web.StatsFrame { return a.frame(r.Context(), app) })
		return a.guarded(page, web.StatsOffHandler())
	})
	m.Handle("GET /stats/", web.StatsHandler(nil))
}

const (
	// frameWait is how long the page waits for its first numbers. Without them it
	// is shown at once, and has them later.
	frameWait = 100 * time.Millisecond

	// countriesShown is how many countries the page has room for.
	countriesShown = 10
)

// firstFrame is the answers that the page shows first, of one moment.
type firstFrame struct {
	Stats Stats       `json:"stats"`
	Curve Curve       `json:"curve"`
	Sites SitesResult `json:"sites"`
}

// getFirstFrame returns what everybody is shown who opens the page.
func (a *app) getFirstFrame(tx *halcyon.Tx) (first firstFrame, err error) {
	if first.Stats, err = a.getStats(tx, getStatsArgs{}); err != nil {
		return first, err
	}
	if first.Curve, err = a.getActiveCurve(tx, curveArgs{}); err != nil {
		return first, err
	}
	first.Sites, err = a.getSites(tx, Viewer{})
	return first, err
}

// frame returns what the page shows first, or nil when that is not for everybody, or
// can't be known at once.
func (a *app) frame(ctx context.Context, app *halcyon.App) *web.StatsFrame {
	if a.visibility() != VisiblePublic {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, frameWait)
	defer cancel()
	args, err := halcyon.Encode(Viewer{})
	if err != nil {
		return nil
	}
	out, err := app.Query(ctx, halcyon.Request{Path: "stats:getFirstFrame", Args: args, Admin: true})
	var first firstFrame
	switch {
	case err != nil: // it takes too long, or the server ends
	case out.Failure != nil:
		err = out.Failure
	default:
		err = halcyon.Decode(out.Value, &first)
	}
	var data []byte
	if err == nil {
		data, err = out.Value.MarshalJSON()
	}
	if err != nil {
		app.Logger().Debug("the statistics page is shown without numbers at first", slog.Any("error", err))
		return nil
	}
	frame := first.show()
	frame.Data = data
	frame.Since = frame.Since.In(a.TimeZone)
	return &frame
}

// show makes of the answers what the page says.
func (first *firstFrame) show() web.StatsFrame {
	stats := first.Stats
	frame := web.StatsFrame{
		Active: stats.ActiveVisitors, Paths: stats.ActivePaths, Views: stats.TotalPageViews, Visitors: stats.UniqueVisitors, Posts: stats.PublishedPosts, Pages: stats.PublishedPages,
		Since: stats.TrackingSince.Value, Unvisited: !slices.ContainsFunc(stats.PageStats, func(p PageStat) bool { return p.PageType != "stats" }),
	}
	titles := map[string]string{"/": "Home", "/stats": "Stats"}
	for _, page := range stats.PageStats {
		titles[page.Path] = page.Title
	}
	for _, on := range stats.ActiveByPath.Value() {
		frame.Where = append(frame.Where, web.StatsPath{Path: on.Path, Title: cmp.Or(titles[on.Path], on.Path), Visitors: on.Count})
	}
	for _, point := range first.Curve.Points {
		frame.Curve = append(frame.Curve, point.Active)
	}
	countries := make(map[string]int)
	for _, at := range stats.VisitorLocations.Value() {
		n := 1
		if at.Count != nil {
			n = *at.Count
		}
		frame.Located += n
		if at.Country != nil {
			countries[*at.Country] += n
		}
	}
	frame.Countries = slices.SortedFunc(maps.Values(countries), func(x, y int) int { return cmp.Compare(y, x) })
	frame.Countries = frame.Countries[:min(len(frame.Countries), countriesShown)]
	for _, site := range first.Sites.Sites {
		if site.Synthetic {
			frame.MadeUp = site.Site
		}
		if site.Site != "" && len(first.Sites.Sites) > 1 {
			frame.Sites = append(frame.Sites, site.Site)
		}
	}
	return frame
}
