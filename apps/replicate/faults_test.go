package replicate_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
)

// typed writes n updates of one document, one call each ten, and returns the peer who made them.
func (w *world) typed(document string, client uint64, n int) *peer {
	w.t.Helper()
	p := newPeer(w.t, client)
	var updates [][]byte
	for i := range n {
		updates = append(updates, p.set("title", fmt.Sprintf("%d", i)))
		if len(updates) == 10 || i == n-1 {
			w.must("", document, updates...)
			updates = nil
		}
	}
	return p
}

func (w *world) rows(document string) (n int) {
	w.t.Helper()
	w.call("", "more:rows", map[string]any{"document": document}, &n)
	return n
}

func (w *world) compact(document string) {
	w.t.Helper()
	w.clock.advance(1e6)
	w.call("", "tasks:compact", map[string]any{"document": document}, nil)
}

// same checks that a document brought up from nothing by updates is that of a peer, in all that a document has.
func same(t *testing.T, what string, want *peer, updates ...[]byte) {
	t.Helper()
	got := newPeer(t, 999)
	for _, u := range updates {
		got.apply(u)
	}
	if got.doc.Pending() != nil || !got.doc.Snapshot().Equal(want.doc.Snapshot()) || got.json() != want.json() {
		t.Errorf("%s: %s with %v, want %s with %v; pending %v", what, got.json(), got.doc.State(), want.json(), want.doc.State(), got.doc.Pending())
	}
}

func bytesOf(changes []replicate.StreamChange, document string) (updates [][]byte) {
	for _, c := range changes {
		if c.Document == document {
			updates = append(updates, c.Bytes)
		}
	}
	return updates
}

