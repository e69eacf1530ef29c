package accesslog

import (
	"path"
	"slices"
	"strings"
)

// A Reason says why a line of a log is not a page view. Its text is what the
// summary of an import shows. Those for robots begin with RobotPrefix.
type Reason string

// The reasons, in the order in which they are tried.
const (
	Blank      Reason = "empty line"
	TooLong    Reason = "line too long"
	Unfinished Reason = "last line has no end yet"
	BadLine    Reason = "not in the common or combined log format"
	NotGet     Reason = "not a GET request"
	BadState   Reason = "answered with another status"
	NotPage    Reason = "an asset, not a page"
	NotFeed    Reason = "a feed, not a page"
	NoAgent    Reason = "no user agent"

	RobotPrefix = "robot: "
)

// Rules say which requests are page views. The zero value takes none; use
// DefaultRules.
type Rules struct {
	// Statuses are the answers that show a page.
	Statuses []int
	// Assets are the endings, with their dots and in lower case, of what is no
	// page.
	Assets map[string]bool
	// Feeds says that feeds count as pages.
	Feeds bool
	// Robot tells the name of the robot that an agent is. nil knows none, and
	// takes requests without an agent for those of people too.
	Robot func(agent string) (name string, ok bool)
}

// DefaultRules returns the rules with everything at its default, without Robot.
func DefaultRules() Rules {
	r := Rules{Statuses: []int{200, 203, 304}, Assets: make(map[string]bool, len(assetExtensions))}
	for _, extension := range assetExtensions {
		r.Assets[extension] = true
	}
	return r
}

// assetExtensions are the endings of files that a page is made of or that are
// fetched by programs. Everything else is a page: an address without an ending,
// .html, .php, a source file shown as text.
var assetExtensions = func() (list []string) {
	for _, words := range []string{
		"css js mjs cjs map wasm json jsonld xml xsl xslt txt webmanifest",
		"ico png jpg jpeg jpe gif svg svgz webp avif apng bmp tif tiff cur",
		"woff woff2 ttf otf eot",
		"mp3 m4a aac ogg oga opus wav flac mp4 m4v webm ogv mov avi mkv swf",
		"pdf ps eps doc docx xls xlsx ppt pptx odt ods odp epub csv",
		"zip gz tgz bz2 tbz xz txz zst 7z rar tar jar war deb rpm apk dmg pkg iso img exe msi bin",
	} {
		for _, extension := range strings.Fields(words) {
			list = append(list, "."+extension)
		}
	}
	slices.Sort(list)
	return list
}()

// AssetExtensions returns the endings that mark a path as an asset by default,
// sorted, each with its dot.
func AssetExtensions() []string { return slices.Clone(assetExtensions) }

// feedNames are the last parts of the paths of feeds, without an ending.
var feedNames = []string{"feed", "feeds", "rss", "atom", "rss-full", "rss2"}

// feedExtensions are their endings.
var feedExtensions = []string{".rss", ".atom", ".rdf"}

// feedKeys are the parameters by which programs that make pages choose a feed,
// and feedValues what the value of such a parameter begins with.
var (
	feedKeys   = []string{"feed", "flav", "format", "output", "type", "alt"}
	feedValues = []string{"rss", "atom", "feed", "rdf"}
)

// feedEndings are the endings that a feed by its name may have.
var feedEndings = []string{"", ".xml", ".json", ".php", ".rss", ".atom", ".rdf"}

// isFeed reports whether a request is for a feed.
func isFeed(address, query string) bool {
	last := strings.ToLower(path.Base(address)) // without a slash at the end
	extension := path.Ext(last)
	if slices.Contains(feedExtensions, extension) {
		return true
	}
	if slices.Contains(feedNames, strings.TrimSuffix(last, extension)) && slices.Contains(feedEndings, extension) {
		return true
	}
	for query != "" {
		var parameter string
		parameter, query, _ = strings.Cut(query, "&")
		key, value, ok := strings.Cut(parameter, "=")
		if !ok || !slices.Contains(feedKeys, strings.ToLower(key)) {
			continue
		}
		value = strings.ToLower(value)
		if slices.ContainsFunc(feedValues, func(begin string) bool { return strings.HasPrefix(value, begin) }) {
			return true
		}
	}
	return false
}

// Excluded returns why the entry is not a page view, or "" when it is one: a GET
// answered as the rules want it, for what is neither an asset nor a feed, by
// somebody who is not known to be a robot.
func (r *Rules) Excluded(e *Entry) Reason {
	switch {
	case e.Method != "GET":
		return NotGet
	case !slices.Contains(r.Statuses, e.Status):
		return BadState
	case !strings.HasPrefix(e.Path, "/"):
		return BadLine
	case !r.Feeds && isFeed(e.Path, e.Query):
		return NotFeed
	case r.Assets[strings.ToLower(path.Ext(e.Path))]:
		return NotPage
	case r.Robot == nil || e.Agent == "":
		return ""
	case e.Agent == "-":
		return NoAgent
	}
	if name, ok := r.Robot(e.Agent); ok {
		return Reason(RobotPrefix + name)
	}
	return ""
}
