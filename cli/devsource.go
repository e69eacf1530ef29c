package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// goProgram is a Go package main, as the go command knows it.
type goProgram struct {
	path  string   // of the package; "." for that of the working folder
	flags []string // that it was built with, and is built with again
}

// runningProgram returns the program that this is.
func runningProgram() (goProgram, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return goProgram{}, errors.New("this program was not built by the go command")
	}
	return programOf(info), nil
}

// programOf returns the program that was built with info.
func programOf(info *debug.BuildInfo) goProgram {
	p := goProgram{path: info.Path}
	if p.path == "" || p.path == "command-line-arguments" { // go run main.go
		p.path = "."
	}
	linked := false
	for _, setting := range info.Settings {
		switch setting.Key {
		case "-tags", "-race", "-msan", "-asan", "-trimpath", "-gcflags", "-asmflags", "-ldflags":
			p.flags = append(p.flags, setting.Key+"="+setting.Value)
			linked = linked || setting.Key == "-ldflags"
		}
	}
	if !linked {
		p.flags = append(p.flags, "-ldflags=-s -w") // nobody debugs it, and it is linked in half of the time
	}
	return p
}

// build makes the program. The error has what the go command says.
func (p goProgram) build(ctx context.Context, binary string) error {
	args := append([]string{"build", "-buildvcs=false", "-o", binary}, p.flags...)
	out, err := runGo(ctx, append(args, p.path)...)
	if err != nil && len(out) > 0 {
		return &buildError{readableErrors(out)}
	}
	return err
}

// buildError is what the compiler says of a program that is wrong.
type buildError struct{ text string }

func (e *buildError) Error() string { return e.text }

// readableErrors leaves out the lines that only name packages: each of the others names its file.
func readableErrors(out []byte) string {
	var b strings.Builder
	for line := range bytes.Lines(out) {
		if !bytes.HasPrefix(line, []byte("# ")) {
			b.Write(line)
		}
	}
	return strings.TrimSpace(b.String())
}

// runGo runs the go command and returns what it wrote.
func runGo(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if args[0] == "list" || args[0] == "env" {
		var talk bytes.Buffer
		cmd.Stderr = &talk
		if err := cmd.Run(); err != nil {
			return talk.Bytes(), fmt.Errorf("go %s: %w: %s", args[0], err, bytes.TrimSpace(talk.Bytes()))
		}
		return out.Bytes(), nil
	}
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("go %s: %w", args[0], err)
	}
	return out.Bytes(), nil
}

// sources say which files a program is made of, those to come included: what the go command would look at.
type sources struct {
	dir     string   // of the package main
	folders []string // of packages: their Go files, and the like
	embeds  []embed
	files   []string // one by one: go.mod and so on
}

// embed is a pattern of //go:embed.
type embed struct{ dir, pattern string }

// goPackage is what is read of the output of go list.
type goPackage struct {
	Dir, ImportPath, Name string
	Standard              bool
	EmbedPatterns         []string
	DepOnly               bool
	Module                *goModule
	Error                 *struct{ Err string }
}

type goModule struct {
	Path    string
	Dir     string
	Main    bool
	GoMod   string
	Replace *struct{ Version string }
}

// mine reports whether the module is one that its user works on: the main one, one of the same workspace, or one that takes the place of
// another from a folder.
func (m *goModule) mine() bool {
	return m != nil && (m.Main || m.Replace != nil && m.Replace.Version == "")
}

// sources asks the go command what the program is made of. Packages that other people have published are left out: they do not change.
func (p goProgram) sources(ctx context.Context) (*sources, error) {
	out, err := runGo(ctx, append([]string{"list", "-e", "-deps", "-json=Dir,ImportPath,Name,Standard,EmbedPatterns,DepOnly,Module,Error"}, p.listFlags()...)...)
	if err != nil {
		return nil, err
	}
	s := &sources{}
	var modules []goModule
	var missing []string
	listed := json.NewDecoder(bytes.NewReader(out))
	for {
		var found goPackage
		if err := listed.Decode(&found); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("go list: %w", err)
		}
		if !found.DepOnly {
			if found.Dir == "" || found.Name != "main" && found.Error == nil {
				return nil, fmt.Errorf("the program's package %s is not found from here", p.path)
			}
			s.dir = found.Dir
		}
		if found.Dir == "" && found.Error != nil {
			missing = append(missing, found.ImportPath)
		}
		if found.Standard || found.Dir == "" || !found.Module.mine() && found.DepOnly {
			continue
		}
		s.folders = append(s.folders, found.Dir)
		for _, pattern := range found.EmbedPatterns {
			s.embeds = append(s.embeds, embed{found.Dir, pattern})
		}
		if m := found.Module; m != nil && m.GoMod != "" && !slices.Contains(s.files, m.GoMod) {
			s.files = append(s.files, m.GoMod, strings.TrimSuffix(m.GoMod, ".mod")+".sum")
			modules = append(modules, *m)
		}
	}
	// A package that is imported and not there yet is one that somebody is about to write.
	for _, path := range missing {
		for _, m := range modules {
			if rest, ok := strings.CutPrefix(path, m.Path+"/"); ok && m.Dir != "" {
				s.folders = append(s.folders, filepath.Join(m.Dir, filepath.FromSlash(rest)))
			}
		}
	}
	if work, err := runGo(ctx, "env", "GOWORK"); err == nil {
		if path := string(bytes.TrimSpace(work)); path != "" && path != "off" {
			s.files = append(s.files, path)
		}
	}
	return s, nil
}

