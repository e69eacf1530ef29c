package value_test

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"unsafe"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/value"
)

func TestKindsAreInTheOrderOfTypes(t *testing.T) {
	kinds := []value.Kind{
		value.KindUndefined, value.KindNull, value.KindInt64, value.KindFloat64, value.KindBool,
		value.KindString, value.KindBytes, value.KindArray, value.KindObject,
	}
	names := []string{"undefined", "null", "int64", "float64", "bool", "string", "bytes", "array", "object"}
	for i, k := range kinds {
		if int(k) != i || k.String() != names[i] {
			t.Errorf("kind %d is %d, %q, want %q", i, k, k, names[i])
		}
	}
	if got := value.Kind(200).String(); got != "Kind(200)" {
		t.Errorf("name of an unknown kind = %q", got)
	}
}

func TestValueIsSmall(t *testing.T) {
	if got := unsafe.Sizeof(value.Value{}); got > 24 {
		t.Errorf("a Value has %d bytes, want at most 24", got)
	}
}

func TestZeroValueIsUndefined(t *testing.T) {
	var v value.Value
	if !v.IsUndefined() || v.Kind() != value.KindUndefined || v.IsNull() || v.String() != "undefined" {
		t.Errorf("the zero Value is %v of kind %v", v, v.Kind())
	}
}

func TestAccessorsAnswerOnlyForTheirKind(t *testing.T) {
	values := []value.Value{
		{}, value.Null(), value.Int64(1), value.Float64(1), value.Bool(true),
		value.String("x"), value.Bytes([]byte("x")), value.Array(value.Null()),
		value.Object(value.Field{Name: "a", Value: value.Null()}),
	}
	for i, v := range values {
		kind := value.Kind(i)
		if v.Kind() != kind {
			t.Fatalf("value %d has kind %v, want %v", i, v.Kind(), kind)
		}
		n, isInt := v.AsInt64()
		f, isFloat := v.AsFloat64()
		b, isBool := v.AsBool()
		s, isString := v.AsString()
		raw, isBytes := v.AsBytes()
		got := []bool{
			v.IsUndefined(), v.IsNull(), isInt, isFloat, isBool, isString, isBytes, v.Len() > 0, v.Fields() != nil,
		}
		want := make([]bool, len(values))
		want[kind] = true
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("kinds that %v answers to (-want +got):\n%s", v, diff)
		}
		if n != 0 != isInt || f != 0 != isFloat || b != isBool || s != "" != isString || raw != nil != isBytes {
			t.Errorf("%v gives %d, %v, %v, %q, %q", v, n, f, b, s, raw)
		}
		if got := v.Get("a"); kind == value.KindObject != got.IsNull() {
			t.Errorf("field a of %v is %v", v, got)
		}
	}
}

func TestIndexPanicsOutsideAnArray(t *testing.T) {
	for name, v := range map[string]value.Value{"end": value.Array(value.Null()), "not an array": value.String("ab")} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Errorf("Index(1) of %v did not panic", v)
				}
			}()
			v.Index(1)
		})
	}
}

func TestObjectSortsAndDropsAndLetsTheLastWin(t *testing.T) {
	field := func(name string, v value.Value) value.Field { return value.Field{Name: name, Value: v} }
	one, two := value.Float64(1), value.Float64(2)
	cases := []struct {
		name   string
		fields []value.Field
		want   string
	}{
		{"none", nil, `{}`},
		{"sorted already", []value.Field{field("a", one), field("b", two)}, `{"a":1,"b":2}`},
		{"not sorted", []value.Field{field("b", two), field("aa", one), field("", one), field("B", one)}, `{"":1,"B":1,"aa":1,"b":2}`},
		{"twice", []value.Field{field("a", one), field("a", two)}, `{"a":2}`},
		{"thrice, apart", []value.Field{field("b", one), field("a", one), field("b", one), field("c", one), field("b", two)}, `{"a":1,"b":2,"c":1}`},
		{"undefined", []value.Field{field("a", value.Value{}), field("b", one)}, `{"b":1}`},
		{"only undefined", []value.Field{field("a", value.Value{})}, `{}`},
		{"last is undefined", []value.Field{field("a", one), field("a", value.Value{})}, `{}`},
		{"last is defined", []value.Field{field("a", value.Value{}), field("a", one)}, `{"a":1}`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if got := value.Object(tc.fields...).String(); got != tc.want {
				t.Errorf("Object(%v) = %s, want %s", tc.fields, got, tc.want)
			}
		})
	}
}

func TestStringsAreMadeValid(t *testing.T) {
	v := value.String("a\xFF\xFEb\xED\xA0\x80c") // two stray bytes, half of a surrogate pair
	if got, _ := v.AsString(); got != "a\uFFFDb\uFFFDc" {
		t.Errorf("String = %q", got)
	}
	v = value.Object(value.Field{Name: "\xFF", Value: value.Null()})
	if got := v.Get("\uFFFD"); !got.IsNull() {
		t.Errorf("field of %v = %v", v, got)
	}
	if got, err := value.DecodeBinary(value.AppendBinary(nil, v)); err != nil || !value.Equal(got, v) {
		t.Errorf("decoded %v, %v, want %v", got, err, v)
	}
}

func TestGetFindsEveryField(t *testing.T) {
	var fields []value.Field
	for i := range 100 {
		fields = append(fields, value.Field{Name: strings.Repeat("x", i%7) + string(rune('A'+i/7)), Value: value.Int64(int64(i))})
	}
	v := value.Object(slices.Clone(fields)...)
	for _, f := range fields {
		if got := v.Get(f.Name); !value.Equal(got, f.Value) {
			t.Errorf("Get(%q) = %v, want %v", f.Name, got, f.Value)
		}
	}
	if got := v.Get("xA1"); !got.IsUndefined() {
		t.Errorf("Get of a missing field = %v", got)
	}
}

