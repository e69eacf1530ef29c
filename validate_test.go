package halcyon

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon/engine/value"
)

// twoTables says of ids that table 10001 is "rows" and 10002 is "others".
type twoTables struct{}

func (twoTables) nameOf(reflect.Type) string { return "rows" }

func (twoTables) check(_ reflect.Type, id value.ID) (bool, string) {
	return id.Table == 10001, map[uint32]string{10002: "others"}[id.Table]
}

type address struct {
	City string `json:"city"`
	Zip  *int
}

type arguments struct {
	Name    string
	Age     int8              `json:"age,omitzero"`
	Tags    []string          `json:"tags,omitempty"`
	Address *address          `json:"address"`
	Row     *ID[row]          `json:"row"`
	Since   *Nullable[string] `json:"since"`
	Many    []*float64        `json:"many,omitempty"`
	More    map[string]bool   `json:"more,omitempty"`
	Big     *int64            `json:"big"`
	Raw     []byte            `json:"raw,omitempty"`
	Free    any               `json:"free,omitempty"`
}

const argumentsValidator = `v.object({address: v.optional(v.object({city: v.string(), zip: v.optional(v.float64())})), age: v.optional(v.float64()), ` +
	`big: v.optional(v.int64()), free: v.optional(v.any()), many: v.optional(v.array(v.union(v.float64(), v.null()))), ` +
	`more: v.optional(v.record(v.string(), v.boolean())), name: v.string(), raw: v.optional(v.bytes()), row: v.optional(v.id("rows")), ` +
	`since: v.optional(v.union(v.string(), v.null())), tags: v.optional(v.array(v.string()))})`

func TestValidation(t *testing.T) {
	other := value.ID{Table: 10002}.String()
	foreign := value.ID{Table: 10003}.String()
	own := value.ID{Table: 10001}.String()
	tests := []struct {
		name, args string
		want       string // empty: they fit
	}{
		{"all that is required", `{"name":"x"}`, ""},
		{"null where it may be", `{"name":"x","since":null,"many":[1,null]}`, ""},
		{"id of the right table", `{"name":"x","row":"` + own + `"}`, ""},
		{
			"missing", `{}`,
			"Object is missing the required field `name`. Consider wrapping the field validator in `v.optional(...)` if this is expected.\n\n" +
				"Object: {}\nValidator: " + argumentsValidator,
		},
		{
			"missing in an object", `{"name":"x","address":{"zip":1}}`,
			"Object is missing the required field `city`. Consider wrapping the field validator in `v.optional(...)` if this is expected.\n" +
				"Path: .address\nObject: {zip: 1.0}\nValidator: v.object({city: v.string(), zip: v.optional(v.float64())})",
		},
		{
			"extra", `{"name":"x","zzz":[1.5,{"$integer":"BQAAAAAAAAA="},null,true]}`,
			"Object contains extra field `zzz` that is not in the validator.\n\n" +
				`Object: {name: "x", zzz: [1.5, 5, null, true]}` + "\nValidator: " + argumentsValidator,
		},
		{
			"extra before and between", `{"aaa":1,"name":"x","nbb":1}`,
			"Object contains extra field `aaa` that is not in the validator.\n\n" +
				`Object: {aaa: 1.0, name: "x", nbb: 1.0}` + "\nValidator: " + argumentsValidator,
		},
		{
			"extra and misfit: the misfit counts", `{"aaa":1,"name":1}`,
			"Value does not match validator.\nPath: .name\nValue: 1.0\nValidator: v.string()",
		},
		{"misfit", `{"name":null}`, "Value does not match validator.\nPath: .name\nValue: null\nValidator: v.string()"},
		{"optional is not null", `{"name":"x","address":null}`,
			"Value does not match validator.\nPath: .address\nValue: null\nValidator: v.object({city: v.string(), zip: v.optional(v.float64())})"},
		{"misfit in an array", `{"name":"x","tags":["a",2]}`, "Value does not match validator.\nPath: .tags[1]\nValue: 2.0\nValidator: v.string()"},
		{"misfit in a record", `{"name":"x","more":{"k":"v"}}`, "Value does not match validator.\nPath: .more.k\nValue: \"v\"\nValidator: v.boolean()"},
		{"float for int64", `{"name":"x","big":3}`, "Value does not match validator.\nPath: .big\nValue: 3.0\nValidator: v.int64()"},
		{"string for bytes", `{"name":"x","raw":"AQ=="}`, "Value does not match validator.\nPath: .raw\nValue: \"AQ==\"\nValidator: v.bytes()"},
		{"union", `{"name":"x","since":4}`, "Value does not match validator.\nPath: .since\nValue: 4.0\nValidator: v.union(v.string(), v.null())"},
		{"fraction for an integer", `{"name":"x","age":1.5}`,
			"Value does not match validator.\nPath: .age\nValue: 1.5\nValidator: v.float64() /* an integer from -128 to 127 */"},
		{"integer out of range", `{"name":"x","age":128}`,
			"Value does not match validator.\nPath: .age\nValue: 128.0\nValidator: v.float64() /* an integer from -128 to 127 */"},
		{"string for an integer", `{"name":"x","age":"1"}`, "Value does not match validator.\nPath: .age\nValue: \"1\"\nValidator: v.float64()"},
		{"not an id", `{"name":"x","row":"user_1"}`, "Value does not match validator.\nPath: .row\nValue: \"user_1\"\nValidator: v.id(\"rows\")"},
		{"number for an id", `{"name":"x","row":1}`, "Value does not match validator.\nPath: .row\nValue: 1.0\nValidator: v.id(\"rows\")"},
		{"id of another table", `{"name":"x","row":"` + other + `"}`,
			"Found ID \"" + other + "\" from table `others`, which does not match the table name in validator `v.id(\"rows\")`.Path: .row"},
		{"id of no table", `{"name":"x","row":"` + foreign + `"}`,
			"Value does not match validator.\nPath: .row\nValue: \"" + foreign + "\"\nValidator: v.id(\"rows\")"},
	}
	c := mustCodec[arguments](t)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := value.ParseJSON([]byte(tt.args))
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if err := (&decoder{tables: twoTables{}}).decode(c, v, reflect.New(c.typ).Elem()); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("decode %s\n got %s\nwant %s", tt.args, got, tt.want)
			}
		})
	}
}

