package stats_test

import (
	"bytes"
	order "cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/apps/stats/internal/geoip/geoiptest"
	"github.com/halcyon-db/halcyon/engine/value"
)

// dir is where the import keeps files beside the data.
func (w *world) dir() string {
	if w.keys == "" {
		w.keys = w.t.TempDir()
	}
	return w.keys
}

// runImport runs the command `stats import`.
func (w *world) runImport(stdin io.Reader, args ...string) (stdout, stderr string, err error) {
	w.t.Helper()
	for _, command := range w.app.Commands() {
		if command.Module == "stats" && command.Name == "import" {
			var out, talk bytes.Buffer
			err = command.Run(w.t.Context(), &halcyon.CommandEnv{App: w.app, Dir: w.dir(), Stdin: stdin, Stdout: &out, Stderr: &talk}, args)
			return out.String(), talk.String(), err
		}
	}
	w.t.Fatal("there is no command stats import")
	return "", "", nil
}

// logLine is a line of the combined format, seconds after noon.
func logLine(address, agent string, after time.Duration, path string) string {
	return fmt.Sprintf("%s - - [%s] \"GET %s HTTP/1.1\" 200 123 \"https://example.org/\" \"%s\"\n",
		address, noon.Add(after).Format("02/Jan/2006:15:04:05 -0700"), path, agent)
}

func TestImportCountsByTheRulesOfTheTracker(t *testing.T) {
	const minute = time.Minute
	tests := []struct {
		name                   string
		lines                  []string
		views, visitors, paths int
	}{
		{"one view", []string{logLine("a", "x", 0, "/")}, 1, 1, 1},
		{"again within 30 minutes", []string{logLine("a", "x", 0, "/"), logLine("a", "x", 30*minute-time.Second, "/")}, 1, 1, 1},
		{"again after 30 minutes", []string{logLine("a", "x", 0, "/"), logLine("a", "x", 30*minute, "/")}, 2, 1, 1},
		{"queries are one page", []string{logLine("a", "x", 0, "/?a"), logLine("a", "x", 0, "/?b")}, 1, 1, 1},
		{"another page", []string{logLine("a", "x", 0, "/"), logLine("a", "x", 0, "/b")}, 2, 1, 2},
		{"another agent is another visitor", []string{logLine("a", "x", 0, "/"), logLine("a", "y", 0, "/")}, 2, 2, 1},
		{"another address is another visitor", []string{logLine("a", "x", 0, "/"), logLine("b", "x", 0, "/")}, 2, 2, 1},
		{"address and agent are not run together", []string{logLine("a", "bx", 0, "/"), logLine("ab", "x", 0, "/")}, 2, 2, 1},
		{"a visitor of the next day is another", []string{
			logLine("a", "x", 12*time.Hour-time.Second, "/"), logLine("a", "x", 12*time.Hour, "/")}, 2, 2, 1},
		{"out of order by seconds", []string{
			logLine("a", "x", 50*time.Second, "/"), logLine("a", "x", 0, "/"), logLine("a", "x", 30*minute+10*time.Second, "/")}, 2, 1, 1},
		{"out of order by hours", []string{
			logLine("a", "x", 3*time.Hour, "/"), logLine("a", "x", 0, "/"), logLine("a", "x", 2*time.Hour+45*minute, "/")}, 2, 1, 1},
		{"assets, failures and posts are no views", []string{
			logLine("a", "x", 0, "/x.png"),
			strings.Replace(logLine("a", "x", 0, "/"), " 200 ", " 404 ", 1),
			strings.Replace(logLine("a", "x", 0, "/"), "GET", "POST", 1)}, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, stats.Options{})
			if _, _, err := w.runImport(strings.NewReader(strings.Join(tt.lines, "")), "-"); err != nil {
				t.Fatal(err)
			}
			got := w.stats()
			if got.TotalPageViews != tt.views || got.UniqueVisitors != tt.visitors || got.TotalPaths != tt.paths {
				t.Errorf("%d views, %d visitors, %d paths; want %d, %d, %d",
					got.TotalPageViews, got.UniqueVisitors, got.TotalPaths, tt.views, tt.visitors, tt.paths)
			}
			if got.ActiveVisitors != 0 {
				t.Errorf("%d active visitors, want none of a log", got.ActiveVisitors)
			}
		})
	}
}

