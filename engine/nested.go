package engine

import (
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// nestedMax is how deep transactions may be nested.
const nestedMax = 16

// Nested runs f as a transaction within this one. When f returns an error or
// panics, what was changed since Nested began is taken back and the transaction
// goes on without it; otherwise it becomes part of the transaction. Reads of f
// count either way, since what the transaction does next may depend on them,
// and so do its calls towards the limits.
//
// While f runs, everything that uses the Tx is part of f: no other goroutine
// may use it for something else. A scan begun by f ends with it. Transactions
// are nested at most 16 deep; one more gets a *LimitError.
func (tx *Tx) Nested(f func() error) error {
	if !tx.write {
		return f() // there is nothing to take back
	}
	if err := tx.enter(); err != nil {
		return err
	}
	depth := len(tx.mu.nested)
	if depth == nestedMax {
		defer tx.leave()
		return tx.failLocked(&LimitError{Limit: "transactions nested in one another", Max: nestedMax})
	}
	before, scans := tx.mu.own, len(tx.mu.cursors)
	tx.mu.nested = append(tx.mu.nested, before)
	tx.mu.own = new(txn.Overlay)
	// A new slice: iterators and enclosing views keep the one they have.
	tx.mu.view.Layers = append([]*txn.Overlay{tx.mu.own}, tx.mu.view.Layers...)
	tx.leave()

	keep := false
	defer func() {
		tx.mu.Lock()
		defer tx.mu.Unlock()
		if tx.mu.err == ErrTxDone || tx.mu.err == ErrTimeout {
			return // it is over, and changes nothing
		}
		for len(tx.mu.cursors) > scans {
			// An error makes the execution fail.
			_ = tx.closeLocked(tx.mu.cursors[len(tx.mu.cursors)-1])
		}
		own := tx.mu.own
		tx.mu.own, tx.mu.nested = before, tx.mu.nested[:depth]
		tx.mu.view.Layers = tx.mu.view.Layers[1:]
		tx.mergePendingLocked(depth, keep)
		if keep {
			before.Merge(own)
		}
	}()
	if err := f(); err != nil {
		return err
	}
	keep = true
	return nil
}