// listFlags are the flags that decide about files, and the package.
func (p goProgram) listFlags() []string {
	var flags []string
	for _, flag := range p.flags {
		if strings.HasPrefix(flag, "-tags=") || strings.HasPrefix(flag, "-race=") {
			flags = append(flags, flag)
		}
	}
	return append(flags, p.path)
}

// stamps tell files apart from what they were. A file that is not there has none.
type stamps map[string]stamp

type stamp struct {
	size     int64
	modified int64 // nanoseconds since 1970
}

// stamps looks at all files. It asks the file system for times and sizes: unlike notifications, this works on network file systems and in
// containers too, and costs a millisecond for a thousand files.
func (s *sources) stamps() stamps {
	found := stamps{}
	for _, dir := range s.folders {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it has gone; so have its files
		}
		for _, entry := range entries {
			if isSource(entry.Name()) && !entry.IsDir() {
				found.add(filepath.Join(dir, entry.Name()))
			}
		}
	}
	for _, e := range s.embeds {
		// As the go command does, but for hidden files, which are taken to be in the program everywhere.
		matches, _ := filepath.Glob(filepath.Join(e.dir, filepath.FromSlash(strings.TrimPrefix(e.pattern, "all:")))) // a wrong one is the compiler's to name
		for _, match := range matches {
			_ = filepath.WalkDir(match, func(path string, entry fs.DirEntry, err error) error {
				switch {
				case err != nil: // it has gone
				case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git"):
					return fs.SkipDir
				case !entry.IsDir():
					found.add(path)
				}
				return nil
			})
		}
	}
	for _, path := range s.files {
		found.add(path)
	}
	return found
}

func (s stamps) add(path string) {
	if info, err := os.Stat(path); err == nil {
		s[path] = stamp{info.Size(), info.ModTime().UnixNano()}
	}
}

// changed returns the files that are not what they were, in order.
func (s stamps) changed(before stamps) []string {
	names := map[string]bool{}
	for path, now := range s {
		if was, ok := before[path]; !ok || was != now {
			names[path] = true
		}
	}
	for path := range before {
		if _, ok := s[path]; !ok {
			names[path] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// since reports whether a file has been modified at or after a time.
func (s stamps) since(t time.Time) bool {
	for _, one := range s {
		if one.modified >= t.UnixNano() {
			return true
		}
	}
	return false
}

// isSource reports whether the go command looks at files of this name.
func isSource(name string) bool {
	if strings.HasPrefix(name, "_") || strings.HasPrefix(name, ".") || strings.HasSuffix(name, "_test.go") {
		return false
	}
	switch filepath.Ext(name) {
	case ".go", ".c", ".cc", ".cpp", ".cxx", ".h", ".hh", ".hpp", ".hxx", ".m", ".f", ".F", ".for", ".f90", ".s", ".S", ".sx", ".swig", ".swigcxx", ".syso":
		return true
	}
	return false
}

// shorten returns a path as seen from the working folder, if that is shorter.
func shorten(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if short, err := filepath.Rel(here, path); err == nil && len(short) < len(path) {
		return short
	}
	return path
}

// generatedFolders returns the folders below dir that hold types which codegen has written. head is the line that they begin with.
func generatedFolders(dir, head string) []string {
	var found []string
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return nil // it has gone, or is nobody's business
		}
		if !entry.IsDir() {
			if entry.Name() == "api.d.ts" && beginsWith(path, head) {
				found = append(found, filepath.Dir(path))
			}
			return nil
		}
		if path == dir {
			return nil
		}
		name := entry.Name()
		if strings.HasPrefix(name, ".") || slices.Contains([]string{"node_modules", "dist", "vendor", "testdata"}, name) {
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			return fs.SkipDir // of another program
		}
		return nil
	})
	return found
}

func beginsWith(path, head string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	text := make([]byte, len(head))
	_, err = io.ReadFull(f, text)
	return err == nil && string(text) == head
}
