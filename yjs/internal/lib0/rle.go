package lib0

// The four column coders of update format V2. The encoders keep a run open
// until the next different value; Bytes closes it. The decoders read one value
// at a time and never expand a run, so what a run claims costs nothing.

// ByteRuns encodes bytes as (value, count-1) pairs. The count of the last run
// is not written: it lasts until whoever reads it stops.
type ByteRuns struct {
	buf   []byte
	value byte
	count uint64
}

// Write appends one byte.
func (e *ByteRuns) Write(v byte) {
	if e.count > 0 && e.value == v {
		e.count++
		return
	}
	if e.count > 0 {
		e.buf = AppendUint(e.buf, e.count-1)
	}
	e.buf = append(e.buf, v)
	e.value, e.count = v, 1
}

// Bytes returns the encoded column.
func (e *ByteRuns) Bytes() []byte { return e.buf }

// ByteRunReader reads what ByteRuns wrote.
type ByteRunReader struct {
	r     Reader
	value byte
	left  uint64
	tail  bool
}

// NewByteRunReader returns a reader of the column s.
func NewByteRunReader(s string) ByteRunReader { return ByteRunReader{r: NewReader(s)} }

// Err is the first failure, or nil.
func (d *ByteRunReader) Err() error { return d.r.err }

// Next reads one byte.
func (d *ByteRunReader) Next() byte {
	if d.left == 0 && !d.tail {
		d.value = d.r.Byte()
		if d.r.Len() > 0 {
			d.left = d.r.Uint() + 1
		} else {
			d.tail = true
		}
	}
	if !d.tail {
		d.left--
	}
	return d.value
}

// UintRuns encodes unsigned integers; a value that stands alone costs no
// count, a repeated one is written negative with its count after it.
type UintRuns struct {
	buf   []byte
	value uint64
	count uint64
}

// Write appends one integer.
func (e *UintRuns) Write(v uint64) {
	if e.value == v {
		e.count++
		return
	}
	e.flush()
	e.value, e.count = v, 1
}

func (e *UintRuns) flush() {
	if e.count == 0 {
		return
	}
	e.buf = AppendInt(e.buf, e.count > 1, e.value)
	if e.count > 1 {
		e.buf = AppendUint(e.buf, e.count-2)
	}
}

// Bytes closes the last run and returns the encoded column.
func (e *UintRuns) Bytes() []byte {
	e.flush()
	e.count = 0
	return e.buf
}

// UintRunReader reads what UintRuns wrote.
type UintRunReader struct {
	r     Reader
	value uint64
	left  uint64
}

// NewUintRunReader returns a reader of the column s.
func NewUintRunReader(s string) UintRunReader { return UintRunReader{r: NewReader(s)} }

// Err is the first failure, or nil.
func (d *UintRunReader) Err() error { return d.r.err }

// Next reads one integer.
func (d *UintRunReader) Next() uint64 {
	if d.left == 0 {
		neg, v := d.r.Int()
		d.value, d.left = v, 1
		if neg {
			d.left = d.r.Uint() + 2
		}
	}
	d.left--
	return d.value
}

// DiffRuns encodes integers as the difference to the one before, with runs of
// an equal difference counted.
type DiffRuns struct {
	buf   []byte
	last  int64
	diff  int64
	count uint64
}

// Write appends one integer.
func (e *DiffRuns) Write(v uint64) {
	if d := int64(v) - e.last; d == e.diff {
		e.count++
	} else {
		e.flush()
		e.diff, e.count = d, 1
	}
	e.last = int64(v)
}

func (e *DiffRuns) flush() {
	if e.count == 0 {
		return
	}
	v := e.diff * 2
	if e.count > 1 {
		v++
	}
	if v < 0 {
		e.buf = AppendInt(e.buf, true, uint64(-v))
	} else {
		e.buf = AppendInt(e.buf, false, uint64(v))
	}
	if e.count > 1 {
		e.buf = AppendUint(e.buf, e.count-2)
	}
}

// Bytes closes the last run and returns the encoded column.
func (e *DiffRuns) Bytes() []byte {
	e.flush()
	e.count = 0
	return e.buf
}

// DiffRunReader reads what DiffRuns wrote.
type DiffRunReader struct {
	r    Reader
	last int64
	diff int64
	left uint64
}

// NewDiffRunReader returns a reader of the column s.
func NewDiffRunReader(s string) DiffRunReader { return DiffRunReader{r: NewReader(s)} }

// Err is the first failure, or nil.
func (d *DiffRunReader) Err() error { return d.r.err }

// Next reads one integer.
func (d *DiffRunReader) Next() uint64 {
	if d.left == 0 {
		neg, m := d.r.Int()
		v := int64(m)
		if neg {
			v = -v
		}
		d.diff, d.left = v>>1, 1
		if v&1 != 0 {
			d.left = d.r.Uint() + 2
		}
	}
	d.left--
	d.last += d.diff
	if d.last < 0 || d.last > MaxUint {
		d.r.Fail("clock out of range")
		d.last, d.diff = 0, 0
	}
	return uint64(d.last)
}

// Strings encodes strings as one text and the column of their lengths in
// UTF-16 code units.
type Strings struct {
	text []byte
	lens UintRuns
}

// WriteUnits appends a string of the given length in code units.
func (e *Strings) WriteUnits(s string, units uint64) {
	e.text = append(e.text, s...)
	e.lens.Write(units)
}

// Write appends a string.
func (e *Strings) Write(s string) { e.WriteUnits(s, Units(s)) }

// Bytes returns the encoded column.
func (e *Strings) Bytes() []byte {
	out := AppendString(make([]byte, 0, len(e.text)+len(e.lens.buf)+8), e.text)
	return append(out, e.lens.Bytes()...)
}

// StringReader reads what Strings wrote.
type StringReader struct {
	text  string
	units uint64 // code units left in text
	lens  UintRunReader
	// pending is the number of code units, zero or one, already taken of the
	// surrogate pair text starts with.
	pending uint64
}

// NewStringReader returns a reader of the column s.
func NewStringReader(s string) StringReader {
	r := NewReader(s)
	text, units := r.Text()
	d := StringReader{text: text, units: units}
	if r.err != nil {
		d.lens.r.err = r.err
		return d
	}
	d.lens = NewUintRunReader(r.Rest())
	return d
}

// Err is the first failure, or nil.
func (d *StringReader) Err() error { return d.lens.r.err }

// Next reads one string and its length in UTF-16 code units.
func (d *StringReader) Next() (s string, units uint64) {
	n := d.lens.Next()
	if n > d.units {
		d.lens.r.Fail("string beyond its column")
		d.text, d.units, d.pending = "", 0, 0
		return "", 0
	}
	if n == 0 {
		return "", 0
	}
	if d.pending == 0 && uint64(len(d.text)) == d.units {
		s, d.text = d.text[:n], d.text[n:]
		d.units -= n
		return s, n
	}
	return d.nextWide(n), n
}

func (d *StringReader) nextWide(n uint64) string {
	d.units -= n
	head := ""
	if d.pending == 1 {
		// The other half of this pair went to the string before.
		head, d.text, d.pending = Replacement, d.text[4:], 0
		n--
	}
	i, pair := Offset(d.text, d.units+n, n)
	s := d.text[:i]
	d.text = d.text[i:]
	if pair {
		d.pending = 1
		return head + s + Replacement
	}
	if head != "" {
		return head + s
	}
	return s
}
