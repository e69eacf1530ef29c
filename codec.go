package halcyon

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon/engine/value"
)

// shape says how a Go type is kept as a Convex value.
type shape uint8

const (
	shapeAny      shape = iota + 1 // any: whatever the value is
	shapeValue                     // value.Value: itself
	shapeNull                      // the result of a function that returns only an error
	shapeBool                      // bool
	shapeString                    // string kinds
	shapeFloat                     // float32, float64
	shapeInteger                   // int, int8..int32, uint, uint8..uint64: a Convex number without a fraction
	shapeInt64                     // int64: Convex int64
	shapeBytes                     // []byte
	shapeTime                      // time.Time: a Convex number of milliseconds
	shapeID                        // ID[T]
	shapeArray                     // slices
	shapeRecord                    // maps with string keys
	shapeObject                    // structs
	shapePointer                   // *T: T, or undefined (null where undefined can't be)
	shapeNullable                  // Nullable[T]: T or null
	shapeShared                    // Shared[T]: T
	shapeEnum                      // a T with a method Values() []T: one of these
	shapeUnion                     // structs that embed Union: what one of their fields is
)

// codec is the plan by which values of one Go type become Convex values and back. It is built once a type and never changes.
type codec struct {
	typ    reflect.Type
	shape  shape
	elem   *codec       // of arrays, records, pointers, nullables and what is shared; of enums, what their values are
	fields []fieldCodec // of objects, sorted by name
	refers reflect.Type // of ids: the struct type of the table
	lo, hi float64      // of integers, inclusive

	literals []value.Value // of enums: what may be, in the author's order
	variants []variant     // of unions, in the order of the struct
	tag      string        // of unions: the field that says which variant an object is; empty when the first that fits counts

	ids bool // there are ids in it, beside the system field of a document
}

// fieldCodec is one field of an object.
type fieldCodec struct {
	name     string
	index    []int
	codec    *codec
	optional bool // may be absent
	omit     bool // absent when zero (pointers: when nil, without this)
	system   systemField
	tag      bool // the field that says which variant of a union this is: it has no index, and the only literal of its codec as value
}

// of returns the field of a struct.
func (f *fieldCodec) of(rv reflect.Value) reflect.Value {
	if len(f.index) == 1 { // nearly always, and half as dear
		return rv.Field(f.index[0])
	}
	return rv.FieldByIndex(f.index)
}

// systemField marks the two fields that the engine keeps outside of a document's own fields.
type systemField uint8

const (
	notSystem systemField = iota
	systemID
	systemCreationTime
)

const (
	idField           = "_id"
	creationTimeField = "_creationTime"
)

// integerMax is the largest integer a Convex number holds with all of its neighbours.
const integerMax = 1<<53 - 1

var (
	typeAny   = reflect.TypeFor[any]()
	typeValue = reflect.TypeFor[value.Value]()
	typeTime  = reflect.TypeFor[time.Time]()
	typeError = reflect.TypeFor[error]()

	anyCodec  = &codec{typ: typeAny, shape: shapeAny}
	nullCodec = &codec{shape: shapeNull}
)

// idReference and nullableMarker are how the generic types are told from other structs and strings.
type (
	idReference    interface{ refersTo() reflect.Type }
	nullableMarker interface{ nullable() }
)

// codecs holds the finished plans by type: *codec, or error for a type that has none.
var codecs sync.Map

// codecFor returns the plan of a type, building it at first use.
func codecFor(typ reflect.Type) (*codec, error) {
	if c, ok := codecs.Load(typ); ok {
		if err, bad := c.(error); bad {
			return nil, err
		}
		return c.(*codec), nil
	}
	b := codecBuilder{}
	c, err := b.build(typ)
	if err != nil {
		err = fmt.Errorf("type %v: %w", typ, err)
		codecs.Store(typ, err)
		return nil, err
	}
	c.findIDs()
	kept, _ := codecs.LoadOrStore(typ, c)
	return kept.(*codec), nil
}

// codecBuilder builds one plan; open lists the structs it is inside of, so that a recursive type is refused and not followed for ever.
type codecBuilder struct{ open []reflect.Type }

