package lib0

import (
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAppendAny(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any
		want  string
	}{
		{"undefined", Undefined{}, "7f"},
		{"null", nil, "7e"},
		{"true", true, "78"},
		{"false", false, "79"},
		{"0", 0, "7d00"},
		{"-0", math.Copysign(0, -1), "7d40"},
		{"-1", -1, "7d41"},
		{"63", 63, "7d3f"},
		{"64", 64, "7d8001"},
		{"largest int", math.MaxInt32, "7dbfffffff0f"},
		{"2^31", 1 << 31, "7c4f000000"},
		{"0.5", 0.5, "7c3f000000"},
		{"0.1", 0.1, "7b3fb999999999999a"},
		{"NaN", math.NaN(), "7b7ff8000000000000"},
		{"infinity", math.Inf(1), "7c7f800000"},
		{"BigInt", BigInt(10), "7a000000000000000a"},
		{"array", []any{}, "7500"},
		{"object", Object{}, "7600"},
		{"string", "a", "770161"},
		{"bytes", []byte{1, 2}, "74020102"},
		{"map", map[string]any{"b": 1, "a": nil, "10": 2, "9": 3}, "7604" + "0139" + "7d03" + "023130" + "7d02" + "0161" + "7e" + "0162" + "7d01"},
		{"duplicate keys", Object{{"a", 1}, {"b", 2}, {"a", 3}}, "7602" + "0161" + "7d03" + "0162" + "7d02"},
	} {
		got, err := AppendAny(nil, c.value)
		if err != nil || hex.EncodeToString(got) != c.want {
			t.Errorf("%s is %x, %v, want %s", c.name, got, err, c.want)
			continue
		}
		r := NewReader(string(got))
		if r.SkipAny(); r.Err() != nil || r.Len() != 0 {
			t.Errorf("%s: skipped to %d of %d: %v", c.name, r.Pos(), len(got), r.Err())
		}
		r.Seek(0)
		v := r.ReadAny()
		again, err := AppendAny(nil, v)
		if err != nil || string(again) != string(got) {
			t.Errorf("%s is read as %v and written as %x, %v", c.name, v, again, err)
		}
	}
	var unsupported *UnsupportedError
	if _, err := AppendAny(nil, []any{struct{}{}}); !errors.As(err, &unsupported) {
		t.Errorf("a struct: %v", err)
	}
}

func TestReadAnyHostile(t *testing.T) {
	for name, s := range map[string]string{
		"empty":             "",
		"unknown tag":       "\x73",
		"nested 200k":       strings.Repeat("\x75\x01", 200_000) + "\x7e",
		"array of 2^40":     "\x75\xff\xff\xff\xff\xff\x1f\x7e",
		"object of 2^40":    "\x76\xff\xff\xff\xff\xff\x1f\x01a\x7e",
		"string beyond":     "\x77\x7fab",
		"not UTF-8":         "\x77\x01\xff",
		"key not UTF-8":     "\x76\x01\x01\xff\x7e",
		"integer of 54 bit": "\x7d\xff\xff\xff\xff\xff\xff\xff\x7f",
		"endless integer":   "\x7d" + strings.Repeat("\xff", 100),
		"cut float":         "\x7b\x00",
	} {
		r := NewReader(s)
		if r.ReadAny(); r.Err() == nil {
			t.Errorf("%s is read", name)
		}
		r = NewReader(s)
		if r.SkipAny(); r.Err() == nil {
			t.Errorf("%s is skipped", name)
		}
	}
}

func TestIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		u := rapid.Uint64Range(0, MaxUint).Draw(t, "u")
		neg := rapid.Bool().Draw(t, "neg")
		b := AppendInt(AppendUint(nil, u), neg, u)
		r := NewReader(string(b))
		if got := r.Uint(); got != u {
			t.Fatalf("%d is read as %d", u, got)
		}
		if n, got := r.Int(); got != u || n != neg || r.Err() != nil || r.Len() != 0 {
			t.Fatalf("%v %d is read as %v %d, %v", neg, u, n, got, r.Err())
		}
	})
	// Longer than needed is read and never written.
	r := NewReader("\x80\x00")
	if r.Uint() != 0 || r.Err() != nil || r.Len() != 0 {
		t.Errorf("80 00: %v", r.Err())
	}
}

func TestColumns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		uints := rapid.SliceOf(rapid.OneOf(rapid.Uint64Range(0, 3), rapid.Uint64Range(0, 1<<51))).Draw(t, "uints")
		texts := rapid.SliceOf(rapid.StringOf(rapid.SampledFrom([]rune("aé漢😀")))).Draw(t, "texts")
		var bytes ByteRuns
		var runs UintRuns
		var diffs DiffRuns
		var strs Strings
		for _, v := range uints {
			bytes.Write(byte(v))
			runs.Write(v)
			diffs.Write(v)
		}
		for _, s := range texts {
			strs.Write(s)
		}
		b, u, d, s := NewByteRunReader(string(bytes.Bytes())), NewUintRunReader(string(runs.Bytes())), NewDiffRunReader(string(diffs.Bytes())), NewStringReader(string(strs.Bytes()))
		for i, v := range uints {
			if got := b.Next(); got != byte(v) {
				t.Fatalf("byte %d is %d, want %d", i, got, byte(v))
			}
			if got := u.Next(); got != v {
				t.Fatalf("uint %d is %d, want %d", i, got, v)
			}
			if got := d.Next(); got != v {
				t.Fatalf("diff %d is %d, want %d", i, got, v)
			}
		}
		for i, want := range texts {
			if got, n := s.Next(); got != want || n != Units(want) {
				t.Fatalf("string %d is %q (%d), want %q", i, got, n, want)
			}
		}
		if b.Err() != nil || u.Err() != nil || d.Err() != nil || s.Err() != nil {
			t.Fatal(b.Err(), u.Err(), d.Err(), s.Err())
		}
	})
}

