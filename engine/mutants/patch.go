package mutants

import (
	"errors"
	"fmt"
	"strings"
)

// Mutant is one planted bug.
type Mutant struct {
	// Says is what the bug does.
	Says string
	// Caught lists the tests that must notice it: a package, and the arguments of
	// its test binary.
	Caught []Command
	files  []filePatch
}

// Command is how a test is run.
type Command struct {
	Package string
	Args    []string
}

func (c Command) String() string { return c.Package + " " + strings.Join(c.Args, " ") }

// filePatch is the change of one file.
type filePatch struct {
	name  string
	hunks []hunk
}

// hunk replaces lines by others, those around them included in both.
type hunk struct{ old, fresh []string }

// caughtBy begins the line that names a test.
const caughtBy = "Caught by "

// Parse reads a mutant.
func Parse(text string) (*Mutant, error) {
	m := &Mutant{}
	head, diff, ok := strings.Cut("\n"+text, "\n--- ")
	if !ok {
		return nil, errors.New("it changes no file")
	}
	var says []string
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, caughtBy); ok {
			words := strings.Fields(rest)
			m.Caught = append(m.Caught, Command{Package: words[0], Args: words[1:]})
		} else if line != "" {
			says = append(says, line)
		}
	}
	m.Says = strings.Join(says, " ")
	switch {
	case m.Says == "":
		return nil, errors.New("it does not say what the bug does")
	case len(m.Caught) == 0:
		return nil, fmt.Errorf("no line begins with %q", caughtBy)
	}
	return m, m.parseDiff("--- " + diff)
}

func (m *Mutant) parseDiff(diff string) error {
	var at *hunk
	for line := range strings.Lines(diff) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "diff "), strings.HasPrefix(line, "index "), strings.HasPrefix(line, "--- "):
			at = nil
		case strings.HasPrefix(line, "+++ b/"):
			m.files = append(m.files, filePatch{name: strings.TrimPrefix(line, "+++ b/")})
		case strings.HasPrefix(line, "@@"):
			if len(m.files) == 0 {
				return errors.New("a hunk of no file")
			}
			f := &m.files[len(m.files)-1]
			f.hunks = append(f.hunks, hunk{})
			at = &f.hunks[len(f.hunks)-1]
		case at == nil:
			return fmt.Errorf("line %q belongs to no hunk", line)
		case strings.HasPrefix(line, "-"):
			at.old = append(at.old, line[1:])
		case strings.HasPrefix(line, "+"):
			at.fresh = append(at.fresh, line[1:])
		default: // an empty line may have lost its space
			line = strings.TrimPrefix(line, " ")
			at.old, at.fresh = append(at.old, line), append(at.fresh, line)
		}
	}
	for _, f := range m.files {
		if len(f.hunks) == 0 {
			return fmt.Errorf("%s has no hunk", f.name)
		}
	}
	if len(m.files) == 0 {
		return errors.New("it changes no file")
	}
	return nil
}

// Apply returns the files with the bug, by name. read gives a file as it is.
func (m *Mutant) Apply(read func(name string) (string, error)) (map[string]string, error) {
	out := map[string]string{}
	for _, f := range m.files {
		text, err := read(f.name)
		if err != nil {
			return nil, err
		}
		text = "\n" + text
		for i, h := range f.hunks {
			old, fresh := block(h.old), block(h.fresh)
			switch at := strings.Index(text, old); {
			case at < 0:
				return nil, fmt.Errorf("hunk %d of %s: its lines are not there:%s", i+1, f.name, old)
			case strings.LastIndex(text, old) != at: // Count does not see those that share a newline
				return nil, fmt.Errorf("hunk %d of %s: its lines are there more than once:%s", i+1, f.name, old)
			}
			text = strings.Replace(text, old, fresh, 1)
		}
		out[f.name] = text[1:]
	}
	return out, nil
}

// block is lines as they stand in a file that begins with a newline. Its first
// and last newline belong to the lines around it as well.
func block(lines []string) string { return "\n" + strings.Join(lines, "\n") + "\n" }
