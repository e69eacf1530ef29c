package halcyon

import (
	"context"
	"fmt"
	"iter"
	"reflect"

	"github.com/halcyon-db/halcyon/engine"
)

// What Table.Load takes and tells is the engine's.
type (
	LoadOptions  = engine.LoadOptions
	LoadProgress = engine.LoadProgress
	Loaded       = engine.Loaded
)

// Errors of Table.Load.
var (
	// ErrTableNotEmpty says that the table has documents, or that there were some while it was being loaded. Nothing was changed.
	ErrTableNotEmpty = engine.ErrTableNotEmpty
	// ErrSharedLog says that the database follows a commit log that is not its own, so that a table can't be loaded.
	ErrSharedLog = engine.ErrSharedLog
)

// Load puts documents into a table that holds none, many times faster than transactions do. They all appear in one commit, which is durable
// when Load returns; after an error, or a crash before that, none of them is there. The sequence may be of any length: documents are
// sorted in files, see [LoadOptions], and not kept in memory.
//
// The documents get ids and creation times as those of one transaction would, in the order of the sequence; what they hold in the fields
// for them is ignored. They are checked as Insert checks them. A query that is being watched sees them as it sees any commit.
//
// Everything else goes on meanwhile, but nobody may write to this table, and its indexes and aggregates must be built. The table has to
// be one of a single module of the App.
//
// An error of the sequence ends the load and is returned. Other errors: ErrNotOpen, and those of [engine.DB.Load], such as
// ErrTableNotEmpty.
func (t *Table[T]) Load(ctx context.Context, app *App, documents iter.Seq2[T, error], opts *LoadOptions) (Loaded, error) {
	r := app.running.Load()
	if r == nil {
		return Loaded{}, ErrNotOpen
	}
	b, err := r.table("", &t.def)
	if err != nil {
		return Loaded{}, fmt.Errorf("load: %w", err)
	}
	loaded, err := r.db.Load(ctx, b.table, b.encodeAll(anyOf(documents)), opts)
	if err != nil {
		return Loaded{}, fmt.Errorf("load: %w", err)
	}
	return loaded, nil
}

// anyOf yields the documents of a sequence as reflection needs them.
func anyOf[T any](documents iter.Seq2[T, error]) iter.Seq2[reflect.Value, error] {
	return func(yield func(reflect.Value, error) bool) {
		var doc T
		place := reflect.ValueOf(&doc).Elem() // one place for all: encoding keeps nothing of it
		for d, err := range documents {
			doc = d
			if !yield(place, err) {
				return
			}
		}
	}
}

// encodeAll yields documents as the engine takes them.
func (b *boundTable) encodeAll(documents iter.Seq2[reflect.Value, error]) iter.Seq2[engine.Document, error] {
	return func(yield func(engine.Document, error) bool) {
		for rv, err := range documents {
			if err != nil {
				yield(engine.Document{}, err)
				return
			}
			fields, err := b.encode(rv)
			if !yield(engine.Document{Fields: fields}, err) || err != nil {
				return
			}
		}
	}
}
