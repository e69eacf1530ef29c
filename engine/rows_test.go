package engine

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

var cacheNames value.Names

func cacheDocument(n float64, at Timestamp) (Document, []byte) {
	id := value.NewID(10_001, time.UnixMilli(1), 7)
	d := Document{ID: id, Fields: value.Object(value.Field{Name: "n", Value: value.Float64(n)})}
	row := appendRow(nil, &cacheNames, d)
	binary.BigEndian.PutUint64(row[txn.StampOffset:], uint64(at))
	return d, row
}

func TestRowCacheAnswersOnlySnapshotsItIsNewestFor(t *testing.T) {
	d, row := cacheDocument(1, 100)
	_, newer := cacheDocument(2, 190)
	written := func(c *rowCache, at Timestamp) { c.written(d.ID, &cacheNames, newer, at) }
	_, newest := cacheDocument(3, 290)
	third := func(c *rowCache, at Timestamp) { c.written(d.ID, &cacheNames, newest, at) }
	removed := func(c *rowCache, at Timestamp) { c.written(d.ID, &cacheNames, nil, at) }
	const missing = 0
	tests := []struct {
		name string
		does func(c *rowCache)
		at   Timestamp
		want float64
	}{
		{"at its commit", func(c *rowCache) { c.put(d, row, 100) }, 100, 1},
		{"later", func(c *rowCache) { c.put(d, row, 150) }, 900, 1},
		{"before its commit", func(c *rowCache) { c.put(d, row, 100) }, 99, missing},
		{"removed since", func(c *rowCache) { c.put(d, row, 100); removed(c, 200) }, 900, missing},
		{"removed since, before that", func(c *rowCache) { c.put(d, row, 100); removed(c, 200) }, 150, missing},
		{"read before it was removed, put after", func(c *rowCache) { removed(c, 200); c.put(d, row, 150) }, 900, missing},
		{"read after something was removed", func(c *rowCache) { removed(c, 100); c.put(d, row, 100) }, 100, 1},
		{"written", func(c *rowCache) { written(c, 200) }, 200, 2},
		{"written since", func(c *rowCache) { c.put(d, row, 100); written(c, 200) }, 900, 2},
		{"written since, before that", func(c *rowCache) { c.put(d, row, 100); written(c, 200) }, 150, 1},
		{"written since, at the commit before that", func(c *rowCache) { c.put(d, row, 100); written(c, 200) }, 100, 1},
		{"written since, before both", func(c *rowCache) { c.put(d, row, 100); written(c, 200) }, 99, missing},
		{"written twice since, before that", func(c *rowCache) { c.put(d, row, 100); written(c, 200); third(c, 300) }, 150, missing},
		{"written twice since, between", func(c *rowCache) { c.put(d, row, 100); written(c, 200); third(c, 300) }, 250, 2},
		{"written twice since", func(c *rowCache) { c.put(d, row, 100); written(c, 200); third(c, 300) }, 300, 3},
		{"removed and written since, before that", func(c *rowCache) { c.put(d, row, 100); removed(c, 150); written(c, 200) }, 160, missing},
		{"written since and long ago, before that", func(c *rowCache) {
			c.put(d, row, 100)
			written(c, 200)
			c.get(d.ID, 300+olderKept)
		}, 150, missing},
		{"read before a write, put after it", func(c *rowCache) { written(c, 200); c.put(d, row, 150) }, 900, 2},
		{"written and removed", func(c *rowCache) { written(c, 200); removed(c, 300) }, 900, missing},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newRowCache(1 << 20)
			tt.does(c)
			got, size, ok := c.get(d.ID, tt.at)
			if n, _ := got.Fields.Get("n").AsFloat64(); n != tt.want || ok != (tt.want != missing) || ok && (got.ID != d.ID || size != len(row)) {
				t.Errorf("get at %d: %v of %d bytes, %v, want %v", tt.at, got, size, ok, tt.want)
			}
		})
	}
}

func TestRowCacheStaysInItsBounds(t *testing.T) {
	const most = rowShards * 4096
	c := newRowCache(most)
	for i := range 10_000 {
		d, row := cacheDocument(float64(i), 1)
		d.ID = value.NewID(10_001, time.UnixMilli(int64(i/4)), uint64(i/4))
		if i%4 == 0 {
			c.put(d, row, 1)
		} else {
			c.written(d.ID, &cacheNames, row, 1)
		}
		if i%3 == 0 {
			c.get(d.ID, 2+olderKept)
		}
	}
	total, rows := 0, 0
	for i := range c.shards {
		s := &c.shards[i]
		sum := 0
		for _, r := range s.rows {
			sum += r.size + rowOverhead
			if r.older != nil {
				sum += r.older.size + rowOverhead
			}
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
