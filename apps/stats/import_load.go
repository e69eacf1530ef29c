package stats

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/accesslog"
)

// How logs come into empty tables: PageViews is loaded by sorted files, see
// halcyon.Table.Load, then Visitors, then the sites are listed. These are three
// commits, and the rows of Imports tell how far they have come: they are written,
// with the id of one visitor of the load in Loading, when all logs are read and
// before the load is published. So at the next start, if that visitor is in
// PageViews, what is missing is done; if not, nothing was loaded, and the rows go.

const (
	// loadBytesMin is how large logs have to be together, in bytes of their files,
	// for a load to be worth it.
	loadBytesMin = 64 << 10

	// loadedPage is how many views one query goes through for their visitors: few
	// enough for the time that a function has, also where the processors are busy.
	loadedPage = 500

	// keptVisitorsMax is how many visitors of a load are kept in memory, with some
	// 90 bytes each, so that they need not be looked for in its views.
	keptVisitorsMax = 1 << 19

	// loadBatch is how many views go from the reading of logs to the load at a time.
	loadBatch = 256
)

// errNotLoadable says that a log can't be loaded: a view comes after a later one of
// the same visitor or when its day is long past, there are too many visitors, or
// reading fails.
var errNotLoadable = errors.New("the log can't be loaded at once")

// tryLoad counts all logs into empty tables at once. It reports false, and has
// changed nothing, when they are to be counted by transactions.
func (r *importRun) tryLoad(ctx context.Context) (loaded bool, err error) {
	if r.transactions || r.progress.total < loadBytesMin {
		return false, nil
	}
	var empty bool
	if err := r.app.Run(ctx, "stats:isEmpty", nil, &empty); err != nil || !empty {
		return false, err
	}
	var logs []*openLog
	defer func() {
		for _, l := range logs {
			err = errors.Join(err, l.close())
		}
		if !loaded {
			r.progress.bytes = 0
		}
	}()
	heads := make(map[string]bool)
	for _, name := range r.files {
		l, in, err := r.find(ctx, name)
		if err != nil {
			return false, nil // reading it by transactions tells what is wrong
		}
		logs = append(logs, l)
		if l.file == nil || l.row.ID != "" || heads[l.row.Head] {
			return false, nil
		}
		heads[l.row.Head] = true
		if l.Reader, err = accesslog.NewReader(in, r.rules, accesslog.Mark{}); err != nil {
			return false, nil
		}
	}
	load := &logLoad{run: r, logs: logs}
	_, err = PageViews.Load(ctx, r.app, load.views(ctx), &halcyon.LoadOptions{Progress: func(p halcyon.LoadProgress) {
		if p.EntriesTotal > 0 {
			r.progress.show(load.done.Lines, load.done.Counted, fmt.Sprintf("sorting, %.0f %%", 100*float64(p.Entries)/float64(p.EntriesTotal)))
		}
	}})
	if errors.Is(err, errNotLoadable) || errors.Is(err, halcyon.ErrTableNotEmpty) || errors.Is(err, halcyon.ErrSharedLog) {
		err = r.stats.finishLoads(ctx, r.app)
		return false, err
	}
	if err != nil {
		return false, fmt.Errorf("import: %w", errors.Join(err, r.stats.finishLoads(context.WithoutCancel(ctx), r.app)))
	}
	r.done.merge(load.done)
	r.progress.show(r.done.Lines, r.done.Counted, "counting visitors")
	if load.tooMany {
		return true, r.stats.finishLoads(ctx, r.app)
	}
	return true, r.stats.finishLoadsOf(ctx, r.app, func(yield func([]knownVisitor, error) bool) { yield(load.visitors, nil) })
}

// logLoad makes the rows of a load.
type logLoad struct {
	run  *importRun
	logs []*openLog
	done ImportState

	seen   seenVisitors
	sample string // the first visitor

	visitors []knownVisitor
	tooMany  bool // for visitors to have all of them
}

