package stats

import (
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/geoip"
)

// Options are the settings of the module. The zero value holds the defaults. What the
// environment of the program sets, see the guide, wins over them.
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

	// ViewRetention is how long views and events are rows. Those of older days are
	// folded: what stays of them is every number, and no row. The default is 400
	// days, the least one day and ViewWindow; less than 0 keeps all rows.
	ViewRetention time.Duration

	// VisitorRetention is how long a visitor of whom no row is left is recognised,
	// by a keyed hash of the id, after the last view. After that one who comes back
	// is a new one. The default is 800 days; less than 0 knows them for ever.
	VisitorRetention time.Duration

	// EraseInterval is how often the files of the data are rewritten, so that rows
	// that were deleted, folded or forgotten are not in them either. It takes time in
	// proportion to the data; everything goes on meanwhile. The default is 6 days;
	// less than 0 leaves it to the store when it rewrites which file.
	EraseInterval time.Duration

	// TimeZone is whose days getBreakdown and getSeries count by, and what
	// charts say. Changing it has the rollups made again, in the background.
	// The default is UTC.
	TimeZone *time.Location

	// Sites are the host names that the event intake counts. What a page of another
	// one sends is not counted, so that nobody makes sites up. The default is none:
	// the first SitesMax are counted.
	Sites []string

	// SitesMax is how many host names are told apart; what another one sends
	// is not counted. The default is 100, the most 400.
	SitesMax int

	// EventsPerSecond and EventsBurst limit what one address may send to
	// POST /api/event: so many at once, and then so many a second. The defaults
	// are 20 and 200, which a household never sends and an office seldom does.
	EventsPerSecond, EventsBurst float64

	// CountRobots counts what robots send like anything else, for tests and for sites
	// whose readers are robots.
	CountRobots bool

	// IgnoreSignals recognises visitors again whose browser asks not to be tracked,
	// by Do Not Track or Global Privacy Control. Otherwise their views count and
	// they themselves do not.
	IgnoreSignals bool

	// LeaveAtOnce takes a visitor who closes the page away at once, and not at the
	// timeout. One who only reloads it is away for a moment then.
	LeaveAtOnce bool

	// Visibility says who may see the statistics. See there for the default.
	Visibility Visibility

	// Key is what callers show when Visibility is VisibleKey, at least 12 bytes.
	// Without one nobody has it.
	Key string

	// TrustedProxies are the networks of the proxies in front of the server. Their
	// headers are believed: the address that a request was forwarded for, and the
	// place of the visitor. The default is none: an address is that of the
	// connection.
	TrustedProxies []netip.Prefix

	// PlaceFiles are files in the MaxMind DB format (.mmdb) that tell the place of an
	// address, where no trusted proxy does: one with cities, one with countries, or
	// both, the better one first. A file that is replaced, by renaming, is taken up
	// within a minute. The default is none.
	PlaceFiles []string

	// Titles names what a site has under a slug: its title and its kind,
	// "blog" or "page". It runs in the transaction of getStats, so that a
	// renamed page changes open screens. nil knows no titles.
	Titles func(tx *halcyon.Tx, slug string) (title, kind string, ok bool, err error)

	// Published counts what a site has published. It runs in the transaction
	// of getStats. nil counts nothing.
	Published func(tx *halcyon.Tx) (posts, pages int, err error)
}

// sitesMax is the most sites that are told apart: queries about all of them look at each
// in up to eight places, and a transaction may look at 4,096.
const sitesMax = 400

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
	if o.ViewRetention == 0 {
		o.ViewRetention = daysMax * dayLength
	} else if o.ViewRetention > 0 {
		o.ViewRetention = max(o.ViewRetention, dayLength, o.ViewWindow)
	}
	if o.VisitorRetention == 0 {
		o.VisitorRetention = 2 * daysMax * dayLength
	}
	if o.EraseInterval == 0 {
		o.EraseInterval = 6 * dayLength
	}
	if o.TimeZone == nil {
		o.TimeZone = time.UTC
	}
	if o.SitesMax <= 0 {
		o.SitesMax = 100
	}
	if o.EventsPerSecond <= 0 {
		o.EventsPerSecond = 20
	}
	if o.EventsBurst < 1 {
		o.EventsBurst = 200
	}
	o.SitesMax = min(o.SitesMax, sitesMax)
	return o
}

// app is the module's functions with their settings.
type app struct {
	Options
	exposed   exposed
	paths     atomic.Pointer[keptPaths]
	locations atomic.Pointer[keptLocations]
	places    *geoip.Files // nil without any
}

// Module returns the module "stats".
func Module(options Options) *halcyon.Module {
	a := &app{Options: options.withDefaults()}
	m := halcyon.NewModule("stats",
		PageViews, Events, ActiveSessions, Visitors, Sites, Rollups, Progresses, Samples, Drops, Imports,
		FoldedPaths, FoldedSites, Secrets, Erasures, Spans, Stales)
	m.Mutation("recordPageView", a.recordPageView)
	m.Mutation("heartbeat", a.heartbeat, halcyon.Relaxed())
	m.Query("getStats", a.getStats)
	m.Query("getBreakdown", a.getBreakdown)
	m.Query("getSeries", a.getSeries)
	m.Query("getActiveCurve", a.getActiveCurve)
	m.Query("getSites", a.getSites)
	m.Internal.Query("getFirstFrame", a.getFirstFrame)
	m.Internal.Mutation("cleanupStaleSessions", a.cleanupStaleSessions)
	m.Internal.Mutation("sweepStaleSessions", a.sweepStaleSessions)
	m.Internal.Mutation("sweepAhead", a.sweepAhead)
	m.Internal.Mutation("backfillAggregates", a.backfillAggregates)
	m.Internal.Mutation("backfillAggregatesChunk", a.backfillAggregatesChunk)
	m.Internal.Query("exportRows", a.exportRows)
	m.Internal.Mutation("forgetVisitor", a.forgetVisitor)
	m.Internal.Mutation("tell", a.tell)
	m.Internal.Mutation("tellBeat", a.tellBeat, halcyon.Relaxed())
	m.Internal.Mutation("tellLeave", a.tellLeave, halcyon.Relaxed())
	m.Internal.Mutation("drop", a.drop, halcyon.Relaxed())
	m.Internal.Mutation("rollUp", a.rollUp)
	m.Internal.Mutation("buildSpans", a.buildSpans)
	m.Internal.Mutation("everyMinute", a.everyMinute)
	m.Cron("cleanup stale sessions", halcyon.Every(a.CleanupInterval), "sweepStaleSessions")
	m.Cron("sample and roll up", halcyon.Every(time.Minute), "everyMinute")
	a.declareFold(m)
	a.declareDemo(m)
	a.declareErase(m)
	a.declareImport(m)
	m.Command("export", "Write views or events to standard output, as CSV or JSON lines: --format csv|jsonl, --events, --from DAY, --to DAY.", a.export, halcyon.Served())
	m.Command("forget", "Delete everything there is of one visitor, named by the id that is in the browser.", a.forget, halcyon.Served())
	m.HandleApp("POST /api/event", a.serveEvents)
	m.Handle("GET /api/geo", http.HandlerFunc(a.serveGeo))
	m.Env(variables...)
	m.Configure(func(settings halcyon.Settings) (err error) {
		if a.Options, err = options.from(settings); err != nil {
			return err
		}
		return a.openPlaces(settings.Logger())
	})
	m.OnListen(a.exposed.listening)
	a.servePages(m)
	return m
}
