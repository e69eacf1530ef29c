package yjs

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestPending delivers updates in the wrong order.
func TestPending(t *testing.T) {
	var updates [][]byte
	a := NewDoc(&Options{ClientID: 1})
	a.OnUpdate(func(u Update) { updates = append(updates, u.Bytes) })
	for i, s := range []string{"a", "b", "c"} {
		must(t, a.Text("t").Insert(i, s, nil))
	}
	must(t, a.Text("t").Delete(1, 1))
	b := NewDoc(nil)
	must(t, b.Apply(updates[3], nil))
	must(t, b.Apply(updates[2], nil))
	p := b.Pending()
	if p == nil || p.Missing[1] != 0 || !p.Deleted.Contains(ID{1, 1}) || p.Bytes == 0 {
		t.Fatalf("pending %+v", p)
	}
	// What is pending is part of the state that is stored or sent on.
	c := NewDoc(nil)
	must(t, c.Apply(b.EncodeState(nil), nil))
	must(t, c.ApplyV2(b.EncodeStateV2(nil), nil))
	for _, d := range []*Doc{b, c} {
		must(t, d.Apply(updates[0], nil))
		if got := d.Text("t").String(); got != "a" {
			t.Errorf("after the first update: %q", got)
		}
		must(t, d.Apply(updates[1], nil))
		if got := d.Text("t").String(); got != "ac" || d.Pending() != nil {
			t.Errorf("in the end: %q, pending %+v", got, d.Pending())
		}
	}
}

// TestGapIsKept loads an update that starts with a gap, which npm yjs keeps
// pending for ever when it stands before the first struct of a client.
func TestGapIsKept(t *testing.T) {
	d := NewDoc(nil)
	must(t, d.Apply(unhex(t, "010201000a0104010174017800"), nil))
	if d.Text("t").String() != "" || d.Pending() == nil {
		t.Error("a unit is shown before the one in front of it")
	}
	must(t, d.Apply(v1(1, 0, "\x04\x01\x01t\x01a"), nil))
	if got := d.Text("t").String(); got != "ax" && got != "xa" || d.Pending() != nil {
		t.Errorf("%q, pending %+v", got, d.Pending())
	}
}

func TestObservers(t *testing.T) {
	d := NewDoc(nil)
	m := d.Map("m")
	var shallow, deep []string
	cancel := m.Observe(func(e *Event) { shallow = append(shallow, e.KeysChanged()...) })
	m.ObserveDeep(func(es []*Event) {
		for _, e := range es {
			path, err := json.Marshal(e.Path())
			must(t, err)
			deep = append(deep, string(path)+e.Target.Kind().String())
		}
	})
	list, err := NewArray(1)
	must(t, err)
	must(t, m.Set("list", list))
	inner := NewText("x")
	must(t, list.Push(inner))
	must(t, d.Transact(nil, func(*Transaction) error {
		must(t, inner.Insert(0, "y", nil))
		return m.Set("k", 1)
	}))
	cancel()
	must(t, m.Set("z", 1))
	if diff := cmp.Diff([]string{"list", "k"}, shallow); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"[]Map", `["list"]Array`, "[]Map", `["list",1]Text`, "[]Map"}, deep); diff != "" {
		t.Error(diff)
	}
}

// TestObserverEdits checks that an edit made by an observer follows as a
// transaction of its own.
func TestObserverEdits(t *testing.T) {
	d := NewDoc(&Options{ClientID: 1})
	txt := d.Text("t")
	sent := 0
	d.OnUpdate(func(Update) { sent++ })
	txt.Observe(func(*Event) {
		if txt.Len() < 3 {
			must(t, txt.Insert(txt.Len(), "x", nil))
		}
	})
	must(t, txt.Insert(0, "x", nil))
	if txt.String() != "xxx" || sent != 3 {
		t.Errorf("%q after %d updates", txt, sent)
	}
	checkRoundTrip(t, d)
}

