package halcyon

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/datadriven"

	"github.com/halcyon-db/halcyon/engine/value"
)

// twoTables says of ids that table 10001 is "rows" and 10002 is "others".
type twoTables struct{}

func (twoTables) nameOf(reflect.Type) string { return "rows" }

func (twoTables) check(_ reflect.Type, id value.ID) (bool, string) {
	return id.Table == 10001, map[uint32]string{10002: "others"}[id.Table]
}

type city struct {
	City string
	Zip  *int
}

// person has one of every way to be a field.
type person struct {
	Name    string
	Age     int8              `json:"age,omitzero"`
	Tags    []string          `json:"tags,omitempty"`
	Home    *city             `json:"home"`
	Row     *ID[row]          `json:"row"`
	Since   *Nullable[string] `json:"since"`
	Friends []struct {
		Name string
		Rows []ID[row]
	} `json:"friends,omitempty"`
}

// stored is a document.
type stored struct {
	ID   ID[stored] `halcyon:"id"`
	At   time.Time  `halcyon:"creationTime"`
	Name string
	Row  *ID[row]
	Tags []string
}

// validated are the types of testdata/validation by the names that they have there.
var validated = map[string]reflect.Type{
	"any":             reflect.TypeFor[any](),
	"boolean":         reflect.TypeFor[bool](),
	"string":          reflect.TypeFor[string](),
	"float64":         reflect.TypeFor[float64](),
	"float32":         reflect.TypeFor[float32](),
	"int":             reflect.TypeFor[int](),
	"int8":            reflect.TypeFor[int8](),
	"uint64":          reflect.TypeFor[uint64](),
	"int64":           reflect.TypeFor[int64](),
	"bytes":           reflect.TypeFor[[]byte](),
	"time":            reflect.TypeFor[time.Time](),
	"id":              reflect.TypeFor[ID[row]](),
	"array":           reflect.TypeFor[[]string](),
	"pointers":        reflect.TypeFor[[]*float64](),
	"matrix":          reflect.TypeFor[[][]float64](),
	"record":          reflect.TypeFor[map[string]bool](),
	"ids":             reflect.TypeFor[map[string][]ID[row]](),
	"nullable":        reflect.TypeFor[Nullable[string]](),
	"nullable-id":     reflect.TypeFor[Nullable[ID[row]]](),
	"object":          reflect.TypeFor[city](),
	"nothing":         reflect.TypeFor[struct{}](),
	"person":          reflect.TypeFor[person](),
	"literal":         reflect.TypeFor[onlyMe](),
	"status":          reflect.TypeFor[status](),
	"level":           reflect.TypeFor[level](),
	"tagged":          reflect.TypeFor[content](),
	"untagged":        reflect.TypeFor[scalar](),
	"nullable-tagged": reflect.TypeFor[Nullable[content]](),
	"choices":         reflect.TypeFor[choices](),
	"refs": reflect.TypeFor[struct {
		Union
		Row  *ID[row]
		Text *struct{ Text string }
	}](),
	"stored": reflect.TypeFor[stored](),
}

// TestValidation reads testdata/validation, which has the whole text for what does not fit, as Convex has it:
//
//	validator TYPE    the validator of a type
//	arguments TYPE    what a call with these arguments is told; the input is JSON as clients send it
//	result TYPE       what the log has of a function that returned this; the input is JSON for the Go type, as encoding/json reads it
//	document TYPE     what is said of a stored document when the program starts
//
// ROW, OTHER and FOREIGN in the input are ids: of the table rows that "v.id" is about, of another one, and of none.
func TestValidation(t *testing.T) {
	ids := []string{"ROW", value.ID{Table: 10001}.String(), "OTHER", value.ID{Table: 10002}.String(), "FOREIGN", value.ID{Table: 10003}.String()}
	var names []string
	for i := 0; i < len(ids); i += 2 {
		names = append(names, ids[i+1], ids[i])
	}
	toIDs, toNames := strings.NewReplacer(ids...), strings.NewReplacer(names...)
	datadriven.Walk(t, "testdata/validation", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			typ, ok := validated[d.CmdArgs[0].Key]
			if !ok {
				d.Fatalf(t, "there is no type %s", d.CmdArgs[0].Key)
			}
			c, err := codecFor(typ)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			input := toIDs.Replace(d.Input)
			into := reflect.New(typ)
			parse := func() value.Value {
				v, err := value.ParseJSON([]byte(input))
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				return v
			}
			said := "ok"
			switch d.Cmd {
			case "validator":
				said = (&decoder{tables: twoTables{}}).validator(c)
			case "arguments":
				if err := (&decoder{tables: twoTables{}}).decode(c, parse(), into.Elem()); err != nil {
					said = err.Error()
				}
			case "document":
				if err := (&decoder{tables: twoTables{}, stored: true}).decode(c, parse(), into.Elem()); err != nil {
					said = err.Error()
				}
			case "result":
				if err := json.Unmarshal([]byte(input), into.Interface()); err != nil {
					d.Fatalf(t, "%v", err)
				}
				if v, err := encodeResult(c, into.Elem(), twoTables{}); err != nil {
					said = err.Error()
				} else {
					said = "ok " + toJSON(v)
				}
			default:
				d.Fatalf(t, "there is no command %s", d.Cmd)
			}
			return toNames.Replace(said) + "\n"
		})
	})
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
