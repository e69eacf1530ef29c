package site

import (
	"bytes"
	"fmt"
	"html/template"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
)

// markdown renders the texts. Raw HTML is left out: see the package
// documentation. Table cells are aligned by attribute, because the pages' policy
// refuses inline styles. It may be used by several goroutines.
var markdown = goldmark.New(
	goldmark.WithExtensions(
		extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
		extension.Strikethrough,
		extension.Linkify,
		extension.TaskList,
		extension.Footnote,
	),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
)

// render returns a text as HTML. With a base, links and pictures of the site
// itself become whole addresses, for readers who see the text elsewhere.
func render(markdownText, base string) (template.HTML, error) {
	body := []byte(markdownText)
	root := markdown.Parser().Parse(text.NewReader(body))
	if base != "" {
		whole := func(address []byte) []byte {
			if s := string(address); strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") {
				return []byte(base + s)
			}
			return address
		}
		err := ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
			switch n := n.(type) {
			case *ast.Link:
				if entering {
					n.Destination = whole(n.Destination)
				}
			case *ast.Image:
				if entering {
					n.Destination = whole(n.Destination)
				}
			}
			return ast.WalkContinue, nil
		})
		if err != nil {
			return "", fmt.Errorf("render markdown: %w", err)
		}
	}
	var out bytes.Buffer
	if err := markdown.Renderer().Render(&out, body, root); err != nil {
		return "", fmt.Errorf("render markdown: %w", err)
	}
	return template.HTML(out.String()), nil
}
