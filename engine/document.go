package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Document is one document as a transaction read it.
type Document struct {
	ID           value.ID
	CreationTime float64 // milliseconds since the Unix epoch
	// Fields is an object without _id and _creationTime. One that was read stays
	// as it is stored and decodes a field when it is asked for: ask for fields
	// with Get and Path, or go over them with Iterate, where few are needed.
	Fields value.Value
}

// A stored row is: version (1 byte), commit timestamp (8, big-endian),
// creation time (8, float64 bits, big-endian), fields (a tuple with the
// dictionary of the table). docs/format/rows.md describes it.
const (
	rowVersion = 2
	rowHeader  = 1 + txn.StampSize + 8
)

// appendRow appends the row of a document of the table with these names.
func appendRow(dst []byte, names *value.Names, d Document) []byte {
	dst = append(dst, rowVersion)
	dst = binary.BigEndian.AppendUint64(dst, 0) // stamped at commit
	dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(d.CreationTime))
	return value.AppendTuple(dst, d.Fields, names)
}

// decodeRow returns the document of a row from the store. It shares no memory
// with b.
func decodeRow(names *value.Names, id value.ID, b []byte) (Document, error) {
	return keepRow(names, id, bytes.Clone(b))
}

// keepRow is decodeRow for a row that nobody modifies any more: the document
// keeps it.
func keepRow(names *value.Names, id value.ID, b []byte) (Document, error) {
	if len(b) < rowHeader {
		return Document{}, fmt.Errorf("%w: row %s has no valid header", ErrCorrupt, id)
	}
	switch version := b[0]; {
	case version > rowVersion:
		return Document{}, fmt.Errorf("%w: row %s of version %d, this program knows up to %d", ErrNewerFormat, id, version, rowVersion)
	case version < rowVersion && version > 0:
		return Document{}, fmt.Errorf("%w: row %s of version %d, this program reads %d", ErrOlderFormat, id, version, rowVersion)
	case version == 0:
		return Document{}, fmt.Errorf("%w: row %s has no valid header", ErrCorrupt, id)
	}
	fields, err := value.DecodeTuple(b[rowHeader:], names)
	if err != nil {
		return Document{}, fmt.Errorf("%w: row %s: %w", ErrCorrupt, id, err)
	}
	return Document{ID: id, CreationTime: rowCreated(b), Fields: fields}, nil
}

// ownRow is keepRow for a row that this process has encoded.
func ownRow(names *value.Names, id value.ID, b []byte) Document {
	return Document{ID: id, CreationTime: rowCreated(b), Fields: value.TrustTuple(b[rowHeader:], names)}
}

func rowCreated(b []byte) float64 {
	return math.Float64frombits(binary.BigEndian.Uint64(b[1+txn.StampSize:]))
}

// rowID returns the id inside the key of a row. REQUIRES: key is one.
func rowID(key []byte) value.ID {
	return value.ID{Table: binary.BigEndian.Uint32(key[1:]), Key: [keys.DocumentKeySize]byte(key[5:])}
}

// appendEntry appends what follows the prefix of every index entry and every
// aggregate entry: the fields' values in order, the creation time, the
// document key.
func appendEntry(dst []byte, fields []string, d Document) []byte {
	for _, f := range fields {
		dst = value.AppendOrdered(dst, d.Fields.Path(f))
	}
	dst = value.AppendOrdered(dst, value.Float64(d.CreationTime))
	return append(dst, d.ID.Key[:]...)
}

func (ix *Index) key(d Document) []byte { return ix.appendKey(make([]byte, 0, 64), d) }

func (ix *Index) appendKey(dst []byte, d Document) []byte {
	return appendEntry(keys.AppendIndex(dst, ix.id), ix.fields, d)
}

func (a *Aggregate) key(d Document) []byte { return a.appendKey(make([]byte, 0, 64), d) }

func (a *Aggregate) appendKey(dst []byte, d Document) []byte {
	return appendEntry(keys.AppendEntry(dst, a.id), a.fields, d)
}

// change puts the effects of replacing old by new into an overlay: the row,
// the index entries, the aggregates' entries. Either may be absent.
func (t *Table) change(o *txn.Overlay, id value.ID, old, fresh *Document) error {
	// An overlay copies keys, so these serve for one after the other.
	var wasBuf, isBuf [128]byte
	row := keys.AppendRow(isBuf[:0], t.Number, id.Key)
	if fresh == nil {
		o.Delete(row)
	} else {
		o.Set(row, txn.Write{Value: appendRow(nil, t.names, *fresh), Stamped: true})
	}
	for _, ix := range t.indexes {
		if ix.id == 0 || ix.status == statusFailed {
			continue
		}
		var was, is []byte
		if old != nil {
			was = ix.appendKey(wasBuf[:0], *old)
		}
		if fresh != nil {
			if is = ix.appendKey(isBuf[:0], *fresh); len(is) > indexKeySizeMax {
				return fmt.Errorf("table %s: %w", t.Name, &LimitError{Limit: "bytes in a key of index " + ix.Name, Max: indexKeySizeMax})
			}
		}
		switch {
		case was != nil && is != nil && string(was) == string(is):
			o.Touch(is)
		default:
			if was != nil {
				o.Delete(was)
			}
			if is != nil {
				o.Set(is, txn.Write{})
			}
		}
	}
	for _, a := range t.aggregates {
		if a.status == statusFailed {
			continue
		}
		var was, is []byte
		if old != nil {
			was = a.appendKey(wasBuf[:0], *old)
		}
		if fresh != nil {
			if is = a.appendKey(isBuf[:0], *fresh); len(is) > indexKeySizeMax {
				return fmt.Errorf("table %s: %w", t.Name, &LimitError{Limit: "bytes in a key of aggregate " + a.Name, Max: indexKeySizeMax})
			}
		}
		e := txn.Entry{}
		if old != nil {
			e.Was = a.weight(*old)
		}
		if fresh != nil {
			e.Is = a.weight(*fresh)
		}
		if a.status == statusBuilding {
			a.hide(o, was, is, e.Is)
		}
		if was != nil && is != nil && string(was) == string(is) {
			if e.Was != e.Is {
				o.Entry(is, e)
			}
			continue
		}
		if was != nil {
			o.Entry(was, txn.Entry{Delta: -1, Was: e.Was})
		}
		if is != nil {
			o.Entry(is, txn.Entry{Delta: +1, Is: e.Is})
		}
	}
	return nil
}
