package stats

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon"
)

// Views are rows until ViewRetention. Then whole days of them are folded, in
// batches. One transaction deletes a batch of rows and adds them to what stays:
// their sums by day go from the rollups that are made of rows to those that are
// not, and the views of every path to FoldedPaths. What is shown is always the sum
// of both, so it is the same before and after a batch, and a program that is
// killed between two of them goes on where it was.
//
// A visitor of whom no row is left is known by a keyed hash of the id from then on,
// so that one who comes back is no new one, and after VisitorRetention is one in a
// number.

// FoldedPath is how many views of a path are no rows any more.
type FoldedPath struct {
	ID    halcyon.ID[FoldedPath] `halcyon:"id"`
	Site  string                 `json:"site"`
	Path  string                 `json:"path"`
	Views int                    `json:"views"`
	Gone  bool                   `json:"gone"` // no row has this path
}

// FoldedSite is what is kept of a site beside its rows.
type FoldedSite struct {
	ID       halcyon.ID[FoldedSite] `halcyon:"id"`
	Site     string                 `json:"site"`
	Since    time.Time              `json:"since"`    // the first view
	Visitors int                    `json:"visitors"` // who are not in Visitors any more
}

// Secret is the key of the hashes of visitors. There is one row.
type Secret struct {
	ID   halcyon.ID[Secret] `halcyon:"id"`
	Key  []byte             `json:"key"`
	Used bool               `json:"used"` // something has been folded
}

// The tables of what is folded.
var (
	FoldedPaths = halcyon.NewTable[FoldedPath]("foldedPaths").
			Unique("by_path", "site", "path").
			Index("by_views", "views").
			Aggregate("views", halcyon.GroupBy("site"), halcyon.Sum("views")).
			Aggregate("gone", halcyon.GroupBy("gone", "site"))

	FoldedSites = halcyon.NewTable[FoldedSite]("foldedSites").Unique("by_site", "site")

	Secrets = halcyon.NewTable[Secret]("secrets")
)

const (
	// foldBatch is the most rows that one fold takes.
	foldBatch = 200

	// foldScopesMax is about the most scopes that one fold moves sums of. A
	// transaction may look at 4,096 places: five for a scope, and eight for a row.
	foldScopesMax = 400

	// movedScopesMax is about the most scopes that one batch of views told late
	// changes: two places for each and one more for a day of a site, beside half of
	// the 4,096 for the views.
	movedScopesMax = 650

	// hashedPrefix marks the id of a visitor of whom the hash alone is kept.
	hashedPrefix = "#"

	// dayLength is the shortest time that views are kept.
	dayLength = 24 * time.Hour
)

// hash returns under which id a visitor is kept of whom no row is left.
func (s Secret) hash(visitor string) string {
	sum := hmac.New(sha256.New, s.Key)
	sum.Write([]byte(visitor))
	return hashedPrefix + hex.EncodeToString(sum.Sum(nil)[:16])
}

// declareFold declares what folding needs.
func (a *app) declareFold(m *halcyon.Module) {
	m.Internal.Mutation("fold", a.fold)
	m.Internal.Mutation("keepSecret", keepSecret)
	m.OnStart(makeSecret)
	m.Cron("fold old views", halcyon.Every(time.Hour), "fold")
}

// makeSecret makes the key at the first start. It is no random number of a
// transaction, since those follow from a seed.
func makeSecret(ctx context.Context, app *halcyon.App) error {
	key := make([]byte, sha256.Size)
	if _, err := rand.Read(key); err != nil {
		return err
	}
	return app.Run(ctx, "stats:keepSecret", secretArgs{key}, nil)
}

type secretArgs struct {
	Key []byte `json:"key"`
}

func keepSecret(tx *halcyon.Tx, args secretArgs) error {
	_, kept, err := Secrets.All().First(tx)
	if err != nil || kept {
		return err
	}
	_, err = Secrets.Insert(tx, Secret{Key: args.Key})
	return err
}

