package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// A change record holds the physical effects of one group on documents and
// stored outcomes; index entries and aggregates follow from them. It is
// version (1 byte), then for each effect, in the order of keys: the key's
// length (uvarint), the key, the value's length plus one or 0 for a removal
// (uvarint), the value. docs/format/log.md describes it.
const recordVersion = 1

type record struct{ b []byte }

func newRecord(g *commit.Group) *record {
	return &record{b: append(make([]byte, 0, 256*len(g.Attempts)), recordVersion)}
}

func (r *record) add(key []byte, w txn.Write) {
	if key[0] == keys.PrefixIndex {
		return
	}
	r.b = binary.AppendUvarint(r.b, uint64(len(key)))
	r.b = append(r.b, key...)
	if w.Deleted {
		r.b = append(r.b, 0)
		return
	}
	r.b = binary.AppendUvarint(r.b, uint64(len(w.Value))+1)
	r.b = append(r.b, w.Value...)
}

func (r *record) bytes() []byte { return r.b }

// errRecord reports a change record that does not decode.
var errRecord = fmt.Errorf("%w: change record", ErrCorrupt)

// decodeRecord calls f for every effect; val is nil for a removal.
func decodeRecord(b []byte, f func(key, val []byte) error) error {
	if len(b) == 0 || b[0] != recordVersion {
		return errRecord
	}
	b = b[1:]
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

// DocumentChange is one effect of a group of commits.
type DocumentChange struct {
	Group   Timestamp // the group it belongs to
	Table   string    // empty when the table is not in the schema
	ID      value.ID
	Deleted bool
	Fields  value.Value // the new fields, unless Deleted
}

// Changes returns the changes of documents in groups after a timestamp, in
// their order, as far back as change records are kept.
func (db *DB) Changes(after Timestamp) iter.Seq2[DocumentChange, error] {
	return func(yield func(DocumentChange, error) bool) {
		if err := db.enter(); err != nil {
			yield(DocumentChange{}, err)
			return
		}
		defer db.exit()
		s := db.states.acquireDurable()
		defer db.states.release(s)
		end := keys.Next(keys.AppendLog(nil, uint64(s.at)))
		it, err := s.snap.Iterate(keys.AppendLog(nil, uint64(after)+1), end)
		if err != nil {
			yield(DocumentChange{}, err)
			return
		}
		stop := errors.New("stop")
		for ok := it.First(); ok && err == nil; ok = it.Next() {
			var at uint64
			if at, err = keys.LogTimestamp(it.Key()); err != nil {
				break
			}
			err = decodeRecord(it.Value(), func(key, val []byte) error {
				c, ok, err := db.documentChange(Timestamp(at), key, val)
				if err == nil && ok && !yield(c, nil) {
					err = stop
				}
				return err
			})
		}
		if err = errors.Join(err, it.Err(), it.Close()); err != nil && !errors.Is(err, stop) {
			yield(DocumentChange{}, err)
		}
	}
}

func (db *DB) documentChange(at Timestamp, key, val []byte) (c DocumentChange, ok bool, err error) {
	if len(key) != 5+keys.DocumentKeySize || key[0] != keys.PrefixRow {
		return c, false, nil
	}
	doc, err := keys.Document(key)
	if err != nil {
		return c, false, err
	}
	c = DocumentChange{Group: at, ID: value.ID{Table: binary.BigEndian.Uint32(key[1:]), Key: doc}, Deleted: val == nil}
	if t := db.catalog.byNumber[c.ID.Table]; t != nil {
		c.Table = t.Name
	}
	if val != nil {
		d, err := decodeRow(c.ID, val)
		if err != nil {
			return c, false, err
		}
		c.Fields = d.Fields
	}
	return c, true, nil
}
