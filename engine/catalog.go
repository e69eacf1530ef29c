package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// catalog is one version of the schema with the numbers under which its parts
// are stored and whether they are complete. It is immutable and belongs to the
// states in which it holds, so that a transaction finds in its own snapshot what
// it may use.
type catalog struct {
	tables     map[string]*Table
	byNumber   map[uint32]*Table
	indexes    map[uint32]*Index
	aggregates []*Aggregate
	byID       map[uint32]*Aggregate
	slots      int // trees in a state
}

// partStatus says what an index, an aggregate or a ranking is good for.
type partStatus uint8

const (
	// statusBuilding: commits keep it, what was there before is being added.
	statusBuilding partStatus = iota
	// statusReady: it has all its entries.
	statusReady
	// statusFailed: what is stored does not fit it. Nothing is kept of it; the
	// next opening begins again.
	statusFailed
)

// part is a stored index, aggregate or ranking: its number, its status, and its
// definition as text, so that a changed one is built anew.
type part struct {
	id     uint32
	status partStatus
	def    string
}

func (p part) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, p.id)
	return append(append(dst, byte(p.status)), p.def...)
}

func decodePart(b []byte) (part, error) {
	if len(b) < 5 || b[4] > byte(statusFailed) {
		return part{}, fmt.Errorf("%w: catalog entry of %d bytes", ErrCorrupt, len(b))
	}
	return part{id: binary.BigEndian.Uint32(b), status: partStatus(b[4]), def: string(b[5:])}, nil
}

// The names of metadata; docs/format/keys.md describes them.
const (
	metaNext  = "next"
	metaTable = "table/"
	metaIndex = "index/"
	metaAgg   = "aggregate/"
	metaBuild = "build/"
	metaField = "field/"
	metaClock = "clock"

	metaRanking = "\x00ranking" // after the name of an aggregate
)

func metaKey(name string) []byte { return keys.AppendMeta(nil, name) }

// revision is a step from one catalog to the next, made in one commit.
type revision struct {
	catalog *catalog
	writes  *txn.Overlay        // of catalog entries
	builds  map[uint32]progress // of the parts that are building then
	drops   []keys.Range        // what is removed with them
	load    *loadRevision       // when a table is loaded with it
}

// loader gives the parts of a schema their numbers, drops what is no longer
// declared and says what has to be built.
type loader struct {
	snap   *store.Snapshot
	names  *dictionaries
	next   uint32
	out    revision
	stored map[string]part // name in meta -> part, those not yet claimed
	builds map[uint32]progress
}

// revise brings the stored catalog in line with a schema. Nothing is written:
// the caller commits the revision while nothing else does.
func revise(snap *store.Snapshot, names *dictionaries, schema Schema) (*revision, error) {
	if err := schema.check(); err != nil {
		return nil, err
	}
	l := &loader{
		snap: snap, names: names, stored: map[string]part{},
		out: revision{
			catalog: &catalog{
				tables: map[string]*Table{}, byNumber: map[uint32]*Table{},
				indexes: map[uint32]*Index{}, byID: map[uint32]*Aggregate{},
			},
			writes: new(txn.Overlay), builds: map[uint32]progress{},
		},
	}
	if err := l.read(); err != nil {
		return nil, err
	}
	first := l.next
	for _, t := range schema.Tables {
		if err := l.table(t); err != nil {
			return nil, err
		}
	}
	l.dropOthers(schema)
	if l.next != first {
		l.set(metaNext, binary.BigEndian.AppendUint32(nil, l.next))
	}
	return &l.out, nil
}

func (l *loader) set(name string, val []byte) { l.out.writes.Set(metaKey(name), txn.Write{Value: val}) }

func (l *loader) read() error {
	l.next = tableNumber0
	b, ok, err := l.snap.Get(metaKey(metaNext))
	switch {
	case err != nil:
		return err
	case !ok:
		l.set(metaNext, binary.BigEndian.AppendUint32(nil, l.next))
	case len(b) != 4:
		return fmt.Errorf("%w: next number has %d bytes", ErrCorrupt, len(b))
	default:
		l.next = binary.BigEndian.Uint32(b)
	}
	for _, prefix := range []string{metaTable, metaIndex, metaAgg} {
		if err := eachMeta(l.snap, prefix, func(name string, val []byte) error {
			p, err := decodePart(val)
			l.stored[name] = p
			return err
		}); err != nil {
			return err
		}
	}
	l.builds, err = readBuilds(l.snap)
	return err
}

// eachMeta calls f for each piece of metadata whose name begins with prefix. val
// is valid for the call.
func eachMeta(snap *store.Snapshot, prefix string, f func(name string, val []byte) error) error {
	r := keys.Prefixed(metaKey(prefix))
	it, err := snap.Iterate(r.Start, r.End)
	if err != nil {
		return err
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = f(string(it.Key()[1:]), it.Value())
	}
	return errors.Join(err, it.Err(), it.Close())
}

