package aggregate

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// rootLabel keeps a root record from verifying as a block, and the reverse.
const rootLabel = "halcyon aggregate root"

// AppendBinary appends the root record of t, which is all the caller has to
// store to find the tree again. It is under 60 bytes.
func (t Tree) AppendBinary(dst []byte) []byte {
	begin := len(dst)
	version, columns := format(t.Weighted)
	dst = append(dst, version, columns)
	for _, v := range []uint64{uint64(t.Agg), uint64(t.Height), t.Root.Node, t.Root.At, t.NextNode, uint64(t.Entries)} {
		dst = binary.AppendUvarint(dst, v)
	}
	return binary.LittleEndian.AppendUint32(dst, rootChecksum(dst[begin:]))
}

// DecodeTree decodes a root record. It fails with ErrCorrupt or ErrNewerFormat.
func DecodeTree(b []byte) (Tree, error) {
	fail := func(format string, args ...any) (Tree, error) {
		return Tree{}, corruptf(0, Ref{}, "root record: "+format, args...)
	}
	if len(b) < 2+checksumBytes {
		return fail("%d bytes are too short", len(b))
	}
	body, sum := b[:len(b)-checksumBytes], binary.LittleEndian.Uint32(b[len(b)-checksumBytes:])
	if got := rootChecksum(body); got != sum {
		return fail("checksum is %08x, record says %08x", got, sum)
	}
	if body[0] != formatCounts && body[0] != formatWeighted {
		return Tree{}, versionError(0, 0, body[0])
	}
	weighted := body[0] == formatWeighted
	if _, columns := format(weighted); body[1] != columns {
		return fail("summary columns are %#x, want %#x", body[1], columns)
	}
	s := scanner{rest: body[2:]}
	t := Tree{
		Agg:      uint32(s.uvarint(math.MaxUint32)),
		Height:   int(s.uvarint(levelMax + 1)),
		Root:     Ref{Node: s.uvarint(math.MaxUint64), At: s.uvarint(math.MaxUint64)},
		NextNode: s.uvarint(math.MaxUint64),
		Entries:  int64(s.uvarint(math.MaxInt64)),
		Weighted: weighted,
	}
	switch {
	case s.bad || len(s.rest) > 0:
		return fail("numbers are malformed")
	case t.Height == 0 && (t.Root != Ref{} || t.Entries != 0):
		return fail("an empty tree has a root or entries")
	case t.Height > 0 && (t.Root.Node == 0 || t.Root.Node >= t.NextNode || t.Entries == 0):
		return fail("root, next node and entries contradict each other")
	}
	return t, nil
}

func rootChecksum(body []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(rootLabel), castagnoli), castagnoli, body)
}
