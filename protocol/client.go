package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

// Limits of client messages. A message over one of them is malformed.
const (
	// ModificationsMax is the largest number of modifications of one
	// ModifyQuerySet. A client sends all its queries in one after a reconnect.
	ModificationsMax = 16_384
	// PathBytesMax is the length of the longest function path.
	PathBytesMax = 1_024
	// TokenBytesMax is the length of the longest token of an Authenticate.
	TokenBytesMax = 64 << 10
	// ReasonBytesMax is the length of the longest close reason and of any
	// other short text of a message.
	ReasonBytesMax = 4 << 10
	// JournalBytesMax is the length of the longest journal of a query.
	JournalBytesMax = 64 << 10
)

// ClientMessage is a message from a client to the server: *Connect,
// *ModifyQuerySet, *Mutation, *Action, *Authenticate or *Event.
type ClientMessage interface {
	// Append appends the JSON text of the message to dst.
	Append(dst []byte) []byte

	clientMessage()
}

var (
	_ ClientMessage = (*Connect)(nil)
	_ ClientMessage = (*ModifyQuerySet)(nil)
	_ ClientMessage = (*Mutation)(nil)
	_ ClientMessage = (*Action)(nil)
	_ ClientMessage = (*Authenticate)(nil)
	_ ClientMessage = (*Event)(nil)
)

// Connect is the first message on every connection.
type Connect struct {
	// SessionID is a UUID the client keeps across reconnects. With a request
	// id it names one mutation for good.
	SessionID string
	// ConnectionCount counts the connections of this client, from 0.
	ConnectionCount uint32
	// LastCloseReason says why the connection before this one ended. It is
	// "InitialConnect" on the first one and may be empty.
	LastCloseReason string
	// ClientTS is the client's clock in milliseconds since the epoch. Clients
	// that do not report it send 0.
	ClientTS float64
	// MaxObserved is the newest timestamp the client has ever seen from the
	// server, and nil before it has seen one.
	MaxObserved *Timestamp
}

// ModifyQuerySet adds live queries to those of a connection and removes some.
type ModifyQuerySet struct {
	// Base is the version of the query set that the client's last
	// ModifyQuerySet made, 0 on a new connection. New is Base + 1.
	Base, New     uint32
	Modifications []Modification
}

// Modification is one change of a query set: an addition, or a removal.
type Modification struct {
	// Remove is set for a removal, which has a QueryID and nothing else.
	Remove  bool
	QueryID uint32
	// Path is the name of the function, Args its arguments: an array of one
	// object.
	Path string
	Args json.RawMessage
	// Journal is what the last result of the query carried, or nil.
	Journal *string
	// Component is the component the function is in, for administrators.
	Component string
}

// Mutation asks for one run of a mutation.
type Mutation struct {
	RequestID uint32
	Path      string
	Args      json.RawMessage
	Component string
}

// Action asks for one run of an action. Its request id is from the same
// sequence as those of mutations.
type Action struct {
	RequestID uint32
	Path      string
	Args      json.RawMessage
	Component string
}

// Authenticate names the user of a connection.
type Authenticate struct {
	// Base is the identity version before this message.
	Base uint32
	// TokenType is "User", "Admin" or "None".
	TokenType string
	Token     string
	// Impersonating holds the identity an administrator acts as, or nil.
	Impersonating json.RawMessage
}

// Event is telemetry of a client.
type Event struct {
	EventType string
	Event     json.RawMessage
}

func (*Connect) clientMessage()        {}
func (*ModifyQuerySet) clientMessage() {}
func (*Mutation) clientMessage()       {}
func (*Action) clientMessage()         {}
func (*Authenticate) clientMessage()   {}
func (*Event) clientMessage()          {}

