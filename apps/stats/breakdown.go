package stats

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
)

// Dimension is by what a breakdown counts.
type Dimension string

// The dimensions.
const (
	DimensionSite        = "site"
	DimensionPath        = "path"
	DimensionPageType    = "pageType"
	DimensionReferrer    = "referrer"
	DimensionChannel     = "channel"
	DimensionUTMSource   = "utmSource"
	DimensionUTMMedium   = "utmMedium"
	DimensionUTMCampaign = "utmCampaign"
	DimensionDevice      = "device"
	DimensionBrowser     = "browser"
	DimensionSystem      = "system"
	DimensionCountry     = "country"
	DimensionVisitor     = "visitor" // visitorKnown, visitorUnknown
	DimensionEvent       = "event"
	DimensionDropped     = "dropped"
)

var _ halcyon.Enum[Dimension] = Dimension("")

// Values returns the dimensions.
func (Dimension) Values() []Dimension {
	return []Dimension{
		DimensionSite, DimensionPath, DimensionPageType, DimensionReferrer, DimensionChannel,
		DimensionUTMSource, DimensionUTMMedium, DimensionUTMCampaign,
		DimensionDevice, DimensionBrowser, DimensionSystem, DimensionCountry,
		DimensionVisitor, DimensionEvent, DimensionDropped,
	}
}

// The values of the dimension visitor. A view of a visitor who asked not to be
// recognised is nobody's.
const (
	visitorKnown   = "known"
	visitorUnknown = "unknown"
)

// The codes of the errors of getBreakdown and getSeries.
const (
	CodeRange    = "RangeInvalid"
	CodeTimeZone = "TimeZoneUnknown"
)

const (
	breakdownDefault = 10
	breakdownMax     = 1000

	// daysDefault is how many days a breakdown is about when it is not told.
	daysDefault = 30
)

// Filter is the part of the views that a query is about.
type Filter struct {
	Site    string `json:"site,omitzero"`
	Path    string `json:"path,omitzero"`
	Country string `json:"country,omitzero"`
}

type breakdownArgs struct {
	Dimension Dimension `json:"dimension"`
	Filter
	From  time.Time `json:"from,omitzero"`
	To    time.Time `json:"to,omitzero"`
	Limit int       `json:"limit,omitzero"`
	Viewer
}

// Breakdown is the result of getBreakdown.
type Breakdown struct {
	BreakdownPeriod
	// Previous is the same of as many days before. Its rows are those of the
	// values in Rows, in the same order, also of those that had no views then.
	Previous BreakdownPeriod `json:"previous"`
	// Pending is how many views are not in here yet, because a large import is
	// still being rolled up. Usually 0.
	Pending int `json:"pending"`
}

// BreakdownPeriod is a breakdown of one range of days.
type BreakdownPeriod struct {
	From     time.Time      `json:"from"` // the beginning of the first day
	To       time.Time      `json:"to"`   // the end of the last day
	Rows     []BreakdownRow `json:"rows"` // most views first
	Values   int            `json:"values"`
	Views    int            `json:"views"`    // of all values, and of views without one
	Visitors int            `json:"visitors"` // different ones, of all values
}

// A BreakdownRow is one value.
type BreakdownRow struct {
	Value    string `json:"value"`
	Views    int    `json:"views"`    // of the dimension event: how often it happened
	Visitors int    `json:"visitors"` // different ones, under the value of their first view in the range
}

// days is a range of days: from the first to before the second.
type days struct{ from, to int }

// days returns the whole days that hold the range, which is up to now when it
// does not end.
func (a *app) days(tx *halcyon.Tx, from, to time.Time) (days, error) {
	var d days
	if to.IsZero() {
		today := dayOf(tx.Now(), a.TimeZone)
		tx.WakeAt(dayStart(today+1, a.TimeZone))
		d.to = today + 1
	} else {
		d.to = dayOf(to.Add(-time.Millisecond), a.TimeZone) + 1
	}
	if from.IsZero() {
		d.from = d.to - daysDefault
	} else {
		d.from = dayOf(from, a.TimeZone)
	}
	if d.from >= d.to || d.to-d.from > daysMax {
		return d, &halcyon.Error{Code: CodeRange, Message: fmt.Sprintf(
			"from and to are %d days apart, 1 to %d are allowed", d.to-d.from, daysMax)}
	}
	return d, nil
}

