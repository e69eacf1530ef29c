package halcyon

import (
	"bytes"
	"fmt"
	"math"
	"reflect"

	"github.com/halcyon-db/halcyon/engine/value"
)

// Decode sets the value that into points to from v by the rules of the package documentation. The error of a value that does not fit is a
// [*ValidationError].
func Decode(v value.Value, into any) error {
	rv := reflect.ValueOf(into)
	if rv.Kind() != reflect.Pointer || rv.IsNil() {
		return fmt.Errorf("decode into %T: a pointer that is not nil is needed", into)
	}
	c, err := codecFor(rv.Type().Elem())
	if err != nil {
		return err
	}
	return asError((&decoder{}).decode(c, v, rv.Elem()))
}

// decoder holds what decoding depends on beside the types.
type decoder struct {
	tables tableNames // of ids; nil: any well-formed id will do
	stored bool       // the value is a document of our own: fields the struct no longer has are passed over
}

// tableNames tells the tables of ids apart. It is implemented by what an App has open.
type tableNames interface {
	// nameOf returns the name of the table whose documents have this struct type.
	nameOf(document reflect.Type) string
	// check reports whether id can be one of that table; if not, other is the name of the table it is of, when there is one.
	check(document reflect.Type, id value.ID) (ok bool, other string)
}

// decode sets rv, whose type is the codec's, from v. The error, if any, is a *ValidationError whose path starts here; it is not of type
// error so that a nil one can't become an error by accident, see asError.
func (d *decoder) decode(c *codec, v value.Value, rv reflect.Value) *ValidationError {
	switch c.shape {
	case shapeAny:
		if v.IsUndefined() {
			return d.mismatch(c, v)
		}
		if x := natural(v); x != nil {
			rv.Set(reflect.ValueOf(x))
		} else {
			rv.SetZero()
		}
		return nil
	case shapeValue:
		rv.Set(reflect.ValueOf(v))
		return nil
	case shapeNull:
		if v.IsNull() {
			return nil
		}
	case shapeBool:
		if b, ok := v.AsBool(); ok {
			rv.SetBool(b)
			return nil
		}
	case shapeString:
		if s, ok := v.AsString(); ok {
			rv.SetString(s)
			return nil
		}
	case shapeID:
		return d.decodeID(c, v, rv)
	case shapeFloat:
		if f, ok := v.AsFloat64(); ok && (math.IsInf(f, 0) || !rv.OverflowFloat(f)) {
			rv.SetFloat(f)
			return nil
		}
	case shapeInteger:
		if f, ok := v.AsFloat64(); ok && f == math.Trunc(f) && f >= c.lo && f <= c.hi {
			if rv.CanInt() {
				rv.SetInt(int64(f))
			} else {
				rv.SetUint(uint64(f))
			}
			return nil
		}
	case shapeInt64:
		if i, ok := v.AsInt64(); ok {
			rv.SetInt(i)
			return nil
		}
	case shapeBytes:
		if b, ok := v.AsBytes(); ok {
			rv.SetBytes(bytes.Clone(b))
			return nil
		}
	case shapeTime:
		if f, ok := v.AsFloat64(); ok {
			if t, ok := decodeTime(f); ok {
				rv.Set(reflect.ValueOf(t))
				return nil
			}
		}
	case shapeArray:
		if v.Kind() == value.KindArray {
			return d.decodeArray(c, v, rv)
		}
	case shapeRecord:
		if v.Kind() == value.KindObject {
			return d.decodeRecord(c, v, rv)
		}
	case shapeObject:
		if v.Kind() == value.KindObject {
			return d.decodeObject(c, v, rv)
		}
	case shapePointer:
		rv.Set(reflect.New(c.typ.Elem()))
		return d.decode(c.elem, v, rv.Elem())
	case shapeShared:
		content := reflect.New(c.elem.typ).Elem()
		if err := d.decode(c.elem, v, content); err != nil {
			return err
		}
		rv.Addr().Interface().(sharedTarget).receive(content)
		return nil
	case shapeNullable:
		if v.IsNull() {
			rv.SetZero()
			return nil
		}
		rv.Field(1).SetBool(true)
		err := d.decode(c.elem, v, rv.Field(0))
		if err == nil {
			return nil
		}
		if c.elem.shape == shapeObject || c.elem.shape == shapeID || c.elem.tag != "" { // the member's own error says more than the union's
			return d.orNullToo(err, v, c, func() string { return d.validator(c) })
		}
	case shapeEnum:
		if c.hasLiteral(v) && d.decode(c.elem, v, rv) == nil {
			return nil
		}
		if len(c.literals) == 1 {
			return d.otherLiteral(c, v)
		}
	case shapeUnion:
		return d.decodeUnion(c, v, rv)
	}
	return d.mismatch(c, v)
}

