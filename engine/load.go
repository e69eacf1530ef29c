package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/aggregate"
	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
	"github.com/halcyon-db/halcyon/engine/value"
)

// How many documents come into an empty table at once.
//
// Rows, index entries and blocks of aggregates are sorted and written into files
// beside the store, while everything goes on; nobody can see them. Then the
// committer, between two groups and with everything before on disk, (1) looks
// that the table was not written to meanwhile, (2) makes a mark in the store,
// which says that what this table has is not to be kept, (3) has the store take
// the files over, and (4) commits a group that removes the mark and has the roots
// of the aggregates. No snapshot is taken between (3) and (4), so the documents are
// there from that group on. Open empties the table when it finds the mark: so a
// crash leaves all of them or none. See docs/adr/0013-sorted-ingest.md.
//
// What was executed on the state before is not accepted after it, as after a
// change of the schema, and every live query runs again: the keys are too many to
// tell who has read where they are now.

// Errors of DB.Load.
var (
	// ErrTableNotEmpty says that the table has documents, or that there were some
	// while it was being loaded. Nothing was changed.
	ErrTableNotEmpty = errors.New("the table must hold nothing while it is loaded")
	// ErrTableChanged says that an index or aggregate of the table came, went or
	// became ready while it was being loaded. Nothing was changed; load it again.
	ErrTableChanged = errors.New("the indexes of the table changed while it was loaded")
	// ErrSharedLog says that the database follows a commit log that is not its
	// own: other stores would not get the documents.
	ErrSharedLog = errors.New("a database with a commit log of its own is needed to load a table")
)

// LoadOptions are the settings of one load; nil means all defaults.
type LoadOptions struct {
	// SortBytes bounds the memory for sorting, all indexes and aggregates
	// together. What is more goes through files. Default 128 MiB.
	SortBytes int
	// Progress is told how far the load is, every 65,536 documents or index
	// entries. It is called from one goroutine at a time, and must not call Load.
	Progress func(LoadProgress)
}

// LoadProgress is how far a load is.
type LoadProgress struct {
	Documents int64 // taken from the sequence
	Entries   int64 // of indexes and aggregates, written in order
	// EntriesTotal is how many there will be. It is 0 until all documents are taken.
	EntriesTotal int64
}

// Loaded is the outcome of a load.
type Loaded struct {
	At        Timestamp // of the commit in which the documents appear
	Documents int64
	Bytes     int64 // of keys and values, before compression
}

// Load puts documents into a table that holds none, many times faster than
// transactions do. They all appear in one commit, which is durable when Load
// returns; after an error, or a crash before that, none of them is there.
//
// Either all documents have an id or none has; likewise a creation time. What
// they lack they get as documents of one transaction would. Fields must be what
// Tx.Insert takes, and documents keep to the limits and unique indexes of the
// table. Other limits of transactions do not apply.
//
// Everything else goes on meanwhile, but nobody may write to this table, and its
// indexes and aggregates must be built. One load runs at a time, others wait. It
// needs about three times the space of the data until it ends. The change record
// of the commit says only that the table was loaded, see ChangeGroup.Loaded.
//
// Errors: ErrTableNotEmpty, ErrTableChanged, ErrSharedLog, BuildingError,
// ErrNoTable, UniqueError, LimitError, that of the sequence, what value.CheckDocument
// says, ErrClosed, the context's.
func (db *DB) Load(ctx context.Context, t *Table, documents iter.Seq2[Document, error], opts *LoadOptions) (Loaded, error) {
	if err := db.enter(); err != nil {
		return Loaded{}, err
	}
	defer db.exit()
	select {
	case db.loads <- struct{}{}:
		defer func() { <-db.loads }()
	case <-ctx.Done():
		return Loaded{}, ctx.Err()
	case <-db.leaving:
		return Loaded{}, ErrClosed
	}
	l := &load{db: db, number: t.Number}
	if opts != nil {
		l.o = *opts
	}
	setDefault(&l.o.SortBytes, 128<<20)
	out, err := l.run(ctx, documents)
	if err != nil {
		return Loaded{}, fmt.Errorf("load table %s: %w", t.Name, err)
	}
	return out, nil
}

// load is one call of DB.Load.
type load struct {
	db     *DB
	o      LoadOptions
	number uint32
	table  *Table           // as it was at the beginning
	at     Timestamp        // of the state then; rows carry it
	trees  []aggregate.Tree // likewise
	now    time.Time

	// disturbed says that somebody wrote to the table. It is the committer's.
	disturbed bool

	ids       idSequence
	created   float64
	withID    bool // documents have one
	withTime  bool
	documents int64
	key, row  []byte

	rows    *loadedPart
	parts   []*loadedPart // rows first
	entries loadCount
}

