package replicate

import (
	"fmt"
	"iter"
	"math"

	"github.com/halcyon-db/halcyon"
)

const (
	snapshotRowsMax  = 22_000  // after which a page ends: 10,000 documents that were compacted or written once, and a few more
	snapshotBytesMax = 6 << 20 // the same by bytes that are read; a document, which may be larger than what is left, is on one page
)

// A SnapshotDocument is a document on a page of [Collection.Snapshot].
type SnapshotDocument struct {
	Document string `json:"document"`
	Bytes    []byte `json:"bytes"` // all of it, in V2
	// Material is the fields as JSON, as the server has computed them. It is absent when the document does not exist, and when it is not wanted.
	Material string `json:"material,omitzero"`
	Exists   bool   `json:"exists"` // false for one that is deleted
	// Access is "read" or "write"; absent where everybody may write.
	Access string `json:"access,omitzero"`
}

// A SnapshotPage is some of the documents of a collection, in the order of their names.
type SnapshotPage struct {
	Documents []SnapshotDocument `json:"documents"`
	// Seq is up to where the stream is in this page.
	Seq Seq `json:"seq"`
	// Cursor gets the next page. It is absent on the last one.
	Cursor string `json:"cursor,omitzero"`
}

// Snapshot returns up to limit documents as they are, those that the caller may see, with their material: for a client that has nothing yet. It
// begins after the document that after names. Who has all pages goes on with the stream from the Seq of the *first* one: a page that was read later may hold
// more than that, which comes once more and changes nothing.
//
// A page is read by two scans side by side, of what is known of the documents and of their updates, and not by looking up one after the other.
func (c *Collection) Snapshot(tx *halcyon.Tx, after string, limit int) (SnapshotPage, error) {
	page := SnapshotPage{Documents: []SnapshotDocument{}}
	newest, ok, err := c.deltas.By("by_at").Desc().First(tx)
	if err != nil {
		return SnapshotPage{}, err
	}
	if ok {
		page.Seq = seqOf(newest.At)
	}
	next, stop := iter.Pull2(whole(c.deltas.By("by_document").Gt(after).Each(tx)))
	defer stop()
	update, err, more := next()
	size, rows := 0, 0
	for h, headErr := range c.heads.By("by_document").Gt(after).Each(tx) {
		if headErr != nil {
			return SnapshotPage{}, headErr
		}
		if rows > 0 && (len(page.Documents) >= limit || size > snapshotBytesMax || rows > snapshotRowsMax || tx.HalfSpent()) {
			page.Cursor = after
			break
		}
		after = h.Document
		rows++
		size += len(h.Fields) + len(h.Vector) + len(h.Document)
		var updates [][]byte
		for ; more && err == nil && update.document <= h.Document; update, err, more = next() {
			rows += update.rows
			size += len(update.bytes)
			if update.document == h.Document {
				updates = append(updates, update.bytes)
			}
		}
		if err != nil {
			return SnapshotPage{}, err
		}
		d := SnapshotDocument{Document: h.Document, Exists: !h.Deleted}
		if c.options.Access != nil {
			level, err := c.level(tx, h.document())
			if err != nil {
				return SnapshotPage{}, err
			}
			if level < Read {
				continue
			}
			d.Access = level.String()
		}
		if d.Exists {
			d.Material = h.Fields
		}
		if d.Bytes, err = c.merge(h.Document, updates); err != nil {
			return SnapshotPage{}, err
		}
		page.Documents = append(page.Documents, d)
	}
	return page, nil
}

type snapshotArgs struct {
	Cursor   *string  `json:"cursor"`
	Limit    *float64 `json:"limit"`
	Material *bool    `json:"material"`
}

// snapshot answers with a page of all documents: as many as fit, or as many as the caller can do with at once; without their material for who
// reads it from the documents.
func (c *Collection) snapshot(tx *halcyon.Tx, args snapshotArgs) (SnapshotPage, error) {
	after := ""
	if args.Cursor != nil {
		after = *args.Cursor
		if f := checkDocument(after); f != nil {
			return SnapshotPage{}, &halcyon.Error{Code: "InvalidCursor", Message: fmt.Sprintf("%q is no cursor of a snapshot", after)}
		}
	}
	limit := pageDocumentsMax
	if args.Limit != nil && *args.Limit >= 1 {
		limit = int(math.Min(*args.Limit, pageDocumentsMax))
	}
	page, err := c.Snapshot(tx, after, limit)
	if args.Material != nil && !*args.Material {
		for i := range page.Documents {
			page.Documents[i].Material = ""
		}
	}
	return page, err
}