func (b *codecBuilder) build(typ reflect.Type) (*codec, error) {
	c := &codec{typ: typ}
	zero := reflect.Zero(typ)
	switch {
	case typ == typeAny:
		return anyCodec, nil
	case typ == typeUnion:
		return nil, errors.New("halcyon.Union is embedded in a struct, it is not a value by itself")
	case typ == typeValue:
		c.shape = shapeValue
		return c, nil
	case typ == typeTime:
		c.shape = shapeTime
		return c, nil
	case typ.Implements(reflect.TypeFor[idReference]()) && typ.Kind() == reflect.String:
		c.shape = shapeID
		c.refers = zero.Interface().(idReference).refersTo()
		return c, nil
	case typ.Implements(reflect.TypeFor[nullableMarker]()) && typ.Kind() == reflect.Struct:
		c.shape = shapeNullable
		return c, b.element(c, typ.Field(0).Type)
	case typ.Implements(reflect.TypeFor[sharedValue]()) && typ.Kind() == reflect.Struct:
		c.shape = shapeShared
		of := zero.Interface().(sharedValue).sharedType()
		if of.Kind() == reflect.Pointer {
			return nil, fmt.Errorf("a Shared of a pointer has no Convex value: share the %v", of.Elem())
		}
		return c, b.element(c, of)
	case isEnum(typ):
		return c, b.enum(c)
	case isUnion(typ):
		return c, b.union(c)
	}
	return c, b.kind(c)
}

// kind builds the plan of a type that is no more than its kind.
func (b *codecBuilder) kind(c *codec) error {
	typ := c.typ
	switch typ.Kind() {
	case reflect.Bool:
		c.shape = shapeBool
	case reflect.String:
		c.shape = shapeString
	case reflect.Float32, reflect.Float64:
		c.shape = shapeFloat
	case reflect.Int64:
		c.shape = shapeInt64
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32:
		c.shape = shapeInteger
		c.hi = math.Min(math.Ldexp(1, typ.Bits()-1)-1, integerMax)
		c.lo = math.Max(-math.Ldexp(1, typ.Bits()-1), -integerMax)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		c.shape = shapeInteger
		c.hi = math.Min(math.Ldexp(1, typ.Bits())-1, integerMax)
	case reflect.Slice:
		if typ.Elem().Kind() == reflect.Uint8 {
			c.shape = shapeBytes
			return nil
		}
		c.shape = shapeArray
		return b.element(c, typ.Elem())
	case reflect.Map:
		if typ.Key().Kind() != reflect.String {
			return fmt.Errorf("a map needs string keys, not %v", typ.Key())
		}
		c.shape = shapeRecord
		return b.element(c, typ.Elem())
	case reflect.Pointer:
		if typ.Elem().Kind() == reflect.Pointer {
			return fmt.Errorf("a pointer to a pointer has no Convex value")
		}
		c.shape = shapePointer
		return b.element(c, typ.Elem())
	case reflect.Struct:
		c.shape = shapeObject
		return b.object(c)
	default:
		return fmt.Errorf("%v has no Convex value", typ)
	}
	return nil
}

func (b *codecBuilder) element(c *codec, typ reflect.Type) (err error) {
	c.elem, err = b.build(typ)
	return err
}

func (b *codecBuilder) object(c *codec) error {
	if slices.Contains(b.open, c.typ) {
		return fmt.Errorf("%v contains itself; use halcyon.ID or any where it does", c.typ)
	}
	b.open = append(b.open, c.typ)
	defer func() { b.open = b.open[:len(b.open)-1] }()
	if err := b.fields(c, c.typ, nil); err != nil {
		return err
	}
	slices.SortFunc(c.fields, func(x, y fieldCodec) int { return strings.Compare(x.name, y.name) })
	for i := 1; i < len(c.fields); i++ {
		if c.fields[i].name == c.fields[i-1].name {
			return fmt.Errorf("%v has two fields named %q", c.typ, c.fields[i].name)
		}
	}
	return nil
}

// fields adds the fields of a struct type, those of embedded structs in the place where they are embedded, as encoding/json does.
func (b *codecBuilder) fields(c *codec, typ reflect.Type, at []int) error {
	for i := range typ.NumField() {
		sf := typ.Field(i)
		tag, hasTag := sf.Tag.Lookup("json")
		mark, hasMark := sf.Tag.Lookup("halcyon")
		index := append(slices.Clone(at), i)
		if tag == "-" {
			continue
		}
		if sf.Anonymous && !hasTag && !hasMark && sf.Type.Kind() == reflect.Struct {
			if isUnion(sf.Type) {
				return fmt.Errorf("field %s: a union has no fields of its own to embed; give it a json tag", sf.Name)
			}
			if err := b.fields(c, sf.Type, index); err != nil {
				return err
			}
			continue
		}
		if !sf.IsExported() {
			continue
		}
		f, err := b.field(sf, tag, mark)
		if err != nil {
			return fmt.Errorf("field %s: %w", sf.Name, err)
		}
		f.index = index
		c.fields = append(c.fields, f)
	}
	return nil
}

