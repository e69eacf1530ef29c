package stats

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
)

// Views are written as rows, and that is all their visitors wait for. The sums
// by which breakdowns and charts are answered are made of them afterwards, in
// batches: rollUp takes the rows stored since the last run, in the order of
// their commits, and adds them to the rollups of their days. A query adds the
// rows that no run has come to, so that its numbers are those of this moment,
// and its cost is that of the days it is about.
//
// Different visitors of a range of days are counted without looking for them: a
// view is a visitor's first in the range exactly when the one before it,
// Before, was earlier than the range. So a sum keeps how many of its views were
// the first of their day, by how many days before that day the one before was:
// those that lie before the range are its visitors.

const (
	// daysMax is the longest range of days that a query is about. A visitor who
	// comes back after more counts as one who was never here.
	daysMax = 400

	// slotSize is the finest part of a day that is kept. All time zones in use
	// are whole quarters of an hour from UTC, so that days and hours of every one
	// are made of slots.
	slotSize = 15 * time.Minute

	// slotsMax is the same for slots as daysMax for days: a little more than the
	// longest day there is, of 25 hours.
	slotsMax = 104

	// valuesMax is the most values in one row of Rollups. More go into parts.
	valuesMax = 1000

	// dayPathsMax is how many paths of a site are told apart on a day, and
	// dayValuesMax how many values of any other dimension. What comes after them is
	// valueOther. All values of a day are read whenever one is added to: without a
	// limit who makes up enough of them would have the sums fit into no transaction.
	dayPathsMax  = 10_000
	dayValuesMax = 2_000

	// rollUpBatch is the most views that one rollUp takes.
	rollUpBatch = 1000

	// rollUpMin is how many rows one rollUp takes however slow the machine is.
	rollUpMin = 20

	// scopesMax is about the most scopes that one rollUp adds to.
	scopesMax = 1000

	// tailMax is the most views that a query adds to the rollups. With more,
	// while a large import is being rolled up, it leaves them all out and says so.
	tailMax = 4000

	// tailCheck is after how many of them it looks whether it has its time.
	tailCheck = 50
)

// The kinds of rows in Rollups. Paths are many, and apart from the rest so that
// other questions need not read them.
const (
	kindRest  = 0
	kindPaths = 1

	// kindsFolded is added for the sums of views that are folded. They are apart
	// because they can't be made again.
	kindsFolded = 2
)

// scope is what the sums of a sheet are about.
type scope struct {
	site, path, country string // "": all paths, all countries
	kind, day           int
}

// sum counts views, and their visitors.
type sum struct {
	views int
	// firsts counts the views that were the first of their visitor in this unit
	// of time (a day, a slot) by how many units before it the one before was; 0
	// stands for never, or longer ago than anybody asks.
	firsts map[int]int
}

// add adds n views, whose one before was gap units ago; less than 0: in the same
// unit.
func (s *sum) add(n, gap int) {
	s.views += n
	if gap < 0 {
		return
	}
	if s.firsts == nil {
		s.firsts = make(map[int]int)
	}
	if s.firsts[gap] += n; s.firsts[gap] == 0 {
		delete(s.firsts, gap)
	}
}

// merge adds other to s.
func (s *sum) merge(other sum) {
	s.views += other.views
	for gap, n := range other.firsts {
		if s.firsts == nil {
			s.firsts = make(map[int]int, len(other.firsts))
		}
		if s.firsts[gap] += n; s.firsts[gap] == 0 {
			delete(s.firsts, gap)
		}
	}
}

// visitors returns how many of the views, which are in the unit at, were the
// first of their visitor since the unit from.
func (s sum) visitors(at, from int) int {
	n := 0
	for gap, count := range s.firsts {
		if gap == 0 || at-gap < from {
			n += count
		}
	}
	return n
}

func (s sum) empty() bool { return s.views == 0 && len(s.firsts) == 0 }

// flat returns firsts as it is stored: gap, count, gap, count, ...
func (s sum) flat() []int {
	list := make([]int, 0, 2*len(s.firsts))
	for _, gap := range slices.Sorted(maps.Keys(s.firsts)) {
		list = append(list, gap, s.firsts[gap])
	}
	return list
}

func sumOf(views int, flat []int) sum {
	s := sum{views: views}
	if len(flat) > 0 {
		s.firsts = make(map[int]int, len(flat)/2)
	}
	for i := 0; i+1 < len(flat); i += 2 {
		s.firsts[flat[i]] = flat[i+1]
	}
	return s
}

// label is a value of a dimension.
type label struct{ dimension, value string }

