package engine_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/enginetest"
	"github.com/halcyon-db/halcyon/engine/value"
)

var pagesSchema = engine.Schema{Tables: []engine.TableDef{{
	Name:    "items",
	Indexes: []engine.IndexDef{{Name: "by_list_n", Fields: []string{"list", "n"}}},
}}}

func itemNames(docs []engine.Document) []string {
	out := []string{}
	for _, d := range docs {
		s, _ := d.Fields.Get("name").AsString()
		out = append(out, s)
	}
	return out
}

// pagesDB returns a database with one list of documents in it, named a to the last.
func pagesDB(t testing.TB, n int) *engine.DB {
	db := enginetest.Open(t, pagesSchema)
	mutate(t, db, func(tx *engine.Tx) error {
		for i := range n {
			if _, err := tx.Insert(db.Table("items"), fields("list", "x", "n", i, "name", string(rune('a'+i)))); err != nil {
				return err
			}
		}
		return nil
	})
	return db
}

func page(t testing.TB, db *engine.DB, desc bool, req engine.PageRequest) (p engine.Page) {
	t.Helper()
	query(t, db, func(tx *engine.Tx) (err error) {
		p, err = tx.Page(db.Table("items").Index("by_list_n"), eq("x"), desc, req)
		return err
	})
	return p
}

// TestPagesCoverARange changes a list at random while pages over it stay, each with its end pinned to where it was: together they must
// always be the list, nothing missed and nothing twice.
func TestPagesCoverARange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		db := enginetest.Open(t, pagesSchema)
		items := db.Table("items")
		desc := rapid.Bool().Draw(rt, "desc")
		ids := map[string]value.ID{}
		type pinned struct{ cursor, end string }
		pages := []pinned{}
		next := ""
		for step := range rapid.IntRange(1, 25).Draw(rt, "steps") {
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0, 1:
				name := fmt.Sprint("i", step)
				ids[name] = insert(t, db, "items", fields("list", "x", "n", rapid.IntRange(0, 5).Draw(rt, "n"), "name", name))
			case 2:
				if len(ids) > 0 {
					name := rapid.SampledFrom(slices.Sorted(maps.Keys(ids))).Draw(rt, "gone")
					mutate(t, db, func(tx *engine.Tx) error { return tx.Delete(items, ids[name]) })
					delete(ids, name)
				}
			case 3:
				p := page(t, db, desc, engine.PageRequest{Cursor: next, Limit: rapid.IntRange(1, 4).Draw(rt, "limit")})
				if len(pages) == 0 || !p.Done || next != p.Next {
					pages = append(pages, pinned{next, p.Next})
				}
				next = p.Next
			}
			var want, got []string
			query(t, db, func(tx *engine.Tx) error {
				for d, err := range tx.Scan(items.Index("by_list_n"), eq("x"), desc) {
					if err != nil {
						return err
					}
					want = append(want, itemNames([]engine.Document{d})...)
				}
				return nil
			})
			for _, at := range pages {
				p := page(t, db, desc, engine.PageRequest{Cursor: at.cursor, End: at.end})
				got = append(got, itemNames(p.Documents)...)
				if p.Split == "" {
					continue
				}
				first := page(t, db, desc, engine.PageRequest{Cursor: at.cursor, End: p.Split})
				second := page(t, db, desc, engine.PageRequest{Cursor: p.Split, End: at.end})
				if halves := slices.Concat(itemNames(first.Documents), itemNames(second.Documents)); !slices.Equal(halves, itemNames(p.Documents)) || len(first.Documents) == 0 || len(second.Documents) == 0 {
					rt.Fatalf("page %q split into %q and %q", itemNames(p.Documents), itemNames(first.Documents), itemNames(second.Documents))
				}
			}
			if next == "" || len(pages) > 0 && pages[len(pages)-1].end != next {
				continue
			}
			rest := page(t, db, desc, engine.PageRequest{Cursor: next, Limit: 100})
			if got = append(got, itemNames(rest.Documents)...); !slices.Equal(got, want) || !rest.Done {
				rt.Fatalf("pages and the rest are %q, done %v; want %q", got, rest.Done, want)
			}
		}
	})
}

