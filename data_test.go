package halcyon_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// part is a document of parts.
type part struct {
	Name  string  `json:"name"`
	Price float64 `json:"price"`
}

var parts = halcyon.NewTable[part]("parts").Index("by_name", "name").Unique("by_price", "price")

func openParts(t *testing.T) *halcyon.App {
	t.Helper()
	return openApp(t, halcyon.Options{}, halcyon.NewModule("shop", parts), halcyon.NewModule("attic", halcyon.NewTable[part]("parts")))
}

// objects is a sequence of JSON objects; a text that is none is the error that ends it.
func objects(texts ...string) iter.Seq2[value.Value, error] {
	return func(yield func(value.Value, error) bool) {
		for _, text := range texts {
			v, err := value.ParseJSON([]byte(text))
			if !yield(v, err) || err != nil {
				return
			}
		}
	}
}

func names(t *testing.T, app *halcyon.App, q halcyon.StoredQuery) string {
	t.Helper()
	q.Table = "shop/parts"
	if q.Limit == 0 {
		q.Limit = 2
	}
	var out []string
	for {
		page, err := app.StoredDocuments(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Documents {
			name, _ := d.Get("name").AsString()
			out = append(out, name)
		}
		if q.Cursor = page.Next; page.Done {
			return strings.Join(out, " ")
		}
	}
}

func TestImport(t *testing.T) {
	app := openParts(t)
	three := []string{`{"name":"a","price":1}`, `{"name":"b","price":2}`, `{"name":"c","price":3}`}
	text, number := value.String, value.Float64
	tests := []struct {
		name    string
		mode    halcyon.ImportMode
		given   []string
		problem string // of the error, empty for none
		does    halcyon.Imported
		left    string // names by creation time
	}{
		{"what does not fit, into an empty table", "", []string{three[0], `{"name":"x"}`}, "document 2: it does not fit", halcyon.Imported{Taken: 1}, ""},
		{"no object", "", []string{`7`}, "document 1: it is not an object", halcyon.Imported{}, ""},
		{"a bad id", "", []string{`{"_id":"x","name":"x","price":1}`}, "document 1: _id: ", halcyon.Imported{}, ""},
		{"an unknown mode", "sideways", three, "none of empty, append, replace and check", halcyon.Imported{}, ""},
		{"two with one price", "", []string{three[0], three[0]}, "by_price", halcyon.Imported{Taken: 2}, ""},
		{"three", "", three, "", halcyon.Imported{Taken: 3, Inserted: 3}, "a b c"},
		{"again", "", three, "must hold nothing", halcyon.Imported{}, "a b c"},
		{"one more, and one that cannot be read", halcyon.ImportAppend, []string{`{"name":"d","price":4}`, `{`}, "expected", halcyon.Imported{Taken: 1, Inserted: 1}, "a b c d"},
		{"one with a price that is there", halcyon.ImportAppend, []string{`{"name":"e","price":5}`, `{"name":"x","price":2}`}, "document 2: ", halcyon.Imported{Taken: 2}, "a b c d"},
		{"only looked at, though the table is not empty", halcyon.ImportCheck, three, "", halcyon.Imported{Taken: 3}, "a b c d"},
		{"what does not fit, only looked at", halcyon.ImportCheck, []string{three[0], `{"name":"x"}`}, "document 2: it does not fit", halcyon.Imported{Taken: 1}, "a b c d"},
		{"one in place of all", halcyon.ImportReplace, []string{`{"name":"z","price":9}`}, "", halcyon.Imported{Taken: 1, Inserted: 1, Removed: 4}, "z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.does.Table = "shop/parts"
			got, err := app.Import(t.Context(), "shop/parts", objects(tt.given...), halcyon.ImportOptions{Mode: tt.mode})
			if got != tt.does || (err == nil) != (tt.problem == "") || err != nil && !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("it does %+v, %v, want %+v, %q", got, err, tt.does, tt.problem)
			}
			if left := names(t, app, halcyon.StoredQuery{}); left != tt.left {
				t.Errorf("left is %q, want %q", left, tt.left)
			}
		})
	}

	// An import that is repeated passes over what is there, and refuses what is there with other content.
	page, err := app.StoredDocuments(t.Context(), halcyon.StoredQuery{Table: "shop/parts", Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	z := page.Documents[0]
	many := func(yield func(value.Value, error) bool) {
		if !yield(z, nil) {
			return
		}
		for i := range 1500 {
			if !yield(value.Object(value.Field{Name: "name", Value: text(fmt.Sprint("n", i))}, value.Field{Name: "price", Value: number(float64(100 + i))}), nil) {
				return
			}
		}
	}
	if got, err := app.Import(t.Context(), "shop/parts", many, halcyon.ImportOptions{Mode: halcyon.ImportAppend}); err != nil || got.Known != 1 || got.Inserted != 1500 {
		t.Errorf("an import of which one document is there: %+v, %v", got, err)
	}
	changed := value.Patched(z, value.Object(value.Field{Name: "name", Value: text("other")}))
	other := func(yield func(value.Value, error) bool) { yield(changed, nil) }
	var bad *halcyon.ImportError
	if _, err := app.Import(t.Context(), "shop/parts", other, halcyon.ImportOptions{Mode: halcyon.ImportAppend}); !errors.As(err, &bad) || bad.Document != 1 || !errors.Is(err, engine.ErrDocumentExists) {
		t.Errorf("a document that is there with other content: %v", err)
	}
	if got, err := app.Import(t.Context(), "attic/parts", other, halcyon.ImportOptions{}); err == nil || !strings.Contains(err.Error(), "another table") {
		t.Errorf("an id of another table: %+v, %v", got, err)
	}
	if got, err := app.Import(t.Context(), "attic/parts", other, halcyon.ImportOptions{NewIDs: true}); err != nil || got.Inserted != 1 {
		t.Errorf("a new id in its place: %+v, %v", got, err)
	}
	report, err := app.Verify(t.Context(), nil)
	if err != nil || !report.OK() {
		t.Errorf("verify: %+v, %v", report, err)
	}
}

func TestStoredDocuments(t *testing.T) {
	app := openParts(t)
	var given []string
	for i, name := range []string{"b", "a", "d", "c", "e"} {
		given = append(given, fmt.Sprintf(`{"name":%q,"price":%d}`, name, i))
	}
	if _, err := app.Import(t.Context(), "shop/parts", objects(given...), halcyon.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	bound := func(v value.Value) *engine.Bound { return &engine.Bound{Value: v, Inclusive: true} }
	for _, tt := range []struct {
		q    halcyon.StoredQuery
		want string
	}{
		{halcyon.StoredQuery{}, "b a d c e"},
		{halcyon.StoredQuery{Desc: true}, "e c d a b"},
		{halcyon.StoredQuery{Index: "by_name"}, "a b c d e"},
		{halcyon.StoredQuery{Index: "by_name", Range: engine.Range{Lower: bound(value.String("b")), Upper: bound(value.String("d"))}}, "b c d"},
		{halcyon.StoredQuery{Index: "by_price", Range: engine.Range{Eq: []value.Value{value.Float64(2)}}}, "d"},
		{halcyon.StoredQuery{Index: "by_name", Desc: true, Limit: 100}, "e d c b a"},
	} {
		if got := names(t, app, tt.q); got != tt.want {
			t.Errorf("%+v gives %q, want %q", tt.q, got, tt.want)
		}
	}
	for _, tt := range []struct {
		q    halcyon.StoredQuery
		want error
	}{
		{halcyon.StoredQuery{Table: "parts", Limit: 1}, halcyon.ErrUnknownTable}, // two modules have it
		{halcyon.StoredQuery{Table: "none", Limit: 1}, halcyon.ErrUnknownTable},
		{halcyon.StoredQuery{Table: "_system/adminKeys", Limit: 1}, halcyon.ErrUnknownTable},
		{halcyon.StoredQuery{Table: "shop/parts", Index: "none", Limit: 1}, halcyon.ErrUnknownIndex},
		{halcyon.StoredQuery{Table: "shop/parts", Cursor: "x", Limit: 1}, engine.ErrInvalidCursor},
	} {
		if _, err := app.StoredDocuments(t.Context(), tt.q); !errors.Is(err, tt.want) {
			t.Errorf("%+v gives %v, want %v", tt.q, err, tt.want)
		}
	}
	tables, err := app.StoredTables(t.Context())
	if err != nil || len(tables) < 2 || tables[0].Name != "shop/parts" || tables[0].Documents != 5 || len(tables[0].Indexes) != 2 || !tables[0].Indexes[1].Unique {
		t.Errorf("the tables are %+v, %v", tables, err)
	}
}
