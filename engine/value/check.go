package value

import (
	"encoding/binary"
	"unicode/utf8"
)

// binaryChecker goes over a record encoding that may be anything and accepts exactly what AppendBinary writes.
// It allocates nothing. What it has accepted is decoded without further checks, and since each element and
// field was seen, no count in it is a claim any more.
type binaryChecker struct {
	b   []byte
	off int
}

// value checks the value at off, which must end by end, and moves behind it.
func (c *binaryChecker) value(end, depth int) error {
	if c.off >= end {
		return corrupt(c.off, "value cut short")
	}
	at := c.off
	tag := c.b[at]
	c.off++
	switch tag {
	case binaryUndefined, binaryNull, binaryFalse, binaryTrue:
		return nil
	case binaryInt64, binaryWhole:
		u, err := c.uvarint(end)
		if err != nil {
			return err
		}
		if i := unzigzag(u); tag == binaryWhole && (i < -wholeMax || i > wholeMax) {
			return corrupt(at, "whole float out of range")
		}
		return nil
	case binaryFloat64:
		if end-c.off < 8 {
			return corrupt(c.off, "number cut short")
		}
		u := binary.LittleEndian.Uint64(c.b[c.off:])
		c.off += 8
		if _, ok := whole(u); ok {
			return corrupt(at, "whole float in the long form")
		}
		return nil
	case binaryString:
		_, err := c.text(end)
		return err
	case binaryBytes:
		_, err := c.content(end)
		return err
	case binaryArray:
		return c.array(end, depth)
	case binaryObject:
		return c.object(end, depth)
	default:
		return corrupt(at, "unknown tag")
	}
}

// header reads the count of an array or object and the end of its body.
func (c *binaryChecker) header(end, depth int) (count uint64, bodyEnd int, err error) {
	at := c.off
	if depth == DepthMax {
		return 0, 0, corrupt(at, "nested too deeply")
	}
	if count, err = c.uvarint(end); err != nil || count == 0 {
		return 0, c.off, err
	}
	size, err := c.uvarint(end)
	if err != nil {
		return 0, 0, err
	}
	if size > uint64(end-c.off) {
		return 0, 0, corrupt(at, "array or object longer than the input")
	}
	return count, c.off + int(size), nil
}

func (c *binaryChecker) array(end, depth int) error {
	count, bodyEnd, err := c.header(end, depth)
	if err != nil {
		return err
	}
	for ; count > 0; count-- {
		if err := c.value(bodyEnd, depth+1); err != nil {
			return err
		}
	}
	if c.off != bodyEnd {
		return corrupt(c.off, "bytes after the last element")
	}
	return nil
}

func (c *binaryChecker) object(end, depth int) error {
	count, bodyEnd, err := c.header(end, depth)
	if err != nil {
		return err
	}
	last := ""
	for first := true; count > 0; count-- {
		at := c.off
		name, err := c.text(bodyEnd)
		if err != nil {
			return err
		}
		if !first && last >= name {
			return corrupt(at, "field names out of order")
		}
		first, last = false, name
		if err := c.field(bodyEnd, depth+1); err != nil {
			return err
		}
	}
	if c.off != bodyEnd {
		return corrupt(c.off, "bytes after the last field")
	}
	return nil
}

// field checks the value of a field.
func (c *binaryChecker) field(end, depth int) error {
	if c.off < end && c.b[c.off] == binaryUndefined {
		return corrupt(c.off, "undefined field")
	}
	return c.value(end, depth)
}

// uvarint reads an unsigned integer in its shortest form.
func (c *binaryChecker) uvarint(end int) (uint64, error) {
	if c.off < end && c.b[c.off] < 0x80 {
		c.off++
		return uint64(c.b[c.off-1]), nil
	}
	u, n := binary.Uvarint(c.b[c.off:end])
	if n <= 0 {
		return 0, corrupt(c.off, "bad length or number")
	}
	if c.b[c.off+n-1] == 0 {
		return 0, corrupt(c.off, "length or number is not in its shortest form")
	}
	c.off += n
	return u, nil
}

// content reads a length and that many bytes.
func (c *binaryChecker) content(end int) ([]byte, error) {
	at := c.off
	n, err := c.uvarint(end)
	if err != nil {
		return nil, err
	}
	if n > uint64(end-c.off) {
		return nil, corrupt(at, "string or bytes longer than the input")
	}
	c.off += int(n)
	return c.b[c.off-int(n) : c.off], nil
}

func (c *binaryChecker) text(end int) (string, error) {
	at := c.off
	content, err := c.content(end)
	if err != nil {
		return "", err
	}
	if !utf8.Valid(content) {
		return "", corrupt(at, "string is not UTF-8")
	}
	return aliasString(content), nil
}
