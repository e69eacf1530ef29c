package replicate_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/yjs"
)

// owned lets the owner of a document write it and others read it when it is done. Who begins one has to own it.
func owned(tx *halcyon.Tx, d replicate.Document) (replicate.Level, error) {
	who, _ := tx.Identity()
	switch {
	case !d.Exists:
		return replicate.Read, nil
	case d.String("owner") == who.Subject:
		return replicate.Write, nil
	case bytes.Contains(d.JSON(), []byte(`"done":true`)):
		return replicate.Read, nil
	}
	return replicate.None, nil
}

func ownedWorld(t testing.TB) *world {
	return newWorld(t, replicate.Options{Access: owned, AccessFields: []string{"owner", "done"}})
}

// recoverAs returns what recoverBatch answers a user for one document.
func (w *world) recoverAs(user, document string, vector []byte) recovered {
	w.t.Helper()
	var got struct {
		Documents []recovered `json:"documents"`
		Cursor    string      `json:"cursor,omitzero"`
	}
	w.call(user, "tasks:recoverBatch", map[string]any{"documents": []any{map[string]any{"document": document, "vector": vector}}}, &got)
	if len(got.Documents) != 1 {
		w.t.Fatalf("recovery of one document: %+v", got)
	}
	return got.Documents[0]
}

type recovered struct {
	Document string `json:"document"`
	Bytes    []byte `json:"bytes"`
	Vector   []byte `json:"vector"`
	Exists   bool   `json:"exists"`
	Access   string `json:"access"`
}

func TestAccess(t *testing.T) {
	w := ownedWorld(t)
	ann := newPeer(t, 1)
	w.must("ann", "a", ann.set("title", "secret plan", "owner", "ann", "done", false))

	// Nobody else learns anything of it, whatever they call.
	if changes, _ := w.stream("bob", 0); len(changes) != 0 {
		t.Errorf("bob is sent %+v", changes)
	}
	if got := w.material("bob"); len(got) != 0 {
		t.Errorf("bob is shown %v", got)
	}
	if got := w.recoverAs("bob", "a", []byte{0}); got.Exists || got.Access != "none" || !bytes.Equal(got.Vector, []byte{0}) || len(got.Bytes) > 13 {
		t.Errorf("bob recovers %+v", got)
	}
	var single struct {
		Mode         string `json:"mode"`
		Diff, Vector []byte
	}
	w.call("bob", "tasks:delta", map[string]any{"document": "a", "vector": []byte{0}}, &single)
	if len(single.Diff) > 13 || !bytes.Equal(single.Vector, []byte{0}) {
		t.Errorf("bob recovers %x with vector %x", single.Diff, single.Vector)
	}

	// The stored document counts and not what the update makes of it: nobody takes it over.
	bob := newPeer(t, 2)
	if got := w.write("bob", "a", bob.set("owner", "bob"))[0]; got.Status != replicate.Refused || got.Code != replicate.CodeDenied {
		t.Errorf("bob takes the document over: %+v", got)
	}
	// What it would make counts as well.
	if got := w.write("ann", "a", ann.set("owner", "bob"))[0]; got.Status != replicate.Refused || got.Code != replicate.CodeDenied {
		t.Errorf("ann gives the document away, which the rule does not let her: %+v", got)
	}
	if got := w.write("bob", "b", newPeer(t, 3).set("owner", "ann", "title", "for ann"))[0]; got.Code != replicate.CodeDenied {
		t.Errorf("bob begins a document of ann's: %+v", got)
	}
	if diff := cmp.Diff(map[string]string{"a": `{"done":false,"owner":"ann","title":"secret plan"}`}, w.material("ann")); diff != "" {
		t.Errorf("the material of ann (-want +got):\n%s", diff)
	}
}

