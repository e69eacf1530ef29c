package e2e

import (
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
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

// countLog counts the page views of realLog with the script of apps/stats, which
// shares no code with the program.
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
	for _, tool := range []string{"sh", "awk", "sort"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("to count without the program takes a shell and awk:", err)
		}
	}
	dir := filepath.Join(repository, "apps", "stats")
	cmd := exec.CommandContext(t.Context(), "sh", "testdata/count.sh", "internal/agent/agents.txt")
	cmd.Dir, cmd.Stdin = dir, unzipped
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := logCount{days: make(map[string]int)}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		n, _ := strconv.Atoi(words[len(words)-1])
		switch words[0] {
		case "views":
			found.views = n
		case "visitors":
			found.visitors = n
		case "day":
			found.days[words[1]] = n
		}
	}
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
	for day := range want.days {
		// The log is older than views are kept as rows, so the server folds them while
		// this asks.
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			t.Fatal(err)
		}
		byDay[day] = query[struct{ Views int }](s, "stats:getBreakdown", map[string]any{
			"dimension": "site", "from": at.UnixMilli(), "to": at.AddDate(0, 0, 1).UnixMilli()}).Views
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
