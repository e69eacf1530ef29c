package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon/engine/internal/commit"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// metaApplied is where a store that follows a log of its own keeps the position
// of the newest record in it. The embedded log needs none: its records are in
// the store.
const metaApplied = "applied"

// replayBytesMax is how much of a log is read at a time while catching up.
const replayBytesMax = 4 << 20

// ErrDiverged says that a store holds commits that its commit log does not: it
// belongs to another log, or the log was set back. It must not be used with it.
var ErrDiverged = errors.New("the store holds commits that the commit log does not")

// lead takes the log over and brings the store up to its newest position.
func (db *DB) lead(ctx context.Context) (Term, LogPosition, error) {
	if db.log = db.o.Log; db.log == nil {
		own, err := newEmbeddedLog(db.store)
		if err != nil {
			return 0, LogPosition{}, fmt.Errorf("open the log: %w", err)
		}
		db.log = own
		return own.Lead(ctx)
	}
	term, head, err := db.log.Lead(ctx)
	if err != nil {
		return 0, LogPosition{}, fmt.Errorf("lead the commit log: %w", err)
	}
	if err := db.catchUp(ctx, head); err != nil {
		return 0, LogPosition{}, fmt.Errorf("catch up with the commit log: %w", err)
	}
	return term, head, nil
}

// catchUp applies the records that the store does not have, up to head.
func (db *DB) catchUp(ctx context.Context, head LogPosition) error {
	at, err := appliedPosition(db.store)
	if err != nil {
		return err
	}
	for at != head {
		if at.At >= head.At {
			return fmt.Errorf("%w: it is at %s, the log ends at %s", ErrDiverged, at, head)
		}
		records, err := db.log.Read(ctx, at.At, replayBytesMax)
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return fmt.Errorf("the log ends at %s and has no record after %s", head, at)
		}
		for _, r := range records {
			if r.Previous != at {
				return fmt.Errorf("%w: it is at %s, the next record continues %s", ErrDiverged, at, r.Previous)
			}
			if err := db.replay(r); err != nil {
				return fmt.Errorf("apply the record at %s: %w", r.Position, err)
			}
			if at = r.Position; at == head {
				break
			}
		}
	}
	return db.store.Sync()
}

func appliedPosition(s *store.Store) (LogPosition, error) {
	snap := s.NewSnapshot()
	defer snap.Release()
	b, ok, err := snap.Get(metaKey(metaApplied))
	switch {
	case err != nil:
		return LogPosition{}, err
	case !ok:
		return LogPosition{}, nil
	case len(b) != positionSize:
		return LogPosition{}, fmt.Errorf("%w: the applied position has %d bytes", ErrCorrupt, len(b))
	}
	return decodePosition(b), nil
}

// replay applies one record: its effects, and what follows from them.
// REQUIRES: nothing else writes.
func (db *DB) replay(r LogRecord) error {
	base := &state{snap: db.store.NewSnapshot(), catalog: db.catalog()}
	defer base.snap.Release()
	var err error
	if base.trees, err = base.catalog.readTrees(base.snap); err != nil {
		return err
	}
	if base.builds, err = readBuilds(base.snap); err != nil {
		return err
	}
	g := commit.Group{At: uint64(r.Position.At), Writes: new(txn.Overlay)}
	if err := r.effects(func(key, val []byte) error { return db.replayEffect(g.Writes, base, key, val) }); err != nil {
		return err
	}
	b := db.store.NewBatch()
	g.Writes.EachWrite(func(k string, w txn.Write) bool {
		switch {
		case w.Touched:
		case w.Deleted:
			err = b.Delete([]byte(k))
		default:
			err = b.Set([]byte(k), w.Value)
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	next := &state{at: r.Position.At, catalog: base.catalog, builds: base.builds, trees: base.trees}
	if err := db.applyAggregates(b, base, next, &g); err != nil {
		return err
	}
	if err := b.Set(metaKey(metaApplied), appendPosition(nil, r.Position)); err != nil {
		return err
	}
	return db.store.ApplyDurably(b)
}

// replayEffect puts one effect into an overlay: that of a row with its index
// entries and its entries of aggregates.
func (db *DB) replayEffect(o *txn.Overlay, base *state, key, val []byte) error {
	put := func() {
		if val == nil {
			o.Delete(key)
		} else {
			o.Set(key, txn.Write{Value: val})
		}
	}
	if isLoaded(key) {
		return fmt.Errorf("%w: a table was loaded here, and its documents are not in the log", ErrOutOfRetention)
	}
	if isField(key) {
		put()
		return db.names.restore(key, val)
	}
	if key[0] != keys.PrefixRow || len(key) != 5+keys.DocumentKeySize {
		put()
		return nil
	}
	id := rowID(key)
	t := db.catalog().byNumber[binary.BigEndian.Uint32(key[1:])]
	if t == nil {
		return fmt.Errorf("document %s is of a table that the schema does not have", id)
	}
	var old, fresh *Document
	row, ok, err := base.snap.Get(key)
	if err != nil {
		return err
	}
	if ok {
		if old, err = decodedRow(t.names, id, row); err != nil {
			return err
		}
	}
	if val != nil {
		if fresh, err = decodedRow(t.names, id, val); err != nil {
			return err
		}
	}
	if old == nil && fresh == nil {
		return nil
	}
	if err := t.change(o, id, old, fresh); err != nil {
		return err
	}
	put() // as it is in the record, with its timestamp
	return nil
}

func decodedRow(names *value.Names, id value.ID, row []byte) (*Document, error) {
	d, err := decodeRow(names, id, row)
	return &d, err
}
