package tidy

import (
	"flag"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

var update = flag.Bool("update", false, "write testdata/arrows.txt from the sources")

const (
	root       = "../.."
	arrowsFile = "internal/tidy/testdata/arrows.txt"
)

func load(t *testing.T, files fs.FS) *Tree {
	t.Helper()
	tree, err := Load(files)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// repository reads this repository.
func repository(t *testing.T) *Tree {
	t.Helper()
	tree := load(t, os.DirFS(root))
	if len(tree.Go) < 100 || tree.Files["go.mod"] == nil {
		t.Fatalf("%s has %d Go files: this is not the repository", root, len(tree.Go))
	}
	return tree
}

func report(t *testing.T, problems []Problem) {
	t.Helper()
	for _, p := range problems {
		t.Error(p)
	}
}

func TestArrows(t *testing.T) {
	tree := repository(t)
	if *update {
		if err := os.WriteFile("testdata/arrows.txt", []byte(picture(tree.arrows())), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	report(t, Arrows(tree, arrowsFile))
}

func TestRules(t *testing.T) {
	tree := repository(t)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) { report(t, rule.find(tree)) })
	}
}

func TestDependencies(t *testing.T) {
	problems, err := Dependencies(repository(t))
	if err != nil {
		t.Fatal(err)
	}
	report(t, problems)
}

// rules are those that need nothing but the tree.
var rules = []struct {
	name string
	find func(*Tree) []Problem
}{
	{"Edges", Edges},
	{"Length", Length},
	{"Names", Names},
	{"Explicit", Explicit},
	{"Machines", Machines},
	{"Docs", Docs},
	{"Leftovers", Leftovers},
	{"Places", Places},
	{"Formatted", Formatted},
	{"Links", Links},
	{"Quotes", Quotes},
}

// module is the go.mod file of the trees below.
const mod = "module example.org/x\n\ngo 1.26.0\n\nrequire (\n\tgithub.com/cockroachdb/pebble/v2 v2.1.7\n\tgithub.com/google/go-cmp v0.7.0 // indirect\n\tgithub.com/rare/thing v1.0.0 // indirect\n)\n"

// tree makes a tree of a go.mod file and those given: names and texts.
func tree(t *testing.T, files ...string) *Tree {
	t.Helper()
	fsys := fstest.MapFS{"go.mod": {Data: []byte(mod)}}
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return load(t, fsys)
}

// found compares problems with what is wanted: the place of each and a part of
// its text.
func found(t *testing.T, problems []Problem, want ...string) {
	t.Helper()
	if len(want)%2 != 0 {
		t.Fatal("want is pairs")
	}
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	all := strings.Join(lines, "\n")
	if len(problems) != len(want)/2 {
		t.Errorf("%d problems, want %d:\n%s", len(problems), len(want)/2, all)
		return
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[2*i]+": ") || !strings.Contains(line, want[2*i+1]) {
			t.Errorf("problem %d is\n\t%s\nwant %s: ... %s", i, line, want[2*i], want[2*i+1])
		}
	}
}

