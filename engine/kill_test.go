package engine_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// kills is how many processes TestKill ends.
var kills = flag.Int("engine.kills", 12, "how many processes are killed while they write")

// A process of TestKill gets its folder, its seed and the newest number that was
// acknowledged to its predecessors through the environment.
const (
	killFolder = "HALCYON_ENGINE_TEST_KILL"
	killSeed   = "HALCYON_ENGINE_TEST_KILL_SEED"
	killAcked  = "HALCYON_ENGINE_TEST_KILL_ACKED"
)

// killWorkers is how many goroutines of a process write, each its own calls one
// after the other.
const killWorkers = 4

// Each commit of a process reads the hot document, takes the next number from it
// and inserts a document with that number, so that the numbers that are there
// after a crash say which commits are: a beginning of all of them, or one that
// read what was lost is there without it. A document also names its worker and
// the worker's call, which is sent again when its answer was lost.

// killSchemas are two that a process changes between, so that a kill may fall
// into the build of an index.
var killSchemas = func() []engine.Schema {
	more := engine.TableDef{
		Name:       "views",
		Indexes:    []engine.IndexDef{{Name: "by_path", Fields: []string{"path", "n"}}, {Name: "by_call", Fields: []string{"worker", "call"}, Unique: true}},
		Aggregates: []engine.AggregateDef{{Name: "paths", GroupBy: []string{"path"}, OrderBy: []string{"n"}, Sum: "n", Ranked: true}},
	}
	return []engine.Schema{schema, {Tables: []engine.TableDef{more, schema.Tables[1]}}}
}()

// mark is one commit of a process, as it is stored and as it is told.
type mark struct{ worker, call, n int }

// marks reads what is there and fails unless it is a beginning.
func marks(db *engine.DB) (out []mark, err error) {
	_, err = db.Query(context.Background(), "test", func(tx *engine.Tx) error {
		hot := 0
		for d, err := range tx.Scan(db.Table("counters").Index("by_name"), eq("hot"), false) {
			if err != nil {
				return err
			}
			hot = killNumber(d, "n")
		}
		for d, err := range tx.Scan(db.Table("views").Index(engine.IndexByID), all, false) {
			if err != nil {
				return err
			}
			out = append(out, mark{killNumber(d, "worker"), killNumber(d, "call"), killNumber(d, "n")})
		}
		slices.SortFunc(out, func(a, b mark) int { return a.n - b.n })
		for i, m := range out {
			if m.n != i+1 {
				return fmt.Errorf("the commits from %d on are there, and number %d is not", m.n, i+1)
			}
		}
		if hot != len(out) {
			return fmt.Errorf("the hot document has counted %d commits, %d are there", hot, len(out))
		}
		return nil
	})
	return out, err
}

func killNumber(d engine.Document, field string) int {
	n, _ := d.Fields.Get(field).AsFloat64()
	return int(n)
}

// inspect fails unless a database is whole.
func inspect(db *engine.DB) ([]mark, error) {
	r, err := db.Verify(context.Background())
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	if !r.OK() {
		return nil, fmt.Errorf("verify: %d faults, the first ones %v", r.FaultsTotal, r.Faults[:min(3, len(r.Faults))])
	}
	return marks(db)
}

// writeUntilKilled is what a process does: it tells what it has found, and then
// each commit that was acknowledged, a line each.
func writeUntilKilled(dir string) {
	if err := writeOn(dir); err != nil {
		fmt.Println("fault:", err)
	}
}

