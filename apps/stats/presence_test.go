package stats_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
)

// crowd is a module that makes many visitors at once.
type crowd struct{ rows []stats.ActiveSession }

func (c *crowd) module() *halcyon.Module {
	m := halcyon.NewModule("crowd")
	m.Mutation("add", func(tx *halcyon.Tx, args struct {
		From int `json:"from"`
		To   int `json:"to"`
	}) error {
		sites := make(map[string]bool)
		for _, session := range c.rows[args.From:args.To] {
			if !sites[session.Site] {
				sites[session.Site] = true
				if _, _, err := stats.Sites.Upsert(tx, "by_name", stats.Site{Name: session.Site, FirstSeen: session.LastSeen}); err != nil {
					return err
				}
			}
			if _, err := stats.ActiveSessions.Insert(tx, session); err != nil {
				return err
			}
		}
		return nil
	})
	return m
}

// gather makes the rows of n visitors.
func (c *crowd) gather(w *world, n int, make func(i int) stats.ActiveSession) {
	w.t.Helper()
	for i := range n {
		c.rows = append(c.rows, make(i))
	}
	for from := len(c.rows) - n; from < len(c.rows); from += 1000 {
		w.do("crowd:add", object{"from": from, "to": min(len(c.rows), from+1000)})
	}
}

// somebody is a visitor as the test knows one.
type somebody struct {
	site, id, path      string
	city, country       string
	latitude, longitude *float64
	seen                time.Time
}

// whoIsHere is what getStats says of them, as text.
type whoIsHere struct {
	Active    int
	Paths     []string
	Locations []string
}

// expectPresence computes it from the visitors alone.
func expectPresence(all []somebody, now time.Time, only string) whoIsHere {
	want := whoIsHere{Paths: []string{}, Locations: []string{}}
	type at struct{ site, path string }
	onPath := make(map[at]int)
	inCity := make(map[string]int)
	var here []somebody
	for _, v := range all {
		if !v.seen.After(now.Add(-2*time.Minute)) || only != "" && v.site != only {
			continue
		}
		want.Active++
		onPath[at{v.site, v.path}]++
		if v.latitude != nil && v.longitude != nil {
			here = append(here, v)
			inCity[v.city+"/"+v.country]++
		} else if v.country == "CH" {
			want.Locations = append(want.Locations, "46.8 8.2  CH only") // the middle
		}
	}
	paths := make([]at, 0, len(onPath))
	for p := range onPath {
		paths = append(paths, p)
	}
	slices.SortFunc(paths, func(x, y at) int {
		return cmp.Or(cmp.Compare(onPath[y], onPath[x]), cmp.Compare(x.site, y.site), cmp.Compare(x.path, y.path))
	})
	for _, p := range paths[:min(len(paths), 500)] {
		want.Paths = append(want.Paths, fmt.Sprintf("%s%s %d", p.site, p.path, onPath[p]))
	}
	for _, v := range here {
		if inCity[v.city+"/"+v.country] < 3 {
			v.city = ""
		}
		want.Locations = append(want.Locations, fmt.Sprintf("%.1f %.1f %s %s", *v.latitude, *v.longitude, v.city, v.country))
	}
	slices.Sort(want.Locations)
	return want
}

