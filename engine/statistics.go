package engine

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Hash stands for the documents of a database. It does not depend on how they
// are laid out on disk, on the schema's numbers, or on what was there before.
type Hash struct {
	At        Timestamp // the state it is of
	Documents int64
	// Content is equal when the tables of the schema hold equal documents with
	// equal ids and creation times.
	Content [sha256.Size]byte
	// Versions is Content with the timestamp of the last commit to each document,
	// equal in copies and in stores that follow one log.
	Versions [sha256.Size]byte
}

// Hash reads all documents of the schema's tables as of the newest durable
// state. It takes time in proportion to the data and hinders nobody.
func (db *DB) Hash(ctx context.Context) (Hash, error) {
	if err := db.enter(); err != nil {
		return Hash{}, err
	}
	defer db.exit()
	s := db.states.acquireDurable()
	defer db.states.release(s)
	out := Hash{At: s.at}
	content, versions := sha256.New(), sha256.New()
	var b []byte
	for _, name := range slices.Sorted(maps.Keys(s.catalog.tables)) {
		t := s.catalog.tables[name]
		b = binary.AppendUvarint(b[:0], uint64(len(name)))
		b = append(b, name...)
		content.Write(b)
		versions.Write(b)
		rows := int64(0)
		err := eachKey(ctx, s.snap, keys.Prefixed(keys.AppendRows(nil, t.Number)), func(key, val []byte) error {
			doc, err := keys.Document(key)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
			d, err := decodeRow(t.names, value.ID{Table: t.Number, Key: doc}, val)
			if err != nil {
				return err
			}
			rows++
			fields := value.AppendBinary(nil, d.Fields)
			b = append(b[:0], doc[:]...)
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(d.CreationTime))
			b = binary.AppendUvarint(b, uint64(len(fields)))
			b = append(b, fields...)
			content.Write(b)
			versions.Write(binary.BigEndian.AppendUint64(b, uint64(rowTimestamp(val))))
			return nil
		})
		if err != nil {
			return Hash{}, fmt.Errorf("hash table %s: %w", name, err)
		}
		b = binary.BigEndian.AppendUint64(b[:0], uint64(rows))
		content.Write(b)
		versions.Write(b)
		out.Documents += rows
	}
	content.Sum(out.Content[:0])
	versions.Sum(out.Versions[:0])
	return out, nil
}

// eachKey calls f for every key of a range until it fails. Key and value are
// valid for the call.
func eachKey(ctx context.Context, snap *store.Snapshot, r keys.Range, f func(key, val []byte) error) error {
	it, err := snap.Iterate(r.Start, r.End)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if err = ctx.Err(); err == nil {
			err = f(it.Key(), it.Value())
		}
	}
	return errors.Join(err, it.Err(), it.Close())
}

// Statistics tell an operator what a database holds and how its store does.
type Statistics struct {
	At       Timestamp // the state that was looked at
	Tables   []TableStatistics
	LogBytes uint64 // change records on disk, estimated
	// SnapshotAge is how far the oldest state that a mutation still reads is
	// behind the newest durable one. States that live long make hot documents slow.
	SnapshotAge time.Duration
	Store       StoreStatistics
	Disk        DiskStatistics
}

// StoreStatistics are figures of the files and caches below.
type StoreStatistics = store.Statistics

// TableStatistics are those of one table. Bytes are of files, estimated and
// compressed; what has not been flushed is not in them.
type TableStatistics struct {
	Name           string
	Documents      int64
	Bytes          uint64
	IndexBytes     map[string]uint64
	AggregateBytes map[string]uint64
}

// Statistics counts the documents of every table, for which it goes over their
// keys, and estimates the rest.
func (db *DB) Statistics(ctx context.Context) (Statistics, error) {
	if err := db.enter(); err != nil {
		return Statistics{}, err
	}
	defer db.exit()
	s := db.states.acquireDurable()
	defer db.states.release(s)
	out := Statistics{At: s.at, Store: db.store.Statistics(), Disk: db.disk.statistics()}
	if oldest := db.states.oldest(); oldest < s.at {
		out.SnapshotAge = s.at.Time().Sub(oldest.Time())
	}
	var failed error
	size := func(prefix []byte) uint64 {
		r := keys.Prefixed(prefix)
		n, err := db.store.Size(r.Start, r.End)
		failed = errors.Join(failed, err)
		return n
	}
	out.LogBytes = size([]byte{keys.PrefixLog})
	for _, name := range slices.Sorted(maps.Keys(s.catalog.tables)) {
		t := s.catalog.tables[name]
		rows := keys.AppendRows(nil, t.Number)
		ts := TableStatistics{Name: name, Bytes: size(rows), IndexBytes: map[string]uint64{}, AggregateBytes: map[string]uint64{}}
		for _, ix := range t.indexes {
			if ix.id != 0 {
				ts.IndexBytes[ix.Name] = size(keys.AppendIndex(nil, ix.id))
			}
		}
		for _, a := range t.aggregates {
			ts.AggregateBytes[a.Name] = size(keys.AppendBlocks(nil, a.id))
		}
		failed = errors.Join(failed, eachKey(ctx, s.snap, keys.Prefixed(rows), func(_, _ []byte) error {
			ts.Documents++
			return nil
		}))
		if failed != nil {
			return Statistics{}, fmt.Errorf("statistics of table %s: %w", name, failed)
		}
		out.Tables = append(out.Tables, ts)
	}
	return out, nil
}
