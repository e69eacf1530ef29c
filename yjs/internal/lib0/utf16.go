package lib0

import "unicode/utf8"

// Replacement is U+FFFD in UTF-8: what half of a surrogate pair is written as.
const Replacement = "\uFFFD"

// Units is the length of valid UTF-8 text in UTF-16 code units.
func Units[T string | []byte](s T) uint64 {
	n := uint64(0)
	for i := 0; i < len(s); i++ {
		b := s[i]
		// Every byte that starts a rune is one unit, a four-byte rune two.
		if b&0xc0 != 0x80 {
			n++
		}
		if b >= 0xf0 {
			n++
		}
	}
	return n
}

// Offset finds the byte offset of the given UTF-16 offset in valid UTF-8 text
// that is units code units long. When the offset lies between the two halves of
// a surrogate pair, pair is true and the offset is that of the rune.
func Offset[T string | []byte](s T, units, at uint64) (offset int, pair bool) {
	if uint64(len(s)) == units {
		return int(at), false
	}
	n := uint64(0)
	for i := 0; i < len(s); {
		if n >= at {
			return i, false
		}
		switch b := s[i]; {
		case b < utf8.RuneSelf:
			i, n = i+1, n+1
		case b < 0xe0:
			i, n = i+2, n+1
		case b < 0xf0:
			i, n = i+3, n+1
		default:
			if n+1 == at {
				return i, true
			}
			i, n = i+4, n+2
		}
	}
	return len(s), false
}

// Cut splits valid UTF-8 text at a UTF-16 offset. A pair of surrogates that is
// cut in two becomes U+FFFD on either side, as it does in JavaScript peers.
func Cut(s string, units, at uint64) (left, right string) {
	i, pair := Offset(s, units, at)
	if pair {
		return s[:i] + Replacement, Replacement + s[i+4:]
	}
	return s[:i], s[i:]
}
