package value_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine/value"
)

// dictionary returns a dictionary of some names, numbered from 1.
func dictionary(t testing.TB, names ...string) *value.Names {
	t.Helper()
	d := new(value.Names)
	for i, name := range names {
		if err := d.Restore(uint32(i+1), name); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// objectOf returns an object of names and values in turn.
func objectOf(kv ...any) value.Value {
	var fields []value.Field
	for i := 0; i < len(kv); i += 2 {
		fields = append(fields, value.Field{Name: kv[i].(string), Value: kv[i+1].(value.Value)})
	}
	return value.Object(fields...)
}

// drawDocument draws an object whose top-level names are mostly identifiers.
func drawDocument() *rapid.Generator[value.Value] {
	name := rapid.OneOf(rapid.SampledFrom([]string{"a", "b", "aa", "B", "n1", "n2", "_x", "", "a b", strings.Repeat("n", 65)}), drawName())
	field := rapid.Custom(func(t *rapid.T) value.Field {
		return value.Field{Name: name.Draw(t, "name"), Value: drawValue(2).Draw(t, "value")}
	})
	return rapid.Map(rapid.SliceOfN(field, 0, 6), func(fields []value.Field) value.Value { return value.Object(fields...) })
}

// TestTupleBytes pins the encoding; docs/format/values.md has the same lines.
func TestTupleBytes(t *testing.T) {
	names := dictionary(t, "name", "n")
	for _, c := range []struct {
		name string
		v    value.Value
		want string
	}{
		{"empty", value.Object(), ""},
		{"two fields", objectOf("name", value.String("a"), "n", value.Float64(1.5)), "02 05 000000000000F83F  01 07 01 61"},
		{"a new name", objectOf("name", value.Null(), "p", value.Bool(true)), "01 01  03 03"},
		{"inside, names are written out", objectOf("n", objectOf("n", value.Int64(-1))), "02 0A 01 04 01 6E 04 01"},
		{"a name that has no number", objectOf("a b", value.Null(), "n", value.Null()), "00 03 61 20 62 01  02 01"},
	} {
		want, err := hex.DecodeString(strings.ReplaceAll(c.want, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := value.AppendTuple(nil, c.v, names); !bytes.Equal(got, want) {
			t.Errorf("%s: %v encodes to %x, want %x", c.name, c.v, got, want)
		}
		if got, err := value.DecodeTuple(want, names); err != nil || !value.Equal(got, c.v) {
			t.Errorf("%s: %x decodes to %v, %v, want %v", c.name, want, got, err, c.v)
		}
	}
}

// TestTupleIsTheObject: an object kept in its encoding behaves as any other in all that this package does.
func TestTupleIsTheObject(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v, other := drawDocument().Draw(t, "object"), drawDocument().Draw(t, "other")
		names := new(value.Names)
		for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "n2", "n1", "B"}), 0, 4).Draw(t, "known") {
			names.Number(name)
		}
		b := value.AppendTuple([]byte("prefix"), v, names)[len("prefix"):]
		got, err := value.DecodeTuple(b, names)
		if err != nil {
			t.Fatalf("DecodeTuple(%x) of %v: %v", b, v, err)
		}
		checkSame(t, got, v)
		if again := value.AppendTuple(nil, value.Object(slices.Clone(got.Fields())...), names); !bytes.Equal(again, b) {
			t.Fatalf("%v encodes to %x, and again to %x", v, b, again)
		}
		if moved := new(value.Names); !bytes.Equal(value.AppendTuple(nil, got, moved), value.AppendTuple(nil, v, new(value.Names))) {
			t.Fatalf("%v encodes to another tuple in another dictionary", v)
		}

		set := drawDocument().Draw(t, "set")
		unset := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "aa", "n1", "zz"}), 0, 2).Draw(t, "unset")
		checkSame(t, value.Patched(got, set, unset...), value.Patched(v, set, unset...))

		for _, w := range []value.Value{other, value.TrustTuple(value.AppendTuple(nil, other, names), names), value.Null()} {
			if value.Equal(got, w) != value.Equal(v, w) || value.Compare(got, w) != value.Compare(v, w) || value.Compare(w, got) != value.Compare(w, v) {
				t.Fatalf("%v in its encoding compares with %v otherwise", v, w)
			}
		}
	})
}

