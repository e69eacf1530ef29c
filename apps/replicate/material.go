package replicate

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/yjs"
)

// The roots of a document, as npm @trestleinc/replicate lays it out.
const (
	rootFields = "fields"
	rootMeta   = "_meta"
	metaGone   = "_deleted"
)

// Kind says what a field holds.
type Kind string

// The kinds of fields.
const (
	Any      Kind = "any"
	String   Kind = "string"
	Number   Kind = "number"
	Boolean  Kind = "boolean"
	RichText Kind = "richText" // an XML fragment, shown as the JSON of ProseMirror
)

// Field is a field of a document.
type Field struct {
	Name string
	Kind Kind
	// Optional lets the field be null or undefined. Any field may be absent: an update that creates a document need not set all at once.
	Optional bool
}

// Document is a document as rules and hooks see it: what its material says.
type Document struct {
	ID string
	// Exists says that something is stored under the name, and Deleted that a client has marked it as deleted.
	Exists, Deleted bool

	fields string
}

// JSON returns the fields as a JSON object. Rich text is the JSON of ProseMirror.
func (d Document) JSON() []byte { return []byte(d.fields) }

// Decode puts the fields into what into points to, as encoding/json does.
func (d Document) Decode(into any) error {
	if d.fields == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(d.fields), into); err != nil {
		return fmt.Errorf("fields of document %q: %w", d.ID, err)
	}
	return nil
}

// String returns a field that is text, and "" for any other.
func (d Document) String(field string) string {
	var text string
	if raw := d.raw(field); raw == nil || json.Unmarshal(raw, &text) != nil {
		return ""
	}
	return text
}

// raw returns the JSON of a field, nil without it.
func (d Document) raw(field string) json.RawMessage {
	var fields map[string]json.RawMessage
	if d.fields == "" || json.Unmarshal([]byte(d.fields), &fields) != nil {
		return nil
	}
	return fields[field]
}

// fault is why an update is refused.
type fault struct{ code, message string }

func (f *fault) Error() string { return f.code + ": " + f.message }

// view reads what a document says of itself. The error is a *fault.
func (c *Collection) view(id string, doc *yjs.Doc) (Document, error) {
	d := Document{ID: id, Exists: true}
	gone, _ := doc.Map(rootMeta).Get(metaGone)
	d.Deleted = gone == true
	out := []byte{'{'}
	fields := doc.Map(rootFields)
	for _, name := range fields.Keys() {
		if name == "id" {
			continue // the document's name is
		}
		if len(c.options.Fields) > 0 {
			i := slices.IndexFunc(c.options.Fields, func(f Field) bool { return f.Name == name })
			if i < 0 {
				continue
			}
			v, _ := fields.Get(name)
			if f := c.options.Fields[i]; !f.fits(v) {
				return d, &fault{CodeField, fmt.Sprintf("field %q is %s, want %s", name, nameOf(v), f.Kind)}
			}
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		text, _ := json.Marshal(name) // a string
		out = append(append(out, text...), ':')
		v, _ := fields.Get(name)
		mark := len(out)
		if out = appendField(out, v, 0); len(out) == mark {
			out = append(out, "null"...)
		}
		if len(out) > materialBytesMax {
			return d, &fault{CodeTooLarge, fmt.Sprintf("the fields of the document are larger than %d bytes", materialBytesMax)}
		}
	}
	d.fields = string(append(out, '}'))
	return d, nil
}

func (f Field) fits(v any) bool {
	switch v := v.(type) {
	case nil, yjs.Undefined:
		return f.Optional || f.Kind == Any
	case string:
		return f.Kind == String || f.Kind == Any
	case bool:
		return f.Kind == Boolean || f.Kind == Any
	case float64:
		return f.Kind == Number || f.Kind == Any
	case yjs.Text:
		return f.Kind == String || f.Kind == RichText || f.Kind == Any
	case yjs.XMLFragment:
		return f.Kind == RichText || f.Kind == Any
	case yjs.Object:
		// Npm @trestleinc/replicate stores rich text as plain JSON when it does not know the field for one.
		isDoc := slices.ContainsFunc(v, func(m yjs.Member) bool { return m.Key == "type" && m.Value == "doc" })
		return f.Kind == Any || f.Kind == RichText && isDoc
	}
	return f.Kind == Any
}

func nameOf(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case yjs.Undefined:
		return "undefined"
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case float64:
		return "a number"
	case yjs.Type:
		return "a shared " + v.Kind().String()
	}
	return "an object, an array or bytes"
}

// fieldDepthMax is how deep shared types are shown; what is deeper is null. Values may not be deeper.
const fieldDepthMax = 48

func appendField(dst []byte, v any, depth int) []byte {
	if depth > fieldDepthMax {
		return append(dst, "null"...)
	}
	switch v := v.(type) {
	case yjs.XMLFragment:
		return appendProse(dst, v, depth)
	case yjs.Map:
		dst = append(dst, '{')
		first := true
		for _, key := range v.Keys() {
			inner, _ := v.Get(key)
			if _, undefined := inner.(yjs.Undefined); undefined {
				continue
			}
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = append(appendString(dst, key), ':')
			dst = appendField(dst, inner, depth+1)
		}
		return append(dst, '}')
	case yjs.Array:
		dst = append(dst, '[')
		first := true
		for _, inner := range v.All() {
			if !first {
				dst = append(dst, ',')
			}
			first = false
			dst = appendField(dst, inner, depth+1)
		}
		return append(dst, ']')
	case yjs.Undefined:
		return append(dst, "null"...)
	}
	return yjs.AppendValueJSON(dst, v)
}

func appendString(dst []byte, s string) []byte { return yjs.AppendValueJSON(dst, s) }

