package site

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
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

var templates = template.Must(template.New("").Funcs(template.FuncMap{"longDate": longDate}).ParseFS(templateFiles, "assets/*.html"))

// policy is the Content-Security-Policy of all pages. Pictures may come from anywhere.
const policy = "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; img-src 'self' https: data:; " +
	"media-src 'self' https:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

// pagesCachedMax bounds the rendered pages in memory. When it is reached, all are
// dropped: they are rendered again in a moment.
const pagesCachedMax = 512

// pageCache keeps rendered pages by the hash of all that they show. Its zero value
// is empty.
type pageCache struct {
	mu struct {
		sync.Mutex
		files map[[sha256.Size]byte]*web.File
	}
}

// view is what the templates show.
type view struct {
	Name    string // of the site
	Nav     []navItem
	Counted bool   // the statistics are there, and this page counts
	Stats   bool   // the statistics are there
	Style   string // address of the style sheet
	Icon    string // address of the icon
	Body    template.HTML
	Front   *frontResult
	Doc     *documentResult
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
		files: map[string]*web.File{stylePath: style, iconPath: icon},
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
	slug := strings.Trim(path, "/")
	named := checkSlug(slug) == nil
	switch {
	case path == "/":
		p.front(w, r)
	case slug == homeSlug && named:
		http.Redirect(w, r, "/", http.StatusFound)
	case named && path == "/"+slug+"/":
		http.Redirect(w, r, "/"+slug, http.StatusFound)
	case named && path == "/"+slug:
		p.document(w, r, slug)
	default:
		p.document(w, r, "") // is never found
	}
}

func (p *renderer) front(w http.ResponseWriter, r *http.Request) {
	var result frontResult
	if err := p.app.Run(r.Context(), "site:front", nil, &result); err != nil {
		p.fail(w, r, err)
		return
	}
	name := "front.html"
	if result.Empty {
		name = "welcome.html"
	}
	p.show(w, r, http.StatusOK, name, result.Markdown, view{Nav: result.Nav, Name: result.Name, Front: &result})
}

func (p *renderer) document(w http.ResponseWriter, r *http.Request, slug string) {
	var result documentResult
	if err := p.app.Run(r.Context(), "site:document", documentArgs{slug}, &result); err != nil {
		p.fail(w, r, err)
		return
	}
	v := view{Nav: result.Nav, Name: result.Name, Doc: &result}
	if !result.Found {
		p.show(w, r, http.StatusNotFound, "missing.html", "", v)
		return
	}
	p.show(w, r, http.StatusOK, "document.html", result.Markdown, v)
}

// show answers with a rendered page, made or kept.
func (p *renderer) show(w http.ResponseWriter, r *http.Request, status int, name, text string, v view) {
	if v.Name == "" {
		v.Name = p.site.options.Name
	}
	v.Style, v.Icon, v.Stats = p.style, p.icon, p.stats
	v.Counted = p.stats && status == http.StatusOK // what is not there is not viewed
	file, err := p.site.cache.file(name, text, v)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	file.Serve(w, r, status)
}

// file returns the page of that template, rendering it when nothing equal is kept.
func (c *pageCache) file(name, text string, v view) (*web.File, error) {
	shown, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("hash page: %w", err)
	}
	key := sha256.Sum256(append([]byte(name+"\x00"), shown...))
	c.mu.Lock()
	file := c.mu.files[key]
	c.mu.Unlock()
	if file != nil {
		return file, nil
	}
	if v.Body, err = render(text); err != nil {
		return nil, err
	}
	var page bytes.Buffer
	if err := templates.ExecuteTemplate(&page, name, v); err != nil {
		return nil, fmt.Errorf("render page: %w", err)
	}
	file = web.NewFile("text/html; charset=utf-8", page.Bytes())
	file.Header.Set("Content-Security-Policy", policy)
	file.Header.Set("Referrer-Policy", "strict-origin-when-cross-origin")
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.files == nil || len(c.mu.files) >= pagesCachedMax {
		c.mu.files = map[[sha256.Size]byte]*web.File{}
	}
	c.mu.files[key] = file
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

// longDate writes 2026-11-20 as November 20, 2026.
func longDate(day string) string {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		return day
	}
	return t.Format("January 2, 2006")
}