func (l *loader) table(def TableDef) error {
	name := metaTable + def.Name
	p, ok := l.stored[name]
	if !ok {
		p = part{id: l.number(), status: statusReady}
		l.set(name, p.append(nil))
	}
	t := &Table{Name: def.Name, Number: p.id, names: l.names.of(p.id)}
	t.indexes = append(t.indexes, &Index{Name: IndexByID, table: t, status: statusReady})
	c := l.out.catalog
	c.tables[t.Name], c.byNumber[t.Number] = t, t
	empty, err := l.empty(t)
	if err != nil {
		return err
	}
	for _, d := range append([]IndexDef{{Name: IndexByCreationTime}}, def.Indexes...) {
		name := metaIndex + t.Name + "\x00" + d.Name
		p := l.part(name, definition(0, d.Fields, "", d.Unique), empty, false)
		ix := &Index{Name: d.Name, table: t, fields: d.Fields, unique: d.Unique, id: p.id, status: p.status, meta: string(metaKey(name))}
		t.indexes = append(t.indexes, ix)
		c.indexes[ix.id] = ix
	}
	for _, d := range def.Aggregates {
		name := metaAgg + t.Name + "\x00" + d.Name
		a := &Aggregate{Name: d.Name, table: t, groups: len(d.GroupBy), fields: slices.Concat(d.GroupBy, d.OrderBy), sum: d.Sum, slot: l.slot(), meta: string(metaKey(name))}
		p := l.part(name, definition(a.groups, a.fields, a.sum, false), empty, false)
		a.id, a.status = p.id, p.status
		if d.Ranked {
			name += metaRanking
			// It is kept from the counts of the aggregate, so it can only be built
			// after it.
			p := l.part(name, definition(a.groups, d.GroupBy, "", false), empty, a.status != statusReady)
			a.ranking = &ranking{id: p.id, status: p.status, slot: l.slot(), meta: string(metaKey(name))}
		}
		t.aggregates = append(t.aggregates, a)
		c.aggregates = append(c.aggregates, a)
		c.byID[a.id] = a
	}
	return nil
}

// empty reports whether a table has no rows.
func (l *loader) empty(t *Table) (bool, error) {
	r := keys.Prefixed(keys.AppendRows(nil, t.Number))
	it, err := l.snap.Iterate(r.Start, r.End)
	if err != nil {
		return false, err
	}
	some := it.First()
	return !some, errors.Join(it.Err(), it.Close())
}

// slot returns the place of the next tree in a state.
func (l *loader) slot() int {
	l.out.catalog.slots++
	return l.out.catalog.slots - 1
}

// definition is what has to be equal for stored entries to be usable.
func definition(groups int, fields []string, sum string, unique bool) string {
	vals := make([]value.Value, 0, len(fields)+3)
	vals = append(vals, value.Int64(int64(groups)))
	for _, f := range fields {
		vals = append(vals, value.String(f))
	}
	if sum != "" {
		vals = append(vals, value.Null(), value.String(sum))
	}
	if unique {
		vals = append(vals, value.Bool(true))
	}
	return string(value.AppendBinary(nil, value.Array(vals...)))
}

// part returns what is stored of an index, aggregate or ranking. One that is new
// or changed, one that failed, and with again any that was begun, gets a new
// number; it is ready at once when its table is empty. One that is building goes on.
func (l *loader) part(name, def string, empty, again bool) part {
	p, ok := l.stored[name]
	delete(l.stored, name)
	begun := l.builds[p.id].begun()
	if ok && p.def == def && (p.status == statusReady && !again || p.status == statusBuilding && !(again && begun)) {
		if p.status == statusBuilding {
			l.out.builds[p.id] = l.builds[p.id]
		}
		return p
	}
	if ok {
		l.drop(p)
	}
	p = part{id: l.number(), def: def, status: statusBuilding}
	if empty {
		p.status = statusReady
	} else {
		l.out.builds[p.id] = progress{}
	}
	l.set(name, p.append(nil))
	return p
}

func (l *loader) number() uint32 {
	l.next++
	return l.next - 1
}

// dropOthers removes indexes and aggregates of declared tables that are no
// longer declared themselves. Tables that are not declared are left as they
// are: nothing can change them, so their indexes stay right.
func (l *loader) dropOthers(schema Schema) {
	for _, name := range slices.Sorted(maps.Keys(l.stored)) {
		for _, t := range schema.Tables {
			for _, prefix := range []string{metaIndex, metaAgg} {
				if strings.HasPrefix(name, prefix+t.Name+"\x00") {
					l.drop(l.stored[name])
					l.out.writes.Delete(metaKey(name))
				}
			}
		}
	}
}

// drop removes what is stored of a part, but for its catalog entry.
func (l *loader) drop(p part) {
	l.out.drops = append(l.out.drops, partRanges(p.id)...)
	if _, ok := l.builds[p.id]; ok {
		l.out.writes.Delete(buildKey(p.id))
	}
}

