package aggregate

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
)

// The layout is described byte by byte in docs/format/aggregates.md.
const (
	// formatVersion is the newest version. Trees without weights are written
	// in the first one.
	formatVersion  = 2
	formatCounts   = 1
	formatWeighted = 2

	// columnCount is the column with the number of entries of each child,
	// columnWeight that with the number each entry carries or, in a branch, with
	// what is known about those below each child.
	columnCount  = 1 << 0
	columnWeight = 1 << 1

	checksumBytes    = 4
	blockHeaderBytes = 1 + 1 + 1 + 8 // version, level, columns, timestamp

	// blockBytesTypical is room enough for any block with short keys.
	blockBytesTypical = 6 << 10

	// levelMax is far above what 2^63 entries need at the lowest fan-out.
	levelMax = 31
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockSeed returns the checksum state that ties a block to its place, so that a
// block stored under another key does not verify.
func blockSeed(agg uint32, id uint64) uint32 {
	var place [12]byte
	binary.BigEndian.PutUint32(place[:], agg)
	binary.BigEndian.PutUint64(place[4:], id)
	return crc32.Checksum(place[:], castagnoli)
}

// format returns the version and the columns of what is written for trees with
// or without weights.
func format(weighted bool) (version, columns byte) {
	if weighted {
		return formatWeighted, columnCount | columnWeight
	}
	return formatCounts, columnCount
}

// appendBlock appends the encoded node.
func appendBlock(dst []byte, agg uint32, id uint64, n *node) []byte {
	begin := len(dst)
	version, columns := format(n.weighted)
	if n.leaf() {
		columns &^= columnCount
	}
	dst = append(dst, version, byte(n.level), columns)
	dst = binary.BigEndian.AppendUint64(dst, n.at)
	if n.leaf() {
		dst = binary.AppendUvarint(dst, uint64(n.keys.len()))
	} else {
		dst = binary.AppendUvarint(dst, uint64(len(n.kids)))
	}
	start := 0
	for i, end := range n.keys.ends {
		if i == 0 {
			dst = binary.AppendUvarint(dst, uint64(n.keys.size(0)))
			dst = append(dst, n.keys.prefix...)
			dst = append(dst, n.keys.tails[:end]...)
		} else {
			rest := n.keys.tails[start+int(n.keys.shared[i])-len(n.keys.prefix) : end]
			dst = binary.AppendUvarint(dst, uint64(n.keys.shared[i]))
			dst = binary.AppendUvarint(dst, uint64(len(rest)))
			dst = append(dst, rest...)
		}
		start = int(end)
	}
	for i := range n.kids {
		dst = binary.AppendUvarint(dst, n.kids[i].ref.Node)
		dst = binary.AppendUvarint(dst, n.at-n.kids[i].ref.At)
	}
	before := int64(0)
	for i := range n.kids {
		dst = binary.AppendUvarint(dst, uint64(n.kids[i].end-before))
		before = n.kids[i].end
	}
	for _, w := range n.weights {
		dst = w.append(dst)
	}
	for i := range n.sums {
		dst = n.sums[i].append(dst)
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Update(blockSeed(agg, id), castagnoli, dst[begin:]))
}

// decodeBlock decodes a block and verifies all that can be seen in it alone. It
// accepts only what appendBlock writes, so that encoding again gives the same
// bytes. The result does not refer to block.
func decodeBlock(agg uint32, id uint64, block []byte) (*node, error) {
	fail := func(format string, args ...any) (*node, error) {
		return nil, corruptf(agg, Ref{Node: id}, format, args...)
	}
	if len(block) < blockHeaderBytes+checksumBytes {
		return fail("block of %d bytes is too short", len(block))
	}
	body, sum := block[:len(block)-checksumBytes], binary.LittleEndian.Uint32(block[len(block)-checksumBytes:])
	if got := crc32.Update(blockSeed(agg, id), castagnoli, body); got != sum {
		return fail("checksum is %08x, block says %08x", got, sum)
	}
	if body[0] != formatCounts && body[0] != formatWeighted {
		return nil, versionError(agg, id, body[0])
	}
	n := &node{level: int(body[1]), at: binary.BigEndian.Uint64(body[3:]), weighted: body[0] == formatWeighted}
	if n.level > levelMax {
		return fail("level %d is out of range", n.level)
	}
	_, columns := format(n.weighted)
	if n.leaf() {
		columns &^= columnCount
	}
	if body[2] != columns {
		return fail("summary columns are %#x, want %#x", body[2], columns)
	}
	s := scanner{rest: body[blockHeaderBytes:]}
	items := int(s.uvarint(itemsMax))
	keys := items
	if n.level > 0 {
		keys = items - 1
	}
	if s.bad || keys < 1 {
		return fail("item count is malformed or out of range")
	}
	if !s.keys(keys, &n.keys) {
		return fail("keys are malformed or out of order")
	}
	if n.level > 0 {
		n.kids = make([]child, items)
		for i := range n.kids {
			n.kids[i].ref = Ref{Node: s.uvarint(math.MaxUint64), At: n.at - s.uvarint(n.at)}
			if n.kids[i].ref.Node == 0 {
				s.bad = true
			}
		}
		end := int64(0)
		for i := range n.kids {
			count := int64(s.uvarint(uint64(math.MaxInt64 - end)))
			if count == 0 {
				s.bad = true
			}
			end += count
			n.kids[i].end = end
		}
		if s.bad {
			return fail("children are malformed")
		}
	}
	if n.weighted && !s.weights(n) {
		return fail("weights are malformed")
	}
	if len(s.rest) > 0 {
		return fail("%d bytes follow the block", len(s.rest))
	}
	return n, nil
}

// scanner reads varints and keys off the front of a block. After a failure bad
// is set and numbers are 0.
type scanner struct {
	rest []byte
	bad  bool
}

// uvarint reads a number of at most limit in its shortest form.
func (s *scanner) uvarint(limit uint64) uint64 {
	v, n := binary.Uvarint(s.rest)
	if s.bad || n <= 0 || v > limit || n > 1 && s.rest[n-1] == 0 {
		s.bad = true
		return 0
	}
	s.rest = s.rest[n:]
	return v
}

// bytes reads n bytes.
func (s *scanner) bytes(n uint64) []byte {
	if s.bad || n > uint64(len(s.rest)) {
		s.bad = true
		return nil
	}
	b := s.rest[:n]
	s.rest = s.rest[n:]
	return b
}

// keys reads n front-coded keys into l. It walks them twice: first for the
// lengths, which give the common prefix and the exact memory, then to copy them
// and verify their order. What it allocates is at most n times the block.
func (s *scanner) keys(n int, l *keyList) bool {
	first := *s
	prefix, size, total := KeyBytesMax, 0, 0
	for i := range n {
		shared := 0
		if i > 0 {
			shared = int(first.uvarint(uint64(size)))
			prefix = min(prefix, shared)
		}
		size = shared + len(first.bytes(first.uvarint(uint64(KeyBytesMax-shared))))
		total += size
		prefix = min(prefix, size)
	}
	if first.bad {
		return false
	}
	*l = keyList{
		tails:  make([]byte, 0, total-n*prefix),
		ends:   make([]uint32, 0, n),
		shared: make([]uint16, 0, n),
	}
	for i := range n {
		shared := 0
		if i > 0 {
			shared = int(s.uvarint(KeyBytesMax))
		}
		rest := s.bytes(s.uvarint(KeyBytesMax))
		if i == 0 {
			l.prefix = bytes.Clone(rest[:prefix])
			l.tails = append(l.tails, rest[prefix:]...)
		} else {
			// The key must be greater than the one before it, and share with it
			// not one byte more than it says.
			before := l.tail(i - 1)
			if len(rest) == 0 || shared-prefix < len(before) && rest[0] <= before[shared-prefix] {
				return false
			}
			l.tails = append(l.tails, before[:shared-prefix]...)
			l.tails = append(l.tails, rest...)
		}
		l.ends = append(l.ends, uint32(len(l.tails)))
		l.shared = append(l.shared, uint16(shared))
	}
	return !s.bad
}

// weights reads the weights of a leaf or the summaries of a branch.
func (s *scanner) weights(n *node) bool {
	if n.leaf() {
		n.weights = make([]Weight, n.keys.len())
		for i := range n.weights {
			n.weights[i] = s.weight()
		}
		return !s.bad
	}
	n.sums = make([]summary, len(n.kids))
	size := 0
	for i := range n.sums {
		n.sums[i] = s.summary(n.kids[i].end - n.start(i))
		size += len(n.sums[i].sum)
	}
	if s.bad {
		return false
	}
	arena := make([]byte, 0, size) // the block is the caller's
	for i := range n.sums {
		begin := len(arena)
		arena = append(arena, n.sums[i].sum...)
		n.sums[i].sum = arena[begin:len(arena):len(arena)]
	}
	return true
}

func versionError(agg uint32, id uint64, version byte) error {
	return fmt.Errorf("aggregate %d, node %d: format version %d, this program reads 1 to %d: %w",
		agg, id, version, formatVersion, ErrNewerFormat)
}