// valueOther stands for the values of a day that are not told apart.
const valueOther = "(other)"

// dayMax returns how many values of a dimension are told apart on a day.
func dayMax(dimension string) int {
	if dimension == DimensionPath {
		return dayPathsMax
	}
	return dayValuesMax
}

// sheet is the sums of a scope on a day.
type sheet struct {
	total  sum
	slots  map[int]*sum
	values map[label]*sum
	kept   []ValueSum // the values of a row of Rollups, in the place of values
}

func (s *sheet) value(l label) *sum {
	if s.values == nil {
		s.values = make(map[label]*sum)
	}
	return entry(s.values, l)
}

func (s *sheet) slot(slot int) *sum {
	if s.slots == nil {
		s.slots = make(map[int]*sum)
	}
	return entry(s.slots, slot)
}

func entry[K comparable, V any](in map[K]*V, key K) *V {
	if in[key] == nil {
		in[key] = new(V)
	}
	return in[key]
}

// sheets are sums in memory, of rows that are in no rollup.
type sheets struct {
	zone *time.Location
	of   map[scope]*sheet
	rows int         // added
	most int         // about how many scopes one transaction adds to; see full
	late func() bool // whether it is time to save them; nil: never
}

func newSheets(zone *time.Location) *sheets {
	return &sheets{zone: zone, of: make(map[scope]*sheet)}
}

