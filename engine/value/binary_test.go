package value_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/value"
)

func TestBinaryGolden(t *testing.T) {
	for _, g := range readGolden(t, "testdata/binary.txt") {
		if got := value.AppendBinary(nil, g.value); !bytes.Equal(got, g.encoded) {
			t.Errorf("AppendBinary(%s) = %x, want %x", g.text, got, g.encoded)
		}
		if got, err := value.DecodeBinary(g.encoded); err != nil || !value.Equal(got, g.value) {
			t.Errorf("DecodeBinary(%x) = %v, %v, want %s", g.encoded, got, err, g.text)
		}
	}
}

func TestBinaryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawAny().Draw(t, "value")
		b := value.AppendBinary([]byte("prefix"), v)[len("prefix"):]
		got, err := value.DecodeBinary(b)
		if err != nil || !value.Equal(got, v) {
			t.Fatalf("DecodeBinary(%x) = %v, %v, want %v", b, got, err, v)
		}
		for i := range b { // nothing of the input is kept
			b[i] ^= 0xFF
		}
		if !value.Equal(got, v) {
			t.Fatalf("a decoded %v became %v with its input", v, got)
		}
	})
}

func TestBinaryBodiesOfEveryLength(t *testing.T) {
	// Around the lengths at which the length of the body, or of the string in it, takes one byte more.
	for _, around := range []int{0, 1 << 7, 1 << 14, 1 << 21} {
		for n := max(0, around-8); n < around+8; n++ {
			v := value.Array(value.Object(value.Field{Name: "a", Value: value.String(strings.Repeat("x", n))}))
			got, err := value.DecodeBinary(value.AppendBinary(nil, v))
			if err != nil || !value.Equal(got, v) {
				t.Errorf("a string of %d bytes inside: %v", n, err)
			}
		}
	}
}

func TestDecodeBinaryRefuses(t *testing.T) {
	cases := []struct{ name, hex string }{
		{"empty", ""},
		{"unknown tag", "0b"},
		{"bytes after the value", "0101"},
		{"int64 without number", "04"},
		{"int64 cut short", "0480"},
		{"int64 not in its shortest form", "048000"},
		{"int64 of more than 64 bits", "04ffffffffffffffffff02"},
		{"float64 cut short", "0500000000000000"},
		{"float64 that is whole", "05000000000000f03f"},
		{"whole float over 2^53", "068280808080808020"},
		{"string without length", "07"},
		{"string longer than the input", "070161" + "62"},
		{"string cut short", "070261"},
		{"string of a huge length", "07ffffffffffffffffff01"},
		{"string that is not UTF-8", "0701ff"},
		{"bytes cut short", "080261"},
		{"array without count", "09"},
		{"array without length", "0901"},
		{"array longer than the input", "09010201"},
		{"array with more elements than bytes", "09020101"},
		{"array with fewer elements than bytes", "0901020101"},
		{"array of a huge count", "09ffffffffffffffffff010101"},
		{"array of a huge length", "0901ffffffffffffffffff0101"},
		{"element past the end of its array", "0902030901020701"},
		{"object with more fields than bytes", "0a02030161" + "01"},
		{"object with fewer fields than bytes", "0a010401610101"},
		{"object with equal names", "0a0206016101016101"},
		{"object with descending names", "0a0206016201016101"},
		{"object with an undefined field", "0a0103016100"},
		{"object with a name that is not UTF-8", "0a010301ff01"},
		{"name past the end of its object", "0a0103056101"},
		{"bad uvarint inside", "0901028000"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			b, err := hex.DecodeString(tc.hex)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := value.DecodeBinary(b); !errors.Is(err, value.ErrCorrupt) {
				t.Errorf("DecodeBinary(%x) = %v, %v, want ErrCorrupt", b, v, err)
			}
		})
	}
}

// allocated returns how many bytes f allocates.
func allocated(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc)
}

func TestMemoryIsBoundedByTheInput(t *testing.T) {
	// nest wraps a body in containers that each claim as many elements as their body has bytes.
	nest := func(tag byte, perElement int) []byte {
		b := bytes.Repeat([]byte{0x01}, 64<<10)
		for range value.DepthMax {
			head := binary.AppendUvarint([]byte{tag}, uint64(len(b)/perElement))
			head = binary.AppendUvarint(head, uint64(len(b)))
			b = append(head, b...)
		}
		return b
	}
	many := strings.Repeat("[0,0,0,0,0,0,0,0],", 8000)
	cases := []struct {
		name   string
		input  []byte
		decode func(b []byte) error
	}{
		{"binary arrays", nest(0x09, 1), func(b []byte) error { _, err := value.DecodeBinary(b); return err }},
		{"binary objects", nest(0x0A, 2), func(b []byte) error { _, err := value.DecodeBinary(b); return err }},
		{
			"binary array of nulls", value.AppendBinary(nil, value.Array(make([]value.Value, 64<<10)...)),
			func(b []byte) error { _, err := value.DecodeBinary(b); return err },
		},
		{
			"binary claim alone", append([]byte{0x09, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0x03}, make([]byte, 0xFFFF)...),
			func(b []byte) error { _, err := value.DecodeBinary(b); return err },
		},
		{
			"ordered array of nulls", append(append([]byte{0x80}, bytes.Repeat([]byte{0x20}, 64<<10)...), 0),
			func(b []byte) error { _, _, err := value.DecodeOrdered(b); return err },
		},
		{
			"ordered arrays in an array", bytes.Repeat([]byte{0x80}, 1<<20),
			func(b []byte) error { _, _, err := value.DecodeOrdered(b); return err },
		},
		{
			"ordered string of zeros", append([]byte{0x60}, bytes.Repeat([]byte{0x00, 0xFF}, 64<<10)...),
			func(b []byte) error { _, _, err := value.DecodeOrdered(b); return err },
		},
		{
			"JSON arrays", []byte("[" + many + "0]"),
			func(b []byte) error { _, err := value.ParseJSON(b); return err },
		},
		{
			"JSON open arrays", bytes.Repeat([]byte("["), 1<<20),
			func(b []byte) error { _, err := value.ParseJSON(b); return err },
		},
		{
			"JSON open objects", bytes.Repeat([]byte(`{"":`), 1<<18),
			func(b []byte) error { _, err := value.ParseJSON(b); return err },
		},
		{
			"JSON digits", bytes.Repeat([]byte("1"), 1<<18),
			func(b []byte) error { _, err := value.ParseJSON(b); return err },
		},
		{
			"JSON escapes", []byte(`"` + strings.Repeat(`\u00e9`, 1<<16) + `"`),
			func(b []byte) error { _, err := value.ParseJSON(b); return err },
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			var err error
			got := allocated(func() { err = tc.decode(tc.input) })
			// 24 bytes a one-byte element, and twice that while a slice of them grows by copying.
			if most := 128*len(tc.input) + 16<<10; got > most {
				t.Errorf("%d bytes of input allocated %d, want at most %d (error %v)", len(tc.input), got, most, err)
			}
		})
	}
}

func FuzzDecodeBinary(f *testing.F) {
	for _, g := range readGolden(f, "testdata/binary.txt") {
		f.Add(g.encoded)
	}
	f.Add([]byte{0x09, 0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0x7F, 0x00})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := value.DecodeBinary(b)
		if err != nil {
			if !errors.Is(err, value.ErrCorrupt) {
				t.Fatalf("%v is not ErrCorrupt", err)
			}
			return
		}
		if got := value.AppendBinary(nil, v); !bytes.Equal(got, b) {
			t.Fatalf("%x decodes to %v, which encodes to %x", b, v, got)
		}
	})
}
