package value_test

import (
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/engine/value"
)

func mustParse(t testing.TB, text string) value.Value {
	t.Helper()
	v, err := value.ParseJSON([]byte(text))
	if err != nil {
		t.Fatalf("ParseJSON(%s): %v", text, err)
	}
	return v
}

func TestSize(t *testing.T) {
	for text, want := range map[string]int{
		`null`: 1, `true`: 1, `1`: 9, `{"$integer":"BQAAAAAAAAA="}`: 9, `{"$float":"AAAAAAAA8H8="}`: 9,
		`""`: 2, `"abc"`: 5, `"é"`: 4, `{"$bytes":""}`: 2, `{"$bytes":"AQID"}`: 5,
		`[]`: 2, `[null,1]`: 12, `{}`: 2, `{"a":1}`: 13, `{"a":1,"bc":"x"}`: 2 + (1 + 1 + 9) + (2 + 1 + 3),
		`{"a":{"b":[true]}}`:                 2 + 2 + (2 + 2 + (2 + 1)),
		`"j57000820c20a1g7104gm2rc1m70ynr8"`: 34,
	} {
		if got := value.Size(mustParse(t, text)); got != want {
			t.Errorf("Size(%s) = %d, want %d", text, got, want)
		}
	}
	if got := value.Size(value.Value{}); got != 1 {
		t.Errorf("Size of undefined = %d, want 1", got)
	}
}

// object returns an object of one field.
func object(name string, v value.Value) value.Value {
	return value.Object(value.Field{Name: name, Value: v})
}

func TestCheckDocument(t *testing.T) {
	fields := func(n int) value.Value {
		var fields []value.Field
		for i := range n {
			fields = append(fields, value.Field{Name: "f" + strings.Repeat("x", i%50) + string(rune('a'+i/50)), Value: value.Null()})
		}
		return value.Object(fields...)
	}
	elements := func(n int) value.Value {
		elems := make([]value.Value, n)
		for i := range elems {
			elems[i] = value.Null()
		}
		return value.Array(elems...)
	}
	text := func(size int) value.Value { // a document of the given size
		return object("a", value.String(strings.Repeat("x", size-value.Size(object("a", value.String(""))))))
	}
	limit := func(name string, got, most int, path string) error {
		return &value.LimitError{Limit: name, Got: got, Max: most, Path: path}
	}
	fault := func(reason, path string) error { return &value.DocumentError{Reason: reason, Path: path} }
	const (
		identifier = "a top-level field name must start with a letter and hold only letters, digits and _"
		reserved   = "top-level field names that start with _ are reserved"
	)
	cases := []struct {
		name string
		doc  value.Value
		want error
	}{
		{"empty", value.Object(), nil},
		{"ordinary", mustParse(t, `{"aZ_09":1,"B":{"any name":[null],"_x":1,"":2}}`), nil},
		{"not an object", value.Array(), fault("a document must be an object", "")},
		{"undefined", value.Value{}, fault("a document must be an object", "")},
		{"size at the limit", text(1 << 20), nil},
		{"size past the limit", text(1<<20 + 1), limit("document size in bytes", 1<<20+1, 1<<20, "")},
		{"fields at the limit", fields(1024), nil},
		{"fields past the limit", fields(1025), limit("number of fields of an object", 1025, 1024, "")},
		{"inner fields past the limit", object("a", fields(1025)), limit("number of fields of an object", 1025, 1024, ".a")},
		{"elements at the limit", object("a", elements(8192)), nil},
		{"elements past the limit", object("a", value.Array(value.Null(), elements(8193))), limit("number of elements of an array", 8193, 8192, ".a[1]")},
		{"nesting at the limit", object("a", nested(15, false)), nil},
		{"nesting at the limit, objects", nested(16, true), nil},
		{"nesting past the limit", object("b", nested(16, false)), limit("nesting", 17, 16, ".b"+strings.Repeat("[0]", 15))},
		{"nesting past the limit, objects", nested(17, true), limit("nesting", 17, 16, strings.Repeat(".a", 16))},
		{"nesting past all limits", object("b", nested(200, false)), limit("nesting", 17, 16, ".b"+strings.Repeat("[0]", 15))},
		{"name at the limit", object(strings.Repeat("n", 64), value.Null()), nil},
		{"name past the limit", object(strings.Repeat("n", 65), value.Null()), limit("length of a top-level field name", 65, 64, "."+strings.Repeat("n", 65))},
		{"inner name at the limit", object("a", object(strings.Repeat("n", 1024), value.Null())), nil},
		{"inner name past the limit", object("a", object(strings.Repeat("n", 1025), value.Null())), limit("length of a field name", 1025, 1024, ".a."+strings.Repeat("n", 1025))},
		{"empty name", object("", value.Null()), fault(identifier, ".")},
		{"name with a digit first", object("1a", value.Null()), fault(identifier, ".1a")},
		{"name with a space", object("a b", value.Null()), fault(identifier, ".a b")},
		{"name beyond ASCII", object("é", value.Null()), fault(identifier, ".é")},
		{"name with a dollar", object("$a", value.Null()), fault(identifier, ".$a")},
		{"reserved name", object("_id", value.Null()), fault(reserved, "._id")},
		{"inner name with a dollar", object("a", value.Array(object("$b", value.Null()))), fault("field names may not start with $", ".a[0].$b")},
		{"inner name beyond ASCII", object("a", object("é", value.Null())), fault("field name with a character that is not printable ASCII", ".a.é")},
		{"undefined inside", object("a", value.Array(value.Null(), value.Value{})), fault("undefined cannot be stored", ".a[1]")},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := value.CheckDocument(tc.doc)
			if diff := gocmp.Diff(tc.want, got); diff != "" {
				t.Errorf("CheckDocument (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDocumentErrorsNameThePlace(t *testing.T) {
	err := value.CheckDocument(object("a", value.Array(value.Value{})))
	var fault *value.DocumentError
	if !errors.As(err, &fault) || err.Error() != "undefined cannot be stored at .a[0]" {
		t.Errorf("CheckDocument = %v", err)
	}
	err = value.CheckDocument(nested(17, true))
	var limit *value.LimitError
	if want := "nesting at " + strings.Repeat(".a", 16) + " is 17, the most is 16"; !errors.As(err, &limit) || err.Error() != want {
		t.Errorf("CheckDocument = %v, want %v", err, want)
	}
}
