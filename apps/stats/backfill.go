package stats

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
)

// backfillBatch is how many views one backfillAggregatesChunk looks at.
const backfillBatch = 500

// CodeCursor is the code of a cursor that backfillAggregatesChunk did not give.
const CodeCursor = "CursorInvalid"

type backfillResult struct {
	Message string `json:"message"`
}

type backfillChunkArgs struct {
	Cursor         halcyon.Nullable[string] `json:"cursor"`
	TotalProcessed int                      `json:"totalProcessed"`
	// SeenSessionIDs is what the original remembered. Here views come ordered by
	// their visitors, so that there is nothing to remember and no number of
	// visitors is too large; it is accepted and not looked at.
	SeenSessionIDs []string `json:"seenSessionIds"`
}

// BackfillStatus says whether there are more views to look at.
type BackfillStatus string

// The states.
const (
	BackfillInProgress BackfillStatus = "in_progress"
	BackfillComplete   BackfillStatus = "complete"
)

var _ halcyon.Enum[BackfillStatus] = BackfillStatus("")

// Values returns the states.
func (BackfillStatus) Values() []BackfillStatus {
	return []BackfillStatus{BackfillInProgress, BackfillComplete}
}

type backfillChunkResult struct {
	Status         BackfillStatus           `json:"status"`
	Processed      int                      `json:"processed"`
	UniqueSessions int                      `json:"uniqueSessions"`
	Cursor         halcyon.Nullable[string] `json:"cursor"`
}

// backfillAggregates starts to compare what is counted to the rows that it is
// counted from.
func (a *app) backfillAggregates(tx *halcyon.Tx) (backfillResult, error) {
	if _, any, err := PageViews.All().First(tx); err != nil || !any {
		return backfillResult{"No pageViews to backfill"}, err
	}
	_, err := tx.RunAfter(0, "backfillAggregatesChunk", backfillChunkArgs{SeenSessionIDs: []string{}})
	return backfillResult{"Backfill started. Check logs for progress."}, err
}

// backfillAggregatesChunk looks at the next views, in the order of their
// visitors, and schedules itself for those after them. What a view says about
// the one before it and the row of its visitor are corrected where they are not
// as they should be. After the last one the rollups are compared, path by path and
// day by day, and are made again if something was corrected or does not agree.
func (a *app) backfillAggregatesChunk(tx *halcyon.Tx, args backfillChunkArgs) (backfillChunkResult, error) {
	result := backfillChunkResult{Status: BackfillInProgress, Processed: args.TotalProcessed}
	at, err := parseBackfillCursor(args.Cursor)
	if err != nil {
		return result, err
	}
	done, err := a.progress(tx)
	if err != nil {
		return result, err
	}
	if at.step == stepViews {
		n, err := a.correctViews(tx, &at, done)
		if err != nil {
			return result, err
		}
		if result.Processed += n; result.Processed == 0 {
			at.step = stepEnd
			if _, at.differs, err = Rollups.By("by_kind").Lt(kindsFolded).First(tx); err != nil {
				return result, err
			}
		}
		tx.Info(fmt.Sprintf("backfill: %d views of %d visitors, %d corrected", result.Processed, at.visitors, at.corrected))
	} else if err := a.compareRollups(tx, &at, done); err != nil {
		return result, err
	}
	result.UniqueSessions = at.visitors
	if at.step < stepEnd {
		result.Cursor = halcyon.NotNull(at.String())
		_, err := tx.RunAfter(0, "backfillAggregatesChunk", backfillChunkArgs{
			Cursor: result.Cursor, TotalProcessed: result.Processed, SeenSessionIDs: []string{}})
		return result, err
	}
	result.Status = BackfillComplete
	if at.corrected == 0 && !at.differs {
		// What is made of the rollups is made again in any case: that costs little.
		done.Spans, done.SpansAt = spansUnknown, nil
		return result, done.save(tx)
	}
	_, err = a.clearRollups(tx, done)
	return result, err
}

// correctViews is a chunk of stepViews. It returns how many views it looked at.
func (a *app) correctViews(tx *halcyon.Tx, at *backfillCursor, done Progress) (int, error) {
	page, err := PageViews.By("by_session_time").Page(tx, halcyon.PageOptions{NumItems: backfillBatch, Cursor: at.page})
	if err != nil {
		return 0, err
	}
	var previous *PageView
	for i := range page.Page {
		view := &page.Page[i]
		first, corrected, err := correct(tx, view, previous, done.Folded)
		if err != nil {
			return 0, err
		}
		if first {
			at.visitors++
		}
		if corrected {
			at.corrected++
		}
		previous = view
	}
	if at.next(page.IsDone, page.ContinueCursor); page.IsDone && at.corrected > 0 {
		at.step = stepEnd // the rollups are made again in any case
	}
	return len(page.Page), nil
}

