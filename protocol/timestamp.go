package protocol

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
)

// Timestamp is a point of the server's commit order. On the wire it is the
// standard base64 text, with padding, of its 8 bytes in little-endian order.
type Timestamp uint64

// timestampTextSize is the length of every timestamp's text.
const timestampTextSize = 12

// String returns the wire form of t.
func (t Timestamp) String() string {
	var text [timestampTextSize]byte
	return string(t.Append(text[:0]))
}

// Append appends the wire form of t, without quotes, to dst.
func (t Timestamp) Append(dst []byte) []byte {
	var raw [8]byte
	binary.LittleEndian.PutUint64(raw[:], uint64(t))
	return base64.StdEncoding.AppendEncode(dst, raw[:])
}

// ParseTimestamp reads the wire form of a timestamp. It accepts only the one
// canonical text of each value.
func ParseTimestamp(text string) (Timestamp, error) {
	var raw [9]byte
	if len(text) != timestampTextSize {
		return 0, fmt.Errorf("timestamp %.20q is not %d characters of base64", text, timestampTextSize)
	}
	n, err := base64.StdEncoding.Strict().Decode(raw[:], []byte(text))
	if err != nil || n != 8 {
		return 0, fmt.Errorf("timestamp %.20q is not base64 of 8 bytes", text)
	}
	return Timestamp(binary.LittleEndian.Uint64(raw[:8])), nil
}
