package web

import (
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
)

//go:embed tracker/dist/track.js
var trackJS []byte

//go:embed theme/icon.svg
var icon []byte

//go:embed theme/theme.css
var theme []byte

//go:embed stats/dist
var statsDist embed.FS

// statsPolicy is the page's Content-Security-Policy: it talks to the origin it
// came from and to nobody else, and runs no inline script.
const statsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

// TrackJS returns the tracker script. It is not to be modified.
func TrackJS() []byte { return trackJS }

// Icon returns the icon, an SVG image. It is not to be modified.
func Icon() []byte { return icon }

// Theme returns the style sheet that the statistics page and the site share:
// colours for light and dark, type, header and footer. It is not to be modified.
func Theme() []byte { return theme }

// Stats returns the statistics page as files: index.html, off.html, stats.js, stats.css,
// icon.svg and world.svg. The page expects index.html at /stats and the others below /stats/,
// which is what [StatsHandler] does.
func Stats() fs.FS { return statsFS() }

// TrackHandler serves the tracker script, whatever the path it is mounted at.
func TrackHandler() http.Handler { return trackFile() }

// StatsHandler serves the statistics page at /stats and its files below /stats/.
func StatsHandler() http.Handler { return statsMux() }

// StatsOffHandler serves what stands in the place of the statistics page where nobody
// may see it, with status 404.
func StatsOffHandler() http.Handler { return statsOff() }

var trackFile = sync.OnceValue(func() *File {
	f := NewFile("text/javascript; charset=utf-8", trackJS)
	// Pages of other sites load it, and load it on every page: an hour old is fine.
	f.Header.Set("Cache-Control", "public, max-age=3600")
	f.Header.Set("Cross-Origin-Resource-Policy", "cross-origin")
	return f
})

// statsFiles are the files that the pages name, by their paths.
var statsFiles = sync.OnceValue(func() map[string]*File {
	files := make(map[string]*File)
	for name, contentType := range map[string]string{
		"stats.js":  "text/javascript; charset=utf-8",
		"stats.css": "text/css; charset=utf-8",
		"icon.svg":  "image/svg+xml",
		"world.svg": "image/svg+xml",
	} {
		files["/stats/"+name] = NewFile(contentType, embedded(name))
	}
	// The style asks for the land by its plain name, and the land does not move.
	files["/stats/world.svg"].Header.Set("Cache-Control", "public, max-age=86400")
	return files
})

// statsPage returns a page of the statistics. It asks for its files by names that
// change with them, so that they need not be asked for again.
func statsPage(name string) *File {
	page := string(embedded(name))
	for path, file := range statsFiles() {
		page = strings.ReplaceAll(page, `"`+path+`"`, `"`+file.Versioned(path)+`"`)
	}
	f := NewFile("text/html; charset=utf-8", []byte(page))
	f.Header.Set("Content-Security-Policy", statsPolicy)
	f.Header.Set("Referrer-Policy", "same-origin")
	return f
}

var statsOff = sync.OnceValue(func() http.Handler {
	page := statsPage("off.html")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { page.Serve(w, r, http.StatusNotFound) })
})

var statsMux = sync.OnceValue(func() http.Handler {
	files, index := statsFiles(), statsPage("index.html")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stats" {
			index.ServeHTTP(w, r)
			return
		}
		if r.URL.Path == "/stats/" {
			http.Redirect(w, r, "/stats", http.StatusMovedPermanently)
			return
		}
		if file, ok := files[r.URL.Path]; ok {
			file.ServeHTTP(w, r)
			return
		}
		http.NotFound(w, r)
	})
})

var statsFS = sync.OnceValue(func() fs.FS {
	dist, err := fs.Sub(statsDist, "stats/dist")
	if err != nil {
		panic(fmt.Sprintf("web: embedded files: %v", err))
	}
	return dist
})

func embedded(name string) []byte {
	body, err := fs.ReadFile(statsFS(), name)
	if err != nil {
		panic(fmt.Sprintf("web: embedded file: %v", err))
	}
	return body
}