// secretInUse returns the key if something has been folded: otherwise no visitor
// is known by a hash, and no path is in FoldedPaths.
func secretInUse(tx *halcyon.Tx) (Secret, bool, error) {
	secret, kept, err := Secrets.All().First(tx)
	return secret, kept && secret.Used, err
}

// past is what a transaction that counts views has looked up of what is folded, and
// what it has to change in the rollups since a view was told after later ones of its
// visitor. It does neither for each view: what it may look at is limited. The zero
// value has looked up nothing and changes nothing. Whoever counts has to save it.
type past struct {
	looked bool
	secret Secret
	used   bool
	paths  map[[2]string]bool // site and path, of those that were returned to
	moved  *sheets            // nil while nothing is to be changed
}

// full reports whether a transaction should count no further view.
func (p *past) full(tx *halcyon.Tx) bool {
	return tx.HalfSpent() || p.moved != nil && (len(p.moved.of) >= movedScopesMax || p.moved.late())
}

// replace has the rollups changed from one state of a view to another.
func (p *past) replace(tx *halcyon.Tx, zone *time.Location, old, view *PageView) {
	if p.moved == nil {
		p.moved = newSheets(zone)
		p.moved.late = toBeSaved(tx, 8)
	}
	p.moved.addView(old, -1)
	p.moved.addView(view, 1)
}

func (p *past) save(tx *halcyon.Tx) error {
	if p.moved == nil {
		return nil
	}
	return p.moved.save(tx)
}

// look finds out whether something has been folded.
func (p *past) look(tx *halcyon.Tx) (used bool, err error) {
	if !p.looked {
		if p.secret, p.used, err = secretInUse(tx); err != nil {
			return false, err
		}
		p.looked, p.paths = true, make(map[[2]string]bool)
	}
	return p.used, nil
}

// fold takes a batch of rows away whose time is over, and schedules itself for
// what is left. It returns how many it took.
func (a *app) fold(tx *halcyon.Tx) (taken int, err error) {
	for _, step := range []func(*halcyon.Tx) (int, error){a.foldViews, a.foldEvents, a.foldVisitors} {
		if taken, err = step(tx); err != nil || taken > 0 {
			break
		}
	}
	if err == nil && taken > 0 {
		_, err = tx.RunAfter(0, "fold", nil)
	}
	return taken, err
}

// foldedUpTo returns the beginning of the first day whose rows stay, and false when
// all do. Nothing is folded while the rollups are made again.
func (a *app) foldedUpTo(tx *halcyon.Tx) (end time.Time, done Progress, ok bool, err error) {
	if a.ViewRetention < 0 {
		return end, done, false, nil
	}
	if done, err = a.progress(tx); err != nil || done.Clearing || done.TimeZone != a.TimeZone.String() {
		return end, done, false, err
	}
	return dayStart(dayOf(tx.Now().Add(-a.ViewRetention), a.TimeZone), a.TimeZone), done, true, nil
}

// move is the sums of rows on their way from the rollups of rows to those of
// folded days.
type move struct{ from, to *sheets }

func (a *app) newMove(tx *halcyon.Tx) move {
	m := move{newSheets(a.TimeZone), newSheets(a.TimeZone)}
	m.from.late = toBeSaved(tx, 16)
	return m
}

func (m move) full() bool {
	return len(m.from.of) >= foldScopesMax || m.from.rows > 0 && m.from.late()
}

func (m move) save(tx *halcyon.Tx) error {
	folded := make(map[scope]*sheet, len(m.to.of))
	for at, s := range m.to.of {
		at.kind += kindsFolded
		folded[at] = s
	}
	m.to.of = folded
	if err := m.from.save(tx); err != nil {
		return err
	}
	return m.to.save(tx)
}

