package stats_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
	"github.com/halcyon-db/halcyon/engine/value"
)

// runImport runs the command `stats import`.
func (w *world) runImport(stdin io.Reader, args ...string) (stdout, stderr string, err error) {
	w.t.Helper()
	for _, command := range w.app.Commands() {
		if command.Module == "stats" && command.Name == "import" {
			var out, talk bytes.Buffer
			err = command.Run(w.t.Context(), &halcyon.CommandEnv{App: w.app, Stdin: stdin, Stdout: &out, Stderr: &talk}, args)
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
       1   answered with another status than 200, 203 or 304
       1   empty line
       1   line too long
       1   not a GET request
       1   not in the combined log format
`
	if diff := cmp.Diff(want, stdout); diff != "" {
		t.Errorf("summary (-want +got):\n%s", diff)
	}
	if stderr != "" {
		t.Errorf("progress on what is no terminal: %q", stderr)
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

// TestImportOfARealLog checks the import against a count that is written here
// from the documented rules and shares no code with it.
func TestImportOfARealLog(t *testing.T) {
	if _, err := os.Stat(realLog); err != nil {
		t.Skip("the real access log is not here")
	}
	want := countByHand(t, realLog)
	w := newWorld(t, stats.Options{})
	stdout, _, err := w.runImport(nil, realLog)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("summary:\n%s", stdout)
	got := w.stats()
	if got.TotalPageViews != want.views || got.UniqueVisitors != len(want.visitors) || got.TotalPaths != len(want.byPath) {
		t.Errorf("%d views, %d visitors, %d paths; want %d, %d, %d", got.TotalPageViews, got.UniqueVisitors, got.TotalPaths,
			want.views, len(want.visitors), len(want.byPath))
	}
	byDay := make(map[string]int)
	days := w.ask("stats:getViewsByDay", nil)
	for i := range days.Len() {
		day, _ := days.Index(i).Get("day").AsString()
		views, _ := days.Index(i).Get("views").AsFloat64()
		byDay[day] = int(views)
	}
	if diff := cmp.Diff(want.byDay, byDay); diff != "" {
		t.Errorf("views by day (-want +got):\n%s", diff)
	}
	if len(got.PageStats) != 50 {
		t.Errorf("%d pages listed, want 50", len(got.PageStats))
	}
	least := math.MaxInt
	for _, page := range got.PageStats {
		if page.Views != want.byPath[page.Path] || page.Views > least {
			t.Errorf("%s has %d views, want %d, and no more than the one before", page.Path, page.Views, want.byPath[page.Path])
		}
		least = page.Views
		delete(want.byPath, page.Path)
	}
	for path, views := range want.byPath {
		if views > least {
			t.Errorf("%s with %d views is not listed", path, views)
		}
	}
}

// count is what countByHand finds.
type count struct {
	views         int
	byDay, byPath map[string]int
	visitors      map[string]bool
}

// countByHand counts page views the plain way: all lines in memory, sorted by
// time, the last counted view of each visitor and page in a map.
func countByHand(t *testing.T, name string) count {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	request := regexp.MustCompile(`^(\S+) \S+ \S+ \[(../.../....):(..):(..):(..) \+0000\] "GET ([^ ?#"]*)[^ "]* HTTP/1\.[01]" (200|203|304) [0-9-]+ "[^"]*" "([^"]*)"$`)
	asset := regexp.MustCompile(`(?i)\.(png|css|ico|jpe?g|js|txt|gif|svg|xml|xsl|jar|ttf|woff|pdf|gz|deb|swf|doc|exe|zip)$`)
	type hit struct {
		day, visitor, path string
		second             int
	}
	var hits []hit
	for lines := bufio.NewScanner(unzipped); lines.Scan(); {
		m := request.FindStringSubmatch(lines.Text())
		if m == nil || asset.MatchString(m[6]) {
			continue
		}
		day, err := time.Parse("02/Jan/2006", m[2])
		if err != nil {
			t.Fatal(err)
		}
		number := func(digits string) int {
			n, err := strconv.Atoi(digits)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		hits = append(hits, hit{
			day: day.Format("2006-01-02"), visitor: m[2] + " " + m[1] + " " + m[8], path: m[6],
			second: int(day.Unix()) + number(m[3])*3600 + number(m[4])*60 + number(m[5]),
		})
	}
	sort.SliceStable(hits, func(i, j int) bool { return hits[i].second < hits[j].second })
	c := count{byDay: map[string]int{}, byPath: map[string]int{}, visitors: map[string]bool{}}
	last := make(map[string]int)
	for _, hit := range hits {
		key := hit.visitor + " " + hit.path
		if before, ok := last[key]; ok && hit.second-before < 1800 {
			continue
		}
		last[key] = hit.second
		c.views++
		c.byDay[hit.day]++
		c.byPath[hit.path]++
		c.visitors[hit.visitor] = true
	}
	return c
}

func TestImportStopsWithItsContext(t *testing.T) {
	w := newWorld(t, stats.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, command := range w.app.Commands() {
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
