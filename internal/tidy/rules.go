package tidy

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

// linesMax is the length of a file that is too long by one.
const linesMax = 800

// Length finds files that are too long to be read in one go.
func Length(t *Tree) []Problem {
	var out []Problem
	for _, name := range t.Names {
		switch path.Ext(name) {
		case ".go", ".ts", ".sh":
		default:
			continue
		}
		if generated(name) {
			continue
		}
		if n := bytes.Count(t.Files[name], []byte("\n")); n >= linesMax {
			out = append(out, Problem{name, 0, fmt.Sprintf("%d lines. Split it by what is inside, so that each file is under %d and named for its thing.", n, linesMax)})
		}
	}
	return out
}

// Names finds packages with names that say nothing.
func Names(t *Tree) []Problem {
	var out []Problem
	seen := map[string]bool{}
	for _, f := range t.Go {
		name := strings.TrimSuffix(f.Syntax.Name.Name, "_test")
		bad := slices.Contains([]string{"util", "utils", "common", "helpers", "base", "types"}, name)
		if bad && !seen[f.Dir] {
			seen[f.Dir] = true
			out = append(out, Problem{f.Name, f.line(f.Syntax.Package), fmt.Sprintf("package %s. Name it with one noun for what it owns, or move what is in it to where it is used.", name)})
		}
	}
	return out
}

// Explicit finds what happens by importing alone: init functions and blank
// imports. Tests may have them, and so may embed, which needs a blank import.
func Explicit(t *Tree) []Problem {
	var out []Problem
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		for name, spec := range f.imports {
			if spec.Name != nil && spec.Name.Name == "_" && name != "embed" {
				out = append(out, Problem{f.Name, f.line(spec.Pos()), fmt.Sprintf("blank import of %s. Import what you use and register it by a call.", name)})
			}
		}
		for _, decl := range f.Syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				out = append(out, Problem{f.Name, f.line(fn.Pos()), "func init. Do it in a constructor that somebody calls, or in a sync.OnceValue."})
			}
		}
	}
	return out
}

// machines are the packages that are stepped from outside: the same events
// give the same effects, so nothing in them may run, wait or look at a clock.
var machines = []string{"engine/internal/commit", "engine/internal/live"}

// clockCalls are the functions of package time that look at a clock or wait.
var clockCalls = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}

// Machines finds concurrency and clocks in the stepped machines.
func Machines(t *Tree) []Problem {
	var out []Problem
	for _, f := range t.Go {
		if f.Test || !slices.Contains(machines, f.Dir) {
			continue
		}
		report := func(at token.Pos, what string) {
			out = append(out, Problem{f.Name, f.line(at), fmt.Sprintf("%s in a stepped machine. Take it as an argument of the event, or return it as an effect for the driver in package engine.", what)})
		}
		timeName := ""
		for name, spec := range f.imports {
			switch {
			case below(name, "sync", "context", "math/rand", "math/rand/v2", "crypto/rand"):
				report(spec.Pos(), "import of "+name)
			case name == "time":
				timeName = "time"
				if spec.Name != nil {
					timeName = spec.Name.Name
				}
			}
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				report(n.Pos(), "go statement")
			case *ast.ChanType:
				report(n.Pos(), "channel")
			case *ast.SendStmt:
				report(n.Pos(), "send on a channel")
			case *ast.SelectStmt:
				report(n.Pos(), "select")
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && timeName != "" && x.Name == timeName && slices.Contains(clockCalls, n.Sel.Name) {
					report(n.Pos(), "time."+n.Sel.Name)
				}
			}
			return true
		})
	}
	return out
}