func (a *app) foldViews(tx *halcyon.Tx) (taken int, err error) {
	end, done, ok, err := a.foldedUpTo(tx)
	if err != nil || !ok {
		return 0, err
	}
	rows, err := PageViews.By("by_timestamp").Lt(end).Take(tx, foldBatch)
	if err != nil {
		return 0, err
	}
	type visitor struct{ site, id string }
	type page struct{ site, path string }
	last := make(map[visitor]time.Time)
	pages := make(map[page]int)
	since := make(map[string]time.Time)
	sums := a.newMove(tx)
	for i := range rows {
		row := &rows[i]
		if !done.has(row.Stored) || sums.full() {
			break // what is not in the rollups yet will be in a minute
		}
		if err := PageViews.Delete(tx, row.ID); err != nil {
			return 0, err
		}
		taken++
		sums.from.addView(row, -1)
		sums.to.addView(row, 1)
		pages[page{row.Site, row.Path}]++
		if row.SessionID != "" {
			last[visitor{row.Site, row.SessionID}] = row.Timestamp
		}
		if _, ok := since[row.Site]; !ok {
			since[row.Site] = row.Timestamp
		}
	}
	if taken == 0 {
		return 0, nil
	}
	if err := sums.save(tx); err != nil {
		return 0, err
	}
	done.Rows -= taken
	done.Folded = end
	if err := done.save(tx); err != nil {
		return 0, err
	}
	secret, err := useSecret(tx)
	if err != nil {
		return 0, err
	}
	for _, v := range slices.SortedFunc(maps.Keys(last), func(x, y visitor) int {
		return cmp.Or(cmp.Compare(x.site, y.site), cmp.Compare(x.id, y.id))
	}) {
		if err := hideVisitor(tx, secret, v.site, v.id, last[v]); err != nil {
			return 0, err
		}
	}
	for _, p := range slices.SortedFunc(maps.Keys(pages), func(x, y page) int {
		return cmp.Or(cmp.Compare(x.site, y.site), cmp.Compare(x.path, y.path))
	}) {
		if err := foldPath(tx, p.site, p.path, pages[p]); err != nil {
			return 0, err
		}
	}
	for _, site := range slices.Sorted(maps.Keys(since)) {
		if err := addFolded(tx, FoldedSite{Site: site, Since: since[site]}); err != nil {
			return 0, err
		}
	}
	return taken, nil
}

// errNoSecret says that a database is worked on that no program has served yet.
var errNoSecret = errors.New("there is no key for the hashes of visitors; the start of the server makes one")

// useSecret returns the key, and notes that it is in use.
func useSecret(tx *halcyon.Tx) (Secret, error) {
	secret, kept, err := Secrets.All().First(tx)
	switch {
	case err != nil:
		return secret, err
	case !kept:
		return secret, errNoSecret
	case !secret.Used:
		secret.Used = true
		err = Secrets.Patch(tx, secret.ID, halcyon.Fields{"used": true})
	}
	return secret, err
}

// hideVisitor keeps the hash alone of a visitor of whom no row is left. seen is when
// the last of them was.
func hideVisitor(tx *halcyon.Tx, secret Secret, site, id string, seen time.Time) error {
	if _, left, err := PageViews.By("by_session_time").Eq(id, site).First(tx); err != nil || left {
		return err
	}
	visitor, known, err := Visitors.By("by_sessionId").Eq(id, site).First(tx)
	if err != nil || !known {
		return err
	}
	return Visitors.Patch(tx, visitor.ID, halcyon.Fields{"sessionId": secret.hash(id), "lastSeen": seen})
}

// remember finds a visitor of whom the hash alone is kept, gives back the id, and
// returns when the last view was that is folded. It is for visitors who have no row.
func (p *past) remember(tx *halcyon.Tx, site, id string) (visitor Visitor, found bool, err error) {
	if used, err := p.look(tx); err != nil || !used {
		return visitor, false, err
	}
	visitor, found, err = Visitors.By("by_sessionId").Eq(p.secret.hash(id), site).First(tx)
	if err != nil || !found {
		return visitor, false, err
	}
	return visitor, true, Visitors.Patch(tx, visitor.ID, halcyon.Fields{"sessionId": id, "lastSeen": time.Time{}})
}

