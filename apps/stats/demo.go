package stats

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/agent"
	"github.com/halcyon-db/halcyon/apps/stats/internal/source"
)

const (
	// SyntheticSite is the site of everything that `stats demo` makes up, and of
	// nothing else: a name that can be nobody's. So its numbers stand apart, the
	// page can say that they are made up, and they can be removed.
	SyntheticSite = "demo.example"

	// syntheticPrefix is what the ids of synthetic visitors begin with, and no text
	// from syntheticEnd on does.
	syntheticPrefix, syntheticEnd = "demo-", "demo."

	// demoBeat is how often a synthetic visitor does something.
	demoBeat = 20 * time.Second

	demoVisitorsMax = 1000
	demoDaysMax     = 365
)

type demoPlace struct {
	city, country       string
	latitude, longitude float64
}

// The cities are weighted by how often they are listed.
var demoPlaces = []demoPlace{
	{"Zurich", "CH", 47.4, 8.5}, {"London", "GB", 51.5, -0.1}, {"Berlin", "DE", 52.5, 13.4}, {"Berlin", "DE", 52.5, 13.4},
	{"Paris", "FR", 48.9, 2.4}, {"Madrid", "ES", 40.4, -3.7}, {"Warsaw", "PL", 52.2, 21.0}, {"Stockholm", "SE", 59.3, 18.1},
	{"New York", "US", 40.7, -74.0}, {"New York", "US", 40.7, -74.0}, {"San Francisco", "US", 37.8, -122.4}, {"San Francisco", "US", 37.8, -122.4},
	{"Austin", "US", 30.3, -97.7}, {"Toronto", "CA", 43.7, -79.4}, {"Mexico City", "MX", 19.4, -99.1}, {"São Paulo", "BR", -23.6, -46.6},
	{"Buenos Aires", "AR", -34.6, -58.4}, {"Lagos", "NG", 6.5, 3.4}, {"Nairobi", "KE", -1.3, 36.8}, {"Cape Town", "ZA", -33.9, 18.4},
	{"Cairo", "EG", 30.0, 31.2}, {"Mumbai", "IN", 19.1, 72.9}, {"Bengaluru", "IN", 13.0, 77.6}, {"Singapore", "SG", 1.4, 103.8},
	{"Jakarta", "ID", -6.2, 106.8}, {"Tokyo", "JP", 35.7, 139.7}, {"Seoul", "KR", 37.6, 127.0}, {"Sydney", "AU", -33.9, 151.2},
	{"Auckland", "NZ", -36.8, 174.8},
}

var demoPaths = []string{
	"/", "/", "/", "/", "/blog/first-post", "/blog/first-post", "/blog/how-it-works", "/blog/how-it-works", "/blog/a-longer-story",
	"/about", "/projects", "/docs/start", "/docs/start", "/docs/questions", "/contact",
}

var demoReferrers = []string{
	"", "", "", "", "www.google.com", "www.google.com", "duckduckgo.com", "news.ycombinator.com", "news.ycombinator.com", "www.reddit.com",
	"chatgpt.com", "claude.ai", "github.com", "mastodon.social", "blog.example.org",
}

var demoUTMs = []source.UTM{{}, {}, {}, {}, {}, {}, {}, {Source: "newsletter", Medium: "email", Campaign: "spring"}, {Source: "conference", Medium: "qr"}}

var demoAgents = []string{
	"Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
	"Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Mobile/15E148 Safari/604.1",
}

// demoVisitor is a synthetic visitor.
type demoVisitor struct {
	id, path string
	hit      Hit
	place    demoPlace
	leaves   time.Time
}

// demo is one run of the command `demo`.
type demo struct {
	call     func(ctx context.Context, path string, args, result any) error
	random   *rand.Rand
	now      func() time.Time
	here     []*demoVisitor
	visitors int
	views    int
	past     int
}

func pick[T any](d *demo, from []T) T { return from[d.random.IntN(len(from))] }