func TestEdgesFindsForbiddenImports(t *testing.T) {
	tests := []struct {
		name, dir, imports string
		want               string // part of the reason; empty: allowed
	}{
		{"app to app", "apps/one", "example.org/x/apps/two", "apps never import apps"},
		{"app to its own part", "apps/one", "example.org/x/apps/one/internal/part", ""},
		{"app to halcyon", "apps/one", "example.org/x", ""},
		{"app to the server", "apps/one", "example.org/x/server", "on package halcyon"},
		{"app to the engine", "apps/one", "example.org/x/engine", "on package halcyon"},
		{"app to values", "apps/one", "example.org/x/engine/value", ""},
		{"component to the web", "component/one", "example.org/x/web", "only on package halcyon"},
		{"engine to HTTP", "engine", "net/http", "knows no network"},
		{"engine's inside to HTTP", "engine/internal/live", "net/http", "knows no network"},
		{"engine to an app author's package", "engine", "example.org/x", "no app"},
		{"engine to the server", "engine", "example.org/x/server", "no app"},
		{"server to the engine's inside", "server", "example.org/x/engine/internal/live", "belongs to the engine"},
		{"server to the engine", "server", "example.org/x/engine", ""},
		{"server to an app", "server", "example.org/x/apps/one", "no app"},
		{"halcyon to the server", ".", "example.org/x/server", "stands on the engine alone"},
		{"halcyon to values", ".", "example.org/x/engine/value", ""},
		{"value to the engine", "engine/value", "example.org/x/engine", "leaf"},
		{"value to others", "engine/value", "github.com/google/go-cmp/cmp", "leaf"},
		{"keys to value", "engine/internal/keys", "example.org/x/engine/value", "leaf"},
		{"protocol to value", "protocol", "example.org/x/engine/value", "leaf"},
		{"protocol to the standard library", "protocol", "encoding/json", ""},
		{"yjs to others", "yjs", "github.com/google/go-cmp/cmp", "standard library only"},
		{"yjs to itself", "yjs", "example.org/x/yjs/internal/lib0", ""},
		{"yjs to halcyon", "yjs", "example.org/x", "standard library only"},
		{"cli to an app", "cli", "example.org/x/apps/one", "cmd/halcyon/apps.go"},
		{"anything to a program", "server", "example.org/x/cmd/halcyon", "nothing stands on it"},
		{"Pebble outside of the store", "engine", "github.com/cockroachdb/pebble/v2", "only engine/internal/store"},
		{"Pebble's file system", "engine", "github.com/cockroachdb/pebble/v2/vfs", ""},
		{"WebSocket outside of the server", "cli", "github.com/lxzan/gws", "only the server"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			source := "package a\n\nimport \"" + tt.imports + "\"\n"
			dir := strings.TrimPrefix(tt.dir+"/", "./")
			problems := Edges(tree(t, dir+"a.go", source, dir+"a_test.go", source))
			switch {
			case tt.want == "" && len(problems) > 0:
				t.Errorf("forbidden: %v", problems)
			case tt.want != "" && len(problems) == 0:
				t.Error("allowed")
			}
			for _, p := range problems {
				if p.File != dir+"a.go" || p.Line != 3 {
					t.Errorf("found at %s:%d", p.File, p.Line)
				}
			}
			if tt.want != "" && !strings.Contains(problems[len(problems)-1].Text+problems[0].Text, tt.want) {
				t.Errorf("reasons %v, want %q", problems, tt.want)
			}
		})
	}
}

func TestArrowsFindsNewOnes(t *testing.T) {
	sources := []string{
		"a.go", "package a\n\nimport _ \"example.org/x/engine\"\n",
		"engine/a.go", "package engine\n\nimport _ \"example.org/x/engine/value\"\n",
		"engine/value/a.go", "package value\n",
		"engine/value/a_test.go", "package value\n\nimport _ \"example.org/x\"\n",
	}
	want := "# Which package imports which, tests left out. Written by\n#   go test ./internal/tidy -run TestArrows -update\n" +
		"\nhalcyon      -> engine\n\nengine       -> engine/value\n\nengine/value\n"
	good := tree(t, append(sources, "arrows.txt", want)...)
	if got := picture(good.arrows()); got != want {
		t.Errorf("picture:\n%s\nwant:\n%s", got, want)
	}
	found(t, Arrows(good, "arrows.txt"))
	bad := tree(t, append(sources, "arrows.txt", want, "engine/b.go", "package engine\n\nimport _ \"example.org/x/web\"\n", "web/a.go", "package web\n")...)
	found(t, Arrows(bad, "arrows.txt"), "arrows.txt", "  + engine       -> engine/value web")
	found(t, Arrows(tree(t, sources...), "arrows.txt"), "arrows.txt", "-update")
}

func TestArrowsOfNestedModules(t *testing.T) {
	got := tree(t,
		"server/a.go", "package server\n",
		"bench/go.mod", "module example.org/x/bench\n",
		"bench/a.go", "package main\n\nimport _ \"example.org/x/server\"\n",
		"elsewhere/go.mod", "module example.net/own\n",
		"elsewhere/a.go", "package main\n\nimport _ \"example.net/own/part\"\n",
		"elsewhere/part/a.go", "package part\n",
	).arrows()
	if len(got["bench"]) != 1 || got["bench"][0] != "server" || len(got["elsewhere"]) != 1 || got["elsewhere"][0] != "elsewhere/part" {
		t.Errorf("arrows %v", got)
	}
}