// run is Load. What it leaves on disk when it fails is removed.
func (l *load) run(ctx context.Context, documents iter.Seq2[Document, error]) (out Loaded, err error) {
	if l.db.o.Log != nil {
		return out, ErrSharedLog
	}
	if err := l.begin(ctx); err != nil {
		return out, err
	}
	switched := false
	defer func() {
		if !switched {
			err = errors.Join(err, l.withdraw())
		}
	}()
	fs, dir := l.db.store.FS(), l.db.store.LoadDir()
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return out, err
	}
	defer func() {
		for _, p := range l.parts {
			err = errors.Join(err, p.close())
		}
		err = errors.Join(err, fs.RemoveAll(dir))
	}()
	if err := l.take(ctx, documents); err != nil {
		return out, err
	}
	if l.documents == 0 {
		return Loaded{At: l.at}, nil
	}
	if err := l.write(ctx); err != nil {
		return out, err
	}
	out.Documents = l.documents
	var paths []string
	for _, p := range l.parts {
		written, err := p.tables.Finish()
		if err != nil {
			return out, err
		}
		paths = append(paths, written...)
		out.Bytes += p.tables.Bytes()
	}
	l.hook("written")
	switched = true
	out.At, err = l.publish(paths)
	return out, err
}

// hook tells a test how far the load is.
func (l *load) hook(stage string) {
	if l.db.o.loadHook != nil {
		l.db.o.loadHook(stage)
	}
}

// begin looks that the table can be loaded, and has the committer notice from now
// on when somebody writes to it.
func (l *load) begin(ctx context.Context) error {
	return l.db.reshape(ctx, func(base *state) (*revision, error) {
		t := base.catalog.byNumber[l.number]
		if t == nil {
			return nil, ErrNoTable
		}
		if err := t.loadable(base); err != nil {
			return nil, err
		}
		if some, err := holds(base.snap, keys.Prefixed(keys.AppendRows(nil, l.number))); err != nil || some {
			return nil, errors.Join(err, ErrTableNotEmpty)
		}
		l.table, l.at, l.trees, l.now = t, base.at, base.trees, l.db.o.Clock.Now()
		l.ids = newIDSequence(rand.New(rand.NewPCG(l.db.seed, l.db.seeds.Add(1))), l.now)
		l.db.committer.loading = l
		return nil, nil
	})
}

