package yjs

import (
	"bytes"
	"testing"
)

// goldenEdits make the documents of goldenUpdates.
var goldenEdits = map[string]func(t *testing.T, d *Doc){
	"empty": func(*testing.T, *Doc) {},
	"text":  func(t *testing.T, d *Doc) { must(t, d.Text("t").Insert(0, "hi", nil)) },
	"map":   func(t *testing.T, d *Doc) { must(t, d.Map("m").Set("a", 1)) },
	"array": func(t *testing.T, d *Doc) { must(t, d.Array("a").Insert(0, 1, "x", nil)) },
	"bold": func(t *testing.T, d *Doc) {
		must(t, d.Text("t").Insert(0, "abc", nil))
		must(t, d.Text("t").Format(1, 1, Attributes{"bold": true}))
	},
	"deletion": func(t *testing.T, d *Doc) {
		must(t, d.Text("t").Insert(0, "abc", nil))
		must(t, d.Text("t").Delete(1, 1))
	},
	"xml": func(t *testing.T, d *Doc) {
		p, err := NewXMLElement("p")
		must(t, err)
		must(t, d.XMLFragment("x").Insert(0, p))
		must(t, p.SetAttribute("k", "v"))
		must(t, p.Insert(0, NewXMLText("z")))
	},
	"subdocument": func(t *testing.T, d *Doc) {
		must(t, d.Map("m").Set("s", NewDoc(&Options{GUID: "g"})))
	},
	"binary": func(t *testing.T, d *Doc) { must(t, d.Array("a").Insert(0, []byte{1, 2})) },
	"split pair": func(t *testing.T, d *Doc) {
		must(t, d.Text("t").Insert(0, "a😀b", nil))
		must(t, d.Text("t").Delete(2, 1))
	},
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestDocumentGolden(t *testing.T) {
	for _, g := range goldenUpdates {
		t.Run(g.name, func(t *testing.T) {
			d := NewDoc(&Options{ClientID: 1, GC: true})
			goldenEdits[g.name](t, d)
			if got, want := d.EncodeState(nil), unhex(t, g.v1); !bytes.Equal(got, want) {
				t.Errorf("V1\n got %x\nwant %x", got, want)
			}
			if got, want := d.EncodeStateV2(nil), unhex(t, g.v2); !bytes.Equal(got, want) {
				t.Errorf("V2\n got %x\nwant %x", got, want)
			}
			e := NewDoc(&Options{GC: true})
			must(t, e.Apply(unhex(t, g.v1), nil))
			if got, want := e.EncodeState(nil), unhex(t, g.v1); !bytes.Equal(got, want) {
				t.Errorf("V1 after applying V1\n got %x\nwant %x", got, want)
			}
			e = NewDoc(&Options{GC: true})
			must(t, e.ApplyV2(unhex(t, g.v2), nil))
			if got, want := e.EncodeStateV2(nil), unhex(t, g.v2); !bytes.Equal(got, want) {
				t.Errorf("V2 after applying V2\n got %x\nwant %x", got, want)
			}
		})
	}
}

func TestRelativePositionGolden(t *testing.T) {
	d := NewDoc(&Options{ClientID: 1})
	txt := d.Text("t")
	must(t, txt.Insert(0, "abc", nil))
	for _, c := range []struct {
		index, assoc int
		want         string
	}{{1, 0, "00010100"}, {3, 0, "01017400"}, {1, -1, "00010041"}} {
		p, err := NewRelativePosition(txt, c.index, c.assoc)
		must(t, err)
		if got := p.Encode(); !bytes.Equal(got, unhex(t, c.want)) {
			t.Errorf("position %d, %d = %x, want %s", c.index, c.assoc, got, c.want)
		}
		back, err := DecodeRelativePosition(p.Encode())
		must(t, err)
		abs, ok := d.Resolve(back)
		if !ok || abs.Index != c.index || abs.Type != Type(txt) {
			t.Errorf("resolved %d, %d to %+v, %v", c.index, c.assoc, abs, ok)
		}
	}
}
