package tidy

import (
	"errors"
	"strings"
)

// modFile is what matters here of a go.mod file.
type modFile struct {
	path     string
	requires []require
	tools    []string // packages of its tool lines
}

type require struct {
	path     string
	indirect bool
	line     int
}

// parseMod reads a go.mod file as the go command formats it.
func parseMod(text []byte) (modFile, error) {
	var m modFile
	block := ""
	line := 0
	for raw := range strings.Lines(string(text)) {
		line++
		code, comment, _ := strings.Cut(raw, "//")
		words := strings.Fields(code)
		switch {
		case len(words) == 0:
			continue
		case words[0] == ")":
			block = ""
			continue
		case len(words) == 2 && words[1] == "(":
			block = words[0]
			continue
		case block != "":
			words = append([]string{block}, words...)
		}
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "module":
			m.path = words[1]
		case "require":
			m.requires = append(m.requires, require{words[1], strings.Contains(comment, "indirect"), line})
		case "tool":
			m.tools = append(m.tools, words[1])
		}
	}
	if m.path == "" {
		return m, errors.New("no module line")
	}
	return m, nil
}

// provider returns the required module that an imported package is in.
func (m modFile) provider(importPath string) (require, bool) {
	var best require
	for _, r := range m.requires {
		if below(importPath, r.path) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}
