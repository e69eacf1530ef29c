package halcyon_test

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Product is a document that many write to.
type Product struct {
	ID     halcyon.ID[Product] `halcyon:"id"`
	Code   string
	Stock  int
	Views  int64
	Seen   time.Time `json:"seen,omitzero"`
	Stored *time.Time
	First  *string
	Tags   []string `json:"tags,omitempty"`
	Small  int8     `json:"small,omitzero"`
}

var products = halcyon.NewTable[Product]("products").Unique("by_code", "code").Index("by_stored", "stored")

// productApp runs do as the mutation products:do, and its app has one product.
func productApp(t *testing.T, do func(tx *halcyon.Tx, id halcyon.ID[Product]) error) (app *halcyon.App, id halcyon.ID[Product], get func() Product) {
	var got Product
	m := halcyon.NewModule("products", products)
	m.Internal.Mutation("add", func(tx *halcyon.Tx) (err error) {
		id, err = products.Insert(tx, Product{Code: "a", Stock: 10})
		return err
	})
	m.Mutation("do", func(tx *halcyon.Tx) error { return do(tx, id) })
	m.Internal.Query("get", func(tx *halcyon.Tx) (err error) {
		got, _, err = products.Get(tx, id)
		return err
	})
	app = openApp(t, halcyon.Options{}, m)
	if err := app.Run(t.Context(), "products:add", nil, nil); err != nil {
		t.Fatal(err)
	}
	return app, id, func() Product {
		t.Helper()
		if err := app.Run(t.Context(), "products:get", nil, nil); err != nil {
			t.Fatal(err)
		}
		return got
	}
}

