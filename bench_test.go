package halcyon_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// BenchmarkCodec measures a document of eight fields between its struct and its value.
func BenchmarkCodec(b *testing.B) {
	doc := Visit{ID: "k", Created: t0, Path: "/a/b", At: t0, Weight: 1, Where: &place{"Rome"}, Note: halcyon.NotNull("n"), Tag: "t"}
	encoded, err := halcyon.Encode(doc)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := halcyon.Encode(doc); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		fields := encoded.Fields()
		v := value.Object(fields[2:]...) // without the system fields, as it is stored
		type visit struct {
			Path   string
			At     float64
			Weight float64
			Where  *place
			Note   halcyon.Nullable[string]
			Tag    string `json:"tag,omitempty"`
		}
		var out visit
		for b.Loop() {
			if err := halcyon.Decode(v, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCall measures what a call costs in process, on a database in memory.
func BenchmarkCall(b *testing.B) {
	m, _ := counterModule()
	app, err := halcyon.NewApp(m)
	if err != nil {
		b.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem()}}); err != nil {
		b.Fatal(err)
	}
	defer app.Close()
	args, err := value.ParseJSON([]byte(`{"name":"x"}`))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("mutation", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if out, err := app.Mutation(b.Context(), halcyon.Request{Path: "counters:add", Args: args}); err != nil || out.Failure != nil {
				b.Fatal(out.Failure, err)
			}
		}
	})
	b.Run("query", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if out, err := app.Query(b.Context(), halcyon.Request{Path: "counters:get", Args: args}); err != nil || out.Failure != nil {
				b.Fatal(out.Failure, err)
			}
		}
	})
}

// BenchmarkTable measures a document of eight fields between its struct and the transaction: read from the row cache, and written.
func BenchmarkTable(b *testing.B) {
	var id halcyon.ID[Visit]
	doc := Visit{Path: "/a/b", At: t0, Weight: 1, Where: &place{"Rome"}, Note: halcyon.NotNull("n"), Tag: "t"}
	run := map[string]func(tx *halcyon.Tx) error{
		"insert":  func(tx *halcyon.Tx) (err error) { id, err = visits.Insert(tx, doc); return err },
		"get":     func(tx *halcyon.Tx) error { _, _, err := visits.Get(tx, id); return err },
		"patch":   func(tx *halcyon.Tx) error { return visits.Patch(tx, id, halcyon.Fields{"weight": 2}) },
		"nothing": func(tx *halcyon.Tx) error { return nil },
	}
	m := halcyon.NewModule("visits", visits)
	times := 0
	for name, f := range run {
		m.Internal.Mutation(name, func(tx *halcyon.Tx) error {
			for range times {
				if err := f(tx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	app, err := halcyon.NewApp(m)
	if err != nil {
		b.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem()}}); err != nil {
		b.Fatal(err)
	}
	defer app.Close()
	times = 1
	if err := app.Run(b.Context(), "visits:insert", nil, nil); err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"get", "patch", "insert"} {
		b.Run(name, func(b *testing.B) {
			times = 1000
			b.ReportAllocs()
			for i := 0; i < b.N; i += times {
				if err := app.Run(b.Context(), "visits:"+name, nil, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