// presence asks getStats.
func (w *world) presence(only string) whoIsHere {
	w.t.Helper()
	args := object{}
	if only != "" {
		args["site"] = only
	}
	var told stats.Stats
	if err := halcyon.Decode(w.ask("stats:getStats", args), &told); err != nil {
		w.t.Fatal(err)
	}
	got := whoIsHere{Active: told.ActiveVisitors, Paths: []string{}, Locations: []string{}}
	for _, at := range told.ActiveByPath.Value() {
		got.Paths = append(got.Paths, fmt.Sprintf("%s%s %d", at.Site, at.Path, at.Count))
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	for _, at := range told.VisitorLocations.Value() {
		line := fmt.Sprintf("%.1f %.1f %s %s", at.Latitude, at.Longitude, text(at.City), text(at.Country))
		if at.CountryOnly {
			line += " only"
		}
		if at.Count != nil {
			line += fmt.Sprint(" x", *at.Count)
		}
		got.Locations = append(got.Locations, line)
	}
	slices.Sort(got.Locations)
	return got
}

func (w *world) checkPresence(what string, all []somebody, sites ...string) {
	w.t.Helper()
	for _, only := range append(sites, "") {
		if diff := gocmp.Diff(expectPresence(all, w.clock.Now(), only), w.presence(only)); diff != "" {
			w.t.Fatalf("%s, site %q (-want +got):\n%s", what, only, diff)
		}
	}
}

// TestWhoIsHereIsExactAtEveryMoment: what is counted without time, less those whom
// time took, is what one gets by looking at everybody, whatever was cleared away and
// what was not.
func TestWhoIsHereIsExactAtEveryMoment(t *testing.T) {
	steps := 250
	if testing.Short() || underRace {
		steps = 60
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 5))
	w := newWorld(t, stats.Options{CleanupBatch: 5})
	sites := []string{"a.org", "b.org"}
	spots := []somebody{
		{}, {country: "XX"}, // nowhere
		{country: "CH"}, {country: "CH", city: "Berne"},
		{latitude: new(46.9), longitude: new(7.4), country: "CH", city: "Berne"},
		{latitude: new(46.8), longitude: new(7.4), country: "CH", city: "Berne"},
		{latitude: new(46.9), longitude: new(7.4), country: "CH", city: "Köniz"},
		{latitude: new(0.0), longitude: new(0.0)},
		{latitude: new(52.5), longitude: new(13.4), country: "DE", city: "Berne"},
	}
	known := make(map[string]*somebody)
	for step := range steps {
		for range 1 + rnd.IntN(6) {
			v := spots[rnd.IntN(len(spots))]
			n := rnd.IntN(40)
			v.site, v.id = sites[n%2], fmt.Sprint("visitor ", n)
			if was := known[v.id]; was != nil {
				v = *was
			}
			path := fmt.Sprint("/", rnd.IntN(4))
			args := object{"name": "heartbeat", "site": v.site, "path": path, "pageType": "page", "sessionId": v.id}
			if v.latitude != nil {
				args["latitude"], args["longitude"] = *v.latitude+0.04*(rnd.Float64()-0.5), *v.longitude
			}
			if v.country != "" {
				args["country"] = v.country
			}
			if v.city != "" {
				args["city"] = v.city
			}
			w.do("stats:tellBeat", args)
			if now := w.clock.Now(); path != v.path || now.Sub(v.seen) >= 20*time.Second {
				v.seen = now
			}
			v.path = path
			known[v.id] = &v
		}
		switch rnd.IntN(8) {
		case 0:
			w.do("stats:cleanupStaleSessions", nil)
		case 1:
			w.clock.advance(time.Duration(rnd.IntN(100)) * time.Second)
		default:
			w.clock.advance(time.Duration(rnd.IntN(9000)) * time.Millisecond)
		}
		var all []somebody
		for _, v := range known {
			all = append(all, *v)
		}
		w.checkPresence(fmt.Sprintf("seed %d, step %d", seed, step), all, sites...)
	}
}

// TestWhoIsHereAfterASleep: more visitors have left than are taken off one by one.
func TestWhoIsHereAfterASleep(t *testing.T) {
	c := new(crowd)
	w := newWorld(t, stats.Options{}, c.module())
	var all []somebody
	c.gather(w, 1500, func(i int) stats.ActiveSession {
		v := somebody{site: "a.org", id: visitorID(i), path: fmt.Sprint("/", i%9), seen: noon.Add(time.Duration(i) * time.Second / 10),
			latitude: new(float64(i % 7)), longitude: new(1.0), country: "CH"}
		all = append(all, v)
		return stats.ActiveSession{Site: v.site, SessionID: v.id, CurrentPath: v.path, LastSeen: v.seen,
			Latitude: v.latitude, Longitude: v.longitude, Country: &v.country}
	})
	// 900 have left, 1,100, all but one, all.
	for _, after := range []time.Duration{90 * time.Second, 110 * time.Second, 149*time.Second + 850*time.Millisecond, time.Hour} {
		w.clock.advance(noon.Add(2 * time.Minute).Add(after).Sub(w.clock.Now()))
		w.checkPresence(after.String(), all, "a.org", "b.org")
	}
}