// reader reads sheets for one query: from rollups, and from rows that are in
// none.
type reader struct {
	app     *app
	tx      *halcyon.Tx
	filter  Filter
	sites   []string
	tail    *sheets
	pending int
	spans   bool // they may be read
	allowance
}

func (a *app) newReader(tx *halcyon.Tx, of Filter) (*reader, error) {
	r := &reader{app: a, tx: tx, filter: of, tail: newSheets(a.TimeZone), allowance: allowance{whole: tx.TimeLeft()}}
	if r.filter.Path != "" {
		r.filter.Path = cleanPath(r.filter.Path)
	}
	var err error
	if r.sites, err = siteNames(tx, of.Site); err != nil {
		return nil, err
	}
	done, err := a.progress(tx)
	if err != nil {
		return nil, err
	}
	r.spans = done.Spans == spansKept && !done.Clearing && r.filter.Path == "" && len(r.sites) <= spanSitesMax
	total, err := PageViews.Count("viewsByTime").Count(tx)
	if err != nil {
		return nil, err
	}
	if r.pending = int(total) - done.Rows; done.Clearing || r.pending > tailMax {
		return r, nil
	}
	// On a slow machine there is no time for them either, and an answer without them is
	// better than none.
	r.tail.late = tx.HalfSpent
	err = errors.Join(
		addTail(tx, PageViews.By("by_stored").Gt(done.Views), r.tail, (*sheets).addView),
		addTail(tx, PageViews.By("by_stored").Eq(nil), r.tail, (*sheets).addView),
		addTail(tx, Events.By("by_stored").Gt(done.Events), r.tail, (*sheets).addEvent))
	if errors.Is(err, errLateTail) {
		r.tail = newSheets(a.TimeZone)
		return r, nil
	}
	r.pending = 0
	return r, err
}

// errLateTail says that there is no time to add the rows that are in no rollup.
var errLateTail = errors.New("too many rows for the time")

// addTail adds rows that are in no rollup, at most tailMax.
func addTail[T any](tx *halcyon.Tx, rows halcyon.Query[T], tail *sheets, add func(*sheets, *T, int)) error {
	n := 0
	for row, err := range rows.Each(tx) {
		if err != nil {
			return err
		}
		if n == tailMax {
			return nil
		}
		if n++; n%tailCheck == 0 && tail.late() {
			return errLateTail
		}
		add(tail, &row, 1)
	}
	return nil
}

// siteNames returns the names of all sites, or the one that is asked for.
func siteNames(tx *halcyon.Tx, only string) ([]string, error) {
	if only != "" {
		return []string{only}, nil
	}
	sites, err := Sites.By("by_name").Collect(tx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(sites))
	for i, site := range sites {
		names[i] = site.Name
	}
	return names, nil
}

// each calls visit with every row of a kind on the days of a cover that have no span,
// and with what is in no row, whichever the order. When the time is over it leaves the
// oldest days out.
func (r *reader) each(kind int, of days, c *cover, visit func(at scope, s *sheet)) error {
	for _, site := range r.sites {
		at := scope{site: site, path: r.filter.Path, country: r.filter.Country, kind: kind}
		for _, of := range c.days[site] {
			for _, stored := range []int{kind, kind + kindsFolded} {
				rows := Rollups.By("by_scope").Eq(at.site, at.path, at.country, stored).Gte(of.from).Lt(of.to)
				for row, err := range rows.Desc().Each(r.tx) {
					if err != nil {
						return err
					}
					if r.spentUp() {
						r.leaveOut(days{of.from, row.Day + 1})
						break
					}
					r.spend(&row)
					at.day = row.Day
					visit(at, sheetOf(&row))
				}
			}
		}
		for at, s := range r.tail.of {
			if at.site == site && at.path == r.filter.Path && at.country == r.filter.Country && at.kind == kind &&
				at.day >= of.from && at.day < of.to {
				visit(at, s)
			}
		}
	}
	return nil
}