// DecodeClient reads a client's message. Every error wraps ErrSyntax. Raw parts
// of the result are parts of data, which must not change while they are in use.
func DecodeClient(data []byte) (ClientMessage, error) {
	kind, err := messageType(data)
	if err != nil {
		return nil, err
	}
	s := &scanner{data: data}
	var m ClientMessage
	switch kind {
	case "Connect":
		m, err = decodeConnect(s)
	case "ModifyQuerySet":
		m, err = decodeModifyQuerySet(s)
	case "Mutation":
		m, err = decodeMutation(s)
	case "Action":
		m, err = decodeAction(s)
	case "Authenticate":
		m, err = decodeAuthenticate(s)
	case "Event":
		m, err = decodeEvent(s)
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

// errFound ends the search for the type of a message.
var errFound = errors.New("found")

// messageType finds the discriminator of a message, which may stand anywhere in
// the object: the npm client puts it behind other fields. Text behind it is not
// looked at, so the rest of the message may still be malformed.
func messageType(data []byte) (string, error) {
	s := &scanner{data: data}
	kind := ""
	err := s.object(func(key string) (err error) {
		if key != "type" {
			return s.skip()
		}
		if kind, err = s.short(ReasonBytesMax); err == nil {
			err = errFound
		}
		return err
	})
	switch {
	case err == errFound:
		return kind, nil
	case err != nil:
		return "", err
	default:
		return "", s.fail(`no field "type"`)
	}
}

// fields records which required fields of an object have been seen.
type fields uint8

// require returns an error unless all the names, in the order of their bits,
// have been seen.
func (f fields) require(s *scanner, names ...string) error {
	for i, name := range names {
		if f&(1<<i) == 0 {
			return s.fail("missing field %q", name)
		}
	}
	return nil
}

// short reads a string of at most max bytes.
func (s *scanner) short(max int) (string, error) {
	text, err := s.string()
	if err == nil && len(text) > max {
		return "", s.fail("string is longer than %d bytes", max)
	}
	return text, err
}

// shortOrNull is short, with "" for null.
func (s *scanner) shortOrNull(max int) (string, error) {
	if s.null() {
		return "", nil
	}
	return s.short(max)
}

func (s *scanner) timestamp() (Timestamp, error) {
	text, err := s.short(timestampTextSize)
	if err != nil {
		return 0, err
	}
	ts, err := ParseTimestamp(text)
	if err != nil {
		return 0, s.fail("%v", err)
	}
	return ts, nil
}

func decodeConnect(s *scanner) (ClientMessage, error) {
	m := &Connect{}
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "sessionId":
			seen |= 1
			m.SessionID, err = s.short(ReasonBytesMax)
		case "connectionCount":
			seen |= 2
			m.ConnectionCount, err = s.uint32()
		case "lastCloseReason":
			m.LastCloseReason, err = s.shortOrNull(ReasonBytesMax)
		case "clientTs":
			if !s.null() {
				m.ClientTS, err = s.float64()
			}
		case "maxObservedTimestamp":
			m.MaxObserved = nil
			if !s.null() {
				var ts Timestamp
				ts, err = s.timestamp()
				m.MaxObserved = &ts
			}
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = seen.require(s, "sessionId", "connectionCount")
	}
	return m, err
}

func decodeModifyQuerySet(s *scanner) (ClientMessage, error) {
	m := &ModifyQuerySet{}
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "baseVersion":
			seen |= 1
			m.Base, err = s.uint32()
		case "newVersion":
			seen |= 2
			m.New, err = s.uint32()
		case "modifications":
			seen |= 4
			m.Modifications = nil
			err = s.array(func() error {
				if len(m.Modifications) == ModificationsMax {
					return s.fail("more than %d modifications", ModificationsMax)
				}
				mod, err := decodeModification(s)
				m.Modifications = append(m.Modifications, mod)
				return err
			})
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = seen.require(s, "baseVersion", "newVersion", "modifications")
	}
	return m, err
}

func decodeModification(s *scanner) (Modification, error) {
	m := Modification{}
	kind := ""
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "type":
			kind, err = s.short(ReasonBytesMax)
		case "queryId":
			seen |= 1
			m.QueryID, err = s.uint32()
		case "udfPath":
			seen |= 2
			m.Path, err = s.short(PathBytesMax)
		case "args":
			seen |= 4
			m.Args, err = s.raw()
		case "journal":
			m.Journal = nil
			if !s.null() {
				var text string
				text, err = s.short(JournalBytesMax)
				m.Journal = &text
			}
		case "componentPath":
			m.Component, err = s.shortOrNull(PathBytesMax)
		default:
			err = s.skip()
		}
		return err
	})
	if err != nil {
		return m, err
	}
	switch kind {
	case "Add":
		return m, seen.require(s, "queryId", "udfPath", "args")
	case "Remove":
		return Modification{Remove: true, QueryID: m.QueryID}, seen.require(s, "queryId")
	default:
		return m, s.fail("unknown modification type %.40q", kind)
	}
}

func decodeMutation(s *scanner) (ClientMessage, error) {
	m, err := decodeCall(s)
	return (*Mutation)(&m), err
}

func decodeAction(s *scanner) (ClientMessage, error) {
	m, err := decodeCall(s)
	return (*Action)(&m), err
}

// call has the fields that Mutation and Action share.
type call Mutation

func decodeCall(s *scanner) (call, error) {
	m := call{}
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "requestId":
			seen |= 1
			m.RequestID, err = s.uint32()
		case "udfPath":
			seen |= 2
			m.Path, err = s.short(PathBytesMax)
		case "args":
			seen |= 4
			m.Args, err = s.raw()
		case "componentPath":
			m.Component, err = s.shortOrNull(PathBytesMax)
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = seen.require(s, "requestId", "udfPath", "args")
	}
	return m, err
}

