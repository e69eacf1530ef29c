package engine

import (
	"hash/maphash"
	"sync"
)

const (
	clientShards = 64
	// clientsCached is how many clients' newest requests are kept in memory,
	// about 1 MiB.
	clientsCached = 16_384
)

// clientCache holds the newest request number that each recent client has
// committed, so that a request above it, which is nearly every one, is known
// to be new without a look into the store. It follows the rules of rowCache: what a
// reader found at a snapshot goes in only while no request of the shard was
// committed after it. It is safe for concurrent use.
type clientCache struct {
	seed   maphash.Seed
	shards [clientShards]clientShard
}

type clientShard struct {
	sync.Mutex
	newest map[ClientID]int64 // -1: none at all
	last   Timestamp          // of the newest group with a request of this shard
}

func newClientCache() *clientCache { return &clientCache{seed: maphash.MakeSeed()} }

func (c *clientCache) shard(id ClientID) *clientShard {
	return &c.shards[maphash.Comparable(c.seed, id)%clientShards]
}

// get returns the newest request of a client, -1 when it has none.
func (c *clientCache) get(id ClientID) (newest int64, known bool) {
	s := c.shard(id)
	s.Lock()
	defer s.Unlock()
	newest, known = s.newest[id]
	return newest, known
}

// put adds what was read at snapshot at.
func (c *clientCache) put(id ClientID, newest int64, at Timestamp) {
	s := c.shard(id)
	s.Lock()
	defer s.Unlock()
	if s.last <= at {
		s.setLocked(id, newest)
	}
}

// committed adds a request that the group at commits.
func (c *clientCache) committed(id ClientID, request uint32, at Timestamp) {
	s := c.shard(id)
	s.Lock()
	defer s.Unlock()
	s.last = at
	if newest, known := s.newest[id]; known && newest < int64(request) {
		s.newest[id] = int64(request)
	}
}

func (s *clientShard) setLocked(id ClientID, newest int64) {
	if s.newest == nil {
		s.newest = map[ClientID]int64{}
	}
	for other := range s.newest {
		if len(s.newest) < clientsCached/clientShards {
			break
		}
		delete(s.newest, other)
	}
	s.newest[id] = newest
}
