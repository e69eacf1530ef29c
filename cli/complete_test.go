package cli

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

// TestComplete completes command lines; | parts the words.
func TestComplete(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"ver", "verify version"},
		{"", "serve run migrate codegen"}, // and more
		{"data|", "tables list export import"},
		{"data|ex", "export"},
		{"run|notes:", "notes:add notes:clear notes:list"},
		{"run|--storage.dir|x|notes:l", "notes:list"},
		{"run|--storage.dir|", ":files"},
		{"run|--storage.dir=x|notes:l", "notes:list"},
		{"run|notes:list|", ""},
		{"data|list|no", "notes/notes"},
		{"data|import|notes|", ":files"},
		{"serve|--log.f", "--log.format"},
		{"serve|--log.format|", "text json"},
		{"serve|--log.format=j", "--log.format=json"},
		{"completion|", "bash zsh fish"},
		{"notes|", "copy count-notes add-all fail plain misuse"},
		{"notes|copy|", ":files"},
		{"backup|--|--", ":files"},
		{"frobnicate|", ""},
	} {
		got := call(t, "", append([]string{completeWord}, strings.Split(tt.line, "|")...)...)
		var words []string
		for line := range strings.Lines(got.stdout) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			words = append(words, word)
		}
		want := strings.Fields(tt.want)
		if tt.line == "" && len(words) > len(want) {
			words = words[:len(want)]
		}
		if tt.line == "frobnicate|" {
			words = nil // what follows a mistake does not matter
		}
		if diff := cmp.Diff(want, words, cmp.Transformer("nil", func(s []string) string { return strings.Join(s, " ") })); diff != "" || got.status != exitOK {
			t.Errorf("%q: status %d (-want +got):\n%s", tt.line, got.status, diff)
		}
	}
	if got := call(t, "", completeWord); got.status != exitOK || !strings.HasPrefix(got.stdout, "serve\t") {
		t.Errorf("no words: %+v", got)
	}
}

// TestCompletionScripts has the shells that are on this machine complete lines with the scripts.
func TestCompletionScripts(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "my-prog")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "folder of data"), 0o700); err != nil {
		t.Fatal(err)
	}
	shells := []struct {
		name   string
		before string
		line   func(words ...string) string
	}{
		{"bash", `source <(my-prog completion bash)`, func(words ...string) string {
			return `COMP_LINE=` + quoted(strings.Join(words, " ")) + `; COMP_POINT=${#COMP_LINE}; _my_prog_complete; (( ${#COMPREPLY[@]} == 0 )) || printf '%s\n' "${COMPREPLY[@]}"`
		}},
		{"zsh", `compdef() { }; _files() { print -l -- ${PREFIX}*(N) }; compset() { PREFIX=${PREFIX#*=} }
			_describe() { local c; for c in "${found[@]}"; do c=${c//\\:/@}; print -r -- "${${c%%:*}//@/:}"; done }
			source <(my-prog completion zsh)`, func(words ...string) string {
			var list []string
			for _, w := range words {
				list = append(list, quoted(w))
			}
			return `words=(` + strings.Join(list, " ") + `); CURRENT=${#words}; PREFIX=${words[-1]}; _my_prog_complete`
		}},
		{"fish", `my-prog completion fish | source`, func(words ...string) string {
			return `complete -C ` + quoted(strings.Join(words, " ")) + ` | string replace -r '\t.*' ''; true`
		}},
	}
	for _, shell := range shells {
		t.Run(shell.name, func(t *testing.T) {
			path, err := exec.LookPath(shell.name)
			if err != nil {
				t.Skipf("there is no %s", shell.name)
			}
			for _, tt := range []struct {
				name  string
				words []string
				want  []string
			}{
				{"a verb", []string{"my-prog", "vers"}, []string{"version"}},
				{"a function", []string{"my-prog", "run", "notes:l"}, []string{"notes:list"}},
				{"all of them", []string{"my-prog", "run", "notes:"}, []string{"notes:add", "notes:clear", "notes:list"}},
				{"after a blank", []string{"my-prog", "data", ""}, []string{"export", "import", "list", "tables"}},
				{"the value of a flag", []string{"my-prog", "serve", "--log.format=j"}, []string{"--log.format=json"}},
				{"a file", []string{"my-prog", "serve", "--storage.dir", "fold"}, []string{"folder of data"}},
			} {
				cmd := exec.CommandContext(t.Context(), path, "-c", shell.before+"\n"+shell.line(tt.words...))
				if shell.name != "fish" {
					cmd.Args = slices.Insert(cmd.Args, 1, map[string]string{"bash": "--norc", "zsh": "-f"}[shell.name])
				}
				cmd.Dir = dir
				cmd.Env = append(os.Environ(), asProgram+"=1", "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil {
					t.Errorf("%s: %v\n%s", tt.name, err, stderr.String())
				}
				var got []string
				for line := range strings.Lines(string(out)) {
					word := strings.ReplaceAll(strings.TrimRight(strings.TrimSuffix(line, "\n"), "/"), `\ `, " ")
					if shell.name == "bash" && !strings.HasPrefix(word, "--") {
						// bash completes what follows the last ":" or "=".
						last := tt.words[len(tt.words)-1]
						word = last[:strings.LastIndexAny(last, ":=")+1] + word
					}
					got = append(got, word)
				}
				slices.Sort(got)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s%s", tt.name, diff, stderr.String())
				}
			}
		})
	}
}

