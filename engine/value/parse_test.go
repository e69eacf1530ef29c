package value_test

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/value"
)

func TestParseJSON(t *testing.T) {
	negativeZero := value.Float64(math.Copysign(0, -1))
	cases := []struct {
		name  string
		input string
		want  value.Value
	}{
		{"null", `null`, value.Null()},
		{"white space", " \t\r\n[ 1 , { \"a\" : null } ] \n", value.Array(value.Float64(1), value.Object(value.Field{Name: "a", Value: value.Null()}))},
		{"a number is a float", `1`, value.Float64(1)},
		{"15 digits", `999999999999999`, value.Float64(999999999999999)},
		{"16 digits", `9007199254740993`, value.Float64(9007199254740992)},
		{"fraction and exponent", `-1.25e+2`, value.Float64(-125)},
		{"capital exponent", `1E-2`, value.Float64(0.01)},
		{"-0 as a number", `-0`, negativeZero},
		{"-0.0", `-0.0`, negativeZero},
		{"underflow", `1e-400`, value.Float64(0)},
		{"largest", `1.7976931348623157e308`, value.Float64(math.MaxFloat64)},
		{"integer", `{"$integer":"BQAAAAAAAAA="}`, value.Int64(5)},
		{"integer with white space", ` { "$integer" : "//////////8=" } `, value.Int64(-1)},
		{"float -0", `{"$float":"AAAAAAAAAIA="}`, negativeZero},
		{"float Infinity", `{"$float":"AAAAAAAA8H8="}`, value.Float64(math.Inf(1))},
		{"float NaN with its payload", `{"$float":"AQAAAAAA8P8="}`, value.Float64(math.Float64frombits(0xFFF0000000000001))},
		{"bytes", `{"$bytes":"AQID"}`, value.Bytes([]byte{1, 2, 3})},
		{"empty bytes", `{"$bytes":""}`, value.Bytes(nil)},
		{"key with an escape", `{"\u0024bytes":"AQ\u003D\u003d"}`, value.Bytes([]byte{1})},
		{"escapes", `"\"\\\/\b\f\n\r\t\u00e9\u00E9"`, value.String("\"\\/\b\f\n\r\téé")},
		{"escaped zero", `"a\u0000b"`, value.String("a\x00b")},
		{"surrogate pair", `"\ud83d\ude00"`, value.String("\U0001F600")},
		{"escaped replacement character", `"\ufffd"`, value.String("\uFFFD")},
		{"text after an escape", `"\u00e9é\n😀x"`, value.String("éé\n😀x")},
		{"DEL in a string", "\"\x7f\"", value.String("\x7f")},
		{"of equal keys the last wins", `{"a":1,"b":2,"a":3}`, value.Object(value.Field{Name: "a", Value: value.Float64(3)}, value.Field{Name: "b", Value: value.Float64(2)})},
		{"empty key", `{"":1}`, value.Object(value.Field{Name: "", Value: value.Float64(1)})},
		{"key with a dollar further on", `{"a$":1}`, value.Object(value.Field{Name: "a$", Value: value.Float64(1)})},
		{"key of JavaScript's prototypes", `{"__proto__":1}`, value.Object(value.Field{Name: "__proto__", Value: value.Float64(1)})},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got, err := value.ParseJSON([]byte(tc.input))
			if err != nil || !value.Equal(got, tc.want) {
				t.Errorf("ParseJSON(%s) = %v, %v, want %v", tc.input, got, err, tc.want)
			}
		})
	}
}

