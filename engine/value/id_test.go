package value_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/value"
)

// idVectors pairs ids of real deployments and of our making with their string form.
var idVectors = []struct {
	name string
	text string
	id   value.ID
}{
	{
		"table 10001, ascending bytes", "j57000820c20a1g7104gm2rc1m70ynr8",
		value.ID{Table: 10001, Key: [16]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}},
	},
	{
		"table 1, all ones", "07zzzzzzzzzzzzzzzzzzzzzzzzzz328",
		value.ID{Table: 1, Key: [16]byte{
			0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
		}},
	},
	{
		"issued by Convex", "j57cq69zzk3v4s9ktbn6g3dskx7m7aj5",
		value.ID{Table: 10001, Key: [16]byte{
			0xcb, 0x99, 0x3f, 0xfc, 0xc7, 0xb2, 0x65, 0x33, 0xd2, 0xea, 0x68, 0x0d, 0xb9, 0x9f, 0x4f, 0x43,
		}},
	},
}

func TestIDVectors(t *testing.T) {
	for _, tc := range idVectors {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.id.String(); got != tc.text {
				t.Errorf("String of %v = %q, want %q", tc.id, got, tc.text)
			}
			got, err := value.ParseID(tc.text)
			if err != nil || got != tc.id {
				t.Errorf("ParseID(%q) = %v, %v, want %v", tc.text, got, err, tc.id)
			}
		})
	}
}

func TestIDOfConvexHoldsItsDay(t *testing.T) {
	id, err := value.ParseID("j57cq69zzk3v4s9ktbn6g3dskx7m7aj5")
	if err != nil {
		t.Fatal(err)
	}
	day := int64(id.Key[14])<<8 | int64(id.Key[15])
	if got := time.Unix(day*24*60*60, 0).UTC().Format(time.DateOnly); got != "2025-07-22" {
		t.Errorf("day of the id = %s, want 2025-07-22", got)
	}
}

func TestNewID(t *testing.T) {
	at := time.UnixMilli(0x0123456789AB)
	id := value.NewID(10001, at, 0x1122334455667788)
	day := uint16(0x0123456789AB / (24 * 60 * 60 * 1000))
	want := value.ID{Table: 10001, Key: [16]byte{
		0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, byte(day >> 8), byte(day),
	}}
	if id != want {
		t.Errorf("NewID = %v, want %v", id, want)
	}
	if got := value.NewID(1, time.UnixMilli(-1), 7); got != value.NewID(1, time.UnixMilli(0), 7) {
		t.Errorf("an id before 1970 is %v", got)
	}
	last := value.NewID(1, time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), 7)
	if last.Key[14] != 0xFF || last.Key[15] != 0xFF {
		t.Errorf("an id of the year 9999 is %v, want the last day there is", last)
	}
	if last.IsZero() || !(value.ID{}).IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestParseIDRefuses(t *testing.T) {
	const good = "j57000820c20a1g7104gm2rc1m70ynr8"
	cases := []struct{ name, text string }{
		{"empty", ""},
		{"too short", good[:30]},
		{"one character less", good[:31]},
		{"one character more", good + "0"},
		{"two characters more", good + "00"},
		{"too long", strings.Repeat("0", 38)},
		{"upper case", strings.ToUpper(good)},
		{"look-alike letter", "j57ooo820c20a1g7104gm2rc1m70ynr8"},
		{"wrong checksum", good[:31] + "9"},
		{"changed key", "j57100820c20a1g7104gm2rc1m70ynr8"},
		{"not ASCII", good[:30] + "é"},
		{"trailing bit set", "07zzzzzzzzzzzzzzzzzzzzzzzzzz329"},
		{"table number not in its shortest form", encodeBase32(withChecksum(append([]byte{0x81, 0x00}, make([]byte, 16)...)))},
		{"table number over 32 bits", encodeBase32(withChecksum(append([]byte{0xFF, 0xFF, 0xFF, 0xFF, 0x1F}, make([]byte, 16)...)))},
		{"table number longer than the id allows", encodeBase32(withChecksum(append([]byte{0x81}, make([]byte, 19)...)))},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if id, err := value.ParseID(tc.text); !errors.Is(err, value.ErrBadID) {
				t.Errorf("ParseID(%q) = %v, %v, want ErrBadID", tc.text, id, err)
			}
		})
	}
}

// withChecksum appends the footer of an id, in the plain way.
func withChecksum(b []byte) []byte {
	c0, c1 := 0, 0
	for _, x := range b {
		c0 = (c0 + int(x)) % 256
		c1 = (c1 + c0) % 256
	}
	return append(b, byte(c0), byte(c1))
}

// encodeBase32 is the text form of the bytes of an id, one bit after the other.
func encodeBase32(b []byte) string {
	var out []byte
	for bit := 0; bit < 8*len(b); bit += 5 {
		digit := 0
		for i := bit; i < bit+5; i++ {
			digit <<= 1
			if i < 8*len(b) {
				digit |= int(b[i/8]>>(7-i%8)) & 1
			}
		}
		out = append(out, "0123456789abcdefghjkmnpqrstvwxyz"[digit])
	}
	return string(out)
}

func drawID(t *rapid.T) value.ID {
	id := value.ID{Table: rapid.Uint32().Draw(t, "table")}
	copy(id.Key[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "key"))
	return id
}

func TestIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := drawID(t)
		text := id.String()
		if len(text) < 31 || len(text) > 37 {
			t.Fatalf("%q has %d characters", text, len(text))
		}
		got, err := value.ParseID(text)
		if err != nil || got != id {
			t.Fatalf("ParseID(%q) = %v, %v, want %v", text, got, err, id)
		}
	})
}

func TestIDAnyChangedCharacterIsRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(drawID(t).String())
		i := rapid.IntRange(0, len(text)-1).Draw(t, "at")
		c := rapid.Byte().Filter(func(c byte) bool { return c != text[i] }).Draw(t, "byte")
		text[i] = c
		// A single changed character changes at most two neighbouring bytes; the checksum can miss
		// that, but what is accepted must then be what String writes.
		if id, err := value.ParseID(string(text)); err == nil && id.String() != string(text) {
			t.Fatalf("ParseID(%q) = %v, whose form is %q", text, id, id)
		}
	})
}

func FuzzParseID(f *testing.F) {
	for _, tc := range idVectors {
		f.Add(tc.text)
	}
	f.Add("")
	f.Add("zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := value.ParseID(s)
		if err != nil {
			if !errors.Is(err, value.ErrBadID) {
				t.Fatalf("ParseID(%q): %v is not ErrBadID", s, err)
			}
			return
		}
		if got := id.String(); got != s {
			t.Fatalf("ParseID(%q) = %v, whose form is %q", s, id, got)
		}
	})
}
