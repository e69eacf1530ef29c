package mutants

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

var which = flag.String("mutants", "", "compile and test these mutants, by name with commas between them, or \"all\"")

// root is the root of the repository, seen from this package.
const root = "../.."

func readFile(name string) (string, error) {
	b, err := os.ReadFile(filepath.Join(root, name))
	return string(b), err
}

// load reads all mutants.
func load(t *testing.T) map[string]*Mutant {
	t.Helper()
	names, err := filepath.Glob("testdata/*.patch")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*Mutant{}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse(string(b))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		out[strings.TrimSuffix(filepath.Base(name), ".patch")] = m
	}
	return out
}

// TestPatchesApply: each patch fits the code as it is, and three bugs at least
// are left to the simulation.
func TestPatchesApply(t *testing.T) {
	all := load(t)
	simulated := 0
	for name, m := range all {
		files, err := m.Apply(readFile)
		if err != nil {
			t.Errorf("%s no longer applies, see the package documentation: %v", name, err)
		}
		for file, text := range files {
			if was, _ := readFile(file); was == text {
				t.Errorf("%s changes nothing in %s", name, file)
			}
		}
		if slices.ContainsFunc(m.Caught, func(c Command) bool { return c.Package == "./engine/sim" }) {
			simulated++
		}
	}
	if len(all) < 10 || simulated < 3 {
		t.Errorf("%d bugs are planted, %d of them for the simulation to find; want 10 and 3", len(all), simulated)
	}
}

func TestParseRejects(t *testing.T) {
	const head = "It breaks.\n\nCaught by ./x\n\n"
	for name, text := range map[string]string{
		"empty":          "",
		"no diff":        head,
		"no sentence":    "Caught by ./x\n\n--- a/f\n+++ b/f\n@@\n-a\n+b\n",
		"no test":        "It breaks.\n\n--- a/f\n+++ b/f\n@@\n-a\n+b\n",
		"no hunk":        head + "--- a/f\n+++ b/f\n",
		"lines of none":  head + "--- a/f\n+++ b/f\n-a\n+b\n",
		"hunk of nobody": head + "--- a/f\n@@\n-a\n+b\n",
	} {
		if m, err := Parse(text); err == nil {
			t.Errorf("%s: parsed as %+v", name, m)
		}
	}
}

func TestApply(t *testing.T) {
	const patch = "It breaks.\n\nCaught by ./x -test.run=Y\n\n--- a/f\n+++ b/f\n@@ -9,9 +9,9 @@\n a\n-b\n+c\n d\n"
	m, err := Parse(patch)
	if err != nil {
		t.Fatal(err)
	}
	if m.Says != "It breaks." || len(m.Caught) != 1 || m.Caught[0].String() != "./x -test.run=Y" {
		t.Errorf("parsed %+v", m)
	}
	for _, c := range []struct{ name, file, want string }{
		{"in the middle", "x\na\nb\nd\ny\n", "x\na\nc\nd\ny\n"},
		{"the whole file", "a\nb\nd\n", "a\nc\nd\n"},
		{"twice", "a\nb\nd\na\nb\nd\n", ""},
		{"not at all", "a\nbb\nd\n", ""},
		{"another line around it", "a\nb\ne\n", ""},
		{"part of a line", "xa\nb\nd\n", ""},
	} {
		got, err := m.Apply(func(string) (string, error) { return c.file, nil })
		if (err != nil) != (c.want == "") || err == nil && got["f"] != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got["f"], err, c.want)
		}
	}
	if _, err := m.Apply(func(string) (string, error) { return "", os.ErrNotExist }); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is missing gives %v", err)
	}
}

// outcome is what became of a test binary.
type outcome struct {
	failed bool
	output string
	took   time.Duration
}

// bench compiles and runs tests of the tree with some of its files replaced.
type bench struct {
	dir     string // for what is compiled
	overlay string // empty for the tree as it is
}

// run compiles the test of a package and runs it.
func (b *bench) run(t *testing.T, c Command) outcome {
	t.Helper()
	binary := filepath.Join(b.dir, strings.ReplaceAll(c.Package, "/", "_")+".test")
	if _, err := os.Stat(binary); err != nil {
		args := []string{"test", "-c", "-o", binary}
		if b.overlay != "" {
			args = append(args, "-overlay", b.overlay)
		}
		build := exec.CommandContext(t.Context(), "go", append(args, c.Package)...)
		build.Dir = root
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%s does not compile: %v\n%s", c.Package, err, out)
		}
	}
	start := time.Now()
	run := exec.CommandContext(t.Context(), binary, append([]string{"-test.timeout=1m"}, c.Args...)...)
	run.Dir = filepath.Join(root, c.Package)
	out, err := run.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", c, err)
	}
	if strings.Contains(string(out), "no tests to run") {
		t.Fatalf("%s runs no test", c)
	}
	return outcome{failed: err != nil, output: string(out), took: time.Since(start).Round(10 * time.Millisecond)}
}

// plant writes the files of a mutant and their overlay to a folder.
func plant(t *testing.T, m *Mutant) *bench {
	t.Helper()
	files, err := m.Apply(readFile)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{dir: t.TempDir()}
	b.overlay = filepath.Join(b.dir, "overlay.json")
	replace := map[string]string{}
	for name, text := range files {
		from, err := filepath.Abs(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(b.dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[from] = to
	}
	j, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.overlay, j, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// reason returns the lines of a failed test's output that say what it found.
func reason(output string) string {
	for line := range strings.Lines(output) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "_test.go:") && !strings.Contains(line, "seed is") && !strings.Contains(line, "repeat with") || strings.HasPrefix(line, "panic:") {
			return line[:min(len(line), 200)]
		}
	}
	return output[:min(len(output), 200)]
}

// TestMutantsAreCaught plants one bug after the other. Each of the tests that a
// patch names must fail with the bug, and pass without it.
func TestMutantsAreCaught(t *testing.T) {
	if *which == "" {
		t.Skip("compiles the engine many times; run it with -mutants=all")
	}
	all := load(t)
	names := strings.Split(*which, ",")
	if *which == "all" {
		names = nil
		for name := range all {
			names = append(names, name)
		}
		slices.Sort(names)
	}
	healthy := &bench{dir: t.TempDir()}
	passed := map[string]bool{}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			m := all[name]
			if m == nil {
				t.Fatal("there is no such mutant")
			}
			broken := plant(t, m)
			for _, c := range m.Caught {
				if !passed[c.String()] {
					if o := healthy.run(t, c); o.failed {
						t.Fatalf("%s fails without the bug:\n%s", c, o.output)
					}
					passed[c.String()] = true
				}
				o := broken.run(t, c)
				if !o.failed {
					t.Errorf("%s\n%s does not notice, in %v", m.Says, c, o.took)
					continue
				}
				t.Logf("%s noticed in %v: %s", c, o.took, reason(o.output))
			}
		})
	}
}
