package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// faultsMax is how many faults a report lists; it counts all of them.
const faultsMax = 100

// Report is what Verify looked at and found.
type Report struct {
	At          Timestamp // the state that was checked
	Documents   int64     // of the tables in the schema
	Entries     int64     // of their indexes and aggregates
	Records     int64     // change records
	Faults      []Fault   // the first 100
	FaultsTotal int64
}

// OK reports whether nothing was found.
func (r *Report) OK() bool { return r.FaultsTotal == 0 }

// Fault is one place where stored data contradicts itself.
type Fault struct {
	Table string // empty where none is concerned
	Part  string // the index or aggregate, empty for the rows
	ID    string // the document, empty where none is concerned
	What  string
}

// String returns the fault on one line.
func (f Fault) String() string {
	var b bytes.Buffer
	for _, s := range []string{f.Table, f.Part, f.ID} {
		if s != "" {
			b.WriteString(s + ": ")
		}
	}
	return b.String() + f.What
}

// Verify reads all that is durable and checks that it agrees with itself: that
// every row decodes, that each index and each aggregate has exactly the entries
// that the rows call for, that the blocks of aggregates form their trees, that
// nothing is stored that nobody owns, and that no row is older than its newest
// change record says.
//
// It takes time in proportion to the data and hinders nobody. What is wrong is
// in the report; an error means that it could not go on.
func (db *DB) Verify(ctx context.Context) (Report, error) { return db.VerifyProgress(ctx, nil) }

// VerifyProgress is Verify that calls progress, if it is not nil, every few
// thousand keys and after each table, with what was looked at so far.
func (db *DB) VerifyProgress(ctx context.Context, progress func(Report)) (Report, error) {
	if err := db.enter(); err != nil {
		return Report{}, err
	}
	defer db.exit()
	s := db.states.acquireDurable()
	defer db.states.release(s)
	v := &verifier{db: db, ctx: ctx, s: s, blocks: &aggregate.Reader{Cache: db.blocks, Blocks: s}, report: Report{At: s.at}, progress: progress}
	var err error
	if v.names, err = readDictionaries(s.snap); err != nil {
		return v.report, fmt.Errorf("verify the field names: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(s.catalog.tables)) {
		if err := v.table(s.catalog.tables[name]); err != nil {
			return v.report, fmt.Errorf("verify table %s: %w", name, err)
		}
		v.tell()
	}
	if err := v.owners(); err != nil {
		return v.report, fmt.Errorf("verify the catalog: %w", err)
	}
	if err := v.records(); err != nil {
		return v.report, fmt.Errorf("verify change records: %w", err)
	}
	return v.report, nil
}

// verifier is one run of Verify.
type verifier struct {
	db     *DB
	ctx    context.Context // of the call
	s      *state
	names  *dictionaries // as of s
	blocks *aggregate.Reader
	report Report

	// removed are faults for rows of a table that were removed at a timestamp which
	// is that of the rows, too. It is none when the table was loaded after that: then
	// the rows have the timestamp of the state in which the load began.
	removed map[rowsAt][]Fault

	progress func(Report)
	keys     int // since progress was called
}

// rowsAt names the rows of a table that have one timestamp.
type rowsAt struct {
	table uint32
	at    Timestamp
}

// progressEvery is after how many keys progress is told.
const progressEvery = 4096

func (v *verifier) tell() {
	v.keys = 0
	if v.progress != nil {
		v.progress(v.report)
	}
}

func (v *verifier) fault(f Fault, format string, args ...any) {
	f.What = fmt.Sprintf(format, args...)
	if v.report.FaultsTotal++; len(v.report.Faults) < faultsMax {
		v.report.Faults = append(v.report.Faults, f)
	}
}

// each calls f for every key of a range until it fails. Key and value are
// valid for the call.
func (v *verifier) each(r keys.Range, f func(key, val []byte) error) error {
	it, err := v.s.snap.Iterate(r.Start, r.End)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if v.keys++; v.keys == progressEvery {
			v.tell()
		}
		if err = v.ctx.Err(); err == nil {
			err = f(it.Key(), it.Value())
		}
	}
	return errors.Join(err, it.Err(), it.Close())
}

