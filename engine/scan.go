package engine

import (
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// Bound is one end of a range.
type Bound struct {
	Value     value.Value
	Inclusive bool
}

// Range selects entries of an index or aggregate: equality on a prefix of its
// fields, then bounds on the next field. After the fields of an index comes
// _creationTime. The zero Range is everything.
type Range struct {
	Eq           []value.Value
	Lower, Upper *Bound
}

// bytes turns a range into keys under prefix, which has fields ordered values
// in each key.
func (r Range) bytes(name string, prefix []byte, fields int) (keys.Range, error) {
	need := len(r.Eq)
	if r.Lower != nil || r.Upper != nil {
		need++
	}
	if need > fields {
		return keys.Range{}, &RangeError{Index: name, Reason: fmt.Sprintf("%d fields are compared, it has %d", need, fields)}
	}
	for _, v := range r.Eq {
		prefix = value.AppendOrdered(prefix, v)
	}
	prefix = prefix[:len(prefix):len(prefix)]
	out := keys.Prefixed(prefix)
	if b := r.Lower; b != nil {
		out.Start = value.AppendOrdered(prefix, b.Value)
		if !b.Inclusive {
			out.Start = keys.Successor(out.Start)
		}
	}
	if b := r.Upper; b != nil {
		out.End = value.AppendOrdered(prefix, b.Value)
		if b.Inclusive {
			out.End = keys.Successor(out.End)
		}
	}
	return out, nil
}

func (ix *Index) bytes(r Range) (keys.Range, error) {
	if ix.id != 0 {
		return r.bytes(ix.Name, keys.AppendIndex(nil, ix.id), len(ix.fields)+1)
	}
	// by_id: the rows themselves, whole or one of them.
	all := keys.Prefixed(keys.AppendRows(nil, ix.table.Number))
	switch {
	case r.Lower != nil || r.Upper != nil || len(r.Eq) > 1:
		return keys.Range{}, &RangeError{Index: ix.Name, Reason: "it takes one equal id or none"}
	case len(r.Eq) == 0:
		return all, nil
	}
	s, _ := r.Eq[0].AsString()
	id, err := value.ParseID(s)
	if err != nil || id.Table != ix.table.Number {
		return keys.Range{Start: all.Start, End: all.Start}, nil
	}
	row := keys.AppendRow(nil, id.Table, id.Key)
	return keys.Range{Start: row, End: keys.Next(row)}, nil
}

// Scan returns the documents of a range in the order of its index, or in
// reverse. What the caller consumes is what the transaction has read: stopping
// early keeps the rest of the range out of its read set. Changes made during a
// scan are seen where it has not come to yet.
func (tx *Tx) Scan(ix *Index, r Range, desc bool) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		stopped := false
		err := tx.scan(ix, r, desc, func(d Document) bool {
			stopped = !yield(d, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(Document{}, err)
		}
	}
}

// cursor is a scan in progress. Its fields are guarded by the Tx's lock.
type cursor struct {
	it    *txn.Iterator // nil once it is closed
	table uint32
	rg    keys.Range
	desc  bool
	last  []byte // the last key consumed
	done  bool   // the whole range was consumed
	steps int    // entries it went over
	key   []byte // of the row it is at; reused
}

// clockSteps is how many rows a scan goes on between two looks at the clock,
// which cost about as much as a third of a row each.
const clockSteps = 16

func (tx *Tx) scan(ix *Index, r Range, desc bool, yield func(Document) bool) error {
	rg, err := ix.bytes(r)
	if err != nil || rg.Empty() {
		return err
	}
	return tx.scanRange(ix, rg, desc, func(d Document, _ []byte) bool { return yield(d) })
}

// scanRange scans keys of an index. The key given to yield is valid during the
// call.
func (tx *Tx) scanRange(ix *Index, rg keys.Range, desc bool, yield func(d Document, key []byte) bool) (err error) {
	c, err := tx.open(ix, rg, desc)
	if err != nil {
		return err
	}
	defer func() {
		tx.mu.Lock()
		defer tx.mu.Unlock()
		if e := tx.closeLocked(c); err == nil {
			err = e
		}
	}()
	for {
		d, ok, err := tx.scanNext(ix, c)
		if err != nil || !ok || !yield(d, c.last) {
			return err
		}
	}
}

// open starts a scan. It ends with closeLocked, by end at the latest.
func (tx *Tx) open(ix *Index, rg keys.Range, desc bool) (*cursor, error) {
	if err := tx.enter(); err != nil {
		return nil, err
	}
	defer tx.leave()
	if _, err := tx.indexLocked(ix); err != nil {
		return nil, err
	}
	it, err := tx.mu.view.Iterate(rg, desc)
	if err != nil {
		return nil, tx.failLocked(err)
	}
	c := &cursor{it: it, table: ix.table.Number, rg: rg, desc: desc}
	tx.mu.cursors = append(tx.mu.cursors, c)
	return c, nil
}

// closeLocked ends a scan and records what it has read. It does nothing to one
// that is closed.
func (tx *Tx) closeLocked(c *cursor) error {
	if c.it == nil {
		return nil
	}
	tx.scanned(c, c.steps, c.it.InternalSteps())
	err := c.it.Close()
	c.it = nil
	i := slices.Index(tx.mu.cursors, c)
	tx.mu.cursors = slices.Delete(tx.mu.cursors, i, i+1)
	if err != nil {
		return tx.failLocked(err)
	}
	switch {
	case c.done:
		tx.mu.reads.AddRange(c.rg)
	case c.last != nil && c.desc:
		tx.mu.reads.AddRange(keys.Range{Start: c.last, End: c.rg.End})
	case c.last != nil:
		tx.mu.reads.AddRange(keys.Range{Start: c.rg.Start, End: keys.Next(c.last)})
	}
	return tx.intervalsLocked()
}

// scanNext moves a scan on and reads the row it comes to.
func (tx *Tx) scanNext(ix *Index, c *cursor) (Document, bool, error) {
	if err := tx.enterChecked(c.steps%clockSteps == 0); err != nil {
		return Document{}, false, err
	}
	defer tx.leave()
	if c.it == nil {
		return Document{}, false, tx.failLocked(errors.New("a scan goes on after the nested transaction it began in"))
	}
	if !c.it.Next() {
		c.done = true
		return Document{}, false, nil
	}
	c.steps++
	c.last = append(c.last[:0], c.it.Key()...)
	doc, err := keys.Document(c.last)
	if err != nil {
		return Document{}, false, tx.failLocked(fmt.Errorf("%w: index %s: %w", ErrCorrupt, ix.Name, err))
	}
	id := value.ID{Table: ix.table.Number, Key: doc}
	c.key = keys.AppendRow(c.key[:0], id.Table, id.Key)
	d, ok, err := tx.rowLocked(ix.table, id, c.key)
	if err == nil && !ok {
		err = fmt.Errorf("%w: index %s of %s points to %s, which is missing", ErrCorrupt, ix.Name, ix.table.Name, id)
	}
	if err != nil {
		return Document{}, false, tx.failLocked(err)
	}
	return d, true, nil
}

func (a *Aggregate) bytes(r Range) (keys.Range, error) {
	return r.bytes(a.Name, keys.AppendEntry(nil, a.id), len(a.fields)+1)
}

// entryPrefix is how many bytes of an entry's key name its aggregate; the
// tree keeps the rest.
const entryPrefix = 5

// tree returns the range as its keys inside the aggregate's tree.
func treeRange(r keys.Range) (from, to []byte) {
	from = r.Start[entryPrefix:]
	if len(r.End) > entryPrefix {
		to = r.End[entryPrefix:]
	}
	return from, to
}

// Count returns how many documents are in a range of an aggregate, the
// transaction's own changes included and the documents in without, which it has
// read, left out. It costs O(log n).
func (tx *Tx) Count(a *Aggregate, r Range, without ...Document) (int64, error) {
	rg, err := a.bytes(r)
	if err != nil || rg.Empty() {
		return 0, err
	}
	if err := tx.enter(); err != nil {
		return 0, err
	}
	defer tx.leave()
	if a, err = tx.aggregateLocked(a); err != nil {
		return 0, err
	}
	tx.mu.reads.AddRange(rg)
	if err := tx.intervalsLocked(); err != nil {
		return 0, err
	}
	n, err := tx.countLocked(a, rg)
	for _, d := range without {
		if tx.mu.key = a.appendKey(tx.mu.key[:0], d); rg.Contains(tx.mu.key) {
			n--
		}
	}
	return n, err
}

func (tx *Tx) reader() *aggregate.Reader {
	return &aggregate.Reader{Cache: tx.db.blocks, Blocks: tx.state}
}

func (tx *Tx) countLocked(a *Aggregate, rg keys.Range) (int64, error) {
	from, to := treeRange(rg)
	n, err := tx.state.trees[a.slot].Count(tx.reader(), from, to)
	if err != nil {
		return 0, tx.failLocked(fmt.Errorf("count %s of %s: %w", a.Name, a.table.Name, err))
	}
	for _, o := range tx.mu.view.Layers {
		n += o.CountEntries(rg)
	}
	return n, nil
}

// GroupCount is one group of an aggregate and how many documents it has.
type GroupCount struct {
	Group []value.Value
	Count int64
}

// Groups returns the groups of an aggregate that have documents, in the order
// of their values: all, or those whose first values are within. It costs O(log n)
// for each group.
func (tx *Tx) Groups(a *Aggregate, within ...value.Value) iter.Seq2[GroupCount, error] {
	return tx.GroupsWithout(a, nil, within...)
}

// GroupsWithout is Groups as if documents that the transaction has read were not
// there.
func (tx *Tx) GroupsWithout(a *Aggregate, without []Document, within ...value.Value) iter.Seq2[GroupCount, error] {
	return func(yield func(GroupCount, error) bool) {
		if len(within) > a.groups {
			yield(GroupCount{}, fmt.Errorf("groups of %s of %s: they have %d values, not %d", a.Name, a.table.Name, a.groups, len(within)))
			return
		}
		cursor, err := a.bytes(Range{Eq: within})
		if err != nil {
			yield(GroupCount{}, err)
			return
		}
		var less changedGroups
		for _, d := range without {
			less.add(a.appendGroup(nil, d), -1)
		}
		for {
			g, rest, ok, err := tx.nextGroup(a, cursor, &less)
			if err != nil {
				yield(GroupCount{}, err)
				return
			}
			if !ok || (g.Count > 0 && !yield(g, nil)) {
				return
			}
			cursor = rest
		}
	}
}

// nextGroup returns the first group in rg, which may have become empty, and
// the range after it.
func (tx *Tx) nextGroup(a *Aggregate, rg keys.Range, less *changedGroups) (g GroupCount, rest keys.Range, ok bool, err error) {
	if rg.Empty() {
		return g, rest, false, nil
	}
	if err := tx.enter(); err != nil {
		return g, rest, false, err
	}
	defer tx.leave()
	if a, err = tx.aggregateLocked(a); err != nil {
		return g, rest, false, err
	}
	from, _ := treeRange(rg)
	entry, ok, err := tx.state.trees[a.slot].Seek(tx.reader(), from)
	if err != nil {
		return g, rest, false, tx.failLocked(fmt.Errorf("list %s of %s: %w", a.Name, a.table.Name, err))
	}
	if ok {
		entry = append(keys.AppendEntry(nil, a.id), entry...)
		ok = rg.Contains(entry)
	}
	for _, o := range tx.mu.view.Layers {
		o.EachEntry(rg, func(k string, _ txn.Entry) bool {
			if !ok || k < string(entry) {
				entry, ok = []byte(k), true
			}
			return false
		})
	}
	if !ok {
		tx.mu.reads.AddRange(rg)
		return g, rest, false, nil
	}
	tail := entry[entryPrefix:]
	for range a.groups {
		v, after, err := value.DecodeOrdered(tail)
		if err != nil {
			return g, rest, false, tx.failLocked(fmt.Errorf("%w: aggregate %s of %s: %w", ErrCorrupt, a.Name, a.table.Name, err))
		}
		g.Group, tail = append(g.Group, v), after
	}
	group := keys.Prefixed(entry[:len(entry)-len(tail)])
	tx.mu.reads.AddRange(keys.Range{Start: rg.Start, End: group.End})
	if g.Count, err = tx.countLocked(a, group); err != nil {
		return g, rest, false, err
	}
	if c := less.find(group.Start[entryPrefix:]); c != nil {
		g.Count += c.delta
	}
	return g, keys.Range{Start: group.End, End: rg.End}, true, tx.intervalsLocked()
}