func TestLengthFindsLongFiles(t *testing.T) {
	long := "package a\n" + strings.Repeat("\n", linesMax-1)
	found(t, Length(tree(t,
		"a/long.go", long, "a/fits.go", long[:len(long)-1], "a/testdata/long.go", long,
		"web/long.ts", long, "web/dist/long.ts", long, "long.sh", long, "long.md", long)),
		"a/long.go", "800 lines", "long.sh", "800 lines", "web/long.ts", "800 lines")
}

func TestNamesFindsEmptyNames(t *testing.T) {
	found(t, Names(tree(t, "a/a.go", "package util\n", "a/b.go", "package util\n", "b/b.go", "package types\n", "c/c.go", "package commit\n")),
		"a/a.go:1", "package util", "b/b.go:1", "package types")
}

func TestExplicitFindsInitAndBlankImports(t *testing.T) {
	found(t, Explicit(tree(t,
		"a/a.go", "package a\n\nimport (\n\t_ \"embed\"\n\t_ \"image/png\"\n)\n\nfunc init() {}\n",
		"a/b.go", "package a\n\ntype t struct{}\n\nfunc (t) init() {}\n",
		"a/a_test.go", "package a\n\nimport _ \"image/gif\"\n\nfunc init() {}\n")),
		"a/a.go:5", "blank import of image/png", "a/a.go:8", "func init")
}

func TestMachinesFindsConcurrencyAndClocks(t *testing.T) {
	source := `package live

import (
	"sync"
	clock "time"
)

var d = clock.Second
var mu sync.Mutex

func f(c chan int) clock.Time {
	go f(nil)
	c <- 1
	select {}
	return clock.Now()
}
`
	found(t, Machines(tree(t, "engine/internal/live/a.go", source, "engine/internal/live/a_test.go", source, "engine/a.go", source)),
		"engine/internal/live/a.go:4", "import of sync",
		"engine/internal/live/a.go:11", "channel",
		"engine/internal/live/a.go:12", "go statement",
		"engine/internal/live/a.go:13", "send on a channel",
		"engine/internal/live/a.go:14", "select",
		"engine/internal/live/a.go:15", "time.Now")
	found(t, Machines(tree(t, "engine/internal/commit/a.go", "package commit\n\nimport \"time\"\n\nconst d = time.Second\n")))
}

func TestDocsFindsMissingComments(t *testing.T) {
	found(t, Docs(tree(t,
		"good/doc.go", "// Package good is good.\npackage good\n", "good/a.go", "package good\n",
		"none/a.go", "package none\n",
		"place/place.go", "// Package place has it in the wrong file.\npackage place\n",
		"words/doc.go", "// This is package words.\npackage words\n",
		"cmd/one/main.go", "// Command one is one.\npackage main\n",
		"cmd/two/main.go", "package main\n",
		"tests/a_test.go", "package tests\n")),
		"place/place.go:1", "outside of doc.go",
		"words/doc.go:1", `does not begin with "Package words "`,
		"cmd/two/doc.go", "no package comment",
		"none/doc.go", "no package comment",
		"place/doc.go", "no package comment")
}

func TestLeftoversFindsThem(t *testing.T) {
	found(t, Leftovers(tree(t,
		"a/a.go", "package a\n\n// "+toFix+": broken\n// "+toDo+": later\n// "+toDo+"(ada): when it is needed\n// "+toDo+"(ada)\n",
		"web/a.css", "/* "+toDo+" */\n", ".ci/run", "# "+toDo+"\n",
		"a/testdata/a.go", "// "+toFix+"\n", "docs/a.md", toDo+"\n")),
		".ci/run:1", toDo, "a/a.go:3", toFix, "a/a.go:4", toDo, "a/a.go:6", toDo, "web/a.css:1", toDo)
}