func writeOn(dir string) error {
	seed, err := strconv.ParseUint(os.Getenv(killSeed), 10, 64)
	if err != nil {
		return err
	}
	acked, err := strconv.Atoi(os.Getenv(killAcked))
	if err != nil {
		return err
	}
	rng := rand.New(rand.NewPCG(seed, 1))
	fmt.Println("opening")
	db, err := engine.Open(filepath.Join(dir, "db"), killSchemas[rng.IntN(2)], nil)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	there, err := inspect(db)
	if err != nil {
		return err
	}
	if len(there) < acked {
		return fmt.Errorf("number %d was acknowledged, %d commits are there", acked, len(there))
	}
	next := map[int]int{}
	for _, m := range there {
		next[m.worker] = max(next[m.worker], m.call+1)
	}
	fmt.Println("open with", len(there))
	var mu sync.Mutex
	var wg sync.WaitGroup
	failed := make(chan error, killWorkers+1)
	for w := range killWorkers {
		own := rand.New(rand.NewPCG(seed, uint64(2+w)))
		wg.Go(func() {
			// The last call that is known is sent again: its outcome is known too.
			for call := max(0, next[w]-1); ; call++ {
				size := 0
				if own.IntN(8) == 0 {
					size = own.IntN(100_000)
				}
				n, replayed, err := killCommit(db, w, call, size)
				if err == nil && replayed != (call < next[w]) {
					err = fmt.Errorf("call %d/%d, there before: %v, was replayed: %v", w, call, call < next[w], replayed)
				}
				if err != nil {
					failed <- err
					return
				}
				mu.Lock()
				fmt.Println("acked", w, call, n)
				mu.Unlock()
			}
		})
	}
	wg.Go(func() { failed <- upkeep(db, dir, rng) })
	return <-failed // which only a fault sends, and then the process ends
}

// killCommit makes one commit of at least that size and returns its number.
func killCommit(db *engine.DB, worker, call, size int) (n int, replayed bool, err error) {
	views, counters := db.Table("views"), db.Table("counters")
	doc := fields("worker", worker, "call", call, "path", fmt.Sprint("/", call%5), "text", strings.Repeat("x", size))
	r, err := db.Mutate(context.Background(), engine.Call{Name: "kill", Once: true, Client: client(worker), Request: uint32(call)}, func(tx *engine.Tx) ([]byte, error) {
		n := 1
		for d, err := range tx.Scan(counters.Index("by_name"), eq("hot"), false) {
			if err != nil {
				return nil, err
			}
			n = killNumber(d, "n") + 1
			if err := tx.Patch(counters, d.ID, fields("n", n)); err != nil {
				return nil, err
			}
		}
		if n == 1 {
			if err := mustInsert(tx, counters, fields("name", "hot", "n", n)); err != nil {
				return nil, err
			}
		}
		return strconv.AppendInt(nil, int64(n), 10), mustInsert(tx, views, value.Patched(doc, fields("n", n)))
	})
	if err != nil {
		return 0, false, fmt.Errorf("call %d/%d: %w", worker, call, err)
	}
	n, err = strconv.Atoi(string(r.Result))
	return n, r.Replayed, err
}

// upkeep copies, compacts and changes the schema all the time.
func upkeep(db *engine.DB, dir string, rng *rand.Rand) error {
	ctx := context.Background()
	for {
		var err error
		switch rng.IntN(4) {
		case 0:
			_, err = db.Checkpoint(ctx, filepath.Join(dir, fmt.Sprint("copy-", rng.Uint32())))
		case 1:
			err = db.Compact(ctx)
		default:
			err = db.Evolve(ctx, killSchemas[rng.IntN(2)])
		}
		if err != nil {
			return err
		}
	}
}

// acknowledged returns the commits that a process has told of.
func acknowledged(lines []string) (out []mark) {
	for _, line := range lines {
		var m mark
		if n, err := fmt.Sscanf(line, "acked %d %d %d", &m.worker, &m.call, &m.n); n == 3 && err == nil {
			out = append(out, m)
		}
	}
	return out
}

// victim is a process that writes until it is killed.
type victim struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	said  []string
}

func startVictim(t *testing.T, self, dir string, seed uint64, acked int) *victim {
	t.Helper()
	v := &victim{cmd: exec.Command(self)}
	v.cmd.Env = append(os.Environ(), killFolder+"="+dir, fmt.Sprint(killSeed, "=", seed), fmt.Sprint(killAcked, "=", acked))
	out, err := v.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	v.cmd.Stderr = v.cmd.Stdout
	v.lines = bufio.NewScanner(out)
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return v
}

