package stats

import (
	"time"

	"github.com/halcyon-db/halcyon"
)

// A PageView is one counted view. Rows are written once and never changed.
type PageView struct {
	Path      string    `json:"path"`
	PageType  string    `json:"pageType"`
	SessionID string    `json:"sessionId"` // the visitor
	Timestamp time.Time `json:"timestamp"`
}

// An ActiveSession is a visitor who is here, or was a few minutes ago.
type ActiveSession struct {
	ID          halcyon.ID[ActiveSession] `halcyon:"id"`
	SessionID   string                    `json:"sessionId"` // the visitor
	CurrentPath string                    `json:"currentPath"`
	LastSeen    time.Time                 `json:"lastSeen"`
	City        *string                   `json:"city"`
	Country     *string                   `json:"country"`
	Latitude    *float64                  `json:"latitude"`
	Longitude   *float64                  `json:"longitude"`
}

// A Visitor is somebody who has viewed a page at least once.
type Visitor struct {
	ID        halcyon.ID[Visitor] `halcyon:"id"`
	SessionID string              `json:"sessionId"`
	FirstSeen time.Time           `json:"firstSeen"`
}

// The tables of the module.
var (
	PageViews = halcyon.NewTable[PageView]("pageViews").
			Index("by_path", "path").
			Index("by_timestamp", "timestamp").
			Index("by_session_path", "sessionId", "path", "timestamp").
			Aggregate("viewsByPath", halcyon.GroupBy("path"), halcyon.OrderBy("timestamp"), halcyon.Ranked()).
			Aggregate("viewsByTime", halcyon.OrderBy("timestamp"))

	ActiveSessions = halcyon.NewTable[ActiveSession]("activeSessions").
			Index("by_sessionId", "sessionId").
			Index("by_lastSeen", "lastSeen").
			Aggregate("seenByTime", halcyon.OrderBy("lastSeen"))

	Visitors = halcyon.NewTable[Visitor]("visitors").
			Index("by_sessionId", "sessionId").
			Aggregate("visitors")
)

// Options are the settings of the module. The zero value holds the defaults.
type Options struct {
	// ViewWindow is how long one visitor's views of one path count as one.
	// The default is 30 minutes.
	ViewWindow time.Duration

	// BeatWindow is how long an unchanged heartbeat is skipped after one that
	// was not. It has to be shorter than VisitorTimeout. The default is 20
	// seconds.
	BeatWindow time.Duration

	// VisitorTimeout is how long a visitor counts as active after the last
	// heartbeat. The default is 2 minutes.
	VisitorTimeout time.Duration

	// CleanupInterval is how often the rows of visitors who have left are
	// looked for. The default is 5 minutes.
	CleanupInterval time.Duration

	// CleanupBatch is the most rows cleanupStaleSessions deletes in one run. The
	// cron deletes up to eight such batches. The default is 500, the most 1,000.
	CleanupBatch int

	// PathsShown is how many paths getStats lists, those with the most views
	// first. The default is 50.
	PathsShown int

	// IgnoreClientPlace drops the place that a heartbeat claims. Browsers may
	// claim any place, so turn it on where a forged dot on the map matters.
	IgnoreClientPlace bool

	// Titles names what a site has under a slug: its title and its kind,
	// "blog" or "page". It runs in the transaction of getStats, so that a
	// renamed page changes open screens. nil knows no titles.
	Titles func(tx *halcyon.Tx, slug string) (title, kind string, ok bool, err error)

	// Published counts what a site has published. It runs in the transaction
	// of getStats. nil counts nothing.
	Published func(tx *halcyon.Tx) (posts, pages int, err error)
}

// withDefaults returns o with every unset field at its default.
func (o Options) withDefaults() Options {
	set := func(field *time.Duration, otherwise time.Duration) {
		if *field <= 0 {
			*field = otherwise
		}
	}
	set(&o.ViewWindow, 30*time.Minute)
	set(&o.BeatWindow, 20*time.Second)
	set(&o.VisitorTimeout, 2*time.Minute)
	set(&o.CleanupInterval, 5*time.Minute)
	if o.CleanupBatch <= 0 {
		o.CleanupBatch = 500
	}
	o.CleanupBatch = min(o.CleanupBatch, 1000) // a transaction writes 16,000 rows at most
	if o.PathsShown <= 0 {
		o.PathsShown = 50
	}
	return o
}

// app is the module's functions with their settings.
type app struct{ Options }

// Module returns the module "stats".
func Module(options Options) *halcyon.Module {
	a := &app{options.withDefaults()}
	m := halcyon.NewModule("stats", PageViews, ActiveSessions, Visitors)
	m.Mutation("recordPageView", a.recordPageView)
	m.Mutation("heartbeat", a.heartbeat)
	m.Query("getStats", a.getStats)
	m.Query("getViewsByDay", getViewsByDay)
	m.Internal.Mutation("cleanupStaleSessions", a.cleanupStaleSessions)
	m.Internal.Mutation("sweepStaleSessions", a.sweepStaleSessions)
	m.Internal.Mutation("importViews", a.importViews)
	m.Cron("cleanup stale sessions", halcyon.Every(a.CleanupInterval), "sweepStaleSessions")
	m.Command("import", "Count the page views of access logs: files, gzipped or not, or - for standard input.", a.importLogs)
	servePages(m)
	return m
}
