package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/halcyon-db/halcyon/engine/internal/keys"
	"github.com/halcyon-db/halcyon/engine/internal/store"
	"github.com/halcyon-db/halcyon/engine/internal/txn"
)

// A stored outcome is: version (1 byte), commit timestamp (8, big-endian), the
// function's result. docs/format/requests.md describes it.
const (
	outcomeVersion = 1
	outcomeHeader  = 1 + txn.StampSize

	// requestsKept is how far back of its newest request a client may repeat one.
	requestsKept = 1024
	// floorRetention is how long the newest request of a silent client is
	// remembered, so that older ones are still refused.
	floorRetention = 30 * 24 * time.Hour
)

// replay returns the stored outcome of a request, or nil when it is new.
func (tx *Tx) replay(client ClientID, request uint32) (*Receipt, error) {
	if err := tx.enter(); err != nil {
		return nil, err
	}
	defer tx.leave()
	key := keys.AppendRequest(nil, client, request)
	tx.mu.reads.AddPoint(key)
	// In the committer's turn the open group may hold requests that the cache
	// does not know yet. Elsewhere they make this execution fail validation.
	if newest, known := tx.db.clients.get(client); known && !tx.inTurn && int64(request) > newest {
		return nil, nil
	}
	b, ok, err := tx.mu.view.Get(key)
	if err != nil {
		return nil, err
	}
	if ok {
		if len(b) < outcomeHeader || b[0] != outcomeVersion {
			return nil, fmt.Errorf("%w: stored outcome of request %d", ErrCorrupt, request)
		}
		at := Timestamp(binary.BigEndian.Uint64(b[txn.StampOffset:]))
		return &Receipt{At: at, Result: b[outcomeHeader:], Replayed: true}, nil
	}
	newest, err := tx.newestRequestLocked(client)
	if err != nil {
		return nil, err
	}
	if !tx.inTurn {
		tx.db.clients.put(client, newest, tx.state.at)
	}
	if int64(request)+requestsKept <= newest {
		return nil, ErrTooOld
	}
	return nil, nil
}

// newestRequestLocked returns the largest request number stored for a client,
// -1 when there is none. It is not part of the read set: requests of one
// client come one after the other, and a larger number can only make the
// answer stricter.
func (tx *Tx) newestRequestLocked(client ClientID) (newest int64, err error) {
	it, err := tx.mu.view.Iterate(keys.Prefixed(keys.AppendClient(nil, client)), true)
	if err != nil {
		return 0, err
	}
	newest = -1
	if it.Next() {
		var request uint32
		_, request, err = keys.RequestOf(it.Key())
		newest = int64(request)
	}
	return newest, errors.Join(err, it.Close())
}

// remember stores the outcome of a request with the transaction's effects. A
// transaction that changed nothing has none: it may run again.
func (tx *Tx) remember(client ClientID, request uint32, result []byte) error {
	if err := tx.enter(); err != nil {
		return err
	}
	defer tx.leave()
	if tx.mu.own.Empty() {
		return nil
	}
	b := append(make([]byte, 0, outcomeHeader+len(result)), outcomeVersion)
	b = binary.BigEndian.AppendUint64(b, 0)
	tx.mu.own.Set(keys.AppendRequest(nil, client, request), txn.Write{Value: append(b, result...), Stamped: true})
	if request >= requestsKept {
		tx.mu.own.Delete(keys.AppendRequest(nil, client, request-requestsKept))
	}
	return nil
}

// sweepEvery is how often old outcomes and change records are removed.
const sweepEvery = 10 * time.Minute

// sweep removes what its retention has passed, now and then. DB.Open starts
// it, DB.Close ends it.
func (db *DB) sweep() {
	due := make(chan struct{}, 1)
	for {
		stop := db.o.Clock.AfterFunc(sweepEvery, func() {
			select {
			case due <- struct{}{}:
			default:
			}
		})
		select {
		case <-due:
			if err := db.sweepOnce(); err != nil {
				db.o.Logger.Warn("old outcomes and change records could not be removed", "error", err)
			}
		case <-db.closing:
			stop()
			return
		}
	}
}

func (db *DB) sweepOnce() error {
	now := db.o.Clock.Now()
	return errors.Join(db.sweepRequests(now), db.sweepLog(now))
}

// sweepRequests removes the outcomes of clients that have been silent for
// RequestRetention, all but the newest, which stays as the floor.
func (db *DB) sweepRequests(now time.Time) error {
	s := db.states.acquireDurable()
	defer db.states.release(s)
	r := keys.Prefixed([]byte{keys.PrefixRequest})
	it, err := s.snap.Iterate(r.Start, r.End)
	if err != nil {
		return err
	}
	b := db.store.NewBatch()
	silent := micros(now.Add(-db.o.RequestRetention))
	forgotten := micros(now.Add(-floorRetention))
	var client, newest []byte // prefix of the client at hand, its newest key so far
	var at uint64             // and that key's timestamp
	flush := func() error {
		if newest == nil || at > silent {
			return nil
		}
		end := newest
		if at <= forgotten {
			end = keys.Next(newest)
		}
		return b.DeleteRange(client, end)
	}
	for ok := it.First(); ok; ok = it.Next() {
		k, v := it.Key(), it.Value()
		if len(v) < outcomeHeader || len(k) != 21 {
			return errors.Join(fmt.Errorf("%w: stored outcome", ErrCorrupt), it.Close())
		}
		if string(client) != string(k[:17]) {
			if err := flush(); err != nil {
				return errors.Join(err, it.Close())
			}
			client = append([]byte(nil), k[:17]...)
		}
		newest, at = append([]byte(nil), k...), binary.BigEndian.Uint64(v[txn.StampOffset:])
	}
	if err := errors.Join(flush(), it.Err(), it.Close()); err != nil {
		return err
	}
	return db.applyUnlessEmpty(b)
}

// sweepLog removes change records past LogRetention, and the older half of
// them while they take more than LogBytesMax.
func (db *DB) sweepLog(now time.Time) error {
	s := db.states.acquireDurable()
	defer db.states.release(s)
	all := keys.Prefixed([]byte{keys.PrefixLog})
	cut := micros(now.Add(-db.o.LogRetention))
	size, err := db.store.Size(all.Start, all.End)
	if err != nil {
		return err
	}
	if size > db.o.LogBytesMax {
		it, err := s.snap.Iterate(all.Start, all.End)
		if err != nil {
			return err
		}
		if it.First() {
			first, err := keys.LogTimestamp(it.Key())
			if err != nil {
				return errors.Join(err, it.Close())
			}
			cut = max(cut, first+(uint64(s.at)-first)/2)
		}
		if err := it.Close(); err != nil {
			return err
		}
	}
	b := db.store.NewBatch()
	if err := b.DeleteRange(all.Start, keys.AppendLog(nil, cut)); err != nil {
		return err
	}
	return db.store.ApplyDurably(b)
}

func (db *DB) applyUnlessEmpty(b *store.Batch) error {
	if b.Empty() {
		return nil
	}
	return db.store.ApplyDurably(b)
}