// table checks the rows of a table and what is derived from them. Entries are
// right when each row's are there and there are no more than rows.
func (v *verifier) table(t *Table) error {
	for _, a := range t.aggregates {
		if err := v.s.trees[a.slot].Check(v.blocks); err != nil {
			v.fault(Fault{Table: t.Name, Part: a.Name}, "%v", err)
		}
		if a.status == statusBuilding {
			if err := v.hidden(a); err != nil {
				return err
			}
		}
		if a.ranking == nil || a.ranking.status != statusReady {
			continue
		}
		if err := v.s.trees[a.ranking.slot].Check(v.blocks); err != nil {
			v.fault(Fault{Table: t.Name, Part: a.Name}, "ranking: %v", err)
		}
		if err := v.ranking(a); err != nil {
			v.fault(Fault{Table: t.Name, Part: a.Name}, "ranking: %v", err)
		}
	}
	// What is durable has to be enough to read the rows, whatever else this
	// process knows.
	names := v.names.of(t.Number)
	rows := int64(0)
	totals := make([]aggregate.Total, len(t.aggregates))
	err := v.each(keys.Prefixed(keys.AppendRows(nil, t.Number)), func(key, val []byte) error {
		rows++
		v.report.Documents++
		doc, err := keys.Document(key)
		if err != nil || len(key) != 5+keys.DocumentKeySize {
			v.fault(Fault{Table: t.Name}, "key %x is not that of a row", key)
			return nil
		}
		id := value.ID{Table: t.Number, Key: doc}
		d, err := decodeRow(names, id, val)
		if err != nil {
			v.fault(Fault{Table: t.Name, ID: id.String()}, "%v", err)
			return nil
		}
		if at := rowTimestamp(val); at == 0 || at > v.s.at {
			v.fault(Fault{Table: t.Name, ID: id.String()}, "committed at %d, the newest state is %d", at, v.s.at)
		}
		for i, a := range t.aggregates {
			if a.status == statusReady {
				totals[i].Add(a.weight(d))
			}
		}
		return v.entries(t, d)
	})
	if err != nil {
		return err
	}
	for _, ix := range t.indexes {
		if ix.id == 0 || ix.status == statusFailed {
			continue
		}
		n := int64(0)
		all := keys.Prefixed(keys.AppendIndex(nil, ix.id))
		var claimed []byte // the values of the entry before, in a unique index
		if err := v.each(all, func(key, val []byte) error {
			if n++; len(val) != 0 {
				v.fault(Fault{Table: t.Name, Part: ix.Name}, "an entry has a value of %d bytes", len(val))
			}
			if !ix.unique || ix.status != statusReady {
				return nil
			}
			values, bound := ix.claim(key)
			if bound && bytes.Equal(values, claimed) {
				id := rowIDOf(t, key)
				v.fault(Fault{Table: t.Name, Part: ix.Name, ID: id}, "another document has the same values")
			}
			claimed = append(claimed[:0], values...)
			return nil
		}); err != nil {
			return err
		}
		v.report.Entries += n
		if n == rows {
			continue
		}
		if ix.status == statusReady {
			v.fault(Fault{Table: t.Name, Part: ix.Name}, "%d entries for %d rows", n, rows)
		}
		if err := v.each(all, func(key, _ []byte) error { return v.owned(t, ix.Name, key, ix.key) }); err != nil {
			return err
		}
	}
	for i, a := range t.aggregates {
		if a.status != statusReady {
			continue
		}
		n := v.s.trees[a.slot].Entries
		v.report.Entries += n
		if n != rows {
			v.fault(Fault{Table: t.Name, Part: a.Name}, "counts %d documents, there are %d", n, rows)
		}
		var total aggregate.Total
		if a.sum == "" {
			continue
		}
		if err := v.s.trees[a.slot].Total(v.blocks, nil, nil, &total); err != nil {
			v.fault(Fault{Table: t.Name, Part: a.Name}, "%v", err)
		} else if got, want := describe(&total), describe(&totals[i]); got != want {
			v.fault(Fault{Table: t.Name, Part: a.Name}, "adds up to %s, the rows to %s", got, want)
		}
	}
	return nil
}

// claim returns the part of an entry's key that no other document may have. It
// is not bound when one of the values is undefined, or the key does not decode,
// which is reported elsewhere.
func (ix *Index) claim(key []byte) (values []byte, bound bool) {
	rest := key[entryPrefix:]
	for range ix.fields {
		v, after, err := value.DecodeOrdered(rest)
		if err != nil || v.IsUndefined() {
			return nil, false
		}
		rest = after
	}
	return key[:len(key)-len(rest)], true
}

// rowIDOf returns the id of the document that an entry points to, for a report.
func rowIDOf(t *Table, entry []byte) string {
	doc, err := keys.Document(entry)
	if err != nil {
		return ""
	}
	return value.ID{Table: t.Number, Key: doc}.String()
}

// describe returns all a total says, as text that is equal for equal ones.
func describe(t *aggregate.Total) string {
	sum, err := t.Sum()
	if err != nil {
		return fmt.Sprintf("%d numbers from %v to %v, %v", t.Numbers, t.Min(), t.Max(), err)
	}
	return fmt.Sprintf("%d numbers from %v to %v, sum %v", t.Numbers, t.Min(), t.Max(), sum)
}

