package aggregate

import "sync"

// Cache keeps decoded nodes of many aggregates and many versions in memory. It
// is safe for concurrent use, belongs to one store, and is bounded by bytes:
// when a shard is full, nodes that were not read since the clock hand last
// passed are dropped. A nil *Cache is valid and keeps nothing.
type Cache struct {
	shards []cacheShard
}

// CacheStats is a snapshot of what a cache has done and holds.
type CacheStats struct {
	Hits, Misses, Evictions uint64
	Nodes, Bytes            int
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
		slots []cacheSlot        // the clock
		free  []int32            // positions of empty slots
		hand  int
		stats CacheStats
	}
}

type cacheSlot struct {
	key  cacheKey
	node *node // nil is an empty slot
	used bool  // read since the hand last passed
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
		sum.Hits += one.Hits
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

func (c *Cache) get(agg uint32, ref Ref) *node {
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
	s.mu.stats.Hits++
	s.mu.slots[i].used = true
	return s.mu.slots[i].node
}

// add keeps n, unless that version is there already or is too large to keep.
func (c *Cache) add(agg uint32, id uint64, n *node) {
	if c == nil {
		return
	}
	k := cacheKey{agg, id, n.at}
	s := c.shard(k)
	size := n.size()
	if size > s.bytesMax {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.mu.index[k]; ok {
		return
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
		s.mu.slots = append(s.mu.slots, cacheSlot{})
	}
	s.mu.slots[i] = cacheSlot{key: k, node: n}
	s.mu.index[k] = i
	s.mu.stats.Nodes++
	s.mu.stats.Bytes += size
}

// evictLocked drops one node. The shard's mutex is held and the shard is not empty.
func (s *cacheShard) evictLocked() {
	for {
		s.mu.hand++
		if s.mu.hand >= len(s.mu.slots) {
			s.mu.hand = 0
		}
		slot := &s.mu.slots[s.mu.hand]
		switch {
		case slot.node == nil:
		case slot.used:
			slot.used = false
		default:
			s.mu.stats.Nodes--
			s.mu.stats.Bytes -= slot.node.size()
			s.mu.stats.Evictions++
			delete(s.mu.index, slot.key)
			*slot = cacheSlot{}
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
		s.mu.slots[i].used = false
	}
}
