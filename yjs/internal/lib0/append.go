package lib0

import "encoding/binary"

// AppendUint appends a variable-length unsigned integer.
func AppendUint(dst []byte, v uint64) []byte {
	for v >= 0x80 {
		dst = append(dst, byte(v)|0x80)
		v >>= 7
	}
	return append(dst, byte(v))
}

// AppendInt appends a variable-length signed integer given as sign and
// magnitude; minus zero is written as such.
func AppendInt(dst []byte, neg bool, magnitude uint64) []byte {
	b := byte(magnitude & 0x3f)
	if neg {
		b |= 0x40
	}
	magnitude >>= 6
	if magnitude == 0 {
		return append(dst, b)
	}
	dst = append(dst, b|0x80)
	return AppendUint(dst, magnitude)
}

// AppendString appends the length of s in bytes and s itself.
func AppendString[T ~string | ~[]byte](dst []byte, s T) []byte {
	dst = AppendUint(dst, uint64(len(s)))
	return append(dst, s...)
}

func appendUint32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

func appendUint64(dst []byte, v uint64) []byte { return binary.BigEndian.AppendUint64(dst, v) }