// loadable reports a part of a table that is not complete.
func (t *Table) loadable(s *state) error {
	building := func(status partStatus, id uint32, name string) error {
		if status != statusBuilding {
			return nil
		}
		p := s.builds[id]
		return &BuildingError{Table: t.Name, Index: name, Done: p.done, Total: p.total}
	}
	for _, ix := range t.indexes {
		if err := building(ix.status, ix.id, ix.Name); err != nil {
			return err
		}
	}
	for _, a := range t.aggregates {
		if err := building(a.status, a.id, a.Name); err != nil {
			return err
		}
		if a.ranking != nil {
			if err := building(a.ranking.status, a.ranking.id, a.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// shape says what parts a table has, and which of them are kept.
func (t *Table) shape() (out []part) {
	for _, ix := range t.indexes {
		out = append(out, part{id: ix.id, status: ix.status})
	}
	for _, a := range t.aggregates {
		out = append(out, part{id: a.id, status: a.status})
		if a.ranking != nil {
			out = append(out, part{id: a.ranking.id, status: a.ranking.status})
		}
	}
	return out
}

// holds reports whether there is a key in a range.
func holds(snap *store.Snapshot, r keys.Range) (bool, error) {
	it, err := snap.Iterate(r.Start, r.End)
	if err != nil {
		return false, err
	}
	some := it.First()
	return some, errors.Join(it.Err(), it.Close())
}

// withdraw tells the committer that nothing comes of the load.
func (l *load) withdraw() error {
	return l.db.reshape(context.Background(), func(*state) (*revision, error) {
		l.db.committer.loading = nil
		return nil, nil
	})
}

// check reports why the load must not go on.
func (l *load) check(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.db.leaving:
		return ErrClosed
	case <-l.db.failed:
		return ErrFailed
	default:
		return nil
	}
}

// loadStep is after how many documents or entries a load looks up.
const loadStep = 1 << 16

// take encodes the documents and puts their rows and entries where they are sorted.
func (l *load) take(ctx context.Context, documents iter.Seq2[Document, error]) error {
	for d, err := range documents {
		if err != nil {
			return err
		}
		if l.documents == 0 {
			l.withID, l.withTime = !d.ID.IsZero(), d.CreationTime != 0
			l.plan()
		}
		if err := l.document(d); err != nil {
			return fmt.Errorf("document %d: %w", l.documents+1, err)
		}
		if l.documents++; l.documents%loadStep == 0 {
			if err := l.check(ctx); err != nil {
				return err
			}
			l.tell()
		}
	}
	return l.check(ctx)
}

func (l *load) tell() {
	if l.o.Progress != nil {
		l.o.Progress(LoadProgress{Documents: l.documents, Entries: l.entries.done, EntriesTotal: l.entries.total})
	}
}

// document encodes one document.
func (l *load) document(d Document) error {
	if err := value.CheckDocument(d.Fields); err != nil {
		return err
	}
	switch {
	case l.withID != !d.ID.IsZero():
		return errors.New("either all documents have an id or none has")
	case l.withTime != (d.CreationTime != 0):
		return errors.New("either all documents have a creation time or none has")
	case math.IsNaN(d.CreationTime) || math.IsInf(d.CreationTime, 0):
		return errors.New("its creation time is not a number")
	case !l.withID:
		d.ID = l.ids.next(l.number)
	case d.ID.Table != l.number:
		return fmt.Errorf("id %s is of another table", d.ID)
	}
	if !l.withTime {
		ms := float64(l.now.UnixMicro()) / 1000
		if l.created >= ms {
			ms = math.Nextafter(l.created, math.Inf(1))
		}
		l.created, d.CreationTime = ms, ms
	}
	l.row = appendRow(l.row[:0], l.table.names, d)
	binary.BigEndian.PutUint64(l.row[txn.StampOffset:], uint64(l.at))
	if err := l.rows.add(d.ID.Key[:], l.row); err != nil {
		return err
	}
	for _, p := range l.parts[1:] {
		var weight []byte
		fields, name := []string(nil), ""
		if p.index != nil {
			fields, name = p.index.fields, p.index.Name
		} else {
			fields, name = p.agg.fields, p.agg.Name
			var buf [9]byte
			weight = appendWeight(buf[:0], p.agg.weight(d))
		}
		l.key = appendEntry(l.key[:0], fields, d)
		if len(l.key)+entryPrefix > indexKeySizeMax {
			return &LimitError{Limit: "bytes in a key of " + name, Max: indexKeySizeMax}
		}
		if err := p.add(l.key, weight); err != nil {
			return err
		}
	}
	return nil
}

// idSequence makes ids in ascending order, with enough chance between two of them
// that nobody guesses one from another.
type idSequence struct {
	rand *rand.Rand
	at   time.Time
	last uint64
}

func newIDSequence(r *rand.Rand, at time.Time) idSequence {
	return idSequence{rand: r, at: at, last: r.Uint64() >> 1}
}

func (s *idSequence) next(table uint32) value.ID {
	step := 1 + s.rand.Uint64N(1<<38)
	if s.last > math.MaxUint64-step {
		s.at, s.last = s.at.Add(time.Millisecond), s.rand.Uint64()>>1
	}
	s.last += step
	return value.NewID(table, s.at, s.last)
}

// loadRevision is what the commit of a load does beside the catalog.
type loadRevision struct {
	number uint32                 // of the table
	trees  map[int]aggregate.Tree // by slot
	effect []byte                 // for the change record
}

// metaLoaded is the name of an effect in a change record: a table was loaded. Its
// number (4 bytes, big-endian) follows. It is never stored.
const metaLoaded = "loaded/"

// metaLoading is the mark that a table is to be emptied at the next opening:
// version (1), number of the table (4), then the number of each index (kind 0)
// and of each aggregate or ranking (kind 1), kind (1) and number (4).
const (
	metaLoading    = "loading"
	loadingVersion = 1
)

func loadedKey(table uint32) []byte {
	return binary.BigEndian.AppendUint32(metaKey(metaLoaded), table)
}

func isLoaded(key []byte) bool { return bytes.HasPrefix(key, metaKey(metaLoaded)) }

const loadedVersion = 1

// loadedEffect says how many documents were loaded: version (1), documents (8),
// the timestamp in their rows (8).
func loadedEffect(documents int64, at Timestamp) []byte {
	b := binary.BigEndian.AppendUint64([]byte{loadedVersion}, uint64(documents))
	return binary.BigEndian.AppendUint64(b, uint64(at))
}

func decodeLoaded(key, val []byte) (table uint32, documents int64, at Timestamp, err error) {
	n := len(metaKey(metaLoaded))
	if len(key) != n+4 || len(val) != 17 || val[0] != loadedVersion {
		return 0, 0, 0, fmt.Errorf("%w: it says that a table was loaded, in %d bytes", errRecord, len(val))
	}
	return binary.BigEndian.Uint32(key[n:]), int64(binary.BigEndian.Uint64(val[1:])), Timestamp(binary.BigEndian.Uint64(val[9:])), nil
}

// publish makes the files part of the table, in one commit.
func (l *load) publish(paths []string) (Timestamp, error) {
	// A checkpoint between the mark and the commit would hold half of it.
	l.db.checkpoints.Lock()
	defer l.db.checkpoints.Unlock()
	// Not with the caller's context, so that the outcome is always known.
	return l.db.reshapeAt(context.Background(), func(base *state) (*revision, error) {
		c := l.db.committer
		c.loading = nil
		if l.disturbed {
			return nil, ErrTableNotEmpty
		}
		t := base.catalog.byNumber[l.number]
		if t == nil || !slices.Equal(t.shape(), l.table.shape()) {
			return nil, ErrTableChanged
		}
		rev := &revision{catalog: base.catalog.renewed(), writes: new(txn.Overlay), builds: base.builds}
		rev.writes.Delete(metaKey(metaLoading))
		rev.load = &loadRevision{number: l.number, effect: loadedEffect(l.documents, l.at), trees: map[int]aggregate.Tree{}}
		for _, p := range l.parts {
			if p.agg != nil {
				rev.load.trees[p.slot] = p.tree
			}
		}
		if err := l.mark(); err != nil {
			return nil, err
		}
		l.hook("marked")
		if err := l.db.store.Ingest(context.Background(), paths); err != nil {
			// Nothing was taken over. The mark must go, or the next opening would
			// remove what others put into the table until then.
			if e := l.unmark(); e != nil {
				l.db.fail(fmt.Errorf("%w: %w", ErrFailed, e))
			}
			return nil, err
		}
		l.hook("ingested")
		return rev, nil
	})
}

func (l *load) mark() error {
	b := l.db.store.NewBatch()
	if err := b.Set(metaKey(metaLoading), l.appendMark(nil)); err != nil {
		return err
	}
	return l.db.store.ApplyDurably(b)
}

func (l *load) unmark() error {
	b := l.db.store.NewBatch()
	if err := b.Delete(metaKey(metaLoading)); err != nil {
		return err
	}
	return l.db.store.ApplyDurably(b)
}

// The kinds of parts in a mark.
const (
	markIndex byte = iota
	markAggregate
)

func (l *load) appendMark(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(append(dst, loadingVersion), l.number)
	for _, p := range l.parts[1:] {
		if p.index != nil {
			dst = binary.BigEndian.AppendUint32(append(dst, markIndex), p.index.id)
		} else {
			dst = binary.BigEndian.AppendUint32(append(dst, markAggregate), p.id)
		}
	}
	return dst
}

// decodeMark returns what is to be removed from the store.
func decodeMark(b []byte) ([]keys.Range, error) {
	switch {
	case len(b) > 0 && b[0] > loadingVersion:
		return nil, fmt.Errorf("%w: the mark of a load has version %d", ErrNewerFormat, b[0])
	case len(b) < 5 || b[0] != loadingVersion || (len(b)-5)%5 != 0:
		return nil, fmt.Errorf("%w: the mark of a load has %d bytes", ErrCorrupt, len(b))
	}
	ranges := []keys.Range{keys.Prefixed(keys.AppendRows(nil, binary.BigEndian.Uint32(b[1:])))}
	for p := b[5:]; len(p) > 0; p = p[5:] {
		id := binary.BigEndian.Uint32(p[1:])
		switch p[0] {
		case markIndex:
			ranges = append(ranges, keys.Prefixed(keys.AppendIndex(nil, id)))
		case markAggregate:
			// The root record, which is node 0, is of before the load.
			ranges = append(ranges, keys.Range{Start: keys.AppendBlock(nil, id, 1), End: keys.Successor(keys.AppendBlocks(nil, id))})
		default:
			return nil, fmt.Errorf("%w: the mark of a load has a part of kind %d", ErrCorrupt, p[0])
		}
	}
	return ranges, nil
}

// undoLoad removes what a load that a crash cut short has left in the store.
// REQUIRES: nothing else writes.
func undoLoad(s *store.Store) (undone bool, err error) {
	snap := s.NewSnapshot()
	defer snap.Release()
	mark, ok, err := snap.Get(metaKey(metaLoading))
	if err != nil || !ok {
		return false, err
	}
	ranges, err := decodeMark(mark)
	if err != nil {
		return false, err
	}
	b := s.NewBatch()
	err = b.Delete(metaKey(metaLoading))
	for _, r := range ranges {
		err = errors.Join(err, b.DeleteRange(r.Start, r.End))
	}
	if err != nil {
		return false, err
	}
	return true, s.ApplyDurably(b)
}