// sheetOf reads a row of Rollups.
func sheetOf(row *Rollup) *sheet {
	s := &sheet{total: sumOf(row.Views, row.Firsts), kept: row.Values}
	for _, slot := range row.Slots {
		*s.slot(slot.Slot) = sumOf(slot.Views, slot.Firsts)
	}
	return s
}

// count is views and visitors.
type count struct{ views, visitors int }

func (c *count) add(s sum, day int, of days) {
	c.views += s.views
	c.visitors += s.visitors(day, of.from)
}

func (c *count) plus(other count) {
	c.views += other.views
	c.visitors += other.visitors
}

// breakdown counts a range of days by a dimension.
func (r *reader) breakdown(dimension string, of days) (total count, values map[string]*count, err error) {
	values = make(map[string]*count)
	kind := kindRest
	if dimension == DimensionPath && r.filter.Path == "" {
		kind = kindPaths
	}
	c, err := r.cover(of, spanLevels-1)
	if err != nil {
		return total, nil, err
	}
	for i := range c.nodes {
		n := &c.nodes[i]
		sum := count{n.total.views, n.total.visitors(n.day, of.from)}
		total.plus(sum)
		if dimension == DimensionSite {
			entry(values, n.site).plus(sum)
		}
	}
	err = r.each(kindRest, of, c, func(at scope, s *sheet) {
		total.add(s.total, at.day, of)
		switch {
		case s.total.empty():
		case dimension == DimensionSite:
			entry(values, at.site).add(s.total, at.day, of)
		case dimension == DimensionPath && kind == kindRest:
			entry(values, at.path).add(s.total, at.day, of)
		}
		addValues(values, dimension, s, at.day, of)
	})
	if err == nil && kind == kindPaths {
		err = r.each(kindPaths, of, c, func(at scope, s *sheet) { addValues(values, dimension, s, at.day, of) })
	}
	if err == nil {
		err = r.addSpans(values, dimension, c.nodes, of)
	}
	return total, values, err
}

func addValues(values map[string]*count, dimension string, s *sheet, day int, of days) {
	for i := range s.kept {
		v := &s.kept[i]
		if v.Dimension != dimension {
			continue
		}
		c := entry(values, v.Value)
		c.views += v.Views
		for j := 0; j+1 < len(v.Firsts); j += 2 {
			if gap := v.Firsts[j]; gap == 0 || day-gap < of.from {
				c.visitors += v.Firsts[j+1]
			}
		}
	}
	for l, sum := range s.values {
		if l.dimension == dimension {
			entry(values, l.value).add(*sum, day, of)
		}
	}
}

// getBreakdown counts the views and the visitors of a range of days by a
// dimension.
func (a *app) getBreakdown(tx *halcyon.Tx, args breakdownArgs) (Breakdown, error) {
	var result Breakdown
	if err := a.allow(args.Key); err != nil {
		return result, err
	}
	of, err := a.days(tx, args.From, args.To)
	if err != nil {
		return result, err
	}
	limit := args.Limit
	if limit <= 0 {
		limit = breakdownDefault
	}
	limit = min(limit, breakdownMax)
	r, err := a.newReader(tx, args.Filter)
	if err != nil {
		return result, err
	}
	count := r.breakdown
	if args.Dimension == DimensionDropped {
		count = r.dropped
	}
	r.half = true
	total, values, err := count(string(args.Dimension), of)
	if err != nil {
		return result, err
	}
	result.BreakdownPeriod = a.period(of, total, values)
	names := topValues(values, limit)
	result.Rows = rowsOf(names, values)

	r.half = false
	of = days{of.from - (of.to - of.from), of.from}
	if total, values, err = count(string(args.Dimension), of); err != nil {
		return result, err
	}
	result.Previous = a.period(of, total, values)
	result.Previous.Rows = rowsOf(names, values)
	err = r.addLeftOut()
	result.Pending = r.pending
	return result, err
}

