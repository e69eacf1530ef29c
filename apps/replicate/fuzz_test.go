package replicate_test

import (
	"testing"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/apps/replicate"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/yjs"
)

// FuzzCalls calls every function with any arguments, and looks whether documents that have nothing to do with it are as they were, and
// everything that is stored can still be read and compacted. An argument that is bytes is taken from a second input.
func FuzzCalls(f *testing.F) {
	paths := []string{"tasks:delta", "tasks:material", "tasks:replicate", "tasks:replicateBatch", "tasks:recoverBatch", "tasks:presence", "tasks:session", "tasks:snapshot"}
	p := newPeer(f, 1)
	first := p.set("title", "t", "done", true)
	for i, args := range []string{
		`{"seq": 0, "limit": 1000}`, `{"numItems": 3, "cursor": "x"}`,
		`{"document": "b", "bytes": {"$bytes": ""}, "type": "insert", "material": {"a": 1}}`,
		`{"writes": [{"id": "1", "document": "b", "bytes": {"$bytes": ""}}, {"id": "2", "document": "c", "bytes": {"$bytes": "AAA="}}]}`,
		`{"documents": [{"document": "b", "vector": {"$bytes": ""}}, {"document": "a"}], "cursor": "1"}`,
		`{"document": "b", "client": "c", "action": "join", "interval": 1e300, "cursor": {"anchor": 1, "head": null}, "profile": {"name": "n"}}`,
		`{"document": "b", "connected": true, "exclude": "c"}`,
		`{"cursor": "s"}`,
	} {
		f.Add(byte(i), args, []byte{})
		f.Add(byte(i), args, first)
		f.Add(byte(i), args, p.set("title", args))
	}
	f.Add(byte(0), `{"document": "b", "vector": {"$bytes": ""}}`, []byte{1, 1, 1})
	f.Fuzz(func(t *testing.T, which byte, text string, update []byte) {
		args, err := value.ParseJSON([]byte(text))
		if err != nil {
			return
		}
		w := newWorld(t, replicate.Options{CompactAfter: 3})
		safe := newPeer(t, 7)
		w.must("", "safe", safe.set("title", "safe"))
		path := paths[int(which)%len(paths)]
		r := w.request("", path, struct{}{})
		r.Args = filled(args, update)
		for range 2 {
			out, err := w.app.Call(t.Context(), r)
			if err != nil {
				return // the arguments are not an object
			}
			if out.Failure != nil && out.Failure.Code == halcyon.CodeInternal {
				t.Fatalf("%s(%s): %v", path, text, out.Failure)
			}
		}
		w.write("", "b", update, update)
		var list []listed
		w.call("", "more:list", struct{}{}, &list)
		for _, d := range list {
			w.compact(d.Document)
			got := newPeer(t, 9)
			got.apply(w.recoverAs("", d.Document, nil).Bytes)
			if d.Document == "safe" && r.Args.Get("document").IsUndefined() && got.json() != safe.json() && paths[int(which)%len(paths)] != "tasks:replicateBatch" {
				t.Errorf("after %s(%s) the other document is %s", path, text, got.json())
			}
			if got.doc.Pending() != nil {
				t.Errorf("after %s(%s) document %q has a gap", path, text, d.Document)
			}
			if _, err := yjs.ConvertV2ToV1(got.doc.EncodeStateV2(nil)); err != nil {
				t.Errorf("after %s(%s) document %q can't be read as V1: %v", path, text, d.Document, err)
			}
		}
		w.material("")
		w.stream("", 0)
		w.snapshot("")
	})
}

// filled puts bytes wherever a value has some that are empty.
func filled(v value.Value, update []byte) value.Value {
	switch v.Kind() {
	case value.KindBytes:
		if b, _ := v.AsBytes(); len(b) == 0 {
			return value.Bytes(update)
		}
	case value.KindArray:
		elems := make([]value.Value, v.Len())
		for i := range elems {
			elems[i] = filled(v.Index(i), update)
		}
		return value.Array(elems...)
	case value.KindObject:
		fields := make([]value.Field, 0, v.Len())
		for _, f := range v.Fields() {
			fields = append(fields, value.Field{Name: f.Name, Value: filled(f.Value, update)})
		}
		return value.Object(fields...)
	}
	return v
}
