package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine/value"
)

// What getStats is measured with, beside the views.
const (
	pathsTotal    = 100_000
	visitorsHere  = 10_000
	visitorsLeft  = 100 // whose rows are still to be cleared away
	placesTotal   = 300
	viewsAVisitor = 10
)

// getStats measures the query of the statistics page among 1,000, a tenth of -views
// and -views views, in turn, with 10,000 visitors present.
func getStats(s settings) error {
	var worlds []*statistics
	defer func() {
		for _, w := range worlds {
			w.close()
		}
	}()
	for _, views := range []int{1_000, s.views / 10, s.views} {
		w, err := s.openStatistics(stats.Options{VisitorTimeout: time.Hour, ViewRetention: -1})
		if err != nil {
			return err
		}
		worlds = append(worlds, w)
		start := time.Now()
		if err := w.load(views); err != nil {
			return err
		}
		took := time.Since(start)
		size, err := w.size()
		if err != nil {
			return err
		}
		fmt.Printf("%-52s %10.0f views a second, %.1f s\n", fmt.Sprintf("load of %d views and their visitors", views), float64(views)/took.Seconds(), took.Seconds())
		fmt.Printf("%-52s %10.0f bytes of disk a view, all indexes and visitors included\n", fmt.Sprintf("  of %d", views), float64(size)/float64(views))
		if err := w.gather(); err != nil {
			return err
		}
	}
	p50, p95 := make([]figures, len(worlds)), make([]figures, len(worlds))
	moved50, moved95 := make([]figures, len(worlds)), make([]figures, len(worlds))
	var result value.Value
	measure := func(p50, p95 []figures, before func(w *statistics) error) error {
		took := make([][]time.Duration, len(worlds))
		for end := time.Now().Add(s.length); time.Now().Before(end); {
			for i, w := range worlds {
				if err := before(w); err != nil {
					return err
				}
				start := time.Now()
				v, err := w.query("stats:getStats")
				if err != nil {
					return err
				}
				took[i] = append(took[i], time.Since(start))
				result = v
			}
		}
		for i := range worlds {
			sortDurations(took[i])
			p50[i] = append(p50[i], percentile(took[i], 0.5))
			p95[i] = append(p95[i], percentile(took[i], 0.95))
		}
		return nil
	}
	for range s.rounds {
		if err := measure(p50, p95, func(*statistics) error { return nil }); err != nil {
			return err
		}
		if err := measure(moved50, moved95, (*statistics).move); err != nil {
			return err
		}
	}
	var told struct {
		ActiveVisitors, TotalPaths     int
		ActiveByPath, VisitorLocations []struct{}
	}
	if err := json.Unmarshal(value.AppendJSON(nil, result), &told); err != nil {
		return err
	}
	fmt.Printf("getStats: %d visitors here, %d paths and %d places of them listed, %d paths viewed\n",
		told.ActiveVisitors, len(told.ActiveByPath), len(told.VisitorLocations), told.TotalPaths)
	least, most := p95[0].median(), p95[0].median()
	for i, w := range worlds {
		line(fmt.Sprintf("  among %d views, p50", w.views), p50[i], "ms")
		line(fmt.Sprintf("  among %d views, p95", w.views), p95[i], "ms")
		line("    when one has gone to another page before, p50", moved50[i], "ms")
		line("    when one has gone to another page before, p95", moved95[i], "ms")
		least, most = min(least, p95[i].median()), max(most, p95[i].median())
	}
	reachedAtMost("ms p95 at most", most, 1)
	reachedAtMost("the greatest p95, of the least", most/least, 1.2)
	return nil
}

// statistics is a program with the module of statistics, in a folder of its own.
type statistics struct {
	app   *halcyon.App
	dir   string
	views int
	here  []stats.ActiveSession // whom bench:gather makes present
	moves int
}

