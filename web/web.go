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
// came from and to nobody else, and has no script and no style written in it but
// those whose hashes are given, each with a space before it.
const statsPolicy = "default-src 'none'; script-src 'self'%s; style-src 'self'%s; img-src 'self'; " +
	"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"

// TrackJS returns the tracker script. It is not to be modified.
func TrackJS() []byte { return trackJS }

// Icon returns the icon, an SVG image. It is not to be modified.
func Icon() []byte { return icon }

// Theme returns the style sheet that the statistics page and the site share:
// colours for light and dark, type, header and footer. It is not to be modified.
func Theme() []byte { return theme }

// TrackHandler serves the tracker script, whatever the path it is mounted at.
func TrackHandler() http.Handler { return trackFile() }

// StatsHandler serves the statistics page at /stats and its files below /stats/. The
// page is asked for with what its first paint shows, as first tells it for each request;
// where first is nil, or returns nil, the numbers come with the script.
func StatsHandler(first func(*http.Request) *StatsFrame) http.Handler {
	files := statsFiles()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stats" {
			var frame *StatsFrame
			if first != nil {
				frame = first(r)
			}
			statsPage().serve(w, r, frame)
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
}

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
	return files
})

// withVersions has a text ask for its files by names that change with them, so that
// they need not be asked for again. In the text the names stand between quotes, or
// nothing.
func withVersions(text, quote string) string {
	for path, file := range statsFiles() {
		text = strings.ReplaceAll(text, quote+path+quote, quote+file.Versioned(path)+quote)
	}
	return text
}

var statsOff = sync.OnceValue(func() http.Handler {
	page := NewFile("text/html; charset=utf-8", []byte(withVersions(string(embedded("off.html")), `"`)))
	page.Header.Set("Content-Security-Policy", fmt.Sprintf(statsPolicy, "", ""))
	page.Header.Set("Referrer-Policy", "same-origin")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { page.Serve(w, r, http.StatusNotFound) })
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