// A reader who is let in later gets what came before, also when it was past the reader's place in the stream; and one who is let out is told.
func TestAccessOpensAndCloses(t *testing.T) {
	w := ownedWorld(t)
	ann, bob := newPeer(t, 1), newPeer(t, 2)
	w.must("ann", "a", ann.set("title", "plan", "owner", "ann", "done", false))
	w.must("ann", "a", ann.set("title", "the plan"))
	w.must("ann", "other", newPeer(t, 9).set("title", "other", "owner", "ann", "done", true))
	changes, seq := w.stream("bob", 0)
	if len(changes) != 1 || changes[0].Document != "other" {
		t.Fatalf("bob is sent %+v", changes)
	}
	w.must("ann", "a", ann.set("done", true))
	changes, seq = w.stream("bob", seq)
	if len(changes) != 1 || changes[0].Type != "snapshot" {
		t.Fatalf("after it was opened bob is sent %+v", changes)
	}
	bob.apply(changes[0].Bytes)
	if bob.json() != ann.json() || bob.doc.Pending() != nil {
		t.Errorf("bob has %s, ann %s", bob.json(), ann.json())
	}
	w.must("ann", "a", ann.set("done", false, "title", "a secret"))
	changes, seq = w.stream("bob", seq)
	if len(changes) != 1 || changes[0].Exists || len(changes[0].Bytes) > 13 {
		t.Errorf("after it was closed bob is sent %+v", changes)
	}
	w.must("ann", "a", ann.set("title", "more secrets"))
	if changes, _ = w.stream("bob", seq); len(changes) != 0 {
		t.Errorf("of a closed document bob is sent %+v", changes)
	}
}

// What somebody may not write does not come in by the write of another.
func TestAccessOfWaitingUpdates(t *testing.T) {
	w := ownedWorld(t)
	ann, eve := newPeer(t, 1), newPeer(t, 66)
	first := ann.set("title", "plan", "owner", "ann", "done", true)
	eve.apply(first)
	eve.set("title", "1")
	late := eve.set("title", "mine now")
	if got := w.write("eve", "a", late)[0]; got.Status == replicate.Applied {
		t.Fatalf("eve's update: %+v", got)
	}
	w.must("ann", "a", first)
	w.must("ann", "a", ann.set("title", "2"))
	if got := w.material("ann")["a"]; !strings.Contains(got, `"title":"2"`) {
		t.Errorf("the document is %s", got)
	}
}

// A rule that looks at something else than the document is asked again when it is told to be.
func TestReopen(t *testing.T) {
	members := map[string]bool{}
	w := newWorld(t, replicate.Options{Access: func(tx *halcyon.Tx, _ replicate.Document) (replicate.Level, error) {
		if who, _ := tx.Identity(); members[who.Subject] {
			return replicate.Write, nil
		}
		return replicate.None, nil
	}})
	members["ann"] = true
	ann, bob := newPeer(t, 1), newPeer(t, 2)
	w.must("ann", "a", ann.set("title", "plan"))
	_, seq := w.stream("bob", 0)
	members["bob"] = true
	w.call("ann", "more:reopen", map[string]any{"document": "a"}, nil)
	changes, seq := w.stream("bob", seq)
	if len(changes) != 1 || !changes[0].Exists {
		t.Fatalf("bob is sent %+v", changes)
	}
	bob.apply(changes[0].Bytes)
	if bob.json() != `{"title":"plan"}` {
		t.Errorf("bob has %s", bob.json())
	}
	delete(members, "bob")
	w.call("ann", "more:reopen", map[string]any{"document": "a"}, nil)
	if changes, _ = w.stream("bob", seq); len(changes) != 1 || changes[0].Exists {
		t.Errorf("bob is sent %+v", changes)
	}
}

// A rule that refuses one document with a word keeps nobody from the others.
func TestRuleThatRefuses(t *testing.T) {
	w := newWorld(t, replicate.Options{Access: func(tx *halcyon.Tx, d replicate.Document) (replicate.Level, error) {
		if who, _ := tx.Identity(); d.ID == "closed" && who.Subject != "ann" {
			return replicate.None, &halcyon.Error{Code: "Closed", Message: "only ann may"}
		}
		return replicate.Write, nil
	}})
	w.must("ann", "closed", newPeer(t, 1).set("title", "c"))
	w.must("bob", "open", newPeer(t, 2).set("title", "o"))
	if changes, _ := w.stream("bob", 0); len(changes) != 1 || changes[0].Document != "open" {
		t.Errorf("bob is sent %+v", changes)
	}
	if got := w.material("bob"); len(got) != 1 {
		t.Errorf("bob is shown %v", got)
	}
	if got := w.recoverAs("bob", "closed", nil); got.Access != "none" {
		t.Errorf("bob recovers %+v", got)
	}
	if got := w.write("bob", "closed", newPeer(t, 3).set("title", "b"))[0]; got.Code != replicate.CodeDenied || got.Message != "only ann may" {
		t.Errorf("bob writes: %+v", got)
	}
}

