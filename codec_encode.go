package halcyon

import (
	"fmt"
	"math"
	"reflect"
	"strings"
	"time"

	"github.com/halcyon-db/halcyon/engine/value"
)

// Encode turns a Go value into a Convex value by the rules of the package documentation. A nil v is null.
func Encode(v any) (value.Value, error) {
	encoded, err := encodeAny(v)
	if err == nil && encoded.IsUndefined() {
		encoded = value.Null()
	}
	return encoded, err
}

// encodeAny encodes a value by its dynamic type.
func encodeAny(v any) (value.Value, error) {
	switch v := v.(type) {
	case nil:
		return value.Null(), nil
	case value.Value:
		return v, nil
	case string:
		return value.String(v), nil
	case bool:
		return value.Bool(v), nil
	case float64:
		return value.Float64(v), nil
	case int64:
		return value.Int64(v), nil
	}
	rv := reflect.ValueOf(v)
	c, err := codecFor(rv.Type())
	if err != nil {
		return value.Value{}, err
	}
	return c.encode(rv)
}

// encode returns the Convex value of rv, whose type is the codec's. A nil pointer is undefined.
func (c *codec) encode(rv reflect.Value) (value.Value, error) {
	switch c.shape {
	case shapeAny:
		return encodeAny(rv.Interface())
	case shapeValue:
		return rv.Interface().(value.Value), nil
	case shapeBool:
		return value.Bool(rv.Bool()), nil
	case shapeString, shapeID:
		return value.String(rv.String()), nil
	case shapeFloat:
		return value.Float64(rv.Float()), nil
	case shapeInteger:
		return c.encodeInteger(rv)
	case shapeInt64:
		return value.Int64(rv.Int()), nil
	case shapeBytes:
		return value.Bytes(append([]byte(nil), rv.Bytes()...)), nil
	case shapeTime:
		return encodeTime(rv.Interface().(time.Time)), nil
	case shapeArray:
		return c.encodeArray(rv)
	case shapeRecord:
		return c.encodeRecord(rv)
	case shapeObject:
		return c.encodeObject(rv, false)
	case shapePointer:
		if rv.IsNil() {
			return value.Value{}, nil
		}
		return c.elem.encode(rv.Elem())
	case shapeNullable:
		if !rv.Field(1).Bool() {
			return value.Null(), nil
		}
		return orNull(c.elem.encode(rv.Field(0)))
	case shapeShared:
		return rv.Interface().(sharedValue).encodeOnce(c.elem)
	case shapeEnum:
		return c.encodeEnum(rv)
	case shapeUnion:
		return c.encodeUnion(rv)
	default:
		return value.Null(), nil
	}
}

// inside says where the value is that can't be encoded: a field, ".name", or an element, "[2]".
func inside(part string, err error) error {
	if invalid, ok := err.(*ValidationError); ok {
		return invalid.under(part)
	}
	return fmt.Errorf("%s: %w", strings.TrimPrefix(part, "."), err)
}

// encodeResult encodes what a function has returned. What it may not be is told as Convex does.
func encodeResult(c *codec, rv reflect.Value, tables tableNames) (value.Value, error) {
	if invalid := c.checkIDs(rv, tables); invalid != nil {
		return value.Value{}, fmt.Errorf("ReturnsValidationError: %w", invalid)
	}
	v, err := orNull(c.encode(rv))
	if err != nil {
		return value.Value{}, fmt.Errorf("ReturnsValidationError: %w", err)
	}
	return v, nil
}

// orNull replaces undefined by null, where undefined can't be: in arrays, in records and as a result.
func orNull(v value.Value, err error) (value.Value, error) {
	if v.IsUndefined() {
		v = value.Null()
	}
	return v, err
}

