package engine

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

func cacheDocument(n float64, at Timestamp) (Document, []byte) {
	id := value.NewID(10_001, time.UnixMilli(1), 7)
	d := Document{ID: id, Fields: value.Object(value.Field{Name: "n", Value: value.Float64(n)})}
	row := appendRow(nil, d)
	binary.BigEndian.PutUint64(row[txn.StampOffset:], uint64(at))
	return d, row
}

func TestRowCacheAnswersOnlySnapshotsItIsNewestFor(t *testing.T) {
	d, row := cacheDocument(1, 100)
	tests := []struct {
		name string
		does func(c *rowCache)
		at   Timestamp
		want bool
	}{
		{"at its commit", func(c *rowCache) { c.put(d, row, 100) }, 100, true},
		{"later", func(c *rowCache) { c.put(d, row, 150) }, 900, true},
		{"before its commit", func(c *rowCache) { c.put(d, row, 100) }, 99, false},
		{"written since", func(c *rowCache) { c.put(d, row, 100); c.written(d.ID, 200) }, 900, false},
		{"read before a write, put after it", func(c *rowCache) { c.written(d.ID, 200); c.put(d, row, 150) }, 900, false},
		{"read after a write", func(c *rowCache) { c.written(d.ID, 100); c.put(d, row, 100) }, 100, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newRowCache(1 << 20)
			tt.does(c)
			if _, _, ok := c.get(d.ID, tt.at); ok != tt.want {
				t.Errorf("get at %d: %v, want %v", tt.at, ok, tt.want)
			}
		})
	}
}

func TestRowCacheStaysInItsBounds(t *testing.T) {
	const most = rowShards * 4096
	c := newRowCache(most)
	for i := range 10_000 {
		d, row := cacheDocument(float64(i), 1)
		d.ID = value.NewID(10_001, time.UnixMilli(int64(i)), uint64(i))
		c.put(d, row, 1)
	}
	total, rows := 0, 0
	for i := range c.shards {
		s := &c.shards[i]
		sum := 0
		for _, r := range s.rows {
			sum += 2*r.size + rowOverhead
		}
		if sum != s.bytes {
			t.Errorf("shard %d holds %d bytes, counts %d", i, sum, s.bytes)
		}
		total, rows = total+sum, rows+len(s.rows)
	}
	if total > most || rows < rowShards {
		t.Errorf("%d rows in %d bytes, at most %d bytes", rows, total, most)
	}
}

func BenchmarkRowCacheGet(b *testing.B) {
	c := newRowCache(1 << 20)
	d, row := cacheDocument(1, 1)
	c.put(d, row, 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok := c.get(d.ID, 1); !ok {
			b.Fatal("missing")
		}
	}
}