func TestPath(t *testing.T) {
	v, err := value.ParseJSON([]byte(`{"a":{"b":{"c":1}},"x":[{"a":1}],"":{"":2}}`))
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"a": `{"b":{"c":1}}`, "a.b": `{"c":1}`, "a.b.c": "1", "a.b.c.d": "undefined", "b": "undefined",
		"a.x.c": "undefined", "x.a": "undefined", "": `{"":2}`, ".": "2", "..": "undefined", "a.": "undefined",
	} {
		if got := v.Path(path).String(); got != want {
			t.Errorf("Path(%q) = %s, want %s", path, got, want)
		}
	}
}

func TestCompareIsATotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := drawAny().Draw(t, "a"), drawAny().Draw(t, "b"), drawAny().Draw(t, "c")
		if value.Compare(a, a) != 0 || !value.Equal(a, a) {
			t.Fatalf("%v is not equal to itself", a)
		}
		ab := value.Compare(a, b)
		if value.Compare(b, a) != -ab {
			t.Fatalf("%v to %v is %d and back %d", a, b, ab, value.Compare(b, a))
		}
		if value.Equal(a, b) != (ab == 0) || a.Equal(b) != (ab == 0) {
			t.Fatalf("%v to %v is %d and Equal says %v", a, b, ab, value.Equal(a, b))
		}
		sorted := []value.Value{a, b, c}
		slices.SortFunc(sorted, value.Compare)
		if value.Compare(sorted[0], sorted[2]) > 0 {
			t.Fatalf("%v sorts above %v", sorted[0], sorted[2])
		}
		if a.Kind() != b.Kind() && ab != cmp.Compare(a.Kind(), b.Kind()) {
			t.Fatalf("%v and %v do not sort by kind", a, b)
		}
	})
}

func TestFloatsSortByNumberWhereTheyHaveOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f, g := rapid.Float64().Draw(t, "f"), rapid.Float64().Draw(t, "g")
		got := value.Compare(value.Float64(f), value.Float64(g))
		if f != g && got != cmp.Compare(f, g) {
			t.Fatalf("%v to %v is %d", f, g, got)
		}
	})
	if value.Compare(value.Float64(math.Copysign(0, -1)), value.Float64(0)) != -1 {
		t.Error("-0 does not sort below 0")
	}
}

func TestMarshalJSONFitsEncodingJSON(t *testing.T) {
	v := value.Object(value.Field{Name: "n", Value: value.Int64(5)}, value.Field{Name: "s", Value: value.String("a\"b")})
	got, err := json.Marshal(map[string]any{"v": v, "u": value.Value{}})
	if want := `{"u":null,"v":{"n":{"$integer":"BQAAAAAAAAA="},"s":"a\"b"}}`; err != nil || string(got) != want {
		t.Errorf("Marshal = %s, %v, want %s", got, err, want)
	}
}

func TestScalarsDoNotAllocate(t *testing.T) {
	var sink value.Value
	s, b := "text", []byte("bytes")
	dst := make([]byte, 0, 4096)
	v := value.Array(value.Int64(1), value.Float64(0.5), value.String("a\x00b"), value.Object(
		value.Field{Name: "a", Value: value.Bytes(b)}, value.Field{Name: "b", Value: value.Bool(true)}))
	names := new(value.Names)
	row := value.Object(
		value.Field{Name: "a", Value: value.String("x")}, value.Field{Name: "n", Value: value.Int64(1)},
		value.Field{Name: "o", Value: value.Object(value.Field{Name: "p", Value: value.Bytes(b)})})
	tuple := value.TrustTuple(value.AppendTuple(nil, row, names), names)
	cases := map[string]func(){
		"Int64":           func() { sink = value.Int64(math.MaxInt64) },
		"Float64":         func() { sink = value.Float64(0.1) },
		"Bool":            func() { sink = value.Bool(true) },
		"String":          func() { sink = value.String(s) },
		"Bytes":           func() { sink = value.Bytes(b) },
		"AppendOrdered":   func() { dst = value.AppendOrdered(dst[:0], v) },
		"AppendBinary":    func() { dst = value.AppendBinary(dst[:0], v) },
		"AppendJSON":      func() { dst = value.AppendJSON(dst[:0], v) },
		"AppendCleanJSON": func() { dst = value.AppendCleanJSON(dst[:0], v) },
		"Compare":         func() { sink = value.Int64(int64(value.Compare(v, v))) },
		"Equal":           func() { sink = value.Bool(value.Equal(v, v)) },
		"CheckDocument":   func() { sink = value.Bool(value.CheckDocument(v.Index(3)) == nil) },
		"AppendTuple":     func() { dst = value.AppendTuple(dst[:0], row, names) },
		"Get":             func() { sink = tuple.Get("n") },
		"Path":            func() { sink = tuple.Path("o.p") },
		"Size":            func() { sink = value.Int64(int64(value.Size(tuple))) },
		"DocumentSize":    func() { sink = value.Bool(value.CheckDocument(tuple) == nil) },
		"Iterate": func() {
			for c := tuple.Iterate(); c.Next(); {
				sink = value.String(c.Name())
				for in := c.Iterate(); in.Next(); {
					sink = in.Value()
				}
			}
		},
	}
	for name, f := range cases {
		if got := testing.AllocsPerRun(100, f); got != 0 {
			t.Errorf("%s allocates %v times", name, got)
		}
	}
	_ = sink
}
