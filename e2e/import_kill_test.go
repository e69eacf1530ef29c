package e2e

import (
	"archive/zip"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine/value"
)

// imported is what can be seen of an import.
type imported struct {
	Views, Visitors, Paths int
	Days                   []seriesPoint
	Pages, Sources         []breakdownRow
}

type seriesPoint struct{ Time, Views, Visitors float64 }

type breakdownRow struct {
	Value           string
	Views, Visitors int
}

// importedBy returns what a server shows on a folder of data, of a log whose last day is that of now. It names
// the end of what it asks for: the default is the end of the server's day, which is another one after midnight.
func importedBy(t testing.TB, dir string, now time.Time) imported {
	t.Helper()
	s := serveOn(t, halcyon, dir)
	defer s.kill()
	stats := patientQuery[liveStats](s, "stats:getStats", map[string]any{})
	from, to := now.Add(-50*24*time.Hour).UnixMilli(), now.Add(24*time.Hour).UnixMilli()
	type seriesOf struct {
		Points  []seriesPoint
		Pending int
	}
	var series seriesOf
	poll(t, "all is added up", func() (bool, string) {
		series = patientQuery[seriesOf](s, "stats:getSeries", map[string]any{"unit": "day", "from": from, "to": to})
		return series.Pending == 0, fmt.Sprint(series.Pending, " views are not")
	})
	by := func(dimension string) []breakdownRow {
		return patientQuery[struct{ Rows []breakdownRow }](s, "stats:getBreakdown", map[string]any{"dimension": dimension, "from": from, "to": to, "limit": 1000}).Rows
	}
	return imported{stats.TotalPageViews, stats.UniqueVisitors, stats.TotalPaths, series.Points, by("path"), by("channel")}
}

// patientQuery is query that asks again where a machine is too busy to answer within the
// second that functions have.
func patientQuery[T any](s *server, path string, args any) T {
	s.t.Helper()
	var result T
	poll(s.t, path, func() (bool, string) {
		result = *new(T)
		err := s.call("query", path, args, &result)
		if err != nil && !strings.Contains(err.Error(), "Timeout: ") {
			s.t.Fatalf("%s: %v", path, err)
		}
		return err == nil, fmt.Sprint(err)
	})
	return result
}

// An import that is killed, as often as one likes and wherever it is, and started again
// by the same command, counts every line once.
func TestKilledImportGoesOn(t *testing.T) {
	t.Parallel()
	random := newRand(t)
	now := time.Now()
	log := writeLog(t, rand.New(rand.NewPCG(random.Uint64(), 0)), now)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"loading empty tables", nil},
		{"by transactions", []string{"--transactions"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append(append([]string{"stats", "import"}, tt.args...), log)
			whole := filepath.Join(t.TempDir(), "data")
			began := time.Now()
			run(t, halcyon, whole, args...)
			took := time.Since(began)
			want := importedBy(t, whole, now)

			// Where a run comes to its end before it is killed for the first time, others
			// are killed earlier.
			dir, kills := "", 0
			for most := took; kills == 0; most /= 2 {
				if most == 0 {
					t.Fatal("no run lasts long enough to be killed")
				}
				dir = filepath.Join(t.TempDir(), "data")
				for kills < 5 && runAndKill(t, halcyon, dir, time.Duration(random.Int64N(int64(most))), args...) {
					kills++
				}
			}
			t.Logf("a whole run takes %v; %d were killed", took, kills)
			run(t, halcyon, dir, args...)
			run(t, halcyon, dir, args...) // and once more: everything is there
			got := importedBy(t, dir, now)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what is counted (-in one run +killed %d times):\n%s", kills, diff)
			}
			if report := run(t, halcyon, dir, "verify"); report == "" {
				t.Error("verify says nothing")
			}
		})
	}
}

// runAndKill calls a verb and kills its process after a while. It reports whether the
// process was running still.
func runAndKill(t testing.TB, p program, dir string, after time.Duration, args ...string) (killed bool) {
	t.Helper()
	var said output
	cmd := exec.Command(p.path(t), args...)
	cmd.Dir, cmd.Stderr = repository, &said
	cmd.Env = append(plainEnv(), "HALCYON_STORAGE_DIR="+dir)
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may be gone
	err := cmd.Wait()
	kill.Stop()
	if err != nil && cmd.ProcessState.ExitCode() >= 0 {
		t.Fatalf("%v: %s", err, &said)
	}
	return err != nil
}

