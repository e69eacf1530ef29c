package halcyon

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon/engine/value"
)

// ValidationError says where and why a value does not fit a Go type, in Convex's words.
type ValidationError struct {
	Path string // such as ".user.names[2]"; empty at the top

	// The text is problem, the path on a line of its own or none, and detail.
	problem, detail string
	absent          string // the field that the object at Path lacks
	plain           bool   // the value is of another kind altogether
}

// Error returns Convex's text, without the name of what was validated.
func (e *ValidationError) Error() string {
	if e.Path == "" {
		return e.problem + e.detail
	}
	return e.problem + "Path: " + e.Path + e.detail
}

// under puts a field or an index in front of the path.
func (e *ValidationError) under(part string) *ValidationError {
	e.Path = part + e.Path
	return e
}

// asError keeps a nil *ValidationError a nil error.
func asError(e *ValidationError) error {
	if e == nil {
		return nil
	}
	return e
}

func (d *decoder) mismatch(c *codec, v value.Value) *ValidationError {
	return misfit(v, d.validator(c), c)
}

// misfit is the error of a value of another kind than the validator's, which is that of c, perhaps with null.
func misfit(v value.Value, validator string, c *codec) *ValidationError {
	return &ValidationError{
		problem: "Value does not match validator.\n",
		detail:  "\nValue: " + display(v) + "\nValidator: " + validator + c.note(v),
		plain:   true,
	}
}

// note says what a validator does not: Convex has none for integers and times, and nobody would know why 1.5 was refused.
func (c *codec) note(v value.Value) string {
	for c.shape == shapePointer || c.shape == shapeNullable || c.shape == shapeShared {
		c = c.elem
	}
	switch {
	case v.Kind() != value.KindFloat64:
	case c.shape == shapeInteger:
		return fmt.Sprintf(" /* an integer from %.0f to %.0f */", c.lo, c.hi)
	case c.shape == shapeTime:
		return " /* milliseconds since 1970, from -8.64e15 to 8.64e15 */"
	case c.shape == shapeFloat:
		return " /* from -3.4e38 to 3.4e38 */"
	}
	return ""
}

// orNullToo returns the error of a value that may be null as well: when it is of another kind altogether, the validator with null is named.
func (d *decoder) orNullToo(err *ValidationError, v value.Value, c *codec, validator func() string) *ValidationError {
	if err != nil && err.plain && err.Path == "" {
		return misfit(v, validator(), c)
	}
	return err
}

func (d *decoder) missing(c *codec, f *fieldCodec, v value.Value) *ValidationError {
	return &ValidationError{
		absent: f.name,
		problem: "Object is missing the required field `" + f.name +
			"`. Consider wrapping the field validator in `v.optional(...)` if this is expected.\n",
		detail: "\nObject: " + display(v) + "\nValidator: " + d.validator(c),
	}
}

func (d *decoder) extra(c *codec, name string, v value.Value) *ValidationError {
	return &ValidationError{
		problem: "Object contains extra field `" + name + "` that is not in the validator.\n",
		detail:  "\nObject: " + display(v) + "\nValidator: " + d.validator(c),
	}
}

func (d *decoder) wrongTable(c *codec, v value.Value, other string) *ValidationError {
	if other == "" {
		return d.mismatch(c, v)
	}
	s, _ := v.AsString()
	return &ValidationError{
		problem: fmt.Sprintf("Found ID %q from table `%s`, which does not match the table name in validator `%s`.", s, other, d.validator(c)),
	}
}

func (d *decoder) otherLiteral(c *codec, v value.Value) *ValidationError {
	return &ValidationError{problem: "`" + display(v) + "` does not match literal validator `" + d.validator(c) + "`."}
}

// validator returns the Convex validator of a Go type.
func (d *decoder) validator(c *codec) string {
	var b strings.Builder
	d.appendValidator(&b, c)
	return cut(b.String(), displayBytesMax, "...")
}

