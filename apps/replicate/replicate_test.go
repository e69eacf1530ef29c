package replicate_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/yjs"
)

func TestWriteAndRead(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	first := a.set("title", "buy milk", "done", false)
	w.must("", "a", first)
	changes, seq := w.stream("", 0)
	if len(changes) != 1 || changes[0].Document != "a" || !changes[0].Exists || changes[0].Type != "delta" || changes[0].Seq != seq {
		t.Fatalf("the stream has %+v up to %d", changes, seq)
	}
	b.apply(changes[0].Bytes)
	w.must("", "a", b.set("done", true))
	if changes, _ = w.stream("", seq); len(changes) != 1 {
		t.Fatalf("after %d the stream has %+v", seq, changes)
	}
	a.apply(changes[0].Bytes)
	want := `{"done":true,"title":"buy milk"}`
	if a.json() != want || b.json() != want {
		t.Errorf("the peers have %s and %s, want %s", a.json(), b.json(), want)
	}
	if diff := cmp.Diff(map[string]string{"a": want}, w.material("")); diff != "" {
		t.Errorf("material (-want +got):\n%s", diff)
	}
	if got := w.write("", "a", first)[0]; got.Status != replicate.Known {
		t.Errorf("the same write again: %+v", got)
	}

	var recovered struct {
		Mode         string `json:"mode"`
		Diff, Vector []byte
	}
	w.call("", "tasks:delta", map[string]any{"document": "a", "vector": []byte{0}}, &recovered)
	c := newPeer(t, 3)
	c.apply(recovered.Diff)
	if c.json() != want || recovered.Mode != "recovery" || !bytes.Equal(recovered.Vector, c.doc.State().Encode()) {
		t.Errorf("a recovery gives %s with vector %x, mode %q", c.json(), recovered.Vector, recovered.Mode)
	}

	w.must("", "a", a.remove())
	if changes, _ = w.stream("", seq); len(changes) != 1 || changes[0].Exists {
		t.Errorf("after the removal the stream has %+v", changes)
	}
	if got := w.material(""); len(got) != 0 {
		t.Errorf("after the removal the material is %v", got)
	}
}

func TestEditOfTheServer(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	a := newPeer(t, 1)
	w.must("", "a", a.set("title", "draft"))
	for _, title := range []string{"one", "two", "two"} {
		w.call("", "more:edit", map[string]any{"document": "a", "title": title}, nil)
	}
	var s stored
	w.call("", "more:since", map[string]any{"document": "a", "seq": 0.0}, &s)
	a.apply(s.Update)
	if a.json() != `{"title":"two"}` || s.Fields != `{"title":"two"}` {
		t.Errorf("after edits of the server: %s, %s", a.json(), s.Fields)
	}
	vector, err := yjs.DecodeStateVector(s.Vector)
	if err != nil || len(vector) != 2 {
		t.Errorf("the state vector is %v, %v; want two clients", vector, err)
	}
	w.must("", "a", a.set("title", "three"))
}

func TestGappedUpdateWaits(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	a := newPeer(t, 1)
	first, second, third := a.set("title", "1"), a.set("title", "2"), a.set("title", "3")
	for range 2 {
		for _, u := range [][]byte{third, second} {
			if got := w.write("", "a", u)[0]; got.Status != replicate.Gapped || got.Code != replicate.CodeGapped || got.Message == "" {
				t.Fatalf("an update whose base is missing: %+v", got)
			}
		}
	}
	if got := w.material(""); len(got) != 0 {
		t.Errorf("the material is %v", got)
	}
	w.must("", "a", first)
	if diff := cmp.Diff(map[string]string{"a": `{"title":"3"}`}, w.material("")); diff != "" {
		t.Errorf("material (-want +got):\n%s", diff)
	}
	var asides []string
	if w.call("", "more:asides", map[string]any{"document": "a"}, &asides); len(asides) != 0 {
		t.Errorf("what waited is still there: %v", asides)
	}
}

// A gap may be in what others have done, of which the state vector of the sender says nothing.
func TestGapInChangesOfOthers(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	a, b := newPeer(t, 1), newPeer(t, 2)
	text := func(p *peer, at int, s string) []byte {
		return p.edit(func() error { return p.doc.Text("body").Insert(at, s, nil) })
	}
	first := text(a, 0, "hello")
	unsent := text(a, 5, " world")
	b.apply(first)
	b.apply(unsent) // by another way than the server
	w.must("", "a", first)
	builds := text(b, 11, "!")
	deletes := b.edit(func() error { return b.doc.Text("body").Delete(6, 2) })
	for i, u := range [][]byte{builds, deletes} {
		if got := w.write("", "a", u)[0]; got.Status != replicate.Gapped {
			t.Fatalf("update %d, on what has not arrived, is %+v", i, got)
		}
	}
	late := newPeer(t, 3)
	if late.apply(w.recoverAs("", "a", nil).Bytes); late.doc.Text("body").String() != "hello" || late.doc.Pending() != nil {
		t.Errorf("who comes late has %q, pending %v", late.doc.Text("body").String(), late.doc.Pending())
	}
	w.must("", "a", unsent)
	b.apply(w.recoverAs("", "a", nil).Bytes)
	if late.apply(w.recoverAs("", "a", nil).Bytes); late.doc.Text("body").String() != "hello rld!" || !late.doc.Snapshot().Equal(b.doc.Snapshot()) {
		t.Errorf("when all has arrived, who comes late has %q, who wrote %q", late.doc.Text("body").String(), b.doc.Text("body").String())
	}
}

func TestLargeUpdate(t *testing.T) {
	w := newWorld(t, replicate.Options{Fields: []replicate.Field{{Name: "title", Kind: replicate.String}}})
	a := newPeer(t, 1)
	random := make([]byte, 3<<20)
	for i := range random {
		random[i] = 'a' + byte(i*i%23)
	}
	w.must("", "a", a.set("title", "t", "hidden", string(random)))
	w.must("", "b", newPeer(t, 2).set("title", "b"))
	changes, _ := w.stream("", 0)
	b := newPeer(t, 3)
	b.apply(changes[0].Bytes)
	if a.json() != b.json() {
		t.Errorf("a large update came back with %d bytes", len(b.json()))
	}
	if got := w.material("")["a"]; got != `{"title":"t"}` {
		t.Errorf("the material is %s", got)
	}
}