// ranking checks that the ranking has each group of the aggregate at its count,
// and nothing else.
func (v *verifier) ranking(a *Aggregate) error {
	tree, ranked := v.s.trees[a.slot], v.s.trees[a.ranking.slot]
	groups := int64(0)
	for next := []byte{}; next != nil; {
		if err := v.ctx.Err(); err != nil {
			return err
		}
		entry, ok, err := tree.Seek(v.blocks, next)
		if err != nil || !ok {
			if err == nil && groups != ranked.Entries {
				v.fault(Fault{Table: a.table.Name, Part: a.Name}, "%d groups are ranked, there are %d", ranked.Entries, groups)
			}
			return err
		}
		group, err := a.groupOf(entry)
		if err != nil {
			return err
		}
		groups++
		next = keys.Successor(group)
		count, err := tree.Count(v.blocks, group, next)
		if err != nil {
			return err
		}
		k := rankKey(count, group)
		if n, err := ranked.Count(v.blocks, k, keys.Next(k)); err != nil {
			return err
		} else if n != 1 {
			v.fault(Fault{Table: a.table.Name, Part: a.Name}, "group %x of %d documents is ranked %d times", group, count, n)
		}
	}
	return nil
}

// entries checks that everything derived from a document is there.
func (v *verifier) entries(t *Table, d Document) error {
	for _, ix := range t.indexes {
		if ix.id == 0 || ix.status != statusReady {
			continue
		}
		_, ok, err := v.s.snap.Get(ix.key(d))
		if err != nil {
			return err
		}
		if !ok {
			v.fault(Fault{Table: t.Name, Part: ix.Name, ID: d.ID.String()}, "the entry is missing")
		}
	}
	for _, a := range t.aggregates {
		if a.status != statusReady {
			continue
		}
		k := a.key(d)[entryPrefix:]
		n, err := v.s.trees[a.slot].Count(v.blocks, k, keys.Next(k))
		if err != nil {
			v.fault(Fault{Table: t.Name, Part: a.Name, ID: d.ID.String()}, "%v", err)
		} else if n != 1 {
			v.fault(Fault{Table: t.Name, Part: a.Name, ID: d.ID.String()}, "counted %d times", n)
		}
	}
	return nil
}

// hidden checks the hidden index of an aggregate that is being built, and that
// its tree has the entries below the cursor.
func (v *verifier) hidden(a *Aggregate) error {
	p := v.s.builds[a.id]
	cursor := append(keys.AppendIndex(nil, a.id), p.cursor...)
	below := int64(0)
	if err := v.each(keys.Prefixed(keys.AppendIndex(nil, a.id)), func(key, _ []byte) error {
		if p.phase == phaseDone || p.phase == phasePour && bytes.Compare(key, cursor) < 0 {
			below++
		}
		return v.owned(a.table, a.Name, key, func(d Document) []byte { return a.hiddenKey(a.key(d)) })
	}); err != nil {
		return err
	}
	if n := v.s.trees[a.slot].Entries; n != below {
		v.fault(Fault{Table: a.table.Name, Part: a.Name}, "counts %d documents, %d are before the cursor of its build", n, below)
	}
	return nil
}

// owned checks that the document an index entry points to calls for it.
func (v *verifier) owned(t *Table, part string, key []byte, want func(Document) []byte) error {
	f := Fault{Table: t.Name, Part: part}
	doc, err := keys.Document(key)
	if err != nil {
		v.fault(f, "key %x is not that of an entry", key)
		return nil
	}
	id := value.ID{Table: t.Number, Key: doc}
	f.ID = id.String()
	b, ok, err := v.s.snap.Get(keys.AppendRow(nil, id.Table, id.Key))
	if err != nil {
		return err
	}
	if !ok {
		v.fault(f, "an entry points to it and there is no such row")
		return nil
	}
	// A row that does not decode has been reported.
	if d, err := decodeRow(v.names.of(id.Table), id, b); err == nil && !bytes.Equal(want(d), key) {
		v.fault(f, "has an entry %x that its fields do not call for", key)
	}
	return nil
}