func (d *demo) visitor() *demoVisitor {
	v := &demoVisitor{id: fmt.Sprintf("%s%016x", syntheticPrefix, d.random.Uint64()), place: pick(d, demoPlaces)}
	ua, utm := agent.Parse(pick(d, demoAgents)), pick(d, demoUTMs)
	v.hit = Hit{
		Site: SyntheticSite, Referrer: source.CleanHost(pick(d, demoReferrers)), UTMSource: utm.Source, UTMMedium: utm.Medium, UTMCampaign: utm.Campaign,
		Device: ua.Device, Browser: ua.Browser, System: ua.System, Country: v.place.country,
	}
	v.hit.Channel = source.Channel(v.hit.Referrer, utm)
	d.visitors++
	return v
}

// fill tells the views of days that are over: more on weekdays, and growing.
func (d *demo) fill(ctx context.Context, days, visitorsADay int) error {
	var views []importedView
	now := d.now()
	for ago := days; ago > 0; ago-- {
		day := now.AddDate(0, 0, -ago)
		n := visitorsADay * (2*days - ago) / (2 * days)
		if weekday := day.Weekday(); weekday == time.Saturday || weekday == time.Sunday {
			n /= 2
		}
		for range max(1, n) {
			v := d.visitor()
			at := day.Add(-time.Duration(d.random.Int64N(int64(dayLength))))
			for range 1 + d.random.IntN(4) {
				hit := v.hit
				views = append(views, importedView{Path: pick(d, demoPaths), SessionID: v.id, Timestamp: at.Truncate(time.Millisecond), Hit: &hit})
				at = at.Add(time.Duration(20+d.random.IntN(200)) * time.Second)
				v.hit.Referrer, v.hit.Channel = "", "" // the next page is reached by a link of the site
				if len(views) >= importBatch {
					if err := d.tellPast(ctx, views); err != nil {
						return err
					}
					views = views[:0]
				}
			}
		}
	}
	return d.tellPast(ctx, views)
}

func (d *demo) tellPast(ctx context.Context, views []importedView) error {
	for len(views) > 0 {
		var result importViewsResult
		if err := d.call(ctx, "stats:importViews", importViewsArgs{Views: views}, &result); err != nil {
			return err
		}
		d.past += result.Counted
		views = views[result.Taken:]
	}
	return nil
}

// act lets the i-th visitor do something: come, open another page, or stay.
func (d *demo) act(ctx context.Context, i int) error {
	if i >= len(d.here) {
		d.here = append(d.here, nil)
	}
	now := d.now()
	if d.here[i] == nil || now.After(d.here[i].leaves) {
		d.here[i] = d.visitor()
		d.here[i].leaves = now.Add(time.Minute + time.Duration(d.random.Int64N(int64(8*time.Minute))))
	}
	v := d.here[i]
	if v.path == "" || d.random.IntN(4) == 0 {
		if err := d.open(ctx, v); err != nil {
			return err
		}
	}
	beat := d.told(v, eventBeat)
	beat.City, beat.Latitude, beat.Longitude = &v.place.city, &v.place.latitude, &v.place.longitude
	return d.call(ctx, "stats:tellBeat", beat, nil)
}

func (d *demo) told(v *demoVisitor, name string) told {
	return told{Name: name, Path: v.path, PageType: pageTypeOf(v.path), SessionID: v.id, Hit: v.hit}
}

// open lets a visitor open a page, and now and then sign up.
func (d *demo) open(ctx context.Context, v *demoVisitor) error {
	first := v.path == ""
	for path := v.path; v.path == path; {
		v.path = pick(d, demoPaths)
	}
	if !first {
		v.hit.Referrer, v.hit.Channel = "", ""
	}
	var seen bool
	if err := d.call(ctx, "stats:tellSynthetic", d.told(v, eventView), &seen); err != nil {
		return err
	}
	if seen {
		d.views++
	}
	if d.random.IntN(20) > 0 {
		return nil
	}
	return d.call(ctx, "stats:tell", d.told(v, "signup"), nil)
}

