package server

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon/protocol"
)

// pagedList is a list that a component shows with usePaginatedQuery.
type pagedList struct {
	Query string         `json:"query"`
	Args  map[string]any `json:"args"`
	Items int            `json:"items"` // of the first page
}

// pagedStep is something that happens, and what each list shows after it: its lines and its status.
type pagedStep struct {
	List   string   `json:"list,omitempty"` // that is written
	Add    []string `json:"add,omitempty"`
	Remove []string `json:"remove,omitempty"`
	Load   *more    `json:"load,omitempty"`
	Cut    bool     `json:"cut,omitempty"` // the connection breaks
	// QuerySet is the version that the query set comes to when the hook has done what nobody sees: added the halves of a page, removed the whole.
	QuerySet uint32   `json:"querySet,omitempty"`
	Shows    []string `json:"shows"`
}

// more asks a list for its next page.
type more struct {
	List  int `json:"list"`
	Items int `json:"items"`
}

// What usePaginatedQuery shows, unmodified, while its pages grow, shrink, are split and lose their place.
func TestPaginatedQueries(t *testing.T) {
	dir := nodeClients(t)
	page := func(items int) pagedList {
		return pagedList{"page", map[string]any{"channel": "a"}, items}
	}
	limited := func(items, rowsMax int) pagedList {
		return pagedList{"pageLimited", map[string]any{"channel": "a", "rowsMax": rowsMax}, items}
	}
	for _, tc := range []struct {
		name  string
		lists []pagedList
		seed  []string // of list a
		steps []pagedStep
		pages int    // that are watched at the end
		says  string // is in what the server says
	}{
		{
			name: "growing", lists: []pagedList{page(2)}, seed: []string{"b", "d", "f"}, pages: 2,
			steps: []pagedStep{
				{Shows: []string{"b d CanLoadMore"}},
				{List: "a", Add: []string{"c"}, Shows: []string{"b c d CanLoadMore"}},
				{List: "a", Add: []string{"a"}, Shows: []string{"a b c d CanLoadMore"}},
				{List: "a", Add: []string{"e"}, Shows: []string{"a b c d CanLoadMore"}}, // behind the end of what is shown
				{Load: &more{0, 5}, Shows: []string{"a b c d e f Exhausted"}},
				{List: "a", Add: []string{"dd", "z"}, Shows: []string{"a b c d dd e f z Exhausted"}},
			},
		},
		{
			name: "shrinking", lists: []pagedList{page(3)}, seed: []string{"a", "b", "c", "d", "e"}, pages: 2,
			steps: []pagedStep{
				{Shows: []string{"a b c CanLoadMore"}},
				{List: "a", Remove: []string{"b"}, Shows: []string{"a c CanLoadMore"}},
				{List: "a", Remove: []string{"c"}, Shows: []string{"a CanLoadMore"}}, // the last line of the page
				{List: "a", Remove: []string{"a"}, Shows: []string{"CanLoadMore"}},
				{Load: &more{0, 5}, Shows: []string{"d e Exhausted"}},
				{List: "a", Remove: []string{"d", "e"}, Shows: []string{"Exhausted"}},
				{List: "a", Add: []string{"c", "d"}, Shows: []string{"c d Exhausted"}}, // one in each page
			},
		},
		{
			name: "split for its size", lists: []pagedList{page(2)}, seed: []string{"b", "d"}, pages: 2,
			steps: []pagedStep{
				{Shows: []string{"b d CanLoadMore"}},
				{List: "a", Add: []string{"ba", "bb"}, Shows: []string{"b ba bb d CanLoadMore"}},
				{List: "a", Add: []string{"bc"}, QuerySet: 4, Shows: []string{"b ba bb bc d CanLoadMore"}},
				{List: "a", Add: []string{"bba", "c"}, Shows: []string{"b ba bb bba bc c d CanLoadMore"}},
			},
		},
		{
			name: "SplitRecommended", lists: []pagedList{limited(4, 8)}, seed: []string{"a", "c", "e", "g"}, says: `"pageStatus":"SplitRecommended"`, pages: 2,
			steps: []pagedStep{
				{Shows: []string{"a c e g CanLoadMore"}},
				{List: "a", Add: []string{"b", "d"}, Shows: []string{"a b c d e g CanLoadMore"}},
				{List: "a", Add: []string{"f"}, QuerySet: 4, Shows: []string{"a b c d e f g CanLoadMore"}},
			},
		},
		{
			name: "SplitRequired", lists: []pagedList{limited(2, 4)}, seed: []string{"a", "z"}, says: `"pageStatus":"SplitRequired"`, pages: 2,
			steps: []pagedStep{
				{Shows: []string{"a z CanLoadMore"}},
				// The page can't hold them all: nothing is shown as if it did.
				{List: "a", Add: []string{"b", "c", "d"}, QuerySet: 4, Shows: []string{"a b c d z CanLoadMore"}},
			},
		},
		{
			name: "another connection", lists: []pagedList{page(2)}, seed: []string{"b", "d", "f"}, pages: 2,
			steps: []pagedStep{
				{Shows: []string{"b d CanLoadMore"}},
				{Load: &more{0, 2}, Shows: []string{"b d f Exhausted"}},
				{List: "a", Add: []string{"c"}, Shows: []string{"b c d f Exhausted"}},
				{Cut: true, List: "a", Add: []string{"e"}, Shows: []string{"b c d e f Exhausted"}},
			},
		},
		{
			name: "a cursor that is not one", lists: []pagedList{{"pageForged", map[string]any{"channel": "a", "forged": false}, 1}}, seed: []string{"a", "b"},
			says: "InvalidCursor", pages: 1,
			steps: []pagedStep{
				{Shows: []string{"a CanLoadMore"}},
				{Load: &more{0, 1}, QuerySet: 5, Shows: []string{"a CanLoadMore"}}, // begins anew
			},
		},
		{
			name: "several lists in one component", pages: 4, seed: []string{"a", "b", "c", "d"},
			lists: []pagedList{page(1), page(3), {"page", map[string]any{"channel": "other"}, 2}},
			steps: []pagedStep{
				{Shows: []string{"a CanLoadMore", "a b c CanLoadMore", "Exhausted"}},
				{List: "a", Add: []string{"aa"}, Shows: []string{"a CanLoadMore", "a aa b c CanLoadMore", "Exhausted"}},
				{Load: &more{1, 5}, Shows: []string{"a CanLoadMore", "a aa b c d Exhausted", "Exhausted"}},
				{List: "other", Add: []string{"x"}, Shows: []string{"a CanLoadMore", "a aa b c d Exhausted", "x Exhausted"}},
				{List: "a", Remove: []string{"a"}, Shows: []string{"CanLoadMore", "aa b c d Exhausted", "x Exhausted"}},
			},
		},
		{
			// Both pages keep their ends, also over a new connection: the journal has both.
			name: "several pages in one function", pages: 1, seed: []string{"b", "d", "f"},
			lists: []pagedList{{"pageBeside", map[string]any{"channel": "a", "beside": "other"}, 2}},
			steps: []pagedStep{
				{Shows: []string{"b/ d/ CanLoadMore"}},
				{List: "other", Add: []string{"m"}, Shows: []string{"b/m d/m CanLoadMore"}},
				{List: "a", Add: []string{"c"}, Shows: []string{"b/m c/m d/m CanLoadMore"}},
				{Cut: true, List: "other", Add: []string{"k"}, Shows: []string{"b/km c/km d/km CanLoadMore"}},
				{List: "a", Add: []string{"e"}, Remove: []string{"b"}, Shows: []string{"c/km d/km CanLoadMore"}},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t)
			f.call(t, "t:sendAll", bodiesArgs{Channel: "a", Bodies: tc.seed}, nil)
			r := &recorder{t: t, target: serve(t, f.app, Options{}).address}
			r.mu.changed = make(chan struct{})
			proxy := httptest.NewServer(r.handler())
			defer proxy.Close()
			given, err := json.Marshal(map[string]any{"lists": tc.lists, "steps": tc.steps})
			if err != nil {
				t.Fatal(err)
			}
			script(t, dir, "pagination.mjs", strings.TrimPrefix(proxy.URL, "http://"), string(given), nil)
			pages, said := 0, false
			for _, e := range r.end() {
				switch {
				case e.From == fromServer:
					said = said || strings.Contains(string(e.text), tc.says)
				case e.Cut:
					pages = 0 // those of the next connection are added again
				case e.From == fromClient:
					if m, ok := decoded(t, e.text).(*protocol.ModifyQuerySet); ok {
						for _, change := range m.Modifications {
							pages += map[bool]int{false: 1, true: -1}[change.Remove]
						}
					}
				}
			}
			if pages != tc.pages || !said {
				t.Errorf("%d pages are watched at the end, want %d; the server said %q: %v", pages, tc.pages, tc.says, said)
			}
		})
	}
}

func decoded(t *testing.T, text []byte) protocol.ClientMessage {
	t.Helper()
	m, err := protocol.DecodeClient(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}