// Many documents that are opened at once are sent in pages of a bounded size.
func TestReopenMany(t *testing.T) {
	open := false
	w := newWorld(t, replicate.Options{Access: func(tx *halcyon.Tx, _ replicate.Document) (replicate.Level, error) {
		if who, _ := tx.Identity(); who.Subject == "ann" || open {
			return replicate.Write, nil
		}
		return replicate.None, nil
	}})
	const documents = 14
	for d := range documents {
		w.must("ann", fmt.Sprint("doc ", d), newPeer(t, uint64(d+1)).set("hidden", strings.Repeat(fmt.Sprint(d), 1<<20)))
	}
	_, seq := w.stream("bob", 0)
	open = true
	for d := range documents {
		w.call("ann", "more:reopen", map[string]any{"document": fmt.Sprint("doc ", d)}, nil)
	}
	pages, got := 0, 0
	for {
		var page replicate.StreamPage
		w.call("bob", "tasks:delta", map[string]any{"seq": float64(seq), "limit": 1000}, &page)
		pages, got, seq = pages+1, got+len(page.Changes), page.Seq
		if !page.More {
			break
		}
	}
	if got != documents || pages < 3 {
		t.Errorf("%d documents in %d pages", got, pages)
	}
}

func TestHooks(t *testing.T) {
	var loads []string
	var changes []string
	var tasks *replicate.Collection
	w := newWorld(t, replicate.Options{
		OnLoad: func(_ *halcyon.Tx, d replicate.Document) error {
			if loads = append(loads, d.ID); d.ID == "closed" {
				return &halcyon.Error{Code: "Closed", Message: "it is closed"}
			}
			return nil
		},
		OnChange: func(tx *halcyon.Tx, c replicate.Change) error {
			changes = append(changes, c.After.ID+" "+string(c.Before.JSON())+" "+string(c.After.JSON()))
			switch c.After.String("title") {
			case "no":
				return &halcyon.Error{Code: "Mine", Message: "not that title"}
			case "copy":
				_, err := tasks.Edit(tx, "copy of "+c.After.ID, func(doc *yjs.Doc) error { return doc.Map("fields").Set("title", "a copy") })
				return err
			}
			return nil
		},
	})
	tasks = w.tasks
	a := newPeer(t, 1)
	w.must("", "a", a.set("title", "yes"))
	results := w.write("", "a", a.set("title", "no"), newPeer(t, 2).set("title", "copy"))
	if results[0].Status != replicate.Refused || results[0].Code != replicate.CodeHook || results[0].Message != "not that title" || results[1].Status != replicate.Applied {
		t.Errorf("the results are %+v", results)
	}
	got := w.material("")
	if diff := cmp.Diff(map[string]string{"a": `{"title":"copy"}`, "copy of a": `{"title":"a copy"}`}, got); diff != "" {
		t.Errorf("material (-want +got):\n%s", diff)
	}
	w.recoverAs("", "a", nil)
	if f := w.try("", "tasks:delta", map[string]any{"document": "closed", "vector": []byte{0}}, nil); f == nil || !strings.Contains(f.Message, "it is closed") {
		t.Errorf("loading what the hook keeps closed: %v", f)
	}
	if diff := cmp.Diff([]string{"a", "closed"}, loads); diff != "" {
		t.Errorf("loads (-want +got):\n%s", diff)
	}
	if len(changes) != 4 || changes[0] != `a  {"title":"yes"}` || changes[1] != `a {"title":"yes"} {"title":"no"}` {
		t.Errorf("changes: %q", changes)
	}
}