// declareDemo declares what the demo needs.
func (a *app) declareDemo(m *halcyon.Module) {
	m.Internal.Mutation("tellSynthetic", a.tellSynthetic)
	m.Internal.Mutation("removeSynthetic", a.removeSynthetic)
	m.Command("demo", "Play made-up visitors of "+SyntheticSite+" to a running server: --visitors N, --days N, --for DURATION; --remove takes them out again.",
		runDemo, halcyon.Served())
}

// tellSynthetic counts a view unless it repeats another, and reports whether it did.
func (a *app) tellSynthetic(tx *halcyon.Tx, e told) (bool, error) {
	err := a.tell(tx, e)
	if errors.Is(err, errRepeated) {
		return false, nil
	}
	return err == nil, err
}

// runDemo is the command `demo`. It ends, in order, when it is told to or its time
// is over. Its visitors leave by the timeout, as any do.
func runDemo(ctx context.Context, env *halcyon.CommandEnv, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	visitors := flags.Int("visitors", 40, "visitors at one time, 1 to 1000")
	days := flags.Int("days", 30, "days before today to make up too, 0 to 365")
	length := flags.Duration("for", 0, "how `long` to play; without it, until Ctrl-C")
	remove := flags.Bool("remove", false, "remove everything that was made up")
	if err := parseFlags(flags, args); err != nil {
		return err
	}
	if flags.NArg() > 0 || *visitors < 1 || *visitors > demoVisitorsMax || *days < 0 || *days > demoDaysMax || *length < 0 {
		return misuse{"demo: there are 1 to 1000 visitors, 0 to 365 days, and no other arguments than flags"}
	}
	if *remove {
		return removeDemo(ctx, env)
	}
	d := &demo{call: env.Call, random: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64())), now: time.Now}
	_, _ = fmt.Fprintf(env.Stderr, "These visitors are made up. They are of the site %s; `stats demo --remove` takes them out again.\n", SyntheticSite)
	if err := d.fill(ctx, *days, *visitors); err != nil && ctx.Err() == nil {
		return fmt.Errorf("demo: %w", err)
	}
	if env.App != nil && *length == 0 {
		_, _ = fmt.Fprintln(env.Stderr, "No server has this data open, so only days that are over are made up. Start one and call this again for visitors who are here.")
	} else if err := d.play(ctx, *visitors, *length); err != nil {
		return fmt.Errorf("demo: %w", err)
	}
	_, err := fmt.Fprintf(env.Stdout, "%8d visitors made up\n%8d views of days that are over\n%8d views just now\n", d.visitors, d.past, d.views)
	return err
}

// play has visitors come and go. All of them act once in demoBeat, one after the
// other; at first they come faster.
func (d *demo) play(ctx context.Context, visitors int, length time.Duration) error {
	if length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, length)
		defer cancel()
	}
	tick := time.NewTicker(demoBeat / time.Duration(visitors))
	defer tick.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		if err := d.act(ctx, i%visitors); err != nil && ctx.Err() == nil {
			return err
		}
		if i < visitors/2 {
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}

func removeDemo(ctx context.Context, env *halcyon.CommandEnv) error {
	total := 0
	for {
		var n int
		if err := env.Call(ctx, "stats:removeSynthetic", nil, &n); err != nil {
			return fmt.Errorf("demo: %w", err)
		}
		if n == 0 {
			break
		}
		total += n
	}
	_, err := fmt.Fprintf(env.Stdout, "%8d rows removed\n", total)
	return err
}

