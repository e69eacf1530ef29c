package value

import (
	"encoding/binary"
	"slices"
	"strings"
)

// tuple is an object in its encoding: for each field, by ascending names, its number in a dictionary as a
// uvarint, or 0 and the name, and then the value in the record encoding. Nothing in it ever changes.
type tuple struct {
	b     []byte
	names *Names
}

// AppendTuple appends the tuple encoding of an object to dst: its fields with the numbers of their names. Names
// that are new get a number as far as [Names.Number] gives one. With the same dictionary the encoding of an
// object is unique. REQUIRES: v is an object.
func AppendTuple(dst []byte, v Value, names *Names) []byte {
	if t := v.tuple(); t != nil && t.names == names {
		return append(dst, t.b...)
	}
	for _, f := range v.fields() {
		dst = AppendBinary(AppendTupleField(dst, names.Number(f.Name), f.Name), f.Value)
	}
	return dst
}

// AppendTupleField begins a field of a tuple, for who appends one without having the object: number is that of
// its name, or 0. What follows is the value, which must not be undefined. Fields come by ascending names.
func AppendTupleField(dst []byte, number uint32, name string) []byte {
	dst = binary.AppendUvarint(dst, uint64(number))
	if number == 0 {
		dst = AppendName(dst, name)
	}
	return dst
}

// DecodeTuple returns the object that b is the tuple encoding of. It accepts exactly what AppendTuple has written
// with the same dictionary, nested up to DepthMax; anything else is ErrCorrupt.
//
// The object keeps b, which must not be modified any more, and decodes a field when it is asked for: a scalar
// without allocating, strings and bytes sharing memory with b. Get and Path decode only the field they return;
// Fields decodes all of them anew at each call.
func DecodeTuple(b []byte, names *Names) (Value, error) {
	if err := checkTuple(b, names); err != nil {
		return Value{}, err
	}
	return TrustTuple(b, names), nil
}

// TrustTuple is DecodeTuple without its checks. REQUIRES: b was written by AppendTuple, or as AppendTupleField
// says, or has been accepted by DecodeTuple, with the same dictionary.
func TrustTuple(b []byte, names *Names) Value {
	return tupleObject(&tuple{b: b, names: names})
}

func checkTuple(b []byte, names *Names) error {
	known := names.current().names
	c := binaryChecker{b: b}
	last := ""
	for c.off < len(b) {
		at := c.off
		number, err := c.uvarint(len(b))
		if err != nil {
			return err
		}
		var name string
		switch {
		case number > uint64(len(known)):
			return corrupt(at, "unknown field number")
		case number > 0:
			name = known[number-1]
		default:
			if name, err = c.text(len(b)); err != nil {
				return err
			}
		}
		if at > 0 && last >= name {
			return corrupt(at, "field names out of order")
		}
		last = name
		if err := c.field(len(b), 1); err != nil {
			return err
		}
	}
	return nil
}

// nameAt reads the number and the name of the field at off and returns the offset of its value.
func (t *tuple) nameAt(known []string, off int) (uint32, string, int) {
	number, off := uvarintAt(t.b, off)
	if number > 0 {
		return uint32(number), known[number-1], off
	}
	name, off := nameAt(t.b, off)
	return 0, name, off
}

// fields decodes all fields.
func (t *tuple) fields() []Field {
	known := t.names.current().names
	count := 0
	for off := 0; off < len(t.b); count++ {
		_, _, off = t.nameAt(known, off)
		off = skipAt(t.b, off)
	}
	out := make([]Field, count)
	for i, off := 0, 0; i < count; i++ {
		_, out[i].Name, off = t.nameAt(known, off)
		out[i].Value, off = decodeAt(t.b, off)
	}
	return out
}

// path decodes the field of that name, or with more set what lies below it at a dotted path.
func (t *tuple) path(name, below string, more bool) Value {
	known := t.names.current().names
	for off := 0; off < len(t.b); off = skipAt(t.b, off) {
		var field string
		if _, field, off = t.nameAt(known, off); field == name {
			return pathAt(t.b, off, below, more)
		}
	}
	return Value{}
}

// pathAt decodes the value at off, or with more set what it has at a dotted path.
func pathAt(b []byte, off int, dotted string, more bool) Value {
	for more {
		if b[off] != binaryObject {
			return Value{}
		}
		var name string
		name, dotted, more = strings.Cut(dotted, ".")
		count, at, _ := bodyAt(b, off)
		found := false
		for ; count > 0; count-- {
			var field string
			if field, at = nameAt(b, at); field == name {
				found = true
				break
			}
			at = skipAt(b, at)
		}
		if !found {
			return Value{}
		}
		off = at
	}
	v, _ := decodeAt(b, off)
	return v
}

// Patched returns old with the fields of set, those of the same names replaced, and without the fields named in
// unset. It is a tuple when old is one. REQUIRES: both are objects.
func Patched(old, set Value, unset ...string) Value {
	t := old.tuple()
	if t == nil {
		merged := slices.Concat(old.fields(), set.fields())
		for _, name := range unset {
			merged = append(merged, Field{Name: name})
		}
		return Object(merged...)
	}
	known := t.names.current().names
	fresh := set.fields()
	room := 16
	for _, f := range fresh {
		room += len(f.Name) + Size(f.Value)
	}
	out := make([]byte, 0, len(t.b)+room)
	add := func(number uint32, f Field) {
		if slices.Contains(unset, f.Name) {
			return
		}
		if number == 0 {
			number = t.names.Number(f.Name)
		}
		out = AppendBinary(AppendTupleField(out, number, f.Name), f.Value)
	}
	for off := 0; off < len(t.b); {
		at := off
		number, name, start := t.nameAt(known, off)
		off = skipAt(t.b, start)
		for len(fresh) > 0 && fresh[0].Name < name {
			add(0, fresh[0])
			fresh = fresh[1:]
		}
		switch {
		case len(fresh) > 0 && fresh[0].Name == name:
			add(number, fresh[0])
			fresh = fresh[1:]
		case !slices.Contains(unset, name):
			out = append(out, t.b[at:off]...)
		}
	}
	for _, f := range fresh {
		add(0, f)
	}
	return TrustTuple(out, t.names)
}