func TestParseJSONRefuses(t *testing.T) {
	const notBase64, not8Bytes = "is not base64", "is not 8 bytes"
	cases := []struct {
		name   string
		input  string
		offset int
		reason string
	}{
		{"empty", ``, 0, "input ends"},
		{"white space alone", ` `, 1, "input ends"},
		{"byte order mark", "\xEF\xBB\xBF1", 0, "a value expected"},
		{"zero byte", "\x00", 0, "a value expected"},
		{"trailing value", `1 2`, 2, "more after the value"},
		{"trailing comma", `[1,]`, 3, "a value expected"},
		{"trailing comma in an object", `{"a":1,}`, 7, "a field name expected"},
		{"missing comma", `[1 2]`, 3, "a comma or ] expected"},
		{"open array", `[1`, 2, "input ends"},
		{"open object", `{"a":1`, 6, "input ends"},
		{"missing colon", `{"a" 1}`, 5, "a colon expected"},
		{"missing value", `{"a":}`, 5, "a value expected"},
		{"bare key", `{a:1}`, 1, "a field name expected"},
		{"single quotes", `'a'`, 0, "a value expected"},
		{"comment", `/**/1`, 0, "a value expected"},
		{"word cut short", `nul`, 0, "a value expected"},
		{"word run on", `nulls`, 4, "more after the value"},
		{"NaN", `NaN`, 0, "a value expected"},
		{"Infinity", `-Infinity`, 1, "a digit expected"},
		{"plus", `+1`, 0, "a value expected"},
		{"leading zero", `-012`, 1, "leading zero"},
		{"hexadecimal", `0x10`, 1, "more after the value"},
		{"no digit before the point", `.5`, 0, "a value expected"},
		{"no digit after the point", `1.`, 2, "input ends"},
		{"no digit in the exponent", `1e+x`, 3, "a digit expected"},
		{"number out of range", `[1e400]`, 1, "out of range"},
		{"negative number out of range", `-1e400`, 0, "out of range"},
		{"open string", `"abc`, 0, "string without an end"},
		{"open string after an escape", `"\n`, 0, "string without an end"},
		{"open escape", `"\`, 0, "string without an end"},
		{"line end in a string", "\"a\nb\"", 2, "control character"},
		{"control after an escape", "\"\\n\x1f\"", 3, "control character"},
		{"unknown escape", `"a\x41"`, 2, "unknown escape"},
		{"short \\u escape", `"\u12"`, 1, "bad \\u escape"},
		{"bad \\u escape", `"\u12G4"`, 1, "bad \\u escape"},
		{"lone high surrogate", `"a\ud83d"`, 2, "surrogate"},
		{"lone high surrogate before text", `"\ud83dxxxxxxx"`, 1, "surrogate"},
		{"lone low surrogate", `"\ude00"`, 1, "surrogate"},
		{"two high surrogates", `"\ud83d\ud83d"`, 1, "surrogate"},
		{"surrogates in the wrong order", `"\ude00\ud83d"`, 1, "surrogate"},
		{"invalid UTF-8", "[\"a\xff\"]", 1, "not valid UTF-8"},
		{"invalid UTF-8 after an escape", "\"\\n\xff\"", 0, "not valid UTF-8"},
		{"surrogate in UTF-8", "\"\xed\xa0\xbd\"", 0, "not valid UTF-8"},
		{"overlong UTF-8", "\"\xc0\x80\"", 0, "not valid UTF-8"},
		{"UTF-8 cut by the end of the string", "\"\xc3\"", 0, "not valid UTF-8"},
		{"key beyond ASCII", `{"é":1}`, 1, "printable ASCII"},
		{"key with a control character", `{"a\n":1}`, 1, "printable ASCII"},
		{"key with DEL", "{\"\x7f\":1}", 1, "printable ASCII"},
		{"unknown special form", `{"$date":1}`, 1, "start with $"},
		{"old special form", `{"$set":[]}`, 1, "start with $"},
		{"placeholder of a commit time", `{"$commitTs":null}`, 1, "start with $"},
		{"undefined outside of a patch", `{"a":{"$undefined":null}}`, 6, "start with $"},
		{"special key after another", `{"a":1,"$integer":"BQAAAAAAAAA="}`, 7, "start with $"},
		{"another key after a special one", `{"$integer":"BQAAAAAAAAA=","a":1}`, 26, "} after the only field"},
		{"special key twice", `{"$bytes":"","$bytes":""}`, 12, "} after the only field"},
		{"dollar alone", `{"$":1}`, 1, "start with $"},
		{"integer as a number", `{"$integer":5}`, 12, "a string of base64"},
		{"integer of 7 bytes", `{"$integer":"AQIDBAUGBw=="}`, 12, not8Bytes},
		{"integer of 9 bytes", `{"$integer":"AQIDBAUGBwgJ"}`, 12, not8Bytes},
		{"integer in hexadecimal", `{"$integer":"0x05"}`, 12, not8Bytes},
		{"float of an ordinary number", `{"$float":"AAAAAAAA8D8="}`, 10, "a number that JSON can write"},
		{"float of +0", `{"$float":"AAAAAAAAAAA="}`, 10, "a number that JSON can write"},
		{"float of 4 bytes", `{"$float":"AAAAAA=="}`, 10, not8Bytes},
		{"bytes without padding", `{"$bytes":"AQ"}`, 10, notBase64},
		{"bytes with stray bits", `{"$bytes":"AR=="}`, 10, notBase64},
		{"bytes with a line end", `{"$bytes":"AQ\n=="}`, 10, notBase64},
		{"bytes in the alphabet of URLs", `{"$bytes":"-_8="}`, 10, notBase64},
		{"bytes null", `{"$bytes":null}`, 10, "a string of base64"},
		{"open special form", `{"$bytes":"AQ=="`, 16, "input ends"},
		{"special form without colon", `{"$bytes"}`, 9, "a colon expected"},
		{"nested too deeply", strings.Repeat("[", 65) + strings.Repeat("]", 65), 64, "nested too deeply"},
		{"empty object too deep", strings.Repeat("[", 64) + "{}" + strings.Repeat("]", 64), 64, "nested too deeply"},
		{"object too deep", strings.Repeat("[", 64) + `{"a":1}` + strings.Repeat("]", 64), 64, "nested too deeply"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			v, err := value.ParseJSON([]byte(tc.input))
			var got *value.SyntaxError
			if !errors.As(err, &got) {
				t.Fatalf("ParseJSON(%q) = %v, %v, want a SyntaxError", tc.input, v, err)
			}
			if got.Offset != tc.offset || !strings.Contains(got.Reason, tc.reason) {
				t.Errorf("ParseJSON(%q): %v, want offset %d and %q", tc.input, got, tc.offset, tc.reason)
			}
			if !strings.Contains(err.Error(), got.Reason) {
				t.Errorf("the message %q does not hold the reason %q", err, got.Reason)
			}
		})
	}
}

func TestParseJSONLimits(t *testing.T) {
	fields := func(n int) string {
		var b strings.Builder
		for i := range n {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(`"` + strings.Repeat("x", i%100) + string(rune('a'+i/100)) + `":0`)
		}
		return "{" + b.String() + "}"
	}
	elements := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("0,", n), ",") + "]" }
	key := func(n int) string { return `{"` + strings.Repeat("k", n) + `":0}` }
	cases := []struct {
		name   string
		make   func(n int) string
		most   int
		reason string
	}{
		{"fields", fields, value.FieldsMax, "more than 1024 fields"},
		{"elements", elements, value.ElementsMax, "more than 8192 elements"},
		{"key length", key, value.FieldNameBytesMax, "longer than 1024 bytes"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := value.ParseJSON([]byte(tc.make(tc.most))); err != nil {
				t.Errorf("at the limit: %v", err)
			}
			var syntax *value.SyntaxError
			if _, err := value.ParseJSON([]byte(tc.make(tc.most + 1))); !errors.As(err, &syntax) || !strings.Contains(syntax.Reason, tc.reason) {
				t.Errorf("one past the limit: %v, want %q", err, tc.reason)
			}
		})
	}
	deep := strings.Repeat("[", 64) + `{"$integer":"BQAAAAAAAAA="}` + strings.Repeat("]", 64)
	if _, err := value.ParseJSON([]byte(deep)); err != nil {
		t.Errorf("an integer at the greatest depth: %v", err)
	}
}

func TestParsePatchJSON(t *testing.T) {
	cases := []struct {
		name   string
		input  string
		fields string
		unset  []string
	}{
		{"empty", `{}`, `{}`, nil},
		{"none", `{"a":1}`, `{"a":1}`, nil},
		{"some", `{"b":{"$undefined":null},"c":1,"a":{ "$undefined" : null }}`, `{"c":1}`, []string{"a", "b"}},
		{"set, then unset", `{"a":1,"a":{"$undefined":null}}`, `{}`, []string{"a"}},
		{"unset, then set", `{"a":{"$undefined":null},"a":1,"b":{"$undefined":null}}`, `{"a":1}`, []string{"b"}},
		{"unset twice", `{"a":{"$undefined":null},"a":{"$undefined":null}}`, `{}`, []string{"a"}},
		{"other special forms", `{"a":{"$integer":"BQAAAAAAAAA="}}`, `{"a":{"$integer":"BQAAAAAAAAA="}}`, nil},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			fields, unset, err := value.ParsePatchJSON([]byte(tc.input))
			if err != nil {
				t.Fatal(err)
			}
			if got := fields.String(); got != tc.fields {
				t.Errorf("fields = %s, want %s", got, tc.fields)
			}
			if diff := gocmp.Diff(tc.unset, unset, gocmp.Transformer("", func(s []string) string { return strings.Join(s, ",") })); diff != "" {
				t.Errorf("unset (-want +got):\n%s", diff)
			}
		})
	}
	for _, input := range []string{
		`null`, `[]`, `[{"$undefined":null}]`, `{"$undefined":null}`, `{"a":{"b":{"$undefined":null}}}`, `{"a":[{"$undefined":null}]}`,
		`{"a":{"$undefined":1}}`, `{"a":{"$undefined":nul}}`, `{"a":{"$undefined":null,"b":1}}`, `{"a":{"$undefined":null}`,
	} {
		var syntax *value.SyntaxError
		if fields, unset, err := value.ParsePatchJSON([]byte(input)); !errors.As(err, &syntax) {
			t.Errorf("ParsePatchJSON(%s) = %v, %v, %v, want a SyntaxError", input, fields, unset, err)
		}
	}
}

// TestParseJSONAgreesWithEncodingJSON compares the two on JSON without special forms, where encoding/json is
// an oracle apart from what it lets through: invalid UTF-8 and lone surrogates.
func TestParseJSONAgreesWithEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		input := []byte(rapid.StringMatching(`[ ]?(\[|\{"a":|-?[0-9]{1,18}(\.[0-9]{1,3})?([eE][-+]?[0-9]{1,3})?|"[a-z]{0,3}(\\[nu"\\]00e9)?"|true|null|,|\]|\}|:){1,8}[ ]?`).Draw(t, "input"))
		var want any
		dec := json.Unmarshal(input, &want)
		got, err := value.ParseJSON(input)
		if (err == nil) != (dec == nil) {
			t.Fatalf("ParseJSON(%s): %v, but encoding/json: %v", input, err, dec)
		}
		if err == nil && !value.Equal(got, fromAny(t, want)) {
			t.Fatalf("ParseJSON(%s) = %v, want %v", input, got, want)
		}
	})
}

func fromAny(t interface{ Fatalf(string, ...any) }, x any) value.Value {
	switch x := x.(type) {
	case nil:
		return value.Null()
	case bool:
		return value.Bool(x)
	case float64:
		return value.Float64(x)
	case string:
		return value.String(x)
	case []any:
		var elems []value.Value
		for _, e := range x {
			elems = append(elems, fromAny(t, e))
		}
		return value.Array(elems...)
	case map[string]any:
		var fields []value.Field
		for name, e := range x {
			fields = append(fields, value.Field{Name: name, Value: fromAny(t, e)})
		}
		return value.Object(fields...)
	default:
		t.Fatalf("encoding/json made a %T", x)
		return value.Value{}
	}
}

func FuzzParseJSON(f *testing.F) {
	for _, g := range readGolden(f, "testdata/ordered.txt") {
		f.Add([]byte(g.text))
	}
	f.Add([]byte(`{"a":{"$undefined":null},"b":"\ud83d\ude00 \n"}`))
	f.Add([]byte(`[1e400,-0,1E5,{"a":1,"a":2}] `))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := value.ParseJSON(b)
		if err != nil {
			var syntax *value.SyntaxError
			if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(b) {
				t.Fatalf("ParseJSON(%q): %v", b, err)
			}
			return
		}
		if !json.Valid(b) {
			t.Fatalf("ParseJSON accepts %q, which is not JSON", b)
		}
		printed := value.AppendJSON(nil, v)
		again, err := value.ParseJSON(printed)
		if err != nil || !value.Equal(again, v) {
			t.Fatalf("%q is printed as %s and read back as %v, %v", b, printed, again, err)
		}
		if clean := value.AppendCleanJSON(nil, v); !json.Valid(clean) {
			t.Fatalf("clean JSON of %s is %s, which is not JSON", printed, clean)
		}
		ordered, rest, err := value.DecodeOrdered(value.AppendOrdered(nil, v))
		if err != nil || len(rest) != 0 || !value.Equal(ordered, v) {
			t.Fatalf("the ordered encoding of %s is read back as %v, %v", printed, ordered, err)
		}
		record, err := value.DecodeBinary(value.AppendBinary(nil, v))
		if err != nil || !value.Equal(record, v) {
			t.Fatalf("the record encoding of %s is read back as %v, %v", printed, record, err)
		}
	})
}
