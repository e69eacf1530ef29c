package value

import (
	"fmt"
	"strconv"
)

// The limits on documents, beyond those on all values.
const (
	DocumentDepthMax   = 16      // nesting, the document itself included
	DocumentBytesMax   = 1 << 20 // by Size
	IdentifierBytesMax = 64      // bytes of a field name at the top of a document
)

// What Size counts: a number; null, a boolean and undefined; what strings, bytes, arrays and objects have
// beside their content; what a field has beside its name and value.
const (
	sizeNumber  = 9
	sizeSimple  = 1
	sizeContent = 2
	sizeField   = 1
)

// The texts of LimitError.Limit.
const (
	limitNesting         = "nesting"
	limitSize            = "document size in bytes"
	limitFields          = "number of fields of an object"
	limitElements        = "number of elements of an array"
	limitFieldNameBytes  = "length of a field name"
	limitIdentifierBytes = "length of a top-level field name"
)

// The texts of DocumentError.Reason.
const (
	reasonNotObject     = "a document must be an object"
	reasonUndefined     = "undefined cannot be stored"
	reasonReserved      = "top-level field names that start with _ are reserved"
	reasonNotIdentifier = "a top-level field name must start with a letter and hold only letters, digits and _"
)

// LimitError reports a value that is larger than allowed.
type LimitError struct {
	Limit string // what is limited, for a person
	Got   int
	Max   int
	Path  string // where, such as ".items[3].name"; empty for the document itself
}

// Error returns the limit, the place and the two numbers.
func (e *LimitError) Error() string {
	return fmt.Sprintf("%s%s is %d, the most is %d", e.Limit, at(e.Path), e.Got, e.Max)
}

// DocumentError reports a value that cannot be stored as a document whatever its size.
type DocumentError struct {
	Reason string // what is wrong, for a person
	Path   string // where, such as ".items[3].name"; empty for the document itself
}

// Error returns the reason and the place.
func (e *DocumentError) Error() string { return e.Reason + at(e.Path) }

func at(path string) string {
	if path == "" {
		return ""
	}
	return " at " + path
}

// Size returns the size of v as Convex measures it against its limits: 9 for a number; 1 for null and a
// boolean; the length plus 2 for strings and bytes; 2 plus the sum of its elements for an array; 2 plus, for
// each field, the length of the name plus 1 plus the value, for an object.
func Size(v Value) int {
	switch v.kind {
	case KindInt64, KindFloat64:
		return sizeNumber
	case KindString, KindBytes:
		return int(v.bits) + sizeContent
	case KindArray:
		size := sizeContent
		for _, e := range v.elems() {
			size += Size(e)
		}
		return size
	case KindObject:
		if t := v.tuple(); t != nil {
			m := measure{b: t.b}
			m.tuple(t)
			return m.size
		}
		size := sizeContent
		for _, f := range v.fields() {
			size += len(f.Name) + sizeField + Size(f.Value)
		}
		return size
	default:
		return sizeSimple
	}
}

// CheckDocument reports whether v may be stored as a document. It must be an object whose own field names are
// identifiers that do not start with an underscore, it may hold no undefined, and it must be within the
// limits of this package. The error is a *LimitError or a *DocumentError and names the place.
func CheckDocument(v Value) error {
	_, err := DocumentSize(v)
	return err
}

// DocumentSize is CheckDocument and Size in one.
func DocumentSize(v Value) (size int, err error) {
	if v.kind != KindObject {
		return 0, &DocumentError{Reason: reasonNotObject}
	}
	if t := v.tuple(); t != nil {
		m := measure{b: t.b}
		if m.tuple(t); !m.unfit && m.size <= DocumentBytesMax {
			return m.size, nil
		}
		// What is wrong, and where, comes out below.
	}
	fields := v.fields()
	v = sortedObject(fields)
	if size = Size(v); size > DocumentBytesMax {
		return size, &LimitError{Limit: limitSize, Got: size, Max: DocumentBytesMax}
	}
	for _, f := range fields {
		if reason := identifierFault(f.Name); reason != "" {
			return size, &DocumentError{Reason: reason, Path: "." + f.Name}
		}
		if len(f.Name) > IdentifierBytesMax {
			return size, &LimitError{Limit: limitIdentifierBytes, Got: len(f.Name), Max: IdentifierBytesMax, Path: "." + f.Name}
		}
	}
	var c documentCheck
	return size, c.value(v, 0)
}

// measure goes over encoded values for their size, and notes whether one is not fit for a document. How large the
// whole is, it leaves to its caller.
type measure struct {
	b     []byte
	size  int
	unfit bool
}

