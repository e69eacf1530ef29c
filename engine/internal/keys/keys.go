package keys

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// The prefix bytes. PrefixEntry keys are never stored: they name the entries
// of an aggregate in read sets and write sets, while the entries themselves
// live in the aggregate's blocks.
const (
	PrefixAggregate byte = 'a' // aggregate id, node -> block
	PrefixRequest   byte = 'd' // client, request -> stored outcome
	PrefixEntry     byte = 'g' // aggregate id, group, order, _creationTime, document key
	PrefixLog       byte = 'l' // timestamp -> change record
	PrefixMeta      byte = 'm' // name -> engine metadata
	PrefixRow       byte = 'r' // table id, document key -> document
	PrefixIndex     byte = 'x' // index id, values, _creationTime, document key -> nothing
)

// DocumentKeySize is the length in bytes of the document key that ends every
// row and index key.
const DocumentKeySize = 16

// ErrMalformed reports a stored key that does not have the layout its prefix
// promises; it means corruption.
var ErrMalformed = errors.New("malformed key")

func appendID(dst []byte, prefix byte, id uint32) []byte {
	return binary.BigEndian.AppendUint32(append(dst, prefix), id)
}

// AppendRow appends the key of one document.
func AppendRow(dst []byte, table uint32, doc [DocumentKeySize]byte) []byte {
	return append(appendID(dst, PrefixRow, table), doc[:]...)
}

// AppendRows appends the prefix shared by all documents of a table.
func AppendRows(dst []byte, table uint32) []byte { return appendID(dst, PrefixRow, table) }

// AppendIndex appends the prefix shared by all entries of an index; the
// ordered values, the creation time and the document key follow.
func AppendIndex(dst []byte, index uint32) []byte { return appendID(dst, PrefixIndex, index) }

// AppendEntry appends the prefix shared by all entries of an aggregate.
func AppendEntry(dst []byte, aggregate uint32) []byte { return appendID(dst, PrefixEntry, aggregate) }

// AppendBlock appends the key of one aggregate block.
func AppendBlock(dst []byte, aggregate uint32, node uint64) []byte {
	return binary.BigEndian.AppendUint64(appendID(dst, PrefixAggregate, aggregate), node)
}

// AppendBlocks appends the prefix shared by all blocks of an aggregate.
func AppendBlocks(dst []byte, aggregate uint32) []byte {
	return appendID(dst, PrefixAggregate, aggregate)
}

// AppendLog appends the key of the change record of one group.
func AppendLog(dst []byte, at uint64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, PrefixLog), at)
}

// AppendRequest appends the key of the stored outcome of one client request.
func AppendRequest(dst []byte, client [16]byte, request uint32) []byte {
	return binary.BigEndian.AppendUint32(append(append(dst, PrefixRequest), client[:]...), request)
}

// AppendClient appends the prefix shared by all stored outcomes of a client.
func AppendClient(dst []byte, client [16]byte) []byte {
	return append(append(dst, PrefixRequest), client[:]...)
}

// AppendMeta appends the key of one piece of engine metadata.
func AppendMeta(dst []byte, name string) []byte {
	return append(append(dst, PrefixMeta), name...)
}

// Document returns the document key at the end of a row or index key.
func Document(key []byte) (doc [DocumentKeySize]byte, err error) {
	if len(key) < 5+DocumentKeySize || (key[0] != PrefixRow && key[0] != PrefixIndex) {
		return doc, ErrMalformed
	}
	return [DocumentKeySize]byte(key[len(key)-DocumentKeySize:]), nil
}

// LogTimestamp returns the timestamp inside a change record's key.
func LogTimestamp(key []byte) (uint64, error) {
	if len(key) != 9 || key[0] != PrefixLog {
		return 0, ErrMalformed
	}
	return binary.BigEndian.Uint64(key[1:]), nil
}

// RequestOf returns the client and the request number inside a request key.
func RequestOf(key []byte) (client [16]byte, request uint32, err error) {
	if len(key) != 21 || key[0] != PrefixRequest {
		return client, 0, ErrMalformed
	}
	return [16]byte(key[1:17]), binary.BigEndian.Uint32(key[17:]), nil
}

// Range is the keys from Start up to but not including End. A nil End means
// to the end of the key space.
type Range struct {
	Start, End []byte
}

// Contains reports whether key lies in the range.
func (r Range) Contains(key []byte) bool {
	return bytes.Compare(key, r.Start) >= 0 && (r.End == nil || bytes.Compare(key, r.End) < 0)
}

// Empty reports whether no key can lie in the range.
func (r Range) Empty() bool { return r.End != nil && bytes.Compare(r.Start, r.End) >= 0 }

// Prefixed returns the range of all keys that start with prefix.
func Prefixed(prefix []byte) Range { return Range{Start: prefix, End: Successor(prefix)} }

// Successor returns the smallest key greater than every key that starts with
// prefix, in a new slice, or nil when there is none.
func Successor(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			next := bytes.Clone(prefix[:i+1])
			next[i]++
			return next
		}
	}
	return nil
}

// Next returns the smallest key greater than key, in a new slice.
func Next(key []byte) []byte {
	next := make([]byte, len(key)+1)
	copy(next, key)
	return next
}
