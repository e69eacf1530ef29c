package engine

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
)

// metaLog is where the embedded log keeps its term and its floor: version (1),
// term (8), the position of the newest record that was removed (term 8,
// timestamp 8, sum 4).
const (
	metaLog     = "log"
	logVersion  = 1
	logMetaSize = 1 + 8 + positionSize

	positionSize = 8 + 8 + 4
)

func appendPosition(dst []byte, p LogPosition) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.Term))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.At))
	return binary.BigEndian.AppendUint32(dst, p.Sum)
}

// decodePosition reads what appendPosition wrote. REQUIRES: b is positionSize long.
func decodePosition(b []byte) LogPosition {
	return LogPosition{
		Term: Term(binary.BigEndian.Uint64(b)), At: Timestamp(binary.BigEndian.Uint64(b[8:])), Sum: binary.BigEndian.Uint32(b[16:]),
	}
}

// embeddedLog is the commit log inside of the store: a record is in the same
// batch as the effects it tells of, so that it is there exactly when they are,
// and both are durable with one sync. Records may be appended before the one
// before is durable: the store's write-ahead log keeps their order.
type embeddedLog struct {
	store *store.Store
	mu    struct {
		sync.Mutex
		term    Term
		head    LogPosition // newest appended
		durable LogPosition // newest known to be on disk
		floor   LogPosition // newest removed
		holds   map[*Timestamp]struct{}
	}
}

var _ CommitLog = (*embeddedLog)(nil)

// newEmbeddedLog returns the log of a store that has just been opened.
func newEmbeddedLog(s *store.Store) (*embeddedLog, error) {
	l := &embeddedLog{store: s}
	l.mu.holds = map[*Timestamp]struct{}{}
	snap := s.NewSnapshot()
	defer snap.Release()
	b, ok, err := snap.Get(metaKey(metaLog))
	switch {
	case err != nil:
		return nil, err
	case ok && len(b) > 0 && b[0] > logVersion:
		return nil, fmt.Errorf("%w: the log's own record has version %d", ErrNewerFormat, b[0])
	case ok && (len(b) != logMetaSize || b[0] != logVersion):
		return nil, fmt.Errorf("%w: the log's own record has %d bytes", ErrCorrupt, len(b))
	case ok:
		l.mu.term = Term(binary.BigEndian.Uint64(b[1:]))
		l.mu.floor = decodePosition(b[9:])
	}
	head, ok, err := lastRecord(snap, ^Timestamp(0)-1)
	if err != nil {
		return nil, err
	}
	if !ok {
		head = l.mu.floor
	}
	if head.Term > l.mu.term || head.At < l.mu.floor.At {
		return nil, fmt.Errorf("%w: the log ends at %s, its term is %d and its floor %s", ErrCorrupt, head, l.mu.term, l.mu.floor)
	}
	l.mu.head, l.mu.durable = head, head
	return l, nil
}

// lastRecord returns the position of the newest record at or before upTo.
func lastRecord(snap *store.Snapshot, upTo Timestamp) (p LogPosition, ok bool, err error) {
	it, err := snap.Iterate(keys.AppendLog(nil, 0), keys.AppendLog(nil, uint64(upTo)+1))
	if err != nil {
		return p, false, err
	}
	if ok = it.Last(); ok {
		var r LogRecord
		r, err = storedRecord(it.Key(), it.Value())
		p = r.Position
	}
	return p, ok, errors.Join(err, it.Err(), it.Close())
}

// storedRecord reads a record as the embedded log stores it. It keeps val.
func storedRecord(key, val []byte) (LogRecord, error) {
	at, err := keys.LogTimestamp(key)
	if err != nil {
		return LogRecord{}, fmt.Errorf("%w: key %x: %w", errRecord, key, err)
	}
	r, err := DecodeLogRecord(val)
	if err != nil {
		return LogRecord{}, fmt.Errorf("at %d: %w", at, err)
	}
	if r.Position.At != Timestamp(at) {
		return LogRecord{}, fmt.Errorf("%w: the one at %d is that of %d", errRecord, at, r.Position.At)
	}
	return r, nil
}

func (l *embeddedLog) meta(term Term, floor LogPosition) []byte {
	b := binary.BigEndian.AppendUint64([]byte{logVersion}, uint64(term))
	return appendPosition(b, floor)
}

// Lead implements CommitLog.
func (l *embeddedLog) Lead(ctx context.Context) (Term, LogPosition, error) {
	if err := ctx.Err(); err != nil {
		return 0, LogPosition{}, err
	}
	l.mu.Lock()
	// The lock is kept during the sync: nothing may be appended before the new
	// term is on disk. With it everything appended before is.
	defer l.mu.Unlock()
	b := l.store.NewBatch()
	err := b.Set(metaKey(metaLog), l.meta(l.mu.term+1, l.mu.floor))
	if err == nil {
		err = l.store.ApplyDurably(b)
	}
	if err != nil {
		return 0, LogPosition{}, fmt.Errorf("lead the log: %w", err)
	}
	l.mu.term++
	l.mu.durable = l.mu.head
	return l.mu.term, l.mu.head, nil
}