// owners checks that the numbers under which rows, entries and blocks are
// stored belong to something in the catalog, tables that the schema no longer
// has included.
func (v *verifier) owners() error {
	metas := v.s.catalog.metas()
	known := map[byte]map[uint32]bool{keys.PrefixRow: {}, keys.PrefixIndex: {}, keys.PrefixAggregate: {}}
	for prefix, kind := range map[string]byte{metaTable: keys.PrefixRow, metaIndex: keys.PrefixIndex, metaAgg: keys.PrefixAggregate} {
		if err := v.each(keys.Prefixed(metaKey(prefix)), func(key, val []byte) error {
			p, err := decodePart(val)
			if err != nil {
				v.fault(Fault{}, "catalog entry %q: %v", key[1:], err)
				return nil
			}
			if table, _, ok := strings.Cut(string(key[1+len(prefix):]), "\x00"); ok && v.s.catalog.tables[table] != nil && !metas[string(key)] {
				v.fault(Fault{}, "catalog entry %q is of nothing in the schema", key[1:])
			}
			known[kind][p.id] = p.status != statusFailed
			if kind == keys.PrefixAggregate && p.status == statusBuilding {
				known[keys.PrefixIndex][p.id] = true
			}
			return nil
		}); err != nil {
			return err
		}
	}
	for _, kind := range []byte{keys.PrefixRow, keys.PrefixIndex, keys.PrefixAggregate} {
		r := keys.Prefixed([]byte{kind})
		it, err := v.s.snap.Iterate(r.Start, r.End)
		if err != nil {
			return err
		}
		for ok := it.First(); ok; {
			if len(it.Key()) < 5 {
				v.fault(Fault{}, "key %x is too short", it.Key())
				ok = it.Next()
				continue
			}
			id := binary.BigEndian.Uint32(it.Key()[1:])
			if !known[kind][id] {
				v.fault(Fault{}, "keys with prefix %c and number %d belong to nothing", kind, id)
			}
			next := keys.Successor(it.Key()[:5])
			ok = next != nil && it.SeekGE(next)
		}
		if err := errors.Join(it.Err(), it.Close()); err != nil {
			return err
		}
	}
	return nil
}

// records checks that change records decode and form one chain, and that no row is older than they
// say. It looks at rows alone: outcomes of requests may have been swept.
func (v *verifier) records() error {
	var previous LogPosition
	v.removed = map[rowsAt][]Fault{}
	err := v.each(keys.Prefixed([]byte{keys.PrefixLog}), func(key, val []byte) error {
		v.report.Records++
		r, err := storedRecord(key, val)
		if err != nil {
			v.fault(Fault{}, "change record %x: %v", key, err)
			return nil
		}
		group := r.Position.At
		if group > v.s.at {
			v.fault(Fault{}, "change record %x is above the newest state %d", key, v.s.at)
			return nil
		}
		if previous != (LogPosition{}) && r.Previous != previous {
			v.fault(Fault{}, "change record at %d continues %s, the one before is at %s", group, r.Previous, previous)
		}
		previous = r.Position
		err = r.effects(func(key, val []byte) error {
			if isLoaded(key) {
				table, _, at, err := decodeLoaded(key, val)
				delete(v.removed, rowsAt{table, at})
				return err
			}
			if key[0] != keys.PrefixRow {
				return nil
			}
			return v.effect(group, key, val)
		})
		if errors.Is(err, errRecord) {
			v.fault(Fault{}, "change record at %d: %v", group, err)
			return nil
		}
		return err
	})
	for _, faults := range v.removed {
		for _, f := range faults {
			v.fault(f, "%s", f.What)
		}
	}
	return err
}

// effect compares the row under key with what a group did to it.
func (v *verifier) effect(group Timestamp, key, val []byte) error {
	f := Fault{}
	doc, err := keys.Document(key)
	if err != nil {
		v.fault(f, "change record at %d has key %x", group, key)
		return nil
	}
	number := binary.BigEndian.Uint32(key[1:])
	if t := v.s.catalog.byNumber[number]; t != nil {
		f.Table = t.Name
	}
	f.ID = value.ID{Table: number, Key: doc}.String()
	row, ok, err := v.s.snap.Get(key)
	if err != nil {
		return err
	}
	switch at := rowTimestamp(row); {
	case val == nil && ok && at == group:
		f.What = fmt.Sprintf("removed at %d and still there", group)
		v.removed[rowsAt{number, at}] = append(v.removed[rowsAt{number, at}], f)
	case val == nil && ok && at < group:
		v.fault(f, "removed at %d and still there, from %d", group, at)
	case val != nil && rowTimestamp(val) > group:
		v.fault(f, "the change record at %d has it committed at %d", group, rowTimestamp(val))
	case val != nil && ok && at < rowTimestamp(val):
		v.fault(f, "changed at %d and still as it was at %d", rowTimestamp(val), at)
	case val != nil && ok && at == rowTimestamp(val) && !bytes.Equal(row, val):
		v.fault(f, "differs from the change record at %d", group)
	}
	return nil
}

// rowTimestamp returns when a stored row was committed, 0 for one that is too
// short to say.
func rowTimestamp(row []byte) Timestamp {
	if len(row) < rowHeader {
		return 0
	}
	return Timestamp(binary.BigEndian.Uint64(row[txn.StampOffset:]))
}
