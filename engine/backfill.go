package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/value"
)

// backfillRows is how many rows one batch of a backfill covers.
const backfillRows = 5000

// backfill builds an index or aggregate from the rows of its table while
// nothing else writes. Until its catalog entry says ready, a restart begins
// again under another number.
func (db *DB) backfill(b building) error {
	if b.ranked {
		return db.backfillRanking(b)
	}
	tree := aggregate.Tree{}
	if b.agg != nil {
		tree = b.agg.empty()
	}
	rows := keys.Prefixed(keys.AppendRows(nil, b.table.Number))
	var at uint64
	for cursor, done := rows.Start, false; !done; {
		batch := db.store.NewBatch()
		base := &state{snap: db.store.NewSnapshot()}
		docs, next, err := readRows(base.snap, b.table.Number, keys.Range{Start: cursor, End: rows.End})
		if err == nil && b.index != nil {
			for _, d := range docs {
				k := b.index.key(d)
				if err = errors.Join(keyFits(d, b.index.Name, k), batch.Set(k, nil)); err != nil {
					break
				}
			}
		} else if err == nil {
			at++
			tree, err = db.backfillTree(batch, base, tree, at, b.agg, docs)
		}
		base.snap.Release()
		if err != nil {
			return err
		}
		if cursor, done = next, next == nil; done {
			b.part.ready = true
			if err := batch.Set(metaKey(b.name), b.part.append(nil)); err != nil {
				return err
			}
		}
		if err := db.store.ApplyDurably(batch); err != nil {
			return err
		}
	}
	return nil
}

// backfillTree adds the entries of some rows to an aggregate. at numbers the
// versions of its blocks; commits go on with timestamps, which are far larger.
func (db *DB) backfillTree(b *store.Batch, base *state, t aggregate.Tree, at uint64, a *Aggregate, docs []Document) (aggregate.Tree, error) {
	changes := make([]aggregate.Change, 0, len(docs))
	for _, d := range docs {
		k := a.key(d)
		if err := keyFits(d, a.Name, k); err != nil {
			return t, err
		}
		changes = append(changes, aggregate.Change{Key: k[entryPrefix:], Delta: 1, Weight: a.weight(d)})
	}
	slices.SortFunc(changes, func(x, y aggregate.Change) int { return bytes.Compare(x.Key, y.Key) })
	if len(changes) == 0 {
		return t, nil
	}
	return db.applyTree(b, base, t, at, changes)
}

// keyFits reports a document that was stored before the index or aggregate
// there was, and is too long for it.
func keyFits(d Document, name string, key []byte) error {
	if len(key) <= indexKeySizeMax {
		return nil
	}
	return fmt.Errorf("document %s: %w", d.ID, &LimitError{Limit: "bytes in a key of " + name, Max: indexKeySizeMax})
}

// readRows returns up to backfillRows documents and where to go on, nil at the end.
func readRows(s *store.Snapshot, table uint32, r keys.Range) (docs []Document, next []byte, err error) {
	it, err := s.Iterate(r.Start, r.End)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, it.Err(), it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if len(docs) == backfillRows {
			return docs, bytes.Clone(it.Key()), nil
		}
		doc, err := keys.Document(it.Key())
		if err != nil {
			return nil, nil, err
		}
		d, err := decodeRow(value.ID{Table: binary.BigEndian.Uint32(it.Key()[1:]), Key: doc}, it.Value())
		if err != nil {
			return nil, nil, err
		}
		docs = append(docs, d)
	}
	return docs, nil, nil
}
