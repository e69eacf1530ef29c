package replicate_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/engine/value"
)

// snapshot returns all documents as a user gets them when they have none, in how many pages, and from where the stream goes on.
func (w *world) snapshot(user string) (documents []replicate.SnapshotDocument, pages int, seq replicate.Seq) {
	w.t.Helper()
	args := map[string]any{}
	for {
		var page replicate.SnapshotPage
		w.call(user, "tasks:snapshot", args, &page)
		if pages++; pages == 1 {
			seq = page.Seq
		}
		documents = append(documents, page.Documents...)
		if page.Cursor == "" {
			return documents, pages, seq
		}
		args["cursor"] = page.Cursor
	}
}

// fill writes n documents, one update each, in batches as a client's.
func (w *world) fill(n int) {
	w.t.Helper()
	w.fillAs("", n)
}

// fillAs is fill by a user.
func (w *world) fillAs(user string, n int) {
	w.t.Helper()
	var writes []writeArgs
	for d := range n {
		id := fmt.Sprintf("doc %05d", d)
		writes = append(writes, writeArgs{id, id, newPeer(w.t, uint64(d+1)).set("title", id, "done", false)})
		if len(writes) < 100 && d < n-1 {
			continue
		}
		var got struct {
			Results []writeResult `json:"results"`
		}
		if w.call(user, "tasks:replicateBatch", map[string]any{"writes": writes}, &got); len(got.Results) != len(writes) {
			w.t.Fatalf("%d results for %d writes", len(got.Results), len(writes))
		}
		writes = nil
	}
}

// TestSnapshot has all of every document, whatever became of it, and its material.
func TestSnapshot(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	if documents, pages, seq := w.snapshot(""); len(documents) != 0 || pages != 1 || seq != 0 {
		t.Errorf("of an empty collection it has %v, to %d", documents, seq)
	}
	a, b, c := newPeer(t, 1), newPeer(t, 2), newPeer(t, 3)
	w.must("", "a", a.set("title", "one"))
	w.must("", "c", c.set("title", "c", "done", true))
	w.must("", "b", b.set("title", "b"), b.remove())
	w.must("", "a", a.set("title", "two"))
	large := newPeer(t, 4)
	w.must("", "a large one", large.set("title", strings.Repeat("x", 400<<10)))
	w.must("", "a large one", large.edit(func() error { return large.doc.Text("body").Insert(0, strings.Repeat("long ", 300<<10), nil) }))
	w.compact("a")
	w.must("", "a", a.set("done", false))
	documents, pages, seq := w.snapshot("")
	if len(documents) != 4 || pages != 1 {
		t.Fatalf("%d documents on %d pages", len(documents), pages)
	}
	for i, want := range []struct {
		name, material string
		peer           *peer
	}{
		{"a", `{"done":false,"title":"two"}`, a}, {"a large one", `{"title":"` + strings.Repeat("x", 400<<10) + `"}`, large}, {"b", "", b}, {"c", `{"done":true,"title":"c"}`, c},
	} {
		got := documents[i]
		if got.Document != want.name || got.Exists != (want.material != "") || got.Access != "" {
			t.Errorf("document %d is %q, exists %t, access %q", i, got.Document, got.Exists, got.Access)
		}
		if got.Material != want.material && !sameJSON(got.Material, want.material) {
			t.Errorf("the material of %q is %.200s", got.Document, got.Material)
		}
		same(t, want.name, want.peer, got.Bytes)
	}
	if changes, _ := w.stream("", seq); len(changes) != 0 {
		t.Errorf("after it the stream has %d changes", len(changes))
	}
}

func sameJSON(a, b string) bool {
	va, errA := value.ParseJSON([]byte(a))
	vb, errB := value.ParseJSON([]byte(b))
	return errA == nil && errB == nil && value.Compare(va, vb) == 0
}

// TestSnapshotThenStream misses nothing that is written between its pages, to documents that it has passed and to others.
func TestSnapshotThenStream(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	peers := map[string]*peer{}
	for _, id := range []string{"a", "b", "c", "d"} {
		peers[id] = newPeer(t, uint64(id[0]))
		w.must("", id, peers[id].set("title", "before"))
	}
	var first, rest replicate.SnapshotPage
	w.slowly(7, func() { w.call("", "tasks:snapshot", struct{}{}, &first) })
	if first.Cursor == "" || len(first.Documents) == 0 {
		t.Fatalf("the first page has %d documents and goes on at %q", len(first.Documents), first.Cursor)
	}
	passed := first.Documents[0].Document
	w.must("", passed, peers[passed].set("title", "after"))
	w.must("", "d", peers["d"].set("title", "after"))
	peers["aa"] = newPeer(t, 99)
	w.must("", "aa", peers["aa"].set("title", "new"))
	have := map[string][][]byte{}
	w.call("", "tasks:snapshot", map[string]any{"cursor": first.Cursor}, &rest)
	for _, d := range append(first.Documents, rest.Documents...) {
		have[d.Document] = append(have[d.Document], d.Bytes)
	}
	changes, _ := w.stream("", first.Seq)
	for _, c := range changes {
		have[c.Document] = append(have[c.Document], c.Bytes)
	}
	for id, p := range peers {
		same(t, id, p, have[id]...)
	}
}

