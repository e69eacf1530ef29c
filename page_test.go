package halcyon_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Line is one line of a list.
type Line struct {
	ID   halcyon.ID[Line] `halcyon:"id"`
	List string
	N    int
}

var lines = halcyon.NewTable[Line]("lines").Index("by_list", "list", "n")

// pageArgs are the arguments of the functions of linesModule.
type pageArgs struct {
	List string
	Page halcyon.PageOptions `json:"paginationOpts"`
}

func linesModule() *halcyon.Module {
	m := halcyon.NewModule("lines", lines)
	numbers := func(tx *halcyon.Tx, q halcyon.Query[Line], o halcyon.PageOptions) (halcyon.Page[int], error) {
		p, err := q.Page(tx, o)
		if err != nil {
			return halcyon.Page[int]{}, err
		}
		return halcyon.MapPage(p, func(l Line) (int, error) { return l.N, nil })
	}
	m.Query("list", func(tx *halcyon.Tx, a pageArgs) (halcyon.Page[int], error) {
		return numbers(tx, lines.By("by_list").Eq(a.List), a.Page)
	})
	m.Query("both", func(tx *halcyon.Tx, a pageArgs) ([][]int, error) {
		up, err := numbers(tx, lines.By("by_list").Eq(a.List), a.Page)
		if err != nil {
			return nil, err
		}
		down, err := numbers(tx, lines.By("by_list").Eq(a.List).Desc(), a.Page)
		return [][]int{up.Page, down.Page}, err
	})
	// A list that fails, or shows nothing, for as long as there is a line in a list of that name.
	m.Query("moody", func(tx *halcyon.Tx, a pageArgs) (halcyon.Page[int], error) {
		if _, there, err := lines.By("by_list").Eq("fails").First(tx); err != nil || there {
			return halcyon.Page[int]{}, errors.Join(err, errors.New("not in the mood"))
		}
		if _, there, err := lines.By("by_list").Eq("hides").First(tx); err != nil || there {
			return halcyon.Page[int]{IsDone: true}, err
		}
		return numbers(tx, lines.By("by_list").Eq(a.List), a.Page)
	})
	m.Mutation("mood", func(tx *halcyon.Tx, a struct{ List string }) error {
		for _, list := range []string{"fails", "hides"} {
			all, err := lines.By("by_list").Eq(list).Collect(tx)
			if err != nil {
				return err
			}
			for _, l := range all {
				if err := lines.Delete(tx, l.ID); err != nil {
					return err
				}
			}
		}
		if a.List == "" {
			return nil
		}
		_, err := lines.Insert(tx, Line{List: a.List})
		return err
	})
	m.Mutation("add", func(tx *halcyon.Tx, a struct{ Ns []int }) error {
		for _, n := range a.Ns {
			if _, err := lines.Insert(tx, Line{List: "a", N: n}); err != nil {
				return err
			}
		}
		return nil
	})
	m.Mutation("remove", func(tx *halcyon.Tx, a struct{ Ns []int }) error {
		for _, n := range a.Ns {
			l, _, err := lines.By("by_list").Eq("a", n).First(tx)
			if err != nil {
				return err
			}
			if err := lines.Delete(tx, l.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return m
}

func write(t *testing.T, app *halcyon.App, function string, ns ...int) {
	t.Helper()
	if err := app.Run(t.Context(), "lines:"+function, struct {
		Ns []int `json:"ns"`
	}{ns}, nil); err != nil {
		t.Fatal(err)
	}
}

// pageScreen subscribes to pages and shows them as texts.
type pageScreen struct {
	*screen
	next map[uint32]string // cursors
}

func newPageScreen(t *testing.T, app *halcyon.App) *pageScreen {
	return &pageScreen{newScreen(t, app), map[uint32]string{}}
}

// shown returns the pages of the next round, and keeps their cursors.
func (s *pageScreen) shown(min engine.Timestamp) string {
	s.t.Helper()
	var out []string
	round := s.round(min)
	for id := range uint32(10) {
		body, ok := round[id]
		if !ok {
			continue
		}
		if strings.HasPrefix(body, "failed") {
			out = append(out, fmt.Sprintf("%d: %s", id, body))
			continue
		}
		v := parse(s.t, body)
		page := v.Get("page")
		if v.Kind() == value.KindArray {
			out = append(out, fmt.Sprintf("%d: %s", id, body))
			continue
		}
		var ns []string
		for i := range page.Len() {
			n, _ := page.Index(i).AsFloat64()
			ns = append(ns, fmt.Sprint(n))
		}
		text := strings.Join(ns, ",")
		if done, _ := v.Get("isDone").AsBool(); done {
			text += " done"
		}
		if !v.Get("splitCursor").IsNull() {
			text += " splits"
		}
		if status, ok := v.Get("pageStatus").AsString(); ok {
			text += " " + status
		}
		s.next[id], _ = v.Get("continueCursor").AsString()
		out = append(out, fmt.Sprintf("%d: %s", id, text))
	}
	return strings.Join(out, "; ")
}

func pageOf(t *testing.T, n int, cursor, end string, more string) value.Value {
	quoted := func(s string) string {
		if s == "" {
			return "null"
		}
		return fmt.Sprintf("%q", s)
	}
	if end != "" {
		more += fmt.Sprintf(`,"endCursor":%q`, end)
	}
	return parse(t, fmt.Sprintf(`{"list":"a","paginationOpts":{"numItems":%d,"cursor":%s,"id":-1%s}}`, n, quoted(cursor), more))
}

// TestPages goes through what a client with a growing list sees.
func TestPages(t *testing.T) {
	app := openApp(t, halcyon.Options{}, linesModule())
	write(t, app, "add", 10, 20, 30, 40, 50)
	s := newPageScreen(t, app)
	check := func(what, want string) {
		t.Helper()
		if got := s.shown(app.Durable()); got != want {
			t.Errorf("%s: %s\nwant %s", what, got, want)
		}
	}
	s.set.Add(1, "lines:list", pageOf(t, 2, "", "", ""), nil)
	check("the first page", "1: 10,20")
	s.set.Add(2, "lines:list", pageOf(t, 2, s.next[1], "", ""), nil)
	check("the second page", "2: 30,40")
	s.set.Add(3, "lines:list", pageOf(t, 2, s.next[2], "", ""), nil)
	check("the last page", "3: 50 done")

	// The first page ends where it did, and so the second begins there.
	write(t, app, "add", 15, 16, 60)
	check("lines come", "1: 10,15,16,20 splits; 3: 50,60 done")
	write(t, app, "remove", 10, 15, 16, 20)
	check("a page becomes empty", "1: ")
	write(t, app, "add", 5, 25)
	check("it fills again, and the second one", "1: 5; 2: 25,30,40 splits")

	// Who subscribes now is given as many as he asks for.
	s.set.Add(4, "lines:list", pageOf(t, 2, "", "", ""), nil)
	check("another client", "4: 5,25")

	// Between two cursors there is all there is.
	s.set.Add(5, "lines:list", pageOf(t, 1, s.next[4], s.next[2], ""), nil)
	check("between two cursors", "5: 30,40")
	s.set.Add(6, "lines:list", pageOf(t, 1, "", s.next[2], `,"maximumRowsRead":3`), nil)
	check("stopped by a limit", "6: 5,25,30 splits SplitRequired")

	// Pages of several queries of one function keep their ends.
	s.set.Add(7, "lines:both", pageOf(t, 2, "", "", ""), nil)
	check("two lists", "7: [[5,25],[60,50]]")
	write(t, app, "add", 7, 55)
	if got, want := s.shown(app.Durable()), "7: [[5,7,25],[60,55,50]]"; !strings.Contains(got, want) {
		t.Errorf("two lists that grow: %s\nwant %s in it", got, want)
	}
}

// TestPagesOfAClientThatComesBack: with the journals of before, the pages have
// the ends of before.
func TestPagesOfAClientThatComesBack(t *testing.T) {
	app := openApp(t, halcyon.Options{}, linesModule())
	write(t, app, "add", 10, 20, 30, 40, 50)
	journal := func(id uint32, args value.Value, given *string) (out *string) {
		t.Helper()
		wake := make(chan struct{}, 1)
		set := app.NewQuerySet(func(o halcyon.Outcome) []byte {
			out = o.Journal
			return []byte(toJSON(o.Value.Get("page")))
		}, func() {
			select {
			case wake <- struct{}{}:
			default:
			}
		})
		defer set.Close()
		set.Add(id, "lines:list", args, given)
		for {
			if r, ok := set.Poll(app.Durable()); ok {
				if out != nil {
					text := string(r.Changes[0].Body) + *out
					return &text
				}
				return nil
			}
			<-wake
		}
	}
	page := func(text *string) (body string, kept *string) {
		i := strings.Index(*text, "]") + 1
		rest := (*text)[i:]
		return (*text)[:i], &rest
	}
	body, kept := page(journal(1, pageOf(t, 2, "", "", ""), nil))
	if body != "[10,20]" {
		t.Errorf("the page is %s", body)
	}
	write(t, app, "add", 15)
	again, keptAgain := page(journal(1, pageOf(t, 2, "", "", ""), kept))
	if again != "[10,15,20]" || *keptAgain != *kept {
		t.Errorf("the page of the client that comes back is %s, its journal %s, before %s", again, *keptAgain, *kept)
	}
	if fresh, _ := page(journal(1, pageOf(t, 2, "", "", ""), nil)); fresh != "[10,15]" {
		t.Errorf("the page of a new client is %s", fresh)
	}
}

// A page whose query failed, or did not read it, goes on where it ended, for a client that stayed and for one that comes back meanwhile: the page
// after it begins there.
func TestPagesAfterRunsWithoutThem(t *testing.T) {
	for _, mood := range []string{"fails", "hides"} {
		t.Run(mood, func(t *testing.T) {
			app := openApp(t, halcyon.Options{}, linesModule())
			write(t, app, "add", 10, 20, 30)
			var kept *string
			subscribe := func(given *string) (next func() string) {
				wake := make(chan struct{}, 1)
				set := app.NewQuerySet(func(o halcyon.Outcome) []byte {
					kept = o.Journal
					if o.Failure != nil {
						return []byte("fails")
					}
					return []byte(toJSON(o.Value.Get("page")))
				}, func() {
					select {
					case wake <- struct{}{}:
					default:
					}
				})
				t.Cleanup(set.Close)
				set.Add(1, "lines:moody", pageOf(t, 2, "", "", ""), given)
				return func() string {
					for {
						if r, ok := set.Poll(app.Durable()); ok && len(r.Changes) > 0 {
							return string(r.Changes[0].Body)
						}
						<-wake
					}
				}
			}
			be := func(mood string) {
				t.Helper()
				if err := app.Run(t.Context(), "lines:mood", map[string]string{"list": mood}, nil); err != nil {
					t.Fatal(err)
				}
			}
			stays := subscribe(nil)
			if got := stays(); got != "[10,20]" {
				t.Fatalf("the first page is %s", got)
			}
			be(mood)
			stays()
			if kept == nil {
				t.Fatal("the client has no journal any more")
			}
			back := subscribe(kept)
			back()
			write(t, app, "add", 15)
			be("")
			if stayed, came := stays(), back(); stayed != "[10,15,20]" || came != "[10,15,20]" {
				t.Errorf("who stayed has %s, who came back %s, want [10,15,20]", stayed, came)
			}
		})
	}
}

func TestPagesRefused(t *testing.T) {
	app := openApp(t, halcyon.Options{ShowErrors: true}, linesModule())
	write(t, app, "add", 10, 20, 30)
	good := newPageScreen(t, app)
	good.set.Add(1, "lines:list", pageOf(t, 1, "", "", ""), nil)
	good.shown(app.Durable())
	bad, text := "[\"x\"]", "no journal"
	other := strings.Replace(toJSON(pageOf(t, 1, good.next[1], "", "")), `"list":"a"`, `"list":"b"`, 1)
	for _, c := range []struct {
		name    string
		args    value.Value
		journal *string
		want    string
	}{
		{"a cursor nobody made", pageOf(t, 1, "x", "", ""), nil, "InvalidCursor"},
		{"an end nobody made", pageOf(t, 1, "", "x", ""), nil, "InvalidCursor"},
		{"a cursor of another query", parse(t, other), nil, "InvalidCursor"},
		{"a journal nobody made", pageOf(t, 1, "", "", ""), &text, "InvalidCursor"},
		{"a journal with a cursor nobody made", pageOf(t, 1, "", "", ""), &bad, "InvalidCursor"},
		{"a page of nothing", pageOf(t, 0, "", "", ""), nil, "numItems is at least 1"},
		{"half an item", parse(t, `{"list":"a","paginationOpts":{"numItems":0.5,"cursor":null}}`), nil, "ArgumentValidationError"},
		{"no cursor", parse(t, `{"list":"a","paginationOpts":{"numItems":1}}`), nil, "ArgumentValidationError"},
	} {
		s := newPageScreen(t, app)
		s.set.Add(1, "lines:list", c.args, c.journal)
		if got := s.shown(app.Durable()); !strings.HasPrefix(got, "1: failed") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	out, err := app.Query(t.Context(), halcyon.Request{Path: "lines:list", Args: pageOf(t, 1, "x", "", "")})
	if err != nil || out.Failure == nil {
		t.Fatal(out, err)
	}
	if got := toJSON(out.Failure.Data); !strings.Contains(got, `"isConvexSystemError":true`) || !strings.Contains(got, `"paginationError":"InvalidCursor"`) {
		t.Errorf("the failure has data %s", got)
	}
}
