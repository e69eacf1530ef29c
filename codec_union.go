package halcyon

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon/engine/value"
)

// Enum is implemented by a type whose values are only those that Values returns: clients see a union of literals, and every other value is
// refused, in arguments as in documents and results. T is the type itself, whose kind is that of strings, numbers or booleans:
//
//	type Status string
//
//	func (Status) Values() []Status { return []Status{"open", "closed"} }
//
// Values is called once and must always return the same. A type that means to be an Enum can say so to the compiler:
//
//	var _ halcyon.Enum[Status] = Status("")
type Enum[T any] interface{ Values() []T }

// Union, embedded in a struct, makes it a value that is one of several things. Each other field of the struct is a pointer to one of them;
// the one that is not nil is the value. Exactly one must be set when the struct is encoded, and is when it was decoded.
//
// With a json tag that names a field, the variants are structs, and clients tell them apart by this field, which holds the name of the
// variant:
//
//	type Content struct {
//		halcyon.Union `json:"kind"`
//		Text          *Text  // {kind: "text", body: "..."}
//		Image         *Image // {kind: "image", url: "..."}
//	}
//
// Without one the value is what the set field points to, and the first variant that a value fits is the one it becomes.
type Union struct{}

var typeUnion = reflect.TypeFor[Union]()

// variant is one thing that a union can be.
type variant struct {
	name  string // of the field; the tag's value
	index int
	codec *codec // of what the field points to
}

// isEnum reports whether a type has the method of Enum.
func isEnum(typ reflect.Type) bool {
	m, ok := typ.MethodByName("Values")
	return ok && typ.Kind() != reflect.Interface && m.Type.NumIn() == 1 && m.Type.NumOut() == 1 && m.Type.Out(0) == reflect.SliceOf(typ)
}

func isUnion(typ reflect.Type) bool {
	if typ.Kind() != reflect.Struct {
		return false
	}
	sf, ok := typ.FieldByName("Union")
	return ok && sf.Anonymous && sf.Type == typeUnion && len(sf.Index) == 1
}

func (b *codecBuilder) enum(c *codec) error {
	c.shape = shapeEnum
	c.elem = &codec{typ: c.typ}
	switch c.typ.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		if err := b.kind(c.elem); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%v has a method Values, but only strings, numbers and booleans have literals", c.typ)
	}
	values := reflect.Zero(c.typ).MethodByName("Values").Call(nil)[0]
	for i := range values.Len() {
		v, err := c.elem.encode(values.Index(i))
		if err != nil {
			return fmt.Errorf("%v: value %d: %w", c.typ, i, err)
		}
		if c.hasLiteral(v) {
			return fmt.Errorf("%v lists %s twice", c.typ, display(v))
		}
		c.literals = append(c.literals, v)
	}
	if len(c.literals) == 0 {
		return fmt.Errorf("%v has no values", c.typ)
	}
	return nil
}

// hasLiteral reports whether an enum may be v.
func (c *codec) hasLiteral(v value.Value) bool {
	return slices.ContainsFunc(c.literals, func(l value.Value) bool { return value.Equal(l, v) })
}

// notLiteral returns the error of a value that an enum may not be.
func (c *codec) notLiteral(v value.Value) *ValidationError {
	if len(c.literals) == 1 {
		return (&decoder{}).otherLiteral(c, v)
	}
	return (&decoder{}).mismatch(c, v)
}

func (c *codec) encodeEnum(rv reflect.Value) (value.Value, error) {
	v, err := c.elem.encode(rv)
	if err == nil && !c.hasLiteral(v) {
		err = c.notLiteral(v)
	}
	return v, err
}

