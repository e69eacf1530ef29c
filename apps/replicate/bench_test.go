package replicate_test

import (
	"fmt"
	"testing"

	"github.com/halcyon-db/halcyon/apps/replicate"
)

// BenchmarkBatch writes 500 updates in one call: of documents that are new, and of one document.
func BenchmarkBatch(b *testing.B) {
	for _, c := range []struct {
		name      string
		documents int
	}{{"new documents", 500}, {"one document", 1}} {
		b.Run(c.name, func(b *testing.B) {
			w := newWorld(b, replicate.Options{})
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				b.StopTimer()
				n++
				var args struct {
					Writes []writeArgs `json:"writes"`
				}
				peers := make([]*peer, c.documents)
				for i := range 500 {
					d := i % c.documents
					if peers[d] == nil {
						peers[d] = newPeer(b, uint64(n*1000+d))
					}
					args.Writes = append(args.Writes, writeArgs{fmt.Sprint(i), fmt.Sprintf("d-%d-%d", n, d), peers[d].set("title", fmt.Sprint(i))})
				}
				b.StartTimer()
				w.call("", "tasks:replicateBatch", args, nil)
			}
		})
	}
}

// BenchmarkWrite writes one update in a call: of one document, and of 64 in turn, which are typed in.
func BenchmarkWrite(b *testing.B) {
	for _, documents := range []int{1, 64} {
		b.Run(fmt.Sprint(documents, " documents"), func(b *testing.B) {
			w := newWorld(b, replicate.Options{})
			peers := make([]*peer, documents)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				d := n % documents
				if peers[d] == nil {
					peers[d] = newPeer(b, uint64(1+d))
				}
				n++
				w.call("", "tasks:replicate", map[string]any{"document": fmt.Sprint(d), "bytes": peers[d].set("title", fmt.Sprint(n)), "type": "update"}, nil)
				if n%(500*documents) == 0 {
					for d := range documents {
						w.compact(fmt.Sprint(d))
					}
				}
			}
		})
	}
}
