package stats

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats/internal/accesslog"
	"github.com/halcyon-db/halcyon/engine"
)

func openStats(t *testing.T, files vfs.FS) (*app, *halcyon.App) {
	t.Helper()
	opened, err := halcyon.NewApp(Module(Options{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Open("data", &halcyon.Options{Engine: engine.Options{FS: files, Seed: 1, FunctionTimeMax: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	return &app{Options: Options{}.withDefaults()}, opened
}

func testLine(minute int, path string) string {
	at := time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC).Add(time.Duration(minute) * time.Minute)
	return fmt.Sprintf("h - - [%s] \"GET %s HTTP/1.1\" 200 1 \"-\" \"agent\"\n", at.Format("02/Jan/2006:15:04:05 -0700"), path)
}

// totals are the numbers of getStats.
type totals struct {
	TotalPageViews, UniqueVisitors, TotalPaths int
}

func statsOf(t *testing.T, app *halcyon.App) totals {
	t.Helper()
	var s Stats
	if err := app.Run(t.Context(), "stats:getStats", nil, &s); err != nil {
		t.Fatal(err)
	}
	return totals{int(s.TotalPageViews), int(s.UniqueVisitors), int(s.TotalPaths)}
}

// A log is followed while it grows, over a rotation, over the end of the run, and
// when it is cut to nothing.
func TestImportFollows(t *testing.T) {
	a, app := openStats(t, vfs.NewMem())
	dir := t.TempDir()
	name := filepath.Join(dir, "access.log")
	addTo := func(name, text string) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		_, err = f.WriteString(text)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	add := func(text string) {
		t.Helper()
		addTo(name, text)
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var talk bytes.Buffer
	// Each time the run waits, the next step is taken.
	follow := func(steps []func()) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		run := &importRun{stats: a, app: app, dir: dir, talk: &talk, random: rand.Reader, progress: &progress{clock: time.Now}}
		var err error
		if run.importFlags, err = parseImport([]string{"--follow", name}, &talk); err != nil {
			t.Fatal(err)
		}
		run.wait = func(context.Context, time.Duration) error {
			if len(steps) == 0 {
				cancel()
				return context.Canceled
			}
			steps[0]()
			steps = steps[1:]
			return nil
		}
		if err := run.all(ctx); err != nil {
			t.Fatalf("%v\n%s", err, talk.String())
		}
		if len(steps) > 0 {
			t.Errorf("the run ended with %d steps to go", len(steps))
		}
	}
	want := func(what string, views int) func() {
		return func() {
			t.Helper()
			if got := statsOf(t, app); got.TotalPageViews != views || views > 0 && got.UniqueVisitors != 1 {
				t.Errorf("%s: %+v, want %d views of one visitor", what, got, views)
			}
		}
	}
	idle := func(steps []func()) []func() {
		for range followIdle {
			steps = append(steps, func() {})
		}
		return steps
	}
	steps := []func(){
		want("no file", 0),
		func() { add(testLine(0, "/a") + testLine(2, "/b")) },
		want("a line and one that may come late", 1),
		func() { add(testLine(4, "/c")[:30]) },
		want("a part of a line", 1),
		func() { add(testLine(4, "/c")[30:]) },
		want("the rest of it", 2),
	}
	steps = append(idle(steps), want("nothing for a minute", 3),
		func() { add(testLine(6, "/d")); do(os.Rename(name, name+".1")) },
		func() {}, // it is not there for a moment
		func() { add(testLine(7, "/e")) },
		func() { addTo(name+".1", testLine(6, "/late")) }, // the server has not been told yet
		func() {}, func() {}, // the old one is read to its end
		want("rotated", 5), // /e may still come late
		func() { add(testLine(9, "/f")) },
		want("the new file", 6),
	)
	follow(steps)
	if files, err := filepath.Glob(filepath.Join(dir, "import-*.key")); err != nil || len(files) != 1 {
		t.Errorf("keys of the run that was stopped: %v, %v", files, err)
	}
	add(testLine(11, "/g") + testLine(13, "/h"))
	follow(append(idle([]func(){want("goes on", 8)}), want("and is idle", 9),
		func() { do(os.Truncate(name, 0)) }, func() { add(testLine(15, "/i") + testLine(17, "/j")) }, func() {}, func() {},
		want("cut and written anew", 10),
		// Cut, and longer than before by the next look.
		func() {
			do(os.WriteFile(name, []byte(testLine(19, "/k")+testLine(20, "/l")+testLine(22, "/m")+testLine(24, "/n")), 0o600))
		}, func() {},
		want("cut and grown", 14)))
}

func TestFollowForgetsTheKeysOfPastDays(t *testing.T) {
	v, _, err := newVisitorNames(rand.Reader, t.TempDir(), "run")
	if err != nil {
		t.Fatal(err)
	}
	at := func(day int) *accesslog.Entry {
		return &accesslog.Entry{Address: "h", Time: time.Date(2026, 1, day, 10, 0, 0, 0, time.UTC)}
	}
	first, second := v.name(at(1), ""), v.name(at(2), "")
	if first == second || v.name(at(1), "") != first {
		t.Error("a visitor has an id for each day")
	}
	if err := v.save(); err != nil {
		t.Fatal(err)
	}
	v.forget(at(2).Time)
	if err := v.save(); err != nil {
		t.Fatal(err)
	}
	again, known, err := newVisitorNames(rand.Reader, filepath.Dir(v.file), "run")
	if err != nil || !known || again.name(at(2), "") != second {
		t.Errorf("the keys of today are not found: %v, %v", known, err)
	}
	if again.name(at(1), "") == first {
		t.Error("the key of yesterday is still there")
	}
	if err := os.Chtimes(v.file, time.Now(), time.Now().Add(-8*24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := removeOldKeys(filepath.Dir(v.file), time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, known, _ := newVisitorNames(rand.Reader, filepath.Dir(v.file), "run"); known {
		t.Error("the keys of a run nobody came back to are still there")
	}
}

// A load that is cut short after each of its commits is finished at the next start.
func TestLoadIsFinishedAtTheNextStart(t *testing.T) {
	var text strings.Builder
	for i := range 1200 {
		fmt.Fprint(&text, testLine(i, fmt.Sprintf("/%d", i%700)))
	}
	file := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	load := func(t *testing.T, a *app, app *halcyon.App, until string) {
		t.Helper()
		run := &importRun{stats: a, app: app, talk: os.Stderr, random: rand.Reader, progress: &progress{clock: time.Now}, wait: waitFor}
		var err error
		if run.importFlags, err = parseImport([]string{"--site", "s", file}, os.Stderr); err != nil {
			t.Fatal(err)
		}
		if run.visitors, _, err = newVisitorNames(rand.Reader, "", ""); err != nil {
			t.Fatal(err)
		}
		if until == "" {
			run.progress.total = loadBytesMin
			if loaded, err := run.tryLoad(t.Context()); !loaded || err != nil {
				t.Fatalf("loaded %v, %v", loaded, err)
			}
			return
		}
		l, in, err := run.find(t.Context(), file)
		if err != nil {
			t.Fatal(err)
		}
		defer l.close()
		if l.Reader, err = accesslog.NewReader(in, run.rules, accesslog.Mark{}); err != nil {
			t.Fatal(err)
		}
		d := &logLoad{run: run, logs: []*openLog{l}}
		if until == "noted" {
			for _, err := range d.views(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
			}
			return
		}
		if _, err := PageViews.Load(t.Context(), app, d.views(t.Context()), nil); err != nil {
			t.Fatal(err)
		}
		if until == "visitors" {
			if err := a.loadVisitors(t.Context(), app, storedVisitors(t.Context(), app), map[string]time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	a, app := openStats(t, vfs.NewMem())
	load(t, a, app, "")
	want := statsOf(t, app)
	if want.TotalPageViews != 1200 || want.UniqueVisitors != 2 || want.TotalPaths != 700 {
		t.Errorf("loaded %+v", want)
	}
	for _, stage := range []string{"noted", "views", "visitors"} {
		t.Run(stage, func(t *testing.T) {
			a, app := openStats(t, vfs.NewMem())
			load(t, a, app, stage)
			if err := a.finishLoads(t.Context(), app); err != nil {
				t.Fatal(err)
			}
			got := statsOf(t, app)
			if stage == "noted" {
				// Nothing was loaded: the log is new.
				if got != (totals{}) {
					t.Errorf("got %+v of a load that was not published", got)
				}
				load(t, a, app, "")
				got = statsOf(t, app)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-at once +finished):\n%s", diff)
			}
			var sites []string
			if err := app.Run(t.Context(), "stats:getSites", nil, &sites); err == nil && len(sites) == 0 {
				t.Error("the site is not listed")
			}
			var state loadsState
			if err := app.Run(t.Context(), "stats:getLoads", nil, &state); err != nil || state.Begun {
				t.Errorf("the load is still open: %+v, %v", state, err)
			}
		})
	}
}

func TestProgressLine(t *testing.T) {
	now := time.Unix(1000, 0)
	var out bytes.Buffer
	p := &progress{out: &out, live: true, clock: func() time.Time { return now }, total: 1000}
	p.show(10, 1, "")
	p.bytes = 250
	p.show(20, 2, "") // too soon
	now = now.Add(10 * time.Second)
	p.show(5000, 300, "")
	p.bytes = 2000 // the file has grown meanwhile
	now = now.Add(time.Second)
	p.show(6000, 400, "sorting, 50 %")
	p.clear()
	p.clear()
	want := "\r[                        ]   0 %  10 lines, 1 views" +
		"\r[======                  ]  25 %  5000 lines, 300 views, 500 lines/s, 30s left" +
		"\r[========================] 100 %  6000 lines, 400 views, 545 lines/s, sorting, 50 %"
	got, _, _ := strings.Cut(out.String(), "\r ")
	if diff := cmp.Diff(want, strings.TrimRight(got, " \r")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	out.Reset()
	silent := &progress{out: &out, clock: time.Now}
	silent.show(1, 1, "")
	silent.clear()
	if out.Len() > 0 {
		t.Errorf("progress on what is no terminal: %q", out.String())
	}
}

// hookReader runs a step each time that random bytes are asked for: for the key of a day.
type hookReader struct{ steps []func() }

func (h *hookReader) Read(p []byte) (int, error) {
	if len(h.steps) > 0 {
		h.steps[0]()
		h.steps = h.steps[1:]
	}
	return rand.Read(p)
}

// A disk that is full for a moment ends the run. The views that could not be counted are
// not noted as read.
func TestImportGoesOnBehindAFailureThatWasShort(t *testing.T) {
	a, app := openStats(t, vfs.NewMem())
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	rename := func(from, to string) func() {
		return func() {
			if err := os.Rename(from, to); err != nil {
				t.Error(err)
			}
		}
	}
	var text strings.Builder
	for i := range importBatch {
		text.WriteString(testLine(0, fmt.Sprint("/", i)))
	}
	text.WriteString(testLine(24*60, "/last"))
	name := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(name, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	away := func() { rename(dir, dir+".away")() }
	back := func() { rename(dir+".away", dir)() }
	random := &hookReader{steps: []func(){away, back}}
	for _, last := range []bool{false, true} {
		var talk bytes.Buffer
		run := &importRun{stats: a, app: app, dir: dir, talk: &talk, random: random, progress: &progress{clock: time.Now}, wait: waitFor}
		var err error
		if run.importFlags, err = parseImport([]string{"--transactions", name}, &talk); err != nil {
			t.Fatal(err)
		}
		if err := run.all(t.Context()); (err == nil) != last {
			t.Errorf("run that goes well: %v; error %v", last, err)
		}
		if len(random.steps) == 1 {
			back()
			random.steps = nil
		}
	}
	if got, want := statsOf(t, app).TotalPageViews, importBatch+1; got != want {
		t.Errorf("%d views are counted, want %d", got, want)
	}
}

// Of a packed log there is no telling how it grows: its size is less than what was read.
func TestFollowRefusesAPackedLog(t *testing.T) {
	a, app := openStats(t, vfs.NewMem())
	name := filepath.Join(t.TempDir(), "access.log.gz")
	var packed bytes.Buffer
	to := gzip.NewWriter(&packed)
	for i := range 100 {
		if _, err := to.Write([]byte(testLine(i, "/a"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(to.Close(), os.WriteFile(name, packed.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	run := &importRun{stats: a, app: app, dir: t.TempDir(), talk: &lineLimit{20, cancel}, random: rand.Reader, progress: &progress{clock: time.Now}, wait: waitFor}
	var err error
	if run.importFlags, err = parseImport([]string{"--follow", name}, run.talk); err != nil {
		t.Fatal(err)
	}
	if err := run.all(ctx); err == nil || !strings.Contains(err.Error(), "not packed") {
		t.Errorf("error %v, want one that says that the file is packed", err)
	}
}

// lineLimit ends a run that says too much.
type lineLimit struct {
	left int
	end  func()
}

func (l *lineLimit) Write(p []byte) (int, error) {
	if l.left--; l.left == 0 {
		l.end()
	}
	return len(p), nil
}
