package tidy

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// rootName is what the package in the root of the repository is called.
const rootName = "halcyon"

func roomName(dir string) string {
	if dir == "." {
		return rootName
	}
	return dir
}

// arrows returns the imports inside the repository by folder, tests left out.
// Every folder with a Go package is in it.
func (t *Tree) arrows() map[string][]string {
	found := map[string]map[string]bool{}
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		from := roomName(f.Dir)
		if found[from] == nil {
			found[from] = map[string]bool{}
		}
		for name := range f.imports {
			if dir, ok := t.inside(name); ok {
				found[from][roomName(dir)] = true
			}
		}
	}
	out := map[string][]string{}
	for from, to := range found {
		out[from] = slices.Sorted(maps.Keys(to))
	}
	return out
}

// picture draws the arrows: a paragraph for each storey, a package always
// above all it imports, and those that import nothing at the bottom.
func picture(arrows map[string][]string) string {
	storeys := map[string]int{}
	var height func(room string) int
	height = func(room string) int {
		if n, ok := storeys[room]; ok {
			return n
		}
		storeys[room] = 0 // the compiler refuses cycles; this only keeps broken input finite
		n := 0
		for _, to := range arrows[room] {
			n = max(n, height(to)+1)
		}
		storeys[room] = n
		return n
	}
	rooms := slices.Sorted(maps.Keys(arrows))
	width := 0
	for _, room := range rooms {
		height(room)
		width = max(width, len(room))
	}
	slices.SortStableFunc(rooms, func(a, b string) int { return cmp.Compare(storeys[b], storeys[a]) })
	var b strings.Builder
	b.WriteString("# Which package imports which, tests left out. Written by\n#   go test ./internal/tidy -run TestArrows -update\n")
	last := -1
	for _, room := range rooms {
		if storeys[room] != last {
			b.WriteString("\n")
			last = storeys[room]
		}
		if len(arrows[room]) == 0 {
			fmt.Fprintf(&b, "%s\n", room)
			continue
		}
		fmt.Fprintf(&b, "%-*s -> %s\n", width, room, strings.Join(arrows[room], " "))
	}
	return b.String()
}

// Arrows compares the imports with the golden file.
func Arrows(t *Tree, name string) []Problem {
	want, got := string(t.Files[name]), picture(t.arrows())
	if want == got {
		return nil
	}
	var diff []string
	old, fresh := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range old {
		if !slices.Contains(fresh, line) {
			diff = append(diff, "  - "+line)
		}
	}
	for _, line := range fresh {
		if !slices.Contains(old, line) {
			diff = append(diff, "  + "+line)
		}
	}
	return []Problem{{File: name, Text: "the imports are not those of the picture. " +
		"Look whether the new arrows are right, then run go test ./internal/tidy -run TestArrows -update\n" + strings.Join(diff, "\n")}}
}

// edge is a kind of import that is forbidden.
type edge struct {
	from   func(dir string) bool
	to     func(dir, importPath string) bool // dir is "" for packages of others
	reason string
}

func in(folders ...string) func(string) bool {
	return func(dir string) bool { return below(dir, folders...) }
}

func exactly(folders ...string) func(string) bool {
	return func(dir string) bool { return slices.Contains(folders, dir) }
}

// leaf allows the standard library and what lies below the folder itself.
func leaf(folder, reason string) edge {
	return edge{in(folder), func(dir, importPath string) bool {
		return dir != "" && !below(dir, folder) || dir == "" && !standard(importPath)
	}, reason}
}

// roomsOnly allows, of this repository, only those rooms.
func roomsOnly(from func(string) bool, reason string, rooms ...string) edge {
	return edge{from, func(dir, _ string) bool {
		return dir != "" && !below(dir, rooms...)
	}, reason}
}

// forbidden lists the edges that must not be, each with its reason.
func forbidden() []edge {
	return []edge{
		leaf("yjs", "yjs is the standard library only, so that it can be used without the rest of Halcyon"),
		leaf("protocol", "protocol is a leaf: messages and their JSON, for clients and tests as much as for the server"),
		leaf("engine/value", "value is a leaf: every room holds values, so it can depend on none"),
		leaf("engine/internal/keys", "keys is a leaf: it knows bytes, not documents"),
		roomsOnly(in("engine"), "the engine knows no app, no server and no wire", "engine"),
		{in("engine"), func(_, importPath string) bool { return below(importPath, "net") }, "the engine knows no network: that is the server's room"},
		{func(dir string) bool { return !below(dir, "engine") },
			func(dir, _ string) bool { return below(dir, "engine/internal") }, "the pipeline belongs to the engine. Use what package engine exports, or make it export what is missing"},
		{exactly("."), func(dir, _ string) bool { return dir != "" && dir != "engine" && dir != "engine/value" },
			"package halcyon is what authors write against and stands on the engine alone"},
		{in("apps", "component"), func(dir, importPath string) bool {
			return below(dir, "engine", "server", "cli", "protocol", "cmd", "internal") && dir != "engine/value"
		}, "a shipped module is written as a user would write one: on package halcyon"},
		roomsOnly(in("component"), "components are built only on package halcyon", ".", "component", "engine/value"),
		roomsOnly(in("server"), "the server knows package halcyon, the engine and the wire, and no app", "server", ".", "engine", "protocol"),
		{in("cli"), func(dir, _ string) bool { return below(dir, "apps", "cmd", "examples", "component") },
			"cli serves any app, so it names none. The list of what ships is cmd/halcyon/apps.go"},
		{func(string) bool { return true }, func(dir, _ string) bool {
			return below(dir, "cmd", "examples", "bench", "tools", "internal/tidy", "web/build")
		}, "this package is a program or a check; nothing stands on it"},
		{func(dir string) bool { return !below(dir, "engine/internal/store", "bench") }, func(_, importPath string) bool {
			return importPath == "github.com/cockroachdb/pebble/v2"
		}, "only engine/internal/store knows Pebble, so that what we rely on is pinned in one place (its vfs may be named anywhere)"},
		{func(dir string) bool { return !below(dir, "server", "bench") }, func(_, importPath string) bool {
			return below(importPath, "github.com/lxzan/gws")
		}, "only the server speaks WebSocket"},
	}
}

// Edges finds imports that are forbidden.
func Edges(t *Tree) []Problem {
	var out []Problem
	edges := forbidden()
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		for name, spec := range f.imports {
			dir, ok := t.inside(name)
			if !ok {
				dir = ""
			}
			report := func(reason string) {
				out = append(out, Problem{f.Name, f.line(spec.Pos()), fmt.Sprintf("%s must not import %s: %s.", roomName(f.Dir), name, reason)})
			}
			for _, e := range edges {
				if e.from(f.Dir) && e.to(dir, name) {
					report(e.reason)
				}
			}
			if a, b := appOf(f.Dir), appOf(dir); a != "" && b != "" && a != b {
				report("apps never import apps. Take what one needs of another as an option, and wire them in cmd/halcyon/apps.go")
			}
		}
	}
	return out
}

// appOf returns the app a folder belongs to, or "".
func appOf(dir string) string {
	rest, ok := strings.CutPrefix(dir, "apps/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return path.Join("apps", name)
}