func (d *decoder) appendValidator(b *strings.Builder, c *codec) {
	switch c.shape {
	case shapeAny, shapeValue:
		b.WriteString("v.any()")
	case shapeNull:
		b.WriteString("v.null()")
	case shapeBool:
		b.WriteString("v.boolean()")
	case shapeString:
		b.WriteString("v.string()")
	case shapeFloat, shapeInteger, shapeTime:
		b.WriteString("v.float64()")
	case shapeInt64:
		b.WriteString("v.int64()")
	case shapeBytes:
		b.WriteString("v.bytes()")
	case shapeID:
		name := c.refers.Name()
		if d.tables != nil {
			name = d.tables.nameOf(c.refers)
		}
		b.WriteString("v.id(" + strconv.Quote(name) + ")")
	case shapeArray:
		b.WriteString("v.array(")
		d.appendElement(b, c.elem)
		b.WriteString(")")
	case shapeRecord:
		b.WriteString("v.record(v.string(), ")
		d.appendElement(b, c.elem)
		b.WriteString(")")
	case shapePointer, shapeShared:
		d.appendValidator(b, c.elem)
	case shapeNullable:
		b.WriteString("v.union(")
		d.appendMembers(b, c.elem)
		b.WriteString(", v.null())")
	case shapeEnum:
		if len(c.literals) == 1 {
			d.appendMembers(b, c)
			return
		}
		b.WriteString("v.union(")
		d.appendMembers(b, c)
		b.WriteString(")")
	case shapeUnion:
		b.WriteString("v.union(")
		d.appendMembers(b, c)
		b.WriteString(")")
	case shapeObject:
		b.WriteString("v.object({")
		first := true
		for i := range c.fields {
			f := &c.fields[i]
			if d.stored && f.system != notSystem {
				continue // it is no field of what is stored
			}
			if !first {
				b.WriteString(", ")
			}
			first = false
			b.WriteString(f.name + ": ")
			if f.optional {
				b.WriteString("v.optional(")
			}
			d.appendValidator(b, f.codec)
			if f.optional {
				b.WriteString(")")
			}
		}
		b.WriteString("})")
	}
}

// appendMembers writes what a union of c is made of: a union inside of a union is not one by itself.
func (d *decoder) appendMembers(b *strings.Builder, c *codec) {
	switch c.shape {
	case shapeEnum:
		for i, v := range c.literals {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString("v.literal(" + display(v) + ")")
		}
	case shapeUnion:
		for i := range c.variants {
			if i > 0 {
				b.WriteString(", ")
			}
			d.appendMembers(b, c.variants[i].codec)
		}
	default:
		d.appendValidator(b, c)
	}
}

// elementValidator is validator where undefined can't be.
func (d *decoder) elementValidator(c *codec) string {
	var b strings.Builder
	d.appendElement(&b, c)
	return cut(b.String(), displayBytesMax, "...")
}

// appendElement is appendValidator where undefined can't be, so that a nil pointer is null.
func (d *decoder) appendElement(b *strings.Builder, c *codec) {
	if c.shape != shapePointer {
		d.appendValidator(b, c)
		return
	}
	b.WriteString("v.union(")
	d.appendValidator(b, c.elem)
	b.WriteString(", v.null())")
}

// display returns a value as Convex quotes it in error messages: like JavaScript, with numbers that always show they are floats.
func display(v value.Value) string {
	var b strings.Builder
	appendDisplay(&b, v)
	return cut(b.String(), displayBytesMax, "...")
}

func appendDisplay(b *strings.Builder, v value.Value) {
	if b.Len() > displayBytesMax {
		return
	}
	switch v.Kind() {
	case value.KindUndefined:
		b.WriteString("undefined")
	case value.KindFloat64:
		f, _ := v.AsFloat64()
		b.WriteString(displayFloat(f))
	case value.KindInt64:
		i, _ := v.AsInt64()
		b.WriteString(strconv.FormatInt(i, 10))
	case value.KindBytes:
		raw, _ := v.AsBytes()
		b.WriteString("bytes(" + hex.EncodeToString(raw[:min(len(raw), displayBytesMax)]) + ")")
	case value.KindArray:
		b.WriteString("[")
		for i := range v.Len() {
			if i > 0 {
				b.WriteString(", ")
			}
			appendDisplay(b, v.Index(i))
		}
		b.WriteString("]")
	case value.KindObject:
		b.WriteString("{")
		for i, f := range v.Fields() {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(f.Name + ": ")
			appendDisplay(b, f.Value)
		}
		b.WriteString("}")
	default: // null, booleans and strings
		b.Write(value.AppendJSON(nil, v))
	}
}

func displayFloat(f float64) string {
	switch a := math.Abs(f); {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 0):
		return map[bool]string{true: "inf", false: "-inf"}[f > 0]
	case a != 0 && (a >= 1e16 || a < 1e-5):
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', -1, 64), "e")
		n, _ := strconv.Atoi(exponent)
		return mantissa + "e" + strconv.Itoa(n)
	default:
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
}

// cut shortens s to at most limit bytes, the marker included, without splitting a character.
func cut(s string, limit int, marker string) string {
	if len(s) <= limit {
		return s
	}
	end := limit - len(marker)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + marker
}