func (c *codec) encodeInteger(rv reflect.Value) (value.Value, error) {
	var f float64
	if rv.CanInt() {
		f = float64(rv.Int())
	} else {
		f = float64(rv.Uint())
	}
	if f < c.lo || f > c.hi {
		return value.Value{}, fmt.Errorf("%v is beyond the integers that a Convex number holds exactly; use int64", rv)
	}
	return value.Float64(f), nil
}

// encodeTime gives milliseconds with a fraction of whole microseconds, rounded down.
func encodeTime(t time.Time) value.Value { return value.Float64(float64(t.UnixMicro()) / 1000) }

// decodeTime is exact for every time that encodeTime has encoded up to the year 2112, and false outside of JavaScript's range of dates.
func decodeTime(ms float64) (time.Time, bool) {
	if !(math.Abs(ms) <= 8.64e15) {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(math.Round(ms * 1000))).UTC(), true
}

// objectsAtOnce is the most objects of an array whose fields share an allocation: enough to make few of them, and few enough
// that what holds one object, or fields that are absent, keep little.
const objectsAtOnce = 64

func (c *codec) encodeArray(rv reflect.Value) (value.Value, error) {
	elems := make([]value.Value, rv.Len())
	var room []value.Field // for the next objects, which share an allocation
	for i := range elems {
		var v value.Value
		var err error
		if c.elem.shape == shapeObject {
			if n := len(c.elem.fields); cap(room)-len(room) < n {
				room = make([]value.Field, 0, n*min(len(elems)-i, objectsAtOnce))
			}
			first := len(room)
			if room, err = c.elem.appendFields(room, rv.Index(i), false); err == nil {
				v = value.TrustObject(room[first:len(room):len(room)])
			}
		} else {
			v, err = orNull(c.elem.encode(rv.Index(i)))
		}
		if err != nil {
			return value.Value{}, inside(fmt.Sprintf("[%d]", i), err)
		}
		elems[i] = v
	}
	return value.Array(elems...), nil
}

func (c *codec) encodeRecord(rv reflect.Value) (value.Value, error) {
	fields := make([]value.Field, 0, rv.Len())
	for it := rv.MapRange(); it.Next(); {
		v, err := orNull(c.elem.encode(it.Value()))
		if err != nil {
			return value.Value{}, inside("."+it.Key().String(), err)
		}
		fields = append(fields, value.Field{Name: it.Key().String(), Value: v})
	}
	return value.Object(fields...), nil
}

// encodeObject encodes a struct. With document set it leaves out _id and _creationTime, which are not the author's to write.
func (c *codec) encodeObject(rv reflect.Value, document bool) (value.Value, error) {
	fields, err := c.appendFields(make([]value.Field, 0, len(c.fields)), rv, document)
	if err != nil {
		return value.Value{}, err
	}
	return value.TrustObject(fields), nil
}

// appendFields appends the fields of a struct as encodeObject encodes them, in the order of their names.
// Most fields of most structs are text, numbers and pointers to these, and a list of a thousand objects has thousands of them: they are
// encoded here, without a call for each.
func (c *codec) appendFields(fields []value.Field, rv reflect.Value, document bool) ([]value.Field, error) {
	for i := range c.fields {
		f := &c.fields[i]
		if f.tag {
			fields = append(fields, value.Field{Name: f.name, Value: f.codec.literals[0]})
			continue
		}
		fv, of := f.of(rv), f.codec
		if document && f.system != notSystem {
			continue
		}
		if of.shape == shapePointer {
			if fv.IsNil() { // whether it is to be left out or is undefined
				continue
			}
			fv, of = fv.Elem(), of.elem
		} else if f.omit && isZero(fv) {
			continue
		}
		var v value.Value
		var err error
		switch of.shape {
		case shapeString:
			v = value.String(fv.String())
		case shapeFloat:
			v = value.Float64(fv.Float())
		case shapeInteger:
			v, err = of.encodeInteger(fv)
		default:
			v, err = of.encode(fv)
		}
		if err != nil {
			return nil, inside("."+f.name, err)
		}
		if !v.IsUndefined() {
			fields = append(fields, value.Field{Name: f.name, Value: v})
		}
	}
	return fields, nil
}