// appendProse appends a fragment as the JSON of ProseMirror, in the way npm @trestleinc/replicate does.
func appendProse(dst []byte, f yjs.XMLFragment, depth int) []byte {
	dst = append(dst, `{"type":"doc","content":[`...)
	first := true
	for child := range f.Children() {
		mark := len(dst)
		if !first {
			dst = append(dst, ',')
		}
		switch child := child.(type) {
		case yjs.XMLElement:
			dst = appendElement(dst, child, depth+1)
		case yjs.XMLText:
			before := len(dst)
			dst = append(dst, `{"type":"paragraph","content":[`...)
			inner := len(dst)
			if dst = appendRuns(dst, child, true); len(dst) == inner {
				dst = dst[:before]
			} else {
				dst = append(dst, `]}`...)
			}
			if len(dst) == before {
				dst = dst[:mark]
				continue
			}
		default:
			dst = dst[:mark]
			continue
		}
		first = false
	}
	if first {
		dst = append(dst, `{"type":"paragraph"}`...)
	}
	return append(dst, `]}`...)
}

func appendElement(dst []byte, e yjs.XMLElement, depth int) []byte {
	dst = appendString(append(dst, `{"type":`...), e.Name())
	if attributes := e.Attributes(); len(attributes) > 0 {
		dst = yjs.AppendValueJSON(append(dst, `,"attrs":`...), attributes)
	}
	if depth > fieldDepthMax {
		return append(dst, '}')
	}
	mark := len(dst)
	dst = append(dst, `,"content":[`...)
	first := true
	for child := range e.Children() {
		switch child := child.(type) {
		case yjs.XMLElement:
			if !first {
				dst = append(dst, ',')
			}
			dst = appendElement(dst, child, depth+1)
			first = false
		case yjs.XMLText:
			before := len(dst)
			dst = appendRuns(dst, child, first)
			first = first && len(dst) == before
		}
	}
	if first {
		dst = dst[:mark]
	} else {
		dst = append(dst, ']')
	}
	return append(dst, '}')
}

// appendRuns appends the runs of a text as nodes.
func appendRuns(dst []byte, t yjs.XMLText, first bool) []byte {
	for _, op := range t.Delta() {
		text, ok := op.Insert.(string)
		if !ok {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendString(append(dst, `{"type":"text","text":`...), text)
		if len(op.Attributes) > 0 {
			names := make([]string, 0, len(op.Attributes))
			for name := range op.Attributes {
				names = append(names, name)
			}
			slices.Sort(names)
			dst = append(dst, `,"marks":[`...)
			for i, name := range names {
				if i > 0 {
					dst = append(dst, ',')
				}
				dst = appendString(append(dst, `{"type":`...), name)
				if attrs, ok := op.Attributes[name].(yjs.Object); ok {
					dst = yjs.AppendValueJSON(append(dst, `,"attrs":`...), attrs)
				}
				dst = append(dst, '}')
			}
			dst = append(dst, ']')
		}
		dst = append(dst, '}')
	}
	return dst
}

// row returns a document's material as a client is shown it: its fields, id, timestamp, and the two that every Convex document has.
func (h *head) row() (value.Value, error) {
	fields, err := valueOfJSON(h.Fields)
	if err != nil {
		return value.Value{}, fmt.Errorf("material of document %q: %w", h.Document, err)
	}
	shown := slices.Clone(fields.Fields())
	updated := float64(h.Updated.UnixMicro()) / 1000
	shown = append(shown, value.Field{Name: "id", Value: value.String(h.Document)}, value.Field{Name: "timestamp", Value: value.Float64(updated)},
		value.Field{Name: "_id", Value: value.String(string(h.ID))}, value.Field{Name: "_creationTime", Value: value.Float64(float64(h.Created.UnixMicro()) / 1000)})
	return value.Object(shown...), nil
}

// valueOfJSON makes a value of JSON. Names that a Convex object can't have are left out.
func valueOfJSON(text string) (value.Value, error) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	var v any
	if err := decoder.Decode(&v); err != nil {
		return value.Value{}, err
	}
	return valueOf(v), nil
}

func valueOf(v any) value.Value {
	switch v := v.(type) {
	case bool:
		return value.Bool(v)
	case float64:
		return value.Float64(v)
	case string:
		return value.String(v)
	case []any:
		elems := make([]value.Value, len(v))
		for i, e := range v {
			elems[i] = valueOf(e)
		}
		return value.Array(elems...)
	case map[string]any:
		fields := make([]value.Field, 0, len(v))
		for name, inner := range v {
			if usable(name) {
				fields = append(fields, value.Field{Name: name, Value: valueOf(inner)})
			}
		}
		return value.Object(fields...)
	}
	return value.Null()
}

// usable reports whether a name may be one of a Convex object.
func usable(name string) bool {
	if name == "" || len(name) > 1024 || strings.HasPrefix(name, "$") || strings.HasPrefix(name, "_") {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' })
}

// document returns what a stored document says of itself.
func (h *head) document() Document {
	return Document{ID: h.Document, Exists: true, Deleted: h.Deleted, fields: h.Fields}
}

// level asks the rule what the caller may do. A rule that refuses with a word to the caller has answered None: one document must not keep
// others from being read.
func (c *Collection) level(tx *halcyon.Tx, d Document) (Level, error) {
	level, err := c.ask(tx, d)
	if _, refused := errors.AsType[*halcyon.Error](err); refused {
		return None, nil
	}
	return level, err
}

func (c *Collection) ask(tx *halcyon.Tx, d Document) (Level, error) {
	if c.options.Access == nil {
		return Write, nil
	}
	return c.options.Access(tx, d)
}
