package halcyon

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine/value"
)

type status string

func (status) Values() []status { return []status{"open", "closed"} }

var _ Enum[status] = status("")

type level int

func (level) Values() []level { return []level{1, 2} }

type onlyMe string

func (onlyMe) Values() []onlyMe { return []onlyMe{"me"} }

type text struct{ Body string }

type image struct {
	URL   string `json:"url"`
	Width int    `json:"width,omitzero"`
}

type content struct {
	Union `json:"kind"`
	Text  *text
	Image *image
}

type scalar struct {
	Union
	Word   *string
	Number *float64
}

type choices struct {
	Status  status
	Level   level `json:"level,omitzero"`
	Content content
	Scalar  scalar             `json:"scalar,omitzero"`
	Maybe   *Nullable[status]  `json:"maybe"`
	Either  *Nullable[scalar]  `json:"either"`
	Shown   *Nullable[content] `json:"shown"`
	More    []content          `json:"more,omitempty"`
	Only    *onlyMe            `json:"only"`
	By      map[string]status  `json:"by,omitempty"`
}

func TestEncodeUnions(t *testing.T) {
	word, number := "w", 2.5
	tests := []struct {
		name string
		in   any
		want string // JSON, or the error
	}{
		{"enum", status("open"), `"open"`},
		{"zero enum", status(""), "Value does not match validator.\n\nValue: \"\"\nValidator: v.union(v.literal(\"open\"), v.literal(\"closed\"))"},
		{"number enum", level(2), `2`},
		{"tagged", content{Image: &image{URL: "u"}}, `{"kind":"image","url":"u"}`},
		{"tagged pointer", &content{Text: &text{Body: "b"}}, `{"body":"b","kind":"text"}`},
		{"nothing", content{}, `halcyon.content has no variant set`},
		{"both", content{Text: &text{}, Image: &image{}}, `halcyon.content is both text and image`},
		{"untagged", scalar{Word: &word}, `"w"`},
		{"the other", []scalar{{Number: &number}}, `[2.5]`},
		{"wrong inside", struct{ S status }{"x"}, "Value does not match validator.\nPath: .s\nValue: \"x\"\nValidator: v.union(v.literal(\"open\"), v.literal(\"closed\"))"},
		{"left out", struct {
			S status  `json:"s,omitzero"`
			C content `json:"c,omitzero"`
		}{}, `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v, err := Encode(tt.in)
			got := toJSON(v)
			if err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("Encode(%+v) = %s, want %s", tt.in, got, tt.want)
			}
		})
	}
}

func TestDecodeUnions(t *testing.T) {
	v, err := value.ParseJSON([]byte(`{"status":"closed","content":{"kind":"image","url":"u","width":3},"scalar":"x","shown":null}`))
	if err != nil {
		t.Fatal(err)
	}
	got := choices{Content: content{Text: &text{}}, Only: new(onlyMe)} // of before
	if err := Decode(v, &got); err != nil {
		t.Fatal(err)
	}
	word := "x"
	want := choices{Status: "closed", Content: content{Image: &image{"u", 3}}, Scalar: scalar{Word: &word}, Shown: &Nullable[content]{}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decode (-want +got):\n%s", diff)
	}
}

type noValues string

func (noValues) Values() []noValues { return nil }

type twice string

func (twice) Values() []twice { return []twice{"a", "a"} }

type structEnum struct{ A int }

func (structEnum) Values() []structEnum { return nil }

type list []string

func (list) Values() []string { return nil }

func TestUnionsOfTheWrongShape(t *testing.T) {
	type notPointer struct {
		Union
		A string
	}
	type ofString struct {
		Union `json:"kind"`
		A     *string
	}
	type tagTaken struct {
		Union `json:"body"`
		A     *text
	}
	type sameName struct {
		Union `json:"kind"`
		A     *text `json:"b"`
		B     *image
	}
	type option struct {
		Union
		A *text `json:"a,omitempty"`
	}
	tests := []struct {
		name string
		typ  reflect.Type
		want string // empty: none
	}{
		{"no values", reflect.TypeFor[noValues](), "has no values"},
		{"a value twice", reflect.TypeFor[twice](), `lists "a" twice`},
		{"an enum of structs", reflect.TypeFor[structEnum](), "only strings, numbers and booleans"},
		{"a method Values of another kind", reflect.TypeFor[list](), ""},
		{"variant that is no pointer", reflect.TypeFor[notPointer](), "field A: the variants of a union are named fields with pointers"},
		{"tagged variant that is no struct", reflect.TypeFor[ofString](), "only structs can be told apart"},
		{"variant with the tag", reflect.TypeFor[tagTaken](), `has a field "body" itself`},
		{"variants of one name", reflect.TypeFor[sameName](), `two variants named "b"`},
		{"options", reflect.TypeFor[option](), "the variants of a union"},
		{"no variants", reflect.TypeFor[struct{ Union }](), "union of nothing"},
		{"Union as a field", reflect.TypeFor[struct{ U Union }](), "is not a value by itself"},
		{"embedded union", reflect.TypeFor[struct{ content }](), "give it a json tag"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := codecFor(tt.typ)
			if tt.want == "" && err == nil {
				return
			}
			if err == nil || tt.want == "" || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("codecFor(%v): %v, want %q in it", tt.typ, err, tt.want)
			}
		})
	}
}

func TestPathsIntoUnions(t *testing.T) {
	c := mustCodec[struct {
		Content content
		Any     struct {
			Union
			A *struct{ X string }
			B *struct{ X float64 }
		}
	}](t)
	tests := []struct {
		path     string
		shape    shape
		optional bool
		err      string
	}{
		{"content.kind", shapeString, false, ""},
		{"content.body", shapeString, true, ""},
		{"content.width", shapeInteger, true, ""},
		{"content.sound", 0, false, "no variant of"},
		{"any.x", shapeAny, true, ""},
	}
	for _, tt := range tests {
		f, err := c.at(tt.path)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("at(%s): %v, want %q in it", tt.path, err, tt.err)
			}
		case err != nil || f.codec.shape != tt.shape || f.optional != tt.optional:
			t.Errorf("at(%s) = %+v, %v; want shape %d, optional %v", tt.path, f, err, tt.shape, tt.optional)
		}
	}
}