// The steps of the backfill.
const (
	stepViews = iota // views, and what they say about those before them
	stepPages        // the rollups of every page that has views, of all days together
	stepRest         // every rollup of a page or a site on a day
	stepPaths        // every rollup of all paths of a site on a day
	stepEnd
)

// backfillCursor is where a chunk begins, and what those before it found.
type backfillCursor struct {
	visitors, corrected int
	step                int
	differs             bool // something in the rollups is not what it should be
	page                halcyon.Nullable[string]
}

// next moves the cursor behind a page.
func (c *backfillCursor) next(ended bool, cursor string) {
	if c.page = halcyon.NotNull(cursor); ended {
		c.page = halcyon.Null[string]()
		c.step++
	}
}

func (c backfillCursor) String() string {
	differs := 0
	if c.differs {
		differs = 1
	}
	return fmt.Sprintf("%d.%d.%d.%d.%s", c.visitors, c.corrected, c.step, differs, c.page.Value)
}

func parseBackfillCursor(text halcyon.Nullable[string]) (c backfillCursor, err error) {
	if !text.Valid {
		return c, nil
	}
	var differs int
	counts, page, ok := cutAt(text.Value, '.', 4)
	_, err = fmt.Sscanf(counts, "%d.%d.%d.%d", &c.visitors, &c.corrected, &c.step, &differs)
	if err != nil || !ok || min(c.visitors, c.corrected, c.step, differs) < 0 || c.step >= stepEnd || differs > 1 {
		return c, &halcyon.Error{Code: CodeCursor, Message: "cursor is none of this function"}
	}
	if c.differs = differs == 1; page != "" {
		c.page = halcyon.NotNull(page)
	}
	return c, nil
}

// cutAt cuts a text around the n-th separator.
func cutAt(text string, separator byte, n int) (before, after string, ok bool) {
	at := -1
	for range n {
		i := strings.IndexByte(text[at+1:], separator)
		if i < 0 {
			return text, "", false
		}
		at += 1 + i
	}
	return text[:at], text[at+1:], true
}

// correct compares what a view says about the one before it to that one, and
// makes sure that its visitor is counted. previous is the view before it in the
// order of by_session_time, if that is known. first says that no view of its
// visitor is before it. Views before folded may be no rows any more.
func correct(tx *halcyon.Tx, view, previous *PageView, folded time.Time) (first, corrected bool, err error) {
	if view.SessionID == "" {
		return false, false, nil
	}
	if previous != nil && (previous.SessionID != view.SessionID || previous.Site != view.Site) {
		previous, first = nil, true
	} else if previous == nil {
		if previous, err = rowBefore(tx, view, PageViews.By("by_session_time").Eq(view.SessionID, view.Site)); err != nil {
			return false, false, err
		}
		first = previous == nil
	}
	var before, beforeHere time.Time
	if previous != nil {
		before = previous.Timestamp
		here, err := rowBefore(tx, view, PageViews.By("by_session_path").Eq(view.SessionID, view.Site, view.Path))
		if err != nil {
			return false, false, err
		}
		if here != nil {
			beforeHere = here.Timestamp
		}
	}
	fields := make(halcyon.Fields)
	// A view whose predecessor is folded still knows when that was.
	if !view.Before.Equal(before) && (!before.IsZero() || !view.Before.Before(folded)) {
		fields["before"] = before
	}
	if !view.BeforeHere.Equal(beforeHere) && (!beforeHere.IsZero() || !view.BeforeHere.Before(folded)) {
		fields["beforeHere"] = beforeHere
	}
	if len(fields) > 0 {
		if err := PageViews.Patch(tx, view.ID, fields); err != nil {
			return first, true, err
		}
		corrected = true
	}
	if !first {
		return false, corrected, nil
	}
	_, known, err := Visitors.By("by_sessionId").Eq(view.SessionID, view.Site).First(tx)
	if err != nil || known {
		return first, corrected, err
	}
	_, err = knowVisitor(tx, new(past), *view)
	return first, true, err
}

