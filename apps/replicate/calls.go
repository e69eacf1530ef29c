package replicate

import (
	"fmt"
	"strconv"

	"github.com/halcyon-db/halcyon"
	"github.com/halcyon-db/halcyon/engine/value"
	"github.com/halcyon-db/halcyon/yjs"
)

type materialArgs struct {
	NumItems *int    `json:"numItems"`
	Cursor   *string `json:"cursor"`
}

type materialPage struct {
	Page           []value.Value `json:"page"`
	IsDone         bool          `json:"isDone"`
	ContinueCursor string        `json:"continueCursor"`
}

type materialAll struct {
	Documents []value.Value `json:"documents"`
	Count     int           `json:"count"`
}

const materialMax = 8_192 // documents in one answer

// material shows the fields of documents that are not deleted and that the caller may see, those that were written last first.
func (c *Collection) material(tx *halcyon.Tx, args materialArgs) (any, error) {
	if args.NumItems == nil {
		all := materialAll{Documents: []value.Value{}}
		size := 0
		for h, err := range c.heads.By("by_updated").Desc().Each(tx) {
			if err != nil {
				return nil, err
			}
			row, ok, err := c.shown(tx, &h)
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
			if size += len(h.Fields); len(all.Documents) == materialMax || size > pageBytesMax {
				return nil, &halcyon.Error{Code: "TooManyDocuments",
					Message: fmt.Sprintf("the collection is too large for one answer after %d documents: ask for pages with numItems", len(all.Documents))}
			}
			all.Documents = append(all.Documents, row)
		}
		all.Count = len(all.Documents)
		return all, nil
	}
	options := halcyon.PageOptions{NumItems: min(max(*args.NumItems, 1), 1_000)}
	if args.Cursor != nil {
		options.Cursor = halcyon.NotNull(*args.Cursor)
	}
	heads, err := c.heads.By("by_updated").Desc().Page(tx, options)
	if err != nil {
		return nil, err
	}
	page := materialPage{Page: []value.Value{}, IsDone: heads.IsDone, ContinueCursor: heads.ContinueCursor}
	for i := range heads.Page {
		row, ok, err := c.shown(tx, &heads.Page[i])
		if err != nil {
			return nil, err
		}
		if ok {
			page.Page = append(page.Page, row)
		}
	}
	return page, nil
}

// shown returns the material of a document, and false when there is none for the caller.
func (c *Collection) shown(tx *halcyon.Tx, h *head) (value.Value, bool, error) {
	if h.Deleted {
		return value.Value{}, false, nil
	}
	level, err := c.level(tx, h.document())
	if err != nil || level < Read {
		return value.Value{}, false, err
	}
	row, err := h.row()
	return row, err == nil, err
}

type replicateArgs struct {
	Document string       `json:"document"`
	Bytes    []byte       `json:"bytes"`
	Material *value.Value `json:"material"` // what a client says is not believed
	Type     writeType    `json:"type"`
}

type writeType string

func (writeType) Values() []writeType { return []writeType{"insert", "update", "delete"} }

type replicated struct {
	Success bool `json:"success"`
	// Seq is a place before the commit of the write, which is not known yet.
	Seq    Seq    `json:"seq"`
	Status Status `json:"status"`
}

// replicate writes one update of the npm client. What type it says is not needed: the document says whether it is deleted.
//
// A gapped update succeeds, although nobody sees it yet: it is stored, and applied when what it builds on comes. The client would take an
// error as a reason to undo what its user did, and never send it again; it does send all it has when it comes back online.
func (c *Collection) replicate(tx *halcyon.Tx, args replicateArgs) (replicated, error) {
	result, err := c.Write(tx, args.Document, args.Bytes, yjs.V2)
	if err != nil {
		return replicated{}, err
	}
	if result.Status == Refused || result.Status == Gapped && !result.Kept {
		return replicated{}, &halcyon.Error{Code: result.Code, Message: result.Message}
	}
	return replicated{Success: true, Seq: Seq(tx.Now().UnixMicro()), Status: result.Status}, nil
}

type batchArgs struct {
	Writes []batchWrite `json:"writes"`
}

type batchWrite struct {
	ID       string `json:"id"`
	Document string `json:"document"`
	Bytes    []byte `json:"bytes"`
}

type batchResults struct {
	Results []batchResult `json:"results"`
}