func TestImportTellsWhatBecameOfEveryLine(t *testing.T) {
	lines := logLine("a", "x", 0, "/") + "garbage\n" + logLine("a", "x", 1, "/") + "\n" + logLine("a", "x", 2, "/a.css") +
		logLine("a", "x", 3, "/b.css") + strings.Replace(logLine("a", "x", 4, "/"), " 200 ", " 500 ", 1) +
		strings.Replace(logLine("a", "x", 5, "/"), "GET", "HEAD", 1) + logLine("a", "x", 6, "/"+strings.Repeat("x", 2000)) +
		strings.Repeat("y", 100_000) + "\n" + logLine("a", "x", 7, "/b")
	w := newWorld(t, stats.Options{})
	stdout, stderr, err := w.runImport(strings.NewReader(lines), "-")
	if err != nil {
		t.Fatal(err)
	}
	want := `      11 lines read
       2 views counted
       9 left out:
       2   an asset, not a page
       1   a path that is too long
       1   a repeated view within the view window
       1   answered with another status
       1   empty line
       1   line too long
       1   not a GET request
       1   not in the common or combined log format
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if stderr != "" {
		t.Errorf("progress on what is no terminal: %q", stderr)
	}
}

// A last line without an end is told each time, and read when it has one.
func TestImportTellsOfALastLineWithoutEndOnce(t *testing.T) {
	name := filepath.Join(t.TempDir(), "a.log")
	whole := logLine("a", "x", 0, "/") + logLine("a", "x", 1, "/b")
	w := newWorld(t, stats.Options{})
	for _, tt := range []struct{ text, want string }{
		{whole[:len(whole)-5], "2 lines read, 1 views counted, 1 left out"},
		{whole[:len(whole)-4], "1 lines read, 0 views counted, 1 left out"},
		{whole, "1 lines read, 1 views counted, 0 left out"},
		{whole, "0 lines read, 0 views counted, 0 left out"},
	} {
		if err := os.WriteFile(name, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		stdout, _, err := w.runImport(nil, name)
		if err != nil {
			t.Fatal(err)
		}
		var lines, counted, left int
		for line := range strings.Lines(stdout) {
			n, what, _ := strings.Cut(strings.TrimSpace(line), " ")
			number, _ := strconv.Atoi(strings.ReplaceAll(n, ",", ""))
			switch what = strings.TrimSpace(what); {
			case strings.HasPrefix(what, "line"):
				lines = number
			case strings.HasPrefix(what, "view"):
				counted = number
			case strings.HasPrefix(what, "left out"):
				left = number
			}
		}
		if got := fmt.Sprintf("%d lines read, %d views counted, %d left out", lines, counted, left); got != tt.want {
			t.Errorf("of %d bytes: %s, want %s\n%s", len(tt.text), got, tt.want, stdout)
		}
	}
}

func TestImportOfVirtualHosts(t *testing.T) {
	lines := "a.org:443 " + logLine("81.2.1.1", "x", 0, "/") + "www.b.org:80 " + logLine("81.2.1.1", "x", 0, "/") + "b.org " + logLine("81.2.1.2", "x", 0, "/b")
	for _, tt := range []struct {
		args []string
		want map[string]row
	}{
		{[]string{"-"}, map[string]row{"a.org": {"a.org", 1, 1}, "b.org": {"b.org", 2, 2}}},
		{[]string{"--site", "c.org", "-"}, map[string]row{"c.org": {"c.org", 2, 2}}}, // both hosts' / are one page then
	} {
		w := newWorld(t, stats.Options{})
		if _, _, err := w.runImport(strings.NewReader(lines), tt.args...); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, w.values("site", object{"from": millis(noon), "to": millis(noon)})); diff != "" {
			t.Errorf("%v: sites (-want +got):\n%s", tt.args, diff)
		}
	}
}

func TestImportedViewsHaveTheCountryOfTheirAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "countries.mmdb")
	geoiptest.Write(t, path, "Country", map[string]map[string]any{"81.2.0.0/16": {"country_code": "IE"}})
	w := newWorld(t, stats.Options{PlaceFiles: []string{path}})
	lines := logLine("81.2.1.1", "x", 0, "/") + logLine("81.2.1.2", "x", 0, "/") + logLine("9.9.9.9", "x", 0, "/") + logLine("host.example", "x", 0, "/")
	if _, _, err := w.runImport(strings.NewReader(lines), "--site", "a.org", "-"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]row{"IE": {"IE", 2, 2}}, w.values("country", object{"from": millis(noon), "to": millis(noon)})); diff != "" {
		t.Errorf("countries (-want +got):\n%s", diff)
	}
}

func TestImportOfSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	plain, zipped := filepath.Join(dir, "a.log"), filepath.Join(dir, "b.log.gz")
	if err := os.WriteFile(plain, []byte(logLine("a", "x", 0, "/")), 0o600); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	fmt.Fprint(zip, logLine("a", "x", time.Minute, "/"), logLine("a", "x", time.Minute, "/b"))
	if err := errors.Join(zip.Close(), os.WriteFile(zipped, packed.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, stats.Options{})
	if _, _, err := w.runImport(strings.NewReader(logLine("a", "x", 2*time.Minute, "/c")), plain, zipped, "-"); err != nil {
		t.Fatal(err)
	}
	if got := w.stats(); got.TotalPageViews != 3 || got.UniqueVisitors != 1 {
		t.Errorf("%d views of %d visitors, want 3 of 1: files of one run are one log", got.TotalPageViews, got.UniqueVisitors)
	}
}

func TestImportKeepsWhatItReadBeforeAFailure(t *testing.T) {
	broken := errors.New("the pipe is broken")
	w := newWorld(t, stats.Options{})
	stdout, _, err := w.runImport(io.MultiReader(strings.NewReader(logLine("a", "x", 0, "/")), iotest.ErrReader(broken)), "-")
	if !errors.Is(err, broken) || !strings.Contains(stdout, "1 views counted") {
		t.Errorf("error %v, summary %q; want %v and one view", err, stdout, broken)
	}
	if got := w.stats().TotalPageViews; got != 1 {
		t.Errorf("%d views, want 1", got)
	}
	if _, _, err := w.runImport(nil, filepath.Join(t.TempDir(), "none.log")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	_, _, err = w.runImport(nil)
	var coded interface{ ExitCode() int }
	if !errors.As(err, &coded) || coded.ExitCode() != 2 {
		t.Errorf("no file named: %v, want an error of exit status 2", err)
	}
}

func TestImportKeepsNothingOfAnAddress(t *testing.T) {
	const v4, v6, agent = "198.51.100.77", "2001:db8:77::5", "Canary/1.0"
	w := newWorld(t, stats.Options{}, probe())
	lines := logLine(v4, agent, 0, "/a") + logLine(v6, agent, 0, "/a") + v4 + " is not a line\n" +
		logLine(v4, agent, 24*time.Hour, "/a")
	stdout, stderr, err := w.runImport(strings.NewReader(lines), "-")
	if err != nil {
		t.Fatal(err)
	}
	rows := show(w.ask("probe:views", nil))
	found := stdout + stderr + rows
	for _, trace := range []string{v4, v6, agent, "c633644d", "\xc6\x33\x64\x4d", "20010db8"} {
		if strings.Contains(strings.ToLower(found), strings.ToLower(trace)) || inFiles(t, w.files, trace) {
			t.Errorf("%q is left of the log", trace)
		}
	}
	if !inFiles(t, w.files, "/a") {
		t.Error("the search of the files finds nothing at all")
	}
	if got := w.stats(); got.UniqueVisitors != 3 {
		t.Errorf("%d visitors, want 3: one visitor has unrelated ids on two days", got.UniqueVisitors)
	}
}

// inFiles reports whether a file of the database holds text.
func inFiles(t *testing.T, files vfs.FS, text string) bool {
	t.Helper()
	var search func(dir string) bool
	search = func(dir string) bool {
		names, err := files.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			path := files.PathJoin(dir, name)
			info, err := files.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				if search(path) {
					return true
				}
				continue
			}
			f, err := files.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(f)
			if err := errors.Join(err, f.Close()); err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(content, []byte(text)) {
				return true
			}
		}
		return false
	}
	return search("data")
}

// realLog is 10,000 lines of a real server.
const realLog = "../../../shared/data/access-log/semicomplete-2015.log.gz"

// count is what a log holds.
type count struct {
	Views, Visitors int
	Days, Paths     map[string]int
	Left            map[string]int
}

// countApart counts a log with testdata/count.sh, which shares no code with the
// program.
func countApart(t *testing.T, text io.Reader) count {
	t.Helper()
	for _, tool := range []string{"sh", "awk", "sort"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("to count without the program takes a shell and awk:", err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "testdata/count.sh", "internal/agent/agents.txt")
	cmd.Stdin = text
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	c := count{Days: map[string]int{}, Paths: map[string]int{}, Left: map[string]int{}}
	names := map[string]string{
		"bad": "not in the common or combined log format", "method": "not a GET request", "status": "answered with another status", "feed": "a feed, not a page",
		"asset": "an asset, not a page", "noagent": "no user agent", "robot": "robots", "repeated": "a repeated view within the view window",
	}
	for line := range strings.Lines(string(out)) {
		kind, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		first, last, _ := strings.Cut(rest, " ")
		number := func(text string) int {
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return n
		}
		switch kind {
		case "views":
			c.Views = number(first)
		case "visitors":
			c.Visitors = number(first)
		case "day":
			c.Days[first] = number(last)
		case "path":
			c.Paths[last] = number(first)
		case "left":
			c.Left[names[last]] = number(first)
		}
	}
	return c
}

// counted reads what was imported.
func (w *world) counted(summary string) count {
	w.t.Helper()
	got := w.stats()
	c := count{Views: got.TotalPageViews, Visitors: got.UniqueVisitors, Days: map[string]int{}, Paths: map[string]int{}, Left: map[string]int{}}
	for _, v := range w.rows() {
		c.Days[time.UnixMilli(int64(v.Timestamp)).UTC().Format(time.DateOnly)]++
		c.Paths[v.Path]++
	}
	for line := range strings.Lines(summary) {
		if n, reason, ok := strings.Cut(strings.TrimLeft(strings.TrimSuffix(line, "\n"), " "), "   "); ok && !strings.HasPrefix(reason, " ") {
			c.Left[reason], _ = strconv.Atoi(n)
		}
	}
	return c
}

// storedView is a view as it is stored.
type storedView struct {
	Path, PageType, SessionID                     string
	Timestamp, Before, BeforeHere                 float64
	Site, Referrer, Channel, UTMSource, UTMMedium string
	UTMCampaign, Device, Browser, System, Country string
}

func (w *world) rows() []storedView {
	w.t.Helper()
	var rows []storedView
	if err := json.Unmarshal([]byte(show(w.ask("probe:views", nil))), &rows); err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// namelessRows are the rows with visitors numbered as they come, since their ids are
// random.
func (w *world) namelessRows() []storedView {
	rows := w.rows()
	less := func(x, y storedView) int {
		return order.Or(order.Compare(x.Timestamp, y.Timestamp), order.Compare(x.Path, y.Path), order.Compare(x.Browser+x.System, y.Browser+y.System),
			order.Compare(x.Before, y.Before), order.Compare(x.BeforeHere, y.BeforeHere), order.Compare(x.Referrer, y.Referrer))
	}
	slices.SortFunc(rows, less)
	for i := range rows {
		rows[i].SessionID = ""
	}
	return rows
}

// The import of a real log, by both of its ways, against a count that shares no
// code with it: by page, by day, by visitor and by what is left out.
func TestImportOfARealLog(t *testing.T) {
	packed, err := os.ReadFile(realLog)
	if err != nil {
		t.Skip("the real access log is not here")
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	want := countApart(t, unpacked)
	var ways [][]storedView
	for _, flag := range []string{"-site=semicomplete.com", "-transactions"} {
		w := newWorld(t, stats.Options{}, probe())
		stdout, _, err := w.runImport(nil, "-site", "www.semicomplete.com", flag, realLog)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, w.counted(stdout)); diff != "" {
			t.Errorf("%s (-counted apart +imported):\n%s", flag, diff)
		}
		if len(ways) == 0 {
			t.Logf("summary:\n%s", stdout)
		}
		ways = append(ways, w.namelessRows())
		got := w.stats()
		if len(got.PageStats) != 50 || got.TotalPaths != len(want.Paths) {
			t.Errorf("%s: %d of %d pages listed, want 50 of %d", flag, len(got.PageStats), got.TotalPaths, len(want.Paths))
		}
		for _, page := range got.PageStats {
			if page.Views != want.Paths[page.Path] {
				t.Errorf("%s: %s has %d views, want %d", flag, page.Path, page.Views, want.Paths[page.Path])
			}
		}
		// The same log is known, by whatever name and packed or not.
		again := filepath.Join(t.TempDir(), "access.log.1")
		unpacked, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(unpacked)
		if err := errors.Join(err, os.WriteFile(again, text, 0o600)); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{realLog, again} {
			stdout, stderr, err := w.runImport(nil, name)
			if err != nil || !strings.Contains(stdout, "       0 views counted\n") || !strings.Contains(stderr, "was imported before") {
				t.Errorf("%s: imported again: %v\n%s%s", flag, err, stdout, stderr)
			}
		}
	}
	if diff := cmp.Diff(ways[0], ways[1]); diff != "" {
		t.Errorf("rows (-loaded +by transactions):\n%s", diff)
	}
}

func TestImportStopsWithItsContext(t *testing.T) {
	w := newWorld(t, stats.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, command := range w.app.Commands() {
		if command.Name != "import" {
			continue
		}
		err := command.Run(ctx, &halcyon.CommandEnv{
			App: w.app, Stdin: strings.NewReader(logLine("a", "x", 0, "/")), Stdout: io.Discard, Stderr: io.Discard,
		}, []string{"-"})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	}
}

func TestImportedViewsAndLiveOnesShareOneRule(t *testing.T) {
	w := newWorld(t, stats.Options{})
	w.do("stats:importViews", object{"views": value.Array(value.Object(
		value.Field{Name: "path", Value: value.String("/a")},
		value.Field{Name: "sessionId", Value: value.String("ada")},
		value.Field{Name: "timestamp", Value: value.Float64(float64(noon.Add(-time.Minute).UnixMilli()))}))})
	w.view("ada", "/a")
	if got := w.stats(); got.TotalPageViews != 1 || got.UniqueVisitors != 1 {
		t.Errorf("%d views of %d visitors, want 1 of 1", got.TotalPageViews, got.UniqueVisitors)
	}
}

// Views of a log may come after later ones of the same visitors, and then have the most to look at, or on a machine that has no time for many. A
// call takes as many as fit, and the next one the rest.
func TestAsManyViewsAsFitAreImportedAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		n    int
		step time.Duration // that each look at the clock takes
		most int           // calls
	}{
		{"out of order", 1000, 0, 8},
		{"out of order on a slow machine", 60, 5 * time.Millisecond, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, stats.Options{}, probe())
			n, calls := tt.n, 0
			send := func(at time.Time, path func(i int) string) {
				t.Helper()
				var views []value.Value
				for i := range n {
					views = append(views, value.Object(
						value.Field{Name: "path", Value: value.String(path(i))}, value.Field{Name: "sessionId", Value: value.String(visitorID(i))},
						value.Field{Name: "timestamp", Value: value.Float64(float64(at.UnixMilli()))},
						value.Field{Name: "hit", Value: value.Object(value.Field{Name: "site", Value: value.String("a.org")},
							value.Field{Name: "country", Value: value.String([]string{"CH", "DE", "US"}[i%3])})}))
				}
				w.clock.slow(tt.step)
				counted, took := w.importViews(views)
				w.clock.slow(0)
				if calls = max(calls, took); counted != n {
					t.Errorf("%d views at %v are counted, want %d", counted, at, n)
				}
				for w.rollUp() > 0 {
				}
			}
			own := func(i int) string { return fmt.Sprint("/", i) }
			// Two later views of the page and one of another, on a day of its own each.
			send(noon, own)
			send(noon.Add(-24*time.Hour), own)
			send(noon.Add(-48*time.Hour), func(i int) string { return fmt.Sprint("/other/", i) })
			send(noon.Add(-72*time.Hour), own)
			if got := w.stats(); got.TotalPageViews != 4*n || got.UniqueVisitors != n {
				t.Errorf("%d views of %d visitors, want %d of %d", got.TotalPageViews, got.UniqueVisitors, 4*n, n)
			}
			if calls < 2 || calls > tt.most {
				t.Errorf("%d views take up to %d calls, want more than one and at most %d", n, calls, tt.most)
			}
		})
	}
}
