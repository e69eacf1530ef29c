package yjs

import (
	"encoding/binary"

	"github.com/halcyon-db/halcyon/yjs/internal/lib0"
)

// skim passes structs of the open client block of a V1 update as long as they
// end at or before a clock. It knows the structs most updates are made of and
// stops before any other, and before anything wrong, which next will meet. What
// it passes is checked as next checks it and is written by yjs the way it was
// read.
func (d *decoder) skim(until uint64) {
	if d.cols != nil || d.structs == 0 || d.err != nil {
		return
	}
	s := frozen(d.rest.Input())
	var room [16]byte
	own := lib0.AppendUint(room[:0], d.client)
	ownLen := len(own)
	want := binary.LittleEndian.Uint64(room[:8])
	mask := uint64(1)<<(8*ownLen) - 1
	pos, clock, left := d.rest.Pos(), d.clock, d.structs
	// Every struct has at most 1 + 5*8 bytes before its content, of which up to
	// eight are looked at at once.
	for left > 0 && pos+64 <= len(s) {
		at := pos
		info := s[at]
		at++
		k := kind(info & infoKind)
		if info&infoSub != 0 || k != kindString && k != kindDeleted || info&(infoOrigin|infoRight) == 0 {
			break
		}
		if info&infoOrigin != 0 {
			if at = skimID(s, at, mask, want, ownLen, clock, d.limits.Clock); at < 0 {
				break
			}
		}
		if info&infoRight != 0 {
			if at = skimID(s, at, mask, want, ownLen, clock, d.limits.Clock); at < 0 {
				break
			}
		}
		// Nearly all lengths take one byte, so this is worth guessing.
		n := uint64(s[at])
		if at++; n >= 0x80 {
			n, at = shortUint(s, at-1)
		}
		if n == 0 || at < 0 {
			break
		}
		size := n // of the text
		if k == kindDeleted {
			size = 0
		}
		if size > uint64(len(s)-at) {
			break
		}
		if size <= 8 && binary.LittleEndian.Uint64(s[at:])&(1<<(8*size)-1)&nonASCII != 0 ||
			size > 8 && !ascii(s[at:at+int(size)]) {
			var ok bool
			if n, ok = lib0.Measure(view(s[at : at+int(size)])); !ok {
				break
			}
		}
		if k == kindDeleted && n > d.limits.Run {
			break
		}
		at += int(size)
		end := clock + n
		if end > until || end > d.limits.Clock {
			break
		}
		pos, clock = at, end
		left--
	}
	d.rest.Seek(pos)
	d.clock, d.structs = clock, left
}

// skimID passes the ID of an earlier unit; the position is -1 when it is none.
func skimID(s []byte, at int, mask, own uint64, ownLen int, clock, clockMax uint64) int {
	limit := clockMax
	if binary.LittleEndian.Uint64(s[at:])&mask == own {
		at += ownLen
		limit = clock
	} else if _, at = shortUint(s, at); at < 0 {
		return -1
	}
	ref, at := shortUint(s, at)
	if ref >= limit {
		return -1
	}
	return at
}

// shortUint reads an integer of at most 7 bytes; the position is -1 for a
// longer one. There must be 8 bytes to read.
func shortUint(s []byte, at int) (v uint64, next int) {
	v, n := lib0.ShortUint(binary.LittleEndian.Uint64(s[at:]))
	if n == 0 {
		return 0, -1
	}
	return v, at + n
}

const nonASCII = 0x8080808080808080

func ascii(s []byte) bool {
	for len(s) >= 8 {
		if binary.LittleEndian.Uint64(s)&nonASCII != 0 {
			return false
		}
		s = s[8:]
	}
	for _, b := range s {
		if b >= 0x80 {
			return false
		}
	}
	return true
}