// openStatistics opens one, with further modules beside it.
func (s settings) openStatistics(options stats.Options, others ...*halcyon.Module) (*statistics, error) {
	dir, err := os.MkdirTemp(s.dir, "halcyon-bench-")
	if err != nil {
		return nil, err
	}
	w := &statistics{dir: dir}
	m := halcyon.NewModule("bench")
	m.Internal.Mutation("gather", func(tx *halcyon.Tx, args gatherArgs) error {
		if _, _, err := stats.Sites.Upsert(tx, "by_name", stats.Site{Name: siteName, FirstSeen: tx.Now()}); err != nil {
			return err
		}
		for _, row := range w.here[args.From:args.To] {
			if _, err := stats.ActiveSessions.Insert(tx, row); err != nil {
				return err
			}
		}
		return nil
	})
	m.Internal.Mutation("move", func(tx *halcyon.Tx, args moveArgs) error {
		row, known, err := stats.ActiveSessions.By("by_sessionId").Eq(args.SessionID, siteName).First(tx)
		switch {
		case err != nil:
			return err
		case !known:
			return errNoVisitor
		}
		return stats.ActiveSessions.Patch(tx, row.ID, halcyon.Fields{"currentPath": args.Path, "lastSeen": tx.Now()})
	})
	if w.app, err = halcyon.NewApp(append(others, stats.Module(options), m)...); err == nil {
		err = w.app.Open(dir, nil)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

type gatherArgs struct {
	From int `json:"from"`
	To   int `json:"to"`
}

// siteName is the site of all views and visitors.
const siteName = "example.org"

func (w *statistics) close() {
	_ = w.app.Close()
	_ = os.RemoveAll(w.dir)
}

func (w *statistics) query(path string) (value.Value, error) {
	outcome, err := w.app.Query(context.Background(), halcyon.Request{Path: path})
	if err == nil && outcome.Failure != nil {
		err = outcome.Failure
	}
	return outcome.Value, err
}

// move has one of the visitors go to another page.
func (w *statistics) move() error {
	w.moves++
	return w.app.Run(context.Background(), "bench:move", moveArgs{w.here[w.moves%visitorsHere].SessionID, pathName(w.moves * 7919 % pathsTotal)}, nil)
}

type moveArgs struct {
	SessionID string `json:"sessionId"`
	Path      string `json:"path"`
}

// errNoVisitor says that a visitor has no row.
var errNoVisitor = errors.New("a visitor who is here has no row")

// visitorName returns a random id as browsers make them.
func visitorName(i int) string {
	r := rand.NewPCG(uint64(i), 3)
	a, b := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", a>>32, a>>16&0xffff, a&0xfff, b>>48&0xfff, b&0xffffffffffff)
}

// somePath returns a path as readers choose them, few to most.
func somePath(zipf *rand.Zipf) string { return pathName(int(zipf.Uint64())) }

func pathName(i int) string { return fmt.Sprintf("/section-%d/page-%d", i%100, i) }

// load loads views of the last year, one every few seconds, of every path at least
// one if there are as many.
func (w *statistics) load(views int) error {
	w.views = views
	rnd := rand.New(rand.NewPCG(4, 4))
	zipf := rand.NewZipf(rnd, 1.1, 10, pathsTotal-1)
	start := time.Now().AddDate(-1, 0, 0).Truncate(time.Millisecond)
	every := 365 * 24 * time.Hour / time.Duration(views)
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	visitors := max(views/viewsAVisitor, 1)
	_, err := stats.PageViews.Load(context.Background(), w.app, func(yield func(stats.PageView, error) bool) {
		for i := range views {
			path := somePath(zipf)
			if i < pathsTotal {
				path = pathName(i)
			}
			view := stats.PageView{
				Path: path, PageType: "page", SessionID: visitorName(i % visitors), Timestamp: start.Add(time.Duration(i) * every),
				Hit: stats.Hit{
					Site: siteName, Referrer: pick("", "", "www.google.com", "news.ycombinator.com"), Channel: pick("direct", "search", "social"),
					Device: pick("desktop", "mobile"), Browser: pick("Chrome", "Firefox", "Safari"), System: pick("Windows", "macOS", "Android", "iOS"),
					Country: pick("DE", "US", "IN", "BR", "JP"),
				},
			}
			if i >= visitors {
				view.Before = view.Timestamp.Add(-time.Duration(visitors) * every)
			}
			if !yield(view, nil) {
				return
			}
		}
	}, nil)
	if err != nil {
		return err
	}
	_, err = stats.Visitors.Load(context.Background(), w.app, func(yield func(stats.Visitor, error) bool) {
		for i := range visitors {
			if !yield(stats.Visitor{Site: siteName, SessionID: visitorName(i), FirstSeen: start.Add(time.Duration(i) * every)}, nil) {
				return
			}
		}
	}, nil)
	return err
}

// gather has the visitors come who are here.
func (w *statistics) gather() error {
	rnd := rand.New(rand.NewPCG(5, 5))
	zipf := rand.NewZipf(rnd, 1.1, 10, pathsTotal-1)
	for i := range visitorsHere + visitorsLeft {
		place := rnd.IntN(placesTotal)
		latitude, longitude := float64(place%120)-60, float64(place)-150
		city, country := fmt.Sprintf("City %d", place), []string{"DE", "US", "IN", "BR", "JP"}[place%5]
		row := stats.ActiveSession{
			Site: siteName, SessionID: visitorName(i), CurrentPath: somePath(zipf), LastSeen: time.Now().Add(-time.Duration(rnd.Int64N(int64(30 * time.Second)))),
			Latitude: &latitude, Longitude: &longitude, City: &city, Country: &country,
		}
		if i >= visitorsHere {
			row.LastSeen = row.LastSeen.Add(-24 * time.Hour)
		}
		w.here = append(w.here, row)
	}
	for from := 0; from < len(w.here); from += 500 {
		if err := w.app.Run(context.Background(), "bench:gather", gatherArgs{from, min(len(w.here), from+500)}, nil); err != nil {
			return err
		}
	}
	return nil
}

// size returns the bytes of all files.
func (w *statistics) size() (size int64, err error) {
	err = filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the store has removed it meanwhile
		}
		if err == nil {
			size += info.Size()
		}
		return err
	})
	return size, err
}