// rowBefore returns the row right before a view in the order of an index.
func rowBefore(tx *halcyon.Tx, view *PageView, views halcyon.Query[PageView]) (*PageView, error) {
	found := false
	for row, err := range views.Lte(view.Timestamp).Desc().Each(tx) {
		switch {
		case err != nil:
			return nil, err
		case found:
			return &row, nil
		case row.ID == view.ID:
			found = true
		}
	}
	return nil, nil
}

// How much one chunk compares. A transaction may look at 4,096 places: a page is
// four, a rollup of all paths has up to valuesMax values, and each of them is one.
const (
	comparePages = 300
	compareRest  = 100
	comparePaths = 3
)

// compareRollups is a chunk of the steps after stepViews. It ends the backfill at
// the first sum that does not agree.
//
// Every view that is a row is counted by the aggregate viewsByPath. So what is
// rolled up of a page has to be as much, less what is not rolled up yet: of all days
// together, which finds a rollup that is missing, and of each day. The rollups of a
// site have to be those of its paths on the day. That the engine's aggregates are
// those of the rows is what ` + "`halcyon verify`" + ` looks at, entry by entry.
func (a *app) compareRollups(tx *halcyon.Tx, at *backfillCursor, done Progress) error {
	if done.Clearing || done.TimeZone != a.TimeZone.String() {
		at.step = stepEnd // they are being made again
		return nil
	}
	c := comparison{app: a, tx: tx}
	known, err := c.findPending(done)
	if err != nil {
		return err
	}
	if !known {
		_, err := a.rollUp(tx) // a batch, and then this looks again
		return err
	}
	var differs string
	switch at.step {
	case stepPages:
		differs, err = c.pages(at)
	case stepRest:
		differs, err = c.rollups(at, kindRest, compareRest, c.rest)
		if err == nil && differs == "" && at.step > stepRest {
			differs, err = c.total(done)
		}
	case stepPaths:
		differs, err = c.rollups(at, kindPaths, comparePaths, c.paths)
	}
	if err == nil && differs != "" {
		tx.Warn("backfill: " + differs + ": all sums are made again")
		at.step, at.differs = stepEnd, true
	}
	return err
}

// comparison compares rollups with what they are made of, at one moment. What its
// methods return is where something differs, or "".
type comparison struct {
	app     *app
	tx      *halcyon.Tx
	pending map[viewsAt]int // views that are rows and not rolled up
}

// viewsAt is a page on a day, or on all of them.
type viewsAt struct {
	site, path string
	day        int
}

// everyDay is the day of a viewsAt of all days.
const everyDay = -1 << 31

// findPending finds out what is not rolled up, unless it is too much to look at.
func (c *comparison) findPending(done Progress) (known bool, err error) {
	c.pending = make(map[viewsAt]int)
	left := tailMax
	for _, views := range []halcyon.Query[PageView]{PageViews.By("by_stored").Eq(nil), PageViews.By("by_stored").Gt(done.Views)} {
		rows, err := views.Take(c.tx, left+1)
		if left -= len(rows); err != nil || left < 0 {
			return false, err
		}
		for i := range rows {
			at := viewsAt{rows[i].Site, rows[i].Path, dayOf(rows[i].Timestamp, c.app.TimeZone)}
			c.pending[at]++
			at.day = everyDay
			c.pending[at]++
		}
	}
	return true, nil
}

// pages compares pages in the order of the aggregate.
func (c *comparison) pages(at *backfillCursor) (differs string, err error) {
	siteName, path, begun := strings.Cut(at.page.Value, "\x00")
	for range comparePages {
		views := PageViews.Count("viewsByPath").Eq(siteName)
		if begun {
			views = views.Gt(path)
		}
		first, found, err := views.At(c.tx, 0)
		if err != nil {
			return "", err
		}
		if !found {
			next, more, err := Sites.By("by_name").Gt(siteName).First(c.tx)
			if err != nil {
				return "", err
			}
			if !more {
				at.next(true, "")
				return "", nil
			}
			siteName, path, begun = next.Name, "", false
			continue
		}
		path, begun = first.Path, true
		counted, err := PageViews.Count("viewsByPath").Eq(siteName, path).Count(c.tx)
		if err != nil {
			return "", err
		}
		rolled := 0
		for row, err := range Rollups.By("by_scope").Eq(siteName, path, "", kindRest).Each(c.tx) {
			if err != nil {
				return "", err
			}
			rolled += row.Views
		}
		if want := int(counted) - c.pending[viewsAt{siteName, path, everyDay}]; rolled != want {
			return fmt.Sprintf("%d views of %s%s are in its sums, and %d should be", rolled, siteName, path, want), nil
		}
	}
	at.page = halcyon.NotNull(siteName)
	if begun {
		at.page.Value += "\x00" + path
	}
	return "", nil
}