// TestFaultsOfReplicate has a case for each fault of @trestleinc/replicate's own server that ours must not have.
func TestFaultsOfReplicate(t *testing.T) {
	tests := []struct {
		name string
		run  func(t *testing.T)
	}{
		{"1 a client that lags keeps nothing from being compacted", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := w.typed("a", 1, 600)
			for _, action := range []string{"join", "mark"} {
				w.call("", "tasks:presence", map[string]any{"document": "a", "client": "x", "action": action, "vector": []byte{0}, "seq": 1.0}, nil)
			}
			if w.compact("a"); w.rows("a") != 1 {
				t.Errorf("after the compaction the document lies in %d rows", w.rows("a"))
			}
			same(t, "the document", p, w.recoverAs("", "a", nil).Bytes)
		}},
		{"2 who is new or behind gets what was compacted", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := newPeer(t, 1)
			w.must("", "a", p.set("title", "one"))
			w.must("", "b", newPeer(t, 2).set("title", "b"))
			start, behind := w.stream("", 0)
			have := bytesOf(start, "a")
			w.must("", "a", p.set("title", "two"), p.set("done", true))
			w.must("", "a", p.edit(func() error { return p.doc.Map("fields").Delete("title") }))
			_, caughtUp := w.stream("", behind)
			w.compact("a")
			after, _ := w.stream("", 0)
			same(t, "who is new", p, bytesOf(after, "a")...)
			after, _ = w.stream("", behind)
			same(t, "who is behind", p, append(have, bytesOf(after, "a")...)...)
			if after, _ = w.stream("", caughtUp); len(after) != 0 {
				t.Errorf("who has all is sent %+v", after)
			}
			w.must("", "a", p.set("title", "three"))
			after, _ = w.stream("", caughtUp)
			if len(after) != 1 {
				t.Errorf("who has all but the last is sent %d changes", len(after))
			}
		}},
		{"3 an update with a gap harms nobody", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := newPeer(t, 1)
			w.must("", "a", p.set("title", "base"))
			forgotten := p.set("title", "offline")
			second := p.set("title", "after a reload")
			if got := w.write("", "a", second)[0]; got.Status != replicate.Gapped {
				t.Fatalf("the update is %+v", got)
			}
			changes, _ := w.stream("", 0)
			peer := newPeer(t, 5)
			for _, u := range bytesOf(changes, "a") {
				peer.apply(u)
			}
			if peer.json() != `{"title":"base"}` || peer.doc.Pending() != nil {
				t.Errorf("a peer has %s, pending %v", peer.json(), peer.doc.Pending())
			}
			w.must("", "a", forgotten)
			same(t, "when the gap is filled", p, w.recoverAs("", "a", nil).Bytes)
		}},
		{"4 and jj writers of different documents do not meet", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			// The first writes of new documents may look at the same empty place, so they come one after the other. Then nothing is shared.
			peers := make([]*peer, 8)
			for d := range peers {
				peers[d] = newPeer(t, uint64(d+1))
				w.must("", fmt.Sprint("doc ", d), peers[d].set("title", "first"))
			}
			var wg sync.WaitGroup
			for d, p := range peers {
				wg.Go(func() {
					for i := range 30 {
						args := map[string]any{"writes": []writeArgs{{"1", fmt.Sprint("doc ", d), p.set("title", fmt.Sprint(i))}}}
						if f := w.try("", "tasks:replicateBatch", args, nil); f != nil {
							t.Error(f)
						}
					}
				})
			}
			wg.Wait()
			calls := 0
			for _, f := range w.app.Insights().Functions {
				if f.Function == "tasks:replicateBatch" {
					if calls = int(f.Calls); f.Conflicts > 0 {
						t.Errorf("%d of %d writes met another", f.Conflicts, f.Calls)
					}
				}
			}
			if calls != 8*31 {
				t.Errorf("%d writes were counted", calls)
			}
		}},
		{"5 a compaction that did not happen is not in the way of the next", func(t *testing.T) {
			o := replicate.Options{CompactAfter: 20}
			w := newWorld(t, o)
			p := w.typed("a", 1, 60) // nothing runs: the app has not started
			w.fs = w.fs.CrashClone(vfs.CrashCloneCfg{})
			old := w.app
			w.open(o)
			_ = old.Close()
			w.clock.advance(1e6)
			if err := w.app.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "the compactions of before the crash", func() bool { return w.rows("a") == 1 })
			same(t, "the document", p, w.recoverAs("", "a", nil).Bytes)
		}},
		{"6 rules hold for every way to read, and for what is stored", func(t *testing.T) {
			// TestAccess has the ways to read one by one.
			w := ownedWorld(t)
			ann, eve := newPeer(t, 1), newPeer(t, 2)
			w.must("ann", "a", ann.set("title", "t", "owner", "ann", "done", true))
			f := w.try("eve", "tasks:replicate", map[string]any{
				"document": "a", "type": "update", "bytes": eve.set("owner", "eve"), "material": map[string]any{"owner": "eve", "done": true},
			}, nil)
			if f == nil || !strings.Contains(f.Message, "may not write") {
				t.Errorf("eve takes a document over: %v", f)
			}
		}},
		{"7 and aa an insert may be repeated, an update may come first", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := newPeer(t, 1)
			args := map[string]any{"document": "a", "bytes": p.set("title", "t"), "material": map[string]any{"title": "lie"}, "type": "insert"}
			for range 3 {
				w.call("", "tasks:replicate", args, nil)
			}
			args["document"], args["type"] = "b", "update"
			w.call("", "tasks:replicate", args, nil)
			if got := w.material(""); len(got) != 2 || got["a"] != `{"title":"t"}` || got["b"] != `{"title":"t"}` || w.rows("a") != 1 {
				t.Errorf("the material is %v, a lies in %d rows", got, w.rows("a"))
			}
			if changes, _ := w.stream("", 0); len(changes) != 2 || !changes[0].Exists || !changes[1].Exists {
				t.Errorf("the stream has %+v", changes)
			}
		}},
		{"8 the rule is asked once for each document that changed", func(t *testing.T) {
			asked := 0
			w := newWorld(t, replicate.Options{Access: func(*halcyon.Tx, replicate.Document) (replicate.Level, error) {
				asked++
				return replicate.Write, nil
			}})
			for d := range 200 {
				w.must("", fmt.Sprint("doc ", d), newPeer(t, 1).set("title", "t"))
			}
			_, seq := w.stream("", 0)
			w.must("", "doc 7", newPeer(t, 2).set("title", "u"))
			asked = 0
			if w.stream("", seq); asked != 1 {
				t.Errorf("for one change the rule was asked %d times", asked)
			}
		}},
		{"9 a client that never moves its cursor sees more than 1,000 changes, and no document twice", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			var peers []*peer
			for d := range 3 {
				peers = append(peers, w.typed(fmt.Sprint("doc ", d), uint64(d+1), 420))
			}
			var page replicate.StreamPage
			w.call("", "tasks:delta", map[string]any{"seq": 0.0, "limit": 1000}, &page)
			if len(page.Changes) != 3 || page.More {
				t.Fatalf("the page has %d changes, more %v", len(page.Changes), page.More)
			}
			for d, p := range peers {
				same(t, fmt.Sprint("document ", d), p, bytesOf(page.Changes, fmt.Sprint("doc ", d))...)
			}
		}},
		{"9 and 13 a client that is new gets 10,000 documents at once", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			for batch := range 100 {
				var writes []writeArgs
				for d := range 100 {
					id := fmt.Sprintf("doc %05d", batch*100+d)
					writes = append(writes, writeArgs{"", id, newPeer(t, uint64(batch*100+d+1)).set("title", id)})
				}
				w.call("", "tasks:replicateBatch", map[string]any{"writes": writes}, nil)
			}
			var page replicate.StreamPage
			if w.call("", "tasks:delta", map[string]any{"seq": 0.0, "limit": 1000}, &page); len(page.Changes) != 10_000 || page.More {
				t.Errorf("the page has %d changes, more %v", len(page.Changes), page.More)
			}
		}},
		{"10 who is there is told without a document", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			for _, d := range []string{"a", "b"} {
				w.must("", d, newPeer(t, 1).set("title", d))
				w.call("", "tasks:presence", map[string]any{"document": d, "client": "x", "action": "join", "user": "ann"}, nil)
			}
			var got []struct {
				Client, Document, User string
				Seen                   float64
			}
			if w.call("", "tasks:session", map[string]any{"connected": true}, &got); len(got) != 2 || got[0].Document != "a" || got[1].Document != "b" {
				t.Errorf("the collection has %+v", got)
			}
		}},
		{"11 marks cost nothing and none can be lost", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			w.must("", "a", newPeer(t, 1).set("title", "t"))
			before := w.app.Durable()
			for range 50 {
				w.call("", "tasks:presence", map[string]any{"document": "a", "client": "x", "action": "mark", "vector": []byte{0}, "seq": 1.0}, nil)
			}
			if after := w.app.Durable(); after != before {
				t.Errorf("marks made commits up to %d, after %d", after, before)
			}
		}},
		{"12 a full copy costs what is new in it", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := newPeer(t, 1)
			p.set("title", strings.Repeat("long ", 2000))
			for i := range 50 {
				p.set("done", i%2 == 0)
				w.must("", "a", p.doc.EncodeStateV2(nil))
			}
			var list []listed
			if w.call("", "more:list", struct{}{}, &list); len(list) != 1 || list[0].Bytes > 15_000 {
				t.Errorf("50 copies of 10,000 bytes take %+v", list)
			}
			same(t, "the document", p, w.recoverAs("", "a", nil).Bytes)
		}},
		{"13 thousands of documents are recovered in a few calls", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			const n = 3_000
			var documents []any
			var writes []writeArgs
			for d := range n {
				id := fmt.Sprintf("doc %05d", d)
				writes = append(writes, writeArgs{"", id, newPeer(t, uint64(d+1)).set("title", id)})
				documents = append(documents, map[string]any{"document": id, "vector": []byte{0}})
				if len(writes) == 100 || d == n-1 {
					w.call("", "tasks:replicateBatch", map[string]any{"writes": writes}, nil)
					writes = nil
				}
			}
			args := map[string]any{"documents": documents}
			calls, seen := 0, 0
			for {
				var got struct {
					Documents []recovered `json:"documents"`
					Cursor    string      `json:"cursor,omitzero"`
				}
				w.call("", "tasks:recoverBatch", args, &got)
				calls++
				seen += len(got.Documents)
				if got.Cursor == "" {
					break
				}
				args["cursor"] = got.Cursor
			}
			if seen != n || calls != 3 {
				t.Errorf("%d documents in %d calls", seen, calls)
			}
		}},
		{"y order within a document does not matter", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := newPeer(t, 1)
			updates := [][]byte{p.set("title", "one"), p.set("title", "two"), p.remove()}
			for _, i := range []int{2, 1, 0, 0, 2} {
				w.write("", "a", updates[i])
			}
			if got := w.material(""); len(got) != 0 {
				t.Errorf("a deleted document is shown: %v", got)
			}
			changes, _ := w.stream("", 0)
			same(t, "the document", p, bytesOf(changes, "a")...)
		}},
		{"z a write that was given up may still come", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := newPeer(t, 1)
			late := p.set("title", "late")
			other := newPeer(t, 2)
			w.must("", "a", other.set("done", true))
			w.must("", "a", late)
			if got := w.material("")["a"]; got != `{"done":true,"title":"late"}` {
				t.Errorf("the document is %s", got)
			}
		}},
		{"bb a whole buffer in place of an update is refused, and set aside", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := newPeer(t, 1)
			w.must("", "a", p.set("title", "t"))
			u := append(bytes.Clone(p.set("title", "u")), make([]byte, 40)...)
			for _, bad := range [][]byte{u, nil, {0xff}, bytes.Repeat([]byte{0x80}, 100)} {
				if got := w.write("", "a", bad)[0]; got.Status != replicate.Refused || got.Code != replicate.CodeMalformed || got.Message == "" {
					t.Errorf("%x is %+v", bad, got)
				}
			}
			var asides []string
			if w.call("", "more:asides", map[string]any{"document": "a"}, &asides); len(asides) != 4 {
				t.Errorf("set aside are %v", asides)
			}
			if got := w.material("")["a"]; got != `{"title":"t"}` {
				t.Errorf("the document is %s", got)
			}
		}},
		{"dd an update is stored as bytes, once", func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := newPeer(t, 1)
			u := p.set("title", strings.Repeat("x", 10_000))
			w.must("", "a", u)
			w.write("", "a", u, u, u)
			var list []listed
			if w.call("", "more:list", struct{}{}, &list); list[0].Bytes > len(u)+20 {
				t.Errorf("an update of %d bytes takes %d", len(u), list[0].Bytes)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, tt.run)
	}
}