// views yields the counted views of all logs, and notes at their end what came of
// them. The logs are read beside whoever takes the views.
func (d *logLoad) views(ctx context.Context) iter.Seq2[PageView, error] {
	return func(yield func(PageView, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		batches := make(chan []PageView, 4)
		var rows []ImportedLog
		var failed error
		var reading sync.WaitGroup
		reading.Go(func() {
			defer close(batches)
			rows, failed = d.readAll(ctx, batches)
		})
		defer reading.Wait()
		defer cancel()
		for batch := range batches {
			for i := range batch {
				if !yield(batch[i], nil) {
					return
				}
			}
		}
		if failed == nil {
			failed = d.run.app.Run(ctx, "stats:noteLoads", loadNotes{rows}, nil)
		}
		if failed != nil {
			yield(PageView{}, failed)
		}
	}
}

// readAll sends the counted views of all logs, and returns what came of these.
func (d *logLoad) readAll(ctx context.Context, batches chan<- []PageView) (rows []ImportedLog, err error) {
	batch := make([]PageView, 0, loadBatch)
	send := func() error {
		select {
		case batches <- batch:
			batch = make([]PageView, 0, loadBatch)
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	counted := func(view PageView) error {
		if batch = append(batch, view); len(batch) < loadBatch {
			return nil
		}
		return send()
	}
	for _, l := range d.logs {
		if err := d.read(ctx, l, counted); err != nil {
			return nil, err
		}
		l.row.Run, l.row.Done, l.row.Loading = d.run.name, true, d.sample
		l.state.setMark(l.Mark())
		l.state.Loading = d.sample
		l.row.ImportState = l.state
		rows = append(rows, l.row.ImportedLog)
		d.done.merge(l.state)
	}
	if d.done.Counted == 0 {
		// There is nothing to load, and so no sign that it was.
		for i := range rows {
			rows[i].Loading = ""
		}
	}
	return rows, send()
}

// read passes the counted views of one log on.
func (d *logLoad) read(ctx context.Context, l *openLog, counted func(PageView) error) error {
	for ended := false; !ended; {
		var reason accesslog.Reason
		var err error
		if l.views, reason, err = l.Next(l.views[:0]); err != nil {
			if !errors.Is(err, io.EOF) {
				// By transactions, what comes before the broken place counts.
				return errors.Join(errNotLoadable, err)
			}
			ended = true
			l.views, reason = l.Finish(l.views)
		}
		l.state.add(reason, one(reason))
		for i := range l.views {
			view, reason, err := d.view(&l.views[i])
			switch {
			case err != nil:
				return err
			case reason != "":
				l.state.add(reason, 1)
				continue
			}
			l.state.Counted++
			if err := counted(view); err != nil {
				return err
			}
		}
		l.state.Lines = int(l.Lines())
		if l.state.Lines%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			d.seen.forget(l.Mark().Low)
			d.run.progress.show(d.done.Lines+l.state.Lines, d.done.Counted+l.state.Counted, "")
		}
	}
	return nil
}

// view makes of an entry the row that countView would make, or tells why it is not
// counted.
func (d *logLoad) view(e *accesslog.Entry) (PageView, accesslog.Reason, error) {
	view, err := d.run.imported(e).view()
	if tooLongPath(err) {
		return view, reasonRefused, nil
	}
	if err != nil {
		return view, "", err
	}
	switch d.seen.look(&view, d.run.stats.ViewWindow) {
	case fateUnknown:
		return view, "", errNotLoadable
	case fateRepeated:
		return view, reasonRepeated, nil
	}
	if d.sample == "" {
		d.sample = view.SessionID
	}
	if view.Before.IsZero() {
		d.know(&view)
	}
	return view, "", nil
}

// know keeps the visitor of a first view.
func (d *logLoad) know(view *PageView) {
	switch {
	case d.tooMany:
	case len(d.visitors) == keptVisitorsMax:
		d.visitors, d.tooMany = nil, true
	default:
		d.visitors = append(d.visitors, knownVisitor{Site: view.Site, SessionID: view.SessionID, FirstSeen: view.Timestamp})
	}
}

// isEmpty reports whether there is neither a view nor a visitor, nor was any.
func isEmpty(tx *halcyon.Tx) (bool, error) {
	_, views, err := PageViews.All().First(tx)
	if err != nil || views {
		return false, err
	}
	if _, folded, err := secretInUse(tx); err != nil || folded {
		return false, err
	}
	_, visitors, err := Visitors.All().First(tx)
	return !visitors, err
}

type loadNotes struct {
	Rows []ImportedLog `json:"rows"`
}

// noteLoads makes the rows of logs that are about to be loaded.
func noteLoads(tx *halcyon.Tx, args loadNotes) error {
	for _, row := range args.Rows {
		row.Started = tx.Now()
		if _, err := Imports.Insert(tx, Import{ImportedLog: row}); err != nil {
			return err
		}
	}
	return nil
}

// loadsState says what there is to do about loads.
type loadsState struct {
	Begun     bool `json:"begun"`
	Published bool `json:"published"`
}

// getLoads finds out about loads that were begun and not ended.
func getLoads(tx *halcyon.Tx) (state loadsState, err error) {
	for row, err := range Imports.All().Each(tx) {
		if err != nil {
			return state, err
		}
		if row.Loading == "" {
			continue
		}
		state.Begun = true
		_, there, err := PageViews.By("by_session_path").Eq(row.Loading).First(tx)
		if err != nil {
			return state, err
		}
		state.Published = state.Published || there
	}
	return state, nil
}

type loadedVisitorsArgs struct {
	After string `json:"after"`
}

// loadedVisitorsPage is visitors by their ids.
type loadedVisitorsPage struct {
	Visitors []knownVisitor `json:"visitors"`
	Ended    bool           `json:"ended"`
}

// loadedVisitors returns the visitors of views, a page of them, in the order of
// their ids.
func loadedVisitors(tx *halcyon.Tx, args loadedVisitorsArgs) (page loadedVisitorsPage, err error) {
	page.Visitors, page.Ended = []knownVisitor{}, true
	rows := 0
	for view, err := range PageViews.By("by_session_time").Gt(args.After).Each(tx) {
		if err != nil {
			return page, err
		}
		n := len(page.Visitors)
		same := n > 0 && page.Visitors[n-1].SessionID == view.SessionID
		if rows++; rows > loadedPage && !same {
			page.Ended = false // a whole number of ids
			break
		}
		if !same || page.Visitors[n-1].Site != view.Site {
			page.Visitors = append(page.Visitors, knownVisitor{Site: view.Site, SessionID: view.SessionID, FirstSeen: view.Timestamp})
		}
	}
	return page, nil
}

type knowVisitorsArgs struct {
	Visitors []knownVisitor `json:"visitors"`
}

type knownVisitor struct {
	Site      string    `json:"site"`
	SessionID string    `json:"sessionId"`
	FirstSeen time.Time `json:"firstSeen"`
}

// knowVisitors makes sure that the visitors of a load are counted.
func knowVisitors(tx *halcyon.Tx, args knowVisitorsArgs) error {
	folded := new(past)
	for _, v := range args.Visitors {
		if _, err := knowVisitor(tx, folded, PageView{SessionID: v.SessionID, Timestamp: v.FirstSeen, Hit: Hit{Site: v.Site}}); err != nil {
			return err
		}
	}
	return nil
}

type endLoadsArgs struct {
	Published bool         `json:"published"`
	Sites     []loadedSite `json:"sites"`
}

type loadedSite struct {
	Name      string    `json:"name"`
	FirstSeen time.Time `json:"firstSeen"`
}

// endLoads lists the sites of the loads that were published, and removes the rows
// of those that were not.
func (a *app) endLoads(tx *halcyon.Tx, args endLoadsArgs) error {
	for _, site := range args.Sites {
		if err := a.knowSite(tx, site.Name, site.FirstSeen); err != nil {
			return err
		}
	}
	for row, err := range Imports.All().Each(tx) {
		switch {
		case err != nil:
			return err
		case row.Loading == "":
			continue
		case args.Published:
			err = Imports.Patch(tx, row.ID, halcyon.Fields{"loading": ""})
		default:
			err = Imports.Delete(tx, row.ID)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// finishLoads does what is left to do of loads that were published and not ended,
// and forgets those that were not published.
func (a *app) finishLoads(ctx context.Context, app *halcyon.App) error {
	return a.finishLoadsOf(ctx, app, storedVisitors(ctx, app))
}

// finishLoadsOf is finishLoads for views whose visitors are known.
func (a *app) finishLoadsOf(ctx context.Context, app *halcyon.App, visitors iter.Seq2[[]knownVisitor, error]) error {
	var state loadsState
	if err := app.Run(ctx, "stats:getLoads", nil, &state); err != nil || !state.Begun {
		return err
	}
	end := endLoadsArgs{Published: state.Published, Sites: []loadedSite{}}
	if state.Published {
		sites := make(map[string]time.Time)
		if err := a.loadVisitors(ctx, app, visitors, sites); err != nil {
			return fmt.Errorf("count the visitors of an import: %w", err)
		}
		for name, since := range sites {
			end.Sites = append(end.Sites, loadedSite{name, since})
		}
	}
	return app.Run(ctx, "stats:endLoads", end, nil)
}

// storedVisitors yields the visitors of all views there are.
func storedVisitors(ctx context.Context, app *halcyon.App) iter.Seq2[[]knownVisitor, error] {
	return func(yield func([]knownVisitor, error) bool) {
		for after := ""; ; {
			var page loadedVisitorsPage
			if err := app.Run(ctx, "stats:loadedVisitors", loadedVisitorsArgs{after}, &page); err != nil {
				yield(nil, err)
				return
			}
			if n := len(page.Visitors); n > 0 {
				after = page.Visitors[n-1].SessionID
			}
			if !yield(page.Visitors, nil) || page.Ended {
				return
			}
		}
	}
}

// loadVisitors counts visitors, pages of them, and tells their sites.
func (a *app) loadVisitors(ctx context.Context, app *halcyon.App, pages iter.Seq2[[]knownVisitor, error], sites map[string]time.Time) error {
	_, err := Visitors.Load(ctx, app, func(yield func(Visitor, error) bool) {
		for page, err := range pages {
			if err != nil {
				yield(Visitor{}, err)
				return
			}
			for _, v := range page {
				if first, ok := sites[v.Site]; !ok || v.FirstSeen.Before(first) {
					sites[v.Site] = v.FirstSeen
				}
				if !yield(Visitor{Site: v.Site, SessionID: v.SessionID, FirstSeen: v.FirstSeen}, nil) {
					return
				}
			}
		}
	}, nil)
	if !errors.Is(err, halcyon.ErrTableNotEmpty) {
		return err
	}
	for page, err := range pages {
		if err != nil {
			return err
		}
		for part := range slices.Chunk(page, importBatch) {
			if err := app.Run(ctx, "stats:knowVisitors", knowVisitorsArgs{part}, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