// topValues returns the values with the most views, in order.
func topValues(values map[string]*count, limit int) []string {
	type one struct {
		name string
		count
	}
	list := make([]one, 0, 4*limit)
	order := func() {
		slices.SortFunc(list, func(x, y one) int {
			return cmp.Or(cmp.Compare(y.views, x.views), cmp.Compare(y.visitors, x.visitors), cmp.Compare(x.name, y.name))
		})
		list = list[:min(len(list), limit)]
	}
	least := math.MinInt // of those that are in the list for good
	for name, c := range values {
		if c.views < least {
			continue
		}
		if list = append(list, one{name, *c}); len(list) == cap(list) {
			order()
			least = list[limit-1].views
		}
	}
	order()
	names := make([]string, len(list))
	for i := range list {
		names[i] = list[i].name
	}
	return names
}

func (a *app) period(of days, total count, values map[string]*count) BreakdownPeriod {
	return BreakdownPeriod{
		From: dayStart(of.from, a.TimeZone), To: dayStart(of.to, a.TimeZone),
		Values: len(values), Views: total.views, Visitors: total.visitors,
	}
}

func rowsOf(names []string, values map[string]*count) []BreakdownRow {
	rows := make([]BreakdownRow, len(names))
	for i, name := range names {
		rows[i].Value = name
		if c := values[name]; c != nil {
			rows[i].Views, rows[i].Visitors = c.views, c.visitors
		}
	}
	return rows
}

// dropped counts what was not counted, by the reason. Of these there is no more
// than a number a day.
func (r *reader) dropped(_ string, of days) (total count, values map[string]*count, err error) {
	values = make(map[string]*count)
	sites := r.sites
	if r.filter.Site == "" && !slices.Contains(sites, "") {
		sites = append(slices.Clip(sites), "") // what came from no site that is known
	}
	for _, site := range sites {
		for drop, err := range Drops.By("by_site").Eq(site).Gte(of.from).Lt(of.to).Each(r.tx) {
			if err != nil {
				return total, nil, err
			}
			entry(values, drop.Reason).views += int(drop.Count)
			total.views += int(drop.Count)
		}
	}
	return total, values, nil
}

// SiteStats is a site in the result of getSites.
type SiteStats struct {
	Site           string    `json:"site"`
	Since          time.Time `json:"since"`
	Views          int       `json:"views"`
	Visitors       int       `json:"visitors"`
	ActiveVisitors int       `json:"activeVisitors"`
	Synthetic      bool      `json:"synthetic,omitzero"` // made up by `stats demo`
}

// SitesResult is the result of getSites.
type SitesResult struct {
	Sites    []SiteStats `json:"sites"` // most views first
	TimeZone string      `json:"timeZone"`
}

// getSites lists the sites that views came from.
func (a *app) getSites(tx *halcyon.Tx, args Viewer) (SitesResult, error) {
	if err := a.allow(args.Key); err != nil {
		return SitesResult{}, err
	}
	result := SitesResult{Sites: []SiteStats{}, TimeZone: a.TimeZone.String()}
	since := a.activeSince(tx)
	tx.WakeAt(never)
	sites, err := Sites.By("by_name").Collect(tx)
	if err != nil {
		return result, err
	}
	for _, site := range sites {
		views, err := PageViews.Count("viewsByPath").Eq(site.Name).Count(tx)
		if err != nil {
			return result, err
		}
		visitors, err := Visitors.Count("visitors").Eq(site.Name).Count(tx)
		if err != nil {
			return result, err
		}
		folded, err := foldedOf(tx, &site.Name)
		if err != nil {
			return result, err
		}
		active, err := ActiveSessions.Count("seenByTime").Eq(site.Name).Gt(since).Count(tx)
		if err != nil {
			return result, err
		}
		if active > 0 {
			if err := a.wakeWhenSomebodyLeaves(tx, site.Name); err != nil {
				return result, err
			}
		}
		result.Sites = append(result.Sites, SiteStats{
			site.Name, site.FirstSeen, int(views) + folded.views, int(visitors) + folded.visitors, int(active), site.Name == SyntheticSite})
	}
	slices.SortStableFunc(result.Sites, func(x, y SiteStats) int { return cmp.Compare(y.Views, x.Views) })
	return result, nil
}