// dayOf returns the day that holds t, in days since 1970.
func dayOf(t time.Time, zone *time.Location) int {
	year, month, day := t.In(zone).Date()
	return int(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

// dayStart returns the moment at which a day begins. That is not midnight where the
// clocks go forward at midnight, as in the Azores, Cuba and Chile: time.Date returns
// an hour before it then.
func dayStart(day int, zone *time.Location) time.Time {
	year, month, date := time.Unix(int64(day)*86400, 0).UTC().Date()
	start := time.Date(year, month, date, 0, 0, 0, 0, zone)
	if dayOf(start, zone) < day {
		_, start = start.ZoneBounds()
	}
	return start
}

func slotOf(t time.Time) int { return int(floorDiv(t.Unix(), int64(slotSize/time.Second))) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// gap returns by how many units the unit before precedes at: -1 in the same one,
// 0 when it is too long ago or never was.
func gap(at, before, most int, ever bool) int {
	switch {
	case !ever || at-before > most:
		return 0
	case at <= before:
		return -1
	}
	return at - before
}

// addView adds a view n times: once, or minus once to take it out.
func (s *sheets) addView(v *PageView, n int) {
	s.rows++
	day, slot := dayOf(v.Timestamp, s.zone), slotOf(v.Timestamp)
	for _, at := range scopesOf(v.Site, v.Path, v.Country) {
		before := v.Before
		if at.path != "" {
			before = v.BeforeHere
		}
		ever := !before.IsZero()
		days, slots := gap(day, dayOf(before, s.zone), daysMax, ever), gap(slot, slotOf(before), slotsMax, ever)
		if v.SessionID == "" { // nobody's: it has no visitor to count
			days, slots = -1, -1
		}
		at.day, at.kind = day, kindRest
		sheet := entry(s.of, at)
		sheet.total.add(n, days)
		sheet.slot(slot).add(n, slots)
		for _, l := range v.labels() {
			if l.value != "" {
				sheet.value(l).add(n, days)
			}
		}
		sheet.value(label{DimensionPageType, v.PageType}).add(n, days)
		if v.SessionID == "" {
			sheet.value(label{DimensionVisitor, visitorUnknown}).add(n, -1)
		} else {
			sheet.value(label{DimensionVisitor, visitorKnown}).add(n, days)
		}
		if at.path == "" {
			// A page has as many visitors as the page has, and not those who
			// came to the site by it.
			at.kind = kindPaths
			here := gap(day, dayOf(v.BeforeHere, s.zone), daysMax, !v.BeforeHere.IsZero())
			if v.SessionID == "" {
				here = -1
			}
			entry(s.of, at).value(label{DimensionPath, v.Path}).add(n, here)
		}
	}
}

// addEvent adds an event n times.
func (s *sheets) addEvent(e *Event, n int) {
	s.rows++
	day := dayOf(e.Timestamp, s.zone)
	for _, at := range scopesOf(e.Site, e.Path, e.Country) {
		before := e.Before
		if at.path != "" {
			before = e.BeforeHere
		}
		at.day, at.kind = day, kindRest
		days := gap(day, dayOf(before, s.zone), daysMax, !before.IsZero())
		if e.SessionID == "" {
			days = -1
		}
		entry(s.of, at).value(label{DimensionEvent, e.Name}).add(n, days)
	}
}

// scopesOf returns the scopes that a row is in, without day and kind.
func scopesOf(site, path, country string) []scope {
	scopes := []scope{{site: site}, {site: site, path: path}}
	if country != "" {
		scopes = append(scopes, scope{site: site, country: country}, scope{site: site, path: path, country: country})
	}
	return scopes
}

// labels returns the dimensions of a hit.
func (h *Hit) labels() []label {
	return []label{
		{DimensionReferrer, h.Referrer}, {DimensionChannel, h.Channel},
		{DimensionUTMSource, h.UTMSource}, {DimensionUTMMedium, h.UTMMedium}, {DimensionUTMCampaign, h.UTMCampaign},
		{DimensionDevice, h.Device}, {DimensionBrowser, h.Browser}, {DimensionSystem, h.System},
		{DimensionCountry, h.Country},
	}
}

// save adds the sheets to Rollups.
func (s *sheets) save(tx *halcyon.Tx) error {
	for _, at := range slices.SortedFunc(maps.Keys(s.of), compareScopes) {
		if err := s.of[at].save(tx, at); err != nil {
			return err
		}
	}
	return s.markStale(tx)
}

func compareScopes(x, y scope) int {
	return cmp.Or(cmp.Compare(x.site, y.site), cmp.Compare(x.path, y.path), cmp.Compare(x.country, y.country),
		cmp.Compare(x.kind, y.kind), cmp.Compare(x.day, y.day))
}

// save adds a sheet to its rows in Rollups. Values that have come to nothing go.
func (s *sheet) save(tx *halcyon.Tx, at scope) error {
	rows, err := Rollups.By("by_scope").Eq(at.site, at.path, at.country, at.kind, at.day).Collect(tx)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		rows = append(rows, Rollup{Site: at.site, Path: at.path, Country: at.country, Kind: at.kind, Day: at.day})
	}
	first := &rows[0]
	total := sumOf(first.Views, first.Firsts)
	total.merge(s.total)
	first.Views, first.Firsts = total.views, total.flat()
	first.Slots = mergeSlots(first.Slots, s.slots)

	values := newDayValues(rows)
	values.changed[0] = !s.total.empty() || len(s.slots) > 0
	for _, l := range slices.SortedFunc(maps.Keys(s.values), compareLabels) {
		values.add(l, *s.values[l])
	}
	rows, changed := values.rows, values.changed
	left := false
	for i := range rows {
		row := &rows[i]
		row.Values = slices.DeleteFunc(row.Values, func(v ValueSum) bool { return v.Views == 0 && len(v.Firsts) == 0 })
		left = left || row.Views != 0 || len(row.Firsts) > 0 || len(row.Slots) > 0 || len(row.Values) > 0
	}
	for i := range rows {
		row := &rows[i]
		switch {
		case !left && row.ID != "":
			if err := Rollups.Delete(tx, row.ID); err != nil {
				return err
			}
		case !left || !changed[i]:
		case row.ID == "":
			if _, err := Rollups.Insert(tx, *row); err != nil {
				return err
			}
		default:
			if err := Rollups.Replace(tx, row.ID, *row); err != nil {
				return err
			}
		}
	}
	return nil
}

// dayValues is the rows of a scope on a day while values are added to them.
type dayValues struct {
	rows      []Rollup
	changed   []bool
	where     map[label][2]int // row, and place in it
	different map[string]int   // how many values a dimension has
}

func newDayValues(rows []Rollup) *dayValues {
	d := &dayValues{rows: rows, changed: make([]bool, len(rows), len(rows)+1), where: make(map[label][2]int), different: make(map[string]int)}
	for i := range rows {
		for j, v := range rows[i].Values {
			d.where[label{v.Dimension, v.Value}] = [2]int{i, j}
			d.different[v.Dimension]++
		}
	}
	return d
}

// add adds to a value. One that is new on a day that has as many as are told apart is
// added to valueOther; and what is taken out of a value that does not have as much was.
func (d *dayValues) add(l label, s sum) {
	other := label{l.dimension, valueOther}
	_, others := d.where[other]
	place, known := d.where[l]
	switch {
	case !known && (d.different[l.dimension] >= dayMax(l.dimension) || others && s.views <= 0):
		l, others = other, false
		place, known = d.where[l]
	case l == other:
		others = false
	}
	if !known {
		place = d.place(l)
	}
	v := &d.rows[place[0]].Values[place[1]]
	now := sumOf(v.Views, v.Firsts)
	now.merge(s)
	v.Views, v.Firsts = now.views, now.flat()
	d.changed[place[0]] = true
	if others && now.views <= 0 && !now.empty() {
		v.Views, v.Firsts = 0, nil
		d.add(other, now)
	}
}

// place makes a place for a value.
func (d *dayValues) place(l label) [2]int {
	last := len(d.rows) - 1
	if len(d.rows[last].Values) >= valuesMax {
		of := d.rows[0]
		d.rows = append(d.rows, Rollup{Site: of.Site, Path: of.Path, Country: of.Country, Kind: of.Kind, Day: of.Day, Part: last + 1})
		d.changed = append(d.changed, false)
		last++
	}
	row := &d.rows[last]
	row.Values = append(row.Values, ValueSum{Dimension: l.dimension, Value: l.value})
	d.where[l] = [2]int{last, len(row.Values) - 1}
	d.different[l.dimension]++
	return d.where[l]
}

func compareLabels(x, y label) int {
	return cmp.Or(cmp.Compare(x.dimension, y.dimension), cmp.Compare(x.value, y.value))
}

func mergeSlots(stored []SlotSum, add map[int]*sum) []SlotSum {
	for _, slot := range slices.Sorted(maps.Keys(add)) {
		i, found := slices.BinarySearchFunc(stored, slot, func(s SlotSum, slot int) int { return cmp.Compare(s.Slot, slot) })
		if !found {
			stored = slices.Insert(stored, i, SlotSum{Slot: slot})
		}
		now := sumOf(stored[i].Views, stored[i].Firsts)
		now.merge(*add[slot])
		stored[i].Views, stored[i].Firsts = now.views, now.flat()
	}
	return slices.DeleteFunc(stored, func(s SlotSum) bool { return s.Views == 0 && len(s.Firsts) == 0 })
}

// progress returns how far the rollup has come.
func (a *app) progress(tx *halcyon.Tx) (Progress, error) {
	row, ok, err := Progresses.All().First(tx)
	if err == nil && !ok {
		row.TimeZone = a.TimeZone.String()
	}
	return row, err
}

// rollUp adds a batch of views and of events to the rollups, and schedules
// itself for what is left. It returns how many rows it took.
func (a *app) rollUp(tx *halcyon.Tx) (int, error) {
	done, err := a.progress(tx)
	if err != nil {
		return 0, err
	}
	if done.Clearing || done.TimeZone != a.TimeZone.String() {
		return a.clearRollups(tx, done)
	}
	sums := newSheets(a.TimeZone)
	sums.late = toBeSaved(tx, 8)
	// It may look at 4,096 places: two for a scope, one more for a day of a site, and one
	// for a row that is marked.
	sums.most = min(scopesMax, (tx.RangesLeft()-rollUpBatch-rollUpMin)/3)
	views, err := takeRows(tx, PageViews, &done.Views, done.mark(), sums, func(v *PageView) (halcyon.ID[PageView], time.Time) {
		sums.addView(v, 1)
		return v.ID, v.Stored
	})
	if err != nil {
		return 0, err
	}
	events, err := takeRows(tx, Events, &done.Events, done.mark(), sums, func(e *Event) (halcyon.ID[Event], time.Time) {
		sums.addEvent(e, 1)
		return e.ID, e.Stored
	})
	if err != nil || views+events == 0 {
		return 0, err
	}
	if err := sums.save(tx); err != nil {
		return 0, err
	}
	done.Rows += views
	if err := done.save(tx); err != nil {
		return 0, err
	}
	if sums.full() || max(views, events) >= rollUpBatch {
		_, err = tx.RunAfter(0, "rollUp", nil)
	}
	return views + events, err
}

// toBeSaved returns what reports whether it is time to save sums, since a part of
// the time of the transaction that is left now is gone: to save them takes several
// times as long as to make them. On a machine so slow, or so busy, that a whole
// batch has no time in one transaction, a batch of a fixed size would be tried in
// vain for ever.
func toBeSaved(tx *halcyon.Tx, part time.Duration) func() bool {
	left := tx.TimeLeft()
	enough := left - left/part
	return func() bool { return tx.TimeLeft() < enough }
}

// mark is the time of storing of a row that is in the rollups although its commit
// is not, as a whole. It is before all commits. When the rollups are made again it
// is an earlier one, so that those that were marked before come after it.
func (p Progress) mark() time.Time { return time.UnixMicro(1<<20 - int64(p.Generation)).UTC() }

// full reports whether a transaction should not touch more rollups: what it may look at
// is limited, and it has its time.
func (s *sheets) full() bool {
	return len(s.of) >= s.most || s.rows >= rollUpMin && s.late != nil && s.late()
}

// takeRows adds up to a batch of the rows that were stored after done, first
// those that do not say when: they were loaded and not inserted. All rows of one
// commit have the same time. So done moves over whole commits only, and rows of a
// commit that does not fit as a whole are marked one by one.
func takeRows[T any](tx *halcyon.Tx, table *halcyon.Table[T], done *time.Time, mark time.Time, sums *sheets,
	add func(*T) (halcyon.ID[T], time.Time)) (taken int, err error) {
	if done.IsZero() {
		*done = mark
	}
	putMarks := func(ids []halcyon.ID[T]) error {
		for _, id := range ids {
			if err := table.Patch(tx, id, halcyon.Fields{"stored": mark}); err != nil {
				return err
			}
		}
		return nil
	}
	loaded, err := table.By("by_stored").Eq(nil).Take(tx, rollUpBatch)
	if err != nil {
		return 0, err
	}
	for i := range loaded {
		if sums.full() {
			return taken, nil
		}
		id, _ := add(&loaded[i])
		taken++
		if err := putMarks([]halcyon.ID[T]{id}); err != nil {
			return taken, err
		}
	}
	// What is stored while this runs has a later time: it is left to the next run
	// rather than waited for.
	stored := table.By("by_stored").Gt(*done)
	if done.Before(tx.Now()) { // or the clock was set back: commits go on from where they were
		stored = stored.Lt(tx.Now())
	}
	rows, err := stored.Take(tx, rollUpBatch-len(loaded)+1)
	if err != nil {
		return taken, err
	}
	var of time.Time // the commit that is being taken
	var ids []halcyon.ID[T]
	for i := range rows {
		if sums.full() || i == rollUpBatch-len(loaded) {
			return taken, putMarks(ids)
		}
		id, stored := add(&rows[i])
		taken++
		if !stored.Equal(of) && !of.IsZero() {
			*done, ids = of, ids[:0]
		}
		of, ids = stored, append(ids, id)
	}
	if !of.IsZero() {
		*done = of
	}
	return taken, nil
}

// has reports whether a view stored at that time is in the rollups.
func (p Progress) has(stored time.Time) bool { return !stored.IsZero() && !stored.After(p.Views) }

// rollUpSometimes is called with every view: on the average it schedules a run a
// few times a batch, so that the views that queries have to add stay few at any
// rate, without a count that all views would have to share.
func (a *app) rollUpSometimes(tx *halcyon.Tx) error {
	if tx.Rand().IntN(rollUpBatch/4) != 0 {
		return nil
	}
	_, err := tx.RunAfter(0, "rollUp", nil)
	return err
}

func (p Progress) save(tx *halcyon.Tx) error {
	if p.ID == "" {
		_, err := Progresses.Insert(tx, p)
		return err
	}
	return Progresses.Replace(tx, p.ID, p)
}

// clearRollups takes a batch of rollups away, for they are made again of the rows.
// Those of folded views stay as they are, also with the days of the time zone that
// they were folded in.
func (a *app) clearRollups(tx *halcyon.Tx, done Progress) (int, error) {
	if !done.Clearing {
		done.Clearing, done.TimeZone = true, a.TimeZone.String()
		done.Generation++
		done.Views, done.Events, done.Rows = done.mark(), done.mark(), 0
		done.Spans, done.SpansAt = spansUnknown, nil
	}
	old, err := Rollups.By("by_kind").Lt(kindsFolded).Take(tx, rollUpBatch)
	if err != nil {
		return 0, err
	}
	gone := 0
	for _, row := range old {
		if gone > 0 && tx.HalfSpent() {
			break
		}
		if err := Rollups.Delete(tx, row.ID); err != nil {
			return 0, err
		}
		gone++
	}
	done.Clearing = gone < len(old) || len(old) == rollUpBatch
	if err := done.save(tx); err != nil {
		return 0, err
	}
	_, err = tx.RunAfter(0, "rollUp", nil)
	return gone + 1, err
}

// everyMinute samples who is here, rolls up what was stored, and sees to it that of
// those who leave until the next minute not too many stay rows.
func (a *app) everyMinute(tx *halcyon.Tx) error {
	if err := a.sample(tx); err != nil {
		return err
	}
	n, err := a.rollUp(tx)
	if err != nil {
		return err
	}
	if n < rollUpBatch/2 { // or it goes on, and what is made now would soon be stale
		if err := a.planSpans(tx); err != nil {
			return err
		}
	}
	return a.planSweep(tx, tx.Now().Add(time.Minute))
}
