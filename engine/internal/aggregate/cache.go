package aggregate

import (
	"sync"
	"sync/atomic"
)

// Cache keeps decoded nodes of many aggregates and many versions in memory. It
// is safe for concurrent use, belongs to one store, and is bounded by bytes:
// when a shard is full, nodes that were not read since the clock hand last
// passed are dropped. A nil *Cache is valid and keeps nothing.
type Cache struct {
	shards []cacheShard
}

// CacheStats is a snapshot of what a cache has done and holds.
type CacheStats struct {
	Misses, Evictions uint64
	Nodes, Bytes      int
}

type cacheKey struct {
	agg  uint32
	node uint64
	at   Timestamp
}

type cacheShard struct {
	bytesMax int

	mu struct {
		sync.Mutex
		index map[cacheKey]int32 // position in slots
		slots []*cached          // the clock; nil is an empty slot
		free  []int32            // positions of empty slots
		hand  int
		stats CacheStats
	}
}

// cached is one version of a node in the cache. Branches point to what is cached
// of their children, so that a read finds its way down without the index and its
// lock. A pointer may outlive the eviction, which takes the node away.
type cached struct {
	key  cacheKey
	node atomic.Pointer[node] // nil when it was evicted
	used atomic.Bool          // read since the hand last passed
}

// read returns the node, or nil when it was evicted.
func (c *cached) read() *node {
	if c == nil {
		return nil
	}
	n := c.node.Load()
	if n != nil && !c.used.Load() { // a store each time would be shared by all readers
		c.used.Store(true)
	}
	return n
}

const (
	cacheShardsMax     = 16
	cacheShardBytesMin = 1 << 20
)

// NewCache returns a cache that holds at most about bytesMax bytes. With 0 or
// less it keeps nothing.
func NewCache(bytesMax int) *Cache {
	n := 1
	for n < cacheShardsMax && bytesMax/(2*n) >= cacheShardBytesMin {
		n *= 2
	}
	c := &Cache{shards: make([]cacheShard, n)}
	for i := range c.shards {
		s := &c.shards[i]
		s.bytesMax = bytesMax / n
		s.mu.index = make(map[cacheKey]int32)
	}
	return c
}

// Stats returns the sums over all shards.
func (c *Cache) Stats() CacheStats {
	var sum CacheStats
	if c == nil {
		return sum
	}
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		one := s.mu.stats
		s.mu.Unlock()
		sum.Misses += one.Misses
		sum.Evictions += one.Evictions
		sum.Nodes += one.Nodes
		sum.Bytes += one.Bytes
	}
	return sum
}

// shard spreads by node, not by version: the count of shards is a power of two.
func (c *Cache) shard(k cacheKey) *cacheShard {
	h := (k.node ^ uint64(k.agg)<<40) * 0x9e3779b97f4a7c15
	return &c.shards[int(h>>32)&(len(c.shards)-1)]
}

// find returns what is kept of a version, or nil.
func (c *Cache) find(agg uint32, ref Ref) *cached {
	if c == nil {
		return nil
	}
	k := cacheKey{agg, ref.Node, ref.At}
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	i, ok := s.mu.index[k]
	if !ok {
		s.mu.stats.Misses++
		return nil
	}
	return s.mu.slots[i]
}

// add keeps n and returns where, unless that version is there already or is too
// large to keep. No other goroutine has n yet.
func (c *Cache) add(agg uint32, id uint64, n *node) *cached {
	if c == nil {
		return nil
	}
	k := cacheKey{agg, id, n.at}
	s := c.shard(k)
	n.prepare()
	size := n.size()
	if size > s.bytesMax {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.mu.index[k]; ok {
		return nil
	}
	for s.mu.stats.Bytes+size > s.bytesMax {
		s.evictLocked()
	}
	var i int32
	if last := len(s.mu.free) - 1; last >= 0 {
		i = s.mu.free[last]
		s.mu.free = s.mu.free[:last]
	} else {
		i = int32(len(s.mu.slots))
		s.mu.slots = append(s.mu.slots, nil)
	}
	e := &cached{key: k}
	e.node.Store(n)
	s.mu.slots[i] = e
	s.mu.index[k] = i
	s.mu.stats.Nodes++
	s.mu.stats.Bytes += size
	return e
}

// evictLocked drops one node. The shard's mutex is held and the shard is not empty.
func (s *cacheShard) evictLocked() {
	for {
		s.mu.hand++
		if s.mu.hand >= len(s.mu.slots) {
			s.mu.hand = 0
		}
		e := s.mu.slots[s.mu.hand]
		switch {
		case e == nil:
		case e.used.Load():
			e.used.Store(false)
		default:
			s.mu.stats.Nodes--
			s.mu.stats.Bytes -= e.node.Load().size()
			s.mu.stats.Evictions++
			delete(s.mu.index, e.key)
			e.node.Store(nil)
			s.mu.slots[s.mu.hand] = nil
			s.mu.free = append(s.mu.free, int32(s.mu.hand))
			return
		}
	}
}

// retire makes a version that a newer one has replaced the next to go, unless
// an older snapshot reads it again.
func (c *Cache) retire(agg uint32, ref Ref) {
	if c == nil {
		return
	}
	k := cacheKey{agg, ref.Node, ref.At}
	s := c.shard(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i, ok := s.mu.index[k]; ok {
		s.mu.slots[i].used.Store(false)
	}
}