func TestPageLimits(t *testing.T) {
	db := pagesDB(t, 9)
	whole := page(t, db, false, engine.PageRequest{Limit: 100})
	to5 := page(t, db, false, engine.PageRequest{Limit: 5})
	tests := []struct {
		name   string
		req    engine.PageRequest
		want   string // names
		status engine.PageStatus
		done   bool
		split  string // names up to it
	}{
		{"all", engine.PageRequest{Limit: 100}, "abcdefghi", engine.PageFits, true, "abcde"},
		{"as many as there are", engine.PageRequest{Limit: 9}, "abcdefghi", engine.PageFits, false, "abcde"},
		{"one", engine.PageRequest{Limit: 1}, "a", engine.PageFits, false, ""},
		{"two", engine.PageRequest{Limit: 2}, "ab", engine.PageFits, false, ""},
		{"three", engine.PageRequest{Limit: 3}, "abc", engine.PageFits, false, "ab"},
		{"after", engine.PageRequest{Cursor: to5.Next, Limit: 3}, "fgh", engine.PageFits, false, "abcdefg"},
		{"after the end", engine.PageRequest{Cursor: whole.Next, Limit: 3}, "", engine.PageFits, true, ""},
		{"between", engine.PageRequest{Cursor: to5.Split, End: to5.Next}, "de", engine.PageFits, false, ""},
		{"backwards", engine.PageRequest{Cursor: to5.Next, End: to5.Split}, "", engine.PageFits, false, ""},
		{"to the end", engine.PageRequest{Cursor: to5.Next, End: whole.Next}, "fghi", engine.PageFits, true, "abcdefg"},
		{"rows", engine.PageRequest{Limit: 100, RowsMax: 4}, "abcd", engine.SplitRecommended, false, "ab"},
		{"close to the rows", engine.PageRequest{Limit: 7, RowsMax: 8}, "abcdefg", engine.SplitRecommended, false, "abcd"},
		{"rows before an end", engine.PageRequest{End: to5.Next, RowsMax: 4}, "abcd", engine.SplitRequired, false, "ab"},
		{"one row before an end", engine.PageRequest{End: to5.Next, RowsMax: 1}, "a", engine.SplitRequired, false, "a"},
		{"rows at the end", engine.PageRequest{End: to5.Next, RowsMax: 5}, "abcde", engine.SplitRecommended, false, "abc"},
		{"bytes before an end", engine.PageRequest{End: whole.Next, BytesMax: 1}, "a", engine.SplitRequired, true, "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := page(t, db, false, tt.req)
			if got := strings.Join(itemNames(p.Documents), ""); got != tt.want || p.Status != tt.status || p.Done != tt.done {
				t.Errorf("Page(%+v) = %q, status %d, done %v; want %q, %d, %v", tt.req, got, p.Status, p.Done, tt.want, tt.status, tt.done)
			}
			if tt.req.End != "" && p.Next != tt.req.End {
				t.Error("the next page does not begin at the given end")
			}
			split := ""
			if p.Split != "" {
				split = strings.Join(itemNames(page(t, db, false, engine.PageRequest{End: p.Split}).Documents), "")
			}
			if split != tt.split {
				t.Errorf("Page(%+v) is split after %q, want %q", tt.req, split, tt.split)
			}
		})
	}
	query(t, db, func(tx *engine.Tx) error {
		var bad *engine.RangeError
		if _, err := tx.Page(db.Table("items").Index("by_list_n"), eq("x"), false, engine.PageRequest{}); !errors.As(err, &bad) {
			t.Errorf("a page of no documents: %v, want a RangeError", err)
		}
		return nil
	})
}

func TestForeignCursors(t *testing.T) {
	fs := vfs.NewMem()
	db := enginetest.OpenWith(t, pagesSchema, engine.Options{FS: fs})
	ix := func() *engine.Index { return db.Table("items").Index("by_list_n") }
	insert(t, db, "items", fields("list", "x", "n", 1, "name", "a"))
	insert(t, db, "items", fields("list", "x", "n", 2, "name", "b"))
	good := page(t, db, false, engine.PageRequest{Limit: 1}).Next
	end := page(t, db, false, engine.PageRequest{Limit: 10}).Next
	other := pagesDB(t, 2)
	flip := func(s string, i int) string {
		b := []byte(s)
		b[i] = map[bool]byte{true: 'B', false: 'A'}[b[i] == 'A']
		return string(b)
	}
	lower := engine.Range{Eq: fields2("x"), Lower: &engine.Bound{Value: value.Float64(0), Inclusive: true}}
	tests := []struct {
		name   string
		cursor string
		ix     *engine.Index
		r      engine.Range
		desc   bool
		ok     bool
	}{
		{"its own", good, ix(), eq("x"), false, true},
		{"its own end", end, ix(), eq("x"), false, true},
		{"the other direction", good, ix(), eq("x"), true, false},
		{"an end of the other direction", end, ix(), eq("x"), true, false},
		{"other values", good, ix(), eq("y"), false, false},
		{"other bounds", good, ix(), lower, false, false},
		{"everything", good, ix(), all, false, false},
		{"another index", good, db.Table("items").Index(engine.IndexByCreationTime), all, false, false},
		{"another database", page(t, other, false, engine.PageRequest{Limit: 1}).Next, ix(), eq("x"), false, false},
		{"a text", "next", ix(), eq("x"), false, false},
		{"not base64", "?", ix(), eq("x"), false, false},
		{"cut", good[:len(good)-1], ix(), eq("x"), false, false},
		{"cut to nothing but its nonce", good[:16], ix(), eq("x"), false, false},
		{"longer", good + "AAAA", ix(), eq("x"), false, false},
		{"changed nonce", flip(good, 0), ix(), eq("x"), false, false},
		{"changed place", flip(good, 20), ix(), eq("x"), false, false},
		{"huge", strings.Repeat("A", 1<<20), ix(), eq("x"), false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			query(t, db, func(tx *engine.Tx) error {
				for name, req := range map[string]engine.PageRequest{"cursor": {Cursor: tt.cursor, Limit: 1}, "end": {End: tt.cursor}} {
					_, err := tx.Page(tt.ix, tt.r, tt.desc, req)
					if tt.ok && err != nil || !tt.ok && !errors.Is(err, engine.ErrInvalidCursor) {
						t.Errorf("%s: %v, want it accepted %v", name, err, tt.ok)
					}
				}
				return nil
			})
		})
	}

	// A cursor outlives the process.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = enginetest.OpenWith(t, pagesSchema, engine.Options{FS: fs})
	p := page(t, db, false, engine.PageRequest{Cursor: good, Limit: 10})
	if diff := cmp.Diff([]string{"b"}, itemNames(p.Documents)); diff != "" || p.Next != end {
		t.Errorf("after another opening (-want +got):\n%s; the same end %v", diff, p.Next == end)
	}
}

