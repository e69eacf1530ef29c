package tidy

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// Problem is one place that breaks a rule, and what to do about it.
type Problem struct {
	File string // from the root of the repository
	Line int    // 0 when it is about the file as a whole
	Text string // what is wrong, then what to do
}

// String returns the problem as one line.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// Tree is the files of a repository, those that git would not ignore.
type Tree struct {
	Names []string // of all files, sorted
	Files map[string][]byte
	Go    []*GoFile // sorted by name

	mods []module // those with the longest path first
}

// GoFile is one parsed Go file.
type GoFile struct {
	Name   string // from the root of the repository
	Dir    string // its folder, "." for the root
	Test   bool
	Source []byte
	Syntax *ast.File

	set *token.FileSet
}

// line returns the line of a position in the file.
func (f *GoFile) line(at token.Pos) int { return f.set.Position(at).Line }

// imports returns the paths that the file imports, with their lines.
func (f *GoFile) imports(yield func(path string, spec *ast.ImportSpec) bool) {
	for _, spec := range f.Syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err == nil && !yield(name, spec) {
			return
		}
	}
}

// module is a Go module of the repository.
type module struct{ dir, path string }

// Load reads a tree and parses its Go files.
func Load(root fs.FS) (*Tree, error) {
	t := &Tree{Files: map[string][]byte{}}
	if err := t.walk(root, ".", nil); err != nil {
		return nil, err
	}
	slices.Sort(t.Names)
	for _, name := range t.Names {
		if path.Base(name) == "go.mod" && !generated(name) {
			mod, err := parseMod(t.Files[name])
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			t.mods = append(t.mods, module{path.Dir(name), mod.path})
		}
		if path.Ext(name) != ".go" || generated(name) {
			continue
		}
		f := &GoFile{Name: name, Dir: path.Dir(name), Test: strings.HasSuffix(name, "_test.go"), Source: t.Files[name], set: token.NewFileSet()}
		var err error
		if f.Syntax, err = parser.ParseFile(f.set, name, f.Source, parser.ParseComments); err != nil {
			return nil, fmt.Errorf("parse: %w", err)
		}
		t.Go = append(t.Go, f)
	}
	slices.SortFunc(t.mods, func(a, b module) int { return len(b.path) - len(a.path) })
	return t, nil
}

// walk adds the files below dir. ignored holds the patterns of the folders above.
func (t *Tree) walk(root fs.FS, dir string, ignored []ignore) error {
	switch text, err := fs.ReadFile(root, path.Join(dir, ".gitignore")); {
	case err == nil:
		more, err := parseIgnore(dir, string(text))
		if err != nil {
			return err
		}
		ignored = slices.Concat(ignored, more)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	entries, err := fs.ReadDir(root, dir)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		return nil // gone since the folder above was read, as folders of tests are
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := path.Join(dir, entry.Name())
		if entry.Name() == ".git" || slices.ContainsFunc(ignored, func(i ignore) bool { return i.matches(name, entry.IsDir()) }) {
			continue
		}
		switch {
		case entry.IsDir():
			if err := t.walk(root, name, ignored); err != nil {
				return err
			}
		case entry.Type().IsRegular():
			text, err := fs.ReadFile(root, name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // gone since the folder was read, as files of tests are
			}
			if err != nil {
				return err
			}
			t.Names = append(t.Names, name)
			t.Files[name] = text
		}
	}
	return nil
}

// ignore is one pattern of a .gitignore file.
type ignore struct {
	dir      string // where the file stands
	pattern  string
	anchored bool // it is about dir itself, not about what is below
	folders  bool // it is about folders only
}

// parseIgnore reads as much of the language of .gitignore as is used here.
func parseIgnore(dir, text string) ([]ignore, error) {
	var out []ignore
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		i := ignore{dir: dir, pattern: strings.Trim(line, "/"), folders: strings.HasSuffix(line, "/")}
		i.anchored = strings.Contains(strings.TrimSuffix(line, "/"), "/")
		if _, err := path.Match(i.pattern, ""); err != nil || line[0] == '!' || strings.Contains(line, "**") {
			return nil, fmt.Errorf("%s: the pattern %q is of a kind that package tidy does not read. Write a simpler one, or teach parseIgnore", path.Join(dir, ".gitignore"), line)
		}
		out = append(out, i)
	}
	return out, nil
}

func (i ignore) matches(name string, folder bool) bool {
	if i.folders && !folder {
		return false
	}
	if i.anchored {
		if i.dir != "." {
			name = strings.TrimPrefix(name, i.dir+"/")
		}
	} else {
		name = path.Base(name)
	}
	ok, _ := path.Match(i.pattern, name) // parseIgnore has checked the pattern
	return ok
}

// generated reports whether a file is made by a program or is data of tests.
func generated(name string) bool {
	for _, part := range strings.Split(path.Dir(name), "/") {
		if part == "testdata" || part == "dist" {
			return true
		}
	}
	return false
}

// inside returns the folder of an imported package of this repository.
func (t *Tree) inside(importPath string) (dir string, ok bool) {
	for _, m := range t.mods {
		if rest, ok := strings.CutPrefix(importPath, m.path); ok && (rest == "" || rest[0] == '/') {
			return path.Join(m.dir, strings.TrimPrefix(rest, "/")), true
		}
	}
	return "", false
}

// standard reports whether a package is of the standard library.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

// below reports whether dir is one of the folders or lies below one.
func below(dir string, folders ...string) bool {
	for _, folder := range folders {
		if dir == folder || strings.HasPrefix(dir, folder+"/") {
			return true
		}
	}
	return false
}
