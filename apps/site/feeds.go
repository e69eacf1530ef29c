package site

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon/web"
)

// feedKind is an address that tells programs what is on the site.
type feedKind struct {
	contentType string
	query       string // site:feed or site:index
	make        func(site string, base string, f *feedResult, i *indexResult) ([]byte, error)
}

// feeds are the addresses for programs.
var feeds = map[string]feedKind{
	"/rss.xml":      {"application/rss+xml; charset=utf-8", "site:feed", makeRSS(false)},
	"/rss-full.xml": {"application/rss+xml; charset=utf-8", "site:feed", makeRSS(true)},
	"/sitemap.xml":  {"application/xml; charset=utf-8", "site:index", makeSitemap},
	"/llms.txt":     {"text/plain; charset=utf-8", "site:index", makeLLMs},
	"/robots.txt":   {"text/plain; charset=utf-8", "", makeRobots},
}

// feed answers with what a kind makes, made or kept.
func (p *renderer) feed(w http.ResponseWriter, r *http.Request, kind feedKind) {
	var f feedResult
	var i indexResult
	var err error
	switch kind.query {
	case "site:feed":
		err = p.app.Run(r.Context(), kind.query, nil, &f)
	case "site:index":
		err = p.app.Run(r.Context(), kind.query, nil, &i)
	}
	if err != nil {
		p.fail(w, r, err)
		return
	}
	name, base := p.site.options.Name, p.base(r)
	if title := f.Name + i.Name; title != "" { // one of them is empty
		name = title
	}
	size := 0
	for _, post := range f.Posts {
		size += len(post.Markdown)
	}
	file, err := p.site.cache.file(func() (*web.File, error) {
		body, err := kind.make(name, base, &f, &i)
		if err != nil {
			return nil, err
		}
		return web.NewFile(kind.contentType, body), nil
	}, size, r.URL.Path, name, base, f, i)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	file.ServeHTTP(w, r)
}

// raw answers with the Markdown of a post or a page, below a head that says what
// it is.
func (p *renderer) raw(w http.ResponseWriter, r *http.Request, slug string) {
	var d documentResult
	if err := p.app.Run(r.Context(), "site:document", slugArgs{slug}, &d); err != nil {
		p.fail(w, r, err)
		return
	}
	if !d.Found {
		http.Error(w, "There is nothing at this address.", http.StatusNotFound)
		return
	}
	file, err := p.site.cache.file(func() (*web.File, error) {
		return web.NewFile("text/markdown; charset=utf-8", makeRaw(&d)), nil
	}, len(d.Markdown), "raw", d)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	file.ServeHTTP(w, r)
}

// makeRaw writes a document as Markdown below its head.
func makeRaw(d *documentResult) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", d.Title)
	if d.Summary != "" {
		fmt.Fprintf(&b, "> %s\n\n", d.Summary)
	}
	kind := "page"
	if d.Kind == kindPost {
		kind = "post"
	}
	fmt.Fprintf(&b, "---\nType: %s\n", kind)
	for _, line := range []struct{ name, value string }{
		{"Date", d.Date}, {"Reading time", d.ReadTime}, {"Tags", strings.Join(d.Tags, ", ")}, {"Author", d.Author},
	} {
		if line.value != "" {
			fmt.Fprintf(&b, "%s: %s\n", line.name, oneLine(line.value))
		}
	}
	fmt.Fprintf(&b, "---\n\n%s\n", d.Markdown)
	return []byte(b.String())
}

// The document of RSS 2.0, with the extensions that readers know.
type rss struct {
	XMLName xml.Name   `xml:"rss"`
	Version string     `xml:"version,attr"`
	Atom    string     `xml:"xmlns:atom,attr"`
	Content string     `xml:"xmlns:content,attr"`
	Author  string     `xml:"xmlns:dc,attr"`
	Channel rssChannel `xml:"channel"`
}

type rssChannel struct {
	Title       string    `xml:"title"`
	Link        string    `xml:"link"`
	Description string    `xml:"description"`
	Self        rssSelf   `xml:"atom:link"`
	Built       string    `xml:"lastBuildDate,omitempty"`
	Items       []rssItem `xml:"item"`
}

type rssSelf struct {
	Href string `xml:"href,attr"`
	Rel  string `xml:"rel,attr"`
	Type string `xml:"type,attr"`
}

type rssItem struct {
	Title       string   `xml:"title"`
	Link        string   `xml:"link"`
	GUID        string   `xml:"guid"`
	Date        string   `xml:"pubDate,omitempty"`
	Creator     string   `xml:"dc:creator,omitempty"`
	Categories  []string `xml:"category"`
	Description string   `xml:"description"`
	Content     string   `xml:"content:encoded,omitempty"`
}

