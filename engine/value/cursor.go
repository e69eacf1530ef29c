package value

// Cursor goes over the elements of an array or the fields of an object without decoding those it passes over,
// where the value is kept in its encoding. It begins before the first one. The zero Cursor has none.
//
// A Cursor allocates nothing, and neither do the scalars, strings and bytes it returns, which share memory with
// the value.
type Cursor struct {
	// One of these three is where the content comes from.
	elems  []Value
	fields []Field
	b      []byte

	known  []string // names by number, of a tuple
	tuple  bool
	object bool
	length int // elements or fields still to come, unless it is a tuple
	next   int // offset or index of the next one
	at     int // offset or index of the current one's value
	name   string
}

// Iterate returns a Cursor over the elements of an array or the fields of an object. Any other value has none.
func (v Value) Iterate() Cursor {
	switch v.kind {
	case KindArray:
		return Cursor{elems: v.elems(), length: int(v.bits)}
	case KindObject:
		if t := v.tuple(); t != nil {
			return Cursor{b: t.b, known: t.names.current().names, tuple: true, object: true}
		}
		fields := v.fields()
		return Cursor{fields: fields, object: true, length: len(fields)}
	default:
		return Cursor{}
	}
}

// Next moves to the next element or field, and reports whether there is one.
func (c *Cursor) Next() bool {
	switch {
	case c.tuple:
		if c.next >= len(c.b) {
			return false
		}
		number, off := uvarintAt(c.b, c.next)
		if number > 0 {
			c.name = c.known[number-1]
		} else {
			c.name, off = nameAt(c.b, off)
		}
		c.at, c.next = off, skipAt(c.b, off)
		return true
	case c.length == 0:
		return false
	}
	c.length--
	if c.b == nil {
		c.at = c.next
		c.next++
		if c.object {
			c.name = c.fields[c.at].Name
		}
		return true
	}
	if c.object {
		c.name, c.next = nameAt(c.b, c.next)
	}
	c.at, c.next = c.next, skipAt(c.b, c.next)
	return true
}

// Name returns the name of the current field.
func (c *Cursor) Name() string { return c.name }

// Kind returns the kind of the current value.
func (c *Cursor) Kind() Kind {
	if c.b != nil {
		return kindAt(c.b, c.at)
	}
	return c.Value().kind
}

// Value returns the current value, decoded.
func (c *Cursor) Value() Value {
	switch {
	case c.b != nil:
		v, _ := decodeAt(c.b, c.at)
		return v
	case c.object:
		return c.fields[c.at].Value
	default:
		return c.elems[c.at]
	}
}

// Iterate returns a Cursor over the content of the current value.
func (c *Cursor) Iterate() Cursor {
	if c.b == nil {
		return c.Value().Iterate()
	}
	kind := kindAt(c.b, c.at)
	if kind != KindArray && kind != KindObject {
		return Cursor{}
	}
	count, start, end := bodyAt(c.b, c.at)
	return Cursor{b: c.b[:end:end], object: kind == KindObject, length: count, next: start}
}

// Len returns how many elements or fields are still to come. REQUIRES: they are those of an array, or of an object
// inside of another value.
func (c *Cursor) Len() int { return c.length }
