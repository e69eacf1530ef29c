package stats

import (
	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/web"
)

// servePages mounts the tracker and the statistics page.
func servePages(m *halcyon.Module) {
	m.Handle("GET /track.js", web.TrackHandler())
	m.Handle("GET /stats", web.StatsHandler())
	m.Handle("GET /stats/", web.StatsHandler())
}
