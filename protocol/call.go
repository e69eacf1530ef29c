package protocol

import (
	"encoding/json"
	"fmt"
)

// Format is how values are written in the answer to an HTTP call.
type Format uint8

// The formats of HTTP answers.
const (
	// FormatClean is JSON for people and for programs without a Convex client:
	// int64 and bytes are strings.
	FormatClean Format = iota
	// FormatEncoded is the JSON of the sync protocol, which loses nothing.
	FormatEncoded
)

// ParseFormat reads the name of a format. No name means FormatClean.
func ParseFormat(name string) (Format, error) {
	switch name {
	case "", "json", "convex_clean_json":
		return FormatClean, nil
	case "convex_encoded_json", "convex_json":
		return FormatEncoded, nil
	default:
		return 0, fmt.Errorf("unknown format %.40q: use json or convex_encoded_json", name)
	}
}

// HTTPCall is the body of a POST to /api/query, /api/mutation or /api/action.
type HTTPCall struct {
	Path   string
	Args   json.RawMessage
	Format Format
}

// DecodeHTTPCall reads the body of a call. Every error wraps ErrSyntax. Args of
// the result is a part of data.
func DecodeHTTPCall(data []byte) (HTTPCall, error) {
	c, _, err := decodeHTTPCall(data, true, false)
	return c, err
}

// decodeHTTPCall reads a call that has a path, a timestamp, both or neither.
func decodeHTTPCall(data []byte, withPath, withTS bool) (HTTPCall, Timestamp, error) {
	c := HTTPCall{}
	var ts Timestamp
	s := &scanner{data: data}
	var seen fields
	err := s.object(func(key string) (err error) {
		switch {
		case key == "path" && withPath:
			seen |= 2
			c.Path, err = s.short(PathBytesMax)
		case key == "args":
			seen |= 1
			c.Args, err = s.raw()
		case key == "ts" && withTS:
			seen |= 4
			var text string
			if text, err = s.short(ReasonBytesMax); err == nil {
				if ts, err = ParseTimestamp(text); err != nil {
					err = s.fail("%v", err)
				}
			}
		case key == "format":
			var name string
			if name, err = s.shortOrNull(ReasonBytesMax); err == nil {
				if c.Format, err = ParseFormat(name); err != nil {
					err = s.fail("%v", err)
				}
			}
		default:
			err = s.skip()
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err == nil {
		names := []string{"args", "path", "ts"}
		if !withPath {
			names = names[:1]
		} else if !withTS {
			names = names[:2]
		}
		err = seen.require(s, names...)
	}
	return c, ts, err
}

// ArgsObject returns the one object of named arguments: args itself, or the only
// element of the array args. An empty array stands for no arguments.
func ArgsObject(args json.RawMessage) (json.RawMessage, error) {
	s := &scanner{data: args}
	if s.peek() != '[' {
		if s.peek() != '{' {
			return nil, s.fail("arguments must be an object or an array of one object")
		}
		return args, nil
	}
	object := json.RawMessage("{}")
	n := 0
	err := s.array(func() (err error) {
		if n++; n > 1 || s.peek() != '{' {
			return s.fail("arguments must be an object or an array of one object")
		}
		object, err = s.raw()
		return err
	})
	return object, err
}

// AppendHTTPSuccess appends the answer to a call that returned value to dst.
func AppendHTTPSuccess(dst, value []byte, logLines []string) []byte {
	dst = append(dst, `{"status":"success","value":`...)
	dst = append(dst, value...)
	if len(logLines) > 0 {
		dst = appendLogLines(dst, logLines)
	}
	return append(dst, '}')
}

// AppendHTTPFailure appends the answer to a call that failed to dst. A nil
// errorData means that there is none.
func AppendHTTPFailure(dst []byte, message string, errorData []byte, logLines []string) []byte {
	dst = append(dst, `{"status":"error","errorMessage":`...)
	dst = AppendString(dst, message)
	dst = appendErrorData(dst, errorData)
	if len(logLines) > 0 {
		dst = appendLogLines(dst, logLines)
	}
	return append(dst, '}')
}

// AppendHTTPError appends the body of a request that was refused before any
// function ran to dst.
func AppendHTTPError(dst []byte, code, message string) []byte {
	dst = append(dst, `{"code":`...)
	dst = AppendString(dst, code)
	dst = append(dst, `,"message":`...)
	dst = AppendString(dst, message)
	return append(dst, '}')
}
