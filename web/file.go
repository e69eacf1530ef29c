package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// File is one file in memory, served with an ETag and packed for those who take
// gzip. Use [NewFile]; the zero value serves nothing useful.
type File struct {
	// Header is added to every answer. Without a Cache-Control of its own, the
	// file is asked for again each time, or never again when it was asked for by
	// its versioned name. It must not change once the file is served.
	Header http.Header

	body    []byte
	version string
	packed  func() []byte
}

var _ http.Handler = (*File)(nil)

// NewFile returns a file of the given type. It keeps body, which must not change.
func NewFile(contentType string, body []byte) *File {
	sum := sha256.Sum256(body)
	return &File{
		Header:  http.Header{"Content-Type": {contentType}, "X-Content-Type-Options": {"nosniff"}},
		body:    body,
		version: hex.EncodeToString(sum[:8]),
		packed:  sync.OnceValue(func() []byte { return pack(body) }),
	}
}

// Versioned returns the path with the file's version. What is asked for under
// that name may be kept for ever.
func (f *File) Versioned(path string) string { return path + "?v=" + f.version }

// ServeHTTP answers GET and HEAD.
func (f *File) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.Serve(w, r, http.StatusOK)
}

// Serve answers GET and HEAD with the given status. Only with status 200 a browser
// that has the file already is told so instead.
func (f *File) Serve(w http.ResponseWriter, r *http.Request, status int) {
	header := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		http.Error(w, "This address answers GET only.", http.StatusMethodNotAllowed)
		return
	}
	for name, values := range f.Header {
		header[name] = slices.Clone(values)
	}
	body, etag := f.body, `"`+f.version+`"`
	if packed := f.packed(); packed != nil {
		header.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header.Get("Accept-Encoding")) {
			body, etag = packed, `"`+f.version+`-gzip"`
			header.Set("Content-Encoding", "gzip")
		}
	}
	if header.Get("Cache-Control") == "" {
		if r.URL.Query().Get("v") == f.version {
			header.Set("Cache-Control", "public, max-age=31536000, immutable")
		} else {
			header.Set("Cache-Control", "no-cache")
		}
	}
	if status == http.StatusOK {
		header.Set("ETag", etag)
		if matches(r.Header.Get("If-None-Match"), f.version) {
			header.Del("Content-Encoding")
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // a client that went away needs no answer
	}
}

// pack returns the body gzipped, or nil where that is not worth it.
func pack(body []byte) []byte {
	const worthBytesMin = 512
	if len(body) < worthBytesMin {
		return nil
	}
	var packed bytes.Buffer
	w, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		panic(fmt.Sprintf("web: gzip: %v", err))
	}
	if _, err := w.Write(body); err != nil {
		panic(fmt.Sprintf("web: gzip into memory: %v", err))
	}
	if err := w.Close(); err != nil {
		panic(fmt.Sprintf("web: gzip into memory: %v", err))
	}
	if packed.Len() >= len(body) {
		return nil
	}
	return packed.Bytes()
}

// acceptsGzip reads an Accept-Encoding header. A coding with weight zero is refused.
func acceptsGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		coding, weight, _ := strings.Cut(part, ";")
		if name := strings.ToLower(strings.TrimSpace(coding)); name != "gzip" && name != "*" {
			continue
		}
		value, weighted := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
		if !weighted {
			return true
		}
		q, err := strconv.ParseFloat(value, 64)
		return err == nil && q > 0
	}
	return false
}

// matches reports whether an If-None-Match header names the version, packed or not.
func matches(header, version string) bool {
	for part := range strings.SplitSeq(header, ",") {
		tag := strings.Trim(strings.TrimPrefix(strings.TrimSpace(part), "W/"), `"`)
		if strings.TrimSpace(part) == "*" || tag == version || tag == version+"-gzip" {
			return true
		}
	}
	return false
}
