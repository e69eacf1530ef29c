package stats_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/stats"
)

// someLog is a log of n lines, a little out of order, of few visitors who come
// back, with lines among them that are no views.
func someLog(seed uint64, n int) string {
	rnd := rand.New(rand.NewPCG(seed, 11))
	var b strings.Builder
	at := time.Duration(0)
	for i := range n {
		at += time.Duration(rnd.IntN(20)) * time.Second
		switch rnd.IntN(12) {
		case 0:
			b.WriteString("garbage\n")
		case 1:
			b.WriteString(logLine("a", "x", at, "/a.css"))
		default:
			late := time.Duration(rnd.IntN(60)) * time.Second
			b.WriteString(logLine(fmt.Sprint("h", rnd.IntN(9)), fmt.Sprint("agent", rnd.IntN(2)), at-late, fmt.Sprint("/", rnd.IntN(30))))
		}
		if i == n/2 {
			at += 20 * time.Hour // into the next day
		}
	}
	return b.String()
}

// cutting ends a context when so many bytes were read.
type cutting struct {
	io.Reader
	left   int
	cancel context.CancelFunc
}

func (c *cutting) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b[:min(len(b), 512)])
	if c.left -= n; c.left <= 0 {
		c.cancel()
	}
	return n, err
}

// A run that is cut short anywhere goes on where it was, with the same visitors.
func TestImportGoesOnWhereItWasCutShort(t *testing.T) {
	text := someLog(1, 4000)
	whole := newWorld(t, stats.Options{}, probe())
	if _, _, err := whole.runImport(strings.NewReader(text), "-"); err != nil {
		t.Fatal(err)
	}
	want, wantStats := whole.namelessRows(), whole.stats()

	w := newWorld(t, stats.Options{}, probe())
	summary := ""
	var runs int
	for from := len(text) / 5; from < len(text); from += len(text) / 5 {
		ctx, cancel := context.WithCancel(t.Context())
		var out, talk bytes.Buffer
		err := importCommand(t, w.app)(ctx, &halcyon.CommandEnv{
			App: w.app, Dir: w.dir(), Stdin: &cutting{strings.NewReader(text), from, cancel}, Stdout: &out, Stderr: &talk,
		}, []string{"-"})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("cut at %d: %v", from, err)
		}
		summary += out.String()
		if files := keyFiles(t, w.dir()); len(files) == 0 {
			t.Error("the keys of a run that was cut short are gone")
		}
		runs++
	}
	stdout, _, err := w.runImport(strings.NewReader(text), "-")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, w.namelessRows()); diff != "" {
		t.Errorf("rows (-in one run +in %d):\n%s", runs+1, diff)
	}
	if got := w.stats(); got.UniqueVisitors != wantStats.UniqueVisitors || got.TotalPageViews != wantStats.TotalPageViews {
		t.Errorf("%d views of %d visitors, want %d of %d", got.TotalPageViews, got.UniqueVisitors, wantStats.TotalPageViews, wantStats.UniqueVisitors)
	}
	total := 0
	for line := range strings.Lines(summary + stdout) {
		var n int
		if _, err := fmt.Sscanf(line, "%d lines read", &n); err == nil {
			total += n
		}
	}
	if total != 4000 {
		t.Errorf("the runs read %d lines, want each of 4000 once", total)
	}
	if files := keyFiles(t, w.dir()); len(files) > 0 {
		t.Errorf("keys are left of a run that has ended: %v", files)
	}
}

func importCommand(t *testing.T, app *halcyon.App) func(context.Context, *halcyon.CommandEnv, []string) error {
	t.Helper()
	for _, command := range app.Commands() {
		if command.Module == "stats" && command.Name == "import" {
			return command.Run
		}
	}
	t.Fatal("there is no command stats import")
	return nil
}

func keyFiles(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "import-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s can be read by others: %v, %v", file, info.Mode(), err)
		}
	}
	return files
}