// TestStringColumnCutsPairs reads strings whose ends lie in the middle of
// surrogate pairs.
func TestStringColumnCutsPairs(t *testing.T) {
	var lens UintRuns
	for _, n := range []uint64{2, 2, 1, 1, 2} {
		lens.Write(n)
	}
	column := append(AppendString(nil, "a😀b😀😀"), lens.Bytes()...)
	r := NewStringReader(string(column))
	var got []string
	for range 5 {
		s, _ := r.Next()
		got = append(got, s)
	}
	const h = Replacement
	if diff := cmp.Diff([]string{"a" + h, h + "b", h, h, "😀"}, got); diff != "" || r.Err() != nil {
		t.Error(diff, r.Err())
	}
	if r.Next(); r.Err() == nil {
		t.Error("read beyond the column")
	}
}

func TestUTF16(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringOf(rapid.SampledFrom([]rune("aé漢😀"))).Draw(t, "s")
		units := Units(s)
		at := rapid.Uint64Range(0, units).Draw(t, "at")
		left, right := Cut(s, units, at)
		if Units(left) != at || Units(right) != units-at {
			t.Fatalf("%q cut at %d is %q and %q", s, at, left, right)
		}
		if _, pair := Offset(s, units, at); !pair && left+right != s {
			t.Fatalf("%q cut at %d is %q and %q", s, at, left, right)
		}
	})
}

func TestJSON(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"null", "null"}, {" [ 1 , 2.50, -0, 1e21, 1E-7, 123456789012345680000 ] ", "[1,2.5,0,1e+21,1e-7,123456789012345680000]"},
		{`{"b":1,"a":"x\ny\u00e9\ud83d\ude00","b":2,"1":0}`, `{"1":0,"b":2,"a":"x\nyé😀"}`},
		{`"\ud83d"`, "\"\uFFFD\""}, {`"\u0001\"\\\/"`, `"\u0001\"\\/"`}, {"{}", "{}"}, {"[]", "[]"}, {`{"__proto__":{"a":1}}`, `{"__proto__":{"a":1}}`},
		{"1e999", "null"},
	} {
		v, err := ParseJSON(c.in)
		if got := string(AppendJSON(nil, v, BytesAsObject)); err != nil || got != c.want {
			t.Errorf("%s is %s, %v, want %s", c.in, got, err, c.want)
		}
	}
	for _, s := range []string{"", " ", "nul", "01", "1.", ".5", "+1", "1e", "[1,]", "[1 2]", `{"a"}`, `{"a":1,}`, `{a:1}`, `"a`, "\"\n\"", `"\x"`, `"\u12"`, "1 2", "[", "{", "\"\xff\"",
		strings.Repeat("[", 1e6), strings.Repeat(`{"a":`, 1e5)} {
		if v, err := ParseJSON(s); err == nil {
			t.Errorf("%.20q is read as %v", s, v)
		}
	}
}

func FuzzAny(f *testing.F) {
	f.Add("\x76\x01\x01a\x75\x02\x7d\x40\x7b\x3f\xb9\x99\x99\x99\x99\x99\x9a")
	f.Fuzz(func(t *testing.T, s string) {
		skip, read := NewReader(s), NewReader(s)
		skip.SkipAny()
		v := read.ReadAny()
		if (skip.Err() == nil) != (read.Err() == nil) || skip.Pos() != read.Pos() {
			t.Fatalf("skipping: %v, reading: %v", skip.Err(), read.Err())
		}
		if read.Err() != nil {
			return
		}
		print := NewReader(s)
		if got, want := print.AppendAnyJSON(nil, BytesAsBase64), AppendJSON(nil, v, BytesAsBase64); string(got) != string(want) || print.Pos() != read.Pos() {
			t.Fatalf("printed as %s, want %s", got, want)
		}
		b, err := AppendAny(nil, v)
		if err != nil {
			t.Fatal(err)
		}
		again := NewReader(string(b))
		if c, _ := AppendAny(nil, again.ReadAny()); string(c) != string(b) || again.Err() != nil {
			t.Fatalf("%x is read as %x, %v", b, c, again.Err())
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"b":[1,2.5,"x\n\u00e9\ud83d\ude00",null,true]}`)
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseJSON(s)
		if err != nil {
			return
		}
		out := AppendJSON(nil, v, BytesAsObject)
		w, err := ParseJSON(string(out))
		if err != nil {
			t.Fatalf("%s is written as %s: %v", s, out, err)
		}
		if got := AppendJSON(nil, w, BytesAsObject); string(got) != string(out) {
			t.Fatalf("%s is read as %s", out, got)
		}
	})
}
