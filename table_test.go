package halcyon_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

type place struct{ City string }

// Visit is a document with a field of most kinds.
type Visit struct {
	ID      halcyon.ID[Visit] `halcyon:"id"`
	Created time.Time         `halcyon:"creationTime"`
	Path    string
	At      time.Time
	Weight  float64
	Where   *place
	Note    halcyon.Nullable[string]
	Tag     string `json:"tag,omitempty"`
}

var visits = halcyon.NewTable[Visit]("visits").
	Index("by_path_at", "path", "at").
	Index("by_city", "where.city").
	Index("by_tag", "tag").
	Aggregate("per_path", halcyon.GroupBy("path"), halcyon.OrderBy("at"))

// inTx runs f as a mutation or a query.
func inTx(t *testing.T, app *halcyon.App, kind string, f func(*halcyon.Tx) error) {
	t.Helper()
	current = f
	if err := app.Run(t.Context(), "visits:"+kind, nil, nil); err != nil {
		t.Fatal(err)
	}
}

// current is what the functions of visitsModule do; tests of this file do not run in parallel.
var current func(*halcyon.Tx) error

func visitsModule() *halcyon.Module {
	m := halcyon.NewModule("visits", visits)
	m.Internal.Mutation("write", func(tx *halcyon.Tx) error { return current(tx) })
	m.Internal.Query("read", func(tx *halcyon.Tx) error { return current(tx) })
	return m
}

var t0 = time.UnixMilli(1_700_000_000_000).UTC()

func visitApp(t *testing.T) (*halcyon.App, []halcyon.ID[Visit]) {
	app := openApp(t, halcyon.Options{ShowErrors: true}, visitsModule())
	var ids []halcyon.ID[Visit]
	inTx(t, app, "write", func(tx *halcyon.Tx) error {
		ids = nil
		for i, v := range []Visit{
			{Path: "/a", Tag: "x", Where: &place{"Rome"}}, {Path: "/b", Note: halcyon.NotNull("n")}, {Path: "/a", Tag: "y"}, {Path: "/a"}, {Path: "/c"},
		} {
			v.At, v.Weight = t0.Add(time.Duration(i)*time.Minute), float64(i)
			id, err := visits.Insert(tx, v)
			if err != nil {
				return err
			}
			ids = append(ids, id)
		}
		return nil
	})
	return app, ids
}

func TestDocuments(t *testing.T) {
	app, ids := visitApp(t)
	get := func(tx *halcyon.Tx, i int) Visit {
		v, ok, err := visits.Get(tx, ids[i])
		if err != nil || !ok {
			t.Fatalf("Get(%s): %v, %v", ids[i], ok, err)
		}
		if v.ID != ids[i] || time.Since(v.Created) > time.Hour || v.Created.IsZero() {
			t.Errorf("Get(%s) has id %s and creation time %v", ids[i], v.ID, v.Created)
		}
		v.ID, v.Created = "", time.Time{}
		return v
	}
	inTx(t, app, "write", func(tx *halcyon.Tx) error {
		if diff := cmp.Diff(Visit{Path: "/a", At: t0, Tag: "x", Where: &place{"Rome"}}, get(tx, 0)); diff != "" {
			t.Errorf("what was inserted (-want +got):\n%s", diff)
		}
		if err := visits.Patch(tx, ids[0], halcyon.Fields{"weight": 9, "tag": nil, "where": place{"Oslo"}, "note": "new"}); err != nil {
			return err
		}
		if diff := cmp.Diff(Visit{Path: "/a", At: t0, Weight: 9, Where: &place{"Oslo"}, Note: halcyon.NotNull("new")}, get(tx, 0)); diff != "" {
			t.Errorf("after a patch (-want +got):\n%s", diff)
		}
		if err := visits.Patch(tx, ids[0], halcyon.Fields{"where": (*place)(nil), "note": nil, "tag": ""}); err != nil {
			return err
		}
		if n, err := visits.By("by_tag").Eq(nil).Collect(tx); err != nil || len(n) != 4 {
			t.Errorf("%d documents without a tag, %v; want 4", len(n), err)
		}
		if got := get(tx, 0); got.Where != nil || got.Note.Valid {
			t.Errorf("after a patch that removes: %+v", got)
		}
		if err := visits.Replace(tx, ids[1], Visit{ID: "ignored", Path: "/z", At: t0}); err != nil {
			return err
		}
		if diff := cmp.Diff(Visit{Path: "/z", At: t0}, get(tx, 1)); diff != "" {
			t.Errorf("after a replacement (-want +got):\n%s", diff)
		}
		if err := visits.Delete(tx, ids[2]); err != nil {
			return err
		}
		if _, ok, err := visits.Get(tx, ids[2]); ok || err != nil {
			t.Errorf("Get of a deleted document: %v, %v", ok, err)
		}
		if err := visits.Patch(tx, ids[2], halcyon.Fields{"weight": 1}); !errors.Is(err, engine.ErrNoDocument) {
			t.Errorf("Patch of a deleted document: %v", err)
		}
		return nil
	})
}

