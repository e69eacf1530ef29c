package engine

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// A change record holds the physical effects of one group; index entries and
// aggregates follow from them. It is a header and then, for each effect, in the
// order of keys and after the lease, if it moves, and the field names that are
// new: the key's length (uvarint), the key, the value's length plus one or 0 for
// a removal (uvarint), the value.
// docs/format/log.md describes it.
const (
	recordVersion = 2
	// recordHeader is: version (1), term (8), timestamp (8), the position before
	// (term 8, timestamp 8, sum 4), sum of all but itself (4).
	recordHeader    = 41
	recordSumOffset = recordHeader - 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// LogRecord is one record of a CommitLog: what one group of commits did.
type LogRecord struct {
	Previous LogPosition // the position it continues
	Position LogPosition // its own
	b        []byte
}

// Bytes returns the record as it is stored, and as DecodeLogRecord reads it. It
// must not be modified.
func (r LogRecord) Bytes() []byte { return r.b }

// NewLogRecord returns a record that a leader appends after a position. effects
// are what it carries, opaque to a log; they are copied.
func NewLogRecord(term Term, previous LogPosition, at Timestamp, effects []byte) LogRecord {
	r := record{b: append(make([]byte, recordHeader, recordHeader+len(effects)), effects...)}
	return r.finish(term, previous, at)
}

// DecodeLogRecord reads a record and checks its sum. The result keeps b. Error:
// ErrCorrupt, ErrNewerFormat or ErrOlderFormat.
func DecodeLogRecord(b []byte) (LogRecord, error) {
	switch {
	case len(b) > 0 && b[0] > recordVersion:
		return LogRecord{}, fmt.Errorf("%w: change record of version %d, this program knows up to %d", ErrNewerFormat, b[0], recordVersion)
	case len(b) > 0 && b[0] > 0 && b[0] < recordVersion:
		return LogRecord{}, fmt.Errorf("%w: change record of version %d, this program reads %d", ErrOlderFormat, b[0], recordVersion)
	case len(b) < recordHeader || b[0] != recordVersion:
		return LogRecord{}, errRecord
	}
	r := LogRecord{
		Position: LogPosition{Term: Term(binary.BigEndian.Uint64(b[1:])), At: Timestamp(binary.BigEndian.Uint64(b[9:]))},
		Previous: LogPosition{
			Term: Term(binary.BigEndian.Uint64(b[17:])), At: Timestamp(binary.BigEndian.Uint64(b[25:])), Sum: binary.BigEndian.Uint32(b[33:]),
		},
		b: b,
	}
	r.Position.Sum = binary.BigEndian.Uint32(b[recordSumOffset:])
	if want := recordSum(b); r.Position.Sum != want {
		return LogRecord{}, fmt.Errorf("%w: its sum is %08x, it says %08x", errRecord, want, r.Position.Sum)
	}
	return r, nil
}

// recordSum returns what the sum of a record has to be.
func recordSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:recordSumOffset], castagnoli), castagnoli, b[recordHeader:])
}

// record is a LogRecord in the making.
type record struct{ b []byte }

func newRecord(g *commit.Group) *record {
	return &record{b: make([]byte, recordHeader, recordHeader+256*len(g.Attempts))}
}

// set and remove add an effect.
func (r *record) set(key, val []byte) {
	r.b = binary.AppendUvarint(r.b, uint64(len(key)))
	r.b = append(r.b, key...)
	r.b = binary.AppendUvarint(r.b, uint64(len(val))+1)
	r.b = append(r.b, val...)
}

func (r *record) remove(key []byte) {
	r.b = binary.AppendUvarint(r.b, uint64(len(key)))
	r.b = append(r.b, key...)
	r.b = append(r.b, 0)
}

// add adds the effect of a write, unless it follows from others.
func (r *record) add(key []byte, w txn.Write) {
	switch {
	case key[0] == keys.PrefixIndex:
	case w.Deleted:
		r.remove(key)
	default:
		r.set(key, w.Value)
	}
}

// finish fills in the header. The record must not be added to any more.
func (r *record) finish(term Term, previous LogPosition, at Timestamp) LogRecord {
	h := append(r.b[:0], recordVersion)
	h = binary.BigEndian.AppendUint64(h, uint64(term))
	h = binary.BigEndian.AppendUint64(h, uint64(at))
	h = binary.BigEndian.AppendUint64(h, uint64(previous.Term))
	h = binary.BigEndian.AppendUint64(h, uint64(previous.At))
	h = binary.BigEndian.AppendUint32(h, previous.Sum)
	sum := recordSum(r.b)
	binary.BigEndian.AppendUint32(h, sum)
	return LogRecord{Previous: previous, Position: LogPosition{Term: term, At: at, Sum: sum}, b: r.b}
}

// errRecord reports a change record that does not decode.
var errRecord = fmt.Errorf("%w: change record", ErrCorrupt)

// effects calls f for every effect; val is nil for a removal.
func (r LogRecord) effects(f func(key, val []byte) error) error {
	b := r.b[recordHeader:]
	take := func(n uint64) ([]byte, error) {
		if n > uint64(len(b)) {
			return nil, errRecord
		}
		out := b[:n:n]
		b = b[n:]
		return out, nil
	}
	length := func() (uint64, error) {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			return 0, errRecord
		}
		b = b[size:]
		return n, nil
	}
	for len(b) > 0 {
		n, err := length()
		if err != nil {
			return err
		}
		key, err := take(n)
		if err != nil {
			return err
		}
		if len(key) == 0 {
			return errRecord
		}
		if n, err = length(); err != nil {
			return err
		}
		var val []byte
		if n > 0 {
			if val, err = take(n - 1); err != nil {
				return err
			}
		}
		if err := f(key, val); err != nil {
			return err
		}
	}
	return nil
}
