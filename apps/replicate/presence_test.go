package replicate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/apps/replicate"
)

type sessionRow struct {
	Client, Document string
	User             string             `json:"user,omitzero"`
	Profile          *replicate.Profile `json:"profile"`
	Cursor           *replicate.Cursor  `json:"cursor"`
	Seen             float64            `json:"seen"`
}

// there returns who is told to be at a document, as "client" or "client/user".
func (w *world) there(user string, args map[string]any) []string {
	w.t.Helper()
	var rows []sessionRow
	w.call(user, "tasks:session", args, &rows)
	names := []string{}
	for _, r := range rows {
		name := r.Client
		if r.User != "" {
			name += "/" + r.User
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (w *world) join(client string, more map[string]any) {
	w.t.Helper()
	args := map[string]any{"document": "a", "client": client, "action": "join", "interval": 10_000.0}
	for k, v := range more {
		args[k] = v
	}
	w.call("", "tasks:presence", args, nil)
}

func TestPresence(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	w.must("", "a", newPeer(t, 1).set("title", "t"))
	here := map[string]any{"document": "a", "connected": true}
	check := func(what string, args map[string]any, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, w.there("", args), cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	w.join("x", map[string]any{"user": "ann", "profile": map[string]any{"name": "Ann", "color": "#fff"}})
	w.clock.advance(time.Second)
	w.join("y", map[string]any{"user": "ann"})
	w.join("z", nil)
	check("of one user the client that was seen last", here, "y/ann", "z")
	check("but for one", map[string]any{"document": "a", "connected": true, "exclude": "z"}, "y/ann")
	w.call("", "tasks:presence", map[string]any{"document": "a", "client": "y", "action": "leave"}, nil)
	check("when it has left", here, "x/ann", "z")
	w.clock.advance(24 * time.Second)
	check("25 s after the last sign", here, "z")
	w.clock.advance(time.Second)
	check("and a second later", here)
	w.join("z", nil)
	check("when it is back", here, "z")
	check("who is not connected", map[string]any{"document": "a", "connected": false}, "y/ann")
	check("everybody", map[string]any{"document": "a"}, "y/ann", "z")

	// A beat that says nothing new writes once in an interval.
	before := w.app.Durable()
	for range 20 {
		w.join("z", nil)
	}
	if after := w.app.Durable(); after != before {
		t.Error("beats that say nothing new made commits")
	}
	w.join("z", map[string]any{"cursor": map[string]any{"anchor": 1.0, "head": map[string]any{"item": 2.0}, "field": "note"}})
	var rows []sessionRow
	w.call("", "tasks:session", here, &rows)
	if len(rows) != 1 || rows[0].Cursor == nil || *rows[0].Cursor.Field != "note" {
		t.Errorf("a cursor that moved is %+v", rows)
	}
	w.clock.advance(2 * time.Hour)
	w.call("", "tasks:sweep", struct{}{}, nil)
	check("after the sweep", map[string]any{"document": "a"})
}

func TestPresenceIsBounded(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	w.must("", "a", newPeer(t, 1).set("title", "t"))
	for _, tt := range []struct {
		name   string
		args   map[string]any
		refuse bool
	}{
		{"longest client", map[string]any{"client": strings.Repeat("c", 256)}, false},
		{"longer client", map[string]any{"client": strings.Repeat("c", 257)}, true},
		{"no client", map[string]any{"client": ""}, true},
		{"large profile", map[string]any{"client": "p", "profile": map[string]any{"name": strings.Repeat("n", 5000)}}, true},
		{"interval that is no time", map[string]any{"client": "i", "interval": 1e300}, false},
		{"document without a name", map[string]any{"client": "d", "document": ""}, true},
	} {
		args := map[string]any{"document": "a", "action": "join"}
		for k, v := range tt.args {
			args[k] = v
		}
		if f := w.try("", "tasks:presence", args, nil); (f != nil) != tt.refuse {
			t.Errorf("%s: %v", tt.name, f)
		}
	}
}

// Who may not read a document does not learn who is there, nor is anybody told of them.
func TestPresenceAsksTheRule(t *testing.T) {
	w := ownedWorld(t)
	w.must("ann", "a", newPeer(t, 1).set("title", "t", "owner", "ann", "done", false))
	for _, user := range []string{"ann", "eve"} {
		w.call(user, "tasks:presence", map[string]any{"document": "a", "client": user, "action": "join"}, nil)
	}
	if got := w.there("ann", map[string]any{"document": "a"}); !slices.Equal(got, []string{"ann"}) {
		t.Errorf("ann is told of %v", got)
	}
	for _, args := range []map[string]any{{"document": "a"}, {"connected": true}} {
		if got := w.there("eve", args); len(got) != 0 {
			t.Errorf("eve is told of %v", got)
		}
	}
}

// The limits of calls, and one past each.
func TestLimitsOfCalls(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	writes := func(n int) map[string]any {
		u := newPeer(t, 1).set("title", "t")
		all := make([]writeArgs, n)
		for i := range all {
			all[i] = writeArgs{fmt.Sprint(i), "a", u}
		}
		return map[string]any{"writes": all}
	}
	wants := func(n int) map[string]any {
		all := make([]any, n)
		for i := range all {
			all[i] = map[string]any{"document": fmt.Sprint(i)}
		}
		return map[string]any{"documents": all}
	}
	for _, tt := range []struct {
		name, path string
		args       map[string]any
		code       string
	}{
		{"most writes", "tasks:replicateBatch", writes(replicate.BatchMax), ""},
		{"one more", "tasks:replicateBatch", writes(replicate.BatchMax + 1), replicate.CodeTooLarge},
		{"none", "tasks:replicateBatch", writes(0), ""},
		{"most documents", "tasks:recoverBatch", wants(replicate.RecoverMax), ""},
		{"one more", "tasks:recoverBatch", wants(replicate.RecoverMax + 1), replicate.CodeTooLarge},
		{"none", "tasks:recoverBatch", wants(0), ""},
		{"a cursor of others", "tasks:recoverBatch", map[string]any{"documents": []any{}, "cursor": "1"}, "InvalidCursor"},
		{"no cursor", "tasks:recoverBatch", map[string]any{"documents": []any{}, "cursor": "x"}, "InvalidCursor"},
		{"a vector that is none", "tasks:delta", map[string]any{"document": "a", "vector": []byte{9}}, replicate.CodeMalformed},
		{"a vector of no document", "tasks:delta", map[string]any{"vector": []byte{0}}, "INVALID_ARGS"},
	} {
		code := ""
		if f := w.try("", tt.path, tt.args, nil); f != nil {
			code, _ = f.Data.Get("code").AsString()
		}
		if code != tt.code {
			t.Errorf("%s of %s: code %q, want %q", tt.name, tt.path, code, tt.code)
		}
	}
}

// Material is paged by what was written last, and has the JSON of ProseMirror for rich text.
func TestMaterial(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	for i := range 5 {
		w.clock.advance(time.Millisecond)
		w.must("", fmt.Sprint("doc ", i), newPeer(t, uint64(i+1)).set("title", fmt.Sprint(i)))
	}
	w.clock.advance(time.Millisecond)
	w.must("", "doc 1", newPeer(t, 9).set("done", true))
	var seen []string
	args := map[string]any{"numItems": 2.0}
	for {
		var page struct {
			Page           []map[string]any `json:"page"`
			IsDone         bool             `json:"isDone"`
			ContinueCursor string           `json:"continueCursor"`
		}
		w.call("", "tasks:material", args, &page)
		for _, row := range page.Page {
			seen = append(seen, row["id"].(string))
		}
		if page.IsDone {
			break
		}
		args["cursor"] = page.ContinueCursor
	}
	if diff := cmp.Diff([]string{"doc 1", "doc 4", "doc 3", "doc 2", "doc 0"}, seen); diff != "" {
		t.Errorf("the order of the material (-want +got):\n%s", diff)
	}
}
