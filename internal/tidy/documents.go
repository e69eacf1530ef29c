package tidy

import (
	"encoding/json"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// dependenciesFile has a line for every direct dependency.
const dependenciesFile = "docs/dependencies.md"

// documentedName is the first cell of a row of the tables in there.
var documentedName = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// Dependencies compares the direct dependencies of all Go modules and npm
// packages with the document that gives their reasons. Direct is what a go.mod
// file or package.json says, and what is imported whatever go.mod says. A line
// may stay as long as some go.mod file names its module in any way.
func Dependencies(t *Tree) ([]Problem, error) {
	type use struct {
		file string
		line int
	}
	used := map[string]use{}
	named := map[string]bool{}
	add := func(name, file string, line int) {
		if _, known := used[name]; !known {
			used[name] = use{file, line}
		}
	}
	for _, name := range t.Names {
		if path.Base(name) == "package.json" {
			var p struct {
				Dependencies    map[string]string
				DevDependencies map[string]string
			}
			if err := json.Unmarshal(t.Files[name], &p); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for _, list := range []map[string]string{p.Dependencies, p.DevDependencies} {
				for dependency := range list {
					add("npm "+dependency, name, 0)
				}
			}
		}
		if path.Base(name) != "go.mod" || generated(name) {
			continue
		}
		mod, err := parseMod(t.Files[name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		direct := func(importPath string) {
			if _, ours := t.inside(importPath); ours || standard(importPath) {
				return
			}
			if r, ok := mod.provider(importPath); ok {
				add(r.path, name, r.line)
			}
		}
		for _, r := range mod.requires {
			named[r.path] = true
			if _, ours := t.inside(r.path); !r.indirect && !ours {
				add(r.path, name, r.line)
			}
		}
		for _, tool := range mod.tools {
			direct(tool)
		}
		for _, f := range t.Go {
			if t.moduleOf(f.Dir) == path.Dir(name) {
				for importPath := range f.imports {
					direct(importPath)
				}
			}
		}
	}
	documented := map[string]bool{}
	for _, match := range documentedName.FindAllStringSubmatch(string(t.Files[dependenciesFile]), -1) {
		documented[match[1]] = true
	}
	var out []Problem
	for name, u := range used {
		if !documented[name] {
			out = append(out, Problem{u.file, u.line, fmt.Sprintf("%s has no line in %s. Say there why we have it, what it brings and how we would leave it.", name, dependenciesFile)})
		}
	}
	for name := range documented {
		if _, ok := used[name]; !ok && !named[name] {
			out = append(out, Problem{dependenciesFile, 0, fmt.Sprintf("%s is used by nothing. Remove its line.", name)})
		}
	}
	slices.SortFunc(out, func(a, b Problem) int { return strings.Compare(a.String(), b.String()) })
	return out, nil
}

// moduleOf returns the folder of the Go module that a folder belongs to.
func (t *Tree) moduleOf(dir string) string {
	best := ""
	for _, m := range t.mods {
		if (m.dir == "." || below(dir, m.dir)) && len(m.dir) > len(best) {
			best = m.dir
		}
	}
	return best
}

// link is a link or an image of Markdown.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// fence is a block of code in Markdown.
var fence = regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]+`")

// Links finds links in the documents that lead to no file. The site's content
// is left out: its links are addresses of the site.
func Links(t *Tree) []Problem {
	exists := map[string]bool{".": true}
	for _, name := range t.Names {
		for at := name; at != "."; at = path.Dir(at) {
			exists[at] = true
		}
	}
	var out []Problem
	for _, name := range t.Names {
		if path.Ext(name) != ".md" || generated(name) || below(name, "content") {
			continue
		}
		text := fence.ReplaceAllStringFunc(string(t.Files[name]), func(code string) string {
			return strings.Repeat("\n", strings.Count(code, "\n"))
		})
		for i, line := range strings.Split(text, "\n") {
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				to, _, _ := strings.Cut(match[1], "#")
				if to == "" || strings.Contains(to, ":") {
					continue
				}
				if !exists[path.Join(path.Dir(name), to)] {
					out = append(out, Problem{name, i + 1, fmt.Sprintf("the link to %s leads nowhere. Write it from the folder of this file.", to)})
				}
			}
		}
	}
	return out
}

// quote is a block of code in a document that says which file it is of.
var quote = regexp.MustCompile("(?ms)^<!-- the whole of ([^ \n]+) -->\n+```[a-z]*\n(.*?)^```$")

// Quotes finds code in documents that is no longer that of the file it names.
// A leading comment of the file may be left out.
func Quotes(t *Tree) []Problem {
	var out []Problem
	for _, name := range t.Names {
		if path.Ext(name) != ".md" || generated(name) {
			continue
		}
		text := string(t.Files[name])
		for _, at := range quote.FindAllStringSubmatchIndex(text, -1) {
			file, shown := text[at[2]:at[3]], text[at[4]:at[5]]
			whole, ok := t.Files[file]
			if !ok || !strings.HasSuffix("\n"+string(whole), "\n"+shown) || !commentsOnly(strings.TrimSuffix(string(whole), shown)) {
				line := 1 + strings.Count(text[:at[0]], "\n")
				out = append(out, Problem{name, line, fmt.Sprintf("the code below is not that of %s. Copy it from there again.", file)})
			}
		}
	}
	return out
}

func commentsOnly(text string) bool {
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "//") {
			return false
		}
	}
	return true
}
