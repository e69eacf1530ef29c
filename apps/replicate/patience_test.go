package replicate_test

import (
	"fmt"
	"testing"

	"github.com/halcyon-db/halcyon/apps/replicate"
)

// slowly runs f while every look at the clock takes some hundredths of a function's time.
func (w *world) slowly(hundredths int64, f func()) {
	w.clock.step.Store(hundredths * waitMax.Microseconds() / 100)
	f()
	w.clock.step.Store(0)
}

// TestBatchesThatAreTooLongForTheirTime are written as far as they come. The client sends the rest again, and nothing fails.
func TestBatchesThatAreTooLongForTheirTime(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	var waiting []writeArgs
	for d := range 20 {
		waiting = append(waiting, writeArgs{fmt.Sprint(d), fmt.Sprint("doc ", d), newPeer(t, uint64(d+1)).set("title", fmt.Sprint(d))})
	}
	calls := 0
	for ; len(waiting) > 0 && calls < 20; calls++ {
		var got struct {
			Results []writeResult `json:"results"`
		}
		w.slowly(1, func() { w.call("", "tasks:replicateBatch", map[string]any{"writes": waiting}, &got) })
		if len(got.Results) == 0 {
			t.Fatal("a call got no further")
		}
		for i, r := range got.Results {
			if r.ID != waiting[i].ID || r.Status != replicate.Applied {
				t.Fatalf("the result of write %s is %+v", waiting[i].ID, r)
			}
		}
		waiting = waiting[len(got.Results):]
	}
	if calls < 2 || len(waiting) > 0 {
		t.Errorf("%d writes are left after %d calls", len(waiting), calls)
	}
	if got := w.material(""); len(got) != 20 {
		t.Errorf("there are %d documents", len(got))
	}
}

// TestPagesThatAreTooLongForTheirTime end early, and the next one goes on where they did.
func TestPagesThatAreTooLongForTheirTime(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	var documents []any
	for d := range 120 {
		id := fmt.Sprintf("doc %03d", d)
		w.must("", id, newPeer(t, uint64(d+1)).set("title", id))
		documents = append(documents, map[string]any{"document": id})
	}
	seen, pages := map[string]int{}, 0
	for seq, more := replicate.Seq(0), true; more && pages < 100; pages++ {
		var page replicate.StreamPage
		w.slowly(1, func() { w.call("", "tasks:delta", map[string]any{"seq": float64(seq), "limit": 1000}, &page) })
		for _, c := range page.Changes {
			seen[c.Document]++
		}
		seq, more = page.Seq, page.More
	}
	if len(seen) != 120 || pages < 2 {
		t.Errorf("the stream has %d documents on %d pages", len(seen), pages)
	}
	recoveredOnce, pages := map[string]int{}, 0
	args := map[string]any{"documents": documents}
	for more := true; more && pages < 100; pages++ {
		var got struct {
			Documents []recovered `json:"documents"`
			Cursor    string      `json:"cursor,omitzero"`
		}
		w.slowly(1, func() { w.call("", "tasks:recoverBatch", args, &got) })
		for _, d := range got.Documents {
			recoveredOnce[d.Document]++
		}
		args["cursor"], more = got.Cursor, got.Cursor != ""
	}
	if len(recoveredOnce) != 120 || pages < 2 {
		t.Errorf("%d documents were recovered on %d pages", len(recoveredOnce), pages)
	}
	for id, n := range recoveredOnce {
		if n != 1 || seen[id] != 1 {
			t.Errorf("%s came %d times in the stream and %d times in the recovery", id, seen[id], n)
		}
	}
}

// TestEditsThatAreTooLongForTheirTime of one client, among them one that is refused, are written one by one in as many calls as it takes.
func TestEditsThatAreTooLongForTheirTime(t *testing.T) {
	const edits, bad = 40, 25
	w := newWorld(t, replicate.Options{})
	var updates [][]byte
	for i := range edits {
		p := newPeer(t, uint64(i+1))
		p.edit(func() error { return p.doc.Text("body").Insert(0, "x", nil) })
		updates = append(updates, p.doc.EncodeState(nil))
	}
	updates[bad] = []byte("no update")
	w.slowly(1, func() {
		codes, durable, err := w.tasks.WriteEdits(t.Context(), w.app, "a", updates)
		if err != nil || len(codes) != edits || durable != edits {
			t.Fatalf("%d results, %d of %d durable, %v", len(codes), durable, edits, err)
		}
		for i, code := range codes {
			if want := map[bool]string{true: replicate.CodeMalformed}[i == bad]; code != want {
				t.Errorf("edit %d is %q, want %q", i, code, want)
			}
		}
	})
	got := newPeer(t, 100)
	got.apply(w.recoverAs("", "a", nil).Bytes)
	if n := got.doc.Text("body").Len(); n != edits-1 {
		t.Errorf("%d edits are there, want %d", n, edits-1)
	}
}
