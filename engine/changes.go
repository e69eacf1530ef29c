package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/value"
)

// ChangeGroup is what one group of commits did to documents. It is the unit of
// Changes: what happened at one timestamp is never split.
type ChangeGroup struct {
	At      Timestamp        // where to go on: the newest timestamp of the group
	Changes []DocumentChange // in the order of tables and ids, one for each document
	Loaded  []LoadedTable    // tables that were loaded; what they hold is not among the changes
}

// LoadedTable says that DB.Load put documents into a table that was empty. Who
// follows the changes reads them from the table itself.
type LoadedTable struct {
	Table     string // empty when the table is not in the schema
	Documents int64
}

// DocumentChange is the effect of a group of commits on one document.
type DocumentChange struct {
	Table        string // empty when the table is not in the schema
	ID           value.ID
	Deleted      bool
	At           Timestamp   // of the last transaction that wrote it; of the group when Deleted
	CreationTime float64     // milliseconds since the Unix epoch; 0 when Deleted
	Fields       value.Value // the new fields, unless Deleted
}

// changesBytesMax is how much of the log is read at a time; a single group may
// be larger.
const changesBytesMax = 1 << 20

// Changes returns what groups after a timestamp did to documents, in their
// order, up to the newest that is durable when Changes is called. What it has
// not come to yet is kept from being removed. Groups that neither changed a document
// nor loaded a table are left out.
//
// Errors: ErrOutOfRetention when change records after that timestamp have been
// removed (Options.LogRetention, LogBytesMax), ErrClosed, the context's.
func (db *DB) Changes(ctx context.Context, after Timestamp) iter.Seq2[ChangeGroup, error] {
	return func(yield func(ChangeGroup, error) bool) {
		release, err := db.holdLog(ctx, after)
		if err != nil {
			yield(ChangeGroup{}, err)
			return
		}
		defer release()
		_, _ = db.changes(ctx, after, db.Durable(), yield)
	}
}

// Follow is Changes without an end: when it has told everything it waits for
// more, until the context ends, the caller stops, or the database is closed,
// which is the error then. It does not keep anything from being removed: a
// follower that falls behind the retention of the log gets ErrOutOfRetention.
func (db *DB) Follow(ctx context.Context, after Timestamp) iter.Seq2[ChangeGroup, error] {
	return func(yield func(ChangeGroup, error) bool) {
		for {
			newest := db.Durable()
			var more bool
			if after, more = db.changes(ctx, after, newest, yield); !more {
				return
			}
			reached := db.states.reached(newest + 1)
			if reached == nil {
				continue
			}
			select {
			case <-reached:
			case <-db.leaving:
				yield(ChangeGroup{}, ErrClosed)
				return
			case <-db.failed:
				yield(ChangeGroup{}, ErrFailed)
				return
			case <-ctx.Done():
				yield(ChangeGroup{}, ctx.Err())
				return
			}
		}
	}
}

// holdLog keeps the log after a timestamp while the caller reads it.
func (db *DB) holdLog(ctx context.Context, after Timestamp) (release func(), err error) {
	if err := db.enter(); err != nil {
		return nil, err
	}
	defer db.exit()
	return db.log.Hold(ctx, after)
}

// changes yields the groups in (after, upTo], and an error if there is one. It
// returns where to go on, and whether to.
func (db *DB) changes(ctx context.Context, after, upTo Timestamp, yield func(ChangeGroup, error) bool) (Timestamp, bool) {
	for {
		groups, next, err := db.readChanges(ctx, after, upTo)
		for _, g := range groups {
			if !yield(g, nil) {
				return after, false
			}
		}
		if err != nil {
			yield(ChangeGroup{}, err)
			return after, false
		}
		if next == after {
			return upTo, true
		}
		after = next
	}
}

// readChanges reads a page. next is after itself when there is nothing more.
func (db *DB) readChanges(ctx context.Context, after, upTo Timestamp) (groups []ChangeGroup, next Timestamp, err error) {
	if after >= upTo {
		return nil, after, ctx.Err()
	}
	if err := db.enter(); err != nil {
		return nil, after, err
	}
	defer db.exit()
	records, err := db.log.Read(ctx, after, changesBytesMax)
	if err != nil {
		return nil, after, err
	}
	next = after
	for _, r := range records {
		if r.Position.At > upTo {
			break // on its way to be shown
		}
		g := ChangeGroup{At: r.Position.At}
		err := r.effects(func(key, val []byte) error {
			if isLoaded(key) {
				number, documents, _, err := decodeLoaded(key, val)
				g.Loaded = append(g.Loaded, LoadedTable{Table: db.tableName(number), Documents: documents})
				return err
			}
			c, ok, err := db.documentChange(g.At, key, val)
			if err == nil && ok {
				g.Changes = append(g.Changes, c)
			}
			return err
		})
		if err != nil {
			return groups, next, err
		}
		if len(g.Changes) > 0 || len(g.Loaded) > 0 {
			groups = append(groups, g)
		}
		next = g.At
	}
	return groups, next, nil
}

func (db *DB) documentChange(group Timestamp, key, val []byte) (c DocumentChange, ok bool, err error) {
	if len(key) != 5+keys.DocumentKeySize || key[0] != keys.PrefixRow {
		return c, false, nil
	}
	doc, err := keys.Document(key)
	if err != nil {
		return c, false, errors.Join(ErrCorrupt, err)
	}
	c = DocumentChange{At: group, ID: value.ID{Table: binary.BigEndian.Uint32(key[1:]), Key: doc}, Deleted: val == nil}
	c.Table = db.tableName(c.ID.Table)
	if val != nil {
		d, err := decodeRow(db.names.of(c.ID.Table), c.ID, val)
		if err != nil {
			return c, false, err
		}
		c.At, c.CreationTime, c.Fields = rowTimestamp(val), d.CreationTime, d.Fields
	}
	return c, true, nil
}

// tableName returns the name of a table, or nothing when the schema has no such.
func (db *DB) tableName(number uint32) string {
	if t := db.catalog().byNumber[number]; t != nil {
		return t.Name
	}
	return ""
}
