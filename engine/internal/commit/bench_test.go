package commit_test

import (
	"encoding/binary"
	"testing"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// BenchmarkJudge validates and accepts attempts that read two keys and a range
// and write three keys, against a window of 10,000 attempts.
func BenchmarkJudge(b *testing.B) {
	const window = 10_000
	row := func(i uint64) []byte {
		var doc [keys.DocumentKeySize]byte
		binary.BigEndian.PutUint64(doc[:], i*0x9e3779b97f4a7c15)
		return keys.AppendRow(nil, 10_001, doc)
	}
	attempts := make([]commit.Attempt, window)
	for i := range attempts {
		a := commit.Attempt{Reads: new(txn.ReadSet), Writes: new(txn.Overlay), Owner: &attempts[i]}
		for part := range uint64(2) {
			k := row(2*uint64(i) + part)
			a.Reads.AddPoint(k)
			a.Writes.Set(k, txn.Write{Value: make([]byte, 100)})
			if part == 0 {
				a.Reads.AddRange(keys.Range{Start: k, End: keys.Next(k)})
			}
		}
		a.Writes.Set(row(uint64(i)+1<<40), txn.Write{Value: make([]byte, 100)})
		attempts[i] = a
	}
	m := commit.New(commit.Options{}, 1)
	now, sealed := uint64(1000), []uint64{}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		a := attempts[i%window]
		now += 10
		a.Snapshot = m.Last()
		if v := m.Judge(&a, now); v != commit.Free {
			b.Fatal(v)
		}
		m.Accept(&a, now)
		if !m.Full() {
			continue
		}
		g := m.Seal(now)
		// The window has what the last 20 groups wrote.
		if sealed = append(sealed, g.At); len(sealed) > 20 {
			m.Durable(sealed[0])
			sealed = sealed[1:]
		} else {
			m.Durable(0)
		}
	}
}
