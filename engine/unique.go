package engine

import (
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/value"
)

// UniqueError reports a document whose fields in a unique index are those of
// another one.
type UniqueError struct {
	Table, Index string
	ID           value.ID // of the document that has these values already
}

func (e *UniqueError) Error() string {
	return fmt.Sprintf("unique index %s of %s: document %s has the same values", e.Index, e.Table, e.ID)
}

// uniqueRange returns where the entries of all documents with the values of d
// are. ok is false when one of them is undefined: then d is not bound.
func (ix *Index) uniqueRange(d Document) (rg keys.Range, ok bool) {
	k := keys.AppendIndex(nil, ix.id)
	for _, f := range ix.fields {
		v := d.Fields.Path(f)
		if v.IsUndefined() {
			return rg, false
		}
		k = value.AppendOrdered(k, v)
	}
	return keys.Prefixed(k), true
}

// claimLocked fails with a UniqueError when another document has the values of d
// in a unique index. The transaction depends on that none has, so two that claim
// the same values never both commit.
func (tx *Tx) claimLocked(ix *Index, d Document) error {
	rg, bound := ix.uniqueRange(d)
	if !bound {
		return nil
	}
	tx.mu.reads.AddRange(rg)
	it, err := tx.mu.view.Iterate(rg, false)
	if err != nil {
		return tx.failLocked(err)
	}
	var taken error
	for taken == nil && it.Next() {
		doc, err := keys.Document(it.Key())
		if err != nil {
			return errors.Join(tx.failLocked(fmt.Errorf("%w: index %s: %w", ErrCorrupt, ix.Name, err)), it.Close())
		}
		if doc != d.ID.Key {
			taken = &UniqueError{Table: ix.table.Name, Index: ix.Name, ID: value.ID{Table: ix.table.Number, Key: doc}}
		}
	}
	if err := it.Close(); err != nil {
		return tx.failLocked(err)
	}
	return taken
}

// ErrNotUnique is returned by Upsert for an index that is not unique.
var ErrNotUnique = errors.New("the index is not unique")

// Upsert makes fields those of the document that has their values in a unique
// index: it replaces that document, or inserts one where there is none, as
// inserted says. Two transactions that upsert the same values never insert two
// documents.
//
// It fails with ErrNotUnique, with a *RangeError when one of the index's fields
// is undefined, and like Insert and Replace.
func (tx *Tx) Upsert(ix *Index, fields value.Value) (id value.ID, inserted bool, err error) {
	if !ix.unique {
		return id, false, fmt.Errorf("upsert by index %s of %s: %w", ix.Name, ix.table.Name, ErrNotUnique)
	}
	if !tx.write {
		return id, false, ErrReadOnly
	}
	if err := value.CheckDocument(fields); err != nil {
		return id, false, fmt.Errorf("upsert into %s: %w", ix.table.Name, err)
	}
	r := Range{}
	for _, f := range ix.fields {
		v := fields.Path(f)
		if v.IsUndefined() {
			return id, false, &RangeError{Index: ix.Name, Reason: fmt.Sprintf("an upsert without a value for %s", f)}
		}
		r.Eq = append(r.Eq, v)
	}
	for d, err := range tx.Scan(ix, r, false) {
		if err != nil {
			return id, false, err
		}
		return d.ID, false, tx.Replace(ix.table, d.ID, fields)
	}
	id, err = tx.Insert(ix.table, fields)
	return id, err == nil, err
}
