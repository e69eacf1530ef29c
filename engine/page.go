package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/value"
)

// ErrInvalidCursor is returned for a cursor that was not made by this database
// for the same range of the same index in the same direction.
var ErrInvalidCursor = errors.New("the cursor is not one of this query")

// The limits of one page. Well before them a page advises to split it.
const (
	pageRowsMax  = 8_192
	pageBytesMax = 12 << 20

	splitRowsMin = 3 // smaller pages have no middle to split at, unless they have to
)

// PageRequest says which part of a range a page is.
type PageRequest struct {
	// Cursor is where the page begins: the Next or the Split of another page, or
	// empty for the beginning of the range.
	Cursor string
	// End is where the page ends. With it the page is all there is between the
	// two, and grows and shrinks with it. Empty: the page ends after Limit
	// documents, or with the range.
	End string
	// Limit is how many documents a page without an End has, at least 1.
	Limit int
	// RowsMax and BytesMax stop a page early. Default and most: 8,192 documents
	// and 12 MiB.
	RowsMax, BytesMax int
}

// PageStatus says whether a page has become too large to be one.
type PageStatus uint8

// The states of a page.
const (
	PageFits         PageStatus = iota // nothing to do
	SplitRecommended                   // it is whole, and close to its limits
	SplitRequired                      // it has an End and was stopped by a limit before it: documents are missing
)

// Page is a part of a range.
type Page struct {
	Documents []Document
	// Next is the cursor where this page ends and the next one begins.
	Next string
	// Split is a cursor in the middle of the page, or empty for a small page.
	Split string
	// Done says that the page reaches to the end of the range.
	Done   bool
	Status PageStatus
}

// Page returns a part of a range in the order of its index, or in reverse. What
// it depends on is the part it went through, so that pages whose ends are given
// by the Next of one another never miss or repeat a document.
//
// Cursors are opaque, and the same for the same place: they hold the values of
// an index, encrypted with a key that is stored with the database.
//
// Errors: ErrInvalidCursor, *RangeError, and those of Scan.
func (tx *Tx) Page(ix *Index, r Range, desc bool, req PageRequest) (Page, error) {
	rg, err := ix.bytes(r)
	if err != nil {
		return Page{}, err
	}
	if req.End == "" && req.Limit <= 0 {
		return Page{}, &RangeError{Index: ix.Name, Reason: fmt.Sprintf("a page of %d documents", req.Limit)}
	}
	p := pager{seal: tx.db.cursors, query: fingerprint(ix, r, desc), prefix: bytes.Clone(rg.Start[:entryPrefix]), all: rg, desc: desc}
	from, to := position{}, position{end: true}
	if req.Cursor != "" {
		if from, err = p.open(req.Cursor); err != nil {
			return Page{}, err
		}
	}
	if req.End != "" {
		if to, err = p.open(req.End); err != nil {
			return Page{}, err
		}
	}
	return tx.page(ix, &p, p.between(from, to), to, req)
}

// page reads the documents of rg, which ends at to.
func (tx *Tx) page(ix *Index, p *pager, rg keys.Range, to position, req PageRequest) (out Page, err error) {
	rowsMax, bytesMax := pageRowsMax, pageBytesMax
	if 0 < req.RowsMax && req.RowsMax < rowsMax {
		rowsMax = req.RowsMax
	}
	if 0 < req.BytesMax && req.BytesMax < bytesMax {
		bytesMax = req.BytesMax
	}
	var seen [][]byte // the key of each document
	stopped, limited := false, false
	read := tx.readSoFar()
	if !rg.Empty() {
		err = tx.scanRange(ix, rg, p.desc, func(d Document, key []byte) bool {
			out.Documents = append(out.Documents, d)
			seen = append(seen, bytes.Clone(key[entryPrefix:]))
			limited = len(seen) >= rowsMax || tx.readSoFar()-read >= bytesMax
			stopped = limited || req.End == "" && len(seen) >= req.Limit
			return !stopped
		})
		if err != nil {
			return Page{}, err
		}
	}
	if stopped {
		if at := (position{key: seen[len(seen)-1]}); req.End == "" {
			to = at
		} else if stopped = !p.between(at, to).Empty(); !stopped {
			limited = false
		}
	}
	switch {
	case limited && req.End != "":
		out.Status = SplitRequired
	case len(seen) > rowsMax/4*3 || tx.readSoFar()-read > bytesMax/4*3:
		out.Status = SplitRecommended
	}
	if n := len(seen); n >= splitRowsMin || n > 0 && out.Status == SplitRequired {
		out.Split = p.cursor(position{key: seen[(n-1)/2]})
	}
	out.Next, out.Done = p.cursor(to), to.end
	return out, nil
}

