package engine

import (
	"encoding/binary"
	"hash/maphash"
	"sync"

	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

const (
	rowShards = 64
	// rowOverhead is what a cached document takes beyond its stored size, which
	// decoding roughly doubles.
	rowOverhead = 128
)

// rowCache holds decoded documents, the newest version of each only.
//
// An entry committed at T answers a reader at snapshot S if T <= S. That it is
// the newest version as of S, too, follows from two rules: the committer calls
// written for every row of a group before any reader can have a snapshot at or
// after the group, and a reader puts in what it read at S only while no row of
// the shard was written after S.
//
// When the cache is full, entries leave in no particular order. It is safe for
// concurrent use.
type rowCache struct {
	seed   maphash.Seed
	max    int // bytes in one shard
	shards [rowShards]rowShard
}

type rowShard struct {
	sync.Mutex
	rows  map[value.ID]cachedRow
	bytes int
	last  Timestamp // of the newest group that wrote a row of this shard
}

type cachedRow struct {
	doc  Document
	at   Timestamp
	size int // stored size
}

func newRowCache(bytesMax int) *rowCache {
	return &rowCache{seed: maphash.MakeSeed(), max: bytesMax / rowShards}
}

func (c *rowCache) shard(id value.ID) *rowShard {
	return &c.shards[maphash.Comparable(c.seed, id)%rowShards]
}

// get returns the document as of snapshot at, and its stored size.
func (c *rowCache) get(id value.ID, at Timestamp) (d Document, size int, ok bool) {
	s := c.shard(id)
	s.Lock()
	defer s.Unlock()
	r, ok := s.rows[id]
	if !ok || r.at > at {
		return Document{}, 0, false
	}
	return r.doc, r.size, true
}

// put adds a document that was read at snapshot at.
func (c *rowCache) put(d Document, row []byte, at Timestamp) {
	cost := 2*len(row) + rowOverhead
	s := c.shard(d.ID)
	s.Lock()
	defer s.Unlock()
	if s.last > at || cost > c.max {
		return
	}
	if s.rows == nil {
		s.rows = map[value.ID]cachedRow{}
	}
	if _, ok := s.rows[d.ID]; ok {
		return
	}
	for id, r := range s.rows {
		if s.bytes+cost <= c.max {
			break
		}
		s.removeLocked(id, r)
	}
	s.rows[d.ID] = cachedRow{d, Timestamp(binary.BigEndian.Uint64(row[txn.StampOffset:])), len(row)}
	s.bytes += cost
}

// written forgets a document that the group at writes.
func (c *rowCache) written(id value.ID, at Timestamp) {
	s := c.shard(id)
	s.Lock()
	defer s.Unlock()
	s.last = at
	if r, ok := s.rows[id]; ok {
		s.removeLocked(id, r)
	}
}

func (s *rowShard) removeLocked(id value.ID, r cachedRow) {
	delete(s.rows, id)
	s.bytes -= 2*r.size + rowOverhead
}