// checkSame fails unless got shows itself as want does.
func checkSame(t *rapid.T, got, want value.Value) {
	t.Helper()
	if !value.Equal(got, want) || !value.Equal(want, got) || got.String() != want.String() {
		t.Fatalf("got %v, want %v", got, want)
	}
	if diff := cmp.Diff(want.Fields(), got.Fields()); diff != "" && len(want.Fields())+len(got.Fields()) > 0 {
		t.Fatalf("fields of %v (-want +got):\n%s", want, diff)
	}
	for _, encode := range []func([]byte, value.Value) []byte{value.AppendBinary, value.AppendOrdered, value.AppendCleanJSON} {
		if g, w := encode(nil, got), encode(nil, want); !bytes.Equal(g, w) {
			t.Fatalf("%v encodes to %x, want %x", want, g, w)
		}
	}
	if g, w := value.Size(got), value.Size(want); g != w {
		t.Fatalf("the size of %v is %d, want %d", want, g, w)
	}
	if g, w := fmt.Sprint(value.CheckDocument(got)), fmt.Sprint(value.CheckDocument(want)); g != w {
		t.Fatalf("CheckDocument(%v): %s, want %s", want, g, w)
	}
	for _, f := range append(want.Fields(), value.Field{Name: "missing"}, value.Field{Name: "a"}) {
		if g, w := got.Get(f.Name), want.Get(f.Name); !value.Equal(g, w) {
			t.Fatalf("%s of %v is %v, want %v", f.Name, want, g, w)
		}
		for _, below := range append(f.Value.Fields(), value.Field{Name: "missing"}) {
			path := f.Name + "." + below.Name + ".a"
			for _, p := range []string{path, path[:len(path)-2]} {
				if g, w := got.Path(p), want.Path(p); !value.Equal(g, w) {
					t.Fatalf("%s of %v is %v, want %v", p, want, g, w)
				}
			}
		}
	}
	sameContent(t, got.Iterate(), want)
	sameContent(t, want.Iterate(), want)
}

// sameContent fails unless the cursor goes over what v has in it.
func sameContent(t *rapid.T, c value.Cursor, v value.Value) {
	t.Helper()
	n := 0
	for ; c.Next(); n++ {
		name, want := "", value.Value{}
		if v.Kind() == value.KindArray {
			want = v.Index(n)
		} else {
			f := v.Fields()[n]
			name, want = f.Name, f.Value
		}
		if c.Name() != name || c.Kind() != want.Kind() || !value.Equal(c.Value(), want) {
			t.Fatalf("at %d of %v is %q, %v, want %q, %v", n, v, c.Name(), c.Value(), name, want)
		}
		in := c.Iterate()
		if want.Kind() == value.KindArray && in.Len() != want.Len() {
			t.Fatalf("a cursor over %v has %d to go", want, in.Len())
		}
		sameContent(t, in, want)
	}
	if want := max(v.Len(), len(v.Fields())); n != want {
		t.Fatalf("%d values in %v, want %d", n, v, want)
	}
}

func TestDecodeTupleRefuses(t *testing.T) {
	names := dictionary(t, "b", "a")
	for _, c := range []struct{ name, hex string }{
		{"field without value", "01"},
		{"number that nothing has", "0301"},
		{"number not in its shortest form", "810001"},
		{"number cut short", "81"},
		{"descending names", "01010201"},
		{"a field twice", "01010101"},
		{"a name and its number", "0001620101" + "01"},
		{"undefined field", "0100"},
		{"name cut short", "000361"},
		{"name without value", "000161"},
		{"name that is not UTF-8", "0001ff01"},
		{"unknown tag", "010b"},
		{"string longer than the input", "01070261"},
		{"array of a huge count", "0109ffffffff0f0101"},
		{"bytes after the fields", "010100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, err := hex.DecodeString(c.hex)
			if err != nil {
				t.Fatal(err)
			}
			if v, err := value.DecodeTuple(b, names); !errors.Is(err, value.ErrCorrupt) {
				t.Errorf("DecodeTuple(%x) = %v, %v, want ErrCorrupt", b, v, err)
			}
		})
	}
	deep := func(n int) []byte { return value.AppendTuple(nil, objectOf("a", nested(n, false)), names) }
	if _, err := value.DecodeTuple(deep(value.DepthMax-1), names); err != nil {
		t.Errorf("nested %d deep: %v", value.DepthMax, err)
	}
	if _, err := value.DecodeTuple(deep(value.DepthMax), names); !errors.Is(err, value.ErrCorrupt) {
		t.Errorf("nested %d deep: %v, want ErrCorrupt", value.DepthMax+1, err)
	}
}

