package site

import (
	"bytes"
	"fmt"
	"html/template"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"go.abhg.dev/goldmark/frontmatter"
)

// markdown reads and renders the texts. Raw HTML is left out: see the package
// documentation. Table cells are aligned by attribute, because the pages' policy
// refuses inline styles. It may be used by several goroutines.
var markdown = goldmark.New(
	goldmark.WithExtensions(
		&frontmatter.Extender{},
		extension.NewTable(extension.WithTableCellAlignMethod(extension.TableCellAlignAttribute)),
		extension.Strikethrough,
		extension.Linkify,
		extension.TaskList,
		extension.Footnote,
	),
	goldmark.WithParserOptions(parser.WithAutoHeadingID()),
)

// render returns a text as HTML without its front matter.
func render(text string) (template.HTML, error) {
	var out bytes.Buffer
	if err := markdown.Convert([]byte(text), &out); err != nil {
		return "", fmt.Errorf("render markdown: %w", err)
	}
	return template.HTML(out.String()), nil
}
