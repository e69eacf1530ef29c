package yjs_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/halcyon-db/halcyon/yjs"
)

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Two people edit a document at the same time.
func Example() {
	ada := yjs.NewDoc(&yjs.Options{ClientID: 1})
	bob := yjs.NewDoc(&yjs.Options{ClientID: 2})
	ada.OnUpdate(func(u yjs.Update) {
		if u.Origin != "network" {
			check(bob.Apply(u.Bytes, "network"))
		}
	})
	check(ada.Text("notes").Insert(0, "Hello world", nil))
	check(bob.Text("notes").Insert(5, ",", nil))
	check(ada.Text("notes").Insert(11, "!", nil))

	// Bob sends what Ada lacks.
	check(ada.Apply(bob.EncodeState(ada.State()), "network"))
	fmt.Println(ada.Text("notes"))
	fmt.Println(bob.Text("notes"))
	// Output:
	// Hello, world!
	// Hello, world!
}

func ExampleText() {
	d := yjs.NewDoc(nil)
	t := d.Text("t")
	check(t.Insert(0, "Hello world", nil))
	check(t.Format(6, 5, yjs.Attributes{"bold": true}))
	check(t.InsertEmbed(11, map[string]any{"image": "sun.png"}, nil))
	check(t.Delete(0, 6))
	fmt.Println(t, t.Len())
	fmt.Printf("%s\n", t.Delta().AppendJSON(nil))
	// Output:
	// world 6
	// [{"insert":"world","attributes":{"bold":true}},{"insert":{"image":"sun.png"}}]
}

func ExampleText_Apply() {
	d := yjs.NewDoc(nil)
	t := d.Text("t")
	check(t.Insert(0, "Hello world", nil))
	check(t.Apply(yjs.Delta{{Retain: 6}, {Delete: 5}, {Insert: "there", Attributes: yjs.Attributes{"italic": true}}}))
	fmt.Printf("%s\n", t.Delta().AppendJSON(nil))
	// Output: [{"insert":"Hello "},{"insert":"there","attributes":{"italic":true}}]
}

func ExampleArray() {
	d := yjs.NewDoc(nil)
	a := d.Array("a")
	check(a.Push("x", 2, nil, []byte{1, 2}))
	check(a.Insert(1, map[string]any{"y": true}))
	check(a.Delete(0, 1))
	for i, v := range a.All() {
		fmt.Printf("%d: %T\n", i, v)
	}
	fmt.Printf("%s\n", a.AppendJSON(nil))
	// Output:
	// 0: lib0.Object
	// 1: float64
	// 2: <nil>
	// 3: []uint8
	// [{"y":true},2,null,"AQI="]
}

func ExampleMap() {
	d := yjs.NewDoc(nil)
	m := d.Map("m")
	tags, err := yjs.NewArray("a", "b")
	check(err)
	check(m.Set("title", "Plan"))
	check(m.Set("tags", tags))
	check(tags.Push("c"))
	check(m.Set("title", "New plan"))
	title, ok := m.Get("title")
	fmt.Println(title, ok, m.Keys())
	fmt.Printf("%s\n", m.AppendJSON(nil))
	// Output:
	// New plan true [tags title]
	// {"tags":["a","b","c"],"title":"New plan"}
}

func ExampleXMLElement() {
	d := yjs.NewDoc(nil)
	p, err := yjs.NewXMLElement("p", yjs.NewXMLText("Hello"))
	check(err)
	check(p.SetAttribute("class", "note"))
	check(d.XMLFragment("x").Insert(0, p))
	fmt.Println(d.XMLFragment("x"))
	fmt.Printf("%s\n", d.XMLFragment("x").AppendTree(nil))
	// Output:
	// <p class="note">Hello</p>
	// [{"name":"p","attributes":{"class":"note"},"children":[[{"insert":"Hello"}]]}]
}

func ExampleXMLHook() {
	d := yjs.NewDoc(nil)
	chart := yjs.NewXMLHook("chart")
	check(chart.Set("values", []any{1, 2, 3}))
	check(d.XMLFragment("x").Push(chart))
	fmt.Printf("%s\n", d.XMLFragment("x").AppendTree(nil))
	// Output: [{"hook":"chart","value":{"values":[1,2,3]}}]
}