func FuzzDecodeTuple(f *testing.F) {
	for _, text := range []string{"", "0101", "02050000000000000f83f", "0107016102060200016201", "01 0a 01 04 01 61 06 02", "0109ffffffff0f0101"} {
		if b, err := hex.DecodeString(strings.ReplaceAll(text, " ", "")); err == nil {
			f.Add(b)
		}
	}
	for _, g := range readGolden(f, "testdata/binary.txt") {
		f.Add(append([]byte{1}, g.encoded...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		names := dictionary(t, "b", "a", "c")
		var v value.Value
		var err error
		if got, most := allocated(func() { v, err = value.DecodeTuple(b, names) }), len(b)+16<<10; got > most {
			t.Errorf("%d bytes of input allocated %d, want at most %d", len(b), got, most)
		}
		if err != nil {
			if !errors.Is(err, value.ErrCorrupt) {
				t.Fatalf("%v is not ErrCorrupt", err)
			}
			return
		}
		tree := value.Object(v.Fields()...)
		if !value.Equal(v, tree) || value.Size(v) != value.Size(tree) || !value.Equal(v.Get("a"), tree.Get("a")) {
			t.Fatalf("%x is %v, decoded %v", b, v, tree)
		}
		if binary := value.AppendBinary(nil, tree); !bytes.Equal(value.AppendBinary(nil, v), binary) {
			t.Fatalf("%x encodes to another record than %v", b, tree)
		}
		// Names that have a number may be written out: a name got it since.
		if again, err := value.DecodeTuple(value.AppendTuple(nil, tree, names), names); err != nil || !value.Equal(again, v) {
			t.Fatalf("%x is %v, and encoded again %v, %v", b, v, again, err)
		}
	})
}

func TestNamesAreNumberedInOrder(t *testing.T) {
	var grown atomic.Uint64
	names := &value.Names{Grown: &grown}
	for _, c := range []struct {
		name string
		want uint32
	}{
		{"b", 1}, {"a", 2}, {"b", 1}, {"", 0}, {"_id", 0}, {"a b", 0}, {"é", 0}, {"1a", 0},
		{strings.Repeat("x", 64), 3}, {strings.Repeat("x", 65), 0}, {"a_1", 4},
	} {
		if got := names.Number(c.name); got != c.want {
			t.Errorf("%q has number %d, want %d", c.name, got, c.want)
		}
	}
	if names.Len() != 4 || names.Name(2) != "a" || grown.Load() != 4 {
		t.Errorf("%d names, the second %q, grown by %d", names.Len(), names.Name(2), grown.Load())
	}
	var restored value.Names
	for n := range uint32(4) {
		if err := restored.Restore(n+1, names.Name(n+1)); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		name   string
		number uint32
		field  string
	}{{"left out", 6, "x"}, {"again", 4, "x"}, {"zero", 0, "x"}, {"twice", 5, "a"}, {"no identifier", 5, "_x"}} {
		if err := restored.Restore(c.number, c.field); !errors.Is(err, value.ErrCorrupt) {
			t.Errorf("%s: restoring %q as %d gives %v", c.name, c.field, c.number, err)
		}
	}
}

// TestNamesAreLimited: at the limit a name gets a number, one past it is written out, and documents with it work.
func TestNamesAreLimited(t *testing.T) {
	var names value.Names
	for i := range value.NamesMax {
		if got := names.Number(fmt.Sprint("f", i)); got != uint32(i+1) {
			t.Fatalf("name %d has number %d", i, got)
		}
	}
	if got := names.Number("more"); got != 0 || names.Len() != value.NamesMax {
		t.Errorf("a name past the limit has number %d, of %d", got, names.Len())
	}
	if err := names.Restore(value.NamesMax+1, "more"); !errors.Is(err, value.ErrCorrupt) {
		t.Errorf("restoring a name past the limit gives %v", err)
	}
	v := objectOf("f999", value.Int64(1), "g", value.Int64(2), "more", value.Int64(3))
	b := value.AppendTuple(nil, v, &names)
	if got, err := value.DecodeTuple(b, &names); err != nil || !value.Equal(got, v) || !value.Equal(got.Get("more"), value.Int64(3)) {
		t.Errorf("DecodeTuple(%x) = %v, %v, want %v", b, got, err, v)
	}
}

// TestNamesTogether: those who ask for the same names at once get the same numbers, and read while others add.
func TestNamesTogether(t *testing.T) {
	var names value.Names
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 200 {
				v := object(fmt.Sprint("f", i), value.Int64(int64(i)))
				if got, err := value.DecodeTuple(value.AppendTuple(nil, v, &names), &names); err != nil || !value.Equal(got, v) {
					t.Errorf("%v came back as %v, %v", v, got, err)
				}
			}
		})
	}
	wg.Wait()
	if names.Len() != 200 {
		t.Errorf("%d names, want 200", names.Len())
	}
}
