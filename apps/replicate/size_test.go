package replicate_test

import (
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/yjs"
)

// pieces returns an update in V1 of n structs, no two of which can be joined: a key of a map is set and set again, by turns with another one.
func pieces(client uint64, n int) []byte {
	b := binary.AppendUvarint([]byte{1}, uint64(n))
	b = append(binary.AppendUvarint(b, client), 0)
	for i := range n {
		if i < 2 {
			b = append(b, 0x21, 1, 1, 'm', 1, "ab"[i], 1) // deleted content under a key of the root m
			continue
		}
		b = append(b, 0xa1, byte(client)) // the same, after what the key had before
		b = append(binary.AppendUvarint(b, uint64(i-2)), 1)
	}
	return append(b, 0)
}

// unlimited reads updates as large as they come.
var unlimited = yjs.Codec{Limits: yjs.Limits{Structs: 1 << 30}}

func toV2(t testing.TB, v1 []byte) []byte {
	t.Helper()
	v2, err := unlimited.Convert(v1, yjs.V2)
	if err != nil {
		t.Fatal(err)
	}
	return v2
}

// roomWrite writes an update in V1, as the sockets do.
func (w *world) roomWrite(document string, update []byte) (status replicate.Status, code string) {
	w.t.Helper()
	var got []struct {
		Status  replicate.Status
		Code    string
		Message string
	}
	w.call("", "tasks:roomWrite", map[string]any{"document": document, "updates": [][]byte{update}}, &got)
	return got[0].Status, got[0].Code
}

// TestUpdatesThatUnpackToMore than they are take no memory for it, and are refused. Documents are as they were.
func TestUpdatesThatUnpackToMore(t *testing.T) {
	uvarint := func(v uint64) string { return string(binary.AppendUvarint(nil, v)) }
	one := func(s string) []byte { return []byte("\x01\x01\x05\x00" + s + "\x00") } // one struct of client 5
	most := pieces(5, replicate.UpdateStructsMax+1)
	padded := func(v2 []byte) []byte {
		codec := unlimited
		codec.Version = yjs.V2
		merged, err := codec.Merge(v2, newPeer(t, 9).set("pad", strings.Repeat("x", 20_000)))
		if err != nil {
			t.Fatal(err)
		}
		return merged
	}
	large := padded(toV2(t, most))
	if len(large) > 30_000 {
		t.Fatalf("the update has %d bytes; it was to have few", len(large))
	}
	for _, tt := range []struct {
		name   string
		v2     bool
		update []byte
		code   string
	}{
		{"10,000 structs in a few bytes", true, toV2(t, pieces(5, 10_000)), replicate.CodeTooLarge},
		{"more structs than an update may have", true, large, replicate.CodeTooLarge},
		{"the same in V1", false, most, replicate.CodeTooLarge},
		{"a run of 2^52", false, one("\x00" + uvarint(1<<52)), replicate.CodeMalformed},
		{"2^52 structs", false, []byte("\x01" + uvarint(1<<52) + "\x05\x00\x00\x01\x00"), replicate.CodeMalformed},
		{"2^52 clients", false, []byte(uvarint(1<<52) + "\x01\x05\x00\x00\x01\x00"), replicate.CodeMalformed},
		{"a delete set of 2^53-1 ranges", false, []byte("\x00\x01\x05" + uvarint(1<<53-1) + "\x00\x01"), replicate.CodeMalformed},
		{"a delete set of 2^53-1 clients", false, []byte("\x00" + uvarint(1<<53-1) + "\x05\x01\x00\x01"), replicate.CodeMalformed},
		{"a deleted range of 2^53-1", false, []byte("\x00\x01\x05\x01\x07" + uvarint(1<<53-1)), replicate.CodeMalformed},
		{"values nested 200,000 deep", false, one("\x08\x01\x06fields\x01" + strings.Repeat("\x75\x01", 200_000) + "\x7e"), replicate.CodeMalformed},
		{"2^40 values", false, one("\x08\x01\x06fields" + uvarint(1<<40) + "\x7e"), replicate.CodeMalformed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, replicate.Options{})
			p := newPeer(t, 1)
			w.must("", "a", p.set("title", "t"))
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			var status replicate.Status
			var code string
			if tt.v2 {
				got := w.write("", "a", tt.update)[0]
				status, code = got.Status, got.Code
			} else {
				status, code = w.roomWrite("a", tt.update)
			}
			runtime.ReadMemStats(&after)
			if status != replicate.Refused || code != tt.code {
				t.Errorf("it is %s, %s; want refused, %s", status, code, tt.code)
			}
			if took, most := after.TotalAlloc-before.TotalAlloc, uint64(8<<20+8*len(tt.update)); took > most {
				t.Errorf("an update of %d bytes took %d bytes of memory, at most %d are expected", len(tt.update), took, most)
			}
			w.must("", "a", p.set("done", true))
			same(t, "the document", p, w.recoverAs("", "a", nil).Bytes)
		})
	}
}