// foldPath adds to the views of a path that are no rows.
func foldPath(tx *halcyon.Tx, site, path string, views int) error {
	row, known, err := FoldedPaths.By("by_path").Eq(site, path).First(tx)
	if err != nil {
		return err
	}
	if !known {
		if row.ID, err = FoldedPaths.Insert(tx, FoldedPath{Site: site, Path: path, Views: views}); err != nil {
			return err
		}
	} else if err := FoldedPaths.Patch(tx, row.ID, halcyon.Fields{"views": row.Views + views}); err != nil {
		return err
	}
	return leavePath(tx, site, path)
}

// leavePath is called when rows of a path have been deleted: it notes if none is
// left.
func leavePath(tx *halcyon.Tx, site, path string) error {
	row, known, err := FoldedPaths.By("by_path").Eq(site, path).First(tx)
	if err != nil || !known || row.Gone {
		return err
	}
	left, err := PageViews.Count("viewsByPath").Eq(site, path).Count(tx)
	if err != nil || left > 0 {
		return err
	}
	return FoldedPaths.Patch(tx, row.ID, halcyon.Fields{"gone": true})
}

// returnTo is called before a row of a path is inserted: it has one from then on.
func (p *past) returnTo(tx *halcyon.Tx, site, path string) error {
	if used, err := p.look(tx); err != nil || !used || p.paths[[2]string{site, path}] {
		return err
	}
	p.paths[[2]string{site, path}] = true
	row, known, err := FoldedPaths.By("by_path").Eq(site, path).First(tx)
	if err != nil || !known || !row.Gone {
		return err
	}
	return FoldedPaths.Patch(tx, row.ID, halcyon.Fields{"gone": false})
}

// addFolded adds to what is kept of a site.
func addFolded(tx *halcyon.Tx, add FoldedSite) error {
	row, known, err := FoldedSites.By("by_site").Eq(add.Site).First(tx)
	if err != nil {
		return err
	}
	if !known {
		_, err := FoldedSites.Insert(tx, add)
		return err
	}
	row.Visitors += add.Visitors
	if add.Since.Before(row.Since) {
		row.Since = add.Since
	}
	return FoldedSites.Replace(tx, row.ID, row)
}

func (a *app) foldEvents(tx *halcyon.Tx) (taken int, err error) {
	end, done, ok, err := a.foldedUpTo(tx)
	if err != nil || !ok {
		return 0, err
	}
	rows, err := Events.By("by_timestamp").Lt(end).Take(tx, foldBatch)
	if err != nil {
		return 0, err
	}
	sums := a.newMove(tx)
	for i := range rows {
		if rows[i].Stored.IsZero() || rows[i].Stored.After(done.Events) || sums.full() {
			break
		}
		if err := Events.Delete(tx, rows[i].ID); err != nil {
			return 0, err
		}
		taken++
		sums.from.addEvent(&rows[i], -1)
		sums.to.addEvent(&rows[i], 1)
	}
	return taken, sums.save(tx)
}

// foldVisitors takes away the hashes of visitors who have not come back, and adds
// them to a number.
func (a *app) foldVisitors(tx *halcyon.Tx) (int, error) {
	if a.VisitorRetention < 0 {
		return 0, nil
	}
	rows, err := Visitors.By("by_lastSeen").Gt(nil).Lt(tx.Now().Add(-a.VisitorRetention)).Take(tx, foldBatch)
	if err != nil {
		return 0, err
	}
	gone := make(map[string]FoldedSite)
	taken := 0
	for _, row := range rows {
		if taken > 0 && tx.HalfSpent() {
			break
		}
		if err := Visitors.Delete(tx, row.ID); err != nil {
			return 0, err
		}
		taken++
		site, known := gone[row.Site]
		if !known || row.FirstSeen.Before(site.Since) {
			site.Site, site.Since = row.Site, row.FirstSeen
		}
		site.Visitors++
		gone[row.Site] = site
	}
	for _, site := range slices.Sorted(maps.Keys(gone)) {
		if err := addFolded(tx, gone[site]); err != nil {
			return 0, err
		}
	}
	return taken, nil
}

