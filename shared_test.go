package halcyon

import (
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/halcyon-db/halcyon/engine/value"
)

// ward is a result with something shared in every place where it can be.
type ward struct {
	Beds    Shared[[]inner]             `json:"beds"`
	Best    *Shared[inner]              `json:"best"`
	Rows    Shared[map[string]ID[row]]  `json:"rows"`
	By      map[string]Shared[string]   `json:"by"`
	Next    Nullable[Shared[float64]]   `json:"next"`
	Of      []Shared[Nullable[float64]] `json:"of"`
	Missing Shared[int]                 `json:"missing,omitzero"`
}

// plainWard is a ward with nothing shared.
type plainWard struct {
	Beds    []inner             `json:"beds"`
	Best    *inner              `json:"best"`
	Rows    map[string]ID[row]  `json:"rows"`
	By      map[string]string   `json:"by"`
	Next    Nullable[float64]   `json:"next"`
	Of      []Nullable[float64] `json:"of"`
	Missing int                 `json:"missing,omitzero"`
}

// TestShared has the same values with and without Shared: they are the same to clients, and come back.
func TestShared(t *testing.T) {
	id := value.ID{Table: 10001}.String()
	in := ward{
		Beds: Share([]inner{{"a"}, {"b"}}), Best: new(Share(inner{"c"})), Rows: Share(map[string]ID[row]{"x": ID[row](id)}),
		By: map[string]Shared[string]{"me": Share("you")}, Next: NotNull(Share(1.5)), Of: []Shared[Nullable[float64]]{Share(NotNull(2.0)), {}},
	}
	want := `{"beds":[{"name":"a"},{"name":"b"}],"best":{"name":"c"},"by":{"me":"you"},"next":1.5,"of":[2,null],"rows":{"x":"` + id + `"}}`
	for range 2 {
		v, err := Encode(in)
		if err != nil || toJSON(v) != want {
			t.Fatalf("%s, %v; want %s", toJSON(v), err, want)
		}
	}
	var out ward
	v, err := value.ParseJSON([]byte(want))
	if err != nil {
		t.Fatal(err)
	}
	if err := Decode(v, &out); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(out.Beds.Value(), in.Beds.Value()) || out.Best.Value().Name != "c" || out.By["me"].Value() != "you" || out.Next.Value.Value() != 1.5 || out.Missing.Value() != 0 {
		t.Errorf("decoded %+v", out)
	}
	if again, err := Encode(out); err != nil || toJSON(again) != want {
		t.Errorf("encoded again: %s, %v", toJSON(again), err)
	}
	bad, _ := value.ParseJSON([]byte(`{"beds":[{"name":1}],"rows":{},"by":{},"next":null,"of":[]}`))
	if err := Decode(bad, &out); err == nil || !strings.Contains(err.Error(), "beds") {
		t.Errorf("a number for a name: %v, want an error that names the place", err)
	}

	d := &decoder{tables: twoTables{}}
	if got, want := d.validator(mustCodec[ward](t)), d.validator(mustCodec[plainWard](t)); got != want {
		t.Errorf("validator %s, want %s", got, want)
	}
	other := ward{Rows: Share(map[string]ID[row]{"x": ID[row](value.ID{Table: 10002}.String())})}
	if invalid := mustCodec[ward](t).checkIDs(reflect.ValueOf(other), twoTables{}); invalid == nil || !strings.Contains(invalid.Error(), ".rows.x") {
		t.Errorf("an id of another table in what is shared: %v", invalid)
	}
	if _, err := codecFor(reflect.TypeFor[Shared[*inner]]()); err == nil || !strings.Contains(err.Error(), "share the") {
		t.Errorf("a Shared of a pointer: %v", err)
	}
}

// A Shared is encoded once, by however many at a time, and one that can't be encoded says why each time.
func TestSharedIsEncodedOnce(t *testing.T) {
	list := []inner{{"a"}, {"b"}}
	s := Share(list)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if v, err := Encode(s); err != nil || toJSON(v) != `[{"name":"a"},{"name":"b"}]` {
				t.Errorf("%s, %v", toJSON(v), err)
			}
		})
	}
	wg.Wait()
	list[0].Name = "changed, which it must not be"
	if v, err := Encode(s); err != nil || strings.Contains(toJSON(v), "changed") {
		t.Errorf("encoded again: %s, %v", toJSON(v), err)
	}
	large := Share([]uint64{1 << 60})
	_, first := Encode(large)
	_, second := Encode(large)
	if first == nil || second == nil || first.Error() != second.Error() {
		t.Errorf("%v, then %v", first, second)
	}
}

// BenchmarkShared is what a long list costs in a result, and when it is shared.
func BenchmarkShared(b *testing.B) {
	list := make([]inner, 1000)
	for _, bm := range []struct {
		name string
		of   any
	}{{"plain", list}, {"shared", Share(list)}} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Encode(bm.of); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