func ExampleDoc_Transact() {
	d := yjs.NewDoc(nil)
	d.OnUpdate(func(u yjs.Update) { fmt.Println("one update from", u.Origin) })
	d.Map("m").Observe(func(e *yjs.Event) { fmt.Println("changed:", e.KeysChanged()) })
	check(d.Transact("the import", func(*yjs.Transaction) error {
		for i, k := range strings.Fields("a b c") {
			if err := d.Map("m").Set(k, i); err != nil {
				return err
			}
		}
		return nil
	}))
	// Output:
	// changed: [a b c]
	// one update from the import
}

func ExampleDoc_Restore() {
	d := yjs.NewDoc(nil)
	check(d.Text("t").Insert(0, "first draft", nil))
	draft := d.Snapshot()
	check(d.Text("t").Delete(0, 5))
	check(d.Text("t").Insert(0, "second", nil))
	old, err := d.Restore(draft, nil)
	check(err)
	fmt.Println(d.Text("t"))
	fmt.Println(old.Text("t"))
	// Output:
	// second draft
	// first draft
}

func ExampleUndoManager() {
	d := yjs.NewDoc(nil)
	t := d.Text("t")
	undo := yjs.NewUndoManager(d, nil, t)
	defer undo.Close()
	check(t.Insert(0, "mine", nil))
	check(d.Transact("a peer", func(*yjs.Transaction) error { return t.Insert(0, "theirs and ", nil) }))
	undo.Undo()
	fmt.Printf("%q\n", t)
	undo.Redo()
	fmt.Printf("%q\n", t)
	// Output:
	// "theirs and "
	// "theirs and mine"
}

func ExampleNewRelativePosition() {
	d := yjs.NewDoc(nil)
	t := d.Text("t")
	check(t.Insert(0, "Hello world", nil))
	cursor, err := yjs.NewRelativePosition(t, 6, 0)
	check(err)
	check(t.Insert(0, ">> ", nil))
	now, ok := d.Resolve(cursor)
	fmt.Println(now.Index, ok)
	// Output: 9 true
}

func ExampleMergeUpdates() {
	d := yjs.NewDoc(&yjs.Options{ClientID: 1})
	var updates [][]byte
	d.OnUpdate(func(u yjs.Update) { updates = append(updates, u.Bytes) })
	for i, c := range strings.Split("typing", "") {
		check(d.Text("t").Insert(i, c, nil))
	}
	merged, err := yjs.MergeUpdates(updates...)
	check(err)
	meta, err := yjs.ParseUpdateMeta(merged)
	check(err)
	fmt.Println(len(updates), "updates, merged", meta.Structs, "struct,", len(merged), "bytes")
	diff, err := yjs.DiffUpdate(merged, yjs.StateVector{1: 4})
	check(err)
	meta, err = yjs.ParseUpdateMeta(diff)
	check(err)
	fmt.Println("a peer at clock 4 gets", meta.From[1], "to", meta.To[1])
	// Output:
	// 6 updates, merged 1 struct, 16 bytes
	// a peer at clock 4 gets 4 to 6
}

func ExampleDoc_Pending() {
	d := yjs.NewDoc(&yjs.Options{ClientID: 1})
	var updates [][]byte
	d.OnUpdate(func(u yjs.Update) { updates = append(updates, u.Bytes) })
	check(d.Text("t").Insert(0, "a", nil))
	check(d.Text("t").Insert(1, "b", nil))
	peer := yjs.NewDoc(nil)
	check(peer.Apply(updates[1], nil))
	fmt.Println(peer.Text("t").Len(), "units, missing", peer.Pending().Missing)
	check(peer.Apply(updates[0], nil))
	fmt.Println(peer.Text("t"), peer.Pending() == nil)
	// Output:
	// 0 units, missing map[1:0]
	// ab true
}

func ExampleDoc_OnSubdocs() {
	d := yjs.NewDoc(nil)
	d.OnSubdocs(func(e yjs.SubdocsEvent) {
		for _, sub := range e.Added {
			fmt.Println("added", sub.GUID())
		}
	})
	check(d.Map("files").Set("readme", yjs.NewDoc(&yjs.Options{GUID: "readme.md"})))
	fmt.Printf("%s\n", d.AppendJSON(nil))
	// Output:
	// added readme.md
	// {"files":{"readme":{"guid":"readme.md"}}}
}