// Docs finds packages without a package comment in doc.go. A main package may
// have it in main.go.
func Docs(t *Tree) []Problem {
	type room struct {
		name, first string
		documented  bool
	}
	rooms := map[string]*room{}
	var dirs []string
	var out []Problem
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		r := rooms[f.Dir]
		if r == nil {
			r = &room{name: f.Syntax.Name.Name, first: f.Name}
			rooms[f.Dir] = r
			dirs = append(dirs, f.Dir)
		}
		if f.Syntax.Doc == nil {
			continue
		}
		base := path.Base(f.Name)
		if base != "doc.go" && (r.name != "main" || base != "main.go") {
			out = append(out, Problem{f.Name, f.line(f.Syntax.Doc.Pos()), "a package comment outside of doc.go. Move it there: a package has one."})
			continue
		}
		r.documented = true
		if r.name == "main" {
			continue
		}
		if want := "Package " + r.name + " "; !strings.HasPrefix(f.Syntax.Doc.Text(), want) {
			out = append(out, Problem{f.Name, f.line(f.Syntax.Doc.Pos()), fmt.Sprintf("the package comment does not begin with %q. Write a first sentence that works alone in a list.", want)})
		}
	}
	for _, dir := range dirs {
		if r := rooms[dir]; !r.documented {
			out = append(out, Problem{path.Join(dir, "doc.go"), 0, fmt.Sprintf("package %s has no package comment there. Say what it owns, its main types, their life and the caveats.", r.name)})
		}
	}
	return out
}

// Written in two parts, since this file is checked too.
const (
	toFix = "FIX" + "ME"
	toDo  = "TO" + "DO"
)

var (
	toFixWord  = regexp.MustCompile(`\b` + toFix + `\b`)
	toDoWord   = regexp.MustCompile(`\b` + toDo + `\b`)
	toDoByName = regexp.MustCompile(`\b` + toDo + `\([a-z][a-z0-9-]*\): \S`)
)

// Leftovers finds notes of unfinished work that nobody has put a name to.
func Leftovers(t *Tree) []Problem {
	var out []Problem
	for _, name := range t.Names {
		if !source(name) || generated(name) {
			continue
		}
		for i, line := range strings.Split(string(t.Files[name]), "\n") {
			if toFixWord.MatchString(line) {
				out = append(out, Problem{name, i + 1, toFix + ". Fix it before it comes here."})
			}
			if toDoWord.MatchString(line) && !toDoByName.MatchString(line) {
				out = append(out, Problem{name, i + 1, toDo + " without a name. Write " + toDo + "(name): reason, or do it."})
			}
		}
	}
	return out
}

// source reports whether a file is written by hand as code.
func source(name string) bool {
	switch path.Ext(name) {
	case ".go", ".ts", ".js", ".mjs", ".sh", ".css", ".html", ".mod":
		return true
	}
	return strings.HasPrefix(name, ".ci/")
}

// machinePaths match what is true on one machine only. Their texts are in
// pieces, since this file is checked too.
var machinePaths = []struct {
	is   *regexp.Regexp
	what string
}{
	{regexp.MustCompile("(^|[^a-zA-Z0-9_.)}-])/(wo" + "rk|ro" + "ot|tmp/h" + "c)/"), "a path of one machine. Write it from the root of the repository, or take it as a flag"},
	{regexp.MustCompile("registry" + `\.npmjs\.org|proxy` + `\.golang\.org|sum` + `\.golang\.org`), "the address of a package registry. Leave it to the settings of whoever builds"},
	{regexp.MustCompile(`"resol` + `ved": "[a-z+]+://`), "a download address in a lock file. Remove it: web/.npmrc has the setting that leaves them out"},
	{regexp.MustCompile(`^\s*(@[\w-]+:)?regis` + `try\s*=`), "a registry in the settings of a package manager. Leave it to whoever builds"},
}

// Places finds paths of one machine and addresses of package registries.
func Places(t *Tree) []Problem {
	var out []Problem
	for _, name := range t.Names {
		text := t.Files[name]
		if bytes.IndexByte(text, 0) >= 0 {
			continue // not a text
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, p := range machinePaths {
				if p.is.MatchString(line) {
					out = append(out, Problem{name, i + 1, p.what + "."})
				}
			}
		}
	}
	return out
}

// Formatted finds Go files that gofmt would change.
func Formatted(t *Tree) []Problem {
	var out []Problem
	for _, f := range t.Go {
		want, err := format.Source(f.Source)
		if err != nil {
			out = append(out, Problem{f.Name, 0, fmt.Sprintf("it can't be formatted: %v.", err)})
			continue
		}
		if !bytes.Equal(want, f.Source) {
			out = append(out, Problem{f.Name, 0, "not formatted. Run gofmt -w on it."})
		}
	}
	return out
}