func TestApply(t *testing.T) {
	seen := t0.Add(time.Minute)
	refusing, _, _ := productApp(t, func(tx *halcyon.Tx, id halcyon.ID[Product]) error {
		return products.Apply(tx, id, halcyon.Add("views", 1), halcyon.Min("code", "a"))
	})
	before := time.Now().Add(-time.Second)
	if err := refusing.Run(t.Context(), "products:do", nil, nil); err == nil || !strings.Contains(err.Error(), "Server Error") {
		t.Errorf("an operation on a unique field: %v", err)
	}
	app, id, get := productApp(t, func(tx *halcyon.Tx, id halcyon.ID[Product]) error {
		return products.Apply(tx, id,
			halcyon.Add("stock", -3).AtLeast(0), halcyon.Add("views", 1), halcyon.Max("seen", seen), halcyon.CommitTime("stored"),
			halcyon.SetIfAbsent("first", "ann"), halcyon.SetInsert("tags", "b"), halcyon.SetInsert("tags", "a"))
	})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := app.Run(t.Context(), "products:do", nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := get()
	if got.Stored == nil || got.Stored.Before(before) {
		t.Errorf("it was stored at %v, after %v", got.Stored, before)
	}
	first := "ann"
	want := Product{ID: id, Code: "a", Stock: 1, Views: 3, Seen: seen, Stored: got.Stored, First: &first, Tags: []string{"a", "b"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the document (-want +got):\n%s", diff)
	}

	// There is one left and three are wanted: a client is told so.
	out, err := app.Mutation(t.Context(), halcyon.Request{Path: "products:do"})
	if err != nil || out.Failure == nil {
		t.Fatalf("past the bound: %+v, %v", out, err)
	}
	if code, _ := out.Failure.Data.Get("code").AsString(); code != "OutOfBounds" || get().Stock != 1 {
		t.Errorf("past the bound: the failure is %v, the stock %d", out.Failure.Data, get().Stock)
	}
}

func TestApplyRefused(t *testing.T) {
	for _, c := range []struct {
		op   halcyon.Op
		want string
	}{
		{halcyon.Add("nothing", 1), `has no field "nothing"`},
		{halcyon.Add("_id", 1), `has no field "_id"`},
		{halcyon.Add("code", 1), "want a number"},
		{halcyon.Add("stock", 0.5), "0.5 does not fit int"},
		{halcyon.Add("stock", 1).AtMost("x"), "string does not fit int"},
		{halcyon.Max("stock", "x"), "string does not fit int"},
		{halcyon.Max("stock", nil), "nil does not fit int"},
		{halcyon.SetInsert("tags", 1), "int does not fit string"},
		{halcyon.SetInsert("stock", 1), "want a slice"},
		{halcyon.CommitTime("stock"), "want time.Time or float64"},
		{halcyon.Max("code", "b"), "unique index by_code"},
	} {
		var got error
		app, _, _ := productApp(t, func(tx *halcyon.Tx, id halcyon.ID[Product]) error {
			got = products.Apply(tx, id, c.op)
			return nil
		})
		if err := app.Run(t.Context(), "products:do", nil, nil); err != nil {
			t.Fatal(err)
		}
		if got == nil || !strings.Contains(got.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.op, got, c.want)
		}
	}
}

// TestApplyFitsTheStruct: a sum that the field's type does not hold is out of
// bounds, so that every document can be read.
func TestApplyFitsTheStruct(t *testing.T) {
	app, _, get := productApp(t, func(tx *halcyon.Tx, id halcyon.ID[Product]) error {
		return products.Apply(tx, id, halcyon.Add("small", 100))
	})
	if err := app.Run(t.Context(), "products:do", nil, nil); err != nil {
		t.Fatal(err)
	}
	var told *halcyon.Error
	if err := app.Run(t.Context(), "products:do", nil, nil); !errors.As(err, &told) || told.Code != "OutOfBounds" {
		t.Errorf("the second addition: %v", err)
	}
	if got := get().Small; got != 100 {
		t.Errorf("it is %d", got)
	}
}

func TestUpsert(t *testing.T) {
	stock := 0
	var inserted bool
	app, id, get := productApp(t, func(tx *halcyon.Tx, id halcyon.ID[Product]) (err error) {
		stock++
		_, inserted, err = products.Upsert(tx, "by_code", Product{Code: []string{"a", "b"}[stock/2], Stock: stock})
		return err
	})
	for i, want := range []bool{false, true, false} {
		if i == 2 {
			stock = 0
		}
		if err := app.Run(t.Context(), "products:do", nil, nil); err != nil || inserted != want {
			t.Errorf("upsert %d: %v, inserted %v, want %v", i, err, inserted, want)
		}
	}
	if got := get(); got.Stock != 1 || got.ID != id {
		t.Errorf("the document is %+v", got)
	}
	app, _, _ = productApp(t, func(tx *halcyon.Tx, id halcyon.ID[Product]) error {
		_, err := products.Insert(tx, Product{Code: "a"})
		return err
	})
	out, err := app.Mutation(t.Context(), halcyon.Request{Path: "products:do", Args: value.Object()})
	if err != nil || out.Failure == nil {
		t.Errorf("a second product with the same code: %+v, %v", out, err)
	}
}

// TestRelaxed: a relaxed mutation is answered before it is durable, and queries
// see it when it is.
func TestRelaxed(t *testing.T) {
	n := 0
	m := halcyon.NewModule("products", products)
	m.Mutation("touch", func(tx *halcyon.Tx) error {
		_, _, err := products.Upsert(tx, "by_code", Product{Code: "a"})
		return err
	}, halcyon.Relaxed())
	m.Query("count", func(tx *halcyon.Tx) (err error) {
		all, err := products.All().Take(tx, 10)
		n = len(all)
		return err
	})
	clock := newFakeClock(t0)
	app := openApp(t, halcyon.Options{Engine: engine.Options{Clock: clock}}, m)
	if err := app.Run(t.Context(), "products:touch", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := app.Run(t.Context(), "products:count", nil, nil); err != nil || n != 0 {
		t.Errorf("at once: %d documents, %v", n, err)
	}
	clock.set(clock.Now().Add(20 * time.Millisecond))
	out, err := app.Mutation(t.Context(), halcyon.Request{Path: "products:touch", Early: true})
	if err != nil || out.Failure != nil {
		t.Fatal(out.Failure, err)
	}
	clock.set(clock.Now().Add(20 * time.Millisecond))
	for app.Durable() < out.At {
		runtime.Gosched()
	}
	if err := app.Run(t.Context(), "products:count", nil, nil); err != nil || n != 1 {
		t.Errorf("when it is durable: %d documents, %v", n, err)
	}
}