func TestTextEvents(t *testing.T) {
	d := NewDoc(nil)
	txt := d.Text("t")
	var got string
	txt.Observe(func(e *Event) { got = string(e.Delta().AppendJSON(nil)) })
	for _, c := range []struct {
		do   func() error
		want string
	}{
		{func() error { return txt.Insert(0, "abc", nil) }, `[{"insert":"abc"}]`},
		{func() error { return txt.Format(1, 1, Attributes{"b": true}) }, `[{"retain":1},{"retain":1,"attributes":{"b":true}}]`},
		{func() error { return txt.Insert(2, "x", nil) }, `[{"retain":2},{"insert":"x","attributes":{"b":true}}]`},
		{func() error { return txt.Insert(1, "y", Attributes{}) }, `[{"retain":1},{"insert":"y"}]`},
		{func() error { return txt.Format(2, 2, Attributes{"b": nil}) }, `[{"retain":2},{"retain":3,"attributes":{"b":null}}]`},
		{func() error { return txt.Delete(0, 2) }, `[{"delete":2}]`},
		{func() error { return txt.InsertEmbed(0, map[string]any{"i": 1}, Attributes{"w": 5}) }, `[{"insert":{"i":1},"attributes":{"w":5}}]`},
	} {
		got = ""
		must(t, c.do())
		if got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
	if got := string(txt.Delta().AppendJSON(nil)); got != `[{"insert":{"i":1},"attributes":{"w":5}},{"insert":"bxc"}]` {
		t.Error(got)
	}
	var back Delta
	must(t, json.Unmarshal(txt.Delta().AppendJSON(nil), &back))
	e := NewDoc(nil)
	must(t, e.Text("t").Apply(back))
	if diff := cmp.Diff(txt.Delta(), e.Text("t").Delta()); diff != "" {
		t.Error(diff)
	}
}

func TestSnapshots(t *testing.T) {
	d := NewDoc(&Options{ClientID: 1})
	txt, m, a := d.Text("t"), d.Map("m"), d.Array("a")
	must(t, txt.Insert(0, "abc", nil))
	must(t, m.Set("k", "old"))
	must(t, a.Push(1, 2, 3))
	s := d.Snapshot()
	must(t, txt.Insert(3, "d", nil))
	must(t, txt.Delete(0, 2))
	must(t, txt.Format(0, 1, Attributes{"b": true}))
	must(t, m.Set("k", "new"))
	must(t, m.Set("other", 1))
	must(t, a.Delete(1, 1))
	now := d.Snapshot()
	state := d.EncodeState(nil)
	for _, v := range []Version{V1, V2} {
		back, err := DecodeSnapshot(s.Encode(v), v)
		must(t, err)
		if !back.Equal(s) || back.Equal(now) {
			t.Errorf("%+v is read as %+v", s, back)
		}
	}
	if got := string(txt.DeltaAt(s).AppendJSON(nil)); got != `[{"insert":"abc"}]` {
		t.Error(got)
	}
	want := `[{"insert":"ab","attributes":{"ychange":{"type":"removed"}}},{"insert":"c","attributes":{"b":true}},{"insert":"d","attributes":{"ychange":{"type":"added"}}}]`
	if got := string(txt.DeltaBetween(s, now).AppendJSON(nil)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if v, ok := m.GetAt(s, "k"); v != "old" || !ok {
		t.Errorf("k was %v, %v", v, ok)
	}
	if _, ok := m.GetAt(s, "other"); ok {
		t.Error("other was not there")
	}
	if diff := cmp.Diff([]any{1.0, 2.0, 3.0}, a.ValuesAt(s)); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(d.EncodeState(nil), state) {
		t.Error("looking at a snapshot changed the document")
	}
	old, err := d.Restore(s, nil)
	must(t, err)
	if got := string(old.AppendJSON(nil)); got != `{"a":[1,2,3],"m":{"k":"old"},"t":"abc"}` {
		t.Error(got)
	}
	if _, err := NewDoc(&Options{GC: true}).Restore(s, nil); !errors.Is(err, ErrCollected) {
		t.Errorf("restoring from a collecting document: %v", err)
	}
	for _, c := range []struct {
		s    *Snapshot
		want bool
	}{{s, false}, {now, true}} {
		if got, err := c.s.Contains(state, V1); got != c.want || err != nil {
			t.Errorf("contains is %v, %v", got, err)
		}
	}
}

func TestRelativePositions(t *testing.T) {
	a, b := NewDoc(&Options{ClientID: 1}), NewDoc(&Options{ClientID: 2})
	txt := a.Text("t")
	must(t, txt.Insert(0, "one 😀 two", nil))
	var positions []RelativePosition
	for i := range txt.Len() + 1 {
		for _, assoc := range []int{0, -1} {
			p, err := NewRelativePosition(txt, i, assoc)
			must(t, err)
			data, err := json.Marshal(p)
			must(t, err)
			var back RelativePosition
			must(t, json.Unmarshal(data, &back))
			if diff := cmp.Diff(p, back); diff != "" {
				t.Error(diff)
			}
			pos, ok := a.Resolve(p)
			if !ok || pos.Index != i || pos.Type != Type(txt) {
				t.Errorf("%d (%d) resolves to %+v, %v", i, assoc, pos, ok)
			}
			if _, ok := b.Resolve(p); ok && p.Item != nil {
				t.Error("a document resolves what it does not know")
			}
			positions = append(positions, p)
		}
	}
	must(t, b.Apply(a.EncodeState(nil), nil))
	must(t, b.Text("t").Insert(4, "and ", nil))
	must(t, a.Apply(b.EncodeState(nil), nil))
	for i := range 10 {
		before, _ := a.Resolve(positions[2*i+1])
		after, _ := a.Resolve(positions[2*i])
		wantBefore, wantAfter := i, i
		if i > 4 {
			wantBefore += 4
		}
		if i >= 4 {
			wantAfter += 4
		}
		if before.Index != wantBefore || after.Index != wantAfter {
			t.Errorf("%d is at %d and %d, want %d and %d", i, before.Index, after.Index, wantBefore, wantAfter)
		}
	}
}

func TestSubdocuments(t *testing.T) {
	d := NewDoc(&Options{ClientID: 1})
	var log []string
	names := func(what string, docs []*Doc) {
		for _, s := range docs {
			log = append(log, what+" "+s.GUID())
		}
	}
	d.OnSubdocs(func(e SubdocsEvent) {
		names("added", e.Added)
		names("removed", e.Removed)
		names("loaded", e.Loaded)
	})
	sub := NewDoc(&Options{GUID: "a", ShouldLoad: true})
	must(t, sub.Text("").Insert(0, "inside", nil))
	must(t, d.Map("m").Set("a", sub))
	if err := d.Map("m").Set("b", sub); !errors.Is(err, ErrDetached) {
		t.Errorf("storing a document twice: %v", err)
	}
	must(t, d.Map("m").Set("b", NewDoc(&Options{GUID: "b", AutoLoad: true, Meta: map[string]any{"x": 1}})))
	e := NewDoc(nil)
	e.OnSubdocs(func(e SubdocsEvent) { names("peer: added", e.Added); names("peer: loaded", e.Loaded) })
	must(t, e.Apply(d.EncodeState(nil), nil))
	v, _ := e.Map("m").Get("a")
	v.(*Doc).Load()
	v.(*Doc).Load()
	b, _ := e.Map("m").Get("b")
	if o := b.(*Doc).Options(); !o.AutoLoad || cmp.Diff(Object{{Key: "x", Value: 1.0}}, o.Meta) != "" || b.(*Doc).Holder() != e {
		t.Errorf("options %+v", o)
	}
	must(t, d.Map("m").Delete("a"))
	if len(d.Subdocs()) != 1 || sub.Holder() != nil {
		t.Errorf("%d documents within", len(d.Subdocs()))
	}
	want := []string{"added a", "loaded a", "added b", "peer: added a", "peer: added b", "peer: loaded b", "peer: loaded a", "removed a"}
	if diff := cmp.Diff(want, log); diff != "" {
		t.Error(diff)
	}
	if got, want := e.EncodeState(nil), v1(1, 0, "\x29\x01\x01m\x01a\x01a\x76\x00"); !bytes.Contains(got, want[5:len(want)-1]) {
		t.Errorf("%x does not contain %x", got, want)
	}
}

func TestErrors(t *testing.T) {
	d := NewDoc(nil)
	txt, a, m, x := d.Text("t"), d.Array("a"), d.Map("m"), d.XMLFragment("x")
	must(t, txt.Insert(0, "abc", nil))
	shared, err := NewMap()
	must(t, err)
	must(t, a.Push(shared))
	twice := NewText("x")
	var unsupported *UnsupportedError
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"insert beyond the end":   {txt.Insert(4, "x", nil), ErrRange},
		"insert before the start": {txt.Insert(-1, "x", nil), ErrRange},
		"delete beyond the end":   {txt.Delete(2, 2), ErrRange},
		"format beyond the end":   {txt.Format(3, 1, Attributes{"b": true}), ErrRange},
		"delete nothing there":    {a.Delete(1, 1), ErrRange},
		"negative length":         {a.Delete(0, -1), ErrRange},
		"list beyond the end":     {a.Insert(2, 1), ErrRange},
		"store a type twice":      {m.Set("k", shared), ErrDetached},
		"one type twice at once":  {a.Insert(0, twice, twice), ErrDetached},
		"no node":                 {x.Insert(0, NewXMLText("a"), nil), ErrDetached},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", name, c.err, c.want)
		}
	}
	if err := m.Set("k", make(chan int)); !errors.As(err, &unsupported) {
		t.Errorf("a channel: %v", err)
	}
	if err := NewText("abc").Insert(4, "x", nil); !errors.Is(err, ErrRange) {
		t.Errorf("insert beyond the end of a detached text: %v", err)
	}
	fresh := NewText("x")
	if err := a.Insert(7, fresh); !errors.Is(err, ErrRange) {
		t.Errorf("insert a type beyond the end: %v", err)
	}
	must(t, a.Insert(0, fresh)) // still free
	must(t, a.Delete(0, 1))
	if err := fresh.Insert(0, "y", nil); !errors.Is(err, ErrDetached) {
		t.Errorf("change a deleted text: %v", err)
	}
	if err := txt.Insert(0, "\xff", nil); err != nil || txt.String() != "\uFFFDabc" {
		t.Errorf("invalid UTF-8: %q, %v", txt, err)
	}
}