// An import of a Convex project that is killed, as often as one likes and wherever it is, goes on by the same command: each table is there as a whole or
// not at all, and in the end all is as it is after one run.
func TestKilledConvexImportGoesOn(t *testing.T) {
	t.Parallel()
	random := newRand(t)
	file := filepath.Join(t.TempDir(), "export.zip")
	rooms, messages := writeChatExport(t, file)
	whole := filepath.Join(t.TempDir(), "data")
	args := []string{"convex", "import", file}
	chat.path(t) // building it takes its time
	began := time.Now()
	run(t, chat, whole, args...)
	took := time.Since(began)
	tables := func(dir string) (got [2]string) {
		for i, table := range []string{"rooms", "messages"} {
			got[i] = run(t, chat, dir, "data", "export", "chat/"+table)
		}
		return got
	}
	want := tables(whole)
	if n := strings.Count(want[0], "\n"); n != rooms {
		t.Fatalf("%d rooms came, want %d", n, rooms)
	}
	if n := strings.Count(want[1], "\n"); n != messages {
		t.Fatalf("%d messages came, want %d", n, messages)
	}

	kills, dir := 0, ""
	for most := took; kills < 6; most = most * 3 / 4 {
		if most == 0 {
			t.Fatal("no run lasts long enough to be killed")
		}
		dir = filepath.Join(t.TempDir(), "data")
		for kills < 6 && runAndKill(t, chat, dir, time.Duration(random.Int64N(int64(most))), args...) {
			kills++
			for i, got := range tables(dir) {
				if got != "" && got != want[i] {
					t.Fatalf("after kill %d a table has %d documents of %d", kills, strings.Count(got, "\n"), strings.Count(want[i], "\n"))
				}
			}
		}
	}
	t.Logf("a whole run takes %v; %d were killed", took, kills)

	// Between its tables.
	between := filepath.Join(t.TempDir(), "data")
	var said output
	cmd := exec.Command(chat.path(t), args...)
	cmd.Dir, cmd.Stderr = repository, &said
	cmd.Env = append(plainEnv(), "HALCYON_STORAGE_DIR="+between)
	dieWithParent(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	poll(t, "the first table is imported", func() (bool, string) {
		return strings.Contains(said.String(), "chat/messages: imported 20000 documents."), said.String()
	})
	_ = cmd.Process.Kill() // it may be done
	_ = cmd.Wait()
	if got := tables(between); got[1] != want[1] || got[0] != "" && got[0] != want[0] {
		t.Errorf("between the tables there are %d rooms and %d messages", strings.Count(got[0], "\n"), strings.Count(got[1], "\n"))
	}
	if _, stderr, status := tryRun(t, chat, between, args...); status != 0 || !strings.Contains(stderr, "chat/messages: all is there already.") {
		t.Errorf("the command given again ends with status %d and says:\n%s", status, stderr)
	}
	if got := tables(between); got != want {
		t.Error("what is there after a kill between the tables differs from what one run imports")
	}

	run(t, chat, dir, args...)
	run(t, chat, dir, args...) // and once more: everything is there
	if got := tables(dir); got != want {
		t.Error("what is there differs from what one run imports")
	}
}

// writeChatExport makes a zip as of a Convex project with rooms and messages.
func writeChatExport(t testing.TB, file string) (rooms, messages int) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	archive := zip.NewWriter(f)
	at := time.UnixMilli(1_700_000_000_000)
	id := func(table uint32, n int) string { return value.NewID(table, at, uint64(n)).String() }
	table := func(name string, n int, line func(i int) string) int {
		out, err := archive.Create(name + "/documents.jsonl")
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if _, err := fmt.Fprintln(out, line(i)); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	rooms = table("rooms", 5_000, func(i int) string {
		return fmt.Sprintf(`{"_creationTime":%d,"_id":%q,"name":"room %d"}`, at.UnixMilli()+int64(i), id(10_007, i), i)
	})
	messages = table("messages", 20_000, func(i int) string {
		return fmt.Sprintf(`{"_creationTime":%d,"_id":%q,"author":"ann","body":"message %d","room":%q}`, at.UnixMilli()+int64(i), id(10_008, i), i, id(10_007, i%5_000))
	})
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	return rooms, messages
}
