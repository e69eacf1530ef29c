package replicate

import (
	"math"
	"time"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/yjs"
)

// A StreamChange is what happened to one document in a page of the stream.
type StreamChange struct {
	Document string `json:"document"`
	Bytes    []byte `json:"bytes"` // V2; merged, so that a document is in a page once
	Seq      Seq    `json:"seq"`   // of the newest of it
	Type     string `json:"type"`  // "delta", or "snapshot" where it is all of the document
	Exists   bool   `json:"exists"`
}

// A StreamPage is a part of the stream.
type StreamPage struct {
	Mode    string         `json:"mode"` // "stream"
	Changes []StreamChange `json:"changes"`
	Seq     Seq            `json:"seq"` // where the next page begins
	More    bool           `json:"more"`
}

// Stream returns what was appended to the documents of the collection after a Seq, as the caller may see it, and not much more than limit
// documents of it: all of a timestamp is on one page, so that whoever goes on from the page's Seq misses nothing. See the documentation of
// the function delta.
func (c *Collection) Stream(tx *halcyon.Tx, after Seq, limit int) (StreamPage, error) {
	page := StreamPage{Mode: "stream", Changes: []StreamChange{}, Seq: after}
	var known map[string]head
	if c.options.Access != nil && limit > pageRuledMax {
		var err error
		if known, err = c.headsAfter(tx, after); err != nil {
			return StreamPage{}, err
		}
	}
	places := map[string]int{}
	var updates [][][]byte
	var asked []ruled // the same documents, where there is a rule
	size, rows, lacking := 0, 0, 0
	over := func() bool {
		return len(places) >= limit || size > pageBytesMax || rows > pageRowsMax || rows > 0 && (tx.HalfSpent() || tx.RangesLeft()-lacking < rangesSpared)
	}
	for u, err := range whole(c.deltas.By("by_at").Gt(after.time()).Each(tx)) {
		if err != nil {
			return StreamPage{}, err
		}
		if u.seq > page.Seq && over() {
			page.More = true
			break
		}
		page.Seq = u.seq
		place, ok := places[u.document]
		if !ok {
			place = len(places)
			places[u.document] = place
			page.Changes = append(page.Changes, StreamChange{Document: u.document, Type: "delta"})
			updates = append(updates, nil)
			if c.options.Access != nil {
				h, ok := known[u.document]
				if !ok {
					if h, _, err = c.find(tx, u.document); err != nil {
						return StreamPage{}, err
					}
				}
				d := ruled{head: h}
				if h.ID != "" {
					if d.level, err = c.level(tx, h.document()); err != nil {
						return StreamPage{}, err
					}
				}
				if asked = append(asked, d); h.lacking(after) {
					size += h.Bytes // all of it may have to be sent
					lacking++
				}
			}
		}
		page.Changes[place].Seq, page.Changes[place].Exists = u.seq, !u.gone
		updates[place] = append(updates[place], u.bytes)
		size += len(u.bytes)
		rows += u.rows
	}
	shown := page.Changes[:0]
	for place, change := range page.Changes {
		ok, err := true, error(nil)
		if c.options.Access == nil {
			change.Bytes, err = c.merge(change.Document, updates[place])
		} else {
			ok, err = c.show(tx, &change, &asked[place], updates[place], after)
		}
		if err != nil {
			return StreamPage{}, err
		}
		if ok {
			shown = append(shown, change)
		}
	}
	page.Changes = shown
	return page, nil
}

// headsBehind is how much earlier than the time of its commit that of a transaction may be: what is read of more documents than it has to be.
const headsBehind = 2 * time.Second

// headsAfter returns what is known of the documents that were written after a Seq, by their names, read by one scan: a page of thousands may not look
// them up one by one. It lacks those that were
// only reopened, and those past what a page has.
func (c *Collection) headsAfter(tx *halcyon.Tx, after Seq) (map[string]head, error) {
	heads := map[string]head{}
	size := 0
	for h, err := range c.heads.By("by_updated").Gt(after.time().Add(-headsBehind)).Each(tx) {
		if err != nil {
			return nil, err
		}
		heads[h.Document] = h
		if size += len(h.Fields) + len(h.Vector) + len(h.Document); len(heads) == pageDocumentsMax || size > pageBytesMax {
			break
		}
	}
	return heads, nil
}

// ruled is a document with what the caller may do with it.
type ruled struct {
	head
	level Level
}

