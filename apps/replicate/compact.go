package replicate

import (
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

const (
	compactRowsMax  = 2_000   // that one run reads and removes, in a fraction of the time it has; it runs again for the rest
	compactReadMax  = 8 << 20 // bytes; likewise
	compactShareMax = 64 << 10
)

type compactArgs struct {
	Document string `json:"document"`
}

// compact merges what was appended to a document before now into one update. It is scheduled by the write that makes it due, exactly once,
// so that nothing has to be remembered of a run that failed: the next CompactAfter updates schedule another one.
//
// # Why nobody misses anything
//
// The merged update M holds all of the document's updates up to some timestamp t, and takes their place at t. A client that has followed the
// stream up to c is sent what is after c. If c < t, that includes M, which has all that the client was to be sent of the merged updates. If c
// >= t, the client has had them all, since no page ends inside of a timestamp, and so does not need M. Nothing after t was touched.
//
// Where M is large and its timestamp is shared with updates of other documents, M gets the timestamp of this commit instead, because all of
// a timestamp has to fit on one page. That is later than t, so the argument holds for it too; clients are sent M once more.
//
// # Why no writer waits
//
// Only what is older than the begin of this transaction is read, where nobody appends any more.
func (c *Collection) compact(tx *halcyon.Tx, args compactArgs) error {
	var rows []delta
	size := 0
	more := false
	for row, err := range c.deltas.By("by_document").Eq(args.Document).Lt(tx.Now()).Each(tx) {
		if err != nil {
			return err
		}
		// At least two updates are merged by each run, or it would not get any further.
		if n := len(rows); n > 0 && n > rows[0].Parts && !row.At.Equal(*rows[n-1].At) && (n >= compactRowsMax || size > compactReadMax) {
			more = true
			break
		}
		rows = append(rows, row)
		size += len(row.Bytes)
	}
	if len(rows) < 2 || len(rows) == rows[0].Parts {
		return nil
	}
	merged, err := c.squash(args.Document, rows)
	if err != nil {
		return err
	}
	at := rows[len(rows)-1].At
	if len(merged) > compactShareMax {
		shared, err := c.shared(tx, args.Document, *at)
		if err != nil {
			return err
		}
		if shared {
			at = nil
		}
	}
	for _, row := range rows {
		if err := c.deltas.Delete(tx, row.ID); err != nil {
			return err
		}
	}
	if err := c.append(tx, args.Document, merged, rows[len(rows)-1].Gone, at); err != nil {
		return err
	}
	h, ok, err := c.find(tx, args.Document)
	if err != nil || !ok {
		return err
	}
	if err := c.heads.Apply(tx, h.ID, halcyon.Add("bytes", len(merged)-size)); err != nil || !more {
		return err
	}
	_, err = tx.RunAfter(0, "compact", args)
	return err
}

// shared reports whether updates of other documents have a timestamp.
func (c *Collection) shared(tx *halcyon.Tx, document string, at time.Time) (bool, error) {
	for row, err := range c.deltas.By("by_at").Eq(at).Each(tx) {
		if err != nil {
			return false, err
		}
		if row.Document != document {
			return true, nil
		}
	}
	return false, nil
}

// squash merges the updates in some rows and makes sure that nothing of them is lost: by what each says it holds and deletes, which is read
// without the merging code.
func (c *Collection) squash(document string, rows []delta) ([]byte, error) {
	var updates [][]byte
	holds, deleted := &yjs.DeleteSet{}, &yjs.DeleteSet{}
	for u, err := range whole(func(yield func(delta, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}) {
		if err != nil {
			return nil, err
		}
		meta, err := c.stored.Meta(u.bytes)
		if err != nil {
			return nil, fmt.Errorf("document %q: update of %d: %w", document, u.seq, err)
		}
		if meta.Gaps > 0 {
			return nil, fmt.Errorf("document %q: update of %d has gaps", document, u.seq)
		}
		hold(holds, meta)
		deleted.Merge(meta.Deleted)
		updates = append(updates, u.bytes)
	}
	merged, err := c.merge(document, updates)
	if err != nil {
		return nil, err
	}
	meta, err := c.stored.Meta(merged)
	if err != nil {
		return nil, fmt.Errorf("document %q, merged: %w", document, err)
	}
	has := &yjs.DeleteSet{}
	hold(has, meta)
	if meta.Gaps > 0 || !has.Equal(holds) || !meta.Deleted.Equal(deleted) {
		return nil, fmt.Errorf("document %q: merging %d updates would have changed what they hold; they stay as they are", document, len(updates))
	}
	return merged, nil
}

// hold adds the ranges of an update without gaps.
func hold(s *yjs.DeleteSet, meta yjs.Meta) {
	for client, to := range meta.To {
		if from := meta.From[client]; to > from {
			s.Add(client, from, to-from)
		}
	}
}

// compactWhenDue schedules a compaction, and says in the head that it did.
func (c *Collection) compactWhenDue(tx *halcyon.Tx, h *head) error {
	if h.Since < c.options.CompactAfter && h.SinceBytes < compactBytes {
		return nil
	}
	h.Since, h.SinceBytes = 0, 0
	_, err := tx.RunAfter(0, c.options.Name+":compact", compactArgs{h.Document})
	return err
}