// pathViews is how often a path was viewed.
type pathViews struct {
	site, path string
	views      int
}

// topPaths returns the n paths with the most views, of rows and folded ones. Both
// are read in the order of their counts until no path further down can have more
// than the n-th: it has at most the views of the last one of each. Which of paths
// with equal counts is the last of the n is left open, since telling them apart
// could take all of them.
func topPaths(tx *halcyon.Tx, n int) ([]pathViews, error) {
	foldedPaths, err := FoldedPaths.Count("views").Count(tx)
	if err != nil {
		return nil, err
	}
	for read := n; ; read *= 2 {
		live, err := PageViews.Count("viewsByPath").Top(tx, read)
		if err != nil {
			return nil, err
		}
		var folded []FoldedPath
		if foldedPaths > 0 {
			if folded, err = FoldedPaths.By("by_views").Desc().Take(tx, read); err != nil {
				return nil, err
			}
		}
		further := 0
		if len(live) == read {
			further += int(live[read-1].Count)
		}
		if len(folded) == read {
			further += folded[read-1].Views
		}
		paths, err := addUp(tx, live, folded)
		if err != nil {
			return nil, err
		}
		if len(folded) == 0 {
			return paths, nil // in the order of the ranking
		}
		slices.SortFunc(paths, func(x, y pathViews) int {
			return cmp.Or(cmp.Compare(y.views, x.views), cmp.Compare(x.site, y.site), cmp.Compare(x.path, y.path))
		})
		if further == 0 || len(paths) >= n && paths[n-1].views >= further {
			return paths[:min(n, len(paths))], nil
		}
	}
}

// addUp returns the views of every path in one of the lists.
func addUp(tx *halcyon.Tx, live []halcyon.GroupCount, folded []FoldedPath) ([]pathViews, error) {
	type page struct{ site, path string }
	views := make(map[page]int, len(folded))
	for _, row := range folded {
		views[page{row.Site, row.Path}] = row.Views
	}
	paths := make([]pathViews, len(live), len(live)+len(folded))
	for i, group := range live {
		p := &paths[i]
		if err := group.Decode(&p.site, &p.path); err != nil {
			return nil, err
		}
		at := page{p.site, p.path}
		p.views = int(group.Count)
		if more, listed := views[at]; listed {
			p.views += more
			delete(views, at)
		} else if len(folded) > 0 {
			row, _, err := FoldedPaths.By("by_path").Eq(p.site, p.path).First(tx)
			if err != nil {
				return nil, err
			}
			p.views += row.Views
		}
	}
	for _, row := range folded {
		if _, left := views[page{row.Site, row.Path}]; !left {
			continue // it is in the other list
		}
		p := pathViews{row.Site, row.Path, row.Views}
		if !row.Gone {
			rows, err := PageViews.Count("viewsByPath").Eq(row.Site, row.Path).Count(tx)
			if err != nil {
				return nil, err
			}
			p.views += int(rows)
		}
		paths = append(paths, p)
	}
	return paths, nil
}

// folded is what is kept of folded views.
type folded struct {
	views, visitors, paths int // paths: of which there is no row
	since                  time.Time
}

// foldedOf returns what is kept of the folded views of a site, or, with nil, of all.
func foldedOf(tx *halcyon.Tx, site *string) (f folded, err error) {
	views, gone, sites := FoldedPaths.Count("views"), FoldedPaths.Count("gone").Eq(true), FoldedSites.By("by_site")
	if site != nil {
		views, gone, sites = views.Eq(*site), gone.Eq(*site), sites.Eq(*site)
	}
	sum, err := views.Sum(tx)
	if err != nil {
		return f, err
	}
	paths, err := gone.Count(tx)
	if err != nil {
		return f, err
	}
	f.views, f.paths = int(sum), int(paths)
	for row, err := range sites.Each(tx) {
		if err != nil {
			return f, err
		}
		f.visitors += row.Visitors
		if f.since.IsZero() || row.Since.Before(f.since) {
			f.since = row.Since
		}
	}
	return f, nil
}