// TestPageDependsOnItsPartOnly checks what makes a live page run again.
func TestPageDependsOnItsPartOnly(t *testing.T) {
	db := pagesDB(t, 6)
	items := db.Table("items")
	first := page(t, db, false, engine.PageRequest{Limit: 2})
	second := page(t, db, false, engine.PageRequest{Cursor: first.Next, Limit: 2})
	wake := make(chan struct{}, 1)
	set := db.NewQuerySet(func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	})
	defer set.Close()
	for i, req := range []engine.PageRequest{{Limit: 2}, {Cursor: first.Next, End: second.Next}, {Cursor: second.Next, Limit: 2}} {
		set.Add(uint32(i), engine.LiveQuery{Key: fmt.Sprint(i), Run: func(tx *engine.Tx) []byte {
			p, err := tx.Page(items.Index("by_list_n"), eq("x"), false, req)
			return fmt.Append(nil, strings.Join(itemNames(p.Documents), ""), err)
		}})
	}
	round := func(min engine.Timestamp) map[uint32]string {
		t.Helper()
		for {
			if r, ok := set.Poll(min); ok {
				out := map[uint32]string{}
				for _, c := range r.Changes {
					out[c.ID] = string(c.Body)
				}
				return out
			}
			<-wake
		}
	}
	if diff := cmp.Diff(map[uint32]string{0: "ab<nil>", 1: "cd<nil>", 2: "ef<nil>"}, round(0)); diff != "" {
		t.Fatalf("first round (-want +got):\n%s", diff)
	}
	at := mutate(t, db, func(tx *engine.Tx) error {
		_, err := tx.Insert(items, fields("list", "x", "n", 2.5, "name", "N"))
		return err
	}).At
	if diff := cmp.Diff(map[uint32]string{1: "cNd<nil>"}, round(at)); diff != "" {
		t.Errorf("after an insert into the second page (-want +got):\n%s", diff)
	}
	at = mutate(t, db, func(tx *engine.Tx) error {
		_, err := tx.Insert(items, fields("list", "x", "n", 9, "name", "Z"))
		return err
	}).At
	if diff := cmp.Diff(map[uint32]string{}, round(at)); diff != "" {
		t.Errorf("after an insert behind a page that had its number (-want +got):\n%s", diff)
	}
}

// FuzzCursor checks that no text is taken for a cursor but those that pages have handed out.
func FuzzCursor(f *testing.F) {
	db := pagesDB(f, 5)
	known := map[string]bool{}
	for n := range 6 {
		p := page(f, db, false, engine.PageRequest{Limit: n + 1})
		known[p.Next], known[p.Split] = true, true
		f.Add(p.Next)
	}
	f.Add("")
	f.Fuzz(func(t *testing.T, cursor string) {
		query(t, db, func(tx *engine.Tx) error {
			_, err := tx.Page(db.Table("items").Index("by_list_n"), eq("x"), false, engine.PageRequest{Cursor: cursor, Limit: 1})
			if ok := cursor == "" || known[cursor]; ok != (err == nil) {
				t.Errorf("cursor %q: %v", cursor, err)
			}
			return nil
		})
	})
}