// isZero is when omitempty and omitzero leave a field out: the zero value, by its IsZero method if it has one, and empty slices and maps.
func isZero(rv reflect.Value) bool {
	switch rv.Kind() {
	case reflect.String, reflect.Slice, reflect.Map:
		return rv.Len() == 0
	case reflect.Struct:
		if z, ok := rv.Interface().(interface{ IsZero() bool }); ok {
			return z.IsZero()
		}
	}
	return rv.IsZero()
}

// encodeLoose encodes a value that an author gave for this field: the argument of Eq, of Gt or a value in Fields. nil is absent or null,
// whichever the field can be.
func (f *fieldCodec) encodeLoose(v any) (value.Value, error) {
	return f.codec.encodeLoose(v, f.optional)
}

// encodeStored is encodeLoose for a value as documents have it: one that their encoding leaves out is absent here too.
func (f *fieldCodec) encodeStored(v any) (value.Value, error) {
	encoded, err := f.encodeLoose(v)
	if err == nil && f.omit && v != nil && isZero(reflect.ValueOf(v)) {
		encoded = value.Value{}
	}
	return encoded, err
}

// encodeLoose encodes a value that does not have the type of the codec but may fit it: numbers are converted when nothing is lost.
func (c *codec) encodeLoose(v any, optional bool) (value.Value, error) {
	if v == nil {
		switch {
		case c.shape == shapeNullable || c.shape == shapeAny && !optional:
			return value.Null(), nil
		case optional:
			return value.Value{}, nil
		}
		return value.Value{}, fmt.Errorf("nil does not fit %v", c.typ)
	}
	if v, ok := v.(value.Value); ok {
		return v, nil
	}
	rv := reflect.ValueOf(v)
	switch {
	case c.shape == shapeAny || c.shape == shapeValue:
		return encodeAny(v)
	case rv.Type() == c.typ:
		return c.encode(rv)
	case c.shape == shapeEnum:
		encoded, err := c.elem.encodeLoose(v, optional)
		if err == nil && !c.hasLiteral(encoded) {
			err = c.notLiteral(encoded)
		}
		return encoded, err
	case c.shape == shapePointer || c.shape == shapeNullable:
		return c.elem.encodeLoose(v, optional)
	case rv.Kind() == reflect.Pointer && rv.IsNil():
		return c.encodeLoose(nil, optional)
	case rv.Kind() == reflect.Pointer:
		return c.encodeLoose(rv.Elem().Interface(), optional)
	case c.shape == shapeFloat && isNumber(rv):
		return value.Float64(rv.Convert(reflect.TypeFor[float64]()).Float()), nil
	case c.shape == shapeInteger && isNumber(rv):
		f := rv.Convert(reflect.TypeFor[float64]()).Float()
		if f != math.Trunc(f) || f < c.lo || f > c.hi {
			return value.Value{}, fmt.Errorf("%v does not fit %v", v, c.typ)
		}
		return value.Float64(f), nil
	case c.shape == shapeInt64 && (rv.CanInt() || rv.CanUint() && rv.Uint() <= math.MaxInt64):
		return value.Int64(rv.Convert(reflect.TypeFor[int64]()).Int()), nil
	case (c.shape == shapeString || c.shape == shapeID) && rv.Kind() == reflect.String:
		return value.String(rv.String()), nil
	case rv.Type().ConvertibleTo(c.typ) && rv.Kind() == c.typ.Kind() && !isNumber(rv):
		return c.encode(rv.Convert(c.typ))
	}
	return value.Value{}, fmt.Errorf("%T does not fit %v", v, c.typ)
}

func isNumber(rv reflect.Value) bool { return rv.CanInt() || rv.CanUint() || rv.CanFloat() }