func (b *codecBuilder) union(c *codec) error {
	c.shape = shapeUnion
	if slices.Contains(b.open, c.typ) {
		return fmt.Errorf("%v contains itself; use halcyon.ID or any where it does", c.typ)
	}
	b.open = append(b.open, c.typ)
	defer func() { b.open = b.open[:len(b.open)-1] }()
	for i := range c.typ.NumField() {
		sf := c.typ.Field(i)
		name, options, _ := strings.Cut(sf.Tag.Get("json"), ",")
		switch {
		case sf.Type == typeUnion:
			c.tag = name
			continue
		case !sf.IsExported() || name == "-":
			continue
		case options != "" || sf.Type.Kind() != reflect.Pointer || sf.Type.Elem().Kind() == reflect.Pointer || sf.Anonymous:
			return fmt.Errorf("field %s: the variants of a union are named fields with pointers to what it may be", sf.Name)
		}
		inner, err := b.build(sf.Type.Elem())
		if err != nil {
			return fmt.Errorf("field %s: %w", sf.Name, err)
		}
		c.variants = append(c.variants, variant{name: orElse(name, lowerCamel(sf.Name)), index: i, codec: inner})
	}
	if len(c.variants) == 0 {
		return fmt.Errorf("%v is a union of nothing", c.typ)
	}
	if c.tag == "" {
		return nil
	}
	for i := range c.variants {
		v := &c.variants[i]
		if slices.ContainsFunc(c.variants[:i], func(u variant) bool { return u.name == v.name }) {
			return fmt.Errorf("%v has two variants named %q", c.typ, v.name)
		}
		if v.codec.shape != shapeObject {
			return fmt.Errorf("variant %s: only structs can be told apart by their field %q, not %v", v.name, c.tag, v.codec.typ)
		}
		if _, ok := v.codec.field(c.tag); ok {
			return fmt.Errorf("variant %s: %v has a field %q itself", v.name, v.codec.typ, c.tag)
		}
		v.codec = v.codec.tagged(c.tag, v.name)
	}
	return nil
}

// tagged returns the codec of a struct with one more field that always has the same value.
func (c *codec) tagged(tag, name string) *codec {
	with := *c
	literal := &codec{typ: reflect.TypeFor[string](), shape: shapeEnum, elem: stringCodec, literals: []value.Value{value.String(name)}}
	with.fields = append(slices.Clone(c.fields), fieldCodec{name: tag, codec: literal, tag: true})
	slices.SortFunc(with.fields, func(x, y fieldCodec) int { return strings.Compare(x.name, y.name) })
	return &with
}

// member finds a field among the variants of a union. It may be absent, unless it is the tag; when variants mean different things by it,
// it is any value.
func (c *codec) member(name string) (found fieldCodec, ok bool) {
	if c.tag != "" && name == c.tag {
		return fieldCodec{name: name, codec: stringCodec}, true
	}
	for i := range c.variants {
		in := c.variants[i].codec
		for in.shape == shapeNullable {
			in = in.elem
		}
		f, has := in.field(name)
		switch {
		case !has || f.system != notSystem:
		case ok && found.codec.typ != f.codec.typ:
			found.codec = anyCodec
		default:
			found, ok = fieldCodec{name: name, codec: f.codec, optional: true}, true
		}
	}
	return found, ok
}

func (c *codec) encodeUnion(rv reflect.Value) (value.Value, error) {
	set := -1
	for i := range c.variants {
		if rv.Field(c.variants[i].index).IsNil() {
			continue
		}
		if set >= 0 {
			return value.Value{}, fmt.Errorf("%v is both %s and %s", c.typ, c.variants[set].name, c.variants[i].name)
		}
		set = i
	}
	if set < 0 {
		return value.Value{}, fmt.Errorf("%v has no variant set", c.typ)
	}
	v := &c.variants[set]
	encoded, err := orNull(v.codec.encode(rv.Field(v.index).Elem()))
	if _, placed := err.(*ValidationError); err != nil && !placed { // whose path has no part for a variant
		err = fmt.Errorf("%s: %w", v.name, err)
	}
	return encoded, err
}

// decodeUnion sets the variant that a tag names, or else the first that fits.
func (d *decoder) decodeUnion(c *codec, v value.Value, rv reflect.Value) *ValidationError {
	rv.SetZero()
	tag, _ := v.Get(c.tag).AsString()
	for i := range c.variants {
		variant := &c.variants[i]
		if c.tag != "" && tag != variant.name {
			continue
		}
		into := reflect.New(variant.codec.typ)
		err := d.decode(variant.codec, v, into.Elem())
		if err == nil {
			rv.Field(variant.index).Set(into)
			return nil
		}
		if c.tag != "" {
			return err // says more than that of the whole union
		}
	}
	return d.mismatch(c, v)
}
