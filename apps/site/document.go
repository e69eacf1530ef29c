package site

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/text"
	"go.abhg.dev/goldmark/frontmatter"
)

// Limits of one file.
const (
	slugSizeMax        = 200      // bytes of one slug
	frontMatterSizeMax = 64 << 10 // bytes of one front matter
	tagsMax            = 64       // tags of one post
)

// wordsPerMinute is how fast a reader is taken to read.
const wordsPerMinute = 200

// readVersion is part of every hash: raise it when the same file is to give
// another row, so that a new version of the program writes all rows anew.
const readVersion = "2"

// What can be wrong with the text of a file.
var (
	errNoFrontMatter   = errors.New("it does not begin with front matter: a line of ---, then title: and the like, then a line of ---")
	errFrontMatterSize = fmt.Errorf("its front matter is larger than %d KiB", frontMatterSizeMax>>10)
	errNoTitle         = errors.New("the front matter has no title")
	errNoDate          = errors.New("the front matter of a post needs a date, such as 2026-11-20")
	errSlug            = errors.New("a slug is made of letters, digits and - _ . ~ and begins with a letter or a digit")
	errReserved        = errors.New("the server answers this address itself; choose another slug")
	errNumber          = errors.New("an order has to be a finite number")
	errTags            = fmt.Errorf("it has more than %d tags", tagsMax)
)

var slugPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.~-]*$`)

// reservedSlugs are the first parts of addresses that never reach a post or page.
var reservedSlugs = []string{
	"api", "assets", "http", "metrics", "stats", "track.js", "yjs", "raw", "tags",
	"rss.xml", "rss-full.xml", "sitemap.xml", "robots.txt", "llms.txt", "favicon.ico",
}

// source is one file as the sync takes it: a post or a page.
type source struct {
	Source string     `json:"source"`
	Post   *postEntry `json:"post"`
	Page   *pageEntry `json:"page"`
}

// postEntry is a post with its text, as a sync script sends it.
type postEntry struct {
	PostFields
	Content string `json:"content"`
}

// pageEntry is a page with its text.
type pageEntry struct {
	PageFields
	Content string `json:"content"`
}

func (s *source) slug() string {
	switch {
	case s.Post != nil:
		return s.Post.Slug
	case s.Page != nil:
		return s.Page.Slug
	}
	return ""
}

// hashOf returns the hash of a postEntry or a pageEntry.
func hashOf(entry any) (string, error) {
	text, err := json.Marshal(entry)
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	sum := sha256.Sum256(append([]byte(readVersion+"\x00"), text...))
	return hex.EncodeToString(sum[:16]), nil
}

// frontMatter is what a file says about itself. Pointers tell unset from false.
type frontMatter struct {
	Title        string   `yaml:"title" toml:"title"`
	Slug         string   `yaml:"slug" toml:"slug"`
	Date         any      `yaml:"date" toml:"date"`
	Description  string   `yaml:"description" toml:"description"`
	Published    *bool    `yaml:"published" toml:"published"`
	Unlisted     bool     `yaml:"unlisted" toml:"unlisted"`
	Tags         []string `yaml:"tags" toml:"tags"`
	ReadTime     string   `yaml:"readTime" toml:"readTime"`
	BlogFeatured *bool    `yaml:"blogFeatured" toml:"blogFeatured"`
	Order        *float64 `yaml:"order" toml:"order"`
	ShowInNav    *bool    `yaml:"showInNav" toml:"showInNav"`
	TextAlign    string   `yaml:"textAlign" toml:"textAlign"`
	Extras       `yaml:",inline"`
}

// frontReader reads front matter and nothing else.
var frontReader = goldmark.New(goldmark.WithExtensions(&frontmatter.Extender{}))

// splitFrontMatter cuts a file into what stands between its first line, --- or
// +++, and the next one that is the same, and what follows.
func splitFrontMatter(body []byte) (fence string, head, rest []byte, err error) {
	first, _, _ := bytes.Cut(body, []byte("\n"))
	fence = string(bytes.TrimRight(first, " \t"))
	if fence != "---" && fence != "+++" {
		return "", nil, nil, errNoFrontMatter
	}
	begin := min(len(first)+1, len(body))
	for at := begin; at < len(body) && at <= frontMatterSizeMax; {
		line, _, _ := bytes.Cut(body[at:], []byte("\n"))
		end := min(at+len(line)+1, len(body))
		if string(bytes.TrimRight(line, " \t")) == fence {
			return fence, body[begin:at], body[end:], nil
		}
		at = end
	}
	if len(body) > frontMatterSizeMax {
		return "", nil, nil, errFrontMatterSize
	}
	return "", nil, nil, errNoFrontMatter
}

// readFrontMatter returns what a file says about itself, and its text.
func readFrontMatter(body []byte) (front frontMatter, content string, err error) {
	fence, head, rest, err := splitFrontMatter(body)
	if err != nil {
		return front, "", err
	}
	// The library is given the front matter alone: it reads what follows as
	// Markdown, which may be long. It counts the lines after the fence, so with an
	// empty one its errors name the lines of the file.
	ctx := parser.NewContext()
	frontReader.Parser().Parse(text.NewReader(slices.Concat([]byte(fence+"\n\n"), head, []byte(fence+"\n"))), parser.WithContext(ctx))
	data := frontmatter.Get(ctx)
	if data == nil {
		return front, "", errNoFrontMatter
	}
	if err := decodeFrontMatter(data, &front); err != nil {
		return front, "", fmt.Errorf("front matter: %w", err)
	}
	return front, strings.TrimSpace(string(rest)), nil
}

// decodeFrontMatter is data.Decode. The YAML library panics on some texts that are
// none; this is the boundary at which that becomes an error.
func decodeFrontMatter(data *frontmatter.Data, front *frontMatter) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it can't be read: %v", p)
		}
	}()
	return data.Decode(front)
}

// readDocument makes a post or a page of a file.
func readDocument(kind, name string, body []byte) (source, error) {
	front, content, err := readFrontMatter(body)
	if err != nil {
		return source{}, err
	}
	slug, title := fileSlug(front.Slug, name), oneLine(front.Title)
	if title == "" {
		return source{}, errNoTitle
	}
	published := front.Published == nil || *front.Published
	if kind == kindPage {
		page := &pageEntry{Content: content, PageFields: PageFields{
			Slug: slug, Title: title, Description: oneLine(front.Description), Published: published,
			Order: front.Order, ShowInNav: front.ShowInNav, TextAlign: front.TextAlign, Extras: front.Extras,
		}}
		return source{Source: name, Page: page}, page.check()
	}
	if len(front.Tags) > tagsMax {
		return source{}, errTags
	}
	post := &postEntry{Content: content, PostFields: PostFields{
		Slug: slug, Title: title, Description: oneLine(front.Description), Published: published,
		Unlisted: front.Unlisted, Tags: distinctTags(front.Tags), ReadTime: front.ReadTime,
		BlogFeatured: front.BlogFeatured, Extras: front.Extras,
	}}
	if post.Date, err = day(front.Date); err != nil {
		return source{}, err
	}
	if post.ReadTime == "" {
		words := len(strings.Fields(content))
		post.ReadTime = fmt.Sprintf("%d min read", max(1, (words+wordsPerMinute-1)/wordsPerMinute))
	}
	return source{Source: name, Post: post}, post.check()
}

// check reports what keeps a post from being published.
func (p *postEntry) check() error {
	if len(p.Tags) > tagsMax {
		return errTags
	}
	if p.Title == "" {
		return errNoTitle
	}
	if _, err := day(p.Date); err != nil {
		return err
	}
	if !p.finite() {
		return errNumber
	}
	return checkSlug(p.Slug)
}

// check reports what keeps a page from being published.
func (p *pageEntry) check() error {
	if p.Title == "" {
		return errNoTitle
	}
	if !p.finite() || !finite(p.Order) {
		return errNumber
	}
	return checkSlug(p.Slug)
}

// finite reports whether all numbers are some.
func (e *Extras) finite() bool {
	return finite(e.FeaturedOrder) && finite(e.DocsSectionOrder) && finite(e.DocsSectionGroupOrder)
}

func finite(n *float64) bool { return n == nil || !math.IsNaN(*n) && !math.IsInf(*n, 0) }

// distinctTags returns the tags that say something, each once: upper and lower case
// are one.
func distinctTags(tags []string) []string {
	distinct := []string{}
	for _, tag := range tags {
		tag = oneLine(tag)
		if tag != "" && !slices.ContainsFunc(distinct, func(other string) bool { return strings.EqualFold(other, tag) }) {
			distinct = append(distinct, tag)
		}
	}
	return distinct
}

// oneLine puts a text on one line.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

func checkSlug(slug string) error {
	if len(slug) > slugSizeMax || !slugPattern.MatchString(slug) {
		return fmt.Errorf("slug %q: %w", slug[:min(len(slug), slugSizeMax)], errSlug)
	}
	if slices.Contains(reservedSlugs, slug) {
		return fmt.Errorf("slug %q: %w", slug, errReserved)
	}
	return nil
}

// day reads the date of a post, which YAML and TOML give as a time or as text.
func day(date any) (string, error) {
	switch date := date.(type) {
	case time.Time:
		return date.Format(time.DateOnly), nil
	case string:
		if len(date) > len(time.DateOnly) && strings.ContainsRune("T ", rune(date[len(time.DateOnly)])) {
			date = date[:len(time.DateOnly)]
		}
		if _, err := time.Parse(time.DateOnly, date); err == nil {
			return date, nil
		}
	}
	return "", errNoDate
}
