package value_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/value"
)

// goldenLine is one line of a golden file: a value, the hex of its encoding and a note.
type goldenLine struct {
	text    string
	value   value.Value
	encoded []byte
}

func readGolden(t testing.TB, path string) []goldenLine {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var lines []goldenLine
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		columns := strings.Split(line, "\t")
		if len(columns) < 2 {
			t.Fatalf("%s: line %q has fewer than two columns", path, line)
		}
		g := goldenLine{text: columns[0]}
		if g.encoded, err = hex.DecodeString(columns[1]); err != nil {
			t.Fatalf("%s: line %q: %v", path, line, err)
		}
		if g.text != "undefined" {
			if g.value, err = value.ParseJSON([]byte(g.text)); err != nil {
				t.Fatalf("%s: line %q: %v", path, line, err)
			}
		}
		lines = append(lines, g)
	}
	if len(lines) < 100 {
		t.Fatalf("%s has only %d lines", path, len(lines))
	}
	return lines
}

func TestOrderedGolden(t *testing.T) {
	lines := readGolden(t, "testdata/ordered.txt")
	for i, g := range lines {
		if got := value.AppendOrdered(nil, g.value); !bytes.Equal(got, g.encoded) {
			t.Errorf("AppendOrdered(%s) = %x, want %x", g.text, got, g.encoded)
		}
		got, rest, err := value.DecodeOrdered(g.encoded)
		if err != nil || len(rest) != 0 || !value.Equal(got, g.value) {
			t.Errorf("DecodeOrdered(%x) = %v, %x, %v, want %s", g.encoded, got, rest, err, g.text)
		}
		if i == 0 {
			continue
		}
		last := lines[i-1]
		if bytes.Compare(last.encoded, g.encoded) >= 0 {
			t.Errorf("the encoding of %s does not sort below that of %s", last.text, g.text)
		}
		if value.Compare(last.value, g.value) != -1 {
			t.Errorf("%s does not sort below %s", last.text, g.text)
		}
	}
}

func TestOrderedUndefinedInArrays(t *testing.T) {
	v := value.Array(value.Value{}, value.Null())
	want := []byte{0x80, 0x10, 0x20, 0x00}
	if got := value.AppendOrdered(nil, v); !bytes.Equal(got, want) {
		t.Errorf("AppendOrdered(%v) = %x, want %x", v, got, want)
	}
}

// keepsOrder: values, and lists of values, compare as their encodings do.
func keepsOrder(t *rapid.T) {
	var ea, eb []byte
	want := 0
	for range rapid.IntRange(1, 3).Draw(t, "fields") {
		a, b := drawAny().Draw(t, "a"), drawAny().Draw(t, "b")
		switch rapid.IntRange(0, 3).Draw(t, "kinship") {
		case 0:
			b = a
		case 1, 2:
			b = near(t, a)
		}
		ea, eb = value.AppendOrdered(ea, a), value.AppendOrdered(eb, b)
		if want == 0 {
			want = value.Compare(a, b)
		}
		if got := bytes.Compare(ea, eb); got != want {
			t.Fatalf("after %v and %v the order is %d, and %x to %x is %d", a, b, want, ea, eb, got)
		}
	}
}

func TestOrderedKeepsOrder(t *testing.T) { rapid.Check(t, keepsOrder) }

func FuzzOrderedKeepsOrder(f *testing.F) { f.Fuzz(rapid.MakeFuzz(keepsOrder)) }

