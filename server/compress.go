package server

import (
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
)

const (
	// compressBytesMin is the size of the smallest answer that is compressed:
	// with less the packet is not smaller.
	compressBytesMin = 1 << 10
	// brotliLevel and gzipLevel give most of what there is to gain for a few
	// milliseconds a megabyte.
	brotliLevel = 4
	gzipLevel   = 5
)

// withCompression compresses answers that gain by it for clients that take it,
// with brotli or gzip. An answer that has an encoding, is partial, or forbids it
// (no-transform) is left alone, and so are streams of events, which must not wait.
func withCompression(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		encoding := acceptedEncoding(r.Header.Values("Accept-Encoding"))
		if encoding == "" || r.Method == http.MethodHead || r.Header.Get("Upgrade") != "" {
			next.ServeHTTP(w, r)
			return
		}
		c := &compressor{ResponseWriter: w, encoding: encoding}
		defer func() {
			if p := recover(); p != nil {
				c.abandon()
				panic(p) // net/http ends the connection
			}
			c.finish()
		}()
		next.ServeHTTP(c, r)
	})
}

// acceptedEncoding returns the best encoding that a client takes: br, gzip, or
// "" for none.
func acceptedEncoding(lines []string) string {
	quality := map[string]float64{}
	for _, token := range splitTokens(lines) {
		name, parameters, _ := strings.Cut(token, ";")
		q := 1.0
		if text, ok := strings.CutPrefix(strings.TrimSpace(parameters), "q="); ok {
			var err error
			if q, err = strconv.ParseFloat(text, 64); err != nil {
				q = 0
			}
		}
		quality[strings.ToLower(strings.TrimSpace(name))] = q
	}
	accepts := func(name string) float64 {
		if q, ok := quality[name]; ok {
			return q
		}
		return quality["*"]
	}
	br, gz := accepts("br"), accepts("gzip")
	switch {
	case br > 0 && br >= gz:
		return "br"
	case gz > 0:
		return "gzip"
	}
	return ""
}

// compressible reports whether content of a type gets smaller.
func compressible(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	switch {
	case err != nil, media == "text/event-stream":
		return false
	case strings.HasPrefix(media, "text/"), strings.HasSuffix(media, "+json"), strings.HasSuffix(media, "+xml"):
		return true
	}
	switch media {
	case "application/json", "application/javascript", "application/xml", "application/wasm", "application/x-ndjson", "image/svg+xml", "font/ttf", "font/otf":
		return true
	}
	return false
}

// compressor is the [http.ResponseWriter] of an answer that may be compressed. It
// holds back the first kilobyte, to see whether there is more.
type compressor struct {
	http.ResponseWriter
	encoding string

	status  int // 0: not begun by the handler
	held    []byte
	decided bool           // the header has been sent
	out     io.WriteCloser // nil: as it is
}

var _ http.Flusher = (*compressor)(nil)

// Unwrap is for [http.ResponseController], for deadlines and the like.
func (c *compressor) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// WriteHeader notes the status. Those before the answer itself are passed on.
func (c *compressor) WriteHeader(status int) {
	switch {
	case c.status != 0:
	case status < 200 && status != http.StatusSwitchingProtocols:
		c.ResponseWriter.WriteHeader(status)
	default:
		c.status = status
		if !c.may() {
			c.decide(false)
		}
	}
}

// may reports whether the answer may be compressed, by what its header says.
func (c *compressor) may() bool {
	h := c.Header()
	size, err := strconv.Atoi(h.Get("Content-Length"))
	return c.status >= 200 && c.status != http.StatusNoContent && c.status != http.StatusPartialContent && c.status != http.StatusNotModified &&
		h.Get("Content-Encoding") == "" && h.Get("Content-Range") == "" && !strings.Contains(h.Get("Cache-Control"), "no-transform") &&
		(err != nil || size >= compressBytesMin) && (h.Get("Content-Type") == "" || compressible(h.Get("Content-Type")))
}

// Write takes a part of the body.
func (c *compressor) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if !c.decided {
		if len(c.held)+len(p) < compressBytesMin {
			c.held = append(c.held, p...)
			return len(p), nil
		}
		if c.Header().Get("Content-Type") == "" {
			c.Header().Set("Content-Type", http.DetectContentType(append(c.held[:len(c.held):len(c.held)], p[:min(len(p), 512)]...)))
		}
		if err := c.begin(c.may()); err != nil {
			return 0, err
		}
	}
	if c.out == nil {
		return c.ResponseWriter.Write(p)
	}
	return c.out.Write(p)
}

// begin sends the header and what was held back.
func (c *compressor) begin(compress bool) error {
	c.decide(compress)
	held := c.held
	c.held = nil
	if len(held) == 0 {
		return nil
	}
	var err error
	if c.out != nil {
		_, err = c.out.Write(held)
	} else {
		_, err = c.ResponseWriter.Write(held)
	}
	return err
}

// decide sends the header.
func (c *compressor) decide(compress bool) {
	if c.decided {
		return
	}
	c.decided = true
	h := c.Header()
	if h.Get("Content-Encoding") == "" && compressible(h.Get("Content-Type")) {
		h.Add("Vary", "Accept-Encoding")
	}
	if compress {
		h.Set("Content-Encoding", c.encoding)
		h.Del("Content-Length")
		h.Del("Accept-Ranges")
		if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
			h.Set("ETag", "W/"+tag) // other bytes for the same content
		}
		if c.encoding == "br" {
			w := brotliWriters.Get().(*brotli.Writer)
			w.Reset(c.ResponseWriter)
			c.out = w
		} else {
			w := gzipWriters.Get().(*gzip.Writer)
			w.Reset(c.ResponseWriter)
			c.out = w
		}
	}
	c.ResponseWriter.WriteHeader(c.status)
}

var (
	brotliWriters = sync.Pool{New: func() any { return brotli.NewWriterLevel(nil, brotliLevel) }}
	gzipWriters   = sync.Pool{New: func() any {
		w, _ := gzip.NewWriterLevel(nil, gzipLevel) // the level is one
		return w
	}}
)

// Flush sends what was written, for those who do not ask for errors.
func (c *compressor) Flush() { _ = c.FlushError() }

// FlushError sends what was written. What is flushed before its first kilobyte
// is a stream, whose parts are compressed one by one.
func (c *compressor) FlushError() error {
	if c.status == 0 {
		c.WriteHeader(http.StatusOK)
	}
	if !c.decided {
		if err := c.begin(c.Header().Get("Content-Type") != "" && c.may()); err != nil {
			return err
		}
	}
	if f, ok := c.out.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return err
		}
	}
	return http.NewResponseController(c.ResponseWriter).Flush()
}

// finish sends the rest.
func (c *compressor) finish() {
	if c.status != 0 && !c.decided {
		_ = c.begin(false) // the client may be gone
	}
	c.put(true)
}

// abandon gives the encoder back without ending what it encodes, so that the
// client sees that its answer is not whole.
func (c *compressor) abandon() { c.put(false) }

func (c *compressor) put(whole bool) {
	if c.out == nil {
		return
	}
	if whole {
		_ = c.out.Close() // the client may be gone
	}
	switch w := c.out.(type) {
	case *brotli.Writer:
		w.Reset(io.Discard)
		brotliWriters.Put(w)
	case *gzip.Writer:
		w.Reset(io.Discard)
		gzipWriters.Put(w)
	}
	c.out = nil
}
