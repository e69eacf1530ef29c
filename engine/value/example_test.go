package value_test

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon/engine/value"
)

// A value goes from the wire into a record and a key, and back.
func Example() {
	v, err := value.ParseJSON([]byte(`{"path": "/about", "views": {"$integer": "BQAAAAAAAAA="}, "seconds": 2.5}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := value.CheckDocument(v); err != nil {
		fmt.Println(err)
		return
	}
	views, _ := v.Get("views").AsInt64()
	fmt.Println("views:", views)

	var names value.Names // of the fields of a table's documents
	row, err := value.DecodeTuple(value.AppendTuple(nil, v, &names), &names)
	fmt.Println("path of the row:", row.Get("path"), err)

	fmt.Printf("key: %x\n", value.AppendOrdered(nil, v.Get("path")))
	fmt.Println("encoded:", string(value.AppendJSON(nil, v)))
	fmt.Println("clean:  ", string(value.AppendCleanJSON(nil, v)))
	// Output:
	// views: 5
	// path of the row: "/about" <nil>
	// key: 602f61626f75740001
	// encoded: {"path":"/about","seconds":2.5,"views":{"$integer":"BQAAAAAAAAA="}}
	// clean:   {"path":"/about","seconds":2.5,"views":"5"}
}

// Values of different kinds sort by kind, and integers never mix with floats.
func ExampleCompare() {
	values := []value.Value{
		value.String("10"), value.Float64(-1), value.Int64(1000), value.Array(), value.Null(), value.Bool(false), {},
	}
	slices.SortFunc(values, value.Compare)
	for _, v := range values {
		fmt.Println(v.Kind(), v)
	}
	// Output:
	// undefined undefined
	// null null
	// int64 {"$integer":"6AMAAAAAAAA="}
	// float64 -1
	// bool false
	// string "10"
	// array []
}

// Keys of several values compare like the values, one after the other.
func ExampleAppendOrdered() {
	key := func(values ...value.Value) (key []byte) {
		for _, v := range values {
			key = value.AppendOrdered(key, v)
		}
		return key
	}
	a := key(value.String("a"), value.Float64(2))
	b := key(value.String("a"), value.Float64(10))
	c := key(value.String("ab"), value.Float64(1))
	fmt.Println(bytes.Compare(a, b), bytes.Compare(b, c))
	// Output: -1 -1
}

func ExampleParsePatchJSON() {
	fields, unset, err := value.ParsePatchJSON([]byte(`{"title": "New", "draft": {"$undefined": null}}`))
	fmt.Println(fields, unset, err)
	// Output: {"title":"New"} [draft] <nil>
}

func ExampleNewID() {
	id := value.NewID(10001, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), 0x0123456789abcdef)
	fmt.Println(id)
	parsed, err := value.ParseID(id.String())
	fmt.Println(parsed == id, err)
	// Output:
	// j57036vwn668g0938nkrkaydxx7yfamv
	// true <nil>
}