func decodeAuthenticate(s *scanner) (ClientMessage, error) {
	m := &Authenticate{}
	var seen fields
	err := s.object(func(key string) (err error) {
		switch key {
		case "baseVersion":
			seen |= 1
			m.Base, err = s.uint32()
		case "tokenType":
			seen |= 2
			m.TokenType, err = s.short(ReasonBytesMax)
		case "value":
			m.Token, err = s.shortOrNull(TokenBytesMax)
		case "impersonating", "acting_as":
			m.Impersonating = nil
			if !s.null() {
				m.Impersonating, err = s.raw()
			}
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = seen.require(s, "baseVersion", "tokenType")
	}
	if err == nil {
		switch m.TokenType {
		case "User", "Admin", "None":
		default:
			err = s.fail("unknown token type %.40q", m.TokenType)
		}
	}
	return m, err
}

func decodeEvent(s *scanner) (ClientMessage, error) {
	m := &Event{}
	err := s.object(func(key string) (err error) {
		switch key {
		case "eventType":
			m.EventType, err = s.shortOrNull(ReasonBytesMax)
		case "event":
			m.Event, err = s.raw()
		default:
			err = s.skip()
		}
		return err
	})
	return m, err
}

// Append appends the JSON text of m to dst.
func (m *Connect) Append(dst []byte) []byte {
	dst = append(dst, `{"connectionCount":`...)
	dst = appendUint(dst, m.ConnectionCount)
	dst = append(dst, `,"lastCloseReason":`...)
	if m.LastCloseReason == "" {
		dst = append(dst, "null"...)
	} else {
		dst = AppendString(dst, m.LastCloseReason)
	}
	dst = append(dst, `,"clientTs":`...)
	dst = strconv.AppendFloat(dst, m.ClientTS, 'f', -1, 64)
	dst = append(dst, `,"type":"Connect","sessionId":`...)
	dst = AppendString(dst, m.SessionID)
	if m.MaxObserved != nil {
		dst = append(dst, `,"maxObservedTimestamp":"`...)
		dst = m.MaxObserved.Append(dst)
		dst = append(dst, '"')
	}
	return append(dst, '}')
}

// Append appends the JSON text of m to dst.
func (m *ModifyQuerySet) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"ModifyQuerySet","baseVersion":`...)
	dst = appendUint(dst, m.Base)
	dst = append(dst, `,"newVersion":`...)
	dst = appendUint(dst, m.New)
	dst = append(dst, `,"modifications":[`...)
	for i, mod := range m.Modifications {
		if i > 0 {
			dst = append(dst, ',')
		}
		if mod.Remove {
			dst = append(dst, `{"type":"Remove","queryId":`...)
			dst = appendUint(dst, mod.QueryID)
			dst = append(dst, '}')
			continue
		}
		dst = append(dst, `{"type":"Add","queryId":`...)
		dst = appendUint(dst, mod.QueryID)
		dst = append(dst, `,"udfPath":`...)
		dst = AppendString(dst, mod.Path)
		dst = append(dst, `,"args":`...)
		dst = append(dst, mod.Args...)
		if mod.Journal != nil {
			dst = append(dst, `,"journal":`...)
			dst = AppendString(dst, *mod.Journal)
		}
		dst = appendComponent(dst, mod.Component)
		dst = append(dst, '}')
	}
	return append(dst, ']', '}')
}

// Append appends the JSON text of m to dst.
func (m *Mutation) Append(dst []byte) []byte {
	return (*call)(m).append(append(dst, `{"type":"Mutation","requestId":`...))
}

// Append appends the JSON text of m to dst.
func (m *Action) Append(dst []byte) []byte {
	return (*call)(m).append(append(dst, `{"type":"Action","requestId":`...))
}

func (m *call) append(dst []byte) []byte {
	dst = appendUint(dst, m.RequestID)
	dst = append(dst, `,"udfPath":`...)
	dst = AppendString(dst, m.Path)
	dst = append(dst, `,"args":`...)
	dst = append(dst, m.Args...)
	dst = appendComponent(dst, m.Component)
	return append(dst, '}')
}

// Append appends the JSON text of m to dst.
func (m *Authenticate) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"Authenticate","baseVersion":`...)
	dst = appendUint(dst, m.Base)
	dst = append(dst, `,"tokenType":`...)
	dst = AppendString(dst, m.TokenType)
	if m.TokenType != "None" {
		dst = append(dst, `,"value":`...)
		dst = AppendString(dst, m.Token)
	}
	if m.Impersonating != nil {
		dst = append(dst, `,"impersonating":`...)
		dst = append(dst, m.Impersonating...)
	}
	return append(dst, '}')
}

// Append appends the JSON text of m to dst.
func (m *Event) Append(dst []byte) []byte {
	dst = append(dst, `{"type":"Event","eventType":`...)
	dst = AppendString(dst, m.EventType)
	if m.Event != nil {
		dst = append(dst, `,"event":`...)
		dst = append(dst, m.Event...)
	}
	return append(dst, '}')
}

func appendComponent(dst []byte, component string) []byte {
	if component == "" {
		return dst
	}
	dst = append(dst, `,"componentPath":`...)
	return AppendString(dst, component)
}

func appendUint(dst []byte, n uint32) []byte {
	return strconv.AppendUint(dst, uint64(n), 10)
}
