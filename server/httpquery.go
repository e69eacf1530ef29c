package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/protocol"
)

// batchQueriesMax is the number of queries in one batch.
const batchQueriesMax = 1_000

// serveQueryTS answers with a timestamp that queries can be run at for a while.
func (s *Server) serveQueryTS(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		methodNotAllowed(w, "POST, OPTIONS")
		return
	}
	at, err := s.app.Pin()
	if err != nil {
		s.refuse(w, err)
		return
	}
	writeJSON(w, http.StatusOK, fmt.Appendf(nil, `{"ts":%q}`, protocol.Timestamp(at)))
}

// serveQueryAtTS runs a query at such a timestamp.
func (s *Server) serveQueryAtTS(w http.ResponseWriter, r *http.Request) {
	if s.overloaded(w, engine.Queries) {
		return
	}
	s.servePosted(w, r, func(body []byte) {
		call, at, err := protocol.DecodeHTTPQueryAt(body)
		if err != nil {
			writeError(w, http.StatusBadRequest, "BadJsonBody", err.Error())
			return
		}
		s.serveCall(w, r, call, s.queryAt(engine.Timestamp(at)))
	})
}

func (s *Server) queryAt(at engine.Timestamp) runFunction {
	return func(ctx context.Context, req halcyon.Request) (halcyon.Outcome, error) {
		req.At = at
		return s.app.Query(ctx, req)
	}
}

// serveQueryBatch runs several queries on one state. Each is answered as it would be alone; what is wrong with one request is so with all.
func (s *Server) serveQueryBatch(w http.ResponseWriter, r *http.Request) {
	s.servePosted(w, r, func(body []byte) {
		calls, err := protocol.DecodeHTTPBatch(body, batchQueriesMax)
		if err != nil {
			writeError(w, http.StatusBadRequest, "BadJsonBody", err.Error())
			return
		}
		at, err := s.app.Pin()
		if err != nil {
			s.refuse(w, err)
			return
		}
		text := []byte(`{"results":[`)
		for i, call := range calls {
			answer := &heldAnswer{header: http.Header{}}
			s.serveCall(answer, r, call, s.queryAt(at))
			if answer.status != http.StatusOK {
				answer.sendTo(w)
				return
			}
			if i > 0 {
				text = append(text, ',')
			}
			text = append(text, answer.body...)
		}
		writeJSON(w, http.StatusOK, append(text, `]}`...))
	})
}

// heldAnswer keeps an answer instead of sending it.
type heldAnswer struct {
	header http.Header
	status int
	body   []byte
}

var _ http.ResponseWriter = (*heldAnswer)(nil)

// Header returns the headers.
func (a *heldAnswer) Header() http.Header { return a.header }

// WriteHeader notes the status.
func (a *heldAnswer) WriteHeader(status int) { a.status = status }

// Write keeps a part of the body.
func (a *heldAnswer) Write(p []byte) (int, error) {
	a.body = append(a.body, p...)
	return len(p), nil
}

func (a *heldAnswer) sendTo(w http.ResponseWriter) {
	if a.status == 0 {
		return // the client has gone
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body)
}

// serveRun runs the function that the path names, whatever it is: /api/run/a/b/f is a/b:f.
func (s *Server) serveRun(w http.ResponseWriter, r *http.Request) {
	module, name, ok := cutLast(strings.TrimPrefix(r.URL.Path, "/api/run/"), "/")
	if !ok || module == "" || name == "" {
		s.serveNothing(w, r)
		return
	}
	s.servePosted(w, r, func(body []byte) {
		call, err := protocol.DecodeHTTPRun(body)
		if err != nil {
			writeError(w, http.StatusBadRequest, "BadJsonBody", err.Error())
			return
		}
		call.Path = module + ":" + name
		s.serveCall(w, r, call, s.runAny)
	})
}

// serveFunction runs a function of whatever kind, also an internal one, for who has an admin key.
func (s *Server) serveFunction(w http.ResponseWriter, r *http.Request) {
	s.servePosted(w, r, func(body []byte) {
		call, err := protocol.DecodeHTTPCall(body)
		if err != nil {
			writeError(w, http.StatusBadRequest, "BadJsonBody", err.Error())
			return
		}
		s.serveCall(w, r, call, func(ctx context.Context, req halcyon.Request) (halcyon.Outcome, error) {
			if !req.Admin {
				return halcyon.Outcome{}, halcyon.Refuse(halcyon.CodeNeedsAdmin, nil)
			}
			return s.runAny(ctx, req)
		})
	})
}

// runAny runs a function of whatever kind. An action ends with the server, and not with its client.
func (s *Server) runAny(ctx context.Context, req halcyon.Request) (halcyon.Outcome, error) {
	if kind, _ := s.app.Kind(req.Path); kind == halcyon.KindAction {
		ctx = halcyon.WithRequestID(s.acting, halcyon.RequestID(ctx))
	}
	return s.app.Call(ctx, req)
}

// serveDebugEvent takes telemetry of clients, which nobody asked for.
func (s *Server) serveDebugEvent(w http.ResponseWriter, r *http.Request) {
	s.servePosted(w, r, func(body []byte) {
		if !json.Valid(body) {
			writeError(w, http.StatusBadRequest, "BadJsonBody", "The body is not JSON.")
			return
		}
		w.WriteHeader(http.StatusOK)
	})
}

// cutLast cuts s at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