// openedAfter reports whether who may see the document has changed after a place in the stream.
func (h *head) openedAfter(after Seq) bool { return h.Opened != nil && seqOf(h.Opened) > after }

// createdAhead is more than the creation time of a document may be after the time of its commit: what one transaction inserts has creation times that
// follow one another from its begin, and the commit may be at the begin.
const createdAhead = time.Second

// lacking reports whether that is so and some of the document may have come before the place: what follows after it is not all.
func (h *head) lacking(after Seq) bool {
	return h.openedAfter(after) && !h.Created.After(after.time().Add(createdAhead))
}

// show fills in what the caller may see of a change, and reports whether that is anything.
func (c *Collection) show(tx *halcyon.Tx, change *StreamChange, d *ruled, updates [][]byte, after Seq) (bool, error) {
	if d.ID == "" {
		return false, nil // it was erased
	}
	var err error
	opened := d.openedAfter(after)
	switch {
	case d.level < Read && !opened:
		return false, nil
	case d.level < Read:
		// The caller may have seen it before: it is gone for them.
		change.Bytes, change.Exists = emptyUpdate, false
		return true, nil
	case d.lacking(after):
		// The caller may not have seen what came before.
		change.Type = "snapshot"
		var stored appended
		stored, err = c.content(tx, change.Document)
		change.Bytes = stored.bytes
	default:
		change.Bytes, err = c.merge(change.Document, updates)
	}
	return true, err
}

// Reopen has the rule asked anew who may see a document, because something else than the document's own fields has changed that it looks
// at: who may see it now is sent all of it, and who may not is told that it is gone. The documents that one transaction reopens must come to
// less than 8 MiB together: they are on one page of the stream.
func (c *Collection) Reopen(tx *halcyon.Tx, document string) error {
	h, ok, err := c.find(tx, document)
	if err != nil || !ok {
		return err
	}
	if err := c.append(tx, document, emptyUpdate, h.Deleted, nil); err != nil {
		return err
	}
	h.Since++
	if err := c.compactWhenDue(tx, &h); err != nil {
		return err
	}
	if err := c.heads.Patch(tx, h.ID, halcyon.Fields{"since": h.Since, "sinceBytes": h.SinceBytes}); err != nil {
		return err
	}
	return c.heads.Apply(tx, h.ID, halcyon.CommitTime("opened"))
}

type deltaArgs struct {
	Seq       *float64 `json:"seq"`
	Limit     *float64 `json:"limit"`
	Threshold *float64 `json:"threshold"` // of compaction, which the server decides
	Document  *string  `json:"document"`
	Vector    *[]byte  `json:"vector"`
}

type recovery struct {
	Mode   string `json:"mode"` // "recovery"
	Diff   []byte `json:"diff"`
	Vector []byte `json:"vector"`
}

// delta answers with a page of the stream, or with what a document has that the caller lacks.
//
// The npm client subscribes with limit 1000 and the Seq of its start, applies what it is sent, and never asks for a second page or a later
// Seq. It gets all there is all the same: a document is in a page once, however often it was written, and a limit of 1,000 or more stands for
// as much as a page may hold: 10,000 documents, or as many as a rule can be asked for that reads something for each.
func (c *Collection) delta(tx *halcyon.Tx, args deltaArgs) (any, error) {
	if args.Vector == nil {
		after, limit := Seq(0), 100
		if args.Seq != nil && *args.Seq > 0 {
			after = Seq(math.Min(*args.Seq, 1<<53-1))
		}
		if args.Limit != nil && *args.Limit >= 1 {
			limit = int(math.Min(*args.Limit, 1_000))
		}
		if limit == 1_000 {
			limit = pageDocumentsMax
		}
		page, err := c.Stream(tx, after, limit)
		return page, err
	}
	if args.Document == nil {
		return nil, &halcyon.Error{Code: "INVALID_ARGS", Message: "'document' is required when 'vector' is provided"}
	}
	vector, err := yjs.DecodeStateVector(*args.Vector)
	if err != nil {
		return nil, &halcyon.Error{Code: CodeMalformed, Message: "'vector' is not a state vector: " + err.Error()}
	}
	if f := checkDocument(*args.Document); f != nil {
		return nil, f.told()
	}
	s, err := c.Diff(tx, *args.Document, vector)
	if err != nil {
		return nil, err
	}
	return recovery{Mode: "recovery", Diff: s.Update, Vector: s.Vector.Encode()}, nil
}

func (f *fault) told() *halcyon.Error { return &halcyon.Error{Code: f.code, Message: f.message} }
