package protocol

import (
	"encoding/json"
	"fmt"
	"strconv"
)

// ServerMessage is a message from the server to a client: *Transition,
// *TransitionChunk, *MutationResponse, *ActionResponse, *AuthError, *FatalError or
// *Ping.
type ServerMessage interface {
	// Append appends the JSON text of the message to dst.
	Append(dst []byte) []byte

	serverMessage()
}

var (
	_ ServerMessage = (*Transition)(nil)
	_ ServerMessage = (*TransitionChunk)(nil)
	_ ServerMessage = (*MutationResponse)(nil)
	_ ServerMessage = (*ActionResponse)(nil)
	_ ServerMessage = (*AuthError)(nil)
	_ ServerMessage = (*FatalError)(nil)
	_ ServerMessage = (*Ping)(nil)
)

// Version is how far a connection has come: in the client's changes of its
// query set and of its identity, and in the server's commit order.
type Version struct {
	QuerySet, Identity uint32
	TS                 Timestamp
}

// Transition takes a client from one version to another.
type Transition struct {
	Start, End    Version
	Modifications []QueryChange
	// ClockSkew is the client's clock minus the server's in milliseconds when
	// Connect came, nil when the client did not tell.
	ClockSkew *int64
	// ServerTS is the server's clock in nanoseconds, nil when not reported.
	ServerTS *int64
}

// QueryChangeKind says what happened to a query.
type QueryChangeKind uint8

// The kinds of query changes.
const (
	QueryUpdated QueryChangeKind = iota
	QueryFailed
	QueryRemoved
)

// QueryChange is the new state of one live query. Value is set for an update,
// ErrorMessage and perhaps ErrorData for a failure.
type QueryChange struct {
	Kind         QueryChangeKind
	QueryID      uint32
	Value        json.RawMessage
	ErrorMessage string
	ErrorData    json.RawMessage
	LogLines     []string
	Journal      *string
}

// MutationResponse answers a Mutation.
type MutationResponse struct {
	RequestID uint32
	Success   bool
	// Value is the result of a success, TS the place of its commit.
	Value json.RawMessage
	TS    Timestamp
	// ErrorMessage and perhaps ErrorData describe a failure.
	ErrorMessage string
	ErrorData    json.RawMessage
	LogLines     []string
}

// ActionResponse answers an Action.
type ActionResponse struct {
	RequestID    uint32
	Success      bool
	Value        json.RawMessage
	ErrorMessage string
	ErrorData    json.RawMessage
	LogLines     []string
}

// AuthError refuses a token. A client then fetches a new one and reconnects.
type AuthError struct {
	Message string
	// Base is the identity version the server is at.
	Base uint32
	// UpdateAttempted is set in the answer to an Authenticate, and not set
	// when a token that was accepted before has expired.
	UpdateAttempted bool
}

// FatalError tells a client that it broke the protocol. The npm client then
// stops for good, so a server sends it for nothing else.
type FatalError struct {
	Message string
}

// Ping keeps a connection alive for clients that count only messages.
type Ping struct{}

func (*Transition) serverMessage()       {}
func (*MutationResponse) serverMessage() {}
func (*ActionResponse) serverMessage()   {}
func (*AuthError) serverMessage()        {}
func (*FatalError) serverMessage()       {}
func (*Ping) serverMessage()             {}

// Append appends the JSON text of v to dst.
func (v Version) Append(dst []byte) []byte {
	dst = append(dst, `{"querySet":`...)
	dst = appendUint(dst, v.QuerySet)
	dst = append(dst, `,"identity":`...)
	dst = appendUint(dst, v.Identity)
	dst = append(dst, `,"ts":"`...)
	dst = v.TS.Append(dst)
	return append(dst, '"', '}')
}

// AppendTransitionStart appends the beginning of a Transition to dst, up to
// where its modifications, separated by commas, must follow.
func AppendTransitionStart(dst []byte, start, end Version) []byte {
	dst = append(dst, `{"type":"Transition","startVersion":`...)
	dst = start.Append(dst)
	dst = append(dst, `,"endVersion":`...)
	dst = end.Append(dst)
	return append(dst, `,"modifications":[`...)
}

