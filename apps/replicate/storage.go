package replicate

import (
	"fmt"
	"iter"
	"time"
	"unicode/utf8"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// Stored is a document's content, or a part of it.
type Stored struct {
	Document
	Update []byte          // in V2; the empty update when there is nothing
	Vector yjs.StateVector // of the whole document
	Seq    Seq             // of the newest of it; 0 when all of it was written by this transaction
	// Level is what the caller may do. It is None for a document of which they may not know; then all else is empty.
	Level Level

	rows int // that were read
}

// emptyUpdate is the update in V2 that changes nothing.
var emptyUpdate = func() []byte {
	b, err := yjs.MergeUpdatesV2()
	if err != nil {
		panic(fmt.Sprintf("replicate: broken invariant: merging nothing: %v", err))
	}
	return b
}()

// find returns the head of a document.
func (c *Collection) find(tx *halcyon.Tx, document string) (head, bool, error) {
	if id := c.known.get(document); id != "" {
		h, ok, err := c.heads.Get(tx, id)
		if err != nil || ok && h.Document == document {
			return h, ok, err
		}
	}
	h, ok, err := c.heads.By("by_document").Eq(document).First(tx)
	if err == nil && ok {
		c.known.put(document, h.ID)
	}
	return h, ok, err
}

// Lookup returns what a document says of itself and what the caller may do with it, without its content.
func (c *Collection) Lookup(tx *halcyon.Tx, document string) (Document, Level, error) {
	h, ok, err := c.find(tx, document)
	if err != nil {
		return Document{}, None, err
	}
	d := Document{ID: document}
	if ok {
		d = h.document()
	}
	level, err := c.level(tx, d)
	return d, level, err
}

// Load returns a whole document, as the caller may see it. One that does not exist is empty.
func (c *Collection) Load(tx *halcyon.Tx, document string) (Stored, error) {
	return c.Diff(tx, document, nil)
}

// Diff returns what a peer lacks that has the given state vector: what it does not have, and all deletions. With a nil vector it is the whole
// document.
func (c *Collection) Diff(tx *halcyon.Tx, document string, vector yjs.StateVector) (Stored, error) {
	h, ok, err := c.find(tx, document)
	if err != nil {
		return Stored{}, err
	}
	s := Stored{Document: Document{ID: document}, Update: emptyUpdate, Vector: yjs.StateVector{}}
	if ok {
		s.Document = h.document()
	}
	if s.Level, err = c.level(tx, s.Document); err != nil {
		return Stored{}, err
	}
	if s.Level < Read {
		return Stored{Document: Document{ID: document}, Update: emptyUpdate, Vector: yjs.StateVector{}}, nil
	}
	if c.options.OnLoad != nil {
		if err := c.options.OnLoad(tx, s.Document); err != nil {
			return Stored{}, err
		}
	}
	if !ok {
		return s, nil
	}
	if s.Vector, err = yjs.DecodeStateVector(h.Vector); err != nil {
		return Stored{}, fmt.Errorf("state vector of document %q: %w", document, err)
	}
	stored, err := c.content(tx, document)
	s.Update, s.rows, s.Seq = stored.bytes, stored.rows, stored.seq
	if err != nil || len(vector) == 0 {
		return s, err
	}
	if s.Update, err = c.stored.Diff(s.Update, vector); err != nil {
		return Stored{}, fmt.Errorf("document %q: %w", document, err)
	}
	return s, nil
}

// Since returns what was appended to a document after a Seq, and the Seq of the newest of it, which is the given one when there is nothing.
// It is for who has all of the document up to there, such as a socket; the caller's access may have changed since, and Level says to what.
func (c *Collection) Since(tx *halcyon.Tx, document string, after Seq) (Stored, error) {
	h, ok, err := c.find(tx, document)
	if err != nil {
		return Stored{}, err
	}
	s := Stored{Document: Document{ID: document}, Update: emptyUpdate, Vector: yjs.StateVector{}, Seq: after}
	if ok {
		s.Document = h.document()
	}
	if s.Level, err = c.level(tx, s.Document); err != nil {
		return Stored{}, err
	}
	if s.Level < Read {
		return Stored{Document: Document{ID: document}, Update: emptyUpdate, Vector: yjs.StateVector{}, Seq: after}, nil
	}
	if !ok {
		return s, nil
	}
	if s.Vector, err = yjs.DecodeStateVector(h.Vector); err != nil {
		return Stored{}, fmt.Errorf("state vector of document %q: %w", document, err)
	}
	var updates [][]byte
	for u, err := range whole(c.deltas.By("by_document").Eq(document).Gt(after.time()).Each(tx)) {
		if err != nil {
			return Stored{}, err
		}
		updates = append(updates, u.bytes)
		s.Seq = max(s.Seq, u.seq)
	}
	s.Update, err = c.merge(document, updates)
	return s, err
}

// content returns all updates of a document, merged, with the place of the newest and the number of their rows.
func (c *Collection) content(tx *halcyon.Tx, document string) (stored appended, err error) {
	var updates [][]byte
	for u, err := range whole(c.deltas.By("by_document").Eq(document).Each(tx)) {
		if err != nil {
			return appended{}, err
		}
		updates = append(updates, u.bytes)
		stored.rows += u.rows
		stored.seq = max(stored.seq, u.seq)
	}
	stored.bytes, err = c.merge(document, updates)
	return stored, err
}

// merge merges updates of one document that are stored.
func (c *Collection) merge(document string, updates [][]byte) ([]byte, error) {
	switch len(updates) {
	case 0:
		return emptyUpdate, nil
	case 1:
		return updates[0], nil // it was written by this package, so it is in order
	}
	merged, err := c.stored.Merge(updates...)
	if err != nil {
		return nil, fmt.Errorf("document %q: %w", document, err)
	}
	return merged, nil
}

// appended is an update in the order of a collection, put together from its rows.
type appended struct {
	document string
	seq      Seq
	bytes    []byte
	rows     int
	gone     bool
}

// whole puts updates together that lie in several rows. The parts of an update follow one another among the rows of their document, because
// one transaction wrote them in that order and no other has its timestamp there.
func whole(rows iter.Seq2[delta, error]) iter.Seq2[appended, error] {
	return func(yield func(appended, error) bool) {
		open := map[string]*appended{}
		for row, err := range rows {
			if err != nil {
				yield(appended{}, err)
				return
			}
			if row.Parts == 0 {
				if !yield(appended{row.Document, seqOf(row.At), row.Bytes, 1, row.Gone}, nil) {
					return
				}
				continue
			}
			a := open[row.Document]
			if a == nil {
				a = &appended{document: row.Document, seq: seqOf(row.At), gone: row.Gone}
				open[row.Document] = a
			}
			if a.rows != row.Part {
				yield(appended{}, fmt.Errorf("document %q: part %d of an update where part %d should be", row.Document, row.Part, a.rows))
				return
			}
			a.bytes = append(a.bytes, row.Bytes...)
			if a.rows++; a.rows < row.Parts {
				continue
			}
			delete(open, row.Document)
			if !yield(*a, nil) {
				return
			}
		}
		for document, a := range open {
			yield(appended{}, fmt.Errorf("document %q: an update ends after part %d", document, a.rows))
			return
		}
	}
}

// append appends an update to a document, at the time of the commit, or at a time of before. gone says that the document is marked as deleted
// then.
func (c *Collection) append(tx *halcyon.Tx, document string, update []byte, gone bool, at *time.Time) error {
	parts := 0
	if len(update) > partBytesMax {
		parts = (len(update) + partBytesMax - 1) / partBytesMax
	}
	for part := range max(parts, 1) {
		row := delta{Document: document, Part: part, Parts: parts, Gone: gone, At: at}
		n := min(len(update), partBytesMax)
		row.Bytes, update = update[:n], update[n:]
		id, err := c.deltas.Insert(tx, row)
		if err != nil {
			return err
		}
		if at == nil {
			if err := c.deltas.Apply(tx, id, halcyon.CommitTime("at")); err != nil {
				return err
			}
		}
	}
	return nil
}

// Info tells of a document without its content.
type Info struct {
	Document
	Written time.Time // last
	Bytes   int       // that are stored of it
	Aside   int       // updates that wait for what they build on
}

// List returns up to limit documents in the order of their names, those after a name, deleted ones included. There are fewer where their fields
// are large or time is short, and none only when there are no more. It asks no rule.
func (c *Collection) List(tx *halcyon.Tx, after string, limit int) ([]Info, error) {
	infos, size := []Info{}, 0
	for h, err := range c.heads.By("by_document").Gt(after).Each(tx) {
		if err != nil {
			return nil, err
		}
		if n := len(infos); n == limit || n > 0 && (size > pageBytesMax || tx.HalfSpent()) {
			break
		}
		infos = append(infos, Info{Document: h.document(), Written: h.Updated, Bytes: h.Bytes, Aside: h.Aside})
		size += len(h.Fields) + len(h.Vector) + len(h.Document)
	}
	return infos, nil
}

// checkDocument refuses names that no document can have.
func checkDocument(document string) *fault {
	switch {
	case document == "":
		return &fault{CodeDocument, "the document has no name"}
	case len(document) > DocumentIDBytesMax:
		return &fault{CodeDocument, fmt.Sprintf("the name of the document has %d bytes, at most %d are allowed", len(document), DocumentIDBytesMax)}
	case !utf8.ValidString(document):
		return &fault{CodeDocument, "the name of the document is not UTF-8"}
	}
	return nil
}
