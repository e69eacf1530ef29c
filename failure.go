package halcyon

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Error is an error that a function means its caller to see. It reaches clients as a ConvexError whose data is {code, message} and, when
// Data is set, data. Every other error is told to clients as "Server Error" with a request id, and to the operator in full.
type Error struct {
	Code    string // stable, for programs
	Message string // for people
	Data    any    // optional; encoded as a function result is
}

// Error returns the message with its code.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// data returns the data of the ConvexError.
func (e *Error) data() (value.Value, error) {
	fields := []value.Field{{Name: "code", Value: value.String(e.Code)}, {Name: "message", Value: value.String(e.Message)}}
	if e.Data != nil {
		data, err := encodeAny(e.Data)
		if err != nil {
			return value.Value{}, fmt.Errorf("data of error %s: %w", e.Code, err)
		}
		fields = append(fields, value.Field{Name: "data", Value: data})
	}
	return value.Object(fields...), nil
}

// Failure is how a call failed in the eyes of its caller.
type Failure struct {
	Message string      // already in Convex's wording
	Data    value.Value // data of a ConvexError; undefined when it is not one
	Code    Code        // of failures that are not the function's own; empty for those
}

// Error returns the message.
func (f *Failure) Error() string { return f.Message }

// As makes errors.As find the Error that the function returned, for an action that ran it. Its Data is a [value.Value].
func (f *Failure) As(target any) bool {
	into, ok := target.(**Error)
	if !ok || f.Code != "" || f.Data.Kind() != value.KindObject {
		return false
	}
	code, hasCode := f.Data.Get("code").AsString()
	message, hasMessage := f.Data.Get("message").AsString()
	if !hasCode || !hasMessage {
		return false
	}
	told := &Error{Code: code, Message: message}
	if data := f.Data.Get("data"); !data.IsUndefined() {
		told.Data = data
	}
	*into = told
	return true
}

// Code names a failure that is the system's and not a function's. The values are stable.
type Code string

// The codes, with what a caller may do about each. Those up to DiskFull are outcomes of a call and reach clients as ConvexError data
// {isConvexSystemError: true, code, message, retry}; the rest are answers to a request that did not become a call.
const (
	CodeTimeout        Code = "Timeout"                     // the function ran too long; nothing happened
	CodeActionTimeout  Code = "ActionTimeout"               // the action ran too long; what it did until then stays
	CodeLimitExceeded  Code = "LimitExceeded"               // the function or its arguments are too big; nothing happened
	CodeTooOld         Code = "TooOld"                      // a repeated mutation whose first answer is no longer kept; it was not run
	CodeFunctionStuck  Code = "FunctionStuck"               // refused: earlier runs of the function never came back; restart the program
	CodeIndexBuilding  Code = "IndexBuilding"               // an index that the function reads is still being built; nothing happened
	CodeInvalidCursor  Code = "InvalidCursor"               // a page begins or ends where no cursor of this query points; begin with the first page
	CodeIndexFailed    Code = "IndexBuildFailed"            // an index that the function reads does not fit the documents there are; the log says which
	CodeNoTable        Code = "NoTable"                     // the schema does not have, or no longer has, a table that the function uses
	CodeNoIndex        Code = "NoIndex"                     // the same of an index or an aggregate
	CodeNotUnique      Code = "NotUnique"                   // another document has the same values in a unique index; nothing happened
	CodeDiskFull       Code = "DiskFull"                    // the server's disk is nearly full; nothing was written, reading goes on
	CodeOutOfRetention Code = "OutOfRetention"              // the state at that timestamp is not kept any more
	CodeOverloaded     Code = "Overloaded"                  // not started: the queue is full
	CodeUnavailable    Code = "Unavailable"                 // not started: the store is closed or closing
	CodeBadFunction    Code = "BadConvexFunctionIdentifier" // the path can not be one of a function
	CodeBadArgs        Code = "BadArguments"                // the arguments are not an object
	CodeInternal       Code = "InternalServerError"         // the store failed; the log says how
	CodeBadAdminKey    Code = "BadAdminKey"                 // what was shown is not an admin key, or a revoked one
	CodeNeedsAdmin     Code = "AdminKeyRequired"            // an admin key is needed and was not shown
)