// near draws a value that differs from v in one place deep inside, if at all.
func near(t *rapid.T, v value.Value) value.Value {
	switch v.Kind() {
	case value.KindArray:
		var elems []value.Value
		for i := range v.Len() {
			elems = append(elems, v.Index(i))
		}
		if len(elems) == 0 || rapid.Bool().Draw(t, "longer") {
			return value.Array(append(elems, drawAny().Draw(t, "added"))...)
		}
		i := rapid.IntRange(0, len(elems)-1).Draw(t, "element")
		elems[i] = near(t, elems[i])
		return value.Array(elems...)
	case value.KindObject:
		fields := append([]value.Field(nil), v.Fields()...)
		if len(fields) == 0 || rapid.Bool().Draw(t, "longer") {
			return value.Object(append(fields, value.Field{Name: drawName().Draw(t, "name"), Value: drawScalar().Draw(t, "added")})...)
		}
		i := rapid.IntRange(0, len(fields)-1).Draw(t, "field")
		fields[i].Value = near(t, fields[i].Value)
		return value.Object(fields...)
	case value.KindString:
		s, _ := v.AsString()
		return value.String(s + string(rapid.SampledFrom(awkwardRunes).Draw(t, "rune")))
	case value.KindBytes:
		b, _ := v.AsBytes()
		return value.Bytes(append(bytes.Clone(b), rapid.Byte().Draw(t, "byte")))
	default:
		return drawAny().Draw(t, "other")
	}
}

func TestOrderedTuplesKeepOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(drawAny(), 3, 3).Draw(t, "a")
		b := append([]value.Value(nil), a...)
		i := rapid.IntRange(0, 2).Draw(t, "differs")
		b[i] = near(t, b[i])
		var ea, eb []byte
		for i := range a {
			ea, eb = value.AppendOrdered(ea, a[i]), value.AppendOrdered(eb, b[i])
		}
		want := value.Compare(value.Array(a...), value.Array(b...))
		if got := bytes.Compare(ea, eb); got != want {
			t.Fatalf("%v to %v is %d, but %x to %x is %d", a, b, want, ea, eb, got)
		}
		// Complemented, as in a descending part of a key, they sort the other way round: no
		// encoding is a prefix of another.
		if got := bytes.Compare(complement(ea), complement(eb)); got != -want {
			t.Fatalf("%v to %v is %d, but complemented %d", a, b, want, got)
		}
	})
}

func complement(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = ^c
	}
	return out
}

func TestOrderedRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawAny().Draw(t, "value")
		tail := rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "tail")
		b := append(value.AppendOrdered([]byte("prefix"), v), tail...)[len("prefix"):]
		got, rest, err := value.DecodeOrdered(b)
		if err != nil || !value.Equal(got, v) || !bytes.Equal(rest, tail) {
			t.Fatalf("DecodeOrdered(%x) = %v, %x, %v, want %v, %x", b, got, rest, err, v, tail)
		}
		same := bytes.Clone(b)
		if got, rest, err := value.DecodeOrderedShared(same); err != nil || !value.Equal(got, v) || !bytes.Equal(rest, tail) || !bytes.Equal(same, b) {
			t.Fatalf("DecodeOrderedShared(%x) = %v, %x, %v, want %v, %x", same, got, rest, err, v, tail)
		}
		for i := range b { // nothing of the input is kept
			b[i] ^= 0xFF
		}
		if !value.Equal(got, v) {
			t.Fatalf("a decoded %v became %v with its input", v, got)
		}
	})
}

func TestOrderedLeavesRoomAroundEveryTag(t *testing.T) {
	for _, g := range readGolden(t, "testdata/ordered.txt") {
		if tag := g.encoded[0]; tag < 0x10 || tag > 0xEF {
			t.Errorf("the encoding of %s starts with %#x", g.text, tag)
		}
	}
}