// waitFor waits for what goes on beside the test.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for start := time.Now(); !done(); {
		if time.Since(start) > waitMax {
			t.Fatalf("still waiting for %s", what)
		}
	}
}

// A field that is not what the collection says is refused, and so is what is over a limit; documents are as they were.
func TestRefused(t *testing.T) {
	w := newWorld(t, replicate.Options{UpdateBytesMax: 20_000, DocumentBytesMax: 30_000})
	p := newPeer(t, 1)
	w.must("", "a", p.set("title", "t"))
	big := newPeer(t, 3)
	tests := []struct {
		name, document string
		update         []byte
		code           string
	}{
		{"field of another kind", "a", newPeer(t, 2).set("title", 5), replicate.CodeField},
		{"field that may not be null", "a", newPeer(t, 2).set("done", nil), replicate.CodeField},
		{"too large an update", "a", newPeer(t, 2).set("x", strings.Repeat("x", 20_001)), replicate.CodeTooLarge},
		{"no name", "", p.set("done", true), replicate.CodeDocument},
		{"long name", strings.Repeat("n", 257), p.set("done", true), replicate.CodeDocument},
	}
	for _, tt := range tests {
		if got := w.write("", tt.document, tt.update)[0]; got.Status != replicate.Refused || got.Code != tt.code {
			t.Errorf("%s: %+v, want %s", tt.name, got, tt.code)
		}
	}
	w.must("", "big", big.set("x", strings.Repeat("x", 15_000)))
	if got := w.write("", "big", big.set("y", strings.Repeat("y", 16_000)))[0]; got.Code != replicate.CodeTooLarge {
		t.Errorf("past the size of a document: %+v", got)
	}
	if got := w.material("")["a"]; got != `{"title":"t"}` {
		t.Errorf("the document is %s", got)
	}
}