func TestPlacesFindsPathsAndRegistries(t *testing.T) {
	work, resolved := "/wo"+"rk/main", "\"resol"+"ved\": \"https://example.org/a.tgz\""
	found(t, Places(tree(t,
		"a/a.go", "package a\n\nconst p = \""+work+"\"\n\nconst q = \"https://example.org"+work+"\"\n",
		"a/testdata/b.txt", "in /ro"+"ot/go here\n", "c.sh", "cd /tmp/h"+"c/x\n",
		"web/package-lock.json", "{\n"+resolved+"\n}\n",
		"web/.npmrc", "omit-lockfile-regis"+"try-resolved=true\nregis"+"try=https://example.org\n",
		"e.md", "from proxy"+".golang.org\n",
		"good.go", "package a\n\nconst p = \"/home"+work+"\"\n",
		"binary", "\x00 "+work+"\n")),
		"a/a.go:3", "a path of one machine", "a/testdata/b.txt:1", "a path of one machine",
		"c.sh:1", "a path of one machine", "e.md:1", "package registry",
		"web/.npmrc:2", "settings of a package manager", "web/package-lock.json:2", "download address")
}

func TestFormattedFindsOthers(t *testing.T) {
	found(t, Formatted(tree(t, "a.go", "package a\nvar  x = 1\n", "b.go", "package a\n\nvar y = 1\n")), "a.go", "gofmt -w")
}

func TestDependenciesFindsMissingAndStale(t *testing.T) {
	got, err := Dependencies(tree(t,
		"a.go", "package a\n\nimport _ \"github.com/rare/thing/part\"\n",
		"a_test.go", "package a\n\nimport _ \"github.com/google/go-cmp/cmp\"\n",
		"web/package.json", `{"dependencies": {"convex": "1"}, "devDependencies": {"@types/node": "20"}}`,
		"tools/go.mod", "module example.org/x/tools\n\ntool honnef.co/go/tools/cmd/staticcheck\n\nrequire honnef.co/go/tools v0.8.2 // indirect\n",
		"docs/dependencies.md", "| name | why |\n|-|-|\n| `github.com/cockroachdb/pebble/v2` | storage |\n| `npm convex` | client |\n| `gone` | no more |\n"))
	if err != nil {
		t.Fatal(err)
	}
	found(t, got,
		"docs/dependencies.md", "gone is used by nothing",
		"go.mod:7", "github.com/google/go-cmp has no line",
		"go.mod:8", "github.com/rare/thing has no line",
		"tools/go.mod:5", "honnef.co/go/tools has no line",
		"web/package.json", "npm @types/node has no line")
}

func TestLinksFindsBrokenOnes(t *testing.T) {
	found(t, Links(tree(t,
		"README.md", "[a](docs/a.md) [b](docs/b.md#part)\n`[c](none)` [d](https://example.org/x) [e](#here)\n```\n[f](none)\n```\n[g](docs)\n",
		"docs/a.md", "![up](../README.md) [no](README.md)\n",
		"content/a.md", "[about](/about)\n")),
		"README.md:1", "docs/b.md leads nowhere", "docs/a.md:1", "README.md leads nowhere")
}

func TestQuotesFindsOldOnes(t *testing.T) {
	document := func(code string) string { return "# A\n\n<!-- the whole of a.go -->\n```go\n" + code + "```\n" }
	source := "// Command a is one.\npackage main\n\nfunc main() {}\n"
	found(t, Quotes(tree(t, "a.go", source, "whole.md", document(source), "bare.md", document("package main\n\nfunc main() {}\n"),
		"old.md", document("package main\n\nfunc main() { old() }\n"), "part.md", document("func main() {}\n"))),
		"old.md:3", "not that of a.go", "part.md:3", "not that of a.go")
	found(t, Quotes(tree(t, "gone.md", document("package main\n"))), "gone.md:3", "not that of a.go")
}

func TestLoadLeavesOutWhatGitDoes(t *testing.T) {
	got := tree(t,
		".gitignore", "# what runs leave\n/data/\nnode_modules/\n*.out\n/prog\n", "web/.gitignore", ".test/\n",
		"data/a", "", "a/data/b", "", "node_modules/c", "", "a/node_modules/d", "", "x.out", "", "prog", "", "a/prog", "",
		"web/.test/e", "", ".test/f", "", ".git/g", "")
	if names := strings.Join(got.Names, " "); names != ".gitignore .test/f a/data/b a/prog go.mod web/.gitignore" {
		t.Errorf("files %s", names)
	}
	if _, err := Load(fstest.MapFS{".gitignore": {Data: []byte("!kept\n")}}); err == nil {
		t.Error("a pattern that is not understood passes")
	}
	if _, err := Load(fstest.MapFS{"a.go": {Data: []byte("package")}}); err == nil {
		t.Error("a file that does not parse passes")
	}
}
