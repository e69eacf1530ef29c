package site

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode"

	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"

	"github.com/halcyon-db/halcyon"
)

// Limits of a search.
const (
	resultsMax   = 15
	queryMax     = 16   // words of a query that count
	querySizeMax = 1024 // bytes of a query that are looked at
	snippetMax   = 120  // characters around what was found
)

type searchArgs struct {
	Query string `json:"query"`
}

// foundKind says what a result is.
type foundKind string

// Values implements the enumeration of results.
func (foundKind) Values() []foundKind { return []foundKind{"post", "page"} }

// found is one result of a search.
type found struct {
	ID          string    `json:"_id"`
	Type        foundKind `json:"type"`
	Slug        string    `json:"slug"`
	Title       string    `json:"title"`
	Description *string   `json:"description"` // of posts
	Snippet     string    `json:"snippet"`
	Anchor      string    `json:"anchor,omitzero"` // of the heading above what was found

	markdown string
	score    float64
	inTitle  bool
}

// search returns the listed posts and pages that hold a word of the query, the
// best first: those whose title holds the query as it stands, then by how often
// how many of the words are there. The last word may be the beginning of one.
//
// It reads all texts. They are bounded by the limits of a folder and of what
// scripts may send.
func search(tx *halcyon.Tx, args searchArgs) ([]found, error) {
	words := fold(strings.ToValidUTF8(args.Query[:min(len(args.Query), querySizeMax)], ""))
	whole := strings.TrimSpace(string(words))
	terms := wordsOf(words)
	if len(terms) == 0 {
		return []found{}, nil
	}
	terms = terms[:min(len(terms), queryMax)]
	candidates := map[halcyon.ID[Text]]found{}
	posts, err := publishedPosts(tx, listed)
	if err != nil {
		return nil, err
	}
	for _, p := range posts {
		candidates[p.Text] = found{ID: string(p.ID), Type: "post", Slug: p.Slug, Title: p.Title, Description: &p.Description}
	}
	pages, err := publishedPages(tx, func(*Page) bool { return true })
	if err != nil {
		return nil, err
	}
	for _, p := range pages {
		candidates[p.Text] = found{ID: string(p.ID), Type: "page", Slug: p.Slug, Title: p.Title}
	}
	results := []found{}
	for t, err := range Texts.All().Each(tx) {
		if err != nil {
			return nil, err
		}
		f, ok := candidates[t.ID]
		if !ok {
			continue
		}
		title := fold(f.Title)
		f.score = 8*score(title, terms) + score(fold(t.Markdown), terms)
		if f.score > 0 {
			f.markdown, f.inTitle = t.Markdown, strings.Contains(string(title), whole)
			results = append(results, f)
		}
	}
	slices.SortFunc(results, func(x, y found) int {
		if x.inTitle != y.inTitle {
			if x.inTitle {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(y.Type, x.Type), cmp.Compare(x.Slug, y.Slug))
	})
	results = results[:min(len(results), resultsMax)]
	for i := range results {
		results[i].Snippet, results[i].Anchor = snippet(results[i].markdown, whole, terms)
	}
	return results, nil
}

// fold returns the characters of a text without case, one for each of its own, so
// that places in the one are places in the other.
func fold(s string) []rune {
	runes := []rune(s)
	for i, r := range runes {
		runes[i] = unicode.ToLower(r)
	}
	return runes
}

func inWord(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.Is(unicode.M, r)
}

// wordsOf returns the words of a folded text.
func wordsOf(folded []rune) []string {
	return strings.FieldsFunc(string(folded), func(r rune) bool { return !inWord(r) })
}

// score tells how well a folded text holds the terms, of which the last may be the
// beginning of a word. It is 0 when it holds none.
func score(folded []rune, terms []string) float64 {
	total := 0.0
	counts := make([]int, len(terms))
	for _, word := range wordsOf(folded) {
		for i, term := range terms {
			if word == term || i == len(terms)-1 && strings.HasPrefix(word, term) {
				counts[i]++
			}
		}
	}
	for _, n := range counts {
		if n > 0 {
			total += 1 + math.Log2(float64(n))
		}
	}
	return total
}

// heading is where in a plain text a heading stands, and its id.
type heading struct {
	at int
	id string
}

// plain returns what a reader sees of a Markdown text, on one line, and its
// headings. Pictures and raw HTML are left out.
func plain(markdownText string) (runes []rune, headings []heading) {
	body := []byte(markdownText)
	space := func() {
		if len(runes) > 0 && runes[len(runes)-1] != ' ' {
			runes = append(runes, ' ')
		}
	}
	add := func(part []byte) {
		for _, r := range string(part) {
			if unicode.IsSpace(r) {
				space()
			} else {
				runes = append(runes, r)
			}
		}
	}
	root := markdown.Parser().Parse(text.NewReader(body))
	// Walk fails only when the visitor does, which does not.
	_ = ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if n.Type() == ast.TypeBlock {
			space()
		}
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Image, *ast.HTMLBlock, *ast.RawHTML:
			return ast.WalkSkipChildren, nil
		case *ast.Heading:
			var words strings.Builder
			for line := range n.Lines().Len() {
				segment := n.Lines().At(line)
				words.Write(segment.Value(body))
			}
			headings = append(headings, heading{len(runes), headingID(words.String())})
		case *ast.FencedCodeBlock:
			for line := range n.Lines().Len() {
				segment := n.Lines().At(line)
				add(segment.Value(body))
			}
		case *ast.CodeBlock:
			for line := range n.Lines().Len() {
				segment := n.Lines().At(line)
				add(segment.Value(body))
			}
		case *ast.Text:
			add(n.Segment.Value(body))
			if n.SoftLineBreak() || n.HardLineBreak() {
				space()
			}
		case *ast.String:
			add(n.Value)
		case *ast.AutoLink:
			add(n.Label(body))
		}
		return ast.WalkContinue, nil
	})
	return []rune(strings.TrimRight(string(runes), " ")), headings
}