// TestClientIDClash checks that a document gives up an id a peer uses too.
func TestClientIDClash(t *testing.T) {
	a, b := NewDoc(&Options{ClientID: 7}), NewDoc(&Options{ClientID: 7})
	must(t, a.Text("t").Insert(0, "a", nil))
	if _, err := b.Text("t").String(), b.Text("t").Insert(0, "", nil); err != nil {
		t.Fatal(err)
	}
	b.ownClient()
	must(t, b.Apply(a.EncodeState(nil), nil))
	if b.ClientID() == 7 {
		t.Error("the id is still used")
	}
}

func TestIndexes(t *testing.T) {
	const s = "aé漢😀b"
	for i, want := range []struct{ utf16, bytes, runes int }{{0, 0, 0}, {1, 1, 1}, {2, 3, 2}, {3, 6, 3}, {5, 10, 4}, {6, 11, 5}} {
		if got := UTF16Index(s, want.bytes); got != want.utf16 {
			t.Errorf("%d: UTF-16 index of byte %d is %d, want %d", i, want.bytes, got, want.utf16)
		}
		if got := ByteIndex(s, want.utf16); got != want.bytes {
			t.Errorf("%d: byte index of %d is %d, want %d", i, want.utf16, got, want.bytes)
		}
		if got := RuneIndex(s, want.utf16); got != want.runes {
			t.Errorf("%d: rune index of %d is %d, want %d", i, want.utf16, got, want.runes)
		}
	}
	if ByteIndex(s, 4) != 6 || UTF16Len(s) != 6 {
		t.Error("the middle of a pair is not the start of its rune")
	}
}