// AppendTransitionEnd appends what follows the modifications of a Transition.
func AppendTransitionEnd(dst []byte, clockSkew, serverTS *int64) []byte {
	dst = append(dst, ']')
	if clockSkew != nil {
		dst = append(dst, `,"clientClockSkew":`...)
		dst = strconv.AppendInt(dst, *clockSkew, 10)
	}
	if serverTS != nil {
		dst = append(dst, `,"serverTs":`...)
		dst = strconv.AppendInt(dst, *serverTS, 10)
	}
	return append(dst, '}')
}

// AppendModificationStart appends the beginning of a query's change to dst, the
// one part of it that differs between connections. The body that
// AppendQueryUpdated or AppendQueryFailed made must follow.
func AppendModificationStart(dst []byte, queryID uint32) []byte {
	dst = append(dst, `{"queryId":`...)
	dst = appendUint(dst, queryID)
	return append(dst, ',')
}

// AppendQueryUpdated appends the body of a query's new result to dst. It is the
// same for every connection that asks the same query.
func AppendQueryUpdated(dst []byte, value []byte, logLines []string, journal *string) []byte {
	dst = append(dst, `"type":"QueryUpdated","value":`...)
	dst = append(dst, value...)
	dst = appendLogLines(dst, logLines)
	return append(appendJournal(dst, journal), '}')
}

// AppendQueryFailed appends the body of a query's failure to dst. A nil
// errorData means that there is none.
func AppendQueryFailed(dst []byte, message string, errorData []byte, logLines []string, journal *string) []byte {
	dst = append(dst, `"type":"QueryFailed","errorMessage":`...)
	dst = AppendString(dst, message)
	dst = appendLogLines(dst, logLines)
	dst = appendJournal(dst, journal)
	return append(appendErrorData(dst, errorData), '}')
}

// AppendQueryRemoved appends the answer to the removal of a query to dst.
func AppendQueryRemoved(dst []byte, queryID uint32) []byte {
	dst = append(dst, `{"type":"QueryRemoved","queryId":`...)
	dst = appendUint(dst, queryID)
	return append(dst, '}')
}

// Append appends the JSON text of m to dst.
func (m *Transition) Append(dst []byte) []byte {
	dst = AppendTransitionStart(dst, m.Start, m.End)
	for i, c := range m.Modifications {
		if i > 0 {
			dst = append(dst, ',')
		}
		switch c.Kind {
		case QueryRemoved:
			dst = AppendQueryRemoved(dst, c.QueryID)
		case QueryFailed:
			dst = AppendModificationStart(dst, c.QueryID)
			dst = AppendQueryFailed(dst, c.ErrorMessage, c.ErrorData, c.LogLines, c.Journal)
		default:
			dst = AppendModificationStart(dst, c.QueryID)
			dst = AppendQueryUpdated(dst, c.Value, c.LogLines, c.Journal)
		}
	}
	return AppendTransitionEnd(dst, m.ClockSkew, m.ServerTS)
}

// Append appends the JSON text of m to dst.
func (m *MutationResponse) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"MutationResponse","requestId":`...)
	dst = appendUint(dst, m.RequestID)
	dst = appendResult(dst, m.Success, m.Value, m.ErrorMessage, m.ErrorData)
	if m.Success {
		dst = append(dst, `,"ts":"`...)
		dst = m.TS.Append(dst)
		dst = append(dst, '"')
	} else {
		dst = append(dst, `,"ts":null`...)
	}
	return append(appendLogLines(dst, m.LogLines), '}')
}

// Append appends the JSON text of m to dst.
func (m *ActionResponse) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"ActionResponse","requestId":`...)
	dst = appendUint(dst, m.RequestID)
	dst = appendResult(dst, m.Success, m.Value, m.ErrorMessage, m.ErrorData)
	return append(appendLogLines(dst, m.LogLines), '}')
}

// Append appends the JSON text of m to dst.
func (m *AuthError) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"AuthError","error":`...)
	dst = AppendString(dst, m.Message)
	dst = append(dst, `,"baseVersion":`...)
	dst = appendUint(dst, m.Base)
	dst = append(dst, `,"authUpdateAttempted":`...)
	return append(strconv.AppendBool(dst, m.UpdateAttempted), '}')
}

