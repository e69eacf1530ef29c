package cli

import (
	"strings"

	"github.com/alecthomas/kong"
)

// examples are command lines for the help page of each verb, without the program's name. A test sees that each can be parsed.
var examples = map[string][]string{
	"serve": {
		"serve",
		"serve --dev    # while you write the program: it is built and run again at each save",
		"serve --server.listen :8080 --storage.dir /var/lib/halcyon --log.format json",
	},
	"run": {
		"run stats:getStats",
		`run counter:click '{"button": "red"}'`,
		"run --url https://stats.example.com stats:getStats    # with HALCYON_ADMIN_KEY set",
	},
	"migrate":     {"migrate --dry-run", "migrate --json"},
	"codegen":     {"codegen --out src/halcyon", "codegen --out src/halcyon --check    # in CI"},
	"verify":      {"verify", "verify --storage.dir /backups/2026-11-27 --json"},
	"data tables": {"data tables", "data tables --json"},
	"data list": {
		"data list stats/pageViews --desc --limit 5",
		`data list notes --index by_author --eq '"ann"' --from 1700000000000`,
	},
	"data export": {"data export stats/pageViews views.jsonl", "data export notes | gzip > notes.jsonl.gz"},
	"data import": {
		"data import notes notes.jsonl --dry-run",
		"data import notes notes.jsonl --append",
		"data import notes - --replace < notes.jsonl",
	},
	"convex import": {
		"convex import snapshot.zip --module chat --dry-run",
		"convex import snapshot.zip --module chat --skip users",
	},
	"convex export": {"convex export chat.zip --module chat"},
	"logs":          {"logs --follow", "logs --function counter: --failed --json"},
	"insights":      {"insights --watch", "insights --json"},
	"backup":        {"backup /backups/2026-11-27"},
	"restore":       {"restore --storage.dir ./restored /backups/2026-11-27"},
	"key create":    {"key create deploy-script"},
	"key list":      {"key list", "key list --json"},
	"key revoke":    {"key revoke deploy-script"},
	"env list":      {"env list", "env list --json"},
	"config check":  {"config check", "config check --config /etc/halcyon.toml --json"},
	"completion": {
		"completion bash > ~/.local/share/bash-completion/completions/PROGRAM",
		`completion zsh > "${fpath[1]}/_PROGRAM"`,
		"completion fish > ~/.config/fish/completions/PROGRAM.fish",
	},
	"version": {"version --json"},
}

// statuses are on the help page of the program.
const statuses = "Exit status: 0 all went well, 1 something failed, 2 the program was called wrongly."

// addExamples writes the examples below the help of verbs.
func addExamples(root *kong.Node, program string) {
	root.Detail = "`" + program + " VERB --help` explains a verb, with examples. " + statuses
	var visit func(n *kong.Node, path string)
	visit = func(n *kong.Node, path string) {
		for _, child := range n.Children {
			name := strings.TrimSpace(path + " " + child.Name)
			visit(child, name)
			lines := examples[name]
			if len(lines) == 0 {
				continue
			}
			var b strings.Builder
			b.WriteString(child.Detail + "\n\nExamples:\n")
			for _, line := range lines {
				b.WriteString("\n  " + program + " " + strings.ReplaceAll(line, "PROGRAM", program))
			}
			child.Detail = strings.TrimSpace(b.String())
		}
	}
	visit(root, "")
}
