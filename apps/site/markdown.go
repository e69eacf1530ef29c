package site

import (
	"bytes"
	"fmt"
	"html/template"
	"net/url"
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

// focusable lets the keyboard reach what may be wider than the page and is scrolled
// for the rest. Only the renderer writes these: raw HTML is left out, and texts are
// escaped.
var focusable = strings.NewReplacer("<pre>", `<pre tabindex="0">`, "<table>", `<table tabindex="0">`)

// whole returns an address that stands in the document of a slug, for readers who
// see it elsewhere. A place in the document itself they have before them.
func whole(base, slug, address string) string {
	if strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "//") {
		return base + address
	}
	document, err := url.Parse(base + "/" + slug)
	if err != nil {
		return address
	}
	to, err := url.Parse(address)
	if err != nil || address == "" || address[0] == '#' || to.IsAbs() || to.Host != "" {
		return address
	}
	return document.ResolveReference(to).String()
}

// render returns a text as HTML, for a page of the site, or, with a base, for
// elsewhere: links and pictures of the site become whole addresses, those of the
// document of the slug.
func render(markdownText, base, slug string) (template.HTML, error) {
	body := []byte(markdownText)
	root := markdown.Parser().Parse(text.NewReader(body))
	if base != "" {
		whole := func(address []byte) []byte { return []byte(whole(base, slug, string(address))) }
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
	if base == "" {
		return template.HTML(focusable.Replace(out.String())), nil
	}
	return template.HTML(out.String()), nil
}