// partRanges returns where entries and blocks of a part are stored.
func partRanges(id uint32) []keys.Range {
	return []keys.Range{keys.Prefixed(keys.AppendIndex(nil, id)), keys.Prefixed(keys.AppendBlocks(nil, id))}
}

// with returns the catalog with another status of one part. REQUIRES: it has
// that part.
func (c *catalog) with(id uint32, status partStatus) *catalog {
	out := *c
	out.tables, out.byNumber = maps.Clone(c.tables), maps.Clone(c.byNumber)
	out.indexes, out.byID, out.aggregates = maps.Clone(c.indexes), maps.Clone(c.byID), nil
	var owner *Table
	for _, t := range c.byNumber {
		for _, ix := range t.indexes {
			if ix.id == id && id != 0 {
				owner = t
			}
		}
		for _, a := range t.aggregates {
			if a.id == id || a.ranking != nil && a.ranking.id == id {
				owner = t
			}
		}
	}
	t := &Table{Name: owner.Name, Number: owner.Number, names: owner.names}
	out.tables[t.Name], out.byNumber[t.Number] = t, t
	for _, ix := range owner.indexes {
		ix := *ix
		ix.table = t
		if ix.id != 0 {
			if ix.id == id {
				ix.status = status
			}
			out.indexes[ix.id] = &ix
		}
		t.indexes = append(t.indexes, &ix)
	}
	for _, a := range owner.aggregates {
		a := *a
		a.table = t
		if a.id == id {
			a.status = status
		}
		if a.ranking != nil {
			r := *a.ranking
			if r.id == id {
				r.status = status
			}
			a.ranking = &r
		}
		out.byID[a.id] = &a
		t.aggregates = append(t.aggregates, &a)
	}
	for _, a := range c.aggregates {
		out.aggregates = append(out.aggregates, out.byID[a.id])
	}
	return &out
}

// renewed returns an equal catalog that is another one, so that what was
// executed under this one is not accepted any more.
func (c *catalog) renewed() *catalog {
	out := *c
	return &out
}

// tableLocked returns what a table is in this execution's snapshot. Names are
// compared because a handle of another database may have the same number.
func (tx *Tx) tableLocked(t *Table) (*Table, error) {
	if now := tx.state.catalog.byNumber[t.Number]; now != nil && now.Name == t.Name {
		return now, nil
	}
	tx.dependLocked(string(metaKey(metaTable + t.Name)))
	return nil, fmt.Errorf("table %s: %w", t.Name, ErrNoTable)
}

// indexLocked returns what an index is in this execution's snapshot, and fails
// when it cannot be used there.
//
// A mutation need not record that it looked: the committer takes none that was
// executed under an older catalog. A query depends on the catalog entry, which
// changes when the index becomes ready and when it is dropped.
func (tx *Tx) indexLocked(ix *Index) (*Index, error) {
	if err := tx.settleTableLocked(ix.table.Number); err != nil {
		return nil, err
	}
	if ix.id == 0 {
		t, err := tx.tableLocked(ix.table)
		if err != nil {
			return nil, err
		}
		return t.indexes[0], nil
	}
	tx.dependLocked(ix.meta)
	now := tx.state.catalog.indexes[ix.id]
	if now == nil || now.Name != ix.Name || now.table.Name != ix.table.Name {
		return nil, fmt.Errorf("index %s of %s: %w", ix.Name, ix.table.Name, ErrNoIndex)
	}
	return now, tx.usable(now.status, now.table.Name, now.Name, now.id)
}

// aggregateLocked is indexLocked for an aggregate.
func (tx *Tx) aggregateLocked(a *Aggregate) (*Aggregate, error) {
	if err := tx.settleTableLocked(a.table.Number); err != nil {
		return nil, err
	}
	tx.dependLocked(a.meta)
	now := tx.state.catalog.byID[a.id]
	if now == nil || now.Name != a.Name || now.table.Name != a.table.Name {
		return nil, fmt.Errorf("aggregate %s of %s: %w", a.Name, a.table.Name, ErrNoIndex)
	}
	return now, tx.usable(now.status, now.table.Name, now.Name, now.id)
}

// rankingLocked is aggregateLocked for an aggregate with its ranking.
func (tx *Tx) rankingLocked(a *Aggregate) (*Aggregate, error) {
	a, err := tx.aggregateLocked(a)
	if err != nil {
		return nil, err
	}
	tx.dependLocked(a.ranking.meta)
	return a, tx.usable(a.ranking.status, a.table.Name, a.Name, a.ranking.id)
}

func (tx *Tx) dependLocked(meta string) {
	if !tx.write {
		tx.mu.reads.AddPoint([]byte(meta))
	}
}

func (tx *Tx) usable(s partStatus, table, name string, id uint32) error {
	switch s {
	case statusBuilding:
		p := tx.state.builds[id]
		return &BuildingError{Table: table, Index: name, Done: p.done, Total: p.total}
	case statusFailed:
		return fmt.Errorf("index %s of %s: %w", name, table, ErrBuildFailed)
	}
	return nil
}
