package e2e

import (
	"bufio"
	"compress/gzip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// realLog is the log of a real site, beside the repository where it is there at
// all. The name is that from the root of the repository.
const realLog = "../shared/data/access-log/semicomplete-2015.log.gz"

// logCount is what countLog finds.
type logCount struct {
	views, visitors int
	days            map[string]int
}

// countLog counts the page views of realLog from the words of the
// documentation, as one would in a shell: it cuts the lines at their quotes.
func countLog(t *testing.T) logCount {
	t.Helper()
	file, err := os.Open(filepath.Join(repository, realLog))
	if err != nil {
		t.Skip("the log of a real site is not here")
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	// Those of the assets that this log has.
	assets := strings.Fields(".css .deb .doc .exe .gif .gz .ico .jar .jpeg .jpg .js .pdf .png .svg .swf .ttf .txt .woff .xml .xsl")
	type request struct {
		at            time.Time
		visitor, path string
	}
	var requests []request
	lines := bufio.NewScanner(unzipped)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		parts := strings.Split(lines.Text(), `"`)
		if len(parts) != 7 {
			continue // the last line of this log is cut off
		}
		words, status := strings.Fields(parts[1]), strings.Fields(parts[2])
		if len(words) < 2 || words[0] != "GET" || !slices.Contains([]string{"200", "203", "304"}, status[0]) {
			continue
		}
		page := strings.FieldsFunc(words[1]+"?", func(r rune) bool { return r == '?' || r == '#' })[0]
		if slices.Contains(assets, strings.ToLower(path.Ext(page))) {
			continue
		}
		_, stamp, _ := strings.Cut(parts[0], "[")
		at, err := time.Parse("02/Jan/2006:15:04:05 -0700", stamp[:26])
		if err != nil {
			t.Fatal(err)
		}
		at = at.UTC()
		address, _, _ := strings.Cut(parts[0], " ")
		requests = append(requests, request{at, at.Format(time.DateOnly) + address + parts[5], page})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(requests, func(x, y request) int { return x.at.Compare(y.at) })
	found := logCount{days: make(map[string]int)}
	counted := make(map[[2]string]time.Time)
	visitors := make(map[string]bool)
	for _, r := range requests {
		key := [2]string{r.visitor, r.path}
		if before, again := counted[key]; again && r.at.Sub(before) < 30*time.Minute {
			continue
		}
		counted[key] = r.at
		visitors[r.visitor] = true
		found.views++
		found.days[r.at.Format(time.DateOnly)]++
	}
	found.visitors = len(visitors)
	return found
}

// A log is imported by one command, and the page shows it.
func TestImportedLogIsShown(t *testing.T) {
	t.Parallel()
	want := countLog(t)
	dir := filepath.Join(t.TempDir(), "data")
	halcyon.path(t)
	began := time.Now()
	summary := run(t, halcyon, dir, "stats", "import", realLog)
	t.Logf("stats import took %v:\n%s", time.Since(began).Round(time.Millisecond), summary)
	s := serveOn(t, halcyon, dir)

	byDay := make(map[string]int)
	for _, day := range query[[]struct {
		Day   string
		Views int
	}](s, "stats:getViewsByDay", map[string]any{}) {
		byDay[day.Day] = day.Views
	}
	if diff := cmp.Diff(want.days, byDay); diff != "" {
		t.Errorf("views by day (-counted by hand +answered):\n%s", diff)
	}
	got := query[liveStats](s, "stats:getStats", map[string]any{})
	if got.TotalPageViews != want.views || got.UniqueVisitors != want.visitors || got.ActiveVisitors != 0 {
		t.Errorf("%d views, %d visitors, %d of them active; want %d, %d, 0", got.TotalPageViews, got.UniqueVisitors, got.ActiveVisitors, want.views, want.visitors)
	}

	reader := openBrowser(t, "reader")
	reader.hideFromTracker()
	reader.visit(s.url() + "/stats")
	digits := func(text string) string { return strings.ReplaceAll(text, ",", "") }
	poll(t, "the page shows the totals", func() (bool, string) {
		page := evaluate[shown](reader, readPage)
		return digits(page.Views) == strconv.Itoa(want.views) && digits(page.Visitors) == strconv.Itoa(want.visitors), page.Views + " views, " + page.Visitors + " visitors"
	})
	reader.screenshot("imported")
}
