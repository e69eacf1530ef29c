package halcyon

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"github.com/halcyon-db/halcyon/engine"
)

// PageOptions says which page of a query is wanted: the argument paginationOpts of Convex's clients, who fill it in.
type PageOptions struct {
	// NumItems is how many documents a page has at first, at least 1. While a client watches the page, its end stays at the document it
	// had there, so that it grows and shrinks with what is written inside of it.
	NumItems int `json:"numItems"`
	// Cursor is the ContinueCursor of the page before, or null for the first page.
	Cursor Nullable[string] `json:"cursor"`
	// EndCursor, if given, is where the page ends, whatever NumItems is.
	EndCursor *Nullable[string] `json:"endCursor"`
	// ID tells one list of a client from another; it has no further meaning.
	ID *float64 `json:"id"`
	// MaximumRowsRead and MaximumBytesRead stop a page early. Most: 8,192 documents and 12 MiB.
	MaximumRowsRead  *float64 `json:"maximumRowsRead"`
	MaximumBytesRead *float64 `json:"maximumBytesRead"`
}

// PageStatus advises a client to split a page that has become large.
type PageStatus string

// The states of a page that is not as it should be.
const (
	SplitRecommended PageStatus = "SplitRecommended" // it is whole, and close to its limits
	SplitRequired    PageStatus = "SplitRequired"    // it is not whole: a limit stopped it
)

// Values returns the states, which makes PageStatus an enum to clients.
func (PageStatus) Values() []PageStatus { return []PageStatus{SplitRecommended, SplitRequired} }

// Page is a part of a query's documents, in the form that Convex's clients know.
type Page[T any] struct {
	Page           []T                  `json:"page"`
	IsDone         bool                 `json:"isDone"`
	ContinueCursor string               `json:"continueCursor"` // where the next page begins
	SplitCursor    Nullable[string]     `json:"splitCursor"`    // in the middle of the page, null for a small one
	PageStatus     Nullable[PageStatus] `json:"pageStatus"`
}

// MapPage returns a page of what f makes of each document.
func MapPage[T, U any](p Page[T], f func(T) (U, error)) (Page[U], error) {
	out := Page[U]{Page: make([]U, len(p.Page)), IsDone: p.IsDone, ContinueCursor: p.ContinueCursor, SplitCursor: p.SplitCursor, PageStatus: p.PageStatus}
	for i, doc := range p.Page {
		var err error
		if out.Page[i], err = f(doc); err != nil {
			return Page[U]{}, err
		}
	}
	return out, nil
}

// Page returns one page of the documents. Pages that follow one another by their cursors never miss or repeat a document, while documents
// come and go.
//
// A cursor is good for the same query of the same database: the error for any other reaches clients as InvalidCursor, and the official ones
// begin anew with the first page then.
func (q Query[T]) Page(tx *Tx, o PageOptions) (Page[T], error) {
	if q.keys.err != nil {
		return Page[T]{}, q.keys.err
	}
	b, err := tx.table(&q.table.def)
	if err != nil {
		return Page[T]{}, err
	}
	if o.NumItems < 1 {
		return Page[T]{}, fmt.Errorf("a page of %d items: numItems is at least 1", o.NumItems)
	}
	pinned, given := tx.pages.next(), o.EndCursor != nil && o.EndCursor.Valid
	req := engine.PageRequest{Cursor: o.Cursor.Value, Limit: o.NumItems, End: pinned}
	if given {
		req.End = o.EndCursor.Value
	}
	if o.MaximumRowsRead != nil {
		req.RowsMax = max(1, int(*o.MaximumRowsRead))
	}
	if o.MaximumBytesRead != nil {
		req.BytesMax = max(1, int(*o.MaximumBytesRead))
	}
	page, err := tx.inner.Page(b.indexes[q.index], q.keys.r, q.desc, req)
	if err != nil {
		return Page[T]{}, fmt.Errorf("page of %s: %w", q.keys.what, err)
	}
	tx.pages.end(page.Next)
	out := Page[T]{Page: make([]T, len(page.Documents)), IsDone: page.Done, ContinueCursor: page.Next}
	for i, stored := range page.Documents {
		if err := b.decode(stored, reflect.ValueOf(&out.Page[i]).Elem()); err != nil {
			return Page[T]{}, err
		}
	}
	if page.Split != "" {
		out.SplitCursor = NotNull(page.Split)
	}
	switch page.Status {
	case engine.SplitRecommended:
		out.PageStatus = NotNull(SplitRecommended)
	case engine.SplitRequired:
		out.PageStatus = NotNull(SplitRequired)
	}
	return out, nil
}

// pagesMax is how many pages one execution may read with their ends kept.
const pagesMax = 100

// pages are the ends of the pages of one execution, in the order of its calls: those it begins with, and those it comes to. Together they
// are the journal of a query: run with it again, a query reads pages with the same ends.
type pages struct {
	pinned []string
	ends   []string
}

// next returns the pinned end of the page about to be read, or nothing.
func (p *pages) next() string {
	if n := len(p.ends); n < len(p.pinned) {
		return p.pinned[n]
	}
	return ""
}

func (p *pages) end(cursor string) {
	if len(p.ends) < pagesMax {
		p.ends = append(p.ends, cursor)
	}
}

// kept returns the ends for the next execution: those of this one, and of the pages that it did not read those of before. Where such a page is
// read again, the page that a client has after it begins where it always did.
func (p *pages) kept() []string {
	if len(p.ends) < len(p.pinned) {
		return slices.Concat(p.ends, p.pinned[len(p.ends):])
	}
	return p.ends
}

// journalOf returns what a client keeps of the ends of pages, or nil when there are none.
func journalOf(ends []string) *string {
	if len(ends) == 0 {
		return nil
	}
	b, _ := json.Marshal(ends) // strings never fail
	text := string(b)
	return &text
}

// errJournal is of a journal that this server has not written.
var errJournal = fmt.Errorf("the journal of the query: %w", engine.ErrInvalidCursor)

// parseJournal returns the ends in a journal.
func parseJournal(journal *string) (ends []string, err error) {
	if journal == nil || *journal == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(*journal), &ends); err != nil || len(ends) > pagesMax {
		return nil, errJournal
	}
	return ends, nil
}

// journal is what a live query has of the ends of its pages between its runs.
type journal struct {
	mu   sync.Mutex
	ends []string
}

func (j *journal) get() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.ends
}

// settle says where the pages of a run end that was begun with given. It is false when a run beside it has put the ends elsewhere: what that one
// returned may be shown already, so this one has to be done again with its ends.
func (j *journal) settle(given, ends []string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if !slices.Equal(j.ends, given) {
		return false
	}
	j.ends = ends
	return true
}
