package engine

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/halcyon-db/halcyon/engine/value"
)

const (
	rowShards = 64
	// rowOverhead is about what a cached document takes beyond its row: its place
	// in the map and the object that keeps the row.
	rowOverhead = 160
	// olderKept is how long, in microseconds, after a version was replaced it is
	// kept for readers behind: longer than a disk takes for a group.
	olderKept = 500_000
)

// rowCache holds documents, the newest version of each, as they are stored: a
// document decodes a field when it is asked for, so nothing would be saved by
// holding it decoded, and much memory lost.
//
// An entry committed at T answers a reader at snapshot S if T <= S. That it is
// the newest version as of S, too, follows from two rules: the committer calls
// written for every row of a group before any reader can have a snapshot at or
// after the group, which replaces the version that was there, and a reader puts
// in what it read at S only while no row of the shard was written after S.
//
// Queries read what is durable, which lies behind what was written last by as
// long as the disk takes. So an entry keeps the version before it for those at
// snapshots between the two, until it is replaced or readers are far past it.
//
// When the cache is full, entries leave in no particular order. It is safe for
// concurrent use.
type rowCache struct {
	seed   maphash.Seed
	max    int           // bytes in one shard
	loaded atomic.Uint64 // when a table was last loaded
	shards [rowShards]rowShard
}

type rowShard struct {
	sync.Mutex
	rows  map[value.ID]cachedRow
	bytes int
	last  Timestamp // of the newest group that wrote a row of this shard
}

type cachedRow struct {
	fields  value.Value
	created float64
	at      Timestamp
	size    int        // of the row
	older   *cachedRow // the version before it, or nil
}

func newCachedRow(d Document, row []byte, since Timestamp) cachedRow {
	return cachedRow{fields: d.Fields, created: d.CreationTime, at: max(rowTimestamp(row), since), size: len(row)}
}

func (r cachedRow) cost() int {
	cost := r.size + rowOverhead
	if r.older != nil {
		cost += r.older.size + rowOverhead
	}
	return cost
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
	switch {
	case !ok:
		return Document{}, 0, false
	case r.at <= at:
		if r.older != nil && at-r.at > olderKept {
			s.bytes -= r.cost()
			r.older = nil
			s.bytes += r.cost()
			s.rows[id] = r
		}
	case r.older != nil && r.older.at <= at:
		r = *r.older
	default:
		return Document{}, 0, false
	}
	return Document{ID: id, CreationTime: r.created, Fields: r.fields}, r.size, true
}

// put adds a document that was read at snapshot at.
func (c *rowCache) put(d Document, row []byte, at Timestamp) {
	s := c.shard(d.ID)
	s.Lock()
	defer s.Unlock()
	if _, ok := s.rows[d.ID]; ok || s.last > at {
		return
	}
	// A row that was loaded says when its load began, which is before anybody may
	// see it. If it came with the newest load, it is there since then; if with an
	// earlier one, at least since the reader's snapshot.
	since := min(Timestamp(c.loaded.Load()), at)
	s.putLocked(d.ID, newCachedRow(d, row, since), c.max)
}

// written replaces a document by what the group at makes of it: a stamped row of
// the table with these names, or nil when it is removed. What a group has just
// written is what the next one is most likely to read, and it costs less here
// than a read of the store would there. The cache keeps the row.
func (c *rowCache) written(id value.ID, names *value.Names, row []byte, at Timestamp) {
	var fresh cachedRow
	if row != nil {
		fresh = newCachedRow(ownRow(names, id, row), row, 0)
	}
	s := c.shard(id)
	s.Lock()
	defer s.Unlock()
	s.last = at
	if r, ok := s.rows[id]; ok {
		s.removeLocked(id, r)
		r.older = nil
		fresh.older = &r
	}
	if row != nil {
		s.putLocked(id, fresh, c.max)
	}
}

// putLocked adds a document that is not there, and makes room for it.
func (s *rowShard) putLocked(id value.ID, fresh cachedRow, bytesMax int) {
	if fresh.cost() > bytesMax {
		fresh.older = nil
	}
	cost := fresh.cost()
	if cost > bytesMax {
		return
	}
	if s.rows == nil {
		s.rows = map[value.ID]cachedRow{}
	}
	for id, r := range s.rows {
		if s.bytes+cost <= bytesMax {
			break
		}
		s.removeLocked(id, r)
	}
	s.rows[id] = fresh
	s.bytes += cost
}

func (s *rowShard) removeLocked(id value.ID, r cachedRow) {
	delete(s.rows, id)
	s.bytes -= r.cost()
}
