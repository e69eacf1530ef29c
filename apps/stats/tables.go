package stats

import (
	"time"

	"github.com/halcyon-db/halcyon"
)

// Hit is what is kept of the circumstances of a view and of an event. What is
// not known is absent.
type Hit struct {
	Site        string `json:"site"`                 // the host name, "" from clients that do not tell it
	Referrer    string `json:"referrer,omitzero"`    // the host that linked here
	Channel     string `json:"channel,omitzero"`     // what kind of source that is
	UTMSource   string `json:"utmSource,omitzero"`   // of the address of the page, as are the next two
	UTMMedium   string `json:"utmMedium,omitzero"`   //
	UTMCampaign string `json:"utmCampaign,omitzero"` //
	Device      string `json:"device,omitzero"`      // desktop, mobile, tablet, ...
	Browser     string `json:"browser,omitzero"`     // the family, without a version
	System      string `json:"system,omitzero"`      // the family, without a version
	Country     string `json:"country,omitzero"`     // ISO 3166-1 alpha-2
}

// A PageView is one counted view. A row is written once and not changed, except
// by a view of the same visitor that is told later and was earlier.
type PageView struct {
	ID        halcyon.ID[PageView] `halcyon:"id"`
	Path      string               `json:"path"`
	PageType  string               `json:"pageType"`
	SessionID string               `json:"sessionId"` // the visitor
	Timestamp time.Time            `json:"timestamp"`
	Hit

	// Before and BeforeHere are the times of the visitor's view before this
	// one: of any page of the site, and of this page. By them the different
	// visitors of any range of days are counted without looking for them.
	Before     time.Time `json:"before,omitzero"`
	BeforeHere time.Time `json:"beforeHere,omitzero"`

	// Stored is the time of the commit, by which the rollup goes.
	Stored time.Time `json:"stored,omitzero"`
}

// An Event is something that a site's own script told: a name, and what belongs
// to it.
type Event struct {
	ID        halcyon.ID[Event] `halcyon:"id"`
	Name      string            `json:"name"`
	Path      string            `json:"path"`
	SessionID string            `json:"sessionId"` // the visitor
	Timestamp time.Time         `json:"timestamp"`
	Props     map[string]string `json:"props,omitempty"`
	Hit

	// Before and BeforeHere are the times of the visitor's event of this name
	// before this one, on the site and on the page.
	Before     time.Time `json:"before,omitzero"`
	BeforeHere time.Time `json:"beforeHere,omitzero"`

	Stored time.Time `json:"stored,omitzero"` // as of PageView
}

// An ActiveSession is a visitor who is here, or was a few minutes ago.
type ActiveSession struct {
	ID          halcyon.ID[ActiveSession] `halcyon:"id"`
	Site        string                    `json:"site"`
	SessionID   string                    `json:"sessionId"` // the visitor
	CurrentPath string                    `json:"currentPath"`
	LastSeen    time.Time                 `json:"lastSeen"`
	City        *string                   `json:"city"`
	Country     *string                   `json:"country"`
	Latitude    *float64                  `json:"latitude"` // to a tenth of a degree, as is the next
	Longitude   *float64                  `json:"longitude"`
}

// A Visitor is somebody who has viewed a page at least once: an id in the
// browser of one person, on one site. This table is the one source of the
// number of different visitors.
type Visitor struct {
	ID        halcyon.ID[Visitor] `halcyon:"id"`
	Site      string              `json:"site"`
	SessionID string              `json:"sessionId"` // the id, or a hash of it when no row is left
	FirstSeen time.Time           `json:"firstSeen"`
	LastSeen  time.Time           `json:"lastSeen,omitzero"` // the last view; only with a hash
}

// A Site is a host name that views or visitors came from.
type Site struct {
	ID        halcyon.ID[Site] `halcyon:"id"`
	Name      string           `json:"name"`
	FirstSeen time.Time        `json:"firstSeen"`
}

// A Rollup is the sums of one day of one scope: a site, or one page of it, or
// what came from one country, or both. The days are those of Options.TimeZone.
type Rollup struct {
	ID      halcyon.ID[Rollup] `halcyon:"id"`
	Site    string             `json:"site"`
	Path    string             `json:"path"`    // "": all
	Country string             `json:"country"` // "": all
	Kind    int                `json:"kind"`    // kindRest, kindPaths; and kindsFolded more where the views are no rows any more
	Day     int                `json:"day"`     // days since 1970
	Part    int                `json:"part"`    // 0 has the totals; more values than fit go into further parts
	Views   int                `json:"views"`
	Firsts  []int              `json:"firsts,omitempty"`
	Slots   []SlotSum          `json:"slots,omitempty"`
	Values  []ValueSum         `json:"values,omitempty"`
}