// TestMorePlacesAndPathsThanAreListed: those with the most visitors are, though some
// whose rows are there have left.
func TestMorePlacesAndPathsThanAreListed(t *testing.T) {
	c := new(crowd)
	w := newWorld(t, stats.Options{}, c.module())
	// Place and path i have 1 + i%4 visitors, and those with i%8 = 7 one more, who has left.
	const places = 1300
	var rows []stats.ActiveSession
	for i := range places {
		for n := range 1 + i%4 + (i%8)/7 {
			row := stats.ActiveSession{SessionID: fmt.Sprint(i, " ", n), CurrentPath: fmt.Sprintf("/%04d", i), LastSeen: noon,
				Latitude: new(float64(i%180) - 90), Longitude: new(float64(i / 180)), City: new(fmt.Sprint("City ", i)), Country: new("CH")}
			if n == 1+i%4 {
				row.LastSeen = noon.Add(-2 * time.Minute)
			}
			rows = append(rows, row)
		}
	}
	for i := range 3000 { // a large group of none of the places
		rows = append(rows, stats.ActiveSession{SessionID: fmt.Sprint("nowhere ", i), CurrentPath: "/home", LastSeen: noon, Latitude: new(1.0)})
	}
	c.gather(w, len(rows), func(i int) stats.ActiveSession { return rows[i] })
	got := w.stats()
	if want := places/4*(1+2+3+4) + 3000; got.ActiveVisitors != want {
		t.Errorf("%d active, want %d", got.ActiveVisitors, want)
	}
	if len(got.ActiveByPath) != 500 || len(got.VisitorLocations) != 1000 {
		t.Fatalf("%d paths and %d places are listed, want 500 and 1,000", len(got.ActiveByPath), len(got.VisitorLocations))
	}
	if got.ActiveByPath[0].Path != "/home" || got.ActiveByPath[0].Count != 3000 {
		t.Errorf("first is %+v, want 3000 on /home", got.ActiveByPath[0])
	}
	quarter := func(rank int) int { return 4 - rank/(places/4) } // visitors of the one at a rank
	for i, at := range got.ActiveByPath[1:] {
		if at.Count != quarter(i) {
			t.Fatalf("path %d of the list is %+v, want %d visitors", i, at, quarter(i))
		}
	}
	for i, at := range got.VisitorLocations {
		if at.Count == nil || *at.Count != quarter(i) {
			t.Fatalf("place %d of the list is %+v, want %d visitors", i, at, quarter(i))
		}
		if named := at.City != nil; named != (*at.Count >= 3) {
			t.Fatalf("place %d of the list is %+v: a city is named from 3 visitors on", i, at)
		}
	}
}

// TestSweepsKeepFewOfThoseWhoLeft: when many leave, their rows are cleared away
// between the runs of the cron, and getStats has few of them to look at.
func TestSweepsKeepFewOfThoseWhoLeft(t *testing.T) {
	const visitors, most = 200, 128
	c := new(crowd)
	w := newWorld(t, stats.Options{}, c.module(), probe())
	seen := func(i int) time.Time { return noon.Add(time.Duration(i) * 100 * time.Millisecond) }
	c.gather(w, visitors, func(i int) stats.ActiveSession {
		return stats.ActiveSession{SessionID: visitorID(i), CurrentPath: "/", LastSeen: seen(i)}
	})
	if err := w.app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-w.crons
	w.clock.advance(2 * time.Minute)
	w.do("stats:everyMinute", nil) // as its cron does
	if rows := w.sessions(); len(rows) != visitors {
		t.Fatalf("%d rows, want %d while nobody has left", len(rows), visitors)
	}
	leaves := seen(most - 1).Add(2*time.Minute + time.Millisecond)
	w.clock.comeTo(leaves) // that is when it is planned for
	w.clock.advance(leaves.Sub(w.clock.Now()))
	w.do("stats:sweepAhead", object{"until": millis(noon.Add(3 * time.Minute))}) // before or after the scheduler does
	if rows := w.sessions(); len(rows) != visitors-most {
		t.Errorf("%d rows after the sweep, want %d", len(rows), visitors-most)
	}
	if got := w.stats(); got.ActiveVisitors != visitors-most || got.ActiveByPath[0].Count != visitors-most {
		t.Errorf("%d active, %+v; want %d", got.ActiveVisitors, got.ActiveByPath, visitors-most)
	}
}
