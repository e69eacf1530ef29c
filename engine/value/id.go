package value

import (
	"encoding/binary"
	"errors"
	"time"
)

// ErrBadID is what ParseID returns for a string that is not an id.
var ErrBadID = errors.New("not an id")

// ID names a document: the number of its table and a key that is unique in the store. The zero ID names none.
type ID struct {
	Table uint32
	// Key is 6 bytes of milliseconds since the Unix epoch, 8 random bytes and 2 bytes of days since
	// the epoch, all big endian, so that new documents sort behind older ones. Ids that came from
	// elsewhere keep what they have; only the days can be relied on there.
	Key [16]byte
}

const (
	// idAlphabet is Crockford's base32 in lower case: no i, l, o, u.
	idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"
	// idBytesMin and idBytesMax bound the binary form: a table number of 1 to 5 bytes, the key, 2 bytes of
	// checksum.
	idBytesMin = 1 + 16 + 2
	idBytesMax = 5 + 16 + 2
	idLenMin   = (idBytesMin*8 + 4) / 5 // 31
	idLenMax   = (idBytesMax*8 + 4) / 5 // 37
)

// idDigits maps a character to its digit; 0xFF is none.
var idDigits = func() (digits [256]byte) {
	for i := range digits {
		digits[i] = 0xFF
	}
	for i := range len(idAlphabet) {
		digits[idAlphabet[i]] = byte(i)
	}
	return digits
}()

// NewID returns an id for a document of a table that is created at a time. Times outside of 1970 to 2149,
// which the key has no room for, are moved to the nearest it has.
func NewID(table uint32, at time.Time, random uint64) ID {
	const msPerDay = 24 * 60 * 60 * 1000
	ms := uint64(min(max(at.UnixMilli(), 0), 1<<16*msPerDay-1))
	id := ID{Table: table}
	binary.BigEndian.PutUint64(id.Key[:8], ms<<16) // the low 2 bytes are overwritten
	binary.BigEndian.PutUint64(id.Key[6:14], random)
	binary.BigEndian.PutUint16(id.Key[14:], uint16(ms/msPerDay))
	return id
}

// IsZero reports whether the id is the zero ID.
func (id ID) IsZero() bool { return id == ID{} }

// String returns the id in Convex's form: 31 to 37 characters, 32 for tables numbered from 2^7 to 2^14 - 1.
func (id ID) String() string {
	var raw [idBytesMax]byte
	n := binary.PutUvarint(raw[:], uint64(id.Table))
	n += copy(raw[n:], id.Key[:])
	binary.LittleEndian.PutUint16(raw[n:], fletcher16(raw[:n]))
	n += 2

	var text [idLenMax]byte
	var acc, held, length uint
	for _, b := range raw[:n] {
		acc = acc<<8 | uint(b)
		held += 8
		for held >= 5 {
			held -= 5
			text[length] = idAlphabet[acc>>held&31]
			length++
		}
	}
	if held > 0 {
		text[length] = idAlphabet[acc<<(5-held)&31]
		length++
	}
	return string(text[:length])
}

// ParseID reads the form that String writes, and nothing else: upper case, look-alikes, a wrong checksum and
// a table number not in its shortest form are ErrBadID.
func ParseID(s string) (ID, error) {
	if len(s) < idLenMin || len(s) > idLenMax {
		return ID{}, ErrBadID
	}
	var raw [idBytesMax]byte
	var acc, held, n uint
	for i := range len(s) {
		digit := idDigits[s[i]]
		if digit == 0xFF {
			return ID{}, ErrBadID
		}
		acc = acc<<5 | uint(digit)
		held += 5
		if held >= 8 {
			held -= 8
			raw[n] = byte(acc >> held)
			n++
		}
	}
	// A last character that holds no bit of the bytes, or a set bit beyond them, is another spelling.
	if held >= 5 || acc&(1<<held-1) != 0 {
		return ID{}, ErrBadID
	}
	table, size := binary.Uvarint(raw[:n])
	if size <= 0 || uint(size)+16+2 != n || size > 1 && raw[size-1] == 0 || table > 1<<32-1 {
		return ID{}, ErrBadID
	}
	if binary.LittleEndian.Uint16(raw[n-2:]) != fletcher16(raw[:n-2]) {
		return ID{}, ErrBadID
	}
	id := ID{Table: uint32(table)}
	copy(id.Key[:], raw[size:])
	return id, nil
}

// fletcher16 is Fletcher's checksum with both sums modulo 256, as in Convex's ids (not 255, as is common). It
// is combined there with the version of the form by exclusive or; the version is 0.
func fletcher16(b []byte) uint16 {
	var sum, sumOfSums uint8
	for _, c := range b {
		sum += c
		sumOfSums += sum
	}
	return uint16(sumOfSums)<<8 | uint16(sum)
}