// The npm client asks for the first 1,000 changes, and for no others. Behind a rule it got no more; it gets all there is.
func TestAccessOfThousands(t *testing.T) {
	const documents = 2_500
	w := newWorld(t, replicate.Options{Access: func(tx *halcyon.Tx, d replicate.Document) (replicate.Level, error) {
		if who, _ := tx.Identity(); d.ID == "doc 00007" && who.Subject != "root" {
			return replicate.None, nil
		}
		return replicate.Write, nil
	}})
	w.fillAs("root", documents)
	var page replicate.StreamPage
	w.call("bob", "tasks:delta", map[string]any{"seq": 0, "limit": 1000}, &page)
	if len(page.Changes) != documents-1 || page.More {
		t.Errorf("bob is sent %d documents, more: %t; want %d", len(page.Changes), page.More, documents-1)
	}
}

// A rule that reads something for each document makes pages smaller, and none of them fails.
func TestAccessThatReads(t *testing.T) {
	const documents = 1_500
	var w *world
	w = newWorld(t, replicate.Options{Access: func(tx *halcyon.Tx, d replicate.Document) (replicate.Level, error) {
		if strings.HasPrefix(d.ID, "doc") {
			for i := range 2 {
				if _, _, err := w.tasks.Lookup(tx, fmt.Sprintf("member %d of %s", i, d.ID)); err != nil {
					return replicate.None, err
				}
			}
		}
		return replicate.Write, nil
	}})
	w.fillAs("", documents)
	seen := map[string]bool{}
	pages := 0
	for seq, more := replicate.Seq(0), true; more; pages++ {
		var page replicate.StreamPage
		w.call("", "tasks:delta", map[string]any{"seq": float64(seq), "limit": 1000}, &page)
		for _, c := range page.Changes {
			seen[c.Document] = true
		}
		seq, more = page.Seq, page.More
	}
	if len(seen) != documents || pages < 2 {
		t.Errorf("%d documents on %d pages", len(seen), pages)
	}
}

// Who has seen a document is told when it is closed, also on the subscription on which it came.
func TestAccessClosesOnOneSubscription(t *testing.T) {
	w := ownedWorld(t)
	ann := newPeer(t, 1)
	w.must("ann", "a", ann.set("title", "plan", "owner", "ann", "done", true))
	if changes, _ := w.stream("bob", 0); len(changes) != 1 || !changes[0].Exists {
		t.Fatalf("bob is sent %+v", changes)
	}
	w.must("ann", "a", ann.set("done", false))
	if changes, _ := w.stream("bob", 0); len(changes) != 1 || changes[0].Exists || len(changes[0].Bytes) > 13 {
		t.Errorf("after it was closed bob is sent %+v", changes)
	}
	w.must("ann", "a", ann.set("done", true))
	changes, _ := w.stream("bob", 0)
	if len(changes) != 1 {
		t.Fatalf("after it was opened again bob is sent %+v", changes)
	}
	same(t, "a", ann, changes[0].Bytes)
}

// TestReopenOfWhatCameTogether: of two documents that one transaction began while the caller had no access, both are sent whole when they have it. The
// creation time of the second is after the time of the commit where the clock has not moved since the begin.
func TestReopenOfWhatCameTogether(t *testing.T) {
	open := false
	w := newWorld(t, replicate.Options{Access: func(tx *halcyon.Tx, _ replicate.Document) (replicate.Level, error) {
		if who, _ := tx.Identity(); open || who.Subject == "ann" {
			return replicate.Write, nil
		}
		return replicate.None, nil
	}})
	var args struct {
		Writes []writeArgs `json:"writes"`
	}
	peers := map[string]*peer{}
	for i, id := range []string{"a", "b", "c", "d"} {
		peers[id] = newPeer(t, uint64(i+1))
		args.Writes = append(args.Writes, writeArgs{id, id, peers[id].set("title", id)})
	}
	w.clock.advance(1e9) // so that no commit before has a later time
	w.call("ann", "tasks:replicateBatch", args, nil)
	changes, seq := w.stream("bob", 0)
	if len(changes) != 0 {
		t.Fatalf("bob is sent %+v", changes)
	}
	open = true
	for id := range peers {
		w.call("", "more:reopen", map[string]any{"document": id}, nil)
	}
	changes, _ = w.stream("bob", seq)
	for id, p := range peers {
		same(t, "document "+id, p, bytesOf(changes, id)...)
	}
}
