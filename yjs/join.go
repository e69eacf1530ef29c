package yjs

// joiner writes structs, joining neighbours: two structs of one client become
// one when the second starts where the first ends, its origin is the last unit
// of the first, and both have the same right origin. Such a pair is by
// definition the split form of one struct. docs/adr has the argument why every
// document makes the same of both forms.
type joiner struct {
	e      *encoder
	off    bool // write structs as they come
	cur    block
	have   bool
	joined bool
	buf    []byte // content of cur once something was joined to it
	runMax uint64
}

func (j *joiner) add(b *block) {
	if j.off {
		j.e.write(b, 0)
		return
	}
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

// flush writes the struct that waits for more.
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
