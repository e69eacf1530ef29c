package server

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// serveQuery runs a query: POST with a body, or GET with parameters.
func (s *Server) serveQuery(w http.ResponseWriter, r *http.Request) {
	if s.overloaded(w, engine.Queries) {
		return
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		call, code, message := parseQueryCall(r.URL.RawQuery)
		if code != "" {
			writeError(w, http.StatusBadRequest, code, message)
			return
		}
		s.serveCall(w, r, call, s.app.Query)
	default:
		s.servePost(w, r, "GET, POST, OPTIONS", s.app.Query)
	}
}

// parseQueryCall reads the call of a GET from its parameters: path, and args and format, which may be missing. Where they are wrong it returns a
// code and a message.
func parseQueryCall(parameters string) (call protocol.HTTPCall, code, message string) {
	// A parameter that can't be read is not passed over: without its arguments a query is another one.
	q, err := url.ParseQuery(parameters)
	if err != nil {
		return call, "BadQueryArgs", "The parameters can't be read: " + err.Error() + "."
	}
	call = protocol.HTTPCall{Path: q.Get("path"), Args: []byte(q.Get("args"))}
	if len(call.Args) == 0 {
		call.Args = []byte("{}")
	}
	if call.Format, err = protocol.ParseFormat(q.Get("format")); err != nil {
		return call, "BadFormat", err.Error()
	}
	if call.Path == "" {
		return call, "BadQueryArgs", `The parameter "path" is missing.`
	}
	return call, "", ""
}

// serveMutation runs a mutation. With the header Idempotency-Key, a mutation
// that is sent again with the same key happens once.
func (s *Server) serveMutation(w http.ResponseWriter, r *http.Request) {
	if s.overloaded(w, engine.Mutations) {
		return
	}
	s.servePost(w, r, "POST, OPTIONS", func(ctx context.Context, req halcyon.Request) (halcyon.Outcome, error) {
		if key := r.Header.Get("Idempotency-Key"); key != "" {
			// The key of one user says nothing about that of another.
			label := "Idempotency-Key\x00"
			if req.Identity != nil {
				label = fmt.Sprintf("Idempotency-Key of %q\x00", req.Identity.TokenIdentifier)
			}
			sum := sha256.Sum256([]byte(label + key))
			req.Client, req.Once = engine.ClientID(sum[:16]), true
		}
		return s.app.Mutation(ctx, req)
	})
}

// serveAction runs an action. It goes on when its client has gone, and ends with
// the server.
func (s *Server) serveAction(w http.ResponseWriter, r *http.Request) {
	s.servePost(w, r, "POST, OPTIONS", func(ctx context.Context, req halcyon.Request) (halcyon.Outcome, error) {
		return s.app.Action(halcyon.WithRequestID(s.acting, halcyon.RequestID(ctx)), req)
	})
}

// runFunction is App.Query, App.Mutation or App.Action.
type runFunction func(context.Context, halcyon.Request) (halcyon.Outcome, error)

func (s *Server) servePost(w http.ResponseWriter, r *http.Request, allow string, run runFunction) {
	s.servePostedAs(w, r, allow, func(body []byte) {
		call, err := protocol.DecodeHTTPCall(body)
		if err != nil {
			writeError(w, http.StatusBadRequest, "BadJsonBody", err.Error())
			return
		}
		s.serveCall(w, r, call, run)
	})
}

// servePosted reads the body of a POST and has it served.
func (s *Server) servePosted(w http.ResponseWriter, r *http.Request, serve func(body []byte)) {
	s.servePostedAs(w, r, "POST, OPTIONS", serve)
}

func (s *Server) servePostedAs(w http.ResponseWriter, r *http.Request, allow string, serve func(body []byte)) {
	if r.Method != http.MethodPost {
		methodNotAllowed(w, allow)
		return
	}
	// What a body would become is not known before the work is done, and who sends one is waited for anyway.
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		w.Header().Set("Accept-Encoding", "identity")
		writeError(w, http.StatusUnsupportedMediaType, "UnsupportedContentEncoding", "The body of a request must not be compressed.")
		return
	}
	// The type of the body is not looked at: a page may send text/plain, which
	// needs no preflight.
	body, claim, err := s.readBody(w, r)
	defer s.inbound.put(claim)
	if err != nil {
		refuseBody(w, err, s.o.RequestBytesMax)
		return
	}
	serve(body)
}

