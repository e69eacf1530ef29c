package stats

import (
	"regexp"
	"strings"
)

const (
	// pathSizeMax is the longest path that is kept, in bytes.
	pathSizeMax = 1024

	// visitorIDSizeMax is the longest visitor id, in bytes. The tracker's are
	// UUIDs of 36.
	visitorIDSizeMax = 128

	// pageTypeSizeMax is the longest page type, in bytes.
	pageTypeSizeMax = 64
)

// emailLike matches a part of a path that reads as an e-mail address, plain or
// percent-encoded. A version after an @, as in /npm/left-pad@1.3.0, is none.
var emailLike = regexp.MustCompile(`(?i)[^/@]+(?:@|%40)[^/@]+\.[a-z]{2,}`)

// cleanPath returns the path as it is kept: without query and fragment and with
// e-mail-like parts taken out, since all three carry personal data. The empty
// path is the home page.
func cleanPath(path string) string {
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if strings.Contains(path, "@") || strings.Contains(path, "%40") {
		path = emailLike.ReplaceAllLiteralString(path, "[email]")
	}
	if path == "" {
		return "/"
	}
	return path
}

// pathSlug returns the name under which a site knows the page at path.
func pathSlug(path string) string { return strings.TrimPrefix(path, "/") }

// pageTypeOf returns the type the tracker gives a path.
func pageTypeOf(path string) string {
	switch path {
	case "/", "":
		return "home"
	case "/stats":
		return "stats"
	default:
		return "page"
	}
}