// tuple adds a whole document.
func (m *measure) tuple(t *tuple) {
	known := t.names.current().names
	count := 0
	m.size += sizeContent
	for off := 0; off < len(m.b); count++ {
		var number uint32
		var name string
		number, name, off = t.nameAt(known, off)
		m.unfit = m.unfit || number == 0 && !numbered(name)
		m.size += len(name) + sizeField
		off = m.value(off, 1)
	}
	m.unfit = m.unfit || count > FieldsMax
}

// value adds the value at off, which is inside depth arrays and objects, and returns the offset after it.
func (m *measure) value(off, depth int) int {
	switch m.b[off] {
	case binaryInt64, binaryWhole, binaryFloat64:
		m.size += sizeNumber
		return skipAt(m.b, off)
	case binaryString, binaryBytes:
		n, start := contentAt(m.b, off+1)
		m.size += sizeContent + n
		return start + n
	case binaryArray:
		count, off, _ := bodyAt(m.b, off)
		m.size += sizeContent
		m.unfit = m.unfit || depth >= DocumentDepthMax || count > ElementsMax
		for ; count > 0; count-- {
			off = m.value(off, depth+1)
		}
		return off
	case binaryObject:
		count, off, _ := bodyAt(m.b, off)
		m.size += sizeContent
		m.unfit = m.unfit || depth >= DocumentDepthMax || count > FieldsMax
		for ; count > 0; count-- {
			var name string
			name, off = nameAt(m.b, off)
			m.unfit = m.unfit || len(name) > FieldNameBytesMax || nameFault(name) != ""
			m.size += len(name) + sizeField
			off = m.value(off, depth+1)
		}
		return off
	case binaryUndefined:
		m.unfit = true // it can be an element of an array
	}
	m.size += sizeSimple
	return off + 1
}

// identifierFault returns what keeps name from being an identifier, its length aside, or "".
func identifierFault(name string) string {
	if name != "" && name[0] == '_' {
		return reasonReserved
	}
	for i := range len(name) {
		c := name[i]
		if letter := 'a' <= c|0x20 && c|0x20 <= 'z'; !letter && (i == 0 || c != '_' && !isDigit(c)) {
			return reasonNotIdentifier
		}
	}
	if name == "" {
		return reasonNotIdentifier
	}
	return ""
}

// documentCheck walks a document. The place is kept as a list of steps and written out only for an error.
type documentCheck struct {
	steps [DocumentDepthMax]step
}

// step is one element of an array, or one field of an object when index is negative.
type step struct {
	name  string
	index int
}

// path writes out the first n steps.
func (c *documentCheck) path(n int) string {
	var b []byte
	for _, s := range c.steps[:n] {
		if s.index >= 0 {
			b = append(strconv.AppendInt(append(b, '['), int64(s.index), 10), ']')
		} else {
			b = append(append(b, '.'), s.name...)
		}
	}
	return string(b)
}

// value checks v, which is inside depth arrays and objects.
func (c *documentCheck) value(v Value, depth int) error {
	switch v.kind {
	case KindUndefined:
		return &DocumentError{Reason: reasonUndefined, Path: c.path(depth)}
	case KindArray, KindObject:
		if depth == DocumentDepthMax {
			return &LimitError{Limit: limitNesting, Got: depth + 1, Max: DocumentDepthMax, Path: c.path(depth)}
		}
		if v.kind == KindArray {
			return c.array(v, depth)
		}
		return c.object(v, depth)
	default:
		return nil
	}
}

func (c *documentCheck) array(v Value, depth int) error {
	if n := v.Len(); n > ElementsMax {
		return &LimitError{Limit: limitElements, Got: n, Max: ElementsMax, Path: c.path(depth)}
	}
	for i, e := range v.elems() {
		c.steps[depth] = step{index: i}
		if err := c.value(e, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (c *documentCheck) object(v Value, depth int) error {
	if n := len(v.fields()); n > FieldsMax {
		return &LimitError{Limit: limitFields, Got: n, Max: FieldsMax, Path: c.path(depth)}
	}
	for _, f := range v.fields() {
		c.steps[depth] = step{name: f.Name, index: -1}
		if n := len(f.Name); n > FieldNameBytesMax {
			return &LimitError{Limit: limitFieldNameBytes, Got: n, Max: FieldNameBytesMax, Path: c.path(depth + 1)}
		}
		if reason := nameFault(f.Name); reason != "" {
			return &DocumentError{Reason: reason, Path: c.path(depth + 1)}
		}
		if err := c.value(f.Value, depth+1); err != nil {
			return err
		}
	}
	return nil
}