// A SlotSum is the sums of a quarter of an hour.
type SlotSum struct {
	Slot   int   `json:"s"` // quarters of an hour since 1970
	Views  int   `json:"n"`
	Firsts []int `json:"f,omitempty"`
}

// A ValueSum is the sums of one value of a dimension.
type ValueSum struct {
	Dimension string `json:"d"`
	Value     string `json:"v"`
	Views     int    `json:"n"`
	Firsts    []int  `json:"f,omitempty"`
}

// Progress is how far the rollup has come: everything stored up to here is in
// Rollups, everything after it is not. There is one row.
type Progress struct {
	ID         halcyon.ID[Progress] `halcyon:"id"`
	Views      time.Time            `json:"views,omitzero"`
	Events     time.Time            `json:"events,omitzero"`
	TimeZone   string               `json:"timeZone"`        // whose days the rollups have
	Rows       int                  `json:"rows"`            // views that are rows and in Rollups
	Generation int                  `json:"generation"`      // how often Rollups have been made again
	Clearing   bool                 `json:"clearing"`        // Rollups of rows are being taken away, to be made again
	Folded     time.Time            `json:"folded,omitzero"` // views before this may be folded
	Spans      int                  `json:"spans,omitzero"`  // spansUnknown, spansMarking or spansKept
	SpansAt    *spansCursor         `json:"spansAt,omitempty"`
}

// A Sample is how many visitors a site had at a minute.
type Sample struct {
	ID     halcyon.ID[Sample] `halcyon:"id"`
	Site   string             `json:"site"`
	Minute time.Time          `json:"minute"`
	Active int                `json:"active"`
}

// A Drop is how many requests of one day were not counted for one reason.
type Drop struct {
	ID     halcyon.ID[Drop] `halcyon:"id"`
	Site   string           `json:"site"`
	Day    int              `json:"day"`
	Reason string           `json:"reason"`
	Count  int64            `json:"count"`
}

// The tables of the module.
var (
	PageViews = halcyon.NewTable[PageView]("pageViews").
			Index("by_timestamp", "timestamp").
			Index("by_session_path", "sessionId", "site", "path", "timestamp").
			Index("by_session_time", "sessionId", "site", "timestamp").
			Index("by_stored", "stored").
			Aggregate("viewsByPath", halcyon.GroupBy("site", "path"), halcyon.OrderBy("timestamp"), halcyon.Ranked()).
			Aggregate("viewsByTime", halcyon.OrderBy("timestamp"))

	Events = halcyon.NewTable[Event]("events").
		Index("by_timestamp", "timestamp").
		Index("by_session_name", "sessionId", "site", "name", "timestamp").
		Index("by_session_path", "sessionId", "site", "name", "path", "timestamp").
		Index("by_stored", "stored")

	ActiveSessions = halcyon.NewTable[ActiveSession]("activeSessions").
			Index("by_sessionId", "sessionId", "site").
			Index("by_lastSeen", "lastSeen").
			Aggregate("seenByTime", halcyon.GroupBy("site"), halcyon.OrderBy("lastSeen")).
		// These are not by time, so that a beat which changes nothing else does
		// not change them: see presence.
		Aggregate("byPath", halcyon.GroupBy("site", "currentPath"), halcyon.Ranked()).
		Aggregate("byPlace", halcyon.GroupBy("latitude", "longitude", "country", "city"), halcyon.Ranked()).
		Aggregate("bySitePlace", halcyon.GroupBy("site", "latitude", "longitude", "country", "city"))

	Visitors = halcyon.NewTable[Visitor]("visitors").
			Index("by_sessionId", "sessionId", "site").
			Index("by_lastSeen", "lastSeen").
			Aggregate("visitors", halcyon.GroupBy("site"))

	Sites = halcyon.NewTable[Site]("sites").Unique("by_name", "name")

	Rollups = halcyon.NewTable[Rollup]("rollups").
		Unique("by_scope", "site", "path", "country", "kind", "day", "part").
		Index("by_kind", "kind")

	Progresses = halcyon.NewTable[Progress]("progress")

	Samples = halcyon.NewTable[Sample]("samples").
		Index("by_minute", "minute").
		Index("by_site", "site", "minute")

	Drops = halcyon.NewTable[Drop]("drops").
		Unique("by_site", "site", "day", "reason")
)