// serveCall runs a function and writes what came of it.
func (s *Server) serveCall(w http.ResponseWriter, r *http.Request, call protocol.HTTPCall, run runFunction) {
	who, err := s.authenticateRequest(r)
	if err != nil {
		s.refuseCredentials(w, err)
		return
	}
	args, err := parseArgs(call.Args)
	if err != nil {
		writeError(w, http.StatusBadRequest, string(halcyon.CodeBadArgs), err.Error())
		return
	}
	out, err := run(r.Context(), halcyon.Request{Path: call.Path, Args: args, Identity: who.identity, Admin: who.admin, UserAgent: userAgent(r), Early: true})
	if err != nil {
		if r.Context().Err() != nil {
			return // nobody is there to be told
		}
		s.refuse(w, err)
		return
	}
	appendValue := value.AppendCleanJSON
	if call.Format == protocol.FormatEncoded {
		appendValue = value.AppendJSON
	}
	var text []byte
	if f := out.Failure; f != nil {
		var data []byte
		if !f.Data.IsUndefined() {
			data = appendValue(nil, f.Data)
		}
		text = protocol.AppendHTTPFailure(nil, f.Message, data, out.Logs)
	} else {
		text = protocol.AppendHTTPSuccess(nil, appendValue(nil, out.Value), out.Logs)
	}
	if len(text) <= heldBytes {
		writeJSON(w, http.StatusOK, text)
		return
	}
	// A larger answer is written before this returns; its reader has its time too.
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(s.o.BodyTimeout))
	writeJSON(w, http.StatusOK, text)
	_ = control.SetWriteDeadline(time.Time{})
}

// heldBytes is how much of an answer net/http holds back until its handler has returned.
const heldBytes = 2048

// overloaded refuses a call before its body is read, when it would be refused
// after.
func (s *Server) overloaded(w http.ResponseWriter, calls engine.CallKind) bool {
	if !s.app.Overloaded(calls) {
		return false
	}
	s.refuse(w, halcyon.Refuse(halcyon.CodeOverloaded, nil))
	return true
}

// refuse answers a request that did not become a call.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	refused := s.refusal(err)
	if refused.Code.Retry() {
		w.Header().Set("Retry-After", "1")
	}
	writeError(w, refused.Status, string(refused.Code), refused.Message)
}

var (
	errBodyTooLarge = errors.New("body too large")
	errBodyTooSlow  = errors.New("body too slow")
)

// readBody reads the body of a request. The caller must put the claim back, also
// after an error.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) (body []byte, claim int64, err error) {
	if r.ContentLength > int64(s.o.RequestBytesMax) {
		return nil, 0, errBodyTooLarge
	}
	// Not every ResponseWriter has deadlines; then the server around it sets its own.
	// After an error the deadline stays: net/http reads on to the end of the body.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(s.o.BodyTimeout))
	limited := http.MaxBytesReader(w, r.Body, int64(s.o.RequestBytesMax))
	client := guestOf(r)
	client.waits()
	defer func() {
		if err == nil {
			client.works()
		}
	}()
	body = make([]byte, 0, 1024)
	for {
		if len(body) == cap(body) {
			// Memory follows what came, not what was announced.
			grown := 2 * int64(cap(body))
			if more := grown - freeBytes - claim; more > 0 {
				if !s.inbound.take(more) {
					return nil, claim, errInboundFull
				}
				claim += more
			}
			body = append(make([]byte, 0, grown), body...)
		}
		n, err := limited.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		var tooLarge *http.MaxBytesError
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			_ = control.SetReadDeadline(time.Time{})
			return body, claim, nil
		case errors.As(err, &tooLarge):
			return nil, claim, errBodyTooLarge
		default:
			return nil, claim, fmt.Errorf("%w: %w", errBodyTooSlow, err)
		}
	}
}

func refuseBody(w http.ResponseWriter, err error, max int) {
	switch {
	case errors.Is(err, errBodyTooLarge):
		writeError(w, http.StatusRequestEntityTooLarge, "RequestTooLarge", fmt.Sprintf("The body of a request may have %d bytes.", max))
	case errors.Is(err, errInboundFull):
		w.Header().Set("Retry-After", "3")
		writeError(w, http.StatusServiceUnavailable, reasonBusy, "The server is busy with other large requests. Try again later.")
	default:
		writeError(w, http.StatusRequestTimeout, "RequestTimeout", "The body of the request did not arrive.")
	}
}

func methodNotAllowed(w http.ResponseWriter, allow string) {
	w.Header().Set("Allow", allow)
	writeError(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "Allowed methods: "+allow+".")
}

// writeError refuses a request before any function has run.
func writeError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, protocol.AppendHTTPError(nil, code, message))
}

func writeJSON(w http.ResponseWriter, status int, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(text) // the client may be gone
}
