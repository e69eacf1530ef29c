package live

import (
	"bytes"
	"unsafe"
)

// touchIndex finds the queries whose read set contains a key, at a cost that depends on how many those are and on the
// logarithm of the number of ranges in the key's bucket.
type touchIndex struct {
	points     map[string]posting // by key that somebody has read
	buckets    map[[bucketLen]byte]*intervals
	wide       intervals // ranges that no bucket contains
	pointCount int
	rangeCount int
	seed       uint64 // of the priorities of the interval trees
}

// entry is the place of one point or range of one query in the touch index.
type entry struct {
	query      *query
	prev, next *entry
}

// posting is the queries that share a point or a range.
type posting struct{ first *entry }

func newTouchIndex() touchIndex {
	return touchIndex{
		points:  make(map[string]posting),
		buckets: make(map[[bucketLen]byte]*intervals),
	}
}

func (p *posting) add(e *entry) {
	e.next = p.first
	if p.first != nil {
		p.first.prev = e
	}
	p.first = e
}

// remove takes e out and reports whether p is empty then.
func (p *posting) remove(e *entry) bool {
	if e.prev == nil {
		p.first = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	}
	return p.first == nil
}

// appendTo appends the queries of p. Those that a key has ended stay in until they have run again, which as a rule reads
// the same.
func (p *posting) appendTo(hits []*query) []*query {
	for e := p.first; e != nil; e = e.next {
		hits = append(hits, e.query)
	}
	return hits
}

// appendHits appends the queries whose installed read set contains key. One may come twice.
func (x *touchIndex) appendHits(hits []*query, key []byte) []*query {
	p := x.points[string(key)]
	hits = p.appendTo(hits)
	if len(key) >= bucketLen {
		if b := x.buckets[[bucketLen]byte(key)]; b != nil {
			hits = b.appendHits(hits, key)
		}
	}
	return x.wide.appendHits(hits, key)
}

// install replaces what the index holds for q by a normalized read set.
func (x *touchIndex) install(q *query, reads ReadSet) {
	if q.entries != nil && q.reads.equal(&reads) {
		return
	}
	x.uninstall(q)
	q.reads = reads
	q.entries = make([]entry, len(reads.Points)+len(reads.Ranges))
	for i := range q.entries {
		q.entries[i].query = q
	}
	for i, key := range reads.Points {
		p := x.points[string(key)]
		p.add(&q.entries[i])
		// Nobody changes the bytes of a read set, so the first who reads a key lends
		// it to the map.
		x.points[unsafe.String(unsafe.SliceData(key), len(key))] = p
	}
	for i, r := range reads.Ranges {
		x.seed++
		x.home(r).insert(r, &q.entries[len(reads.Points)+i], mix(x.seed))
	}
	x.pointCount += len(reads.Points)
	x.rangeCount += len(reads.Ranges)
}

// uninstall removes what the index holds for q.
func (x *touchIndex) uninstall(q *query) {
	for i, key := range q.reads.Points {
		p := x.points[string(key)]
		if p.remove(&q.entries[i]) {
			delete(x.points, string(key))
		} else if q.entries[i].prev == nil {
			x.points[string(key)] = p
		}
	}
	for i, r := range q.reads.Ranges {
		home := x.home(r)
		home.remove(r, &q.entries[len(q.reads.Points)+i])
		if home.root == nil && home != &x.wide {
			delete(x.buckets, [bucketLen]byte(r.Start))
		}
	}
	x.pointCount -= len(q.reads.Points)
	x.rangeCount -= len(q.reads.Ranges)
	q.reads, q.entries = ReadSet{}, nil
}

// home returns the intervals that r belongs to: those of the bucket that contains it, or the wide ones.
func (x *touchIndex) home(r Range) *intervals {
	if !inBucket(r) {
		return &x.wide
	}
	prefix := [bucketLen]byte(r.Start)
	b := x.buckets[prefix]
	if b == nil {
		b = new(intervals)
		x.buckets[prefix] = b
	}
	return b
}

// inBucket reports whether all keys of r have the same first bucketLen bytes.
func inBucket(r Range) bool {
	if len(r.Start) < bucketLen {
		return false
	}
	// The end may be at most the least key above all keys of the bucket: its prefix plus one, without trailing zeros.
	limit := [bucketLen]byte(r.Start)
	n := bucketLen
	for n > 0 && limit[n-1] == 0xff {
		n--
	}
	if n == 0 {
		return true
	}
	limit[n-1]++
	return len(r.End) > 0 && bytes.Compare(r.End, limit[:n]) <= 0
}

// mix is the finalizer of splitmix64: it makes well spread priorities from a counter.
func mix(x uint64) uint64 {
	x *= 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
