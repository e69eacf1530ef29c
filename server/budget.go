package server

import "sync/atomic"

// budget is a number of bytes that many goroutines share. It never waits: who
// does not get what it asks for gives up, and so nobody can be made to wait by
// others who hold their part and do not go on.
type budget struct {
	max  int64
	used atomic.Int64
}

// take reserves n bytes if they are there. What does not fit is never counted, not
// even for a moment, in which another one that does fit would be refused.
func (b *budget) take(n int64) bool {
	for {
		used := b.used.Load()
		if used > b.max-n {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

func (b *budget) put(n int64) { b.used.Add(-n) }