// kill ends the process after it has said so many lines, and returns all it has
// said. A process that ends by itself has found a fault.
func (v *victim) kill(lines int) ([]string, error) {
	for len(v.said) < lines && v.lines.Scan() {
		v.said = append(v.said, v.lines.Text())
	}
	early := len(v.said) < lines
	_ = v.cmd.Process.Kill() // SIGKILL; it may have ended
	for v.lines.Scan() {
		v.said = append(v.said, v.lines.Text())
	}
	err := v.lines.Err()
	if errors.Is(err, os.ErrClosed) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	_ = v.cmd.Wait() // killed
	for _, line := range v.said {
		if strings.HasPrefix(line, "fault:") {
			return v.said, errors.New(line)
		}
	}
	if early {
		return v.said, fmt.Errorf("it ended by itself after %d lines:\n%s", len(v.said), strings.Join(v.said[max(0, len(v.said)-20):], "\n"))
	}
	return v.said, err
}

// TestKill kills processes while they open a folder, commit, copy, compact and
// build indexes. The next one finds all that was acknowledged and nothing but a
// beginning of the order of commits, and goes on.
func TestKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	seed := newSeed(t)
	const folders = 4
	t.Run("all", func(t *testing.T) {
		for folder := range folders {
			t.Run(fmt.Sprint(folder), func(t *testing.T) {
				t.Parallel()
				killInFolder(t, self, rand.New(rand.NewPCG(seed, uint64(folder))), (*kills+folders-1-folder)/folders)
			})
		}
	})
}

func killInFolder(t *testing.T, self string, rng *rand.Rand, n int) {
	dir := t.TempDir()
	acked := map[mark]bool{}
	newest, whileOpening := 0, 0
	for i := range n {
		// Lines 1 and 2 are said before and after the opening.
		lines := []int{1, 2 + rng.IntN(4), 2 + rng.IntN(60), 2 + rng.IntN(60)}[rng.IntN(4)]
		said, err := startVictim(t, self, dir, rng.Uint64(), newest).kill(lines)
		if err != nil {
			t.Fatalf("process %d: %v", i+1, err)
		}
		if len(said) < 2 {
			whileOpening++
		}
		// The last line may be cut off; then it is not known to be whole.
		for _, m := range acknowledged(said[:max(0, len(said)-1)]) {
			acked[m] = true
			newest = max(newest, m.n)
		}
	}
	check := func(what, dir string, acked map[mark]bool) {
		t.Helper()
		db, err := engine.Open(dir, killSchemas[rng.IntN(2)], nil)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		there, err := inspect(db)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		calls := map[[2]int]int{}
		for _, m := range there {
			if first, twice := calls[[2]int{m.worker, m.call}]; twice {
				t.Errorf("%s: call %d/%d was executed as number %d and as %d", what, m.worker, m.call, first, m.n)
			}
			calls[[2]int{m.worker, m.call}] = m.n
		}
		for m := range acked {
			if n := calls[[2]int{m.worker, m.call}]; n != m.n {
				t.Errorf("%s: call %d/%d was acknowledged as number %d, there it is %d", what, m.worker, m.call, m.n, n)
			}
		}
		if err := db.Close(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		t.Logf("%s: %d commits, of which %d were acknowledged to somebody", what, len(there), len(acked))
	}
	check("in the end", filepath.Join(dir, "db"), acked)
	copies, err := filepath.Glob(filepath.Join(dir, "copy-*"))
	if err != nil {
		t.Fatal(err)
	}
	// A copy has its name only when it is whole.
	whole := 0
	for _, c := range copies {
		if strings.Trim(filepath.Base(c), "copy-0123456789") == "" && whole < 5 {
			check("copy", c, nil)
			whole++
		}
	}
	t.Logf("%d processes, %d of them killed while opening; %d commits acknowledged, %d copies", n, whileOpening, len(acked), len(copies))
	if n >= 10 && (len(acked) < n || whileOpening == 0) {
		t.Errorf("%d kills are no torture: %d acknowledged commits, %d openings cut off", n, len(acked), whileOpening)
	}
}
