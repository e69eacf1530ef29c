package yjs

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestUndoText(t *testing.T) {
	d := NewDoc(nil)
	txt := d.Text("t")
	now := time.Unix(1000, 0)
	u := NewUndoManager(d, &UndoOptions{Now: func() time.Time { return now }}, txt)
	defer u.Close()
	must(t, txt.Insert(0, "test", nil))
	must(t, txt.Delete(0, 4))
	u.StopCapturing()
	if u.Undo() || txt.String() != "" {
		t.Errorf("undoing an insertion that was deleted: %q", txt)
	}
	must(t, txt.Insert(0, "abc", nil))
	now = now.Add(100 * time.Millisecond)
	must(t, txt.Insert(3, "d", nil)) // joins the step before
	now = now.Add(time.Second)
	must(t, txt.Insert(4, "e", nil))
	must(t, d.Transact("somebody else", func(*Transaction) error { return txt.Insert(0, "xyz", nil) }))
	if !u.Undo() || txt.String() != "xyzabcd" {
		t.Errorf("undo: %q", txt)
	}
	if !u.Undo() || txt.String() != "xyz" {
		t.Errorf("undo again: %q", txt)
	}
	if !u.Redo() || txt.String() != "xyzabcd" || !u.Redo() || txt.String() != "xyzabcde" || u.CanRedo() {
		t.Errorf("redo: %q", txt)
	}
	u.Undo()
	must(t, txt.Insert(0, "!", nil))
	if u.CanRedo() {
		t.Error("a new change leaves something to redo")
	}
}

func TestUndoKeepsWhatItNeeds(t *testing.T) {
	d := NewDoc(&Options{GC: true})
	m := d.Map("m")
	u := NewUndoManager(d, &UndoOptions{CaptureTimeout: -1})
	defer u.Close()
	inner, err := NewMap(Member{Key: "x", Value: 1})
	must(t, err)
	must(t, m.Set("inner", inner))
	must(t, m.Delete("inner"))
	if got := string(d.AppendJSON(nil)); got != `{"m":{}}` {
		t.Error(got)
	}
	if !u.Undo() {
		t.Fatal("nothing to undo")
	}
	if got := string(d.AppendJSON(nil)); got != `{"m":{"inner":{"x":1}}}` {
		t.Errorf("the deleted map is back as %s", got)
	}
	checkRoundTrip(t, d)
}

func TestUndoEvents(t *testing.T) {
	d := NewDoc(nil)
	txt := d.Text("t")
	u := NewUndoManager(d, &UndoOptions{CaptureTimeout: -1}, txt)
	var got []string
	u.OnStep(func(e UndoEvent) {
		if e.Action == StepAdded && !e.Redo {
			e.Meta["cursor"] = 3
		}
		name := string(e.Action)
		if e.Redo {
			name += " redo"
		}
		if e.Meta["cursor"] == 3 {
			name += " with cursor"
		}
		got = append(got, name)
	})
	must(t, txt.Insert(0, "abc", nil))
	u.Undo()
	u.Redo()
	u.Clear()
	want := []string{"added with cursor", "added redo", "popped with cursor", "added with cursor", "popped redo", "cleared"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	u.Close()
	must(t, txt.Insert(0, "x", nil))
	if u.CanUndo() {
		t.Error("a closed manager still tracks")
	}
}

// TestUndoOfRemoteMapChange checks that undo does not overwrite what a peer
// set, unless it is told to.
func TestUndoOfRemoteMapChange(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		a, b := NewDoc(&Options{ClientID: 1}), NewDoc(&Options{ClientID: 2})
		exchange := func() {
			must(t, a.Apply(b.EncodeState(a.State()), "peer"))
			must(t, b.Apply(a.EncodeState(b.State()), "peer"))
		}
		u := NewUndoManager(a, &UndoOptions{CaptureTimeout: -1, IgnoreRemoteMapChanges: ignore}, a.Map("m"))
		must(t, a.Map("m").Set("x", 1))
		must(t, a.Map("m").Set("x", 2))
		exchange()
		must(t, b.Map("m").Set("x", 3))
		exchange()
		u.Undo()
		want := 3.0
		if ignore {
			want = 1
		}
		if v, _ := a.Map("m").Get("x"); v != want {
			t.Errorf("ignore %v: x is %v, want %v", ignore, v, want)
		}
	}
}