// Append appends the JSON text of m to dst.
func (m *FatalError) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"FatalError","error":`...)
	return append(AppendString(dst, m.Message), '}')
}

// Append appends the JSON text of m to dst.
func (m *Ping) Append(dst []byte) []byte {
	return append(dst, `{"type":"Ping"}`...)
}

func appendResult(dst []byte, success bool, value []byte, message string, errorData []byte) []byte {
	if success {
		dst = append(dst, `,"success":true,"result":`...)
		return append(dst, value...)
	}
	dst = append(dst, `,"success":false,"result":`...)
	dst = AppendString(dst, message)
	return appendErrorData(dst, errorData)
}

// appendErrorData appends the field errorData. Without data the field must be
// absent: a client takes any value, also null, for an error the app threw.
func appendErrorData(dst []byte, errorData []byte) []byte {
	if errorData == nil {
		return dst
	}
	dst = append(dst, `,"errorData":`...)
	return append(dst, errorData...)
}

func appendLogLines(dst []byte, lines []string) []byte {
	dst = append(dst, `,"logLines":[`...)
	for i, line := range lines {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, line)
	}
	return append(dst, ']')
}

func appendJournal(dst []byte, journal *string) []byte {
	dst = append(dst, `,"journal":`...)
	if journal == nil {
		return append(dst, "null"...)
	}
	return AppendString(dst, *journal)
}

// DecodeServer reads a server's message, for clients written in Go. It is as
// strict as DecodeClient and shares memory with data in the same way.
func DecodeServer(data []byte) (ServerMessage, error) {
	kind, err := messageType(data)
	if err != nil {
		return nil, err
	}
	s := &scanner{data: data}
	var m ServerMessage
	switch kind {
	case "Transition":
		m, err = decodeTransition(s)
	case "TransitionChunk":
		m, err = decodeTransitionChunk(s)
	case "MutationResponse":
		m, err = decodeMutationResponse(s)
	case "ActionResponse":
		m, err = decodeActionResponse(s)
	case "AuthError":
		m, err = decodeAuthError(s)
	case "FatalError":
		m, err = decodeFatalError(s)
	case "Ping":
		m, err = &Ping{}, s.skip()
	default:
		return nil, s.fail("unknown message type %.40q", kind)
	}
	if err == nil {
		err = s.end()
	}
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", kind, err)
	}
	return m, nil
}

func decodeVersion(s *scanner) (Version, error) {
	v := Version{}
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "querySet":
			seen |= 1
			v.QuerySet, err = s.uint32()
		case "identity":
			seen |= 2
			v.Identity, err = s.uint32()
		case "ts":
			seen |= 4
			v.TS, err = s.timestamp()
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = seen.require(s, "querySet", "identity", "ts")
	}
	return v, err
}

func decodeTransition(s *scanner) (ServerMessage, error) {
	m := &Transition{}
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "startVersion":
			seen |= 1
			m.Start, err = decodeVersion(s)
		case "endVersion":
			seen |= 2
			m.End, err = decodeVersion(s)
		case "modifications":
			seen |= 4
			m.Modifications = nil
			err = s.array(func() error {
				c, err := decodeQueryChange(s)
				m.Modifications = append(m.Modifications, c)
				return err
			})
		case "clientClockSkew":
			m.ClockSkew, err = s.int64OrNull()
		case "serverTs":
			m.ServerTS, err = s.int64OrNull()
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = seen.require(s, "startVersion", "endVersion", "modifications")
	}
	return m, err
}

func (s *scanner) int64OrNull() (*int64, error) {
	if s.null() {
		return nil, nil
	}
	text, err := s.number()
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return nil, s.fail("%.20s is not a 64-bit integer", text)
	}
	return &n, nil
}

func (s *scanner) logLines() ([]string, error) {
	var lines []string
	err := s.array(func() error {
		line, err := s.string()
		lines = append(lines, line)
		return err
	})
	return lines, err
}

func decodeQueryChange(s *scanner) (QueryChange, error) {
	c := QueryChange{}
	kind := ""
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "type":
			kind, err = s.short(ReasonBytesMax)
		case "queryId":
			seen |= 1
			c.QueryID, err = s.uint32()
		case "logLines":
			seen |= 2
			c.LogLines, err = s.logLines()
		case "value":
			seen |= 4
			c.Value, err = s.raw()
		case "errorMessage":
			seen |= 8
			c.ErrorMessage, err = s.string()
		case "errorData":
			c.ErrorData, err = s.raw()
		case "journal":
			if !s.null() {
				var text string
				text, err = s.string()
				c.Journal = &text
			}
		default:
			err = s.skip()
		}
		return err
	})
	if err != nil {
		return c, err
	}
	switch kind {
	case "QueryUpdated":
		return c, seen.require(s, "queryId", "logLines", "value")
	case "QueryFailed":
		c.Kind = QueryFailed
		// The bit of the value is of no interest for a failure.
		return c, (seen&3 | seen>>1&4).require(s, "queryId", "logLines", "errorMessage")
	case "QueryRemoved":
		return QueryChange{Kind: QueryRemoved, QueryID: c.QueryID}, seen.require(s, "queryId")
	default:
		return c, s.fail("unknown modification type %.40q", kind)
	}
}

func decodeMutationResponse(s *scanner) (ServerMessage, error) {
	m := &MutationResponse{}
	var result []byte
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "requestId":
			seen |= 1
			m.RequestID, err = s.uint32()
		case "success":
			seen |= 2
			m.Success, err = s.bool()
		case "result":
			seen |= 4
			result, err = s.raw()
		case "logLines":
			seen |= 8
			m.LogLines, err = s.logLines()
		case "ts":
			if !s.null() {
				seen |= 16
				m.TS, err = s.timestamp()
			}
		case "errorData":
			m.ErrorData, err = s.raw()
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = seen.require(s, "requestId", "success", "result", "logLines")
	}
	if err == nil && m.Success {
		err = seen.require(s, "requestId", "success", "result", "logLines", "ts")
	}
	if err == nil {
		m.Value, m.ErrorMessage, err = splitResult(m.Success, result)
	}
	return m, err
}

func decodeActionResponse(s *scanner) (ServerMessage, error) {
	m := &ActionResponse{}
	var result []byte
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "requestId":
			seen |= 1
			m.RequestID, err = s.uint32()
		case "success":
			seen |= 2
			m.Success, err = s.bool()
		case "result":
			seen |= 4
			result, err = s.raw()
		case "logLines":
			seen |= 8
			m.LogLines, err = s.logLines()
		case "errorData":
			m.ErrorData, err = s.raw()
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = seen.require(s, "requestId", "success", "result", "logLines")
	}
	if err == nil {
		m.Value, m.ErrorMessage, err = splitResult(m.Success, result)
	}
	return m, err
}

// splitResult reads the field result, which is a value after a success and a
// text after a failure.
func splitResult(success bool, result []byte) (value json.RawMessage, message string, err error) {
	if success {
		return result, "", nil
	}
	message, err = (&scanner{data: result}).string()
	return nil, message, err
}

func decodeAuthError(s *scanner) (ServerMessage, error) {
	m := &AuthError{}
	err := s.object(func(key string) (err error) {
		switch key {
		case "error":
			m.Message, err = s.string()
		case "baseVersion":
			if !s.null() {
				m.Base, err = s.uint32()
			}
		case "authUpdateAttempted":
			if !s.null() {
				m.UpdateAttempted, err = s.bool()
			}
		default:
			err = s.skip()
		}
		return err
	})
	return m, err
}

func decodeFatalError(s *scanner) (ServerMessage, error) {
	m := &FatalError{}
	err := s.object(func(key string) (err error) {
		if key == "error" {
			m.Message, err = s.string()
			return err
		}
		return s.skip()
	})
	return m, err
}
