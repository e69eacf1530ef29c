package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/halcyon-db/halcyon"
)

// completeWord is what the scripts call the program with: then the words of the command line after the program's name, the last one being
// what is typed. It prints what that may become, a line each, with a tab and an explanation; a line ":files" stands for names of files.
const completeWord = "__complete"

const completeFiles = ":files"

// completionVerb is `completion`.
type completionVerb struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is the part of the help page below the flags.
func (completionVerb) Help() string {
	return "Verbs, flags, their values, functions and tables are completed. The script asks the program, so it need not be made again for a newer one. Open a new shell when it is in its place."
}

// Run prints the script.
func (v *completionVerb) Run(e *env) error {
	script := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[v.Shell]
	name := strings.Map(func(r rune) rune { // of a shell function
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, e.program)
	_, err := fmt.Fprint(e.stdout, strings.NewReplacer("NAME", name, "PROGRAM", e.program, "WORD", completeWord).Replace(script))
	return err
}

// bash splits words at ":" and "=" too, so the line is split again here, and what stands before these is cut off from the answers.
const bashScript = `# bash completion of PROGRAM
_NAME_complete() {
	local line="${COMP_LINE:0:COMP_POINT}" word candidate
	local -a words
	read -ra words <<< "$line"
	[[ "$line" == *[[:space:]] ]] && words+=("")
	word="${words[${#words[@]}-1]}"
	COMPREPLY=()
	while IFS=$'\t' read -r candidate _; do
		if [[ "$candidate" == ":files" ]]; then
			local file prefix=""
			[[ "$word" == --*=* ]] && prefix="${word%%=*}="
			compopt -o filenames 2>/dev/null
			while IFS= read -r file; do
				COMPREPLY+=("$file")
			done < <(compgen -f -- "${word#"$prefix"}")
			return
		fi
		[[ "$candidate" == *= ]] && compopt -o nospace 2>/dev/null
		COMPREPLY+=("${candidate#"${word%"${word##*[:=]}"}"}")
	done < <(PROGRAM WORD "${words[@]:1}" 2>/dev/null)
}
complete -F _NAME_complete PROGRAM
`

const zshScript = `#compdef PROGRAM
_NAME_complete() {
	local line
	local -a found
	for line in "${(@f)$(PROGRAM WORD "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
		if [[ "$line" == ":files" ]]; then
			[[ "$PREFIX" == --*=* ]] && compset -P '*='
			_files
			return
		fi
		[[ -n "$line" ]] && found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
	done
	_describe PROGRAM found
}
if [[ "$funcstack[1]" == "_PROGRAM" ]]; then
	_NAME_complete "$@"
else
	compdef _NAME_complete PROGRAM
fi
`

const fishScript = `# fish completion of PROGRAM
function __NAME_complete
	set -l words (commandline -opc) (commandline -ct)
	for line in (PROGRAM WORD $words[2..-1] 2>/dev/null)
		if test "$line" = ":files"
			__fish_complete_path (commandline -ct)
		else
			echo $line
		end
	end
end
complete -c PROGRAM -f -a '(__NAME_complete)'
`

// complete prints what the last word may become.
func (e *env) complete(root *kong.Node, app *halcyon.App, words []string) error {
	if len(words) == 0 {
		words = []string{""}
	}
	c := completer{app: app, word: words[len(words)-1]}
	for _, found := range c.candidates(root, words[:len(words)-1]) {
		if _, err := fmt.Fprintln(e.stdout, found); err != nil {
			return err
		}
	}
	return nil
}

// completer completes one word.
type completer struct {
	app  *halcyon.App
	word string
}

// candidates returns what the word may become after others.
func (c *completer) candidates(n *kong.Node, before []string) []string {
	args, onlyArgs := 0, false
	for i := 0; i < len(before); i++ {
		word := before[i]
		switch {
		case onlyArgs:
			args++
		case word == "--":
			onlyArgs = true
		case strings.HasPrefix(word, "--"):
			name, _, hasValue := strings.Cut(word[2:], "=")
			if f := findFlag(n, name); f != nil && !hasValue && !f.IsBool() {
				if i++; i == len(before) {
					return c.values(f.Value, "")
				}
			}
		default:
			if child := findChild(n, word); child != nil {
				n = child
			} else {
				args++
			}
		}
	}
	switch {
	case !onlyArgs && strings.HasPrefix(c.word, "--") && strings.Contains(c.word, "="):
		name, _, _ := strings.Cut(c.word[2:], "=")
		if f := findFlag(n, name); f != nil {
			return c.values(f.Value, "--"+name+"=")
		}
		return nil
	case !onlyArgs && strings.HasPrefix(c.word, "-"):
		return c.flags(n)
	case len(n.Children) > 0:
		var out []string
		for _, child := range n.Children {
			if !child.Hidden {
				out = c.add(out, child.Name, child.Help)
			}
		}
		return out
	case len(n.Positional) > 0:
		// The last one may take several.
		return c.values(n.Positional[min(args, len(n.Positional)-1)], "")
	}
	return nil
}

// add adds a candidate if the word may become it.
func (c *completer) add(out []string, candidate, help string) []string {
	if !strings.HasPrefix(candidate, c.word) {
		return out
	}
	help, _, _ = strings.Cut(help, "\n")
	return append(out, candidate+"\t"+strings.ReplaceAll(help, "\t", " "))
}

func (c *completer) flags(n *kong.Node) []string {
	var out []string
	for _, flags := range n.AllFlags(true) {
		for _, f := range flags {
			out = c.add(out, "--"+f.Name, f.Help)
		}
	}
	return out
}

// values returns what a flag or an argument may be.
func (c *completer) values(v *kong.Value, prefix string) []string {
	var out []string
	switch v.Tag.Get("complete") {
	case "file":
		return []string{completeFiles}
	case "function":
		for _, f := range c.app.Functions() {
			help := f.Kind.String()
			if f.Internal {
				help = "internal " + help
			}
			out = c.add(out, prefix+f.Path, help)
		}
	case "table":
		for _, name := range c.app.TableNames() {
			out = c.add(out, prefix+name, "table")
		}
	default:
		if v.Enum == "" {
			if v.Passthrough { // of a module's command
				return []string{completeFiles}
			}
			return nil
		}
		for _, name := range v.EnumSlice() {
			out = c.add(out, prefix+name, "")
		}
	}
	return out
}

func findFlag(n *kong.Node, name string) *kong.Flag {
	for _, flags := range n.AllFlags(false) {
		if i := slices.IndexFunc(flags, func(f *kong.Flag) bool { return f.Name == name }); i >= 0 {
			return flags[i]
		}
	}
	return nil
}

func findChild(n *kong.Node, name string) *kong.Node {
	if i := slices.IndexFunc(n.Children, func(child *kong.Node) bool { return child.Name == name }); i >= 0 {
		return n.Children[i]
	}
	return nil
}