// Append implements CommitLog.
func (l *embeddedLog) Append(ctx context.Context, r LogRecord, local LocalBatch) (LogAppend, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	// Applying is done under the lock, so that records come into the store in
	// the order of the chain. It does not wait for the disk.
	defer l.mu.Unlock()
	switch {
	case r.Position.Term != l.mu.term:
		return nil, fmt.Errorf("%w: term %d, it was ours in %d", ErrDeposed, l.mu.term, r.Position.Term)
	case r.Position == l.mu.head:
		return resent{l}, nil
	case r.Previous != l.mu.head || r.Position.At <= l.mu.head.At:
		return nil, fmt.Errorf("%w: %s after %s, the newest is %s", ErrNotHead, r.Position, r.Previous, l.mu.head)
	}
	if local == nil {
		local = &localBatch{store: l.store, b: l.store.NewBatch()}
	}
	if err := local.Set(keys.AppendLog(nil, uint64(r.Position.At)), r.b); err != nil {
		return nil, err
	}
	p, err := local.Apply()
	if err != nil {
		return nil, err
	}
	l.mu.head = r.Position
	return &embeddedAppend{l, r.Position, p}, nil
}

type embeddedAppend struct {
	log      *embeddedLog
	position LogPosition
	local    LogAppend
}

func (a *embeddedAppend) Wait(ctx context.Context) error {
	if err := a.local.Wait(ctx); err != nil {
		return err
	}
	a.log.mu.Lock()
	defer a.log.mu.Unlock()
	if a.position.At > a.log.mu.durable.At {
		a.log.mu.durable = a.position
	}
	return nil
}

// resent is the newest record, appended again.
type resent struct{ log *embeddedLog }

func (r resent) Wait(context.Context) error { return r.log.store.Sync() }

// Head implements CommitLog.
func (l *embeddedLog) Head(ctx context.Context) (LogPosition, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.durable, ctx.Err()
}

// Read implements CommitLog.
func (l *embeddedLog) Read(ctx context.Context, after Timestamp, bytesMax int) ([]LogRecord, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	floor, durable := l.mu.floor, l.mu.durable
	snap := l.store.NewSnapshot() // under the lock, so that it has all above floor
	l.mu.Unlock()
	defer snap.Release()
	if after < floor.At {
		return nil, fmt.Errorf("read after %d: %w: the oldest are after %d", after, ErrOutOfRetention, floor.At)
	}
	if after >= durable.At {
		return nil, nil
	}
	it, err := snap.Iterate(keys.AppendLog(nil, uint64(after)+1), keys.AppendLog(nil, uint64(durable.At)+1))
	if err != nil {
		return nil, err
	}
	var out []LogRecord
	size := 0
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		if size += len(it.Value()); len(out) > 0 && size > bytesMax {
			break
		}
		var r LogRecord
		if r, err = storedRecord(it.Key(), bytes.Clone(it.Value())); err == nil && len(out) > 0 && r.Previous != out[len(out)-1].Position {
			err = fmt.Errorf("%w: the one at %d continues %s, not %s", errRecord, r.Position.At, r.Previous, out[len(out)-1].Position)
		}
		out = append(out, r)
	}
	if err = errors.Join(err, it.Err(), it.Close()); err != nil {
		return nil, fmt.Errorf("read after %d: %w", after, err)
	}
	return out, nil
}

// Hold implements CommitLog.
func (l *embeddedLog) Hold(ctx context.Context, after Timestamp) (release func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if after < l.mu.floor.At {
		return nil, fmt.Errorf("hold after %d: %w: the oldest are after %d", after, ErrOutOfRetention, l.mu.floor.At)
	}
	h := &after
	l.mu.holds[h] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.mu.holds, h)
	}, nil
}

// Truncate implements CommitLog.
func (l *embeddedLog) Truncate(ctx context.Context, upTo Timestamp) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := l.truncate(upTo)
	if err != nil || p == nil {
		return err
	}
	return p.Wait()
}

// truncate starts to remove records; nil means that there are none to remove.
func (l *embeddedLog) truncate(upTo Timestamp) (*store.Pending, error) {
	l.mu.Lock()
	// The lock is kept while the new floor is applied, so that a reader that
	// passed the old one has a snapshot with the records. Nothing waits for a sync.
	defer l.mu.Unlock()
	upTo = min(upTo, l.mu.durable.At)
	for h := range l.mu.holds {
		upTo = min(upTo, *h)
	}
	snap := l.store.NewSnapshot()
	defer snap.Release()
	last, ok, err := lastRecord(snap, upTo)
	if err != nil || !ok {
		return nil, err
	}
	b := l.store.NewBatch()
	err = errors.Join(
		b.DeleteRange(keys.AppendLog(nil, 0), keys.AppendLog(nil, uint64(last.At)+1)),
		b.Set(metaKey(metaLog), l.meta(l.mu.term, last)))
	if err != nil {
		return nil, err
	}
	p, err := l.store.Apply(b)
	if err == nil {
		l.mu.floor = last
	}
	return p, err
}

// localBatch is the LocalBatch of a store.
type localBatch struct {
	store   *store.Store
	b       *store.Batch
	applied bool
}

var _ LocalBatch = (*localBatch)(nil)

// Set implements LocalBatch.
func (l *localBatch) Set(key, val []byte) error { return l.b.Set(key, val) }

// Apply implements LocalBatch.
func (l *localBatch) Apply() (LogAppend, error) {
	l.applied = true
	p, err := l.store.Apply(l.b)
	if err != nil {
		return nil, err
	}
	return localAppend{p}, nil
}

type localAppend struct{ p *store.Pending }

func (a localAppend) Wait(context.Context) error { return a.p.Wait() }