func TestImportKnowsALogAgain(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	lines := strings.SplitAfter(someLog(2, 100), "\n")
	half, all := strings.Join(lines[:50], ""), strings.Join(lines, "")
	w := newWorld(t, stats.Options{})
	views := 0
	step := func(what, wantLines string, args ...string) {
		t.Helper()
		stdout, stderr, err := w.runImport(nil, args...)
		if err != nil || !strings.HasPrefix(strings.TrimSpace(stdout), wantLines+" lines read\n") {
			t.Errorf("%s: %v, want %s lines\n%s%s", what, err, wantLines, stdout, stderr)
		}
	}
	step("at first", "50", write("access.log", half))
	views = w.stats().TotalPageViews
	step("the same", "0", write("access.log", half))
	step("under another name", "0", write("access.log.1", half))
	if got := w.stats().TotalPageViews; got != views {
		t.Errorf("%d views after importing again, want %d", got, views)
	}
	step("grown", "50", write("access.log", all))
	if got := w.stats().TotalPageViews; got <= views {
		t.Errorf("%d views, want more than %d", got, views)
	}
	step("another log of the same name", "30", write("access.log", strings.Join(strings.SplitAfter(someLog(3, 30), "\n"), "")))
	views = w.stats().TotalPageViews
	step("from its beginning, because it was told to", "100", "--again", write("access.log", all))
	if got := w.stats().TotalPageViews; got <= views {
		t.Errorf("%d views with --again, want more than %d", got, views)
	}
	// A file that was cut is no continuation.
	if _, _, err := w.runImport(nil, write("access.log", half)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a file that is shorter than before: %v", err)
	}
	// Two small logs that begin alike are two logs.
	first := logLine("a", "x", 0, "/same")
	step("a small log", "1", write("one.log", first))
	step("another small log", "1", write("two.log", first))
}

func TestImportOfDamagedLogs(t *testing.T) {
	text := someLog(4, 2000)
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	if _, err := io.WriteString(zip, text); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	cut := packed.Bytes()[:packed.Len()*2/3]
	flipped := slices.Clone(packed.Bytes())
	flipped[len(flipped)/2] ^= 0x55
	two := slices.Concat(packed.Bytes(), packed.Bytes())
	for name, log := range map[string][]byte{"cut": cut, "damaged": flipped} {
		w := newWorld(t, stats.Options{})
		file := filepath.Join(t.TempDir(), "access.log.gz")
		if err := os.WriteFile(file, log, 0o600); err != nil {
			t.Fatal(err)
		}
		stdout, _, err := w.runImport(nil, file)
		if err == nil || w.stats().TotalPageViews == 0 {
			t.Errorf("%s: %v, %d views; want an error, and what came before it\n%s", name, err, w.stats().TotalPageViews, stdout)
		}
		before := w.stats().TotalPageViews
		if _, _, err := w.runImport(nil, file); err == nil || w.stats().TotalPageViews != before {
			t.Errorf("%s, again: %v, %d views, want %d", name, err, w.stats().TotalPageViews, before)
		}
		// The whole one goes on behind that.
		if err := os.WriteFile(file, packed.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := w.runImport(nil, file); err != nil || name == "cut" && w.stats().TotalPageViews <= before {
			t.Errorf("%s, repaired: %v, %d views after %d", name, err, w.stats().TotalPageViews, before)
		}
	}
	w := newWorld(t, stats.Options{})
	if stdout, _, err := w.runImport(bytes.NewReader(two), "-"); err != nil || !strings.Contains(stdout, "    4000 lines read") {
		t.Errorf("two gzipped files in one: %v\n%s", err, stdout)
	}

	hostile := strings.Repeat("x", 1<<20) + "\n" + strings.Repeat("\x00", 1<<20) + "\n\x00\n" +
		logLine("a", "x", 0, "/"+strings.Repeat("p", 60_000)) + logLine("a", strings.Repeat("u", 60_000), 0, "/a") +
		logLine("a", strings.Repeat("u", 59_999)+"v", 0, "/a") + logLine(strings.Repeat("h", 60_000), "x", 0, "/a") +
		logLine("a", "x\x00", 0, "/n\x00ul") + logLine("a", "x", 0, "/ada@example.org/x") + strings.Repeat("\n", 1000) +
		strings.Replace(logLine("a", "x", 0, "/"), "2026", "0000", 1) + strings.Replace(logLine("a", "x", 0, "/"), "2026", "9999", 1)
	w = newWorld(t, stats.Options{}, probe())
	stdout, _, err := w.runImport(strings.NewReader(hostile), "-")
	if err != nil {
		t.Fatalf("%v\n%s", err, stdout)
	}
	for _, want := range []string{"1   a path that is too long", "2   line too long", "1000   empty line", "1   not in the common or combined log format"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("%q is missing in\n%s", want, stdout)
		}
	}
	if got := w.stats(); got.UniqueVisitors < 5 {
		t.Errorf("%d visitors: long agents are to be told apart", got.UniqueVisitors)
	}
	if rows := show(w.ask("probe:views", nil)); strings.Contains(rows, "ada@") || !strings.Contains(rows, "[email]") {
		t.Error("an e-mail address is kept")
	}
}