// headingID is how front ends name a heading: lower case, letters a to z, digits
// and hyphens.
func headingID(title string) string {
	var b strings.Builder
	last := byte(0)
	for _, r := range strings.ToLower(title) {
		c := byte('-')
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			c = byte(r)
		case r == '-' || unicode.IsSpace(r):
			if last == '-' {
				continue
			}
		default:
			continue
		}
		b.WriteByte(c)
		last = c
	}
	return b.String()
}

// snippet returns what stands around the first place of the query, or of one of
// its terms, and the heading above it; the beginning when there is none.
func snippet(markdownText, whole string, terms []string) (shown, anchor string) {
	runes, headings := plain(markdownText)
	folded := fold(string(runes))
	at := indexRunes(folded, []rune(whole))
	for i := 0; at < 0 && i < len(terms); i++ {
		at = indexWord(folded, []rune(terms[i]))
	}
	if at < 0 {
		shown = string(runes[:min(len(runes), snippetMax)])
		if len(runes) > snippetMax {
			shown += "..."
		}
		return shown, ""
	}
	for _, h := range headings {
		if h.at <= at {
			anchor = h.id
		}
	}
	start := max(0, at-snippetMax/3)
	end := min(len(runes), start+snippetMax)
	shown = string(runes[start:end])
	if start > 0 {
		shown = "..." + shown
	}
	if end < len(runes) {
		shown += "..."
	}
	return shown, anchor
}

// indexRunes is strings.Index of characters.
func indexRunes(in, what []rune) int {
	if len(what) == 0 {
		return -1
	}
	for i := 0; i+len(what) <= len(in); i++ {
		if in[i] == what[0] && slices.Equal(in[i:i+len(what)], what) {
			return i
		}
	}
	return -1
}

// indexWord returns where a word begins with what.
func indexWord(in, what []rune) int {
	for from := 0; from < len(in); {
		i := indexRunes(in[from:], what)
		if i < 0 {
			return -1
		}
		if from+i == 0 || !inWord(in[from+i-1]) {
			return from + i
		}
		from += i + 1
	}
	return -1
}

// searchModule returns the module "search".
func searchModule() *halcyon.Module {
	m := halcyon.NewModule("search")
	m.Query("search", search)
	return m
}
