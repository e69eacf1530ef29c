package yjs

import (
	"fmt"
	"runtime"
	"testing"
)

func BenchmarkLoadB4(b *testing.B) {
	v1 := readData(b, "vectors/b4.v1.bin.gz")
	v2 := readData(b, "vectors/b4.v2.bin.gz")
	for _, c := range []struct {
		name   string
		v      Version
		update []byte
	}{{"V1", V1, v1}, {"V2", V2, v2}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d := NewDoc(nil)
				if err := d.apply(c.update, c.v, nil); err != nil {
					b.Fatal(err)
				}
				if d.Text("text").String() == "" {
					b.Fatal("empty")
				}
			}
		})
	}
	d := load(b, V1, v1)
	b.Run("EncodeV1", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.EncodeState(nil)
		}
	})
	b.Run("EncodeV2", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d.EncodeStateV2(nil)
		}
	})
}

// BenchmarkApplyB4 types the whole session, with an update for each edit.
func BenchmarkApplyB4(b *testing.B) {
	tr := readTrace(b, "automerge-paper")
	b.ReportAllocs()
	for b.Loop() {
		d := NewDoc(&Options{ClientID: 1, GC: true})
		n := 0
		d.OnUpdate(func(u Update) { n += len(u.Bytes) })
		t := d.Text("text")
		for _, e := range tr.edits {
			if e.del > 0 {
				must(b, t.Delete(e.pos, e.del))
			}
			if e.ins != "" {
				must(b, t.Insert(e.pos, e.ins, nil))
			}
		}
		b.ReportMetric(float64(n), "update-bytes")
	}
}

// smallDocument returns the state of a document with one map of eight fields.
func smallDocument(t testing.TB, i int) []byte {
	d := NewDoc(nil)
	err := d.Transact(nil, func(*Transaction) error {
		m := d.Map("root")
		tags, _ := NewArray("a", "b", "c")
		owner, _ := NewMap(Member{Key: "name", Value: fmt.Sprint("owner", i%50)}, Member{Key: "age", Value: i % 90})
		for _, f := range []Member{{Key: "id", Value: fmt.Sprint("doc-", i)}, {Key: "title", Value: fmt.Sprint("Document number ", i)},
			{Key: "done", Value: i%2 == 0}, {Key: "count", Value: i}, {Key: "price", Value: float64(i) * 1.5},
			{Key: "created", Value: "2026-01-01T00:00:00Z"}, {Key: "tags", Value: tags}, {Key: "owner", Value: owner}} {
			if err := m.Set(f.Key, f.Value); err != nil {
				return err
			}
		}
		return nil
	})
	must(t, err)
	return d.EncodeState(nil)
}

func BenchmarkSmallDocuments(b *testing.B) {
	const n = 10000
	updates := make([][]byte, n)
	for i := range updates {
		updates[i] = smallDocument(b, i)
	}
	docs := make([]*Doc, n)
	b.Run("Load10000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for i, u := range updates {
				docs[i] = NewDoc(nil)
				if err := docs[i].Apply(u, nil); err != nil {
					b.Fatal(err)
				}
			}
		}
		var before, after runtime.MemStats
		clear(docs)
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i, u := range updates {
			docs[i] = NewDoc(nil)
			must(b, docs[i].Apply(u, nil))
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/n, "heap-bytes/doc")
	})
	for i, u := range updates {
		docs[i] = NewDoc(nil)
		must(b, docs[i].Apply(u, nil))
	}
	b.Run("JSON10000", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			for _, d := range docs {
				buf = d.Map("root").AppendJSON(buf[:0])
			}
		}
	})
}

func BenchmarkApplyTyping(b *testing.B) {
	updates := typing(10000)
	b.ReportAllocs()
	for b.Loop() {
		d := NewDoc(nil)
		for _, u := range updates {
			if err := d.Apply(u, nil); err != nil {
				b.Fatal(err)
			}
		}
	}
}