// readSoFar returns how many bytes of rows the transaction has read.
func (tx *Tx) readSoFar() int {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	return tx.mu.readBytes
}

// position is a place in a range: behind the entry with that key, at the end,
// or, when zero, at the beginning.
type position struct {
	key []byte // without the prefix of its index
	end bool
}

// A position is stored as: version (1 byte), kind (1), key.
const (
	cursorVersion = 1
	positionKey   = 0
	positionEnd   = 1
)

func (p position) append(dst []byte) []byte {
	if p.end {
		return append(dst, cursorVersion, positionEnd)
	}
	return append(append(dst, cursorVersion, positionKey), p.key...)
}

func decodePlace(b []byte) (position, bool) {
	switch {
	case len(b) < 2 || b[0] != cursorVersion:
	case b[1] == positionEnd && len(b) == 2:
		return position{end: true}, true
	case b[1] == positionKey && len(b) >= 2+keys.DocumentKeySize:
		return position{key: b[2:]}, true
	}
	return position{}, false
}

// pager turns places of one query into cursors and back.
type pager struct {
	seal   *cursorSeal
	query  []byte // what tells this query from others
	prefix []byte // of the keys of the index
	all    keys.Range
	desc   bool
}

// fingerprint names a range of an index. Numbers of indexes are not in it: they
// change when an index is built anew, and its order does not.
func fingerprint(ix *Index, r Range, desc bool) []byte {
	b := binary.BigEndian.AppendUint32(nil, ix.table.Number)
	for _, name := range append([]string{ix.Name}, ix.fields...) {
		b = value.AppendOrdered(b, value.String(name))
	}
	b = append(b, 0)
	for _, v := range r.Eq {
		b = value.AppendOrdered(b, v)
	}
	b = append(b, 0)
	for _, bound := range []*Bound{r.Lower, r.Upper} {
		switch {
		case bound == nil:
			b = append(b, 0)
		case bound.Inclusive:
			b = value.AppendOrdered(append(b, 1), bound.Value)
		default:
			b = value.AppendOrdered(append(b, 2), bound.Value)
		}
	}
	if desc {
		return append(b, 1)
	}
	return append(b, 0)
}

func (p *pager) cursor(at position) string { return p.seal.seal(at.append(nil), p.query) }

func (p *pager) open(cursor string) (position, error) {
	b, ok := p.seal.open(cursor, p.query)
	if !ok {
		return position{}, ErrInvalidCursor
	}
	at, ok := decodePlace(b)
	if !ok || !at.end && !p.all.Contains(p.key(at)) {
		return position{}, ErrInvalidCursor
	}
	return at, nil
}

func (p *pager) key(at position) []byte { return append(bytes.Clone(p.prefix), at.key...) }

// between returns the keys behind from, up to and with to.
func (p *pager) between(from, to position) keys.Range {
	rg := p.all
	switch {
	case from.end:
		return keys.Range{Start: rg.Start, End: rg.Start}
	case from.key != nil && p.desc:
		rg.End = p.key(from)
	case from.key != nil:
		rg.Start = keys.Next(p.key(from))
	}
	switch {
	case to.end:
	case p.desc:
		rg.Start = p.key(to)
	default:
		rg.End = keys.Next(p.key(to))
	}
	return rg
}
