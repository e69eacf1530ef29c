package halcyon

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/value"
)

type inner struct {
	Name string `json:"name"`
}

type stamped struct {
	By string `json:"by"`
}

type row struct {
	ID      ID[row]   `halcyon:"id"`
	Created time.Time `halcyon:"creationTime"`
	Text    string    `json:"text"`
}

// everything has a field of each shape.
type everything struct {
	stamped
	Any       any
	Bool      bool
	Bytes     []byte
	Count     int
	Exact     int64
	Float     float64
	HTTPPort  uint16
	Inner     inner `json:"in"`
	List      []string
	Maybe     *string
	Null      Nullable[float64]
	Other     ID[row]
	Raw       value.Value
	Record    map[string]inner
	SessionID string
	Single    float32
	Time      time.Time
	Unless    string    `json:"unless,omitempty"`
	Until     time.Time `json:"until,omitzero"`
	Tags      []string  `json:"tags,omitempty"`
	Pointers  []*inner
	Skipped   string `json:"-"`
	hidden    string
}

func toJSON(v value.Value) string { return string(value.AppendJSON(nil, v)) }

func TestEncode(t *testing.T) {
	text := "hi"
	when := time.Date(2026, 11, 22, 13, 14, 15, 123456789, time.UTC)
	tests := []struct {
		name string
		in   any
		want string
	}{
		{"nil", nil, `null`},
		{"nil pointer", (*inner)(nil), `null`},
		{"string", "é\n", `"é\n"`},
		{"int is a number", 5, `5`},
		{"int64 is an int64", int64(5), `{"$integer":"BQAAAAAAAAA="}`},
		{"uint8", uint8(255), `255`},
		{"largest integer", uint64(1<<53 - 1), `9007199254740991`},
		{"float32", float32(0.5), `0.5`},
		{"bytes", []byte{1, 2, 3}, `{"$bytes":"AQID"}`},
		{"nil bytes", []byte(nil), `{"$bytes":""}`},
		{"time in microseconds", when, `1795353255123.456`},
		{"nil slice", []string(nil), `[]`},
		{"nil map", map[string]int(nil), `{}`},
		{"dynamic values", map[string]any{"b": []any{1, "x", nil, true}, "a": 2.5}, `{"a":2.5,"b":[1,"x",null,true]}`},
		{"nil pointers in arrays", []*inner{nil, {"a"}}, `[null,{"name":"a"}]`},
		{"named types", []ID[row]{"abc"}, `["abc"]`},
		{"null", Null[string](), `null`},
		{"not null", NotNull("x"), `"x"`},
		{"document struct with its system fields", row{ID: "k1", Created: when, Text: "t"}, `{"_creationTime":1795353255123.456,"_id":"k1","text":"t"}`},
		{"document struct without", row{Text: "t"}, `{"text":"t"}`},
		{"value", value.Bool(true), `true`},
		{
			"zero of everything",
			everything{Time: time.UnixMilli(0)},
			`{"any":null,"bool":false,"by":"","bytes":{"$bytes":""},"count":0,"exact":{"$integer":"AAAAAAAAAAA="},"float":0,"httpPort":0,` +
				`"in":{"name":""},"list":[],"null":null,"other":"","pointers":[],"record":{},"sessionId":"","single":0,"time":0}`,
		},
		{
			"everything",
			everything{
				stamped: stamped{"me"}, Any: 1, Maybe: &text, Null: NotNull(0.0), Raw: value.Int64(1), Record: map[string]inner{"k": {"v"}},
				Time: time.UnixMilli(7), Unless: "u", Until: time.UnixMilli(8), Tags: []string{"t"}, hidden: "h", Skipped: "s",
			},
			`{"any":1,"bool":false,"by":"me","bytes":{"$bytes":""},"count":0,"exact":{"$integer":"AAAAAAAAAAA="},"float":0,"httpPort":0,` +
				`"in":{"name":""},"list":[],"maybe":"hi","null":0,"other":"","pointers":[],"raw":{"$integer":"AQAAAAAAAAA="},` +
				`"record":{"k":{"name":"v"}},"sessionId":"","single":0,"tags":["t"],"time":7,"unless":"u","until":8}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Encode(tt.in)
			if err != nil {
				t.Fatalf("Encode(%#v): %v", tt.in, err)
			}
			if toJSON(got) != tt.want {
				t.Errorf("Encode(%#v)\n got %s\nwant %s", tt.in, toJSON(got), tt.want)
			}
		})
	}
}

func TestEncodeRefuses(t *testing.T) {
	type node struct{ Next []node }
	tests := []struct {
		name string
		in   any
		want string
	}{
		{"int beyond 2^53", 1 << 53, "use int64"},
		{"in a field", struct{ A []uint64 }{[]uint64{1, math.MaxUint64}}, "a: [1]: 18446744073709551615 is beyond"},
		{"channel", make(chan int), "has no Convex value"},
		{"function in any", []any{func() {}}, "[0]: type func(): func() has no Convex value"},
		{"map by number", map[int]string{}, "string keys"},
		{"pointer to pointer", new(*int), "pointer to a pointer"},
		{"recursive type", node{}, "contains itself"},
		{"two fields of one name", struct {
			A int `json:"b"`
			B int
		}{}, `two fields named "b"`},
		{"json option", struct {
			A int `json:",string"`
		}{}, `json option "string" is not supported`},
		{"tag", struct {
			A int `halcyon:"ident"`
		}{}, "neither"},
		{"id of another type", struct {
			A string `halcyon:"id"`
		}{}, "has type halcyon.ID"},
		{"creation time of another type", struct {
			A string `halcyon:"creationTime"`
		}{}, "has type time.Time or float64"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if v, err := Encode(tt.in); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Encode(%T) = %s, %v; want an error with %q", tt.in, toJSON(v), err, tt.want)
			}
		})
	}
}

func TestDecodeAny(t *testing.T) {
	v, err := value.ParseJSON([]byte(`{"a":[1,{"$integer":"BQAAAAAAAAA="},{"$bytes":"AQI="},null,"s",false]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got any = "before"
	if err := Decode(v, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"a": []any{1.0, int64(5), []byte{1, 2}, nil, "s", false}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Decode(%s) (-want +got):\n%s", toJSON(v), diff)
	}
}

func TestDecodeResetsWhatIsAbsent(t *testing.T) {
	text := "old"
	got := everything{Maybe: &text, Unless: "old", Tags: []string{"old"}}
	v, err := Encode(everything{Other: "x", Raw: value.Null(), Any: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := asError((&decoder{stored: true}).decode(mustCodec[everything](t), v, reflect.ValueOf(&got).Elem())); err != nil {
		t.Fatal(err)
	}
	if got.Maybe != nil || got.Unless != "" || got.Tags != nil {
		t.Errorf("absent fields kept what was there: %+v", got)
	}
}

func TestDecodeNeedsAPointer(t *testing.T) {
	if err := Decode(value.Null(), 5); err == nil || !strings.Contains(err.Error(), "pointer") {
		t.Errorf("Decode into an int: %v, want an error that asks for a pointer", err)
	}
}

// TestRoundTrip checks that what was encoded decodes to the same, whatever it is.
func TestRoundTrip(t *testing.T) {
	c := mustCodec[everything](t)
	rapid.Check(t, func(t *rapid.T) {
		in := everything{
			stamped: stamped{rapid.String().Draw(t, "by")},
			Any:     rapid.SampledFrom([]any{nil, true, 1.5, "x", int64(7), []any{"y"}, map[string]any{"z": 1.0}}).Draw(t, "any"),
			Bool:    rapid.Bool().Draw(t, "bool"), Bytes: rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"),
			Count: rapid.IntRange(-integerMax, integerMax).Draw(t, "count"), Exact: rapid.Int64().Draw(t, "exact"),
			Float: rapid.Float64().Draw(t, "float"), HTTPPort: rapid.Uint16().Draw(t, "port"), Inner: inner{rapid.String().Draw(t, "in")},
			List:  rapid.SliceOf(rapid.String()).Draw(t, "list"),
			Maybe: rapid.Ptr(rapid.String(), true).Draw(t, "maybe"), Other: ID[row](rapid.String().Draw(t, "other")), Raw: value.Null(),
			Record:    map[string]inner{rapid.String().Draw(t, "key"): {"v"}},
			SessionID: rapid.String().Draw(t, "session"), Single: rapid.Float32().Draw(t, "single"),
			Time:   time.UnixMicro(rapid.Int64Range(0, 1000<<42-1).Draw(t, "time")).UTC(),
			Unless: rapid.String().Draw(t, "unless"), Tags: []string{rapid.String().Draw(t, "tag")},
			Pointers: []*inner{nil, {rapid.String().Draw(t, "pointer")}},
		}
		if rapid.Bool().Draw(t, "valid") {
			in.Null = NotNull(rapid.Float64().Draw(t, "null"))
		}
		v, err := Encode(in)
		if err != nil {
			t.Fatalf("Encode(%+v): %v", in, err)
		}
		var out everything
		if err := (&decoder{stored: true}).decode(c, v, reflect.ValueOf(&out).Elem()); err != nil {
			t.Fatalf("decode %s: %v", toJSON(v), err)
		}
		equal := cmp.Options{
			cmp.AllowUnexported(everything{}), cmp.Comparer(value.Equal),
			cmpopts.EquateEmpty(), cmpopts.EquateNaNs(),
		}
		if diff := cmp.Diff(in, out, equal); diff != "" {
			t.Fatalf("after a round trip by %s (-in +out):\n%s", toJSON(v), diff)
		}
	})
}

func mustCodec[T any](t *testing.T) *codec {
	t.Helper()
	c, err := codecFor(reflect.TypeFor[T]())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLowerCamel(t *testing.T) {
	tests := map[string]string{
		"Name": "name", "SessionID": "sessionId", "URL": "url", "HTTPPort": "httpPort", "UserAgentURL": "userAgentUrl", "X": "x",
		"IPAddress": "ipAddress", "LastSeenAt": "lastSeenAt", "V2Token": "v2Token", "ID": "id",
	}
	for in, want := range tests {
		if got := lowerCamel(in); got != want {
			t.Errorf("lowerCamel(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestCodecAt(t *testing.T) {
	c := mustCodec[everything](t)
	tests := []struct {
		path     string
		typ      string // of the field; empty: an error
		optional bool
	}{
		{"count", "int", false},
		{"in.name", "string", false},
		{"record.anything.name", "string", true},
		{"any.x.y", "interface {}", true},
		{"raw", "value.Value", false},
		{"maybe", "*string", true},
		{"tags", "[]string", true},
		{"null", "halcyon.Nullable[float64]", false},
		{"by", "string", false},
		{"nothing", "", false},
		{"count.x", "", false},
		{"in.x", "", false},
		{"hidden", "", false},
	}
	for _, tt := range tests {
		got, err := c.at(tt.path)
		switch {
		case tt.typ == "" && err == nil:
			t.Errorf("at(%q) = %v, want an error", tt.path, got.codec.typ)
		case tt.typ != "" && (err != nil || got.codec.typ.String() != tt.typ || got.optional != tt.optional):
			t.Errorf("at(%q) = %v, optional %v, %v; want %s, optional %v", tt.path, got.codec, got.optional, err, tt.typ, tt.optional)
		}
	}
}

func TestEncodeLoose(t *testing.T) {
	c := mustCodec[everything](t)
	text := "p"
	tests := []struct {
		field string
		in    any
		want  string // JSON; "undefined"; empty: an error
	}{
		{"count", 5, "5"},
		{"count", int64(5), "5"},
		{"count", 5.0, "5"},
		{"count", 5.5, ""},
		{"count", "5", ""},
		{"count", nil, ""},
		{"httpPort", 70000, ""},
		{"httpPort", -1, ""},
		{"exact", 5, `{"$integer":"BQAAAAAAAAA="}`},
		{"exact", uint64(math.MaxUint64), ""},
		{"exact", 5.0, ""},
		{"float", 5, "5"},
		{"sessionId", ID[row]("x"), `"x"`},
		{"other", "x", `"x"`},
		{"maybe", "x", `"x"`},
		{"maybe", &text, `"p"`},
		{"maybe", (*string)(nil), "undefined"},
		{"maybe", nil, "undefined"},
		{"unless", nil, "undefined"},
		{"null", nil, "null"},
		{"null", 2, "2"},
		{"null", NotNull(2.0), "2"},
		{"any", nil, "null"},
		{"any", []int{1}, "[1]"},
		{"time", time.UnixMilli(9), "9"},
		{"time", 9, ""},
		{"in", inner{"n"}, `{"name":"n"}`},
		{"in", "n", ""},
		{"list", []string{"a"}, `["a"]`},
		{"bool", value.Bool(true), "true"},
	}
	for _, tt := range tests {
		f, err := c.at(tt.field)
		if err != nil {
			t.Fatal(err)
		}
		got, err := f.encodeLoose(tt.in)
		text := "undefined"
		if !got.IsUndefined() {
			text = toJSON(got)
		}
		switch {
		case tt.want == "" && err == nil:
			t.Errorf("%s: encodeLoose(%#v) = %s, want an error", tt.field, tt.in, text)
		case tt.want != "" && (err != nil || text != tt.want):
			t.Errorf("%s: encodeLoose(%#v) = %s, %v; want %s", tt.field, tt.in, text, err, tt.want)
		}
	}
}
