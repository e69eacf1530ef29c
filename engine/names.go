package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/value"
)

// fieldKey returns the key of a field name: the number of the table (4 bytes) and
// that of the name (4 bytes), both big-endian, follow metaField.
func fieldKey(table, number uint32) []byte {
	key := binary.BigEndian.AppendUint32(metaKey(metaField), table)
	return binary.BigEndian.AppendUint32(key, number)
}

// dictionaries has the field names of every table that ever had a document,
// those that the schema no longer has included.
//
// A name gets its number when the first document with it is encoded, by a
// transaction that may never commit. The committer writes all that is new with
// the next group, whose rows are all encoded by then: so a row is never there
// without the names its numbers stand for, and they come before it in the same
// change record or are in an earlier one.
type dictionaries struct {
	grown atomic.Uint64 // by how many names since Open

	mu struct {
		sync.Mutex
		tables map[uint32]*value.Names
	}

	// The committer's own.
	flushed uint64         // what grown was at the last flush
	stored  map[uint32]int // how many names of each table are stored
}

// readDictionaries returns what a snapshot has of dictionaries.
func readDictionaries(s *store.Snapshot) (*dictionaries, error) {
	d := &dictionaries{stored: map[uint32]int{}}
	d.mu.tables = map[uint32]*value.Names{}
	return d, eachMeta(s, metaField, func(name string, val []byte) error { return d.restore(metaKey(name), val) })
}

// isField reports whether a key is that of a field name.
func isField(key []byte) bool { return bytes.HasPrefix(key, metaKey(metaField)) }

// restore takes over a stored name. REQUIRES: nothing else writes.
func (d *dictionaries) restore(key, name []byte) error {
	at := len(fieldKey(0, 0)) - 8
	if len(key) != at+8 {
		return fmt.Errorf("%w: catalog key %q", ErrCorrupt, key)
	}
	table, number := binary.BigEndian.Uint32(key[at:]), binary.BigEndian.Uint32(key[at+4:])
	names := d.of(table)
	if 0 < number && int(number) <= names.Len() && names.Name(number) == string(name) {
		return nil // it comes a second time
	}
	if err := names.Restore(number, string(name)); err != nil {
		return fmt.Errorf("%w: table %d: %w", ErrCorrupt, table, err)
	}
	d.stored[table]++
	d.flushed = d.grown.Load()
	return nil
}

// of returns the dictionary of a table, a new one if need be.
func (d *dictionaries) of(table uint32) *value.Names {
	d.mu.Lock()
	defer d.mu.Unlock()
	names := d.mu.tables[table]
	if names == nil {
		names = &value.Names{Grown: &d.grown}
		d.mu.tables[table] = names
	}
	return names
}

// flush calls f for every name that is not stored yet. Only the committer may
// call it. REQUIRES: all rows of the group that it is about to write are encoded.
func (d *dictionaries) flush(f func(key, name []byte) error) error {
	grown := d.grown.Load() // first, so that a name that comes meanwhile counts as not flushed
	if grown == d.flushed {
		return nil
	}
	d.mu.Lock()
	tables := maps.Clone(d.mu.tables)
	d.mu.Unlock()
	for _, table := range slices.Sorted(maps.Keys(tables)) {
		names := tables[table]
		for n := names.Len(); d.stored[table] < n; d.stored[table]++ {
			number := uint32(d.stored[table] + 1)
			if err := f(fieldKey(table, number), []byte(names.Name(number))); err != nil {
				return err
			}
		}
	}
	d.flushed = grown
	return nil
}

// Names returns the dictionary of the table's field names, for who encodes
// documents of it.
func (t *Table) Names() *value.Names { return t.names }
