package value_test

import (
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/value"
)

func TestNumbersAsJavaScriptPrintsThem(t *testing.T) {
	data, err := os.ReadFile("testdata/numbers.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		hexBits, want, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		bits, err := strconv.ParseUint(hexBits, 16, 64)
		if err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		v := value.Float64(math.Float64frombits(bits))
		if got := string(value.AppendJSON(nil, v)); got != want {
			t.Errorf("AppendJSON of %s = %s, want %s", hexBits, got, want)
		}
		if got := string(value.AppendCleanJSON(nil, v)); got != want {
			t.Errorf("AppendCleanJSON of %s = %s, want %s", hexBits, got, want)
		}
		if got, err := value.ParseJSON([]byte(want)); err != nil || !value.Equal(got, v) {
			t.Errorf("ParseJSON(%s) = %v, %v, want %v", want, got, err, v)
		}
		n++
	}
	if n < 300 {
		t.Errorf("only %d numbers were tried", n)
	}
}

func TestAppendJSON(t *testing.T) {
	cases := []struct {
		name  string
		value value.Value
		json  string
		clean string
	}{
		{"undefined", value.Value{}, `null`, `null`},
		{"undefined in an array", value.Array(value.Value{}), `[null]`, `[null]`},
		{"null", value.Null(), `null`, `null`},
		{"booleans", value.Array(value.Bool(true), value.Bool(false)), `[true,false]`, `[true,false]`},
		{"int64", value.Int64(5), `{"$integer":"BQAAAAAAAAA="}`, `"5"`},
		{"int64 -1", value.Int64(-1), `{"$integer":"//////////8="}`, `"-1"`},
		{"int64 minimum", value.Int64(math.MinInt64), `{"$integer":"AAAAAAAAAIA="}`, `"-9223372036854775808"`},
		{"float64", value.Float64(1.5), `1.5`, `1.5`},
		{"-0", value.Float64(math.Copysign(0, -1)), `{"$float":"AAAAAAAAAIA="}`, `-0`},
		{"NaN", value.Float64(math.Float64frombits(0x7FF8000000000000)), `{"$float":"AAAAAAAA+H8="}`, `"NaN"`},
		{"-NaN", value.Float64(math.Float64frombits(0xFFF8000000000000)), `{"$float":"AAAAAAAA+P8="}`, `"NaN"`},
		{"Infinity", value.Float64(math.Inf(1)), `{"$float":"AAAAAAAA8H8="}`, `"Infinity"`},
		{"-Infinity", value.Float64(math.Inf(-1)), `{"$float":"AAAAAAAA8P8="}`, `"-Infinity"`},
		{"empty bytes", value.Bytes(nil), `{"$bytes":""}`, `""`},
		{"bytes", value.Bytes([]byte{1, 2, 3}), `{"$bytes":"AQID"}`, `"AQID"`},
		{"bytes, padded", value.Bytes([]byte{0xFB, 0xFF}), `{"$bytes":"+/8="}`, `"+/8="`},
		{"empty string", value.String(""), `""`, `""`},
		{"controls", value.String("\x00\x01\b\t\n\v\f\r\x1f\x7f"), `"\u0000\u0001\b\t\n\u000b\f\r\u001f` + "\x7f\"", `"\u0000\u0001\b\t\n\u000b\f\r\u001f` + "\x7f\""},
		{"quotes", value.String(`a"b\c/d`), `"a\"b\\c/d"`, `"a\"b\\c/d"`},
		{"no HTML escapes", value.String("<script>&\u2028\u2029"), "\"<script>&\u2028\u2029\"", "\"<script>&\u2028\u2029\""},
		{"beyond ASCII", value.String("é\U0001F600\uFFFF"), "\"é\U0001F600\uFFFF\"", "\"é\U0001F600\uFFFF\""},
		{"empty array", value.Array(), `[]`, `[]`},
		{"empty object", value.Object(), `{}`, `{}`},
		{
			"nested", value.Object(
				value.Field{Name: "b", Value: value.Array(value.Int64(1), value.Object())},
				value.Field{Name: `a"`, Value: value.Null()},
			),
			`{"a\"":null,"b":[{"$integer":"AQAAAAAAAAA="},{}]}`, `{"a\"":null,"b":["1",{}]}`,
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(value.AppendJSON([]byte("x"), tc.value)); got != "x"+tc.json {
				t.Errorf("AppendJSON = %s, want x%s", got, tc.json)
			}
			if got := string(value.AppendCleanJSON([]byte("x"), tc.value)); got != "x"+tc.clean {
				t.Errorf("AppendCleanJSON = %s, want x%s", got, tc.clean)
			}
		})
	}
}

func TestJSONRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawValue(3).Draw(t, "value")
		b := value.AppendJSON(nil, v)
		got, err := value.ParseJSON(b)
		if err != nil || !value.Equal(got, v) {
			t.Fatalf("ParseJSON(%s) = %v, %v", b, got, err)
		}
		for i := range b { // nothing of the input is kept
			b[i] ^= 0xFF
		}
		if !value.Equal(got, v) {
			t.Fatalf("a parsed %v became %v with its input", v, got)
		}
	})
}