func TestWritesThatAreRefused(t *testing.T) {
	app, ids := visitApp(t)
	foreign := value.NewID(99, t0, 1).String()
	tests := []struct {
		name, kind string
		do         func(*halcyon.Tx) error
		want       string
	}{
		{"unknown field", "write", func(tx *halcyon.Tx) error { return visits.Patch(tx, ids[0], halcyon.Fields{"weigth": 1}) }, `has no field "weigth"`},
		{"system field", "write", func(tx *halcyon.Tx) error { return visits.Patch(tx, ids[0], halcyon.Fields{"_id": ids[1]}) }, `has no field "_id"`},
		{"wrong type", "write", func(tx *halcyon.Tx) error { return visits.Patch(tx, ids[0], halcyon.Fields{"weight": "1"}) }, "string does not fit float64"},
		{"required field removed", "write", func(tx *halcyon.Tx) error { return visits.Patch(tx, ids[0], halcyon.Fields{"path": nil}) }, "nil does not fit string"},
		{"not an id", "write", func(tx *halcyon.Tx) error { return visits.Delete(tx, "nonsense") }, `"nonsense" is not the id of a document of table visits`},
		{"id of another table", "write", func(tx *halcyon.Tx) error { return visits.Delete(tx, halcyon.ID[Visit](foreign)) }, "another table"},
		{"too large", "write", func(tx *halcyon.Tx) error {
			_, err := visits.Insert(tx, Visit{Path: strings.Repeat("x", 1<<20)})
			return err
		}, "document size"},
		{"in a query", "read", func(tx *halcyon.Tx) error { _, err := visits.Insert(tx, Visit{}); return err }, engine.ErrReadOnly.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			current = tt.do
			if err := app.Run(t.Context(), "visits:"+tt.kind, nil, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}

func TestQueries(t *testing.T) {
	app, ids := visitApp(t)
	at := func(i int) time.Time { return t0.Add(time.Duration(i) * time.Minute) }
	q := visits.By("by_path_at")
	tests := []struct {
		name  string
		query halcyon.Query[Visit]
		want  []float64 // weights, which are the order of insertion
	}{
		{"all", visits.All(), []float64{0, 1, 2, 3, 4}},
		{"all, last first", visits.All().Desc(), []float64{4, 3, 2, 1, 0}},
		{"an index", q, []float64{0, 2, 3, 1, 4}},
		{"equal", q.Eq("/a"), []float64{0, 2, 3}},
		{"equal, last first", q.Eq("/a").Desc(), []float64{3, 2, 0}},
		{"equal in two fields", q.Eq("/a", at(2)), []float64{2}},
		{"equal, one field at a time", q.Eq("/a").Eq(at(2)), []float64{2}},
		{"above", q.Eq("/a").Gt(at(0)), []float64{2, 3}},
		{"from", q.Eq("/a").Gte(at(2)), []float64{2, 3}},
		{"below", q.Eq("/a").Lt(at(2)), []float64{0}},
		{"between", q.Eq("/a").Gt(at(0)).Lte(at(2)), []float64{2}},
		{"bounds on the first field", q.Gte("/b"), []float64{1, 4}},
		{"nothing", q.Eq("/x"), []float64{}},
		{"dotted", visits.By("by_city").Eq("Rome"), []float64{0}},
		{"absent", visits.By("by_city").Eq(nil), []float64{1, 2, 3, 4}},
		{"zero that is left out", visits.By("by_tag").Eq(""), []float64{1, 3, 4}},
		{"absent is least", visits.By("by_tag").Gt(nil), []float64{0, 2}},
		{"by id", visits.By("by_id").Eq(ids[3]), []float64{3}},
		{"by creation time", visits.All().Gt(t0), []float64{0, 1, 2, 3, 4}},
		{"by creation time, none so late", visits.All().Gt(time.Now().Add(time.Hour)), []float64{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inTx(t, app, "read", func(tx *halcyon.Tx) error {
				docs, err := tt.query.Collect(tx)
				if err != nil {
					return err
				}
				got := []float64{}
				for _, d := range docs {
					got = append(got, d.Weight)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("Collect (-want +got):\n%s", diff)
				}
				two, err := tt.query.Take(tx, 2)
				if err != nil || len(two) != min(2, len(docs)) {
					t.Errorf("Take(2) = %d documents, %v", len(two), err)
				}
				first, ok, err := tt.query.First(tx)
				if err != nil || ok != (len(docs) > 0) || ok && first.ID != docs[0].ID {
					t.Errorf("First = %s, %v, %v", first.ID, ok, err)
				}
				only, ok, err := tt.query.Unique(tx)
				switch {
				case len(docs) > 1:
					want := "unique() query returned more than one result from table visits: [" + string(docs[0].ID) + ", " + string(docs[1].ID) + ", ...]"
					if !errors.Is(err, halcyon.ErrNotUnique) || err.Error() != want {
						t.Errorf("Unique: %v\nwant %s", err, want)
					}
				case err != nil || ok != (len(docs) == 1) || ok && only.ID != docs[0].ID:
					t.Errorf("Unique = %s, %v, %v", only.ID, ok, err)
				}
				return nil
			})
		})
	}
}

func TestQueriesThatCanNotBe(t *testing.T) {
	app, _ := visitApp(t)
	q := visits.By("by_path_at")
	tests := []struct {
		name  string
		query halcyon.Query[Visit]
		want  string
	}{
		{"unknown index", visits.By("by_path"), `table visits has no index "by_path"`},
		{"wrong type", q.Eq(5), "index by_path_at of table visits: field path: int does not fit string"},
		{"wrong type after a right one", q.Eq("/a", 5).Gt(t0), "field at: int does not fit time.Time"},
		{"equal after a bound", q.Gt("/a").Eq(t0), "InvalidIndexRange"},
		{"too many", q.Eq("/a", t0, t0, t0), "InvalidIndexRange"},
		{"bound after all fields", q.Eq("/a", t0, t0).Gt(t0), "InvalidIndexRange"},
		{"two lower bounds", q.Gt("/a").Gte("/b"), "AlreadyDefinedBound"},
		{"two upper bounds", q.Lt("/a").Lte("/b"), "AlreadyDefinedBound"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inTx(t, app, "read", func(tx *halcyon.Tx) error {
				_, _, first := tt.query.First(tx)
				_, take := tt.query.Take(tx, 0)
				_, _, unique := tt.query.Unique(tx)
				for _, err := range []error{first, take, unique} {
					if err == nil || !strings.Contains(err.Error(), tt.want) {
						t.Errorf("error %v, want %q in it", err, tt.want)
					}
				}
				return nil
			})
		})
	}
}

func TestQueriesAreValues(t *testing.T) {
	app, _ := visitApp(t)
	inTx(t, app, "read", func(tx *halcyon.Tx) error {
		base := visits.By("by_path_at").Eq("/a")
		one, other := base.Eq(t0), base.Eq(t0.Add(2*time.Minute))
		for want, q := range map[float64]halcyon.Query[Visit]{0: one, 2: other} {
			if v, ok, err := q.Unique(tx); err != nil || !ok || v.Weight != want {
				t.Errorf("narrowed to %v: %v, %v, %v", want, v.Weight, ok, err)
			}
		}
		return nil
	})
}

func TestCounts(t *testing.T) {
	app, _ := visitApp(t)
	count := visits.Count("per_path")
	tests := []struct {
		name  string
		count halcyon.Counter[Visit]
		want  int64
	}{
		{"all", count, 5},
		{"group", count.Eq("/a"), 3},
		{"range", count.Eq("/a").Gt(t0), 2},
		{"range to", count.Eq("/a").Gte(t0).Lt(t0.Add(3 * time.Minute)), 2},
		{"one", count.Eq("/a", t0), 1},
		{"groups by range", count.Gte("/b"), 2},
		{"none", count.Eq("/x"), 0},
	}
	inTx(t, app, "read", func(tx *halcyon.Tx) error {
		for _, tt := range tests {
			if got, err := tt.count.Count(tx); err != nil || got != tt.want {
				t.Errorf("%s: %d, %v; want %d", tt.name, got, err, tt.want)
			}
		}
		groups := map[string]int64{}
		for g, err := range count.Groups(tx) {
			var path string
			if err := errors.Join(err, g.Decode(&path)); err != nil {
				return err
			}
			groups[path] = g.Count
		}
		if diff := cmp.Diff(map[string]int64{"/a": 3, "/b": 1, "/c": 1}, groups); diff != "" {
			t.Errorf("groups (-want +got):\n%s", diff)
		}
		for name, c := range map[string]halcyon.Counter[Visit]{"no aggregate": visits.Count("per_day"), "type": count.Eq(5), "fields": count.Eq("/a", t0, t0)} {
			if _, err := c.Count(tx); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		for name, tt := range map[string]struct {
			count halcyon.Counter[Visit]
			fails bool
			want  int64
		}{
			"one group": {count.Eq("/a"), false, 3}, "no group": {count.Eq("/x"), false, 0},
			"a part of a group": {count.Eq("/a", t0), true, 0}, "a range": {count.Gte("/b"), true, 0},
		} {
			n, failed := int64(0), false
			for g, err := range tt.count.Groups(tx) {
				n, failed = n+g.Count, failed || err != nil
			}
			if n != tt.want || failed != tt.fails {
				t.Errorf("groups narrowed to %s: %d documents, an error: %v; want %d, %v", name, n, failed, tt.want, tt.fails)
			}
		}
		return nil
	})
}

func TestTablesOfOtherModules(t *testing.T) {
	shared := halcyon.NewTable[Counter]("counters")
	count := func(tx *halcyon.Tx) (int, error) {
		docs, err := shared.All().Collect(tx)
		return len(docs), err
	}
	module := func(name string, tables ...halcyon.TableDef) *halcyon.Module {
		m := halcyon.NewModule(name, tables...)
		m.Query("count", count)
		m.Mutation("add", func(tx *halcyon.Tx) error { _, err := shared.Insert(tx, Counter{}); return err })
		return m
	}
	run := func(app *halcyon.App, path string) (n int, err error) { return n, app.Run(t.Context(), path, nil, &n) }

	app := openApp(t, halcyon.Options{ShowErrors: true}, module("owner", shared), module("reader"))
	if err := app.Run(t.Context(), "owner:add", nil, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := run(app, "reader:count"); n != 1 || err != nil {
		t.Errorf("the reader counts %d, %v; want 1", n, err)
	}

	app = openApp(t, halcyon.Options{ShowErrors: true}, module("one", shared), module("two", shared), module("reader"))
	if err := app.Run(t.Context(), "one:add", nil, nil); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{"one:count": 1, "two:count": 0} {
		if n, err := run(app, path); n != want || err != nil {
			t.Errorf("%s = %d, %v; want %d", path, n, err, want)
		}
	}
	if _, err := run(app, "reader:count"); err == nil || !strings.Contains(err.Error(), "modules one and two") {
		t.Errorf("a reader of two mounts: %v", err)
	}

	app = openApp(t, halcyon.Options{ShowErrors: true}, module("reader"))
	if _, err := run(app, "reader:count"); err == nil || !strings.Contains(err.Error(), "not listed by any module") {
		t.Errorf("a table nobody lists: %v", err)
	}
}

func TestIDsOfArgumentsAreChecked(t *testing.T) {
	type args struct{ Visit halcyon.ID[Visit] }
	other, counters := counterModule()
	m := halcyon.NewModule("m")
	m.Query("get", func(tx *halcyon.Tx, a args) (*Visit, error) {
		v, ok, err := visits.Get(tx, a.Visit)
		if !ok {
			return nil, err
		}
		return &v, err
	})
	m.Mutation("addCounter", func(tx *halcyon.Tx) (halcyon.ID[Counter], error) { return counters.Insert(tx, Counter{}) })
	m.Mutation("addVisit", func(tx *halcyon.Tx) (halcyon.ID[Visit], error) { return visits.Insert(tx, Visit{Path: "/x", At: t0}) })
	app := openApp(t, halcyon.Options{}, visitsModule(), other, m)
	var visit, counter string
	if err := errors.Join(app.Run(t.Context(), "m:addVisit", nil, &visit), app.Run(t.Context(), "m:addCounter", nil, &counter)); err != nil {
		t.Fatal(err)
	}
	call := func(id string) halcyon.Outcome {
		out, err := app.Query(t.Context(), halcyon.Request{Path: "m:get", Args: parse(t, `{"visit":"`+id+`"}`)})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	if out := call(visit); out.Failure != nil || toJSON(out.Value.Get("_id")) != `"`+visit+`"` || toJSON(out.Value.Get("path")) != `"/x"` {
		t.Errorf("a visit: %s, %v", toJSON(out.Value), out.Failure)
	}
	want := `ArgumentValidationError: Found ID "` + counter + "\" from table `counters`, which does not match the table name in validator `v.id(\"visits\")`.Path: .visit"
	if out := call(counter); out.Failure == nil || out.Failure.Message != want {
		t.Errorf("a counter: %+v, want %s", out, want)
	}
	absent := value.ID{Table: mustParseID(t, visit).Table}.String()
	if out := call(absent); out.Failure != nil || !out.Value.IsNull() {
		t.Errorf("no such visit: %+v, want null", out)
	}
}

func mustParseID(t *testing.T, s string) value.ID {
	t.Helper()
	id, err := value.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
