package stats

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/web"
)

// servePages mounts the tracker and the statistics page. What the page is made of
// is no secret: only the page itself is guarded.
func (a *app) servePages(m *halcyon.Module) {
	m.Handle("GET /track.js", web.TrackHandler())
	m.Handle("GET /stats", a.guarded(web.StatsHandler()))
	m.Handle("GET /stats/", web.StatsHandler())
}