func (b *codecBuilder) field(sf reflect.StructField, tag, mark string) (fieldCodec, error) {
	name, options, _ := strings.Cut(tag, ",")
	f := fieldCodec{name: name}
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "":
		case "omitempty", "omitzero":
			f.omit, f.optional = true, true
		default:
			return f, fmt.Errorf("json option %q is not supported", option)
		}
	}
	var err error
	if f.codec, err = b.build(sf.Type); err != nil {
		return f, err
	}
	switch mark {
	case "":
	case "id":
		if f.codec.shape != shapeID {
			return f, fmt.Errorf(`a field tagged halcyon:"id" has type halcyon.ID, not %v`, sf.Type)
		}
		f.system, f.omit, f.name = systemID, true, orElse(f.name, idField)
	case "creationTime":
		if f.codec.shape != shapeTime && f.codec.typ.Kind() != reflect.Float64 {
			return f, fmt.Errorf(`a field tagged halcyon:"creationTime" has type time.Time or float64, not %v`, sf.Type)
		}
		f.system, f.omit, f.name = systemCreationTime, true, orElse(f.name, creationTimeField)
	default:
		return f, fmt.Errorf(`halcyon:%q is neither "id" nor "creationTime"`, mark)
	}
	f.name = orElse(f.name, lowerCamel(sf.Name))
	if !utf8.ValidString(f.name) { // objects are made without a look at their names
		return f, fmt.Errorf("the name %q is not UTF-8", f.name)
	}
	if f.codec.shape == shapePointer {
		f.optional = true
	}
	return f, nil
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// lowerCamel turns a Go name into the name of a field: SessionID is sessionId, URL is url, HTTPPort is httpPort.
func lowerCamel(name string) string {
	runes := []rune(name)
	var out strings.Builder
	for i, r := range runes {
		// A letter is kept upper only where it begins a word other than the first: after a lower letter or a digit, or as the last of
		// a run of capitals when a lower letter follows.
		begins := i > 0 && unicode.IsUpper(r) &&
			(!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1]))
		if begins {
			out.WriteRune(r)
		} else {
			out.WriteRune(unicode.ToLower(r))
		}
	}
	return out.String()
}

// field returns the field of that name.
func (c *codec) field(name string) (*fieldCodec, bool) {
	i, ok := slices.BinarySearchFunc(c.fields, name, func(f fieldCodec, name string) int { return strings.Compare(f.name, name) })
	if !ok {
		return nil, false
	}
	return &c.fields[i], true
}

// system returns the field of a struct that receives _id or _creationTime.
func (c *codec) systemField(which systemField) (*fieldCodec, bool) {
	for i := range c.fields {
		if c.fields[i].system == which {
			return &c.fields[i], true
		}
	}
	return nil, false
}

// at follows a dotted path through objects to a field, whose name is then the path. It is optional when some part of the path may be
// absent. Below any, value.Value and records every name is possible.
func (c *codec) at(path string) (fieldCodec, error) {
	found := fieldCodec{name: path, codec: c}
	for part := range strings.SplitSeq(path, ".") {
		for found.codec.shape == shapePointer || found.codec.shape == shapeNullable {
			found.codec, found.optional = found.codec.elem, true
		}
		switch in := found.codec; in.shape {
		case shapeAny, shapeValue:
			return fieldCodec{name: path, codec: anyCodec, optional: true}, nil
		case shapeRecord:
			found.codec, found.optional, found.omit = in.elem, true, false
		case shapeUnion:
			f, ok := in.member(part)
			if !ok {
				return found, fmt.Errorf("no variant of %v has a field %q", in.typ, part)
			}
			found.codec, found.optional, found.omit = f.codec, found.optional || f.optional, f.omit
		case shapeObject:
			f, ok := in.field(part)
			if !ok || f.system != notSystem {
				return found, fmt.Errorf("%v has no field %q", in.typ, part)
			}
			found.codec, found.optional, found.omit = f.codec, found.optional || f.optional, f.omit
		default:
			return found, fmt.Errorf("%v has no fields, so none named %q", in.typ, part)
		}
	}
	return found, nil
}

// checkName refuses names that can't be part of a path or of a key on disk.
func checkName(what, name string) error {
	if name == "" {
		return fmt.Errorf("a %s needs a name", what)
	}
	if len(name) > nameBytesMax {
		return fmt.Errorf("%s name %q is longer than %d bytes", what, name, nameBytesMax)
	}
	for i := range len(name) {
		letter := 'a' <= name[i] && name[i] <= 'z' || 'A' <= name[i] && name[i] <= 'Z'
		digit := '0' <= name[i] && name[i] <= '9' || name[i] == '_'
		if !letter && (!digit || i == 0) {
			return fmt.Errorf("%s name %q: use letters, digits and underscores, with a letter first", what, name)
		}
	}
	return nil
}

// checkTitle refuses cron names that would not print on one line.
func checkTitle(what, name string) error {
	if name == "" || len(name) > nameBytesMax || !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("%s name %q: use 1 to %d bytes of printable text", what, name, nameBytesMax)
	}
	return nil
}
