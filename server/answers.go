package server

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/protocol"
)

// Texts that clients are shown.
const (
	noComponents = "Functions of components can only be called by the app itself."
)

func badArgs(err error) string { return "BadArguments: " + err.Error() }

// parseArgs reads the arguments of a call: an object, or an array of one.
func parseArgs(raw json.RawMessage) (value.Value, error) {
	object, err := protocol.ArgsObject(raw)
	if err != nil {
		return value.Value{}, err
	}
	return value.ParseJSON(object)
}

// encodeData returns the JSON of an error's data, and nil when there is none.
func encodeData(data value.Value) []byte {
	if data.IsUndefined() {
		return nil
	}
	return value.AppendJSON(nil, data)
}

// response is the outcome of a mutation on its way to the client.
type response struct {
	request uint32
	value   value.Value
	at      engine.Timestamp
	failure *halcyon.Failure // nil for a success
	logs    []string
}

func success(request uint32, out halcyon.Outcome) *response {
	return &response{request: request, value: out.Value, at: out.At, logs: out.Logs}
}

// append appends the message to dst.
func (r *response) append(dst []byte) []byte {
	m := protocol.MutationResponse{RequestID: r.request, LogLines: r.logs}
	if r.failure != nil {
		m.ErrorMessage, m.ErrorData = r.failure.Message, encodeData(r.failure.Data)
	} else {
		m.Success, m.TS = true, protocol.Timestamp(r.at)
		m.Value = value.AppendJSON(nil, r.value)
	}
	return m.Append(dst)
}

// responseOf turns the outcome of a mutation into its response. again is set
// when nobody can tell whether the mutation happened, or it should simply be
// sent again: then there is no response.
func (s *Server) responseOf(request uint32, out halcyon.Outcome, err error) (r *response, again bool) {
	if err == nil {
		if out.Failure != nil {
			return &response{request: request, failure: out.Failure, logs: out.Logs}, false
		}
		return success(request, out), false
	}
	refusal := s.refusal(err)
	switch refusal.Code {
	case halcyon.CodeUnavailable, halcyon.CodeInternal:
		return nil, true
	}
	return &response{request: request, failure: &halcyon.Failure{Message: refusal.Error(), Code: refusal.Code, Data: value.Object(
		value.Field{Name: "code", Value: value.String(string(refusal.Code))},
		value.Field{Name: "isConvexSystemError", Value: value.Bool(true)},
		value.Field{Name: "message", Value: value.String(refusal.Message)},
		value.Field{Name: "retry", Value: value.Bool(refusal.Code.Retry())},
	)}}, false
}

// refusal is why a request did not become a call. Causes that clients have no
// use for are logged and told as an internal error.
func (s *Server) refusal(err error) *halcyon.RequestError {
	var refused *halcyon.RequestError
	switch {
	case errors.As(err, &refused):
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		refused = &halcyon.RequestError{Code: halcyon.CodeUnavailable, Message: "The server is stopping.", Status: http.StatusServiceUnavailable}
	default:
		refused = &halcyon.RequestError{Code: halcyon.CodeInternal, Message: "Your request couldn't be completed. Try again later.", Status: http.StatusInternalServerError}
	}
	switch refused.Code {
	case halcyon.CodeOverloaded:
		s.refused.Add(1) // the sweeper logs it
	case halcyon.CodeInternal:
		s.log.Error("a call could not be completed", slog.Any("error", err))
	}
	return refused
}
