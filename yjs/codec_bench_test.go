package yjs

import (
	"testing"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

func BenchmarkDiffB4(b *testing.B) {
	for _, v := range []Version{V1, V2} {
		c := Codec{Version: v}
		update := readData(b, map[Version]string{V1: "vectors/b4.v1.bin.gz", V2: "vectors/b4.v2.bin.gz"}[v])
		m, err := c.Meta(update)
		if err != nil {
			b.Fatal(err)
		}
		sv := StateVector{}
		for client, clock := range m.To {
			sv[client] = clock * 9 / 10
		}
		b.Run(map[Version]string{V1: "V1", V2: "V2"}[v], func(b *testing.B) {
			b.ReportAllocs()
			b.ReportMetric(float64(m.Structs), "structs")
			for b.Loop() {
				if _, err := c.Diff(update, sv); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(map[Version]string{V1: "StateVectorV1", V2: "StateVectorV2"}[v], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.StateVector(update); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// typing returns the updates of a client typing n characters one by one.
func typing(n int) [][]byte {
	var updates [][]byte
	for i := range n {
		u := []byte{1, 1}
		u = lib0.AppendUint(u, 123456789)
		u = lib0.AppendUint(u, uint64(i))
		if i == 0 {
			u = append(u, 4, 1, 4, 't', 'e', 'x', 't')
		} else {
			u = append(u, 0x84)
			u = lib0.AppendUint(u, 123456789)
			u = lib0.AppendUint(u, uint64(i-1))
		}
		updates = append(updates, append(u, 1, byte('a'+i%26), 0))
	}
	return updates
}

func BenchmarkMergeTyping(b *testing.B) {
	for _, n := range []int{100, 1000, 10000} {
		updates := typing(n)
		b.Run(map[int]string{100: "100", 1000: "1000", 10000: "10000"}[n], func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := MergeUpdates(updates...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
