package halcyon

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// CacheControl is what caches may do with an answer. Its String is the value of the header Cache-Control:
//
//	w.Header().Set("Cache-Control", halcyon.CacheControl{Public: true, MaxAge: time.Hour}.String())
type CacheControl struct {
	NoStore bool // nobody keeps it; everything else is left out then
	Private bool // only the browser that asked may keep it
	Public  bool // caches in between may keep it, also for a request with Authorization
	NoCache bool // it may be kept, and is asked for again before each use: with an ETag that costs a 304

	MaxAge               time.Duration // how long it is fresh; 0 is left out
	SharedMaxAge         time.Duration // the same for caches in between
	StaleWhileRevalidate time.Duration // how long it may be shown while a fresh one is fetched
	MustRevalidate       bool          // it is never shown after MaxAge without being asked for
	Immutable            bool          // it never changes: it is not even asked for when the page is reloaded
}

// String returns the value of the header.
func (c CacheControl) String() string {
	if c.NoStore {
		return "no-store"
	}
	var parts []string
	flag := func(name string, on bool) {
		if on {
			parts = append(parts, name)
		}
	}
	age := func(name string, d time.Duration) {
		if d > 0 {
			parts = append(parts, name+"="+strconv.FormatInt(int64(d/time.Second), 10))
		}
	}
	flag("public", c.Public && !c.Private)
	flag("private", c.Private)
	flag("no-cache", c.NoCache)
	age("max-age", c.MaxAge)
	age("s-maxage", c.SharedMaxAge)
	age("stale-while-revalidate", c.StaleWhileRevalidate)
	flag("must-revalidate", c.MustRevalidate)
	flag("immutable", c.Immutable)
	return strings.Join(parts, ", ")
}

// ETag returns the entity tag of some content: equal for equal content.
func ETag(content []byte) string {
	sum := sha256.Sum256(content)
	return `"` + base64.RawURLEncoding.EncodeToString(sum[:15]) + `"`
}

// NotModified sets the header ETag, and answers a GET or HEAD of a client that has what the tag stands for with status 304. It reports whether
// it did: then the handler is done. The tag is that of the content, see [ETag], or of a version that stands for it, in quotes. Set
// Cache-Control and Vary before: they are in the short answer too.
func NotModified(w http.ResponseWriter, r *http.Request, etag string) bool {
	h := w.Header()
	h.Set("ETag", etag)
	if r.Method != http.MethodGet && r.Method != http.MethodHead || !matchesETag(r.Header.Values("If-None-Match"), etag) {
		return false
	}
	h.Del("Content-Type")
	h.Del("Content-Length")
	w.WriteHeader(http.StatusNotModified)
	return true
}

// matchesETag reports whether a tag is in an If-None-Match. A tag that was made weak on the way, as by a proxy that compresses, still stands
// for the same content.
func matchesETag(lines []string, etag string) bool {
	etag = strings.TrimPrefix(etag, "W/")
	for _, line := range lines {
		for {
			line = strings.TrimLeft(line, " \t,")
			if strings.HasPrefix(line, "*") {
				return true
			}
			line = strings.TrimPrefix(line, "W/")
			if !strings.HasPrefix(line, `"`) {
				break // the rest is no list of tags
			}
			end := strings.IndexByte(line[1:], '"')
			if end < 0 {
				break
			}
			if line[:end+2] == etag {
				return true
			}
			line = line[end+2:]
		}
	}
	return false
}
