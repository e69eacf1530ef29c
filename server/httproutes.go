package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/halcyon-db/halcyon"
)

// serveHTTPRoutes answers requests of the HTTP routes of the app. How large a body may be is the route's own affair; what is read of it comes
// out of the budget for all clients.
func (s *Server) serveHTTPRoutes(routes http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(s.acting, cancel)()
		// A shutdown waits for it like for an action, for half of its time, unless it has begun to stream: that may have no end.
		s.runners.begin()
		done := sync.OnceFunc(s.runners.end)
		defer done()
		control := http.NewResponseController(w)
		paced := &pacedWriter{ResponseWriter: w, control: control, timeout: s.o.WriteTimeout, flushed: done}
		defer paced.end()
		// A route may take credentials of its own, so those that are not good here are nobody's.
		if who, err := s.authenticateRequest(r); err == nil && who.identity != nil {
			ctx = halcyon.WithIdentity(ctx, who.identity)
		}
		r = r.WithContext(ctx)
		if r.Body != http.NoBody {
			// Not every ResponseWriter has deadlines; then the server around it sets its own. net/http takes the deadline back when the
			// request is over.
			_ = control.SetReadDeadline(time.Now().Add(s.o.BodyTimeout))
			body := &claimedBody{body: r.Body, client: guestOf(r), budget: &s.inbound, ended: func() { _ = control.SetReadDeadline(time.Time{}) }}
			defer body.release()
			r.Body = body
		}
		routes.ServeHTTP(paced, r)
	}
}

// withBodyTime gives the body of a request the time for bodies to arrive, and no
// more. A handler that takes larger ones sets a read deadline of its own.
func (s *Server) withBodyTime(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != http.NoBody {
			control := http.NewResponseController(w)
			_ = control.SetReadDeadline(time.Now().Add(s.o.BodyTimeout)) // as in serveHTTPRoutes
			r.Body = &timedBody{ReadCloser: r.Body, client: guestOf(r), ended: func() { _ = control.SetReadDeadline(time.Time{}) }}
		}
		next.ServeHTTP(w, r)
	})
}

// timedBody is a body with a deadline, which is taken back when it has been read.
type timedBody struct {
	io.ReadCloser
	client *guest
	ended  func()
}

// Read reads a part of the body.
func (b *timedBody) Read(p []byte) (int, error) {
	b.client.waits()
	n, err := b.ReadCloser.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		b.client.works()
	}
	if errors.Is(err, io.EOF) {
		b.ended()
	}
	return n, err
}

// pacedWriter gives the client the write timeout for each piece of an answer.
type pacedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	timeout time.Duration
	flushed func()
	paced   bool
}

// Unwrap is for [http.ResponseController].
func (w *pacedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// FlushError is for [http.ResponseController].
func (w *pacedWriter) FlushError() error {
	w.pace()
	w.flushed()
	return w.control.Flush()
}

// Write writes the pieces of p.
func (w *pacedWriter) Write(p []byte) (n int, err error) {
	for {
		w.pace()
		piece := p[n:min(len(p), n+writePieceBytes)]
		written, err := w.ResponseWriter.Write(piece)
		if n += written; err != nil || n == len(p) {
			return n, err
		}
	}
}

func (w *pacedWriter) pace() {
	w.paced = true
	_ = w.control.SetWriteDeadline(time.Now().Add(w.timeout))
}

// end gives what net/http has yet to write the timeout too, if anything was written.
func (w *pacedWriter) end() {
	if w.paced {
		w.pace()
	}
}

// claimedBody is the body of a request. What has been read of it has its part of a budget until the request is over, for that is how long
// the one who reads it may hold it.
type claimedBody struct {
	body   io.ReadCloser
	client *guest
	budget *budget
	ended  func() // called when the body has been read

	mu struct {
		sync.Mutex
		read, held int64
		released   bool
	}
}

var errInboundRefused = &halcyon.RequestError{
	Code: halcyon.CodeOverloaded, Status: http.StatusServiceUnavailable,
	Message: "The server is busy with other large requests. Try again later.",
}

// Read reads a part of the body.
func (b *claimedBody) Read(p []byte) (int, error) {
	b.client.waits()
	n, err := b.body.Read(p)
	if err == nil || errors.Is(err, io.EOF) {
		b.client.works()
	}
	switch {
	case errors.Is(err, io.EOF):
		b.ended()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, errBodyTooSlow
	}
	if !b.claim(int64(n)) {
		return 0, errInboundRefused
	}
	return n, err
}

// claim counts n bytes more. A handler that was left behind gets no more.
func (b *claimedBody) claim(n int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.released {
		return false
	}
	b.mu.read += n
	more := b.mu.read - freeBytes - b.mu.held
	if more <= 0 {
		return true
	}
	if !b.budget.take(more) {
		return false
	}
	b.mu.held += more
	return true
}

// release puts the part of the budget back.
func (b *claimedBody) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.released = true
	b.budget.put(b.mu.held)
}

// Close closes the body.
func (b *claimedBody) Close() error { return b.body.Close() }
