package stats

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/web"
)

// servePages mounts the tracker and the statistics page. The page is no secret: its
// numbers are, and they come from the queries.
func (a *app) servePages(m *halcyon.Module) {
	m.Handle("GET /track.js", web.TrackHandler())
	m.Handle("GET /stats", a.guarded(web.StatsHandler(), web.StatsOffHandler()))
	m.Handle("GET /stats/", web.StatsHandler())
}
