package yjs

import (
	"fmt"
	"math"
)

// Compact merges updates and joins neighbours that one insertion might have
// made: the characters somebody typed one by one become one struct, as they do
// in a document that has integrated them. Nothing is forgotten; every clock,
// every origin and all deleted content is still there, and a document that
// loads the result is the same, to the byte, as one that loads the merged
// updates.
//
// Two structs are joined when the second starts where the first ends, its
// origin is the first one's last unit, and both have the same right origin:
// such a pair is by definition the split form of one struct.
func (c Codec) Compact(updates ...[]byte) ([]byte, error) {
	merged, err := c.Merge(updates...)
	if err != nil {
		return nil, fmt.Errorf("compact: %w", err)
	}
	limits := c.Limits
	limits.Structs = math.MaxInt64 // the parts have been checked
	var d decoder
	d.init(view(merged), c.version(), limits)
	j := joiner{e: newEncoder(c.version(), len(merged)), runMax: c.Limits.withDefaults(0).Run}
	var b block
	for d.next(&b) {
		j.add(&b)
	}
	j.flush()
	var deleted DeleteSet
	if _, _, err := d.finish(&deleted); err != nil {
		return nil, fmt.Errorf("compact: %w", err)
	}
	return j.e.finish(&deleted)
}

// CompactUpdates is Codec.Compact for V1.
func CompactUpdates(updates ...[]byte) ([]byte, error) { return Codec{}.Compact(updates...) }

// joiner writes structs, joining neighbours.
type joiner struct {
	e      *encoder
	cur    block
	have   bool
	joined bool
	buf    []byte // content of cur once something was joined to it
	runMax uint64
}

func (j *joiner) add(b *block) {
	if j.have && j.cur.joins(b) && j.cur.length+b.length <= j.runMax {
		if p := b.payload(); p != nil {
			if !j.joined {
				j.buf = append(j.buf[:0], *j.cur.payload()...)
				j.joined = true
			}
			j.buf = append(j.buf, *p...)
		}
		j.cur.body = ""
		j.cur.length += b.length
		return
	}
	j.flush()
	j.cur, j.have = *b, true
}

func (j *joiner) flush() {
	if !j.have {
		return
	}
	if j.joined {
		*j.cur.payload() = view(j.buf)
	}
	j.e.write(&j.cur, 0)
	j.have, j.joined = false, false
}

// payload is where the content of a mergeable struct is; nil without content.
func (b *block) payload() *string {
	switch b.kind {
	case kindString:
		return &b.text
	case kindAny, kindJSON:
		return &b.value
	}
	return nil
}

// joins reports whether r is the continuation of b.
func (b *block) joins(r *block) bool {
	if b.kind != r.kind || b.client != r.client || b.end() != r.clock {
		return false
	}
	if b.kind == kindGC {
		return true
	}
	return b.kind.mergeable() && r.info&infoOrigin != 0 && r.origin == ID{b.client, r.clock - 1} &&
		(b.info^r.info)&infoRight == 0 && (b.info&infoRight == 0 || b.right == r.right)
}