func quoted(s string) string { return "'" + s + "'" }

// TestExamples: each verb has some on its help page, and each can be parsed.
func TestExamples(t *testing.T) {
	parser := exampleParser(t)
	for _, leaf := range parser.Model.Leaves(true) {
		name := strings.TrimPrefix(leaf.FullPath(), "prog ")
		if name = strings.TrimSpace(strings.Split(name, " <")[0]); len(examples[name]) == 0 {
			t.Errorf("%s has no examples", name)
		}
		if !strings.Contains(leaf.Detail, "\n  prog "+name) {
			t.Errorf("the help of %s shows no examples:\n%s", name, leaf.Detail)
		}
	}
	for verb, lines := range examples {
		for _, line := range lines {
			parsed, err := exampleParser(t).Parse(shellWords(t, line))
			if err != nil {
				t.Errorf("%q: %v", line, err)
				continue
			}
			if got := commandOf(parsed); got != verb {
				t.Errorf("%q is a command line of %q, not of %q", line, got, verb)
			}
		}
	}
}

// exampleParser parses the program's own verbs.
func exampleParser(t *testing.T) *kong.Kong {
	t.Helper()
	parser, err := kong.New(&grammar{}, kong.Name("prog"), kong.Writers(io.Discard, io.Discard), kong.Bind(&env{program: "prog"}))
	if err != nil {
		t.Fatal(err)
	}
	addExamples(parser.Model.Node, "prog")
	return parser
}

// commandOf is the verb without its arguments.
func commandOf(parsed *kong.Context) string {
	return strings.TrimSpace(strings.Split(parsed.Command(), " <")[0])
}

// shellWords are the words of an example as a shell would pass them: up to a pipe, a redirection or a comment.
func shellWords(t *testing.T, line string) []string {
	t.Helper()
	var words []string
	for rest := strings.TrimSpace(line); rest != ""; rest = strings.TrimSpace(rest) {
		if strings.ContainsAny(rest[:1], "|<>#") {
			break
		}
		word, after, _ := strings.Cut(rest, " ")
		if rest[0] == '\'' {
			var ok bool
			if word, after, ok = strings.Cut(rest[1:], "'"); !ok {
				t.Fatalf("%q: a quote is open", line)
			}
		}
		words, rest = append(words, word), after
	}
	return words
}
