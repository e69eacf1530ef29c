package engine

import (
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// resolve does the operations of an attempt that is about to commit at at, on
// top of everything accepted. It returns all the attempt's changes, and leaves
// the attempt as it is.
func (c *committer) resolve(m *mutation, at Timestamp) (*txn.Overlay, error) {
	s := c.db.states.beginAttempt()
	defer c.db.states.endAttempt(s)
	tx := c.db.newTx(s, c.m.Overlay(), true, at.Time())
	own := m.attempt.Writes.Clone()
	tx.mu.own, tx.mu.view.Layers[0] = own, own
	for i := range m.ops {
		r := &m.ops[i]
		d, ok, err := tx.rowLocked(r.table, r.id, keys.AppendRow(make([]byte, 0, 32), r.id.Table, r.id.Key))
		if err == nil && !ok {
			err = r.missing()
		}
		if err != nil {
			return nil, err
		}
		if err := r.change(own, d, at); err != nil {
			return nil, err
		}
	}
	return own, nil
}