// TestAbsurdDocuments are taken, and harm nobody: what is nested too deeply is not shown.
func TestAbsurdDocuments(t *testing.T) {
	const deep = 50_000
	b := binary.AppendUvarint([]byte{1}, deep)
	b = append(b, 5, 0)
	b = append(b, "\x27\x01\x06fields\x04deep\x00"...) // an array under a key of the fields, in which there is an array
	for i := range uint64(deep - 1) {
		b = append(b, 0x07, 0, 5)
		b = append(binary.AppendUvarint(b, i), 0)
	}
	w := newWorld(t, replicate.Options{Fields: []replicate.Field{}})
	if status, code := w.roomWrite("a", append(b, 0)); status != replicate.Applied {
		t.Fatalf("types nested deeply are %s, %s", status, code)
	}
	p := newPeer(t, 1)
	w.must("", "b", p.set("title", "t"))
	if got := w.material(""); got["b"] != `{"title":"t"}` || len(got["a"]) > 10_000 {
		t.Errorf("the material is %.100q and %q", got["a"], got["b"])
	}
	w.compact("a")
	got := peer{t, yjs.NewDoc(&yjs.Options{Limits: unlimited.Limits})}
	got.apply(w.recoverAs("", "a", nil).Bytes)
	if n := got.doc.State()[5]; n != deep {
		t.Errorf("%d of %d types are there", n, deep)
	}
}

// TestDocumentsAtTheirLimit of bytes can be filled to the last one, read and deleted, and not made larger.
func TestDocumentsAtTheirLimit(t *testing.T) {
	const most = 30_000
	w := newWorld(t, replicate.Options{UpdateBytesMax: 20_000, DocumentBytesMax: most})
	filled := func(last int) (first, second []byte, size int) {
		p := newPeer(t, 1)
		first, second = p.set("x", strings.Repeat("x", 15_000)), p.set("y", strings.Repeat("y", last))
		return first, second, len(p.doc.EncodeStateV2(nil))
	}
	_, _, size := filled(14_000)
	last := 14_000 + most - size
	first, second, size := filled(last)
	_, more, larger := filled(last + 1)
	if size != most || larger != most+1 {
		t.Fatalf("the documents have %d and %d bytes", size, larger)
	}
	w.must("", "a", first, second)
	w.must("", "b", first)
	if got := w.write("", "b", more)[0]; got.Status != replicate.Refused || got.Code != replicate.CodeTooLarge {
		t.Errorf("one byte more: %+v", got)
	}
	p := newPeer(t, 2)
	p.apply(w.recoverAs("", "a", nil).Bytes)
	if n := len(p.doc.EncodeStateV2(nil)); n != most {
		t.Errorf("what is stored has %d bytes", n)
	}
	grown := newPeer(t, 3)
	grown.apply(w.recoverAs("", "a", nil).Bytes)
	if got := w.write("", "a", grown.set("title", "t"))[0]; got.Code != replicate.CodeTooLarge {
		t.Errorf("a field more: %+v", got)
	}
	w.must("", "a", p.remove())
	if got := w.material(""); len(got) != 1 {
		t.Errorf("after one was deleted there are %d", len(got))
	}
	// It does not grow as one that is deleted.
	if got := w.write("", "a", p.set("title", "t"))[0]; got.Code != replicate.CodeTooLarge {
		t.Errorf("a field more, when it is deleted: %+v", got)
	}
	w.compact("a")
	if got := newPeer(t, 4); true {
		got.apply(w.recoverAs("", "a", nil).Bytes)
		if gone, _ := got.doc.Map("_meta").Get("_deleted"); gone != true {
			t.Error("that it is deleted was lost")
		}
	}
}

// TestDocumentsOfManyStructs do not get more than they may have, however little each update brings.
func TestDocumentsOfManyStructs(t *testing.T) {
	w := newWorld(t, replicate.Options{})
	for client := range uint64(replicate.DocumentStructsMax / replicate.UpdateStructsMax) {
		if status, code := w.roomWrite("a", pieces(client+1, replicate.UpdateStructsMax)); status != replicate.Applied {
			t.Fatalf("an update that is as large as one may be is %s, %s", status, code)
		}
	}
	p := newPeer(t, 100)
	if got := w.write("", "a", p.set("title", "t"))[0]; got.Status != replicate.Refused || got.Code != replicate.CodeTooLarge {
		t.Errorf("one struct more: %+v", got)
	}
	w.must("", "b", p.doc.EncodeStateV2(nil))
}
