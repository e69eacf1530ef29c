package halcyon

import (
	"encoding/base64"
	"math"
	"reflect"
	"strconv"

	"github.com/halcyon-db/halcyon/engine/value"
)

// ConvexTables are the tables of a Convex project by the numbers that its ids have, as an export of one tells them in the file
// _tables/documents.jsonl.
type ConvexTables map[uint32]string

// convexReader reads documents as an export of a Convex project has them: in JSON without types, an int64 as the text of its digits and bytes
// as that of their base64, with ids that have the numbers of the project's tables. What a text stands for is told by the struct it is for.
type convexReader struct {
	numbers map[uint32]uint32 // of tables there to those of the tables of the same names here
}

// newConvexReader is for the tables of a module.
func (r *runtime) newConvexReader(module string, there ConvexTables) *convexReader {
	here := map[string]uint32{}
	for _, t := range r.app.tables {
		if t.module == module {
			here[t.def.name] = r.mounts[t].table.Number
		}
	}
	c := &convexReader{numbers: map[uint32]uint32{}}
	for number, name := range there {
		if own, ok := here[name]; ok {
			c.numbers[number] = own
		}
	}
	return c
}

// read returns v as the codec's type has it. What fits nothing stays as it is, for the check of the document to name.
func (r *convexReader) read(c *codec, v value.Value) value.Value {
	for c.shape == shapePointer || c.shape == shapeNullable || c.shape == shapeEnum {
		c = c.elem
	}
	if c.shape == shapeUnion {
		return r.readUnion(c, v)
	}
	switch v.Kind() {
	case value.KindString:
		return r.readString(c, v)
	case value.KindArray:
		elem := anyCodec
		if c.shape == shapeArray {
			elem = c.elem
		}
		all := make([]value.Value, v.Len())
		for i := range all {
			all[i] = r.read(elem, v.Index(i))
		}
		return value.Array(all...)
	case value.KindObject:
		var fields []value.Field
		for _, f := range v.Fields() {
			fields = append(fields, value.Field{Name: f.Name, Value: r.read(c.under(f.Name), f.Value)})
		}
		return value.Object(fields...)
	}
	return v
}

// under returns the codec of what an object has under a name.
func (c *codec) under(name string) *codec {
	switch c.shape {
	case shapeRecord:
		return c.elem
	case shapeObject:
		for i := range c.fields {
			if c.fields[i].name == name {
				return c.fields[i].codec
			}
		}
	}
	return anyCodec
}

// readUnion reads the variant that a tag names, or else the first that fits.
func (r *convexReader) readUnion(c *codec, v value.Value) value.Value {
	tag, _ := v.Get(c.tag).AsString()
	for i := range c.variants {
		variant := &c.variants[i]
		if c.tag != "" && tag != variant.name {
			continue
		}
		read := r.read(variant.codec, v)
		if c.tag != "" || (&decoder{stored: true}).decode(variant.codec, read, reflect.New(variant.codec.typ).Elem()) == nil {
			return read
		}
	}
	return r.read(anyCodec, v)
}

// readString reads a text. An id is translated wherever it stands, also where it is kept as a mere text: two bytes of it are a checksum, and
// the number of a table of the project follows.
func (r *convexReader) readString(c *codec, v value.Value) value.Value {
	text, _ := v.AsString()
	switch c.shape {
	case shapeInt64:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return value.Int64(n)
		}
	case shapeBytes:
		if b, err := base64.StdEncoding.DecodeString(text); err == nil {
			return value.Bytes(b)
		}
	case shapeFloat:
		switch text {
		case "NaN":
			return value.Float64(math.Float64frombits(0x7FF8 << 48)) // as JavaScript has it
		case "Infinity":
			return value.Float64(math.Inf(1))
		case "-Infinity":
			return value.Float64(math.Inf(-1))
		}
	default:
		if id, err := value.ParseID(text); err == nil {
			if own, ok := r.numbers[id.Table]; ok {
				id.Table = own
				return value.String(id.String())
			}
		}
	}
	return v
}
