package replicate_test

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"testing"

	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/yjs"
)

// allocated returns how many bytes of memory f takes, freed ones included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// pages are documents within a document, by their names.
func pages(d *yjs.Doc) yjs.Map { return d.Map("pages") }

// TestManySubdocuments keeps 10,000 documents within one, of which it knows the names: what is in them are documents by themselves.
func TestManySubdocuments(t *testing.T) {
	const many = 10_000
	w := newWorld(t, replicate.Options{Fields: []replicate.Field{}})
	p := newPeer(t, 1)
	add := func(p *peer, key string) []byte {
		return p.edit(func() error { return pages(p.doc).Set(key, yjs.NewDoc(&yjs.Options{GUID: "guid of " + key})) })
	}
	first := p.edit(func() error {
		for i := range many {
			if err := pages(p.doc).Set(fmt.Sprint("page ", i), yjs.NewDoc(&yjs.Options{GUID: fmt.Sprint("guid ", i)})); err != nil {
				return err
			}
		}
		return nil
	})
	took := allocated(func() { w.must("", "book", first) })
	t.Logf("an update of %d bytes with %d documents took %d bytes of memory, %d each", len(first), many, took, took/many)
	if most := uint64(many * 6_000); took > most {
		t.Errorf("to add them took %d bytes, at most %d are expected", took, most)
	}
	one := allocated(func() { w.must("", "book", add(p, "one more")) })
	t.Logf("one more took %d", one)
	if one > took { // it is too large to be kept in memory, so it is read again
		t.Errorf("one more took %d bytes, and all of them %d", one, took)
	}

	reader := newPeer(t, 2)
	reader.apply(w.recoverAs("", "book", nil).Bytes)
	if n := len(reader.doc.Subdocs()); n != many+1 {
		t.Errorf("there are %d documents within, want %d", n, many+1)
	}
	if v, _ := pages(reader.doc).Get("page 77"); v == nil || v.(*yjs.Doc).GUID() != "guid 77" {
		t.Errorf("page 77 is %v", v)
	}
	w.must("", "guid 77", newPeer(t, 3).set("title", "in it")) // it is a document like any other
	w.must("", "book", add(reader, "by the reader"))
	removed := reader.edit(func() error {
		for i := range many {
			pages(reader.doc).Delete(fmt.Sprint("page ", i))
		}
		return nil
	})
	w.must("", "book", removed)
	w.compact("book")
	late := newPeer(t, 4)
	late.apply(w.recoverAs("", "book", nil).Bytes)
	if n := len(late.doc.Subdocs()); n != 2 || late.doc.Pending() != nil {
		t.Errorf("after all but two were removed there are %d, pending %v", n, late.doc.Pending())
	}
	if got := w.material(""); got["book"] != "{}" || got["guid 77"] != `{"title":"in it"}` {
		t.Errorf("the material is %v", got)
	}
}

// within returns an update in V1 that sets a key again and again to a document, n times.
func within(client uint64, n int) []byte {
	b := binary.AppendUvarint([]byte{1}, uint64(n))
	b = append(binary.AppendUvarint(b, client), 0)
	for i := range n {
		if i == 0 {
			b = append(b, 0x29, 1, 1, 'm', 1, 'k') // a document under a key of the root m
		} else {
			b = append(b, 0x89, byte(client)) // the same, after the one before
			b = binary.AppendUvarint(b, uint64(i-1))
		}
		b = append(b, 1, 'g', 0x76, 0) // its name and no options
	}
	return append(b, 0)
}

// TestSubdocumentsAtTheirLimit are taken, and one more is refused, without memory for it. What is removed counts, since the history keeps it.
func TestSubdocumentsAtTheirLimit(t *testing.T) {
	w := newWorld(t, replicate.Options{Fields: []replicate.Field{}})
	const most = replicate.SubdocsMax
	var status replicate.Status
	var code string
	huge := within(5, 200_000)
	took := allocated(func() { status, code = w.roomWrite("a", huge) })
	if status != replicate.Refused || code != replicate.CodeTooLarge || took > 8<<20+8*uint64(len(huge)) {
		t.Errorf("200,000 documents within an update are %s, %s, and took %d bytes", status, code, took)
	}
	if got := w.write("", "a", toV2(t, within(5, most+1)))[0]; got.Status != replicate.Refused || got.Code != replicate.CodeTooLarge {
		t.Errorf("one more than there may be is %+v", got)
	}
	if status, code := w.roomWrite("a", within(5, most)); status != replicate.Applied {
		t.Errorf("as many as there may be are %s, %s", status, code)
	}
	if status, code := w.roomWrite("a", within(6, 1)); status != replicate.Refused || code != replicate.CodeTooLarge {
		t.Errorf("one more document within is %s, %s", status, code)
	}
	if _, err := w.docs(string(within(7, most+1)), "import", "tasks", "--document", "b"); err == nil {
		t.Error("one more than there may be was imported")
	}
	w.must("", "b", newPeer(t, 8).set("title", "b"))
	p := newPeer(t, 9)
	p.apply(w.recoverAs("", "a", nil).Bytes)
	w.must("", "a", p.remove())
	if got := w.material(""); len(got) != 1 || got["b"] != `{"title":"b"}` {
		t.Errorf("after it was deleted the material is %v", got)
	}
}
