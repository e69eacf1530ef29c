package agent

import (
	_ "embed"
	"fmt"
	"strings"
)

// An Agent is what a User-Agent tells. A part that is not known is "".
type Agent struct {
	Device  string // desktop, mobile, tablet, tv or console
	Browser string
	System  string
}

// Kind is what kind of robot it is.
type Kind string

// The kinds.
const (
	Crawler  Kind = "bot"      // of a search engine, a preview of a link, a monitor
	AI       Kind = "ai"       // that collects texts for a language model, or fetches one for its user
	Library  Kind = "library"  // of a programming language, or a command
	Headless Kind = "headless" // a browser without a screen
)

// sizeMax is how much of a User-Agent is looked at, in bytes. Those of browsers
// have less than 300.
const sizeMax = 1024

//go:embed agents.txt
var tableText string

// rule gives a name to every agent with a word in it.
type rule struct{ word, name string }

// table is agents.txt by the first column.
var table = func() map[string][]rule {
	read, err := parseTable(tableText)
	if err != nil {
		panic("agent: agents.txt: " + err.Error()) // the tests read it first
	}
	return read
}()

func parseTable(text string) (map[string][]rule, error) {
	read := make(map[string][]rule)
	for i, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		fields := strings.Split(line, "|")
		if len(fields) != 3 {
			return nil, fmt.Errorf("line %d: %q has %d columns, want 3", i+1, line, len(fields))
		}
		kind, word, name := strings.TrimSpace(fields[0]), strings.TrimSpace(fields[1]), strings.TrimSpace(fields[2])
		if word == "" || name == "" {
			return nil, fmt.Errorf("line %d: %q has an empty column", i+1, line)
		}
		read[kind] = append(read[kind], rule{strings.ToLower(word), name})
	}
	return read, nil
}

func find(kind, agent string) string {
	for _, rule := range table[kind] {
		if strings.Contains(agent, rule.word) {
			return rule.name
		}
	}
	return ""
}

// cut brings an agent into the form that the words are looked for in.
func cut(agent string) string { return strings.ToLower(agent[:min(len(agent), sizeMax)]) }

// Parse returns what a User-Agent tells about a visitor.
func Parse(userAgent string) Agent {
	ua := cut(userAgent)
	a := Agent{Device: find("device", ua), Browser: find("browser", ua), System: find("system", ua)}
	if a.Device == "" && a.System != "" {
		a.Device = "desktop"
	}
	// A tablet with Android is one that does not call itself mobile.
	if a.System == "Android" && a.Device == "desktop" {
		a.Device = "tablet"
	}
	return a
}

// Robot returns which robot a User-Agent is one of, and false when it is a
// browser's. The name is one of the table, so that there are not more than that
// many.
func Robot(userAgent string) (kind Kind, name string, ok bool) {
	ua := cut(userAgent)
	for _, kind := range []Kind{AI, Headless, Crawler, Library} {
		if name := find(string(kind), ua); name != "" {
			return kind, name, true
		}
	}
	return "", "", false
}
