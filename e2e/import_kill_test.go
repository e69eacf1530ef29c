package e2e

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

// importedBy returns what a server shows on a folder of data, of a log whose last day is that of now.
func importedBy(t testing.TB, dir string, now time.Time) imported {
	t.Helper()
	s := serveOn(t, halcyon, dir)
	defer s.kill()
	stats := patientQuery[liveStats](s, "stats:getStats", map[string]any{})
	from := now.Add(-50 * 24 * time.Hour).UnixMilli()
	type seriesOf struct {
		Points  []seriesPoint
		Pending int
	}
	var series seriesOf
	poll(t, "all is added up", func() (bool, string) {
		series = patientQuery[seriesOf](s, "stats:getSeries", map[string]any{"unit": "day", "from": from})
		return series.Pending == 0, fmt.Sprint(series.Pending, " views are not")
	})
	by := func(dimension string) []breakdownRow {
		return patientQuery[struct{ Rows []breakdownRow }](s, "stats:getBreakdown", map[string]any{"dimension": dimension, "from": from, "limit": 1000}).Rows
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
				for kills < 5 && runAndKill(t, dir, time.Duration(random.Int64N(int64(most))), args...) {
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
func runAndKill(t testing.TB, dir string, after time.Duration, args ...string) (killed bool) {
	t.Helper()
	var said output
	cmd := exec.Command(halcyon.path(t), args...)
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
