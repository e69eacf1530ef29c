package server

import "sync/atomic"

// budget is a number of bytes that many goroutines share. It never waits: who
// does not get what it asks for gives up, and so nobody can be made to wait by
// others who hold their part and do not go on.
type budget struct {
	max  int64
	used atomic.Int64
}

// take reserves n bytes if they are there.
func (b *budget) take(n int64) bool {
	if b.used.Add(n) > b.max {
		b.used.Add(-n)
		return false
	}
	return true
}

func (b *budget) put(n int64) { b.used.Add(-n) }