// rollups compares a page of rollups of a kind, one by one.
func (c *comparison) rollups(at *backfillCursor, kind, n int, compare func(*Rollup) (bool, error)) (differs string, err error) {
	page, err := Rollups.By("by_kind").Eq(kind).Page(c.tx, halcyon.PageOptions{NumItems: n, Cursor: at.page})
	if err != nil {
		return "", err
	}
	for i := range page.Page {
		row := &page.Page[i]
		if agrees, err := compare(row); err != nil {
			return "", err
		} else if !agrees {
			return fmt.Sprintf("the sums of day %d, site %q, path %q, country %q are not those of its views", row.Day, row.Site, row.Path, row.Country), nil
		}
	}
	at.next(page.IsDone, page.ContinueCursor)
	return "", nil
}

// counted returns how many views of a page on a day should be rolled up.
func (c *comparison) counted(site, path string, day int) (int, error) {
	n, err := PageViews.Count("viewsByPath").Eq(site, path).
		Gte(dayStart(day, c.app.TimeZone)).Lt(dayStart(day+1, c.app.TimeZone)).Count(c.tx)
	return int(n) - c.pending[viewsAt{site, path, day}], err
}

// paths reports whether the views of all paths of a site on a day are what they
// should be.
func (c *comparison) paths(row *Rollup) (bool, error) {
	for _, v := range row.Values {
		n, err := c.counted(row.Site, v.Value, row.Day)
		if err != nil {
			return false, err
		}
		if n != v.Views {
			return c.notAllApart(row)
		}
	}
	return true, nil
}

// notAllApart reports whether the day of a row has paths that are not told apart, so
// that one may be short of views which are in valueOther.
func (c *comparison) notAllApart(of *Rollup) (bool, error) {
	for row, err := range Rollups.By("by_scope").Eq(of.Site, of.Path, of.Country, of.Kind, of.Day).Each(c.tx) {
		if err != nil {
			return false, err
		}
		if slices.ContainsFunc(row.Values, func(v ValueSum) bool { return v.Value == valueOther }) {
			return true, nil
		}
	}
	return false, nil
}

// rest reports whether the rollup of a page or a site is that of its views, and
// agrees with itself.
func (c *comparison) rest(row *Rollup) (bool, error) {
	if row.Part != 0 {
		return true, nil // its values are of the sums of part 0
	}
	switch {
	case row.Country != "":
	case row.Path != "":
		n, err := c.counted(row.Site, row.Path, row.Day)
		if err != nil || n != row.Views {
			return false, err
		}
	default:
		ofPaths := 0
		for part, err := range Rollups.By("by_scope").Eq(row.Site, "", "", kindPaths, row.Day).Each(c.tx) {
			if err != nil {
				return false, err
			}
			for _, v := range part.Values {
				ofPaths += v.Views
			}
		}
		if ofPaths != row.Views {
			return false, nil
		}
	}
	slots, types, kinds := 0, 0, 0
	for _, slot := range row.Slots {
		slots += slot.Views
	}
	for _, v := range row.Values {
		switch v.Dimension {
		case DimensionPageType:
			types += v.Views
		case DimensionVisitor:
			kinds += v.Views
		}
	}
	// With more values than fit, those of these dimensions may be in another part.
	apart := len(row.Values) >= valuesMax
	return slots == row.Views && (apart || types == row.Views && kinds == row.Views), nil
}

// total compares the rollups of all sites with how many views are rolled up.
func (c *comparison) total(done Progress) (differs string, err error) {
	sites, err := siteNames(c.tx, "")
	if err != nil {
		return "", err
	}
	rolled := 0
	for _, site := range sites {
		for row, err := range Rollups.By("by_scope").Eq(site, "", "", kindRest).Each(c.tx) {
			if err != nil {
				return "", err
			}
			rolled += row.Views
		}
	}
	if rolled != done.Rows {
		return fmt.Sprintf("%d views are in the sums of sites, and %d should be", rolled, done.Rows), nil
	}
	return "", nil
}