func TestStoredDocumentsMayHaveMore(t *testing.T) {
	c := mustCodec[row](t)
	v := value.Object(value.Field{Name: "gone", Value: value.Null()}, value.Field{Name: "text", Value: value.String("x")})
	var got row
	if err := (&decoder{stored: true}).decode(c, v, reflect.ValueOf(&got).Elem()); err != nil || got.Text != "x" {
		t.Errorf("decode a document with a field too many: %+v, %v; want its text", got, err)
	}
	if err := (&decoder{stored: true}).decode(c, value.Object(), reflect.ValueOf(&got).Elem()); err == nil {
		t.Error("decode a document without text: no error")
	}
}

func TestDisplayFloat(t *testing.T) {
	tests := map[float64]string{
		0: "0.0", 1: "1.0", -2.5: "-2.5", 1e15: "1000000000000000.0", 1e16: "1e16", 1.5e300: "1.5e300", 1e-5: "0.00001", 1e-7: "1e-7",
		math.Inf(1): "inf", math.Inf(-1): "-inf", math.Copysign(0, -1): "-0.0",
	}
	for f, want := range tests {
		if got := displayFloat(f); got != want && !(f == 0 && got == "-0.0") {
			t.Errorf("displayFloat(%g) = %s, want %s", f, got, want)
		}
	}
	if got := displayFloat(math.NaN()); got != "NaN" {
		t.Errorf("displayFloat(NaN) = %s", got)
	}
}

func TestDisplayIsBounded(t *testing.T) {
	long := value.Array(value.String(strings.Repeat("é", displayBytesMax)), value.String("tail"))
	got := display(long)
	if len(got) > displayBytesMax || !utf8.ValidString(got) || !strings.HasSuffix(got, "...") {
		t.Errorf("display of a long value: %d bytes, valid %v, end %q", len(got), utf8.ValidString(got), got[len(got)-5:])
	}
	short := value.Array(value.Bytes([]byte{1, 0xff}), value.Object())
	if got := display(short); got != "[bytes(01ff), {}]" {
		t.Errorf("display = %s", got)
	}
}
