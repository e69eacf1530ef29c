package accesslog

import (
	"path"
	"slices"
	"strings"
)

// A Reason says why a line of a log is not a page view. Its text is what the
// summary of an import shows.
type Reason string

// The reasons, in the order in which they are tried.
const (
	Blank    Reason = "empty line"
	TooLong  Reason = "line too long"
	BadLine  Reason = "not in the combined log format"
	NotGet   Reason = "not a GET request"
	BadState Reason = "answered with another status than 200, 203 or 304"
	NotPage  Reason = "an asset, not a page"
)

// pageStatuses are the answers that show the visitor a page: it was sent, sent
// by a proxy, or the browser has it already.
var pageStatuses = []int{200, 203, 304}

// assetExtensions are the endings of files that a page is made of or that are
// fetched by programs. Everything else is a page: an address without an ending,
// .html, .php, a source file shown as text.
var assetExtensions = func() map[string]bool {
	set := make(map[string]bool)
	for _, list := range []string{
		"css js mjs cjs map wasm json jsonld xml xsl xslt rss atom txt webmanifest",
		"ico png jpg jpeg jpe gif svg svgz webp avif apng bmp tif tiff cur",
		"woff woff2 ttf otf eot",
		"mp3 m4a aac ogg oga opus wav flac mp4 m4v webm ogv mov avi mkv swf",
		"pdf ps eps doc docx xls xlsx ppt pptx odt ods odp epub csv",
		"zip gz tgz bz2 tbz xz txz zst 7z rar tar jar war deb rpm apk dmg pkg iso img exe msi bin",
	} {
		for _, extension := range strings.Fields(list) {
			set["."+extension] = true
		}
	}
	return set
}()

// Excluded returns why the entry is not a page view, or "" when it is one. A
// page view is a GET answered 200, 203 or 304 for a path whose last part does
// not end in an extension of AssetExtensions.
func (e Entry) Excluded() Reason {
	switch {
	case e.Method != "GET":
		return NotGet
	case !slices.Contains(pageStatuses, e.Status):
		return BadState
	case !strings.HasPrefix(e.Path, "/"):
		return BadLine
	case assetExtensions[strings.ToLower(path.Ext(e.Path))]:
		return NotPage
	}
	return ""
}

// AssetExtensions returns the endings that mark a path as an asset, sorted,
// each with its dot. Case does not matter.
func AssetExtensions() []string {
	list := make([]string, 0, len(assetExtensions))
	for extension := range assetExtensions {
		list = append(list, extension)
	}
	slices.Sort(list)
	return list
}
