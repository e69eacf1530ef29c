package server

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"strings"

	"github.com/halcyon-db/halcyon/protocol"
)

// names gives what differs from one run of a scenario to the next the same names: $ts1, $id2, $cursor3, in the order in which they come.
type names struct {
	given map[string]string // by kind, a space and the value
	meant map[string]string // by name
	count map[string]int    // by kind
}

func newNames() names {
	return names{map[string]string{}, map[string]string{}, map[string]int{}}
}

func (c *conversation) clone() *conversation {
	n := c.names
	return &conversation{names{maps.Clone(n.given), maps.Clone(n.meant), maps.Clone(n.count)}, maps.Clone(c.ends)}
}

// name returns the name of a value.
func (n *names) name(kind, value string) string {
	name, ok := n.given[kind+" "+value]
	if !ok {
		n.count[kind]++
		name = fmt.Sprintf("$%s%d", kind, n.count[kind])
		n.given[kind+" "+value] = name
		n.meant[name] = value
	}
	return name
}

var (
	documentID = regexp.MustCompile(`^[0-9a-z]{32}$`)
	requestID  = regexp.MustCompile(`\[Request ID: [0-9a-f]{16}\]`)
	issuerURL  = regexp.MustCompile(`http://127\.0\.0\.1:[0-9]+`)
)

// longText is the size from which on a text of one character is told by its length.
const longText = 100

// text returns what stands for a string of a message in a transcript.
func (n *names) text(key, value string) string {
	switch {
	case value == "":
	case (key == "ts" || key == "maxObservedTimestamp") && value != protocol.Timestamp(0).String():
		return n.name("ts", value)
	case key == "sessionId":
		return n.name("session", value)
	case key == "cursor" || key == "continueCursor" || key == "splitCursor" || key == "endCursor":
		return n.name("cursor", value)
	case key == "journal":
		return n.name("journal", value)
	case documentID.MatchString(value):
		return n.name("id", value)
	case len(value) > longText && strings.Trim(value, value[:1]) == "":
		return fmt.Sprintf("%s times %d", value[:1], len(value))
	case key == "value" && strings.Count(value, ".") == 2:
		if payload, err := base64.RawURLEncoding.DecodeString(strings.Split(value, ".")[1]); err == nil {
			var claims struct {
				Subject string `json:"sub"`
				N       int    `json:"n"`
				Forged  bool   `json:"forged"`
			}
			if json.Unmarshal(payload, &claims) == nil {
				return strings.TrimSpace(fmt.Sprintf("$token %s %d %s", claims.Subject, claims.N, map[bool]string{true: "forged"}[claims.Forged]))
			}
		}
	}
	return issuerURL.ReplaceAllString(requestID.ReplaceAllString(value, "[Request ID: $$request]"), "$$issuer")
}

// replace returns a message with names in it. The order of its fields stays.
func (n *names) replace(message []byte) ([]byte, error) {
	return rewrite(message, func(key string, value any) any {
		switch value := value.(type) {
		case string:
			return n.text(key, value)
		case json.Number:
			if key == "clientTs" || key == "serverTs" || key == "clientClockSkew" {
				return "$" + key
			}
		}
		return value
	})
}

// restore returns a message with what the names stand for now; other looks up names that were never given.
func (n *names) restore(message []byte, other func(name string) (string, bool)) ([]byte, error) {
	var unknown error
	text, err := rewrite(message, func(key string, value any) any {
		name, ok := value.(string)
		switch {
		case !ok || !strings.HasPrefix(name, "$"):
			return value
		case name == "$session1":
			return sessionA
		case name == "$clientTs":
			return json.Number("1") // 0 says that it has no clock
		}
		meant, ok := n.meant[name]
		if !ok {
			if meant, ok = other(name); !ok {
				unknown = fmt.Errorf("nothing was named %s", name)
			}
		}
		return meant
	})
	if unknown != nil {
		err = unknown
	}
	return text, err
}

// rewrite copies JSON and replaces its strings, numbers and booleans; key is that of the innermost object.
func rewrite(text []byte, scalar func(key string, value any) any) ([]byte, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	put := func(v any) error {
		err := e.Encode(v)
		out.Truncate(out.Len() - 1) // the end of the line
		return err
	}
	type level struct {
		object bool
		n      int // of what it has, keys included
		key    string
	}
	levels := []level{{}}
	for {
		token, err := d.Token()
		if err == io.EOF {
			return out.Bytes(), nil
		}
		if err != nil {
			return nil, fmt.Errorf("rewrite %.300s: %w", text, err)
		}
		top := &levels[len(levels)-1]
		if end, ok := token.(json.Delim); ok && (end == '}' || end == ']') {
			out.WriteString(end.String())
			levels = levels[:len(levels)-1]
			continue
		}
		isKey := top.object && top.n%2 == 0
		switch {
		case top.object && !isKey:
			out.WriteByte(':')
		case top.n > 0:
			out.WriteByte(',')
		}
		top.n++
		switch token := token.(type) {
		case json.Delim:
			out.WriteString(token.String())
			levels = append(levels, level{object: token == '{', key: top.key})
		case string:
			if isKey {
				top.key = token
				err = put(token)
			} else {
				err = put(scalar(top.key, token))
			}
		default:
			err = put(scalar(top.key, token))
		}
		if err != nil {
			return nil, err
		}
	}
}