// TestSnapshotAsksTheRule: nothing of a document is in it for who may not read it, and the stream goes on where it ends.
func TestSnapshotAsksTheRule(t *testing.T) {
	w := newWorld(t, replicate.Options{AccessFields: []string{"owner"}, Access: func(tx *halcyon.Tx, d replicate.Document) (replicate.Level, error) {
		who, _ := tx.Identity()
		switch owner := d.String("owner"); {
		case !d.Exists || owner == who.Subject || who.Subject == "root":
			return replicate.Write, nil
		case owner == "all":
			return replicate.Read, nil
		}
		return replicate.None, nil
	}})
	ann := newPeer(t, 1)
	w.must("ann", "ann's", ann.set("title", "secret", "owner", "ann"))
	w.must("all", "all's", newPeer(t, 2).set("title", "for all", "owner", "all"))
	for _, tt := range []struct{ user, want string }{
		{"ann", "all's read, ann's write, "},
		{"bob", "all's read, "}, // last: what is ann's becomes his
	} {
		user, want := tt.user, tt.want
		documents, _, seq := w.snapshot(user)
		var got strings.Builder
		for _, d := range documents {
			fmt.Fprintf(&got, "%s %s, ", d.Document, d.Access)
		}
		if got.String() != want {
			t.Errorf("%s gets %s want %s", user, &got, want)
		}
		if user == "bob" {
			w.must("root", "ann's", ann.set("owner", "bob"))
			changes, _ := w.stream("bob", seq)
			same(t, "what was opened for bob", ann, bytesOf(changes, "ann's")...)
		}
	}
}

func TestSnapshotRefusesOtherCursors(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	for _, cursor := range []string{"", strings.Repeat("x", 257)} {
		if f := w.try("", "tasks:snapshot", map[string]any{"cursor": cursor}, nil); f == nil || !strings.Contains(f.Error(), "no cursor") {
			t.Errorf("%.20q: %v", cursor, f)
		}
	}
}

// TestSnapshotWithARuleThatReads has as many documents on a page as the rule can be asked for.
func TestSnapshotWithARuleThatReads(t *testing.T) {
	var w *world
	reads := false
	w = newWorld(t, replicate.Options{Access: func(tx *halcyon.Tx, d replicate.Document) (replicate.Level, error) {
		if !reads {
			return replicate.Write, nil
		}
		_, err := w.tasks.List(tx, d.ID, 1)
		return replicate.Read, err
	}})
	const n = 2_300
	w.fill(n)
	for _, tt := range []struct {
		reads bool
		pages int
	}{{false, 1}, {true, 2}} {
		reads = tt.reads
		if documents, pages, _ := w.snapshot(""); len(documents) != n || pages != tt.pages {
			t.Errorf("with a rule that reads: %t: %d documents on %d pages, want %d pages", reads, len(documents), pages, tt.pages)
		}
	}
}

// TestSnapshotOfManyDocuments takes few calls.
func TestSnapshotOfManyDocuments(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	w.fill(10_000)
	documents, pages, _ := w.snapshot("")
	if len(documents) != 10_000 || pages > 3 {
		t.Errorf("%d documents on %d pages", len(documents), pages)
	}
	for i := 1; i < len(documents); i++ {
		if documents[i-1].Document >= documents[i].Document {
			t.Fatalf("%q comes before %q", documents[i-1].Document, documents[i].Document)
		}
	}
}

// BenchmarkFirstLoad reads 10,000 documents of one update each, as a client that has none does: by the stream in pages of 500 documents and in
// one, and by the snapshot. What a WebSocket is sent of the result is made too.
func BenchmarkFirstLoad(b *testing.B) {
	w := newWorld(b, replicate.Options{})
	w.fill(10_000)
	read := func(b *testing.B, path string, args map[string]any) value.Value {
		var result value.Value
		w.call("", path, args, &result)
		b.ReportMetric(float64(len(value.AppendJSON(nil, result))), "bytes/page")
		return result
	}
	stream := func(limit float64) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				args := map[string]any{"seq": 0.0, "limit": limit}
				for {
					page := read(b, "tasks:delta", args)
					if more, _ := page.Get("more").AsBool(); !more {
						break
					}
					args["seq"], _ = page.Get("seq").AsFloat64()
				}
			}
		}
	}
	b.Run("stream by 500", stream(500))
	b.Run("stream", stream(1000))
	b.Run("snapshot", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			args := map[string]any{}
			for {
				page := read(b, "tasks:snapshot", args)
				cursor, more := page.Get("cursor").AsString()
				if !more {
					break
				}
				args["cursor"] = cursor
			}
		}
	})
}

// TestSnapshotByLimit gives pages as small as a client wants them, and no material to who wants none.
func TestSnapshotByLimit(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	w.fill(7)
	args := map[string]any{"limit": 3, "material": false}
	var sizes []int
	var names []string
	for {
		var page replicate.SnapshotPage
		w.call("", "tasks:snapshot", args, &page)
		sizes = append(sizes, len(page.Documents))
		for _, d := range page.Documents {
			names = append(names, d.Document)
			if d.Material != "" || !d.Exists || len(d.Bytes) < 20 {
				t.Errorf("document %+v", d)
			}
		}
		if page.Cursor == "" {
			break
		}
		args["cursor"] = page.Cursor
	}
	if diff := cmp.Diff([]int{3, 3, 1}, sizes); diff != "" {
		t.Errorf("documents on the pages (-want +got):\n%s", diff)
	}
	if len(names) != 7 || !slices.IsSorted(names) || len(slices.Compact(names)) != 7 {
		t.Errorf("the documents are %q", names)
	}
}