// removeSynthetic deletes a batch of what `stats demo` made up, and returns how many
// rows that were. It is called until there is none. Rows of views go before the sums
// that were made of them, which go as a whole.
func (a *app) removeSynthetic(tx *halcyon.Tx) (int, error) {
	done, err := a.progress(tx)
	if err != nil {
		return 0, err
	}
	rolled := done.Rows
	n, err := deleteCounted(tx, PageViews, PageViews.Count("viewsByPath").Eq(SyntheticSite), func(v PageView) halcyon.ID[PageView] {
		if done.has(v.Stored) {
			done.Rows--
		}
		return v.ID
	})
	if err == nil && done.Rows != rolled {
		err = done.save(tx)
	}
	for _, step := range []func() (int, error){
		func() (int, error) {
			events := Events.By("by_session_name").Gte(syntheticPrefix).Lt(syntheticEnd)
			return deleteFound(tx, Events, events, func(e Event) (halcyon.ID[Event], bool) { return e.ID, e.Site == SyntheticSite })
		},
		func() (int, error) {
			return deleteCounted(tx, Visitors, Visitors.Count("visitors").Eq(SyntheticSite), func(v Visitor) halcyon.ID[Visitor] { return v.ID })
		},
		func() (int, error) {
			return deleteCounted(tx, ActiveSessions, ActiveSessions.Count("seenByTime").Eq(SyntheticSite), func(s ActiveSession) halcyon.ID[ActiveSession] { return s.ID })
		},
		func() (int, error) {
			return deleteFound(tx, Stales, Stales.By("by_scope").Eq(SyntheticSite), func(s Stale) (halcyon.ID[Stale], bool) { return s.ID, true })
		},
		func() (int, error) {
			return deleteFound(tx, Spans, Spans.By("by_scope").Eq(SyntheticSite), func(s Span) (halcyon.ID[Span], bool) { return s.ID, true })
		},
		func() (int, error) {
			return deleteFound(tx, Rollups, Rollups.By("by_scope").Eq(SyntheticSite), func(r Rollup) (halcyon.ID[Rollup], bool) { return r.ID, true })
		},
		func() (int, error) {
			return deleteFound(tx, Samples, Samples.By("by_site").Eq(SyntheticSite), func(s Sample) (halcyon.ID[Sample], bool) { return s.ID, true })
		},
		func() (int, error) {
			return deleteFound(tx, Drops, Drops.By("by_site").Eq(SyntheticSite), func(d Drop) (halcyon.ID[Drop], bool) { return d.ID, true })
		},
		func() (int, error) {
			return deleteFound(tx, FoldedPaths, FoldedPaths.By("by_path").Eq(SyntheticSite), func(p FoldedPath) (halcyon.ID[FoldedPath], bool) { return p.ID, true })
		},
		func() (int, error) {
			return deleteFound(tx, FoldedSites, FoldedSites.By("by_site").Eq(SyntheticSite), func(s FoldedSite) (halcyon.ID[FoldedSite], bool) { return s.ID, true })
		},
		func() (int, error) {
			return deleteFound(tx, Sites, Sites.By("by_name").Eq(SyntheticSite), func(s Site) (halcyon.ID[Site], bool) { return s.ID, true })
		},
	} {
		if err != nil || n > 0 {
			break
		}
		n, err = step()
	}
	return n, err
}

// deleteCounted deletes a batch of the documents of an aggregate.
func deleteCounted[T any](tx *halcyon.Tx, table *halcyon.Table[T], of halcyon.Counter[T], id func(T) halcyon.ID[T]) (int, error) {
	var ids []halcyon.ID[T]
	for i := range int64(forgetBatch) {
		doc, ok, err := of.At(tx, i)
		if err != nil {
			return 0, err
		}
		if !ok {
			break
		}
		ids = append(ids, id(doc))
	}
	return len(ids), deleteAll(tx, table, ids)
}

// deleteFound deletes a batch of the documents of a query, those that want says.
func deleteFound[T any](tx *halcyon.Tx, table *halcyon.Table[T], of halcyon.Query[T], want func(T) (halcyon.ID[T], bool)) (int, error) {
	var ids []halcyon.ID[T]
	for doc, err := range of.Each(tx) {
		if err != nil {
			return 0, err
		}
		if id, ok := want(doc); ok {
			ids = append(ids, id)
		}
		if len(ids) == forgetBatch {
			break
		}
	}
	return len(ids), deleteAll(tx, table, ids)
}

func deleteAll[T any](tx *halcyon.Tx, table *halcyon.Table[T], ids []halcyon.ID[T]) error {
	for _, id := range ids {
		if err := table.Delete(tx, id); err != nil {
			return err
		}
	}
	return nil
}