func (d *decoder) decodeID(c *codec, v value.Value, rv reflect.Value) *ValidationError {
	s, ok := v.AsString()
	if !ok {
		return d.mismatch(c, v)
	}
	if !d.stored {
		if err := d.checkID(c, v); err != nil {
			return err
		}
	}
	rv.SetString(s)
	return nil
}

// checkID checks a string that is to be an id.
func (d *decoder) checkID(c *codec, v value.Value) *ValidationError {
	s, _ := v.AsString()
	id, err := value.ParseID(s)
	if err != nil {
		return d.mismatch(c, v)
	}
	if d.tables != nil {
		if ok, other := d.tables.check(c.refers, id); !ok {
			return d.wrongTable(c, v, other)
		}
	}
	return nil
}

func (d *decoder) decodeArray(c *codec, v value.Value, rv reflect.Value) *ValidationError {
	elems := reflect.MakeSlice(c.typ, v.Len(), v.Len())
	for i := range v.Len() {
		if e := v.Index(i); e.IsNull() && c.elem.shape == shapePointer {
			continue
		} else if err := d.decodeElement(c.elem, e, elems.Index(i)); err != nil {
			return err.under(fmt.Sprintf("[%d]", i))
		}
	}
	rv.Set(elems)
	return nil
}

// decodeElement is decode for what is in an array or a record, where a pointer may be null.
func (d *decoder) decodeElement(c *codec, v value.Value, rv reflect.Value) *ValidationError {
	err := d.decode(c, v, rv)
	if c.shape != shapePointer {
		return err
	}
	return d.orNullToo(err, v, c, func() string { return d.elementValidator(c) })
}

func (d *decoder) decodeRecord(c *codec, v value.Value, rv reflect.Value) *ValidationError {
	m := reflect.MakeMap(c.typ)
	for f := v.Iterate(); f.Next(); {
		elem := reflect.New(c.typ.Elem()).Elem()
		if v := f.Value(); !v.IsNull() || c.elem.shape != shapePointer {
			if err := d.decodeElement(c.elem, v, elem); err != nil {
				return err.under("." + f.Name())
			}
		}
		m.SetMapIndex(reflect.ValueOf(f.Name()).Convert(c.typ.Key()), elem)
	}
	rv.Set(m)
	return nil
}

// decodeObject walks the fields of the struct and of the value side by side, both sorted by name. Fields of the struct that are absent
// are set to zero. Of several things wrong, a field that is missing or does not fit is named before one that is too many, as Convex does.
func (d *decoder) decodeObject(c *codec, v value.Value, rv reflect.Value) *ValidationError {
	given := v.Iterate() // decodes only what the struct has
	more := given.Next()
	extra, superfluous := "", false
	pass := func() {
		if !superfluous {
			extra, superfluous = given.Name(), true
		}
		more = given.Next()
	}
	for i := range c.fields {
		f := &c.fields[i]
		for more && given.Name() < f.name {
			pass()
		}
		var fv reflect.Value
		if !f.tag {
			fv = f.of(rv)
		}
		if !more || given.Name() != f.name {
			if !f.optional && !(d.stored && f.system != notSystem) {
				return d.missing(c, f, v)
			}
			fv.SetZero()
			continue
		}
		// decodeUnion has chosen this variant by a tag.
		if !f.tag {
			if err := d.decode(f.codec, given.Value(), fv); err != nil {
				return err.under("." + f.name)
			}
		}
		more = given.Next()
	}
	if more {
		pass()
	}
	if superfluous && !d.stored {
		return d.extra(c, extra, v)
	}
	return nil
}

// natural returns the Go value that an any receives: nil, bool, string, float64, int64, []byte, []any or map[string]any.
func natural(v value.Value) any {
	switch v.Kind() {
	case value.KindInt64:
		i, _ := v.AsInt64()
		return i
	case value.KindFloat64:
		f, _ := v.AsFloat64()
		return f
	case value.KindBool:
		b, _ := v.AsBool()
		return b
	case value.KindString:
		s, _ := v.AsString()
		return s
	case value.KindBytes:
		b, _ := v.AsBytes()
		return bytes.Clone(b)
	case value.KindArray:
		elems := make([]any, v.Len())
		for i := range elems {
			elems[i] = natural(v.Index(i))
		}
		return elems
	case value.KindObject:
		m := make(map[string]any, len(v.Fields()))
		for _, f := range v.Fields() {
			m[f.Name] = natural(f.Value)
		}
		return m
	default:
		return nil
	}
}
