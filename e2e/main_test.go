package e2e

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

var (
	long    = flag.Bool("e2e.long", false, "wait for the real timeouts too, which takes minutes")
	scripts = flag.Int("e2e.scripts", 25, "how many random scripts of clients are played; a fifth of them over a bad network too")
	seed    = flag.Uint64("e2e.seed", 0, "seed of the random moments; 0 takes another in each run")
)

// binaries is the folder of the programs that the tests build.
var binaries string

func TestMain(m *testing.M) {
	flag.Parse()
	if runtime.GOOS == "windows" {
		fmt.Println("e2e: these tests need the signals of Unix; skipped")
		return
	}
	os.Exit(runAll(m))
}

// runAll is TestMain with its defers run.
func runAll(m *testing.M) int {
	dir, err := os.MkdirTemp("", "halcyon-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binaries = dir
	return m.Run()
}

// program is one that the tests build, once and when the first test asks.
type program struct {
	build func() (path string, err error)
}

// path returns where the built program is.
func (p program) path(t testing.TB) string {
	t.Helper()
	path, err := p.build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// newProgram returns the program of the package in a folder. The folder may be
// in another module.
func newProgram(dir string) program {
	return program{sync.OnceValues(func() (string, error) {
		if err := openSources(); err != nil {
			return "", err
		}
		path := filepath.Join(binaries, filepath.Base(dir))
		cmd := exec.Command("go", "build", "-o", path, ".")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go build in %s: %w\n%s", dir, err, out)
		}
		return path, nil
	})}
}

// openSources opens every folder of the repository that may hold sources. What
// a test opens is what go test looks at when it decides whether an earlier
// result still stands, and it can't see what the programs are made of that the
// tests build.
var openSources = sync.OnceValue(func() error {
	return filepath.WalkDir(repository, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && !entry.IsDir() {
			return nil // folders of other tests come and go
		}
		if err != nil {
			return err
		}
		switch name := entry.Name(); {
		case name == "node_modules", name == "halcyon-data", strings.HasPrefix(name, ".") && path != repository:
			return fs.SkipDir
		}
		folder, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return folder.Close()
	})
})

var (
	halcyon   = newProgram("../cmd/halcyon")
	guestbook = newProgram("../examples/guestbook")
	fixture   = newProgram("testdata/fixture")
)

// lacking skips the test because something is missing on this machine, or fails
// it where everything has to be there.
func lacking(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("HALCYON_E2E") == "required" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s is not available: %v", what, err)
}

// newRand returns the source of the random moments of a test, and says how to
// have the same again.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	s := *seed
	if s == 0 {
		s = rand.Uint64() >> 1
	}
	t.Logf("-e2e.seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// patience is how long a test waits for what has to happen. The machine may be
// slow, and busy with all the other tests, so it is long; nothing is measured by it.
const patience = 90 * time.Second

// errLate is that of a wait that took longer than patience.
var errLate = errors.New("it took too long")

// poll calls done until it reports true, and otherwise fails the test with what
// it last said. It is for what can only be asked for, not waited on.
func poll(t testing.TB, what string, done func() (ok bool, state string)) {
	t.Helper()
	pollFor(t, patience, what, done)
}

// pollFor is poll for what may take another time.
func pollFor(t testing.TB, limit time.Duration, what string, done func() (ok bool, state string)) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		ok, state := done()
		if ok {
			return
		}
		select {
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("%s: %v; the last was %s", what, errLate, state)
		case <-t.Context().Done():
			t.Fatalf("%s: the test has ended; the last was %s", what, state)
		}
	}
}
