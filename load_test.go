package halcyon_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
)

type reading struct {
	ID     halcyon.ID[reading] `halcyon:"id"`
	Meter  string              `json:"meter"`
	Value  float64             `json:"value"`
	Broken *bool               `json:"broken"`
}

var readings = halcyon.NewTable[reading]("readings").
	Index("by_meter", "meter", "value").
	Aggregate("byMeter", halcyon.GroupBy("meter"), halcyon.Sum("value"))

type addArgs struct {
	Meter string
	Value float64
}

// meters is a module that reads the table back.
func meters(name string) *halcyon.Module {
	m := halcyon.NewModule(name, readings)
	m.Query("highest", func(tx *halcyon.Tx, args struct{ Meter string }) (reading, error) {
		doc, _, err := readings.By("by_meter").Eq(args.Meter).Desc().First(tx)
		return doc, err
	})
	m.Query("count", func(tx *halcyon.Tx, args struct{ Meter string }) (int, error) {
		n, err := readings.Count("byMeter").Eq(args.Meter).Count(tx)
		return int(n), err
	})
	m.Mutation("add", func(tx *halcyon.Tx, args addArgs) error {
		_, err := readings.Insert(tx, reading{Meter: args.Meter, Value: args.Value})
		return err
	})
	return m
}

func openMeters(t *testing.T, modules ...*halcyon.Module) *halcyon.App {
	t.Helper()
	app, err := halcyon.NewApp(modules...)
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), Seed: 1}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := app.Close(); err != nil {
			t.Error(err)
		}
	})
	return app
}

// someReadings yields n readings of three meters, and then an error, if any.
func someReadings(n int, end error) iter.Seq2[reading, error] {
	return func(yield func(reading, error) bool) {
		for i := range n {
			if !yield(reading{ID: "not an id", Meter: fmt.Sprint(i % 3), Value: float64((i * 7919) % n)}, nil) {
				return
			}
		}
		if end != nil {
			yield(reading{}, end)
		}
	}
}

func TestLoadIsAsIfInserted(t *testing.T) {
	const n = 3000
	loaded, inserted := openMeters(t, meters("m")), openMeters(t, meters("m"))
	out, err := readings.Load(t.Context(), loaded, someReadings(n, nil), nil)
	if err != nil || out.Documents != n {
		t.Fatalf("loaded %d documents, %v; want %d", out.Documents, err, n)
	}
	if loaded.Durable() < out.At {
		t.Error("the load is not durable")
	}
	for doc := range someReadings(n, nil) {
		if err := inserted.Run(t.Context(), "m:add", addArgs{doc.Meter, doc.Value}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, meter := range []string{"0", "1", "2"} {
		args := struct{ Meter string }{meter}
		var got, want reading
		var gotCount, wantCount int
		for _, call := range []struct {
			app    *halcyon.App
			path   string
			result any
		}{{loaded, "m:highest", &got}, {inserted, "m:highest", &want}, {loaded, "m:count", &gotCount}, {inserted, "m:count", &wantCount}} {
			if err := call.app.Run(t.Context(), call.path, args, call.result); err != nil {
				t.Fatal(err)
			}
		}
		if wantCount != n/3 || len(got.ID) != 32 || got.ID == want.ID {
			t.Errorf("meter %s: id %q, want one of its own", meter, got.ID)
		}
		got.ID, want.ID = "", ""
		if got != want || gotCount != wantCount {
			t.Errorf("meter %s: %d readings up to %+v, want %d up to %+v", meter, gotCount, got, wantCount, want)
		}
	}
	// It is a table as any other from then on.
	if err := loaded.Run(t.Context(), "m:add", addArgs{"3", 1}, nil); err != nil {
		t.Error(err)
	}
	if _, err := readings.Load(t.Context(), loaded, someReadings(1, nil), nil); !errors.Is(err, halcyon.ErrTableNotEmpty) {
		t.Errorf("a load into a table with documents: %v, want ErrTableNotEmpty", err)
	}
}

func TestLoadLeavesNothingOfAFailure(t *testing.T) {
	app := openMeters(t, meters("m"))
	count := func() (n int) {
		if err := app.Run(t.Context(), "m:count", struct{ Meter string }{"0"}, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	gone := errors.New("the source is gone")
	if _, err := readings.Load(t.Context(), app, someReadings(100, gone), nil); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := readings.Load(ctx, app, someReadings(100, nil), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if n := count(); n != 0 {
		t.Errorf("%d documents are left of loads that failed", n)
	}
	if _, err := readings.Load(t.Context(), app, someReadings(3, nil), nil); err != nil {
		t.Errorf("a load after one that failed: %v", err)
	}
	if n := count(); n != 1 {
		t.Errorf("%d documents, want 1", n)
	}
}

func TestLoadNeedsOneTable(t *testing.T) {
	app, err := halcyon.NewApp(meters("m"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readings.Load(t.Context(), app, someReadings(1, nil), nil); !errors.Is(err, halcyon.ErrNotOpen) {
		t.Errorf("a closed app: %v", err)
	}
	if _, err := readings.Load(t.Context(), openMeters(t, meters("a"), meters("b")), someReadings(1, nil), nil); err == nil {
		t.Error("a table of two modules was loaded")
	}
	if _, err := readings.Load(t.Context(), openMeters(t, halcyon.NewModule("none")), someReadings(1, nil), nil); err == nil {
		t.Error("a table of no module was loaded")
	}
}

func ExampleTable_Load() {
	type Word struct {
		Text string `json:"text"`
	}
	words := halcyon.NewTable[Word]("words").Index("by_text", "text")
	m := halcyon.NewModule("dictionary", words)
	m.Query("first", func(tx *halcyon.Tx) (string, error) {
		word, _, err := words.By("by_text").First(tx)
		return word.Text, err
	})
	app, err := halcyon.NewApp(m)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := app.Open("data", &halcyon.Options{Engine: engine.Options{FS: vfs.NewMem(), FunctionTimeMax: time.Minute}}); err != nil {
		fmt.Println(err)
		return
	}
	loaded, err := words.Load(context.Background(), app, func(yield func(Word, error) bool) {
		for _, text := range []string{"pear", "apple", "quince"} {
			if !yield(Word{Text: text}, nil) {
				return
			}
		}
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	var first string
	if err := app.Run(context.Background(), "dictionary:first", nil, &first); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(loaded.Documents, "words, the first is", first)
	if err := app.Close(); err != nil {
		fmt.Println(err)
	}
	// Output: 3 words, the first is apple
}
