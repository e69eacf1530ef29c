package site

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/web"
)

//go:embed assets/site.css
var siteCSS []byte

//go:embed assets/*.html
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"longDate": longDate, "tagPath": tagPath,
}).ParseFS(templateFiles, "assets/*.html"))

// policy is the Content-Security-Policy of all pages. Pictures may come from anywhere.
const policy = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' https: data:; " +
	"media-src 'self' https:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

// Bounds of the rendered pages in memory. When one is reached, all are dropped:
// they are rendered again in a moment.
const (
	pagesCachedMax      = 512
	pagesCachedBytesMax = 16 << 20
)

// pageCache keeps rendered pages by the hash of all that they show. Its zero value
// is empty.
type pageCache struct {
	mu struct {
		sync.Mutex
		files map[[sha256.Size]byte]*web.File
		bytes int
	}
}

// view is what the templates show.
type view struct {
	frame
	Counted   bool   // the statistics are there, and this page counts
	Stats     bool   // the statistics are there
	Style     string // address of the style sheet
	Icon      string // address of the icon
	Canonical string // address of the page; empty where there is none
	Newer     string // address of the page of newer posts; empty where there is none
	Older     string // and of older ones
	Picture   string // whole address of a document's picture
	Body      template.HTML
	Front     *frontResult
	Doc       *documentResult
	Tagged    *taggedResult
}

// renderer makes pages of results.
type renderer struct {
	site  *Site
	app   *halcyon.App
	files map[string]*web.File // by path
	style string
	icon  string
	stats bool
}

// handler serves the site.
func (s *Site) handler(app *halcyon.App) http.Handler {
	style := web.NewFile("text/css; charset=utf-8", slices.Concat(web.Theme(), siteCSS))
	icon := web.NewFile("image/svg+xml", web.Icon())
	const stylePath, iconPath = "/assets/site.css", "/assets/icon.svg"
	// The site knows of the statistics only this: whether a program mounts them.
	_, stats := app.Kind("stats:getStats")
	return &renderer{
		site:  s,
		app:   app,
		files: map[string]*web.File{stylePath: style, iconPath: icon, "/favicon.ico": icon},
		style: style.Versioned(stylePath),
		icon:  icon.Versioned(iconPath),
		stats: stats,
	}
}

// ServeHTTP implements [http.Handler].
func (p *renderer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if file, ok := p.files[path]; ok {
		file.ServeHTTP(w, r)
		return
	}
	if made, ok := feeds[path]; ok {
		p.feed(w, r, made)
		return
	}
	slug := strings.Trim(path, "/")
	named := checkSlug(slug) == nil
	raw, isRaw := strings.CutPrefix(path, "/raw/")
	raw, isMarkdown := strings.CutSuffix(raw, ".md")
	tag, isTag := strings.CutPrefix(path, "/tags/")
	list, isList := strings.CutPrefix(path, listPrefix)
	picture, isPicture := strings.CutPrefix(path, "/"+pictures+"/")
	switch {
	case path == "/":
		p.front(w, r, 1)
	case isList && list != "":
		p.list(w, r, list)
	case isRaw && isMarkdown && checkSlug(raw) == nil:
		p.raw(w, r, raw)
	case isTag && tag != "" && len(tag) <= slugSizeMax:
		p.tag(w, r, tag)
	case isPicture && picture != "":
		p.picture(w, r, picture)
	case slug == homeSlug && named:
		redirect(w, r, "/")
	case named && path == "/"+slug+"/":
		redirect(w, r, "/"+slug)
	case named && path == "/"+slug:
		p.document(w, r, slug)
	default:
		p.document(w, r, "") // is never found
	}
}

// redirect sends a visitor to another page, with the query: it may say where the
// visitor came from.
func redirect(w http.ResponseWriter, r *http.Request, path string) {
	http.Redirect(w, r, (&url.URL{Path: path, RawQuery: r.URL.RawQuery}).String(), http.StatusFound)
}

// list answers for a page of the list of posts by its number. Each has one address,
// and the first is the front page.
func (p *renderer) list(w http.ResponseWriter, r *http.Request, number string) {
	number, slash := strings.CutSuffix(number, "/")
	n, err := strconv.ParseUint(number, 10, 31)
	switch {
	case err != nil || n < 1 || number != strconv.FormatUint(n, 10):
		p.document(w, r, "") // is never found
	case n == 1 || slash:
		redirect(w, r, listPath(int(n)))
	default:
		p.front(w, r, int(n))
	}
}

// front answers with the front page, or with a page of older posts.
func (p *renderer) front(w http.ResponseWriter, r *http.Request, n int) {
	var result frontResult
	if err := p.app.Run(r.Context(), "site:front", frontArgs{n}, &result); err != nil {
		p.fail(w, r, err)
		return
	}
	v := view{frame: result.frame, Front: &result, Canonical: p.base(r) + listPath(n)}
	name := "front.html"
	switch {
	case n > result.Pages:
		p.missing(w, r, result.frame)
		return
	case result.Empty:
		name = "welcome.html"
	}
	if n > 1 {
		v.Newer = listPath(n - 1)
	}
	if n < result.Pages {
		v.Older = listPath(n + 1)
	}
	p.show(w, r, http.StatusOK, name, result.Markdown, v)
}