func TestImportIsConfigured(t *testing.T) {
	text := logLine("a", "x", 0, "/paper.pdf") + logLine("a", "x", 0, "/feed") + logLine("a", "Googlebot/2.1", 0, "/") +
		logLine("a", "-", 0, "/dash") + strings.Replace(logLine("a", "x", 0, "/gone"), " 200 ", " 404 ", 1) +
		logLine("a", "x", 0, "/data.xyz") + strings.Replace(logLine("a", "x", 0, "/page?utm_source=news"), "https://example.org/", "https://www.google.com/", 1)
	tests := []struct {
		name  string
		flags []string
		want  []string
	}{
		{"defaults", nil, []string{"/data.xyz", "/page"}},
		{"pages", []string{"--pages", ".pdf, .txt"}, []string{"/data.xyz", "/page", "/paper.pdf"}},
		{"assets", []string{"--assets=.XYZ"}, []string{"/page"}},
		{"feeds", []string{"--feeds"}, []string{"/data.xyz", "/feed", "/page"}},
		{"robots", []string{"--robots"}, []string{"/", "/dash", "/data.xyz", "/page"}},
		{"statuses", []string{"--statuses", "404"}, []string{"/gone"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, stats.Options{}, probe())
			if _, _, err := w.runImport(strings.NewReader(text), append(tt.flags, "--site=Example.ORG", "-")...); err != nil {
				t.Fatal(err)
			}
			var paths []string
			for _, v := range w.rows() {
				paths = append(paths, v.Path)
				if v.Site != "example.org" || v.Path == "/page" && (v.UTMSource != "news" || v.Referrer != "google.com") || v.Path != "/page" && v.Referrer != "" {
					t.Errorf("got %+v", v)
				}
			}
			slices.Sort(paths)
			if diff := cmp.Diff(tt.want, paths); diff != "" {
				t.Errorf("paths (-want +got):\n%s", diff)
			}
		})
	}
	for _, args := range [][]string{
		{}, {"--follow", "-"}, {"--follow", "a", "b"}, {"--statuses", "abc", "-"}, {"--statuses", "99", "-"}, {"--assets", "pdf", "-"},
		{"--pages", ".", "-"}, {"--site", "a b", "-"}, {"--unknown", "-"},
	} {
		w := newWorld(t, stats.Options{})
		_, _, err := w.runImport(strings.NewReader(text), args...)
		var coded interface{ ExitCode() int }
		if !errors.As(err, &coded) || coded.ExitCode() != 2 {
			t.Errorf("%q: %v, want an error of exit status 2", args, err)
		}
	}
}

// A log that can't be loaded at once is counted by transactions, with the same
// outcome.
func TestImportOfALogInDisorder(t *testing.T) {
	parts := strings.SplitAfter(someLog(6, 1500), "\n")
	slices.Reverse(parts)
	for name, text := range map[string]string{
		"backwards":           strings.Join(parts, ""),
		"the days are turned": someLog(7, 900) + strings.ReplaceAll(someLog(8, 900), noon.Format("/2006"), noon.AddDate(-1, 0, 0).Format("/2006")),
	} {
		file := filepath.Join(t.TempDir(), "access.log")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if len(text) < 64<<10 {
			t.Fatalf("%s: %d bytes are too few to be loaded", name, len(text))
		}
		var ways [][]storedView
		for _, flag := range []string{"--site=s", "--transactions"} {
			w := newWorld(t, stats.Options{}, probe())
			if _, _, err := w.runImport(nil, "--site=s", flag, file); err != nil {
				t.Fatal(err)
			}
			ways = append(ways, w.namelessRows())
		}
		if diff := cmp.Diff(ways[0], ways[1]); diff != "" || len(ways[0]) == 0 {
			t.Errorf("%s: %d rows (-by itself +by transactions):\n%s", name, len(ways[0]), diff)
		}
	}
}