type batchResult struct {
	ID      string `json:"id"`
	Status  Status `json:"status"`
	Code    string `json:"code,omitzero"`
	Message string `json:"message,omitzero"`
}

// replicateBatch writes many updates in one transaction. One that is refused does not touch the others. The ids are the caller's, and only
// tell the results apart. When half of the time of a function is used it ends: writes that have no result then were not looked at, and are to be
// sent again.
func (c *Collection) replicateBatch(tx *halcyon.Tx, args batchArgs) (batchResults, error) {
	size := 0
	for _, w := range args.Writes {
		size += len(w.Bytes)
	}
	if len(args.Writes) > BatchMax || size > BatchBytesMax {
		return batchResults{}, &halcyon.Error{Code: CodeTooLarge,
			Message: fmt.Sprintf("%d writes of %d bytes, at most %d of %d bytes are allowed in one call", len(args.Writes), size, BatchMax, BatchBytesMax)}
	}
	results := batchResults{Results: make([]batchResult, 0, len(args.Writes))}
	for i, w := range args.Writes {
		if i > 0 && tx.HalfSpent() {
			break
		}
		result, err := c.Write(tx, w.Document, w.Bytes, yjs.V2)
		if err != nil {
			return batchResults{}, err
		}
		results.Results = append(results.Results, batchResult{ID: w.ID, Status: result.Status, Code: result.Code, Message: result.Message})
	}
	return results, nil
}

type recoverArgs struct {
	Documents []recoverWant `json:"documents"`
	Cursor    *string       `json:"cursor"`
}

type recoverWant struct {
	Document string  `json:"document"`
	Vector   *[]byte `json:"vector"`
}

type recovered struct {
	Documents []recoveredDocument `json:"documents"`
	// Cursor is absent when all documents have been answered. Otherwise the same documents with it get the next ones.
	Cursor string `json:"cursor,omitzero"`
}

type recoveredDocument struct {
	Document string `json:"document"`
	Bytes    []byte `json:"bytes"`
	Vector   []byte `json:"vector"`
	Exists   bool   `json:"exists"` // false for one that is deleted, was never written, or is not for the caller
	Access   string `json:"access"` // none, read or write
}

// recoverBatch answers for many documents what each has that the caller lacks.
func (c *Collection) recoverBatch(tx *halcyon.Tx, args recoverArgs) (recovered, error) {
	if n := len(args.Documents); n > RecoverMax {
		return recovered{}, &halcyon.Error{Code: CodeTooLarge, Message: fmt.Sprintf("%d documents, at most %d are allowed in one call", n, RecoverMax)}
	}
	place := 0
	if args.Cursor != nil {
		var err error
		if place, err = strconv.Atoi(*args.Cursor); err != nil || place < 0 || place > len(args.Documents) {
			return recovered{}, &halcyon.Error{Code: "InvalidCursor", Message: fmt.Sprintf("%q is no cursor of these documents", *args.Cursor)}
		}
	}
	answer := recovered{Documents: []recoveredDocument{}}
	size, rows := 0, 0
	for ; place < len(args.Documents); place++ {
		if size > pageBytesMax || rows > pageRowsMax || len(answer.Documents) == pageRuledMax || rows > 0 && tx.HalfSpent() {
			answer.Cursor = strconv.Itoa(place)
			return answer, nil
		}
		want := args.Documents[place]
		if f := checkDocument(want.Document); f != nil {
			return recovered{}, f.told()
		}
		var vector yjs.StateVector
		if want.Vector != nil && len(*want.Vector) > 0 {
			var err error
			if vector, err = yjs.DecodeStateVector(*want.Vector); err != nil {
				return recovered{}, &halcyon.Error{Code: CodeMalformed, Message: fmt.Sprintf("the vector of document %q is not a state vector: %v", want.Document, err)}
			}
		}
		s, err := c.Diff(tx, want.Document, vector)
		if err != nil {
			return recovered{}, err
		}
		size += len(s.Update) + len(want.Document) + 64
		rows += 1 + s.rows
		answer.Documents = append(answer.Documents, recoveredDocument{
			Document: want.Document, Bytes: s.Update, Vector: s.Vector.Encode(), Exists: s.Exists && !s.Deleted, Access: s.Level.String(),
		})
	}
	return answer, nil
}