func TestDecodeOrderedRefuses(t *testing.T) {
	cases := []struct{ name, hex string }{
		{"empty", ""},
		{"terminator", "00"},
		{"unknown tag", "11"},
		{"highest tag", "ff"},
		{"int64 cut short", "30800000000000"},
		{"float64 cut short", "40"},
		{"string without terminator", "6061"},
		{"string cut in the terminator", "606100"},
		{"string with an unknown escape", "60610002"},
		{"string that is not UTF-8", "60ff0001"},
		{"string with half of a surrogate pair", "60eda0800001"},
		{"bytes without terminator", "7001"},
		{"array without terminator", "8020"},
		{"array with a bad element", "80ff00"},
		{"object without terminator", "90"},
		{"object cut after a name", "906061000120"},
		{"object cut before a value", "9060610001"},
		{"object with a name of another kind", "9070610001200000"},
		{"object with equal names", "9060610001206061000120" + "00"},
		{"object with descending names", "9060620001206061000120" + "00"},
		{"object with an undefined field", "90606100011000"},
		{"nested too deeply, arrays", strings.Repeat("80", 65) + strings.Repeat("00", 65)},
		{"nested too deeply, objects", strings.Repeat("9060610001", 65) + "20" + strings.Repeat("00", 65)},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			b, err := hex.DecodeString(tc.hex)
			if err != nil {
				t.Fatal(err)
			}
			if v, _, err := value.DecodeOrdered(b); !errors.Is(err, value.ErrCorrupt) {
				t.Errorf("DecodeOrdered(%x) = %v, %v, want ErrCorrupt", b, v, err)
			}
			if v, _, err := value.DecodeOrderedShared(b); !errors.Is(err, value.ErrCorrupt) {
				t.Errorf("DecodeOrderedShared(%x) = %v, %v, want ErrCorrupt", b, v, err)
			}
		})
	}
}

func TestDecodersTakeTheGreatestDepth(t *testing.T) {
	for _, objects := range []bool{false, true} {
		v := nested(value.DepthMax, objects)
		if got, _, err := value.DecodeOrdered(value.AppendOrdered(nil, v)); err != nil || !value.Equal(got, v) {
			t.Errorf("DecodeOrdered of depth %d, objects %v: %v", value.DepthMax, objects, err)
		}
		if got, err := value.DecodeBinary(value.AppendBinary(nil, v)); err != nil || !value.Equal(got, v) {
			t.Errorf("DecodeBinary of depth %d, objects %v: %v", value.DepthMax, objects, err)
		}
		if got, err := value.ParseJSON(value.AppendJSON(nil, v)); err != nil || !value.Equal(got, v) {
			t.Errorf("ParseJSON of depth %d, objects %v: %v", value.DepthMax, objects, err)
		}
		v = nested(value.DepthMax+1, objects)
		if _, err := value.DecodeBinary(value.AppendBinary(nil, v)); !errors.Is(err, value.ErrCorrupt) {
			t.Errorf("DecodeBinary past the depth, objects %v: %v", objects, err)
		}
		var syntax *value.SyntaxError
		if _, err := value.ParseJSON(value.AppendJSON(nil, v)); !errors.As(err, &syntax) {
			t.Errorf("ParseJSON past the depth, objects %v: %v", objects, err)
		}
	}
}

func FuzzDecodeOrdered(f *testing.F) {
	for _, g := range readGolden(f, "testdata/ordered.txt") {
		f.Add(g.encoded)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, rest, err := value.DecodeOrdered(b)
		if err != nil {
			if !errors.Is(err, value.ErrCorrupt) {
				t.Fatalf("%v is not ErrCorrupt", err)
			}
			return
		}
		if got := value.AppendOrdered(nil, v); !bytes.Equal(got, b[:len(b)-len(rest)]) {
			t.Fatalf("%x decodes to %v, which encodes to %x", b, v, got)
		}
		// A neighbour in the order of bytes is a neighbour in the order of values.
		for i := range b[:len(b)-len(rest)] {
			c := bytes.Clone(b)
			c[i]++
			w, _, err := value.DecodeOrdered(c)
			if err != nil {
				continue
			}
			if got, want := bytes.Compare(b, c), value.Compare(v, w); got != want {
				t.Fatalf("%v to %v is %d, but %x to %x is %d", v, w, want, b, c, got)
			}
		}
	})
}