func makeRSS(full bool) func(string, string, *feedResult, *indexResult) ([]byte, error) {
	return func(site, base string, f *feedResult, _ *indexResult) ([]byte, error) {
		self := "/rss.xml"
		if full {
			self = "/rss-full.xml"
		}
		out := rss{
			Version: "2.0", Atom: "http://www.w3.org/2005/Atom", Content: "http://purl.org/rss/1.0/modules/content/", Author: "http://purl.org/dc/elements/1.1/",
			Channel: rssChannel{
				Title: xmlText(site), Link: base + "/", Description: xmlText(f.Description),
				Self: rssSelf{base + self, "self", "application/rss+xml"},
			},
		}
		for _, post := range f.Posts {
			address := base + "/" + post.Slug
			it := rssItem{
				Title: xmlText(post.Title), Link: address, GUID: address, Date: mailDate(post.Date), Creator: xmlText(post.AuthorName),
				Description: xmlText(post.Description),
			}
			for _, tag := range post.Tags {
				it.Categories = append(it.Categories, xmlText(tag))
			}
			if full {
				html, err := render(post.Markdown, base, post.Slug)
				if err != nil {
					return nil, err
				}
				it.Content = xmlText(string(html))
			}
			out.Channel.Items = append(out.Channel.Items, it)
		}
		if len(f.Posts) > 0 {
			out.Channel.Built = mailDate(f.Posts[0].Date)
		}
		return marshalXML(out)
	}
}

// xmlText leaves out what no XML document may hold, such as most control
// characters: encoding/xml would put replacement characters there.
func xmlText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || r == '\n' || r >= 0x20 && r != 0xFFFE && r != 0xFFFF {
			return r
		}
		return -1
	}, s)
}

// mailDate writes 2026-11-20 as feeds want it.
func mailDate(date string) string {
	text := formatDate(date, time.RFC1123Z)
	if text == date {
		return ""
	}
	return text
}

type sitemap struct {
	XMLName xml.Name     `xml:"urlset"`
	Schema  string       `xml:"xmlns,attr"`
	URLs    []sitemapURL `xml:"url"`
}

type sitemapURL struct {
	Address string `xml:"loc"`
	Changed string `xml:"lastmod,omitempty"`
}

func makeSitemap(_, base string, _ *feedResult, i *indexResult) ([]byte, error) {
	out := sitemap{Schema: "http://www.sitemaps.org/schemas/sitemap/0.9", URLs: []sitemapURL{{Address: base + "/"}}}
	for _, post := range i.Posts {
		changed, err := day(post.Date)
		if err != nil {
			changed = ""
		}
		out.URLs = append(out.URLs, sitemapURL{base + "/" + post.Slug, changed})
	}
	for _, page := range i.Pages {
		out.URLs = append(out.URLs, sitemapURL{Address: base + "/" + page.Slug})
	}
	return marshalXML(out)
}

func marshalXML(v any) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(xml.Header)
	encoder := xml.NewEncoder(&out)
	encoder.Indent("", "  ")
	if err := encoder.Encode(v); err != nil {
		return nil, fmt.Errorf("write xml: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// makeLLMs lists all texts for language models, by llmstxt.org.
func makeLLMs(site, base string, _ *feedResult, i *indexResult) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", site)
	if i.Description != "" {
		fmt.Fprintf(&b, "\n> %s\n", i.Description)
	}
	line := func(slug, title, description string) {
		fmt.Fprintf(&b, "- [%s](%s/raw/%s.md)", strings.NewReplacer("[", "(", "]", ")").Replace(title), base, slug)
		if description != "" {
			fmt.Fprintf(&b, ": %s", description)
		}
		b.WriteByte('\n')
	}
	if len(i.Posts) > 0 {
		b.WriteString("\n## Posts\n\n")
	}
	for _, post := range i.Posts {
		line(post.Slug, post.Title, oneLine(post.Description))
	}
	if len(i.Pages) > 0 {
		b.WriteString("\n## Pages\n\n")
	}
	for _, page := range i.Pages {
		line(page.Slug, page.Title, oneLine(page.Description))
	}
	fmt.Fprintf(&b, "\n## Feeds\n\n- [RSS](%s/rss.xml)\n- [RSS with whole texts](%s/rss-full.xml)\n- [Sitemap](%s/sitemap.xml)\n", base, base, base)
	return []byte(b.String()), nil
}

func makeRobots(_, base string, _ *feedResult, _ *indexResult) ([]byte, error) {
	return []byte("User-agent: *\nAllow: /\nDisallow: /api/\n\nSitemap: " + base + "/sitemap.xml\n"), nil
}