// codeInfo is the one table of codes.
var codeInfo = map[Code]struct {
	status  int  // HTTP
	retry   bool // the same call may succeed later
	message string
}{
	CodeTimeout:        {http.StatusServiceUnavailable, true, "The function ran longer than functions may and was stopped. It changed nothing."},
	CodeActionTimeout:  {http.StatusServiceUnavailable, false, "The action ran longer than actions may."},
	CodeLimitExceeded:  {http.StatusBadRequest, false, "A limit was exceeded."},
	CodeTooOld:         {http.StatusConflict, false, "This mutation was sent before, too long ago to know what came of it. It was not run again."},
	CodeFunctionStuck:  {http.StatusServiceUnavailable, false, "Earlier runs of this function never ended, so it is not run any more."},
	CodeIndexBuilding:  {http.StatusServiceUnavailable, true, "An index that this function reads is still being built."},
	CodeInvalidCursor:  {http.StatusBadRequest, false, "The cursor is not one of this query. Begin with the first page."},
	CodeIndexFailed:    {http.StatusInternalServerError, false, "An index that this function reads could not be built."},
	CodeNoTable:        {http.StatusInternalServerError, false, "A table that this function uses is not in the schema."},
	CodeNoIndex:        {http.StatusInternalServerError, false, "An index that this function uses is not in the schema."},
	CodeNotUnique:      {http.StatusConflict, false, "Another document has the same values in a unique index."},
	CodeDiskFull:       {http.StatusInsufficientStorage, true, "The server is short of disk space and takes no changes for now. Reading goes on."},
	CodeOutOfRetention: {http.StatusServiceUnavailable, false, "The state at that timestamp is not kept any more. Ask for a new timestamp."},
	CodeOverloaded:     {http.StatusServiceUnavailable, true, "Too many calls are waiting. This one was not started."},
	CodeUnavailable:    {http.StatusServiceUnavailable, true, "The server is stopping or not ready yet."},
	CodeBadFunction:    {http.StatusBadRequest, false, "The path does not name a function."},
	CodeBadArgs:        {http.StatusBadRequest, false, "Arguments must be an object."},
	CodeBadAdminKey:    {http.StatusUnauthorized, false, "This is not an admin key of this server, or it was revoked. See `key create`."},
	CodeNeedsAdmin:     {http.StatusUnauthorized, false, "This needs an admin key, in a header `Authorization: Convex KEY`. See `key create`."},
	CodeInternal:       {http.StatusInternalServerError, true, "Your request couldn't be completed. Try again later."},
}

// Retry reports whether the same call may succeed later.
func (c Code) Retry() bool { return codeInfo[c].retry }

// RequestError is why a request did not become a call of a function.
type RequestError struct {
	Code    Code
	Message string
	Status  int // HTTP
	cause   error
}

// Error returns the message with its code.
func (e *RequestError) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap returns the error of the engine, if it was one.
func (e *RequestError) Unwrap() error { return e.cause }

// Failure returns the failure by which a caller who waits for an outcome, such as a WebSocket client, is told the same.
func (e *RequestError) Failure() *Failure { return systemFailure(e.Code, e.Message) }

// Refuse returns the error of a request with a code, in the code's own words. cause, which may be nil, is for the operator.
func Refuse(code Code, cause error) *RequestError { return requestError(code, "", cause) }

// requestError builds the error of a code; an empty message stands for the code's own.
func requestError(code Code, message string, cause error) *RequestError {
	return &RequestError{Code: code, Message: orElse(message, codeInfo[code].message), Status: codeInfo[code].status, cause: cause}
}

// systemFailure is the failure of a code that is an outcome.
func systemFailure(code Code, message string) *Failure {
	message = orElse(message, codeInfo[code].message)
	data := []value.Field{
		{Name: "code", Value: value.String(string(code))},
		{Name: "isConvexSystemError", Value: value.Bool(true)},
		{Name: "message", Value: value.String(message)},
		{Name: "retry", Value: value.Bool(code.Retry())},
	}
	if code == CodeInvalidCursor {
		data = append(data, value.Field{Name: "paginationError", Value: value.String(string(code))}) // what the official clients look at
	}
	return &Failure{Code: code, Message: string(code) + ": " + message, Data: value.Object(data...)}
}

// classify sorts an error of the engine or the value package into a failure or a request error. Both are nil for a function's own error.
func classify(err error) (*Failure, error) {
	var engineLimit *engine.LimitError
	var valueLimit *value.LimitError
	var unique *engine.UniqueError
	switch {
	case errors.Is(err, engine.ErrTimeout):
		return systemFailure(CodeTimeout, ""), nil
	case errors.Is(err, engine.ErrTooOld):
		return systemFailure(CodeTooOld, ""), nil
	case errors.Is(err, engine.ErrFunctionStuck):
		return systemFailure(CodeFunctionStuck, ""), nil
	case errors.Is(err, engine.ErrIndexBuilding):
		return systemFailure(CodeIndexBuilding, ""), nil
	case errors.Is(err, engine.ErrInvalidCursor):
		return systemFailure(CodeInvalidCursor, ""), nil
	case errors.Is(err, engine.ErrBuildFailed):
		return systemFailure(CodeIndexFailed, ""), nil
	case errors.Is(err, engine.ErrNoTable):
		return systemFailure(CodeNoTable, ""), nil
	case errors.Is(err, engine.ErrNoIndex):
		return systemFailure(CodeNoIndex, ""), nil
	case errors.As(err, &unique):
		return systemFailure(CodeNotUnique, ""), nil
	case errors.Is(err, engine.ErrDiskFull):
		return systemFailure(CodeDiskFull, ""), nil
	case errors.As(err, &engineLimit):
		return systemFailure(CodeLimitExceeded, engineLimit.Error()), nil
	case errors.As(err, &valueLimit):
		return systemFailure(CodeLimitExceeded, valueLimit.Error()), nil
	case errors.Is(err, engine.ErrOutOfRetention):
		return nil, requestError(CodeOutOfRetention, "", err)
	case errors.Is(err, engine.ErrOverloaded):
		return nil, requestError(CodeOverloaded, "", err)
	case errors.Is(err, engine.ErrClosed), errors.Is(err, engine.ErrFailed):
		return nil, requestError(CodeUnavailable, "", err)
	}
	return nil, nil
}