func (p *renderer) document(w http.ResponseWriter, r *http.Request, slug string) {
	var result documentResult
	if err := p.app.Run(r.Context(), "site:document", slugArgs{slug}, &result); err != nil {
		p.fail(w, r, err)
		return
	}
	if !result.Found {
		p.missing(w, r, result.frame)
		return
	}
	base := p.base(r)
	v := view{frame: result.frame, Doc: &result, Canonical: base + "/" + slug, Picture: whole(base, slug, result.Image)}
	p.show(w, r, http.StatusOK, "document.html", result.Markdown, v)
}

func (p *renderer) tag(w http.ResponseWriter, r *http.Request, tag string) {
	var result taggedResult
	if err := p.app.Run(r.Context(), "site:tagged", tagArgs{tag}, &result); err != nil {
		p.fail(w, r, err)
		return
	}
	if len(result.Posts) == 0 {
		p.missing(w, r, result.frame)
		return
	}
	p.show(w, r, http.StatusOK, "tagged.html", "", view{frame: result.frame, Tagged: &result, Canonical: p.base(r) + tagPath(tag)})
}

// missing answers for an address at which there is nothing, of which there are any
// number: with the same page for all, so that they drive no others out of the cache.
func (p *renderer) missing(w http.ResponseWriter, r *http.Request, f frame) {
	p.show(w, r, http.StatusNotFound, "missing.html", "", view{frame: f})
}

// show answers with a rendered page, made or kept.
func (p *renderer) show(w http.ResponseWriter, r *http.Request, status int, name, text string, v view) {
	if v.Name == "" {
		v.Name = p.site.options.Name
	}
	v.Style, v.Icon, v.Stats = p.style, p.icon, p.stats
	v.Counted = p.stats && status == http.StatusOK // what is not there is not viewed
	file, err := p.site.cache.file(func() (*web.File, error) {
		var err error
		if v.Body, err = render(text, "", ""); err != nil {
			return nil, err
		}
		var page bytes.Buffer
		if err := templates.ExecuteTemplate(&page, name, v); err != nil {
			return nil, fmt.Errorf("render page: %w", err)
		}
		file := web.NewFile("text/html; charset=utf-8", page.Bytes())
		file.Header.Set("Content-Security-Policy", policy)
		file.Header.Set("Referrer-Policy", "strict-origin-when-cross-origin")
		return file, nil
	}, len(text), name, v)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	file.Serve(w, r, status)
}

// file returns the page that shows what is given, and makes it when no equal one
// is kept. size is about how many bytes it has.
func (c *pageCache) file(make func() (*web.File, error), size int, shown ...any) (*web.File, error) {
	text, err := json.Marshal(shown)
	if err != nil {
		return nil, fmt.Errorf("hash page: %w", err)
	}
	key := sha256.Sum256(text)
	c.mu.Lock()
	file := c.mu.files[key]
	c.mu.Unlock()
	if file != nil {
		return file, nil
	}
	if file, err = make(); err != nil {
		return nil, err
	}
	size += 8 << 10
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.files == nil || len(c.mu.files) >= pagesCachedMax || c.mu.bytes+size > pagesCachedBytesMax {
		c.mu.files, c.mu.bytes = map[[sha256.Size]byte]*web.File{}, 0
	}
	c.mu.files[key] = file
	c.mu.bytes += size
	return file, nil
}

// fail answers a request whose page can't be read. Details are the operator's.
func (p *renderer) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody waits for it
	}
	p.app.Logger().Error("page failed", "path", r.URL.Path, "error", err)
	w.Header().Set("Retry-After", "1")
	http.Error(w, "This page can't be read just now. Please try again in a moment.", http.StatusServiceUnavailable)
}

// hostPattern is a host name or address with or without a port, and nothing that
// could mean something else in a page.
var hostPattern = regexp.MustCompile(`^[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?$|^\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?$`)

// base returns the address of the site, without a slash at its end. Where no
// option names it, it is what the request names.
func (p *renderer) base(r *http.Request) string {
	switch {
	case p.site.options.URL != "":
		return p.site.options.URL
	case !hostPattern.MatchString(r.Host):
		return ""
	case r.TLS != nil:
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// listPrefix is what the addresses of the pages of older posts begin with.
const listPrefix = "/page/"

// listPath is the address of a page of the list of posts.
func listPath(n int) string {
	if n == 1 {
		return "/"
	}
	return listPrefix + strconv.Itoa(n)
}

// tagPath is the address of the page of a tag.
func tagPath(tag string) string { return "/tags/" + url.PathEscape(tag) }

// longDate writes 2026-11-20 as November 20, 2026.
func longDate(date string) string { return formatDate(date, "January 2, 2006") }

func formatDate(date, layout string) string {
	short, err := day(date)
	if err != nil {
		return date
	}
	t, err := time.Parse(time.DateOnly, short)
	if err != nil {
		return date
	}
	return t.Format(layout)
}
