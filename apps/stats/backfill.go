package stats

import (
	"fmt"
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
// as they should be. After the last one the counts are compared, and the rollups
// are made again if something was corrected or does not agree.
func (a *app) backfillAggregatesChunk(tx *halcyon.Tx, args backfillChunkArgs) (backfillChunkResult, error) {
	var result backfillChunkResult
	at, err := parseBackfillCursor(args.Cursor)
	if err != nil {
		return result, err
	}
	page, err := PageViews.By("by_session_time").Page(tx, halcyon.PageOptions{NumItems: backfillBatch, Cursor: at.page})
	if err != nil {
		return result, err
	}
	done, err := a.progress(tx)
	if err != nil {
		return result, err
	}
	var previous *PageView
	for i := range page.Page {
		view := &page.Page[i]
		first, corrected, err := correct(tx, view, previous, done.Folded)
		if err != nil {
			return result, err
		}
		if first {
			at.visitors++
		}
		if corrected {
			at.corrected++
		}
		previous = view
	}
	result.Processed, result.UniqueSessions = args.TotalProcessed+len(page.Page), at.visitors
	tx.Info(fmt.Sprintf("backfill: %d views of %d visitors, %d corrected", result.Processed, at.visitors, at.corrected))
	if !page.IsDone {
		at.page = halcyon.NotNull(page.ContinueCursor)
		result.Status, result.Cursor = BackfillInProgress, halcyon.NotNull(at.String())
		_, err := tx.RunAfter(0, "backfillAggregatesChunk", backfillChunkArgs{
			Cursor: result.Cursor, TotalProcessed: result.Processed, SeenSessionIDs: []string{}})
		return result, err
	}
	result.Status = BackfillComplete
	agree, err := a.countsAgree(tx)
	if err != nil || agree && at.corrected == 0 {
		return result, err
	}
	_, err = a.clearRollups(tx, done)
	return result, err
}

// backfillCursor is where a chunk begins, and what those before it found.
type backfillCursor struct {
	visitors, corrected int
	page                halcyon.Nullable[string]
}

func (c backfillCursor) String() string {
	return fmt.Sprintf("%d.%d.%s", c.visitors, c.corrected, c.page.Value)
}

func parseBackfillCursor(text halcyon.Nullable[string]) (c backfillCursor, err error) {
	if !text.Valid {
		return c, nil
	}
	counts, page, ok := cutAt(text.Value, '.', 2)
	if _, err := fmt.Sscanf(counts, "%d.%d", &c.visitors, &c.corrected); err != nil || !ok || c.visitors < 0 || c.corrected < 0 {
		return c, &halcyon.Error{Code: CodeCursor, Message: "cursor is none of this function"}
	}
	c.page = halcyon.NotNull(page)
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

// countsAgree reports whether the aggregates and the rollups count the same
// views. That the engine's aggregates are those of the rows is what `halcyon
// verify` looks at, entry by entry.
func (a *app) countsAgree(tx *halcyon.Tx) (bool, error) {
	total, err := PageViews.Count("viewsByTime").Count(tx)
	if err != nil {
		return false, err
	}
	sites, err := siteNames(tx, "")
	if err != nil {
		return false, err
	}
	byPath := int64(0)
	for _, site := range sites {
		n, err := PageViews.Count("viewsByPath").Eq(site).Count(tx)
		if err != nil {
			return false, err
		}
		byPath += n
	}
	if byPath != total {
		tx.Error(fmt.Sprintf("backfill: %d views by time and %d by path: stop the server and run halcyon verify", total, byPath))
		return false, nil
	}
	done, err := a.progress(tx)
	if err != nil {
		return false, err
	}
	rolled := 0
	for _, site := range sites {
		for row, err := range Rollups.By("by_scope").Eq(site, "", "", kindRest).Each(tx) {
			if err != nil {
				return false, err
			}
			rolled += row.Views
		}
	}
	return rolled == done.Rows, nil
}
