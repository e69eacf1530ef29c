package yjs

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// ID names one unit of content: the client that made it and its place in the
// sequence of everything that client made.
type ID struct {
	Client uint64
	Clock  uint64
}

// String returns client:clock.
func (id ID) String() string { return fmt.Sprintf("%d:%d", id.Client, id.Clock) }

// StateVector says how much of each client's sequence is present: the next
// expected clock by client.
type StateVector map[uint64]uint64

// DecodeStateVector reads an encoded state vector.
func DecodeStateVector(b []byte) (StateVector, error) {
	r := lib0.NewReader(view(b))
	sv := readStateVector(&r)
	if r.Err() == nil && r.Len() > 0 {
		r.Fail("bytes after the state vector")
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("decode state vector: %w", err)
	}
	return sv, nil
}

func readStateVector(r *lib0.Reader) StateVector {
	n := r.Uint()
	if n > uint64(r.Len()/2) {
		r.Fail("more clients than bytes")
		return nil
	}
	sv := StateVector{}
	for ; n > 0 && r.Err() == nil; n-- {
		client := r.Uint()
		sv[client] = r.Uint()
	}
	return sv
}

// Encode returns the bytes peers exchange, clients in descending order.
func (sv StateVector) Encode() []byte { return sv.appendTo(make([]byte, 0, 2+8*len(sv))) }

func (sv StateVector) appendTo(dst []byte) []byte {
	dst = lib0.AppendUint(dst, uint64(len(sv)))
	for _, client := range descending(maps.Keys(sv)) {
		dst = lib0.AppendUint(dst, client)
		dst = lib0.AppendUint(dst, sv[client])
	}
	return dst
}

// Covers reports whether sv has everything other has.
func (sv StateVector) Covers(other StateVector) bool {
	for client, clock := range other {
		if sv[client] < clock {
			return false
		}
	}
	return true
}

func descending(keys func(func(uint64) bool)) []uint64 {
	s := slices.Collect(keys)
	slices.SortFunc(s, func(a, b uint64) int { return cmp.Compare(b, a) })
	return s
}
